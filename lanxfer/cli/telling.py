"""A line for all that comes and goes, and one for many of them where they come by the thousand."""

from __future__ import annotations

import time

from attrs import define
from twisted.internet.interfaces import IReactorTime

from lanxfer.cli.asking import Names, way, what, why
from lanxfer.cli.output import Output, count, human_size
from lanxfer.sparing import Sparing
from lanxfer.transfers import Direction, Kind, Snapshot, State, as_row

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

    def hear(self, snapshot: Snapshot) -> None:
        """Something happened to a transfer."""
        if not snapshot.state.finished or _told_as_message(snapshot):
            return
        if self._out.json:
            word = "received" if snapshot.direction is Direction.IN else "sent"
            self._out.row({word: as_row(snapshot)})
        elif self._out.talks:
            self._say(snapshot)

    def _say(self, snapshot: Snapshot) -> None:
        well = snapshot.state is State.DONE and snapshot.kind is Kind.FILE
        if not self._sparing.spend() and well:
            whose = snapshot.direction, snapshot.peer, snapshot.secure, snapshot.clear
            more = self._more.get(whose) or self._more.setdefault(whose, _More())
            more.files += 1
            more.size += snapshot.size
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
