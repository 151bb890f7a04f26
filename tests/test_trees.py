"""How the files of a folder are put together for sending."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from listed import entries, load
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater

from lanxfer import ahead
from lanxfer.disk import Disk, Units
from lanxfer.errors import BadName, SourceUnreadable, TooLarge
from lanxfer.offering import Loaded, at_once, load_units, single
from lanxfer.transfers import Conflict, Entry, Kind, Receipt
from lanxfer.trees import Packs, Sent, send_tree
from lanxfer.wire import limits


@pytest.fixture(autouse=True, scope="module")
def no_disk() -> Iterator[None]:
    """Nothing is read: the entries of these tests are on no disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ahead, "load_units", load)
        yield


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


MIB = limits.MIB


class Receiver:
    """Takes one request after the other, each for ``fixed`` seconds and at so many bytes a second.

    What was ``sent`` is how, the sizes, and how many requests were open then.
    """

    units = Units()

    def __init__(self, rate: float, fixed: float = 0.0) -> None:
        self.rate = rate
        self.fixed = fixed
        self.clock = Clock()
        self.free = 0.0
        self.open = 0
        self.sent: list[tuple[str, list[int], int]] = []
        self.busy: dict[int, float] = {}  # for how long longer, at which request
        self.there: set[int] = set()  # files that are there already, by number
        self.most = limits.PACK_MAX

    def run(self, function: Callable[[], Any]) -> Deferred[Any]:
        return succeed(function())

    async def take(self, how: str, pack: Sequence[Loaded]) -> list[Receipt]:
        sizes = [loaded.entry.size for loaded in pack]
        self.open += 1
        now = self.clock.seconds()
        self.free = max(self.free, now) + self.fixed + sum(sizes) / self.rate
        self.free += self.busy.get(len(self.sent), 0)
        self.sent.append((how, sizes, self.open))
        await deferLater(cast(Any, self.clock), self.free - now)
        self.open -= 1
        numbers = [int(loaded.entry.path.removeprefix("d/")) for loaded in pack]
        return [
            Receipt(each.entry.path, each.entry.size, "", number in self.there)
            for each, number in zip(pack, numbers, strict=True)
        ]

    async def alone(self, loaded: Loaded, transfer: Any, conflict: Conflict | None) -> Receipt:
        return (await self.take("alone", [loaded]))[0]

    async def pack(self, pack: Sequence[Loaded], conflict: Conflict | None, group: str) -> Any:
        assert sum(loaded.size for loaded in pack) <= self.most
        ends = await self.take("pack", pack)
        return {at: end for at, end in enumerate(ends) if end.already}

    def send(self, files: list[int] | list[Entry]) -> list[tuple[str, list[int]]]:
        """How they went."""
        known = [each for each in files if isinstance(each, Entry)]
        sizes = [each for each in files if isinstance(each, int)]
        packs = Packs(self.pack, lambda: self.most, self.clock.seconds)
        done: list[Sent] = []
        work = send_tree(
            self.alone,
            packs,
            cast(Disk, self),
            iter(known or entries(sizes)),
            lambda *_: cast(Any, None),
            None,
            None,
        )
        Deferred.fromCoroutine(work).addCallback(done.append)
        for _ in range(10_000):
            if done:
                break
            due = self.clock.getDelayedCalls()
            self.clock.advance(max(0, min(each.getTime() for each in due) - self.clock.seconds()))
        self.result = done[0]
        assert self.result.files + len(self.result.failed) == len(files)
        return [(how, sizes) for how, sizes, _ in self.sent]


