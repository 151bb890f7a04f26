"""What a cancel means when the connection breaks, or is being made, meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from twisted.internet.defer import Deferred

from chaos.world import Life, World, small_limits
from lanxfer.errors import Cancelled, LanxferError
from lanxfer.storage import sources
from lanxfer.storage.names import part_key
from lanxfer.transfers import Receipt, State, Stored


class House:
    """Two devices whose time stands still, and one file of the first."""

    def __init__(self, folder: Path, size: int) -> None:
        sources.forget_marks()
        self.world = World(random.Random(1))
        self.here, self.there = self.world.devices
        self.data = os.urandom(size)
        self.path = folder / "a.bin"
        self.path.write_bytes(self.data)
        self.found: list[Any] = []

    @property
    def life(self) -> Life:
        return self.here.life

    def send(self) -> None:
        self.life.client.send_file(str(self.path)).addBoth(self.found.append)

    def step(self, until: Any) -> None:
        """Let one thing happen after another until that is true."""
        for _ in range(1000):
            if until():
                return
            for link in self.world.links:
                for end in link.moving():
                    self.world.step_link(link, end, 1 << 30)
                    if until():
                        return
            for life in self.world.lives():
                if life.disk.waiting:
                    life.disk.work_at(0)
                    if until():
                        return
            self.world.advance(0.01)
        raise AssertionError("it never happened")

    def said(self) -> bool:
        """The request is on its way, and nothing is stored yet."""
        if len(self.data) > 256:
            return bool(self.there.life.registry.pending())
        return any(each.state is State.COMMITTING for each in self.life.registry.pending())

    def cut(self) -> None:
        for link in self.world.links:
            link.wire.cut_off()

    def cancel(self) -> None:
        (snapshot,) = self.life.registry.pending()
        self.life.registry.cancel(snapshot.id)

    def outcome(self) -> Receipt | LanxferError:
        self.step(lambda: self.found)
        (found,) = self.found
        return getattr(found, "value", found)

    def state(self) -> State:
        (last,) = self.life.registry.finished()
        return last.state


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with small_limits():
        yield


@pytest.fixture(params=[100, 3000], ids=["small", "large"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path, request.param)
    yield house
    house.world.end()


# covers: C06
class BrokenCancelTests:
    def test_answer_lost(self, house: House) -> None:
        """A cancel whose answer was lost is said again, and the file is not sent once more."""
        house.send()
        house.step(house.said)
        house.cancel()
        house.cut()
        assert isinstance(house.outcome(), Cancelled)
        assert house.state() is State.CANCELLED
        assert house.there.store.files == {}
        assert house.there.store._parts == {}

    def test_a_twin_in_the_way(self, tmp_path: Path) -> None:
        """Where another file of that name, size and time is remembered, nobody can tell."""
        house = House(tmp_path, 100)
        house.send()
        house.step(lambda: house.there.store.files)
        house.cut()
        twin = Stored("a (2).bin", 100, blake3(b"x" * 100).hexdigest())
        found = house.path.stat()
        key = part_key(f"peer:{house.here.name}", "a.bin", 100, found.st_mtime_ns)
        house.there.store.files[twin.path] = b"x" * 100
        house.there.store._mtimes[twin.path] = found.st_mtime_ns
        house.there.journal.remember({key: twin})
        house.cancel()
        outcome = house.outcome()
        assert isinstance(outcome, Cancelled)
        assert "may have arrived" in outcome.reason
        house.world.end()

    def test_stored_before(self, house: House) -> None:
        """A file that had been stored when its cancel got lost is done on both sides."""
        house.send()
        house.step(lambda: house.there.store.files)
        house.cancel()
        house.cut()
        outcome = house.outcome()
        assert isinstance(outcome, Receipt)
        assert outcome.already
        assert house.state() is State.DONE
        assert list(house.there.store.files.values()) == [house.data]

    def test_between_two_tries(self, house: House) -> None:
        """A cancel that comes while nobody knows what the last try did is settled by the next."""
        house.send()
        house.step(lambda: house.there.store.files)
        house.cut()
        house.step(lambda: not house.world.links or house.world.links[0].over)
        house.step(lambda: house.life.registry.pending()[0].state is State.OFFERED)
        house.cancel()
        assert isinstance(house.outcome(), Receipt)

    def test_never_reached(self, house: House) -> None:
        """Where the other side cannot be asked any more, it is said that nobody knows."""
        house.send()
        house.step(lambda: house.there.store.files)
        house.world.down = True
        house.cut()
        house.cancel()
        for _ in range(100):
            house.world.advance(1.0)
            house.world.rest()
        outcome = house.outcome()
        assert isinstance(outcome, Cancelled)
        assert "may have arrived" in outcome.reason
        assert house.state() is State.CANCELLED

    def test_while_opening(self, house: House) -> None:
        """A cancel that comes while the source is being opened is heard."""
        if len(house.data) <= 256:
            pytest.skip("small files are read before")
        house.send()
        house.step(lambda: house.world.links and house.life.disk.waiting)
        house.cancel()
        assert isinstance(house.outcome(), Cancelled)
        house.world.rest()
        assert house.there.store.files == {}
        assert house.there.life.registry.finished() == []

    def test_while_dialing(self, house: House) -> None:
        """A cancel that comes while the connection is made anew is heard."""
        house.world.down = True
        house.send()
        house.step(lambda: house.life.registry.pending())
        house.world.rest()
        house.world.advance(0.02)
        house.world.advance(0.251)
        house.cancel()
        assert isinstance(house.outcome(), Cancelled)
        house.world.down = False
        house.world.advance(10.0)
        house.world.rest()
        assert house.there.store.files == {}


# covers: S10
class GrownSourceTests:
    def test_size(self, house: House) -> None:
        """A file that grew before it was opened is shown with the size that is sent."""
        if len(house.data) <= 256:
            pytest.skip("small files are read before")
        house.send()
        house.step(lambda: house.life.registry.pending())
        grown = house.data + b"more" * 500
        house.path.write_bytes(grown)
        assert isinstance(house.outcome(), Receipt)
        (last,) = house.life.registry.finished()
        assert (last.size, last.done) == (len(grown), len(grown))
        assert house.there.store.files == {"a.bin": grown}


# covers: K09
def test_queue_read_while_it_grows(tmp_path: Path) -> None:
    """A job that is queued while the queue is being read at a start is done once."""
    house = House(tmp_path, 100)
    outgoing = house.life.outgoing
    job = {"path": str(house.path), "peer": house.there.name, "wait": False}
    for running in (outgoing.send(job), outgoing.begin()):
        Deferred.fromCoroutine(running)
    house.step(lambda: house.there.store.files)
    house.world.rest()
    assert len(house.life.registry.finished()) + len(house.life.registry.pending()) == 1
    assert list(house.there.store.files) == ["a.bin"]
    house.world.end()
