"""``lanxfer send`` and ``lanxfer message`` where a service is there to do it: asking, and printing.

What it prints is what ``lanxfer.cli.sending`` does in a process of its own; what
the service cannot do in the same way is left to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from lanxfer.cli.brief import Brief, run
from lanxfer.cli.choices import Choices
from lanxfer.cli.jobs import Job, Over
from lanxfer.cli.progress import show_progress
from lanxfer.cli.report import Report
from lanxfer.control import Control, NoService, ServiceLost
from lanxfer.errors import (
    BadHeader,
    Busy,
    Cancelled,
    Exit,
    Forbidden,
    Internal,
    NotPaired,
    Overloaded,
    RateLimited,
    Stopping,
    TooLarge,
    UnknownCommand,
    from_wire,
)
from lanxfer.showing import quoted, shown
from lanxfer.tally import Sums, Tally
from lanxfer.transfers import Entry, Kind, Receipt
from lanxfer.views import as_typed, look, view
from lanxfer.wire.native import format_rows
from lanxfer.wire.packets import Args

_NOT_THERE = (
    *(BadHeader, Busy, Forbidden, Internal, NotPaired, Overloaded, RateLimited, Stopping),
    *(TooLarge, UnknownCommand),
)
"""What a service says, before it has begun, to something that may be tried without it."""

_ENDED = "The lanxfer service on this machine ended; the same command goes on from there."


class Elsewhere(Exception):
    """It has to be done in another way, or gone on with in one.

    Nothing was begun that is not the same done twice.
    """


def send(choices: Choices, job: Job) -> int | None:
    """Have it sent; the exit code, or None where this process has to do it."""
    return tried(choices, job.over, lambda here: _Handing(here, job).run(), served=True)


def message(choices: Choices, text: str, over: Over) -> int | None:
    """Have a text sent; the exit code, or None where this process has to do it."""

    def work(here: Brief) -> int:
        try:
            return ask(here)
        except (NoService, ValueError, NotPaired, UnknownCommand):
            raise Elsewhere from None

    def ask(here: Brief) -> int:
        with here.service() as service:
            args: dict[str, Any] = {"peer": over.peer, "text": text}
            if over.plain:
                args["plain"] = True
            answer = service.ask("send_message", args)
        here.out.row({"peer": over.peer, "size": answer.args.get("size")})
        here.out.done(f"{shown(over.peer)} has the message.")
        return int(Exit.OK)

    return tried(choices, over, work, served=True)


def tried(choices: Choices, over: Over, work: Callable[[Brief], int], served: bool) -> int | None:
    """The exit code of ``work``, or None where it said Elsewhere.

    Or where it is not for such commands, or a service that it takes, ``served``, is none.
    """
    asks_more = (over.legacy, over.login, over.code, over.token_file)
    if any(asks_more) or over.wait is not None or over.limit_rate is not None:
        return None
    here = Brief(choices)
    if served and not here.state.maybe_served():
        return None
    try:
        return run(work, here)
    except Elsewhere:
        if here.interrupted:
            raise Cancelled() from None
        return None


class _Handing:
    """One sending that the service does."""

    def __init__(self, here: Brief, job: Job) -> None:
        self._here = here
        self._job = job
        self._connected = False
        self._tally = Tally(time.monotonic, peer=job.over.peer)
        self._report = Report(here.out, job.over.peer, time.monotonic, self._below)
        self._count: Any = None
        self._stop: Callable[[], None] = lambda: None

    def run(self) -> int:
        job, here = self._job, self._here
        args: dict[str, Any] = {"peer": job.over.peer, "view": view()}
        if job.conflict is not None:
            args["conflict"] = job.conflict.value
        if job.links:
            args["links"] = True
        if job.over.plain:
            args["plain"] = True
        if job.name is not None:
            args["as"] = job.name
        if here.out.json:
            args["rows"] = True
        try:
            things = [look(path) for path in job.paths]
            body = format_rows(
                {"path": each.path, "dev": each.dev, "ino": each.ino} for each in things
            )
        except (OSError, ValueError):
            raise Elsewhere from None  # what is wrong with it is said there
        try:
            with here.service() as service:
                self._ask(service, args, body)
        except (NoService, ServiceLost, ValueError, *_NOT_THERE) as error:
            if not self._connected:
                raise Elsewhere from None
            if isinstance(error, ServiceLost):
                raise ServiceLost(_ENDED) from None
            raise
        except Cancelled:
            raise Cancelled(self._report.so_far) from None
        return self._report.end()

    def _ask(self, service: Control, args: Args, body: bytes) -> None:
        forget = self._here.if_killed(lambda: self._stop())
        try:
            answer = service.ask("send_paths", args, body, self._told)
        finally:
            self._stop()
            forget()
            if self._count is not None:
                self._count.stop()
        if answer.args.get("sees") is not True:
            raise Elsewhere

    def _told(self, event: Args) -> None:
        report = self._report
        for what, said in event.items():
            match what:
                case "connected":
                    self._begin()
                case "waiting":
                    report.waits(said)
                case "progress":
                    self._tally.take_row(said)
                case "entries":
                    for row in said:
                        self._decided(row)
                case "below":
                    for top, sums in said.items():
                        report.below_arrived(top, Sums(*sums))
                case "skipped":
                    for path, why in said:
                        report.skip(path, why)

    def _begin(self) -> None:
        self._connected = True
        self._report = Report(self._here.out, self._job.over.peer, time.monotonic, self._below)
        self._stop = show_progress(self._here.every, self._tally, self._here.out, self._look)

    def _look(self) -> None:
        """It takes long enough to say of how much."""
        from threading import Thread

        from lanxfer.cli.sources import Count

        self._count = Count(self._job.files, self._job.links, self._tally)
        Thread(target=self._count.run, daemon=True).start()

    def _below(self, top: str) -> int | None:
        return self._count.below.get(top) if self._tally.counted else None

    def _decided(self, row: Mapping[str, Any]) -> None:
        path, kind = row["path"], Kind(row["kind"])
        single = self._job.name is not None
        if "error" not in row:
            receipt = Receipt(
                row["stored"], row["size"], row["blake3"], row["already"], row["resumed_from"]
            )
            self._report.entry(Entry(kind, path, ""), receipt, single=single)
            return
        # After a Ctrl-C, what did not arrive is no news of each single one.
        if not self._here.interrupted:
            local = row.get("local", "")
            typed = as_typed(local, self._job.paths)
            reason = row["reason"].replace(quoted(local), quoted(typed)) if local else row["reason"]
            error = from_wire(row["error"], reason)
            self._report.entry(Entry(kind, path, typed), error, single=single)
