"""What listens: one port, every dialect, told apart by their first bytes.

A ``Door`` stands in for the protocol until it is known which session the
caller needs, then steps aside: what arrives goes straight to the protocol it
made.  The clock runs from the moment the connection is there (catalogue T01,
H11, J06); nothing of it is looked at twice, and whatever is no dialect gets
one line and no more.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.admission import Admission, bare, networks
from lanxfer.commands.table import Node, Table
from lanxfer.cred import (
    AeAddress,
    LocalUser,
    PlainAddress,
    TicketBearer,
    TlsKey,
    knock,
    make_portal,
)
from lanxfer.disk import Disk
from lanxfer.errors import BadHeader, LanxferError, Overloaded, TimedOut
from lanxfer.policy import Principal, Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.tls import peer_key
from lanxfer.wire import limits
from lanxfer.wire.dialects import Dialect, sniff
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Failed

READ_SIZE = 256 * limits.KIB
"""Bytes taken from a socket at a time; 64 KiB, Twisted's own, costs a quarter of the speed."""

SEND_SIZE = 1024 * limits.KIB
"""Bytes given to a socket at a time; with Twisted's 128 KiB a unit takes four turns of the loop."""


_NOTICE_SILENCE = [
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", 20),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 50_000),
    )
    if hasattr(socket, name)
]
"""Seconds (and milliseconds, in the last) after which a cut wire shows, where the platform can."""


def host_of(transport: Any) -> str:
    """The address of the other side; "" where there is none, as on a UNIX socket."""
    return getattr(transport.getPeer(), "host", "") or ""


