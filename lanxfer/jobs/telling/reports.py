"""What is told of a run, whoever is told."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from lanxfer.jobs.config.settings import JobConfig
from lanxfer.jobs.errors import exit_code
from lanxfer.jobs.results import JobResult

PATIENCE = 30.0
"""Seconds for a mail server, a command or a web server to do its part."""


class NotTold(Exception):
    """Somebody could not be told."""


@frozen
class Report:
    """One run, as it is told of."""

    job: JobConfig
    result: JobResult | None
    error: BaseException | None
    started: datetime
    ended: datetime
    log_file: str = ""

    @property
    def code(self) -> int:
        return exit_code(self.error, self.result)

    @property
    def good(self) -> bool:
        return self.code == 0

    def as_row(self) -> dict[str, object]:
        """Plain values, for commands, webhooks and ``--json``."""
        row: dict[str, object] = {
            "job": self.job.id,
            "name": self.job.name,
            "info": self.job.info,
            "source": self.job.source.url,
            "target": self.job.target.url,
            "started": self.started.astimezone().isoformat(timespec="seconds"),
            "ended": self.ended.astimezone().isoformat(timespec="seconds"),
            "exit": self.code,
            "error": "" if self.error is None else str(self.error),
        }
        return row if self.result is None else {**row, **self.result.as_row()}


def counts(result: JobResult | None) -> str:
    """A result in a line."""
    if result is None:
        return "nothing was transferred"
    return (
        f"{result.files_cnt} transferred, {result.src_error_cnt} source errors,"
        f" {result.tgt_error_cnt} target errors, {result.skipped} skipped"
    )


def file_list(result: JobResult | None) -> str:
    """A line a file; "" where they were not collected."""
    if result is None or result.file_list is None:
        return ""
    return "\n".join(
        f"{row.tag} {row.path} ({row.info:.3f} s)"
        if isinstance(row.info, float)
        else f"{row.tag} {row.path} ({row.info})"
        for row in result.file_list
    )
