"""What a service that runs for long forgets by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from devices import run
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger

from lanxfer.errors import DiskFailed, LanxferError, StoreStalled
from lanxfer.testing import MemoryDisk
from lanxfer.tidying import EVERY, Tidying
from lanxfer.wire import limits


class Place:
    """Counts what is asked of store and journal, and fails where it is told to."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.broken = False

    def tidy(self, older_than: float) -> int:
        self.asked.append(older_than)
        if self.broken:
            raise DiskFailed()
        return 0

    def prune(self) -> int:
        self.asked.append("prune")
        return 0


class Kit:
    def __init__(self) -> None:
        self.clock, self.disk, self.place = Clock(), MemoryDisk(), Place()
        place: Any = self.place
        self.tidying = Tidying(self.clock, self.disk, place, place, Logger())
        self.tidying.start()


@pytest.fixture
def kit() -> Iterator[Kit]:
    made = Kit()
    yield made
    run(made.tidying.stop())
    assert made.clock.getDelayedCalls() == []


class TidyingTests:
    def test_again_and_again(self, kit: Kit) -> None:
        """A few times a day what is too old goes, and nothing that is younger."""
        # covers: K10, R13
        kit.clock.advance(EVERY - 1)
        assert kit.place.asked == []
        for _ in range(3):
            kit.clock.advance(EVERY)
        assert kit.place.asked == [limits.PART_LIFETIME, "prune"] * 3

    def test_one_at_a_time(self, kit: Kit) -> None:
        """While one round waits for the disk no other begins."""
        kit.disk.held = True
        kit.clock.advance(5 * EVERY)
        assert kit.disk.waiting == 1
        while kit.disk.work():
            pass
        assert len(kit.place.asked) == 2

    def test_fails(self, kit: Kit, logged: list[str]) -> None:
        """A disk that fails is said, and asked again the next time."""
        kit.place.broken = True
        kit.clock.advance(EVERY)
        kit.place.broken = False
        kit.clock.advance(EVERY)
        assert kit.place.asked == [limits.PART_LIFETIME, "prune"] * 2
        assert len(logged) == 1 and "Tidying" in logged[0]
        logged.clear()

    def test_others(self, kit: Kit, logged: list[str]) -> None:
        """Other stores are tidied as well, each whatever becomes of those before it."""
        asked: list[str] = []

        def other(name: str, error: LanxferError | None = None) -> Callable[[], Deferred[int]]:
            def tidy() -> Deferred[int]:
                asked.append(name)
                return succeed(0) if error is None else fail(error)

            return tidy

        kit.tidying._also = [other("a", StoreStalled()), other("b")]
        kit.clock.advance(EVERY)
        kit.clock.advance(EVERY)
        assert asked == ["a", "b"] * 2 and len(logged) == 2
        logged.clear()

    def test_stopped(self, kit: Kit) -> None:
        """Stopped in the middle of a round it ends with it, and begins none."""
        kit.disk.held = True
        kit.clock.advance(EVERY)
        stopping = Deferred.fromCoroutine(kit.tidying.stop())
        assert not stopping.called
        while kit.disk.work():
            pass
        assert stopping.called
        kit.clock.advance(9 * EVERY)
        assert len(kit.place.asked) == 2
