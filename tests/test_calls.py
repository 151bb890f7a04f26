"""Requests that are answered here."""

from __future__ import annotations

from typing import Any

import pytest
from blake3 import blake3
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from lanxfer.calls import IncomingCall
from lanxfer.deferreds import as_deferred
from lanxfer.errors import Cancelled, Lost, NotFound
from lanxfer.outbox import Outbox
from lanxfer.policy import Principal, Standing
from lanxfer.sessions.native import NativeSession
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.names import part_key, safe_path
from lanxfer.testing import MemoryDisk, memory_node, split_packets
from lanxfer.transfers import Conflict, Direction, Kind, Offer, State
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Do, End, Event, Go, Packet, Part, Window

DATA = b"hello, world"
DIGEST = blake3(DATA).hexdigest()


def outcome(deferred: Deferred[Any]) -> list[Any]:
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found


class Line:
    """A connection's outbox, with what was written on it."""

    def __init__(self) -> None:
        self.transport = StringTransport()
        self.session = NativeSession(known=True)
        self.outbox = Outbox(self.transport, self.session, lambda much: None, lambda: None)

    def hear(self, packet: Packet) -> None:
        self.session.receive(format_packet(packet)[:-1])

    @property
    def said(self) -> list[Packet]:
        return [packet for packet, _ in split_packets(self.transport.value())]


class Answering:
    """A call to recv_file whose bytes come when the test says so."""

    def __init__(self, standing: Standing = Standing.PEER, size: int = len(DATA)) -> None:
        self.line = Line()
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.node = memory_node("nas", self.clock, self.disk)
        self.moved: list[int] = []
        do = Do(2, "recv_file", {"path": "a", "size": size})
        self.line.hear(Do(1, "hello"))
        self.line.hear(do)
        who = Principal(standing, "peer:a", "a")
        self.call = IncomingCall(
            do, who, None, True, self.line.outbox, self.disk, self.clock, self.moved.append
        )
        self.transfer = self.node.registry.open(Direction.IN, Kind.FILE, "peer:a", "a", size)
        self.transfer.enter(State.ACCEPTED)
        self.transfer.enter(State.MOVING)
        self.call.began(self.transfer)
        offer = Offer("a", size, mtime_ns=1)
        key = part_key("peer:a", "a", size, 1)
        store: MemoryStore = self.node.store
        self.part = store.open_part(key, offer, safe_path("a"), Conflict.RENAME)

    def begin(self, have: tuple[tuple[int, str], ...] = ()) -> list[Any]:
        return outcome(as_deferred(self.call.begin(have, {"transfer": "x"})))

    def pour(self) -> list[Any]:
        self.part.begin(0)
        return outcome(as_deferred(self.call.pour(self.part, self.transfer)))

    def give(self, data: bytes, offset: int = 0) -> None:
        self.line.hear(Part(2, offset, len(data)))
        self.call.part(Part(2, offset, len(data)))
        self.call.received(data)

    def end(self) -> None:
        self.line.hear(End(2, len(DATA), DIGEST))
        self.call.end(End(2, len(DATA), DIGEST))


class ShieldTests:
    def test_result(self) -> None:
        """What is waited for comes through, good or bad."""
        call = Answering().call
        assert outcome(call.shield(succeed(5))) == [5]
        waiting: Deferred[int] = Deferred()
        found = outcome(call.shield(waiting))
        waiting.errback(NotFound())
        assert found[0].check(NotFound)

    def test_stopped(self) -> None:
        """Whoever waits when the call is stopped hears why; what was waited for is cancelled."""
        # covers: C06
        call = Answering().call
        waiting: Deferred[int] = Deferred()
        found = outcome(call.shield(waiting))
        inner = outcome(waiting)
        call.stop(Cancelled("enough"))
        assert found[0].value.reason == "enough"
        assert inner == [None]
        with pytest.raises(Cancelled):
            call.check()

    def test_stopped_before(self) -> None:
        """Who begins to wait after that need not wait, and nothing goes on in vain."""
        call = Answering().call
        call.stop(Lost())
        cancelled: list[Any] = []
        waiting: Deferred[int] = Deferred(cancelled.append)
        assert outcome(call.shield(waiting))[0].check(Lost)
        assert cancelled == [waiting]

    def test_coroutine(self) -> None:
        """A coroutine is cancelled where it waits, and may clean up."""
        call = Answering().call
        cleaned: list[type[BaseException]] = []

        async def work() -> None:
            try:
                await Deferred()
            except CancelledError as error:
                cleaned.append(type(error))
                raise

        found = outcome(call.shield(work()))
        call.stop(Lost())
        assert found[0].check(Lost)
        assert cleaned == [CancelledError]

    def test_first_reason(self) -> None:
        """A call is stopped once; what comes second changes nothing."""
        # covers: C07
        call = Answering().call
        found = outcome(as_deferred(call.stopped()))
        call.stop(Cancelled("first"))
        call.stop(Lost())
        assert found[0].value.reason == "first"

    def test_one_after_the_other(self) -> None:
        """A stop reaches whatever is waited for at that moment, and nothing that is over."""
        call = Answering().call
        assert outcome(call.shield(succeed(1))) == [1]
        waiting: Deferred[int] = Deferred()
        found = outcome(call.shield(waiting))
        call.stop(Lost())
        assert found[0].check(Lost)


