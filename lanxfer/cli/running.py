"""One coroutine in the reactor, from the command line to the exit code.

The first Ctrl-C (or SIGTERM, or a closed terminal) cancels the coroutine, which
tells the other side and ends in its own time; the second ends the process at
once.  Whatever still hangs after the end, a name server that does not answer
or a disk, is not waited for.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import (
    FilteringLogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from lanxfer.cli.options import Choices
from lanxfer.cli.output import Output, debugging, show_traceback
from lanxfer.errors import Cancelled, Exit, Internal

LINGER = 5.0
"""Seconds that threads get to end after the command has."""

PATIENT = 0.5
"""Seconds after Ctrl-C before it is said what is being waited for."""

Work: TypeAlias = "Callable[[Run], Coroutine[Deferred[Any], Any, int]]"


class Run:
    """What a command's coroutine is given."""

    def __init__(self, reactor: Any, choices: Choices) -> None:
        self.reactor = reactor
        self.choices = choices
        self.out = Output(choices.json, choices.quiet)
        self.interrupted = False
        self._last_words: list[Callable[[], object]] = []

    def if_killed(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called before a second Ctrl-C ends it; call the result to forget it."""
        self._last_words.append(callback)

        def forget() -> None:
            if callback in self._last_words:
                self._last_words.remove(callback)

        return forget

    def killed(self) -> None:
        """End at once."""
        for each in reversed(self._last_words):
            try:
                each()
            except Exception as error:
                show_traceback(error)
        os._exit(Exit.CANCELLED)


def run(work: Work, choices: Choices, *, ending: str = "Cancelling", logs: bool = False) -> int:
    """Run ``work`` to its end; the exit code.

    Its error becomes a sentence and the error's own exit code.  ``ending`` is
    what Ctrl-C sets off, and ``logs`` says that errors in the log are for people.
    """
    from twisted.internet import reactor

    here = Run(reactor, choices)
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
            here.out.say(f"{ending}; Ctrl-C again ends it at once.")

    def signalled(number: int, frame: Any) -> None:
        if here.interrupted:
            here.killed()
        here.interrupted = True
        here.reactor.callFromThread(interrupt)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        # What nohup, or a shell in the background, said to ignore stays ignored.
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signalled)
    here.reactor.callWhenRunning(begin)
    here.reactor.run(installSignalHandlers=False)
    return _with_trouble(ended[0], here.out)


def _with_trouble(code: int, out: Output) -> int:
    if not out.trouble:
        return code
    out.warn(out.trouble)
    return code or int(Exit.FAILED)


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
