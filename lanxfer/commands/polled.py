"""The list that ae controllers poll (docs/protocol.rst, "The literal dialect").

An ae server appends every request but the polling itself; a poll gives all
entries and then forgets those that have ``completed`` or ``error``, so each
finished request is seen exactly once, by whoever polls first.  Here finished
entries are also forgotten after an hour, the list is bounded, and an entry is
always finished by whoever made it, failures included.

Keys are those of ae requests; only the presence of ``completed`` and ``error``
counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import Factory, define

from lanxfer.registry import Registry
from lanxfer.transfers import Direction, Kind, Snapshot, State

Row: TypeAlias = dict[str, Any]

ENTRIES_MAX = 1000
LIFETIME = 3600.0
"""Seconds an entry that nobody polls is kept after it was finished."""


@define(eq=False)
class Entry:
    """One request on the list.

    ``peer`` is the principal that made it, ``row`` what a poll shows of it now,
    ``finished`` the clock's time when it was.  ``progress`` gives the bytes done
    at the moment of a poll, where somebody counts them.
    """

    row: Row
    peer: str = ""
    finished: float | None = None
    progress: Callable[[], int] | None = None


@define
class Polled:
    """The list; ``clock`` gives seconds, since whenever."""

    clock: Callable[[], float]
    _entries: dict[int, Entry] = Factory(dict)
    _others: dict[str, Entry] = Factory(dict)
    _last: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, request: Mapping[str, Any], peer: str = "") -> Entry:
        """A new entry for ``request``, which gets an ``rt_id`` if it has none.

        ``completed`` and ``error`` are ours to set: what the request says of them
        is left out, else the entry of a running transfer would go with the next poll.
        """
        from lanxfer.sessions.literal import request_id  # only where that dialect is spoken

        row = {key: value for key, value in request.items() if key not in ("completed", "error")}
        if not row.get("rt_id"):
            row["rt_id"] = request_id({**row, "rt_id": ""})
        return self._append(Entry(row, peer))

    def _append(self, entry: Entry) -> Entry:
        self._age()
        if len(self._entries) >= ENTRIES_MAX:
            self._forget_one()
        self._last += 1
        self._entries[self._last] = entry
        return entry

    def follow(self, registry: Registry, snapshot: Snapshot) -> None:
        """List a transfer that no ae peer asked for: a controller here is shown everything."""
        if snapshot.request or (
            snapshot.direction is Direction.IN and snapshot.peer.startswith("legacy:")
        ):
            return
        entry = self._others.get(snapshot.id)
        if entry is None:
            entry = self._others[snapshot.id] = self._append(Entry({}))
            entry.progress = progress_of(registry, snapshot)
        entry.row = from_snapshot(snapshot)
        if snapshot.state.finished:
            del self._others[snapshot.id]
            entry.finished = self.clock()

    def update(
        self,
        entry: Entry,
        *,
        transferred_bytes: int | None = None,
        total_bytes: int | None = None,
        error: str | None = None,
        completed: bool = False,
    ) -> None:
        """Change what the next poll shows; harmless for an entry that is gone already."""
        if transferred_bytes is not None:
            entry.row["transferred_bytes"] = transferred_bytes
        if total_bytes is not None:
            entry.row["total_bytes"] = total_bytes
        if completed:
            entry.row["completed"] = True
        if error is not None:
            entry.row["error"] = error
        if entry.finished is None and (completed or error is not None):
            entry.finished = self.clock()

    def poll(self, only: Callable[[Row], bool] | None = None) -> list[Row]:
        """Copies of all rows, oldest first; the finished ones among them are gone then.

        ``only`` chooses what the caller may see, and so remove.  It gets the row
        with the ``peer`` of ``add`` under that key, whatever the request had there.
        """
        self._age()
        seen: list[Row] = []
        for number, entry in list(self._entries.items()):
            if only is not None and not only({**entry.row, "peer": entry.peer}):
                continue
            if entry.progress is not None and entry.finished is None:
                entry.row["transferred_bytes"] = entry.progress()
            seen.append(dict(entry.row))
            if entry.finished is not None:
                del self._entries[number]
        return seen

    def _age(self) -> None:
        oldest = self.clock() - LIFETIME
        for number, entry in list(self._entries.items()):
            if entry.finished is not None and entry.finished <= oldest:
                del self._entries[number]

    def _forget_one(self) -> None:
        """Make room: what finished first, else what is oldest."""

        def rank(number: int) -> tuple[bool, float]:
            finished = self._entries[number].finished
            return (finished is None, finished or 0.0)

        del self._entries[min(self._entries, key=rank)]


def progress_of(registry: Registry, snapshot: Snapshot) -> Callable[[], int]:
    """What counts the bytes of an open transfer; not every step of it is told to listeners."""
    transfer = registry.find(snapshot.id)
    return lambda: transfer.snapshot.done


def from_snapshot(snapshot: Snapshot) -> Row:
    """How a transfer that came by another dialect looks to an ae controller.

    Addresses are known only of ae peers; ``local_ip`` is the originator's.
    """
    incoming = snapshot.direction is Direction.IN
    what = "message" if snapshot.kind is Kind.MESSAGE else "file"
    dialect, _, address = snapshot.peer.partition(":")
    known = address if dialect == "legacy" else ""
    row: Row = {
        "method_name": f"{'recv' if incoming else 'send'}_{what}",
        "message" if what == "message" else "file_path": snapshot.path,
        "total_bytes": snapshot.size,
        "transferred_bytes": snapshot.done,
        "rt_id": snapshot.id,
        "local_ip": known if incoming else "",
        "remote_ip": "" if incoming else known,
    }
    if snapshot.state is State.DONE:
        row["completed"] = True
    elif snapshot.state.finished:
        row["error"] = f"{snapshot.reason or snapshot.state.value} [{snapshot.code}]"
    return row
