"""Looking for the next small packet for a moment, before the process goes to sleep.

Where two programs ask and answer one small thing after the other, most of the
time goes by in waking a processor that has fallen asleep: 50 µs and more on a
virtual machine, at both ends (``bench --only requests``: 4,000 a second that
way, 15,000 this way).  So whoever has just answered at once, or asked again at
once, in a conversation that goes back and forth that quickly, has the reactor
look once more without waiting, for twice the time the last round took and for
a millisecond at most.  The first round that does not come in that time is
waited for as ever.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

NEAR = 0.0005
"""Seconds of a round, at most, after which the next one is looked for."""

SMALL = 4096
"""Bytes of a chunk that is read; where more come they are files, or stand in line anyway."""


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Eager:
    """The patience of one connection; ``turned`` says that a round has just begun.

    Where there is one processor only it does nothing, since the other side may need it.
    ``now`` is the real time in seconds, of which the reactor's own clock may know nothing.
    """

    def __init__(
        self,
        clock: IReactorTime,
        now: Callable[[], float] = time.perf_counter,
        processors: Callable[[], int] = _processors,
    ) -> None:
        self._clock = clock
        self._now = now
        self._alone = processors() < 2
        self._last = float("-inf")
        self._until = 0.0
        self._looking = False

    def turned(self) -> None:
        """Something small came, and something was said to it at once."""
        now = self._now()
        took, self._last = now - self._last, now
        if took > NEAR or self._alone:
            return
        self._until = now + 2 * took
        if not self._looking:
            self._looking = True
            self._clock.callLater(0, self._look)

    def _look(self) -> None:
        # Whatever comes is read between two of these: with a call that is due, no reactor waits.
        if self._now() < self._until:
            self._clock.callLater(0, self._look)
        else:
            self._looking = False