class ReceivingTests:
    def test_whole(self) -> None:
        """Go, the parts, the end: the announced digest comes back, and the bytes are there."""
        answering = Answering()
        begun = answering.begin()
        assert answering.line.said == [Go(2, limits.WINDOW, (), {"transfer": "x"})]
        assert begun == []
        answering.give(DATA[:5])
        assert begun == [0]
        poured = answering.pour()
        answering.give(DATA[5:], 5)
        answering.end()
        assert poured == [DIGEST]
        assert answering.part.publish(DIGEST).path == "a"
        assert answering.node.store.files == {"a": DATA}

    @pytest.mark.parametrize("have", [(), ((len(DATA), DIGEST),), ((5, DIGEST),)])
    def test_end_without_a_part(self, have: tuple[tuple[int, str], ...]) -> None:
        """An end without a part stands for all where all is there, for nothing elsewhere."""
        # covers: J11
        answering = Answering()
        begun = answering.begin(have)
        answering.end()
        assert begun == [len(DATA) if have and have[0][0] == len(DATA) else 0]

    def test_stopped_before_go(self) -> None:
        """A call that was stopped says no go any more."""
        answering = Answering()
        answering.call.stop(Cancelled())
        assert answering.begin()[0].check(Cancelled)
        assert answering.line.said == []

    def test_stopped_before_the_first_part(self) -> None:
        """A sender that gives up before its first byte is answered what it gave up with."""
        # covers: C06
        answering = Answering()
        begun = answering.begin()
        answering.call.stop(Cancelled("no longer wanted"))
        assert begun[0].value.reason == "no longer wanted"

    def test_stopped_in_the_middle(self) -> None:
        """What had come is written before the stop shows; what still comes is dropped."""
        # covers: C06, B04
        answering = Answering()
        answering.begin()
        answering.give(DATA[:5])
        poured = answering.pour()
        answering.disk.held = True
        answering.give(DATA[5:8], 5)
        answering.call.stop(Lost())
        answering.give(DATA[8:], 8)
        assert poured == []
        answering.disk.work()
        assert poured[0].check(Lost)
        assert answering.part.position == 8

    def test_stopped_after_the_end(self) -> None:
        """After the last byte a stop is too late for the bytes; the command may still look."""
        # covers: C06
        answering = Answering()
        answering.begin()
        answering.give(DATA)
        poured = answering.pour()
        answering.end()
        answering.call.stop(Cancelled())
        assert poured == [DIGEST]
        with pytest.raises(Cancelled):
            answering.call.check()

    def test_weight(self) -> None:
        """What is told of the bytes in memory adds up, whenever the disk takes them."""
        # covers: J16
        for held in (False, True):
            answering = Answering(size=10 * limits.UNIT)
            answering.begin()
            answering.give(b"x" * 10)
            assert sum(answering.moved) == answering.call.weight == 10
            answering.pour()
            answering.disk.held = held
            answering.give(b"x" * (limits.UNIT - 10), 10)
            assert sum(answering.moved) == answering.call.weight
            assert answering.call.weight == (limits.UNIT if held else 0)
            answering.disk.work()
            assert sum(answering.moved) == answering.call.weight == 0

    def test_credit_comes_back(self) -> None:
        """What is on the disk is granted anew, a quarter of the window at a time."""
        answering = Answering(size=100 * limits.MIB)
        answering.begin()
        given = self.give_units(answering, 4 * limits.WINDOW)
        granted = [each.bytes for each in answering.line.said if isinstance(each, Window)]
        assert min(granted) >= limits.WINDOW // 4
        assert 0 <= given - sum(granted) < limits.WINDOW // 4

    def test_no_credit_while_paused(self) -> None:
        """A paused file is granted nothing more; when it goes on, all that is owed."""
        answering = Answering(size=100 * limits.MIB)
        answering.begin()
        assert answering.call.hungry
        answering.transfer.pause(True)
        assert not answering.call.hungry
        given = self.give_units(answering, limits.WINDOW)
        assert [each for each in answering.line.said if isinstance(each, Window)] == []
        answering.transfer.pause(False)
        assert answering.line.said[-1] == Window(2, given)

    def give_units(self, answering: Answering, size: int) -> int:
        """So many bytes, in units that are written at once; how many."""
        for offset in range(0, size, limits.UNIT):
            answering.give(b"x" * limits.UNIT, offset)
            if not offset:
                answering.pour()
        return offset + limits.UNIT

    def test_progress(self) -> None:
        """Progress counts what is on the disk."""
        answering = Answering()
        answering.begin()
        answering.give(DATA[:5])
        answering.pour()
        answering.clock.advance(1)
        assert answering.transfer.snapshot.done == 5

    def test_check_sum_of_tickets(self) -> None:
        """Where the dialect answers with a CRC-32 it is that of the whole body."""
        answering = Answering(Standing.TICKET)
        answering.begin()
        answering.give(b"hello")
        answering.give(b", world", 5)
        assert answering.call.crc == 0xFFAB723A

    def test_events(self) -> None:
        """What nobody asked for is left unsaid where the other side does not keep up."""
        # covers: B06
        answering = Answering()
        answering.call.tell({"n": 1})
        answering.line.outbox.pauseProducing()
        for _ in range(1000):
            answering.call.tell({"text": "x" * 1000})
        assert answering.line.said[0] == Event(2, {"n": 1})
        assert len(answering.line.said) < 40
