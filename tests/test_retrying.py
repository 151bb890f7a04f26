"""Tries, pauses between them, and the end of patience."""

from __future__ import annotations

from itertools import count, pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from lanxfer.errors import (
    Busy,
    Cancelled,
    DigestMismatch,
    Forbidden,
    LanxferError,
    Lost,
    Unreachable,
)
from lanxfer.registry import Registry, Transfer
from lanxfer.retrying import FIRST_PAUSE, LONGEST_PAUSE, Retrying
from lanxfer.transfers import Direction, Kind, Receipt, State

RECEIPT = Receipt("a.txt", 10, "af" * 32)
NOBODY_KNOWS = "may have arrived"


class Desk:
    """A client's tries on a clock that is moved by hand; ``answers`` says how they end."""

    def __init__(self, *answers: LanxferError | Receipt, patience: float = 60.0) -> None:
        self.clock = Clock()
        numbers = count(1)
        self.registry = Registry(self.clock.seconds, lambda: f"id{next(numbers)}", print)
        self.closed = False
        self.retrying = Retrying(self.clock, patience, lambda: self.closed)
        self.answers = list(answers)
        self.tries: list[tuple[float, bool]] = []
        self.moves = 0

    async def attempt(self, unsure: bool) -> Receipt:
        self.tries.append((self.clock.seconds(), unsure))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, LanxferError):
            raise answer
        return answer

    def send(self, **how: Any) -> tuple[Transfer, list[Any]]:
        transfer = self.registry.open(Direction.OUT, Kind.FILE, "peer:a", "a.txt", 10)
        found: list[Any] = []
        work = self.retrying.persist(self.attempt, transfer, **how)
        Deferred.fromCoroutine(work).addBoth(found.append)
        return transfer, found

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.25] * int(seconds * 4))


class RetryingTests:
    def test_goes_on(self) -> None:
        """After a break it is tried again, sooner at first, and told that it may have arrived."""
        # covers: B09
        desk = Desk(Lost(), Lost(), Busy(), RECEIPT)
        transfer, found = desk.send()
        desk.pass_time(10)
        assert found == [RECEIPT]
        assert [at for at, _ in desk.tries] == [0.0, 0.25, 0.75, 1.75]
        assert [unsure for _, unsure in desk.tries] == [False, True, True, True]
        assert transfer.snapshot.state is State.DONE

    def test_patience(self) -> None:
        """It ends when nothing moved for so long, and pauses are never longer than the longest."""
        desk = Desk(Lost(), patience=60.0)
        _, found = desk.send()
        desk.pass_time(100)
        assert found[0].check(Lost)
        times = [at for at, _ in desk.tries]
        pauses = [after - before for before, after in pairwise(times)]
        assert times[-1] < 60.0 <= times[-1] + LONGEST_PAUSE * 2
        assert pauses[0] == FIRST_PAUSE and max(pauses) <= LONGEST_PAUSE

    def test_others_need_not_wait(self) -> None:
        """What one has waited for in vain the others do not, until there is a connection again."""
        desk = Desk(Unreachable(), patience=5.0)
        _, first = desk.send()
        desk.pass_time(10)
        assert first[0].check(Unreachable)
        _, second = desk.send()
        assert second[0].check(Unreachable)
        desk.retrying.hopeless = False
        _, third = desk.send()
        assert not third

    @pytest.mark.parametrize(("error", "tries"), [(Forbidden(), 1), (DigestMismatch(), 3)])
    def test_worth_it(self, error: LanxferError, tries: int) -> None:
        """A refusal is a verdict; a file that changed meanwhile is read three times."""
        desk = Desk(error)
        transfer, found = desk.send()
        desk.pass_time(100)
        assert found[0].check(type(error)) and transfer.state.finished
        assert len(desk.tries) == tries

    @pytest.mark.parametrize("why", ["once", "closed"])
    def test_only_once(self, why: str) -> None:
        """A message is not sent twice, and a client that was closed tries nothing again."""
        desk = Desk(Lost())
        desk.closed = why == "closed"
        _, found = desk.send(once=why == "once")
        assert found[0].check(Lost) and len(desk.tries) == 1

    @pytest.mark.parametrize("unsure", [False, True])
    def test_cancelled_at_first(self, unsure: bool) -> None:
        """Cancelled in its first try it is over, unless it was sent before: then that is asked."""
        # covers: C06
        desk = Desk(Cancelled(), RECEIPT)
        transfer, found = desk.send(unsure=unsure)
        if unsure:
            assert not found
            desk.pass_time(1)
            assert found == [RECEIPT] and transfer.given_up is not None
        else:
            assert found[0].check(Cancelled) and NOBODY_KNOWS not in str(found[0].value)

    @pytest.mark.parametrize("again", [False, True])
    def test_cancelled_between(self, again: bool) -> None:
        """A cancel in a pause has the next try find out, and a second one ends that as well."""
        # covers: C06 C07
        desk = Desk(Lost(), Lost())
        transfer, found = desk.send()
        transfer.cancel(Cancelled())
        assert not found and len(desk.tries) == 2
        if again:
            transfer.cancel(Cancelled())
            assert len(desk.tries) == 2
        else:
            desk.pass_time(100)
        assert found[0].check(Cancelled) and NOBODY_KNOWS in str(found[0].value)
