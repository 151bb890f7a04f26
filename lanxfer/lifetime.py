"""How a connection begins and ends, and stays within bounds, whatever is said on it.

Every end is an end: after an error that closes, nothing more is read, the last
word is written, and a second later the connection is cut if it still stands
(docs/protocol.rst, "Errors").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.backpressure import Backpressure, Reason
from lanxfer.bulk import BulkTLS, way_past
from lanxfer.eager import SMALL, Eager
from lanxfer.errors import Cancelled, LanxferError, Lost, TimedOut, from_wire
from lanxfer.outbox import Awaited, Outbox
from lanxfer.pace import Pace
from lanxfer.policy import UNKNOWN, Principal, Standing
from lanxfer.rates import Metered, Rates
from lanxfer.sessions import Session
from lanxfer.sockets import hung_up
from lanxfer.wire import limits
from lanxfer.wire.packets import Bye

_CLOSED = Failure(ConnectionDone())


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class Lifetime(Backpressure):
    """One connection from its first moment to its last.

    ``identify`` names the principal on the other end; it is called once, when
    that can be known (after the TLS handshake, where the connection is
    ``secure``), and raises the refusal.
    """

    transport: Any  # TCP, UNIX or TLS; Twisted has no one interface for what they share

    def __init__(
        self,
        session: Session,
        clock: IReactorTime,
        identify: Callable[[Any], Principal],
        secure: bool,
        why_lost: Callable[[Failure], LanxferError],
    ) -> None:
        super().__init__(clock)
        self.session = session
        self.principal: Principal | None = None
        self.lost_because: LanxferError | None = None
        self.refused: LanxferError | None = None  # what this side ended it with
        self.may_idle = True  # a caller's own end; one that was let in has ``limits.IDLE_TIMEOUT``
        self._identify = identify
        self._secure = secure
        self._why_lost = why_lost
        self._outbox: Outbox | None = None
        self._eager: Eager | None = None
        self._pace = Pace(clock, self)
        self._rates: Rates | None = None
        self._joined: tuple[Principal, tuple[Metered, Metered]] | None = None
        self._leaving = False
        self._line_since: float | None = None
        self._blocked: float | None = None
        self._cutting: IDelayedCall | None = None
        self._stuck: IDelayedCall | None = None
        self._idle: IDelayedCall | None = None
        self._rested = 0.0
        self._begun: Deferred[None] | None = None
        self._goners: list[Callable[[], object]] = []

    # What the conversation on top says of itself.

    @property
    def busy(self) -> bool:
        """Something is under way that would suffer if the connection closed now."""
        raise NotImplementedError

    @property
    def body_due_since(self) -> float | None:
        """Since when bytes of a body ought to be coming; None if none have to."""
        raise NotImplementedError

    @property
    def asking(self) -> bool:
        """The other side owes an answer, and may be asked whether it lives."""
        raise NotImplementedError

    def ping(self) -> None:
        """Ask it."""
        raise NotImplementedError

    def begun(self) -> None:
        """The other side is known; ``principal`` says who it is."""
        raise NotImplementedError

    def abandon(self, error: LanxferError) -> None:
        """End all that is under way with ``error``."""
        raise NotImplementedError

    def starve(self) -> None:
        """Nothing more will come; what is complete may be answered still."""
        raise NotImplementedError

    def said(self) -> None:
        """A packet was written."""
        raise NotImplementedError

    def settle(self) -> None:
        """Nothing more will come: take the last word that the session has kept, if it has."""
        raise NotImplementedError

    # Beginning.

    def connectionMade(self) -> None:
        if not self._secure:
            self._begin()

    def handshakeCompleted(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pace.received(0)
        try:
            self.principal = self._identify(self.transport)
        except LanxferError as error:
            self.fail(error)
            return
        self._believe(self.principal)
        self._outbox = Outbox(
            self.transport,
            self.session,
            self._backlog,
            self.said,
            way_past(self.transport, self),
        )
        self._outbox.on_blocked = self._on_blocked
        self._outbox.clock = self._clock
        self._quicken(self.principal)
        self._join(self.principal)
        self._wait_for_idle(limits.IDLE_TIMEOUT)
        self.begun()
        self._tell_begun()

    def _believe(self, principal: Principal) -> None:
        self.principal = principal
        if principal.standing not in UNKNOWN and hasattr(self.session, "known"):
            self.session.known = True
        self._quicken(principal)
        self._join(principal)

    def _quicken(self, principal: Principal) -> None:
        """Be eager for those that are known here, or were called from here; not for others."""
        worth = self.may_idle or principal.standing not in UNKNOWN
        if worth and self._eager is None and self._outbox is not None and self._outbox.to_socket:
            self._eager = Eager(self._clock)

    def keep_to(self, rates: Rates) -> None:
        """Be no faster than these let whoever is on the other end be."""
        self._rates = rates

    def _join(self, principal: Principal) -> None:
        """Be metered as one of that principal's connections."""
        if self._rates is None or self._outbox is None or self.gone:
            return
        self._leave_rates()
        meters = self._rates.join(principal)
        self._joined = principal, meters
        self._meter, self._outbox.meter = meters

    def _leave_rates(self) -> None:
        joined, self._joined = self._joined, None
        if joined is not None and self._rates is not None:
            self._rates.leave(*joined)

    def when_begun(self, timeout: float) -> Deferred[None]:
        """Fires when the other side is known, or the connection over; ``timeout`` in seconds."""
        begun: Deferred[None] = Deferred(lambda d: self.abort(Cancelled()))
        if self.principal is not None or self.deaf:
            begun.callback(None)
            return begun
        self._begun = begun
        late = self._clock.callLater(timeout, self.abort, TimedOut())
        begun.addCallback(lambda _: late.cancel() if late.active() else None)
        return begun

    def _tell_begun(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None and not begun.called:
            begun.callback(None)

    def call_later(self, seconds: float, function: Callable[[], object]) -> IDelayedCall:
        """Call a function on this connection's clock; whoever asks for it cancels it."""
        return self._clock.callLater(seconds, function)

    # Keeping within bounds.

    def dataReceived(self, data: bytes) -> None:
        self._pace.received(len(data))
        lines = self.lines
        outbox = self._outbox
        if outbox is None or not outbox.gather():
            super().dataReceived(data)
        else:
            try:
                super().dataReceived(data)
            finally:
                wrote = outbox.flush()
            if wrote and self._eager is not None and len(data) <= SMALL and not self.expected:
                self._eager.turned()
        if not self.line_begun:
            self._line_since = None
        elif self._line_since is None or lines != self.lines:
            self._line_since = self._clock.seconds()
            self.watch()

    @property
    def slowest_out(self) -> int | None:
        """The least of this side's limits on what it sends here, in bytes a second, if any."""
        return None if self._outbox is None else self._outbox.meter.slowest

    def paced(self) -> Deferred[None] | None:
        """Wait until more may be sent, or the connection is over; None: at once.

        For what does not go in parts, and so does not wait by itself: for our rate, and for a
        receiver who reads nothing.
        """
        outbox = self._outbox
        if outbox is None or (outbox.writable and outbox.meter.allowance > 0):
            return None
        turn = Awaited()
        outbox.queue(turn)
        return turn.come

    def rested(self) -> None:
        self._pace.rested()

    def filled(self, size: int) -> None:
        self._pace.received(size)
        super().filled(size)

    def moved(self, size: int) -> None:
        self._pace.received(size)
        super().moved(size)

    def _backlog(self, much: bool) -> None:
        """The other side asks and does not read: stop listening, then give up (catalogue B06)."""
        if much and self._stuck is None:
            self._stuck = self._clock.callLater(limits.REPLIES_TIMEOUT, self.abort, TimedOut())
            self.stop_reading(Reason.ANSWERS)
        elif not much and self._stuck is not None:
            self._stop_timers()
            self._wait_for_idle(limits.IDLE_TIMEOUT)
            self.watch()
            self.over(Reason.ANSWERS)

    def watch(self) -> None:
        """See to it that a connection that stopped moving is noticed (``lanxfer.pace``)."""
        self._pace.watch()

    @property
    def due_since(self) -> float | None:
        """Since when bytes ought to be coming, of a body or of a line that was begun."""
        due = [each for each in (self.body_due_since, self._line_since) if each is not None]
        return min(due) if due else None

    @property
    def blocked_since(self) -> float | None:
        """Since when the transport takes no more; None if it does."""
        full = self._outbox is not None and not self._outbox.writable
        return self._blocked if full else None

    def _on_blocked(self) -> None:
        self._blocked = self._clock.seconds()
        self.watch()

    def _wait_for_idle(self, seconds: float) -> None:
        assert self.principal is not None
        if seconds and not (self.may_idle or self.principal.standing is Standing.LOCAL):
            self._idle = self._clock.callLater(seconds, self._look_idle)

    def _look_idle(self) -> None:
        """End it if nothing was under way and nothing said for so long; nothing else counts."""
        self._idle = None
        if self.deaf or not limits.IDLE_TIMEOUT:
            return
        since = max(self._pace.heard, self._rested)
        left = since + limits.IDLE_TIMEOUT - self._clock.seconds()
        if self.busy:
            left = limits.IDLE_TIMEOUT
        if left > 0:
            self._wait_for_idle(left)
        else:
            self.fail(TimedOut(f"Nothing was said for {limits.IDLE_TIMEOUT:g} s."))

    def _stop_timers(self) -> None:
        self._pace.stop()
        timers = (self._cutting, self._stuck, self._idle)
        self._cutting = self._stuck = self._idle = None
        for each in timers:
            if each is not None and each.active():
                each.cancel()

    # Ending.

    def fail(self, error: LanxferError) -> None:
        """Say what is wrong, end everything with it, and close."""
        if self.deaf:
            return
        self.lost_because = self.lost_because or error
        self.refused = error
        self.deaf = True
        last = self.session.complaint(error)
        if self._outbox is not None:
            self._outbox.write(last)
        elif not self._secure:
            self.transport.write(last)
        self.hang_up()
        # Only now: the answers of what ends with it would come before the reason.
        self.abandon(error)

    def abort(self, error: LanxferError) -> None:
        """Cut the connection; whoever waits on it hears ``error``."""
        self.refused = self.refused or error
        self.lost_because = self.lost_because or error
        self.deaf = True
        self.transport.abortConnection()

    def hang_up(self) -> None:
        """Close once what was written has left; cut a second later if need be."""
        if self.gone:
            return
        self.deaf = True
        if self._outbox is not None:
            self._outbox.close()
        if getattr(self.session, "lingers", False) and not isinstance(self.transport, BulkTLS):
            self._linger()
        else:
            self.transport.loseConnection()
        self._stop_timers()
        self._cutting = self._clock.callLater(limits.ABORT_AFTER, self.transport.abortConnection)

    def _linger(self) -> None:
        """Close our half, and drop what still comes.

        A close with bytes unread would reset the connection, and whoever sends without
        waiting would never read what became of it.
        """
        self.transport.loseWriteConnection()
        if self.paused:
            self.resumeProducing()

    def leave(self, timeout: float) -> Deferred[None]:
        """Ask nothing more, let what is under way finish, close; fires when closed.

        After ``timeout`` seconds the connection is cut.
        """
        if not self.gone:
            self._leaving = True
            cutting = self._clock.callLater(timeout, self.abort, Lost())
            self._goners.append(lambda: cutting.cancel() if cutting.active() else None)
            self.maybe_leave()
        return self.when_gone()

    def when_gone(self) -> Deferred[None]:
        """Fires when the connection is over, at once if it is; each caller has its own."""
        fired: Deferred[None] = Deferred()
        if self.gone:
            fired.callback(None)
        else:
            self._goners.append(lambda: fired.callback(None))
        return fired

    def maybe_leave(self) -> None:
        """Close if there is nothing left to do and no reason to stay."""
        if self.deaf or self.busy:
            return
        self._rested = self._clock.seconds()
        quiet = bool(getattr(self.session, "quiet", False))
        if self._leaving or self.session.finished or quiet:
            self.farewell()

    def farewell(self) -> None:
        """Say that this was all, and close."""
        if not self.session.finished and self._outbox is not None:
            self._outbox.say(Bye(all=True))
        if not self.deaf:
            self.hang_up()

    def peer_left(self) -> None:
        """The other side says nothing more, and may still listen (catalogue B05)."""
        self._leaving = True
        self._reasons.discard(Reason.BODY)
        self.starve()
        self.maybe_leave()

    def readConnectionLost(self) -> None:
        if self._outbox is None or self.deaf:
            self.transport.loseConnection()
        elif hung_up(self.transport):
            # Else it would show with the next word, which what stands still never says.
            self.abort(Lost())
        else:
            self.peer_left()

    def writeConnectionLost(self) -> None:
        """Our own half-close, which was meant (``Session.half_close``)."""

    def why_gone(self) -> LanxferError:
        """What the end of the stream means to our open request."""
        unsaid = self.session.lost()
        if unsaid is None:
            self.settle()
        return Lost() if unsaid is None else from_wire(unsaid.code, unsaid.reason)

    def connectionLost(self, reason: Failure = _CLOSED) -> None:
        self.deaf = self.gone = True
        self.unload()
        self._stop_timers()
        if self.lost_because is None:
            said = self.why_gone()
            self.lost_because = self._why_lost(reason) if type(said) is Lost else said
        if self._outbox is not None:
            self._outbox.close()
        self._leave_rates()
        self.abandon(self.lost_because)
        self._tell_begun()
        goners, self._goners = self._goners, []
        for tell in goners:
            tell()
