"""Requests on one connection: one that is answered here, and one that is waited for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from blake3 import blake3
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from lanxfer.calls import Answer, Exchange, IncomingCall, as_deferred, public, settled
from lanxfer.errors import (
    BadHeader,
    Cancelled,
    LanxferError,
    Lost,
    NotFound,
    ShortBody,
    SourceChanged,
)
from lanxfer.outbox import Outbox
from lanxfer.policy import Principal, Standing
from lanxfer.sessions.native import NativeSession
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.names import part_key, safe_path
from lanxfer.testing import MemoryDisk, MemorySource, memory_node, split_packets
from lanxfer.transfers import Conflict, Direction, Kind, Offer, State
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Cancel, Do, End, Event, Go, Ok, Packet, Part, Window

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


class PublicTests:
    @pytest.mark.parametrize("within", [True, False])
    def test_cancelled(self, within: bool) -> None:
        """From outside or by something that it calls: it hears of it, once, and says so."""
        start: Deferred[None] = Deferred()
        waiting: Deferred[None] = Deferred()
        telling: Deferred[None] = Deferred()
        heard = []

        async def work() -> None:
            await start
            if within:
                cancel()
            try:
                await waiting
            except CancelledError:
                heard.append("cancelled")
                await telling  # the other side gets to know of it
                heard.append("told")
                raise

        result = public(work())
        cancel = result.cancel
        start.callback(None)
        if not within:
            cancel()
        found = outcome(result)
        assert heard == ["cancelled"] and found == []
        telling.callback(None)
        assert heard == ["cancelled", "told"]
        assert found[0].check(Cancelled)

    def test_result(self) -> None:
        """Without a cancel nothing is changed: values, errors, what was there already."""

        async def work(error: Exception | None) -> int:
            value = await succeed(1)
            try:
                await fail(ValueError())
            except ValueError:
                value += 1
            if error is not None:
                raise error
            return value

        assert outcome(public(work(None))) == [2]
        assert outcome(public(work(NotFound())))[0].check(NotFound)


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


class Asking:
    """A request to take a file, on its way."""

    def __init__(self, data: bytes = DATA) -> None:
        self.line = Line()
        self.disk = MemoryDisk(held=True)
        self.source = MemorySource(data)
        self.line.session.send(Do(1, "recv_file", {"path": "a", "size": len(data)}))
        self.exchange = Exchange(1, self.line.outbox, None)
        self.progress: list[int] = []

    def go(self, window: int = 1000) -> None:
        self.line.hear(Go(1, window))
        self.exchange.go(Go(1, window))

    def grant(self, size: int) -> None:
        self.line.hear(Window(1, size))
        self.exchange.window(Window(1, size))

    def send(self) -> list[Any]:
        return outcome(self.exchange.send_body(self.disk, self.source, 0, self.progress.append))

    def run(self) -> None:
        while self.disk.work():
            pass


class AnsweredTests:
    def test_each_has_its_own(self) -> None:
        """Everybody who waits hears the answer, whoever came late too."""
        exchange = Exchange(1, None, None)
        first = [outcome(exchange.answered()) for _ in range(2)]
        exchange.end(Answer({"n": 1}, b"body"))
        assert [*first, outcome(exchange.answered())] == [[Answer({"n": 1}, b"body")]] * 3

    def test_refusal(self) -> None:
        """A refusal fails them all, those who wait for the go too."""
        exchange = Exchange(1, None, None)
        waiting = [outcome(exchange.answered()), outcome(exchange.going())]
        exchange.end(NotFound("there"))
        assert [each[0].value.reason for each in waiting] == ["there", "there"]

    def test_one_answer(self) -> None:
        """What comes after the answer changes nothing."""
        # covers: J13
        exchange = Exchange(1, None, None)
        exchange.end(Answer({}))
        exchange.end(Lost())
        assert outcome(exchange.answered()) == [Answer({})]

    def test_answer_without_go(self) -> None:
        """An answer where a go was due makes no sense."""
        # covers: J13
        exchange = Exchange(1, None, None)
        going = outcome(exchange.going())
        exchange.end(Answer({}))
        assert going[0].check(BadHeader)

    def test_events(self) -> None:
        """Events go to whoever asked for them, and to nobody else."""
        heard: list[Any] = []
        Exchange(1, None, heard.append).event(Event(1, {"n": 1}))
        Exchange(1, None, None).event(Event(1, {"n": 2}))
        assert heard == [{"n": 1}]

    @pytest.mark.parametrize("wait", ["answered", "going"])
    def test_cancelled(self, wait: str) -> None:
        """Cancelling whoever waits tells the other side, once."""
        # covers: C07
        asking = Asking()
        waiting = getattr(asking.exchange, wait)()
        found = outcome(waiting)
        waiting.cancel()
        assert found[0].check(CancelledError)
        asking.exchange.cancel(Cancelled())
        assert [type(each) for each in asking.line.said] == [Cancel]
        asking.go()
        asking.exchange.end(Cancelled())

    def test_our_own_reason(self) -> None:
        """The answer to a cancel says what this side gave up for."""
        asking = Asking()
        found = outcome(asking.exchange.answered())
        asking.exchange.cancel(SourceChanged("mine"))
        assert asking.line.said == [Cancel(1, "mine", "source-changed")]
        asking.exchange.end(Cancelled("theirs"))
        assert found[0].value.reason == "mine"

    def test_stored_before_the_cancel(self) -> None:
        """Where the file was stored before the cancel was read the answer is good all the same."""
        # covers: C06
        asking = Asking()
        found = outcome(asking.exchange.answered())
        asking.exchange.cancel(Cancelled())
        asking.exchange.end(Answer({"stored": "a"}))
        assert found == [Answer({"stored": "a"})]

    def test_cancel_after_the_answer(self) -> None:
        """What is answered cannot be cancelled, and nothing is said."""
        # covers: C07
        asking = Asking()
        asking.exchange.end(Answer({}))
        asking.exchange.cancel(Cancelled())
        assert asking.line.said == []

    def test_cancel_while_the_body_of_the_answer_comes(self) -> None:
        """Giving up after the answer's header was read says nothing that nobody waits for."""
        # covers: C07
        line = Line()
        line.session.send(Do(1, "app.get"))
        exchange = Exchange(1, line.outbox, None)
        line.hear(Ok(1, {}, 5))
        exchange.cancel(Cancelled())
        assert line.said == []


