"""Who is inside and who waits to be known: the connections of one service, counted.

The factory makes a ``Door`` for every caller.  Places for callers that nobody
knows yet are shared fairly, those of each principal are bounded, and what was
refused is noted once and not a million times (catalogue C05, R08).
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory

from lanxfer.admission import Admission, bare, networks
from lanxfer.clear import ClearTickets
from lanxfer.commands.table import Node, Table
from lanxfer.cred import KnockChecker, LocalUser, knock, make_portal
from lanxfer.descriptors import UNLIMITED, connections_most
from lanxfer.disk import Disk
from lanxfer.door import Door, host_of
from lanxfer.errors import Overloaded
from lanxfer.pipes import PipeProtocol
from lanxfer.policy import LOCAL, Principal, Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.refusals import Refusals
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.sockets import READ_SIZE
from lanxfer.tls import wrap_server
from lanxfer.turns import Turns
from lanxfer.wire import limits


def _source(address: str) -> str:
    """What counts as one source: an IPv4 address, or an IPv6 network of 64 bits."""
    address = bare(address)
    if ":" not in address:
        return address
    return str(networks([f"{address}/64"])[0])


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
        clear_bodies: bool = False,
    ) -> None:
        self.read_size = read_size
        self.node = node
        self.disk = disk
        self.table = table
        self.portal = make_portal(admission, checkers)
        self.clock = clock
        self.connections: set[LanxferProtocol] = set()
        self.refusals = Refusals(clock)
        self.clear = ClearTickets(clock) if clear_bodies else None
        self.on_login: Callable[[Principal], object] = lambda principal: None
        self.on_logout: Callable[[Principal], object] = lambda principal: None
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

    def admit(self, admission: Admission) -> None:
        """Let in whom this lets in, from now on; who is inside stays."""
        self.portal.registerChecker(KnockChecker(admission))

    def make(
        self,
        session: Session,
        identify: Callable[[Any], Principal],
        proves: bool = True,
        kind: type[LanxferProtocol] = LanxferProtocol,
    ) -> LanxferProtocol:
        """A protocol for an accepted connection."""
        made = kind(
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
        made.may_idle = False
        made.clear = self.clear
        rates = getattr(self.node, "rates", None)
        if rates is not None:
            made.keep_to(rates)
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
            if connection.principal.standing is Standing.USER:
                self.on_logout(connection.principal)

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
            self.on_login(principal)

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

    @property
    def unidentified(self) -> int:
        """Callers that have not said yet who they are."""
        return len(self._unknown)

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

        # The other end of it may be a pipe that goes on afterwards (``lanxfer.pipes.splice``).
        return self._outer.make(NativeSession(), identify, kind=PipeProtocol)


def for_owner(outer: LanxferFactory) -> LanxferProtocol:
    """A connection whose other end is the service's own user, as whoever made the pipe says."""
    return outer.make(NativeSession(), lambda transport: LOCAL, kind=PipeProtocol)


def _user_of(transport: Any) -> int | None:
    """The number of the user at the other end, where the platform tells."""
    handle = getattr(transport, "socket", None)
    if handle is None or not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    user: int = struct.unpack("3i", credentials)[1]
    return user
