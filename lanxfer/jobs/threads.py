"""A call in a thread of its own, as a Deferred that can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

ENDING = 10.0
"""Seconds that a thread gets to end when it is to."""

AGAIN = 0.5
"""Seconds until it is told so again."""


def in_thread(
    reactor: Any, name: str, work: Callable[[], T], stop: Callable[[], None]
) -> Deferred[T]:
    """Call ``work``, which blocks; fires with what it returns.

    Cancelled, ``stop`` is called and the end of ``work`` waited for, and then it
    fails with CancelledError; a thread that hangs in a disk is left behind.
    """
    done = _Patient[T](stop, reactor)

    def run() -> None:
        try:
            result: Any = work()
        except BaseException:
            result = Failure()
        reactor.callFromThread(done.finish, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


class _Patient(Deferred[T]):
    """A Deferred that, cancelled, asks for the end and fires when that has come."""

    def __init__(self, stop: Callable[[], None], reactor: Any) -> None:
        super().__init__()
        self._stop = stop
        self._reactor = reactor
        self._limit: Any = None
        self._again: Any = None
        self._ending = False

    def cancel(self) -> None:
        if self.called:
            super().cancel()
        elif not self._ending:
            self._ending = True
            self._limit = self._reactor.callLater(ENDING, self.finish, None)
            self._stop_it()

    def _stop_it(self) -> None:
        """Again and again: what is only just being connected cannot be cut the first time."""
        self._stop()
        self._again = self._reactor.callLater(AGAIN, self._stop_it)

    def finish(self, result: Any) -> None:
        for each in (self._limit, self._again):
            if each is not None and each.active():
                each.cancel()
        if self.called:
            return
        if self._ending:
            self.errback(CancelledError())
        elif isinstance(result, Failure):
            self.errback(result)
        else:
            self.callback(result)
