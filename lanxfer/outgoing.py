"""What the service sends for its owner: now, or as soon as the peer is there.

A send that waits is a row in the journal, so it outlives the service; it is
tried again with growing pauses, and once a minute in the end.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from lanxfer.client import Client
from lanxfer.commands.table import Call
from lanxfer.deferreds import settled
from lanxfer.disk import Disk
from lanxfer.errors import (
    BadHeader,
    DiskFailed,
    Expired,
    LanxferError,
    NotFound,
    NotPaired,
    SourceUnreadable,
    Unfinished,
)
from lanxfer.handing import Handed, parse_job
from lanxfer.journal import Journal
from lanxfer.registry import new_ids
from lanxfer.retrying import PATIENCE
from lanxfer.storage.names import shown
from lanxfer.storage.sources import Confined
from lanxfer.transfers import Conflict, Receipt
from lanxfer.views import Seen, sees
from lanxfer.wire.native import Fields

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds between tries of a send that waits for its peer; the last is repeated."""

PASSING_FOR = 7 * 24 * 3600.0
"""Seconds for which a send that waits is tried again after an answer that may change."""

_PASSING = (NotPaired, Expired, DiskFailed, SourceUnreadable, NotFound)
"""Such answers: somebody has to let a device in or say yes, or a disk is not there just now."""

_UNSEEN = (
    "The service on this machine sees something else there, or nothing; send it without --queue."
)


