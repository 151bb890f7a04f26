"""A body that is needed as a whole, gathered in memory.

What comes is read where it stays, in pieces as large as the socket has them, and
the memory is used again: many small files in one request are a mebibyte, larger ones
four, and fresh memory for them costs as much as a copy, twice.
"""

from __future__ import annotations

from lanxfer.disk import Units
from lanxfer.wire import limits

FIRST = 64 * limits.KIB
"""Bytes for which there is memory from the start; what is no larger is not worth all this.

Who announces more has to send these before there is more, for anybody may announce.
"""

LEAST = 16 * limits.KIB
"""Bytes still to come from which on they are worth a read of their own."""


class Gathered:
    """``size`` bytes as they come, in as many of the ``units`` as they fill."""

    def __init__(self, size: int, units: Units) -> None:
        self._size = size
        self._units = units
        self._memory = [bytearray(min(size, FIRST))]
        self._filled = 0
        self._room = len(self._memory[0])  # in the last of them

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
            self.filled(taken)

    def space(self) -> memoryview | None:
        """Memory for the next bytes; None where there are too few for that."""
        return self._space() if self._size - self._filled >= LEAST else None

    def filled(self, size: int) -> None:
        """So many bytes are in what ``space`` gave."""
        self._filled += size
        self._room -= size

    def pieces(self, at: int, size: int) -> list[memoryview]:
        """A part of it, where it is; of no use after ``release``."""
        left = min(size, self._size - at)
        if len(self._memory) == 1:
            return [memoryview(self._memory[0])[at : at + left]]
        found: list[memoryview] = []
        for memory in self._memory:
            if left > 0 and at < len(memory):
                found.append(memoryview(memory)[at : at + left])
                left -= len(found[-1])
            at = max(at - len(memory), 0)
        return found

    def whole(self) -> bytes:
        """A copy of all of it."""
        return b"".join(self.pieces(0, self._size))

    def release(self) -> None:
        """Nobody looks at it any more: its memory may be used again."""
        memory, self._memory = self._memory, []
        for each in memory:
            self._units.give(each)

    def _space(self) -> memoryview:
        if not self._room:
            self._more()
        begin, left = len(self._memory[-1]) - self._room, self._size - self._filled
        return memoryview(self._memory[-1])[begin : begin + left]

    def _more(self) -> None:
        unit = self._units.take()
        self._room = len(unit)
        if self._filled == FIRST:
            # What came is moved there, so that most bodies lie in one piece.
            unit[:FIRST] = self._memory.pop()
            self._room -= FIRST
        self._memory.append(unit)
