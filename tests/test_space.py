"""Free space that is promised once."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from lanxfer.errors import DiskFull, NotFound
from lanxfer.registry import Registry, Transfer
from lanxfer.space import LOOK_EVERY, Space
from lanxfer.testing import MemoryDisk
from lanxfer.transfers import Direction, Kind, State

pytestmark = pytest.mark.usefixtures("logged")


class Disc:
    """A store as far as its free space goes."""

    def __init__(self, free: int) -> None:
        self.left = free
        self.asked = 0

    def free(self) -> int:
        self.asked += 1
        return self.left


class House:
    def __init__(self, free: int, held: bool = False) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk(held)
        self.disc = Disc(free)
        store: Any = self.disc
        self.space = Space(self.disk, store, self.clock.seconds)
        numbers = count(1)

        def complain(error: Exception) -> None:
            raise error

        self.registry = Registry(self.clock.seconds, lambda: str(next(numbers)), complain)
        self.registry.subscribe_many(self.space.follow)

    def open(self, size: int) -> Transfer:
        return self.registry.open(Direction.IN, Kind.FILE, "peer:a", "a", size)

    def reserve(self, size: int, transfer: Transfer | None = None) -> list[Any]:
        outcome: list[Any] = []
        transfer = transfer or self.open(size)
        waiting = self.space.reserve(transfer, size)
        if waiting is None:
            return [None]
        waiting.addBoth(outcome.append)
        return outcome

    def write(self, transfer: Transfer, done: int) -> None:
        self.disc.left -= done - transfer.snapshot.done
        transfer.progressed(done)


def full(outcome: list[Any]) -> bool:
    [found] = outcome
    return found is not None and found.check(DiskFull) is not None


class SpaceTests:
    def test_once(self) -> None:
        """Two that fit one by one do not both get the same room; what is over gives it back."""
        # covers: S01, S08
        house = House(100)
        first = house.open(60)
        assert house.reserve(60, first) == [None]
        assert full(house.reserve(60))
        assert house.reserve(40) == [None]
        assert full(house.reserve(1))
        first.retire(State.FAILED)
        assert house.reserve(60) == [None]

    def test_written_is_not_promised_any_more(self) -> None:
        """What is on the disk is not taken off twice."""
        house = House(100)
        first = house.open(60)
        house.reserve(60, first)
        house.write(first, 50)
        house.clock.advance(LOOK_EVERY + 1)
        assert house.space.promised == 10
        assert house.reserve(40) == [None]
        assert full(house.reserve(1))

    def test_resumed(self) -> None:
        """Of a file that was here in part, only the rest is promised."""
        house = House(100)
        part = house.open(1000)
        house.reserve(100, part)
        part.progressed(900)
        assert house.space.promised == 100
        house.clock.advance(LOOK_EVERY + 1)
        assert full(house.reserve(1))

    def test_nothing_needs_nothing(self) -> None:
        """What is there already needs no room, on the fullest of disks."""
        house = House(0)
        assert house.reserve(0) == [None]
        assert house.disc.asked == 0

    def test_asked_now_and_then(self) -> None:
        """The disk is not asked for each small file, and asked again when it matters."""
        house = House(10_000)
        for _ in range(100):
            assert house.reserve(1) == [None]
        assert house.disc.asked == 1
        house.clock.advance(LOOK_EVERY + 0.1)
        house.reserve(1)
        assert house.disc.asked == 2
        house.disc.left = 20_000
        assert house.reserve(15_000) == [None]

    def test_many_wait_for_one_look(self) -> None:
        """Those who come while the disk is asked wait for the same answer, and share it rightly."""
        house = House(100, held=True)
        outcomes = [house.reserve(40) for _ in range(4)]
        assert outcomes == [[], [], [], []]
        while house.disk.work():
            pass
        assert [full(each) for each in outcomes] == [False, False, True, True]

    def test_disk_that_fails(self) -> None:
        """What is wrong with the disk is told to all that wait, and asked again by the next."""
        # covers: R05
        house = House(100, held=True)
        free, house.disc.free = house.disc.free, lambda: os.stat("/nowhere").st_size  # type: ignore[method-assign]
        outcomes = [house.reserve(40) for _ in range(2)]
        house.disk.work()
        assert [each[0].check(NotFound) for each in outcomes] == [NotFound, NotFound]
        house.disc.free = free  # type: ignore[method-assign]
        again = house.reserve(40)
        house.disk.work()
        assert again == [None]

    def test_ended_meanwhile(self) -> None:
        """A transfer that ended while the disk was asked is promised nothing."""
        house = House(100, held=True)
        transfer = house.open(60)
        outcome = house.reserve(60, transfer)
        transfer.retire(State.CANCELLED)
        house.disk.work()
        assert outcome == [None]
        assert house.space.promised == 0

    @given(st.lists(st.tuples(st.sampled_from("orwx"), st.integers(0, 120)), max_size=40))
    def test_never_more_than_there_is(self, steps: list[tuple[str, int]]) -> None:
        """Whatever comes and goes, what was promised fits on the disk."""
        house = House(300)
        running: list[Transfer] = []
        for what, number in steps:
            house.clock.advance(number / 60)
            if what == "o":
                transfer = house.open(number)
                if not full(house.reserve(number, transfer)):
                    running.append(transfer)
                else:
                    transfer.retire(State.FAILED)
            elif running and what == "w":
                each = running[number % len(running)]
                house.write(each, min(each.snapshot.size, each.snapshot.done + number))
            elif running and what == "x":
                each = running.pop(number % len(running))
                house.disc.left += each.snapshot.done
                each.retire(State.CANCELLED)
            assert house.space.promised <= house.disc.left
