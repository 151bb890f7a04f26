"""Jobs on the command line: what is run, and what is said of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click
from twisted.internet.defer import CancelledError

from lanxfer.cli.options import Choices
from lanxfer.cli.output import Output, columns, human_size
from lanxfer.cli.running import Run
from lanxfer.errors import Exit
from lanxfer.jobs import load, times
from lanxfer.jobs.ends import EndError, lock_name
from lanxfer.jobs.errors import ConfigError, Error, Terminated, exit_code
from lanxfer.jobs.options import host_port
from lanxfer.jobs.reading import (
    config_path,
    find_host,
    job_ids,
    known_hosts,
    read_app,
    read_job,
)
from lanxfer.jobs.results import FileTag, JobResult, Row
from lanxfer.jobs.running import record_name
from lanxfer.jobs.settings import PORTS, JobConfig, Schedule
from lanxfer.jobs.telling import mail_template
from lanxfer.jobs.templates import Report, counts, file_list
from lanxfer.jobs.trusting import fetch_key, forget_host, keep_key, known
from lanxfer.storage.claims import claimed
from lanxfer.storage.names import shown
from lanxfer.storage.records import read_record


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


def _guarded(choices: Choices, work: Callable[[Output], int]) -> int:
    """The errors of jobs as a sentence and their own exit code."""
    out = Output(choices.json, choices.quiet)
    try:
        return work(out)
    except (Error, EndError) as error:
        code = exit_code(error, None)
        out.warn(error.reason)
        out.row({"error": error.reason, "exit": code})
        return code


# Looking at jobs.


def _chosen(job_id: str | None, config: str | None) -> tuple[str, list[str]]:
    path = config_path(config)
    return path, [job_id] if job_id else job_ids(read_app(path)[0])


def check(choices: Choices, job_id: str | None, config: str | None) -> int:
    """Say what jobs would do: 0, 1 where something is not understood, 3 where one cannot run."""

    def work(out: Output) -> int:
        path, ids = _chosen(job_id, config)
        return max((_check(out, path, id) for id in ids), default=0)

    return _guarded(choices, work)


def _check(out: Output, path: str, id: str) -> int:
    try:
        job, _ = read_job(path, id)
        if complaint := times.check(job.schedule):
            raise ConfigError(complaint)
    except ConfigError as error:
        out.warn(error.reason)
        out.row({"job": id, "exit": error.code, "error": error.reason})
        return error.code
    said = describe(job)
    out.line("\n".join(said))
    out.row({"job": id, "exit": int(bool(job.warnings)), "does": said, "warnings": job.warnings})
    for each in job.warnings:
        out.warn(each)
    return int(bool(job.warnings))


def describe(job: JobConfig) -> list[str]:
    """What a job would do, in lines for people."""
    source, target, rules = job.source, job.target, job.source.rules
    lines = [
        f"{job.id}: {job.name}" if job.name != job.id else job.id,
        f"  takes {', '.join(rules.files)} from {source.url}"
        + (" and the folders in it" if rules.recursive else ""),
    ]
    if rules.ignore:
        lines.append(f"  leaves out {', '.join(rules.ignore)}")
    where = target.url
    if target.host.kind == "lanxfer":
        where += " (a shared folder)" if target.shared else " (its inbox)"
    lines.append(f"  puts them into {where}")
    if source.delete:
        lines.append("  removes each at the source when the target has proved to have it")
    if job.ready_file:
        lines.append(f"  waits for {job.ready_file}, and removes it when all went well")
    if job.lock:
        lines.append("  runs once at a time")
    if job.retries:
        lines.append(f"  tries again up to {job.retries} times")
    for word, whom in (("well", job.notify.whom(True)), ("badly", job.notify.whom(False))):
        if whom:
            lines.append(f"  when it went {word}, tells {', '.join(map(_shown_sink, whom))}")
    if job.schedule:
        lines.append(f"  runs by itself {when(job.schedule)}")
    return lines


def _shown_sink(text: str) -> str:
    return text.partition("?")[0]


def when(schedule: Schedule) -> str:
    """A schedule in words."""
    said = []
    if schedule.every:
        said.append(f"every {timedelta(seconds=schedule.every)}")
    if schedule.cron:
        said.append(f"at {schedule.cron}")
    if schedule.watch:
        said.append("when its folder changes")
    return ", ".join(said)


def list_jobs(choices: Choices, config: str | None) -> int:
    """The jobs there are."""

    def work(out: Output) -> int:
        path, ids = _chosen(None, config)
        lines, worst = [("JOB", "NAME", "WHEN")], 0
        for id in ids:
            try:
                job, _ = read_job(path, id)
            except ConfigError as error:
                out.warn(error.reason)
                out.row({"job": id, "error": error.reason})
                worst = 1
                continue
            out.row({"job": id, "name": job.name, "info": job.info, "when": when(job.schedule)})
            lines.append((id, shown(job.name), when(job.schedule)))
        if len(lines) > 1:
            for line in columns(lines):
                out.line(line)
        return worst

    return _guarded(choices, work)


def status(choices: Choices, job_id: str | None, config: str | None) -> int:
    """What became of the last runs."""

    def work(out: Output) -> int:
        path, ids = _chosen(job_id, config)
        lines = [("JOB", "NAME", "", "LAST RUN", "EXIT", "")]
        for id in ids:
            job, _ = read_job(path, id, choices.state)
            row = _status(job)
            out.row(row)
            last = row["last"] or {}
            lines.append(
                (
                    id,
                    shown(job.name),
                    "running" if row["running"] else "",
                    str(last.get("started", "never")),
                    str(last.get("exit", "")),
                    shown(str(last.get("error") or _count(last))),
                )
            )
        for line in columns(lines):
            out.line(line)
        return int(Exit.OK)

    return _guarded(choices, work)


def _status(job: JobConfig) -> dict[str, Any]:
    folder = job.app.locks_dir
    return {
        "job": job.id,
        "name": job.name,
        "info": job.info,
        "running": bool(job.lock) and claimed(folder, lock_name(job.lock)),
        "when": when(job.schedule),
        "last": read_record(folder, record_name(job.id)),
    }


def _count(last: dict[str, Any]) -> str:
    return f"{last['files_cnt']} transferred" if "files_cnt" in last else ""


def mail_preview(choices: Choices, job_id: str, config: str | None, failed: bool) -> int:
    """The mail as it would be sent, with a result that was made up."""

    class Complain:
        def __init__(self, out: Output) -> None:
            self.out = out
            self.said = False

        def warning(self, text: str, *args: Any) -> None:
            self.said = True
            self.out.warn(text % args)

    def work(out: Output) -> int:
        job, _ = read_job(config_path(config), job_id)
        complain = Complain(out)
        mail = mail_template(job, complain).render(sample(job, failed))
        whom = job.notify.whom(not failed)
        out.line(f"To: {', '.join(map(_shown_sink, whom)) or '(nobody)'}")
        out.line(f"Subject: {mail.subject}\n\n{mail.text}")
        out.row({"to": whom, "subject": mail.subject, "text": mail.text})
        return int(complain.said)

    return _guarded(choices, work)


def sample(job: JobConfig, failed: bool) -> Report:
    """A run to look at."""
    rows = (Row("a.txt", 0.012, FileTag.TRANSF), Row("b.txt", "No space left.", FileTag.TGTERR))
    good = JobResult(1, 0, 0, rows[:1], 1024, 0, 65.0)
    bad = JobResult(1, 0, 1, rows, 1024, 0, 65.0)
    ended = datetime.now().replace(microsecond=0)
    return Report(job, bad if failed else good, None, ended - timedelta(seconds=65), ended)


# Keys of hosts.


def _place(host: str, config: str | None, file: str | None) -> tuple[str, int, str]:
    """Host, port and known_hosts file of what was named: an id of the hosts file, or a host."""
    found = find_host(host, config)
    if found is not None:
        if found.kind != "sftp":
            raise ConfigError(f"The host {host} is not of type SFTP.")
        return found.host, found.port, file or found.known_hosts
    try:
        name, port = host_port(host)
    except ValueError as error:
        raise ConfigError(f"{host} {error}.") from None
    return name, port or PORTS["sftp"], file or known_hosts(config)


def trust(
    choices: Choices, host: str, config: str | None, file: str | None, hashed: bool, yes: bool
) -> int:
    """Show a key, ask, keep it."""

    def work(out: Output) -> int:
        name, port, path = _place(host, config, file)
        key = fetch_key(name, port)
        before = known(path, key)
        row = {"host": key.name, "type": key.kind, "fingerprint": key.fingerprint, "file": path}
        out.line(f"{key.name} has the {key.kind} key\n  {key.fingerprint}")
        if before == "same":
            out.line(f"It is in {path} already.")
            out.row({**row, "kept": True})
            return int(Exit.OK)
        if before == "other":
            out.warn(f"{path} has another key for it. Find out why before you go on.")
        if not yes and not click.confirm("Is that right, and is it to be kept?", err=True):
            out.row({**row, "kept": False})
            return int(Exit.CANCELLED)
        keep_key(path, key, hashed=hashed)
        out.line(f"It is in {path} now.")
        out.row({**row, "kept": True})
        return int(Exit.OK)

    return _guarded(choices, work)


def untrust(choices: Choices, host: str, config: str | None, file: str | None) -> int:
    """Forget a key."""

    def work(out: Output) -> int:
        name, port, path = _place(host, config, file)
        entry = name if port == PORTS["sftp"] else f"[{name}]:{port}"
        gone = forget_host(path, entry)
        out.row({"host": entry, "file": path, "forgotten": gone})
        if not gone:
            out.warn(f"{path} has no key for {entry}.")
            return int(Exit.FAILED)
        out.line(f"{path} has no key for {entry} any more.")
        return int(Exit.OK)

    return _guarded(choices, work)
