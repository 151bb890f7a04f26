"""The sender's end of a body in clear: a connection that carries it and nothing else.

See ``lanxfer.clear`` and docs/protocol.rst, "A body in clear".
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from lanxfer.admission import bare
from lanxfer.direct import Direct
from lanxfer.errors import ClearBroken
from lanxfer.outbox import Outbox
from lanxfer.rates import Metered
from lanxfer.sockets import tune
from lanxfer.wire import limits
from lanxfer.wire.clear import TAKEN, format_pour
from lanxfer.wire.packets import Packet


class _Raw:
    """What a session is to an outbox, where the bytes of parts are all there is to say."""

    half_close = False

    def send(self, packet: Packet) -> bytes:
        return b""


class ClearOut(Protocol):
    """The sender's end; ``outbox`` takes the parts of the file and sends their bytes alone.

    ``on_lost`` hears that the connection is gone, unless ``abort`` was called.
    """

    transport: Any
    paused = False
    in_body = False

    def __init__(self, ticket: str, offset: int, meter: Metered) -> None:
        self._line = format_pour(ticket, offset)
        self._meter = meter
        self._answer = b""
        self._over = False
        self.outbox: Outbox
        self.on_lost: Callable[[], object] = lambda: None
        self.taken: Deferred[None] = Deferred(lambda d: self.abort())

    def space(self) -> None:
        """See ``direct.Reader``: there is nothing to be read here but one line."""

    def filled(self, size: int) -> None:
        """See ``space``."""

    def begin_stretch(self, direct: Direct) -> bool:
        """See ``space``."""
        return False

    def connectionMade(self) -> None:
        tune(self.transport)
        self.outbox = Outbox(
            self.transport,
            _Raw(),  # type: ignore[arg-type]  # all that an outbox asks of a session
            lambda much: None,
            lambda: None,
            Direct.beside(self.transport, self),
        )
        self.outbox.meter = self._meter
        self.transport.write(self._line)

    def dataReceived(self, data: bytes) -> None:
        if self.taken.called:
            return  # nothing is said here after the first word
        self._answer += data[: len(TAKEN) + 1]
        if self._answer == TAKEN:
            self.taken.callback(None)
        elif not TAKEN.startswith(self._answer):
            self.taken.errback(ClearBroken("The other side does not take it there."))
            self.abort()

    def abort(self) -> None:
        """Close at once; not before the exchange is over, for bytes may still be on their way."""
        self._over = True
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        lost, self._over = not self._over, True
        self.outbox.close()
        if not self.taken.called:
            self.taken.errback(ClearBroken("The connection in clear was closed."))
        elif lost:
            self.on_lost()


def beside(reactor: Any, transport: Any) -> IStreamClientEndpoint:
    """A second connection between the same two addresses, to the same port."""
    here, there = transport.getHost(), transport.getPeer()
    patience = limits.CLEAR_PATIENCE
    if ":" not in there.host:
        return TCP4ClientEndpoint(reactor, there.host, there.port, patience, (here.host, 0))
    host: str = there.host
    bind: tuple[str, int] | None = (here.host, 0)
    if ip_address(bare(host)).is_link_local:
        # Both are on one wire, and only with the name of its interface a link-local one is found.
        scope = getattr(there, "scopeID", 0)
        host, bind = host if "%" in host or not scope else f"{host}%{scope}", None
    return TCP6ClientEndpoint(reactor, host, there.port, patience, bind)


class Pouring(Factory):
    """A factory for one such connection."""

    noisy = False

    def __init__(self, out: ClearOut) -> None:
        self._out = out

    def buildProtocol(self, addr: IAddress | None) -> ClearOut:
        return self._out
