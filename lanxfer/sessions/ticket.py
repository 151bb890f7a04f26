"""The conversation of the ticket dialect, in both roles (docs/protocol.rst).

The client says its ticket and sends the whole file at once, without waiting; the
server answers with one line.  Only who asked for it hears before that, in a line of
its own, what is there already, and sends the rest; all others begin at 0.

Server role: the ticket becomes ``Do(1, "recv_slot", ...)``.  ``Go`` is never written,
``implied`` then gives the ``Part`` that is the file and its ``End``; the file's bytes
may be there before the ``Go`` and must wait unread.  ``Ok`` needs ``crc32`` (eight hex
digits) and ``blake3`` among its args.

Whatever is wrong with a ticket, one that is no ticket included, its bearer hears the
same ``forbidden`` (catalogue J19).

Client role: after ``Do``, ``implied`` gives the ``Go`` that nobody says.  ``ok`` never counts
before all was sent: while parts are missing it is refused, before our ``End`` it is kept.
Nobody half-closes, since both know the length; inside TLS it would be the end of both
directions.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from attrs import Factory, define

from lanxfer.errors import (
    BY_CODE,
    BadHeader,
    Forbidden,
    Foreign,
    HeaderTooLong,
    Internal,
    LanxferError,
)
from lanxfer.wire import limits
from lanxfer.wire.packets import (
    Args,
    Bye,
    Cancel,
    Do,
    End,
    Event,
    Failed,
    Go,
    Ok,
    Packet,
    Part,
    Window,
)
from lanxfer.wire.ticket import (
    ANSWER_MAX,
    NOT_GOOD,
    Received,
    Refused,
    Ticket,
    format_answer,
    format_have,
    format_ticket,
    parse_answer,
    parse_have,
    parse_ticket,
)


class Step(Enum):
    """How far the one upload of the connection is."""

    IDLE = "idle"
    ASKED = "asked"
    GOING = "going"
    ENDED = "ended"


@define
class TicketSession:
    """See ``lanxfer.sessions.Session`` and the top of this module."""

    implies = True
    server: bool = True
    line_limit: int = limits.HEADER_TICKET
    finished: bool = False
    half_close: bool = False
    lingers: bool = True
    _step: Step = Step.IDLE
    _silent: deque[Packet] = Factory(deque)
    _kept: Ok | Failed | None = None
    _closed: bool = False
    _size: int = 0
    _resume: bool = False
    _position: int = 0

    def ask(self, name: str, args: Args, body: int = 0) -> Do:
        """See ``Session``: ``recv_slot`` with ``session``, ``file`` and ``size``."""
        if self.server or self._step is not Step.IDLE or name != "recv_slot" or body:
            raise ValueError("one ticket, by the client")
        return Do(1, name, args)

    def receive(self, line: bytes) -> Packet | None:
        """See ``Session``; a server reads one line, a client too."""
        if self.finished or (self.server and self._step is not Step.IDLE):
            return None
        try:
            return self._presented(line) if self.server else self._answered(line)
        except LanxferError:
            self.finished = True
            self._closed = not self.server  # a server has its complaint still to say
            raise

    def implied(self) -> Packet | None:
        if not self._silent:
            return None
        packet = self._silent.popleft()
        if isinstance(packet, End):
            self._step = Step.ENDED
        return packet

    def send(self, packet: Packet) -> bytes:
        """See ``Session``; b"" for whatever comes after the last line."""
        if self._closed or isinstance(packet, Window | Event | Bye):
            return b""
        line = self._answer(packet) if self.server else self._ask(packet)
        if line is None:
            raise ValueError(f"the ticket dialect cannot say {packet} now")
        return line

    def complaint(self, error: Exception) -> bytes:
        """The error line; a client has none."""
        self.finished = True
        if self._closed or not self.server:
            return b""
        known = error if isinstance(error, LanxferError) else Internal()
        if self._step is Step.IDLE and isinstance(known, BadHeader | HeaderTooLong):
            known = Forbidden()
        return self._refuse(known.code, known.reason)

    def lost(self) -> Failed | None:
        """What the end of the stream means to a client without its answer.

        ``unconfirmed`` once all was sent, ``connection-lost`` before.
        """
        if self.server or self._step is Step.IDLE or self.finished:
            return None
        self._closed = self.finished = True
        return _failed("unconfirmed" if self._step is Step.ENDED else "connection-lost")

    # The server's half.

    def _presented(self, line: bytes) -> Do:
        ticket = parse_ticket(line)
        self._step = Step.ASKED
        self._size = ticket.size
        self._resume = ticket.resume
        args: Args = {"session": ticket.session, "file": ticket.file, "size": ticket.size}
        if ticket.resume:
            args = {**args, "resume": True}
        return Do(1, "recv_slot", args)

    def _answer(self, packet: Packet) -> bytes | None:
        match packet:
            case Go() if self._step is Step.ASKED and self._begins_at(packet) is not None:
                offset = self._begins_at(packet) or 0
                if self._size > offset:
                    self._silent.append(Part(1, offset, self._size - offset))
                self._silent.append(End(1, self._size, None))
                self._step = Step.GOING
                return format_have(offset) if self._resume else b""
            case Ok() if self._step is Step.ENDED:
                crc32, blake3 = (str(packet.args.get(key, "")) for key in ("crc32", "blake3"))
                return self._last(Received(self._size, crc32, blake3))
            case Failed() if self._step is not Step.IDLE:
                return self._refuse(packet.code, packet.reason)
        return None

    def _begins_at(self, go: Go) -> int | None:
        """Where the upload begins; None where nobody asked to hear that it is not at 0."""
        offset = max((at for at, _ in go.have), default=0)
        return offset if offset == 0 or (self._resume and offset <= self._size) else None

    def _refuse(self, code: str, reason: str) -> bytes:
        return self._last(Refused(code, NOT_GOOD if code == Forbidden.code else reason))

    def _last(self, answer: Received | Refused) -> bytes:
        line = format_answer(answer)
        self._closed = self.finished = True
        self._silent.clear()
        return line

    # The client's half.

    def _ask(self, packet: Packet) -> bytes | None:
        match packet:
            case Do() if self._step is Step.IDLE:
                args = packet.args
                self._resume = args.get("resume") is True
                size = args["size"]
                line = format_ticket(Ticket(args["session"], args["file"], size, self._resume))
                self._size = size
                self._step = Step.ASKED if self._resume else Step.GOING
                self.line_limit = ANSWER_MAX
                if not self._resume:
                    self._silent.append(Go(1, self._size, ((0, ""),)))
                return line
            case Part() if self._step is Step.GOING and packet.offset == self._position:
                if packet.offset + packet.body > self._size:
                    return None
                self._position += packet.body
                return b""
            case End() if self._step is Step.GOING and self._position == self._size:
                self._step = Step.ENDED
                self._settle()
                return b""
            case Cancel() if self._step is not Step.IDLE:
                # There is no line for it: the connection ends, and that is all they hear.
                self._kept = _failed(packet.code, packet.reason)
                self._settle()
                return b""
        return None

    def _answered(self, line: bytes) -> Packet | None:
        if self._step is Step.IDLE:
            raise BadHeader("The other side answered before it was asked.")
        if self._step is Step.ASKED and (held := parse_have(line)) is not None:
            if held > self._size:
                raise BadHeader("The other side has more than there is.")
            self._position = held
            self._step = Step.GOING
            return Go(1, self._size, ((held, ""),))
        answer = parse_answer(line)
        if isinstance(answer, Refused):
            self._closed = self.finished = True
            self._silent.clear()
            return _failed(answer.code, answer.reason)
        if answer.size != self._size:
            raise BadHeader("The answer is about a file of another size.")
        if self._position < self._size:
            raise BadHeader("The other side was done before all was sent.")
        self._kept = self._kept or Ok(
            1, {"size": answer.size, "crc32": answer.crc32, "blake3": answer.blake3}
        )
        if self._step is not Step.ENDED:
            return None
        self._settle()
        return self.implied()

    def _settle(self) -> None:
        """Give what was kept as the end of the conversation."""
        if self._kept is not None:
            self._silent.append(self._kept)
            self._closed = self.finished = True


def _failed(code: str, reason: str = "") -> Failed:
    error = BY_CODE.get(code, Foreign)(reason)
    return Failed(1, code, error.reason, error.retry)
