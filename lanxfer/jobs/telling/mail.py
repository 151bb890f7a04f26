"""Mail about a run."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.mail.smtp import ESMTPSenderFactory
from twisted.python.failure import Failure

from lanxfer.jobs.config.settings import MailServer
from lanxfer.jobs.telling.reports import PATIENCE, NotTold
from lanxfer.jobs.telling.templates import Mail


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
    factory = _Factory(
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


class _Factory(ESMTPSenderFactory):
    """Hears that the connection is gone from its protocol: an endpoint does not tell factories."""

    def buildProtocol(self, addr: Any) -> Any:
        made = super().buildProtocol(addr)
        lost = made.connectionLost

        def gone(reason: Failure) -> None:
            lost(reason)
            if not self.result.called:
                self.result.errback(reason)

        made.connectionLost = gone
        return made


def _trust(server: MailServer) -> Any:
    if not server.tls_verify:
        return CertificateOptions(verify=False)
    root: Any = platformTrust()
    if server.tls_ca:
        with open(server.tls_ca, "rb") as file:
            root = trustRootFromCertificates([Certificate.loadPEM(file.read())])
    return optionsForClientTLS(server.host, trustRoot=root)


def _address(text: str) -> str:
    return parseaddr(text)[1]


def _why(error: BaseException) -> str:
    text = str(error).strip()
    return text or type(error).__name__
