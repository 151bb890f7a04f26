"""``lanxfer watch``: what the service on this machine does, as it happens."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall

from lanxfer.cli.asking import Names, Row, way, what, why
from lanxfer.cli.output import human_size
from lanxfer.cli.progress import LINE_EVERY, takes_bars
from lanxfer.cli.running import Run, service
from lanxfer.client import Client
from lanxfer.errors import Cancelled, Exit, LanxferError, Lost
from lanxfer.transfers import State
from lanxfer.wire.native import parse_rows
from lanxfer.wire.packets import Args

COMPARE_EVERY = 2.0
"""Seconds between two looks at what is still under way."""


class _Lines:
    """A line for each change of state, and now and then one for what moves."""

    def __init__(self, here: Run, names: Names) -> None:
        self._here = here
        self._names = names
        self._states: dict[str, str] = {}
        self._told: dict[str, float] = {}

    def start(self) -> None:
        """There is nothing to prepare."""

    def stop(self) -> None:
        """And nothing to tidy."""

    def show(self, row: Row) -> None:
        id, state, now = row["id"], row["state"], self._here.reactor.seconds()
        if self._states.get(id) == state and now - self._told[id] < LINE_EVERY:
            return
        self._states[id], self._told[id] = state, now
        if State(state).finished:
            del self._states[id], self._told[id]
        self._here.out.line(line_of(row, self._names))


class _Bars:
    """A bar for each transfer; what is finished stays as a line above."""

    def __init__(self, here: Run, names: Names) -> None:
        from lanxfer.cli.bars import WatchBars

        self._here = here
        self._names = names
        self._bars = WatchBars(here.every, here.reactor.seconds, here.out, sys.stdout)
        self.start = self._bars.start
        self.stop = self._bars.stop

    def show(self, row: Row) -> None:
        if State(row["state"]).finished:
            self._bars.drop(row["id"])
            self._here.out.line(line_of(row, self._names))
        else:
            self._bars.show(way(row, self._names), what(row), row)

    async def compare(self, client: Client) -> None:
        """What ended unseen goes: a service leaves events out where nobody keeps up."""
        answer = await client.call("pending_requests")
        rows = parse_rows(answer.body)
        if answer.args.get("total") == len(rows):
            self._bars.keep({row["id"] for row in rows})


class _Rows:
    """A row for each event, for programs."""

    def __init__(self, here: Run) -> None:
        self._out = here.out

    def start(self) -> None:
        """There is nothing to prepare."""

    def stop(self) -> None:
        """And nothing to tidy."""

    def show(self, row: Row) -> None:
        self._out.row(row)


def line_of(row: Row, names: Names) -> str:
    """One transfer at one moment, in one line."""
    moment = time.strftime("%H:%M:%S", time.localtime(row["changed_ms"] / 1000))
    state, size = row["state"], human_size(row["size"])
    if state in ("moving", "paused") and row["size"]:
        state += f" {100 * row['done'] // row['size']}%"
    return f"{moment}  {row['id']}  {way(row, names)}  {what(row)}  {size}  {state}{why(row)}"


async def watch(here: Run) -> int:
    """Show everything that happens until Ctrl-C, or until nobody reads it any more."""
    async with service(here) as client:
        view = _view(here)
        over: list[Deferred[Any]] = []
        here.out.on_broken = lambda: over[0].cancel() if over else None
        forget = here.if_killed(view.stop)

        def event(args: Args) -> None:
            row = args.get("transfer")
            if isinstance(row, dict):
                view.show(row)

        view.start()
        comparing = LoopingCall(_compare, view, client)
        comparing.clock = here.reactor
        comparing.start(COMPARE_EVERY, now=False)
        try:
            over.append(client.call("watch", on_event=event))
            await over[0]
        except (Cancelled, CancelledError):
            return int(Exit.OK)
        finally:
            comparing.stop()
            view.stop()
            forget()
    raise Lost("The service has ended.")


async def _compare(view: _Rows | _Bars | _Lines, client: Client) -> None:
    if isinstance(view, _Bars):
        with suppress(LanxferError):  # the watching itself will notice
            await view.compare(client)


def _view(here: Run) -> _Rows | _Bars | _Lines:
    if here.out.json:
        return _Rows(here)
    names = Names(here.choices.state)
    if takes_bars(sys.stdout, here.out):
        return _Bars(here, names)
    here.out.say("Watching; Ctrl-C ends it.")
    return _Lines(here, names)
