"""A line for all that comes and goes, and one for many of them where they come by the thousand."""

from __future__ import annotations

import time
from collections.abc import Sequence

from attrs import define
from twisted.internet.interfaces import IReactorTime

from lanxfer.cli.asking import Names, way, what, why
from lanxfer.cli.output import Output, count, human_size
from lanxfer.sparing import Sparing
from lanxfer.transfers import Direction, Kind, Snapshot, State, Together, as_row

LINES = 50
"""Lines that appear in a second, at most, where all goes well; nobody reads faster."""

PERIOD = 1.0
"""Seconds after which is said how many more there were."""


def now() -> str:
    """The time of day, as such a line begins."""
    return time.strftime("%H:%M:%S")


@define
class _More:
    """What was not said one by one."""

    files: int = 0
    size: int = 0


class Telling:
    """A listener of a registry that says what arrived, was sent, or did not get there.

    For programs every row appears; for people the first ``LINES`` of a second, what failed,
    and the sum of the rest.  ``stop`` says what is left.
    """

    def __init__(self, clock: IReactorTime, out: Output, names: Names) -> None:
        self._out = out
        self._names = names
        self._more: dict[tuple[Direction, str, bool, bool], _More] = {}
        self._sparing = Sparing(clock, PERIOD, LINES, self._say_more)
        self.stop = self._sparing.stop

    def hear(self, snapshots: Sequence[Snapshot]) -> None:
        """Something happened to transfers."""
        if isinstance(snapshots, Together) and not self._out.json:
            if self._out.talks:
                self._say_together(snapshots)
            return
        for each in snapshots:
            if not each.state.finished or _told_as_message(each):
                continue
            if self._out.json:
                word = "received" if each.direction is Direction.IN else "sent"
                self._out.row({word: as_row(each)})
            elif self._out.talks:
                self._say(each)

    def _say_together(self, files: Together) -> None:
        left = self._sparing.left
        for at in range(min(left, len(files))):
            self._say(files[at])
        if silent := files.sizes[left:]:
            self._say_later(files.common, len(silent), sum(silent))

    def _say_later(self, common: Snapshot, files: int, size: int) -> None:
        whose = common.direction, common.peer, common.secure, common.clear
        more = self._more.get(whose) or self._more.setdefault(whose, _More())
        more.files += files
        more.size += size

    def _say(self, snapshot: Snapshot) -> None:
        well = snapshot.state is State.DONE and snapshot.kind is Kind.FILE
        if not self._sparing.spend() and well:
            self._say_later(snapshot, 1, snapshot.size)
            return
        row = as_row(snapshot)
        size = "" if snapshot.kind is Kind.FOLDER else f", {human_size(snapshot.size)}"
        self._out.done(
            f"{now()}  {way(row, self._names)}: {what(row)}{size}, {row['state']}{why(row)}"
        )

    def _say_more(self) -> None:
        silent, self._more = self._more, {}
        for (direction, peer, secure, clear), more in silent.items():
            row = {"direction": direction.value, "peer": peer, "secure": secure, "clear": clear}
            whose = way(row, self._names)
            files = count(more.files, "more file")
            self._out.done(f"{now()}  {whose}: {files}, {human_size(more.size)}, done")


def _told_as_message(snapshot: Snapshot) -> bool:
    return snapshot.kind is Kind.MESSAGE and snapshot.direction is Direction.IN
