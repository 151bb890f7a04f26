"""Places that are not a folder of this device, and the shares that are made on them.

A ``Volume`` is what such a place is asked: a dozen plain things, all of which block.
``VolumeShare`` makes a shared folder of one, with the rules of ``lanxfer.storage.shares``;
both meet ``SharedFolder``, and ``tests/test_storage_shares.py`` asks the same of all.

Names are ``SafePath`` and never lead out.  Where a place has links, every folder on the way is
looked at before it is gone through; unlike with a folder of this device, whoever changes
that place at the very moment may win.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Any, BinaryIO, Protocol

from lanxfer.errors import (
    BadName,
    DiskFailed,
    Exists,
    Forbidden,
    LanxferError,
    NotFound,
    SourceChanged,
    SourceUnreadable,
)
from lanxfer.storage import Facts, Store
from lanxfer.storage.names import RESERVED, SafePath, is_hidden, quoted, safe_path, shown
from lanxfer.storage.replacing import Replacing
from lanxfer.storage.shares import SORTED_MAX, Row, typed_at
from lanxfer.storage.sources import Source
from lanxfer.wire import limits

Parts = tuple[str, ...]


class SharedFolder(Protocol):
    """What can be shared under a name; all but ``stat(None)`` may block.

    ``store`` takes what is put there, and is None where nothing may be.  Errors are
    LanxferErrors: NotFound for what is not there, Exists for what is.
    """

    name: str
    dotfiles: bool

    @property
    def store(self) -> Store | None: ...

    @property
    def volume(self) -> Volume | None:
        """What its methods wait for; None where that is the disk of this device, or nothing."""

    def stat(self, path: SafePath | None) -> Row: ...

    def scan(self, path: SafePath | None) -> Generator[Row, None, None]: ...

    def open(self, path: SafePath | None) -> Source: ...

    def make_folder(self, path: SafePath | None, *, parents: bool, exist_ok: bool) -> bool: ...

    def move(self, path: SafePath | None, to: SafePath | None, *, overwrite: bool) -> None: ...

    def append(self, path: SafePath | None, tail: SafePath | None) -> int: ...

    def remove(self, path: SafePath | None, *, recursive: bool) -> None: ...

    def close(self) -> None: ...


class Volume(Protocol):
    """A place with files; ``()`` is its root.  From several threads at once.

    Raises OSErrors as a disk does (FileNotFoundError, FileExistsError), or LanxferErrors.
    """

    blocks: bool
    """Whether its methods may take long, and so need threads of their own."""

    has_links: bool
    keeps_times: bool
    """Whether a file keeps the time it is given, to the second at least."""

    def look(self, parts: Parts) -> Facts | None:
        """What is at that name, links not followed."""

    def names(self, parts: Parts) -> Iterator[tuple[str, Facts]]:
        """The names in a folder, in any order."""

    def open(self, parts: Parts) -> BinaryIO:
        """A file, to be read from anywhere in it."""

    def store(
        self, parts: Parts, chunks: Iterator[bytes], mtime_ns: int | None, replace: bool
    ) -> None:
        """A file with that content; what ``weaknesses`` does not deny is promised of it.

        The folder above it is there.  Without ``replace``, FileExistsError for a name that is
        taken.  ``chunks`` is read to its end; where it raises, or the place does, nothing has
        got the name.
        """

    def make_folder(self, parts: Parts) -> None:
        """One folder; that above it is there."""

    def rename(self, parts: Parts, to: Parts, replace: bool) -> None:
        """Another name for a file or folder."""

    def remove(self, parts: Parts) -> None:
        """Remove a file or a link."""

    def remove_folder(self, parts: Parts) -> None:
        """Remove a folder in which nothing is."""

    def tidy(self, older_than: float) -> int:
        """Remove what broken writes left so many seconds ago; how many."""

    def weaknesses(self) -> tuple[str, ...]:
        """Sentences about promises of a local folder that this place does not keep."""

    def close(self) -> None:
        """Let go of it."""


_stirring = threading.local()


def while_stirring(stir: Callable[[], object], work: Callable[[], Any]) -> Any:
    """Do ``work`` in this thread, with ``stir`` called whenever it is seen to get on."""
    _stirring.stir = stir
    try:
        return work()
    finally:
        del _stirring.stir


def stir() -> None:
    """Say that what this thread does gets on, so that nobody gives it up."""
    known = getattr(_stirring, "stir", None)
    if known is not None:
        known()


def chunks_of(file: BinaryIO) -> Iterator[bytes]:
    """All of an open file, from its beginning."""
    file.seek(0)
    while data := file.read(limits.UNIT):
        yield data
        stir()


class VolumeSource(Source):
    """A file of a volume that is read; ``look`` says what is at its name now."""

    def __init__(
        self, path: str, file: BinaryIO, facts: Facts, look: Callable[[], Facts | None]
    ) -> None:
        mode = stat.S_IFREG | 0o600
        super().__init__(path, -1, os.stat_result((mode, 0, 0, 1, 0, 0, facts.size, 0, 0, 0)))
        self.mtime_ns = facts.mtime_ns
        self._file: BinaryIO | None = file
        self._facts = facts
        self._look = look
        self._one = threading.Lock()

    def check_unchanged(self) -> None:
        if self._look() != self._facts:
            raise SourceChanged()

    def _read_at(self, offset: int, size: int) -> bytes:
        with self._one:
            if self._file is None:
                raise SourceUnreadable("The file was closed.")
            try:
                self._file.seek(offset)
                return self._file.read(size)
            except OSError as error:
                raise DiskFailed("The file could not be read any further.") from error

    def _fill(self, offset: int, space: memoryview) -> int:
        data = self._read_at(offset, len(space))
        space[: len(data)] = data
        return len(data)

    def close(self) -> None:
        with self._one:
            file, self._file = self._file, None
            if file is not None:
                file.close()


class VolumeShare:
    """A volume, or what is below its root, as a shared folder; see ``SharedFolder``.

    Whoever made the volume closes it, or lets ``store`` do so.
    """

    def __init__(
        self, name: str, place: Volume, store: Store | None = None, dotfiles: bool = False
    ) -> None:
        self.name = name
        self.store = store
        self.dotfiles = dotfiles
        self._place = place
        self._changing = threading.Lock()
        # With what is put there, so that neither undoes the other.
        self._replacing: Replacing = getattr(store, "replacing", None) or Replacing()

    @property
    def volume(self) -> Volume | None:
        return self._place if self._place.blocks else None

    def close(self) -> None:
        """Nothing to let go of."""

    # Looking.

    def stat(self, path: SafePath | None) -> Row:
        """Kind, size and time; the shared folder itself is told of without a look."""
        if path is None:
            return {"name": self.name, "kind": "folder", "size": 0, "mtime_ns": 0}
        with typed_at(path):
            self._check_way(path.parent)
            facts = self._place.look(path.parts)
        if facts is None:
            raise NotFound(f"There is no {quoted(str(path))}.")
        return _row(path.name, facts)

    def scan(self, path: SafePath | None) -> Generator[Row, None, None]:
        """What is in a folder, never what lanxfer keeps there for itself."""
        parts = () if path is None else path.parts
        with typed_at(path):
            self._check_way(parts)
            rows = ((n, facts) for n, facts in self._place.names(parts) if self._shown(n))
            first = list(islice(rows, SORTED_MAX))
            if len(first) < SORTED_MAX:
                first.sort(key=lambda row: row[0])
            for name, facts in first:
                yield _listed(name, facts)
            for name, facts in rows:
                yield _listed(name, facts)

    def _shown(self, name: str) -> bool:
        hidden = is_hidden(name) and not self.dotfiles
        return not (hidden or name.casefold().startswith(RESERVED))

    def open(self, path: SafePath | None) -> Source:
        """A regular file, to be read; whoever opens it closes it."""
        if path is None:
            raise BadName("That is a folder.")
        with typed_at(path):
            self._check_way(path.parent)
            facts = self._file(path)
            parts = path.parts
            return VolumeSource(
                str(path), self._place.open(parts), facts, lambda: self._place.look(parts)
            )

    def _file(self, path: SafePath) -> Facts:
        facts = self._place.look(path.parts)
        if facts is None:
            raise NotFound(f"There is no {quoted(str(path))}.")
        if facts.kind == "link":
            raise Forbidden("Links are not followed there.")
        if facts.kind != "file":
            raise BadName(f"{quoted(str(path))} is no file.")
        return facts

    def _check_way(self, parts: Parts) -> None:
        """NotFound unless all of these are folders, and none of them a link."""
        least = 1 if self._place.has_links else len(parts)
        for depth in range(max(least, 1), len(parts) + 1):
            facts = self._place.look(parts[:depth])
            if facts is None or facts.kind != "folder":
                raise NotFound(f"There is no folder {quoted('/'.join(parts[:depth]))}.")

    # Changing.

    def make_folder(self, path: SafePath | None, *, parents: bool, exist_ok: bool) -> bool:
        """Make a folder; whether it is new.  Exists where it is there and ``exist_ok`` is not."""
        if path is None:
            raise Exists()
        with self._changing, typed_at(path):
            if not parents:
                self._check_way(path.parent)
            facts = self._place.look(path.parts)
            if facts is not None and (facts.kind != "folder" or not exist_ok):
                raise Exists(f"There is a {facts.kind} of that name.")
            make_folders(self._place, path.parts)
            return facts is None

    def move(self, path: SafePath | None, to: SafePath | None, *, overwrite: bool) -> None:
        """Give something another name; only a file replaces a file, and only with ``overwrite``."""
        if path is None or to is None:
            raise Forbidden("The shared folder itself stays where it is.")
        if to.parts[: len(path.parts)] == path.parts and to != path:
            raise BadName("A folder cannot be moved into itself.")
        with self._changing, typed_at(path):
            self._check_way(path.parent)
            self._check_way(to.parent)
            facts, there = self._place.look(path.parts), self._place.look(to.parts)
            if facts is None:
                raise NotFound(f"There is no {quoted(str(path))}.")
            if there is not None and (not overwrite or {facts.kind, there.kind} - {"file", "link"}):
                raise Exists(f"There is a {there.kind} of that name.")
            if path != to:
                self._place.rename(path.parts, to.parts, overwrite)

    def append(self, path: SafePath | None, tail: SafePath | None) -> int:
        """Add what is in the file ``tail`` to the end of another, and remove ``tail``.

        A new file is written that has both, and takes the place of the old one.
        """
        if path is None or tail is None or path == tail:
            raise BadName("A file is added to another one.")
        with self._changing, self._replacing.hold(path.parts), typed_at(path):
            with self.open(path) as one, self.open(tail) as other:

                def both() -> Iterator[bytes]:
                    for source in (one, other):
                        while data := source.read(limits.UNIT):
                            yield data
                            stir()
                    one.check_unchanged()
                    other.check_unchanged()

                self._place.store(path.parts, both(), None, True)
                size = one.size + other.size
            self._place.remove(tail.parts)
            return size

    def remove(self, path: SafePath | None, *, recursive: bool) -> None:
        """Remove a file, a link or an empty folder; with ``recursive`` all that is below it."""
        if path is None:
            raise Forbidden("The shared folder itself stays where it is.")
        with self._changing, typed_at(path):
            self._check_way(path.parent)
            facts = self._place.look(path.parts)
            if facts is None:
                raise NotFound(f"There is no {quoted(str(path))}.")
            if facts.kind != "folder":
                self._place.remove(path.parts)
            else:
                self._remove_folder(path.parts, recursive)

    def _remove_folder(self, parts: Parts, recursive: bool) -> None:
        for name, facts in list(self._place.names(parts)):
            if not recursive:
                raise Exists("That folder is not empty.")
            if facts.kind == "folder":
                self._remove_folder((*parts, name), True)
            else:
                self._place.remove((*parts, name))
            stir()
        self._place.remove_folder(parts)


def make_folders(place: Volume, parts: Parts) -> None:
    """Make those of these folders that are not there; BadName where one is something else."""
    for depth in range(1, len(parts) + 1):
        facts = place.look(parts[:depth])
        if facts is None:
            try:
                place.make_folder(parts[:depth])
            except FileExistsError:  # somebody else made it meanwhile
                facts = place.look(parts[:depth])
        if facts is not None and facts.kind != "folder":
            raise BadName(f"{quoted(parts[depth - 1])} is no folder there.")


def same_time(place: Volume, facts: Facts, mtime_ns: int | None) -> bool:
    """Whether a file could have been given that time."""
    second = 10**9
    return (
        place.keeps_times
        and mtime_ns is not None
        and (facts.mtime_ns // second == mtime_ns // second)
    )


def _row(name: str, facts: Facts) -> Row:
    size = facts.size if facts.kind == "file" else 0
    return {"name": name, "kind": facts.kind, "size": size, "mtime_ns": max(0, facts.mtime_ns)}


def _listed(name: str, facts: Facts) -> Row:
    row = _row(name, facts)
    try:
        if safe_path(name, dotfiles=True).parts != (name,):
            raise BadName("")
    except LanxferError:
        row = {**row, "name": shown(name, 1000), "unusable": True}
    return row
