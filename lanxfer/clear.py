"""The body of a large file, in clear, on a connection of its own (docs/protocol.rst).

What is said about the file stays in TLS; here are nothing but its bytes, at the
speed of plain TCP.  ``ClearTickets`` and ``ClearIn`` are the receiver's side: an
exchange offers a ticket, a ``ClearReader`` that brings it pours into that
exchange as if the bytes had come by TLS, under the same credit, speed limits and
patience.  The sender's end is in ``lanxfer.clear_out``.  Whoever meddles with the bytes is
found out by the digest; whoever meddles with the connection breaks the exchange, which is
then resumed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from lanxfer.admission import bare
from lanxfer.direct import Direct
from lanxfer.errors import ClearBroken, Forbidden, LanxferError
from lanxfer.rates import Metered
from lanxfer.receiver import PacketReceiver
from lanxfer.wire import limits
from lanxfer.wire.clear import TAKEN, parse_pour
from lanxfer.wire.packets import End

if TYPE_CHECKING:
    from lanxfer.calls import IncomingCall
    from lanxfer.protocol import LanxferProtocol

_NOT_GOOD = "That ticket is not good here."
_ENDED_EARLY = "The connection in clear ended before the file did; what came is kept."


class ClearTickets:
    """The bodies that this device waits for in clear; one for a service."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[str, tuple[ClearIn, IDelayedCall]] = {}

    def make(self, body: ClearIn) -> str:
        """A new ticket, good once and for ten seconds."""
        ticket = secrets.token_hex(16)
        late = self._clock.callLater(limits.CLEAR_TICKET_LIFETIME, self.withdraw, ticket)
        self._waiting[ticket] = (body, late)
        return ticket

    def withdraw(self, ticket: str) -> None:
        """It is good for nothing any more."""
        found = self._waiting.pop(ticket, None)
        if found is not None and found[1].active():
            found[1].cancel()

    def redeem(self, ticket: str, offset: int, source: str) -> ClearIn:
        """Use up a ticket; Forbidden, in the same words, whatever is wrong with it."""
        found = self._waiting.get(ticket)
        if found is None or not found[0].begins(offset, source):
            raise Forbidden(_NOT_GOOD)
        self.withdraw(ticket)
        return found[0]


class ClearIn:
    """The way in clear of one body, from its ticket to its last byte."""

    def __init__(self, tickets: ClearTickets, call: IncomingCall, wire: LanxferProtocol) -> None:
        self._tickets = tickets
        self._call = call
        self._wire = wire
        self._reader: ClearReader | None = None
        self._complete = False
        self._end: End | None = None
        self.ticket = tickets.make(self)

    # The exchange's side.

    @property
    def ending(self) -> bool:
        """All that the sender will send is on its way: it needs no more credit."""
        return self._end is not None

    def not_wanted(self) -> None:
        """The bytes come in TLS."""
        self._tickets.withdraw(self.ticket)

    def holds(self, end: End) -> bool:
        """The end came in TLS; whether it has to wait for bytes that are still to come."""
        self._tickets.withdraw(self.ticket)
        if self._reader is None or self._complete:
            return False
        self._end = end
        return True

    def over(self) -> None:
        """The exchange is over, or its bytes are not wanted any more."""
        self._tickets.withdraw(self.ticket)
        if self._reader is not None:
            self._reader.end()

    def look(self) -> None:
        """There may be room for more, or no room for any."""
        if self._reader is not None:
            self._reader.look()

    # The connection's side.

    def begins(self, offset: int, source: str) -> bool:
        """Whether the body may begin there, and come from that address."""
        same = _same_host(source, self._wire.transport.getPeer().host)
        return same and self._call.begins_at(offset)

    def begin(self, reader: ClearReader, offset: int) -> int:
        """It comes by that connection; how many bytes are to come."""
        self._reader = reader
        self._wire.came_beside(self._call.id, 0)
        self._call.came_in_clear(offset)
        return self._call.size - offset

    @property
    def meter(self) -> Metered:
        return self._wire.meter

    def room(self) -> int:
        """Bytes that may be read now."""
        if self._wire.deaf or self._wire.behind:
            return 0
        return min(self._wire.granted(self._call.id), self.meter.allowance)

    def space(self) -> memoryview | None:
        return self._call.space()

    def received(self, data: bytes) -> None:
        self._call.received(data)
        self._wire.came_beside(self._call.id, len(data))

    def filled(self, size: int) -> None:
        self._call.filled(size)
        self._wire.came_beside(self._call.id, size)

    def complete(self) -> None:
        """The last byte is here."""
        self._complete = True
        end, self._end = self._end, None
        if end is not None:
            self._call.end(end)

    def broke(self) -> None:
        """The connection is gone."""
        if not self._complete:
            self._call.stop(ClearBroken(_ENDED_EARLY))


