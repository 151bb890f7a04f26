"""How far a send is: what to expect, what has gone out, how fast, and how long it will take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lanxfer.showing import shown
from lanxfer.transfers import Entry, Kind, Receipt, Snapshot, State, Together

RATE_SPAN = 8.0
"""Seconds over which a rate is the average: steady enough to read, quick enough to believe."""

RATE_STEP = 0.1
"""Seconds between two moments that are remembered for that: it may be added to by the file."""


class Rate:
    """Bytes a second, over the last moments."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, moved: int) -> None:
        """``moved`` bytes in all so far."""
        samples = self._samples
        if len(samples) > 1 and 0 <= now - samples[-2][0] < RATE_STEP:
            samples[-1] = now, moved
        else:
            self._forget(now)
            samples.append((now, moved))

    def _forget(self, now: float) -> None:
        samples = self._samples
        while len(samples) > 1 and now - samples[1][0] > RATE_SPAN:
            samples.popleft()

    def per_second(self, now: float) -> float:
        """The rate; 0 before anything can be said about it."""
        self._forget(now)
        samples = self._samples
        if not samples or now - samples[0][0] < 0.2:
            return 0.0
        return (samples[-1][1] - samples[0][1]) / (now - samples[0][0])


class Tally:
    """The state of one send of many files.

    ``expect`` may be called from another thread than the rest; ``counted`` says
    that nothing more is to be expected.
    """

    def __init__(
        self, clock: Callable[[], float], peer: str = "the other device", current: str = ""
    ) -> None:
        self.clock = clock
        self.peer = peer
        self.current = current
        self.files = 0
        self.counted = False
        self.slow = ""
        """What keeps it from being faster: a value of ``lanxfer.bottleneck.Limit``."""
        self.clear = False
        """Whether what moves just now can be read by everyone on the wire."""
        self.expected_bytes = self.expected_files = 0
        self._finished = self._lost = self._moved = 0
        self._moving: dict[str, int] = {}
        self._fresh: set[str] = set()
        self._waiting: set[str] = set()
        self._rate = Rate()

    def expect(self, kind: Kind, size: int) -> None:
        """One more thing is going to be sent."""
        if kind is not Kind.FOLDER:
            self.expected_files += 1
            self.expected_bytes += size

    def hear(self, snapshots: Sequence[Snapshot]) -> None:
        """Something happened to transfers."""
        if isinstance(snapshots, Together):
            self.arrived(len(snapshots), sum(snapshots.sizes))
            return
        for each in snapshots:
            self._hear(each)
        self._rate.add(self.clock(), self._moved)

    def arrived(self, files: int, size: int) -> None:
        """So many files came to their end at the same moment."""
        self._finished += size
        self._moved += size
        self.files += files
        self._rate.add(self.clock(), self._moved)

    def _hear(self, snapshot: Snapshot) -> None:
        id, state, before = snapshot.id, snapshot.state, self._moving.get(snapshot.id, 0)
        if state is State.WAITING:
            self._waiting.add(id)
        elif self._waiting:
            self._waiting.discard(id)
        if state.finished:
            self._moving.pop(id, None)
            self._fresh.discard(id)
            if state is State.DONE:
                self._finished += snapshot.size
                self._moved += max(0, snapshot.size - before)
                self.files += snapshot.kind is not Kind.FOLDER
            else:
                self._lost += snapshot.size
        else:
            if state is State.OFFERED:
                self._fresh.add(id)
            if state in (State.MOVING, State.COMMITTING):
                self.current = snapshot.path
                self.clear = snapshot.clear
            more = snapshot.done - before
            if more > 0 and id in self._fresh:
                # What the receiver held from another time was not moved now.
                self._fresh.discard(id)
            elif more > 0:
                self._moved += more
            self._moving[id] = snapshot.done

    @property
    def waits(self) -> str:
        """That nothing moves because somebody has to say yes first; "" where something does."""
        idle = self._waiting and self._waiting >= self._moving.keys()
        return f"waiting for {shown(self.peer)} to accept" if idle else ""

    def as_row(self) -> dict[str, int | str | bool]:
        """What has happened so far, as plain values for ``take_row``."""
        return {
            "done": self.done,
            "moved": self._moved,
            "lost": self._lost,
            "files": self.files,
            "current": self.current,
            "waiting": bool(self.waits),
            "slow": self.slow,
        }

    def take_row(self, row: Mapping[str, Any]) -> None:
        """What another tally of the same send has come to."""
        self._finished, self._moved, self._lost = row["done"], row["moved"], row["lost"]
        self.files, self.current = row["files"], row["current"]
        self.slow = str(row.get("slow", ""))
        self._waiting = {""} if row["waiting"] else set()
        self._rate.add(self.clock(), self._moved)

    @property
    def done(self) -> int:
        """Bytes that are there, or on their way."""
        return self._finished + sum(self._moving.values())

    @property
    def total(self) -> int:
        """Bytes in all, as far as they are known and can still arrive."""
        return max(self.expected_bytes - self._lost, self.done)

    @property
    def rate(self) -> float:
        """Bytes a second just now."""
        return self._rate.per_second(self.clock())

    @property
    def left(self) -> float | None:
        """Seconds until it is done, where that can be said."""
        rate = self.rate
        return (self.total - self.done) / rate if rate > 0 and self.counted else None


class Sums(NamedTuple):
    """What arrived, counted: links are files, and ``moved`` are the bytes that were sent now."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    already: int = 0
    moved: int = 0

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(
            self.files + other.files,
            self.folders + other.folders,
            self.bytes + other.bytes,
            self.already + other.already,
            self.moved + other.moved,
        )


NOTHING = Sums()


def sums_of(entry: Entry, receipt: Receipt) -> Sums:
    """One entry that arrived."""
    moved = 0 if receipt.already else receipt.size - receipt.resumed_from
    if entry.kind is Kind.FOLDER:
        return Sums(folders=1, bytes=receipt.size, moved=moved)
    return Sums(1, 0, receipt.size, int(receipt.already), moved)


class Below:
    """What arrived below names at the top, and is of no interest one by one."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}

    def add(self, entry: Entry, receipt: Receipt) -> bool:
        """Count it; False where there is more to say about it, and it was not counted."""
        top, below, _ = entry.path.partition("/")
        if not below or receipt.stored != entry.path:
            return False
        sums = self._sums.get(top) or self._sums.setdefault(top, [*NOTHING])
        folder, size = entry.kind is Kind.FOLDER, receipt.size
        sums[folder] += 1
        sums[2] += size
        if receipt.already:
            sums[3] += not folder
        else:
            sums[4] += size - receipt.resumed_from
        return True

    def add_sent(self, entries: Iterable[Entry]) -> None:
        """Count those that arrived as they were sent, each below something."""
        here, sums = "/", [*NOTHING]
        for entry in entries:
            path, size = entry.path, entry.size
            if not path.startswith(here):
                top, slash, _ = path.partition("/")
                here = top + slash
                sums = self._sums.get(top) or self._sums.setdefault(top, [*NOTHING])
            sums[entry.kind is Kind.FOLDER] += 1
            sums[2] += size
            sums[4] += size

    def take(self) -> Iterator[tuple[str, Sums]]:
        """Name by name, each gone when it was taken and the next one is asked for."""
        while self._sums:
            top = next(iter(self._sums))
            yield top, Sums(*self._sums[top])
            del self._sums[top]
