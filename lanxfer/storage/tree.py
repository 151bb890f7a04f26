"""The receiving folder, reached through descriptors only.

Every component is opened from the descriptor of the one above it and never
through a link, so whoever exchanges folders meanwhile cannot lead a write
elsewhere; a path that is checked first and opened afterwards can be led.  At
most two descriptors are held on the way down.

The system's own errors come out of here as they are; the callers translate.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from attrs import frozen

from lanxfer.errors import BadName, DiskFailed, Exists
from lanxfer.storage import Facts
from lanxfer.storage.names import quoted
from lanxfer.storage.prefixes import digest_of
from lanxfer.storage.rules import numbered
from lanxfer.storage.system import (
    FILE_FLAGS,
    FOLDER_FLAGS,
    SyncFailed,
    close,
    gives_on,
    rename_new,
    sync,
)
from lanxfer.storage.wholes import NewFolder
from lanxfer.transfers import Conflict

# Folders known to be durable that are remembered; forgetting one costs a sync.
_DURABLE_MAX = 10_000


@frozen
class Wanted:
    """The file that is to get a name: what others are compared with."""

    size: int
    digest: str
    mtime_ns: int | None


@frozen
class Placed:
    """What became of it: its name in its folder and the digest of what is there.

    ``replaced`` says that another file was overwritten, so there is no way back.
    """

    name: str
    digest: str
    already: bool = False
    replaced: bool = False


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


class Tree:
    """The folder below which everything is received; ``root`` is its descriptor.

    Without ``links`` a file gets its name by a check and a rename, and without
    ``folder_sync`` a name is durable when the system pleases (weak storage).
    """

    def __init__(self, root: int, *, links: bool = True, folder_sync: bool = True) -> None:
        self.root = root
        self.links = links
        self.folder_sync = folder_sync
        self._durable: dict[tuple[str, ...], tuple[int, int]] = {}
        self._new: set[tuple[str, ...]] = set()

    # Folders.

    @contextmanager
    def reach(self, parts: tuple[str, ...], make: bool = True) -> Iterator[int]:
        """The descriptor of a folder whose own name is durable.

        With ``make`` it is made if need be; else FileNotFoundError if there is none.
        """
        fd = self._descend(parts, make, settle=True)
        try:
            yield fd
        finally:
            self._leave(fd)

    @contextmanager
    def find(self, parts: tuple[str, ...]) -> Iterator[int | None]:
        """The descriptor of a folder just to look into, None if there is no such folder."""
        fd: int | None
        try:
            fd = self._descend(parts, make=False, settle=False)
        except (FileNotFoundError, BadName):
            fd = None
        try:
            yield fd
        finally:
            if fd is not None:
                self._leave(fd)

    def _leave(self, fd: int) -> None:
        if fd != self.root:
            close(fd)

    def _descend(self, parts: tuple[str, ...], make: bool, settle: bool) -> int:
        fd = self.root
        try:
            for depth, name in enumerate(parts, 1):
                below = self._enter(fd, name, make, parts[:depth])
                try:
                    if settle:
                        self._settle(fd, below, parts[:depth])
                except BaseException:
                    close(below)
                    raise
                self._leave(fd)
                fd = below
        except BaseException:
            self._leave(fd)
            raise
        return fd

    def _enter(self, above: int, name: str, make: bool, parts: tuple[str, ...]) -> int:
        try:
            return os.open(name, FOLDER_FLAGS, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EMLINK}:
                raise BadName(f"{quoted(name)} is no folder there.") from error
            raise
        # Before it is made: another thread that finds it there must not take it for the old one.
        self._durable.pop(parts, None)
        with suppress(FileExistsError):
            os.mkdir(name, 0o777, dir_fd=above)
            self._new.add(parts)
        return self._enter(above, name, False, parts)

    def _settle(self, above: int, below: int, parts: tuple[str, ...]) -> None:
        # Whoever made the folder may have died, or may be still at it in another
        # thread: so its name is made durable once by us, whether it is new or not.
        # One that was removed and made again is another, and new.
        if self._durable.get(parts) != _identity(below):
            self._sync_name(above, parts)
            self._note_durable(below, parts)

    def _note_durable(self, fd: int, parts: tuple[str, ...]) -> None:
        if len(self._durable) >= _DURABLE_MAX:
            self._durable.clear()
        self._durable[parts] = _identity(fd)

    def adopt(self, parts: tuple[str, ...], staging: int, new: NewFolder) -> bool:
        """Give a folder out of ``staging`` a name that is free; that is durable then.

        False where it cannot be had, or where a folder that is made there would be another: its
        files then want their names one by one.
        """
        *above, name = parts
        with self.reach(tuple(above)) as folder:
            ours = new.inodes()
            if gives_on(folder) or gives_on(staging):
                return False
            if not rename_new(new.staged, name, staging, folder):
                return False
            try:
                # What is in staging after a crash is taken away: so it is gone there first.
                for each in (staging, folder):
                    self.sync_folder(each)
            except SyncFailed:
                new.take_back(ours)
                with suppress(OSError):
                    os.rmdir(name, dir_fd=folder)
                raise
            self._note_durable(new.fd, parts)
            return True

    def _sync_name(self, above: int, parts: tuple[str, ...]) -> None:
        new = parts in self._new
        self._new.discard(parts)
        try:
            self.sync_folder(above)
        except SyncFailed:
            if new:
                # Asked again the system may say yes without having written it, so whoever
                # tries again has to make it again.  It stays if somebody uses it already.
                with suppress(OSError):
                    os.rmdir(parts[-1], dir_fd=above)
            raise

    def sync_folder(self, fd: int) -> None:
        """Make the names in a folder durable."""
        if self.folder_sync:
            sync(fd)

    # What is there.

    def may_be(self, *parts: str) -> bool:
        """Whether something may lie there.

        A look that links on the way may lead elsewhere: whoever is told yes looks again.
        """
        try:
            os.stat("/".join(parts), dir_fd=self.root, follow_symlinks=False)
        except OSError:
            return False
        return True

    def look(self, folder: int, name: str) -> Facts | None:
        """What lies at a name, links not followed."""
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
        return Facts(
            kinds.get(stat.S_IFMT(found.st_mode), "other"), found.st_size, found.st_mtime_ns
        )

    @contextmanager
    def opened(self, folder: int, name: str, facts: Facts) -> Iterator[int | None]:
        """The file there, open for reading; None if it is not, or no longer, what ``facts`` say."""
        fd: int | None = None
        with suppress(OSError):
            if facts.kind == "file":
                fd = os.open(name, os.O_RDONLY | FILE_FLAGS, dir_fd=folder)
        if fd is None:
            yield None
            return
        try:
            found = os.fstat(fd)
            same = (found.st_size, found.st_mtime_ns) == (facts.size, facts.mtime_ns)
            yield fd if same and stat.S_ISREG(found.st_mode) else None
        finally:
            close(fd)

    def digest(self, folder: int, name: str, facts: Facts, durable: bool = False) -> str | None:
        """The digest of the file there, None if it is another than ``facts`` say, or unreadable.

        With ``durable`` its bytes are on the disk afterwards.
        """
        with self.opened(folder, name, facts) as fd:
            if fd is None:
                return None
            try:
                result = digest_of(lambda offset, size: os.pread(fd, size, offset), facts.size)
            except OSError:
                return None
            if result is not None and durable:
                sync(fd)
            return result

    def already(self, folder: int, name: str, conflict: Conflict, wanted: Wanted) -> Placed | None:
        """Whether what lies at the name makes storing needless; it is durable then."""
        facts = self.look(folder, name)
        if facts is None or facts.kind != "file" or facts.size != wanted.size:
            return None
        found = self.digest(folder, name, facts, durable=True)
        skipped = conflict is Conflict.SKIP and facts.mtime_ns == wanted.mtime_ns
        if found is None or not (skipped or found == wanted.digest):
            return None
        return Placed(name, found, already=True)

    # Names.

    def place(
        self, folder: int, staging: int, staged: str, name: str, conflict: Conflict, wanted: Wanted
    ) -> Placed:
        """Give the file ``staged`` its name, as the policy says; Exists if it says no.

        No name that is taken is ever touched, but by OVERWRITE, and that
        replaces the name only: other links to the old file keep its bytes.
        The staged name may be left over.  The folder is not synced.
        """
        if conflict is not Conflict.SERIES and self.link(staging, staged, folder, name):
            return Placed(name, wanted.digest)
        if placed := self.already(folder, name, conflict, wanted):
            return placed
        if conflict is Conflict.REFUSE:
            raise Exists()
        if conflict is Conflict.OVERWRITE:
            facts = self.look(folder, name)
            if facts is not None and facts.kind != "file":
                raise Exists(f"There is a {facts.kind} of that name, which is not replaced.")
            os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=folder)
            return Placed(name, wanted.digest, replaced=True)
        tried = (
            self._next(folder, staging, staged, each, conflict, wanted)
            for each in numbered(name, conflict)
        )
        return next(placed for placed in tried if placed is not None)

    def _next(
        self, folder: int, staging: int, staged: str, name: str, conflict: Conflict, wanted: Wanted
    ) -> Placed | None:
        """Give it one of the numbered names, if that is free or this very file has it."""
        if self.link(staging, staged, folder, name):
            return Placed(name, wanted.digest)
        if conflict is Conflict.SERIES:
            return None  # the same once more is meant to be there once more
        # It may have been named so before a crash that left no time to remember it.
        return self.already(folder, name, Conflict.RENAME, wanted)

    def link(self, staging: int, staged: str, folder: int, name: str) -> bool:
        """Give a name that is free; False if it is taken."""
        try:
            if self.links:
                os.link(staged, name, src_dir_fd=staging, dst_dir_fd=folder, follow_symlinks=False)
            elif self.look(folder, name) is None:
                os.rename(staged, name, src_dir_fd=staging, dst_dir_fd=folder)
            else:
                return False
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise DiskFailed("That folder is on another file system.") from error
            raise
        return True

    def withdraw(self, folder: int, staging: int, staged: str, placed: Placed) -> None:
        """Take back a name that could not be made durable, if it is still our file's."""
        if placed.already or placed.replaced:
            return
        with suppress(OSError):
            ours = os.stat(staged, dir_fd=staging, follow_symlinks=False)
            there = os.stat(placed.name, dir_fd=folder, follow_symlinks=False)
            if os.path.samestat(ours, there):
                os.unlink(placed.name, dir_fd=folder)
