"""Places among those that receive: few enough for the disk, and shared fairly.

Without shares one device that keeps its places busy, each just fast enough to
be let alone, would keep everybody else waiting.
"""

from __future__ import annotations

from collections import Counter, deque

from twisted.internet.defer import Deferred


class Places:
    """So many ``places`` in all, ``share`` of them for any one principal."""

    def __init__(self, places: int, share: int) -> None:
        self._free = places
        self._share = share
        self._taken: Counter[str] = Counter()
        self._waiting: deque[tuple[str, Deferred[None]]] = deque()

    @property
    def taken(self) -> int:
        """How many places are taken."""
        return self._taken.total()

    def change(self, places: int, share: int) -> None:
        """Have so many from now on; who has one keeps it."""
        self._free = places - self.taken
        self._share = share
        self._grant()

    def acquire(self, name: str) -> Deferred[None]:
        """Fires when ``name`` has a place; cancelled it fails with CancelledError, without one."""
        granted: Deferred[None] = Deferred(self._forget)
        self._waiting.append((name, granted))
        self._grant()
        return granted

    def release(self, name: str) -> None:
        """One of the places of ``name`` is free."""
        self._free += 1
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
        self._grant()

    def _forget(self, gone: Deferred[None]) -> None:
        self._waiting = deque(each for each in self._waiting if each[1] is not gone)

    def _grant(self) -> None:
        while self._free > 0:
            found = next((each for each in self._waiting if self._room(each[0])), None)
            if found is None:
                return
            self._waiting.remove(found)
            name, granted = found
            self._free -= 1
            self._taken[name] += 1
            granted.callback(None)

    def _room(self, name: str) -> bool:
        return self._taken.get(name, 0) < self._share
