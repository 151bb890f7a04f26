"""The protocol: lines to packets, packets to calls, and back; it decides nothing.

What a line means is the session's business, who may do what the policy's, and
what is done the commands'.  This class moves bytes between them and the
transport.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.asking import Asking
from lanxfer.backpressure import Reason
from lanxfer.bulk import BulkTLS
from lanxfer.calls import IncomingCall
from lanxfer.channels import Channels
from lanxfer.clear import ClearIn, ClearTickets
from lanxfer.commands.dispatch import begin
from lanxfer.commands.table import Node, Reply, Table
from lanxfer.direct import Direct
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
from lanxfer.gathering import Gathered
from lanxfer.pake import Channel
from lanxfer.policy import Principal, refusal
from lanxfer.rates import UNMETERED, Metered
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.showing import censored
from lanxfer.stretch_in import StretchingIn
from lanxfer.tls import channel_of
from lanxfer.wire import limits
from lanxfer.wire.packets import (
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
    Take,
    Window,
)


class LanxferProtocol(Asking):
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
        self._disk = disk
        self.on_first_line: Callable[[], None] | None = None
        self.on_known: Callable[[Principal], None] | None = None
        self._node = node
        self._table = table
        self._proves = proves
        self._on_ready = on_ready
        self._on_gone = on_gone
        self._calls: dict[int, IncomingCall] = {}
        self._coming: int | None = None  # the request whose body is being read
        self._channels = Channels()
        self.clear: ClearTickets | None = None  # where this side takes bodies in clear
        self.aside: Any = None  # the transport by which this side sends one just now
        self._trace: Callable[[str, bytes], None] | None = None

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
        if self._trace is not None:
            self._trace("<", censored(line))
        try:
            packet = self.session.receive(line)
        except LanxferError as error:
            if self.session.finished:
                self.fail(error)
            elif self._outbox is not None:
                self._outbox.write(self.session.complaint(error))
            return
        self.take(packet)
        if self.session.implies:
            self._take_implied()

    def begin_stretch(self, direct: Direct) -> bool:
        call, session = self._into, self.session
        if not (isinstance(call, IncomingCall) and isinstance(session, NativeSession)):
            return False
        if self._meter.slowest is not None or self.space() is None:
            return False
        if any(each.writer is not None for each in self._calls.values() if each is not call):
            return False
        found = call.stretch(self.expected, *session.coming(call.id))
        if found is None:
            return False
        plain = direct.lend_in()
        if plain is None:
            return False
        writer, ahead = found
        stretching = StretchingIn(self, call, writer, direct, plain, self._disk)
        stretching.begin(ahead, self._clock)
        return True

    def catch_up(self, moves: Sequence[tuple[bytes, int]], rest: bytes) -> None:
        for line, size in moves:
            if line and not self.deaf:
                self.lines += 1
                self.lineReceived(line)
            if size and not self.deaf:
                self.moved(size)
        if rest and not self.deaf:
            self.dataReceived(rest)

    def take(self, packet: Packet | Drop | None) -> None:
        self._parts_follow = False
        match packet:
            case Do():
                self._asked(packet)
            case Ok():
                self._good(packet)
            case None:
                pass
            case Part():
                call = self._calls[packet.id]
                call.part(packet)
                self._into = call
                self.await_body(packet.body, call.received)
            case End():
                self._calls[packet.id].end(packet)
            case Cancel():
                error = from_wire(packet.code, packet.reason)
                # A word for it that nobody knows gives it up as well.
                foreign = isinstance(error, Foreign)
                if foreign:
                    error = Cancelled(packet.reason)
                stopped = self._calls[packet.id]
                stopped.given_up = True
                stopped.stop(error)
                if self._channels.waits(stopped.args.get("channel", 0), packet.id):
                    self._say_last(Failed(packet.id, error.code, error.reason, error.retry))
            case Drop():
                self._dropped(packet)
            case Event() if packet.body:
                self._streamed(packet)
            case Go() | Window() | Event():
                self._heard_of(packet)
            case Take():
                asked = self._calls.get(packet.id)
                if asked is not None:
                    asked.take(packet.bytes)
            case Failed():
                self._refused(packet)
            case Bye():
                self._tell_peer_done()
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

    def _call(self, do: Do, data: bytes | Gathered | None) -> None:
        assert self.principal is not None and self._outbox is not None
        self._coming = None
        streams = do.args.get("stream") is True
        call = IncomingCall(
            do,
            self.principal,
            data,
            self._proves,
            self._outbox,
            self._disk,
            self._clock,
            self._moved,
            self._channel,
            self._become,
            self._link,
            self._window() if streams else 0,
        )
        call.window = self._file_window
        if self.clear is not None and isinstance(self.transport, BulkTLS):
            call.offer_clear = self._offer_clear
        if streams:
            self._lend(True, do.id, call.stream_window)
        self._calls[do.id] = call
        if data is not None:
            self._count(call, len(data))
        if not self._proves:
            # A body without a header of its own may be here before anybody decided to take it.
            self.stop_reading(Reason.BODY)
        if "channel" in do.args:
            try:
                mine = self._channels.enter(do.args["channel"], do.id, partial(self._run, call))
            except LanxferError as error:
                self._say_last(Failed(do.id, error.code, error.reason, error.retry))
                return
            if not mine:
                return
        self._run(call)

    def _count(self, call: IncomingCall, change: int) -> None:
        """So much of a body is here as a whole, or was.

        Only packs wait for nothing but the disk: whatever else there is may wait for something
        that this connection has to read.
        """
        if call.name == "recv_files":
            self.load(change)
        else:
            self.weigh(change)

    def _run(self, call: IncomingCall) -> None:
        try:
            call.check()
            found = begin(call, self._node, self._table)
        except Exception:
            self._refuse(Failure(), call.id, call.name)
            return
        if isinstance(found, Reply):
            self._reply(found, call.id)
            return
        running: Deferred[Reply] = Deferred.fromCoroutine(found)
        running.addCallbacks(
            self._reply, self._refuse, callbackArgs=(call.id,), errbackArgs=(call.id, call.name)
        )

    def _channel(self) -> Channel | None:
        return channel_of(self.transport)

    def _file_window(self) -> int:
        return self.window

    def _link(self) -> Any:
        from lanxfer.links import Link  # it stands on this module

        return Link(self)

    def _become(self, principal: Principal) -> None:
        """From the next request on, somebody else is on the other end: they logged in."""
        if self.on_known is not None:
            self.on_known(principal)
            self.on_known = None
        self._believe(principal)

    def _moved(self, change: int) -> None:
        self.weigh(change)
        self.watch()
        if change < 0:
            self._look()

    def _look(self) -> None:
        """What comes in clear may be read again."""
        if self.clear is not None:
            for call in self._calls.values():
                if call.clear is not None:
                    call.clear.look()

    # Bodies that come in clear, on connections of their own (``lanxfer.clear``).

    def _offer_clear(self, call: IncomingCall) -> ClearIn | None:
        return None if self.clear is None else ClearIn(self.clear, call, self)

    def granted(self, id: int) -> int:
        """How much of the body of their request ``id`` may come now."""
        return cast(NativeSession, self.session).granted(id)

    def came_beside(self, id: int, size: int) -> None:
        """So much of it came elsewhere."""
        cast(NativeSession, self.session).came_beside(id, size)
        self._pace.received(size)

    @property
    def sending_meter(self) -> Metered:
        """What may be sent on this connection, and how fast."""
        return UNMETERED if self._outbox is None else self._outbox.meter

    def _reply(self, reply: Reply, id: int) -> None:
        rows = None if reply.rows is None else tuple(reply.rows)
        self._say_last(Ok(id, reply.args, len(reply.body), rows), reply.body)

    def _refuse(self, why: Failure, id: int, name: str) -> None:
        error = why.value
        if not isinstance(error, LanxferError):
            self.log.failure("{command} failed", event="request_failed", failure=why, command=name)
            error = Internal()
        call = self._calls.get(id)
        # Why the other side gave something up is no reason for this one to close.
        closes = error.closes and not (call is not None and call.given_up)
        self._say_last(Failed(id, error.code, error.reason, error.retry, error.details))
        if closes:
            self.hang_up()

    def _say_last(self, answer: Ok | Failed, body: bytes = b"") -> None:
        """An answer ends its exchange."""
        call = self._calls.pop(answer.id, None)
        if call is None or self._outbox is None:
            return
        if call.body_size:
            self._count(call, -call.body_size)
        if call.writer is not None:
            self.weigh(-call.writer.waiting)
        self._look()
        call.over()
        call.answered()
        if self._windows:
            self._give_back(True, answer.id)
        try:
            self._outbox.say(answer, body)
        except ValueError:
            self.log.failure("an answer could not be written", event="answer_failed")
            self._outbox.say(Failed(answer.id, Internal.code, Internal().reason))
        if "channel" in call.args:
            following = self._channels.leave(call.args["channel"], answer.id)
            if following is not None:
                following()
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
            self.await_body(drop.body, None)
            self.watch()

    @property
    def bytes_read(self) -> int:
        return self._pace.read

    def seconds(self) -> float:
        """This connection's clock."""
        return self._clock.seconds()

    @property
    def ended_with(self) -> LanxferError | None:
        """Why it is over; None where it was closed as is proper, by whichever side."""
        proper = (self.session.finished or self.meant) and self.refused is None
        return None if proper else self.lost_because

    def trace(self, observer: Callable[[str, bytes], None] | None) -> None:
        """Have every header line seen, with "<" those that came, with ">" those that go."""
        self._trace = observer
        if self._outbox is not None:
            self._outbox.trace = observer

    # What the connection asks of the conversation.

    @property
    def busy(self) -> bool:
        if self._calls or self._exchanges:
            return True
        # After the last word of a session nobody wants the rest of a body any more.
        wanted = self.expected and not self.session.finished
        queued = self.queue is not None and bool(self.queue.waiting)
        return bool(wanted or queued)

    @property
    def body_due_since(self) -> float | None:
        due = [since for call in self._calls.values() if (since := call.due_since) is not None]
        if self.expected:
            due.append(self._body_since)
        return min(due) if due else None

    def begun(self) -> None:
        self._on_ready(self)

    def said(self) -> None:
        session = self.session
        if session.implies:
            self._take_implied()
        if self._reasons and self.waits(Reason.BODY) and (self._expected or session.finished):
            self.over(Reason.BODY)

    def abandon(self, error: LanxferError) -> None:
        if self.gone:
            self.drop_body()
        for call in list(self._calls.values()):
            call.stop(error)
        self._end_exchanges(error)
        if self.queue is not None:
            self.queue.fail(error)
        self._tell_peer_done()
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
        self._end_exchanges(error)

    def settle(self) -> None:
        packet = self.session.implied()
        if isinstance(packet, Ok | Failed):
            self.take(packet)