def _source(address: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 network of 64 bits."""
    address = bare(address)
    if ":" not in address:
        return address
    return str(networks([f"{address}/64"])[0])


def tune(transport: Any, read_size: int = READ_SIZE) -> None:
    """Large reads, no waiting for more, and word within a minute when the wire is cut (B08)."""
    handle = getattr(transport, "socket", None)
    if handle is not None and handle.family in (socket.AF_INET, socket.AF_INET6):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
        for option, value in _NOTICE_SILENCE:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
    if hasattr(transport, "bufferSize"):
        transport.bufferSize = read_size
        transport.SEND_LIMIT = SEND_SIZE


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
        self._inner: LanxferProtocol | TLSMemoryBIOProtocol | None = None
        self._deadline: IDelayedCall | None = None
        self._dead = False
        self._shaken = False
        self._outer: Door = self

    def connectionMade(self) -> None:
        if not self._secure:
            tune(self.transport, self.factory.read_size)
            if not self.factory.enter(self):
                self._dead = True
                self.transport.abortConnection()
                return
        seconds = limits.HANDSHAKE_TIMEOUT if self._secure else limits.HEADER_TIMEOUT
        self._set_deadline(seconds)

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

    def _open(self, dialect: Dialect, first: bytes) -> None:
        try:
            self._inner = self._protocol(dialect)
        except LanxferError as error:
            self._refuse(error)
            return
        if isinstance(self._inner, TLSMemoryBIOProtocol):
            self._clear_deadline()  # the inner door has its own
            cast(Door, self._inner.wrappedProtocol)._outer = self
        self._inner.makeConnection(self.transport)
        self.dataReceived = self._inner.dataReceived  # type: ignore[method-assign]
        self._inner.dataReceived(first)

    def _protocol(self, dialect: Dialect) -> LanxferProtocol | TLSMemoryBIOProtocol:
        factory = self.factory
        address = host_of(self.transport)
        if dialect is Dialect.TLS and not self._secure:
            return factory.tls.buildProtocol(self.transport.getPeer())
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
        raise BadHeader("That is none of the languages spoken here.")

    def _speak(
        self, session: Session, principal: Principal, proves: bool = True
    ) -> LanxferProtocol:
        self.factory.check_room(principal)
        protocol = self.factory.make(session, lambda transport: principal, proves)
        # A stranger has this much time and no more, and stays counted among the unknown;
        # so has a visitor, until it has said who it is.
        protocol.on_known = self._known
        if principal.standing not in (Standing.STRANGER, Standing.VISITOR):
            protocol.on_first_line = self._clear_deadline
            self.factory.identified(self._outer)
        return protocol

    def _known(self, principal: Principal) -> None:
        """Somebody logged in; Overloaded where they are here too often."""
        self.factory.check_room(principal)
        self._clear_deadline()
        self.factory.identified(self._outer)

    def _refuse(self, error: LanxferError) -> None:
        """One line that JSON and Python readers both understand, and the end."""
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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._dead = True
        self._clear_deadline()
        if not self._secure:
            self.factory.left(self)
        if self._inner is not None:
            self._inner.connectionLost(reason)


class LanxferFactory(Factory):
    """Makes the connections of one service and keeps count of them.

    All of them share the node, and with it the registry in which every
    transfer is; ``connections`` are those whose caller is known.
    """

    noisy = False

    def __init__(
        self,
        node: Node,
        disk: Disk,
        table: Table,
        admission: Admission,
        tls_options: Any,
        clock: IReactorTime,
        read_size: int = READ_SIZE,
        checkers: Sequence[Any] = (),
    ) -> None:
        self.read_size = read_size
        self.node = node
        self.disk = disk
        self.table = table
        self.portal = make_portal(admission, checkers)
        self.clock = clock
        self.connections: set[LanxferProtocol] = set()
        self._unknown: dict[Door, str] = {}
        self.tls = TLSMemoryBIOFactory(tls_options, False, _Inside(self), clock=clock)

    def buildProtocol(self, addr: IAddress | None) -> Door:  # type: ignore[override]  # a Door has a typed factory
        return Door(self)

    def knock(self, credentials: Any) -> Principal:
        """Who shows these; raises the refusal."""
        return knock(self.portal, credentials)

    def make(
        self, session: Session, identify: Callable[[Any], Principal], proves: bool = True
    ) -> LanxferProtocol:
        """A protocol for an accepted connection."""
        return LanxferProtocol(
            session,
            self.node,
            self.disk,
            self.table,
            self.clock,
            identify,
            proves=proves,
            on_ready=self.connections.add,
            on_gone=self.connections.discard,
        )

    def check_room(self, principal: Principal) -> None:
        """Raise Overloaded where one principal has as many connections as it may."""
        names = [each.principal.name for each in self.connections if each.principal is not None]
        if names.count(principal.name) >= limits.CONNECTIONS_PER_PEER:
            raise Overloaded("That device has too many connections here already.")

    # Callers not identified yet (catalogue C05).

    def enter(self, door: Door) -> bool:
        """Whether one more unknown caller from there may come in."""
        source = _source(host_of(door.transport))
        if len(self._unknown) >= limits.STRANGERS_MAX:
            return False
        if source and list(self._unknown.values()).count(source) >= limits.STRANGERS_PER_SOURCE:
            return False
        self._unknown[door] = source
        return True

    def identified(self, door: Door) -> None:
        self._unknown.pop(door, None)

    def left(self, door: Door) -> None:
        self._unknown.pop(door, None)


class _Inside(Factory):
    """Inside TLS there is a door again."""

    noisy = False

    def __init__(self, outer: LanxferFactory) -> None:
        self._outer = outer

    def buildProtocol(self, addr: IAddress | None) -> Door:  # type: ignore[override]  # a Door has a typed factory
        return Door(self._outer, secure=True)


class LocalFactory(Factory):
    """The control socket: the native dialect, spoken by the same user only.

    The folder it lies in is 0700 and the socket 0600; where the platform tells
    the caller's user, that is checked as well (catalogue L03).
    """

    noisy = False

    def __init__(self, outer: LanxferFactory) -> None:
        self._outer = outer

    def buildProtocol(self, addr: IAddress | None) -> LanxferProtocol:
        def identify(transport: Any) -> Principal:
            return self._outer.knock(LocalUser(_user_of(transport)))

        return self._outer.make(NativeSession(), identify)


def _user_of(transport: Any) -> int | None:
    """The number of the user at the other end, where the platform tells."""
    handle = getattr(transport, "socket", None)
    if handle is None or not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", credentials)[1]
    return user
