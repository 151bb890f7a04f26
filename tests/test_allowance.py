"""Rates, numbers at a time, and quotas."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.allowance import IDLE_MAX, Allowances, Bucket, Buckets, usage_rows
from lanxfer.errors import Overloaded, QuotaExceeded, RateLimited, TooLarge
from lanxfer.rights import NO_TERMS, Rate, Terms
from lanxfer.transfers import Direction, Kind, Snapshot, State, Usage

ME = "peer:a"


class Now:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def allowances(now: Now) -> Allowances:
    return Allowances(now)


def ended(id: str, size: int, state: State = State.DONE, **more: object) -> Snapshot:
    made = Snapshot(id, Direction.IN, Kind.FILE, ME, "a", size, state)
    return made._replace(**more)  # type: ignore[arg-type]


class BucketTests:
    @given(
        st.integers(1, 20),
        st.floats(0.01, 50),
        st.lists(st.floats(0, 5), min_size=1, max_size=200),
    )
    def test_never_more(self, burst: int, rate: float, waits: list[float]) -> None:
        """In any stretch of time there are no more than the burst and what the rate gives."""
        bucket, now, taken = Bucket(Rate(rate, burst), 0.0), 0.0, 0
        for wait in waits:
            now += wait
            taken += bucket.take(now)
            assert taken <= burst + now * rate + 1e-6

    def test_refills(self) -> None:
        """After a burst there is one more each time its share of a second has gone by."""
        bucket = Bucket(Rate(2.0, 3), 0.0)
        assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
        assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
        assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]

    def test_clock_goes_back(self) -> None:
        """A clock that goes back gives nothing, and takes nothing."""  # covers: C12
        bucket = Bucket(Rate(1.0, 2), 100.0)
        assert bucket.take(100.0)
        assert bucket.take(50.0)
        assert not bucket.take(50.0)
        assert bucket.take(51.0)

    def test_bounded(self, now: Now) -> None:
        """However many names there are, so many buckets are kept and no more."""
        buckets = Buckets(now)
        for number in range(IDLE_MAX + 100):
            assert buckets.take(str(number), "x", Rate(1.0, 1))
        assert len(buckets._buckets) == IDLE_MAX

    def test_changed_rate(self, now: Now) -> None:
        """A rate that the owner changed counts at once."""
        buckets = Buckets(now)
        assert buckets.take(ME, "x", Rate(1.0, 1))
        assert not buckets.take(ME, "x", Rate(1.0, 1))
        assert buckets.take(ME, "x", Rate(1.0, 2))


class RequestTests:
    def test_commands(self, allowances: Allowances, now: Now) -> None:
        """Commands come at their rate, files do not count, and others are not held up."""
        # covers: L09
        terms = Terms(commands=Rate(1.0, 3))
        for _ in range(3):
            allowances.enter(ME, "history", terms)
            allowances.leave(ME, "history")
        with pytest.raises(RateLimited):
            allowances.enter(ME, "pending_requests", terms)
        for _ in range(100):
            allowances.enter(ME, "recv_file", terms)
        allowances.enter("peer:b", "history", terms)
        now.now += 1
        allowances.enter(ME, "history", terms)

    @pytest.mark.parametrize("command", ["recv_file", "watch"])
    def test_at_a_time(self, allowances: Allowances, command: str) -> None:
        """So many at a time, each kind by itself; what is over makes room."""
        # covers: S1-14
        terms = Terms(transfers=2, requests=2, commands=None)
        for _ in range(2):
            allowances.enter(ME, command, terms)
        with pytest.raises(Overloaded):
            allowances.enter(ME, command, terms)
        allowances.enter(ME, "watch" if command == "recv_file" else "recv_file", terms)
        allowances.leave(ME, command)
        allowances.enter(ME, command, terms)
        assert allowances.under_way(ME) == 3

    def test_nothing_is_left(self, allowances: Allowances) -> None:
        """Nothing grows with what is over."""
        for number in range(100):
            allowances.enter(f"peer:{number}", "watch", NO_TERMS)
            allowances.leave(f"peer:{number}", "watch")
        assert not allowances._open


class OfferTests:
    def test_rate(self, allowances: Allowances, now: Now) -> None:
        """Offers beyond their rate are refused until time has gone by."""
        # covers: L06
        terms = Terms(new_offers=Rate(0.1, 2))
        allowances.offered(ME, "", terms)
        allowances.offered(ME, "", terms)
        with pytest.raises(RateLimited):
            allowances.offered(ME, "", terms)
        now.now += 10
        allowances.offered(ME, "", terms)

    def test_entries_of_one_send(self, allowances: Allowances) -> None:
        """One send has so many files and folders; another send begins anew."""
        # covers: S11
        terms = Terms(entries=3)
        for _ in range(3):
            allowances.offered(ME, "g1", terms)
        for _ in range(2):
            with pytest.raises(TooLarge):
                allowances.offered(ME, "g1", terms)
        allowances.offered(ME, "g2", terms)
        allowances.offered("peer:b", "g1", terms)

    # covers: L06 S11
    @pytest.mark.parametrize("burst", [None, 2, 5])
    @pytest.mark.parametrize("entries", [None, 1, 3, 4, 9])
    def test_together(self, burst: int | None, entries: int | None) -> None:
        """Of files that come together as many may as would one by one."""
        rate = None if burst is None else Rate(0.1, burst)
        terms = Terms(new_offers=rate, entries=entries)
        one_by_one, together = Allowances(lambda: 0.0), Allowances(lambda: 0.0)
        for count in (3, 1):
            may = 0
            for _ in range(count):
                with suppress(RateLimited, TooLarge):
                    one_by_one.offered(ME, "g", terms)
                    may += 1
            found, refusal = together.offered_together(ME, "g", terms, count)
            assert found == may
            assert (refusal is None) is (may == count)

    def test_fewer_entries_meanwhile(self, allowances: Allowances) -> None:
        """Where fewer may come than came already, none of those that come together may."""
        # covers: S11
        assert allowances.offered_together(ME, "g", Terms(entries=1000), 500) == (500, None)
        count, refusal = allowances.offered_together(ME, "g", Terms(entries=100), 1000)
        assert count == 0 and isinstance(refusal, TooLarge)


class QuotaTests:
    @pytest.mark.parametrize(
        ("size", "fits"), [(99, True), (100, True), (101, False), (2**62, False)]
    )
    def test_bytes(self, allowances: Allowances, size: int, fits: bool) -> None:
        """To the byte."""
        terms = Terms(quota=100)
        if fits:
            allowances.claim(ME, "1", size, terms)
        else:
            with pytest.raises(QuotaExceeded, match="100 are left"):
                allowances.claim(ME, "1", size, terms)

    def test_what_is_coming_counts(self, allowances: Allowances) -> None:
        """Two that fit one by one do not both get the same room."""
        # covers: S08
        terms = Terms(quota=100)
        allowances.claim(ME, "1", 60, terms)
        with pytest.raises(QuotaExceeded):
            allowances.claim(ME, "2", 60, terms)
        allowances.follow([ended("1", 60, State.INTERRUPTED)])
        allowances.claim(ME, "2", 60, terms)
        allowances.follow([ended("2", 60)])
        assert allowances.used == {ME: Usage(1, 60)}
        allowances.claim(ME, "3", 40, terms)
        with pytest.raises(QuotaExceeded):
            allowances.claim(ME, "4", 1, terms)
        allowances.claim("peer:b", "5", 100, terms)

    def test_files(self, allowances: Allowances) -> None:
        """Files are counted like bytes, empty ones too."""
        terms = Terms(files=2)
        allowances.claim(ME, "1", 0, terms)
        allowances.follow([ended("1", 0)])
        allowances.claim(ME, "2", 0, terms)
        with pytest.raises(QuotaExceeded, match="2 files"):
            allowances.claim(ME, "3", 0, terms)

    @pytest.mark.parametrize(
        "changes",
        [
            {"already": True},
            {"kind": Kind.FOLDER},
            {"kind": Kind.MESSAGE},
            {"direction": Direction.OUT},
            {"state": State.FAILED},
            {"state": State.CANCELLED},
        ],
    )
    def test_what_does_not_count(self, allowances: Allowances, changes: dict[str, object]) -> None:
        """Only a file that is new on this disk counts."""
        allowances.follow([ended("1", 10, **changes)])
        assert allowances.used == {}

    def test_forgotten(self, allowances: Allowances) -> None:
        """After that, it is counted from nothing."""
        allowances.follow([ended("1", 10)])
        allowances.forget(ME)
        assert allowances.used == {}
        allowances.forget(ME)

    def test_rows(self) -> None:
        """Whoever sent most comes first."""
        used = {"peer:a": Usage(1, 10), "peer:b": Usage(2, 20), "peer:c": Usage(1, 10)}
        assert [row["peer"] for row in usage_rows(used)] == ["peer:b", "peer:a", "peer:c"]
