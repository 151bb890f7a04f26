"""Waiting for a transfer to be somewhere: what comes first, what never comes."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from devices import Devices, in_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from lanxfer.awaiting import when
from lanxfer.errors import BadState, DiskFull, LanxferError, NotFound
from lanxfer.registry import Registry, Transfer
from lanxfer.transfers import Direction, Kind, Snapshot, State, Stored


@pytest.fixture
def registry() -> Registry:
    ids = count(1)

    def fail(error: Exception) -> None:
        raise error

    return Registry(lambda: 0.0, lambda: str(next(ids)), fail)


def begun(registry: Registry) -> Transfer:
    return registry.open(Direction.IN, Kind.FILE, "peer:a", "a", 5)


def result(waiting: Deferred[Snapshot]) -> Any:
    found: list[Any] = []
    waiting.addBoth(found.append)
    return found[0] if found else None


class WhenTests:
    def test_comes(self, registry: Registry) -> None:
        """It fires when the transfer gets there, once, and hears of no other."""
        # covers: S2-04
        transfer, other = begun(registry), begun(registry)
        waiting = when(registry, transfer.id, State.MOVING, State.PAUSED)
        other.enter(State.ACCEPTED)
        other.enter(State.MOVING)
        transfer.enter(State.ACCEPTED)
        assert not waiting.called
        transfer.enter(State.MOVING)
        assert result(waiting).state is State.MOVING
        transfer.enter(State.COMMITTING)
        assert registry._listeners == ()

    def test_there_already(self, registry: Registry) -> None:
        """What is there already is not waited for, also where it is over."""
        transfer = begun(registry)
        assert result(when(registry, transfer.id, State.OFFERED)).state is State.OFFERED
        transfer.retire(State.DONE, stored=Stored("a", 5, ""))
        assert result(when(registry, transfer.id, State.DONE)).state is State.DONE
        assert registry._listeners == ()

    def test_never(self, registry: Registry) -> None:
        """What will never come fails with what came instead."""
        # covers: S2-04
        failed, done = begun(registry), begun(registry)
        errors: list[type[LanxferError]] = [DiskFull, BadState, NotFound]
        waiting = [when(registry, each, State.MOVING) for each in (failed.id, done.id, "none")]
        failed.retire(State.FAILED, error=DiskFull())
        done.retire(State.DONE, stored=Stored("a", 5, ""))
        for each, error in zip(waiting, errors, strict=True):
            failure = result(each)
            assert isinstance(failure, Failure) and isinstance(failure.value, error)
        late = result(when(registry, failed.id, State.DONE))
        assert isinstance(late.value, DiskFull)
        assert registry._listeners == ()

    def test_cancelled(self, registry: Registry) -> None:
        """Who waits no longer is not told, and the transfer goes on."""
        transfer = begun(registry)
        waiting = when(registry, transfer.id, State.MOVING)
        waiting.cancel()
        assert isinstance(result(waiting).value, CancelledError)
        transfer.enter(State.ACCEPTED)
        assert registry._listeners == () and transfer.state is State.ACCEPTED

    @in_reactor
    async def test_service(self, devices: Devices) -> None:
        """An application waits until what somebody sends is stored."""
        # covers: S2-04
        service = await devices.start("nas")
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        begun: Deferred[str] = Deferred()
        service.subscribe(lambda snapshot: begun.called or begun.callback(snapshot.id))
        sending = client.send_file(devices.source("f", b"x" * 3_000_000))
        id = await begun
        moving = await service.when(id, State.MOVING)
        assert moving.path == "f" and moving.done < 3_000_000
        done = await service.when(id, State.DONE)
        assert (done.stored, done.done) == ("f", 3_000_000)
        await sending
