"""Many small files at once, for the price of one wait for the disk.

Each file goes the way of a large one (``publishing``), but they go together:
all are written, all begin their way to the disk, all are waited for; then a
folder is opened once for all of its files and synced once.  Every file fails
by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from lanxfer.errors import DiskFull, LanxferError
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


class Batch:
    """One use of the disk for some small files, at most ``most()`` of them.

    ``room`` is how many bytes they may take together.
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
        self._files = files
        self._together = len(files) >= TOGETHER and can_sync_all()
        self._room = room
        self._dotfiles = dotfiles
        self._claimed: list[str] = []
        self._written: dict[int, int] = {}  # number of the file to descriptor
        self._remembered: dict[str, SafePath] = {}
        self._stored: dict[int, Stored] = {}
        self._failed: dict[int, LanxferError] = {}

    @staticmethod
    def most() -> int:
        """Where each has a sync of its own, each holds a descriptor until then."""
        return limits.PACK_FILES if can_sync_all() else limits.BATCH_FILES

    def store(self) -> list[Stored | LanxferError]:
        """Store them; one answer a file, in the order given."""
        try:
            self._each(self._claim)
            self._recall()
            self._each(self._find_renamed)
            self._in_folders(self._find)
            self._each(self._write)
            self._flush()
            self._in_folders(self._place)
            self._remember()
        finally:
            for fd in self._written.values():
                close(fd)
            for key in self._claimed:
                self._publisher.clear(key)
                self._staging.release(key)
        return [self._failed.get(n) or self._stored[n] for n in range(len(self._files))]

    def _open(self) -> Iterator[int]:
        for number in range(len(self._files)):
            if number not in self._failed and number not in self._stored:
                yield number

    def _each(self, step: Callable[[int], None]) -> None:
        for number in self._open():
            try:
                step(number)
            except _ANY as error:
                self._failed[number] = translated(error)

    def _in_folders(self, step: Callable[[tuple[str, ...], list[int]], None]) -> None:
        folders: dict[tuple[str, ...], list[int]] = {}
        for number in self._open():
            folders.setdefault(self._files[number].path.parent, []).append(number)
        for parts, numbers in folders.items():
            try:
                step(parts, numbers)
            except _ANY as error:
                for number in numbers:
                    self._stored.pop(number, None)
                    self._failed.setdefault(number, translated(error))

    # The steps.

    def _claim(self, number: int) -> None:
        small = self._files[number]
        refuse_small(small, self._dotfiles)
        self._staging.claim(small.key)
        self._claimed.append(small.key)

    def _recall(self) -> None:
        try:
            self._remembered = self._publisher.recall(self._claimed)
        except LanxferError as error:
            self._failed.update(dict.fromkeys(self._open(), error))

    def _find_renamed(self, number: int) -> None:
        small = self._files[number]
        if small.key not in self._remembered:
            return
        if stored := self._publisher.found_again(
            small.key, small.offer, small.path, self._wanted(number).digest
        ):
            self._stored[number] = stored

    def _find(self, parts: tuple[str, ...], numbers: list[int]) -> None:
        try:
            with self._tree.reach(parts, make=False) as folder:
                for number in numbers:
                    small = self._files[number]
                    placed = self._tree.already(
                        folder, small.path.name, small.conflict, self._wanted(number)
                    )
                    if placed is not None:
                        self._placed(number, placed)
                if any(number in self._stored for number in numbers):
                    self._tree.sync_folder(folder)
        except FileNotFoundError:
            return

    def _write(self, number: int) -> None:
        small = self._files[number]
        if len(small.data) > self._room:
            raise DiskFull()
        self._room -= len(small.data)
        fd = self._written[number] = self._staging.create(small.key)
        pending = memoryview(small.data)
        while pending:
            pending = pending[os.write(fd, pending) :]
        self._publisher.dress(fd, small.offer)
        if self._together:
            close(self._written.pop(number))

    def _flush(self) -> None:
        """Make the files durable, before any of them gets its name."""
        if self._together:
            try:
                sync_all(self._staging.fd)
            except SyncFailed as error:
                self._failed.update(dict.fromkeys(self._open(), error.error))
            return
        # First all begin, so that the disk may do them in its own order.
        if hasattr(os, "posix_fadvise"):
            for number in self._open():
                with suppress(OSError):
                    fd = self._written[number]
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._each(lambda number: sync(self._written[number]))

    def _place(self, parts: tuple[str, ...], numbers: list[int]) -> None:
        placed: dict[int, Placed] = {}
        with self._tree.reach(parts) as folder:
            for number in numbers:
                small = self._files[number]
                try:
                    placed[number] = self._tree.place(
                        folder,
                        self._staging.fd,
                        staged(small.key),
                        small.path.name,
                        small.conflict,
                        self._wanted(number),
                    )
                except _ANY as error:
                    self._failed[number] = translated(error)
            try:
                if placed:
                    self._tree.sync_folder(folder)
            except SyncFailed:
                for number, each in placed.items():
                    key = self._files[number].key
                    self._tree.withdraw(folder, self._staging.fd, staged(key), each)
                raise
        for number, each in placed.items():
            self._placed(number, each)

    def _remember(self) -> None:
        published = {}
        for number, stored in self._stored.items():
            small = self._files[number]
            if small.key in self._remembered or not told_by_name(small.offer, small.path, stored):
                published[small.key] = stored
        try:
            self._publisher.remember(published)
        except LanxferError as error:
            lost = [n for n in self._stored if self._files[n].key in published]
            self._failed.update(dict.fromkeys(lost, error))

    def _placed(self, number: int, placed: Placed) -> None:
        small = self._files[number]
        name = "/".join((*small.path.parent, placed.name))
        self._stored[number] = Stored(name, small.offer.size, placed.digest, placed.already)

    def _wanted(self, number: int) -> Wanted:
        offer = self._files[number].offer
        return Wanted(offer.size, offer.digest or "", usable_mtime(offer.mtime_ns))
