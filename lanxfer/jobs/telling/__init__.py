"""Telling people, and their programs, what became of a run.

None of it changes what became of it: whatever goes wrong here is logged, with
what was to be said.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any

from lanxfer.jobs.config.settings import JobConfig, is_sink, shown_sink
from lanxfer.jobs.errors import ConfigError
from lanxfer.jobs.logs import RunLog
from lanxfer.jobs.telling.hooks import post, run_command
from lanxfer.jobs.telling.mail import send_mail
from lanxfer.jobs.telling.reports import Report
from lanxfer.jobs.telling.templates import MailTemplate, default_template, load_template


def mail_template(job: JobConfig, log: Any) -> MailTemplate:
    """The template of a job; where it is missing or broken the default, and a warning."""
    named = job.notify.mail_cfg
    if not named or named == "default":
        return default_template()
    if not job.app.mail_cfgs_dir:
        log.warning("mail_cfg = %s, but there is no mail_cfgs_dir; using the default", named)
        return default_template()
    try:
        return load_template(os.path.join(job.app.mail_cfgs_dir, named))
    except ConfigError as error:
        log.warning("%s Using the default.", error.reason)
        return default_template()


async def tell(reactor: Any, report: Report, log: RunLog) -> None:
    """Tell everybody who is to be told of that run."""
    whom = report.job.notify.whom(report.good)
    mails = [each for each in whom if not is_sink(each)]
    if mails:
        mail = mail_template(report.job, log).render(report)
        server = report.job.app.mail
        if server is None:
            log.warning("nobody is told by mail: there is no mail server")
        else:
            await _try(log, mail.text, send_mail(reactor, server, mails, mail), *mails)
    for each in whom:
        if each.startswith("exec:"):
            await _try(log, "", run_command(reactor, each[5:], report), each)
        elif is_sink(each):
            await _try(log, "", post(reactor, each, report), shown_sink(each))


async def _try(log: RunLog, text: str, work: Awaitable[None], *whom: str) -> None:
    try:
        await work
        log.info("told: %s", ", ".join(whom))
    except Exception as error:
        log.error(
            "not told: %s: %s%s",
            ", ".join(whom),
            error,
            f"\nIt was to say:\n{text}" if text else "",
        )
