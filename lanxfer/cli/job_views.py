"""Jobs as they stand in their files, and what became of them, for people and programs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from lanxfer.cli.choices import Choices
from lanxfer.cli.jobbing import guarded
from lanxfer.cli.output import Output, columns
from lanxfer.errors import Exit
from lanxfer.jobs import times
from lanxfer.jobs.config.app import read_app
from lanxfer.jobs.config.files import config_path
from lanxfer.jobs.config.job import job_ids, read_job
from lanxfer.jobs.config.settings import JobConfig, Schedule, shown_sink
from lanxfer.jobs.errors import ConfigError
from lanxfer.jobs.kept import lock_name, record_name
from lanxfer.jobs.moving.apart import SAME_FOLDER, one_folder
from lanxfer.jobs.results import FileTag, JobResult, Row
from lanxfer.jobs.telling import mail_template
from lanxfer.jobs.telling.reports import Report
from lanxfer.showing import shown
from lanxfer.storage.claims import claimed
from lanxfer.storage.records import read_record


def chosen(job_id: str | None, config: str | None) -> tuple[str, list[str]]:
    path = config_path(config)
    return path, [job_id] if job_id else job_ids(read_app(path))


def check(choices: Choices, job_id: str | None, config: str | None) -> int:
    """Say what jobs would do: 0, 1 where something is not understood, 3 where one cannot run."""

    def work(out: Output) -> int:
        path, ids = chosen(job_id, config)
        return max((_check(out, path, id) for id in ids), default=0)

    return guarded(choices, work)


def _check(out: Output, path: str, id: str) -> int:
    try:
        job = read_job(path, id)
        if complaint := times.check(job.schedule):
            raise ConfigError(complaint)
        if one_folder(job):
            raise ConfigError(SAME_FOLDER)
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
            lines.append(f"  when it went {word}, tells {', '.join(map(shown_sink, whom))}")
    if job.schedule:
        lines.append(f"  runs by itself {when(job.schedule)}")
    return lines


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
        path, ids = chosen(None, config)
        lines, worst = [("JOB", "NAME", "WHEN")], 0
        for id in ids:
            try:
                job = read_job(path, id)
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

    return guarded(choices, work)


def status(choices: Choices, job_id: str | None, config: str | None) -> int:
    """What became of the last runs."""

    def work(out: Output) -> int:
        path, ids = chosen(job_id, config)
        lines = [("JOB", "NAME", "", "LAST RUN", "EXIT", "")]
        for id in ids:
            job = read_job(path, id, choices.state)
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

    return guarded(choices, work)


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
        job = read_job(config_path(config), job_id)
        complain = Complain(out)
        mail = mail_template(job, complain).render(sample(job, failed))
        whom = job.notify.whom(not failed)
        out.line(f"To: {', '.join(map(shown_sink, whom)) or '(nobody)'}")
        out.line(f"Subject: {mail.subject}\n\n{mail.text}")
        out.row({"to": whom, "subject": mail.subject, "text": mail.text})
        return int(complain.said)

    return guarded(choices, work)


def sample(job: JobConfig, failed: bool) -> Report:
    """A run to look at."""
    rows = (Row("a.txt", 0.012, FileTag.TRANSF), Row("b.txt", "No space left.", FileTag.TGTERR))
    good = JobResult(1, 0, 0, rows[:1], 1024, 0, 65.0)
    bad = JobResult(1, 0, 1, rows, 1024, 0, 65.0)
    ended = datetime.now().replace(microsecond=0)
    return Report(job, bad if failed else good, None, ended - timedelta(seconds=65), ended)
