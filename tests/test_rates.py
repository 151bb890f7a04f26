"""Token buckets in a tree, on a clock that a test turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from lanxfer.policy import LOCAL, Principal, Standing
from lanxfer.rates import BURST_TIME, IDLE_MAX, QUANTUM_MIN, Bucket, Rates, Speeds
from lanxfer.wire import limits

MIB = limits.MIB


def peer(name: str) -> Principal:
    return Principal(Standing.PEER, f"peer:{name}", name)


class BucketTests:
    def test_alone(self) -> None:
        """A bucket by itself says how much may go, and when there is room for more."""
        clock = Clock()  # covers: S2-68
        bucket = Bucket(clock.seconds, MIB)
        bucket.spend(bucket.quantum)
        assert bucket.room == pytest.approx(0)
        assert bucket.wait(MIB // 10) == pytest.approx(0.1, abs=1e-3)
        clock.advance(0.1)
        assert bucket.room == pytest.approx(MIB / 10, abs=10)
        bucket.spend(MIB)
        assert bucket.room < 0

    def test_copy_and_reset(self) -> None:
        """A copy has the rate and not the debt; forgotten, there is none here either."""
        bucket = Bucket(Clock().seconds, MIB)  # covers: S2-68
        bucket.spend(10 * MIB)
        other = bucket.clone()
        assert (other.rate, other.room) == (MIB, bucket.quantum)
        bucket.reset()
        assert bucket.room == other.room

    def test_no_limit(self) -> None:
        """Without a rate there is always room."""
        bucket = Bucket(Clock().seconds)
        bucket.spend(10**15)
        assert bucket.room == float("inf") and bucket.wait(10**15) == 0

    def test_rate_changes(self) -> None:
        """A new rate counts from then on; a debt at the old one does not take minutes."""
        clock = Clock()  # covers: S2-56
        bucket = Bucket(clock.seconds, 100 * MIB)
        bucket.spend(50 * MIB)
        bucket.rate = 10 * limits.KIB
        assert bucket.wait(bucket.quantum) <= 1.0
        bucket.rate = None
        assert bucket.wait(MIB) == 0

    @given(
        st.integers(limits.SPEED_LEAST, 200 * MIB),
        st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4 * MIB)), max_size=50),
    )
    def test_never_more(self, rate: int, steps: list[tuple[float, int]]) -> None:
        """In no stretch of time, however short, more goes than its seconds and one burst."""
        clock = Clock()
        bucket = Bucket(clock.seconds, rate)
        went: list[tuple[float, int]] = []
        for rest, wanted in steps:
            clock.advance(rest)
            size = min(wanted, int(bucket.room))
            if size > 0:
                bucket.spend(size)
                went.append((clock.seconds(), size))
        for begin in range(len(went)):
            total = 0
            for at, size in went[begin:]:
                total += size
                most = rate * (at - went[begin][0]) + max(rate * BURST_TIME, QUANTUM_MIN)
                assert total <= most + 1


class Hog:
    """A connection that always has more to send."""

    def __init__(self, clock: Clock, meter: Any, most: int = 10**12) -> None:
        self.clock = clock
        self.meter = meter
        self.most = most
        self.went = 0
        self.log: list[tuple[float, int]] = []
        self.turns = 0
        self.run()

    def run(self) -> None:
        self.turns += 1
        while self.most > self.went:
            size = min(self.meter.allowance, MIB, self.most - self.went)
            if size <= 0:
                self.meter.ask(self.run)
                return
            self.meter.spend(size)
            self.went += size
            self.log.append((self.clock.seconds(), size))


def advance(clock: Clock, seconds: float, step: float = 0.01) -> None:
    for _ in range(round(seconds / step)):
        clock.advance(step)


class RatesTests:
    def rates(self, **speeds: int) -> tuple[Clock, Rates]:
        clock: Any = Clock()
        return clock, Rates(clock, Speeds(**speeds))

    def test_one(self) -> None:
        """One connection gets what the limit says, and not a burst of it first."""
        clock, rates = self.rates(rate_out=MIB)  # covers: S2-55
        hog = Hog(clock, rates.join(peer("a"))[1])
        assert hog.went <= MIB * BURST_TIME
        advance(clock, 4)
        assert hog.went == pytest.approx(4 * MIB, rel=0.06)

    def test_two_share(self) -> None:
        """Two connections of two principals have half each."""
        clock, rates = self.rates(rate_out=MIB)  # covers: S2-55
        hogs = [Hog(clock, rates.join(peer(name))[1]) for name in "ab"]
        advance(clock, 10)
        for hog in hogs:
            assert hog.went == pytest.approx(5 * MIB, rel=0.1)

    def test_many_connections_get_no_more(self) -> None:
        """Turns are the principals' first: ten connections of one are worth one."""
        clock, rates = self.rates(rate_in=MIB)
        many = [Hog(clock, rates.join(peer("a"))[0]) for _ in range(10)]
        one = Hog(clock, rates.join(peer("b"))[0])
        advance(clock, 20)
        assert one.went == pytest.approx(sum(each.went for each in many), rel=0.1)
        assert max(h.went for h in many) - min(h.went for h in many) <= MIB * BURST_TIME

    def test_each_scope(self) -> None:
        """The least of the four limits on the way is the one that counts."""
        clock: Any = Clock()  # covers: S2-55 S2-50
        said = {"a": Speeds(rate_out=MIB), "b": Speeds(rate_out_each=MIB // 2), "c": Speeds()}
        rates = Rates(
            clock, Speeds(rate_out=8 * MIB, rate_out_each=2 * MIB), lambda who: said[who.label]
        )
        first = [Hog(clock, rates.join(peer("a"))[1]) for _ in range(2)]
        second = [Hog(clock, rates.join(peer("b"))[1]) for _ in range(2)]
        third = Hog(clock, rates.join(peer("c"))[1])
        advance(clock, 10)
        assert sum(each.went for each in first) == pytest.approx(10 * MIB, rel=0.06)
        assert [each.went for each in second] == [pytest.approx(5 * MIB, rel=0.06)] * 2
        assert third.went == pytest.approx(20 * MIB, rel=0.06)

    def test_directions_are_apart(self) -> None:
        """What is received does not slow down what is sent."""
        clock, rates = self.rates(rate_in=MIB)
        incoming, outgoing = rates.join(peer("a"))
        Hog(clock, incoming)
        free = Hog(clock, outgoing, 100 * MIB)
        assert free.went == 100 * MIB

    def test_change_while_running(self) -> None:
        """A limit that is changed, given or taken away holds for what is under way."""
        clock, rates = self.rates(rate_out=MIB)  # covers: S2-56
        hog = Hog(clock, rates.join(peer("a"))[1], 1000 * MIB)
        advance(clock, 2)
        before = hog.went
        rates.change(rate_out=4 * MIB)
        advance(clock, 2)
        assert hog.went - before == pytest.approx(8 * MIB, rel=0.1)
        rates.change(rate_out=None)
        advance(clock, 1)
        assert hog.went == 1000 * MIB

    def test_owner_changes_his_mind(self) -> None:
        """What is said of a principal is looked up again while it sends, within a second."""
        clock: Any = Clock()  # covers: S2-56
        said = [Speeds()]
        rates = Rates(clock, Speeds(rate_in=10 * MIB), lambda who: said[0])
        hog = Hog(clock, rates.join(peer("a"))[0])
        advance(clock, 1)
        said[0] = Speeds(rate_in=limits.SPEED_LEAST)
        advance(clock, 1)
        before = hog.went
        advance(clock, 10)
        assert hog.went - before == pytest.approx(10 * limits.SPEED_LEAST, rel=0.2)
        said[0] = Speeds()
        advance(clock, 3)
        assert hog.went - before > 10 * MIB

    def test_reading_is_counted_afterwards(self) -> None:
        """Who read more than it might have waits so much the longer."""
        clock, rates = self.rates(rate_in=MIB)
        meter = rates.join(peer("a"))[0]
        meter.spend(2 * MIB)
        assert meter.allowance == 0
        told: list[float] = []
        meter.ask(lambda: told.append(clock.seconds()))
        advance(clock, 4)
        assert told == [pytest.approx(2, abs=0.1)]

    def test_reconnecting_gains_nothing(self) -> None:
        """What a principal owes is remembered over the end of its connections."""
        _, rates = self.rates()
        said = Speeds(rate_in=MIB)
        rates.said_of = lambda who: said
        total = 0
        for _ in range(100):
            meters = rates.join(peer("a"))
            total += max(0, meters[0].allowance)
            meters[0].spend(meters[0].allowance)
            rates.leave(peer("a"), meters)
        assert total <= MIB * BURST_TIME

    def test_memory(self) -> None:
        """Principals come and go by the thousand; no more than so many are remembered."""
        clock, rates = self.rates(rate_in=MIB)
        for number in range(2 * IDLE_MAX):
            who = peer(str(number))
            rates.leave(who, rates.join(who))
        assert len(rates._idle) == IDLE_MAX
        assert not rates._shares and not rates.incoming.root.waiting
        assert clock.getDelayedCalls() == []

    def test_no_timer_without_need(self) -> None:
        """There is one timer while somebody waits, and none at all where there is no limit."""
        clock, rates = self.rates()
        free = Hog(clock, rates.join(peer("a"))[1], 100 * MIB)
        assert free.went == 100 * MIB
        assert clock.getDelayedCalls() == []
        rates.change(rate_out=MIB)
        hogs = [Hog(clock, rates.join(peer(str(n)))[1]) for n in range(50)]
        assert len(clock.getDelayedCalls()) == 1
        advance(clock, 10)
        # A turn is a quantum: nobody is woken for nothing.
        assert sum(each.turns for each in hogs) <= 50 + sum(len(each.log) for each in hogs) + 50

    def test_own_user(self) -> None:
        """The device's own user on the control socket is not slowed down."""
        clock, rates = self.rates(rate_in=MIB, rate_out=MIB)
        for meter in rates.join(LOCAL):
            assert Hog(clock, meter, 100 * MIB).went == 100 * MIB
        rates.leave(LOCAL, rates.join(LOCAL))

    def test_gone_while_waiting(self) -> None:
        """Whoever waits hears at once when its connection is over, and the others go on."""
        clock, rates = self.rates(rate_out=MIB)
        first, second = rates.join(peer("a")), rates.join(peer("b"))
        Hog(clock, first[1])
        other = Hog(clock, second[1])
        told: list[int] = []
        first[1].ask(lambda: told.append(1))
        rates.leave(peer("a"), first)
        assert told == [1]
        before = other.went
        advance(clock, 2)
        assert other.went - before == pytest.approx(2 * MIB, rel=0.2)

    def test_forgotten(self) -> None:
        """Who does not want its turn any more is not called, and keeps nobody waiting."""
        clock, rates = self.rates(rate_out=MIB)
        Hog(clock, rates.join(peer("a"))[1], MIB // 5)
        meter = rates.join(peer("b"))[1]
        go: Callable[[], object] = lambda: pytest.fail("called")  # noqa: E731
        meter.spend(MIB)
        meter.ask(go)
        meter.forget(go)
        advance(clock, 5)

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(limits.SPEED_LEAST, 50 * MIB),
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.sampled_from(["join", "leave", "rate"]),
                st.floats(0.001, 0.4),
                st.integers(limits.SPEED_LEAST, 50 * MIB),
            ),
            max_size=25,
        ),
    )
    def test_anything(self, rate: int, steps: list[tuple[str, str, float, int]]) -> None:
        """Whoever comes and goes, all together never have more, and nobody is left waiting."""
        clock: Any = Clock()
        rates = Rates(clock, Speeds(rate_out=rate))
        hogs: list[tuple[Principal, Any, Hog]] = []
        most = max(rate * BURST_TIME, QUANTUM_MIN)
        allowed = 0.0
        all_hogs: list[Hog] = []
        for name, what, rest, new in steps:
            if what == "join":
                meters = rates.join(peer(name))
                hogs.append((peer(name), meters, Hog(clock, meters[1])))
                all_hogs.append(hogs[-1][2])
            elif what == "leave" and hogs:
                who, meters, hog = hogs.pop(0)
                hog.most = 0
                rates.leave(who, meters)
            elif what == "rate":
                rates.change(rate_out=new)
                rate = new
                most = max(most, rate * BURST_TIME, QUANTUM_MIN)
            advance(clock, rest, 0.001)
            allowed += rate * max(0.001, round(rest / 0.001) * 0.001)
            assert sum(hog.went for hog in all_hogs) <= allowed + 2 * most + 1
        before = [hog.went for _, _, hog in hogs]
        rates.change(rate_out=None)
        for _, _, hog in hogs:
            hog.most = hog.went + MIB
        advance(clock, 1)
        assert all(hog.went > was for (_, _, hog), was in zip(hogs, before, strict=True))
