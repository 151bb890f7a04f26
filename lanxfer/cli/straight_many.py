"""``lanxfer send`` of small files and folders, to a device that is where it was.

As ``lanxfer.cli.straight`` does it with one: no reactor, whose import takes as long as sending
five thousand files.  They go many together and several requests ahead of their answers.  What
does not, and all there is if something is in the way, ``lanxfer.cli.sending`` goes on with.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain
from threading import Thread
from typing import TYPE_CHECKING

from attrs import define, frozen

from lanxfer.ahead import ENOUGH, Ahead
from lanxfer.cli.brief import Brief
from lanxfer.cli.handing import Elsewhere, tried
from lanxfer.cli.jobs import Job
from lanxfer.cli.options import Choices
from lanxfer.cli.progress import show_progress
from lanxfer.cli.report import Report
from lanxfer.cli.sources import Count
from lanxfer.cli.straight import MOST, reached
from lanxfer.errors import Cancelled, LanxferError, Lost
from lanxfer.offering import Loaded
from lanxfer.packing import body_of, ends_of, goes_again, most_together, request_for
from lanxfer.storage.walks import walk
from lanxfer.tally import Below, Tally
from lanxfer.transfers import Entry, Kind, Receipt
from lanxfer.wire import limits

if TYPE_CHECKING:
    from lanxfer.straight import Straight

OPEN = 3
"""Requests that may be unanswered, so that neither side waits for the other."""

LEFT = 1000
"""Entries kept for the other way, before all that comes goes that way."""


@frozen
class Begun:
    """A send that has been begun: what is still to be sent, and what became of the rest.

    ``broke`` says that it is the connection that was in the way.
    """

    entries: Iterator[Entry]
    report: Report
    tally: Tally
    broke: bool = False


def send(choices: Choices, job: Job) -> int | Begun | None:
    """Send it; the exit code, or what is left, or None where nothing was begun."""
    if job.name is not None or not _worth(job.paths):
        return None
    left: list[Begun] = []
    code = tried(choices, job.over, lambda here: _Sending(here, job, left).run(), served=False)
    return left[0] if left else code


def _worth(paths: Sequence[str]) -> bool:
    """Whether any of it is a folder, or goes this way."""
    try:
        found = [os.lstat(path) for path in paths]
    except (OSError, ValueError):
        return False
    least = MOST + 1 if len(paths) == 1 else 0  # a smaller one had a way of its own
    return any(
        stat.S_ISDIR(each.st_mode)
        or (stat.S_ISREG(each.st_mode) and least <= each.st_size <= ENOUGH)
        for each in found
    )


@define
class _Pack:
    """What one request has, when it was asked, in seconds, and how much had arrived by then."""

    files: Sequence[Loaded]
    asked: float
    before: int
    id: int = 0


class _Sending:
    """One such send."""

    def __init__(self, here: Brief, job: Job, begun: list[Begun]) -> None:
        self._here = here
        self._job = job
        self._begun = begun
        self._tally = Tally(time.monotonic, peer=job.over.peer)
        self._count = Count(job.files, job.links, self._tally)
        self._report = Report(here.out, job.over.peer, time.monotonic, self._count.of)
        self._below = Below()
        self._open: deque[_Pack] = deque()
        self._left: list[Entry] = []
        self._arrived = 0
        self._broke = False
        self._group = os.urandom(4).hex()

    def run(self) -> int:
        """The exit code; Elsewhere where something is left, which is then in ``begun``."""
        job = self._job
        with reached(self._here, job.over) as there:
            most = most_together(there.limits, None)
            if not most:
                raise Elsewhere
            entries = walk(job.paths, links=job.links)
            ahead = Ahead(entries, lambda: bytearray(limits.UNIT), min(ENOUGH, most))
            try:
                self._send(there, ahead, most)
            except Lost:
                self._broke = True
                self._left[:0] = [each.entry for pack in self._open for each in pack.files]
        if self._here.interrupted:
            raise Cancelled(self._report.so_far)
        rest = chain(self._left, ahead.left())
        first = next(rest, None)
        if first is not None:
            self._begun.append(Begun(chain([first], rest), self._report, self._tally, self._broke))
            raise Elsewhere
        return self._report.end()

    def _send(self, there: Straight, ahead: Ahead, most: int) -> None:
        stop = show_progress(self._here.every, self._tally, self._here.out, self._look)
        forget = self._here.if_killed(stop)
        try:
            while len(self._left) < LEFT and not (self._broke or self._here.interrupted):
                batch = ahead.read()
                if not batch:
                    break
                self._ask(there, self._together(batch, "folders" in there.features))
                while len(self._open) > OPEN:
                    self._settle(there, ahead, most)
                self._here.tick()
            while self._open:
                self._settle(there, ahead, most)
        finally:
            stop()
            forget()
            self._count.stop()

    def _together(self, batch: Sequence[Loaded], folders: bool) -> list[Loaded]:
        """What of a batch goes together; the rest is decided, or left."""
        pack = []
        for loaded in batch:
            entry = loaded.entry
            if loaded.whole or (folders and loaded.folder):
                pack.append(loaded)
            elif entry.error is not None:
                self._report.entry(entry, entry.error)
            elif entry.skipped:
                self._report.skip(entry.path, entry.skipped)
            else:
                self._left.append(entry)
        return pack

    def _ask(self, there: Straight, pack: Sequence[Loaded]) -> None:
        if not pack:
            return
        try:
            args, manifest = request_for(pack, self._job.conflict, self._group)
        except LanxferError:  # each by itself, then
            self._left += [each.entry for each in pack]
            return
        self._tally.current = pack[0].entry.path
        asked = _Pack(pack, time.monotonic(), self._arrived)
        try:
            asked.id = there.ask_ahead("recv_files", args, body_of(manifest, pack))
        except LanxferError as error:
            # What was answered before that is still to be heard.
            self._broke = self._broke or isinstance(error, Lost)
            self._left += [each.entry for each in pack]
        else:
            self._open.append(asked)

    def _settle(self, there: Straight, ahead: Ahead, most: int) -> None:
        """Hear what became of those that were asked first."""
        pack = self._open[0]
        try:
            answer = there.answer(pack.id)
            ends = ends_of(pack.files, answer.args, answer.body)
        except Lost:
            raise
        except LanxferError:
            self._open.popleft()
            self._left += [each.entry for each in pack.files]  # it may be otherwise one by one
            return
        self._open.popleft()
        files = size = 0
        for loaded, end in zip(pack.files, ends, strict=True):
            entry = loaded.entry
            if goes_again(end):
                self._left.append(entry)
                continue
            self._decided(entry, end)
            if isinstance(end, Receipt):
                files += entry.kind is Kind.FILE
                size += end.size
                if end.size > limits.INLINE_MAX:
                    ahead.was_there(end.already)
        for top, sums in self._below.take():
            self._report.below_arrived(top, sums)
        self._tally.arrived(files, size)
        self._arrived += size
        ahead.measured(self._arrived - pack.before, time.monotonic() - pack.asked)
        ahead.most = min(ahead.most, most)

    def _decided(self, entry: Entry, end: Receipt | LanxferError) -> None:
        if isinstance(end, Receipt):
            if self._here.out.json or not self._below.add(entry, end):
                self._report.entry(entry, end)
        elif not self._here.interrupted:  # else it is no news of each single one
            self._report.entry(entry, end)

    def _look(self) -> None:
        """It takes long enough to say of how much."""
        Thread(target=self._count.run, daemon=True).start()
