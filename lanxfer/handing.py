"""Sending what a command of the owner's named, and telling it what it would have found itself.

See docs/protocol.rst, "Sending in place of a command".  Entries are gathered for
a moment, so that ten thousand small files are not ten thousand events; those
nobody would read of one by one are only counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater

from lanxfer.bottleneck import EVERY, Bottleneck
from lanxfer.client import Client
from lanxfer.commands.table import Call
from lanxfer.deferreds import settled
from lanxfer.disk import Disk
from lanxfer.errors import BadHeader, Cancelled, LanxferError, TooSlow
from lanxfer.tally import Below, Tally
from lanxfer.transfers import Conflict, Entry, Kind, Receipt, Snapshot, State, Together
from lanxfer.views import Seen, sees
from lanxfer.wire import limits
from lanxfer.wire.native import Fields, is_whole, parse_rows
from lanxfer.wire.packets import Args

TELL_EVERY = 0.1
"""Seconds for which what becomes of entries is gathered."""

_NAME_COST = 6
"""Bytes that a character of a name takes in a line, at worst."""


@frozen
class Job:
    """What a command asked for."""

    peer: str
    things: tuple[Seen, ...]
    view: str
    conflict: Conflict | None
    links: bool
    plain: bool
    name: str | None
    rows: bool


def parse_job(call: Call) -> Job:
    """The call's arguments; BadHeader where they make no sense."""
    fields = Fields(call.args)
    conflict = fields.maybe_text("conflict", most=16)
    try:
        policy = None if conflict is None else Conflict(conflict)
    except ValueError:
        raise BadHeader('There is no such "conflict".') from None
    things = []
    for row in parse_rows(call.data or b""):
        said = Fields(row)
        path = said.take_text("path")
        things.append(Seen(path, said.take_number("dev"), said.take_number("ino")))
    name = fields.maybe_text("as")
    if not things or (name is not None and len(things) > 1):
        raise BadHeader("Something has to be sent, and a name is for one file.")
    return Job(
        fields.take_text("peer"),
        tuple(things),
        fields.take_text("view", most=256),
        policy,
        fields.take_flag("links"),
        fields.take_flag("plain"),
        name,
        fields.take_flag("rows"),
    )


