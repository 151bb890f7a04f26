"""What is under way on this device: one object, made once and passed along.

A transfer is opened, moves through the states of ``lanxfer.transfers.State``
and leaves by one door, ``Transfer.retire``, which may be knocked at twice and
opens once.  Readers get frozen snapshots.  Whoever asks sees only what its
``mine`` function says is its own; the rest does not exist for it.

Nothing here waits or calls the network: cancelling and pausing call the plain
functions that whoever moves the bytes has left on the transfer.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeAlias, cast

from attrs import Factory, define

from lanxfer.errors import Cancelled, LanxferError, NotFound
from lanxfer.showing import shown
from lanxfer.transfers import (
    Direction,
    Entry,
    Kind,
    Offer,
    Receipt,
    Snapshot,
    State,
    Stored,
    Together,
)

Mine: TypeAlias = Callable[[Snapshot], bool]
Listener: TypeAlias = Callable[[Snapshot], None]
Ending: TypeAlias = Stored | Receipt | LanxferError
"""How something ended, in the words of either side; a receipt begins as what is stored does."""
ListenerToMany: TypeAlias = Callable[[Sequence[Snapshot]], None]

PROGRESS_INTERVAL = 0.1
"""Seconds between two words about the progress of one transfer."""

_NEXT = {
    State.OFFERED: {State.WAITING, State.ACCEPTED},
    State.WAITING: {State.ACCEPTED},
    State.ACCEPTED: {State.MOVING, State.PAUSED, State.COMMITTING},
    State.MOVING: {State.PAUSED, State.COMMITTING},
    State.PAUSED: {State.COMMITTING},  # and on, but only by ``pause``
    State.COMMITTING: set(),
}
"""Where a transfer may go next; every state but the finished ones may also end."""


def new_ids() -> Callable[[], str]:
    """A function that gives ids nobody can guess, eight hex digits each."""

    def ids() -> Iterator[str]:
        while True:
            # By the hundred: asking the system costs more than a small file has time for.
            some = secrets.token_hex(4 * 256)
            yield from (some[at : at + 8] for at in range(0, len(some), 8))

    return ids().__next__


def outcome(error: LanxferError) -> State:
    """The state a transfer ends in with this error."""
    if isinstance(error, Cancelled):
        return State.CANCELLED
    return State.INTERRUPTED if type(error).retry else State.FAILED


def _ended(common: Snapshot, what: Offer | Entry, end: Ending) -> Snapshot:
    path = shown(what.path) if common.direction is Direction.IN else what.path
    about = common._replace(kind=what.kind, path=path, size=what.size)
    if isinstance(end, LanxferError):
        return about._replace(state=outcome(end), code=end.code, reason=end.reason)
    stored, size, digest, already = end[:4]
    return about._replace(done=size, stored=stored, digest=digest, already=already)


def everything(snapshot: Snapshot) -> bool:
    """What the device's own user sees."""
    return True


