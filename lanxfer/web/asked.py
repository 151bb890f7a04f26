"""Commands that a page asks for: the same table, the same rights, another way to answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from lanxfer.calls import IncomingCall
from lanxfer.commands.dispatch import run
from lanxfer.commands.table import Reply, Table
from lanxfer.errors import BadRequest, LanxferError, Lost, TooLarge
from lanxfer.node import ServiceNode
from lanxfer.policy import refusal
from lanxfer.web.gate import Session
from lanxfer.web.http import PageRequest
from lanxfer.wire.packets import Args, Do

ROWS_MAX = 10_000
"""Entries of a folder that a page shows."""


class _Deaf:
    """Where a call would announce things that a page does not hear of."""

    crowded = False

    def say(self, *rest: object) -> None:
        pass


class PageCall(IncomingCall):
    """A request of a page's; ``out`` takes what its answer streams."""

    def __init__(
        self,
        node: ServiceNode,
        session: Session,
        name: str,
        args: Args,
        data: bytes | None = None,
        out: Any = None,
    ) -> None:
        deaf: Any = _Deaf()
        do = Do(1, name, args)
        super().__init__(
            do, session.principal, data, True, deaf, node.disk, node.clock, lambda change: None
        )
        self._out = out

    def stream_in(self) -> Any:
        raise BadRequest("A page cannot ask for that.")

    def stream_out(self) -> Any:
        if self._out is None:
            raise BadRequest("A page cannot ask for that.")
        return self._out


async def ask(call: PageCall, node: ServiceNode, table: Table) -> Reply:
    """Run the command, if it is there for who asks."""
    refused = refusal(call.principal, call.name, call.name in table)
    if refused is not None:
        raise refused
    return await run(call, node, table)


@define(eq=False)
class Rows:
    """The lines of a listing, as the values they are."""

    rows: list[Any] = field(factory=list)

    async def write(self, data: bytes) -> None:
        self.rows += map(json.loads, data.splitlines())
        if len(self.rows) > ROWS_MAX:
            raise TooLarge(f"That folder has more than {ROWS_MAX} entries.")


@implementer(IPushProducer)
@define(eq=False)
class Download:
    """The bytes of a file on their way to a browser, as fast as it takes them."""

    request: PageRequest
    meter: Any
    on_lost: Callable[[LanxferError], object] = lambda error: None
    _waiting: Deferred[None] | None = None
    _paused: bool = False
    _lost: bool = False

    def begin(self) -> None:
        self.request.registerProducer(self, True)
        self.request.notifyFinish().addErrback(lambda why: self.stopProducing())

    async def write(self, data: bytes) -> None:
        """Some more; waits while the other side does not read, or may not be sent more yet."""
        while self.meter.allowance <= 0 and not self._lost:
            turn: Deferred[None] = Deferred()
            self.meter.ask(lambda turn=turn: turn.callback(None))
            await turn
        if self._paused and not self._lost:
            self._waiting = Deferred()
            await self._waiting
        if self._lost:
            raise Lost()
        self.meter.spend(len(data))
        self.request.write(data)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        self._lost = True
        self.on_lost(Lost())
        self.resumeProducing()
