"""Cancelling, sharing and settling: what is done with Deferreds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from lanxfer.deferreds import as_deferred, public, settled
from lanxfer.errors import Cancelled, NotFound, ShortBody
from tests.test_calls import outcome


class PublicTests:
    @pytest.mark.parametrize("within", [True, False])
    def test_cancelled(self, within: bool) -> None:
        """From outside or by something that it calls: it hears of it, once, and says so."""
        start: Deferred[None] = Deferred()
        waiting: Deferred[None] = Deferred()
        telling: Deferred[None] = Deferred()
        heard = []

        async def work() -> None:
            await start
            if within:
                cancel()
            try:
                await waiting
            except CancelledError:
                heard.append("cancelled")
                await telling  # the other side gets to know of it
                heard.append("told")
                raise

        result = public(work())
        cancel = result.cancel
        start.callback(None)
        if not within:
            cancel()
        found = outcome(result)
        assert heard == ["cancelled"] and found == []
        telling.callback(None)
        assert heard == ["cancelled", "told"]
        assert found[0].check(Cancelled)

    def test_result(self) -> None:
        """Without a cancel nothing is changed: values, errors, what was there already."""

        async def work(error: Exception | None) -> int:
            value = await succeed(1)
            try:
                await fail(ValueError())
            except ValueError:
                value += 1
            if error is not None:
                raise error
            return value

        assert outcome(public(work(None))) == [2]
        assert outcome(public(work(NotFound())))[0].check(NotFound)


class WaitingTests:
    @pytest.mark.parametrize("how", ["callback", "errback", "cancel"])
    def test_settled(self, how: str) -> None:
        """Whoever waits for the end of something leaves its result alone."""
        running: Deferred[int] = Deferred()
        told = outcome(settled(running))
        results: list[Any] = []
        running.addBoth(results.append)
        ends: dict[str, Callable[[], object]] = {
            "callback": lambda: running.callback(5),
            "errback": lambda: running.errback(ShortBody()),
            "cancel": running.cancel,
        }
        ends[how]()
        assert told == [None]
        assert len(results) == 1

    def test_as_deferred(self) -> None:
        """A Deferred stays what it is, a coroutine becomes one."""
        done = succeed(1)
        assert as_deferred(done) is done

        async def five() -> int:
            return 5

        assert outcome(as_deferred(five())) == [5]
