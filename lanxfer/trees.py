"""Many files to one device over one connection: read ahead, pipelined, each by itself.

A thread walks the folders, reads the small files and digests them, a batch at
a time; what is read goes out without waiting for the answers, within the
window the protocol allows (docs/protocol.rst, "A small file").
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from lanxfer.disk import Disk
from lanxfer.errors import Internal, LanxferError
from lanxfer.registry import Transfer
from lanxfer.sending import Loaded, load
from lanxfer.storage.sources import Entry
from lanxfer.transfers import Conflict, Kind, Receipt
from lanxfer.wire import limits

_log = Logger()

Deliver: TypeAlias = Callable[[Loaded, Transfer, Conflict | None], Coroutine[Any, Any, Receipt]]
OnEntry: TypeAlias = Callable[[Entry, Receipt | LanxferError], None]

OPEN_FILES = 200
OPEN_BYTES = 8 * limits.MIB
LARGE_AT_ONCE = 2
READ_AHEAD = 2 * limits.MIB


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


def read_ahead(entries: Iterator[Entry]) -> list[Loaded]:
    """The next batch, small files with their bytes; blocks.  Empty at the end."""
    batch: list[Loaded] = []
    size = 0
    for entry in entries:
        try:
            loaded = load(entry)
        except LanxferError as error:
            loaded = Loaded(Entry(entry.kind, entry.path, entry.local, 0, None, error=error))
        batch.append(loaded)
        size += len(loaded.data or b"")
        if len(batch) >= limits.BATCH_FILES or size >= READ_AHEAD:
            break
    return batch


async def send_tree(
    deliver: Deliver,
    disk: Disk,
    entries: Iterator[Entry],
    open_transfer: Callable[[Entry, str], Transfer],
    conflict: Conflict | None,
    on_entry: OnEntry | None,
) -> Sent:
    """Send all entries; see ``Client.send_paths``.  Cancelling cancels what is under way."""
    sent, window = Sent(), _Window()
    group = secrets.token_hex(4)
    under_way: set[Deferred[None]] = set()

    async def one(loaded: Loaded, size: int, large: bool) -> None:
        entry = loaded.entry
        try:
            receipt = await deliver(loaded, open_transfer(entry, group), conflict)
        except CancelledError:
            raise
        except LanxferError as error:
            sent.failed.append((entry.path, error))
            _tell(on_entry, entry, error)
        except Exception:
            _log.failure("sending {path} failed", path=entry.path)
            sent.failed.append((entry.path, Internal()))
            _tell(on_entry, entry, Internal())
        else:
            _count(sent, entry, receipt)
            _tell(on_entry, entry, receipt)
        finally:
            window.leave(size, large)

    try:
        reading = disk.run(read_ahead, entries)
        while batch := await reading:
            reading = disk.run(read_ahead, entries)
            for loaded in batch:
                entry = loaded.entry
                if entry.error is not None:
                    sent.failed.append((entry.path, entry.error))
                    _tell(on_entry, entry, entry.error)
                elif entry.skipped:
                    sent.skipped.append((entry.path, entry.skipped))
                else:
                    size = len(loaded.data or b"")
                    large = entry.kind is Kind.FILE and loaded.data is None
                    await window.enter(size, large)
                    task = Deferred.fromCoroutine(one(loaded, size, large))
                    under_way.add(task)
                    task.addBoth(_done, task, under_way)
        await window.empty()
    except CancelledError:
        for each in list(under_way):
            each.cancel()
        raise
    return sent


def _done(result: Any, task: Deferred[None], under_way: set[Deferred[None]]) -> Any:
    under_way.discard(task)
    return None if _is_cancelled(result) else result


def _is_cancelled(result: Any) -> bool:
    check = getattr(result, "check", None)
    return check is not None and check(CancelledError) is not None


def _tell(on_entry: OnEntry | None, entry: Entry, outcome: Receipt | LanxferError) -> None:
    if on_entry is not None:
        on_entry(entry, outcome)


def _count(sent: Sent, entry: Entry, receipt: Receipt) -> None:
    if entry.kind is Kind.FOLDER:
        sent.folders += 1
        return
    sent.files += 1
    sent.bytes += receipt.size
    sent.already += receipt.already
