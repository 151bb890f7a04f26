"""HTTP for scrapers: ``GET /metrics``, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from lanxfer.errors import NotFound, Stopping, TooLarge
from lanxfer.metrics.figures import OPENMETRICS, TEXT
from lanxfer.web.gate import Misdirected, host_and_port
from lanxfer.web.http import PageRequest, PageSite

Ask = Callable[[bool], Deferred[bytes]]
"""Gives the figures, in the older format if that is True."""

BODY_MAX = 4096
"""Bytes of a body, which nobody looks at."""


class MetricsSite(PageSite):
    """The page's HTTP, with its bounds, and one resource; ``names`` are this device's own."""

    noisy = False

    def __init__(self, ask: Ask, names: frozenset[str], reactor: Any) -> None:
        super().__init__(_Figures(ask), self._opened, reactor)
        self._names = names

    def _opened(self, request: PageRequest, length: int | None) -> None:
        """Answer only who asked for this device: no page of somebody else's name for it."""
        if request.path != b"/metrics":
            raise NotFound("There is nothing but /metrics.")
        if length is None or length > BODY_MAX:
            raise TooLarge()
        hosts = request.requestHeaders.getRawHeaders("host", [])
        if len(hosts) != 1:
            raise Misdirected()
        name = host_and_port(hosts[0].lower())[0]
        try:
            ip_address(name.strip("[]"))
        except ValueError:
            if name not in self._names:
                raise Misdirected() from None


class _Figures(Resource):
    isLeaf = True

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask

    def render(self, request: PageRequest) -> bytes | int:
        if request.method in (b"GET", b"HEAD"):
            return self.render_GET(request)
        request.setResponseCode(405)
        request.setHeader("Allow", "GET, HEAD")
        return b""

    def render_GET(self, request: PageRequest) -> int:
        accepted = ",".join(request.requestHeaders.getRawHeaders("accept", []))
        classic = "text/plain" in accepted and "application/openmetrics-text" not in accepted
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(text: bytes) -> None:
            if gone:
                return
            request.setHeader("Content-Type", TEXT if classic else OPENMETRICS)
            request.setHeader("Content-Length", str(len(text)))
            if request.method != b"HEAD":
                request.write(text)
            request.finish()

        def failed(why: Failure) -> None:
            if not gone:
                request.answer(request.known(why.value or Stopping()))

        self._ask(classic).addCallbacks(answer, failed)
        return NOT_DONE_YET
