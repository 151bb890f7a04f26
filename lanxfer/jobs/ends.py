"""The two ends of a job, as what moves files sees them; and the one on this machine.

Everything here blocks and is used from the one thread of a run, but for
``abort``, which another thread calls to end what hangs.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from attrs import frozen
from blake3 import blake3

from lanxfer.errors import LanxferError, SourceChanged, from_os
from lanxfer.jobs.rules import Matcher
from lanxfer.storage.plain import PlainFolder, Writing
from lanxfer.storage.sources import Source

CHUNK = 256 * 1024
DEPTH_MAX = 100


class EndError(Exception):
    """An end did not do something; ``again``: the same may work later."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        self.reason = reason
        self.again = again
        super().__init__(reason)


class Broken(EndError):
    """The connection is no more, so nothing else works either before a new one."""


class Refused(EndError):
    """There is no connection, and there will be none: a wrong key, a wrong password."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, again=False)


@frozen
class FileInfo:
    """What lies at a path below an end; ``size`` in bytes, times None where unknown.

    ``resolution`` is how exact the time is, in nanoseconds.
    """

    path: str
    kind: str
    size: int = 0
    mtime_ns: int | None = None
    resolution: int = 1
    error: str = ""

    def same(self, other: FileInfo) -> bool:
        """Whether size and time agree, as exactly as both can tell."""
        if self.size != other.size or None in (self.mtime_ns, other.mtime_ns):
            return False
        assert self.mtime_ns is not None and other.mtime_ns is not None
        unit = max(self.resolution, other.resolution)
        return self.mtime_ns // unit == other.mtime_ns // unit


class Reader(Protocol):
    """A file that is being read from some offset on."""

    def read(self, size: int) -> bytes:
        """Some bytes; b"" at the end."""

    def close(self) -> None:
        """Closing twice is fine."""


class Writer(Protocol):
    """A file that is being written."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """All of it was written: make it so that it stays."""

    def close(self) -> None:
        """Leave it as it is; closing twice is fine."""


class End(Protocol):
    """A folder somewhere."""

    keeps_times: bool
    """Whether a file can be given its time there, so that size and time tell it later."""

    def connect(self) -> None:
        """Broken or Refused where there is no connection."""

    def close(self) -> None: ...

    def abort(self) -> None:
        """Have what hangs fail; from any thread."""

    def alive(self) -> bool:
        """Whether the connection still works."""

    def listing(self, path: str) -> list[FileInfo]:
        """What is in a folder, sorted by name."""

    def look(self, path: str) -> FileInfo | None: ...

    def reader(self, path: str, offset: int) -> Reader: ...

    def writer(self, path: str, offset: int) -> Writer:
        """Folders above are made."""

    def replace(self, path: str, to: str) -> None:
        """Give a file its name, whatever has that now."""

    def set_time(self, path: str, mtime_ns: int) -> None: ...

    def remove(self, path: str) -> None: ...

    def remove_folder(self, path: str) -> None:
        """If it is empty."""


def walk(end: End, matcher: Matcher, top: str = "") -> Iterator[FileInfo]:
    """The files of an end that a job is about, sorted within each folder; links are left out.

    What cannot be looked into comes with its ``error``; the top raises it.
    """
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            found = end.listing(folder)
        except Broken:
            raise
        except EndError as error:
            if folder == top:
                raise
            yield FileInfo(folder, "folder", error=error.reason)
            continue
        yield from (
            each
            for each in found
            if (each.error or each.kind == "file") and matcher.takes(each.path)
        )
        below = [
            each.path
            for each in found
            if each.kind == "folder" and not each.error and matcher.enters(each.path)
        ]
        if folder.count("/") < DEPTH_MAX:
            pending += reversed(below)


def digest(end: End, path: str, keep_on: Callable[[], None] = lambda: None) -> str:
    """The digest of a file, read there and back."""
    running = blake3()
    reader = end.reader(path, 0)
    try:
        while data := reader.read(CHUNK):
            keep_on()
            running.update(data)
    finally:
        reader.close()
    return running.hexdigest()


def lock_name(name: str) -> str:
    """A name for the lock of a job that any file system takes."""
    plain = all(each.isalnum() or each in "._-" for each in name)
    return name if plain and len(name) < 100 else hashlib.sha256(name.encode()).hexdigest()[:32]


@contextmanager
def _typed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        found = from_os(error)
        why = error.strerror or str(error)
        raise EndError(f"{why}.", again=found.retry or _may_pass(error)) from error
    except LanxferError as error:
        raise EndError(error.reason, again=error.retry) from error


def _may_pass(error: OSError) -> bool:
    return not isinstance(
        error, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
    )


class LocalEnd:
    """A folder of this machine."""

    keeps_times = True

    def __init__(self, path: str, *, make: bool = False) -> None:
        self.path = path
        self._make = make
        self._folder: PlainFolder | None = None

    @property
    def folder(self) -> PlainFolder:
        assert self._folder is not None, "not connected"
        return self._folder

    def connect(self) -> None:
        self.close()
        try:
            self._folder = PlainFolder(self.path, make=self._make)
        except OSError as error:
            # What is not there yet may be mounted later.
            raise EndError(f"The folder {self.path} cannot be used: {error.strerror}.") from error

    def close(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()

    def abort(self) -> None:
        """A disk is not to be hurried."""

    def alive(self) -> bool:
        return True

    def listing(self, path: str) -> list[FileInfo]:
        with _typed():
            return [
                FileInfo(posixpath.join(path, name), facts.kind, facts.size, facts.mtime_ns)
                for name, facts in self.folder.listing(path)
            ]

    def look(self, path: str) -> FileInfo | None:
        with _typed():
            facts = self.folder.look(path)
        return None if facts is None else FileInfo(path, facts.kind, facts.size, facts.mtime_ns)

    def reader(self, path: str, offset: int) -> Reader:
        with _typed():
            source = self.folder.source(path)
            if offset > source.size:
                source.close()
                raise SourceChanged()
            source.seek(offset)
            return _LocalReader(source)

    def writer(self, path: str, offset: int) -> Writer:
        with _typed():
            return _LocalWriter(self.folder.open_write(path, offset))

    def replace(self, path: str, to: str) -> None:
        with _typed():
            self.folder.replace(path, to)

    def set_time(self, path: str, mtime_ns: int) -> None:
        with _typed():
            self.folder.set_time(path, mtime_ns)

    def remove(self, path: str) -> None:
        with _typed():
            self.folder.remove(path)

    def remove_folder(self, path: str) -> None:
        with suppress(OSError):
            self.folder.remove_folder(path)


class _LocalReader:
    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int) -> bytes:
        with _typed():
            if data := self._source.read(size):
                return data
            self._source.check_unchanged()
            return b""

    def close(self) -> None:
        self._source.close()


class _LocalWriter:
    def __init__(self, writing: Writing) -> None:
        self._writing = writing

    def write(self, data: bytes) -> None:
        with _typed():
            self._writing.write(data)

    def finish(self) -> None:
        with _typed():
            self._writing.finish()

    def close(self) -> None:
        self._writing.close()
