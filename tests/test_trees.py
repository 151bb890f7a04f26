"""How the files of a folder are put together for sending."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed

from lanxfer import trees
from lanxfer.disk import Disk, Units
from lanxfer.errors import SourceUnreadable, TooLarge
from lanxfer.offering import Loaded, at_once, load_units, single
from lanxfer.transfers import Conflict, Entry, Kind, Receipt
from lanxfer.trees import ENOUGH, LINE, Packs, Sent, send_tree, together
from lanxfer.wire import limits

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


def entries(sizes: list[int]) -> list[Entry]:
    return [Entry(Kind.FILE, f"d/{at}", f"/d/{at}", size) for at, size in enumerate(sizes)]


def load(entry: Entry, most: int, take: Callable[[], bytearray]) -> Loaded:
    """As if it had been read; a few cannot be."""
    if entry.size > most:
        return Loaded(entry)
    if entry.size % 100 == 99:
        raise SourceUnreadable("No.")
    if entry.size > ENOUGH:
        return Loaded(entry, None, "ab" * 32, [memoryview(bytes(entry.size))])
    return Loaded(entry, bytes(entry.size), "ab" * 32)


@pytest.fixture(autouse=True, scope="module")
def no_disk() -> Iterator[None]:
    """Nothing is read: the entries of these tests are on no disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trees, "load_units", load)
        yield


def batches(sizes: list[int], most: int = ENOUGH, ask: bool = False) -> list[list[Loaded]]:
    ahead = trees._Ahead(iter(entries(sizes)), bytearray, most, ask)
    found: list[list[Loaded]] = []
    while batch := ahead.read():
        found.append(batch)
    assert ahead.read() == []
    return found


class AheadTests:
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
            assert sum(not each.whole and each.entry.size > 0 for each in batch) <= 3
            alone = len(whole) == 1 and whole[0].entry.size <= limits.INLINE_MAX
            assert together(batch) == ([] if alone else whole)

    def test_below_a_share(self) -> None:
        """What goes below a shared folder goes by itself, and is read as it goes if it is large."""
        shared = [evolve(each, shared=True) for each in entries([10, 10, 300_000, 300_000])]
        batch = trees._Ahead(iter(shared), bytearray, ENOUGH).read()
        assert [each.whole for each in batch] == [True, True, False, False]
        assert together(batch) == []

    def test_no_straggler(self) -> None:
        """Of files of one size none has to go by itself, but for the last."""
        sizes = [100_000] * 101
        assert [len(batch) for batch in batches(sizes)] == [10] * 10 + [1]
        assert batches(sizes, limits.PACK_MAX) == batches(sizes)

    def test_one_unit(self) -> None:
        """What small files there are together has room in one unit of memory."""
        for batch in batches([4096] * 1000, limits.PACK_MAX):
            assert sum(each.size for each in batch) + LINE * len(batch) <= limits.UNIT

    def test_number(self) -> None:
        """Of the smallest there are no more together than one request carries."""
        assert max(map(len, batches([0] * 3000))) == limits.PACK_FILES


class AtOnceTests:
    @pytest.mark.parametrize(
        ("rate", "most"),
        [
            (None, limits.PACK_MAX),
            (100.0 * limits.MIB, limits.PACK_MAX),
            (10.0 * limits.MIB, 2 * limits.MIB),
            (1.25 * limits.MIB, limits.INLINE_MAX),
            (1.2 * limits.MIB, 0),
            (1.0, 0),
        ],
    )
    def test_fifth(self, rate: float | None, most: int) -> None:
        """A fifth of a second's worth, if small files have room in that."""
        assert at_once(rate) == most


class Sender:
    """Takes what is sent, at a rate in bytes a second; ``seconds`` is its clock."""

    units = Units()

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.now = 0.0
        self.sent: list[tuple[str, list[int]]] = []
        self.busy: dict[int, float] = {}  # for how long longer, at which request
        self.already = False

    def seconds(self) -> float:
        return self.now

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        return succeed(function())

    def take(self, how: str, pack: Sequence[Loaded]) -> list[Receipt]:
        self.now += self.busy.get(len(self.sent), 0)
        sizes = [loaded.entry.size for loaded in pack]
        self.sent.append((how, sizes))
        self.now += sum(sizes) / self.rate
        return [Receipt(each.entry.path, each.entry.size, "", self.already) for each in pack]

    async def alone(self, loaded: Loaded, transfer: Any, conflict: Conflict | None) -> Receipt:
        return self.take("alone", [loaded])[0]

    async def pack(
        self, pack: Sequence[Loaded], conflict: Conflict | None, group: str
    ) -> list[Any]:
        return self.take("pack", pack)

    def send(self, sizes: list[int], most: int = limits.PACK_MAX) -> list[tuple[str, list[int]]]:
        """How they went."""
        packs, disk = Packs(self.pack, most, self.seconds), cast(Disk, self)
        work = send_tree(
            self.alone, packs, disk, iter(entries(sizes)), lambda *_: cast(Any, None), None, None
        )
        done: list[Sent] = []
        Deferred.fromCoroutine(work).addCallback(done.append)
        assert done and done[0].files == len(sizes) and not done[0].failed
        return self.sent


