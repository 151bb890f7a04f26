from __future__ import annotations

from lanxfer.transfers import Direction, Kind, Snapshot, State, Together, Usage, used_by

COMMON = Snapshot(
    "1a2b",
    Direction.IN,
    Kind.FILE,
    "peer:a",
    "",
    0,
    State.DONE,
    started=1.0,
    changed=2.0,
    group="g",
    already=False,
)
TWO = Together(COMMON, [0, 7], ["a/b", "c"], [3, 4], ["ab", "cd"])


class TogetherTests:
    def test_snapshots(self) -> None:
        """It is a sequence of what its files would be one by one."""
        first = COMMON._replace(id="1a2b-0", path="a/b", size=3, done=3, stored="a/b", digest="ab")
        second = COMMON._replace(id="1a2b-7", path="c", size=4, done=4, stored="c", digest="cd")
        assert list(TWO) == [first, second]
        assert (len(TWO), TWO[-1], TWO[:1]) == (2, second, [first])
        assert list(reversed(TWO)) == [second, first]
        assert TWO[0] is TWO[0]

    def test_used(self) -> None:
        """Those that are new here count, with others of the same principal."""
        there = Together(COMMON._replace(already=True), [0], ["a"], [5], ["ab"])
        sent = Together(COMMON._replace(direction=Direction.OUT), [0], ["a"], [6], ["ab"])
        assert used_by([TWO, TWO[0], there, sent]) == {"peer:a": Usage(3, 10)}
