"""A body that is needed as a whole, gathered in memory.

What comes is read where it stays, in pieces as large as the socket has them, and
the memory is used again: many small files in one request are a mebibyte, and
fresh memory for it costs as much as a copy, twice.
"""

from __future__ import annotations

from lanxfer.disk import Units
from lanxfer.wire import limits

FIRST = 64 * limits.KIB
"""Bytes for which there is memory from the start; what is no larger is not worth all this.

Who announces more has to send these before there is more, for anybody may announce.
"""

GROWTH = 4
"""How much more there is once that is full, where it is not one of the units."""

LEAST = 16 * limits.KIB
"""Bytes still to come from which on they are worth a read of their own."""


class Gathered:
    """``size`` bytes as they come, in one of the ``units`` where they fit into one that is free."""

    def __init__(self, size: int, units: Units) -> None:
        self._size = size
        self._units = units
        self._unit: bytearray | None = None
        self._memory = bytearray(min(size, FIRST))
        self._filled = 0

    def __len__(self) -> int:
        return self._size

    def received(self, data: bytes | memoryview) -> None:
        """More of it, read elsewhere; never more than is missing."""
        rest = memoryview(data)
        while rest:
            space = self._space()
            taken = min(len(space), len(rest))
            space[:taken] = rest[:taken]
            rest = rest[taken:]
            self._filled += taken

    def space(self) -> memoryview | None:
        """Memory for the next bytes; None where there are too few for that."""
        return self._space() if self._size - self._filled >= LEAST else None

    def filled(self, size: int) -> None:
        """So many bytes are in what ``space`` gave."""
        self._filled += size

    @property
    def view(self) -> memoryview:
        """All of it, where it is; of no use after ``release``."""
        return memoryview(self._memory)[: self._size]

    def release(self) -> None:
        """Nobody looks at it any more: its memory may be used again."""
        unit, self._unit = self._unit, None
        self._memory = bytearray()
        if unit is not None:
            self._units.give(unit)

    def _space(self) -> memoryview:
        if self._filled == len(self._memory):
            more = self._more()
            more[: self._filled] = self._memory
            self._memory = more
        return memoryview(self._memory)[self._filled : self._size]

    def _more(self) -> bytearray:
        if self._size <= limits.UNIT and not self._units.scarce:
            self._unit = self._units.take()
            return self._unit
        return bytearray(min(self._size, GROWTH * len(self._memory)))
