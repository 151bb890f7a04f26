"""twisted.web with its bodies looked at: refused at the headers, or on their way to the disk.

Left alone, twisted.web keeps the whole body of a request, of whatever size, before anybody
sees the request (catalogue W06).  Here ``Site.opened`` sees it when the headers are there,
and gives the ``Body`` that a file's bytes go to; all else is small.  HTTP/1.1 only: HTTP/2
would come by another way.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, HTTPChannel
from twisted.web.server import Request, Site

from lanxfer.errors import BadRequest, Internal, LanxferError, TimedOut, TooLarge
from lanxfer.web.gate import Session
from lanxfer.web.uploads import Body
from lanxfer.wire import limits

STATUS = {
    **dict.fromkeys(("bad-request", "bad-header", "bad-name"), 400),
    "auth-failed": 401,
    "forbidden": 403,
    **dict.fromkeys(("not-found", "unknown-command"), 404),
    **dict.fromkeys(("timeout", "too-slow"), 408),
    **dict.fromkeys(("bad-offset", "exists", "source-changed"), 409),
    **dict.fromkeys(("expired", "cancelled"), 410),
    "unsupported-version": 412,
    "too-large": 413,
    "bad-type": 415,
    "misdirected": 421,
    "busy": 423,
    "rate-limited": 429,
    "digest-mismatch": 460,
    **dict.fromkeys(("overloaded", "stopping", "connection-lost"), 503),
    **dict.fromkeys(("quota", "disk-full"), 507),
}
"""Codes as HTTP says them; 460 is tus's own."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " manifest-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-store",
    "Server": "lanxfer",
}
"""Of every answer."""

_log = Logger()


class BadType(LanxferError):
    """Bodies are JSON, or a file's bytes with the content type that tus has for them."""

    code = "bad-type"


class PageRequest(Request):
    """A request; ``signed_in`` is whose, ``body`` where its bytes go if they are a file's."""

    signed_in: Session | None = None
    body: Body | None = None
    refusal: LanxferError | None = None
    answered = False
    content: Any
    channel: Any

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()
        for name, value in HEADERS.items():
            self.setHeader(name, value)
        try:
            self.body = self.channel.site.opened(self, length)
            if self.body is not None:
                self.channel.setTimeout(None)  # the body has its own, and may be made to wait
        except Exception as error:
            self.refusal = self.known(error)
            if length != 0:
                self.refuse(self.refusal)

    def handleContentChunk(self, data: bytes) -> None:
        if self.answered:
            return
        try:
            if self.body is not None:
                self.body.received(data)
            elif self.content.tell() + len(data) > limits.WEB_BODY_MAX:
                raise TooLarge("The request is too long.")
            else:
                self.content.write(data)
        except Exception as error:
            self.refuse(self.known(error))

    def process(self) -> None:
        if self.refusal is not None:
            self.answer(self.refusal)
        elif not self.answered:
            super().process()

    def render(self, resource: Any) -> None:
        self.setHeader("Server", HEADERS["Server"])
        super().render(resource)

    def connectionLost(self, reason: Any) -> None:
        self.leave()
        super().connectionLost(reason)

    def flow(self, on: bool) -> None:
        """Read on, or do not, while a body comes."""
        if self.channel is None or self.channel.transport is None or self.answered:
            return
        self.channel.hold(not on)

    def refuse(self, error: LanxferError) -> None:
        """Answer in the middle of a body; the connection ends with it."""
        if self.answered or self.channel is None:
            return
        self.leave()
        self.channel.persistent = 0
        self.channel.deafen()
        self.answer(error)

    def leave(self) -> None:
        """The body leads nowhere any more."""
        body, self.body = self.body, None
        if body is not None:
            body.over()

    def answer(self, error: LanxferError) -> None:
        """Say what is wrong, as JSON; nothing at all to who is at the wrong address."""
        self.answered = True
        status = STATUS.get(error.code, 500)
        self.setResponseCode(status, b"Checksum Mismatch" if status == 460 else None)
        if status != 421 and status not in NO_BODY_CODES:
            reply = {"code": error.code, "reason": error.reason, **error.details}
            data = json.dumps(reply).encode()
            self.setHeader("Content-Type", "application/json")
            self.setHeader("Content-Length", str(len(data)))
            if self.method != b"HEAD":
                self.write(data)
        else:
            self.setHeader("Content-Length", "0")
        self.finish()

    def known(self, error: BaseException) -> LanxferError:
        """What is said of it; what nobody expected is logged, and said nothing of."""
        if isinstance(error, LanxferError):
            return error
        _log.failure("A request failed.", event="page_failed", failure=Failure(error))
        return Internal()


