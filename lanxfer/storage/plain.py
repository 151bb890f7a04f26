"""A folder of this machine as one end of a job: looked through, read, written beside and renamed.

Unlike a receiving store it takes any name the disk takes, for its owner wrote
the job; but a name leads nowhere else, whatever a server on the other end
called it: components are opened from the folder above, and never through a
link.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lanxfer.errors import BadName, LanxferError, NotFound, SourceUnreadable
from lanxfer.storage import Facts
from lanxfer.storage.names import quoted
from lanxfer.storage.sources import Source
from lanxfer.storage.system import FILE_FLAGS, FOLDER_FLAGS, SyncFailed, close, sync, unreadable
from lanxfer.storage.tree import Tree

_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


def components(path: str) -> tuple[str, ...]:
    """The parts of a relative path; BadName for one that leads elsewhere.  "" is the folder."""
    parts = tuple(path.split("/")) if path else ()
    for part in parts:
        if part in {"", ".", ".."} or "\0" in part or os.sep in part:
            raise BadName(f"The path {quoted(path)} cannot be used.")
    return parts


def same_folder(one: str, other: str) -> bool:
    """Whether two paths lead to one folder; not where one of them leads nowhere."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def make_folder(path: str) -> None:
    """Make a folder and those above that are missing; what was made is durable."""
    above = os.path.dirname(path.rstrip("/")) or "."
    if os.path.isdir(path):
        # Whoever made it may have been ended before this.
        with suppress(OSError, LanxferError):
            _sync_folder(above)
        return
    make_folder(above)
    with suppress(FileExistsError):
        os.mkdir(path)
    _sync_folder(above)


def _sync_folder(path: str) -> None:
    fd = os.open(path, FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
    try:
        _sync(fd)
    finally:
        close(fd)


def _sync(fd: int) -> None:
    try:
        sync(fd)
    except SyncFailed as error:
        raise error.error from error


class PlainFolder:
    """One folder; every method blocks.  OSErrors come out as they are."""

    def __init__(self, path: str, *, make: bool = False) -> None:
        self.path = path
        if make:
            make_folder(path)
        self._root = os.open(path, FOLDER_FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
        self._tree = Tree(self._root, folder_sync=make)

    def close(self) -> None:
        """Let go of it; closing twice is fine."""
        root, self._root = self._root, -1
        if root >= 0:
            close(root)

    def local(self, path: str) -> str:
        """Where a file is for those that open it by its name."""
        return os.path.join(self.path, *components(path))

    def listing(self, path: str = "") -> list[tuple[str, Facts]]:
        """What is in a folder, sorted by name; links are shown as such."""
        with self._folder(path) as fd:
            names = sorted(os.listdir(fd))
            found = [(name, self._tree.look(fd, name)) for name in names]
        return [(name, facts) for name, facts in found if facts is not None]

    def look(self, path: str) -> Facts | None:
        """What lies at a path; None where nothing does."""
        *above, name = components(path)
        try:
            with self._folder("/".join(above)) as fd:
                return self._tree.look(fd, name)
        except FileNotFoundError:
            return None

    def identity(self, path: str) -> tuple[int, int] | None:
        """Device and inode of what lies at a path, links not followed; None where nothing does."""
        *above, name = components(path)
        try:
            with self._folder("/".join(above)) as fd:
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def source(self, path: str) -> Source:
        """A file, open for reading; SourceUnreadable says what is wrong with it."""
        *above, name = components(path)
        try:
            with self._folder("/".join(above)) as folder:
                fd = os.open(name, os.O_RDONLY | FILE_FLAGS, dir_fd=folder)
        except (OSError, NotFound) as error:
            raise unreadable(
                path, error if isinstance(error, OSError) else OSError(2, "")
            ) from None
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            close(fd)
            raise SourceUnreadable(f"{quoted(path)} is not a regular file.")
        return Source(path, fd, found)

    def open_write(self, path: str, offset: int = 0) -> Writing:
        """A file to be written from ``offset`` on, what lay behind that being forgotten."""
        *above, name = components(path)
        flags = os.O_WRONLY | os.O_CREAT | FILE_FLAGS | (0 if offset else os.O_TRUNC)
        with self._tree.reach(tuple(above)) as folder:
            fd = os.open(name, flags, 0o666, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise BadName(f"{quoted(path)} is not a regular file.")
            os.ftruncate(fd, offset)
            os.lseek(fd, offset, os.SEEK_SET)
        except BaseException:
            close(fd)
            raise
        return Writing(fd)

    def replace(self, path: str, to: str) -> None:
        """Give a file its final name, in place of what has that now; durable when it returns."""
        *above, name = components(path)
        *above_to, name_to = components(to)
        with self._folder("/".join(above)) as old, self._tree.reach(tuple(above_to)) as new:
            facts = self._tree.look(new, name_to)
            if facts is not None and facts.kind != "file":
                raise BadName(f"{quoted(to)} is a {facts.kind} there, which is not replaced.")
            os.rename(name, name_to, src_dir_fd=old, dst_dir_fd=new)
            self._tree.sync_folder(new)

    def settle(self, path: str) -> None:
        """Make a file durable, and its name, whoever put it there."""
        *above, name = components(path)
        with self._folder("/".join(above)) as folder:
            fd = os.open(name, os.O_RDONLY | FILE_FLAGS, dir_fd=folder)
            try:
                _sync(fd)
            finally:
                close(fd)
            self._tree.sync_folder(folder)

    def set_time(self, path: str, mtime_ns: int) -> None:
        """Give a file its time."""
        *above, name = components(path)
        with self._folder("/".join(above)) as folder:
            os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=folder, follow_symlinks=False)

    def remove(self, path: str) -> None:
        """Remove a file."""
        *above, name = components(path)
        with self._folder("/".join(above)) as folder:
            os.unlink(name, dir_fd=folder)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder, if it is one."""
        *above, name = components(path)
        with suppress(OSError), self._folder("/".join(above)) as folder:
            os.rmdir(name, dir_fd=folder)

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        parts = components(path)
        if not parts:
            yield self._root
            return
        with self._tree.reach(parts, make=False) as fd:
            yield fd


class Writing:
    """A file that is being written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | memoryview) -> None:
        """Append all of it."""
        left = memoryview(data)
        while left:
            left = left[os.write(self._fd, left) :]

    def finish(self) -> None:
        """Make it durable and close it."""
        try:
            _sync(self._fd)
        finally:
            self.close()

    def close(self) -> None:
        """Close it as it is; closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            close(fd)
