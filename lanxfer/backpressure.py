"""When a connection is read, and when it is not: backpressure, from wherever it comes.

What is not read stays in the sender's system, and TCP tells it to wait.  That
bounds the memory of this side (catalogue J16), keeps connections to their rates,
and gives each of them its turn.
"""

from __future__ import annotations

from enum import Enum, auto

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from lanxfer.rates import UNMETERED, Metered
from lanxfer.receiver import PacketReceiver
from lanxfer.turns import Turns
from lanxfer.wire import limits


class Reason(Enum):
    """Why nothing is read, apart from memory."""

    TURN = auto()
    """Others have theirs."""
    RATE = auto()
    """It would be faster than it may."""
    BODY = auto()
    """Nobody knows yet what the next bytes belong to."""
    ANSWERS = auto()
    """The other side does not read what it asked for."""


class Backpressure(PacketReceiver):
    """A receiver that reads no more than memory, rates and the turns of others allow."""

    gone = False
    """The connection is over."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._reasons: set[Reason] = set()
        self._turns = Turns(clock)
        self._meter: Metered = UNMETERED
        self._weight = 0
        self._packs = 0
        self._lapsed = False
        self._lapsing: IDelayedCall | None = None

    def rested(self) -> None:
        """It is read again; meanwhile nothing could have come.

        Not said after a turn of the others, which takes no time that counts.
        """
        raise NotImplementedError

    def stop_reading(self, reason: Reason) -> None:
        """Read nothing until that reason is ``over``."""
        self._reasons.add(reason)
        if not self.paused:
            self.pauseProducing()

    def over(self, reason: Reason) -> None:
        """Read on, unless there is another."""
        if reason in self._reasons:
            self._reasons.discard(reason)
            self.weigh()

    def waits(self, reason: Reason) -> bool:
        """Whether that is one of the reasons not to read."""
        return reason in self._reasons

    def _may_read(self) -> bool:
        return not (self.deaf or self._reasons)

    def _read_on(self) -> None:
        if not self.paused or not self._may_read():
            return
        if self.behind:  # by now
            self.weigh()
        else:
            self.rested()
            self.resumeProducing()

    # Turns.

    def take_turns(self, turns: Turns) -> None:
        """Share the reactor with the others that have these."""
        self._turns = turns

    def turn_over(self) -> None:
        """Let the others have their turn before the rest of what is here is read."""
        if not (self.waits(Reason.TURN) or self.deaf):
            self.stop_reading(Reason.TURN)
            self._turns.queue(self._on_turn)

    def _on_turn(self) -> None:
        self._reasons.discard(Reason.TURN)
        if self.paused and self._may_read() and not self.behind:
            self.resumeProducing()

    # Rates.

    @property
    def meter(self) -> Metered:
        """What it may read, and how fast; for what is read in its name elsewhere, too."""
        return self._meter

    @property
    def window(self) -> int:
        """What may be on the way of one file that is received: a second's worth, if this is slow.

        Else the sender's system and this one's would take all of it at once.
        """
        slowest = self._meter.slowest
        if slowest is None:
            return limits.WINDOW
        return min(max(slowest, limits.WINDOW_LEAST), limits.WINDOW)

    def read_most(self) -> int:
        """Bytes that may be read now; some come even where that is 0, and are counted."""
        return self._meter.allowance

    def space(self) -> memoryview | None:
        space = super().space()
        if space is None:
            return None
        most = self._meter.allowance
        return space[:most] if most > 0 else None

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self._spend(len(data))

    def filled(self, size: int) -> None:
        super().filled(size)
        self._spend(size)

    def moved(self, size: int) -> None:
        super().moved(size)
        self._spend(size)

    def _spend(self, size: int) -> None:
        """So many bytes were read: read no more until there may be more."""
        self._meter.spend(size)
        if size and not self.deaf and self._meter.allowance <= 0 and not self.waits(Reason.RATE):
            self.stop_reading(Reason.RATE)
            self._meter.ask(lambda: self.over(Reason.RATE))

    # Memory.

    @property
    def behind(self) -> bool:
        """So much waits for the disk that nothing more should be read."""
        return self._weight > limits.UNWRITTEN_MAX or (self._over_share and not self._lapsed)

    @property
    def _over_share(self) -> bool:
        return self._packs > self._turns.share

    def weigh(self, change: int = 0) -> None:
        """So many bytes more, or fewer, wait for the disk: stop reading at too many (J16)."""
        self._weight += change
        if self._over_share and not (self._lapsed or self._lapsing or self.gone):
            self._lapsing = self._clock.callLater(limits.PACKS_PATIENCE, self._lapse)
        if not self.paused:
            if self.behind:
                self.pauseProducing()
        elif self._weight <= limits.UNWRITTEN_MAX // 2 and not self.behind and self._may_read():
            # Not at once: this may be a call from within the reading of a chunk.
            self._clock.callLater(0, self._read_on)

    def load(self, change: int) -> None:
        """``weigh`` for a pack, which is there as a whole: of all connections there are few."""
        self._packs += change
        self._turns.loaded(self, 0 if self.gone else self._packs)
        if change < 0:
            self._lapsed = False
            self._stop_lapsing()
        self.weigh(change)

    def unload(self) -> None:
        """The connection is over: what it has here takes nothing from the others any more."""
        self._stop_lapsing()
        self._turns.loaded(self, 0)

    def _lapse(self) -> None:
        """Nothing was stored for long: read on, for whoever is not answered takes us for dead."""
        self._lapsing = None
        self._lapsed = True
        if not self.behind:
            self._read_on()

    def _stop_lapsing(self) -> None:
        lapsing, self._lapsing = self._lapsing, None
        if lapsing is not None:
            lapsing.cancel()
