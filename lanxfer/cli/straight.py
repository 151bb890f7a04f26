"""``lanxfer send`` of one small file, and ``lanxfer message``, to a device that is where it was.

What trouble takes would be longer to import than all the rest to do; where there is
trouble, it is imported.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lanxfer.cli.brief import Brief
from lanxfer.cli.choices import Choices
from lanxfer.cli.handing import Elsewhere, tried
from lanxfer.cli.jobs import Job, Over
from lanxfer.cli.progress import show_progress
from lanxfer.cli.report import Report
from lanxfer.errors import Cancelled, DigestMismatch, Exit, LanxferError, Lost
from lanxfer.offering import Loaded, load, maybe_arrived, receipt_of, request_of, single
from lanxfer.showing import shown
from lanxfer.storage.walks import walk
from lanxfer.tally import Tally
from lanxfer.transfers import Kind, Receipt
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

if TYPE_CHECKING:
    from lanxfer.straight import Straight

MOST = 32 * limits.KIB
"""Bytes that a socket takes at once, so that nothing waits in a way that cannot be ended."""


def send(choices: Choices, job: Job) -> int | None:
    """Send it; the exit code, or None where that takes more than this."""
    if len(job.paths) != 1 or not _is_small(job.paths[0]):
        return None
    return tried(choices, job.over, lambda here: _send(here, job), served=False)


def message(choices: Choices, text: str, over: Over) -> int | None:
    """Send a text; the exit code, or None where that takes more than this."""
    data = text.encode()
    if len(data) > MOST:
        return None

    def work(here: Brief) -> int:
        with reached(here, over) as there:
            try:
                answer = there.ask("recv_message", {}, data)
            except Lost:  # it is not to be said twice
                if here.interrupted:
                    raise maybe_arrived() from None
                raise
        receipt_of(answer.args, "", len(data))
        here.out.row({"peer": over.peer, "size": len(data)})
        here.out.done(f"{shown(over.peer)} has the message.")
        return int(Exit.OK)

    return tried(choices, over, work, served=False)


@contextmanager
def reached(here: Brief, over: Over) -> Iterator[Straight]:
    """The device; Elsewhere where that takes more than this."""
    from lanxfer.straight import NotStraight

    def lost(silent: bool) -> Lost:
        return Lost(f"{shown(over.peer)} does not answer any more.") if silent else Lost()

    try:
        with here.device(over.peer, lost, over.plain) as there:
            yield there
    except NotStraight:
        raise Elsewhere from None


def _send(here: Brief, job: Job) -> int:
    peer = job.over.peer
    loaded = _loaded(job)
    args = request_of(loaded, job.conflict, "" if job.name else os.urandom(4).hex())
    outcome: Receipt | LanxferError

    def told(event: Args) -> None:
        if event.get("waiting") is True:
            tally.take_row({**tally.as_row(), "waiting": True})
            report.waits(loaded.entry.path)

    tally = _tally(loaded, peer)
    with reached(here, job.over) as there:
        report = Report(here.out, peer, time.monotonic, lambda top: None)
        most: Any = there.limits.get("inline", limits.INLINE_MAX)
        if not isinstance(most, int) or loaded.entry.size > most:
            raise Elsewhere
        stop = show_progress(here.every, tally, here.out)
        try:
            answer = there.ask("recv_file", args, loaded.data or b"", told)
            outcome = receipt_of(answer.args, loaded.digest or "", loaded.entry.size)
        except LanxferError as error:
            if here.interrupted:
                lost = isinstance(error, Lost)
                raise (maybe_arrived() if lost else Cancelled(report.so_far)) from None
            # What may be better the next time is tried again, with patience.
            if error.retry or isinstance(error, DigestMismatch):
                raise Elsewhere from None
            outcome = error
        finally:
            stop()
    report.entry(loaded.entry, outcome, single=job.name is not None)
    return report.end()


def _loaded(job: Job) -> Loaded:
    """The file with its bytes; Elsewhere where there is something to say about it."""
    try:
        if job.name is not None:
            entry = single(job.paths[0], job.name)
        else:
            entry = next(walk(job.paths, links=job.links))
        if not entry.readable or entry.size > MOST:
            raise Elsewhere
        loaded = load(entry)
    except (LanxferError, OSError, ValueError):
        raise Elsewhere from None
    if loaded.data is None or len(loaded.data) > MOST:
        raise Elsewhere
    return loaded


def _is_small(path: str) -> bool:
    """Whether it is worth a try: of anything else no step was taken then."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size <= MOST


def _tally(loaded: Loaded, peer: str) -> Tally:
    tally = Tally(time.monotonic, peer=peer, current=loaded.entry.path)
    tally.expect(Kind.FILE, loaded.entry.size)
    tally.counted = True
    return tally
