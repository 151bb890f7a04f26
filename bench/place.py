"""Where a benchmark keeps its files, all of it removed afterwards."""

from __future__ import annotations

import os
import random
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from attrs import frozen
from blake3 import blake3

from bench.processes import BenchFailed
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers, name_certificate
from lanxfer.state import StateFolder

MIB = 1024 * 1024
SMALL = 4096
"""Bytes of one of the many small files."""
IN_FOLDER = 100
"""Files in one folder of the tree."""

_MEMORY = "/dev/shm"
_MU, _SIGMA = 9.23, 1.5
"""Of the logarithm of a file's size: half of them are below 10 KiB, some above 1 MiB."""


@frozen
class Run:
    """The folders of one run: nothing in them is left from another one."""

    folder: Path

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def server(self) -> Path:
        """The state folder of the service."""
        return self.folder / "server"

    @property
    def client(self) -> Path:
        """The state folder of the client, whose key the service knows."""
        return self.folder / "client"


class Place:
    """A folder for what is sent and what is received; ``sources`` are made once, for all runs.

    With ``keep`` what was received stays until all is over: ext4 gives no inode again that
    was freed in the last minutes, so whoever comes after a folder of thousands was removed
    looks long for each of its own.
    """

    def __init__(self, folder: Path, keep: bool = False) -> None:
        self.folder = folder
        self._keep = keep
        self._states = folder / "states"
        self._pair()

    def _pair(self) -> None:
        """Two devices that have met before, and so know each other's key, and its certificate."""
        folders = [StateFolder(str(self._states / name)) for name in ("server", "client")]
        server, client = [load_identity(each) for each in folders]
        shown = name_certificate(ssl.PEM_cert_to_DER_cert(server.certificate_pem.decode()))
        Peers(folders[0]).add(Peer("client", client.key))
        Peers(folders[1]).add(Peer("server", server.key, certificate=shown))

    def large(self, mib: int) -> Path:
        """One file of so many MiB, no two of them alike."""
        path = self.folder / "large.bin"
        free = shutil.disk_usage(self.folder).free
        if free < 2.2 * mib * MIB:
            raise BenchFailed(f"{self.folder} has room for {free // MIB} MiB; say --size or --dir.")
        with open(path, "wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))
        return path

    def tree(self, files: int) -> Path:
        """So many small files, some of them in each folder."""
        top = self.folder / "tree"
        for number in range(files):
            folder = top / f"{number // IN_FOLDER:03}"
            if number % IN_FOLDER == 0:
                folder.mkdir(parents=True)
            (folder / f"{number:06}.bin").write_bytes(os.urandom(SMALL))
        return top

    def mixed(self, files: int) -> Path:
        """So many files as people have them: log-normal sizes, about 30 KiB on average."""
        top = self.folder / "mixed"
        chance = random.Random("lanxfer")
        for number in range(files):
            folder = top / f"{number // IN_FOLDER:03}"
            if number % IN_FOLDER == 0:
                folder.mkdir(parents=True)
            size = min(int(chance.lognormvariate(_MU, _SIGMA)), 8 * MIB)
            (folder / f"{number:06}.bin").write_bytes(chance.randbytes(size))
        return top

    def several(self, files: int, size: int) -> Path:
        """A folder with so many files of ``size`` bytes."""
        top = self.folder / "several"
        top.mkdir()
        for number in range(files):
            (top / f"{number:02}.bin").write_bytes(os.urandom(size))
        return top

    def remove(self, source: Path) -> None:
        """What was made for one workload, so that memory has room for the next."""
        top = self.folder / source.relative_to(self.folder).parts[0]
        if top.is_dir():
            shutil.rmtree(top)
        else:
            top.unlink()

    @contextmanager
    def run(self) -> Iterator[Run]:
        """Folders for one run; they are removed at its end, where they are not to be kept."""
        run = Run(Path(tempfile.mkdtemp(prefix="run-", dir=self.folder)))
        try:
            for name in ("server", "client"):
                shutil.copytree(self._states / name, run.folder / name)
            run.inbox.mkdir(mode=0o700)
            yield run
        finally:
            if not self._keep:
                shutil.rmtree(run.folder, ignore_errors=True)


@contextmanager
def place(parent: str | None, keep: bool = False) -> Iterator[Place]:
    """A place below ``parent``; None is a file system in memory, where there is one."""
    if parent is None and os.access(_MEMORY, os.W_OK | os.X_OK):
        parent = _MEMORY
    folder = tempfile.mkdtemp(prefix="lanxfer-bench-", dir=parent and os.path.abspath(parent))
    try:
        yield Place(Path(folder), keep)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def warm(size: int) -> None:
    """Take so much memory and give it back at once, so that a run finds it ready.

    Below a hypervisor that takes back what is free, new memory costs seven times what
    other memory does, for some seconds of rest are enough; whoever begins to send
    at once would seem fast, and whoever has to start up first slow.
    """
    folder = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryFile(dir=folder) as file:
        block = bytes(MIB)
        room = os.fstatvfs(file.fileno())
        for _ in range(min(size, room.f_bavail * room.f_frsize // 2) // MIB):
            file.write(block)


def digest(path: Path) -> str:
    """BLAKE3 of a file, in hex."""
    running = blake3()
    with open(path, "rb") as file:
        while chunk := file.read(MIB):
            running.update(chunk)
    return running.hexdigest()


@cache
def _sent(path: Path, size: int, mtime_ns: int) -> str:
    return digest(path)


def check_same(source: Path, received: Path) -> None:
    """Compare a file, or all files of a tree, with what came of it."""
    files = [each for each in source.rglob("*") if each.is_file()] if source.is_dir() else [source]
    for each in files:
        there = received / each.relative_to(source) if source.is_dir() else received
        about = each.stat()
        sent = _sent(each, about.st_size, about.st_mtime_ns)
        if not there.is_file() or sent != digest(there):
            raise BenchFailed(f"{there.name} did not arrive as it was sent.")
