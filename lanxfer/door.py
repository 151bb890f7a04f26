"""What listens: one port, every dialect, told apart by their first bytes.

A ``Door`` stands in for the protocol until it is known which session the
caller needs, then steps aside: what arrives goes straight to the protocol it
made.  The clock runs from the moment the connection is there (catalogue T01,
H11, J06); nothing of it is looked at twice, and whatever is no dialect gets
one line and no more.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.bulk import BulkTLS
from lanxfer.clear import ClearReader
from lanxfer.cred import (
    AeAddress,
    PlainAddress,
    TicketBearer,
    TlsKey,
)
from lanxfer.errors import BadHeader, LanxferError, Lost, TimedOut
from lanxfer.policy import UNKNOWN, Principal
from lanxfer.protocol import LanxferProtocol
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.sockets import READ_SIZE, tune
from lanxfer.tls import describe_tls_failure, peer_key
from lanxfer.wire import limits
from lanxfer.wire.dialects import Dialect, sniff
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Failed

if TYPE_CHECKING:
    from lanxfer.factory import LanxferFactory


def host_of(transport: Any) -> str:
    """The address of the other side; "" where there is none, as on a UNIX socket."""
    return getattr(transport.getPeer(), "host", "") or ""


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class Door(Protocol):
    """One connection whose dialect is not known yet.

    The outer door sees the socket; where that turns out to carry TLS, an inner
    one (``secure``) sees what is inside.
    """

    transport: Any  # as in LanxferProtocol

    def __init__(self, factory: LanxferFactory, secure: bool = False) -> None:
        self.factory: LanxferFactory = factory
        self._secure = secure
        self._first = b""
        self._inner: LanxferProtocol | BulkTLS | ClearReader | None = None
        self._deadline: IDelayedCall | None = None
        self._dead = False
        self._shaken = False
        self._outer: Door = self
        self._since = factory.clock.seconds()

    def connectionMade(self) -> None:
        if self._secure:
            # Counted from the connection on, however late its first byte was.
            waited = self._since - self._outer._since
            self._set_deadline(max(limits.HANDSHAKE_TIMEOUT - waited, 0.0))
            return
        if not self.factory.enter(self):
            self._dead = True
            self.transport.abortConnection()
            return
        tune(self.transport, self.factory.read_size)
        self._set_deadline(limits.HEADER_TIMEOUT)

    def handshakeCompleted(self) -> None:
        self._shaken = True
        self._set_deadline(limits.HEADER_TIMEOUT)

    def _set_deadline(self, seconds: float) -> None:
        self._clear_deadline()
        self._deadline = self.factory.clock.callLater(seconds, self._too_late)

    def _clear_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _too_late(self) -> None:
        if isinstance(self._inner, LanxferProtocol):
            self._inner.fail(TimedOut())
        elif self._secure and not self._shaken:
            # Nothing can be said before the two sides have keys in common.
            self._note(TimedOut())
            self._dead = True
            self.transport.abortConnection()
        else:
            self._refuse(TimedOut())

    def dataReceived(self, data: bytes) -> None:
        if self._dead:
            return
        self._first += data
        dialect = sniff(self._first)
        if dialect is not None:
            first, self._first = self._first, b""
            self._open(dialect, first)

    # What the TLS outside asks for; see ``lanxfer.bulk``.

    def space(self) -> memoryview | None:
        return self._inner.space() if isinstance(self._inner, LanxferProtocol) else None

    def filled(self, size: int) -> None:
        cast(LanxferProtocol, self._inner).filled(size)

    def read_most(self) -> int:
        return self._inner.read_most() if isinstance(self._inner, LanxferProtocol) else READ_SIZE

    @property
    def in_body(self) -> bool:
        return isinstance(self._inner, LanxferProtocol) and self._inner.in_body

    def _open(self, dialect: Dialect, first: bytes) -> None:
        try:
            self._inner = self._protocol(dialect)
        except LanxferError as error:
            self._refuse(error)
            return
        if isinstance(self._inner, BulkTLS):
            self._clear_deadline()  # the inner door has its own
            cast(Door, self._inner.wrappedProtocol)._outer = self
        self._inner.makeConnection(self.transport)
        self.dataReceived = self._inner.dataReceived  # type: ignore[method-assign]
        self._inner.dataReceived(first)

    def _protocol(self, dialect: Dialect) -> LanxferProtocol | BulkTLS | ClearReader:
        factory = self.factory
        address = host_of(self.transport)
        if dialect is Dialect.TLS and not self._secure:
            return cast(BulkTLS, factory.tls.buildProtocol(self.transport.getPeer()))
        if dialect is Dialect.NATIVE and self._secure:
            shown = TlsKey(peer_key(self.transport), address)
            return self._speak(NativeSession(), factory.knock(shown))
        if dialect is Dialect.NATIVE:
            return self._speak(NativeSession(), factory.knock(PlainAddress(address)))
        if dialect is Dialect.TICKET:
            who = factory.knock(TicketBearer(address, self._secure))
            from lanxfer.sessions.ticket import TicketSession

            return self._speak(TicketSession(), who, proves=False)
        if dialect is Dialect.LITERAL and not self._secure:
            who = factory.knock(AeAddress(address))
            from lanxfer.sessions.literal import LiteralSession

            return self._speak(LiteralSession(), who, proves=False)
        if dialect is Dialect.CLEAR and not self._secure and factory.clear is not None:
            return ClearReader(factory.clear, factory.clock, self._refuse, self._pours)
        raise BadHeader("That is none of the languages spoken here.")

    def _pours(self) -> None:
        """What comes is a body that somebody known has announced."""
        self._clear_deadline()
        self.factory.identified(self)

    def _speak(
        self, session: Session, principal: Principal, proves: bool = True
    ) -> LanxferProtocol:
        self.factory.check_room(principal)
        protocol = self.factory.make(session, lambda transport: principal, proves)
        # Who is unknown has this much time and no more, and stays counted among the
        # unknown: a visitor until it has said who it is.
        protocol.on_known = partial(self._known, protocol)
        if principal.standing not in UNKNOWN:
            protocol.on_first_line = self._clear_deadline
            self.factory.identified(self._outer)
        return protocol

    def _known(self, protocol: LanxferProtocol, principal: Principal) -> None:
        """Somebody logged in; Overloaded where they are here too often."""
        self.factory.count_as(protocol, principal)
        self._clear_deadline()
        self.factory.identified(self._outer)

    def _refuse(self, error: LanxferError) -> None:
        """One line that JSON and Python readers both understand, and the end."""
        self._note(error)
        self._dead = True
        self._clear_deadline()
        plain = Failed(0, error.code, error.reason)
        line = format_packet(plain).replace(b', "retry": false', b"")
        self.transport.write(line)
        self.transport.loseConnection()
        self._deadline = self.factory.clock.callLater(
            limits.ABORT_AFTER, self.transport.abortConnection
        )

    def readConnectionLost(self) -> None:
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own half-close, in the dialects that have one."""

    def give_way(self) -> None:
        """Somebody else needs the place."""
        self._dead = True
        self._clear_deadline()
        self.transport.abortConnection()

    def _note(self, error: LanxferError) -> None:
        self.factory.refusals.note(host_of(self.transport), error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._secure and not (self._shaken or self._dead):
            error = describe_tls_failure(reason)
            if not isinstance(error, Lost):
                self._note(error)
        self._dead = True
        self._clear_deadline()
        if not self._secure:
            self.factory.left(self)
        if self._inner is not None:
            self._inner.connectionLost(reason)
