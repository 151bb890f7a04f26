"""What becomes of files where a store refuses, breaks off or says nothing in the middle."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from servers import Sshd, refuse_write, sshd

from lanxfer.errors import DiskFailed, LanxferError, SourceChanged
from lanxfer.storage import Small
from lanxfer.storage.names import safe_path
from lanxfer.storage.remote import RemoteVolume, remote_volume
from lanxfer.storage.spooled import SpooledStore
from lanxfer.storage.volumes import VolumeShare
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

MIB = limits.MIB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    pytest.importorskip("paramiko")
    with sshd(tmp_path_factory.mktemp("ssh") / "server") as found:
        yield found


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def far(server: Sshd, served: Path) -> Iterator[Any]:
    """A folder of an SFTP server."""
    made = remote_volume(
        f"sftp://{server.user}@127.0.0.1:{server.port}{served}",
        make=True,
        known_hosts=str(server.known_hosts()),
        key_filename=str(server.user_key),
        passphrase=server.passphrase,
        allow_agent=False,
        look_for_keys=False,
    )
    yield made
    made.close()


@pytest.fixture
def plain() -> Any:
    """Of fsspec's stores one that promises nothing."""
    return remote_volume(f"memory://{uuid.uuid4().hex}", make=True)


def put(store: SpooledStore, path: str, data: bytes, conflict: Conflict) -> Stored | LanxferError:
    offer = Offer(path, len(data), digest=blake3(data).hexdigest())
    (answer,) = store.put_many([Small("peer:a", offer, safe_path(path), conflict, [data])])
    return answer


class Moves:
    """How fsspec's memory moves: ``fails`` says which ones break, before or after they are done."""

    def __init__(self, real: Callable[..., None]) -> None:
        self._real = real
        self._count = 0
        self.fails: dict[int, str] = {}

    def __call__(self, fs: Any, *args: Any, **more: Any) -> None:
        self._count += bool(self.fails)
        fails = self.fails.get(self._count)
        if fails != "before":
            self._real(fs, *args, **more)
        if fails:
            raise ConnectionResetError


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

    made = Moves(MemoryFileSystem.mv)
    monkeypatch.setattr(MemoryFileSystem, "mv", lambda fs, *args, **more: made(fs, *args, **more))
    return made


def read(volume: RemoteVolume, *parts: str) -> bytes:
    file = volume.open(parts)
    try:
        return file.read(100)
    finally:
        file.close()


