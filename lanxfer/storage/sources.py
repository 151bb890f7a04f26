"""Reading what is to be sent.

A source is checked on its open handle, so that what was named cannot be
exchanged between looking and opening; it is read up to the size it had then,
digested while it is read, and asked at the end whether it is still the same.
What a folder contains is listed by ``walks``.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple, TypeAlias

from blake3 import blake3

from lanxfer.errors import Forbidden, SourceChanged, SourceUnreadable, TooLarge
from lanxfer.showing import quoted
from lanxfer.storage.prefixes import running_digests
from lanxfer.storage.system import FILE_FLAGS, FOLDER_FLAGS, unreadable
from lanxfer.storage.walks import walk
from lanxfer.transfers import Entry
from lanxfer.wire import limits

__all__ = ["Confined", "Entry", "Source", "Whole", "confined", "open_source", "read_small", "walk"]

_FLAGS = os.O_RDONLY | FILE_FLAGS | getattr(os, "O_BINARY", 0)
_NOFOLLOW = hasattr(os, "O_NOFOLLOW")

_Marks: TypeAlias = dict[int, blake3]

_MARKED_MAX = 8
_MARKS_MAX = 256
_marked: OrderedDict[tuple[int, ...], _Marks] = OrderedDict()
_mutex = threading.Lock()


def _marks_of(found: os.stat_result) -> _Marks:
    """The running digests of an earlier reading of that very file, to be added to.

    Every 16 MiB there is one (of files above 4 GiB 256 in all), so that who
    resumes does not read it all again to prove where.  That file: of the same
    inode, size, mtime and ctime, of which the last is nobody's to choose.
    """
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    with _mutex:
        marks = _marked.setdefault(key, {}) if found.st_size > limits.CHECKPOINT else {}
        if marks is _marked.get(key):
            _marked.move_to_end(key)
        while len(_marked) > _MARKED_MAX:
            _marked.popitem(last=False)
    return marks


def forget_marks() -> None:
    """Know nothing of what was read before, as a new process."""
    with _mutex:
        _marked.clear()


class Source:
    """One open file that is to be sent; from one thread at a time.

    ``size`` and ``mtime_ns`` are those at opening, ``position`` is where the
    next read begins.  Whoever opened it closes it.
    """

    def __init__(self, path: str, fd: int, found: os.stat_result) -> None:
        self.path = path
        self.size = found.st_size
        self.mtime_ns = found.st_mtime_ns
        self.executable = bool(found.st_mode & stat.S_IXUSR)
        self.position = 0
        self._fd = fd
        # The digest of all before the position; None after a jump, until it is asked for.
        self._running: blake3 | None = blake3()
        self._marks = _marks_of(found) if fd >= 0 else {}
        checkpoint = limits.CHECKPOINT
        self._step = max(1, -(-self.size // (checkpoint * _MARKS_MAX))) * checkpoint
        self._enough = self._stopped = False

    def read(self, n: int) -> bytes:
        """The next ``n`` bytes, fewer only before the end at ``size``, b"" there.

        Raises SourceChanged where the file ends before that.
        """
        wanted = min(n, self.size - self.position)
        if wanted <= 0:
            return b""
        data = self._read_at(self.position, wanted)
        while len(data) < wanted:
            more = self._read_at(self.position + len(data), wanted - len(data))
            if not more:
                raise SourceChanged()
            data += more
        self.position += wanted
        self._digested(data)
        return data

    def read_into(self, space: memoryview) -> int:
        """As ``read``, into memory that is there; how many bytes that were."""
        wanted = min(len(space), self.size - self.position)
        found = 0
        while found < wanted:
            more = self._fill(self.position + found, space[found:wanted])
            if not more:
                raise SourceChanged()
            found += more
        self.position += found
        # At once, while the bytes are in the processor's cache.
        self._digested(space[:found])
        return found

    def _digested(self, data: bytes | memoryview) -> None:
        """``data`` was read up to the position; what is digested now and then is remembered."""
        if self._running is None:
            return
        self._running.update(data)
        if self.position // self._step != (self.position - len(data)) // self._step:
            self._marks.setdefault(self.position, self._running.copy())

    def read_ahead(self) -> None:
        """Digest the beginning of the file until ``enough``, for ``prove`` to know it."""
        position = max(self._marks, default=0)
        running = self._marks[position].copy() if position else blake3()
        while not self._enough:
            data = self._read_at(position, min(limits.UNIT, self._step - position % self._step))
            if not data:
                return
            running.update(data)
            position += len(data)
            if position % self._step == 0 and position <= self.size:
                self._marks.setdefault(position, running.copy())

    def enough(self) -> None:
        """End ``read_ahead``, from any thread."""
        self._enough = True

    def stop(self) -> None:
        """Have what another thread reads of it end soon, with SourceUnreadable."""
        self._stopped = True

    def seek(self, offset: int) -> None:
        """Go to an offset, at most ``size``; the digest will still be that of all before it."""
        if not 0 <= offset <= self.size:
            raise ValueError(f"{offset} is not within the file")
        if offset != self.position:
            self._running = None if offset else blake3()
            self.position = offset

    def digests(self, offsets: Iterable[int]) -> dict[int, str]:
        """The digest of all before each of these offsets, in one pass; none beyond the end."""
        found = self._prefixes(offsets)
        return {offset: running.hexdigest() for offset, running in found.items()}

    def prove(self, have: Sequence[tuple[int, str]]) -> int:
        """Go to the largest offset at which the other side has what is here; 0 if there is none.

        ``have`` as in ``Part.have``.  The running digest goes on from there,
        so nothing is read twice.
        """
        found = self._prefixes(offset for offset, _ in have)
        agreed = [at for at, digest in have if at in found and found[at].hexdigest() == digest]
        self.position = max(agreed, default=0)
        self._running = found[self.position] if agreed else blake3()
        return self.position

    def _prefixes(self, offsets: Iterable[int]) -> dict[int, blake3]:
        wanted = {offset for offset in offsets if 0 <= offset <= self.size}
        found = running_digests(self._read_at, wanted, self._marks)
        if len(found) < len(wanted):
            raise SourceChanged()
        return found

    def digest(self) -> str:
        """The digest of everything before the position, as it was read."""
        if self._running is None:
            self._running = self._prefixes([self.position])[self.position]
        return self._running.hexdigest()

    def check_unchanged(self) -> None:
        """Raise SourceChanged if the open file has another size or mtime than at first.

        The handle is asked and not the name: a name that now means another
        file does not make this one wrong.
        """
        try:
            found = os.fstat(self._fd)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if (found.st_size, found.st_mtime_ns) != (self.size, self.mtime_ns):
            raise SourceChanged()

    def _read_at(self, offset: int, size: int) -> bytes:
        if self._fd < 0 or self._stopped:
            raise SourceUnreadable("The file was closed.")
        try:
            if hasattr(os, "pread"):
                return os.pread(self._fd, size, offset)
            os.lseek(self._fd, offset, os.SEEK_SET)  # Windows
            return os.read(self._fd, size)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _fill(self, offset: int, space: memoryview) -> int:
        if self._fd < 0:
            raise SourceUnreadable("The file was closed.")
        if not hasattr(os, "preadv"):
            data = self._read_at(offset, len(space))
            space[: len(data)] = data
            return len(data)
        try:
            return os.preadv(self._fd, [space], offset)
        except OSError as error:
            raise unreadable(self.path, error) from error

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Whole(NamedTuple):
    """A small file, read."""

    data: bytes
    size: int
    mtime_ns: int
    digest: str
    executable: bool


def open_source(path: str) -> Source:
    """Open a regular file for sending; SourceUnreadable says what else it is."""
    fd = _open(path)
    try:
        found = _regular(path, fd)
        source = Source(path, fd, found)
        if not found.st_size and source._read_at(0, 1):
            # /proc and its like: content that is made on reading has no size to announce.
            raise SourceUnreadable(f"{quoted(path)} has content but no size.")
        return source
    except BaseException:
        os.close(fd)
        raise


def _open(path: str) -> int:
    try:
        # Where the system has no flag for it, the question comes before the opening.
        if not _NOFOLLOW and os.path.islink(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return _open_confined(path) if isinstance(path, Confined) else os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def _regular(path: str, fd: int) -> os.stat_result:
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        if stat.S_ISDIR(found.st_mode):
            raise SourceUnreadable(f"{quoted(path)} is a folder.")
        raise SourceUnreadable(f"{quoted(path)} is not a regular file.")
    return found


def _facts(path: str, fd: int) -> tuple[int, int]:
    found = _regular(path, fd)
    return found.st_size, found.st_mtime_ns


class Confined(str):
    """A path that was found to lie where it may; opened without following a link anywhere in it.

    So whoever exchanges a folder for a link between the look and the opening gains
    nothing: the two are one step (catalogue L05, P23).
    """

    __slots__ = ()


def confined(path: str, folders: Sequence[str]) -> Confined:
    """Where ``path`` leads; Forbidden unless that lies below one of ``folders``."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    tops = [os.path.realpath(each).rstrip(os.sep) for each in folders]
    if not any(real == top or real.startswith(top + os.sep) for top in tops):
        raise Forbidden("That file is not below a shared folder.")
    return Confined(real)


