"""Blocking work in real threads: what is typed, what cannot be interrupted, who waits for whom."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from devices import in_reactor, sleep, until
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from lanxfer.disk import WORKERS, Disk, Units
from lanxfer.errors import DiskFull
from lanxfer.wire import limits


@contextmanager
def hanging(disk: Disk, count: int) -> Iterator[list[Any]]:
    """So many workers hang until the block is left, as in an fsync of a dying disk."""
    release = threading.Event()
    try:
        yield [disk.run(release.wait, 30) for _ in range(count)]
    finally:
        release.set()


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk(reactor)  # type: ignore[arg-type]
    made.start()
    yield made
    made.stop()


class DiskTests:
    @in_reactor
    async def test_typed(self, disk: Disk) -> None:
        """What the system says comes back as the error it stands for."""

        def fill() -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.raises(DiskFull):
            await disk.run(fill)
        with pytest.raises(DiskFull):
            await disk.run_reserved(fill)

    @in_reactor
    async def test_in_order(self, disk: Disk) -> None:
        """What waits for nothing is done by one thread, in the order it came, beside the others."""
        seen: list[tuple[int, int]] = []

        def note(number: int) -> int:
            seen.append((number, threading.get_ident()))
            return number

        with hanging(disk, WORKERS):
            doing = [disk.run_in_order(note, number) for number in range(50)]
            assert [await each for each in doing] == list(range(50))
        assert [number for number, _ in seen] == list(range(50))
        assert len({thread for _, thread in seen}) == 1

    @in_reactor
    async def test_cancelled(self, disk: Disk) -> None:
        """A cancelled call ends when its thread does, and its result is undone."""
        undone: list[int] = []
        release = threading.Event()

        def work() -> int:
            release.wait(30)
            return 7

        working = disk.run(work, undo=undone.append)
        working.cancel()
        await sleep(0.05)
        assert not working.called
        release.set()
        with pytest.raises(CancelledError):
            await working
        assert undone == [7]

    @in_reactor
    async def test_reserved(self, disk: Disk) -> None:
        """With every worker hanging, and more work waiting for them, the reserved one answers."""
        # covers: R09, R10
        with hanging(disk, 32) as waiting:
            assert await disk.run_reserved(int, "7") == 7
            assert not any(each.called for each in waiting)
        await until(lambda: all(each.called for each in waiting))

    @in_reactor
    async def test_workers_are_few(self, disk: Disk) -> None:
        """However much waits, no more than the workers run; all of it is done in the end."""
        # covers: C08
        guard, running, most = threading.Lock(), 0, 0

        def work() -> None:
            nonlocal running, most
            with guard:
                running += 1
                most = max(most, running)
            threading.Event().wait(0.001)
            with guard:
                running -= 1

        waiting = [disk.run(work) for _ in range(100)]
        for each in waiting:
            await each
        assert 1 <= most <= WORKERS

    @in_reactor
    async def test_stopped(self) -> None:
        """A disk stops when what it was given is done, reserved work included."""
        disk = Disk(reactor)  # type: ignore[arg-type]
        disk.start()
        release, done = threading.Event(), []
        disk.run(release.wait, 30).addCallback(done.append)
        disk.run_reserved(release.wait, 30).addCallback(done.append)
        reactor.callLater(0.05, release.set)  # type: ignore[attr-defined]
        await disk.stopped()
        assert done == [True, True]


class UnitsTests:
    def test_again(self) -> None:
        """What is given back is used again, up to what is kept."""
        units = Units(keep=1)
        first, second = units.take(), units.take()
        assert len(first) == limits.UNIT
        units.give(first)
        units.give(second)
        assert units.take() is first
        assert units.take() is not second

    def test_many(self) -> None:
        """Who comes when many are in use gets a small one, and a large one when some are gone."""
        units = Units(keep=2)
        held = [units.take() for _ in range(3)]
        assert units.scarce
        small = units.take()
        assert 0 < len(small) < limits.UNIT
        units.give(small)
        assert units.scarce
        units.give(held.pop())
        assert not units.scarce
        again = units.take()
        assert len(again) == limits.UNIT
        del again, held[:]  # dropped, and not given back
        assert not units.scarce
        assert len(units.take()) == limits.UNIT
