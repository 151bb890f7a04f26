"""Folders that are new: each gets its name with all of its files, or they get theirs one by one."""

from __future__ import annotations

import errno
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_storage import MTIME, Place, digest
from test_storage_local import STAGING, descriptors, fail, staged
from test_storage_local import place as place
from test_storage_local import root as root

from lanxfer.commands.packs import _put
from lanxfer.errors import BadName, Busy, DigestMismatch, DiskFailed, DiskFull, LanxferError
from lanxfer.storage import batches, system, tree
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import safe_path
from lanxfer.transfers import Conflict, Stored

pytestmark = pytest.mark.skipif(not system.can_sync_all(), reason="needs syncfs")

MANY = batches.TOGETHER
_NOBODY = 0xFFFFFFFF


def names(folder: str = "new", count: int = MANY) -> list[str]:
    return [f"{folder}/{number}" for number in range(count)]


def send(
    place: Place, paths: Sequence[str], conflict: Conflict = Conflict.RENAME
) -> list[Stored | LanxferError]:
    """Put them as one pack, each with its path as its content."""
    smalls = [place.small(path, path.encode(), conflict) for path in paths]
    answers: list[Stored | LanxferError] = place.store.put_many(smalls)
    return answers


def all_there(place: Place, paths: Sequence[str], answers: Sequence[object]) -> bool:
    assert [*answers] == [Stored(each, len(each.encode()), digest(each.encode())) for each in paths]
    return all(place.read(each) == each.encode() for each in paths)


