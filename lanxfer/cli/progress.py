"""Showing how far a send is: in bars (``lanxfer.cli.bars``), or a line now and then."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TextIO, TypeAlias

from lanxfer.cli.output import Output, human_size, human_time
from lanxfer.showing import shown
from lanxfer.tally import Tally

LINE_EVERY = 5.0
"""Seconds between two lines about one send."""

BARS_AFTER = 1.0
"""Seconds after which a send is worth looking at: what is over before that needs no bar."""

Every: TypeAlias = Callable[[float, Callable[[], object]], Callable[[], None]]
"""Has something called every so many seconds, until what it gives is called."""


_LIMITS = {
    "source disk": "the disk here",
    "network": "the network",
    "processor": "the processor here",
}


def limit_of(tally: Tally) -> str:
    """What keeps it from being faster, in words; "" where that is not known."""
    if not tally.slow or not tally.rate:
        return ""
    return f"limited by {_LIMITS.get(tally.slow, shown(tally.peer, 40))}"


def line_of(tally: Tally) -> str:
    """How far it is, in one line."""
    if tally.waits:
        return tally.waits
    share = f" ({100 * tally.done // tally.total}%)" if tally.counted and tally.total else ""
    parts = [f"{human_size(tally.done)} of {human_size(tally.total)}{share}"]
    if tally.rate:
        parts.append(f"{human_size(tally.rate)}/s")
    if tally.left is not None:
        parts.append(f"{human_time(tally.left)} left")
    if limit_of(tally):
        parts.append(limit_of(tally))
    if tally.clear:
        parts.append("in clear")
    return ", ".join(parts) + (f": {shown(tally.current)}" if tally.current else "")


def takes_bars(stream: TextIO | None, out: Output) -> bool:
    """Whether somebody looks at ``stream`` through a terminal that can redraw a line."""
    if stream is None or not out.talks or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream.isatty()


def show_progress(
    every: Every, tally: Tally, out: Output, begin: Callable[[], object] = lambda: None
) -> Callable[[], None]:
    """Show how far it is until what this returns is called, twice at the most.

    ``begin`` is called when somebody is going to look: it begins to count what there is,
    which takes time from the sending, and so nothing begins where nobody wants to be told.
    """
    if not out.talks:
        return lambda: None
    stops: list[Callable[[], object]] = []

    def stop() -> None:
        while stops:
            stops.pop()()

    def look() -> None:
        stop()
        begin()
        if takes_bars(sys.stderr, out):
            from lanxfer.cli.bars import SendBars

            bars = SendBars(every, tally, out)
            bars.start()
            stops.append(bars.stop)
        else:
            stops.append(every(LINE_EVERY, lambda: out.say(line_of(tally))))

    stops.append(every(BARS_AFTER, look))
    return stop
