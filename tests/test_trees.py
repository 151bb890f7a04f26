"""How the files of a folder are put together for sending."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from lanxfer import trees
from lanxfer.errors import SourceUnreadable
from lanxfer.offering import Loaded
from lanxfer.transfers import Entry, Kind
from lanxfer.trees import LINE, together
from lanxfer.wire import limits

SIZES = st.lists(
    st.one_of(
        st.integers(0, 5000),
        st.integers(0, limits.INLINE_MAX),
        st.integers(0, limits.PACK_FILE_MAX),
        st.just(10 * limits.MIB),
    ),
    max_size=60,
)
LARGEST = st.sampled_from([100_000, limits.INLINE_MAX, limits.PACK_FILE_MAX])


def entries(sizes: list[int]) -> list[Entry]:
    return [Entry(Kind.FILE, f"d/{at}", f"/d/{at}", size) for at, size in enumerate(sizes)]


def load(entry: Entry, most: int) -> Loaded:
    """As if it had been read; a few cannot be."""
    if entry.size > most:
        return Loaded(entry)
    if entry.size % 100 == 99:
        raise SourceUnreadable("No.")
    return Loaded(entry, bytes(entry.size), "ab" * 32)


def batches(sizes: list[int], largest: int = limits.INLINE_MAX) -> list[list[Loaded]]:
    ahead = trees._Ahead(iter(entries(sizes)), largest)
    found: list[list[Loaded]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "load", load)
        while batch := ahead.read():
            found.append(batch)
        assert ahead.read() == []
    return found


class AheadTests:
    @given(sizes=SIZES, largest=LARGEST)
    def test_all(self, sizes: list[int], largest: int) -> None:
        """Everything comes once and in its order, and what comes together fits into one request."""
        found = batches(sizes, max(largest, limits.INLINE_MAX))
        names = [loaded.entry.path for batch in found for loaded in batch]
        assert names == [entry.path for entry in entries(sizes)]
        for batch in found:
            small = [loaded for loaded in batch if loaded.data is not None]
            weight = sum(len(each.data or b"") + len(each.entry.path) + LINE for each in small)
            assert weight <= limits.PACK_MAX or len(small) == 1
            pack = [each for each in small if each.entry.size <= largest]
            alone = len(pack) == 1 and pack[0].entry.size <= limits.INLINE_MAX
            assert together(batch, largest) == ([] if alone else pack)

    def test_below_a_share(self) -> None:
        """What goes below a shared folder goes by itself, and is read as it goes if it is large."""
        size = limits.PACK_FILE_MAX
        shared = [evolve(each, shared=True) for each in entries([10, 10, size, size])]
        ahead = trees._Ahead(iter(shared), size)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trees, "load", load)
            batch = ahead.read()
        assert [each.data is not None for each in batch] == [True, True, False, False]
        assert together(batch, size) == []

    def test_no_straggler(self) -> None:
        """Of files of one size none has to go by itself, but for the last."""
        sizes = [100_000] * 101
        assert [len(batch) for batch in batches(sizes)] == [10] * 10 + [1]

    def test_number(self) -> None:
        """Of the smallest there are no more together than one request carries."""
        assert max(map(len, batches([0] * 3000))) == limits.PACK_FILES
