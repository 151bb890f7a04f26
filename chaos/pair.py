"""The two sides: a service and ``lanxfer send``, each a process of its own."""

from __future__ import annotations

import json
import os
import select
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from chaos.forked import PATIENCE, ChaosFailed, Process, spawn
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder


@frozen
class Place:
    """The folders of both devices."""

    root: Path
    plain: bool = False
    """Plain text between the two, so that what they say can be read from outside."""

    @property
    def inbox(self) -> Path:
        return self.root / "receiver" / "inbox"

    @property
    def receiver(self) -> str:
        return str(self.root / "receiver" / "state")

    @property
    def sender(self) -> str:
        return str(self.root / "sender")

    @property
    def staging(self) -> Path:
        return self.inbox / ".lanxfer-staging"

    def pair(self) -> None:
        """Make both devices and let them know each other's key, once."""
        here, there = StateFolder(self.sender), StateFolder(self.receiver)
        mine, other = load_identity(here), load_identity(there)
        if not self.plain:
            Peers(there).add(Peer("sender", mine.key))
            Peers(here).add(Peer("receiver", other.key, ("127.0.0.1:1",)))

    def file(self, name: str) -> str:
        """A file for what a process says."""
        return str(self.root / name)

    def parts(self) -> list[str]:
        """Part files there are."""
        with suppress(FileNotFoundError):
            return sorted(each for each in os.listdir(self.staging) if each.endswith(".part"))
        return []


@contextmanager
def place(plain: bool = False) -> Iterator[Place]:
    """A fresh place in memory, where there is such a folder; gone afterwards."""
    shared = Path("/dev/shm")
    above = str(shared) if os.access(shared, os.W_OK) else None
    root = tempfile.mkdtemp(prefix="lanxfer-chaos-", dir=above)
    try:
        made = Place(Path(root), plain)
        made.pair()
        yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


@define
class Service:
    """The receiving side; ``begin`` starts it, again after its end on the same port."""

    place: Place
    process: Process | None = None
    port: int = 0
    ready: int = -1
    before: Callable[[], object] = field(default=lambda: None)
    """Called in the child before anything else: plants what a test wants to be noticed."""

    def start(self, *, held: bool = False) -> Process:
        """Fork it; ``listening`` waits for it."""
        self._forget()
        self.ready, tell = os.pipe()

        def work() -> int:
            os.close(self.ready)
            self.before()
            return _serve(self.place, self.port, tell)

        self.process = spawn(work, self.place.file("service.said"), held=held)
        os.close(tell)
        return self.process

    def listening(self, seconds: float = PATIENCE) -> bool:
        """Wait until it listens; False if it ended instead, or hangs."""
        if self.ready < 0:
            return self.process is not None and not self.process.over()
        found = b""
        if select.select([self.ready], [], [], seconds)[0]:
            found = os.read(self.ready, 100)
        self._forget()
        if not found:
            return False
        self.port = int(found)
        return True

    def begin(self) -> None:
        """Start it and wait; ChaosFailed with its last words where it does not come up."""
        for _ in range(3):
            self.start()
            if self.listening():
                return
            assert self.process is not None
            self.process.kill()
            self.port = 0  # it may have been taken by somebody else
        raise ChaosFailed(f"The service does not start. {last_words(self.place, 'service.said')}")

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
        self._forget()

    def _forget(self) -> None:
        ready, self.ready = self.ready, -1
        if ready >= 0:
            os.close(ready)


def service_of(here: Place, reactor: Any, port: int = 0) -> Any:
    """The receiver's ``TransferService``, not started yet."""
    from lanxfer.service import Settings, TransferService

    settings = Settings(
        inbox=str(here.inbox),
        state=here.receiver,
        device="receiver",
        bind="127.0.0.1",
        port=port,
        plain_from=("127.0.0.0/8",) if here.plain else (),
        reserve_bytes=0,
        reserve_share=0.0,
        control=False,
        drain=0.0,
    )
    return TransferService(reactor, settings)


def _serve(place: Place, port: int, tell: int) -> int:
    from twisted.internet.defer import CancelledError, Deferred

    from lanxfer.cli.choices import Choices
    from lanxfer.cli.running import run

    async def work(here: Any) -> int:
        service = service_of(place, here.reactor, port)
        service.startService()
        try:
            addresses = await service.when_listening()
            os.write(tell, addresses[0].rpartition(":")[2].encode())
            os.close(tell)
            await Deferred()
        except CancelledError:
            pass
        finally:
            await service.stopService()
        return 0

    return run(work, Choices(), logs=True)


def send(
    place: Place,
    port: int,
    paths: Sequence[Path],
    said: str,
    *,
    wait: float = 0.0,
    rate: str | None = None,
    held: bool = False,
) -> Process:
    """``lanxfer send`` to that port, at that rate; ``said`` names the file its rows go to."""
    peer = f"127.0.0.1:{port}" if place.plain else "receiver"
    if not place.plain:
        _learn(place, port)

    def work() -> int:
        from lanxfer.cli.main import main

        options = ["--json", "--state", place.sender, "send", "--wait", str(wait)]
        options += ["--plain"] if place.plain else []
        options += ["--limit-rate", rate] if rate else []
        main([*options, *map(str, paths), peer])
        return 0

    return spawn(work, place.file(said), held=held)


def _learn(place: Place, port: int) -> None:
    peers = Peers(StateFolder(place.sender))
    address = f"127.0.0.1:{port}"
    peer = peers.find("receiver")
    if address not in peer.addresses:
        peers.forget("receiver")
        peers.add(Peer("receiver", peer.key, (address,)))


def acknowledged(place: Place, said: str) -> dict[str, str]:
    """What that run of ``lanxfer send`` said to have arrived: name there, and digest."""
    found = {}
    with suppress(FileNotFoundError), open(place.file(said), "rb") as rows:
        for line in rows:
            if not line.endswith(b"\n"):
                break  # killed while it wrote
            row = json.loads(line)
            if row.get("kind") == "file" and "stored" in row:
                found[row["stored"]] = row["blake3"]
    return found


def last_words(place: Place, said: str) -> str:
    """The end of what that process complained about."""
    with suppress(OSError):
        return Path(place.file(f"{said}.errors")).read_text(errors="replace")[-1500:].strip()
    return ""
