from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lanxfer import state as state_module
from lanxfer.errors import BadState
from lanxfer.state import StateFolder, default_state

posix_only = pytest.mark.skipif(os.name == "nt", reason="modes and owners of POSIX systems")


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def fail(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """From now on this call of ``os`` fails like that."""

    def failing(*args: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, failing)


class DefaultStateTests:
    def test_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """LANXFER_STATE names the folder, a tilde included."""
        monkeypatch.setenv("HOME", "/home/anna")
        monkeypatch.setenv("LANXFER_STATE", "~/lanxfer-two")
        assert default_state() == "/home/anna/lanxfer-two"

    @pytest.mark.parametrize("value", [None, ""])
    def test_platform(self, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
        """Without it, or with an empty one, the platform's place for data of the user counts."""
        monkeypatch.delenv("LANXFER_STATE", raising=False)
        if value is not None:
            monkeypatch.setenv("LANXFER_STATE", value)
        assert os.path.basename(default_state()) == "lanxfer"
        assert os.path.isabs(default_state())


@posix_only
class OpeningTests:
    def test_made_private(self, tmp_path: Path) -> None:
        """A missing folder is made for this user alone, those above it as usual."""
        old = os.umask(0o022)
        try:
            folder = StateFolder(str(tmp_path / "a" / "b" / "state"))
        finally:
            os.umask(old)
        assert mode_of(folder.path) == 0o700
        assert mode_of(tmp_path / "a" / "b") == 0o755

    # covers: K05
    def test_durable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every folder that had to be made has a durable name."""
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
        StateFolder(str(tmp_path / "a" / "b" / "state"))
        above = (tmp_path, tmp_path / "a", tmp_path / "a" / "b")
        assert synced == [each.stat().st_ino for each in above]

    def test_kept(self, tmp_path: Path) -> None:
        """A folder that is there stays as it is, and its path becomes absolute."""
        first = StateFolder(str(tmp_path / "state"))
        first.write("x", b"1")
        again = StateFolder(os.path.relpath(first.path))
        assert again.path == first.path
        assert again.read("x") == b"1"

    # covers: A11
    @pytest.mark.parametrize("mode", [0o750, 0o701, 0o720, 0o777])
    def test_open_to_others(self, tmp_path: Path, mode: int) -> None:
        """A folder with any right for others is refused with the remedy, and not repaired."""
        path = tmp_path / "state"
        path.mkdir()
        path.chmod(mode)
        with pytest.raises(BadState, match=f"chmod 700 {path}"):
            StateFolder(str(path))
        assert mode_of(path) == mode

    def test_not_a_folder(self, tmp_path: Path) -> None:
        """A file in its place, or in the way to it, is refused with a sentence."""
        (tmp_path / "file").write_bytes(b"")
        for path in (tmp_path / "file", tmp_path / "file" / "state"):
            with pytest.raises(BadState, match="--state"):
                StateFolder(str(path))

    def test_other_owner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder of another user is refused."""
        (tmp_path / "state").mkdir(mode=0o700)
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        with pytest.raises(BadState, match="belongs to another user"):
            StateFolder(str(tmp_path / "state"))

    # covers: R14
    @pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
    def test_cannot_be_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        """Where the folder cannot be made, the sentence has the system's reason."""
        fail(monkeypatch, "mkdir", number)
        with pytest.raises(BadState, match=os.strerror(number)):
            StateFolder(str(tmp_path / "state"))

    @pytest.mark.parametrize("name", ["a\0b", "x" * 300])
    def test_impossible_path(self, tmp_path: Path, name: str) -> None:
        """A path no system takes is a sentence too."""
        with pytest.raises(BadState):
            StateFolder(str(tmp_path / name))


class FileTests:
    def test_round_trip(self, tmp_path: Path) -> None:
        """What was written is read, and nothing else lies about."""
        folder = StateFolder(str(tmp_path / "state"))
        folder.write("peers.json", b"one")
        folder.write("peers.json", b"two")
        assert folder.read("peers.json") == b"two"
        assert folder.read("other") is None
        assert os.listdir(folder.path) == ["peers.json"]

    @posix_only
    def test_modes(self, tmp_path: Path) -> None:
        """Files are private unless asked otherwise, whatever the umask."""
        folder = StateFolder(str(tmp_path / "state"))
        old = os.umask(0)
        try:
            folder.write("secret", b"")
            folder.write("public", b"", mode=0o644)
        finally:
            os.umask(old)
        assert mode_of(folder.file("secret")) == 0o600
        assert mode_of(folder.file("public")) == 0o644

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "../x"])
    def test_plain_names(self, tmp_path: Path, name: str) -> None:
        """Only plain names are files of the folder."""
        with pytest.raises(ValueError):
            StateFolder(str(tmp_path / "state")).file(name)

    @posix_only
    def test_order_of_durability(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The content is synced before the name, and the folder after it."""
        folder = StateFolder(str(tmp_path / "state"))
        calls: list[str] = []
        fsync, replace = os.fsync, os.replace

        def watched_fsync(descriptor: int) -> None:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            calls.append("sync folder" if is_folder else "sync file")
            fsync(descriptor)

        def watched_replace(source: str, target: str) -> None:
            calls.append("rename")
            assert Path(source).read_bytes() == b"data"
            replace(source, target)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        folder.write("x", b"data")
        assert calls == ["sync file", "rename", "sync folder"]

    # covers: R14, K06
    @posix_only
    @pytest.mark.parametrize("call", ["open", "fsync", "replace"])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
    def test_failed_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
    ) -> None:
        """A write that fails says why, leaves the old content and no unfinished file."""
        folder = StateFolder(str(tmp_path / "state"))
        folder.write("x", b"old")
        with monkeypatch.context() as patched:
            fail(patched, call, number)
            with pytest.raises(BadState, match=os.strerror(number)):
                folder.write("x", b"new")
        assert folder.read("x") == b"old"
        assert os.listdir(folder.path) == ["x"]

    # covers: A11
    @posix_only
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
    def test_secret_modes(self, tmp_path: Path, mode: int) -> None:
        """A secret that others may touch is refused with the remedy; other files are read."""
        folder = StateFolder(str(tmp_path / "state"))
        folder.write("key", b"k", mode=mode)
        with pytest.raises(BadState, match=r"chmod 600 .*key"):
            folder.read("key", secret=True)
        assert folder.read("key") == b"k"

    @posix_only
    def test_secret_of_another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A secret that another user put there is refused."""
        folder = StateFolder(str(tmp_path / "state"))
        folder.write("key", b"k")
        mine = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        with pytest.raises(BadState, match="another user"):
            folder.read("key", secret=True)

    # covers: K07
    @posix_only
    def test_not_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Folders, pipes and giants in place of a file are refused at once, without waiting."""
        folder = StateFolder(str(tmp_path / "state"))
        os.mkdir(folder.file("folder"))
        os.mkfifo(folder.file("pipe"))
        folder.write("giant", b"x" * 11)
        monkeypatch.setattr(state_module, "FILE_MAX", 10)
        for name in ("folder", "pipe", "giant"):
            with pytest.raises(BadState):
                folder.read(name)

    @posix_only
    def test_unreadable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file the system will not open is a sentence."""
        folder = StateFolder(str(tmp_path / "state"))
        fail(monkeypatch, "open", errno.EACCES)
        with pytest.raises(BadState, match=os.strerror(errno.EACCES)):
            folder.read("x")


class StampTests:
    def test_changes(self, tmp_path: Path) -> None:
        """A file that was written, loosened or removed has another stamp than before."""
        state = StateFolder(str(tmp_path / "state"))
        seen = [state.stamp("a")]
        state.write("a", b"1")
        seen.append(state.stamp("a"))
        assert state.stamp("a") == seen[-1]
        state.write("a", b"2")
        seen.append(state.stamp("a"))
        os.chmod(state.file("a"), 0o644)
        seen.append(state.stamp("a"))
        assert len(set(seen)) == 4
        os.unlink(state.file("a"))
        assert state.stamp("a") == seen[0] == ()


class LockTests:
    # covers: C11
    def test_one_service(self, tmp_path: Path) -> None:
        """A second service is refused, until the first lets go."""
        first = StateFolder(str(tmp_path / "state"))
        second = StateFolder(str(tmp_path / "state"))
        first.lock()
        first.lock()
        with pytest.raises(BadState, match="nother lanxfer service uses this state folder"):
            second.lock()
        first.unlock()
        first.unlock()
        second.lock()
        second.unlock()

    # covers: C11
    @posix_only
    def test_other_process(self, tmp_path: Path) -> None:
        """A service in another process counts, and its death frees the folder."""
        folder = StateFolder(str(tmp_path / "state"))
        program = (
            "import sys; from lanxfer.state import StateFolder;"
            "StateFolder(sys.argv[1]).lock(); print('locked', flush=True); sys.stdin.read()"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", program, folder.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(state_module.__file__).parent.parent,
        )
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"locked\n"
            with pytest.raises(BadState):
                folder.lock()
        finally:
            other.kill()
            other.communicate()
        folder.lock()
        folder.unlock()

    def test_service_and_commands(self, tmp_path: Path) -> None:
        """The lock of the service does not keep commands from changing files."""
        service = StateFolder(str(tmp_path / "state"))
        service.lock()
        with StateFolder(service.path).exclusive():
            pass
        service.unlock()

    def test_exclusive(self, tmp_path: Path) -> None:
        """Two that read, add one and write never lose one."""
        folder = StateFolder(str(tmp_path / "state"))
        folder.write("count", b"0")

        def count() -> None:
            for _ in range(20):
                with folder.exclusive():
                    before = int(folder.read("count") or b"")
                    time.sleep(0.0005)
                    folder.write("count", str(before + 1).encode())

        threads = [threading.Thread(target=count) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert folder.read("count") == b"60"

    def test_exclusive_does_not_wait_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A process that hangs while it changes the folder is named as the reason."""
        monkeypatch.setattr(state_module, "EXCLUSIVE_WAIT", 0.05)
        folder = StateFolder(str(tmp_path / "state"))
        with folder.exclusive(), pytest.raises(BadState, match="hangs"), folder.exclusive():
            pass
        with folder.exclusive():
            pass

    # covers: R14
    @posix_only
    def test_lock_on_read_only_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no lock can be had there is no service."""
        folder = StateFolder(str(tmp_path / "state"))
        fail(monkeypatch, "open", errno.EROFS)
        with pytest.raises(BadState, match=os.strerror(errno.EROFS)):
            folder.lock()

    def test_descriptors(self, tmp_path: Path) -> None:
        """A refused lock leaves no file open."""
        if not os.path.isdir("/proc/self/fd"):
            pytest.skip("no /proc here")
        first, second = (StateFolder(str(tmp_path / "state")) for _ in range(2))
        first.lock()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(BadState):
                second.lock()
        assert len(os.listdir("/proc/self/fd")) == before
        first.unlock()

    def test_leftovers(self, tmp_path: Path) -> None:
        """Starting a service removes unfinished files of old crashes and nothing else."""
        folder = StateFolder(str(tmp_path / "state"))
        long_ago = time.time() - 2 * state_module.LEFTOVER_AGE
        for name in (".key.pem.0011.tmp", ".key.pem.0022.tmp", "notes.tmp", ".hidden"):
            Path(folder.file(name)).write_bytes(b"")
            if name != ".key.pem.0022.tmp":
                os.utime(folder.file(name), (long_ago, long_ago))
        folder.lock()
        folder.unlock()
        left = {".key.pem.0022.tmp", "notes.tmp", ".hidden", "service.lock"}
        assert set(os.listdir(folder.path)) == left


class SocketPathTests:
    def test_short(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The control socket lies in the folder."""
        monkeypatch.setattr(state_module, "SOCKET_PATH_MAX", 4096)
        folder = StateFolder(str(tmp_path / "state"))
        assert folder.socket_path == os.path.join(folder.path, "control.sock")

    @pytest.mark.parametrize("character", ["x", "é"])
    def test_too_long(self, tmp_path: Path, character: str) -> None:
        """A path that no socket can have is refused when it is asked for, in bytes."""
        room = 100 - len(os.fsencode(str(tmp_path))) - len("/control.sock") - 1
        if room < 2:
            pytest.skip("the folder for tests is too deep")
        width = len(os.fsencode(character))
        fits = StateFolder(str(tmp_path / ("x" * (room % width) + character * (room // width))))
        assert len(os.fsencode(fits.socket_path)) == 100
        longer = StateFolder(fits.path + "y")
        with pytest.raises(BadState, match=r"too long.*--state"):
            _ = longer.socket_path
