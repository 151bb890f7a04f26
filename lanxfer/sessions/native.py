"""The conversation of the native dialect (docs/protocol.rst).

Every exchange is in one of three phases, and the tables below say which packet
is right in which.  What is merely late (parts of a file that was refused a
moment ago) is dropped and counted; what no peer that keeps to the protocol
can say ends the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from lanxfer.errors import (
    BadHeader,
    BadName,
    BadOffset,
    ClearBroken,
    LanxferError,
    Overloaded,
    TooLarge,
)
from lanxfer.transfers import Kind
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet, format_rows, is_whole, parse_packet
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
    Take,
    Window,
)

_START = frozenset({0})


class Phase(Enum):
    """How far an exchange has come."""

    ASKED = "asked"
    GOING = "going"  # the receiver said go; parts may come
    ENDED = "ended"  # the sender said end


class _Exchange:
    """One open exchange, ours or theirs; for files also where the bytes are.

    The bytes come, or do not, on a connection ``beside`` this one.
    A stream is a file whose size is ``unbounded``; ``take`` is the credit for bodies of events.
    """

    __slots__ = (
        *("beside", "credit", "phase", "position", "size", "starts", "streams", "take"),
        "unbounded",
    )

    def __init__(
        self,
        size: int = 0,
        streams: bool = False,
        unbounded: bool = False,
        take: int | None = None,
    ) -> None:
        self.size = size
        self.streams = streams
        self.unbounded = unbounded
        self.take = take
        self.phase = Phase.ASKED
        self.starts = _START
        self.position: int | None = None
        self.credit = 0
        self.beside = False

    def go(self, go: Go) -> None:
        self.phase = Phase.GOING
        self.credit = go.window
        self.starts = frozenset({0, *(offset for offset, _ in go.have)})

    def misfit(self, part: Part) -> LanxferError | None:
        """What is wrong with a part here, if anything is."""
        if self.beside:
            return ClearBroken("Bytes of the file came in TLS while it came in clear.")
        right = (
            part.offset in self.starts if self.position is None else (part.offset == self.position)
        )
        if not right or part.offset + part.body > self.size:
            return BadOffset("A part of the file does not begin where the one before it ended.")
        if part.body > self.credit:
            return Overloaded("More was sent than the window allows.")
        return None

    @property
    def complete(self) -> bool:
        """Whether a good answer can be true."""
        return not self.streams or self.unbounded or self.phase is Phase.ENDED

    @property
    def late(self) -> int:
        """Bytes of parts that may be on their way when the answer goes out."""
        return self.credit if self.phase is Phase.GOING else 0

    def moved(self, part: Part) -> None:
        self.position = part.offset + part.body
        self.credit -= part.body


_BODY_MAX = {
    "recv_file": limits.INLINE_MAX,
    "recv_files": limits.PACK_MAX + limits.MANIFEST_MAX,
    "recv_message": limits.MESSAGE_MAX,
    "checkup": limits.MIB,
    # Those of callers that nobody knows yet have no body.
    **dict.fromkeys(("hello", "ping", "login"), limits.REFUSED_MAX),
    **dict.fromkeys(("pair", "pair_prove", "pair_keep"), limits.REFUSED_MAX),
}
"""Where less may travel with a request than a header can announce."""


_PLAIN = _Exchange()
"""Whatever streams nothing: of such a one nothing ever changes."""


def _exchange(do: Do) -> _Exchange:
    """What a request opens; only a file that does not travel with its request streams."""
    if not do.args:
        return _PLAIN
    if do.name == "recv_file":
        size = do.args.get("size", 0)
        streams = (
            do.body == 0
            and type(size) is int
            and size > 0
            and (do.args.get("kind") or Kind.FILE.value) == Kind.FILE.value
        )
        return _Exchange(size=size if streams else 0, streams=streams)
    take = do.args.get("take")
    if do.args.get("stream") is not True and take is None:
        return _PLAIN
    if take is not None and type(take) is not int:
        raise BadHeader('"take" in the header is a number.')
    if do.args.get("stream") is True:
        return _Exchange(limits.NUMBER_MAX, streams=True, unbounded=True, take=take)
    return _Exchange(take=take)


class NativeSession:
    """See ``lanxfer.sessions.Session``.

    ``known`` is set by the protocol once it knows who is on the other side;
    until then headers are short.
    """

    def __init__(self, known: bool = False) -> None:
        self.known = known
        self.greeted = self.finished = self.half_close = False
        self.peer_asks = self.we_ask = True
        self._malformed = self._strays = 0
        self._late_bytes = self._late_packets = 0
        self._last_theirs = self._last_ours = 0
        self._theirs: dict[int, _Exchange] = {}
        self._ours: dict[int, _Exchange] = {}
        self._refused: set[int] = set()

    implies = False

    @property
    def line_limit(self) -> int:
        return limits.HEADER_KNOWN if self.known else limits.HEADER_STRANGER

    @property
    def quiet(self) -> bool:
        """Both sides ask nothing more and all is answered."""
        return not (self.peer_asks or self.we_ask or self._theirs or self._ours)

    @property
    def room(self) -> int:
        """How many more requests may be opened now."""
        return limits.OPEN_EXCHANGES - len(self._ours) if self.we_ask else 0

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of the last requests, ours and theirs."""
        return self._last_ours, self._last_theirs

    # Reading.

    def receive(self, line: bytes) -> Packet | Drop | None:
        if self.finished:
            raise BadHeader("Something came after the end.")
        try:
            if not line:
                raise BadHeader("The header line is empty.")
            packet = parse_packet(line)
        except LanxferError:
            # Somebody typing gets another try, as long as nothing was begun
            # whose body could be taken for headers (catalogue H10).
            self._malformed += 1
            begun = line.startswith(b"{") or self._last_theirs > 0 or self._last_ours > 0
            self.finished = begun or self._malformed >= limits.MALFORMED_LINES
            raise
        try:
            return self._accept(packet)
        except LanxferError:
            self.finished = True
            raise

    def _accept(self, packet: Packet) -> Packet | Drop | None:
        match packet:
            case Do():
                return self._asked(packet)
            case Ok() | Failed():
                return self._answered(packet)
            case Part():
                return self._part(packet)
            case End():
                return self._ended(packet)
            case Cancel():
                return packet if self._open_theirs(packet.id) else self._late()
            case Go():
                return self._granted(packet)
            case Window():
                # One that crosses our end is in order.
                ours = self._ours.get(packet.id)
                if ours is None or ours.phase is Phase.ASKED:
                    return self._stray()
                ours.credit = min(ours.credit + packet.bytes, limits.NUMBER_MAX)
                return packet
            case Event():
                return self._told(packet)
            case Take():
                theirs = self._open_theirs(packet.id)
                if theirs is None:
                    return self._late()
                if theirs.take is None:
                    raise BadHeader("A stream was granted to a request that takes none.")
                theirs.take = min(theirs.take + packet.bytes, limits.NUMBER_MAX)
                return packet
            case Bye():
                if not packet.all and not self.peer_asks:
                    return self._stray()
                self.peer_asks = False
                self.finished = packet.all
                return packet

    def _asked(self, do: Do) -> Packet | Drop:
        if not self.peer_asks:
            raise BadHeader("A request came after the bye.")
        if do.id <= self._last_theirs:
            raise BadHeader("The number of a request is not higher than the one before.")
        if (do.name == "hello") is self.greeted:
            raise BadHeader("A conversation begins with hello, and has only one.")
        self._last_theirs = do.id
        self.greeted = True
        self._strays = 0
        exchange = _exchange(do)
        error: LanxferError | None = None
        if len(self._theirs) >= limits.OPEN_EXCHANGES:
            error = Overloaded("Too many requests are open.")
        elif do.body > _BODY_MAX.get(do.name, do.body):
            error = TooLarge(f"At most {_BODY_MAX[do.name]} bytes travel with such a request.")
        if error is not None:
            self._refused.add(do.id)
            return Drop(do.id, error, do.body)
        self._theirs[do.id] = exchange
        return do

    def _open_theirs(self, id: int) -> _Exchange | None:
        if id > self._last_theirs:
            raise BadHeader("A packet belongs to a request that was never made.")
        return self._theirs.get(id)

    def _part(self, part: Part) -> Packet | Drop:
        theirs = self._open_theirs(part.id)
        if theirs is None:
            if part.body > self._late_bytes:
                self._stray()
            else:
                self._late_bytes -= part.body
            return Drop(part.id, None, part.body)
        if not theirs.streams or theirs.phase is not Phase.GOING:
            raise BadHeader("A part came for something that takes none now.")
        error = theirs.misfit(part)
        if error is not None:
            return Drop(part.id, error, part.body)
        theirs.moved(part)
        return part

    def _ended(self, end: End) -> Packet | Drop | None:
        theirs = self._open_theirs(end.id)
        if theirs is None:
            return self._late()
        if not theirs.streams or theirs.phase is not Phase.GOING:
            raise BadHeader("An end came for something that is not under way.")
        if end.size != ((theirs.position or 0) if theirs.unbounded else theirs.size):
            raise BadHeader("A file ended with another size than it was announced with.")
        if end.digest is None and not theirs.unbounded:
            raise BadHeader('The header needs a digest "blake3".')
        theirs.phase = Phase.ENDED
        return end

    def _granted(self, go: Go) -> Packet | None:
        ours = self._ours.get(go.id)
        if ours is None or not ours.streams or ours.phase is not Phase.ASKED:
            return self._stray()
        offsets = [offset for offset, _ in go.have]
        if offsets != sorted(set(offsets), reverse=True) or (offsets and offsets[0] > ours.size):
            raise BadHeader('The entries of "have" are not falling, or beyond the file.')
        ours.go(go)
        return go

    def _told(self, event: Event) -> Packet | Drop | None:
        ours = self._ours.get(event.id)
        if ours is None:
            self._stray()
            return Drop(event.id, None, event.body) if event.body else None
        if event.body:
            if event.body > (ours.take or 0):
                raise BadHeader("More of a stream came than was granted.")
            ours.take = (ours.take or 0) - event.body
        return event

    def _answered(self, answer: Ok | Failed) -> Packet | Drop | None:
        if answer.id == 0:
            return answer
        ours = self._ours.get(answer.id)
        if ours is None:
            self._stray()
            return Drop(answer.id, None, answer.body) if answer.body else None
        if isinstance(answer, Ok) and not ours.complete:
            raise BadHeader("A file was acknowledged before it was sent.")
        del self._ours[answer.id]
        return answer

    def _late(self) -> Packet | None:
        """Let a packet pass that may have crossed our answer: one end, one cancel a request."""
        if not self._late_packets:
            return self._stray()
        self._late_packets -= 1
        return None

    def _stray(self) -> Packet | None:
        """Let a packet that belongs to nothing pass, a bounded number of times."""
        self._strays += 1
        if self._strays > limits.STRAY_PACKETS:
            raise BadHeader("Too many packets belonged to nothing.")
        return None

    # Writing.

    def ask(self, name: str, args: Args, body: int = 0) -> Do:
        return Do(self._last_ours + 1, name, args, body)

    def send(self, packet: Packet) -> bytes:
        if type(packet) is Ok and packet.rows is None:  # what is said most, without delay
            line = format_packet(packet)
            self._answer(packet)
            return line
        match packet:
            case Ok() if packet.rows is not None:
                line = self._list(packet, packet.rows)
            case _:
                # First, so that what cannot be said leaves nothing behind.
                line = self._format(packet)
        match packet:
            case Do():
                if len(self._ours) >= limits.OPEN_EXCHANGES:
                    raise Overloaded("Too many requests are open on this connection.")
                if not self.we_ask or packet.id <= self._last_ours:
                    raise ValueError("this side asks nothing more")
                self._last_ours = packet.id
                self._ours[packet.id] = _exchange(packet)
            case Ok() | Failed():
                self._answer(packet)
            case Go():
                theirs = self._open(self._theirs, packet.id, Phase.ASKED)
                if not theirs.streams:
                    raise ValueError("nothing streams there")
                theirs.go(packet)
            case Window():
                self._open(self._theirs, packet.id, Phase.GOING).credit += packet.bytes
            case Part():
                ours = self._open(self._ours, packet.id, Phase.GOING)
                error = ours.misfit(packet)
                if error is not None:
                    raise ValueError(f"part out of place: {error}")
                ours.moved(packet)
            case End():
                self._open(self._ours, packet.id, Phase.GOING).phase = Phase.ENDED
            case Event():
                theirs = self._open(self._theirs, packet.id)
                if packet.body:
                    if packet.body > (theirs.take or 0):
                        raise ValueError("more of a stream than was granted")
                    theirs.take = (theirs.take or 0) - packet.body
            case Take() if packet.id not in self._ours:
                return b""  # answered just now
            case Take():
                mine = self._ours[packet.id]
                if mine.take is None:
                    raise ValueError("that request takes no stream")
                mine.take += packet.bytes
            case Cancel() if packet.id not in self._ours:
                return b""  # answered just now
            case Cancel():
                pass
            case Bye():
                self.we_ask = False
        return line

    def _format(self, packet: Packet) -> bytes:
        if isinstance(packet, Do) and packet.body > limits.ANSWER_BODY_MAX:
            raise TooLarge("More bytes than can travel with a request.")
        try:
            return format_packet(packet)
        except ValueError:
            path = packet.args.get("path") if isinstance(packet, Do) else None
            if isinstance(path, str) and not is_whole(path):
                raise BadName("The name is no text (a lone surrogate).") from None
            raise

    def went(self, part: Part) -> None:
        """A part was sent without being asked here first, within the ``credit`` of its exchange."""
        ours = self._ours.get(part.id)
        if ours is not None:
            ours.moved(part)

    def _list(self, ok: Ok, rows: Sequence[Args]) -> bytes:
        """An answer that is a list, with as many of its rows as one answer carries."""
        lines, size = [], 0
        for row in rows:
            line = format_rows([row])
            size += len(line)
            if size > limits.ANSWER_BODY_MAX:
                break
            lines.append(line)
        body = b"".join(lines)
        return format_packet(Ok(ok.id, {**ok.args, "rows": len(lines)}, len(body))) + body

    def _answer(self, answer: Ok | Failed) -> None:
        theirs = self._theirs.get(answer.id)
        if theirs is None and answer.id not in self._refused:
            raise ValueError("one answer a request")
        if theirs is not None and isinstance(answer, Ok) and not theirs.complete:
            raise ValueError("a file is not acknowledged before all of it came")
        self._theirs.pop(answer.id, None)
        self._refused.discard(answer.id)
        # One end, one cancel; of a stream as many grants as fit into a window, too.
        self._late_packets += 2 if theirs is None or theirs.take is None else 10
        self._late_bytes += theirs.late if theirs is not None else 0

    def _open(
        self, exchanges: dict[int, _Exchange], id: int, phase: Phase | None = None
    ) -> _Exchange:
        found = exchanges.get(id)
        if found is None or phase not in (None, found.phase):
            raise ValueError(f"not the time for that in exchange {id}")
        return found

    def credit(self, id: int) -> int:
        """How many bytes of parts may still be sent for our exchange ``id``."""
        ours = self._ours.get(id)
        return ours.credit if ours is not None else 0

    def granted(self, id: int) -> int:
        """How many bytes the other side may still send for its exchange ``id``."""
        theirs = self._theirs.get(id)
        return theirs.credit if theirs is not None else 0

    def coming(self, id: int) -> tuple[int, int]:
        """Where the next part of the other side's exchange ``id`` begins, and what it may send."""
        theirs = self._theirs.get(id)
        return (0, 0) if theirs is None else (theirs.position or 0, theirs.credit)

    def came_beside(self, id: int, size: int) -> None:
        """Bytes of that exchange came on a connection of their own ("A body in clear")."""
        theirs = self._theirs.get(id)
        if theirs is not None:
            theirs.beside = True
            theirs.credit -= size

    def implied(self) -> Packet | None:
        return None

    def lost(self) -> Failed | None:
        return None

    def complaint(self, error: Exception) -> bytes:
        known = error if isinstance(error, LanxferError) else LanxferError()
        return format_packet(Failed(0, known.code, known.reason, known.retry))
