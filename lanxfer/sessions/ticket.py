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

from attrs import define

from lanxfer.errors import (
    BadHeader,
    Forbidden,
    HeaderTooLong,
    Internal,
    LanxferError,
)
from lanxfer.sessions.single import SingleSession, Step, failed
from lanxfer.wire import limits
from lanxfer.wire.packets import (
    Args,
    Do,
    Failed,
    Go,
    Ok,
    Packet,
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


@define
class TicketSession(SingleSession):
    """See ``lanxfer.sessions.Session`` and the top of this module."""

    dialect = "ticket"
    line_limit: int = limits.HEADER_TICKET
    lingers: bool = True
    _resume: bool = False

    def ask(self, name: str, args: Args, body: int = 0) -> Do:
        """See ``Session``: ``recv_slot`` with ``session``, ``file`` and ``size``."""
        if self.server or self._step is not Step.IDLE or name != "recv_slot" or body:
            raise ValueError("one ticket, by the client")
        return Do(1, name, args)

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
        return failed("unconfirmed" if self._step is Step.ENDED else "connection-lost")

    # The server's half.

    def _requested(self, line: bytes) -> Do:
        ticket = parse_ticket(line)
        self._step = Step.ASKED
        self._total = ticket.size
        self._resume = ticket.resume
        args: Args = {"session": ticket.session, "file": ticket.file, "size": ticket.size}
        if ticket.resume:
            args = {**args, "resume": True}
        return Do(1, "recv_slot", args)

    def _answer(self, packet: Packet) -> bytes | None:
        match packet:
            case Go() if self._step is Step.ASKED and self._begins_at(packet) is not None:
                offset = self._begins_at(packet) or 0
                self._imply_body(offset)
                return format_have(offset) if self._resume else b""
            case Ok() if self._step is Step.ENDED:
                crc32, blake3 = (str(packet.args.get(key, "")) for key in ("crc32", "blake3"))
                return self._last(Received(self._total, crc32, blake3))
            case Failed() if self._step is not Step.IDLE:
                return self._refuse(packet.code, packet.reason)
        return None

    def _begins_at(self, go: Go) -> int | None:
        """Where the upload begins; None where nobody asked to hear that it is not at 0."""
        offset = max((at for at, _ in go.have), default=0)
        return offset if offset == 0 or (self._resume and offset <= self._total) else None

    def _refuse(self, code: str, reason: str) -> bytes:
        return self._last(Refused(code, NOT_GOOD if code == Forbidden.code else reason))

    def _last(self, answer: Received | Refused) -> bytes:
        line = format_answer(answer)
        self._end()
        return line

    # The client's half.

    def _demand(self, do: Do) -> bytes:
        args = do.args
        self._resume = args.get("resume") is True
        size = args["size"]
        line = format_ticket(Ticket(args["session"], args["file"], size, self._resume))
        self._total = size
        self._step = Step.ASKED if self._resume else Step.GOING
        self.line_limit = ANSWER_MAX
        if not self._resume:
            self._silent.append(Go(1, self._total, ((0, ""),)))
        return line

    def _answered(self, line: bytes) -> Packet | None:
        if self._step is Step.IDLE:
            raise BadHeader("The other side answered before it was asked.")
        if self._step is Step.ASKED and (held := parse_have(line)) is not None:
            if held > self._total:
                raise BadHeader("The other side has more than there is.")
            self._position = held
            self._step = Step.GOING
            return Go(1, self._total, ((held, ""),))
        answer = parse_answer(line)
        if isinstance(answer, Refused):
            self._end()
            return failed(answer.code, answer.reason)
        if answer.size != self._total:
            raise BadHeader("The answer is about a file of another size.")
        if self._position < self._total:
            raise BadHeader("The other side was done before all was sent.")
        received = {"size": answer.size, "crc32": answer.crc32, "blake3": answer.blake3}
        self._kept = self._kept or Ok(1, received)
        if self._step is not Step.ENDED:
            return None
        self._settle()
        return self.implied()
