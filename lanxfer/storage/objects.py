"""A bucket of S3 as a volume: whole objects or none, and no folders but by their names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from lanxfer.errors import LanxferError, NotFound
from lanxfer.storage import Facts
from lanxfer.storage.remote import RemoteVolume
from lanxfer.storage.staging import NAME as STAGING
from lanxfer.storage.volumes import Parts, stir
from lanxfer.wire import limits

BLOCK = 16 * limits.MIB
"""Bytes of an object that are sent in one go; of S3 ten thousand of these are the most."""

MARK = f"{STAGING}-folder"
"""The object that says that there is a folder, where a store knows objects only."""


class ObjectVolume(RemoteVolume):
    """A store of objects as S3 is one: whole objects or none, and no folders but by their names."""

    has_links = False
    one_at_a_time = False

    def prepare(self, fs: Any) -> None:
        """Buckets are made by their owner."""

    def look(self, parts: Parts) -> Facts | None:
        return super().look(parts) if parts else Facts("folder", 0, 0)

    def _names(self, parts: Parts) -> list[tuple[str, Facts]]:
        try:
            return [row for row in super()._names(parts) if row[0] != MARK]
        except FileNotFoundError:
            if parts:
                raise
            self._check_bucket()
            return []

    def _check_bucket(self) -> None:
        with self.asking() as fs:
            bucket = self.full(()).partition("/")[0]
            if not fs.exists(bucket):
                raise NotFound("The bucket behind that share is not there.")

    def store(
        self, parts: Parts, chunks: Iterator[bytes], mtime_ns: int | None, replace: bool
    ) -> None:
        """An object has its name when all of it is there, and not before."""
        full, how = self.full(parts), "overwrite" if replace else "create"
        first = bytearray()
        for chunk in chunks:
            first += chunk
            if len(first) >= BLOCK:
                break
        try:
            with self.asking() as fs:
                if len(first) < BLOCK:
                    fs.pipe_file(full, bytes(first), mode=how)
                    return
                file = fs.open(full, "wb" if replace else "xb", BLOCK, autocommit=False)
            self._write_parts(file, bytes(first), chunks)
        except (LanxferError, OSError):
            # Whatever it called that: without ``replace`` it is refused where the name is taken.
            if not replace and self._look(parts) is not None:
                raise FileExistsError from None
            raise

    def _write_parts(self, file: Any, first: bytes, chunks: Iterator[bytes]) -> None:
        try:
            with self.asking():
                file.write(first)
            for chunk in chunks:
                with self.asking():
                    file.write(chunk)
            with self.asking():
                file.close()
                file.commit()
        except BaseException:
            file.closed = True  # or it would be completed when it is collected
            with suppress(Exception):
                file.discard()
            raise

    def give_name(self, full: str, to: Parts, replace: bool) -> None:
        """All of it is there twice before the first is removed."""
        if not replace and self._look(to) is not None:
            raise FileExistsError
        with self.asking() as fs:
            fs.invalidate_cache()
            found = [full] if fs.isfile(full) else list(fs.find(full))
        new = self.full(to)
        for each in found:
            with self.asking() as fs:
                fs.cp_file(each, new + each[len(full) :])
            stir()
        for each in found:
            with self.asking() as fs:
                fs.rm_file(each)
            stir()

    def make_folder(self, parts: Parts) -> None:
        with self.asking() as fs:
            fs.pipe_file(self.full((*parts, MARK)), b"")

    def remove_folder(self, parts: Parts) -> None:
        with suppress(FileNotFoundError):
            self.remove((*parts, MARK))

    def tidy(self, older_than: float) -> int:
        return 0

    def weaknesses(self) -> tuple[str, ...]:
        return (
            "A moved file is copied and removed, and a folder file by file; a break leaves some.",
            "A file that appears under a name at the same moment is overwritten by a move, and by"
            " all else where the server knows no conditional writes.",
            "Times of files are when they were stored.",
            "A second lanxfer that uses the place is not noticed.",
        )
