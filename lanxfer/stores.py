"""Threads for stores that may take long, so that nobody waits for them who asked for nothing there.

Each volume has a few of its own.  What does not get on for ``patience`` seconds is given up: its
asker is told so, the thread is left to finish, and what comes of it is undone or
dropped.  What was given up before a thread took it is never begun.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from lanxfer.disk import Uninterrupted, typed
from lanxfer.errors import LanxferError, Overloaded, Stopping, StoreStalled
from lanxfer.storage.volumes import Volume, while_stirring
from lanxfer.wire import limits

T = TypeVar("T")

WORKERS = 4

_log = Logger()


class _Thread(threading.Thread):
    """One that keeps no process from ending: a store may never answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, daemon=True)


class _Pool(ThreadPool):
    threadFactory = _Thread


@define(eq=False)
class _Job:
    done: Uninterrupted[Any]
    undo: Callable[[Any], object] | None
    stirred: float
    over: bool = False
    late: Any = None


class StoreThreads:
    """The threads of one volume; ``run`` is that of ``lanxfer.disk.Disk``."""

    def __init__(self, reactor: Any, patience: float | None = None, workers: int = WORKERS) -> None:
        self._reactor = reactor
        self._own_patience = patience
        self._pool = _Pool(0, workers, "lanxfer-store")
        self._pool.start()
        self._jobs: set[_Job] = set()
        self._running = 0
        self._ended = False
        self._idle: Deferred[None] | None = None

    @property
    def _patience(self) -> float:
        return limits.STORE_PATIENCE if self._own_patience is None else self._own_patience

    def run(
        self,
        function: Callable[..., T],
        *args: Any,
        undo: Callable[[T], object] | None = None,
    ) -> Deferred[T]:
        """Call ``function(*args)`` in a thread; OSErrors come back typed.

        Fails with StoreStalled when it was seen to do nothing for ``patience`` seconds, with
        Overloaded where too much waits already.  Cancelled, it fails when the work is done or
        given up.  ``undo`` gets, in a thread, the result that nobody waits for any more.
        """
        done = Uninterrupted[T]()
        job = _Job(done, undo, self._reactor.seconds())
        if self._ended:
            done.errback(Stopping())
        elif len(self._jobs) >= limits.STORE_WAITING:
            done.errback(Overloaded("Too much waits for the store behind that share."))
        else:
            self._jobs.add(job)
            self._running += 1
            job.late = self._reactor.callLater(self._patience, self._look, job)
            deliver = self._reactor.callFromThread

            def came(success: bool, result: Any) -> None:
                deliver(self._came, job, success, result)

            self._pool.callInThreadWithCallback(came, self._work, job, function, args)
        return done

    def _work(self, job: _Job, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if job.over:
            raise StoreStalled()
        seconds = self._reactor.seconds

        def stir() -> None:
            job.stirred = seconds()

        return while_stirring(stir, partial(function, *args))

    def _look(self, job: _Job) -> None:
        left = job.stirred + self._patience - self._reactor.seconds()
        if left > 0:
            job.late = self._reactor.callLater(left, self._look, job)
        else:
            self._end(job, Failure(StoreStalled()))

    def _give_up(self) -> None:
        for job in list(self._jobs):
            self._end(job, Failure(Stopping()))

    def _came(self, job: _Job, success: bool, result: Any) -> None:
        self._running -= 1
        if success and job.undo is not None and (job.over or job.done.cancelled):
            self._pool.callInThread(job.undo, result)
        if not success:
            cause = getattr(result.value, "__cause__", None)
            if cause is not None and isinstance(result.value, LanxferError):
                _log.debug("a store failed: {cause!r}", cause=cause)
            result = Failure(typed(result.value))
        self._end(job, result)

    def _end(self, job: _Job, result: Any) -> None:
        if job.over:
            return
        job.over = True
        self._jobs.discard(job)
        if job.late is not None and job.late.active():
            job.late.cancel()
        if job.done.cancelled:
            result = Failure(CancelledError())
        if isinstance(result, Failure):
            job.done.errback(result)
        else:
            job.done.callback(result)
        idle = self._idle
        if not self._jobs and idle is not None and not idle.called:
            idle.callback(None)

    async def stopped(self, within: float) -> None:
        """Begin nothing more; wait so many seconds for what is under way, then give it up.

        Threads that hang are left behind, and keep no process from ending.
        """
        self._ended = True
        late = self._reactor.callLater(within, self._give_up)
        while self._jobs:
            self._idle = Deferred()
            await self._idle
        if late.active():
            late.cancel()
        if self._running:
            self._pool.joined = True  # one that hangs is not waited for
            self._pool._team.quit()
        else:
            self._pool.stop()


@define(eq=False)
class Stores:
    """The threads of all volumes of a service, made when they are first needed."""

    reactor: Any
    patience: float | None = None
    _threads: dict[Volume, StoreThreads] = field(factory=dict)

    def of(self, volume: Volume) -> StoreThreads:
        """Those that belong to that volume."""
        found = self._threads.get(volume)
        if found is None:
            found = self._threads[volume] = StoreThreads(self.reactor, self.patience)
        return found

    async def stopped(self, within: float) -> None:
        """End them all; see ``StoreThreads.stopped``."""
        ending = [Deferred.fromCoroutine(each.stopped(within)) for each in self._threads.values()]
        for each in ending:
            await each
