"""Ends on FTP, FTPS, SFTP and other servers: fsspec and its back ends, with their doors closed.

The back ends of fsspec take any host key and any certificate, and know neither
how to go on in the middle of a file nor how to replace one in one step.  So the
connections are made here, and whole files are moved through the library that
the back end itself uses.  Names that a server sends are made sure of before
they become paths anywhere else.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lanxfer.errors import BadName
from lanxfer.jobs.config.settings import Host
from lanxfer.jobs.ends import Absent, Broken, EndError, FileInfo
from lanxfer.storage.names import safe_path, shown

SECOND = 10**9

_KINDS = {"file": "file", "directory": "folder", "link": "link"}


def missing(package: str) -> EndError:
    """What is said where the extra is not installed."""
    return EndError(
        f"That needs the Python package {package}; install lanxfer[stores].", again=False
    )


class RemoteEnd:
    """What all of them share; ``fs`` is the fsspec file system while there is a connection."""

    resolution = SECOND

    def __init__(self, host: Host, path: str, absent: Absent = Absent.REFUSE) -> None:
        self.host = host
        self.path = path
        self.root = ""
        self.fs: Any = None
        self._absent = absent
        self._made: set[str] = set()

    def connect(self) -> None:
        self.close()
        self._made.clear()
        self._open()
        try:
            home = self._home()
            self.root = posixpath.normpath(posixpath.join(home, self.path or "."))
            if self._absent is Absent.MAKE:
                self._make_folder(self.root)
            elif self._absent is Absent.REFUSE:
                self._check_folder(self.root)
        except BaseException:
            self.close()
            raise

    def full(self, path: str) -> str:
        """Where a path is on the server; BadName for one that leads elsewhere."""
        if not path:
            return self.root
        with self._typed():
            return posixpath.join(self.root, str(_plain(path)))

    def listing(self, path: str) -> list[FileInfo]:
        with self._typed():
            rows = self.fs.ls(self.full(path), detail=True)
        return sorted((self._info(path, row) for row in rows), key=lambda each: each.path)

    def _info(self, above: str, row: dict[str, Any]) -> FileInfo:
        name = str(row["name"]).rstrip("/").rpartition("/")[2]
        path = posixpath.join(above, name)
        kind = _KINDS.get(row["type"], "other")
        try:
            if safe_path(name, dotfiles=True).parts != (name,):
                raise BadName("It is not in normal form NFC.")
        except BadName as error:
            return FileInfo(shown(path), kind, error=error.reason)
        size = row.get("size") or 0
        return FileInfo(path, kind, int(size), self._time(row), self.resolution)

    def remove_folder(self, path: str) -> None:
        with suppress(Exception):
            self.fs.rmdir(self.full(path))

    def _make_above(self, path: str) -> None:
        self._make_folder(posixpath.dirname(self.full(path)))

    def _make_folder(self, full: str) -> None:
        if full in self._made or full == "/":
            return
        with self._typed():
            if not self._is_folder(full):
                self._make_folder(posixpath.dirname(full))
                try:
                    self._mkdir(full)
                except Exception:
                    # Somebody else may have made it meanwhile.
                    if not self._is_folder(full):
                        raise
        self._made.add(full)

    def _check_folder(self, full: str) -> None:
        with self._typed():
            if not self._is_folder(full):
                raise EndError(f"There is no folder {shown(full)} there.")

    def replace(self, path: str, to: str) -> None:
        """Where a server does not replace, what is there is moved away first and never lost."""
        self._make_above(to)
        try:
            with self._typed():
                self._rename(self.full(path), self.full(to))
        except Broken:
            raise
        except EndError:
            there = self.look(to)
            if there is None or there.kind != "file" or self.look(path) is None:
                raise
            folder, name = posixpath.split(path)
            aside = posixpath.join(folder, f"{name}.old")
            with self._typed():
                self._rename(self.full(to), self.full(aside))
                try:
                    self._rename(self.full(path), self.full(to))
                except Exception:
                    self._rename(self.full(aside), self.full(to))
                    raise
            with suppress(EndError):
                self.remove(aside)

    def settle(self, path: str) -> None:
        """No server can be asked for that."""

    # What each kind does.

    def _open(self) -> None:
        raise NotImplementedError

    def _home(self) -> str:
        raise NotImplementedError

    def _time(self, row: dict[str, Any]) -> int | None:
        raise NotImplementedError

    def _is_folder(self, full: str) -> bool:
        raise NotImplementedError

    def _mkdir(self, full: str) -> None:
        raise NotImplementedError

    def _rename(self, full: str, to: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def look(self, path: str) -> FileInfo | None:
        raise NotImplementedError

    def remove(self, path: str) -> None:
        raise NotImplementedError

    @contextmanager
    def _typed(self) -> Iterator[None]:
        raise NotImplementedError
        yield


def _plain(path: str) -> str:
    for part in path.split("/"):
        if part in {"", ".", ".."} or any(each in part for each in "\0\r\n"):
            raise EndError(f"The path {shown(path)} cannot be used there.", again=False)
    return path


class OpenFile:
    """A file of a server, as the library that reaches it has it: a Reader and a Writer."""

    def __init__(self, end: RemoteEnd, file: Any) -> None:
        self._end = end
        self._file = file

    def read(self, size: int) -> bytes:
        with self._end._typed():
            return bytes(self._file.read(size))

    def write(self, data: bytes) -> None:
        with self._end._typed():
            self._file.write(data)

    def finish(self) -> None:
        with self._end._typed():
            self._file.close()

    def close(self) -> None:
        with suppress(Exception):
            self._file.close()