@define(eq=False)
class Handed:
    """One such sending; ``client`` makes the Client for it from peer and request id."""

    _clock: Any
    _disk: Disk
    _client: Callable[[str, str], Client]
    _request: str
    _call: Call
    _job: Job
    _tally: Tally = field(init=False)
    _untold: deque[tuple[str, Any, int]] = field(factory=deque)
    _below: Below = field(factory=Below)
    _waited: bool = False
    _changed: bool = False
    _stopped: bool = False

    def __attrs_post_init__(self) -> None:
        self._tally = Tally(self._clock.seconds)

    async def run(self) -> Mapping[str, Any]:
        """Do it.  When the asker gives up, so does this, and tells first how far it got."""
        job = self._job
        if not await self._disk.run(sees, job.things, job.view):
            return {"sees": False}
        client = self._client(job.peer, self._request)
        working = Deferred.fromCoroutine(self._outcome(client))
        telling = LoopingCall(self._tell)
        telling.clock = self._clock
        telling.start(TELL_EVERY, now=False)
        looking = LoopingCall(self._look, client.bottleneck())
        looking.clock = self._clock
        looking.start(EVERY, now=False)
        try:
            # Not the thing itself, which would be cancelled before anything can be said of it.
            await self._call.shield(settled(working))
        except LanxferError as error:
            self._stopped = True
            if not isinstance(error, Cancelled):
                client.drop()  # what the other device has stays, for a resume
            working.cancel()
            await settled(working)
            await client.close()  # the other device's verdict comes before ours
            self._tell()
            raise
        finally:
            telling.stop()
            looking.stop()
            client.close()
        failed = await working
        if failed is not None:
            raise failed
        await self._told()
        return {"sees": True}

    def _look(self, bottleneck: Bottleneck) -> None:
        self._tally.slow = bottleneck.look().value

    async def _outcome(self, client: Client) -> LanxferError | None:
        """What it failed with as a whole."""
        try:
            await self._send(client)
        except CancelledError:
            return Cancelled()
        except LanxferError as error:
            return error
        return None

    async def _send(self, client: Client) -> None:
        job = self._job
        await client.connected()
        self._call.tell({"connected": True})
        forget = client.registry.subscribe_many(self._hear)
        try:
            if job.name is not None:
                await self._send_one(client, job.things[0].path, job.name)
                return
            paths = [each.path for each in job.things]
            sent = await client.send_paths(
                paths,
                conflict=job.conflict,
                links=job.links,
                on_entry=self._decided,
                on_sent=None if job.rows else self._below.add_sent,
            )
            for skipped in sent.skipped:
                self._add("skipped", list(skipped), len(skipped[0]))
        finally:
            forget()

    async def _send_one(self, client: Client, path: str, name: str) -> None:
        outcome: Receipt | LanxferError
        try:
            outcome = await client.send_file(path, name=name, conflict=self._job.conflict)
        except LanxferError as error:
            outcome = error
        self._decided(Entry(Kind.FILE, name, path), outcome)

    def _hear(self, snapshots: Sequence[Snapshot]) -> None:
        ours: Sequence[Snapshot]
        if isinstance(snapshots, Together):
            ours = snapshots if snapshots.common.request == self._request else ()
        else:
            ours = [each for each in snapshots if each.request == self._request]
        if not ours:
            return
        self._changed = True
        self._tally.hear(ours)
        if isinstance(ours, Together):
            return  # nobody was asked about them
        for each in ours:
            if each.state is State.WAITING and not self._waited:
                self._waited = True
                self._call.tell({"waiting": each.path})

    def _decided(self, entry: Entry, outcome: Receipt | LanxferError) -> None:
        if isinstance(outcome, LanxferError):
            # After a Ctrl-C, what did not arrive is no news of each single one.
            if not self._stopped:
                self._add("entries", _failed(entry, outcome), len(entry.path + entry.local))
            return
        ordinary = self._job.name is None and not self._job.rows
        if not (ordinary and self._below.add(entry, outcome)):
            self._add("entries", _arrived(entry, outcome), len(entry.path + outcome.stored))

    def _add(self, what: str, row: Any, characters: int) -> None:
        self._untold.append((what, row, 512 + _NAME_COST * characters))
        if len(self._untold) > limits.UNTOLD_MAX:
            self._call.stop(TooSlow("The command that asked for this does not read what it gets."))

    def _tell(self) -> bool:
        """Tell what there is to tell; whether all of it is told."""
        while self._untold:
            what, size = self._untold[0][0], 0
            rows: list[Any] = []
            for kind, row, cost in self._untold:
                size += cost
                if kind != what or (rows and size > limits.HEADER_KNOWN // 2):
                    break
                rows.append(row)
            if not self._call.tell({what: rows}):
                return False
            for _ in rows:
                self._untold.popleft()
        for top, sums in self._below.take():
            if not self._call.tell({"below": {top: list(sums)}}):
                return False
        if self._changed:
            self._changed = not self._call.tell({"progress": self._tally.as_row()})
        return True

    async def _told(self) -> None:
        while not self._tell():
            await self._call.shield(deferLater(self._clock, TELL_EVERY, lambda: None))


def _arrived(entry: Entry, receipt: Receipt) -> Args:
    return {
        "path": entry.path,
        "kind": entry.kind.value,
        "stored": receipt.stored,
        "size": receipt.size,
        "blake3": receipt.digest,
        "already": receipt.already,
        "resumed_from": receipt.resumed_from,
    }


def _failed(entry: Entry, error: LanxferError) -> Args:
    row = {
        "path": entry.path,
        "kind": entry.kind.value,
        "error": error.code,
        "reason": error.reason,
    }
    return {**row, "local": entry.local} if is_whole(entry.local) else row
