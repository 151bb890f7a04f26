"""Files kept below one folder of this device (docs/protocol.rst, "Received")."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from secrets import token_hex

from lanxfer.errors import BadState, Busy, DiskFull, Exists, LanxferError, WeakStorage
from lanxfer.storage import Facts, Receipts, Small
from lanxfer.storage.batches import Batch
from lanxfer.storage.names import SafePath, link_target, quoted, whose
from lanxfer.storage.parts import LocalPart
from lanxfer.storage.publishing import Publisher
from lanxfer.storage.rules import (
    may_be_elsewhere,
    numbered,
    refuse_hidden,
    refuse_taken,
    refuse_unfinished,
)
from lanxfer.storage.staging import Staging, staged
from lanxfer.storage.system import FOLDER_FLAGS, SyncFailed, close, fcntl, sync, typed
from lanxfer.storage.tree import Tree
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

_NEEDED = (os.open, os.mkdir, os.stat, os.unlink, os.rename, os.link, os.symlink)


class LocalStore:
    """The files below ``root``, which is made if it does not exist; the interface is ``Store``.

    The folder is opened once and held: moved or replaced while in use, it is
    still the one that is written to, and none is made in its place.

    ``receipts`` None means that nothing is remembered: a retried file that had
    to be renamed may then be stored twice.  The reserve, ``reserve_bytes`` or
    ``reserve_share`` of the disk, whichever is more, is left free; ``unfinished``
    are the files and bytes that one principal may leave unfinished.
    ``dotfiles`` admits hidden names.  ``weak`` admits file systems that cannot
    keep the promises; ``weaknesses`` says which.  ``clock`` gives seconds and
    never jumps.

    Raises BadState where the folder cannot be used or another process uses it,
    WeakStorage where it could be with ``weak``.
    """

    def __init__(
        self,
        root: str,
        *,
        receipts: Receipts | None = None,
        reserve_bytes: int | None = None,
        reserve_share: float | None = None,
        unfinished: tuple[int, int] | None = None,
        dotfiles: bool = False,
        weak: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if fcntl is None or not os.supports_dir_fd.issuperset(_NEEDED):
            raise WeakStorage("This operating system cannot keep received files apart safely.")
        self._reserve = reserve_bytes, reserve_share
        self._unfinished = unfinished
        self._dotfiles = dotfiles
        self._clock = clock
        self._path = os.path.realpath(root)
        self._root = _open_root(self._path)
        try:
            self._staging = Staging(self._root)
            self._weaknesses = self._examine(weak)
        except OSError as error:
            self._close_root()
            raise BadState(f"The receiving folder cannot be used ({error.strerror}).") from error
        except BaseException:
            self._close_root()
            raise
        can = self._staging.abilities
        self._tree = Tree(self._root, links=can.links, folder_sync=can.folder_sync)
        self._publisher = Publisher(self._tree, self._staging, receipts, _umask())

    def _examine(self, weak: bool) -> tuple[str, ...]:
        can = self._staging.abilities
        broken = []
        if not can.links:
            broken.append("A file that appears under a name at the same moment is overwritten.")
        if not can.folder_sync:
            broken.append("A received file may be gone after a power cut.")
        if not can.locks:
            broken.append("A second lanxfer that uses the folder is not noticed.")
        if broken and not weak:
            self._staging.close()
            raise WeakStorage(" ".join([WeakStorage().reason, *broken]))
        if not can.case:
            broken.append("Names that differ only by case are the same name.")
        return tuple(broken)

    @property
    def volume(self) -> None:
        """None: nothing is waited for but a disk, if that."""

    @property
    def quick(self) -> bool:
        """As the disk is: in memory, or with a memory of its own that outlives a power cut."""
        return self._staging.quick

    # Files.

    def open_part(self, key: str, offer: Offer, path: SafePath, conflict: Conflict) -> LocalPart:
        """The writer of one file; see ``Store.open_part``."""
        refuse_hidden(path, self._dotfiles)
        self._staging.claim(key)
        fd: int | None = None
        try:
            with typed():
                remembered = self._publisher.recall([key]).get(key)
                if not may_be_elsewhere(conflict) and remembered != path:
                    remembered = None
                finished = self._publisher.finished(remembered, offer, path)
                if finished is None:
                    refuse_taken(self.look(path), offer, conflict)
                fd = self._staging.open(key)
                if fd is None and finished is None:
                    most = self._unfinished or (limits.UNFINISHED_FILES, limits.UNFINISHED_BYTES)
                    refuse_unfinished(*self._staging.unfinished(whose(key)), most)
                part = LocalPart(
                    self._publisher,
                    self.free,
                    self._clock,
                    key,
                    offer,
                    path,
                    conflict,
                    fd,
                    remembered,
                    finished,
                )
                if finished is None and offer.size - part.held > self.free():
                    raise DiskFull()
            return part
        except BaseException:
            if fd is not None:
                close(fd)
            self._staging.release(key)
            raise

    def put_many(self, files: Sequence[Small]) -> list[Stored | LanxferError]:
        """Store whole small files, each by itself, in the order given."""
        answers: list[Stored | LanxferError] = []
        most = Batch.most()
        for start in range(0, len(files), most):
            batch = files[start : start + most]
            answers += Batch(self._publisher, batch, self.free(), self._dotfiles).store()
        return answers

    # Folders and links.

    def make_folder(self, path: SafePath) -> Stored:
        """Make a folder and those above it; Exists if something else has its name."""
        refuse_hidden(path, self._dotfiles)
        with typed():
            facts = self.look(path)
            if facts is not None and facts.kind != "folder":
                raise Exists(f"There is a {facts.kind} of that name.")
            with self._tree.reach(path.parts):
                return Stored(str(path), 0, "", already=facts is not None)

    def make_link(self, path: SafePath, target: str, conflict: Conflict) -> Stored:
        """Make a symbolic link; OVERWRITE replaces other links and nothing else."""
        refuse_hidden(path, self._dotfiles)
        target = link_target(path, target, dotfiles=self._dotfiles)
        with typed(), self._tree.reach(path.parent) as folder:
            name, already = self._link(folder, path.name, target, conflict)
            self._tree.sync_folder(folder)
            return Stored("/".join((*path.parent, name)), 0, "", already)

    def _link(self, folder: int, name: str, target: str, conflict: Conflict) -> tuple[str, bool]:
        there = self._target(folder, name)
        if there == target:
            return name, True
        if there is not None and conflict is Conflict.OVERWRITE:
            self._replace_link(folder, name, target)
            return name, False
        if conflict is not Conflict.SERIES and _new_link(folder, name, target):
            return name, False
        if conflict in {Conflict.REFUSE, Conflict.OVERWRITE}:
            raise Exists()
        return next(
            (each, not new)
            for each in numbered(name, conflict)
            if (new := _new_link(folder, each, target)) or self._target(folder, each) == target
        )

    def _target(self, folder: int, name: str) -> str | None:
        """Where the link of that name leads; None if that is none."""
        facts = self._tree.look(folder, name)
        if facts is None or facts.kind != "link":
            return None
        return os.readlink(name, dir_fd=folder)

    def _replace_link(self, folder: int, name: str, target: str) -> None:
        temporary = staged(token_hex(16))
        os.symlink(target, temporary, dir_fd=self._staging.fd)
        try:
            os.rename(temporary, name, src_dir_fd=self._staging.fd, dst_dir_fd=folder)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self._staging.fd)
            raise

    def look(self, path: SafePath) -> Facts | None:
        """What is at that name, links not followed; None also where a folder above it is none."""
        with typed(), self._tree.find(path.parent) as folder:
            return None if folder is None else self._tree.look(folder, path.name)

    # The place.

    def free(self) -> int:
        """Bytes that may still be written, the reserve taken off."""
        with typed():
            found = os.statvfs(self._root)
        unit = found.f_frsize
        size, share = self._reserve
        size = limits.RESERVE_BYTES if size is None else size
        share = limits.RESERVE_SHARE if share is None else share
        return max(0, found.f_bavail * unit - max(size, int(share * found.f_blocks * unit)))

    def holds(self, key: str) -> bool:
        """Whether there is a part of that key, being written or not."""
        with typed():
            return self._staging.holds(key)

    def forget(self, key: str) -> None:
        """Remove the part of that key; one that is being written stays."""
        try:
            self._staging.claim(key)
        except Busy:
            return
        try:
            with typed():
                self._staging.remove(key)
        finally:
            self._staging.release(key)

    def tidy(self, older_than: float) -> int:
        """Finish what a crash left, remove parts untouched for so many seconds; how many."""
        with typed():
            return self._staging.tidy(older_than)

    def weaknesses(self) -> tuple[str, ...]:
        """Sentences about promises this place cannot keep, as it is now."""
        with suppress(OSError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._root)):
                return self._weaknesses
        return (
            *self._weaknesses,
            "The receiving folder was moved or replaced; restart the service to use the new one.",
        )

    def close(self) -> None:
        """Let go of the folder; parts must be closed before.  Closing twice is fine."""
        self._staging.close()
        self._close_root()

    def _close_root(self) -> None:
        fd, self._root = self._root, -1
        if fd >= 0:
            close(fd)


def _new_link(folder: int, name: str, target: str) -> bool:
    try:
        os.symlink(target, name, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _open_root(path: str) -> int:
    try:
        if not os.path.lexists(path):
            _make_root(path)
        # Whether it is new or not: whoever made it may have been killed before that was durable.
        _sync_name(path)
        return os.open(path, FOLDER_FLAGS)
    except OSError as error:
        raise BadState(
            f"The receiving folder {quoted(path)} cannot be used ({error.strerror})."
        ) from error


def _make_root(path: str) -> None:
    """Make the folder and those above it, and their names durable."""
    above = os.path.dirname(path)
    if not os.path.lexists(above):
        _make_root(above)
    os.mkdir(path, 0o700)
    _sync_name(path)


def _sync_name(path: str) -> None:
    """Make the name of a folder durable, as far as the one above it may be opened."""
    # Where it cannot be synced, the probe finds that out.
    with suppress(OSError, SyncFailed):
        fd = os.open(os.path.dirname(path), FOLDER_FLAGS)
        try:
            sync(fd)
        finally:
            close(fd)


def _umask() -> int:
    with suppress(OSError, ValueError, StopIteration), open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("Umask:"))[6:], 8)
    # Here it can only be asked for by setting it: what is made meanwhile is for its owner alone.
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
