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
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.admission import Admission, bare, networks
from lanxfer.bulk import BulkTLS
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
from lanxfer.descriptors import UNLIMITED, connections_most
from lanxfer.disk import Disk
from lanxfer.errors import BadHeader, LanxferError, Lost, Overloaded, TimedOut
from lanxfer.policy import UNKNOWN, Principal
from lanxfer.protocol import LanxferProtocol
from lanxfer.refusals import Refusals
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.tls import describe_tls_failure, peer_key, wrap_server
from lanxfer.turns import Turns
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
        self._inner: LanxferProtocol | BulkTLS | None = None
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

    def _protocol(self, dialect: Dialect) -> LanxferProtocol | BulkTLS:
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
        raise BadHeader("That is none of the languages spoken here.")

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
        open_files: int = UNLIMITED,
        checkers: Sequence[Any] = (),
    ) -> None:
        self.read_size = read_size
        self.node = node
        self.disk = disk
        self.table = table
        self.portal = make_portal(admission, checkers)
        self.clock = clock
        self.connections: set[LanxferProtocol] = set()
        self.refusals = Refusals(clock)
        self._turns = Turns(clock)
        self._most = connections_most(open_files)
        self._inside: set[Door] = set()
        self._unknown: dict[Door, str] = {}
        self._of_each: Counter[str] = Counter()
        self.tls = wrap_server(tls_options, _Inside(self), clock)

    def buildProtocol(self, addr: IAddress | None) -> Door | None:  # type: ignore[override]  # a Door has a typed factory
        # Where the address is known already, whoever is too much costs no transport.
        host = getattr(addr, "host", None)
        return Door(self) if host is None or self._admits(_source(host)) else None

    def knock(self, credentials: Any) -> Principal:
        """Who shows these; raises the refusal."""
        return knock(self.portal, credentials)

    def make(
        self, session: Session, identify: Callable[[Any], Principal], proves: bool = True
    ) -> LanxferProtocol:
        """A protocol for an accepted connection."""
        made = LanxferProtocol(
            session,
            self.node,
            self.disk,
            self.table,
            self.clock,
            identify,
            proves=proves,
            on_ready=self._ready,
            on_gone=self._gone,
        )
        made.take_turns(self._turns)
        return made

    def _ready(self, connection: LanxferProtocol) -> None:
        if connection.principal is not None:
            self.connections.add(connection)
            self._of_each[connection.principal.name] += 1

    def _gone(self, connection: LanxferProtocol) -> None:
        error = connection.refused
        if error is not None and error.closes:
            self.refusals.note(host_of(connection.transport), error)
        if connection in self.connections and connection.principal is not None:
            self.connections.discard(connection)
            self._uncount(connection.principal.name)

    def _uncount(self, name: str) -> None:
        self._of_each[name] -= 1
        if not self._of_each[name]:
            del self._of_each[name]

    def count_as(self, connection: LanxferProtocol, principal: Principal) -> None:
        """From now on it counts as one of ``principal``; Overloaded where there is no room."""
        self.check_room(principal)
        if connection in self.connections and connection.principal is not None:
            self._uncount(connection.principal.name)
            self._of_each[principal.name] += 1

    def check_room(self, principal: Principal) -> None:
        """Raise Overloaded where one principal has as many connections as it may."""
        if self._of_each[principal.name] >= limits.CONNECTIONS_PER_PEER:
            raise Overloaded("That device has too many connections here already.")

    # Callers not identified yet (catalogue C05).

    def enter(self, door: Door) -> bool:
        """Whether one more unknown caller from there may come in."""
        source = _source(host_of(door.transport))
        if not self._admits(source):
            return False
        self._inside.add(door)
        self._unknown[door] = source
        return True

    def _admits(self, source: str) -> bool:
        if len(self._inside) < self._most and self._place_for(source):
            return True
        self.refusals.note(source, Overloaded("There are too many callers at once."))
        return False

    def _place_for(self, source: str) -> bool:
        """Whether there is a place, or one can be taken from an address that has more.

        With a fixed number of places and first come, first served, a hundred
        silent connections would keep everybody else out.  So the oldest caller
        of whichever address has most of them makes room, and where all have
        one, the oldest of all: whoever has something to say has said it by then.
        """
        places = Counter(self._unknown.values())
        if source and places[source] >= limits.STRANGERS_PER_SOURCE:
            return False
        if len(self._unknown) < limits.STRANGERS_MAX:
            return True
        most = max(places.values())
        if places[source] + 1 > most:
            return False
        oldest = next(door for door, its in self._unknown.items() if places[its] == most)
        self.refusals.note(self._unknown[oldest], Overloaded("Others had to have a place, too."))
        self.left(oldest)
        oldest.give_way()
        return True

    def identified(self, door: Door) -> None:
        self._unknown.pop(door, None)

    def left(self, door: Door) -> None:
        self._unknown.pop(door, None)
        self._inside.discard(door)


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
