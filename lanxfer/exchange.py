"""A request of ours on one connection, from asking until its one answer.

What the other side makes of a request is an ``IncomingCall`` (``lanxfer.calls``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from lanxfer.bodies import BodySender
from lanxfer.clear_out import ClearOut
from lanxfer.disk import Disk
from lanxfer.errors import BadHeader, Cancelled, ClearBroken, LanxferError, Lost
from lanxfer.in_turn import Turn
from lanxfer.outbox import Outbox
from lanxfer.storage.sources import Source
from lanxfer.streams import Inflow, Outflow
from lanxfer.wire.packets import Args, Cancel, End, Event, Go, Take, Window
from lanxfer.wire.packets import Part as PartPacket


@frozen
class Answer:
    """An answer: its fields, and its body where it had one.

    ``error`` is the refusal where somebody wanted to have that as an answer, too.
    """

    args: Args
    body: bytes = b""
    error: LanxferError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def flags(self) -> int:
        """The number that an application's command answered with; 0 where it named none."""
        flags = self.args.get("flags", 0)
        return flags if type(flags) is int else 0


_ENOUGH = Cancelled("The other side answered before it had read all.")


class Exchange:
    """A request of ours on its way, until its one answer."""

    def __init__(self, id: int, outbox: Outbox | None, on_event: Callable[[Args], None] | None):
        self.id = id
        self._outbox = outbox
        self._on_event = on_event
        self._waiting: list[Deferred[Answer]] = []

    # See ``IncomingCall``: what only files and streams need.
    inflow: Inflow | None = None
    outflow: Outflow | None = None
    _outcome: Answer | LanxferError | None = None
    _going: Deferred[Go] | None = None
    _go: Go | None = None
    _sender: BodySender | None = None
    _turn: Turn | None = None
    _gave_up: LanxferError | None = None
    _way: ClearOut | None = None
    _granted = 0
    _paused = False
    _taken = 0
    _window = 0

    def streams(self, writes: bool, window: int) -> None:
        """Let bytes go with it: out where it ``writes``, in where a ``window`` was granted."""
        assert self._outbox is not None
        if window:
            self._window = window
            self.inflow = Inflow(self._took)
        if writes:
            self.outflow = Outflow(
                self._outbox, lambda at, size: PartPacket(self.id, at, size), credit=0
            )

    def _took(self, size: int) -> None:
        self._taken += size
        if self._taken >= self._window // 4 and self._outcome is None and self._outbox is not None:
            taken, self._taken = self._taken, 0
            self._outbox.say(Take(self.id, taken))

    def finish(self) -> None:
        """All that was written is all there is."""
        if self.outflow is not None and self._outbox is not None:
            outbox = self._outbox
            self.outflow.when_sent(lambda size: outbox.say(End(self.id, size, None)))

    def answered(self) -> Deferred[Answer]:
        """Fires with the Answer; fails with the LanxferError the other side named, or Lost.

        Each caller has its own.  Cancelling it cancels the request there.
        """
        waiting: Deferred[Answer] = Deferred(lambda d: self.cancel(Cancelled()))
        self.tell(waiting)
        return waiting

    def tell(self, waiting: Deferred[Answer]) -> None:
        """Have somebody's own Deferred fire as ``answered`` would."""
        self._waiting.append(waiting)
        if self._outcome is not None:
            self._tell()

    def going(self) -> Deferred[Go]:
        """Fires with the Go of a file's receiver; fails as ``answered`` does.

        An answer without a go is BadHeader.  Cancelling it cancels the request.
        """
        self._going = Deferred(lambda d: self.cancel(Cancelled()))
        self._tell()
        return self._going

    def send_body(
        self,
        disk: Disk,
        source: Source,
        offset: int,
        on_progress: Callable[[int], None],
        way: ClearOut | None = None,
    ) -> Deferred[str]:
        """Send the rest of ``source`` and its end; fires with the digest when all is written.

        With a ``way`` the bytes go there, in clear, and only the end goes here.

        To be called after ``going`` fired.  Closes ``source``.  Fails as
        ``BodySender.send`` does, or with the refusal; the answer still comes.
        """
        assert self._outbox is not None and self._go is not None
        credit = self._go.window + self._granted
        outbox = self._outbox if way is None else way.outbox
        self._way = way
        self._turn = Turn(outbox, self.id, offset, credit, on_progress)
        self._turn.pause(self._paused)
        self._sender = BodySender(disk, source, offset)
        self._turn.lends(disk, self._sender)
        sending = self._sender.send(self._turn)
        if way is not None:
            way.on_lost = partial(self._sender.stop, ClearBroken())
        over = self._outcome if isinstance(self._outcome, LanxferError) else self._gave_up
        if over is not None:
            self._sender.stop(over)
        sending.addCallbacks(self._sent, self._unsent, callbackArgs=(source.size,))
        return sending

    def _sent(self, digest: str, size: int) -> str:
        self._sender = None
        self.end_body(size, digest)
        return digest

    def _unsent(self, why: Failure) -> Failure:
        self._sender = None
        error = why.value
        if self._way is not None and isinstance(error, Lost):
            error = ClearBroken()  # of the connection in clear; this one may be there
        if isinstance(error, LanxferError):
            self.cancel(error)
        return why

    def end_body(self, size: int, digest: str) -> None:
        """Say that was all, without a byte: the receiver has it, as its go proved."""
        if self._outcome is None and self._gave_up is None and self._outbox is not None:
            self._outbox.say(End(self.id, size, digest))

    def pause(self, paused: bool) -> None:
        """Hold our bytes back, or let them go on; also before the first of them."""
        self._paused = paused
        if self._turn is not None:
            self._turn.pause(paused)

    def cancel(self, error: LanxferError) -> None:
        """Tell the other side to give up; its answer is still waited for."""
        if self._outcome is not None or self._gave_up is not None:
            return
        self._gave_up = error
        if self._sender is not None:
            self._sender.stop(error)
        if self.outflow is not None:
            self.outflow.fail(error)
        if self._outbox is not None:
            self._outbox.say(Cancel(self.id, error.reason, error.code))

    # The connection's side.

    def go(self, go: Go) -> None:
        self._go = go
        if self.outflow is not None:
            self.outflow.grant(go.window)
        self._tell()

    def window(self, window: Window) -> None:
        if self.outflow is not None:
            self.outflow.grant(window.bytes)
        elif self._turn is not None:
            self._turn.grant(window.bytes)
        else:
            self._granted += window.bytes

    def event(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event.args)

    def end(self, outcome: Answer | LanxferError) -> None:
        """The answer, or that the connection is gone."""
        if self._outcome is not None:
            return
        if isinstance(outcome, Cancelled) and self._gave_up is not None:
            outcome = self._gave_up  # the cause says more than its echo
        self._outcome = outcome
        if self.inflow is not None:
            if isinstance(outcome, LanxferError):
                self.inflow.fail(outcome)
            else:
                self.inflow.end()
        if self.outflow is not None:
            self.outflow.fail(outcome if isinstance(outcome, LanxferError) else _ENOUGH)
        if self._sender is not None:
            error = outcome if isinstance(outcome, LanxferError) else BadHeader()
            self._sender.stop(error)
        self._tell()

    def _tell(self) -> None:
        outcome = self._outcome
        if self._going is not None and not self._going.called:
            if self._go is not None:
                self._going.callback(self._go)
            elif outcome is not None:
                refused = outcome if isinstance(outcome, LanxferError) else BadHeader()
                self._going.errback(refused)
        if outcome is None:
            return
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.called:
                continue
            if isinstance(outcome, LanxferError):
                each.errback(outcome)
            else:
                each.callback(outcome)
