"""Threads of a store's own: who waits, for how long, and what becomes of what is given up."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blake3 import blake3
from devices import in_reactor, until
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from lanxfer.commands import receiving
from lanxfer.errors import Busy, DiskFull, Overloaded, Stopping, StoreStalled
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.memory_volume import MemoryVolume
from lanxfer.storage.names import part_key, safe_path
from lanxfer.storage.spooled import SpooledStore
from lanxfer.storage.volumes import stir
from lanxfer.stores import Stores, StoreThreads
from lanxfer.transfers import Conflict, Offer
from lanxfer.wire import limits


class Gate:
    """What hangs until it is told not to; ``entered`` counts who came."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.entered = 0

    def __call__(self, result: Any = None) -> Any:
        self.entered += 1
        self.event.wait(60)
        return result


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.event.set()


def threads(patience: float = 60.0, workers: int = 2) -> StoreThreads:
    return StoreThreads(reactor, patience, workers)


class RunTests:
    @in_reactor
    async def test_runs(self) -> None:
        """Work is done in another thread, and its result comes back."""
        # covers: S2-42
        made = threads()
        assert await made.run(threading.get_ident) != threading.get_ident()
        assert await made.run(lambda a, b: a + b, 3, 4) == 7
        await made.stopped(60.0)

    @in_reactor
    async def test_typed(self) -> None:
        """What a store raises is the error it stands for."""
        made = threads()

        def full() -> None:
            raise OSError(errno.ENOSPC, "no room")

        with pytest.raises(DiskFull):
            await made.run(full)
        await made.stopped(60.0)

    @in_reactor
    async def test_stalled(self, gate: Gate) -> None:
        """What does not get on is given up, and what comes of it later is undone."""
        # covers: S2-46
        made = threads(patience=0.2)
        undone: list[str] = []
        with pytest.raises(StoreStalled):
            await made.run(gate, "late", undo=undone.append)
        assert not undone
        gate.event.set()
        await until(lambda: undone == ["late"])
        assert await made.run(int, "7") == 7
        await made.stopped(60.0)

    @in_reactor
    async def test_never_begun(self, gate: Gate) -> None:
        """What was given up while it waited for a thread is not begun afterwards."""
        # covers: S2-46
        made = threads(patience=0.2, workers=1)
        done: list[str] = []
        hanging, waiting = made.run(gate), made.run(done.append, "too late")
        for each in (hanging, waiting):
            with pytest.raises(StoreStalled):
                await each
        gate.event.set()
        await until(lambda: not made._running)
        assert not done
        await made.stopped(60.0)

    @in_reactor
    async def test_progress(self) -> None:
        """What gets on may take as long as it takes."""
        made = threads(patience=0.3)
        pause = threading.Event()

        def slow() -> str:
            for _ in range(10):
                pause.wait(0.1)
                stir()
            return "done"

        assert await made.run(slow) == "done"
        await made.stopped(60.0)

    @in_reactor
    async def test_cancelled(self, gate: Gate) -> None:
        """A cancelled call ends when the work does, or when that is given up."""
        made = threads(patience=0.2)
        undone: list[int] = []
        working = made.run(gate, 7, undo=undone.append)
        await until(lambda: gate.entered)
        working.cancel()
        assert not working.called
        with pytest.raises(CancelledError):
            await working
        gate.event.set()
        await until(lambda: undone == [7])
        await made.stopped(60.0)

    @in_reactor
    async def test_too_much(self, gate: Gate, monkeypatch: Any) -> None:
        """Only so much waits for a store that does not answer."""
        monkeypatch.setattr(limits, "STORE_WAITING", 5)
        made = threads()
        waiting = [made.run(gate) for _ in range(5)]
        with pytest.raises(Overloaded):
            await made.run(gate)
        gate.event.set()
        for each in waiting:
            await each
        await made.stopped(60.0)

    @in_reactor
    async def test_stopping(self, gate: Gate) -> None:
        """What is under way is waited for, and nothing new is begun."""
        made = threads()
        working = made.run(gate, "done")
        ending = made.stopped(60.0)
        reactor.callLater(0.05, gate.event.set)  # type: ignore[attr-defined]
        await ending
        assert await working == "done"
        with pytest.raises(Stopping):
            await made.run(int)

    @in_reactor
    async def test_stopping_with_a_hanging_one(self, gate: Gate) -> None:
        """What hangs does not keep the service from stopping, nor is anything begun after it."""
        made = threads(workers=1)
        hanging, waiting = made.run(gate), made.run(gate)
        await made.stopped(0.1)
        for each in (hanging, waiting):
            with pytest.raises(Stopping):
                await each
        assert gate.entered == 1
        assert not gate.event.is_set()


class Slow(MemoryVolume):
    """A volume whose files cannot be opened while its gate is closed."""

    gate: Gate

    def open(self, parts: tuple[str, ...]) -> Any:
        self.gate()
        return super().open(parts)


class OpeningTests:
    # covers: S2-46
    @in_reactor
    async def test_stalls(self, gate: Gate, tmp_path: Path) -> None:
        """A file whose beginning stands still is let go of in the end, and can come again."""
        held = MemoryStore()
        held.keep("a", b"x" * 10, 10**18)
        volume = Slow(held)
        volume.gate = gate
        store = SpooledStore(volume, str(tmp_path), reserve_bytes=0, reserve_share=0.0)
        made = threads(patience=0.2)
        node: Any = SimpleNamespace(
            in_store=lambda place, function, *args, undo: made.run(function, *args, undo=undo)
        )
        offer, path = Offer("a", 10, mtime_ns=10**18), safe_path("a")
        key = part_key("peer:p", "a", 10, 10**18)

        def opened() -> Any:
            return receiving._opened(node, store, key, offer, path, Conflict.REFUSE, True)

        with pytest.raises(StoreStalled):
            await opened()
        gate.event.set()
        part: Any = None
        while part is None:
            with suppress(Busy):  # the thread has to come back first
                part, have = await opened()
        assert have == ((10, blake3(b"x" * 10).hexdigest()),)
        part.keep()
        await made.stopped(60.0)
        store.close()


class StoresTests:
    @in_reactor
    async def test_each_its_own(self, gate: Gate) -> None:
        """One store that hangs takes no thread from another."""
        # covers: S2-42
        stores = Stores(reactor, 60.0)
        one, other = (MemoryVolume(MemoryStore()) for _ in range(2))
        assert stores.of(one) is stores.of(one)
        hanging = [stores.of(one).run(gate) for _ in range(20)]
        assert await stores.of(other).run(int, "7") == 7
        assert not any(each.called for each in hanging)
        gate.event.set()
        await stores.stopped(60.0)
