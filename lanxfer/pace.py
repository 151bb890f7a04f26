"""Whether a connection moves: what is due comes, what is sent is taken, who was asked lives.

A peer that is slow is waited for, one that holds a place and gives nothing for
it is not (catalogue B01, B03, B07; docs/protocol.rst, "Limits").  Time in which
this side could not have read does not count against the other one.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from lanxfer.errors import LanxferError, TimedOut, TooSlow
from lanxfer.tcp_info import acknowledged
from lanxfer.wire import limits


class Paced(Protocol):
    """What is watched: one connection."""

    transport: Any

    @property
    def deaf(self) -> bool:
        """It is over."""

    @property
    def paused(self) -> bool:
        """This side does not read at the moment."""

    @property
    def due_since(self) -> float | None:
        """Since when bytes ought to be coming without a break; None if none have to."""

    @property
    def blocked_since(self) -> float | None:
        """Since when the transport takes no more; None if it does."""

    @property
    def asking(self) -> bool:
        """The other side owes an answer, and may be asked whether it lives."""

    def ping(self) -> None:
        """Ask it."""

    def fail(self, error: LanxferError) -> None:
        """Say what is wrong and close."""

    def abort(self, error: LanxferError) -> None:
        """Cut the connection."""


def taken(transport: Any) -> int:
    """A number that grows as the other side takes what was written.

    On Linux the bytes its system has acknowledged, elsewhere what the write
    buffer became shorter by.
    """
    try:
        acked = acknowledged(getattr(transport, "socket", None))
    except OSError:
        return 0  # it is closed already
    if acked is not None:
        return acked
    written = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
    return -(written + getattr(transport, "_tempDataLen", 0))


class Pace:
    """Looks at one connection now and then, as long as there is a reason to."""

    __slots__ = ("_asked", "_came", "_clock", "_next", "_of", "_went", "heard", "read")

    def __init__(self, clock: IReactorTime, of: Paced) -> None:
        self._clock = clock
        self._of = of
        self._next: IDelayedCall | None = None
        self._came = self._went = (0.0, 0)  # when a measurement began, and at which count
        self._asked: float | None = None
        self.heard = 0.0
        self.read = 0

    def received(self, size: int) -> None:
        """So many bytes came."""
        self.heard = self._clock.seconds()
        self.read += size
        self._asked = None

    def rested(self) -> None:
        """This side reads again; what it did not read meanwhile is not to be missed."""
        self.heard = self._clock.seconds()
        self._came = self.heard, self.read

    def watch(self) -> None:
        """There is a reason to look."""
        if self._next is None and not self._of.deaf:
            now = self._clock.seconds()
            self._came = now, self.read
            if self._of.blocked_since is not None:
                self._went = now, taken(self._of.transport)
            self._wait(limits.PING_AFTER)

    def ease(self) -> None:
        """A reason has gone; if it was the last one, nothing of this is left."""
        of = self._of
        if of.due_since is None and of.blocked_since is None and not of.asking:
            self.stop()

    def stop(self) -> None:
        """There is none any more."""
        looking, self._next = self._next, None
        if looking is not None and looking.active():
            looking.cancel()

    def _wait(self, seconds: float) -> None:
        self._next = self._clock.callLater(max(seconds, 1.0), self._look)

    def _look(self) -> None:
        self._next = None
        now = self._clock.seconds()
        rests = [rest for rest in (self._coming(now), self._going(now), self._alive(now)) if rest]
        if rests and not self._of.deaf:
            self._wait(min(rests))

    def _coming(self, now: float) -> float | None:
        """Seconds until it is worth looking again at what comes; None if nothing is due."""
        due = self._of.due_since
        if due is None or self._of.deaf:
            return None
        if self._of.paused:
            self._came = now, self.read
            return limits.BODY_IDLE_TIMEOUT
        silent = now - max(self.heard, due)
        if silent >= limits.BODY_IDLE_TIMEOUT:
            self._of.fail(TimedOut())
            return None
        began, read = self._came
        measured = began >= due and now - began >= limits.RATE_OVER
        if measured and self.read - read < limits.RATE_LEAST * (now - began):
            self._of.fail(TooSlow())
            return None
        if measured or began < due:
            self._came = began, _ = now, self.read
        return min(limits.BODY_IDLE_TIMEOUT - silent, began + limits.RATE_OVER - now)

    def _going(self, now: float) -> float | None:
        """The same of what goes out."""
        blocked = self._of.blocked_since
        if blocked is None or self._of.deaf:
            return None
        began, count = self._went
        measured = began >= blocked and now - began >= limits.RATE_OVER
        gone = taken(self._of.transport) - count
        if measured and gone < limits.RATE_LEAST * (now - began):
            self._of.abort(TooSlow(_TAKES_LITTLE) if gone > 0 else TimedOut(_TAKES_NOTHING))
            return None
        if measured or began < blocked:
            self._went = began, _ = now, count + gone
        return began + limits.RATE_OVER - now

    def _alive(self, now: float) -> float | None:
        """The same of an answer that takes its time."""
        if not self._of.asking or self._of.deaf:
            return None
        if self._of.paused or self._of.blocked_since is not None:
            return limits.PING_AFTER
        if self._asked is not None:
            if now - self._asked >= limits.PING_TIMEOUT:
                self._of.abort(TimedOut())
                return None
            return self._asked + limits.PING_TIMEOUT - now
        silent = now - self.heard
        if silent < limits.PING_AFTER:
            return limits.PING_AFTER - silent
        self._asked = now
        self._of.ping()
        return limits.PING_TIMEOUT


_TAKES_LITTLE = "The other side takes too slowly what it is sent."
_TAKES_NOTHING = "The other side does not take what it is sent."
