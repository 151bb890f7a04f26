"""What only a disk can do to files, and what a store does about it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_storage import MIB, MTIME, Memory, Place, digest, local_place

from lanxfer.errors import (
    BadName,
    BadState,
    Busy,
    DiskFailed,
    DiskFull,
    Exists,
    LanxferError,
    Overloaded,
    QuotaExceeded,
    TooLarge,
    WeakStorage,
)
from lanxfer.storage import batches
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import safe_path
from lanxfer.storage.system import SyncFailed
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

STAGING = ".lanxfer-staging"
IDLE = {"lock"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs folder descriptors")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "inbox"


@pytest.fixture
def place(root: Path) -> Iterator[Place]:
    place = local_place(str(root))
    yield place
    place.store.close()


@pytest.fixture(params=["part", "small"])
def put(request: pytest.FixtureRequest, place: Place) -> Callable[..., Stored]:
    return place.put if request.param == "part" else place.put_small


def staged(root: Path) -> set[str]:
    return set(os.listdir(root / STAGING)) - IDLE


def part_file(root: Path, place: Place, path: str, size: int) -> Path:
    return root / STAGING / f"{place.key(path, size)}.part"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def fail(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: int,
    *,
    after: int = 0,
    times: int = 10**6,
    when: Callable[..., bool] = lambda *args, **named: True,
) -> list[int]:
    """Make calls of ``os.name`` fail, from the one numbered ``after`` on; counts the calls."""
    real = getattr(os, name)
    calls = [0]

    def replacement(*args: Any, **named: Any) -> Any:
        if when(*args, **named):
            calls[0] += 1
            if after < calls[0] <= after + times:
                raise OSError(error, os.strerror(error))
        return real(*args, **named)

    monkeypatch.setattr(os, name, replacement)
    return calls


def killed(work: Callable[[], object], name: str, after: int) -> bool:
    """Do it in another process that dies at a call of ``os.name``; whether it came to that."""
    child = os.fork()
    if child == 0:
        try:
            real, calls = getattr(os, name), [0]

            def replacement(*args: Any, **named: Any) -> Any:
                calls[0] += 1
                if calls[0] > after:
                    os._exit(9)
                return real(*args, **named)

            setattr(os, name, replacement)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def is_folder(fd: int, *args: Any) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def is_file(fd: int, *args: Any) -> bool:
    return not is_folder(fd)


class RootTests:
    def test_made_with_those_above(self, tmp_path: Path) -> None:
        """A folder that does not exist is made, for its owner only, and so is staging."""
        root = tmp_path / "a" / "b"
        store = LocalStore(str(root))
        assert stat.S_IMODE(root.stat().st_mode) & 0o077 == 0
        assert stat.S_IMODE((root / STAGING).stat().st_mode) == 0o700
        assert store.weaknesses() == ()
        store.close()
        store.close()

    def test_link_to_a_folder(self, tmp_path: Path) -> None:
        """The owner may name the folder by a link; it is resolved once."""
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        place = local_place(str(tmp_path / "link"))
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("elsewhere")
        place.put("a", b"x")
        assert (tmp_path / "real" / "a").read_bytes() == b"x"
        place.store.close()

    @pytest.mark.parametrize("what", ["file", "below a file"])
    def test_no_folder(self, tmp_path: Path, what: str) -> None:
        """What is no folder is refused in a sentence."""
        (tmp_path / "f").write_text("x")
        with pytest.raises(BadState):
            LocalStore(str(tmp_path / "f" / "x" if what != "file" else tmp_path / "f"))
        assert (tmp_path / "f").read_text() == "x"

    # covers: C11
    def test_one_store_a_folder(self, root: Path, place: Place) -> None:
        """A second store on the same folder is refused until the first has gone."""
        with pytest.raises(BadState, match="nother lanxfer uses this folder"):
            LocalStore(str(root))
        place.store.close()
        LocalStore(str(root)).close()

    # covers: P17
    @pytest.mark.parametrize("what", ["link", "file", "open", "fifo"])
    def test_planted_staging_folder(self, tmp_path: Path, what: str) -> None:
        """A staging folder that somebody else could reach is not used."""
        root, outside = tmp_path / "inbox", tmp_path / "outside"
        root.mkdir()
        outside.mkdir()
        planted = root / STAGING
        if what == "link":
            planted.symlink_to(outside)
        elif what == "file":
            planted.write_text("x")
        elif what == "fifo":
            os.mkfifo(planted)
        else:
            planted.mkdir()
            planted.chmod(0o755)
        before = descriptors()
        with pytest.raises(BadState):
            LocalStore(str(root))
        assert os.listdir(outside) == []
        assert descriptors() == before

    def test_longer_part(self, root: Path, place: Place) -> None:
        """What lies behind the end of a file is cut off; what is before it must be proved."""
        part_file(root, place, "a", 5).write_bytes(b"abcde and more")
        part = place.open("a", 5)
        assert part.have() == ((5, digest(b"abcde")),)
        part.begin(5)
        assert part.publish(digest(b"abcde")).path == "a"
        assert (root / "a").read_bytes() == b"abcde"

    # covers: P17
    @pytest.mark.parametrize("what", ["link", "fifo", "folder"])
    def test_planted_lock(self, tmp_path: Path, what: str) -> None:
        """A lock file that is none is not opened for writing."""
        root = tmp_path / "inbox"
        (root / STAGING).mkdir(parents=True)
        (root / STAGING).chmod(0o700)
        lock = root / STAGING / "lock"
        if what == "link":
            lock.symlink_to(tmp_path / "outside")
        elif what == "fifo":
            os.mkfifo(lock)
        else:
            lock.mkdir()
        with pytest.raises(BadState):
            LocalStore(str(root))
        assert not (tmp_path / "outside").exists()

    # covers: P13
    def test_moved(self, tmp_path: Path, root: Path, place: Place) -> None:
        """Moved while in use, the folder is still the one written to, and status says so."""
        root.rename(tmp_path / "moved")
        place.put("d/a", b"x")
        assert (tmp_path / "moved" / "d" / "a").read_bytes() == b"x"
        assert not root.exists()
        assert "moved" in place.store.weaknesses()[0]

    # covers: P13
    def test_replaced_by_a_link(self, tmp_path: Path, root: Path, place: Place) -> None:
        """A link put in the folder's place is not followed."""
        root.rename(tmp_path / "moved")
        (tmp_path / "outside").mkdir()
        root.symlink_to(tmp_path / "outside")
        place.put("a", b"x")
        assert os.listdir(tmp_path / "outside") == []
        assert place.store.weaknesses()

    # covers: P13
    def test_deleted(self, root: Path, place: Place) -> None:
        """Deleted while in use, the folder is not made anew, and storing fails."""
        for name in (root / STAGING).iterdir():
            name.unlink()
        (root / STAGING).rmdir()
        root.rmdir()
        for path in ("a", "d/a"):
            with pytest.raises(DiskFailed):
                place.put(path, b"x")
            with pytest.raises(DiskFailed):
                place.put_small(path, b"x")
        with pytest.raises(DiskFailed):
            place.store.make_folder(safe_path("d"))
        assert not root.exists()
        assert place.store.weaknesses()

    def test_closed(self, place: Place) -> None:
        """A closed store does nothing, and says so by typed errors."""
        small = place.small("a", b"x")
        place.store.close()
        calls: list[Callable[[], object]] = [
            lambda: place.open("a", 1),
            lambda: place.store.put_many([small]),
        ]
        for call in calls:
            with pytest.raises(LanxferError):
                call()

    # covers: R14
    def test_nothing_can_be_written(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that takes nothing is noticed at the start."""
        fail(monkeypatch, "mkdir", errno.EROFS, when=lambda *args, **named: "dir_fd" in named)
        before = descriptors()
        with pytest.raises(BadState):
            LocalStore(str(root))
        assert descriptors() == before

    def test_reserve(self, root: Path) -> None:
        """The larger of the two reserves is left free."""
        store = LocalStore(str(root), reserve_bytes=10**18)
        assert store.free() == 0
        with pytest.raises(DiskFull):
            store.open_part("0" * 32, Offer("a", 1), safe_path("a"), Conflict.RENAME)
        store.close()
        half = LocalStore(str(root), reserve_bytes=0, reserve_share=0.0)
        everything = half.free()
        half.close()
        store = LocalStore(str(root), reserve_bytes=0, reserve_share=1.0)
        assert store.free() == 0 < everything
        store.close()


class QuickTests:
    def test_seen(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk is quick as soon as it was, and no longer when it lets wait each time."""
        assert not place.store.quick
        for seconds, times, quick in ((0.01, 3, False), (0.0, 1, True), (0.01, 8, False)):
            for count in range(times):
                clock = iter((1.0, 1.0 + seconds))
                # Its own alone: other threads look at the time as well.
                monkeypatch.setattr(batches, "time", SimpleNamespace(monotonic=clock.__next__))
                (answer,) = place.store.put_many([place.small(f"{times}-{count}", b"x")])
                monkeypatch.undo()
                assert isinstance(answer, Stored)
            assert place.store.quick is quick


class WeakTests:
    def test_no_links(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without hard links there is no promise, and no store unless that was chosen."""
        fail(monkeypatch, "link", errno.EPERM)
        before = descriptors()
        with pytest.raises(WeakStorage):
            LocalStore(str(root))
        assert descriptors() == before
        place = local_place(str(root), weak=True)
        assert place.store.weaknesses()
        assert place.put("a", b"one").path == "a"
        assert place.put("a", b"two", mtime=1).path == "a (2)"
        assert place.put_small("a", b"three").path == "a (3)"
        assert place.put_small("a", b"four", Conflict.OVERWRITE).path == "a"
        with pytest.raises(Exists):
            place.put("a", b"five!", Conflict.REFUSE)
        assert place.put("a", b"two", mtime=1).already
        assert place.names() == {"a", "a (2)", "a (3)"}
        assert place.read("a") == b"four"
        assert place.store.tidy(-1) == 0  # the part that was refused is gone
        place.store.close()

    def test_no_folder_sync(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where folders cannot be synced that is said, and then not tried again."""
        root.mkdir()
        calls = fail(monkeypatch, "fsync", errno.EINVAL, when=is_folder)
        with pytest.raises(WeakStorage):
            LocalStore(str(root))
        place = local_place(str(root), weak=True)
        assert place.store.weaknesses()
        tried = calls[0]
        place.put("d/a", b"one")
        place.put_small("d/b", b"two")
        assert calls[0] == tried
        place.store.close()

    def test_case(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Names that are the same but for case are said to be one, which is no reason to refuse."""
        real = os.stat

        def blind(path: Any, **named: Any) -> Any:
            return real("probe-a" if path == "PROBE-A" else path, **named)

        monkeypatch.setattr(os, "stat", blind)
        store = LocalStore(str(root))
        assert "case" in store.weaknesses()[0]
        store.close()

    def test_other_systems(self, root: Path) -> None:
        """Where there are no locks by file the modules can be imported, and a store is refused."""
        program = (
            "import sys; sys.modules['fcntl'] = None\n"
            "from lanxfer.errors import WeakStorage\n"
            "from lanxfer.storage import memory, sources\n"
            "from lanxfer.storage.local import LocalStore\n"
            "try: LocalStore(sys.argv[1])\n"
            "except WeakStorage as error: print(error)\n"
        )
        ran = subprocess.run(
            [sys.executable, "-c", program, str(root)], capture_output=True, text=True, check=True
        )
        assert "operating system" in ran.stdout
        assert not root.exists()

    def test_no_folder_descriptors(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A system that cannot do it safely is told so."""
        monkeypatch.setattr(os, "supports_dir_fd", set())
        with pytest.raises(WeakStorage):
            LocalStore(str(root), weak=True)


class ModeTests:
    # covers: P18, L08
    def test_modes(self, root: Path) -> None:
        """A file gets what the umask leaves, the x bits if they were sent, and nothing else."""
        old = os.umask(0o027)
        try:
            place = local_place(str(root))
        finally:
            os.umask(old)
        for name, executable, mode in (("data", False, 0o640), ("exec", True, 0o750)):
            offer = Offer(name, 1, executable=executable)
            key = name[0] * 32
            part = place.store.open_part(key, offer, safe_path(name), Conflict.RENAME)
            part.begin(0)
            part.write([b"x"])
            assert stat.S_IMODE((root / STAGING / f"{key}.part").stat().st_mode) == 0o600
            part.publish(None)
            assert stat.S_IMODE((root / name).stat().st_mode) == mode
        place.put_small("small", b"x")
        assert stat.S_IMODE((root / "small").stat().st_mode) == 0o640
        place.store.close()


def test_umask_is_not_touched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are made while another store is opened have the mode they always have."""
    if sys.platform != "linux":
        pytest.skip("elsewhere it can only be asked for by setting it")
    before = os.umask(0o022)
    os.umask(before)
    monkeypatch.setattr(os, "umask", None)
    place = local_place(str(root))
    place.put("a", b"a")
    place.store.close()
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o666 & ~before


class HostileTests:
    # covers: P10
    @pytest.mark.parametrize("target", ["outside", "missing", "self"])
    def test_link_at_the_name(
        self, tmp_path: Path, root: Path, put: Callable[..., Stored], target: str
    ) -> None:
        """A link at the name, whatever it points to, is not followed."""
        outside = tmp_path / "outside"
        outside.write_text("precious")
        goal = {"outside": outside, "missing": tmp_path / "missing", "self": root / "l"}[target]
        (root / "l").symlink_to(goal)
        for conflict in (Conflict.OVERWRITE, Conflict.REFUSE):
            with pytest.raises(Exists):
                put("l", b"file", conflict)
        assert put("l", b"file").path == "l (2)"
        assert outside.read_text() == "precious"
        assert not (tmp_path / "missing").exists()
        assert (root / "l").is_symlink()

    # covers: P14
    @pytest.mark.parametrize("what", ["fifo", "socket"])
    def test_special_file_at_the_name(
        self, root: Path, put: Callable[..., Stored], what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pipe or a socket at the name is not even opened."""
        if what == "fifo":
            os.mkfifo(root / "x")
        else:
            monkeypatch.chdir(root)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind("x")
        real = os.open

        def watched(path: Any, *args: Any, **named: Any) -> int:
            assert path != "x"
            return real(path, *args, **named)

        monkeypatch.setattr(os, "open", watched)
        for conflict in (Conflict.OVERWRITE, Conflict.REFUSE):
            with pytest.raises(Exists):
                put("x", b"file", conflict)
        assert put("x", b"").path == "x (2)"

    # covers: P11
    @pytest.mark.parametrize("what", ["link", "file", "fifo"])
    def test_no_folder_above(
        self, tmp_path: Path, root: Path, put: Callable[..., Stored], place: Place, what: str
    ) -> None:
        """A link to a folder outside, a file or a pipe is no folder of ours."""
        outside = tmp_path / "outside"
        outside.mkdir()
        if what == "link":
            (root / "d").symlink_to(outside)
        elif what == "file":
            (root / "d").write_text("x")
        else:
            os.mkfifo(root / "d")
        for path in ("d/a", "d/e/a"):
            with pytest.raises(BadName):
                put(path, b"file")
        with pytest.raises(BadName):
            place.store.make_folder(safe_path("d/e"))
        with pytest.raises(BadName):
            place.store.make_link(safe_path("d/l"), "x", Conflict.RENAME)
        assert os.listdir(outside) == []
        assert place.store.look(safe_path("d/a")) is None

    # covers: P16
    def test_hard_link_at_the_name(
        self, tmp_path: Path, root: Path, put: Callable[..., Stored]
    ) -> None:
        """Overwriting replaces the name; the other name of the old file keeps its bytes."""
        outside = tmp_path / "precious"
        outside.write_text("precious")
        os.link(outside, root / "a")
        assert put("a", b"new", Conflict.OVERWRITE).path == "a"
        assert (root / "a").read_bytes() == b"new"
        assert outside.read_text() == "precious"

    # covers: P12
    def test_exchanged_folder(self, tmp_path: Path, root: Path, place: Place) -> None:
        """No file escapes through a folder that is exchanged with a link all the time."""
        libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(libc, "renameat2"):
            pytest.skip("needs an atomic exchange")
        outside = tmp_path / "outside"
        outside.mkdir()
        (root / "d").mkdir()
        (root / "swap").symlink_to(outside)
        names = os.fsencode(root / "d"), os.fsencode(root / "swap")
        done = threading.Event()
        exchanges = [0]

        def exchange() -> None:
            while not done.is_set():
                if libc.renameat2(-100, names[0], -100, names[1], 2) == 0:
                    exchanges[0] += 1

        thread = threading.Thread(target=exchange)
        thread.start()
        stored = refused = 0
        try:
            for n in range(300):
                try:
                    if n % 3:
                        place.put_small(f"d/f{n}", b"x")
                    else:
                        place.put(f"d/f{n}", b"x")
                    stored += 1
                except BadName:
                    refused += 1
        finally:
            done.set()
            thread.join()
        assert stored + refused == 300
        assert exchanges[0] > 100
        assert stored and refused
        assert os.listdir(outside) == []
        kept = root / "swap" if (root / "d").is_symlink() else root / "d"
        assert len(os.listdir(kept)) == stored

    def test_longer_part(self, root: Path, place: Place) -> None:
        """What lies behind the end of a file is cut off; what is before it must be proved."""
        part_file(root, place, "a", 5).write_bytes(b"abcde and more")
        part = place.open("a", 5)
        assert part.have() == ((5, digest(b"abcde")),)
        part.begin(5)
        assert part.publish(digest(b"abcde")).path == "a"
        assert (root / "a").read_bytes() == b"abcde"

    # covers: P17
    @pytest.mark.parametrize("what", ["link", "fifo", "socket", "hard link"])
    def test_planted_part(
        self, tmp_path: Path, root: Path, place: Place, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What lies at a part's name and is no part of ours is neither read nor written."""
        outside = tmp_path / "outside"
        outside.write_text("precious")
        planted = part_file(root, place, "a", 5)
        if what == "link":
            planted.symlink_to(outside)
        elif what == "fifo":
            os.mkfifo(planted)
        elif what == "socket":
            monkeypatch.chdir(planted.parent)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(planted.name)
        else:
            os.link(outside, planted)
        part = place.open("a", 5)
        assert part.held == 0
        part.begin(0)
        part.write([b"abcde"])
        assert part.publish(digest(b"abcde")).path == "a"
        assert outside.read_text() == "precious"
        assert staged(root) == set()

    # covers: K08
    def test_no_room_for_what_is_there(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is there already needs no room, also where the others of its folder have none."""
        there = place.small("d/there", b"there already")
        place.store.put_many([there])
        monkeypatch.setattr(place.store, "free", lambda: 5)
        new, again = place.store.put_many([place.small("d/new", b"x" * 10), there])
        assert isinstance(new, DiskFull)
        assert again.already

    # covers: P17
    def test_planted_part_of_a_small_file(self, tmp_path: Path, root: Path, place: Place) -> None:
        """The same holds for files that come in one piece."""
        outside = tmp_path / "outside"
        outside.write_text("precious")
        os.link(outside, part_file(root, place, "a", 5))
        part_file(root, place, "b", 5).symlink_to(outside)
        answers = place.store.put_many([place.small("a", b"abcde"), place.small("b", b"abcde")])
        assert [each.path for each in answers] == ["a", "b"]
        assert outside.read_text() == "precious"

    def test_folder_at_a_parts_name(self, root: Path, place: Place) -> None:
        """A folder in the part's place is an error and not a crash."""
        part_file(root, place, "a", 5).mkdir()
        with pytest.raises(LanxferError):
            place.open("a", 5)
        assert place.put_small("a", b"abcde").path == "a"
        assert place.store.tidy(-1) == 0
        part_file(root, place, "b", 5).mkdir()
        part_file(root, place, "b", 5).rmdir()
        assert place.put("b", b"abcde").path == "b"

    # covers: P20
    def test_tidy_stays_in_its_folder(self, tmp_path: Path, root: Path, place: Place) -> None:
        """Names that are not the store's own are left alone, and links are not followed."""
        outside = tmp_path / "outside"
        outside.write_text("precious")
        for name in ("notes.txt", "0" * 32, "0" * 31 + ".part", "A" * 32 + ".part"):
            (root / STAGING / name).write_text("x")
        (root / STAGING / ("1" * 32 + ".part")).symlink_to(outside)
        (root / STAGING / ("2" * 32 + ".part")).mkdir()
        assert place.store.tidy(-1) == 1
        assert outside.read_text() == "precious"
        assert len(staged(root)) == 5


class CrashTests:
    """The process dies at a point in between; another one comes after it."""

    # covers: K01, K08
    @pytest.mark.parametrize("how", ["part", "small"])
    def test_between_name_and_receipt(self, root: Path, how: str) -> None:
        """A file that had its name already is found by it, and never written to again."""
        place = local_place(str(root))
        store = place.put if how == "part" else place.put_small
        assert killed(lambda: store("a", b"abcde"), "unlink", 0)
        assert (root / "a").stat().st_nlink == 2
        inode = (root / "a").stat().st_ino
        place = place.again()
        part = place.open("a", 5)
        assert part.held == 0
        assert part.have() == ((5, digest(b"abcde")),)
        part.begin(0)
        part.write([b"ABCDE"])
        part.keep()
        assert (root / "a").read_bytes() == b"abcde"
        again = place.put("a", b"abcde", who="peer:b")
        assert again == Stored("a", 5, digest(b"abcde"), already=True)
        assert (root / "a").stat().st_ino == inode
        place.store.close()

    # covers: K01
    def test_small_ones_that_were_left(self, root: Path) -> None:
        """Whole files that a crash left are nobody's, and gone at the next start."""
        place = local_place(str(root))
        assert killed(lambda: place.put_small("a", b"abcde"), "link", 0)
        assert len(staged(root)) == 1
        foreign = root / STAGING / "not of ours.small"
        foreign.touch()
        place = place.again()
        assert staged(root) == {foreign.name}
        place.store.close()

    # covers: K01
    def test_tidy_after_publish(self, root: Path, place: Place) -> None:
        """The second name that a crash left is taken away, whatever its age."""
        place.put("a", b"abcde")
        left = part_file(root, place, "a", 5)
        os.link(root / "a", left)
        assert place.store.tidy(3600) == 1
        assert not left.exists()
        assert (root / "a").read_bytes() == b"abcde"

    # covers: K01
    @pytest.mark.parametrize(
        "name",
        [
            "fsync",
            "link",
            "unlink",
            "writev",
            "write",
            "utime",
            "fchmod",
            "mkdir",
            "open",
            "close",
            "ftruncate",
        ],
    )
    def test_at_every_call(self, root: Path, name: str) -> None:
        """Killed at any call, a file is whole or missing, and the next attempt ends well."""
        data = b"0123456789" * 1000

        def work(place: Place) -> None:
            place.put("d/a", data)
            place.put_small("e/b", data, mtime=None)

        for after in range(40):
            folder = root / str(after)
            place = local_place(str(folder))
            was_killed = killed(partial(work, place), name, after)
            assert all(place.read(path) == data for path in place.names())
            place = place.again()
            part = place.open("d/a", len(data))
            have = part.have()
            part.begin(have[0][0] if have else 0)
            part.write([data[part.position :]])
            assert part.publish(digest(data)).path == "d/a"
            assert place.put_small("e/b", data, mtime=None).path == "e/b"
            assert place.names() == {"d/a", "e/b"}
            assert {place.read(path) for path in place.names()} == {data}
            assert staged(folder) == set()
            place.store.close()
            if not was_killed:
                return
        raise AssertionError("there is no end to these calls")

    # covers: K04
    def test_what_is_there_is_made_durable(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that is there already is synced all the same before it is acknowledged."""
        (root / "d").mkdir()
        (root / "d" / "a").write_bytes(b"abcde")
        for store in (place.put, place.put_small):
            synced = self.watch_syncs(monkeypatch)
            assert store("d/a", b"abcde").already
            assert (root / "d" / "a").stat().st_ino in synced
            assert (root / "d").stat().st_ino in synced
        os.utime(root / "d" / "a", ns=(MTIME, MTIME))
        synced = self.watch_syncs(monkeypatch)
        part = place.open("d/a", 5, who="peer:b")
        part.begin(part.have()[0][0])
        assert part.publish(None).already
        assert (root / "d" / "a").stat().st_ino in synced
        assert (root / "d").stat().st_ino in synced

    def watch_syncs(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
        return synced

    # covers: K04, K05
    @pytest.mark.parametrize("how", ["part", "small"])
    @pytest.mark.parametrize("mtime", [MTIME, None])
    def test_order(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch, how: str, mtime: int | None
    ) -> None:
        """Bytes, name, folders and receipt are durable in that order, then the part's name goes."""
        events: list[str] = []

        def watch(name: str, tell: Callable[..., str]) -> None:
            real = getattr(os, name)

            def replacement(*args: Any, **named: Any) -> Any:
                events.append(tell(*args, **named))
                return real(*args, **named)

            monkeypatch.setattr(os, name, replacement)

        def whose(fd: int) -> str:
            inode = os.fstat(fd).st_ino
            if inode == root.stat().st_ino:
                return "sync root"
            return "sync folder" if is_folder(fd) else "sync file"

        watch("fsync", whose)
        watch("link", lambda *args, **named: "link")
        watch("unlink", lambda *args, **named: "unlink")
        watch("mkdir", lambda *args, **named: "mkdir")
        real = place.receipts.remember

        def remember(published: Mapping[str, Stored]) -> None:
            events.append("receipt")
            real(published)

        monkeypatch.setattr(place.receipts, "remember", remember)
        (place.put if how == "part" else place.put_small)("d/a", b"abcde", mtime=mtime)
        # A file that is found again under its own name, by its time, needs no receipt.
        receipt = ["receipt"] if mtime is None else []
        assert events == [
            "sync file", "mkdir", "sync root", "link", "sync folder", *receipt, "unlink"
        ]  # fmt: skip

    def test_folders_found_are_made_durable_once(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder whose maker may have died before its sync is synced once, and not each time."""
        (root / "d").mkdir()
        synced = self.watch_syncs(monkeypatch)
        place.put("d/a", b"x")
        assert synced.count(root.stat().st_ino) == 1
        place.put("d/b", b"x")
        assert synced.count(root.stat().st_ino) == 1
        assert synced.count((root / "d").stat().st_ino) == 2

    # covers: K05
    def test_folder_made_again(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder that its owner removed is new when it is made again, and so is its name."""
        place.put("d/a", b"x")
        shutil.rmtree(root / "d")
        synced = self.watch_syncs(monkeypatch)
        place.put("d/a", b"y")
        assert synced.count(root.stat().st_ino) == 1
        shutil.move(root / "d", root / "e")
        (root / "d").mkdir()
        place.put("d/a", b"z")
        assert synced.count(root.stat().st_ino) == 2

    # covers: R05
    def test_folder_that_is_not_durable(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder whose name could not be synced is not there, so that it is made anew."""
        real, failed = os.fsync, []

        def fsync(fd: int) -> None:
            if not failed and os.fstat(fd).st_ino == root.stat().st_ino:
                failed.append(fd)
                raise OSError(errno.EIO, "no")
            real(fd)

        monkeypatch.setattr(os, "fsync", fsync)
        (root / "theirs").mkdir()
        for name in ("d/a", "theirs/a"):
            del failed[:]
            with pytest.raises(DiskFailed):
                place.put(name, b"x")
        assert sorted(os.listdir(root)) == [".lanxfer-staging", "theirs"]
        assert place.put("d/a", b"x").path == "d/a"

    # covers: K05
    def test_root_is_durable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The receiving folder's own name is, and those above it, even where they were there."""
        synced = self.watch_syncs(monkeypatch)
        local_place(str(tmp_path / "new" / "in")).store.close()
        assert synced.count(tmp_path.stat().st_ino) == 1
        assert synced.count((tmp_path / "new").stat().st_ino) >= 1
        del synced[:]
        local_place(str(tmp_path / "new" / "in")).store.close()
        assert synced.count((tmp_path / "new").stat().st_ino) == 1

    # covers: K04, K05
    def test_checkpoint_by_time(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What comes slowly is durable every two seconds, its name included."""
        seconds = [0.0]
        place = local_place(str(root), clock=lambda: seconds[0])
        part = place.open("a", 100)
        part.begin(0)
        synced = self.watch_syncs(monkeypatch)
        part.write([b"x"])
        seconds[0] = 1.9
        part.write([b"x"])
        assert synced == []
        seconds[0] = 2.0
        part.write([b"x"])
        staged = os.stat(root / ".lanxfer-staging")
        assert len(synced) == 2
        assert synced[1] == staged.st_ino
        part.write([b"x"])
        seconds[0] = 4.0
        part.write([b"x"])
        assert len(synced) == 3
        part.discard()

    # covers: K03
    def test_resume_in_another_life(self, root: Path) -> None:
        """A part is resumed by the next process, which reads it once and proves it."""
        data = os.urandom(MIB) * 40
        place = local_place(str(root))
        part = place.open("a", len(data))
        part.begin(0)
        part.write([data[:-7]])
        place.store._staging.release(place.key("a", len(data)))
        os.close(part._fd)
        place = place.again()
        part = place.open("a", len(data))
        held = len(data) - 7
        assert part.have() == tuple(
            (at, digest(data[:at])) for at in (held, held - 16 * MIB, held - 32 * MIB)
        )
        part.begin(held - 16 * MIB)
        part.write([data[part.position :]])
        assert part.publish(digest(data)).size == len(data)
        place.store.close()

    def test_old_by_its_own_clock(self, root: Path, place: Place) -> None:
        """A part with the mtime of an old file is not an old part."""
        offer = Offer("a", 3, mtime_ns=10**9)
        part = place.store.open_part("a" * 32, offer, safe_path("a"), Conflict.RENAME)
        part.begin(0)
        part.write([b"abc"])
        place.store._publisher.ready(part._fd, offer)
        part.keep()
        assert (root / STAGING / f"{'a' * 32}.part").stat().st_mtime == 1
        assert place.store.tidy(3600) == 0

    # covers: C12
    def test_clock_that_jumps(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """A jump of the wall clock makes no part old."""
        import time

        part = place.open("a", 3)
        part.begin(0)
        part.write([b"ab"])
        part.keep()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 400 * 24 * 3600)
        assert place.store.tidy(7 * 24 * 3600) == 0


class FaultTests:
    # covers: R01, R02, R03, R05
    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (errno.ENOSPC, DiskFull),
            (errno.EDQUOT, QuotaExceeded),
            (errno.EFBIG, TooLarge),
            (errno.EIO, DiskFailed),
            (errno.EROFS, DiskFailed),
        ],
    )
    def test_write_fails(
        self,
        root: Path,
        place: Place,
        monkeypatch: pytest.MonkeyPatch,
        number: int,
        expected: type[LanxferError],
    ) -> None:
        """A write that fails is typed, and what was written before it can be resumed."""
        part = place.open("a", 10)
        part.begin(0)
        part.write([b"abc"])
        with monkeypatch.context() as patch:
            fail(patch, "writev", number)
            with pytest.raises(expected):
                part.write([b"defg"])
        assert part.position == 3
        part.keep()
        part = place.open("a", 10)
        assert part.have() == ((3, digest(b"abc")),)
        part.begin(3)
        part.write([b"defghij"])
        assert part.publish(digest(b"abcdefghij")).path == "a"

    # covers: R01
    def test_write_stops_in_the_middle(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a write managed before it failed is counted, digested and kept."""
        real, room = os.writev, [5]

        def short(fd: int, pieces: list[memoryview]) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, "full")
            taken = b"".join(pieces)[: min(2, room[0])]
            room[0] -= len(taken)
            return real(fd, [taken])

        part = place.open("a", 10)
        part.begin(0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", short)
            with pytest.raises(DiskFull):
                part.write([b"abc", b"d", b"efgh"])
        assert part.position == 5
        part.write([b"fghij"])
        assert part.publish(digest(b"abcdefghij")).size == 10

    # covers: R05
    def test_garbage_behind_a_failed_write(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Bytes that a failed write left behind are not resumed from."""
        real = os.writev

        def broken(fd: int, pieces: list[memoryview]) -> int:
            real(fd, [b"garbage"])
            raise OSError(errno.EIO, "broken")

        part = place.open("a", 20)
        part.begin(0)
        part.write([b"abc"])
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", broken)
            with pytest.raises(DiskFailed):
                part.write([b"defg"])
        part.keep()
        place = place.again()
        part = place.open("a", 20)
        assert part.have() == ((3, digest(b"abc")),)
        part.keep()
        place.store.close()

    # covers: R05
    @pytest.mark.parametrize("renamed", [False, True])
    def test_sync_of_the_folder_is_not_over(
        self, place: Place, put: Callable[..., Stored], renamed: bool
    ) -> None:
        """A file whose name its first sender may have to take back is not there already."""
        if renamed:
            put("a", b"first", who="peer:x")
        name = put("a", b"abcde").path
        with place.store._staging.unsynced.placing(()) as names:
            names.add(name)
            part = place.open("a", 5)
            assert part.have() == ((5, digest(b"abcde")),)
            part.begin(5)
            with pytest.raises(Busy):
                part.publish(digest(b"abcde"))
            with pytest.raises(Busy):
                place.put_small("a", b"abcde")
        assert put("a", b"abcde").already

    # covers: R05
    def test_sync_of_the_file_fails_once(
        self, root: Path, place: Place, put: Callable[..., Stored], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """After a failed sync nothing is acknowledged and the file starts again from nothing."""
        with monkeypatch.context() as patch:
            calls = fail(patch, "fsync", errno.EIO, times=1, when=is_file)
            with pytest.raises(DiskFailed):
                put("a", b"abcde")
            assert calls[0] == 1
        assert place.names() == set()
        assert staged(root) == set()
        assert place.open("a", 5).held == 0

    # covers: R05
    def test_sync_of_the_folder_fails(
        self, root: Path, place: Place, put: Callable[..., Stored], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name that could not be made durable is taken back."""
        (root / "a").write_text("precious")
        with monkeypatch.context() as patch:
            fail(patch, "fsync", errno.EIO, when=is_folder)
            with pytest.raises(DiskFailed):
                put("a", b"abcde")
        assert place.names() == {"a"}
        assert staged(root) == set()
        assert place.receipts.kept == {}
        assert put("a", b"abcde").path == "a (2)"
        assert (root / "a").read_text() == "precious"

    # covers: R05
    def test_checkpoint_fails(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A checkpoint that fails ends the part for good."""
        size = limits.CHECKPOINT + 5
        part = place.open("a", size)
        part.begin(0)
        part.write([bytes(limits.CHECKPOINT - 1)])
        with monkeypatch.context() as patch:
            fail(patch, "fsync", errno.EIO, times=1)
            with pytest.raises(DiskFailed):
                part.write([b"ab"])
        late: list[Callable[[], object]] = [
            lambda: part.write([b"c"]),
            lambda: part.publish(None),
        ]
        for call in late:
            with pytest.raises(DiskFailed):
                call()
        assert staged(root) == set()
        assert place.open("a", size).held == 0

    def test_checkpoints(self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every 16 MiB the bytes are made durable, and the part's name with the first of them."""
        synced: list[bool] = []
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(is_folder(fd)))
        part = place.open("a", 50 * MIB)
        part.begin(0)
        for _ in range(40):
            part.write([bytes(MIB)])
        assert synced == [False, True, False]
        part.discard()

    # covers: S08
    def test_reserve_is_kept_while_writing(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that others fill up meanwhile is not filled to the last byte."""
        part = place.open("a", limits.CHECKPOINT * 2)
        part.begin(0)
        part._free = lambda: 0
        with pytest.raises(DiskFull):
            part.write([bytes(limits.CHECKPOINT)])
        assert part.position == limits.CHECKPOINT
        part.keep()

    # covers: R01, R02, R04
    @pytest.mark.parametrize("name", ["open", "link", "fchmod", "ftruncate", "mkdir", "stat"])
    @pytest.mark.parametrize(
        ("number", "expected"),
        [(errno.ENOSPC, DiskFull), (errno.EACCES, DiskFailed), (errno.EMFILE, Overloaded)],
    )
    def test_any_call_fails(
        self,
        root: Path,
        place: Place,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        number: int,
        expected: type[LanxferError],
    ) -> None:
        """Whatever call fails, the error is typed, nothing leaks, the next attempt ends well."""
        part = place.open("d/a", 5)
        before = descriptors()
        for after in range(12):
            with monkeypatch.context() as patch:
                calls = fail(patch, name, number, after=after, times=1)
                try:
                    part.begin(0)
                    part.write([b"abcde"])
                    part.publish(digest(b"abcde"))
                except expected:
                    pass
                part.keep()
                answers = place.store.put_many(
                    [place.small("e/b", b"%d" % after, Conflict.OVERWRITE)]
                )
                assert isinstance(answers[0], Stored | expected)
            assert descriptors() <= before
            if calls[0] <= after:
                break
            part = place.open("d/a", 5)
        place.put("d/a", b"abcde")
        place.put_small("e/b", b"end", Conflict.OVERWRITE)
        assert place.read("d/a") == b"abcde"
        assert place.names() == {"d/a", "e/b"}
        assert staged(root) == set()

    # covers: R04
    @pytest.mark.parametrize("small", [True, False])
    def test_not_durable_yet(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, small: bool
    ) -> None:
        """Nobody is told that a file is there whose name might have to be taken back."""
        answers: list[object] = []
        place.put("d/other", b"so that the folder is there")

        def sync_folder(folder: int) -> None:
            monkeypatch.undo()
            answers.extend(place.store.put_many([place.small("d/a", b"abcde", who="peer:b")]))
            raise SyncFailed(DiskFailed("no"))

        monkeypatch.setattr(type(place.store._tree), "sync_folder", lambda self, f: sync_folder(f))
        with pytest.raises(DiskFailed):
            (place.put_small if small else place.put)("d/a", b"abcde")
        assert [type(each) for each in answers] == [Busy]
        assert place.names() == {"d/other"}
        assert place.put_small("d/a", b"abcde", who="peer:b").path == "d/a"

    # covers: R01
    def test_one_of_many_fails(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """A small file that cannot be written costs the others nothing."""
        fail(monkeypatch, "write", errno.ENOSPC, after=1, times=1)
        answers = place.store.put_many([place.small(f"f{n}", b"x") for n in range(3)])
        assert [type(each) for each in answers] == [Stored, DiskFull, Stored]
        assert place.names() == {"f0", "f2"}

    def test_sent_again(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Small files that are there already are not written first to be found out later."""
        place.put_small("d/a", b"abcde")
        fail(monkeypatch, "write", errno.ENOSPC)
        assert place.put_small("d/a", b"abcde", who="peer:b", mtime=None).already

    def test_clearing_up_fails(
        self,
        root: Path,
        place: Place,
        put: Callable[..., Stored],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A file that is safe is acknowledged, also if its part cannot be cleared away."""
        with monkeypatch.context() as patch:
            fail(patch, "unlink", errno.EIO)
            assert put("a", b"abcde").path == "a"
        assert len(staged(root)) == 1
        assert put("a", b"other", mtime=None).path == "a (2)"
        assert place.store.tidy(3600) == 1
        assert staged(root) == set()
        assert place.read("a") == b"abcde"

    # covers: R04
    def test_no_descriptors_left(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without descriptors a part cannot be opened, and its key stays free."""
        part = place.open("a", 5)
        part.begin(0)
        part.write([b"abc"])
        part.keep()
        with monkeypatch.context() as patch:
            fail(patch, "open", errno.EMFILE)
            with pytest.raises(Overloaded):
                place.open("a", 5)
        part = place.open("a", 5)
        assert part.held == 3
        part.keep()

    def test_unreadable_tail(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """A damaged end of a part costs the end and not the part."""
        size = 40 * MIB
        data = bytes(size - 1)
        part = place.open("a", size)
        part.begin(0)
        part.write([data])
        part.keep()
        place = place.again()
        part = place.open("a", size)
        with monkeypatch.context() as patch:
            limit = 30 * MIB
            fail(patch, "pread", errno.EIO, when=lambda fd, n, at: at + n > limit)
            offsets = [offset for offset, _ in part.have()]
        assert offsets == [size - 1 - 16 * MIB, size - 1 - 32 * MIB]
        part.begin(offsets[0])
        part.discard()
        place.store.close()

    def test_nothing_leaks(self, root: Path, place: Place) -> None:
        """Descriptors and part files are as many after all kinds of ends as before."""
        before = descriptors()
        for n in range(30):
            place.put("d/a", b"%d" % n)
            place.put_small("d/b", b"%d" % n)
            part = place.open("c", 5)
            part.begin(0)
            part.write([b"ab"])
            (part.keep if n % 2 else part.discard)()
            with pytest.raises(Busy):
                held = place.open("c", 5)
                try:
                    place.open("c", 5)
                finally:
                    held.keep()
        assert descriptors() == before
        assert len(staged(root)) == 1


class WrongFileSystemTests:
    @pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a second file system")
    def test_part_of_the_folder_elsewhere(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A folder on another file system cannot be published to, and that is said."""
        fail(monkeypatch, "link", errno.EXDEV)
        with pytest.raises(DiskFailed, match="another file system"):
            place.put("a", b"x")
        with pytest.raises(DiskFailed, match="another file system"):
            place.put_small("a", b"x")


class FinishedTests:
    def test_gone_meanwhile(self, root: Path, place: Place) -> None:
        """A finished file that goes away before it is confirmed has to be sent."""
        place.put("d/a", b"abcde")
        for change in ("unlink", "rewrite", "folder"):
            part = place.open("d/a", 5)
            part.begin(part.have()[0][0])
            if change == "unlink":
                (root / "d" / "a").unlink()
            elif change == "rewrite":
                (root / "d" / "a").write_bytes(b"ABCDE")
            else:
                (root / "d" / "a").unlink()
                (root / "d").rmdir()
            with pytest.raises(LanxferError) as caught:
                part.publish(digest(b"abcde"))
            assert caught.value.retry
            place.put("d/a", b"abcde", Conflict.OVERWRITE)

    # covers: S07
    def test_held_is_not_read_twice(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """What this process wrote and left untouched is not read again to prove it."""
        part = place.open("a", 10)
        part.begin(0)
        part.write([b"abcdef"])
        part.keep()
        calls = fail(monkeypatch, "pread", errno.EIO)
        part = place.open("a", 10)
        assert part.have() == ((6, digest(b"abcdef")),)
        assert calls[0] == 0
        part.begin(6)
        part.write([b"ghij"])
        assert part.publish(digest(b"abcdefghij")).size == 10

    def test_touched_meanwhile(self, root: Path, place: Place) -> None:
        """A part that somebody changed between two attempts is read again."""
        part = place.open("a", 10)
        part.begin(0)
        part.write([b"abcdef"])
        part.keep()
        part_file(root, place, "a", 10).write_bytes(b"ABCDEF")
        part = place.open("a", 10)
        assert part.have() == ((6, digest(b"ABCDEF")),)
        part.keep()


def test_without_a_memory(tmp_path: Path) -> None:
    """A store without receipts works; only a renamed file may be stored twice."""
    store = LocalStore(str(tmp_path / "inbox"))
    part = store.open_part("a" * 32, Offer("a", 1), safe_path("a"), Conflict.RENAME)
    part.begin(0)
    part.write([b"x"])
    assert part.publish(None).path == "a"
    store.close()


def test_receipts_protocol() -> None:
    """The receipts used here are receipts."""
    from lanxfer.storage import Receipts

    receipts: Receipts = Memory()
    assert receipts.recall(["0" * 32]) == {}
