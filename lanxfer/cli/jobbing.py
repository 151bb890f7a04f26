"""Jobs on the command line: one that is run, and what its errors become."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError

from lanxfer.cli.choices import Choices
from lanxfer.cli.output import Output, human_size, show_traceback
from lanxfer.cli.running import Run
from lanxfer.jobs import load
from lanxfer.jobs.ends import EndError
from lanxfer.jobs.errors import Error, Terminated, exit_code
from lanxfer.jobs.results import JobResult
from lanxfer.jobs.telling.reports import counts, file_list
from lanxfer.showing import shown


async def run(
    here: Run, job_id: str, config: str | None, verbose: int, strict: bool, dry: bool
) -> int:
    """Run one job; its exit code."""
    error: BaseException | None = None
    result: JobResult | None = None
    try:
        job, _ = load(config, job_id, reactor=here.reactor, state=here.choices.state)
        result = (await job.run(dry=dry)).result
    except CancelledError:
        error = Terminated()
    except (Error, Terminated) as found:
        error, result = found, found.result
    except Exception as found:
        show_traceback(found)
        error = found
    code = exit_code(error, result, strict)
    out = here.out
    if error is not None:
        out.warn(str(error))
        if verbose > 1:
            out.say("".join(traceback.format_exception(error)))
    row: dict[str, Any] = {"job": job_id, "exit": code, "error": str(error or "")}
    out.row({**row, **(result.as_row() if result is not None else {})})
    if dry and result is not None:
        out.line(f"{job_id} would move {result.files_cnt} files ({human_size(result.bytes)}).")
        verbose = max(verbose, 1)
    if verbose and result is not None:
        out.line(counts(result))
        if files := file_list(result):
            out.line("\n".join(shown(line, 1000) for line in files.splitlines()))
    return code


def guarded(choices: Choices, work: Callable[[Output], int]) -> int:
    """The errors of jobs as a sentence and their own exit code."""
    out = Output(choices.json, choices.quiet)
    try:
        return work(out)
    except (Error, EndError) as error:
        code = exit_code(error, None)
        out.warn(error.reason)
        out.row({"error": error.reason, "exit": code})
        return code
