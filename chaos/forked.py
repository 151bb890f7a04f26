"""The two sides as real processes that are cheap to start and may be killed at any moment.

Starting Python and importing lanxfer takes far longer than a transfer of some
files, so the command imports everything once and forks each side from there;
only the reactor is made in the child, for it holds descriptors.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder

_WARM = (
    "lanxfer.cli.main",
    "lanxfer.cli.running",
    "lanxfer.cli.sending",
    "lanxfer.client",
    "lanxfer.service",
    "twisted.internet.default",
    "twisted.internet.epollreactor",
    "twisted.internet.endpoints",
    "twisted.internet.unix",
    "twisted.python.threadpool",
    "twisted.plugin",
    "encodings.idna",
    "rich",
)

PATIENCE = 20.0
"""Seconds after which a side is taken to hang: far longer than any wait that is meant."""

RETURNED = "chaos: a side came back from its work"

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

reaped: dict[int, int] = {}
"""Statuses of children that were waited for by somebody else than their ``Process``."""


class ChaosFailed(Exception):
    """The command itself could not do its work, so it has no figure to show."""


def warm() -> None:
    """Import what both sides need, but no reactor."""
    for name in _WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


@define
class Process:
    """A child of this process, in a process group of its own."""

    pid: int
    gate: int = -1
    """Closing it lets a child go that was started ``held``."""
    _fd: int = -1
    _status: int | None = None

    def __attrs_post_init__(self) -> None:
        self._fd = os.pidfd_open(self.pid)

    def release(self) -> None:
        """Let a held child go."""
        gate, self.gate = self.gate, -1
        if gate >= 0:
            os.close(gate)

    def kill(self) -> None:
        """kill -9, and wait for the end of it."""
        if self.over():
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def over(self) -> bool:
        """Whether it has ended."""
        if self._status is None and self.pid in reaped:
            self._end(reaped.pop(self.pid))
        # Not by waitpid alone: that would take the stops of a traced process from its tracer.
        if self._status is None and select.select([self._fd], [], [], 0)[0]:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._end(status)
        return self._status is not None

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Its exit code, a signal's number below 0, None if it hangs."""
        if not self.over():
            select.select([self._fd], [], [], seconds)
        return os.waitstatus_to_exitcode(self._status or 0) if self.over() else None

    def _end(self, status: int) -> None:
        self._status = status
        self.release()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def spawn(work: Callable[[], int], said: str, *, held: bool = False) -> Process:
    """Fork a child that does ``work``; its standard output is ``said``, its errors are beside it.

    It never outlives this process.  With ``held`` it waits for ``release``.
    """
    ready, tell = os.pipe()
    wait, gate = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        os.close(wait)
        os.read(ready, 1)
        os.close(ready)
        process = Process(pid, gate)
        if not held:
            process.release()
        return process
    code = 70
    try:
        os.close(ready)
        os.close(gate)
        _become(said)
        os.close(tell)
        os.read(wait, 1)
        os.close(wait)
        code = work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become(said: str) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, path in ((1, said), (2, f"{said}.errors")):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


@frozen
class Place:
    """The folders of both devices."""

    root: Path
    plain: bool = False
    """Plain text between the two, so that what they say can be read from outside."""
    conflict: str | None = None

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
def place(plain: bool = False, conflict: str | None = None) -> Iterator[Place]:
    """A fresh place in memory, where there is such a folder; gone afterwards."""
    shared = Path("/dev/shm")
    above = str(shared) if os.access(shared, os.W_OK) else None
    root = tempfile.mkdtemp(prefix="lanxfer-chaos-", dir=above)
    try:
        made = Place(Path(root), plain, conflict)
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


def _serve(place: Place, port: int, tell: int) -> int:
    from twisted.internet.defer import CancelledError, Deferred

    from lanxfer.cli.options import Choices
    from lanxfer.cli.running import run
    from lanxfer.service import Settings, TransferService
    from lanxfer.transfers import Conflict

    async def work(here: Any) -> int:
        service = TransferService(
            here.reactor,
            Settings(
                inbox=str(place.inbox),
                state=place.receiver,
                device="receiver",
                bind="127.0.0.1",
                port=port,
                plain_from=("127.0.0.0/8",) if place.plain else (),
                conflict=Conflict(place.conflict) if place.conflict else None,
                reserve_bytes=0,
                reserve_share=0.0,
                control=False,
                drain=0.0,
            ),
        )
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
    held: bool = False,
) -> Process:
    """``lanxfer send`` to that port; ``said`` names the file its rows go to."""
    peer = f"127.0.0.1:{port}" if place.plain else "receiver"
    if not place.plain:
        _learn(place, port)

    def work() -> int:
        from lanxfer.cli.main import main

        options = ["--json", "--state", place.sender, "send", "--wait", str(wait)]
        options += ["--plain"] if place.plain else []
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


def pause(seconds: float) -> None:
    """Sleep, to the fraction of a millisecond."""
    time.sleep(max(0.0, seconds))