class SftpTests:
    def test_refused_write(self, far: Any, served: Path) -> None:
        """One refused write fails the whole file, and what had its name keeps it."""
        (served / "log").write_bytes(b"old")
        (served / "tail").write_bytes(b"x" * 200_000)
        refuse_write(far._connected().ftp, 2)
        with pytest.raises(DiskFailed):
            VolumeShare("docs", far).append(safe_path("log"), safe_path("tail"))
        assert (served / "log").read_bytes() == b"old"
        assert (served / "tail").stat().st_size == 200_000
        assert os.listdir(served / ".lanxfer-staging") == []

    def test_look_meanwhile(self, far: Any, served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Other questions in the middle of a put do it no harm."""
        monkeypatch.setattr("lanxfer.storage.sftp.PATIENCE", 5.0)
        data = os.urandom(MIB) * 12

        def chunks() -> Iterator[bytes]:
            for at in range(0, len(data), MIB):
                assert far.look(("x",)) is None
                yield data[at : at + MIB]

        far.store(("a",), chunks(), None, False)
        assert (served / "a").read_bytes() == data

    @pytest.mark.parametrize("conflict", [Conflict.REFUSE, Conflict.RENAME])
    def test_lost_answer(self, far: Any, served: Path, tmp_path: Path, conflict: Conflict) -> None:
        """A file that is there, though the answer to its rename was lost, is stored and once."""
        ftp = far._connected().ftp
        real = ftp.rename

        def rename(old: str, new: str) -> None:
            real(old, new)
            raise EOFError

        ftp.rename = rename
        store = SpooledStore(far, str(tmp_path / "spool"), reserve_bytes=0, reserve_share=0)
        stored = Stored("a", 4, blake3(b"data").hexdigest(), already=True)
        assert put(store, "a", b"data", conflict) == stored
        assert [name for name in os.listdir(served) if name[0] != "."] == ["a"]
        store.close()


class PlainTests:
    def test_cut_short(self, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store that keeps less than it was sent, and does not say so, has not stored it."""
        real = plain.open_new

        def open_new(fs: Any, full: str) -> Any:
            file = real(fs, full)
            write = file.write
            monkeypatch.setattr(file, "write", lambda data: write(data[:2]), raising=False)
            return file

        monkeypatch.setattr(plain, "open_new", open_new)
        with pytest.raises(DiskFailed, match="2 of 4 bytes"):
            plain.store(("a",), iter([b"data"]), None, False)
        assert plain.look(("a",)) is None

    def test_pattern(self, plain: Any) -> None:
        """A name that looks like a pattern is moved alone, and what would fit it stays."""
        share = VolumeShare("docs", plain)
        for name in ("x[12]", "x1", "x2", "*", "d[1]/in/f", "d[1]/?", "d1/g"):
            *above, _ = name.split("/")
            if above:
                share.make_folder(safe_path("/".join(above)), parents=True, exist_ok=True)
            plain.store(tuple(name.split("/")), iter([name.encode()]), None, False)
        share.make_folder(safe_path("d[1]/empty"), parents=False, exist_ok=False)
        for name, to in (("x[12]", "y"), ("*", "all"), ("d[1]", "e")):
            share.move(safe_path(name), safe_path(to), overwrite=False)
        assert [row["name"] for row in share.scan(None)] == ["all", "d1", "e", "x1", "x2", "y"]
        assert [row["name"] for row in share.scan(safe_path("e"))] == ["?", "empty", "in"]
        assert read(plain, "y") == b"x[12]" and read(plain, "all") == b"*"
        assert read(plain, "x1") == b"x1" and read(plain, "d1", "g") == b"d1/g"
        assert read(plain, "e", "in", "f") == b"d[1]/in/f"

    def test_failed_rename(self, plain: Any, moves: Moves) -> None:
        """Where a file cannot be given its name, what had that has it again."""
        plain.store(("a",), iter([b"old"]), None, False)
        moves.fails = {2: "before"}
        with pytest.raises(DiskFailed):
            plain.store(("a",), iter([b"new"]), None, True)
        assert read(plain, "a") == b"old"
        assert list(plain.names((".lanxfer-staging",))) == []

    @pytest.mark.parametrize("number", [1, 2])
    def test_lost_answer(self, plain: Any, moves: Moves, number: int) -> None:
        """Where only the answer was lost, there is the old one or the new one, and nothing else."""
        plain.store(("a",), iter([b"old"]), None, False)
        moves.fails = {number: "after"}
        with suppress(DiskFailed) if number == 1 else nullcontext():
            plain.store(("a",), iter([b"new"]), None, True)
        assert read(plain, "a") == (b"old" if number == 1 else b"new")
        assert list(plain.names((".lanxfer-staging",))) == []

    def test_broken_off(self, plain: Any, moves: Moves) -> None:
        """What cannot be put back either is kept, and it is said where."""
        plain.store(("a",), iter([b"old"]), None, False)
        moves.fails = {2: "before", 3: "before"}
        with pytest.raises(DiskFailed, match="replaced") as caught:
            plain.store(("a",), iter([b"new"]), None, True)
        assert plain.tidy(-3600) == 0
        ((name, _),) = plain.names((".lanxfer-staging",))
        assert f".lanxfer-staging/{name}" in caught.value.reason
        assert read(plain, ".lanxfer-staging", name) == b"old"


class AppendTests:
    @pytest.fixture
    def share(self, plain: Any, tmp_path: Path) -> Iterator[VolumeShare]:
        store = SpooledStore(plain, str(tmp_path / "spool"), reserve_bytes=0, reserve_share=0)
        plain.store(("log",), iter([b"old"]), None, False)
        plain.store(("tail",), iter([b"tail"]), None, False)
        yield VolumeShare("docs", plain, store)
        store.close()

    def test_overwritten_meanwhile(
        self, plain: Any, share: VolumeShare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is put in the place of a file while another is added to it is there afterwards."""
        assert isinstance(share.store, SpooledStore)
        putting = threading.Thread(
            target=put, args=(share.store, "log", b"new", Conflict.OVERWRITE)
        )
        real = plain._write

        def write(full: str, chunks: Iterator[bytes]) -> None:
            real(full, chunks)
            if not putting.ident:
                putting.start()
                putting.join(0.3)

        monkeypatch.setattr(plain, "_write", write)
        assert share.append(safe_path("log"), safe_path("tail")) == 7
        putting.join(60)
        assert read(plain, "log") == b"new"

    def test_changed_meanwhile(
        self, plain: Any, share: VolumeShare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What others make of the file while the tail is read is kept, and the tail as well."""
        real = plain.store

        def store(parts: Any, chunks: Iterator[bytes], *more: Any) -> None:
            read = [next(chunks), next(chunks)]
            plain._connected().pipe_file(plain.full(parts), b"of others")
            real(parts, chain(read, chunks), *more)

        monkeypatch.setattr(plain, "store", store)
        with pytest.raises(SourceChanged):
            share.append(safe_path("log"), safe_path("tail"))
        assert read(plain, "log") == b"of others" and read(plain, "tail") == b"tail"
