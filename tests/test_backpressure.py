"""A connection is read exactly while nothing speaks against it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from lanxfer.backpressure import Backpressure, Reason
from lanxfer.turns import Turns
from lanxfer.wire import limits

STOPPED = (Reason.BODY, Reason.ANSWERS)
"""Those that somebody else gives and takes back."""

STEPS = st.one_of(
    st.tuples(st.just("stop"), st.sampled_from(STOPPED)),
    st.tuples(st.just("over"), st.sampled_from(STOPPED)),
    st.tuples(st.just("weigh"), st.integers(0, limits.UNWRITTEN_MAX)),
    st.tuples(st.just("written"), st.just(None)),
    st.tuples(st.just("load"), st.integers(1, limits.PACKS_MAX)),
    st.tuples(st.just("stored"), st.just(None)),
    st.tuples(st.just("turn"), st.just(None)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 1.0, limits.PACKS_PATIENCE])),
    st.tuples(st.just("line"), st.just(None)),
    st.tuples(st.just("more"), st.integers(1, 9)),
)


class Read(Backpressure):
    """One that notes what came."""

    line_limit = 100

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.came: list[bytes] = []
        self.rests = 0

    def lineReceived(self, line: bytes) -> None:
        self.came.append(line)

    def rested(self) -> None:
        self.rests += 1


class Metered:
    """A rate of so many bytes, until more are given."""

    slowest = 1

    def __init__(self, allowance: int) -> None:
        self.allowance = allowance
        self.asked: list[Callable[[], None]] = []

    def spend(self, size: int) -> None:
        self.allowance -= size

    def ask(self, go: Callable[[], None]) -> None:
        self.asked.append(go)

    def give(self, more: int) -> None:
        self.allowance += more
        while self.asked and self.allowance > 0:
            self.asked.pop()()


def made(turns: Turns | None = None) -> tuple[Clock, StringTransport, Read]:
    clock, transport = Clock(), StringTransport()
    read = Read(clock)
    read.makeConnection(transport)
    if turns is not None:
        read.take_turns(turns)
    return clock, transport, read


def reads(transport: StringTransport) -> bool:
    return bool(transport.producerState == "producing")


class ReasonTests:
    @given(st.lists(STEPS, max_size=40))
    def test_any_order(self, steps: list[tuple[str, object]]) -> None:
        """It reads while there is no reason and the disk is not behind, and again soon after."""
        # covers: J16
        clock, transport, read = made()
        read._meter = meter = Metered(9)  # type: ignore[assignment]
        reasons: set[object] = set()
        loads: list[int] = []
        weight = 0
        for verb, what in steps:
            if verb == "stop" and isinstance(what, Reason):
                reasons.add(what)
                read.stop_reading(what)
            elif verb == "over" and isinstance(what, Reason):
                reasons.discard(what)
                read.over(what)
            elif verb == "weigh" and isinstance(what, int):
                weight += what
                read.weigh(what)
            elif verb == "written":
                read.weigh(-weight)
                weight = 0
            elif verb == "load" and isinstance(what, int):
                loads.append(what)
                read.load(what)
            elif verb == "stored" and loads:
                read.load(-loads.pop())
            elif verb == "turn":
                read.turn_over()
                clock.advance(0)
            elif verb == "wait" and isinstance(what, float):
                clock.advance(what)
            elif verb == "line" and not read.paused:
                read.dataReceived(b"line\n")
            elif verb == "more" and isinstance(what, int):
                meter.give(what)
            much = weight + sum(loads)
            if reasons or meter.asked or much > limits.UNWRITTEN_MAX:
                assert not reads(transport)
            elif much <= limits.UNWRITTEN_MAX // 2 and sum(loads) <= limits.PACKS_MAX:
                clock.advance(0)
                assert reads(transport)
            assert read.paused is not reads(transport)
        for reason in STOPPED:
            read.over(reason)
        if weight:
            read.weigh(-weight)
        for each in loads:
            read.load(-each)
        meter.give(100)
        clock.advance(0)
        assert reads(transport)
        assert not clock.getDelayedCalls()

    def test_not_from_within(self) -> None:
        """What waits unread is not read from within the call that ends the reason."""
        clock, transport, read = made()
        read.stop_reading(Reason.BODY)
        read.dataReceived(b"one\ntwo\n")
        assert read.came == []
        read.over(Reason.BODY)
        assert read.came == []
        clock.advance(0)
        assert read.came == [b"one", b"two"]
        assert reads(transport) and read.rests == 1

    def test_another(self) -> None:
        """The end of one reason is not that of another."""
        clock, transport, read = made()
        read.stop_reading(Reason.ANSWERS)
        read.over(Reason.BODY)
        clock.advance(0)
        assert not reads(transport)

    def test_deaf(self) -> None:
        """One that is deaf is not read again."""
        clock, transport, read = made()
        read.stop_reading(Reason.BODY)
        read.deaf = True
        read.over(Reason.BODY)
        clock.advance(0)
        assert not reads(transport)


class RateTests:
    def test_until_there_is_more(self) -> None:
        """What was read too much is waited for, once."""
        clock, transport, read = made()
        read._meter = meter = Metered(5)  # type: ignore[assignment]
        read.dataReceived(b"one\n")
        assert reads(transport) and read.read_most() == 1
        read.dataReceived(b"two\n")
        read.dataReceived(b"four\n")
        assert not reads(transport) and len(meter.asked) == 1
        meter.give(1)
        clock.advance(0)
        assert not reads(transport)
        meter.give(9)
        clock.advance(0)
        assert reads(transport)
        assert read.came == [b"one", b"two", b"four"]

    def test_window(self) -> None:
        """A second's worth is on its way; neither more than where nothing is slow, nor nothing."""
        _, _, read = made()
        assert read.window == limits.WINDOW
        least, most = limits.WINDOW_LEAST, limits.WINDOW
        for slowest, window in ((5, least), (least + 1, least + 1), (most + 1, most)):
            read._meter = meter = Metered(5)  # type: ignore[assignment]
            meter.slowest = slowest
            assert read.window == window


