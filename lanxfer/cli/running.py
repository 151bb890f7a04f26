"""One coroutine in the reactor, from the command line to the exit code.

The first Ctrl-C (or SIGTERM, or a closed terminal) cancels the coroutine, which
tells the other side and ends in its own time; the second ends the process at
once.  Whatever still hangs after the end, a name server that does not answer
or a disk, is not waited for.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from lanxfer import heap
from lanxfer.cli.choices import Choices
from lanxfer.cli.ending import AGAIN, PATIENT, Ending
from lanxfer.cli.output import Output, debugging, show_traceback
from lanxfer.client import Client, local
from lanxfer.errors import Cancelled, Internal

LINGER = 5.0
"""Seconds that threads get to end after the command has."""

Work: TypeAlias = "Callable[[Run], Coroutine[Deferred[Any], Any, int]]"


class Run(Ending):
    """What a command's coroutine is given."""

    def __init__(self, reactor: Any, choices: Choices) -> None:
        super().__init__()
        self.reactor = reactor
        self.choices = choices
        self.out = Output(choices.json, choices.quiet)

    def every(self, seconds: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called every so many seconds until what this gives is called."""
        loop = LoopingCall(callback)
        loop.clock = self.reactor
        loop.start(seconds, now=False)

        def stop() -> None:
            if loop.running:
                loop.stop()

        return stop


@asynccontextmanager
async def service(here: Run) -> AsyncIterator[Client]:
    """The service on this machine, for as long as it is asked."""
    client = await local(here.reactor, state=here.choices.state)
    try:
        yield client
    finally:
        with suppress(Cancelled):
            await client.close()


def run(
    work: Work,
    choices: Choices,
    *,
    ending: str = "Cancelling",
    logs: bool = False,
    as_json: bool = False,
) -> int:
    """Run ``work`` to its end; the exit code.

    Its error becomes a sentence and the error's own exit code.  ``ending`` is
    what Ctrl-C sets off, and ``logs`` says that errors in the log are for people.  With
    ``as_json`` the log is for programs, and what people would be told is in it.
    """
    from twisted.internet import reactor

    # What has a reactor may run for long, and leaves circles (lanxfer.cli.start).
    heap.arrange(serving=logs)
    here = Run(reactor, choices)
    if as_json and sys.stderr is not None:
        _log_json(here.out)
    else:
        _begin_logging(here.out if logs else None)
    ended: list[int] = []
    running: list[Deferred[int]] = []

    def begin() -> None:
        running.append(Deferred.fromCoroutine(work(here)))
        running[0].addErrback(lambda why: _report(why, here.out))
        running[0].addCallback(end)

    def end(code: int) -> None:
        ended.append(code)
        watchdog = threading.Timer(LINGER, _leave, [code])
        watchdog.daemon = True
        watchdog.start()
        here.reactor.stop()

    def interrupt() -> None:
        if not ended and running:
            here.reactor.callLater(PATIENT, tell)
            running[0].cancel()

    def tell() -> None:
        if not ended:
            here.out.say(f"{ending}; {AGAIN}")

    here.catch_signals(lambda: here.reactor.callFromThread(interrupt))
    here.reactor.callWhenRunning(begin)
    here.reactor.run(installSignalHandlers=False)
    return here.out.with_trouble(ended[0])


def _report(why: Failure, out: Output) -> int:
    error = why.value or Internal()
    show_traceback(error)
    return out.report(Cancelled() if isinstance(error, CancelledError) else error)


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def _begin_logging(out: Output | None) -> None:
    """The log is for developers; of a service's, people see what went wrong, in a line each."""

    def show(event: LogEvent) -> None:
        if out is not None:
            failure = event.get("log_failure")
            why = f" ({failure.type.__name__}: {failure.value})" if failure is not None else ""
            out.warn(formatEvent(event) + why)

    errors = LogLevelFilterPredicate(defaultLogLevel=LogLevel.error)
    watching: Any = show
    observer: Any = FilteringLogObserver(watching, [errors])
    if debugging() and sys.stderr is not None:
        observer = textFileLogObserver(sys.stderr)
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)


def _log_json(out: Output) -> None:
    """Standard error is the log, and nothing but the log."""
    from lanxfer.logs import json_observer

    log = Logger()

    def tell(text: str, matters: bool) -> None:
        (log.warn if matters else log.info)("{_text}", event="said", _text=text)

    out.tell = tell
    observers = [json_observer(sys.stderr)]
    globalLogBeginner.beginLoggingTo(observers, discardBuffer=True, redirectStandardIO=False)
