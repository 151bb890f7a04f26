"""The protocol: lines to packets, packets to calls, and back; it decides nothing.

What a line means is the session's business, who may do what the policy's, and
what is done the commands'.  This class moves bytes between them and the
transport.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.calls import Answer, Exchange, IncomingCall
from lanxfer.commands.dispatch import run
from lanxfer.commands.table import Node, Reply, Table
from lanxfer.disk import Disk
from lanxfer.errors import (
    Cancelled,
    Foreign,
    HeaderTooLong,
    Internal,
    LanxferError,
    Lost,
    ShortBody,
    Stopping,
    from_wire,
)
from lanxfer.lifetime import Lifetime
from lanxfer.policy import Principal, refusal
from lanxfer.sessions import Session
from lanxfer.tls import channel_of
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


class LanxferProtocol(Lifetime):
    """One connection, either end, any dialect.

    ``proves`` says that the dialect has digests to prove a resume with.
    ``on_ready`` is told when the other side is known, ``on_gone`` when the
    connection is over.
    """

    log = Logger()

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
        super().__init__(session, clock, identify, secure, why_lost)
        self.peer_limits: Args = {}
        self.hello: Args = {}  # what the other side answered to ours
        self.on_first_line: Callable[[], None] | None = None
        self.on_known: Callable[[Principal], None] | None = None
        self._node = node
        self._disk = disk
        self._table = table
        self._proves = proves
        self._on_ready = on_ready
        self._on_gone = on_gone
        self._calls: dict[int, IncomingCall] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._sink: Callable[[bytes], None] | None = None
        self._body_done: Callable[[], None] | None = None
        self._into: IncomingCall | None = None  # whose part is being read
        self._parts_follow = False
        self._body_since = 0.0
        self._coming: int | None = None  # the request whose body is being read

    # Asking.

    def ask(
        self,
        name: str,
        args: Args,
        data: bytes | memoryview = b"",
        on_event: Callable[[Args], None] | None = None,
    ) -> Exchange:
        """Send a request; see ``Exchange`` for what comes of it.

        A view of ``data`` must not change before it was sent.  Asked on a connection
        that is over, it fails at once.
        """
        do = self.session.ask(name, args, len(data))
        outbox = self._outbox
        exchange = Exchange(do.id, outbox, on_event)
        if outbox is None or self.deaf:
            exchange.end(self.lost_because or Lost())
            return exchange
        self._exchanges[do.id] = exchange
        self.watch()
        try:
            outbox.say(do, data)
        except LanxferError as error:
            del self._exchanges[do.id]
            exchange.end(error)
        except ValueError:
            del self._exchanges[do.id]
            raise
        return exchange

    # Reading.

    @property
    def line_limit(self) -> int:
        return self.session.line_limit

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

    @property
    def in_body(self) -> bool:
        return self._parts_follow

    def body_space(self) -> memoryview | None:
        return None if self._into is None else self._into.space()

    def bodyFilled(self, size: int) -> None:
        if self._into is not None:
            self._into.filled(size)

    def bodyReceived(self) -> None:
        self._parts_follow = self._into is not None
        done, self._sink, self._body_done, self._into = self._body_done, None, None, None
        if done is not None:
            done()
        self._take_implied()

    def _take_implied(self) -> None:
        while not self.expected and not self.deaf:
            packet = self.session.implied()
            if packet is None:
                return
            self._take(packet)

    def _collect(self, size: int, done: Callable[[bytes], None]) -> None:
        """Read a body into memory; its size was bounded when its header was parsed."""
        chunks: list[bytes] = []
        self._sink = chunks.append
        self._body_done = lambda: done(b"".join(chunks))
        self.expect(size)
        self._body_since = self._clock.seconds()
        self.watch()

    def _take(self, packet: Packet | Drop | None) -> None:
        self._parts_follow = False
        match packet:
            case None:
                pass
            case Do():
                self._asked(packet)
            case Part():
                call = self._calls[packet.id]
                call.part(packet)
                self._sink = call.received
                self._into = call
                self.expect(packet.body)
                self._body_since = self._clock.seconds()
            case End():
                self._calls[packet.id].end(packet)
            case Cancel():
                error = from_wire(packet.code, packet.reason)
                # A word for it that nobody knows gives it up as well.
                foreign = isinstance(error, Foreign)
                call = self._calls[packet.id]
                call.given_up = True
                call.stop(Cancelled(packet.reason) if foreign else error)
            case Drop():
                self._dropped(packet)
            case Go() | Window() | Event():
                self._heard_of(packet)
            case Ok():
                exchange = self._exchanges.get(packet.id)
                if exchange is not None:
                    self._answered(exchange, packet)
                if not self._exchanges:
                    self._pace.ease()
                self.maybe_leave()
            case Failed():
                self._refused(packet)
            case Bye():
                if packet.all:
                    self.peer_left()
                self.maybe_leave()

    def _asked(self, do: Do) -> None:
        assert self.principal is not None
        error = refusal(self.principal, do.name, do.name in self._table)
        if error is None and self._leaving and do.name != "hello":
            error = Stopping()
        if error is not None:
            self._dropped(Drop(do.id, error, do.body))
        elif do.body:
            self._coming = do.id
            self._collect(do.body, lambda data: self._call(do, data))
        else:
            self._call(do, None)

    def _call(self, do: Do, data: bytes | None) -> None:
        assert self.principal is not None and self._outbox is not None
        self._coming = None
        call = IncomingCall(
            do,
            self.principal,
            data,
            self._proves,
            self._outbox,
            self._disk,
            self._clock,
            self._moved,
            partial(channel_of, self.transport),
            self._become,
        )
        call.window = lambda: self.window
        self._calls[do.id] = call
        self.weigh(call.weight)
        if not self._proves:
            self.hold()
        running: Deferred[Reply] = Deferred.fromCoroutine(run(call, self._node, self._table))
        running.addCallbacks(
            self._reply, self._refuse, callbackArgs=(do.id,), errbackArgs=(do.id, do.name)
        )

    def _become(self, principal: Principal) -> None:
        """From the next request on, somebody else is on the other end: they logged in."""
        if self.on_known is not None:
            self.on_known(principal)
            self.on_known = None
        self._believe(principal)

    def _moved(self, change: int) -> None:
        self.weigh(change)
        self.watch()

    def _reply(self, reply: Reply, id: int) -> None:
        rows = None if reply.rows is None else tuple(reply.rows)
        self._say_last(Ok(id, reply.args, rows=rows))

    def _refuse(self, why: Failure, id: int, name: str) -> None:
        error = why.value
        if not isinstance(error, LanxferError):
            self.log.failure("{name} failed", failure=why, name=name)
            error = Internal()
        call = self._calls.get(id)
        # Why the other side gave something up is no reason for this one to close.
        closes = error.closes and not (call is not None and call.given_up)
        self._say_last(Failed(id, error.code, error.reason, error.retry, error.details))
        if closes:
            self.hang_up()

    def _say_last(self, answer: Ok | Failed) -> None:
        """An answer ends its exchange."""
        call = self._calls.pop(answer.id, None)
        if call is None or self._outbox is None:
            return
        self.weigh(-call.weight)
        try:
            self._outbox.say(answer)
        except ValueError:
            self.log.failure("an answer could not be written")
            self._outbox.say(Failed(answer.id, Internal.code, Internal().reason))
        self.maybe_leave()

    def _dropped(self, drop: Drop) -> None:
        if drop.error is not None:
            call = self._calls.get(drop.id)
            if call is not None:
                call.stop(drop.error)
            elif self._outbox is not None:
                error = drop.error
                self._outbox.say(Failed(drop.id, error.code, error.reason, error.retry))
                if error.closes or self.session.finished or drop.body > limits.REFUSED_MAX:
                    self.refused = error
                    self.hang_up()
                    return
        if drop.body:
            self.expect(drop.body)
            self._body_since = self._clock.seconds()
            self.watch()

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
        def end(data: bytes) -> None:
            self._exchanges.pop(ok.id, None)
            exchange.end(Answer(ok.args, data))

        # Until its body is here it waits with the others for what becomes of the connection.
        if ok.body:
            self._collect(ok.body, end)
        else:
            end(b"")

    def _refused(self, failed: Failed) -> None:
        error = from_wire(failed.code, failed.reason, **_details(failed.args))
        if failed.id == 0:
            self.lost_because = error
            self.abandon(error)
            self.hang_up()
            return
        exchange = self._exchanges.pop(failed.id, None)
        if exchange is not None:
            exchange.end(error)
        if not self._exchanges:
            self._pace.ease()
        self.maybe_leave()

    # What the connection asks of the conversation.

    @property
    def busy(self) -> bool:
        # After the last word of a session nobody wants the rest of a body any more.
        wanted = self.expected and not self.session.finished
        return bool(self._calls or self._exchanges or wanted)

    @property
    def body_due_since(self) -> float | None:
        due = [since for call in self._calls.values() if (since := call.due_since) is not None]
        if self.expected:
            due.append(self._body_since)
        return min(due) if due else None

    @property
    def asking(self) -> bool:
        return bool(self._exchanges) and getattr(self.session, "room", 0) > 0

    def ping(self) -> None:
        self.ask("ping", {}).answered().addErrback(lambda why: None)

    def begun(self) -> None:
        self._on_ready(self)

    def said(self) -> None:
        self._take_implied()
        if self.expected or self.session.finished:
            self.release()

    def abandon(self, error: LanxferError) -> None:
        for call in list(self._calls.values()):
            call.stop(error)
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.end(error)
        if self.gone:
            self._on_gone(self)

    def starve(self) -> None:
        for call in list(self._calls.values()):
            call.starve()
        if self._coming is not None:
            self._dropped(Drop(self._coming, ShortBody(), 0))
            self._coming = None
        self.forget_body()
        error = self.why_gone() if self._exchanges else Lost()
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.end(error)

    def settle(self) -> None:
        packet = self.session.implied()
        if isinstance(packet, Ok | Failed):
            self._take(packet)


def _details(args: Args) -> dict[str, int | str]:
    return {
        key: value
        for key, value in args.items()
        if isinstance(value, (int, str)) and not isinstance(value, bool)
    }