class BodyTests:
    def test_whole(self) -> None:
        """The parts, then the end with the digest; then the answer is still to come."""
        asking = Asking()
        asking.go()
        sent = asking.send()
        asking.run()
        assert asking.line.said == [Part(1, 0, len(DATA)), End(1, len(DATA), DIGEST)]
        assert (sent, asking.progress) == ([DIGEST], [len(DATA)])
        assert asking.source.closed == 1

    def test_window_of_exactly_the_file(self) -> None:
        """A receiver that grants no byte more than the file has gets its end."""
        asking = Asking()
        asking.go(len(DATA))
        asking.send()
        asking.run()
        assert asking.line.said[-1] == End(1, len(DATA), DIGEST)

    def test_grant_before_the_body(self) -> None:
        """Credit that comes while this side still compares what is there is not lost."""
        asking = Asking()
        asking.go(0)
        asking.grant(5)
        asking.send()
        asking.run()
        assert asking.line.said == [Part(1, 0, 5)]
        asking.grant(100)
        asking.run()
        assert asking.line.said[-1] == End(1, len(DATA), DIGEST)

    def test_paused_before_the_body(self) -> None:
        """A file that was held back before its first byte waits until it may go on."""
        asking = Asking()
        asking.go()
        asking.exchange.pause(True)
        asking.send()
        asking.run()
        assert asking.line.said == []
        asking.exchange.pause(False)
        asking.run()
        assert asking.line.said[-1] == End(1, len(DATA), DIGEST)

    @pytest.mark.parametrize("when", ["before", "reading", "after"])
    @pytest.mark.parametrize("error", [NotFound("full"), Lost()])
    def test_refused(self, when: str, error: LanxferError) -> None:
        """A refusal stops the file wherever it is; nothing is written after it."""
        # covers: C06, J09
        asking = Asking(DATA * 100_000)
        asking.go(2**40)
        if when == "before":
            asking.exchange.end(error)
        sent = asking.send()
        if when == "after":
            asking.disk.work(1)
        if when != "before":
            asking.exchange.end(error)
        before = len(asking.line.said)
        asking.run()
        assert sent[0].value is error
        assert len(asking.line.said) == before
        assert asking.source.closed == 1

    def test_answered_too_early(self) -> None:
        """A good answer in the middle of the body is not believed."""
        # covers: J13
        asking = Asking()
        asking.go()
        sent = asking.send()
        asking.exchange.end(Answer({}))
        asking.run()
        assert sent[0].check(BadHeader)

    def test_source_changed(self) -> None:
        """A file that changed while it was sent is cancelled with that reason, and not ended."""
        # covers: S10
        asking = Asking()
        asking.go()
        sent = asking.send()
        asking.source.data = b"x" * len(DATA)
        asking.run()
        assert sent[0].check(SourceChanged)
        last = asking.line.said[-1]
        assert isinstance(last, Cancel)
        assert last.code == "source-changed"

    @pytest.mark.parametrize("reading", [False, True])
    def test_cancelled(self, reading: bool) -> None:
        """Giving up in the middle says so to the other side, as cancelled, and nothing after it."""
        # covers: C06
        asking = Asking()
        asking.go(0)
        sent = asking.send()
        if not reading:
            asking.run()
        asking.exchange.cancel(Cancelled("enough"))
        asking.run()
        asking.grant(100)
        asking.run()
        assert asking.line.said == [Cancel(1, "enough", "cancelled")]
        assert sent[0].value.reason == "enough"
        assert asking.source.closed == 1

    def test_deferred_cancelled(self) -> None:
        """Cancelling the sending itself reads as cancelled on the other side."""
        # covers: C06
        asking = Asking()
        asking.go(0)
        sending = asking.exchange.send_body(asking.disk, asking.source, 0, lambda done: None)
        found = outcome(sending)
        asking.run()
        sending.cancel()
        assert found[0].check(Cancelled)
        [said] = asking.line.said
        assert isinstance(said, Cancel)
        assert said.code == "cancelled"

    def test_cancelled_before(self) -> None:
        """What was given up before its body began sends none, and closes its file."""
        asking = Asking()
        asking.go()
        asking.exchange.cancel(Cancelled())
        sent = asking.send()
        asking.run()
        assert sent[0].check(Cancelled)
        assert [type(each) for each in asking.line.said] == [Cancel]
        assert asking.source.closed == 1


class WaitingTests:
    @pytest.mark.parametrize("how", ["callback", "errback", "cancel"])
    def test_settled(self, how: str) -> None:
        """Whoever waits for the end of something leaves its result alone."""
        running: Deferred[int] = Deferred()
        told = outcome(settled(running))
        results: list[Any] = []
        running.addBoth(results.append)
        ends: dict[str, Callable[[], object]] = {
            "callback": lambda: running.callback(5),
            "errback": lambda: running.errback(ShortBody()),
            "cancel": running.cancel,
        }
        ends[how]()
        assert told == [None]
        assert len(results) == 1

    def test_as_deferred(self) -> None:
        """A Deferred stays what it is, a coroutine becomes one."""
        done = succeed(1)
        assert as_deferred(done) is done

        async def five() -> int:
            return 5

        assert outcome(as_deferred(five())) == [5]
