"""Real devices in one process, for commands that need a reactor: a service, and who talks to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater, react

from lanxfer.client import Client, connect
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.service import Settings, TransferService
from lanxfer.state import StateFolder

reactor: Any = _reactor
MIB = 1024 * 1024


class Sides:
    """A service "there" and a client "here", paired, below one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.inbox = self.folder / "inbox"
        self.service: TransferService
        self.port = 0

    def _state(self, name: str) -> StateFolder:
        return StateFolder(str(self.folder / f"{name}.state"))

    async def start(self, **settings: Any) -> None:
        """Start the service on a free port of loopback."""
        chosen: dict[str, Any] = {"port": 0, "bind": "127.0.0.1", "reserve_bytes": 0}
        self.service = TransferService(
            reactor,
            Settings(
                inbox=str(self.inbox),
                state=self._state("there").path,
                device="there",
                reserve_share=0.0,
                **{**chosen, **settings},
            ),
        )
        self.service.startService()
        address = (await self.service.when_listening())[0]
        self.port = int(address.rpartition(":")[2])
        here, there = self._state("here"), self._state("there")
        Peers(here).add(Peer("there", load_identity(there).key, (address,)), replace=True)
        Peers(there).add(Peer("here", load_identity(here).key), replace=True)

    def move_peer(self, port: int) -> None:
        """From now on the client finds the service at that port."""
        there = load_identity(self._state("there")).key
        peers = Peers(self._state("here"))
        peers.add(Peer("there", there, (f"127.0.0.1:{port}",)), replace=True)

    async def client(self, **options: Any) -> Client:
        return await connect(
            reactor, "there", state=self._state("here").path, device="here", **options
        )

    def source(self, name: str, size: int, fill: Callable[[int], bytes] = os.urandom) -> str:
        path = self.folder / name
        with open(path, "wb") as file:
            while size:
                piece = min(size, MIB)
                file.write(fill(piece))
                size -= piece
        return str(path)

    async def stop(self) -> None:
        await self.service.stopService()


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine in the reactor; what it raises ends the process with code 1."""
    try:
        react(lambda reactor: ensureDeferred(work()))
    except SystemExit as ended:
        if ended.code:
            sys.exit(1)


def open_files() -> dict[str, str]:
    """This process's descriptors, and what they are."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
    return found


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def peak(pid: str = "self") -> int:
    """The most bytes a process ever had in memory (VmHWM)."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell")