def links(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that files get one by one."""
    real, seen = os.link, list[str]()

    def link(source: Any, name: Any, **how: Any) -> None:
        seen.append(name)
        real(source, name, **how)

    monkeypatch.setattr(os, "link", link)
    return seen


def no_rename(*_: object) -> bool:
    return False


class AdoptTests:
    # covers: K08
    def test_in_one_step(self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody sees the folder before all of it is there."""
        seen, real = list[int](), system.rename_new

        def rename(staged: str, name: str, staging: int, folder: int) -> bool:
            assert not (root / "new").exists()
            done = real(staged, name, staging, folder)
            seen.append(len(os.listdir(root / "new")))
            return done

        monkeypatch.setattr(tree, "rename_new", rename)
        linked = links(monkeypatch)
        assert all_there(place, names(), send(place, names()))
        assert seen == [MANY] and linked == []
        assert staged(root) == set()

    def test_as_usual(self, root: Path, place: Place) -> None:
        """Mode, time and links of files and of the folder are those they always have."""
        umask = os.umask(0o027)
        os.umask(umask)
        send(place, names())
        send(place, ["new/again", *names("other")])
        for folder in ("new", "other"):
            assert stat.S_IMODE((root / folder).stat().st_mode) == 0o777 & ~umask
        for path in ("new/0", "new/again", "other/0"):
            found = (root / path).stat()
            assert (found.st_nlink, found.st_mtime_ns) == (1, MTIME)
            assert stat.S_IMODE(found.st_mode) == 0o666 & ~umask

    def test_few(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """For very few files it is not worth it."""
        linked = links(monkeypatch)
        few, many = names("few", batches.IN_NEW - 1), names("many")
        assert all_there(place, [*few, *many], send(place, [*few, *many]))
        assert len(linked) == len(few)

    def test_folder_that_is_there(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is there is added to."""
        send(place, names())
        linked, more = links(monkeypatch), [f"new/more{number}" for number in range(MANY)]
        assert all_there(place, more, send(place, more))
        assert len(linked) == MANY
        assert all(place.read(each) for each in names())

    @pytest.mark.parametrize("turned", [False, True])
    def test_one_in_the_other(
        self, place: Place, monkeypatch: pytest.MonkeyPatch, turned: bool
    ) -> None:
        """A new folder in a new folder, whichever was named first."""
        linked = links(monkeypatch)
        some = [names("a/b/c"), names("a"), names("a/b")]
        paths = [each for group in (some[::-1] if turned else some) for each in group]
        assert all_there(place, paths, send(place, paths))
        assert linked == []

    def test_again(self, place: Place) -> None:
        """Sent once more, all of it is there already."""
        send(place, names())
        again = send(place, names())
        assert all(isinstance(each, Stored) and each.already for each in again)

    def test_durable(self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """The files are durable before the folder has its name; that is before anybody hears."""
        steps, real_rename, real_sync = list[str](), system.rename_new, system.sync

        def sync_all(fd: int) -> bool:
            steps.append("files")
            return True

        def rename(*how: Any) -> bool:
            steps.append("name")
            return real_rename(*how)

        def sync(fd: int) -> None:
            steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
            real_sync(fd)

        monkeypatch.setattr(batches, "sync_all", sync_all)
        monkeypatch.setattr(tree, "rename_new", rename)
        monkeypatch.setattr(tree, "sync", sync)
        send(place, names())
        assert steps == ["files", "name", STAGING, "inbox"]

    # covers: R05
    def test_error_of_another_batch(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each batch hears by itself what went wrong since before its first write."""
        synced, watching = list[int](), list[int]()
        real = batches.Batch._watch_disk

        def sync_all(fd: int) -> bool:
            synced.append(fd)
            return True

        def watch(batch: batches.Batch) -> None:
            assert not any(file.staged for file in batch._files)
            real(batch)
            watching.append(batch._disk)
            if len(watching) == 1:
                send(place, names("other"))

        monkeypatch.setattr(batches, "sync_all", sync_all)
        monkeypatch.setattr(batches.Batch, "_watch_disk", watch)
        send(place, names())
        assert watching == synced[::-1] and len(set(synced)) == 2
        assert place.store._staging.fd not in synced
        for fd in synced:
            with pytest.raises(OSError, match="descriptor"):
                os.fstat(fd)

    def test_known_to_be_durable(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its name is not made durable a second time."""
        send(place, names())
        calls = fail(monkeypatch, "fsync", errno.EIO, times=0)
        send(place, ["new/more"])
        assert calls[0] == 2  # the file, and its own name


class OddTests:
    """Whatever keeps it from being one step, the files arrive."""

    @pytest.mark.parametrize(
        "odd",
        [
            lambda root: None,
            lambda root: (root / "new").mkdir(),
            lambda root: (root / "new").mkdir() or (root / "new" / "theirs").write_text("theirs"),
        ],
    )
    def test_made_meanwhile(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch, odd: Callable[..., Any]
    ) -> None:
        """A folder that somebody makes at the last moment is theirs, and stays what it is."""
        real = system.rename_new

        def rename(*how: Any) -> bool:
            odd(root)
            return real(*how) if (root / "new").exists() else False

        monkeypatch.setattr(tree, "rename_new", rename)
        before = descriptors()
        assert all_there(place, names(), send(place, names()))
        theirs = root / "new" / "theirs"
        assert len(os.listdir(root / "new")) == MANY + theirs.exists()
        assert staged(root) == set() and descriptors() == before

    def test_empty_folder_is_not_replaced(self, root: Path, place: Place) -> None:
        """The system's usual rename would put one in the place of an empty one."""
        (root / "there").mkdir()
        inode = (root / "there").stat().st_ino
        fds = [os.open(root, os.O_RDONLY), os.open(root / STAGING, os.O_RDONLY)]
        os.mkdir("some", dir_fd=fds[1])
        assert not system.rename_new("some", "there", fds[1], fds[0])
        assert (root / "there").stat().st_ino == inode
        os.rmdir("some", dir_fd=fds[1])
        for fd in fds:
            os.close(fd)

    def test_no_such_call(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the system cannot do that."""
        monkeypatch.setattr("lanxfer.storage.system._own_call", lambda *_: None)
        assert not system.rename_new("a", "b", 0, 0)

    @pytest.mark.parametrize("what", ["group", "acl"])
    def test_gives_on(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        """In a folder that gives something on to what is made in it, folders are made."""
        (root / "shared").mkdir()
        if what == "group":
            os.chmod(root / "shared", 0o2755)
        else:
            entries = [
                (1, 7, _NOBODY),
                (2, 7, 1),
                (4, 5, _NOBODY),
                (16, 7, _NOBODY),
                (32, 5, _NOBODY),
            ]
            acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)
            try:
                os.setxattr(root / "shared", "system.posix_acl_default", acl)
            except OSError:
                pytest.skip("no ACLs there")
        linked, paths = links(monkeypatch), names("shared/new")
        assert all_there(place, paths, send(place, paths))
        assert len(linked) == MANY
        if what == "group":
            assert (root / "shared" / "new").stat().st_mode & stat.S_ISGID

    def test_staging_gives_on(self, root: Path, place: Place) -> None:
        """What staging was given once, and the folder has no longer, is not given on."""
        os.chmod(root / STAGING, 0o2700)
        send(place, names())
        assert not (root / "new").stat().st_mode & stat.S_ISGID

    @pytest.mark.parametrize("twin", ["e\u0301", "\u00c9"])
    def test_name_of_a_folder(self, root: Path, place: Place, twin: str) -> None:
        """A file that wants the name of a folder gets another one: the folder has files in it."""
        folder, other = safe_path("\u00e9"), safe_path(twin)
        smalls = [
            place.small(str(other), b"file"),
            *(place.small(path, path.encode()) for path in names("\u00e9")),
        ]
        ends = _put(place.store, [folder], smalls)
        assert all_there(place, names("\u00e9"), ends[2:])
        end = ends[1]
        assert isinstance(end, Stored) and place.read(end.path) == b"file"

    def test_file_at_the_name(self, root: Path, place: Place) -> None:
        """Something else has the name."""
        (root / "new").write_text("theirs")
        answers = send(place, names())
        assert all(isinstance(each, BadName) for each in answers)
        assert (root / "new").read_text() == "theirs" and staged(root) == set()

    def test_link_on_the_way(self, root: Path, tmp_path: Path, place: Place) -> None:
        """No link leads out of the folder."""
        (tmp_path / "outside").mkdir()
        (root / "link").symlink_to(tmp_path / "outside")
        answers = send(place, names("link/new"))
        assert all(isinstance(each, BadName) for each in answers)
        assert os.listdir(tmp_path / "outside") == [] and staged(root) == set()

    def test_two_of_one_name(self, place: Place) -> None:
        """They are dealt with as if they had come one after the other."""
        smalls = [place.small(path, path.encode()) for path in names()]
        smalls.append(place.small("new/0", b"another"))
        answers = place.store.put_many(smalls)
        assert all_there(place, names(), answers[:-1])
        assert answers[-1].path == "new/0 (2)" and place.read("new/0 (2)") == b"another"

    def test_series(self, place: Place) -> None:
        """Names with numbers are found one by one."""
        answers = send(place, names(), Conflict.SERIES)
        assert all(isinstance(each, Stored) for each in answers)
        assert len(place.names()) == MANY

    def test_top(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """The receiving folder itself is never new."""
        linked, paths = links(monkeypatch), [str(number) for number in range(MANY)]
        assert all_there(place, paths, send(place, paths))
        assert len(linked) == MANY


class TroubleTests:
    # covers: R01
    def test_damaged(self, root: Path, place: Place) -> None:
        """A file whose bytes are not those of its digest is not there."""
        smalls = [place.small(path, path.encode()) for path in names()]
        smalls[3] = smalls[3]._replace(pieces=[b"!" * smalls[3].offer.size])
        answers = place.store.put_many(smalls)
        assert isinstance(answers[3], DigestMismatch)
        assert sorted(os.listdir(root / "new")) == sorted(
            each[4:] for at, each in enumerate(names()) if at != 3
        )

    @pytest.mark.parametrize("name", ["write", "utime"])
    @pytest.mark.parametrize("unlinked", [True, False])
    def test_half_written(
        self,
        root: Path,
        place: Place,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        unlinked: bool,
    ) -> None:
        """What could not be written as a whole never has its name, even if it cannot be removed."""
        with monkeypatch.context() as patch:
            fail(patch, name, errno.ENOSPC, after=5, times=1)
            if not unlinked:
                fail(patch, "unlink", errno.EIO, times=1)
            answers = send(place, names())
        assert [at for at, each in enumerate(answers) if isinstance(each, DiskFull)] != []
        good = [each.path for each in answers if isinstance(each, Stored)]
        assert len(good) == MANY - 1
        assert sorted(os.listdir(root / "new")) == sorted(each[4:] for each in good)
        again = [each for each in send(place, names()) if isinstance(each, Stored)]
        assert all_there(place, names(), [each._replace(already=False) for each in again])
        place.store.tidy(0.0)
        assert staged(root) == set()

    @pytest.mark.parametrize("which", [0, 1])
    def test_name_is_not_durable(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch, which: int
    ) -> None:
        """Where that cannot be said of its name it is taken back, with all that is in it."""
        before = descriptors()
        with monkeypatch.context() as patch:
            fail(patch, "fsync", errno.EIO, after=which, times=1)
            answers = send(place, names())
        assert all(isinstance(each, DiskFailed) for each in answers)
        assert not (root / "new").exists() and staged(root) == set()
        assert descriptors() == before
        assert all_there(place, names(), send(place, names()))

    def test_only_ours_is_taken_back(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What somebody put there meanwhile stays."""
        real = system.rename_new

        def rename(*how: Any) -> bool:
            done = real(*how)
            for name in ("theirs", "0.theirs"):
                (root / "new" / name).write_text("theirs")
            (root / "new" / "0.theirs").replace(root / "new" / "0")
            return done

        monkeypatch.setattr(tree, "rename_new", rename)
        fail(monkeypatch, "fsync", errno.EIO, times=1)
        send(place, names())
        assert sorted(os.listdir(root / "new")) == ["0", "theirs"]

    def test_not_durable_yet(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody says of a file in it that it is there before its name is durable."""
        other, heard = place.small("new/0", b"new/0"), list[object]()
        real = system.sync

        def sync(fd: int) -> None:
            if (root / "new" / "0").exists() and not heard:
                heard.append(None)
                heard[0] = place.store.put_many([other])[0]
            real(fd)

        monkeypatch.setattr(tree, "sync", sync)
        send(place, names())
        assert isinstance(heard[0], Busy)

    def test_not_made_durable(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is half written under its final name is gone before anything is made durable."""
        seen = list[list[str]]()

        def sync_all(fd: int) -> bool:
            (new,) = (root / STAGING).glob("*.new")
            seen.append(os.listdir(new))
            return True

        monkeypatch.setattr(batches, "sync_all", sync_all)
        fail(monkeypatch, "write", errno.ENOSPC, after=5, times=1)
        send(place, names())
        assert len(seen[0]) == MANY - 1

    def test_others_fail(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where one that does not go with the folder fails, those that did arrived all the same."""
        smalls = [place.small(path, path.encode()) for path in names()]
        smalls.append(place.small("new/0", b"another"))
        fail(monkeypatch, "link", errno.EIO)
        answers = place.store.put_many(smalls)
        assert all_there(place, names(), answers[:-1])
        assert isinstance(answers[-1], DiskFailed)

    def test_many_folders(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """However many are new, few descriptors are open at a time."""
        most, real = [0], os.open

        def count(*how: Any, **more: Any) -> int:
            fd = real(*how, **more)
            most[0] = max(most[0], descriptors())
            return fd

        before, paths = descriptors(), [path for at in range(60) for path in names(f"{at}", 5)]
        monkeypatch.setattr(os, "open", count)
        assert all_there(place, paths, send(place, paths))
        assert most[0] < before + batches.NEW_AT_ONCE + 8

    def test_no_descriptors(
        self, root: Path, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where there are none for the folder they go one by one; nothing of it stays."""
        before = descriptors()
        with monkeypatch.context() as patch:
            fail(
                patch, "open", errno.EMFILE, when=lambda path, *_, **__: str(path).endswith(".new")
            )
            answers = send(place, names())
        assert all_there(place, names(), answers)
        assert descriptors() == before and staged(root) == set()


class LeftTests:
    # covers: K01
    def test_crash(self, root: Path, place: Place) -> None:
        """What a crash left in staging goes with the next start, and nothing else."""
        folder = root / STAGING / f"{'ab' * 8}-7.new"
        other = root / STAGING / "somebody.new"
        for each in (folder, other):
            each.mkdir()
            (each / "file").write_text("half")
        place.again().store.close()
        assert staged(root) == {"somebody.new"}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
    def test_stuck(self, root: Path, place: Place) -> None:
        """What cannot be removed is no reason not to start."""
        folder = root / STAGING / f"{'ab' * 8}-7.new"
        folder.mkdir()
        (folder / "file").write_text("half")
        folder.chmod(0o500)
        place.again().store.close()
        folder.chmod(0o700)

    def test_killed(self, root: Path) -> None:
        """Killed before the folder has its name, or after: all of it is there, or nothing."""
        code = (
            "import os, signal, sys\n"
            "from test_storage import local_place\n"
            "from test_storage_new_folders import names, send\n"
            "from lanxfer.storage import tree\n"
            "real = tree.rename_new\n"
            "def rename(*how):\n"
            "    sys.argv[2] == 'after' and real(*how)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "tree.rename_new = rename\n"
            "send(local_place(sys.argv[1]), names())\n"
        )
        for when in ("before", "after"):
            subprocess.run(
                [sys.executable, "-c", code, str(root), when],
                cwd=os.path.dirname(__file__),
                check=False,
            )
            there = sorted(os.listdir(root / "new")) if (root / "new").exists() else []
            assert there == (sorted(each[4:] for each in names()) if when == "after" else [])
            LocalStore(str(root)).close()
            assert staged(root) == set()


def test_folder_rows(place: Place, root: Path) -> None:
    """A folder that goes with its files is made with them, one that was there is said to be."""
    (root / "old").mkdir()
    folders = [safe_path(each) for each in ("new", "new/empty", "old", "alone")]
    smalls = [place.small(path, path.encode()) for path in names()]
    ends = _put(place.store, folders, smalls)
    made = [each for each in ends[:4] if isinstance(each, Stored)]
    assert [(each.path, each.already) for each in made] == [
        ("new", False),
        ("new/empty", False),
        ("old", True),
        ("alone", False),
    ]
    assert all_there(place, names(), ends[4:])
