"""Turns of the reactor, and memory, shared fairly between connections that have much to say.

What one read brings can be hundreds of requests.  A connection takes a bounded
number of them and then waits in line, without reading, until the others that
wait have had as many; whoever has just one is never behind more than one such
helping (catalogue H02, R08, S).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from lanxfer.wire import limits


class Turns:
    """The line in which the connections of one service wait, and what their packs may take."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._loaded: set[object] = set()

    @property
    def share(self) -> int:
        """Bytes of packs that one connection may have here before it is not read any more."""
        return limits.PACKS_MAX // max(len(self._loaded), 1)

    def loaded(self, connection: object, size: int) -> None:
        """So many bytes of packs that came on that connection are in memory now."""
        if size > 0:
            self._loaded.add(connection)
        else:
            self._loaded.discard(connection)

    def queue(self, go: Callable[[], None]) -> None:
        """Have ``go`` called in a turn of the reactor of its own, after those before it."""
        self._waiting.append(go)
        if len(self._waiting) == 1:
            self._clock.callLater(0, self._next)

    def _next(self) -> None:
        go = self._waiting[0]
        try:
            go()
        finally:
            self._waiting.popleft()
            if self._waiting:
                self._clock.callLater(0, self._next)
