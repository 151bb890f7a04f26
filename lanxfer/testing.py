"""Two devices and a connection between them in memory: no socket, no thread, no waiting.

::

    pair = Pair()
    receipt = pair.result(pair.send("notes/a.txt", b"hello"))
    assert pair.there.store.files == {"notes/a.txt": b"hello"}

Everything is said by the real protocol on both sides; only what they stand on is
made of memory.  Nothing moves until ``pump`` is called (``result`` does), time
passes when ``clock.advance`` says so, and the disk works at once or, ``held``,
when it is told.  A stream can be delivered in any cutting, and a connection can
break after any byte.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IProtocol,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.commands.declared import table_of
from lanxfer.commands.dispatch import builtin
from lanxfer.commands.polled import Polled
from lanxfer.commands.table import Table, Tables
from lanxfer.deferreds import as_deferred
from lanxfer.disk import Disk
from lanxfer.errors import Cancelled, LanxferError, SourceChanged
from lanxfer.journal import Journal
from lanxfer.node import Message, OnOffer, ServiceNode, Taking
from lanxfer.policy import Principal, Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.registry import Registry
from lanxfer.rights import Book, Section
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.sources import Source
from lanxfer.transfers import Receipt, Snapshot
from lanxfer.wire.native import parse_packet
from lanxfer.wire.packets import Args, Packet

T = TypeVar("T")

Cut: TypeAlias = Callable[[bytes], Iterable[bytes]]
"""How a stream is cut into what arrives at a time."""

HIGH_WATER = 64 * 1024
"""Undelivered bytes at which a transport pauses its producer, as Twisted's own do."""

HELLO = {"speaks": ["lanxfer/1"], "device": "here"}


def whole(data: bytes) -> Iterator[bytes]:
    """Everything at once."""
    yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    """Byte by byte."""
    return (data[at : at + 1] for at in range(len(data)))


def pieces(*sizes: int) -> Cut:
    """Pieces of these sizes in turn, from the beginning again when they are used up."""

    def cut(data: bytes) -> Iterator[bytes]:
        at = turn = 0
        while at < len(data):
            size = sizes[turn % len(sizes)]
            yield data[at : at + size]
            at, turn = at + size, turn + 1

    return cut


class _Worker:
    """A thread pool without threads, and the reactor that its results come to."""

    def __init__(self) -> None:
        self.held = False
        self.waiting: deque[Callable[[], None]] = deque()

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], None], function: Callable[..., Any], *args: Any
    ) -> None:
        def do() -> None:
            try:
                result = function(*args)
            except Exception:
                told(False, Failure())
            else:
                told(True, result)

        if self.held:
            self.waiting.append(do)
        else:
            do()

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)

    def start(self) -> None:
        """There is nothing to start."""

    stop = start

    def addSystemEventTrigger(self, *args: Any) -> None:
        """There is nothing to end."""


class MemoryDisk(Disk):
    """Does its work at once, in the caller's thread; while ``held``, when ``work`` is called."""

    def __init__(self, held: bool = False) -> None:
        worker: Any = _Worker()
        super().__init__(worker)
        self._pool = self._reserved = self._single = worker
        self._worker: _Worker = worker
        self.held = held

    @property
    def held(self) -> bool:
        """Whether work waits until it is told."""
        return self._worker.held

    @held.setter
    def held(self, held: bool) -> None:
        self._worker.held = held

    @property
    def waiting(self) -> int:
        """How much work waits."""
        return len(self._worker.waiting)

    def work(self, most: int = 2**31) -> int:
        """Do at most so much of what waits, oldest first; how much it was."""
        count = 0
        while self._worker.waiting and count < most:
            self._worker.waiting.popleft()()
            count += 1
        return count

    def work_at(self, index: int) -> None:
        """Do one piece of what waits: 0 is the oldest, another one overtakes it."""
        waiting = self._worker.waiting
        chosen = waiting[index]
        del waiting[index]
        chosen()


