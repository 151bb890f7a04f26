"""Telling people, and their programs, what became of a run.

None of it changes what became of it: whatever goes wrong here is logged, with
what was to be said.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.mail.smtp import ESMTPSenderFactory
from twisted.python.failure import Failure

from lanxfer.jobs.errors import ConfigError
from lanxfer.jobs.logs import RunLog
from lanxfer.jobs.options import is_sink
from lanxfer.jobs.settings import JobConfig, MailServer
from lanxfer.jobs.templates import Mail, MailTemplate, Report, default_template, parse_template

PATIENCE = 30.0
"""Seconds for a mail server, a command or a web server to do its part."""


class NotTold(Exception):
    """Somebody could not be told."""


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


def load_template(path: str) -> MailTemplate:
    """A template from its file; ConfigError where that is missing or broken."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse_template(file.read())
    except OSError as error:
        raise ConfigError(f"The template {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The template {path} is not UTF-8.") from None


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
            # What stands after the host of a hook is often its secret.
            await _try(log, "", post(reactor, each, report), urlsplit(each).netloc)


async def _try(log: RunLog, text: str, work: Any, *whom: str) -> None:
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


# Mail.


def as_message(server: MailServer, whom: Sequence[str], mail: Mail) -> EmailMessage:
    """The mail as it is sent."""
    message = EmailMessage()
    message["From"] = server.sender
    message["To"] = ", ".join(whom)
    message["Subject"] = mail.subject
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain="lanxfer.invalid")
    message.set_content(mail.text)
    return message


async def send_mail(reactor: Any, server: MailServer, whom: Sequence[str], mail: Mail) -> None:
    """Hand a mail to the server; fails with NotTold."""
    sent: Deferred[Any] = Deferred()
    message = as_message(server, whom, mail)
    trust: Any = _trust(server) if server.security else None
    factory = ESMTPSenderFactory(
        server.user.encode(),
        (b"" if server.password is None else server.password.reveal().encode()),
        _address(server.sender),
        [_address(each) for each in whom],
        BytesIO(bytes(message)),
        sent,
        retries=0,
        timeout=PATIENCE,
        contextFactory=trust if server.security == "STARTTLS" else None,
        requireAuthentication=bool(server.user),
        requireTransportSecurity=server.security == "STARTTLS",
    )
    endpoint: Any = HostnameEndpoint(reactor, server.host, server.port, timeout=PATIENCE)
    if server.security == "TLS":
        endpoint = wrapClientTLS(trust, endpoint)
    sent.addTimeout(2 * PATIENCE, reactor)
    connecting = endpoint.connect(factory)
    connecting.addErrback(lambda why: None if sent.called else sent.errback(why))
    try:
        await sent
    except Exception as error:
        connecting.cancel()
        raise NotTold(f"{server.host}:{server.port}: {_why(error)}") from error


def _trust(server: MailServer) -> Any:
    if not server.tls_verify:
        return CertificateOptions(verify=False)
    root: Any = platformTrust()
    if server.tls_ca:
        with open(server.tls_ca, "rb") as file:
            root = trustRootFromCertificates([Certificate.loadPEM(file.read())])
    return optionsForClientTLS(server.host, trustRoot=root)


def _address(text: str) -> str:
    from email.utils import parseaddr

    return parseaddr(text)[1]


def _why(error: BaseException) -> str:
    text = str(error).strip()
    return text or type(error).__name__


# A command.


async def run_command(reactor: Any, command: str, report: Report) -> None:
    """Run a command with the report on its standard input as JSON, and in its environment."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise NotTold(str(error)) from None
    if not words:
        raise NotTold("There is no command.")
    environment = {**os.environ, **_environment(report)}
    protocol = _Command(json.dumps(report.as_row()).encode())
    process = reactor.spawnProcess(protocol, words[0], words, environment)
    protocol.ended.addTimeout(PATIENCE, reactor, lambda result, seconds: _late(process, seconds))
    await protocol.ended


def _late(process: Any, seconds: float) -> Failure:
    process.signalProcess("KILL")
    return Failure(NotTold(f"It was not done after {seconds:g} seconds."))


def _environment(report: Report) -> dict[str, str]:
    result = report.result
    return {
        "LANXFER_JOB": report.job.id,
        "LANXFER_JOB_NAME": report.job.name,
        "LANXFER_JOB_EXIT": str(report.code),
        "LANXFER_JOB_ERROR": "" if report.error is None else str(report.error),
        "LANXFER_JOB_FILES": str(0 if result is None else result.files_cnt),
    }


class _Command(ProcessProtocol):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._said = b""
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._data)
        self.transport.closeStdin()

    def errReceived(self, data: bytes) -> None:
        self._said = (self._said + data)[-1000:]

    def processEnded(self, reason: Failure) -> None:
        if self.ended.called:
            return
        if reason.check(ProcessDone):
            self.ended.callback(None)
        else:
            code = getattr(reason.value, "exitCode", None)
            said = self._said.decode(errors="replace").strip()
            why = f"It ended with {code}" if code is not None else "It was killed"
            self.ended.errback(NotTold(f"{why}{': ' + said if said else ''}."))


# The web.


async def post(reactor: Any, url: str, report: Report) -> None:
    """Post the report as JSON."""
    from twisted.web.client import Agent, FileBodyProducer, readBody
    from twisted.web.http_headers import Headers

    body = FileBodyProducer(BytesIO(json.dumps(report.as_row()).encode()))
    headers = Headers({b"Content-Type": [b"application/json"], b"User-Agent": [b"lanxfer"]})
    agent = Agent(reactor, connectTimeout=PATIENCE)

    async def ask() -> int:
        response: Any = await agent.request(b"POST", url.encode(), headers, body)
        await readBody(response)
        return int(response.code)

    code = await Deferred.fromCoroutine(ask()).addTimeout(PATIENCE, reactor)
    if not 200 <= code < 300:
        raise NotTold(f"It answered {code}.")
