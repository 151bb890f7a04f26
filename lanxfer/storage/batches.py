"""Many small files at once, for the price of one wait for the disk.

Each file goes the way of a large one (``publishing``), but they go together:
all are written, all begin their way to the disk, all are waited for; then a
folder is opened once for all of its files and synced once.  Every file fails
by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from lanxfer.errors import DiskFull, Internal, LanxferError
from lanxfer.storage import Small
from lanxfer.storage.names import SafePath
from lanxfer.storage.publishing import Publisher
from lanxfer.storage.rules import refuse_small, told_by_name, usable_mtime
from lanxfer.storage.staging import staged
from lanxfer.storage.system import (
    SyncFailed,
    can_sync_all,
    close,
    sync,
    sync_all,
    translated,
)
from lanxfer.storage.tree import Placed, Wanted
from lanxfer.transfers import Stored
from lanxfer.wire import limits

_ANY = (OSError, SyncFailed, LanxferError)

TOGETHER = 16
"""Files from which on one sync of the file system takes their place (``sync_all``)."""


class _File:
    """One of them: what it is, and how far it came; ``end`` is what became of it."""

    __slots__ = ("end", "fd", "small", "wanted")

    def __init__(self, small: Small) -> None:
        offer = small.offer
        self.small = small
        self.wanted = Wanted(offer.size, offer.digest or "", usable_mtime(offer.mtime_ns))
        self.fd = -1
        self.end: Stored | LanxferError | None = None


class Batch:
    """One use of the disk for some small files, at most ``most()`` of them.

    ``room`` is how many bytes they may take together.  Batches wait for the disk side by
    side, but their many small steps one thread takes at a time (``Staging.turn``).
    """

    def __init__(
        self,
        publisher: Publisher,
        files: Sequence[Small],
        room: int,
        dotfiles: bool,
    ) -> None:
        self._publisher = publisher
        self._tree = publisher.tree
        self._staging = publisher.staging
        self._files = [_File(small) for small in files]
        self._together = len(files) >= TOGETHER and can_sync_all()
        self._room = room
        self._scarce = room < sum(small.offer.size for small in files)
        self._dotfiles = dotfiles
        self._claimed: list[str] = []
        self._remembered: dict[str, SafePath] = {}

    @staticmethod
    def most() -> int:
        """Where each has a sync of its own, each holds a descriptor until then."""
        return limits.PACK_FILES if can_sync_all() else limits.BATCH_FILES

    def store(self) -> list[Stored | LanxferError]:
        """Store them; one answer a file, in the order given."""
        turn = self._staging.turn
        try:
            with turn:
                self._each(self._claim)
            self._recall()
            if self._remembered:
                self._each(self._find_renamed)
            self._in_folders(self._find)
            with turn:
                self._each(self._write)
            self._flush()
            self._in_folders(self._place)
            self._remember()
        finally:
            self._clear()
        return [file.end or Internal() for file in self._files]

    def _open(self) -> list[_File]:
        return [file for file in self._files if file.end is None]

    def _each(self, step: Callable[[_File], None]) -> None:
        for file in self._files:
            if file.end is None:
                try:
                    step(file)
                except _ANY as error:
                    file.end = translated(error)

    def _in_folders(self, step: Callable[[tuple[str, ...], list[_File]], None]) -> None:
        folders: dict[tuple[str, ...], list[_File]] = {}
        for file in self._open():
            folders.setdefault(file.small.path.parent, []).append(file)
        for parts, files in folders.items():
            try:
                step(parts, files)
            except _ANY as error:
                failed = translated(error)
                for file in files:
                    if not isinstance(file.end, LanxferError):
                        file.end = failed

    # The steps.

    def _claim(self, file: _File) -> None:
        refuse_small(file.small, self._dotfiles)
        self._staging.claim(file.small.key)
        self._claimed.append(file.small.key)

    def _recall(self) -> None:
        try:
            self._remembered = self._publisher.recall(self._claimed)
        except LanxferError as error:
            for file in self._open():
                file.end = error

    def _find_renamed(self, file: _File) -> None:
        small = file.small
        file.end = self._publisher.found_again(
            self._remembered.get(small.key), small.offer, small.path, file.wanted.digest
        )

    def _find(self, parts: tuple[str, ...], files: list[_File]) -> None:
        try:
            with self._tree.reach(parts, make=False) as folder:
                found = False
                for file in files:
                    small = file.small
                    placed = self._tree.already(
                        folder, small.path.name, small.conflict, file.wanted
                    )
                    if placed is not None:
                        found = True
                        self._placed(file, placed)
                    elif not (found or self._scarce):
                        return  # then hardly any of them is: they are found when they are placed
                if found:
                    self._tree.sync_folder(folder)
        except FileNotFoundError:
            return

    def _write(self, file: _File) -> None:
        size = file.small.offer.size
        if size > self._room:
            raise DiskFull()
        self._room -= size
        fd = file.fd = self._staging.create(file.small.key)
        for piece in file.small.pieces:
            written = os.write(fd, piece)
            while written < len(piece):
                written += os.write(fd, memoryview(piece)[written:])
        self._publisher.dress(fd, file.small.offer)
        if self._together:
            file.fd = -1
            close(fd)

    def _flush(self) -> None:
        """Make the files durable, before any of them gets its name."""
        if self._together:
            try:
                sync_all(self._staging.fd)
            except SyncFailed as error:
                for file in self._open():
                    file.end = error.error
            return
        # First all begin, so that the disk may do them in its own order.
        if hasattr(os, "posix_fadvise"):
            for file in self._open():
                with suppress(OSError):
                    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._each(lambda file: sync(file.fd))

    def _place(self, parts: tuple[str, ...], files: list[_File]) -> None:
        placed: list[tuple[_File, Placed]] = []
        tree, staging = self._tree, self._staging.fd
        with tree.reach(parts) as folder:
            with self._staging.turn:
                for file in files:
                    small = file.small
                    key, name = staged(small.key), small.path.name
                    try:
                        each = tree.place(folder, staging, key, name, small.conflict, file.wanted)
                    except _ANY as error:
                        file.end = translated(error)
                    else:
                        placed.append((file, each))
            try:
                if placed:
                    tree.sync_folder(folder)
            except SyncFailed:
                for file, each in placed:
                    tree.withdraw(folder, staging, staged(file.small.key), each)
                raise
        for file, each in placed:
            self._placed(file, each)

    def _remember(self) -> None:
        untold: dict[str, Stored] = {}
        for file in self._files:
            small, stored = file.small, file.end
            if isinstance(stored, Stored) and (
                small.key in self._remembered or not told_by_name(small.offer, small.path, stored)
            ):
                untold[small.key] = stored
        try:
            self._publisher.remember(untold)
        except LanxferError as error:
            for file in self._files:
                if isinstance(file.end, Stored) and file.small.key in untold:
                    file.end = error

    def _placed(self, file: _File, placed: Placed) -> None:
        name = "/".join((*file.small.path.parent, placed.name))
        file.end = Stored(name, file.small.offer.size, placed.digest, placed.already)

    def _clear(self) -> None:
        for file in self._files:
            if file.fd >= 0:
                close(file.fd)
        with self._staging.turn:
            for key in self._claimed:
                self._publisher.clear(key)
                self._staging.release(key)
