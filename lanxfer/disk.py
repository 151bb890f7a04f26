"""Where blocking work goes: a few threads for the disk, and small files in batches.

A hop to a thread costs about as much as a small file, so nothing here hops per
small file: while one batch is being made durable the next one gathers, which
also lets them share their syncs (security design, section 8).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from weakref import ref

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from lanxfer import errors
from lanxfer.errors import LanxferError
from lanxfer.storage import Small, Store
from lanxfer.transfers import Stored
from lanxfer.wire import limits

T = TypeVar("T")

WORKERS = 4
RESERVED = 1
"""Workers besides, for what the owner asks; they wait for no file (catalogue R10)."""

BATCH_BYTES = 4 * limits.MIB


def typed(error: BaseException) -> BaseException:
    """An OSError as the LanxferError it stands for; anything else as it is."""
    return errors.from_os(error) if isinstance(error, OSError) else error


class _Unit(bytearray):
    """Memory that can be counted for as long as somebody has it."""


class Units:
    """Memory in units of ``limits.UNIT``, used again instead of asked for again.

    Fresh memory costs the kernel about as much as copying does.  Who takes a
    unit may drop it instead of giving it back.  When many are in use, what is
    taken has an eighth of that size: 64 files at once are to cost no more
    memory than a few, and where so many take turns nobody needs a large one.
    Any thread may take and give.
    """

    def __init__(self, keep: int = limits.WINDOW // limits.UNIT) -> None:
        self._keep = keep
        self._free: list[_Unit] = []
        self._known: list[ref[_Unit]] = []
        self._mutex = threading.Lock()

    @property
    def scarce(self) -> bool:
        """So many are in use that nobody should take one before it is needed."""
        with self._mutex:
            return self._is_scarce()

    def _is_scarce(self) -> bool:
        if self._free:
            return False
        self._known = [each for each in self._known if each() is not None]
        return len(self._known) >= self._keep + self._keep // 2

    def take(self) -> bytearray:
        with self._mutex:
            if self._is_scarce():
                return bytearray(limits.UNIT // 8)
            if self._free:
                return self._free.pop()
            unit = _Unit(limits.UNIT)
            self._known.append(ref(unit))
            return unit

    def give(self, unit: bytearray) -> None:
        with self._mutex:
            if isinstance(unit, _Unit) and len(self._free) < self._keep:
                self._free.append(unit)


class Uninterrupted(Deferred[T]):
    """A Deferred that takes note of being cancelled, and waits for its end all the same."""

    cancelled = False

    def cancel(self) -> None:
        if self.called:
            super().cancel()  # it waits for another one by now
        self.cancelled = True


class Disk:
    """A pool of threads; ``start`` and ``stop`` belong to the service's life.

    What is given out cannot be cancelled half-way: the thread would go on with
    what the caller believes to be over.  A cancelled Deferred fails with
    CancelledError as well, but only when the work is done.

    After its end work is done at once, in the caller's thread: a pool that is
    closed would drop it without a word, and what is left then is clearing up.

    A reactor that stops ends the threads as well, so that a program which fails
    before it closes its client or service ends all the same.
    """

    def __init__(self, reactor: Any, workers: int = WORKERS) -> None:
        self._reactor = reactor
        self._trigger: object = None
        self._pool = ThreadPool(0, workers, "lanxfer-disk")
        self._reserved = ThreadPool(0, RESERVED, "lanxfer-control")
        self._single = ThreadPool(0, 1, "lanxfer-files")
        self._under_way = 0
        self.units = Units()
        self._over = False
        self._idle: Deferred[None] | None = None

    def start(self) -> None:
        for pool in (self._pool, self._reserved, self._single):
            pool.start()
        self._trigger = self._reactor.addSystemEventTrigger("after", "shutdown", self._shut)

    def stop(self) -> None:
        """Wait for what the threads have begun, then end them; blocks."""
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
        self._shut()

    def _shut(self) -> None:
        self._trigger = None
        self._over = True
        for pool in (self._pool, self._reserved, self._single):
            pool.stop()

    async def stopped(self) -> None:
        """Wait for what the threads have begun without blocking, then end them."""
        while self._under_way:
            self._idle = Deferred()
            await self._idle
        self.stop()

    def run(
        self,
        function: Callable[..., T],
        *args: Any,
        undo: Callable[[T], object] | None = None,
    ) -> Deferred[T]:
        """Call ``function(*args)`` in a thread; OSErrors come back typed.

        ``undo`` gets the result where nobody waits for it any more.
        """
        return self._run(self._pool, function, args, undo)

    def tell(self, function: Callable[..., object], *args: Any) -> None:
        """Have the reactor call a function; for what is done in a thread."""
        self._reactor.callFromThread(function, *args)

    def run_reserved(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """``run`` for the journal, so that a hanging inbox keeps no control command waiting.

        Nothing that touches the inbox belongs here.
        """
        return self._run(self._reserved, function, args, None)

    def run_in_order(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """``run`` for what waits for nothing: one such after the other, in a thread of their own.

        Several threads that never wait only take the interpreter from one another.
        """
        return self._run(self._single, function, args, None)

    def _run(
        self,
        pool: ThreadPool,
        function: Callable[..., T],
        args: tuple[Any, ...],
        undo: Callable[[T], object] | None,
    ) -> Deferred[T]:
        done = Uninterrupted[T]()
        deliver = self._reactor.callFromThread

        def came(success: bool, result: Any) -> None:
            deliver(self._came, done, success, result, undo)

        self._under_way += 1
        if self._over:
            self._at_once(done, function, args, undo)
        else:
            pool.callInThreadWithCallback(came, function, *args)
        return done

    def _at_once(
        self,
        done: Uninterrupted[Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        undo: Callable[[Any], object] | None,
    ) -> None:
        try:
            result = function(*args)
        except Exception:
            self._came(done, False, Failure(), undo)
        else:
            self._came(done, True, result, undo)

    def _came(
        self,
        done: Uninterrupted[Any],
        success: bool,
        result: Any,
        undo: Callable[[Any], object] | None,
    ) -> None:
        self._under_way -= 1
        if done.cancelled:
            if success and undo is not None:
                undo(result)
            done.errback(CancelledError())
        elif success:
            done.callback(result)
        else:
            done.errback(Failure(typed(result.value)))
        idle = self._idle
        if not self._under_way and idle is not None and not idle.called:
            idle.callback(None)


class Threads(Protocol):
    """Where a store's work is done: a ``Disk``, or threads of its own."""

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]: ...


