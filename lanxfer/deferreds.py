"""What Deferreds and coroutines need here besides what Twisted has: cancelling, above all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from types import coroutine
from typing import Any, Generic, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred

from lanxfer.errors import Cancelled, LanxferError, Lost

T = TypeVar("T")


def as_deferred(waiting: Awaitable[T]) -> Deferred[T]:
    """A Deferred for anything that can be awaited here."""
    if isinstance(waiting, Deferred):
        return waiting
    return Deferred.fromCoroutine(cast("Coroutine[Deferred[Any], Any, T]", waiting))


def public(work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """A coroutine as a Deferred whose cancellation shows as ``Cancelled``.

    It may be cancelled from within what the coroutine calls, such as ``on_progress``.
    """
    made: list[Deferred[T]] = []

    async def run() -> T:
        try:
            return await _heeding(work, made)
        except CancelledError:
            raise Cancelled() from None

    made.append(Deferred.fromCoroutine(run()))
    return made[0]


@coroutine
def _heeding(
    work: Coroutine[Deferred[Any], Any, T], made: Sequence[Deferred[T]]
) -> Generator[Deferred[Any], Any, T]:
    """``work``, which hears of a cancel that came while it ran: Twisted cancels what is waited for.

    ``made`` is the Deferred of it all, as soon as there is one.
    """
    go_on, value = work.send, None
    while True:
        before = bool(made) and made[0].called
        try:
            waiting = go_on(value)
        except StopIteration as end:
            return cast(T, end.value)
        if made and made[0].called and not before:
            waiting.cancel()
        try:
            value = yield waiting
            go_on = work.send
        except BaseException as error:
            value = error
            go_on = work.throw


def own_cancel(inner: Deferred[T]) -> Deferred[T]:
    """Fires as ``inner`` does, but cancelled it always fails with CancelledError.

    Endpoints turn a cancellation into errors of their own, and a caller who
    tries again after errors would never learn that it was to stop.
    """

    def cancel(outer: Deferred[T]) -> None:
        outer.errback(CancelledError())
        inner.cancel()

    def pass_on(result: Any) -> None:
        if not outer.called:
            outer.callback(result)

    outer: Deferred[T] = Deferred(cancel)
    inner.addBoth(pass_on)
    return outer


class Shared(Generic[T]):
    """One attempt at a time to make something, shared by all who ask for it meanwhile."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._waiting: list[Deferred[T]] | None = None

    async def get(self) -> T:
        """What ``make`` gives; whoever waits for another's attempt fails as that does.

        Where the one who makes it is cancelled the others fail with Lost.
        """
        if self._waiting is not None:
            told: Deferred[T] = Deferred()
            self._waiting.append(told)
            return await told
        self._waiting = []
        end: T | LanxferError
        try:
            made = end = await self._make()
        except BaseException as error:
            end = error if isinstance(error, LanxferError) else Lost()
            raise
        finally:
            waiting, self._waiting = self._waiting, None
            for each in waiting:
                if not each.called:
                    each.errback(end) if isinstance(end, LanxferError) else each.callback(end)
        return made


def settled(running: Deferred[Any]) -> Deferred[None]:
    """Fires when ``running`` has, however that went, and leaves its result alone."""
    told: Deferred[None] = Deferred()

    def tell(result: Any) -> Any:
        if not told.called:
            told.callback(None)
        return result

    running.addBoth(tell)
    return told
