"""Many files to one device over one connection: read ahead, pipelined, each by itself.

A thread walks the folders, reads the files that go together and digests them, a batch at
a time; what is read goes out without waiting for the answers, within the
window the protocol allows (docs/protocol.rst, "A small file", "Many files").
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from lanxfer.ahead import ENOUGH, LARGE_AT_ONCE, Ahead
from lanxfer.disk import Disk
from lanxfer.errors import Internal, LanxferError
from lanxfer.offering import Loaded
from lanxfer.packing import as_sent
from lanxfer.registry import Transfer
from lanxfer.storage.sources import Entry
from lanxfer.transfers import Conflict, Kind, Receipt
from lanxfer.wire import limits

_log = Logger()

Deliver: TypeAlias = Callable[[Loaded, Transfer, Conflict | None], Coroutine[Any, Any, Receipt]]
Outcomes: TypeAlias = Mapping[int, Receipt | LanxferError | None]
"""What became of those that did not just arrive, by number; None of what is to go again."""
DeliverPack: TypeAlias = Callable[
    [Sequence[Loaded], Conflict | None, str], Coroutine[Any, Any, Outcomes]
]
OnEntry: TypeAlias = Callable[[Entry, Receipt | LanxferError], None]
OnSent: TypeAlias = Callable[[Sequence[Entry]], None]


OPEN_FILES = 200
OPEN_BYTES = 4 * limits.MIB
"""Bytes that may be unanswered; of two requests they may be more."""
PACK_BYTES = 3 * limits.MIB
"""Bytes of small files in one of them, of which there are three or four in memory."""


@frozen
class Packs:
    """How files are sent together, and how many bytes of them may be now; 0: none.

    ``seconds`` is a clock, which tells how fast they go, ``folders`` whether folders go as well.
    """

    deliver: DeliverPack
    most: Callable[[], int]
    seconds: Callable[[], float]
    folders: Callable[[], bool] = lambda: False


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
            or (self.files > 1 and self.bytes + size > OPEN_BYTES)
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

    async def empty(self, enough: Callable[[], bool]) -> None:
        """Wait until nothing is unanswered, or there is ``enough`` to go on with."""
        while self.files and not enough():
            self._freed = Deferred()
            await self._freed


@define
class _Tree:
    """One ``send_tree``."""

    deliver: Deliver
    packs: Packs | None
    ahead: Ahead
    open_transfer: Callable[[Entry, str], Transfer]
    conflict: Conflict | None
    on_entry: OnEntry | None
    on_sent: OnSent | None
    group: str = field(factory=lambda: secrets.token_hex(4))
    sent: Sent = field(factory=Sent)
    window: _Window = field(factory=_Window)
    under_way: set[Deferred[None]] = field(factory=set)
    arrived: int = 0

    async def batch(self, batch: Sequence[Loaded]) -> None:
        """Begin to send all of it."""
        pack: list[Loaded] = []
        if self.packs is not None and self.fit():
            pack = self.ahead.together(batch, self.packs.folders())
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
                size = loaded.size
                large = entry.kind is Kind.FILE and not loaded.whole
                await self.window.enter(size, large)
                self._begin(self._single(loaded, size, large))
        if pack:
            size = sum(loaded.size for loaded in pack)
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
            since = self._now(), self.arrived
            transfer = self.open_transfer(entry, self.group)
            receipt = await self.deliver(loaded, transfer, self.conflict)
            if not receipt.already:
                self.arrived += receipt.size - receipt.resumed_from
                if not loaded.whole:
                    self._measure(*since)
            self.ahead.came([(entry, receipt.already)])
            self._decided(entry, receipt)
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
            since = self._now(), self.arrived
            try:
                odd = await self.packs.deliver(pack, self.conflict, self.group)
            except CancelledError:
                raise
            except Exception:
                # Whichever of them it was because of: each finds out by itself.
                text = "sending {path}, and what goes with it, failed"
                _log.failure(text, event="send_failed", path=pack[0].entry.path)
                for loaded in pack:
                    loaded.unsure = True
                    self.ahead.again(loaded, alone=True)
                return
            sent = [loaded for at, loaded in enumerate(pack) if at not in odd]
            if sent or any(isinstance(each, Receipt) for each in odd.values()):
                self.arrived += size
                self._measure(*since)
            self.ahead.came(_arrived(pack, odd))
            self._sent(sent)
            lost = not sent and all(each is None for each in odd.values())
            for at, outcome in odd.items():
                if outcome is None:
                    self.ahead.again(pack[at], alone=not lost)
                else:
                    self._decided(pack[at].entry, outcome)
        finally:
            self.window.leave(size, False)

    def _now(self) -> float:
        return 0.0 if self.packs is None else self.packs.seconds()

    def _measure(self, began: float, before: int) -> None:
        """What arrived since then tells how much may go at once."""
        self.ahead.measured(self.arrived - before, self._now() - began)
        self.fit()

    def fit(self) -> bool:
        """Whether files may go together, and if so no more of them than may."""
        if self.packs is None:
            return False
        most = self.packs.most()
        self.ahead.most = max(min(self.ahead.most, most), limits.INLINE_MAX)
        return most > 0

    def _sent(self, sent: Sequence[Loaded]) -> None:
        """These arrived as they were sent; of thousands a second nobody wants to hear of each."""
        entries: list[Entry] = []
        for loaded in sent:
            if self.on_sent is None or "/" not in loaded.entry.path:
                self._decided(loaded.entry, as_sent(loaded))
            else:
                entries.append(loaded.entry)
        if self.on_sent is None or not entries:
            return
        files = sum([entry.kind is not Kind.FOLDER for entry in entries])
        self.sent.files += files
        self.sent.folders += len(entries) - files
        self.sent.bytes += sum([entry.size for entry in entries])
        self.on_sent(entries)

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
    on_sent: OnSent | None = None,
) -> Sent:
    """Send all entries; see ``Client.send_paths``.  Cancelling cancels what is under way.

    ``packs`` send many files at once; what they give no outcome for is read again, and goes by
    itself, or once more with others where none of them had one.
    """
    ahead = Ahead(entries, disk.units.take, ENOUGH, packs is None, enough=PACK_BYTES)
    tree = _Tree(deliver, packs, ahead, open_transfer, conflict, on_entry, on_sent)
    tree.fit()
    try:
        reading = disk.run(ahead.read)
        while True:
            batch = await reading
            if not batch:
                await tree.window.empty(ahead.more)
                if not (ahead.more() or tree.window.files):
                    break
            reading = disk.run(ahead.read)
            await tree.batch(batch)
    except CancelledError:
        for each in list(tree.under_way):
            each.cancel()
        raise
    return tree.sent


def _arrived(
    pack: Sequence[Loaded], odd: Mapping[int, Receipt | LanxferError | None]
) -> Iterator[tuple[Entry, bool]]:
    """Those of a pack that are there now, and whether they had been before."""
    for at, loaded in enumerate(pack):
        if at not in odd:
            yield loaded.entry, False
        elif isinstance(end := odd[at], Receipt):
            yield loaded.entry, end.already


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