@define(eq=False)
class Transfer:
    """One file, folder, link or message on its way; made by ``Registry.open``.

    ``on_cancel`` and ``on_pause`` belong to whoever moves the bytes; ``given_up`` is what
    the first cancel said, for those who were between two tries when it came.
    """

    registry: Registry
    _snapshot: Snapshot
    on_cancel: Callable[[LanxferError], None] | None = None
    on_pause: Callable[[bool], None] | None = None
    given_up: LanxferError | None = None
    _told: float = 0.0
    _done: int = 0

    @property
    def snapshot(self) -> Snapshot:
        """The transfer as it is now."""
        if self._snapshot.done != self._done:
            self._snapshot = self._snapshot._replace(done=self._done)
        return self._snapshot

    @property
    def id(self) -> str:
        return self._snapshot.id

    @property
    def state(self) -> State:
        return self._snapshot.state

    def enter(self, state: State) -> None:
        """Move on; ignored where the transfer cannot go there any more."""
        if state in _NEXT.get(self.state, ()):
            self._change(state=state)

    def wait(self) -> None:
        """The other side asks somebody; also where it had seemed to be on its way already."""
        if not self.state.finished and self.state is not State.WAITING:
            self._change(state=State.WAITING)

    def again(self) -> None:
        """It is tried once more, from the beginning of the conversation."""
        if not self.state.finished:
            self._change(state=State.OFFERED)

    def resized(self, size: int) -> None:
        """What is sent turned out to have another size than it had when this was opened."""
        if not self.state.finished and size != self._snapshot.size:
            self._done = 0
            self._change(size=size)

    def in_clear(self) -> None:
        """Its bytes are about to go where others can read them."""
        if not self.state.finished and not self._snapshot.clear:
            self._change(clear=True)

    def progressed(self, done: int) -> None:
        """``done`` bytes are safe on this side; told at most ten times a second."""
        if self.state.finished:
            return
        self._done = done
        now = self.registry.clock()
        if now - self._told >= PROGRESS_INTERVAL:
            self._told = now
            self._change()

    def cancel(self, error: LanxferError) -> None:
        """Ask whoever moves the bytes to give up; the transfer is finished when they say so."""
        if self.state.finished:
            return
        self.given_up = self.given_up or error
        if self.on_cancel is None:
            self.retire(State.CANCELLED, error=error)
        else:
            self.on_cancel(error)

    def pause(self, paused: bool) -> None:
        """Hold the bytes back, or let them go on."""
        if paused and self.state in (State.ACCEPTED, State.MOVING):
            self.enter(State.PAUSED)
        elif not paused and self.state is State.PAUSED:
            self._change(state=State.MOVING)
        else:
            return
        if self.on_pause is not None:
            self.on_pause(paused)

    def retire(
        self,
        outcome: State,
        *,
        stored: Stored | None = None,
        error: LanxferError | None = None,
    ) -> None:
        """The one way out; whoever comes second changes nothing."""
        if self.state.finished:
            return
        changes: dict[str, Any] = {"state": outcome}
        if stored is not None:
            self._done = stored.size
            changes.update(stored=stored.path, digest=stored.digest, already=stored.already)
        if error is not None:
            changes.update(code=error.code, reason=error.reason)
        self.on_cancel = self.on_pause = None
        self.registry._leave(self)
        self._change(**changes)

    def _change(self, **changes: Any) -> None:
        now = self.registry.clock()
        self._snapshot = self._snapshot._replace(changed=now, done=self._done, **changes)
        self.registry._tell([self._snapshot])


