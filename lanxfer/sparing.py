"""What could be told too often: the first of a period one by one, and of the rest the sum."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Sparing:
    """Whether there may be a line more, of so many in so many seconds.

    The period begins with the first thing that happens in it; ``on_end`` tells the sum of
    what had no line.  Whoever made it calls ``stop`` at the end.
    """

    def __init__(
        self, clock: IReactorTime, period: float, lines: int, on_end: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._period = period
        self._most = lines
        self._on_end = on_end
        self._lines = 0
        self._ending: IDelayedCall | None = None

    def begin(self) -> None:
        """Something happened, which has a line or will be in the sum."""
        if self._ending is None:
            self._ending = self._clock.callLater(self._period, self._end)

    @property
    def left(self) -> int:
        """Lines that there still may be in this period."""
        return self._most - self._lines

    def spend(self) -> bool:
        """It happened, and may have a line; if not, it belongs to the sum."""
        self.begin()
        if self._lines >= self._most:
            return False
        self._lines += 1
        return True

    def _end(self) -> None:
        self._ending = None
        self._lines = 0
        self._on_end()

    def stop(self) -> None:
        """Tell what is not told yet."""
        if self._ending is not None:
            self._ending.cancel()
            self._end()