def _open_confined(path: Confined) -> int:
    """Open it component by component from the root; a link on the way is an OSError."""
    if os.open not in os.supports_dir_fd:
        return os.open(path, _FLAGS)
    *folders, name = [each for each in path.split(os.sep) if each] or [os.curdir]
    fd = os.open(os.sep, FOLDER_FLAGS)
    try:
        for folder in folders:
            below = os.open(folder, FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.open(name, _FLAGS, dir_fd=fd)
    finally:
        os.close(fd)


def read_small(
    path: str, limit: int = limits.INLINE_MAX, listed: tuple[int, int | None] | None = None
) -> Whole:
    """Read a whole file of at most ``limit`` bytes (TooLarge); errors as of ``Source``.

    Without one: there are many small files, and a Source is made for going on in the middle.
    ``listed`` are the size and the mtime that its folder was found to give it, so that it need
    not be asked for them before it is read: it is asked afterwards, and read once more where it
    is another by then.  Of a pipe that took its place just then, as many bytes are read.
    """
    fd = _open(path)
    try:
        size, mtime_ns = listed or _facts(path, fd)
        if size > limit:
            raise TooLarge(f"{quoted(path)} has grown to {size} bytes.")
        try:
            data = os.read(fd, size + 1)
            while len(data) < size and (more := os.read(fd, size + 1 - len(data))):
                data += more
            after = os.fstat(fd)
        except OSError as error:
            if listed is None:
                raise unreadable(path, error) from error
            return read_small(path, limit)
    finally:
        os.close(fd)
    same = len(data) == size == after.st_size and after.st_mtime_ns == mtime_ns
    if listed is not None and not (same and stat.S_ISREG(after.st_mode)):
        return read_small(path, limit)
    if data and not size:
        raise SourceUnreadable(f"{quoted(path)} has content but no size.")
    if not same:
        raise SourceChanged()
    executable = bool(after.st_mode & stat.S_IXUSR)
    return Whole(data, size, after.st_mtime_ns, blake3(data).hexdigest(), executable)
