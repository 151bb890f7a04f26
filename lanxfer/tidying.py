"""A service that runs for months forgets what is too old, as one does that is started anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from lanxfer.deferreds import settled
from lanxfer.disk import Disk
from lanxfer.errors import LanxferError
from lanxfer.journal import Journal
from lanxfer.storage import Store
from lanxfer.wire import limits

EVERY = 6 * 3600.0
"""Seconds; a part may become so much older than ``limits.PART_LIFETIME``."""


@define(eq=False)
class Tidying:
    """Removes old parts and old history now and then, in a disk thread (catalogue K10, R13).

    ``also`` are other places to tidy, each by itself.
    What goes wrong is logged, and tried again the next time.
    """

    _clock: IReactorTime
    _disk: Disk
    _store: Store
    _journal: Journal
    _log: Logger
    _also: Sequence[Callable[[], Deferred[int]]] = ()
    _next: IDelayedCall | None = None
    _now: Deferred[None] | None = field(default=None)

    def also(self, places: Sequence[Callable[[], Deferred[int]]]) -> None:
        """Have these be the other places."""
        self._also = places

    def start(self) -> None:
        """Begin, a while from now: whoever starts has just tidied."""
        self._next = self._clock.callLater(EVERY, self._tidy)

    async def stop(self) -> None:
        """Do nothing more; waits for what is under way."""
        waiting, self._next = self._next, None
        if waiting is not None and waiting.active():
            waiting.cancel()
        if self._now is not None:
            await settled(self._now)

    def _tidy(self) -> None:
        self._now = Deferred.fromCoroutine(self._both())

    async def _both(self) -> None:
        await self._try(lambda: self._disk.run(self._store.tidy, limits.PART_LIFETIME))
        await self._try(lambda: self._disk.run_reserved(self._journal.prune))
        for each in self._also:
            await self._try(each)
        self._now = None
        if self._next is not None:
            self.start()

    async def _try(self, work: Callable[[], Deferred[int]]) -> None:
        try:
            await work()
        except LanxferError as error:
            self._log.error(
                "Tidying did not work: {reason}", event="tidying_failed", reason=error.reason
            )
