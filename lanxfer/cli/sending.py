"""Sending from the command line: what ``lanxfer send`` and ``lanxfer message`` do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from lanxfer.bottleneck import EVERY
from lanxfer.cli.jobs import Job, Over
from lanxfer.cli.progress import show_progress
from lanxfer.cli.report import Report
from lanxfer.cli.running import Run
from lanxfer.cli.sources import Count, Spool
from lanxfer.client import Client, connect, local
from lanxfer.connecting import Target
from lanxfer.errors import Cancelled, Exit, LanxferError, NotPaired
from lanxfer.keys import short_key
from lanxfer.retrying import PATIENCE
from lanxfer.showing import shown
from lanxfer.storage.sources import open_source
from lanxfer.storage.system import unreadable
from lanxfer.storage.walks import walk
from lanxfer.tally import Tally
from lanxfer.transfers import Entry, Kind, Receipt, Snapshot, State, Together
from lanxfer.views import Seen, look
from lanxfer.wire import limits

if TYPE_CHECKING:
    from lanxfer.cli.begun import Begun
    from lanxfer.introducing import Introduced


AT_A_TIME = 500
"""Entries that are told of before it is looked whether something else happened."""


async def send(here: Run, job: Job, begun: Begun | None = None) -> int:
    """Send it all, or what is left where it was begun; the exit code."""
    if begun is not None:
        here.out = begun.report.out  # which knows whether all could be written
    try:
        client = await _reach(here, _patient(job.over, begun), asks=not job.stdin)
    except (Cancelled, CancelledError):
        raise Cancelled() if begun is None else begun.cancelled from None
    except LanxferError as error:
        if begun is None:
            raise
        for number, _ in enumerate(begun.fail(error)):
            if not number % AT_A_TIME:
                await deferLater(here.reactor, 0, lambda: None)  # there may be millions
        return begun.report.end()
    try:
        return await _Sending(here, job, client, begun).run()
    finally:
        await _leave(client)


def _patient(over: Over, begun: Begun | None) -> Over:
    """A connection that breaks in the midst of a send is waited for."""
    return over._replace(wait=PATIENCE) if begun is not None and begun.broke else over


async def message(here: Run, text: str, over: Over) -> int:
    """Send a text; the exit code."""
    client = await _reach(here, over, asks=True)
    try:
        receipt = await client.send_message(text)
    finally:
        await _leave(client)
    here.out.row({"peer": over.peer, "size": receipt.size})
    here.out.done(f"{shown(over.peer)} has the message.")
    return int(Exit.OK)


async def queue(here: Run, job: Job) -> int:
    """Hand it to the service on this machine; the exit code."""
    client = await local(here.reactor, state=here.choices.state)
    first: LanxferError | None = None
    queued = 0
    try:
        for path in job.files:
            try:
                id = await _enqueue(client, path, job.over)
            except LanxferError as error:
                if here.interrupted:
                    raise
                first = first or error
                here.out.row({"path": path, "error": error.code, "reason": error.reason})
                here.out.warn(f"{shown(path)}: {error.reason}")
            else:
                queued += 1
                here.out.row({"path": path, "queued": id})
                here.out.done(f"{shown(path)} waits for {shown(job.over.peer)} as {id}.")
    finally:
        await _leave(client)
    if first is None:
        return int(Exit.OK)
    return int(Exit.PARTIAL if queued else first.exit)


async def _enqueue(client: Client, path: str, over: Over) -> str:
    seen = await deferToThread(_look, path)
    args: dict[str, object] = {"path": seen.path, "peer": over.peer, "wait": False}
    if max(seen.dev, seen.ino) <= limits.NUMBER_MAX:
        args.update(dev=seen.dev, ino=seen.ino)
    if over.plain:
        args["plain"] = True
    if over.legacy:
        args["legacy"] = True
    return str((await client.call("send_file", args)).args.get("queued", ""))


def _look(path: str) -> Seen:
    """What is to be sent later; raises what is wrong with it, as sending it now would."""
    entry = next(walk([path]))
    if entry.error is not None:
        raise entry.error
    if entry.kind is Kind.FILE:
        open_source(entry.local).close()
    try:
        return look(entry.local)
    except OSError as error:
        raise unreadable(path, error) from error


async def _reach(here: Run, over: Over, asks: bool) -> Client:
    """Connect; where patience was asked for, try again for so long.

    Where the two do not know each other, pair them by the words that are there,
    or that somebody can be asked for.
    """
    try:
        return await _connect(here, over, None)
    except NotPaired:
        from lanxfer.cli import pairing

        if over.plain or over.legacy or over.token_file is not None:
            raise
        if over.code is None and not (asks and pairing.may_ask(here)):
            raise
    here.out.say(f"{shown(over.peer)} and this device do not know each other yet.")
    asked = pairing.Asked(over.peer, code=over.code)
    found = await pairing.introduce(here, asked, once=True)
    here.out.say(f"{shown(found.name)} takes this once." if found.once else _paired(found))
    return await _connect(here, over, found.target)


def _paired(found: Introduced) -> str:
    return f"Paired with {shown(found.name)}, with the key {short_key(found.key)}-..."


async def _connect(here: Run, over: Over, target: Target | None) -> Client:
    until = here.reactor.seconds() + (over.wait or 0)
    told = False
    while True:
        try:
            return await connect(
                here.reactor,
                over.peer,
                state=here.choices.state,
                plain=over.plain,
                legacy=over.legacy,
                patience=PATIENCE if over.wait is None else over.wait,
                token_file=over.token_file,
                target=target,
                login=over.login,
                rate_out=over.limit_rate,
                clear_body=over.clear_body,
                on_clear=here.out.say,
            )
        except LanxferError as error:
            if not error.retry or here.reactor.seconds() >= until:
                raise
            if not told:
                here.out.say(f"{error.reason} Trying again for {over.wait:.0f} s.")
                told = True
        await deferLater(here.reactor, 1.0, lambda: None)


async def _leave(client: Client) -> None:
    """Close; Ctrl-C just then does not undo what was sent."""
    with suppress(Cancelled):
        await client.close()


class _Sending:
    """One run of ``lanxfer send``, over a connection that is there."""

    def __init__(self, here: Run, job: Job, client: Client, begun: Begun | None) -> None:
        clock = here.reactor.seconds
        self._here = here
        self._job = job
        self._client = client
        self._spool = Spool()
        self._tally = Tally(clock, peer=job.over.peer)
        self._count = Count(job.files, job.links, self._tally)
        self._report = Report(here.out, job.over.peer, clock, self._count.of)
        self._entries: Iterator[Entry] | None = None
        if begun is not None:
            self._tally.take_row(begun.tally.as_row())
            self._report, self._entries = begun.report, begun.entries
            self._report.below = self._count.of

    async def run(self) -> int:
        forget = self._here.if_killed(self._spool.stop)
        try:
            if self._job.stdin:
                await self._fill()
            await self._send_all()
        except Cancelled:
            raise Cancelled(self._report.so_far) from None
        finally:
            self._count.stop()
            self._spool.stop()
            forget()
        return self._report.end()

    async def _fill(self) -> None:
        await deferToThread(self._spool.fill)
        self._tally.expect(Kind.FILE, os.stat(self._spool.path).st_size)

    async def _send_all(self) -> None:
        job, here = self._job, self._here
        counting: list[Deferred[None]] = []
        self._client.registry.subscribe_many(self._tally.hear)
        self._client.registry.subscribe_many(self._told_to_wait)

        stop_watching: list[Callable[[], None]] = []

        def look() -> None:
            counting.append(deferToThread(self._count.run))
            stop_watching.append(self._watch())

        stop = show_progress(here.every, self._tally, here.out, look)
        forget = here.if_killed(stop)
        try:
            if job.stdin:
                await self._send_one(self._spool.path, job.name or "stdin")
            elif job.name:
                await self._send_one(job.files[0], job.name)
            if job.files and not job.name:
                await self._send_paths()
        finally:
            stop()
            forget()
            for unwatch in stop_watching:
                unwatch()
            self._count.stop()
            for each in counting:
                await each

    def _watch(self) -> Callable[[], None]:
        """Look what it is limited by until what this gives is called."""
        bottleneck = self._client.bottleneck()

        def look() -> None:
            self._tally.slow = bottleneck.look().value

        return self._here.every(EVERY, look)

    def _told_to_wait(self, snapshots: Sequence[Snapshot]) -> None:
        if not isinstance(snapshots, Together):
            for each in snapshots:
                if each.state is State.WAITING:
                    self._report.waits(each.path)

    async def _send_one(self, path: str, name: str) -> None:
        outcome: Receipt | LanxferError
        try:
            outcome = await self._client.send_file(path, name=name, conflict=self._job.conflict)
        except LanxferError as error:
            if self._here.interrupted:
                raise
            outcome = error
        self._report.entry(Entry(Kind.FILE, name, path), outcome, single=True)

    async def _send_paths(self) -> None:
        job = self._job
        entries = self._entries or walk(job.files, links=job.links)
        sent = await self._client.send_entries(
            entries, conflict=job.conflict, on_entry=self._decided
        )
        for path, why in sent.skipped:
            self._report.skip(path, why)

    def _decided(self, entry: Entry, outcome: Receipt | LanxferError) -> None:
        # After Ctrl-C, what did not arrive is no news of each single one.
        if isinstance(outcome, Receipt) or not self._here.interrupted:
            self._report.entry(entry, outcome)
