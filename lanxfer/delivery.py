"""One other device, and what is delivered to it: what all calls of a client stand on.

A connection that breaks is made again, with growing pauses, as long as patience
allows; what was under way goes on from what the receiver holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lanxfer import ae, offering, sending
from lanxfer.clear_sending import ClearBodies
from lanxfer.connecting import Dialer, Target
from lanxfer.deferreds import Shared, public
from lanxfer.disk import Disk
from lanxfer.errors import Cancelled, LanxferError, Lost, TooLarge
from lanxfer.exchange import Answer
from lanxfer.offering import Loaded
from lanxfer.packing import as_sent, goes_again
from lanxfer.protocol import LanxferProtocol
from lanxfer.registry import Registry, Transfer, new_ids
from lanxfer.retrying import PATIENCE, UNKNOWN, Retrying
from lanxfer.transfers import Conflict, Direction, Entry, Kind, Receipt
from lanxfer.trees import Outcomes
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

_log = Logger()

Dialing: TypeAlias = Coroutine[Any, Any, LanxferProtocol]
"""A connection being made."""


def new_registry() -> Registry:
    """A registry on the machine's own clock."""

    def complain(error: Exception) -> None:
        _log.error("A listener failed: {reason}", event="listener_failed", reason=repr(error))

    return Registry(time.time, new_ids(), complain)


