"""Raw bytes between a socket and a file, with the disk in threads.

``BodySender`` is a FileSender whose file is read ahead in a thread: bounded to
what was announced, from an offset, digesting as it reads, closing its file,
and with a name for each way it can end.  ``BodyWriter`` is its mirror image.
Both hold a bounded number of bytes, whatever the size of the file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IDelayedCall, IReactorTime
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure

from lanxfer.disk import Disk, Units
from lanxfer.errors import Cancelled, Internal, LanxferError, Lost
from lanxfer.storage import Part
from lanxfer.storage.sources import Source
from lanxfer.stretch_in import Lent
from lanxfer.stretch_out import Load
from lanxfer.wire import limits

FLUSH_AFTER = 0.25
"""Seconds that bytes of a slow body wait for more before they are written."""


AHEAD = 4
"""Units read before they are asked for: on a busy machine a hop to a thread takes a while."""


class BodySender(FileSender):
    """Sends one file, as a pull producer that reads a few units ahead.

    FileSender asks its file for the next chunk whenever the consumer wants
    one; the file here is this object, which answers with what a thread has
    read meanwhile.  When nothing is there yet the consumer's wish is kept and
    fulfilled as soon as the thread is back.

    Chunks are views of memory that is used again: the consumer may keep one
    until it asks for the next.
    """

    CHUNK_SIZE = limits.UNIT

    def __init__(self, disk: Disk, source: Source, offset: int) -> None:
        self._disk = disk
        self._source = source
        self._left = source.size - offset
        self._units: Units = disk.units
        self._given: bytearray | None = None
        self._ahead: deque[tuple[bytearray, memoryview]] = deque()
        self._begun = False
        self.reads_ahead = True  # False where somebody else is about to read in its place
        self._reading = False
        self._hungry = False
        self._load: Load | None = None
        self._stopped: LanxferError | None = None
        self._finished: Deferred[str] = Deferred(lambda d: self.stop(Cancelled()))

    def send(self, consumer: IConsumer) -> Deferred[str]:
        """Begin; fires with the digest of the whole file when all of it was written.

        Fails with SourceChanged or SourceUnreadable, with whatever ``stop`` was
        called with, or with Lost when the consumer goes away.  In every case the
        file is closed by then, unless it is cancelled while a thread reads: then
        it is closed as soon as the thread is back.
        """
        sending = self.beginFileTransfer(self, consumer)
        sending.addCallbacks(self._sent, self._failed)
        self._fetch()
        return self._finished

    def stop(self, error: LanxferError) -> None:
        """Give up with ``error``; what the consumer was given already stays given."""
        if self._stopped is None and self.deferred is not None:
            self._stopped = error
            self.consumer.unregisterProducer()
            self.stopProducing()

    # FileSender's file.

    def read(self, size: int) -> bytes | memoryview:
        if self._given is not None:
            self._units.give(self._given)
            self._given = None
        if not self._ahead:
            return b""
        self._given, chunk = self._ahead.popleft()
        return chunk

    def _fetch(self) -> None:
        if self._reading or len(self._ahead) > AHEAD // 2 or self._left == 0 or self._stopped:
            return
        if not (self.reads_ahead or self._hungry):
            return
        scarce = self._units.scarce
        if scarce and not self._hungry:
            return  # while the others have their turns
        self._reading = True
        units: list[tuple[bytearray, memoryview]] = []
        # Two for a hop to a thread, but the first as soon as can be.
        for _ in range(AHEAD // 2 if self._begun and not scarce else 1):
            unit = self._units.take()
            space = memoryview(unit)[: self._left]
            if space:
                self._left -= len(space)
                units.append((unit, space))
        self._begun = True
        reading = self._disk.run(self._read_units, units)
        reading.addCallbacks(self._fetched, self._unreadable, callbackArgs=(units,))

    # Whoever reads and sends in its place for a while (``lanxfer.stretch_out``).

    @property
    def lends(self) -> bool:
        """Whether somebody else may read and send for a while in its place."""
        return self._begun and not self._reading and self._stopped is None

    @property
    def left(self) -> int:
        """Bytes that were not given to the consumer yet."""
        return self._left + sum(len(chunk) for _, chunk in self._ahead)

    def lend(self) -> Load:
        """What that somebody needs; it reads nothing itself until it got it ``back``."""
        self._reading = True
        free = [self._given or self._units.take()]
        self._load = Load(self._source, self._ahead, self._left, free)
        self._given, self._ahead = None, deque()
        return self._load

    def sent(self, sending: bytearray | None) -> None:
        """Nothing more is sent in its place; that memory is in use until it is asked again."""
        self._given = sending

    def back(self) -> None:
        """What was lent is here again."""
        self._unload()
        self._fetched(None, [])

    def failed(self, why: Failure) -> None:
        """As ``back``, but the file could not be read."""
        self._unload()
        self._unreadable(why)

    def _unload(self) -> None:
        load, self._load = self._load, None
        assert load is not None
        self._ahead, self._left = load.ahead, load.unread
        for unit in load.free:
            self._units.give(unit)

    def _read_units(self, units: list[tuple[bytearray, memoryview]]) -> None:
        for _unit, space in units:
            self._source.read_into(space)

    def _fetched(self, _: None, units: list[tuple[bytearray, memoryview]]) -> None:
        self._reading = False
        self._ahead.extend(units)
        if self._stopped is not None:
            self._close(Failure(self._stopped))
        elif self._hungry:
            self._hungry = False
            self.resumeProducing()

    def _unreadable(self, why: Failure) -> None:
        self._reading = False
        if self._stopped is None:
            error = why.value if isinstance(why.value, LanxferError) else Internal()
            self.stop(error)
        else:
            self._close(Failure(self._stopped))

    # The pull producer.

    def resumeProducing(self) -> None:
        if not self._ahead and (self._reading or self._left):
            self._hungry = True
            self._fetch()
            return
        super().resumeProducing()
        self._fetch()

    def stopProducing(self) -> None:
        if self._stopped is None:
            self._stopped = Lost()
        super().stopProducing()

    def _sent(self, _: object) -> None:
        checking = self._disk.run(self._check)
        checking.addBoth(self._close)

    def _check(self) -> str:
        self._source.check_unchanged()
        return self._source.digest()

    def _failed(self, _: Failure) -> None:
        # While a thread reads, the file is its; it is closed when the thread is back.
        if not self._reading:
            self._close(Failure(self._stopped or Lost()))

    def _close(self, result: Any) -> None:
        self._ahead.clear()
        self._source.close()
        if not self._finished.called:
            self._finished.callback(result)


class BodyWriter:
    """Takes the bytes of one body and has them written in units.

    Bytes may come before there is a part to write them to; ``waiting`` counts
    those that are not on the disk yet.  ``on_written`` is told how many got
    there, so that whoever granted the credit can grant more.  A slow body is
    written every quarter of a second, so that its progress shows and a break
    costs little.
    """

    def __init__(self, disk: Disk, clock: IReactorTime, on_written: Callable[[int], None]) -> None:
        self._disk = disk
        self._clock = clock
        self._on_written = on_written
        self._flush: IDelayedCall | None = None
        self._due = False
        self._part: Part | None = None
        self._units: Units = disk.units
        self._unit: bytearray | None = None
        self._filled = 0
        self._full: list[tuple[bytearray, int]] = []
        self._writing = 0
        self._lent = False
        self._away: list[bytearray] = []
        self._again: Callable[[], object] | None = None
        self._ended: tuple[str | None] | None = None
        self._error: LanxferError | None = None
        self._drained: Deferred[str | None] | None = None
        self.waiting = 0

    @property
    def lends(self) -> bool:
        """Whether somebody else may read and write for a while in its place."""
        over = self._error is not None or self._ended is not None
        waits = self._again is not None  # for a write; whoever waits in vain is not to wait again
        return not (over or waits or self._lent or self._drained is None)

    def lend(self, again: Callable[[], object]) -> Lent | None:
        """What that somebody needs; it writes nothing itself until it got it ``back``.

        None where nothing is to be had; ``again`` is called when what is being written is.
        """
        if self._part is None or not self.lends:
            return None
        if self._writing:
            self._again = again
            return None
        self._stop_clock()
        self._lent = True
        full = [memoryview(unit)[:size] for unit, size in self._full]
        self._away = [unit for unit, _ in self._full]
        lent = Lent(self._part, full, self._unit or self._units.take(), self._filled)
        self._full, self._unit, self._filled = [], None, 0
        return lent

    def came(self, size: int, lent: Lent) -> None:
        """So much was read in its place, and nothing more is."""
        self.waiting += size
        if lent.filled < len(lent.unit):
            self._unit, self._filled = lent.unit, lent.filled
        else:
            self._away.append(lent.unit)  # it is being written just now

    def wrote(self, size: int) -> None:
        """So much was written in its place by now."""
        self._on_written(size)

    def back(self, written: int, told: int) -> None:
        """So much was written in its place, of which it was ``told``; nothing is under way."""
        self._lent = False
        for unit in self._away:
            self._units.give(unit)
        self._away = []
        self.waiting -= told
        self._is_written(written - told)

    def failed(self, why: Failure, told: int) -> None:
        """As ``back``, but the disk failed."""
        self._lent = False
        self._away = []
        self.waiting -= told
        self._unwritten(why)

    def received(self, data: bytes) -> None:
        """Some of the body came."""
        rest = memoryview(data)
        while rest:
            space = self.space()
            size = min(len(space), len(rest))
            space[:size] = rest[:size]
            rest = rest[size:]
            self.filled(size)

    def space(self) -> memoryview:
        """Memory for more of the body; tell ``filled`` how much of it was used."""
        if self._unit is None:
            self._unit = self._units.take()
        return memoryview(self._unit)[self._filled :]

    def filled(self, size: int) -> None:
        """So many bytes of the body are in what ``space`` gave."""
        if self._error is not None:
            return
        self._filled += size
        self.waiting += size
        if self._unit is not None and self._filled == len(self._unit):
            self._put_by()
        self._write()

    def _put_by(self) -> None:
        if self._unit is not None and self._filled:
            self._full.append((self._unit, self._filled))
            self._unit, self._filled = None, 0

    def ended(self, digest: str | None) -> None:
        """All of it came."""
        self._ended = (digest,)
        self._stop_clock()
        self._write()

    def fail(self, error: LanxferError) -> None:
        """No more will come, or no more is wanted.

        What came up to now is still written: a broken connection should not
        cost bytes that had arrived.  After the end of the body it is too late
        for this; whoever publishes has the last look.
        """
        if self._error is None and self._ended is None:
            self._error = error
            self._stop_clock()
            self._write()

    def pour(self, part: Part) -> Deferred[str | None]:
        """Write into ``part``; fires with the announced digest after the last byte is written.

        Fails with what ``fail`` was called with or what the disk said; the part
        is idle then.
        """
        self._part = part
        self._drained = Deferred()
        self._write()
        return self._drained

    def _write(self) -> None:
        over = self._ended is not None or self._error is not None
        if self._writing or self._lent or self._part is None or self._drained is None:
            return
        if over or self._due:
            self._put_by()
        if self._full:
            self._stop_clock()
            full, self._full = self._full, []
            pieces = [memoryview(unit)[:size] for unit, size in full]
            self._writing = sum(len(each) for each in pieces)
            writing = self._disk.run(self._part.write, pieces)
            writing.addCallbacks(self._wrote, self._unwritten, callbackArgs=(full,))
        elif self._filled and self._flush is None:
            self._flush = self._clock.callLater(FLUSH_AFTER, self._overdue)
        elif over:
            self._finish(self._drained)

    def _overdue(self) -> None:
        self._flush = None
        self._due = True
        self._write()

    def _stop_clock(self) -> None:
        self._due = False
        flush, self._flush = self._flush, None
        if flush is not None:
            flush.cancel()

    def _wrote(self, _: None, units: list[tuple[bytearray, int]]) -> None:
        for unit, _size in units:
            self._units.give(unit)
        size, self._writing = self._writing, 0
        self._is_written(size)

    def _is_written(self, size: int) -> None:
        self.waiting -= size
        self._on_written(size)
        again, self._again = self._again, None
        if again is not None:
            again()
        self._write()

    def _unwritten(self, why: Failure) -> None:
        size, self._writing = self.waiting, 0
        self.waiting = 0
        self._full.clear()
        self._unit, self._filled = None, 0
        self._stop_clock()
        if self._error is None:
            self._error = why.value if isinstance(why.value, LanxferError) else Internal()
        self._on_written(size)
        self._write()

    def _finish(self, drained: Deferred[str | None]) -> None:
        if drained.called:
            return
        if self._error is not None:
            drained.errback(self._error)
        elif self._ended is not None:
            drained.callback(self._ended[0])
