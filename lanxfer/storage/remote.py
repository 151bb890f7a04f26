"""Volumes on other machines, by way of fsspec: ``memory://``, ``s3://``, ``ftp://`` and more.

fsspec knows how to talk to many kinds of store and promises little about them, so each kind here
says itself what it cannot promise (``weaknesses``; docs/stores.rst).  Nothing is
connected before it is needed, and what was lost is connected again by the next look.

``sftp`` and ``objects`` have the volumes for SFTP and S3, ``spooled`` the store that puts
files into any of these.
"""

from __future__ import annotations

import errno
import posixpath
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from secrets import token_hex
from time import time
from typing import Any, BinaryIO, TypeVar, cast

from lanxfer.errors import BadConfig, DiskFailed, Forbidden, LanxferError
from lanxfer.storage import Facts
from lanxfer.storage.renaming import move
from lanxfer.storage.staging import NAME as STAGING
from lanxfer.storage.volumes import Parts, stir
from lanxfer.wire import limits

T = TypeVar("T")

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_KINDS = {"file": "file", "directory": "folder", "link": "link"}
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "modify", "created")
_AS_THEY_ARE = (LanxferError, FileNotFoundError, FileExistsError)
_SECOND = 10**9
_ASIDE = ".old"


def shown_url(url: str) -> str:
    """A URL without a password that may be in it."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:***@", url)


def remote_volume(url: str, *, make: bool = False, **options: Any) -> RemoteVolume:
    """The volume that a URL names; with ``make`` its folder is made when it is first needed.

    ``options`` are those of fsspec's back end.  Nothing is asked of the network yet.  Raises
    BadConfig where that kind of store is not known or not installed.
    """
    found = _URL.match(url)
    protocol = "" if found is None else found[1].lower()
    if protocol in {"", "file", "local"}:
        raise BadConfig(f"--share: {shown_url(url)} is no store; a folder is shared by its path.")
    try:
        from fsspec import get_filesystem_class  # type: ignore[import-untyped]
    except ImportError:
        raise BadConfig(f"--share {protocol}:// needs lanxfer[stores].") from None
    try:
        get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise BadConfig(f"--share: {protocol}:// cannot be used: {error}") from None
    if protocol in {"sftp", "ssh"}:
        from lanxfer.storage.sftp import SftpVolume

        return SftpVolume(url, make, options)
    if protocol in {"s3", "s3a"}:
        from lanxfer.storage.objects import ObjectVolume

        return ObjectVolume(url, make, options)
    return RemoteVolume(url, make, options)


class RemoteVolume:
    """Any store that fsspec reaches, with as few promises as the weakest of them can keep."""

    blocks = True
    has_links = True
    keeps_times = False
    one_at_a_time = True
    """Whether its connection answers one question at a time."""

    def __init__(self, url: str, make: bool, options: dict[str, Any]) -> None:
        self.url = url
        self._make = make
        self._options = options
        self._fs: Any = None
        self._root: str | None = None  # not known before the first connection
        self._connecting = threading.Lock()
        self._turn: AbstractContextManager[Any] = (
            threading.RLock() if self.one_at_a_time else nullcontext()
        )
        self._naming = threading.Lock()

    # Asking.

    def connect(self) -> tuple[Any, str]:
        """fsspec's file system, and the path in it that is the root."""
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        fs, root = url_to_fs(
            self.url, skip_instance_cache=True, use_listings_cache=False, **self._options
        )
        return fs, root.rstrip("/")

    def _connected(self) -> Any:
        with self._connecting:
            if self._fs is None:
                fs, self._root = self.connect()
                if self._make:
                    self.prepare(fs)
                self._fs = fs
            return self._fs

    def prepare(self, fs: Any) -> None:
        """Make the root, where that may be written to."""
        fs.makedirs(self._root or "/", exist_ok=True)

    @contextmanager
    def asking(self) -> Iterator[Any]:
        """The file system, for one question; what it raises comes out as what it means."""
        with self._turn:
            try:
                yield self._connected()
            except _AS_THEY_ARE:
                raise
            except PermissionError as error:
                raise Forbidden("The store behind that share does not allow that.") from error
            except Exception as error:
                if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                    raise
                if self.is_broken(error):
                    self.drop()
                raise DiskFailed(
                    f"The store behind that share did not do that ({type(error).__name__})."
                ) from error

    def is_broken(self, error: Exception) -> bool:
        """Whether the connection is of no more use."""
        return isinstance(error, (ConnectionError, EOFError, TimeoutError)) or not isinstance(
            error, OSError
        )

    def drop(self) -> None:
        """Forget the connection; the next question makes another."""
        self._fs = None

    def _twice(self, ask: Callable[[], T]) -> T:
        """Ask once more where the connection was one that nobody had used for long."""
        known = self._fs is not None
        try:
            return ask()
        except DiskFailed:
            if known and self._fs is None:
                return ask()
            raise

    def full(self, parts: Parts) -> str:
        """The path of a name in fsspec's file system."""
        if self._root is None:
            with self.asking():
                pass
        return posixpath.join(self._root or "/", *parts)

    # Looking.

    def look(self, parts: Parts) -> Facts | None:
        return self._twice(lambda: self._look(parts))

    def _look(self, parts: Parts) -> Facts | None:
        return self._facts(self.full(parts))

    def _facts(self, full: str) -> Facts | None:
        with self.asking() as fs:
            try:
                return facts_of(self.info(fs, full))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def info(self, fs: Any, full: str) -> dict[str, Any]:
        fs.invalidate_cache()
        return dict(fs.info(full))

    def names(self, parts: Parts) -> Iterator[tuple[str, Facts]]:
        return iter(self._twice(lambda: self._names(parts)))

    def _names(self, parts: Parts) -> list[tuple[str, Facts]]:
        with self.asking() as fs:
            fs.invalidate_cache()
            above = self.full(parts).strip("/")
            found = []
            for row in fs.ls(self.full(parts), detail=True):
                # A store without folders lists the mark of one as being in it.
                if str(row["name"]).strip("/") != above:
                    found.append((_name(row), facts_of(row)))
            return found

    def open(self, parts: Parts) -> BinaryIO:
        with self.asking() as fs:
            return cast(BinaryIO, _File(self, self.open_file(fs, self.full(parts))))

    def open_file(self, fs: Any, full: str) -> Any:
        return fs.open(full, "rb", block_size=4 * limits.MIB)

    # Changing.

    def store(
        self, parts: Parts, chunks: Iterator[bytes], mtime_ns: int | None, replace: bool
    ) -> None:
        """Write it under a name of lanxfer's own, then give it its name."""
        temporary = posixpath.join(self._make_staging(), token_hex(16))
        try:
            self._write(temporary, chunks)
            self.give_time(temporary, mtime_ns)
            with self._naming:
                self.give_name(temporary, parts, replace)
        except BaseException:
            with suppress(Exception), self.asking() as fs:
                fs.rm_file(temporary)
            raise

    def _make_staging(self) -> str:
        with self.asking() as fs:
            staging = posixpath.join(self._root or "/", STAGING)
            fs.makedirs(staging, exist_ok=True)
        return staging

    def _write(self, full: str, chunks: Iterator[bytes]) -> None:
        size = 0
        with self.asking() as fs:
            file = self.open_new(fs, full)
        try:
            for chunk in chunks:
                with self.asking():
                    file.write(chunk)
                size += len(chunk)
        finally:
            with self.asking():
                file.close()
        with self.asking() as fs:
            kept = self.info(fs, full).get("size")
        if kept is not None and kept != size:
            raise DiskFailed(
                f"The store behind that share kept {kept} of {size} bytes; it may be full."
            )

    def open_new(self, fs: Any, full: str) -> Any:
        return fs.open(full, "wb")

    def give_time(self, full: str, mtime_ns: int | None) -> None:
        """Only where ``keeps_times``."""

    def give_name(self, full: str, to: Parts, replace: bool) -> None:
        """What is at ``full`` gets its name; FileExistsError without ``replace``.

        What had that name is kept aside until the new one is seen to have it.
        """
        there = self.full(to)
        if self._look(to) is None:
            self._move(full, there)
            return
        if not replace:
            raise FileExistsError
        aside = posixpath.join(self._make_staging(), f"{token_hex(16)}{_ASIDE}")
        try:
            self._move(there, aside)
            self._move(full, there)
        except (LanxferError, OSError):
            if not self._has_moved(full, there, aside):
                raise
        with suppress(LanxferError, OSError), self.asking() as fs:
            fs.rm_file(aside)

    def _move(self, full: str, to: str) -> None:
        with self.asking() as fs:
            move(fs, full, to, bool(fs.isdir(full)))

    def _has_moved(self, full: str, there: str, aside: str) -> bool:
        """After an error: whether the new one has the name all the same, or the old one again."""
        try:
            if self._twice(lambda: self._facts(aside)) is None:
                return False
            if self._facts(full) is None and self._facts(there) is not None:
                return True
            self._move(aside, there)
        except (LanxferError, OSError) as error:
            name = posixpath.relpath(aside, self._root or "/")
            raise DiskFailed(
                "The store behind that share broke off while a file was replaced;"
                f" if the old one is gone there, it is in {name}."
            ) from error
        return False

    def make_folder(self, parts: Parts) -> None:
        with self.asking() as fs:
            fs.mkdir(self.full(parts), create_parents=False)

    def rename(self, parts: Parts, to: Parts, replace: bool) -> None:
        with self._naming:
            self.give_name(self.full(parts), to, replace)

    def remove(self, parts: Parts) -> None:
        with self.asking() as fs:
            fs.rm_file(self.full(parts))

    def remove_folder(self, parts: Parts) -> None:
        with self.asking() as fs:
            fs.rmdir(self.full(parts))

    # The place.

    def tidy(self, older_than: float) -> int:
        before = (time() - older_than) * _SECOND
        if self.look((STAGING,)) is None:
            return 0
        old = [
            name
            for name, facts in self.names((STAGING,))
            if facts.mtime_ns < before and not name.endswith(_ASIDE)
        ]
        for name in old:
            self.remove((STAGING, name))
        return len(old)

    def weaknesses(self) -> tuple[str, ...]:
        return (
            "A file may be seen before it is whole, or stay so after a broken connection.",
            "While a file is replaced there may be none of that name.",
            *self.own_weaknesses(),
        )

    def own_weaknesses(self) -> tuple[str, ...]:
        """What this kind cannot promise either."""
        return (
            "A file that appears under a name at the same moment is overwritten.",
            "A received file may be gone after a power cut of the store.",
            "A second lanxfer that uses the place is not noticed.",
        )

    def close(self) -> None:
        self._fs = None