class MemoryTests:
    def test_half_empty(self) -> None:
        """It goes on when half of what was too much is written, not at every bit."""
        # covers: J16
        clock, transport, read = made()
        read.weigh(limits.UNWRITTEN_MAX + 1)
        assert not reads(transport)
        read.weigh(-2)
        clock.advance(0)
        assert not reads(transport)
        read.weigh(1 - limits.UNWRITTEN_MAX // 2)
        clock.advance(0)
        assert reads(transport)

    def test_shared(self) -> None:
        """Two that have packs have half of the memory each, and all of it when one has gone."""
        turns = Turns(Clock())
        _, wire, one = made(turns)
        clock, transport, two = made(turns)
        most = limits.PACKS_MAX // 2
        one.load(most)
        two.load(most)
        assert reads(wire) and reads(transport)
        two.load(1)
        assert not reads(transport) and reads(wire)
        one.gone = True
        one.unload()
        two.weigh()
        clock.advance(0)
        assert reads(transport)

    def test_stored_after_the_end(self) -> None:
        """What is stored of one that has gone takes no share any more, and no clock."""
        turns = Turns(Clock())
        _, _, other = made(turns)
        other.load(1)
        clock, _, read = made(turns)
        read.load(limits.PACKS_MAX + 1)
        assert turns.share == limits.PACKS_MAX // 2
        read.deaf = read.gone = True
        read.unload()
        for change in (0, -1, 1, -limits.PACKS_MAX - 1):
            read.load(change)
            assert turns.share == limits.PACKS_MAX
            assert not clock.getDelayedCalls()

    def test_less_by_now(self) -> None:
        """What may be read again, but is too much until then, is not read."""
        # covers: J16
        clock, transport, read = made()
        read.stop_reading(Reason.BODY)
        read.over(Reason.BODY)
        read.load(limits.PACKS_MAX + 1)
        clock.advance(0)
        assert not reads(transport)
        clock.advance(limits.PACKS_PATIENCE)
        assert reads(transport)
