"""Hearing what is logged as an exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer


@contextmanager
def watched_log(breach: Callable[[str], None]) -> Iterator[None]:
    """An exception that reaches the log is one nobody had thought of (catalogue I8)."""

    @implementer(ILogObserver)
    def hear(event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            breach(f"logged: {failure.getTraceback()}")

    globalLogPublisher.addObserver(hear)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(hear)
