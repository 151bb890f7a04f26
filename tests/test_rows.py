from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.rows import Damaged, ended_in, opened, row_of, rows_with, sealed
from lanxfer.transfers import Direction, Kind, Snapshot, State, Together

_TEXT = st.text(st.characters())
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "direction": st.sampled_from(Direction),
    "kind": st.sampled_from(Kind),
    "state": st.sampled_from(State),
    **dict.fromkeys(("id", "peer"), st.text(min_size=1)),
    **dict.fromkeys(("path", "stored", "digest", "code", "reason", "request", "group"), _TEXT),
    **dict.fromkeys(("size", "done"), st.integers(0, 2**63 - 1)),
    **dict.fromkeys(("started", "changed"), st.floats(0, 2**40)),
    **dict.fromkeys(("secure", "already", "clear"), st.booleans()),
}
SNAPSHOTS = st.builds(Snapshot, **_FIELDS)

_FILE = st.tuples(st.integers(0, 999), _TEXT, st.integers(0, 2**21), st.text("0f", max_size=64))


@st.composite
def packs(draw: st.DrawFn) -> Together:
    common = draw(SNAPSHOTS)
    return Together(common, *zip(*draw(st.lists(_FILE, min_size=1, max_size=5)), strict=True))


class RowsTests:
    @given(made=SNAPSHOTS)
    def test_one(self, made: Snapshot) -> None:
        """Whatever a transfer was, its row says so, and is text for SQLite."""
        row = row_of(made)
        assert ended_in(opened(row)) == made
        for column in row[:-1]:
            column.encode()

    @given(made=packs())
    def test_many(self, made: Together) -> None:
        """So it is with those that came together."""
        row = row_of(made)
        found = ended_in(opened(row))
        assert isinstance(found, Together)
        assert list(found) == list(made)
        assert row[0] in rows_with(made[0].id) and row[1] == row_of(made.common)[1]

    @given(made=packs(), change=st.data())
    def test_columns(self, made: Together, change: st.DataObject) -> None:
        """A column that is missing or of another length is damage, and not guessed at."""
        row = row_of(made)
        content = json.loads(row[2])
        name = change.draw(st.sampled_from(["numbers", "sizes", "digests"]))
        if change.draw(st.booleans()):
            del content[name]
        else:
            content[name].pop()
        with pytest.raises(Damaged):
            ended_in(opened(sealed(*row[:2], content)))

    @pytest.mark.parametrize("change", [{"state": "dreaming"}, {"paths": 5}, {"kind": None}])
    def test_nonsense(self, change: dict[str, Any]) -> None:
        """A word that nobody knows is no reason to guess one."""
        common = Snapshot("a", Direction.IN, Kind.FILE, "peer:a", "p", 1, State.DONE)
        row = row_of(Together(common, [0], ["p"], [1], ["d"]))
        with pytest.raises(Damaged):
            ended_in({**json.loads(row[2]), **change})
