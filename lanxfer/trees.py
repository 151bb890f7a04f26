"""Many files to one device over one connection: read ahead, pipelined, each by itself.

A thread walks the folders, reads the small files and digests them, a batch at
a time; what is read goes out without waiting for the answers, within the
window the protocol allows (docs/protocol.rst, "A small file").
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.logger import Logger

from lanxfer.disk import Disk
from lanxfer.errors import Internal, LanxferError
from lanxfer.offering import Loaded, load
from lanxfer.registry import Transfer
from lanxfer.storage.sources import Entry
from lanxfer.transfers import Conflict, Kind, Receipt
from lanxfer.wire import limits

_log = Logger()

Deliver: TypeAlias = Callable[[Loaded, Transfer, Conflict | None], Coroutine[Any, Any, Receipt]]
Outcomes: TypeAlias = list[Receipt | LanxferError | None]
DeliverPack: TypeAlias = Callable[
    [Sequence[Loaded], Conflict | None, str], Coroutine[Any, Any, Outcomes]
]
OnEntry: TypeAlias = Callable[[Entry, Receipt | LanxferError], None]


OPEN_FILES = 200
OPEN_BYTES = 4 * limits.MIB
LARGE_AT_ONCE = 2
AGAIN_AT_ONCE = 25
"""Files of a pack that is sent again in pieces; all packs that can be open have room for it."""


@frozen
class Packs:
    """How small files are sent together, and how large one of them may be, in bytes."""

    deliver: DeliverPack
    largest: int


@define
class Sent:
    """What came of it: counts, bytes, and every entry that did not arrive."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    already: int = 0
    skipped: list[tuple[str, str]] = field(factory=list)
    failed: list[tuple[str, LanxferError]] = field(factory=list)


@define
class _Window:
    """How much may be unanswered at a time."""

    files: int = 0
    bytes: int = 0
    large: int = 0
    _freed: Deferred[None] | None = None

    def full(self, size: int, large: bool) -> bool:
        return (
            self.files >= OPEN_FILES
            or (self.files > 0 and self.bytes + size > OPEN_BYTES)
            or (large and self.large >= LARGE_AT_ONCE)
        )

    async def enter(self, size: int, large: bool) -> None:
        while self.full(size, large):
            self._freed = Deferred()
            await self._freed
        self.files += 1
        self.bytes += size
        self.large += large

    def leave(self, size: int, large: bool) -> None:
        self.files -= 1
        self.bytes -= size
        self.large -= large
        freed, self._freed = self._freed, None
        if freed is not None and not freed.called:
            freed.callback(None)

    async def empty(self) -> None:
        while self.files:
            self._freed = Deferred()
            await self._freed


@define
class _Ahead:
    """Entries as they are sent: by the batch, files of at most ``largest`` with their bytes."""

    entries: Iterator[Entry]
    largest: int = limits.INLINE_MAX
    _over: list[Loaded] = field(factory=list)

    def read(self) -> list[Loaded]:
        """The next batch, empty at the end; blocks.

        A file that would make it more than one pack begins the next one: by itself it would
        cost as much as ten of them.
        """
        batch, self._over = self._over, []
        size = sum(map(_weight, batch))
        for entry in self.entries:
            try:
                loaded = load(entry, limits.INLINE_MAX if entry.shared else self.largest)
            except LanxferError as error:
                loaded = Loaded(Entry(entry.kind, entry.path, entry.local, 0, None, error=error))
            size += _weight(loaded)
            if size > limits.PACK_MAX and batch:
                self._over.append(loaded)
                break
            batch.append(loaded)
            if len(batch) >= limits.PACK_FILES:
                break
        return batch


LINE = 120
"""Bytes that a line of a manifest takes, about, besides the path."""


def _weight(loaded: Loaded) -> int:
    """Bytes of a request that it is worth, with its line in the manifest."""
    return 0 if loaded.data is None else len(loaded.data) + len(loaded.entry.path) + LINE


def together(batch: Sequence[Loaded], largest: int) -> list[Loaded]:
    """The files of a batch that fit into one request; for a small one alone there is another."""
    pack = [
        loaded
        for loaded in batch
        if loaded.data is not None
        and len(loaded.data) <= largest
        and not loaded.entry.shared  # packs go to the inbox only
    ]
    alone = len(pack) == 1 and len(pack[0].data or b"") <= limits.INLINE_MAX
    return [] if alone else pack


