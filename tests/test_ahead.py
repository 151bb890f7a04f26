"""What is read together before it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from listed import entries, load

from lanxfer import ahead, offering
from lanxfer.ahead import EACH, ENOUGH, FIRST, LARGE_AMONG, LINE, PLENTY, TRIES, Ahead
from lanxfer.offering import Loaded
from lanxfer.transfers import Entry, Kind, Offer
from lanxfer.wire import limits
from lanxfer.wire.packs import format_manifest

SIZES = st.lists(
    st.one_of(
        st.integers(0, 5000),
        st.integers(0, limits.INLINE_MAX),
        st.integers(0, limits.PACK_MAX),
        st.just(10 * limits.MIB),
    ),
    max_size=60,
)
MOST = st.sampled_from([limits.INLINE_MAX, 400_000, ENOUGH, limits.PACK_MAX])


@pytest.fixture(autouse=True, scope="module")
def no_disk() -> Iterator[None]:
    """Nothing is read: the entries of these tests are on no disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "load_units", load)
        yield


def batches(sizes: list[int], most: int = ENOUGH, ask: bool = False) -> list[list[Loaded]]:
    reader = Ahead(iter(entries(sizes)), bytearray, most, ask)
    found: list[list[Loaded]] = []
    while batch := reader.read():
        found.append(batch)
    assert reader.read() == []
    return found


def together(batch: list[Loaded]) -> list[Loaded]:
    return Ahead(iter(()), bytearray).together(batch)