@define(eq=False)
class Registry:
    """Every transfer of this device that is pending, moving or lately finished.

    ``clock`` gives seconds since the epoch, ``new_id`` an id nobody used.
    ``on_listener_error`` is told when a listener raises; the others still hear.
    """

    clock: Callable[[], float]
    new_id: Callable[[], str]
    on_listener_error: Callable[[Exception], None]
    finished_max: int = 1000
    _open: dict[str, Transfer] = Factory(dict)
    _finished: deque[Sequence[Snapshot]] = Factory(deque)
    _finished_count: int = 0
    _listeners: tuple[ListenerToMany, ...] = ()

    def open(
        self,
        direction: Direction,
        kind: Kind,
        peer: str,
        path: str,
        size: int,
        *,
        request: str = "",
        group: str = "",
        secure: bool = True,
    ) -> Transfer:
        """A new transfer, offered; ``request`` is the id an ae peer gave it."""
        now = self.clock()
        snapshot = Snapshot(
            id=self.new_id(),
            direction=direction,
            kind=kind,
            peer=peer,
            path=path,
            size=size,
            state=State.OFFERED,
            request=request,
            started=now,
            changed=now,
            secure=secure,
            group=group,
        )
        transfer = Transfer(self, snapshot)
        self._open[snapshot.id] = transfer
        self._tell([snapshot])
        return transfer

    def passed(
        self,
        direction: Direction,
        peer: str,
        what: Sequence[Offer | Entry],
        ends: Sequence[Ending],
        odd: Sequence[int] | None = None,
        *,
        started: float,
        id: str = "",
        request: str = "",
        group: str = "",
        secure: bool = True,
    ) -> None:
        """Tell of files and folders that were over before anybody could have looked at them.

        Each has the ``id`` of all, a new one where that is "", with its number behind it.  Those
        that arrived as they were sent are told of in one go.  Who has looked already says which
        are ``odd``: all others are files that arrived so.
        """
        common = Snapshot(
            id or self.new_id(),
            direction,
            Kind.FILE,
            peer,
            "",
            0,
            State.DONE,
            request=request,
            started=started,
            changed=self.clock(),
            secure=secure,
            group=group,
        )
        every = range(len(what))
        odd = every if odd is None else odd
        plain: dict[bool, list[int]] = {False: sorted({*every} - {*odd}), True: []}
        others: list[Snapshot] = []
        for at in odd:
            each, end = what[at], ends[at]
            if (
                isinstance(end, LanxferError)
                or each.kind is not Kind.FILE
                or end[0] != each.path
                or end[1] != each.size
            ):
                others.append(_ended(common._replace(id=f"{common.id}-{at}"), each, end))
            else:
                plain[end.already].append(at)
        for already, some in plain.items():
            if some:
                some.sort()
                files = [what[at] for at in some]
                paths, sizes = [each.path for each in files], [each.size for each in files]
                digests = [cast(Stored, ends[at]).digest for at in some]
                about = common._replace(already=already)
                self._tell(Together(about, some, paths, sizes, digests))
        if others:
            self._tell(others)

    def note(self, snapshot: Snapshot) -> None:
        """Tell of something that has ended and was no transfer of this registry, as a job."""
        self._tell([snapshot])

    def follow(
        self, transfer: Transfer, told: Callable[[int, int], None] | None
    ) -> Callable[[], None]:
        """Have ``told`` hear of its bytes, done and in all; call what this returns to stop."""
        if told is None:
            return lambda: None

        def listen(snapshot: Snapshot) -> None:
            if snapshot.id == transfer.id:
                told(snapshot.done, snapshot.size)

        return self.subscribe(listen)

    def __len__(self) -> int:
        return len(self._open)

    def pending(self, mine: Mine = everything) -> list[Snapshot]:
        """What is not finished yet, oldest first."""
        return [each.snapshot for each in self._open.values() if mine(each.snapshot)]

    def finished(self, mine: Mine = everything) -> list[Snapshot]:
        """What finished since the start, newest first; the journal knows more."""
        over = chain.from_iterable(map(reversed, reversed(self._finished)))
        return [each for each in islice(over, self.finished_max) if mine(each)]

    def find(self, id: str, mine: Mine = everything) -> Transfer:
        """The open transfer of that id, or of that ae request id; NotFound otherwise."""
        found = self._open.get(id)
        if found is not None and mine(found.snapshot):
            return found
        # Ids of requests are the peers' own choice: two of them may have chosen the same.
        for each in self._open.values():
            if id and each.snapshot.request == id and mine(each.snapshot):
                return each
        raise NotFound('No such transfer is under way; "lanxfer pending" shows what is.')

    def cancel(self, id: str, mine: Mine = everything, reason: str = "") -> Snapshot:
        """Cancel by id; done twice, or after the end, it changes nothing.

        Raises NotFound for what the caller never could see.
        """
        if id not in self._open:
            over = next((each for each in self.finished(mine) if each.id == id), None)
            if over is not None:
                return over
        transfer = self.find(id, mine)
        transfer.cancel(Cancelled(reason))
        return transfer.snapshot

    def cancel_all(self, error: LanxferError) -> None:
        """Give up whatever is under way, as when the service stops."""
        for each in list(self._open.values()):
            each.cancel(error)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Hear of every change from now on; call what this returns to stop."""

        def each(snapshots: Sequence[Snapshot]) -> None:
            for snapshot in snapshots:
                if each not in self._listeners:
                    break
                try:
                    listener(snapshot)
                except Exception as error:
                    self.on_listener_error(error)

        return self.subscribe_many(each)

    def subscribe_many(self, listener: ListenerToMany) -> Callable[[], None]:
        """As ``subscribe``, for whoever is quicker with what happened at the same moment."""
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            left = list(self._listeners)
            if listener in left:
                left.remove(listener)
                self._listeners = tuple(left)

        return unsubscribe

    def _leave(self, transfer: Transfer) -> None:
        self._open.pop(transfer.id, None)

    def _keep(self, over: Sequence[Snapshot]) -> None:
        finished = self._finished
        finished.append(over)
        self._finished_count += len(over)
        while finished and self._finished_count - len(finished[0]) >= self.finished_max:
            self._finished_count -= len(finished.popleft())

    def _tell(self, snapshots: Sequence[Snapshot]) -> None:
        together = isinstance(snapshots, Together)
        over = snapshots if together else [each for each in snapshots if each.state.finished]
        if over:
            self._keep(over)
        # All of them to one listener after the other: that is how a processor likes it best.
        listeners = self._listeners
        for listener in listeners:
            if self._listeners is not listeners and listener not in self._listeners:
                continue
            try:
                listener(snapshots)
            except Exception as error:
                self.on_listener_error(error)
