"""Any back end of fsspec as an end."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lanxfer.jobs.ends import EndError, FileInfo, Reader, Writer
from lanxfer.jobs.ends.remote import OpenFile, RemoteEnd, missing
from lanxfer.storage.renaming import move


class FsspecEnd(RemoteEnd):
    """Any back end of fsspec as it is; a broken file begins anew, and times are not kept."""

    def _open(self) -> None:
        try:
            import fsspec  # type: ignore[import-untyped]
        except ImportError:
            raise missing("fsspec") from None
        protocol = self.host.kind.partition(":")[2]
        options: dict[str, Any] = {
            name: value.reveal() for name, value in self.host.options.items()
        }
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
        move(self.fs, full, to)

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
        return OpenFile(self, file)

    def writer(self, path: str, offset: int) -> Writer:
        if offset:
            raise EndError("That cannot be gone on with.")
        self._make_above(path)
        with self._typed():
            return OpenFile(self, self.fs.open(self.full(path), "wb"))

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
