"""Trying again: after what, how often, and what is said of what was given up meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from lanxfer.errors import (
    Busy,
    Cancelled,
    ClearBroken,
    LanxferError,
    Lost,
    Overloaded,
    RateLimited,
    ShortBody,
    Stopping,
    TimedOut,
    Unreachable,
)
from lanxfer.offering import maybe_arrived
from lanxfer.packing import AGAIN_ONCE
from lanxfer.registry import Transfer, outcome
from lanxfer.sending import as_stored
from lanxfer.transfers import Receipt, State

PATIENCE = 60.0
"""Seconds without any progress after which a broken connection is given up."""

AGAIN = (
    *(Lost, ClearBroken, TimedOut, ShortBody, Stopping),
    *(Busy, Overloaded, RateLimited, Unreachable),
)
"""What may be over soon."""
UNKNOWN = (Lost, TimedOut)
"""After these nobody here knows whether it arrived."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
"""Seconds between two tries."""


class Retrying:
    """The tries of one client, for ``patience`` seconds each time nothing moves.

    What one file of many has waited for in vain, the others need not: they are ``hopeless``
    until there is a connection again.  ``closed`` tells whether the client is.
    """

    def __init__(self, clock: IReactorTime, patience: float, closed: Callable[[], bool]) -> None:
        self.patience = patience
        self.hopeless = False
        self._clock = clock
        self._closed = closed

    async def persist(
        self,
        attempt: Callable[[bool], Coroutine[Any, Any, Receipt]],
        transfer: Transfer,
        once: bool = False,
        unsure: bool = False,
    ) -> Receipt:
        """Try until there is a verdict, or nothing is to be hoped for, and retire the transfer.

        ``attempt`` is told whether an earlier one may have arrived: one that was
        cancelled is then settled with the other side and not just forgotten.  ``unsure``
        says so of the first: it was sent before, with others.  What may be tried ``once`` only
        is not tried again.
        """
        delay, tries, done = FIRST_PAUSE, 0, 0
        since = self._clock.seconds()
        while True:
            settling = unsure and transfer.given_up is not None
            try:
                receipt = await attempt(unsure)
            except CancelledError:
                transfer.retire(State.CANCELLED, error=Cancelled())
                raise
            except LanxferError as error:
                tries += 1
                if isinstance(error, Cancelled) and unsure and not (settling or once):
                    # It speaks of this try alone; what became of an earlier one is asked now.
                    transfer.given_up = error
                    error = Lost()
                unsure = unsure or isinstance(error, UNKNOWN)
                if transfer.snapshot.done > done:
                    done, delay = transfer.snapshot.done, FIRST_PAUSE
                    since = self._clock.seconds()
                waited = self._clock.seconds() - since
                patient = self._patient(error, waited + delay, tries)
                given_up = transfer.given_up
                if given_up is not None and isinstance(error, (*AGAIN, *AGAIN_ONCE)):
                    error = _given_up(given_up, unsure)
                    patient = patient and unsure and isinstance(given_up, Cancelled)
                if once or self._closed() or not patient:
                    transfer.retire(outcome(error), error=error)
                    raise error from None
            except BaseException:
                transfer.retire(State.FAILED, error=LanxferError())
                raise
            else:
                transfer.retire(State.DONE, stored=as_stored(receipt))
                return receipt
            await self._pause(delay, transfer, unsure)
            # A link that comes and goes by the second is not to be slept through.
            delay = min(delay * 2, max(1.0, waited / 4), LONGEST_PAUSE)

    def _patient(self, error: LanxferError, waited: float, tries: int) -> bool:
        """Whether it is worth another try, which will have waited so many seconds."""
        patient = isinstance(error, AGAIN) and waited < self.patience
        if isinstance(error, (Lost, Unreachable)):
            self.hopeless = self.hopeless or not patient
            patient = patient and not self.hopeless
        return patient or (isinstance(error, AGAIN_ONCE) and tries < 3)

    async def _pause(self, delay: float, transfer: Transfer, unsure: bool) -> None:
        """Wait before the next try; a cancel ends the waiting.

        With it the transfer is over, unless it may have arrived: then the next try
        finds out, and a second cancel ends that.
        """
        transfer.again()
        waiting: Deferred[None] = deferLater(self._clock, delay, lambda: None)
        before = transfer.given_up
        told: list[LanxferError] = []

        def cancel(error: LanxferError) -> None:
            told.append(error)
            waiting.cancel()

        transfer.on_cancel = cancel
        try:
            await waiting
        except CancelledError:
            error = told[0] if told else Cancelled()
            if told and unsure and before is None and isinstance(error, Cancelled):
                return
            error = _given_up(error, unsure)
            transfer.retire(outcome(error), error=error)
            raise error from None


def _given_up(error: LanxferError, unsure: bool) -> LanxferError:
    """What to say of something that was cancelled and may have arrived all the same."""
    if unsure and isinstance(error, Cancelled):
        return maybe_arrived()
    return error
