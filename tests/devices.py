"""Real services and clients on loopback, for tests that need whole devices."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest_twisted  # type: ignore[import-untyped]
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from lanxfer.client import Client, connect, local
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.service import Settings, TransferService
from lanxfer.state import StateFolder

HANGS = 300.0
"""Seconds after which a test will not end any more, however busy the machine is."""


def in_reactor(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., Deferred[None]]:
    """Run a coroutine test in the reactor that pytest-twisted started; one that hangs fails."""

    @pytest_twisted.ensureDeferred
    @wraps(test)
    async def run(*args: Any, **kwargs: Any) -> None:
        await Deferred.fromCoroutine(test(*args, **kwargs)).addTimeout(HANGS, reactor)

    return run  # type: ignore[no-any-return]


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to become true; fail if it does not."""
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        await sleep(0.01)
    raise AssertionError("it never happened")


class Devices:
    """Makes devices below one folder, and closes whatever is left of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._services: list[TransferService] = []
        self._clients: list[Client] = []

    def state(self, name: str) -> StateFolder:
        return StateFolder(str(self.folder / f"{name}.state"))

    def key(self, name: str) -> str:
        return load_identity(self.state(name)).key

    def inbox(self, name: str) -> Path:
        return self.folder / f"{name}.inbox"

    def source(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    def service(self, name: str, hooks: dict[str, Any] | None = None, **settings: Any) -> Any:
        """A service that is not started yet, on a port of its own."""
        chosen = {"port": 0, "bind": "127.0.0.1", "reserve_bytes": 0, "reserve_share": 0.0}
        made = TransferService(
            reactor,
            Settings(
                inbox=str(self.inbox(name)),
                state=self.state(name).path,
                device=name,
                **{**chosen, **settings},
            ),
            **(hooks or {}),
        )
        self._services.append(made)
        return made

    async def start(self, name: str, hooks: dict[str, Any] | None = None, **settings: Any) -> Any:
        service = self.service(name, hooks, **settings)
        service.startService()
        service.address = (await service.when_listening())[0]
        return service

    def pin(self, here: str, there: str, address: str = "") -> None:
        """``here`` knows the key of ``there``, and where it is."""
        addresses = (address,) if address else ()
        Peers(self.state(here)).add(Peer(there, self.key(there), addresses))

    async def pair(self, name: str, service: Any, other: str) -> None:
        self.pin(name, other, service.address)
        self.pin(other, name)

    async def client(self, name: str, peer: str, **options: Any) -> Client:
        made = await connect(reactor, peer, state=self.state(name).path, device=name, **options)
        self._clients.append(made)
        return made

    async def control(self, name: str) -> Client:
        made = await local(reactor, state=self.state(name).path)
        self._clients.append(made)
        return made

    async def close(self) -> None:
        for client in self._clients:
            await client.close(0.5)
        for service in self._services:
            await service.stopService()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return pytest_twisted.blockon(ensureDeferred(work))