class AheadTests:
    @pytest.mark.parametrize("listed", [1000, 300_000])
    def test_grown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: int) -> None:
        """One that is too large for this by now goes as one that is large."""
        monkeypatch.setattr(ahead, "load_units", offering.load_units)
        path = tmp_path / "log"
        path.write_bytes(b"x" * (limits.PACK_MAX + 1))
        entry = offering.single(str(path))._replace(size=listed)
        (loaded,) = Ahead(iter([entry]), bytearray).read()
        assert loaded.entry == entry and not loaded.whole

    def test_first(self) -> None:
        """The first is small, so that its receiver soon has something to do."""
        reader = Ahead(iter(entries([4000] * 2000)), bytearray, limits.PACK_MAX, first=FIRST)
        found = []
        while batch := reader.read():
            found.append((sum(each.size + LINE for each in batch), len(batch)))
        *sizes, _ = found
        assert len(sizes) > 5
        for at, (size, files) in enumerate(sizes):
            left = min((FIRST << at) - size, PLENTY - size - EACH * files)
            assert 0 <= left < 20_000

    def test_ends_with_a_folder(self) -> None:
        """A folder begins a batch of its own where that before it is nearly full."""
        tree = []
        for folder in range(12):
            tree.append(Entry(Kind.FOLDER, f"{folder}", f"/{folder}"))
            some = [each._replace(path=f"{folder}/{each.path}") for each in entries([4000] * 100)]
            tree += some
        reader = Ahead(iter(tree), bytearray, limits.PACK_MAX)
        found = []
        while batch := reader.read():
            found.append([batch[0].entry.kind, len(batch)])
        assert found == [[Kind.FOLDER, 4 * 101]] * 3

    def test_folders_only(self) -> None:
        """Where there is nothing else there are as many of them as of empty files, nearly."""
        tree = [Entry(Kind.FOLDER, f"{number}", f"/{number}") for number in range(3000)]
        reader = Ahead(iter(tree), bytearray, limits.PACK_MAX)
        found = []
        while batch := reader.read():
            found.append(len(batch))
        assert found[0] == found[1] > 500

    def test_came(self) -> None:
        """Larger ones ask first after some were there in vain, until as many were not."""
        reader = Ahead(iter(()), bytearray)
        small, large = entries([10, limits.INLINE_MAX + 1])
        asked = []
        for already in (True, True, False, True, True, False, False, True, False, False, False):
            reader.came([(small, True), (large, already)])
            asked.append(reader.ask)
        assert asked == [False] * 4 + [True] * 5 + [False] * 2
        always = Ahead(iter(()), bytearray, ask=True)
        always.came([(large, False)])
        assert always.ask

    @given(order=st.permutations([True] * 3 + [False] * 3))
    def test_came_together(self, order: list[bool]) -> None:
        """Of those that arrived together it is their number that tells, not who was first."""
        reader = Ahead(iter(()), bytearray)
        (large,) = entries([limits.INLINE_MAX + 1])
        reader.came([(large, already) for already in order])
        assert not reader.ask
        reader.came([(large, already) for already in [*order, True, True, True]])
        assert reader.ask

    def test_measured(self) -> None:
        """More goes at once where it went fast; a slow moment takes half of that away."""
        reader = Ahead(iter(()), bytearray)
        found = []
        for size, seconds in ((100, 0.001), (limits.MIB, 0.01), (limits.MIB, 9), (limits.MIB, 9)):
            reader.measured(size, seconds)
            found.append(reader.most)
        assert found == [ENOUGH, limits.PACK_MAX, limits.PACK_MAX // 2, ENOUGH]

    @given(sizes=SIZES, most=MOST, ask=st.booleans())
    def test_all(self, sizes: list[int], most: int, ask: bool) -> None:
        """Everything comes once and in its order, and what comes together fits into one request."""
        found = batches(sizes, most, ask)
        names = [loaded.entry.path for batch in found for loaded in batch]
        assert names == [entry.path for entry in entries(sizes)]
        for batch in found:
            whole = [loaded for loaded in batch if loaded.whole]
            weight = sum(each.size + len(each.entry.path) + LINE for each in whole)
            assert weight <= most or len(whole) == 1
            assert all(each.size <= (limits.INLINE_MAX if ask else most) for each in whole)
            assert sum(not each.whole and each.entry.size > 0 for each in batch) <= LARGE_AMONG + 1
            alone = len(whole) == 1 and whole[0].entry.size <= limits.INLINE_MAX
            assert together(batch) == ([] if alone else whole)

    def test_below_a_share(self) -> None:
        """What goes below a shared folder goes by itself, and is read as it goes if it is large."""
        shared = [each._replace(shared=True) for each in entries([10, 10, 300_000, 300_000])]
        batch = Ahead(iter(shared), bytearray).read()
        assert [each.whole for each in batch] == [True, True, False, False]
        assert together(batch) == []

    def test_no_straggler(self) -> None:
        """Of files of one size none has to go by itself, but for the last."""
        sizes = [100_000] * 101
        assert [len(batch) for batch in batches(sizes)] == [10] * 10 + [1]
        assert [len(batch) for batch in batches(sizes, limits.PACK_MAX)] == [40, 40, 21]

    def test_units(self) -> None:
        """What small files there are together has room in one unit of memory, or in four."""
        for each, most, units in ((4096, ENOUGH, 1), (30_000, ENOUGH, 1), (30_000, PLENTY, 4)):
            for batch in batches([each] * 2000, most):
                size = sum(loaded.size for loaded in batch) + LINE * len(batch)
                assert size <= units * limits.UNIT

    def test_number(self) -> None:
        """Of the smallest there are no more together than one request carries."""
        assert 700 < max(map(len, batches([0] * 3000, limits.PACK_MAX))) <= limits.PACK_FILES
        assert PLENTY // EACH <= limits.PACK_FILES

    @pytest.mark.parametrize("letter", ["a", '"', "д", "\N{GRINNING FACE}"])
    def test_long_names(self, letter: str) -> None:
        """However long the names are, and whatever is in them, the manifest is not too large."""
        files = [each._replace(path=f"{each.path}{letter * 200}") for each in entries([10] * 3000)]
        reader = Ahead(iter(files), bytearray, limits.PACK_MAX)
        count = 0
        while batch := reader.read():
            offers = [Offer(each.entry.path, 10, digest="a" * 64)[:6] for each in batch]
            assert len(format_manifest(offers)) <= limits.MANIFEST_MAX
            count += len(batch)
        assert count == 3000

    @pytest.mark.parametrize("size", [1000, 300_000])
    def test_again(self, size: int) -> None:
        """What did not arrive with others is read once more, and goes by itself in the end."""
        reader = Ahead(iter(entries([size] * 3)), bytearray)
        for tries in range(TRIES):
            batch = reader.read()
            assert [each.entry.path for each in batch] == ["d/0", "d/1", "d/2"]
            assert reader.together(batch) == batch
            assert reader.read() == [] and not reader.more()
            for each in batch:
                each.unsure = True  # it was lost
                reader.again(each)
            assert reader.more(), tries
        batch = [loaded for _ in range(3) for loaded in reader.read()]
        assert reader.together(batch) == []
        assert [each.whole for each in batch] == [size <= limits.INLINE_MAX] * 3
        assert all(each.unsure for each in batch)

    def test_sure(self) -> None:
        """What was refused, alone or with others, or was never sent, has not arrived."""
        reader = Ahead(iter(entries([10] * 2)), bytearray)
        first, second = reader.read()
        reader.again(first, alone=True)
        reader.again(second)
        assert [each.unsure for each in (first, second, *reader.read())] == [False] * 4
