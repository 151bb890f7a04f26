"""How far a send is: what to expect, what has gone out, how fast, and how long it will take.

``Tally`` hears the registry and keeps count; ``Lines`` says so now and then
where nobody looks at bars (those are in ``lanxfer.cli.bars``).
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from attrs import define, field

from lanxfer.cli.output import Output, human_size, human_time
from lanxfer.storage.names import shown
from lanxfer.transfers import Kind, Snapshot, State

LINE_EVERY = 5.0
"""Seconds between two lines about one send."""

RATE_SPAN = 8.0
"""Seconds over which a rate is the average: steady enough to read, quick enough to believe."""


@define
class Rate:
    """Bytes a second, over the last moments."""

    _samples: deque[tuple[float, int]] = field(factory=deque)

    def add(self, now: float, moved: int) -> None:
        """``moved`` bytes in all so far."""
        self._samples.append((now, moved))

    def per_second(self, now: float) -> float:
        """The rate; 0 before anything can be said about it."""
        samples = self._samples
        while len(samples) > 1 and now - samples[1][0] > RATE_SPAN:
            samples.popleft()
        if not samples or now - samples[0][0] < 0.2:
            return 0.0
        return (samples[-1][1] - samples[0][1]) / (now - samples[0][0])


@define
class Tally:
    """The state of one send of many files.

    ``expect`` may be called from another thread than the rest; ``counted`` says
    that nothing more is to be expected.
    """

    clock: Callable[[], float]
    peer: str = "the other device"
    current: str = ""
    files: int = 0
    counted: bool = False
    expected_bytes: int = 0
    expected_files: int = 0
    _finished: int = 0
    _lost: int = 0
    _moved: int = 0
    _moving: dict[str, int] = field(factory=dict)
    _fresh: set[str] = field(factory=set)
    _waiting: set[str] = field(factory=set)
    _rate: Rate = field(factory=Rate)

    def expect(self, kind: Kind, size: int) -> None:
        """One more thing is going to be sent."""
        if kind is not Kind.FOLDER:
            self.expected_files += 1
            self.expected_bytes += size

    def hear(self, snapshot: Snapshot) -> None:
        """Something happened to one of the transfers."""
        id, before = snapshot.id, self._moving.get(snapshot.id, 0)
        (self._waiting.add if snapshot.state is State.WAITING else self._waiting.discard)(id)
        if snapshot.state.finished:
            self._moving.pop(id, None)
            self._fresh.discard(id)
            if snapshot.state is State.DONE:
                self._finished += snapshot.size
                self._moved += max(0, snapshot.size - before)
                self.files += snapshot.kind is not Kind.FOLDER
            else:
                self._lost += snapshot.size
        else:
            if snapshot.state is State.OFFERED:
                self._fresh.add(id)
            if snapshot.state in (State.MOVING, State.COMMITTING):
                self.current = snapshot.path
            more = snapshot.done - before
            if more > 0 and id in self._fresh:
                # What the receiver held from another time was not moved now.
                self._fresh.discard(id)
            elif more > 0:
                self._moved += more
            self._moving[id] = snapshot.done
        self._rate.add(self.clock(), self._moved)

    @property
    def waits(self) -> str:
        """That nothing moves because somebody has to say yes first; "" where something does."""
        idle = self._waiting and self._waiting >= self._moving.keys()
        return f"waiting for {shown(self.peer)} to accept" if idle else ""

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

    def __str__(self) -> str:
        if self.waits:
            return self.waits
        share = f" ({100 * self.done // self.total}%)" if self.counted and self.total else ""
        parts = [f"{human_size(self.done)} of {human_size(self.total)}{share}"]
        if self.rate:
            parts.append(f"{human_size(self.rate)}/s")
        if self.left is not None:
            parts.append(f"{human_time(self.left)} left")
        return ", ".join(parts) + (f": {shown(self.current)}" if self.current else "")


class Lines:
    """Every few seconds a line that says how far it is."""

    def __init__(self, reactor: Any, tally: Tally, out: Output) -> None:
        from twisted.internet.task import LoopingCall

        self._loop = LoopingCall(lambda: out.say(str(tally)))
        self._loop.clock = reactor

    def start(self) -> None:
        self._loop.start(LINE_EVERY, now=False)

    def stop(self) -> None:
        self._loop.stop()


def takes_bars(stream: TextIO | None, out: Output) -> bool:
    """Whether somebody looks at ``stream`` through a terminal that can redraw a line."""
    if stream is None or not out.talks or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream.isatty()


def show_progress(reactor: Any, tally: Tally, out: Output, peer: str) -> Callable[[], None]:
    """Show how far it is until what this returns is called, twice at the most."""
    view: Any
    if takes_bars(sys.stderr, out):
        from lanxfer.cli.bars import SendBars

        view = SendBars(reactor, tally, out, peer)
    else:
        view = Lines(reactor, tally, out)
    view.start()
    views = [view]

    def stop() -> None:
        while views:
            views.pop().stop()

    return stop