@define(eq=False)
class Outgoing:
    """See the module.  ``client`` makes a Client for the peer that a job names."""

    _reactor: Any
    _disk: Disk
    _journal: Journal
    _client: Callable[[Mapping[str, Any]], Client]
    _log: Logger
    _new_id: Callable[[], str] = field(factory=new_ids)
    _now: Callable[[], float] = time.time
    _waiting: dict[str, Deferred[None]] = field(factory=dict)
    _started: set[str] = field(factory=set)
    _ending: bool = False

    async def begin(self) -> None:
        """Take up what waited when the service was stopped."""
        for id, job in await self._disk.run_reserved(self._journal.queued):
            self._start(id, job)

    @property
    def waiting(self) -> int:
        """How many sends are tried until their device is there."""
        return len(self._waiting)

    async def cancel(self, id: str) -> bool:
        """Give up all of a send that waits, and what of it is under way; False if there is none."""
        trying = self._waiting.pop(id, None)
        if trying is None:
            return False
        trying.cancel()
        await self._disk.run_reserved(self._journal.dequeue, id)
        return True

    def end(self) -> None:
        """Try nothing more; what waits stays in the journal."""
        self._ending = True
        for each in list(self._waiting.values()):
            each.cancel()

    async def ended(self) -> None:
        """Wait until nothing of it runs any more."""
        while self._waiting:
            await settled(next(iter(self._waiting.values())))

    async def send(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do one job, or with ``"wait": false`` keep it until it is done.

        Gives what the receiver said.  Raises BadHeader for a job that makes no
        sense, SourceUnreadable for one to be kept of something that its asker sees
        at that path and this process does not, and whatever the sending raises.
        """
        job = _job(args)
        if args.get("wait", True) is not False:
            return await self.run(job)
        seen = _seen(args)
        if seen is not None and not await self._disk.run(sees, [seen]):
            raise SourceUnreadable(_UNSEEN)
        job["since"] = self._now()
        self._client(job)  # a peer that nobody knows is said now, not in vain for ever
        id = secrets.token_hex(4)
        await self._disk.run_reserved(self._journal.enqueue, id, job)
        self._start(id, job)
        return {"queued": id}

    async def send_paths(self, call: Call) -> Mapping[str, Any]:
        """Send what a command named, in its place; Forbidden for what only it can send."""

        def client(peer: str, request: str) -> Client:
            args = {"peer": peer, "request": request, "patience": PATIENCE, "native": True}
            return self._client({**args, "plain": job.plain})

        job = parse_job(call)
        return await Handed(self._reactor, self._disk, client, self._new_id(), call, job).run()

    async def run(self, args: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do one job now; cancelling it cancels what is under way."""
        job = _job(args)
        client = self._client(job)
        try:
            if "text" in job:
                return _said(await client.send_message(job["text"]), job)
            conflict = Conflict.SERIES if job.get("series") else None
            one = isinstance(job["path"], Confined)  # no folder, whose names are looked up anew
            if one or not await self._disk.run(os.path.isdir, job["path"]):
                return _said(await client.send_file(job["path"], conflict=conflict), job)
            sent = await client.send_paths([job["path"]])
            if sent.failed:
                path, error = sent.failed[0]
                why = f"{len(sent.failed)} did not arrive; the first: {path}: {error}"
                raise Unfinished(why) from max((each for _, each in sent.failed), key=_hope)
            return {"files": sent.files, "size": sent.bytes, "skipped": len(sent.skipped)}
        finally:
            client.close()

    def _start(self, id: str, job: Mapping[str, Any]) -> None:
        # ``begin`` may read, and hear of later, what ``send`` has put there meanwhile.
        if id in self._started:
            return
        self._started.add(id)
        trying = Deferred.fromCoroutine(self._keep_trying(id, job))
        self._waiting[id] = trying
        trying.addErrback(
            lambda why: self._log.failure("a queued send failed", why, event="send_failed")
        )
        trying.addBoth(lambda result: self._waiting.pop(id, None) and result)

    async def _keep_trying(self, id: str, job: Mapping[str, Any]) -> None:
        tries, since = 0, job.get("since", self._now())
        try:
            while True:
                try:
                    await self.run(job)
                    break
                except LanxferError as error:
                    if self._ending or id not in self._waiting:
                        return
                    if self._now() - since >= _hope(error):
                        # Its words, maybe, and the log's line.
                        why = shown(error.reason, 300)
                        self._log.error(
                            "{queued} was given up: {reason}",
                            event="send_given_up",
                            queued=id,
                            reason=why,
                        )
                        break
                pause = PAUSES[min(tries, len(PAUSES) - 1)]
                tries += 1
                await deferLater(self._reactor, pause, lambda: None)
            await self._disk.run_reserved(self._journal.dequeue, id)
        except CancelledError:
            return


def _job(args: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the arguments that says what to send; BadHeader if it does not."""
    kept = ("path", "text", "peer", "legacy", "plain", "series", "request")
    job = {key: args[key] for key in kept if key in args}
    texts = [isinstance(job.get(key), str) for key in ("path", "text")]
    if not isinstance(job.get("peer"), str) or texts.count(True) != 1:
        raise BadHeader('A send needs a "peer", and a "path" or a "text".')
    return job


def _hope(error: BaseException | None) -> float:
    """For how many seconds it is worth to try again."""
    if isinstance(error, Unfinished):
        return _hope(error.__cause__)
    if not isinstance(error, LanxferError):
        return 0.0
    if type(error).retry:
        return math.inf
    return PASSING_FOR if error.retry or isinstance(error, _PASSING) else 0.0


def _seen(args: Mapping[str, Any]) -> Seen | None:
    """What the asker sees at the path, where it says so; BadHeader if that makes no sense."""
    fields = Fields(args)
    dev, ino = fields.maybe_number("dev"), fields.maybe_number("ino")
    return None if dev is None or ino is None else Seen(fields.take_text("path"), dev, ino)


def _said(receipt: Receipt, job: Mapping[str, Any]) -> dict[str, Any]:
    said = {
        "stored": receipt.stored,
        "size": receipt.size,
        "blake3": receipt.digest,
        "already": receipt.already,
    }
    if "request" in job and receipt.literal is not None:
        said["literal"] = receipt.literal  # an ae controller gets its receiver's own answer
    return said
