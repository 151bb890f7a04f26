"""Free space that is promised to transfers under way, so that nobody else gets it.

How much is free is asked of the disk in a thread, and at most once a second:
small files must not hop to a thread each.  In between everything that was
promised is taken off, and what was not used comes back with the next look
(docs/permissions.rst, "Space"; catalogue S01, S08).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from lanxfer.disk import Disk
from lanxfer.errors import DiskFull
from lanxfer.registry import Transfer
from lanxfer.storage import Store
from lanxfer.transfers import Snapshot

LOOK_EVERY = 1.0
"""Seconds for which a number of free bytes is believed."""


@frozen
class _Promise:
    transfer: Transfer
    size: int

    @property
    def left(self) -> int:
        """Bytes that are still to be written; what was there before was not promised."""
        now = self.transfer.snapshot
        return min(self.size, max(0, now.size - now.done))


@define(eq=False)
class Space:
    """See the module; ``clock`` gives seconds that never go back."""

    disk: Disk
    store: Store
    clock: Callable[[], float]
    _promised: dict[str, _Promise] = field(factory=dict)
    _room: int = 0
    _looked: float | None = None
    _looking: list[Deferred[None]] = field(factory=list)

    def reserve(self, transfer: Transfer | None, size: int) -> Deferred[None] | None:
        """Keep ``size`` bytes for it until ``follow`` hears its end; DiskFull if it is more.

        None where it is known already that there is room.  Without a transfer they are
        kept until the disk is asked again: for what is written at once.
        """
        if size <= 0:
            return None
        if not self._looking and size <= self._room and self._age() <= LOOK_EVERY:
            self._promise(transfer, size)
            return None
        return self._look().addCallback(lambda _: self._promise(transfer, size))

    def _promise(self, transfer: Transfer | None, size: int) -> None:
        if size > self._room:
            raise DiskFull()
        self._room -= size
        if transfer is not None and not transfer.state.finished:
            self._promised[transfer.id] = _Promise(transfer, size)

    def follow(self, snapshots: Sequence[Snapshot]) -> None:
        """For a registry's listeners: what is over needs nothing more."""
        if self._promised:
            for each in snapshots:
                if each.state.finished:
                    self._promised.pop(each.id, None)

    @property
    def promised(self) -> int:
        """Bytes that are still to come."""
        return sum(each.left for each in self._promised.values())

    def _age(self) -> float:
        return LOOK_EVERY + 1 if self._looked is None else self.clock() - self._looked

    def _look(self) -> Deferred[None]:
        """Ask the disk; whoever comes meanwhile waits for the same answer."""
        told: Deferred[None] = Deferred()
        self._looking.append(told)
        if len(self._looking) == 1:
            # Before the disk is asked: what is written meanwhile counts twice, never not at all.
            promised = self.promised
            asking = self.disk.run(self.store.free)
            asking.addCallback(self._looked_at, promised).addErrback(self._tell)
        return told

    def _looked_at(self, free: int, promised: int) -> None:
        self._room = max(0, free - promised)
        self._looked = self.clock()
        self._tell(None)

    def _tell(self, result: Failure | None) -> None:
        waiting, self._looking = self._looking, []
        for each in waiting:
            if not each.called:
                each.callback(result)  # a Failure makes it fail