MIB = limits.MIB


class HowManyTests:
    def test_fast(self) -> None:
        """Files of some MiB go together as soon as one was seen to pass in no time."""
        sent = Sender(200 * MIB).send([3 * MIB, 1_500_000, 1_500_000, 900_000] * 6)
        assert sent[:2] == [("alone", [3 * MIB]), ("alone", [1_500_000])]
        assert {how for how, _ in sent[6:]} == {"pack"}
        assert ("pack", [900_000, 3 * MIB]) in sent

    def test_slow(self) -> None:
        """Where a second brings little, what goes together becomes less, and progress shows."""
        sent = Sender(2 * MIB).send([100_000] * 100)
        assert sent[0] == ("pack", [100_000] * 10)
        assert all(len(sizes) <= 4 for _, sizes in sent[8:])
        sent = Sender(2 * MIB).send([600_000] * 20)
        assert sent[0][0] == "pack" and all(each == ("alone", [600_000]) for each in sent[8:])

    def test_very_slow(self) -> None:
        """It is never less than a small file may have."""
        sent = Sender(1000).send([100_000] * 60)
        assert sent[-2] == ("pack", [100_000] * 2)

    def test_busy_disk(self) -> None:
        """A disk that was busy for once costs little, and not for long."""
        sender = Sender(200 * MIB)
        sender.busy[8] = 10.0
        sent = sender.send([3 * MIB] * 24)
        hows = [how for how, _ in sent]
        assert hows[5:8] == ["pack"] * 3 and hows[-10:] == ["pack"] * 10
        assert "alone" in hows[9:]

    def test_there_already(self) -> None:
        """Where it was there, nothing is known of how fast it goes, and larger ones ask first."""
        sender = Sender(200 * MIB)
        sender.already = True
        assert {how for how, _ in sender.send([3 * MIB] * 10)} == {"alone"}
        sender.sent = []
        sent = sender.send([500_000] * 20 + [1000] * 4)
        assert sent[0][0] == "pack" and sent[-1] == ("pack", [1000] * 4)
        assert sum(how == "alone" for how, _ in sent) >= 14

    def test_most(self) -> None:
        """However fast it is: no more than the other side takes."""
        sent = Sender(1000 * MIB).send([300_000] * 20 + [800_000], 700_000)
        assert sorted(sent) == [("alone", [800_000])] + [("pack", [300_000] * 2)] * 10


class UnitsTests:
    @pytest.mark.parametrize("listed", [0, 300_000, 3 * MIB])
    def test_read(self, tmp_path: Path, listed: int) -> None:
        """A file of some MiB lies in units; others are read as ever, or not at all."""
        path, units = tmp_path / "x", Units()
        for size, whole, pieces in (
            (3 * MIB - 5, True, 3),
            (limits.PACK_MAX, True, 4),
            (limits.PACK_MAX + 1, False, 0),
            (MIB, True, 0),
            (0, True, 0),
        ):
            path.write_bytes(b"x" * size)
            entry = single(str(path))
            # As it was when the folder was listed.
            before = evolve(entry, size=listed, executable=True)
            if size > limits.PACK_MAX and listed <= MIB:
                with pytest.raises(TooLarge):
                    load_units(before, limits.PACK_MAX, units.take)
                continue
            found = load_units(before, limits.PACK_MAX, units.take)
            assert found.entry == entry
            assert (found.whole, len(found.units)) == (whole, pieces if listed > MIB else 0)
            assert found.size == (size if whole else 0)
            assert (found.digest is not None) == whole
            assert b"".join([found.data or b"", *found.units]) == b"x" * found.size

    def test_not_read(self, tmp_path: Path) -> None:
        """What is too large already is not opened, and what is no file has nothing to read."""
        large = Entry(Kind.FILE, "a", str(tmp_path / "none"), 5 * MIB)
        folder = Entry(Kind.FOLDER, "b", str(tmp_path), 0)
        for entry in (large, folder):
            assert load_units(entry, limits.PACK_MAX, bytearray) == Loaded(entry)
