"""A body that is needed as a whole, gathered in memory.

What comes is read where it stays, in pieces as large as the socket has them: at
64 KiB a turn of the loop, a megabyte of small files cost more than storing them.
"""

from __future__ import annotations

from lanxfer.wire import limits

FIRST = 64 * limits.KIB
"""Bytes there is memory for from the start."""

GROWTH = 4
"""How much more there is once that is full: who announces much has to send some of it first."""

LEAST = 16 * limits.KIB
"""Bytes still to come from which on they are worth a read of their own."""


class Gathered:
    """``size`` bytes, as they come; ``received`` and ``filled`` are told of each once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = bytearray(min(size, FIRST))
        self._filled = 0

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

    def whole(self) -> bytes:
        """All of it; to be asked for once."""
        memory, self._memory = self._memory, bytearray()
        return bytes(memory)

    def _space(self) -> memoryview:
        if self._filled == len(self._memory):
            grown = bytearray(min(self._size, GROWTH * len(self._memory)))
            grown[: self._filled] = self._memory
            self._memory = grown
        return memoryview(self._memory)[self._filled :]
