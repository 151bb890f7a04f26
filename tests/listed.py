"""Entries that are on no disk, for those who put them together."""

from __future__ import annotations

from collections.abc import Callable

from lanxfer.ahead import ENOUGH
from lanxfer.errors import SourceUnreadable
from lanxfer.offering import Loaded
from lanxfer.transfers import Entry, Kind


def entries(sizes: list[int]) -> list[Entry]:
    return [Entry(Kind.FILE, f"d/{at}", f"/d/{at}", size) for at, size in enumerate(sizes)]


def load(entry: Entry, most: int, take: Callable[[], bytearray]) -> Loaded:
    """As if it had been read; a few cannot be."""
    if entry.size > most or entry.error is not None:
        return Loaded(entry)
    if entry.size % 100 == 99:
        raise SourceUnreadable("No.")
    if entry.size > ENOUGH:
        return Loaded(entry, None, "ab" * 32, [memoryview(bytes(entry.size))])
    return Loaded(entry, bytes(entry.size), "ab" * 32)
