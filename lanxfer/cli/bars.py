"""Progress bars, for a terminal that somebody looks at; the only place that knows rich."""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lanxfer.cli.output import Output, count, human_size, human_time
from lanxfer.cli.progress import Every, limit_of
from lanxfer.showing import shown
from lanxfer.tally import Rate, Tally

REDRAW_EVERY = 0.1
MOVING = ("moving", "paused")
FEW = 3
NARROW = 70
"""Columns below which a bar does without the rate and the number of files."""


class _Bars:
    """Something drawn again and again until ``stop``, which leaves nothing of it behind.

    It may be asked to draw as soon as this is made.
    """

    def __init__(self, every: Every, out: Output, stream: TextIO) -> None:
        self._every = every
        self._drawing: Callable[[], object] | None = None
        self._out = out
        self._above: list[str] = []
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._live = Live(
            get_renderable=self._render,
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def start(self) -> None:
        self._live.start()
        self._out.above = self.print
        self._drawing = self._every(REDRAW_EVERY, self._draw)
        self._draw()

    def stop(self) -> None:
        """Give the terminal back as it was; also where it is gone."""
        drawing, self._drawing = self._drawing, None
        if drawing is not None:
            drawing()
        self._out.above = None
        with suppress(OSError):
            self._print()
            self._live.stop()

    def print(self, text: str) -> None:
        """A line that stays, above the bars; it shows when they are drawn again."""
        self._above.append(text)

    def _print(self) -> None:
        above, self._above = self._above, []
        if above:
            self._console.print(Text("\n".join(above)), soft_wrap=True)

    def _draw(self) -> None:
        with suppress(OSError):
            self._print()
            self._live.refresh()

    def _render(self) -> RenderableType:
        raise NotImplementedError

    def _row(self, cells: Iterable[RenderableType]) -> Table:
        """Cells in one line, of which the first gets the room that is left."""
        # At the very end of a line the "^C" that a terminal shows would begin another.
        width = max(1, self._console.width - 4)
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.width = width
        row = list(cells)
        for at in range(len(row)):
            grid.add_column(no_wrap=True, ratio=None if at else 1)
        grid.add_row(*row)
        return grid

    @property
    def _narrow(self) -> bool:
        return self._console.width < NARROW


def _bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(total=total or 1, completed=done if total else 0)


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _percent(done: int, total: int) -> str:
    return f"{100 * done // total}%" if total else ""


class SendBars(_Bars):
    """One bar over all that is sent, and the file that is on its way."""

    def __init__(self, every: Every, tally: Tally, out: Output) -> None:
        self._tally = tally
        super().__init__(every, out, sys.stderr)

    def _render(self) -> RenderableType:
        tally = self._tally
        facts = [
            _percent(tally.done, tally.total) if tally.counted else "",
            f"{human_size(tally.done)} of {human_size(tally.total)}",
        ]
        if not self._narrow:
            facts.append(f"{human_size(tally.rate)}/s" if tally.rate else "")
        facts.append(f"{human_time(tally.left)} left" if tally.left is not None else "")
        bar = self._row([_bar(tally.done, tally.total), *(each for each in facts if each)])
        what = tally.waits or tally.current or f"to {tally.peer}"
        row: list[RenderableType] = [_one_line(shown(what, 200))]
        if not self._narrow and limit_of(tally):
            row.append(limit_of(tally))
        if tally.clear:
            row.append("in clear")
        if not self._narrow and tally.expected_files > 1:
            row.append(f"{tally.files} of {count(tally.expected_files, 'file')}")
        return Group(self._row(row), bar)


class WatchBars(_Bars):
    """A bar for each transfer of the service."""

    def __init__(
        self, every: Every, clock: Callable[[], float], out: Output, stream: TextIO
    ) -> None:
        self._clock = clock
        self._rows: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
        self._rates: dict[str, Rate] = {}
        super().__init__(every, out, stream)

    def show(self, way: str, what: str, row: Mapping[str, Any]) -> None:
        """A transfer as it is now; ``way`` and ``what`` are the words for it."""
        self._rows[row["id"]] = (way, what, row)
        if row["state"] != "moving" or not row["done"]:
            # What the receiver held before counts for nothing, and a pause for no slowness.
            self._rates.pop(row["id"], None)
        else:
            rate = self._rates.setdefault(row["id"], Rate())
            rate.add(self._clock(), row["done"])

    def drop(self, id: str) -> None:
        """It is finished."""
        self._rows.pop(id, None)
        self._rates.pop(id, None)

    def keep(self, ids: Container[str]) -> None:
        """All others are finished."""
        for id in [each for each in self._rows if each not in ids]:
            self.drop(id)

    def _render(self) -> RenderableType:
        if not self._rows:
            return self._row([_one_line("Nothing is under way. Ctrl-C ends watching.")])
        # A small file is over before anybody has read its name, so a crowd is only counted.
        room = max(1, (self._console.height - 3) // 2)
        moving = [id for id, each in self._rows.items() if each[2]["state"] in MOVING][:room]
        others = [id for id in self._rows if id not in moving]
        lines: list[RenderableType] = []
        for id in moving:
            lines += [self._about(id), self._bar_of(id)]
        if len(others) <= FEW:
            lines += [self._about(id) for id in others]
        else:
            lines.append(_one_line(f"{len(others)} others; lanxfer pending shows them"))
        return Group(*lines)

    def _about(self, id: str) -> RenderableType:
        way, what, row = self._rows[id]
        return self._row([_one_line(f"{what} {way}"), f"{row['state']}  {id}"])

    def _bar_of(self, id: str) -> RenderableType:
        row = self._rows[id][2]
        done, size = row["done"], row["size"]
        rate = self._rates[id].per_second(self._clock()) if id in self._rates else 0.0
        facts = [_percent(done, size), f"{human_size(done)} of {human_size(size)}"]
        if rate > 0:
            if not self._narrow:
                facts.append(f"{human_size(rate)}/s")
            facts.append(f"{human_time((size - done) / rate)} left")
        return self._row([_bar(done, size), *(each for each in facts if each)])
