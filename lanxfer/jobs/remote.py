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
from lanxfer.jobs.ends import Broken, EndError, FileInfo, Reader, Writer
from lanxfer.jobs.settings import Host
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

    keeps_times = False
    resolution = SECOND

    def __init__(self, host: Host, path: str, *, make: bool = False) -> None:
        self.host = host
        self.path = path
        self.root = ""
        self.fs: Any = None
        self._make = make
        self._made: set[str] = set()

    def connect(self) -> None:
        self.close()
        self._made.clear()
        self._open()
        try:
            home = self._home()
            self.root = posixpath.normpath(posixpath.join(home, self.path or "."))
            if self._make:
                self._make_folder(self.root)
            else:
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

    def abort(self) -> None:
        raise NotImplementedError

    def alive(self) -> bool:
        raise NotImplementedError

    def look(self, path: str) -> FileInfo | None:
        raise NotImplementedError

    def reader(self, path: str, offset: int) -> Reader:
        raise NotImplementedError

    def writer(self, path: str, offset: int) -> Writer:
        raise NotImplementedError

    def set_time(self, path: str, mtime_ns: int) -> None:
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


class FsspecEnd(RemoteEnd):
    """Any back end of fsspec as it is; a broken file begins anew, and times are not kept."""

    def _open(self) -> None:
        try:
            import fsspec  # type: ignore[import-untyped]
        except ImportError:
            raise missing("fsspec") from None
        protocol = self.host.kind.partition(":")[2]
        options: dict[str, Any] = dict(self.host.options)
        if self.host.host:
            options["host"] = self.host.host
        if self.host.port:
            options["port"] = self.host.port
        if self.host.user:
            options["username"] = self.host.user
        if self.host.password is not None:
            options["password"] = self.host.password.reveal()
        with self._typed():
            try:
                self.fs = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
            except (ImportError, ValueError, TypeError) as error:
                raise EndError(f"fsspec: {error}", again=False) from error

    def _home(self) -> str:
        return str(self.fs.root_marker or "/")

    def _time(self, row: dict[str, Any]) -> int | None:
        return None

    def _is_folder(self, full: str) -> bool:
        return bool(self.fs.isdir(full))

    def _mkdir(self, full: str) -> None:
        self.fs.makedirs(full, exist_ok=True)

    def _rename(self, full: str, to: str) -> None:
        self.fs.mv(full, to)

    def close(self) -> None:
        self.fs = None

    def abort(self) -> None:
        """Nothing that all of them have."""

    def alive(self) -> bool:
        return self.fs is not None

    def look(self, path: str) -> FileInfo | None:
        with self._typed():
            self.fs.invalidate_cache()
            try:
                row = self.fs.info(self.full(path))
            except FileNotFoundError:
                return None
        return self._info(posixpath.dirname(path), row)

    def reader(self, path: str, offset: int) -> Reader:
        with self._typed():
            file = self.fs.open(self.full(path), "rb")
            file.seek(offset)
        return _FileReader(self, file)

    def writer(self, path: str, offset: int) -> Writer:
        if offset:
            raise EndError("That cannot be gone on with.")
        self._make_above(path)
        with self._typed():
            return _FileWriter(self, self.fs.open(self.full(path), "wb"))

    def set_time(self, path: str, mtime_ns: int) -> None:
        """Not every back end could."""

    def remove(self, path: str) -> None:
        with self._typed():
            self.fs.rm_file(self.full(path))

    @contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except EndError:
            raise
        except FileNotFoundError as error:
            raise EndError("There is no such file.", again=False) from error
        except Exception as error:
            raise EndError(f"{type(error).__name__}: {error}") from error


class _FileReader:
    def __init__(self, end: FsspecEnd, file: Any) -> None:
        self._end = end
        self._file = file

    def read(self, size: int) -> bytes:
        with self._end._typed():
            return bytes(self._file.read(size))

    def close(self) -> None:
        with suppress(Exception):
            self._file.close()


class _FileWriter:
    def __init__(self, end: FsspecEnd, file: Any) -> None:
        self._end = end
        self._file = file

    def write(self, data: bytes) -> None:
        with self._end._typed():
            self._file.write(data)

    def finish(self) -> None:
        with self._end._typed():
            self._file.close()

    def close(self) -> None:
        with suppress(Exception):
            self._file.close()
