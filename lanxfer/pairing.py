"""The answering side of pairing: the window, its one guess, and what comes of it.

A window is open for two minutes and for one guess; a token, where one is set,
always.  Nothing of it is kept anywhere but in memory, so a restart closes the
window (docs/protocol.rst, "Pairing"; catalogue A02, A04, A12).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from lanxfer.codes import Secret, code_secret, new_code
from lanxfer.errors import (
    AuthFailed,
    BadConfig,
    Busy,
    Cancelled,
    Expired,
    Forbidden,
    Internal,
    LanxferError,
    Lost,
    NotPaired,
    Stopping,
)
from lanxfer.keys import short_key
from lanxfer.labels import label_of, pin
from lanxfer.pake import Agreement, Channel, Proofs, Side
from lanxfer.peers import Peer, Peers, parse_name
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

T = TypeVar("T")

WARN_WITHIN = 600.0
"""Seconds within which a second wrong guess is no slip any more."""

WRONG = "Wrong words: they are used up, and nobody was let in. Open a new window for new ones."
LOUD = (
    " THIS IS THE SECOND WRONG GUESS WITHIN TEN MINUTES: SOMEBODY MAY BE TRYING TO GET IN."
    ' "lanxfer peer add" with the key that "lanxfer key show" prints there needs no words.'
)
NO_WINDOW = 'This device takes no pairing just now; type "lanxfer pair" there first.'


@define(eq=False)
class Window:
    """Two minutes in which whoever knows the words is let in.

    ``outcome`` fires with ``peer``, ``key`` and ``once`` when both sides keep
    the other's key; it fails with AuthFailed after a wrong guess, Expired,
    Lost where the other side went in the middle, or Cancelled.
    """

    code: str = field(repr=False)
    once: bool
    name: str | None
    until: float
    outcome: Deferred[Mapping[str, Any]] = field(factory=Deferred)
    late: IDelayedCall | None = None

    def take(self) -> None:
        """Somebody came in time; it does not expire any more."""
        if self.late is not None and self.late.active():
            self.late.cancel()

    def end(self, outcome: Mapping[str, Any] | LanxferError) -> None:
        """Say how it went, once."""
        self.take()
        if self.outcome.called:
            return
        if isinstance(outcome, LanxferError):
            self.outcome.errback(outcome)
        else:
            self.outcome.callback(outcome)


@define(eq=False)
class _Attempt:
    """One exchange; ``window`` is None where the secret is the token."""

    channel: Channel
    window: Window | None
    device: str
    until: float
    proofs: Proofs | None = None
    proven: bool = False

    @property
    def once(self) -> bool:
        return self.window is not None and self.window.once


class Pairing:
    """See the module.  ``in_thread`` runs what computes or writes; ``token`` is the fleet's."""

    log = Logger()

    def __init__(
        self,
        own_key: str,
        device: str,
        peers: Peers,
        clock: IReactorTime,
        in_thread: Callable[..., Awaitable[Any]],
        token: Secret | None = None,
    ) -> None:
        self._own_key = own_key
        self._device = device
        self._peers = peers
        self._clock = clock
        self._in_thread = in_thread
        self._token = token
        self._window: Window | None = None
        self._attempt: _Attempt | None = None
        self._granted: dict[str, tuple[float, str]] = {}
        self._failed_at: float | None = None

    # For the owner of this device.

    def open(self, once: bool = False, name: str | None = None) -> Window:
        """Open a window; one that was open is closed.

        ``name`` is what the device that comes will be called here; BadConfig
        where somebody is called that.
        """
        if name is not None:
            name = parse_name(name)
            if any(each.name == name for each in self._peers.all()):
                raise BadConfig(f"Somebody is called {name!r} already.")
        if self._window is not None:
            self.close(self._window, Cancelled('Another "lanxfer pair" took the place of this.'))
        window = Window(new_code(), once, name, self._clock.seconds() + limits.PAIR_WINDOW)
        window.late = self._clock.callLater(limits.PAIR_WINDOW, self._expire, window)
        self._window = window
        return window

    async def watch(self, window: Window, tell: Callable[[Args], object]) -> Mapping[str, Any]:
        """The outcome of a window; cancelling closes it.

        ``tell`` hears the words, and now and then how many seconds are left: that is
        how a connection that is gone comes to light, and its window closes.
        """
        tell({"words": window.code.split("-"), "seconds": round(limits.PAIR_WINDOW)})
        ticking = LoopingCall(
            lambda: tell({"seconds": round(max(0.0, window.until - self._clock.seconds()))})
        )
        ticking.clock = self._clock
        ticking.start(limits.PAIR_TICK, now=False)
        try:
            return await window.outcome
        except CancelledError:
            raise Cancelled() from None
        finally:
            ticking.stop()
            self.close(window)

    def close(self, window: Window, error: LanxferError | None = None) -> None:
        """Let nobody try any more; fine where it is over already."""
        if self._window is window:
            self._window = None
        if self._attempt is not None and self._attempt.window is window:
            self._attempt = None
        window.end(error or Cancelled())

    def stop(self) -> None:
        """The service is being stopped."""
        self._token = None
        self._granted.clear()
        attempt = self._attempt
        for window in (self._window, attempt.window if attempt is not None else None):
            if window is not None:
                self.close(window, Stopping("The service is being stopped."))

    def _expire(self, window: Window) -> None:
        attempt = self._attempt
        left = attempt.until - self._clock.seconds() if attempt is not None else 0.0
        if attempt is not None and attempt.window is window and left > 0:
            # It came in time.
            window.late = self._clock.callLater(left, self._expire, window)
            return
        self.close(window, Expired("Nobody came with the words in two minutes; they are void."))

    # For the door.

    @property
    def welcomes(self) -> bool:
        """Whether an unknown device may try."""
        return self._window is not None or self._token is not None

    @property
    def showing(self) -> bool:
        """Whether words are shown just now."""
        return self._window is not None

    def use_grant(self, key: str) -> str | None:
        """The label of a device that was let in for this one connection; good once."""
        until, label = self._granted.pop(key, (0.0, ""))
        return label if until > self._clock.seconds() else None

    # For the device that comes.

    async def begin(self, channel: Channel, kind: str, share: str, device: str) -> tuple[str, bool]:
        """Our half of the exchange, and whether it is for once.

        Raises NotPaired where no window is open or no token set, Busy while
        another exchange runs, BadHeader for a share that is none.
        """
        secret, window = self._secret(kind)
        now = self._clock.seconds()
        if self._attempt is not None and now < self._attempt.until:
            raise Busy("Another device is being paired there just now.")
        attempt = _Attempt(channel, window, device, now + limits.PAIR_EXCHANGE)
        self._attempt = attempt
        try:
            ours, attempt.proofs = await self._in_thread(
                self._agree, secret, channel, share, attempt.once
            )
        except BaseException:
            self._drop(attempt)
            raise
        await self._until(now + limits.PAIR_REPLY)
        if self._attempt is not attempt:
            raise NotPaired(NO_WINDOW)
        return ours, attempt.once

    async def prove(self, channel: Channel, proof: str) -> str:
        """Our proof, for a right one.

        Raises AuthFailed for a wrong one, after which the words are used up,
        and Forbidden where no exchange of this connection is under way.
        """
        now = self._clock.seconds()
        attempt = self._of(channel, proven=False)
        assert attempt.proofs is not None
        window = attempt.window
        if window is not None:
            # The one guess, whatever it is worth.
            self._window = None
        if not attempt.proofs.check(proof):
            self._drop(attempt)
            if window is not None:
                window.end(AuthFailed(self._wrong()))
            self.log.warn(
                "A device failed to pair: {key}, with the {by}",
                event="pairing_failed",
                key=short_key(channel.peer),
                by="token" if window is None else "words",
            )
            await self._until(now + limits.PAIR_REPLY)
            raise AuthFailed("That was not the right secret; words are used up by one guess.")
        attempt.proven = True
        attempt.until = now + limits.PAIR_EXCHANGE
        self._clock.callLater(limits.PAIR_EXCHANGE, self._abandon, attempt)
        await self._until(now + limits.PAIR_REPLY)
        return attempt.proofs.ours

    async def keep(self, channel: Channel) -> None:
        """The other side keeps our key: keep its, or let it come once."""
        attempt = self._of(channel, proven=True)
        self._attempt = None
        window, key = attempt.window, channel.peer
        if window is not None:
            window.take()
        try:
            if attempt.once:
                label = f"{label_of(attempt.device, key)} (once)"
                self._grant(key, label)
            else:
                label = await self._pin(attempt)
        except Exception as error:
            if window is not None:
                window.end(error if isinstance(error, LanxferError) else Internal())
            raise
        self.log.info(
            "Paired with {peer_name}, {key}", event="paired", peer_name=label, key=short_key(key)
        )
        if window is not None:
            window.end({"peer": label, "key": key, "once": attempt.once})

    # How.

    async def _pin(self, attempt: _Attempt) -> str:
        window, key = attempt.window, attempt.channel.peer
        known = self._peers.by_key(key)
        name = window.name if window is not None else None
        kept: Peer = await self._in_thread(pin, self._peers, key, attempt.device, name)
        if window is not None and window.outcome.called:
            # Its owner has taken it back in this very moment, and been told so.
            if known is None:
                await self._in_thread(self._peers.forget, kept.name)
            raise NotPaired(NO_WINDOW)
        return kept.name

    def _secret(self, kind: str) -> tuple[Secret, Window | None]:
        if kind == "code" and self._window is not None:
            return code_secret(self._window.code), self._window
        if kind == "token" and self._token is not None:
            return self._token, None
        raise NotPaired(NO_WINDOW)

    def _agree(
        self, secret: Secret, channel: Channel, share: str, once: bool
    ) -> tuple[str, Proofs]:
        agreement = Agreement(Side.ANSWERING, secret, self._own_key, channel)
        return agreement.share, agreement.finish(share, once)

    def _of(self, channel: Channel, proven: bool) -> _Attempt:
        attempt = self._attempt
        if (
            attempt is None
            or attempt.channel != channel
            or attempt.proofs is None
            or attempt.proven is not proven
            or self._clock.seconds() >= attempt.until
        ):
            raise Forbidden("No pairing of this connection has come that far, or it took too long.")
        return attempt

    def _drop(self, attempt: _Attempt) -> None:
        if self._attempt is attempt:
            self._attempt = None

    def _abandon(self, attempt: _Attempt) -> None:
        if self._attempt is attempt:
            self._attempt = None
            if attempt.window is not None:
                attempt.window.end(
                    Lost("The other device knew the words, but went before it kept this key.")
                )

    def _grant(self, key: str, label: str) -> None:
        now = self._clock.seconds()
        self._granted = {each: row for each, row in self._granted.items() if row[0] > now}
        self._granted[key] = (now + limits.PAIR_GRANT, label)

    def _wrong(self) -> str:
        now, before = self._clock.seconds(), self._failed_at
        self._failed_at = now
        return WRONG + (LOUD if before is not None and now - before < WARN_WITHIN else "")

    async def _until(self, moment: float) -> None:
        wait = moment - self._clock.seconds()
        if wait > 0:
            await deferLater(self._clock, wait, lambda: None)