def _same_host(one: str, other: str) -> bool:
    try:
        return ip_address(bare(one)) == ip_address(bare(other))
    except ValueError:
        return False


class ClearReader(PacketReceiver):
    """A connection that begins with ``pour``: one line, and then the rest of one file.

    ``on_refused`` says no and closes; ``on_known`` hears that the ticket was good.
    """

    transport: Any
    line_limit = limits.HEADER_TICKET

    def __init__(
        self,
        tickets: ClearTickets,
        clock: IReactorTime,
        on_refused: Callable[[LanxferError], None],
        on_known: Callable[[], None],
    ) -> None:
        self._tickets = tickets
        self._clock = clock
        self._on_refused = on_refused
        self._on_known = on_known
        self._body: ClearIn | None = None
        self._asked = False
        self._waking: IDelayedCall | None = None

    def connectionMade(self) -> None:
        Direct.beside(self.transport, self)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._refuse(Forbidden(_NOT_GOOD))

    def lineReceived(self, line: bytes) -> None:
        try:
            ticket, offset = parse_pour(line)
            body = self._tickets.redeem(ticket, offset, self.transport.getPeer().host)
        except LanxferError:
            self._refuse(Forbidden(_NOT_GOOD))
            return
        self._on_known()
        self._body = body
        self.expect(body.begin(self, offset))
        self.transport.write(TAKEN)
        self.look()

    def _refuse(self, error: LanxferError) -> None:
        self.deaf = True
        self._on_refused(error)

    # Bytes.

    def body_space(self) -> memoryview | None:
        body = self._body
        if body is None:
            return None
        room = body.room()
        space = body.space() if room > 0 else None
        return None if space is None else space[:room]

    def bodyFilled(self, size: int) -> None:
        if self._body is not None:
            self._body.filled(size)
            self._spend(size)

    def rawDataReceived(self, data: bytes) -> None:
        if self._body is not None:
            self._body.received(data)
            self._spend(len(data))

    def _spend(self, size: int) -> None:
        if self._body is not None:
            self._body.meter.spend(size)
            self.look()

    def bodyReceived(self) -> None:
        # It is closed with the exchange: before that the sender could take it for a break.
        if not self.paused:
            self.pauseProducing()
        body, self._body = self._body, None
        if body is not None:
            body.complete()

    # Reading no more than there is room for.

    def look(self) -> None:
        """Stop reading where there is no room, and go on where there is."""
        body = self._body
        if body is None or self.deaf:
            return
        if body.room() > 0:
            if self.paused and self._waking is None:
                # Not at once: this may be a call from within the reading of a chunk.
                self._waking = self._clock.callLater(0, self._wake)
            return
        if not self.paused:
            self.pauseProducing()
        if body.meter.allowance <= 0 and not self._asked:
            self._asked = True
            body.meter.ask(self._on_rate)

    def _on_rate(self) -> None:
        self._asked = False
        self.look()

    def _wake(self) -> None:
        self._waking = None
        if self.paused and self._body is not None and self._body.room() > 0:
            self.resumeProducing()

    # The end.

    def end(self) -> None:
        """Read nothing more, and close."""
        if not self.deaf:
            self.deaf = True
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.deaf = True
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        body, self._body = self._body, None
        if body is not None:
            if self._asked:
                body.meter.forget(self._on_rate)
            body.broke()