class PageChannel(HTTPChannel):
    """HTTP/1.1 with a deadline for headers, and requests that see them first."""

    site: Any
    transport: Any
    deaf = False
    _late: IDelayedCall | None = None
    _held = False
    _gone = False

    def connectionMade(self) -> None:
        super().connectionMade()
        self._expect()

    def _expect(self) -> None:
        """Headers have to be complete soon, however they drip (catalogue H05)."""
        if self._late is None:
            self._late = self.callLater(limits.HEADER_TIMEOUT, self._overdue)

    def _overdue(self) -> None:
        self._late = None
        self.forceAbortClient()

    def _in_time(self) -> None:
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()

    def dataReceived(self, data: bytes) -> None:
        if self.deaf:
            return
        if not self.requests:
            self._expect()
        super().dataReceived(data)

    def rawDataReceived(self, data: bytes) -> None:
        if not self.deaf:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        self._in_time()
        request = self.requests[-1]
        request.method, request.uri = self._command, self._path
        request.clientproto = self._version
        request.path = self._path.partition(b"?")[0]
        super().allHeadersReceived()

    def allContentReceived(self) -> None:
        if self.deaf:
            return
        self.hold(False)
        self.setTimeout(self.timeOut)  # or the connection would have none afterwards
        super().allContentReceived()

    def _send100Continue(self) -> None:
        if not self.deaf:
            super()._send100Continue()

    def hold(self, still: bool) -> None:
        """Do not read from the other side, or do again; time stands still meanwhile."""
        if still:
            # Each time: whoever wrote an answer may have let it go on meanwhile.
            self.transport.pauseProducing()
        elif self._held:
            self.transport.resumeProducing()
        self._held = still

    def deafen(self) -> None:
        """Whatever still comes is dropped, and not for long."""
        self.deaf = True
        self._in_time()
        self.hold(False)
        self._late = self.callLater(limits.ABORT_AFTER, self._overdue)

    def forceAbortClient(self) -> None:
        if not self._gone:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._gone = True
        self._in_time()
        self.site.left(self)
        super().connectionLost(reason)


class _Turned(Protocol):
    """For whom there is no place."""

    def connectionMade(self) -> None:
        abort: Any = self.transport
        abort.abortConnection()


class PageSite(Site):
    """Few connections in all and from one address; ``opened`` is asked at the headers."""

    protocol: Any = PageChannel
    requestFactory = PageRequest
    displayTracebacks = False

    def __init__(
        self,
        resource: Any,
        opened: Callable[[PageRequest, int | None], Body | None],
        reactor: Any,
    ) -> None:
        super().__init__(resource, timeout=60, reactor=reactor)
        self.opened = opened
        self.channels: dict[PageChannel, str] = {}

    def buildProtocol(self, addr: IAddress | None) -> Any:
        source = str(getattr(addr, "host", ""))
        each = Counter(self.channels.values())[source]
        full = len(self.channels) >= limits.WEB_CONNECTIONS
        if full or each >= limits.WEB_CONNECTIONS_PER_SOURCE:
            return _Turned()
        channel = super().buildProtocol(addr)
        self.channels[channel] = source
        return channel

    def left(self, channel: PageChannel) -> None:
        self.channels.pop(channel, None)

    def log(self, request: Any) -> None:
        """Nothing: what is asked for is nobody's business, and names are peers' text."""

    def abort(self) -> None:
        """End all connections."""
        for each in list(self.channels):
            each.forceAbortClient()


def read_json(request: PageRequest) -> dict[str, Any]:
    """The body, an object; BadRequest for anything else."""
    request.content.seek(0)
    try:
        found = json.loads(request.content.read() or b"{}")
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None
    if not isinstance(found, dict):
        raise BadRequest("The body is not a JSON object.")
    return found


__all__ = ["BadType", "PageRequest", "PageSite", "TimedOut", "read_json"]