class MemorySource(Source):
    """Bytes to be sent, as if they were a file.

    What is done to ``data`` while it is sent shows like a change of the file.
    """

    def __init__(self, data: bytes, mtime_ns: int = 1_700_000_000_000_000_000) -> None:
        self.data = data
        self.closed = 0
        super().__init__("", -1, os.stat_result((0o100600, 0, 0, 1, 0, 0, len(data), 0, 0, 0)))
        self.mtime_ns = mtime_ns
        self._first = data

    def check_unchanged(self) -> None:
        if self.data != self._first:
            raise SourceChanged()

    def _read_at(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]

    def _fill(self, offset: int, space: memoryview) -> int:
        data = self._read_at(offset, len(space))
        space[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.closed += 1


@implementer(ITransport, IConsumer)
class MemoryTransport:
    """One end of a ``Wire``: what TCP does, seen by the protocol that has this transport.

    ``unread`` is what was written here and has not arrived there.
    """

    disconnecting = False

    def __init__(self, protocol: Any, host: str) -> None:
        self.protocol = protocol
        self.host = IPv4Address("TCP", host, 36969)
        self.other: MemoryTransport
        self.unread = bytearray()
        self.connected = True
        self.reading = True
        self._writing = True
        self._shut = self._told_shut = False
        self._why: Exception | None = None
        self._producer: Any = None
        self._producing = True

    # ITransport.

    def write(self, data: bytes) -> None:
        if self.connected and self._writing and not self._shut:
            self.unread += data
            if self._producer is not None and self._producing and len(self.unread) > HIGH_WATER:
                self._producing = False
                self._producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True

    def loseWriteConnection(self) -> None:
        self._shut = True

    def abortConnection(self) -> None:
        self.unread.clear()
        self.break_off(ConnectionAborted())

    def getPeer(self) -> IPv4Address:
        return self.other.host

    def getHost(self) -> IPv4Address:
        return self.host

    # The protocol as a consumer, and as a producer of what it reads.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._producer, self._producing = producer, True
        if not self.connected:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def stopProducing(self) -> None:
        self.loseConnection()

    # What the wire does.

    def break_off(self, why: Exception) -> None:
        """The connection is over; the protocol hears of it at the next step."""
        self._why = self._why or why

    def deliver(self, cut: Cut, most: int) -> int:
        """Let at most so many bytes arrive; how many did."""
        other = self.other
        sent, data = 0, bytes(self.unread[:most])
        self.unread = self.unread[most:]
        later = b""
        for piece in cut(data):
            if not (other.reading and other.connected and other._why is None):
                later += piece
                continue
            sent += len(piece)
            other.protocol.dataReceived(piece)
        if other.connected and other._why is None:
            self.unread[:0] = later
        return sent

    def settle(self) -> bool:
        """What follows from everything having been delivered, or from a break."""
        if not self.connected:
            return False
        if self._why is not None:
            return self._end(self._why)
        if self.unread:
            return False
        if self._producer is not None and not self._producing:
            self._producing = True
            self._producer.resumeProducing()
            return True
        if self.disconnecting:
            return self._end(ConnectionDone())
        if self._shut and not self._told_shut:
            self._told_shut = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
            self.other.shut()
            return True
        return False

    def shut(self) -> None:
        """The other side says nothing more."""
        if not self.connected:
            return
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self.break_off(ConnectionDone())

    def _end(self, why: Exception) -> bool:
        self.connected = self._writing = False
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        self.protocol.connectionLost(Failure(why))
        if self.other.connected:
            if isinstance(why, ConnectionDone):
                self.other.shut()
            else:
                self.other.unread.clear()
                self.other.break_off(ConnectionLost())
        return True


class Wire:
    """A connection between two protocols; ``a`` is the side that opened it."""

    def __init__(
        self, a: IProtocol, b: IProtocol, cut: Cut = whole, addresses: tuple[str, str] | None = None
    ) -> None:
        first, second = addresses or ("192.0.2.1", "192.0.2.2")
        self.a, self.b = MemoryTransport(a, first), MemoryTransport(b, second)
        self.a.other, self.b.other = self.b, self.a
        self.cut = cut
        self._room: dict[MemoryTransport, int] = {}
        b.makeConnection(self.b)
        a.makeConnection(self.a)

    def step(self) -> bool:
        """Deliver what was written and what follows from it; whether anything moved."""
        moved = False
        for end in (self.a, self.b):
            room = self._room.get(end)
            if end.unread and end.other.connected:
                sent = end.deliver(self.cut, len(end.unread) if room is None else room)
                moved = moved or sent > 0
                if room is not None:
                    self._room[end] = room - sent
                    if room == sent:
                        self.cut_off()
            elif not end.other.connected and end.unread:
                end.unread.clear()
                end.break_off(ConnectionLost())
            moved = end.settle() or moved
        return moved

    def cut_off(self, *, from_a: int | None = None, from_b: int | None = None) -> None:
        """Break the connection: now, or after so many more bytes from one side have arrived."""
        if from_a is not None:
            self._room[self.a] = from_a
        if from_b is not None:
            self._room[self.b] = from_b
        if from_a is None and from_b is None:
            self._room.clear()
            for end in (self.a, self.b):
                end.unread.clear()
                end.break_off(ConnectionLost())


def pump(clock: Clock, *wires: Wire, steps: int = 1_000_000) -> None:
    """Go on until nothing moves any more; time stands still meanwhile."""
    for _ in range(steps):
        moved = [wire.step() for wire in wires]
        due = [each for each in clock.getDelayedCalls() if each.getTime() <= clock.seconds()]
        clock.advance(0)
        if not due and not any(moved):
            return
    raise AssertionError("the two ends never come to rest")


class MemoryNode(ServiceNode):
    """A device without a disk; ``messages`` are the texts that came, ``told`` what became known."""

    store: Any  # a MemoryStore, where a Node's may be any Store
    messages: list[Message]
    told: list[Snapshot]


PATIENT = Book({"everyone": Section({"commands": None})})
"""The usual rights, but no rate of commands: where time stands still nobody could wait for it."""


def memory_node(
    device: str,
    clock: Clock,
    disk: Disk,
    *,
    on_offer: OnOffer | None = None,
    taking: Taking | None = None,
    capacity: int | None = None,
    rights: Book = PATIENT,
) -> MemoryNode:
    """A node whose store, journal and ids are all in memory."""
    journal = Journal(":memory:", clock.seconds)
    numbers = iter(range(1, 2**31))
    registry = Registry(clock.seconds, lambda: f"{next(numbers):08x}", _reraise)
    messages: list[Message] = []
    told: list[Snapshot] = []

    async def sender(args: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"sent": dict(args)}

    node = MemoryNode(
        device=device,
        registry=registry,
        store=MemoryStore(receipts=journal, capacity=capacity, dotfiles=True),
        journal=journal,
        disk=disk,
        clock=clock,
        taking=taking or Taking(),
        polled=Polled(clock.seconds),
        sender=sender,
        about=lambda: {"device": device},
        on_offer=on_offer,
        on_message=messages.append,
        rights=rights,
        record_after=0,
    )
    node.messages, node.told = messages, told
    registry.subscribe(told.append)
    return node


def _reraise(error: Exception) -> None:
    raise error


PEER = Principal(Standing.PEER, "peer:here", "here")


class Pair:
    """``here`` has opened a connection to ``there`` and knows it; each is the other's paired peer.

    ``client`` and ``server`` are the two ends of the connection, ``principal`` who
    ``here`` is to ``there``.  ``connect`` makes a new connection between the same
    two devices, which is how a broken transfer is resumed.
    """

    def __init__(
        self,
        *,
        cut: Cut = whole,
        held: bool = False,
        principal: Principal = PEER,
        on_offer: OnOffer | None = None,
        taking: Taking | None = None,
        capacity: int | None = None,
        rights: Book = PATIENT,
        commands: Any = None,
    ) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk(held)
        self.here = memory_node("here", self.clock, self.disk)
        self.there = memory_node(
            "there",
            self.clock,
            self.disk,
            on_offer=on_offer,
            taking=taking,
            capacity=capacity,
            rights=rights,
        )
        # A plain table may replace what is lanxfer's own.
        plain = type(commands) is dict
        self.table: Table = (
            {**builtin(), **commands} if plain else Tables(dict(builtin()), table_of(commands))
        )
        self.principal = principal
        self.cut = cut
        self.wires: list[Wire] = []
        self.connect()

    def connect(self) -> None:
        """Connect, or connect again, and say hello."""
        there = Principal(Standing.PEER, "peer:there", "there")
        self.client = self.end(self.here, there, NativeSession(known=True))
        self.server = self.end(self.there, self.principal, NativeSession())
        self.wire = self.wired(self.client, self.server)
        self.client.ask("hello", HELLO)

    def wired(self, a: IProtocol, b: IProtocol) -> Wire:
        """A connection between two protocols, which ``close`` will end."""
        self.wires.append(Wire(a, b, self.cut))
        return self.wires[-1]

    def close(self) -> None:
        """Break what is connected, and see everything to its end."""
        for wire in self.wires:
            wire.cut_off()
        pump(self.clock, *self.wires)
        while self.disk.work():
            pump(self.clock, *self.wires)
        for node in (self.here, self.there):
            node.journal.close()

    def end(self, node: ServiceNode, other: Principal, session: Session) -> LanxferProtocol:
        """One end of a connection, which knows ``other`` on the other."""
        return LanxferProtocol(
            session,
            node,
            self.disk,
            self.table,
            self.clock,
            lambda transport: other,
            proves=isinstance(session, NativeSession),
        )

    def pump(self) -> None:
        """Let everything happen that can without time passing."""
        pump(self.clock, self.wire)

    def send(
        self, path: str, data: bytes | MemorySource, args: Args | None = None
    ) -> Deferred[Receipt]:
        """Send bytes as a large file, in parts, whatever their size; see ``Client.send_file``.

        Not tried again after a break, and cancelled like that.
        """
        source = data if isinstance(data, MemorySource) else MemorySource(data)
        return Deferred.fromCoroutine(self._send(path, source, args or {}))

    async def _send(self, path: str, source: MemorySource, args: Args) -> Receipt:
        what = {"path": path, "size": source.size, "mtime_ns": source.mtime_ns, **args}
        exchange = self.client.ask("recv_file", what)
        offset = 0
        try:
            if source.size:
                go = await exchange.going()
                offset = source.prove(go.have)
                # Where this fails the answer says why.
                with suppress(LanxferError):
                    await exchange.send_body(self.disk, source, offset, lambda done: None)
            answer = (await exchange.answered()).args
        except CancelledError:
            exchange.cancel(Cancelled())
            raise
        already = answer.get("already") is True
        return Receipt(answer["stored"], answer["size"], answer["blake3"], already, offset)

    def result(self, waiting: Awaitable[T]) -> T:
        """What that fires with once nothing moves any more; raises what it fails with."""
        found: list[Any] = []
        as_deferred(waiting).addBoth(found.append)
        self.pump()
        if not found:
            raise AssertionError("it has not fired")
        if isinstance(found[0], Failure):
            found[0].raiseException()
        result: T = found[0]
        return result


class RawEnd(Protocol):
    """The other end of a connection, for tests that say the bytes themselves."""

    def __init__(self) -> None:
        self.received = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    @property
    def packets(self) -> list[tuple[Packet, bytes]]:
        """What was received of the native dialect: each packet with its body."""
        return split_packets(self.received)


def split_packets(stream: bytes) -> list[tuple[Packet, bytes]]:
    """A whole stream of the native dialect as packets and their bodies."""
    found = []
    while stream:
        line, _, stream = stream.partition(b"\n")
        packet = parse_packet(line)
        found.append((packet, stream[: packet.body]))
        stream = stream[packet.body :]
    return found


class Dialogue:
    """A raw end speaking to a real one; ``say`` bytes and see what ``there`` makes of them."""

    def __init__(self, pair: Pair | None = None, session: Session | None = None) -> None:
        self.pair = pair or Pair()
        self.pair.pump()  # what its own connection still had to say
        self.raw = RawEnd()
        session = session or NativeSession()
        self.server = self.pair.end(self.pair.there, self.pair.principal, session)
        self.wire = self.pair.wired(self.raw, self.server)

    def say(self, *data: bytes) -> None:
        """Write, and let everything happen that follows."""
        self.wire.a.write(b"".join(data))
        self.pump()

    def pump(self) -> None:
        """Let everything happen that can without time passing."""
        pump(self.pair.clock, self.wire)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a tenth of a second or the rest at a time, and everything happen."""
        clock = self.pair.clock
        until = clock.seconds() + seconds
        while clock.seconds() < until:
            clock.advance(min(0.1, until - clock.seconds()))
            self.pump()