class _File:
    """An open file of a volume, one question at a time."""

    def __init__(self, volume: RemoteVolume, file: Any) -> None:
        self._volume = volume
        self._file = file

    def seek(self, offset: int) -> None:
        with self._volume.asking():
            self._file.seek(offset)

    def read(self, size: int) -> bytes:
        with self._volume.asking():
            data = bytes(self._file.read(size))
        stir()
        return data

    def close(self) -> None:
        with suppress(LanxferError, OSError), self._volume.asking():
            self._file.close()


def _name(row: dict[str, Any]) -> str:
    return str(row["name"]).rstrip("/").rpartition("/")[2]


def facts_of(row: dict[str, Any]) -> Facts:
    """What fsspec says of a file, in our words; a time that is not known is 0."""
    kind = _KINDS.get(str(row.get("type")), "other")
    said = next((row[each] for each in _TIMES if row.get(each) is not None), None)
    return Facts(kind, int(row.get("size") or 0), _time(said))


def _time(said: Any) -> int:
    if isinstance(said, datetime):
        # Not by ``timestamp``, whose float has no room for microseconds and years.
        since = said.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86400 + since.seconds) * _SECOND + since.microseconds * 1000
    if isinstance(said, (int, float)):
        return int(said * _SECOND)
    if isinstance(said, str) and re.match(r"\d{14}", said):  # FTP
        return _time(datetime.strptime(said[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC))
    return 0
