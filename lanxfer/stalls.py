"""Transfers that do not move: given up one by one, while the connection goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import Factory, define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from lanxfer.errors import NotFound, TimedOut
from lanxfer.registry import Registry
from lanxfer.transfers import Snapshot, State, Together

_MOVES = {State.ACCEPTED, State.MOVING, State.COMMITTING}
"""States in which something ought to happen; in the others somebody is being waited for."""


@define(eq=False)
class Stalls:
    """Gives up every transfer of a registry that has not moved for ``seconds``.

    It fails with TimedOut.  What is paused, waits for a yes, or has no connection
    just now, waits on.
    """

    clock: IReactorTime
    registry: Registry
    seconds: float
    _moved: dict[str, float] = Factory(dict)
    _next: IDelayedCall | None = None
    _unsubscribe: Callable[[], None] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._unsubscribe = self.registry.subscribe_many(self._hear)

    def stop(self) -> None:
        """Give up nothing any more."""
        self._unsubscribe()
        self._moved.clear()
        self._rest()

    def _hear(self, snapshots: Sequence[Snapshot]) -> None:
        if isinstance(snapshots, Together):
            return  # none of them was seen to move
        for each in snapshots:
            if each.state in _MOVES:
                self._moved[each.id] = self.clock.seconds()
            elif self._moved:
                self._moved.pop(each.id, None)
        if self._moved and self._next is None:
            self._next = self.clock.callLater(self.seconds, self._look)

    def _look(self) -> None:
        self._next = None
        now = self.clock.seconds()
        for id, moved in list(self._moved.items()):
            if now - moved >= self.seconds:
                self._moved.pop(id, None)
                self._give_up(id)
        if self._moved and self._next is None:
            first = min(self._moved.values())
            self._next = self.clock.callLater(max(first + self.seconds - now, 0.01), self._look)

    def _give_up(self, id: str) -> None:
        try:
            transfer = self.registry.find(id)
        except NotFound:
            return
        transfer.cancel(TimedOut(f"Nothing of it has moved for {self.seconds:g} s."))

    def _rest(self) -> None:
        looking, self._next = self._next, None
        if looking is not None:
            looking.cancel()
