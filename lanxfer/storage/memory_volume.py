"""What a ``MemoryStore`` holds, to be looked into and changed: a shared folder without a disk."""

from __future__ import annotations

import errno
import io
import os
import time
from collections.abc import Iterator
from typing import BinaryIO

from lanxfer.storage import Facts
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.rules import usable_mtime
from lanxfer.storage.volumes import Parts, VolumeShare


class MemoryVolume:
    """See ``lanxfer.storage.volumes.Volume``; it is the store that holds everything."""

    blocks = False
    has_links = True
    keeps_times = True

    def __init__(self, store: MemoryStore) -> None:
        self._held = store

    def look(self, parts: Parts) -> Facts | None:
        if not parts:
            return Facts("folder", 0, 0)
        with self._held.mutex:
            return self._held.facts("/".join(parts))

    def names(self, parts: Parts) -> Iterator[tuple[str, Facts]]:
        start = "".join(f"{part}/" for part in parts)
        found: dict[str, Facts] = {}
        with self._held.mutex:
            if parts and "/".join(parts) not in self._held.folders:
                raise FileNotFoundError
            for name in (*self._held.files, *self._held.links, *self._held.folders):
                below = name[len(start) :]
                if name.startswith(start) and below and "/" not in below:
                    facts = self._held.facts(name)
                    assert facts is not None
                    found[below] = facts
        yield from found.items()

    def open(self, parts: Parts) -> BinaryIO:
        with self._held.mutex:
            data = self._held.files.get("/".join(parts))
        if data is None:
            raise FileNotFoundError
        return io.BytesIO(data)  # as it is now, whatever comes after

    def store(
        self, parts: Parts, chunks: Iterator[bytes], mtime_ns: int | None, replace: bool
    ) -> None:
        data = b"".join(chunks)
        name = "/".join(parts)
        with self._held.mutex:
            facts = self._held.facts(name)
            if facts is not None and (facts.kind != "file" or not replace):
                raise FileExistsError
            old = len(self._held.files.get(name, b""))
            if len(data) - old > self._held.free():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._held.keep(name, data, usable_mtime(mtime_ns) or time.time_ns())

    def make_folder(self, parts: Parts) -> None:
        with self._held.mutex:
            if self._held.facts("/".join(parts)) is not None:
                raise FileExistsError
            self._held.folders.add("/".join(parts))

    def rename(self, parts: Parts, to: Parts, replace: bool) -> None:
        with self._held.mutex:
            there = self._held.facts("/".join(to))
            if there is not None and not replace:
                raise FileExistsError
            if there is not None:
                self._held.drop("/".join(to))
            self._held.rename("/".join(parts), "/".join(to))

    def remove(self, parts: Parts) -> None:
        with self._held.mutex:
            if not self._held.drop("/".join(parts)):
                raise FileNotFoundError

    def remove_folder(self, parts: Parts) -> None:
        with self._held.mutex:
            if any(self.names(parts)):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            self._held.folders.discard("/".join(parts))

    def tidy(self, older_than: float) -> int:
        return 0

    def weaknesses(self) -> tuple[str, ...]:
        return self._held.weaknesses()

    def close(self) -> None:
        """Nothing to let go of."""


def memory_share(
    name: str, store: MemoryStore | None = None, *, writable: bool = True, dotfiles: bool = False
) -> VolumeShare:
    """A shared folder in memory; ``store`` where something else holds or fills it as well."""
    held = MemoryStore(dotfiles=dotfiles) if store is None else store
    return VolumeShare(name, MemoryVolume(held), held if writable else None, dotfiles)
