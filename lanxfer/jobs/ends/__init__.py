"""The two ends of a job, as what moves files sees them.

Everything here blocks and is used from the one thread of a run, but for
``abort``, which another thread calls to end what hangs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Protocol
from unicodedata import normalize

from attrs import evolve, frozen
from blake3 import blake3

from lanxfer.jobs.config.rules import Matcher
from lanxfer.wire.native import is_whole

CHUNK = 256 * 1024
DEPTH_MAX = 100
TOO_DEEP = f"It lies in more than {DEPTH_MAX} folders; move it further up."
NO_TEXT = "Its name is not UTF-8; rename it first."
ALIKE = "Another name here differs in its Unicode form alone; rename one of them."


class Absent(Enum):
    """What is to be done where the folder that is an end is not there."""

    REFUSE = "refuse"
    MAKE = "make"
    IGNORE = "ignore"  # it is as if nothing were in it


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


class SourceTrouble(EndError):
    """What failed at a target because of the source."""


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

    def remove(self, path: str) -> None: ...


class StreamEnd(End, Protocol):
    """A folder whose files are read and written byte by byte."""

    def reader(self, path: str, offset: int) -> Reader: ...

    def writer(self, path: str, offset: int) -> Writer:
        """Folders above are made."""

    def replace(self, path: str, to: str) -> None:
        """Give a file its name, whatever has that now."""

    def settle(self, path: str) -> None:
        """Make a file durable that somebody else put there; nothing where that cannot be asked."""

    def set_time(self, path: str, mtime_ns: int) -> None:
        """As exactly as it can be set; nothing where it cannot."""

    def remove_folder(self, path: str) -> None:
        """If it is empty."""


def walk(
    end: End, matcher: Matcher, top: str = "", *, portable: bool = False
) -> Iterator[FileInfo]:
    """The files of an end that a job is about, sorted within each folder; links are left out.

    What cannot be looked into comes with its ``error``; the top raises it.  Where names are
    to be ``portable`` those that are no text, or would be one elsewhere, come with an error, too.
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
        found = [each for each in found if _wanted(each, matcher)]
        if portable:
            found = _portable(found)
        yield from (each for each in found if each.error or each.kind == "file")
        below = [each.path for each in found if each.kind == "folder" and not each.error]
        if folder.count("/") < DEPTH_MAX:
            pending += reversed(below)
        else:
            yield from (FileInfo(each, "folder", error=TOO_DEEP) for each in below)


def _wanted(info: FileInfo, matcher: Matcher) -> bool:
    if info.error or info.kind == "file":
        return matcher.takes(info.path)
    return info.kind == "folder" and matcher.enters(info.path)


def _portable(found: list[FileInfo]) -> list[FileInfo]:
    """The same; those of one folder that are no text, or one in normal form NFC, have an error.

    All that are one: were one of them moved and removed, the next run would put another in its
    place.
    """
    if all(each.path.isascii() for each in found):
        return found
    names = [normalize("NFC", each.path) for each in found]
    often = Counter(name for name, each in zip(names, found, strict=True) if not each.error)
    marked = []
    for name, each in zip(names, found, strict=True):
        why = ALIKE if often[name] > 1 else "" if is_whole(name) else NO_TEXT
        marked.append(evolve(each, error=why) if why and not each.error else each)
    return marked


def digest(end: StreamEnd, path: str, keep_on: Callable[[], None] = lambda: None) -> str:
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
