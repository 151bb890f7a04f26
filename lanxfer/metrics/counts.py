"""What has happened since the service started, counted when a transfer ends.

Plain numbers, so that counting costs next to nothing where nobody asks for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from attrs import Factory, define, field

from lanxfer.errors import BY_CODE
from lanxfer.transfers import Direction, Kind, Snapshot, State, Together

SECONDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0)
"""Upper ends of the classes of how long a transfer took; the last class has none."""

OTHER = "other"
"""Codes that are the other side's own: there could be any number of them."""


def known_code(code: str) -> str:
    """The code, if it is one of ``lanxfer.errors``."""
    return code if code in BY_CODE else OTHER


@define
class Spread:
    """How many values fell into which class, and all of them together."""

    classes: list[int] = Factory(lambda: [0] * (len(SECONDS) + 1))
    total: float = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """So many more; of a clock that jumped back, none at all is made."""
        self.classes[bisect_left(SECONDS, value)] += times
        if value > 0:
            self.total += value * times


@define(eq=False)
class Counts:
    """A listener of a registry; see the module.

    ``ended`` counts transfers by direction, kind and how they ended, ``failed`` by direction
    and code, ``jobs`` the runs of jobs.  ``stored`` are files that were not here before.
    ``took`` are the seconds from the offer to the end of files that arrived.
    """

    ended: Counter[tuple[Direction, Kind, State]] = field(factory=Counter)
    failed: Counter[tuple[Direction, str]] = field(factory=Counter)
    jobs: Counter[State] = field(factory=Counter)
    stored: int = 0
    took: dict[Direction, Spread] = Factory(lambda: {each: Spread() for each in Direction})
    _moved: dict[Direction, int] = Factory(lambda: dict.fromkeys(Direction, 0))
    _said: dict[Direction, int] = Factory(lambda: dict.fromkeys(Direction, 0))
    _begins: dict[str, int] = field(factory=dict)
    """Where those that are moving began; -1 until that is known."""

    def hear(self, snapshots: Sequence[Snapshot]) -> None:
        """Something happened to transfers."""
        if isinstance(snapshots, Together):
            self._over_together(snapshots)
            return
        for each in snapshots:
            if each.state.finished:
                self._over(each)
            elif each.state is State.MOVING:
                # The first word says that it moves, the second where it goes on.
                began = self._begins.get(each.id)
                if began is None:
                    self._begins[each.id] = -1
                elif began < 0:
                    self._begins[each.id] = each.done

    def _over_together(self, files: Together) -> None:
        common = files.common
        direction = common.direction
        self.ended[direction, common.kind, common.state] += len(files)
        if not common.already:
            self._moved[direction] += sum(files.sizes)
            self.stored += len(files) if direction is Direction.IN else 0
            self.took[direction].add(common.changed - common.started, len(files))

    def _over(self, snapshot: Snapshot) -> None:
        direction, kind, state = snapshot.direction, snapshot.kind, snapshot.state
        began = self._begins.pop(snapshot.id, -1)
        if kind is Kind.JOB:
            self.jobs[state] += 1
            return
        self.ended[direction, kind, state] += 1
        if state is not State.DONE:
            self.failed[direction, known_code(snapshot.code)] += 1
            self._moved[direction] += _since(snapshot, began)
        elif not snapshot.already:
            size = snapshot.size
            self._moved[direction] += size if began <= 0 else max(0, size - began)
            if kind is Kind.FILE:
                self.stored += direction is Direction.IN
                self.took[direction].add(snapshot.changed - snapshot.started)

    def moved(self, pending: Iterable[Snapshot]) -> dict[Direction, int]:
        """Bytes by direction, those of ``pending`` transfers so far included; never fewer."""
        now = dict(self._moved)
        for each in pending:
            now[each.direction] += _since(each, self._begins.get(each.id, -1))
        # What is sent anew from its beginning was moved all the same.
        self._said = {each: max(now[each], self._said[each]) for each in Direction}
        return self._said


def _since(snapshot: Snapshot, began: int) -> int:
    return max(0, snapshot.done - began) if began >= 0 else 0
