"""Many small files at once, for the price of one wait for the disk.

Each file goes the way of a large one (``publishing``), but they go together:
all are written, all begin their way to the disk, all are waited for; then a
folder is opened once for all of its files and synced once.  A folder that is
new gets its name with all of its files in it.  Every file fails by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from lanxfer.errors import Busy, DiskFull, Internal, LanxferError
from lanxfer.storage import Small
from lanxfer.storage.arriving import Arriving
from lanxfer.storage.names import SafePath
from lanxfer.storage.publishing import Publisher
from lanxfer.storage.rules import may_be_elsewhere, mode_of, refuse_small, told_by_name
from lanxfer.storage.system import FOLDER_FLAGS, SyncFailed, can_sync_all, close, sync, sync_all
from lanxfer.storage.tree import Placed
from lanxfer.storage.wholes import NewFolder
from lanxfer.transfers import Conflict, Stored
from lanxfer.wire import limits

_ANY = (OSError, SyncFailed, LanxferError)

TOGETHER = 16
"""Files from which on one sync of the file system takes their place (``sync_all``)."""

NEW_AT_ONCE = 16
"""Folders of a batch that are made in staging; each keeps a descriptor until it has its name."""

IN_NEW = 4
"""Files from which on a folder that is not there is made in staging: that is two steps less for
each of them, and five more for the folder."""


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
        self._files = list(map(Arriving, files))
        self._together = len(files) >= TOGETHER and can_sync_all()
        self._disk = -1
        self._room = room
        self._scarce = room < sum(small.offer.size for small in files)
        self._dotfiles = dotfiles
        self._series: list[str] = []
        self._written: list[str] = []
        self._new: list[NewFolder] = []
        self._groups: list[tuple[tuple[str, ...], list[Arriving]]] = []
        self._remembered: dict[str, SafePath] = {}
        self._modes = [mode_of(flag) & ~publisher.umask for flag in (False, True)]

    @staticmethod
    def most() -> int:
        """Where each has a sync of its own, each holds a descriptor until then."""
        return limits.PACK_FILES if can_sync_all() else limits.BATCH_FILES

    def store(self) -> list[Stored | LanxferError]:
        """Store them; one answer a file, in the order given."""
        turn = self._staging.turn
        try:
            with turn:
                self._each(self._refuse)
            self._claim()
            self._recall()
            if self._remembered:
                self._each(self._find_renamed)
            self._in_folders(self._find)
            self._watch_disk()
            with turn:
                self._each(self._write)
            self._take_out()
            self._flush()
            self._in_folders(self._place_folder)
            self._in_folders(self._place)
            self._remember()
        finally:
            self._clear()
        return [file.end or Internal() for file in self._files]

    def _open(self) -> list[Arriving]:
        return [file for file in self._files if file.end is None]

    def _each(self, step: Callable[[Arriving], object]) -> None:
        for file in self._files:
            if file.end is None:
                try:
                    step(file)
                except _ANY as error:
                    file.failed(error)

    def _in_folders(self, step: Callable[[tuple[str, ...], list[Arriving]], None]) -> None:
        for parts, group in self._by_folder():
            files = [file for file in group if file.end is None]
            if not files:
                continue
            try:
                step(parts, files)
            except _ANY as error:
                for file in files:
                    if not isinstance(file.end, LanxferError):
                        file.failed(error)

    def _by_folder(self) -> list[tuple[tuple[str, ...], list[Arriving]]]:
        """The files, those of one folder together."""
        if not self._groups:
            folders: dict[tuple[str, ...], list[Arriving]] = {}
            for file in self._files:
                folders.setdefault(file.folder, []).append(file)
            # Those above before those in them: what is made on the way is not new any more.
            self._groups = sorted(folders.items(), key=lambda item: len(item[0]))
        return self._groups

    # The steps.

    def _refuse(self, file: Arriving) -> None:
        refuse_small(file.small, self._dotfiles)

    def _claim(self) -> None:
        """Nobody else stores these meanwhile.

        Any other file two may store at once: the second finds what the first made durable.
        """

        def claim(file: Arriving) -> None:
            if file.small.conflict is Conflict.SERIES:
                self._staging.claim(key := file.small.key)
                self._series.append(key)

        if any([file.small.conflict is Conflict.SERIES for file in self._files]):
            self._each(claim)

    def _recall(self) -> None:
        files = self._open()
        try:
            self._remembered = self._publisher.recall(file.small.key for file in files)
        except LanxferError as error:
            for file in files:
                file.failed(error)

    def _find_renamed(self, file: Arriving) -> None:
        if not may_be_elsewhere(file.small.conflict):
            return
        remembered = self._remembered.get(file.small.key)
        offer, path = file.offer, file.small.path
        file.end = self._publisher.found_again(remembered, offer, path, offer.digest or "")

    def _find(self, parts: tuple[str, ...], files: list[Arriving]) -> None:
        if self._is_new(parts, files):
            with suppress(OSError):  # then each gets its name by itself
                new = self._staging.wholes.new_folder()
                self._new.append(new)
                for file in files:
                    if file.small.conflict is not Conflict.SERIES:
                        file.new = new
            return
        if not (self._scarce or self._tree.may_be(*parts, files[0].name)):
            return  # then hardly any of them is: they are found when they are placed
        try:
            with self._tree.reach(parts, make=False) as folder:
                found = False
                for file in files:
                    conflict = file.small.conflict
                    placed = self._tree.already(folder, file.name, conflict, file.wanted)
                    if placed is not None:
                        found = True
                        if self._staging.unsynced.by_others(parts, placed.name):
                            file.failed(Busy())
                        else:
                            file.settled(placed)
                    elif not (found or self._scarce):
                        return
                if found:
                    self._tree.sync_folder(folder)
        except FileNotFoundError:
            return

    def _is_new(self, parts: tuple[str, ...], files: Sequence[Arriving]) -> bool:
        if not self._together or len(files) < IN_NEW or len(self._new) >= NEW_AT_ONCE:
            return False
        return bool(parts) and not self._tree.may_be(*parts)

    def _watch_disk(self) -> None:
        """Hear of all that goes wrong from now on; nobody else's sync may hear it instead.

        The system tells it once to each descriptor that was open by then.
        """
        if not self._together or not (files := self._open()):
            return
        try:
            self._disk = os.open(".", FOLDER_FLAGS, dir_fd=self._staging.fd)
        except OSError as error:
            for file in files:
                file.failed(error)

    def _write(self, file: Arriving) -> None:
        offer = file.offer
        if offer.size > self._room:
            raise DiskFull()
        self._room -= offer.size
        fd = file.fd = self._create(file, self._modes[offer.executable])
        for piece in file.small.pieces:
            written = os.write(fd, piece)
            while written < len(piece):
                written += os.write(fd, memoryview(piece)[written:])
        self._publisher.dress(fd, offer)
        if self._together:
            file.fd = -1
            close(fd)

    def _create(self, file: Arriving, mode: int) -> int:
        if file.new is not None:
            try:
                fd = file.new.create(file.name, mode)
            except FileExistsError:  # two of one name
                file.new = None
            else:
                file.staged, file.inside = file.name, True
                return fd
        file.staged, fd = self._staging.wholes.create(mode)
        self._written.append(file.staged)
        return fd

    def _flush(self) -> None:
        """Make the files durable, before any of them gets its name."""
        written = self._open()
        if written:
            began = time.monotonic()
            self._sync(written)
            self._staging.waited(time.monotonic() - began)

    def _sync(self, written: Sequence[Arriving]) -> None:
        if self._together:
            try:
                sync_all(self._disk)
            except SyncFailed as error:
                for file in written:
                    file.failed(error)
            return
        # First all begin, so that the disk may do them in its own order.
        if hasattr(os, "posix_fadvise"):
            for file in written:
                with suppress(OSError):
                    os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._each(lambda file: sync(file.fd))

    def _take_out(self) -> None:
        """Remove from new folders what went wrong, for they get their names as they are."""
        for file in self._files:
            if file.inside and file.end is not None and file.new is not None:
                try:
                    file.new.remove(file.name)
                except OSError:
                    file.new.sound = False

    def _place(self, parts: tuple[str, ...], files: list[Arriving]) -> None:
        with self._tree.reach(parts) as folder, self._staging.unsynced.placing(parts) as names:
            with self._staging.turn:
                for file in files:
                    try:
                        self._name(folder, file, names)
                    except _ANY as error:
                        file.failed(error)
            placed = [file for file in files if not isinstance(file.end, LanxferError)]
            try:
                if placed:
                    self._tree.sync_folder(folder)
            except SyncFailed:
                for file in placed:
                    there = file.placed or Placed(file.name, "")
                    self._tree.withdraw(folder, self._staged_in(file), file.staged, there)
                raise

    def _place_folder(self, parts: tuple[str, ...], files: list[Arriving]) -> None:
        """Give those that are in a new folder their names with it, where that can be."""
        inside = [file for file in files if file.inside]
        new = inside[0].new if inside else None
        if new is None or not new.sound:
            return
        with self._staging.unsynced.placing(parts) as names:
            names.update([file.name for file in inside])
            if not self._tree.adopt(parts, self._staging.fd, new):
                return
        for file in inside:
            file.named()
        new.close()
        self._new.remove(new)

    def _staged_in(self, file: Arriving) -> int:
        return file.new.fd if file.inside and file.new is not None else self._staging.fd

    def _name(self, folder: int, file: Arriving, names: set[str]) -> None:
        tree, staging, part = self._tree, self._staged_in(file), file.staged
        conflict, name = file.small.conflict, file.name
        names.add(name)
        if conflict is not Conflict.SERIES and tree.link(staging, part, folder, name):
            file.named()
            return
        names.discard(name)
        placed = tree.place(folder, staging, part, name, conflict, file.wanted)
        if not placed.already:
            names.add(placed.name)
        elif self._staging.unsynced.by_others(file.folder, placed.name, names):
            raise Busy()
        file.settled(placed)

    def _remember(self) -> None:
        untold: dict[str, Stored] = {}
        files: list[Arriving] = []
        for file in self._files:
            if file.told and not self._remembered:
                continue
            stored, small = file.end, file.small
            if isinstance(stored, Stored) and (
                not told_by_name(file.offer, small.path, stored)
                or (self._remembered and small.key in self._remembered)
            ):
                untold[small.key] = stored
                files.append(file)
        try:
            self._publisher.remember(untold)
        except LanxferError as error:
            for file in files:
                file.failed(error)

    def _clear(self) -> None:
        for fd in (self._disk, *(file.fd for file in self._files)):
            if fd >= 0:
                close(fd)
        with self._staging.turn:
            self._staging.wholes.remove(self._written)
            for new in self._new:
                new.close()
            self._staging.wholes.remove(new.staged for new in self._new)
        stored = (file for file in self._files if isinstance(file.end, Stored))
        self._staging.remove_left(file.small.key for file in stored)
        for key in self._series:
            self._staging.release(key)
