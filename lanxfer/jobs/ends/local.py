"""A folder of this machine as an end."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lanxfer.errors import LanxferError, SourceChanged, from_os
from lanxfer.jobs.ends import Absent, EndError, FileInfo, Reader, Writer
from lanxfer.storage.plain import PlainFolder, Writing
from lanxfer.storage.sources import Source
from lanxfer.storage.system import SyncFailed


class LocalEnd:
    """A folder of this machine."""

    def __init__(self, path: str, absent: Absent = Absent.REFUSE) -> None:
        self.path = path
        self._absent = absent
        self._folder: PlainFolder | None = None

    @property
    def folder(self) -> PlainFolder:
        assert self._folder is not None, "not connected"
        return self._folder

    def connect(self) -> None:
        self.close()
        try:
            self._folder = PlainFolder(self.path, make=self._absent is Absent.MAKE)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self._absent is Absent.IGNORE:
                return
            # What is not there yet may be mounted later.
            raise EndError(f"The folder {self.path} cannot be used: {error.strerror}.") from error
        except LanxferError as error:
            raise EndError(f"The folder {self.path} cannot be used: {error.reason}") from error

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
        if self._folder is None and self._absent is Absent.IGNORE:
            return None
        with _typed():
            facts = self.folder.look(path)
        return None if facts is None else FileInfo(path, facts.kind, facts.size, facts.mtime_ns)

    def identity(self, path: str) -> tuple[int, int] | None:
        """Which file of this machine it is; None where there is none."""
        with _typed():
            return self.folder.identity(path)

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

    def settle(self, path: str) -> None:
        with _typed():
            self.folder.settle(path)

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
    except SyncFailed as error:
        raise EndError(error.error.reason, again=False) from error


def _may_pass(error: OSError) -> bool:
    return not isinstance(
        error, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
    )
