"""Whether what this device sends may go in clear, and what its user is told about that.

Only where it was asked for and the receiver takes it (docs/protocol.rst, "A body in
clear").  What goes wrong in clear costs nothing but speed: from then on everything goes in
TLS, which is said once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, UserError
from twisted.internet.error import TimeoutError as NoAnswer

from lanxfer.bulk import BulkTLS
from lanxfer.clear_out import ClearOut, Pouring, beside
from lanxfer.deferreds import own_cancel
from lanxfer.errors import Cancelled, ClearBroken, DigestMismatch, LanxferError, TimedOut, TooSlow
from lanxfer.exchange import Exchange
from lanxfer.protocol import LanxferProtocol
from lanxfer.registry import Transfer
from lanxfer.showing import shown
from lanxfer.wire import limits
from lanxfer.wire.packets import Go

IN_CLEAR = (
    "Large files go in clear: everyone on the network between can read them,"
    " and nobody can change them unnoticed."
)
_NOT_THERE = (
    "{peer} does not take files in clear (it would with --accept-clear-body);"
    " they go encrypted, as ever."
)
_NO_WAY = "There is no second connection to {peer} ({why}); files go encrypted, as ever."
_BROKE = "The connection in clear to {peer} broke; from now on files go encrypted, as ever."
_CHANGED = (
    "What went in clear to {peer} was changed on the way, and not stored;"
    " it is sent again, encrypted."
)


@define
class ClearBodies:
    """One client's wish to send large files in clear; ``tell`` is given sentences for its user.

    ``possible`` is false where connections do not lead to the other side's own address, as
    through a proxy.
    """

    reactor: Any
    peer: str
    tell: Callable[[str], object] = lambda sentence: None
    possible: bool = True
    on: bool = True
    _said: set[str] = field(factory=set)

    def look(self, connection: LanxferProtocol) -> None:
        """Tell the user what will be, now that it is known what the other side takes."""
        self._say(IN_CLEAR if self._takes(connection) else _NOT_THERE)

    def wanted(self, connection: LanxferProtocol, size: int) -> bool:
        """Whether to ask for it for a file of that size."""
        return self.on and size >= limits.CLEAR_LEAST and self._takes(connection)

    def _takes(self, connection: LanxferProtocol) -> bool:
        there = connection.peer_has("clear")
        return there and self.possible and isinstance(connection.transport, BulkTLS)

    async def way(
        self,
        connection: LanxferProtocol,
        exchange: Exchange,
        go: Go,
        left: int,
        offset: int,
        transfer: Transfer,
    ) -> ClearOut | None:
        """The connection for a body of ``left`` bytes; None: send it in TLS.

        When the awaiting Deferred is cancelled, so is the exchange.
        """
        ticket = go.args.get("clear")
        if not (self.on and isinstance(ticket, str)) or left < limits.CLEAR_LEAST:
            return None
        try:
            out = ClearOut(ticket, offset, connection.sending_meter)
        except ValueError:
            return None
        opening = Deferred.fromCoroutine(self._open(connection, out))
        ended: list[object] = []

        def end(outcome: object) -> None:
            # What ends the exchange ends the waiting, too.
            ended.append(outcome)
            opening.cancel()

        exchange.answered().addBoth(end)
        try:
            await opening
        except CancelledError:
            if not ended:
                exchange.cancel(Cancelled())
                raise
            return None
        except ClearBroken as error:
            self.on = False
            self._say(_NO_WAY, why=error.reason.rstrip("."))
            return None
        transfer.in_clear()
        return out

    async def _open(self, connection: LanxferProtocol, out: ClearOut) -> None:
        endpoint = beside(self.reactor, connection.transport)
        try:
            await own_cancel(endpoint.connect(Pouring(out)))
        except (ConnectError, NoAnswer, UserError, OSError, ValueError) as error:
            raise ClearBroken(str(error) or "no answer") from None
        late = self.reactor.callLater(limits.CLEAR_PATIENCE, out.abort)
        try:
            await out.taken
        finally:
            if late.active():
                late.cancel()

    def failed(self, error: LanxferError) -> None:
        """A file that went in clear did not get there."""
        if isinstance(error, DigestMismatch):
            self.on = False
            self._say(_CHANGED)
        elif isinstance(error, (ClearBroken, TimedOut, TooSlow)):
            self.on = False
            self._say(_BROKE)

    def _say(self, sentence: str, **facts: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.tell(sentence.format(peer=shown(self.peer, 40), **facts))