class HowManyTests:
    def test_fast(self) -> None:
        """Files of some MiB go together as soon as one was seen to pass in no time."""
        receiver = Receiver(200 * MIB)
        sent = receiver.send([3 * MIB, 1_500_000, 1_500_000, 900_000] * 6)
        assert sent[:2] == [("alone", [3 * MIB]), ("alone", [1_500_000])]
        assert {how for how, _ in sent[14:]} == {"pack"}
        assert ("pack", [900_000, 3 * MIB]) in sent

    def test_two_at_once(self) -> None:
        """Be they as large as may be: while one is stored the next one is on its way."""
        receiver = Receiver(200 * MIB)
        sent = receiver.send([4_000_000] * 30)
        assert {how for how, _ in sent[10:]} == {"pack"}
        assert {open for _, _, open in receiver.sent[10:-1]} == {2}

    @pytest.mark.parametrize("rate", [21, 25, 40])
    def test_shared(self, rate: int) -> None:
        """That two of them share what there is does not make it look slow."""
        sent = Receiver(rate * MIB).send([3 * MIB] * 40)
        assert {how for how, _ in sent[12:]} == {"pack"}

    def test_slow(self) -> None:
        """Where a second brings little, larger ones go in parts, and show their progress."""
        sent = Receiver(2 * MIB).send([2 * MIB] * 20)
        assert {how for how, _ in sent} == {"alone"}
        receiver = Receiver(200 * MIB)
        receiver.send([2 * MIB] * 20)
        receiver.rate = 2 * MIB
        assert receiver.send([2 * MIB] * 20)[-10:] == [("alone", [2 * MIB])] * 10

    @pytest.mark.parametrize("fixed", [0.05, 0.2, 0.5])
    def test_slow_disk(self, fixed: float) -> None:
        """Small ones go as many together as ever, however long a request takes."""
        sent = Receiver(50 * MIB, fixed).send([4000] * 5000)
        assert min(len(sizes) for _, sizes in sent[:-1]) == len(sent[0][1]) > 200

    def test_busy_disk(self) -> None:
        """A disk that was busy for once costs little, and not for long."""
        receiver = Receiver(200 * MIB)
        receiver.busy[14] = 10.0
        hows = [how for how, _ in receiver.send([3 * MIB] * 40)]
        assert hows[10:14] == ["pack"] * 4 and hows[-10:] == ["pack"] * 10
        assert "alone" in hows[14:]

    def test_there_already(self) -> None:
        """Where some were there, the next ones ask first; where some were not, no longer."""
        receiver = Receiver(200 * MIB)
        receiver.there = set(range(30))
        sent = receiver.send([600_000] * 60)
        assert sent[:3] == [("pack", [600_000])] * 3
        assert sent[10:28] == [("alone", [600_000])] * 18
        assert {how for how, _ in sent[-4:]} == {"pack"}

    def test_one_there_already(self) -> None:
        """One that was there makes no difference to the others."""
        receiver = Receiver(200 * MIB)
        receiver.there = set(range(0, 40, 2))
        assert {how for how, _ in receiver.send([600_000] * 40)} == {"pack"}

    def test_nothing_learnt(self) -> None:
        """What was there already tells nothing of how fast it goes."""
        receiver = Receiver(200 * MIB)
        receiver.there = set(range(20))
        assert {how for how, _ in receiver.send([3 * MIB] * 20)} == {"alone"}

    def test_most(self) -> None:
        """However fast it is: no more than the other side takes, also where that changes."""
        receiver = Receiver(1000 * MIB)
        receiver.most = 700_000
        sent = receiver.send([300_000] * 20 + [800_000])
        assert sorted(sent) == [("alone", [800_000])] + [("pack", [300_000] * 2)] * 10
        receiver.sent, receiver.most = [], 0
        assert receiver.send([1000] * 5) == [("alone", [1000])] * 5

    def test_among_large(self) -> None:
        """Small ones between those that go by themselves go together all the same."""
        sent = Receiver(1 * MIB).send([6 * MIB, 1000] * 32)
        assert sum(how == "pack" for how, _ in sent) <= 5

    @pytest.mark.parametrize("lost", [True, False])
    def test_refused_behind_a_large_one(self, lost: bool) -> None:
        """What is to be sent again waits for no large file, and is told of once."""
        receiver = Receiver(200 * MIB)
        take, refused = receiver.pack, [True]

        async def once(pack: Sequence[Loaded], *args: Any) -> Any:
            ends = await take(pack, *args)
            if refused:
                refused.clear()
                return dict.fromkeys(range(len(pack))) if lost else {len(pack) - 1: None}
            return ends

        async def slowly(loaded: Loaded, *_: Any) -> Receipt:
            if loaded.entry.size > MIB:
                await deferLater(cast(Any, receiver.clock), 1000)
            return (await receiver.take("alone", [loaded]))[0]

        receiver.pack = once  # type: ignore[method-assign]
        receiver.alone = slowly  # type: ignore[method-assign]
        sent = receiver.send([100 * MIB, 1000, 1000, 1000])
        again = ("pack", [1000] * 3) if lost else ("alone", [1000])
        assert sent == [("pack", [1000] * 3), again, ("alone", [100 * MIB])]
        assert receiver.result.files == 4

    @pytest.mark.parametrize("names", [["d/\udcff"], ["\udcff/0", "d/\udcff", "d/\ud83d"]])
    def test_no_text(self, names: list[str]) -> None:
        """A name that is not UTF-8 fails by itself, and the files around it go together."""
        some = entries([1000] * 3)
        some[1:1] = [Entry(Kind.FILE, name, "/x", 1000) for name in names]
        receiver = Receiver(200 * MIB)
        assert receiver.send(some) == [("pack", [1000] * 3)]
        assert [path for path, _ in receiver.result.failed] == names
        assert all(isinstance(error, BadName) for _, error in receiver.result.failed)

    def test_fails_unexpectedly(self, logged: list[str]) -> None:
        """Where a request fails as nobody expected, each of its files goes by itself."""
        receiver = Receiver(200 * MIB)

        async def broken(*_: Any) -> Any:
            raise ZeroDivisionError

        receiver.pack = broken  # type: ignore[method-assign]
        assert receiver.send([1000] * 3) == [("alone", [1000])] * 3
        assert receiver.result.files == 3
        assert "ZeroDivisionError" in logged.pop()

    def test_not_to_be_sent(self) -> None:
        """What has an error is not sent, whatever its size."""
        some = [
            each._replace(error=SourceUnreadable("No.")) if at % 3 == 2 else each
            for at, each in enumerate(entries([1000, 500_000, 500_000] * 4 + [3 * MIB] * 30))
        ]
        receiver = Receiver(200 * MIB)
        receiver.send(some)
        assert len(receiver.result.failed) == 14
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ahead, "load_units", load_units)  # which reads nothing of these
            receiver = Receiver(200 * MIB)
            receiver.send([each for each in some if each.error is not None])
        assert receiver.sent == [] and len(receiver.result.failed) == 14


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
            before = entry._replace(size=listed, executable=True)
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

    @pytest.mark.parametrize(("more", "memory"), [(10, 10), (MIB // 2 + 1, MIB)])
    def test_last_piece(self, tmp_path: Path, more: int, memory: int) -> None:
        """The end of it has no unit of its own where that would be less than half full."""
        path, units = tmp_path / "x", Units()
        path.write_bytes(b"x" * (MIB + more))
        found = load_units(single(str(path)), limits.PACK_MAX, units.take)
        assert [len(cast(bytearray, each.obj)) for each in found.units] == [MIB, memory]
        assert found.size == MIB + more

    @pytest.mark.parametrize("size", [300_000, 3 * MIB])
    def test_changed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        """One that goes on changing is sent in parts, which is tried more than once."""
        path = tmp_path / "x"
        path.write_bytes(b"x" * size)
        entry = single(str(path))
        fstat, looks = os.fstat, count()

        def fstat_and_change(fd: int) -> os.stat_result:
            found = fstat(fd)
            now = next(looks)
            os.utime(path, ns=(now, now))
            return found

        os.utime(path, ns=(5, 5))
        monkeypatch.setattr(os, "fstat", fstat_and_change)
        monkeypatch.setattr(ahead, "load_units", load_units)
        reader = ahead.Ahead(iter([entry]), Units().take, limits.PACK_MAX)
        (found,) = reader.read()
        assert found.entry == entry and not found.whole

    def test_not_read(self, tmp_path: Path) -> None:
        """What is too large already is not opened, and what is no file has nothing to read."""
        large = Entry(Kind.FILE, "a", str(tmp_path / "none"), 5 * MIB)
        folder = Entry(Kind.FOLDER, "b", str(tmp_path), 0)
        bad = large._replace(size=2 * MIB, error=SourceUnreadable("No."))
        skipped = large._replace(size=2 * MIB, skipped="a link")
        for entry in (large, folder, bad, skipped):
            found = load_units(entry, limits.PACK_MAX, bytearray)
            assert found.entry == entry and not found.whole