@define
class _Tree:
    """One ``send_tree``."""

    deliver: Deliver
    packs: Packs | None
    ahead: _Ahead
    open_transfer: Callable[[Entry, str], Transfer]
    conflict: Conflict | None
    on_entry: OnEntry | None
    group: str = field(factory=lambda: secrets.token_hex(4))
    sent: Sent = field(factory=Sent)
    window: _Window = field(factory=_Window)
    under_way: set[Deferred[None]] = field(factory=set)

    async def batch(self, batch: Sequence[Loaded]) -> None:
        """Begin to send all of it."""
        pack = [] if self.packs is None else together(batch, self.packs.largest)
        packed = set(map(id, pack))
        for loaded in batch:
            entry = loaded.entry
            if id(loaded) in packed:
                continue
            if entry.error is not None:
                self._decided(entry, entry.error)
            elif entry.skipped:
                self.sent.skipped.append((entry.path, entry.skipped))
            else:
                size = len(loaded.data or b"")
                large = entry.kind is Kind.FILE and loaded.data is None
                await self.window.enter(size, large)
                self._begin(self._single(loaded, size, large))
        if pack:
            size = sum(len(loaded.data or b"") for loaded in pack)
            await self.window.enter(size, False)
            self._begin(self._pack(pack, size))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = Deferred.fromCoroutine(work)
        self.under_way.add(task)
        task.addBoth(_done, task, self.under_way)

    async def _single(self, loaded: Loaded, size: int, large: bool) -> None:
        try:
            await self._one(loaded)
        finally:
            self.window.leave(size, large)

    async def _one(self, loaded: Loaded) -> None:
        entry = loaded.entry
        try:
            transfer = self.open_transfer(entry, self.group)
            self._decided(entry, await self.deliver(loaded, transfer, self.conflict))
        except CancelledError:
            raise
        except LanxferError as error:
            self._decided(entry, error)
        except Exception:
            _log.failure("sending {path} failed", event="send_failed", path=entry.path)
            self._decided(entry, Internal())

    async def _pack(self, pack: Sequence[Loaded], size: int) -> None:
        assert self.packs is not None
        try:
            outcomes = await self.packs.deliver(pack, self.conflict, self.group)
            if _there_already(pack, outcomes):
                # So that a folder does not travel twice.  A thread looks at this for each file.
                self.ahead.largest = limits.INLINE_MAX
            left = []
            for loaded, outcome in zip(pack, outcomes, strict=True):
                if outcome is None:
                    left.append(loaded)
                else:
                    self._decided(loaded.entry, outcome)
            small = [each for each in left if each.entry.size <= limits.INLINE_MAX]
            for at in range(0, len(small), AGAIN_AT_ONCE):
                again = [self._one(each) for each in small[at : at + AGAIN_AT_ONCE]]
                await gatherResults(map(Deferred.fromCoroutine, again), consumeErrors=True)
            for each in left:
                if each.entry.size > limits.INLINE_MAX:
                    await self._one(Loaded(each.entry))  # which is read again, in parts
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            self.window.leave(size, False)

    def _decided(self, entry: Entry, outcome: Receipt | LanxferError) -> None:
        if isinstance(outcome, LanxferError):
            self.sent.failed.append((entry.path, outcome))
        else:
            _count(self.sent, entry, outcome)
        if self.on_entry is not None:
            self.on_entry(entry, outcome)


async def send_tree(
    deliver: Deliver,
    packs: Packs | None,
    disk: Disk,
    entries: Iterator[Entry],
    open_transfer: Callable[[Entry, str], Transfer],
    conflict: Conflict | None,
    on_entry: OnEntry | None,
) -> Sent:
    """Send all entries; see ``Client.send_paths``.  Cancelling cancels what is under way.

    ``packs`` send many small files at once; what they give no outcome for goes by itself.
    """
    ahead = _Ahead(entries, max(limits.INLINE_MAX, 0 if packs is None else packs.largest))
    tree = _Tree(deliver, packs, ahead, open_transfer, conflict, on_entry)
    try:
        reading = disk.run(ahead.read)
        while batch := await reading:
            reading = disk.run(ahead.read)
            await tree.batch(batch)
        await tree.window.empty()
    except CancelledError:
        for each in list(tree.under_way):
            each.cancel()
        raise
    return tree.sent


def _there_already(pack: Sequence[Loaded], outcomes: Outcomes) -> bool:
    """Whether of a pack all files that are larger than the small ones travelled in vain."""
    ends = [
        isinstance(outcome, Receipt) and outcome.already
        for loaded, outcome in zip(pack, outcomes, strict=True)
        if loaded.entry.size > limits.INLINE_MAX
    ]
    return bool(ends) and all(ends)


def _done(result: Any, task: Deferred[None], under_way: set[Deferred[None]]) -> Any:
    under_way.discard(task)
    return None if _is_cancelled(result) else result


def _is_cancelled(result: Any) -> bool:
    check = getattr(result, "check", None)
    return check is not None and check(CancelledError) is not None


def _count(sent: Sent, entry: Entry, receipt: Receipt) -> None:
    if entry.kind is Kind.FOLDER:
        sent.folders += 1
        return
    sent.files += 1
    sent.bytes += receipt.size
    sent.already += receipt.already
