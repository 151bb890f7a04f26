"""The protocol: lines to packets, packets to calls, and back; it decides nothing.

What a line means is the session's business, who may do what the policy's, and
what is done the commands'.  This class moves bytes between them and the
transport, and sees to it that every end is an end: after an error that closes,
nothing more is read, the last word is written, and a second later the
connection is cut if it still stands (docs/protocol.rst, "Errors").
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
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.calls import Answer, Exchange, IncomingCall
from lanxfer.commands.dispatch import run
from lanxfer.commands.table import Node, Reply, Table
from lanxfer.disk import Disk
from lanxfer.errors import (
    HeaderTooLong,
    Internal,
    LanxferError,
    Lost,
    ShortBody,
    TimedOut,
    from_wire,
)
from lanxfer.outbox import Outbox
from lanxfer.policy import Principal, Standing, refusal
from lanxfer.receiver import PacketReceiver
from lanxfer.sessions import Session
from lanxfer.wire import limits
from lanxfer.wire.packets import (
    Args,
    Bye,
    Cancel,
    Do,
    Drop,
    End,
    Event,
    Failed,
    Go,
    Ok,
    Packet,
    Part,
    Window,
)

_CLOSED = Failure(ConnectionDone())


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class LanxferProtocol(PacketReceiver):
    """One connection, either end, any dialect.

    ``identify`` names the principal on the other end; it is called once, when
    that can be known (after the TLS handshake, where there is one), and raises
    the refusal.  ``on_ready`` is told then, ``on_gone`` when the connection is
    over.
    """

    log = Logger()
    transport: Any  # TCP, UNIX or TLS; Twisted has no one interface for what they share

    def __init__(
        self,
        session: Session,
        node: Node,
        disk: Disk,
        table: Table,
        clock: IReactorTime,
        identify: Callable[[Any], Principal],
        *,
        proves: bool = True,
        secure: bool = False,
        on_ready: Callable[[LanxferProtocol], None] = lambda protocol: None,
        on_gone: Callable[[LanxferProtocol], None] = lambda protocol: None,
        why_lost: Callable[[Failure], LanxferError] = lambda reason: Lost(),
    ) -> None:
        self.session = session
        self.principal: Principal | None = None
        self.lost_because: LanxferError | None = None
        self.gone = False
        self._node = node
        self._disk = disk
        self._table = table
        self._clock = clock
        self._identify = identify
        self._proves = proves
        self._secure = secure
        self._on_ready = on_ready
        self._on_gone = on_gone
        self._why_lost = why_lost
        self._calls: dict[int, IncomingCall] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._outbox: Outbox | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._body_done: Callable[[], None] | None = None
        self._timer: IDelayedCall | None = None
        self._stuck: IDelayedCall | None = None
        self._heard = 0.0
        self._leaving = False
        self._held = False
        self.on_first_line: Callable[[], None] | None = None
        self._goners: list[Callable[[], object]] = []
        self._begun: Deferred[None] | None = None
        self.peer_limits: Args = {}

    # Beginning.

    def connectionMade(self) -> None:
        if not self._secure:
            self._begin()

    def handshakeCompleted(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._heard = self._clock.seconds()
        try:
            self.principal = self._identify(self.transport)
        except LanxferError as error:
            self.fail(error)
            return
        if self.principal.standing is not Standing.STRANGER and hasattr(self.session, "known"):
            self.session.known = True
        self._outbox = Outbox(self.transport, self.session, self._backlog, self._said)
        self._on_ready(self)
        self._tell_begun()

    def when_begun(self, timeout: float) -> Deferred[None]:
        """Fires when the other side is known, or the connection over; ``timeout`` in seconds."""
        begun: Deferred[None] = Deferred()
        if self.principal is not None or self.deaf:
            begun.callback(None)
            return begun
        self._begun = begun
        late = self._clock.callLater(timeout, self.abort, TimedOut())
        begun.addCallback(lambda _: late.cancel() if late.active() else None)
        return begun

    def _tell_begun(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.callback(None)

    # Asking.

    def ask(
        self,
        name: str,
        args: Args,
        data: bytes = b"",
        on_event: Callable[[Args], None] | None = None,
    ) -> Exchange:
        """Send a request; see ``Exchange`` for what comes of it.

        Asked on a connection that is over, it fails at once.
        """
        do = self.session.ask(name, args, len(data))
        outbox = self._outbox
        exchange = Exchange(do.id, outbox, on_event)
        if outbox is None or self.deaf:
            exchange.end(self.lost_because or Lost())
            return exchange
        try:
            outbox.say(do, data)
        except LanxferError as error:
            exchange.end(error)
        else:
            self._exchanges[do.id] = exchange
        return exchange

    # Reading.

    @property
    def line_limit(self) -> int:
        return self.session.line_limit

    def dataReceived(self, data: bytes) -> None:
        self._heard = self._clock.seconds()
        super().dataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self.fail(HeaderTooLong())

    def lineReceived(self, line: bytes) -> None:
        if self.on_first_line is not None:
            told, self.on_first_line = self.on_first_line, None
            told()
        try:
            packet = self.session.receive(line)
        except LanxferError as error:
            if self.session.finished:
                self.fail(error)
            elif self._outbox is not None:
                self._outbox.write(self.session.complaint(error))
            return
        self._take(packet)
        self._take_implied()

    def rawDataReceived(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
            self._weigh()

    def bodyReceived(self) -> None:
        done, self._sink, self._body_done = self._body_done, None, None
        if done is not None:
            done()
        self._take_implied()

    def _take_implied(self) -> None:
        while not self.expected and not self.deaf:
            packet = self.session.implied()
            if packet is None:
                return
            self._take(packet)

    def _said(self) -> None:
        self._take_implied()
        if self._held and (self.expected or self.session.finished):
            self._held = False
            self._weigh()

    def _hold(self) -> None:
        """Read nothing until it is known what the bytes that come next belong to.

        In the literal and the ticket dialect a body has no header of its own,
        and may be here before anybody decided to take it.
        """
        self._held = True
        if not self.paused:
            self.pauseProducing()

    def _collect(self, size: int, done: Callable[[bytes], None]) -> None:
        """Read a body into memory; its size was bounded when its header was parsed."""
        chunks: list[bytes] = []
        self._sink = chunks.append
        self._body_done = lambda: done(b"".join(chunks))
        self.expect(size)

    def _take(self, packet: Packet | Drop | None) -> None:
        match packet:
            case None:
                pass
            case Do():
                self._asked(packet)
            case Part():
                call = self._calls[packet.id]
                call.part(packet)
                self._sink = call.received
                self.expect(packet.body)
                self._watch()
            case End():
                self._calls[packet.id].end(packet)
            case Cancel():
                self._calls[packet.id].stop(from_wire(packet.code, packet.reason))
            case Drop():
                self._dropped(packet)
            case Go() | Window() | Event():
                self._heard_of(packet)
            case Ok():
                exchange = self._exchanges.pop(packet.id, None)
                if exchange is not None:
                    self._answered(exchange, packet)
                self._maybe_leave()
            case Failed():
                self._refused(packet)
            case Bye():
                if packet.all:
                    self._peer_left()
                self._maybe_leave()

    def _asked(self, do: Do) -> None:
        assert self.principal is not None
        error = refusal(self.principal, do.name, do.name in self._table)
        if error is None and self._leaving and do.name != "hello":
            error = from_wire("stopping")
        if error is not None:
            self._dropped(Drop(do.id, error, do.body))
        elif do.body:
            self._collect(do.body, lambda data: self._call(do, data))
        else:
            self._call(do, None)

    def _call(self, do: Do, data: bytes | None) -> None:
        assert self.principal is not None and self._outbox is not None
        call = IncomingCall(
            do,
            self.principal,
            data,
            self._proves,
            self._outbox,
            self._disk,
            self._clock,
            self._weigh,
        )
        self._calls[do.id] = call
        if not self._proves:
            self._hold()
        running: Deferred[Reply] = Deferred.fromCoroutine(run(call, self._node, self._table))
        running.addCallbacks(
            self._reply, self._refuse, callbackArgs=(do.id,), errbackArgs=(do.id, do.name)
        )
        self._weigh()

    def _reply(self, reply: Reply, id: int) -> None:
        rows = None if reply.rows is None else tuple(reply.rows)
        self._say_last(Ok(id, reply.args, rows=rows))

    def _refuse(self, why: Failure, id: int, name: str) -> None:
        error = why.value
        if not isinstance(error, LanxferError):
            self.log.failure("{name} failed", failure=why, name=name)
            error = Internal()
        self._say_last(Failed(id, error.code, error.reason, error.retry, error.details))
        if error.closes:
            self._hang_up()

    def _say_last(self, answer: Ok | Failed) -> None:
        """An answer ends its exchange."""
        if self._calls.pop(answer.id, None) is None or self._outbox is None:
            return
        try:
            self._outbox.say(answer)
        except ValueError:
            self.log.failure("an answer could not be written")
            self._outbox.say(Failed(answer.id, Internal.code, Internal().reason))
        self._weigh()
        self._maybe_leave()

    def _dropped(self, drop: Drop) -> None:
        if drop.error is not None:
            call = self._calls.get(drop.id)
            if call is not None:
                call.stop(drop.error)
            elif self._outbox is not None:
                error = drop.error
                self._outbox.say(Failed(drop.id, error.code, error.reason, error.retry))
                if error.closes or self.session.finished:
                    self._hang_up()
                    return
        if drop.body:
            self.expect(drop.body)

    def _heard_of(self, packet: Go | Window | Event) -> None:
        exchange = self._exchanges.get(packet.id)
        if exchange is None:
            return
        match packet:
            case Go():
                exchange.go(packet)
            case Window():
                exchange.window(packet)
            case Event():
                exchange.event(packet)

    def _answered(self, exchange: Exchange, ok: Ok) -> None:
        if ok.body:
            self._collect(ok.body, lambda data: exchange.end(Answer(ok.args, data)))
        else:
            exchange.end(Answer(ok.args))

    def _refused(self, failed: Failed) -> None:
        error = from_wire(failed.code, failed.reason, **_details(failed.args))
        if failed.id == 0:
            self.lost_because = error
            self._abandon(error)
            self._hang_up()
            return
        exchange = self._exchanges.pop(failed.id, None)
        if exchange is not None:
            exchange.end(error)
        self._maybe_leave()

    # Keeping within bounds.

    def _weigh(self) -> None:
        """Stop reading while too many bytes wait for the disk (catalogue J16)."""
        weight = sum(call.weight for call in self._calls.values())
        if weight > limits.UNWRITTEN_MAX and not self.paused:
            self.pauseProducing()
        elif self.paused and weight <= limits.UNWRITTEN_MAX // 2 and self._may_read():
            # Not at once: this may be a call from within the reading of a chunk.
            self._clock.callLater(0, self._resume)
        if any(call.hungry for call in self._calls.values()):
            self._watch()

    def _may_read(self) -> bool:
        return not (self.deaf or self._held) and self._stuck is None

    def _resume(self) -> None:
        if self.paused and self._may_read():
            self._heard = self._clock.seconds()
            self.resumeProducing()

    def _backlog(self, much: bool) -> None:
        """The other side asks and does not read: stop listening, then give up (catalogue B06)."""
        if much and self._stuck is None:
            self._stuck = self._clock.callLater(limits.REPLIES_TIMEOUT, self.abort, TimedOut())
            if not self.paused:
                self.pauseProducing()
        elif not much and self._stuck is not None:
            self._stop_timer("_stuck")
            self._weigh()

    def _watch(self) -> None:
        """See to it that a body that stopped coming is noticed."""
        if self._timer is None and not self.deaf:
            self._timer = self._clock.callLater(limits.BODY_IDLE_TIMEOUT, self._look)

    def _look(self) -> None:
        self._timer = None
        if self.paused or not (self.expected or any(c.hungry for c in self._calls.values())):
            return
        silent = self._clock.seconds() - self._heard
        if silent >= limits.BODY_IDLE_TIMEOUT:
            self.fail(TimedOut())
        else:
            rest = limits.BODY_IDLE_TIMEOUT - silent
            self._timer = self._clock.callLater(rest, self._look)

    def _stop_timer(self, name: str) -> None:
        timer: IDelayedCall | None = getattr(self, name)
        setattr(self, name, None)
        if timer is not None and timer.active():
            timer.cancel()

    # Ending.

    def fail(self, error: LanxferError) -> None:
        """Say what is wrong, end every call with it, and close."""
        if self.deaf:
            return
        self.lost_because = self.lost_because or error
        self.deaf = True
        self._abandon(error)
        if self._outbox is not None:
            self._outbox.write(self.session.complaint(error))
        elif self._secure is False:
            self.transport.write(self.session.complaint(error))
        self._hang_up()

    def abort(self, error: LanxferError) -> None:
        """Cut the connection; whoever waits on it hears ``error``."""
        self.lost_because = self.lost_because or error
        self.deaf = True
        self.transport.abortConnection()

    def _hang_up(self) -> None:
        """Close once what was written has left; cut a second later if need be."""
        self.deaf = True
        if self._outbox is not None:
            self._outbox.close()
        self.transport.loseConnection()
        self._stop_timer("_timer")
        self._stop_timer("_stuck")
        self._timer = self._clock.callLater(limits.ABORT_AFTER, self.transport.abortConnection)

    def _abandon(self, error: LanxferError) -> None:
        for call in list(self._calls.values()):
            call.stop(error)
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.end(error)

    def leave(self, timeout: float) -> Deferred[None]:
        """Ask nothing more, let what is under way finish, close; fires when closed.

        After ``timeout`` seconds the connection is cut.
        """
        if not self.gone:
            self._leaving = True
            cutting = self._clock.callLater(timeout, self.abort, Lost())
            self._goners.append(lambda: cutting.cancel() if cutting.active() else None)
            self._maybe_leave()
        return self.when_gone()

    def when_gone(self) -> Deferred[None]:
        """Fires when the connection is over, at once if it is; each caller has its own."""
        fired: Deferred[None] = Deferred(lambda d: None)
        if self.gone:
            fired.callback(None)
        else:
            self._goners.append(lambda: fired.callback(None))
        return fired

    def _maybe_leave(self) -> None:
        """Close if there is nothing left to do and no reason to stay."""
        if self.deaf or self._calls or self._exchanges or self.expected:
            return
        if not (self._leaving or self.session.finished or self._peer_quiet()):
            return
        if not self.session.finished and self._outbox is not None:
            self._outbox.say(Bye(all=True))
        self._hang_up()

    def _peer_quiet(self) -> bool:
        return bool(getattr(self.session, "quiet", False))

    def _peer_left(self) -> None:
        """Nothing more will come: what waits for bytes has them all, or never will."""
        self._leaving = True
        for call in list(self._calls.values()):
            if call.hungry or self.expected:
                call.stop(ShortBody())
        exchanges, self._exchanges = self._exchanges, {}
        unsaid = self.session.lost()
        error = Lost() if unsaid is None else from_wire(unsaid.code, unsaid.reason)
        for exchange in exchanges.values():
            exchange.end(error)
        self._maybe_leave()

    def readConnectionLost(self) -> None:
        if self._outbox is None:
            self.transport.loseConnection()
        elif not self.deaf:
            self._expected = 0
            self._peer_left()

    def writeConnectionLost(self) -> None:
        """Our own half-close, which was meant (``Session.half_close``)."""

    def connectionLost(self, reason: Failure = _CLOSED) -> None:
        self.deaf = True
        self.gone = True
        self._stop_timer("_timer")
        self._stop_timer("_stuck")
        if self.lost_because is None:
            unsaid = self.session.lost()
            self.lost_because = (
                self._why_lost(reason) if unsaid is None else from_wire(unsaid.code, unsaid.reason)
            )
        if self._outbox is not None:
            self._outbox.close()
        self._abandon(self.lost_because)
        self._on_gone(self)
        self._tell_begun()
        goners, self._goners = self._goners, []
        for tell in goners:
            tell()


def _details(args: Args) -> dict[str, int | str]:
    return {
        key: value
        for key, value in args.items()
        if isinstance(value, (int, str)) and not isinstance(value, bool)
    }