class Delivery:
    """See the module.

    ``registry`` holds what is sent, and tells its subscribers; ``request`` is the
    id an ae controller gave to that.  ``dial`` makes a connection.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target | None,
        dial: Callable[[], Dialing],
        disk: Disk,
        *,
        dialer: Dialer | None = None,
        registry: Registry | None = None,
        patience: float = PATIENCE,
        request: str = "",
        on_close: Callable[[], object] = lambda: None,
        clear: ClearBodies | None = None,
    ) -> None:
        self.registry = new_registry() if registry is None else registry
        self._reactor = reactor
        self._target = target
        self._dial = dial
        self._dialer = dialer
        self._disk = disk
        self._request = request
        self._on_close = on_close
        self._clear = clear
        self._connection: LanxferProtocol | None = None
        self._dialing = Shared(self._redial)
        self._closed = False
        self._retrying = Retrying(reactor, patience, lambda: self._closed)

    @property
    def peer(self) -> str:
        """The principal on the other end, as far as it is known."""
        connection = self._connection
        if connection is not None and connection.principal is not None:
            return connection.principal.name
        return self._target.name if self._target is not None else "local"

    @property
    def hello(self) -> Args:
        """What the other side said of itself: ``device``, ``speaks``, ``limits``, ``features``."""
        return {} if self._connection is None else self._connection.hello

    def call(
        self,
        name: str,
        args: Args | None = None,
        data: bytes = b"",
        on_event: Callable[[Args], None] | None = None,
    ) -> Deferred[Answer]:
        """Ask anything; an application's own commands, too.  Not repeated after a break."""

        async def run() -> Answer:
            connection = await self.connected()
            return await connection.ask(name, args or {}, data, on_event).answered()

        return public(run())

    async def connected(self) -> LanxferProtocol:
        """The connection, made if there is none."""
        connection = self._connection
        if connection is not None and not connection.deaf:
            return connection
        if self._closed:
            raise Lost("This client was closed.")
        return await self._dialing.get()

    async def _redial(self) -> LanxferProtocol:
        self._connection = await self._dial()
        if self._clear is not None:
            self._clear.look(self._connection)
        self._retrying.hopeless = False
        return self._connection

    @property
    def _legacy(self) -> bool:
        return self._target is not None and self._target.legacy

    @property
    def _secure(self) -> bool:
        return self._target is None or not (self._target.plain or self._target.legacy)

    def _open(self, entry: Entry, group: str) -> Transfer:
        return self.registry.open(
            Direction.OUT,
            entry.kind,
            self.peer,
            entry.path,
            entry.size,
            request=self._request,
            group=group,
            secure=self._secure,
        )

    async def _send_file(
        self,
        path: str,
        name: str | None,
        conflict: Conflict | None,
        on_progress: Callable[[int, int], None] | None,
        shared: bool = False,
    ) -> Receipt:
        entry = await self._disk.run(offering.single, path, name)
        loaded = await self._disk.run(offering.load, entry._replace(shared=shared))
        transfer = self._open(loaded.entry, "")
        unsubscribe = self.registry.follow(transfer, on_progress)
        try:
            return await self._deliver(loaded, transfer, conflict)
        finally:
            unsubscribe()

    async def _deliver(
        self, loaded: Loaded, transfer: Transfer, conflict: Conflict | None
    ) -> Receipt:
        """Send one entry, again where that can help, and retire its transfer."""
        entry = loaded.entry
        provable = entry.kind is Kind.FILE and entry.size > 0

        async def attempt(unsure: bool) -> Receipt:
            if self._target is not None and self._target.legacy and self._dialer is not None:
                if transfer.given_up is not None:
                    raise transfer.given_up
                series = conflict is Conflict.SERIES
                return await ae.send_file(self._dialer, self._target, entry, transfer, series)
            connection = await self.connected()
            if transfer.given_up is not None:  # cancelled while that took its time
                if not (unsure and provable):
                    raise transfer.given_up
                return await sending.withdraw(connection, self._disk, loaded, transfer, conflict)
            return await sending.send(
                connection, self._disk, loaded, transfer, conflict, self._clear
            )

        return await self._retrying.persist(attempt, transfer, unsure=loaded.unsure)

    def _most_together(self) -> int:
        """As ``sending.most_together``, of the connection there is, or was."""
        return 0 if self._connection is None else sending.most_together(self._connection)

    def _takes_folders(self) -> bool:
        """Whether folders may be in a pack."""
        return self._connection is not None and self._connection.peer_has("folders")

    async def _deliver_pack(
        self, pack: Sequence[Loaded], conflict: Conflict | None, group: str
    ) -> Outcomes:
        """Send files together.

        Where nobody knows what became of them they are ``unsure`` from then on.
        """
        started = self.registry.clock()
        try:
            connection = await self.connected()
            most = sending.most_together(connection)
            if not most or sum(loaded.size for loaded in pack) > most:
                return dict.fromkeys(range(len(pack)))  # it is another one, or slower by now
            odd = await sending.send_pack(connection, pack, conflict, group, self._disk.units)
        except Cancelled as cancelled:
            odd = dict.fromkeys(range(len(pack)), cancelled)
        except LanxferError as error:
            for loaded in pack:
                loaded.unsure = loaded.unsure or isinstance(error, UNKNOWN)
            return dict.fromkeys(range(len(pack)))
        outcomes = {at: None if goes_again(end) else end for at, end in odd.items()}
        over = [at for at in range(len(pack)) if outcomes.get(at, True) is not None]
        self.registry.passed(
            Direction.OUT,
            self.peer,
            [pack[at].entry for at in over],
            [odd.get(at) or as_sent(pack[at]) for at in over],
            [number for number, at in enumerate(over) if at in odd or pack[at].folder],
            started=started,
            request=self._request,
            group=group,
            secure=self._secure,
        )
        return outcomes

    async def _send_message(self, text: str) -> Receipt:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > limits.MESSAGE_MAX:
            raise TooLarge(f"A message has at most {limits.MESSAGE_MAX} bytes; send it as a file.")
        transfer = self._open(Entry(Kind.MESSAGE, text[:200], "", size, None), "")

        async def attempt(unsure: bool) -> Receipt:
            if self._target is not None and self._target.legacy and self._dialer is not None:
                return await ae.send_message(self._dialer, self._target, text, transfer)
            return await sending.send_message(await self.connected(), text, transfer)

        # Not repeated after a break: a message has no digest, and nobody wants it twice.
        return await self._retrying.persist(attempt, transfer, once=True)
