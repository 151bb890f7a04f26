"""Who receives at the same time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from lanxfer.places import Places


class Line:
    """Those that asked for a place, and who has one."""

    def __init__(self, places: int, share: int) -> None:
        self.places = Places(places, share)
        self.inside: list[str] = []

    def ask(self, name: str) -> Deferred[None]:
        asked = self.places.acquire(name)
        asked.addCallback(lambda _: self.inside.append(name))
        asked.addErrback(lambda why: why.trap(CancelledError) and None)
        return asked

    def leave(self, name: str) -> None:
        self.inside.remove(name)
        self.places.release(name)


class PlacesTests:
    def test_share(self) -> None:
        """One with much to send leaves room for the others, who do not wait behind it."""
        line = Line(4, 2)
        for name in "aaaaab":
            line.ask(name)
        assert line.inside == ["a", "a", "b"]
        line.leave("a")
        assert line.inside == ["a", "b", "a"]

    def test_full(self) -> None:
        """When all are taken the first that may have one gets the next."""
        line = Line(2, 2)
        for name in "abcab":
            line.ask(name)
        assert line.inside == ["a", "b"]
        line.leave("b")
        assert line.inside == ["a", "c"]

    def test_cancelled(self) -> None:
        """Who waits no more is passed over."""
        line = Line(1, 1)
        line.ask("a")
        second = line.ask("b")
        line.ask("c")
        second.cancel()
        line.leave("a")
        assert line.inside == ["c"]

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2))), st.integers(1, 4))
    def test_bounds(self, steps: list[tuple[str, int]], share: int) -> None:
        """Never more than there are, never more than a share; in the end nobody is left out."""
        line = Line(5, share)
        waiting = []
        for name, what in steps:
            if what == 2 and name in line.inside:
                line.leave(name)
            elif what == 1 and waiting:
                waiting.pop().cancel()
            else:
                waiting.append(line.ask(name))
            assert len(line.inside) <= 5
            assert all(line.inside.count(each) <= share for each in "abc")
        while line.inside:
            line.leave(line.inside[0])
        assert not line.places._waiting and not line.places._taken
        assert line.places._free == 5
