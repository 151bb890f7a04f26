"""``lanxfer send`` of files and folders, to a device that is where it was.

As ``lanxfer.cli.straight`` does it with a small one: no reactor, whose import takes as long as
sending five thousand of them.  They go many together and several requests ahead of their
answers; a large one by itself.  What is odd, and all there is if something is in the way,
``lanxfer.cli.sending`` goes on with.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from threading import Event, Thread
from typing import TYPE_CHECKING

from lanxfer.ahead import ENOUGH, FIRST, PLENTY, Ahead
from lanxfer.cli.begun import Begun
from lanxfer.cli.brief import Brief
from lanxfer.cli.choices import Choices
from lanxfer.cli.ended import Ended
from lanxfer.cli.handing import Elsewhere, tried
from lanxfer.cli.jobs import Job
from lanxfer.cli.progress import show_progress
from lanxfer.cli.report import Report
from lanxfer.cli.sources import Count
from lanxfer.cli.straight import MOST, reached
from lanxfer.cli.straight_large import PATIENCE, Large, UnderWay
from lanxfer.errors import LanxferError, Lost, NotPaired
from lanxfer.offering import Loaded, single
from lanxfer.packing import (
    body_in,
    goes_again,
    most_together,
    odd_ends,
    request_for,
)
from lanxfer.peers import FORGOTTEN
from lanxfer.storage.walks import walk
from lanxfer.tally import Tally
from lanxfer.transfers import Direction, Entry, Kind, Receipt, Snapshot, State
from lanxfer.wire import limits

if TYPE_CHECKING:
    from lanxfer.straight import Straight

OPEN = 2
"""Requests that may be unanswered while one more is made, so that neither side waits for the
other."""

LEFT = 1000
"""Entries kept for the other way, before all that comes goes that way."""


def send(choices: Choices, job: Job) -> int | Begun | None:
    """Send it; the exit code, or what is left, or None where nothing was begun."""
    if job.stdin or not _worth(job.paths):
        return None
    left: list[Begun] = []
    code = tried(choices, job.over, lambda here: _Sending(here, job, left).run(), served=False)
    return left[0] if left else code


def _worth(paths: Sequence[str]) -> bool:
    """Whether any of it is a folder, or a file that had no way of its own."""
    try:
        found = [os.lstat(path) for path in paths]
    except (OSError, ValueError):
        return False
    least = MOST + 1 if len(paths) == 1 else 0
    return any(
        stat.S_ISDIR(each.st_mode) or (stat.S_ISREG(each.st_mode) and least <= each.st_size)
        for each in found
    )


class _Pack:
    """What one request has, when it was asked, in seconds, and how much had arrived by then."""

    def __init__(self, files: Sequence[Loaded], before: int) -> None:
        self.files = files
        self.asked = time.monotonic()
        self.before = before
        self.id = 0


class _Sending:
    """One such send."""

    def __init__(self, here: Brief, job: Job, begun: list[Begun]) -> None:
        self._here = here
        self._job = job
        self._begun = begun
        self._tally = Tally(time.monotonic, peer=job.over.peer)
        self._count = Count(job.files, job.links, self._tally)
        self._report = Report(here.out, job.over.peer, time.monotonic, self._count.of)
        self._ended = Ended(here, self._report, job.name is not None)
        self._open: deque[_Pack | Large] = deque()
        self._over = Event()
        self._large: deque[Entry] = deque()
        self._left: list[Entry] = []
        self._arrived = 0
        self._broke = False
        self._group = os.urandom(4).hex()
        self._memory = bytearray(PLENTY)

    def run(self) -> int:
        """The exit code; Elsewhere where something is left, which is then in ``begun``."""
        job = self._job
        with reached(self._here, job.over) as there:
            most = most_together(there.limits, None)
            if not most:
                raise Elsewhere
            entries, start = _entries(job), min(ENOUGH, most)
            ahead = Ahead(entries, lambda: bytearray(limits.UNIT), start, first=FIRST)
            way = UnderWay(there, self._moved)
            try:
                self._send(there, ahead, way, most)
            except Lost:
                self._broke = True
                for asked in [each for each in self._open if there.answered(each.id)]:
                    self._settle(there, ahead, most, asked)
            self._left[:0] = chain.from_iterable(map(_given_back, [*self._open, *way.files]))
            self._left += self._large
            forgotten = there.forgotten
        rest = chain(self._left, ahead.left())
        begun = Begun(rest, self._report, self._tally, self._broke, job.name is not None)
        if self._here.interrupted:
            raise begun.cancelled
        if forgotten:
            for _ in begun.fail(NotPaired(FORGOTTEN)):
                pass
        elif (first := next(rest, None)) is not None:
            self._begun.append(begun._replace(entries=chain([first], rest)))
            raise Elsewhere
        return self._report.end()

    def _send(self, there: Straight, ahead: Ahead, way: UnderWay, most: int) -> None:
        stops = [
            show_progress(self._here.every, self._tally, self._here.out, self._look(there)),
            self._here.every(limits.REVOKE_EVERY, there.end_if_forgotten),
        ]
        forget = self._here.if_killed(stops[0])
        try:
            while len(self._left) < LEFT and self._goes_on:
                batch = ahead.read()
                if not batch:
                    break
                self._ask(there, self._together(batch, "folders" in there.features))
                self._send_large(way)
                while len(self._open) > OPEN:
                    self._settle(there, ahead, most, self._open[0])
                while len(self._large) > LEFT and self._goes_on:
                    there.hear(PATIENCE)
                    self._send_large(way)
                self._here.tick()
            while self._open or ((way.files or self._large) and self._goes_on):
                self._send_large(way)
                self._go_on(way, lambda: False)
                if self._open:
                    self._settle(there, ahead, most, self._open[0])
                elif way.files:
                    there.hear(PATIENCE)
        finally:
            for stop in stops:
                stop()
            forget()
            self._over.set()
            self._count.stop()
            way.close()

    @property
    def _goes_on(self) -> bool:
        return not (self._broke or self._here.interrupted)

    def _together(self, batch: Sequence[Loaded], folders: bool) -> list[Loaded]:
        """What of a batch goes together; the rest goes by itself, or is decided, or left."""
        pack = []
        for loaded in batch:
            entry = loaded.entry
            if loaded.whole or (folders and loaded.folder):
                pack.append(loaded)
            elif entry.error is not None:
                self._ended.one(entry, entry.error)
            elif entry.skipped:
                self._report.skip(entry.path, entry.skipped)
            elif entry.kind is Kind.FILE:
                self._large.append(entry)
            else:
                self._left.append(entry)
        return pack

    def _ask(self, there: Straight, pack: Sequence[Loaded]) -> None:
        if not pack:
            return
        if self._here.interrupted:
            self._left += [each.entry for each in pack]
            return
        try:
            args, manifest = request_for(pack, self._job.conflict, self._group)
        except LanxferError:  # each by itself, then
            self._left += [each.entry for each in pack]
            return
        self._tally.current = pack[0].entry.path
        asked = _Pack(pack, self._arrived)
        try:
            asked.id = there.ask_ahead("recv_files", args, body_in(self._memory, manifest, pack))
        except LanxferError as error:
            # What was answered before that is still to be heard.
            self._broke = self._broke or isinstance(error, Lost)
            self._left += [each.entry for each in pack]
        else:
            self._open.append(asked)

    def _send_large(self, way: UnderWay) -> None:
        """Ask for those that are next, and send those of the batch before.

        Each is asked for while those before it are on their way, so that it has its go when it
        is its turn.  But no more than a window is still to go by then: what is asked for and
        does not come would be taken for stuck.
        """
        before = [*way.files]
        while self._large and self._goes_on:
            self._go_on(way, lambda: way.left <= limits.WINDOW)
            if way.full:
                break
            self._offer(way, self._large.popleft())
        self._go_on(way, lambda: not any(each in way.files for each in before))

    def _offer(self, way: UnderWay, entry: Entry) -> None:
        try:
            if not self._goes_on:
                raise Lost
            way.ask(entry, self._job.conflict, self._group, self._arrived)
        except LanxferError as error:
            self._broke = self._broke or (isinstance(error, Lost) and not self._here.interrupted)
            if goes_again(error):
                self._left.append(entry)
            else:
                self._moved(entry, State.FAILED, 0)
                self._ended.one(entry, error)

    def _go_on(self, way: UnderWay, enough: Callable[[], bool]) -> None:
        """Send until that is ``enough``, unless the connection is broken."""
        if self._broke:
            return
        try:
            self._open.extend(way.send(enough))
        except Lost:
            self._broke = True  # what was answered before that is still to be heard

    def _settle(self, there: Straight, ahead: Ahead, most: int, asked: _Pack | Large) -> None:
        """Hear what became of it."""
        if isinstance(asked, _Pack):
            size = self._settle_pack(there, ahead, asked)
        else:
            size = self._settle_large(ahead, asked)
        self._arrived += size
        ahead.measured(self._arrived - asked.before, time.monotonic() - asked.asked)
        ahead.most = min(ahead.most, most)

    def _settle_pack(self, there: Straight, ahead: Ahead, asked: _Pack) -> int:
        """How many bytes arrived with it."""
        files = asked.files
        try:
            answer = there.answer(asked.id)
            odd = odd_ends(files, answer.args, answer.body)
        except Lost:
            raise
        except LanxferError:
            self._open.remove(asked)
            self._left += [each.entry for each in files]  # it may be otherwise one by one
            return 0
        self._open.remove(asked)
        sent = [each for at, each in enumerate(files) if at not in odd] if odd else files
        self._ended.as_sent(sent)
        arrived = [(each.entry, False) for each in sent]
        for at, end in odd.items():
            entry = files[at].entry
            if goes_again(end):
                self._left.append(entry)
                continue
            self._ended.one(entry, end)
            if isinstance(end, Receipt):
                arrived.append((entry, end.already))
        self._ended.report()
        ahead.came(arrived)
        size = sum([entry.size for entry, _ in arrived])
        self._tally.arrived(sum([entry.kind is Kind.FILE for entry, _ in arrived]), size)
        return size

    def _settle_large(self, ahead: Ahead, large: Large) -> int:
        """How many bytes arrived that were not there."""
        end: Receipt | LanxferError
        try:
            end = large.upload.receipt()
        except Lost:
            raise
        except LanxferError as error:
            end = error
        self._open.remove(large)
        self._end_large(large, end)
        if isinstance(end, LanxferError):
            return 0
        ahead.came([(large.entry, end.already)])
        return 0 if end.already else end.size - end.resumed_from

    def _end_large(self, large: Large, end: Receipt | LanxferError) -> None:
        if goes_again(end):
            self._left.append(large.give_back())
        else:
            large.ended(end)
            self._ended.one(large.entry, end)
            self._ended.report()

    def _moved(self, entry: Entry, state: State, done: int) -> None:
        """Hear how far a large file is."""
        size, peer = entry.size, self._job.over.peer
        self._tally.hear(
            [Snapshot(entry.path, Direction.OUT, entry.kind, peer, entry.path, size, state, done)]
        )
        if state is State.WAITING:
            self._report.waits(entry.path)
        self._here.tick()

    def _look(self, there: Straight) -> Callable[[], None]:
        """What is done when it takes long enough to say of how much, and what keeps it slow."""

        def look() -> None:
            Thread(target=self._count.run, daemon=True).start()
            Thread(target=self._watch, args=[there], daemon=True).start()

        return look

    def _watch(self, there: Straight) -> None:
        """See what it waits for, which it cannot do itself."""
        from lanxfer.bottleneck import EVERY, Bottleneck

        bottleneck = Bottleneck(time.monotonic, lambda: there.socket)
        while not self._over.wait(EVERY):
            self._tally.slow = bottleneck.look().value


def _entries(job: Job) -> Iterator[Entry]:
    """What is to be sent; Elsewhere where there is something to say about it."""
    if job.name is None:
        return walk(job.paths, links=job.links)
    try:
        return iter([single(job.paths[0], job.name)])
    except LanxferError:
        raise Elsewhere from None


def _given_back(asked: _Pack | Large) -> list[Entry]:
    return [asked.give_back()] if isinstance(asked, Large) else [each.entry for each in asked.files]