@define(eq=False)
class SmallFiles:
    """Small files on their way to one store, a batch at a time."""

    _disk: Threads
    _store: Store
    _queue: list[tuple[Small, Deferred[Stored]]] = field(factory=list)
    _busy: bool = False

    def put(self, small: Small) -> Deferred[Stored]:
        """Fires with where it is once it is durable; fails with a LanxferError."""
        done: Deferred[Stored] = Deferred()
        self._queue.append((small, done))
        if not self._busy:
            self._next()
        return done

    def _next(self) -> None:
        batch: list[tuple[Small, Deferred[Stored]]] = []
        size = 0
        for small, done in self._queue[: limits.BATCH_FILES]:
            size += small.size
            if batch and size > BATCH_BYTES:
                break
            batch.append((small, done))
        del self._queue[: len(batch)]
        self._busy = bool(batch)
        if not batch:
            return
        working = self._disk.run(self._store.put_many, [small for small, _ in batch])
        working.addBoth(self._came, batch)

    def _came(self, results: Any, batch: list[tuple[Small, Deferred[Stored]]]) -> None:
        self._next()
        if isinstance(results, Failure):
            results = [results] * len(batch)
        for (_small, done), result in zip(batch, results, strict=True):
            if isinstance(result, (Failure, LanxferError)):
                done.errback(result)
            else:
                done.callback(result)
