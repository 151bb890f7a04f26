"""A body that is needed as a whole, gathered in memory.

What comes is read where it stays, in pieces as large as the socket has them, and
the memory is used again: many files in one request are up to four mebibytes, and fresh memory
for them costs as much as a copy, twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from lanxfer.disk import Units
from lanxfer.wire import limits

FIRST = 64 * limits.KIB
"""Bytes for which there is memory from the start; what is no larger is not worth all this.

Who announces more has to send these before there is more, for anybody may announce.
"""

LEAST = 16 * limits.KIB
"""Bytes still to come from which on they are worth a read of their own."""


_NOTHING = memoryview(b"")


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

    def pieces(self, at: int, sizes: Sequence[int]) -> list[list[memoryview]]:
        """Parts that follow one another, where they are; of no use after ``release``."""
        found: list[list[memoryview]] = []
        memory = (memoryview(each) for each in self._memory)
        view, left = next(memory, _NOTHING), self._size - at
        room = len(view)
        for size in sizes:
            if size and at + size <= room and size <= left:  # as nearly all are
                found.append([view[at : at + size]])
                at += size
                left -= size
                continue
            size = min(size, left)
            left -= size
            pieces: list[memoryview] = []
            while size > len(view) - at and view:
                here = view[at:]
                pieces += [here] if here else []
                size -= len(here)
                at = max(at - len(view), 0)
                view = next(memory, _NOTHING)
                room = len(view)
            if size and view:
                pieces.append(view[at : at + size])
                at += size
            found.append(pieces)
        return found

    def whole(self) -> bytes:
        """A copy of all of it."""
        [pieces] = self.pieces(0, [self._size])
        return b"".join(pieces)

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
