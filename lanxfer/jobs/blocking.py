"""``lanxfer.jobs`` for scripts: the same names, and calls that come back when all is done.

::

    from lanxfer.jobs.blocking import configure, set_sigterm_handler

    set_sigterm_handler()
    run, extra = configure("lanxfer.cfg", "nightly")
    result, code = run()

The reactor runs in a thread of its own from the first call on.  Where one runs
already, calls from its other threads are fine, too.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from configparser import ConfigParser, RawConfigParser
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread
from twisted.python.threadable import isInIOThread

from lanxfer import jobs
from lanxfer.jobs import (
    ConfigError,
    ConnectError,
    Error,
    FileTag,
    FileTags,
    JobResult,
    NotReadyError,
    Ran,
    SingleInstanceError,
    Terminated,
    TransferError,
)

__all__ = [
    "ConfigError",
    "ConnectError",
    "Error",
    "FileTag",
    "FileTags",
    "JobResult",
    "NotReadyError",
    "Ran",
    "SingleInstanceError",
    "Terminated",
    "TransferError",
    "configure",
    "set_sigterm_handler",
    "transfer",
]


def configure(
    app_cfg: str | os.PathLike[str] | None, job_id: str, **how: Any
) -> tuple[Callable[..., Ran], ConfigParser]:
    """As ``lanxfer.jobs.configure``; the function that it gives blocks."""
    from twisted.internet import reactor

    job, extra = jobs.load(app_cfg, job_id, reactor=reactor, **how)

    def run(exc: BaseException | None = None, *, dry: bool = False) -> Ran:
        found: Ran = _wait(lambda: job.run(exc, dry=dry))
        return found

    return run, extra


def transfer(
    source: Mapping[str, Any] | RawConfigParser,
    target: Mapping[str, Any] | None = None,
    *,
    collect_data: bool = False,
) -> JobResult:
    """As ``lanxfer.jobs.transfer``."""
    found: JobResult = _wait(lambda: jobs.transfer(source, target, collect_data=collect_data))
    return found


def set_sigterm_handler() -> None:
    """Have SIGTERM raise Terminated in the main thread; ValueError from another one.

    In a run it ends that in good order first, and has its ``result``.
    """

    def end(number: int, frame: Any) -> None:
        raise Terminated()

    signal.signal(signal.SIGTERM, end)


def _wait(begin: Callable[[], Deferred[Any]]) -> Any:
    reactor = _running_reactor()
    begun: list[Deferred[Any]] = []
    over: Deferred[Any] = Deferred()

    def start() -> Deferred[Any]:
        work = begin()
        begun.append(work)
        return work.addBoth(_told, over)

    try:
        return blockingCallFromThread(reactor, start)
    except (Terminated, KeyboardInterrupt) as error:
        if over.called:
            raise  # the run's own

        def end() -> Deferred[Any]:
            for each in begun:
                each.cancel()
            return over

        found = blockingCallFromThread(reactor, end) if begun else None
        if isinstance(error, Terminated):
            error.result = getattr(found, "result", None)
        raise


def _told(result: Any, over: Deferred[Any]) -> Any:
    over.callback(getattr(result, "value", None))
    return result


_starting = threading.Lock()


def _running_reactor() -> Any:
    from twisted.internet import reactor as found

    reactor: Any = found
    if reactor.running and isInIOThread():
        raise RuntimeError("This would block the reactor; lanxfer.jobs has what does not.")
    with _starting:
        if not reactor.running:
            up = threading.Event()
            reactor.callWhenRunning(up.set)
            # A daemon, and so is every thread that it starts: a script ends when it ends.
            threading.Thread(
                target=reactor.run,
                kwargs={"installSignalHandlers": False},
                name="reactor",
                daemon=True,
            ).start()
            up.wait()
    return reactor
