"""The first of a period one by one, the rest as a sum."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from lanxfer.sparing import Sparing


class SparingTests:
    @given(st.lists(st.sampled_from(["spend", "begin", "wait"]), max_size=60))
    def test_never_more(self, steps: list[str]) -> None:
        """So many lines a period and no more; a sum for each period in which anything happened."""
        clock, ends = Clock(), []
        sparing = Sparing(clock, 10.0, 3, lambda: ends.append(clock.seconds()))
        lines, since, periods = 0, None, 0
        for step in steps:
            if step == "wait":
                clock.advance(4.0)
                if since is not None and clock.seconds() - since >= 10.0:
                    since = None
                    periods += 1
                continue
            if since is None:
                since, lines = clock.seconds(), 0
            if step == "begin":
                sparing.begin()
            else:
                lines += sparing.spend()
                assert lines <= 3
        assert len(ends) == periods
        sparing.stop()
        sparing.stop()
        assert len(ends) == periods + (since is not None)
        assert not clock.getDelayedCalls()

    def test_first_have_lines(self) -> None:
        """As many as may be, from the first one on, and again in the next period."""
        clock = Clock()
        sparing = Sparing(clock, 10.0, 2, lambda: None)
        assert [sparing.spend() for _ in range(4)] == [True, True, False, False]
        clock.advance(10.0)
        assert [sparing.spend() for _ in range(3)] == [True, True, False]
        sparing.stop()
