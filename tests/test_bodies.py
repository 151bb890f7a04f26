"""Raw bytes between a socket and a file: each way a body can end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from lanxfer.bodies import AHEAD, FLUSH_AFTER, BodySender, BodyWriter
from lanxfer.disk import Disk
from lanxfer.errors import (
    BadOffset,
    Cancelled,
    DiskFull,
    Internal,
    LanxferError,
    Lost,
    ShortBody,
    SourceChanged,
    SourceUnreadable,
)
from lanxfer.storage import Part
from lanxfer.storage.sources import Source, open_source
from lanxfer.testing import MemoryDisk, MemorySource
from lanxfer.wire import limits

UNIT = 10


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of a few bytes show what many bytes would."""
    monkeypatch.setattr(limits, "UNIT", UNIT)
    monkeypatch.setattr(BodySender, "CHUNK_SIZE", UNIT)


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


class Taker:
    """The consumer of a sender; it asks for the next chunk when it is told to."""

    def __init__(self) -> None:
        self.producer: Any = None
        self.data = b""
        self.chunks: list[bytes] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert not streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        assert data
        self.chunks.append(data)
        self.data += data

    def ask(self) -> None:
        if self.producer is not None:
            self.producer.resumeProducing()


class Sending:
    """A sender of ``data`` from ``offset`` on a disk that works when it is told to."""

    def __init__(self, data: bytes, offset: int = 0, source: Source | None = None) -> None:
        self.disk = MemoryDisk(held=True)
        self.source: Any = source or MemorySource(data)
        self.source.seek(offset)
        self.taker = Taker()
        self.sender = BodySender(self.disk, self.source, offset)
        self.results: list[Any] = []
        self.sending: Deferred[str] = self.sender.send(self.taker)  # type: ignore[arg-type]
        self.sending.addBoth(self.results.append)

    def run(self) -> None:
        """Ask and read in turns until nothing happens any more."""
        for _ in range(100):
            self.taker.ask()
            self.disk.work()

    @property
    def failed(self) -> LanxferError:
        [why] = self.results
        assert isinstance(why.value, LanxferError)
        return why.value


class SenderTests:
    @pytest.mark.parametrize("size", [0, 1, UNIT - 1, UNIT, UNIT + 1, 5 * UNIT, 57])
    @pytest.mark.parametrize("offset", [0, 1, UNIT, 57])
    def test_complete(self, size: int, offset: int) -> None:
        """All from the offset to the end goes out, and the digest is that of the whole file."""
        # covers: S02
        data = bytes(range(size))
        offset = min(offset, size)
        sending = Sending(data, offset)
        sending.run()
        assert sending.taker.data == data[offset:]
        assert sending.results == [digest(data)]
        assert sending.source.closed == 1
        assert sending.taker.producer is None

    def test_slow_disk(self) -> None:
        """A wish that comes before the disk is fulfilled when the disk is back, once."""
        sending = Sending(b"x" * 15)
        sending.taker.ask()
        assert sending.taker.chunks == []
        sending.disk.work(1)
        assert sending.taker.chunks == [b"x" * 10]
        sending.disk.work(1)
        assert sending.taker.chunks == [b"x" * 10]

    def test_reads_ahead(self) -> None:
        """As long as nobody asks, one unit is read, and then never more than a few."""
        # covers: B07, R06
        sending = Sending(b"x" * 1000)
        while sending.disk.work():
            pass
        assert sending.source.position == UNIT
        for asked in range(1, 10):
            sending.taker.ask()
            while sending.disk.work():
                pass
            assert UNIT * asked < sending.source.position <= UNIT * (asked + AHEAD)

    def test_disk_at_once(self) -> None:
        """A disk that answers at once makes no difference."""
        taker = Taker()
        source = MemorySource(b"x" * 25)
        results: list[Any] = []
        BodySender(MemoryDisk(), source, 0).send(taker).addBoth(results.append)  # type: ignore[arg-type]
        for _ in range(10):
            taker.ask()
        assert taker.chunks == [b"x" * 10, b"x" * 10, b"x" * 5]
        assert results == [digest(b"x" * 25)]

    def test_unreadable_at_once(self) -> None:
        """A file that cannot be read at all ends it, also on a disk that answers at once."""
        taker = Taker()
        source = MemorySource(b"x" * 25)
        source.data = b""
        results: list[Any] = []
        BodySender(MemoryDisk(), source, 0).send(taker).addBoth(results.append)  # type: ignore[arg-type]
        assert results[0].check(SourceChanged)
        assert source.closed == 1

    def test_not_in_the_reactor(self, tmp_path: Path) -> None:
        """The file is read and checked by the disk's threads only."""
        # covers: R09
        path = tmp_path / "a"
        path.write_bytes(b"x" * 35)
        inside = False
        touched: list[str] = []

        class Watched(MemoryDisk):
            def run(self, function: Callable[..., Any], *args: Any, **how: Any) -> Deferred[Any]:
                def work(*args: Any) -> Any:
                    nonlocal inside
                    inside = True
                    try:
                        return function(*args)
                    finally:
                        inside = False

                return super().run(work, *args, **how)

        def watched(name: str, real: Callable[..., Any], *args: Any) -> Any:
            assert inside
            touched.append(name)
            return real(*args)

        source = open_source(str(path))
        for name in ("read_into", "check_unchanged", "digest"):
            setattr(source, name, partial(watched, name, getattr(source, name)))
        taker = Taker()
        results: list[Any] = []
        BodySender(Watched(), source, 0).send(taker).addBoth(results.append)  # type: ignore[arg-type]
        for _ in range(10):
            taker.ask()
        assert results == [digest(b"x" * 35)]
        assert touched == ["read_into"] * 4 + ["check_unchanged", "digest"]


class SenderStopTests:
    @pytest.mark.parametrize("asked", range(4))
    @pytest.mark.parametrize("work", [False, True])
    @pytest.mark.parametrize("error", [Cancelled("enough"), Lost(), ShortBody()])
    def test_stopped(self, asked: int, work: bool, error: LanxferError) -> None:
        """Stopped anywhere, it fails with the reason, closes once and writes nothing more."""
        # covers: C06
        sending = Sending(b"x" * 100)
        for _ in range(asked):
            sending.taker.ask()
            sending.disk.work(1)
        if work:
            sending.disk.work()
        written = sending.taker.data
        sending.sender.stop(error)
        sending.sender.stop(Internal())
        sending.run()
        assert sending.failed is error
        assert sending.source.closed == 1
        assert sending.taker.data == written

    def test_closed_after_the_thread(self) -> None:
        """While a thread reads, the file is its, and is closed when the thread is back."""
        sending = Sending(b"x" * 100)
        assert sending.disk.waiting == 1
        sending.sender.stop(Lost())
        assert (sending.source.closed, sending.results) == (0, [])
        sending.disk.work()
        assert sending.source.closed == 1
        assert isinstance(sending.failed, Lost)

    @pytest.mark.parametrize("reading", [False, True])
    def test_cancelled(self, reading: bool) -> None:
        """Cancelling the Deferred stops the file as cancelled, and closes it once."""
        # covers: C06
        sending = Sending(b"x" * 100)
        if not reading:
            sending.disk.work()
        sending.sending.cancel()
        [why] = sending.results
        assert why.check(CancelledError if reading else Cancelled)
        sending.run()
        assert sending.source.closed == 1
        assert sending.taker.data == b""

    @pytest.mark.parametrize("reading", [False, True])
    def test_consumer_gone(self, reading: bool) -> None:
        """When the consumer wants no more the connection is lost."""
        sending = Sending(b"x" * 100)
        if not reading:
            sending.disk.work()
        sending.taker.producer.stopProducing()
        sending.run()
        assert isinstance(sending.failed, Lost)
        assert sending.source.closed == 1

    def test_too_late(self) -> None:
        """Once all is written a stop changes nothing: the digest still comes."""
        # covers: C06, C07
        sending = Sending(b"x" * 5)
        sending.disk.work()
        sending.taker.ask()
        sending.taker.ask()
        assert sending.disk.waiting == 1  # it is being checked
        sending.sender.stop(Cancelled())
        sending.run()
        assert sending.results == [digest(b"x" * 5)]
        assert sending.source.closed == 1

    def test_after_the_end(self) -> None:
        """A stop after everything is nothing."""
        sending = Sending(b"x")
        sending.run()
        sending.sender.stop(Cancelled())
        assert sending.source.closed == 1


class SourceTests:
    def test_grows(self) -> None:
        """Of a file that grows no byte goes out that was not announced, and the change is told."""
        # covers: S10
        sending = Sending(b"x" * 25)
        sending.disk.work()
        sending.source.data += b"y" * 100
        sending.run()
        assert sending.taker.data == b"x" * 25
        assert isinstance(sending.failed, SourceChanged)
        assert sending.source.closed == 1

    @pytest.mark.parametrize("left", [0, 5, 15, 24])
    def test_shrinks(self, left: int) -> None:
        """A file that becomes shorter is noticed, and nothing is made up for what is missing."""
        # covers: S10
        sending = Sending(b"x" * 25)
        sending.source.data = sending.source.data[:left]
        sending.run()
        assert sending.taker.data != b"x" * 25
        assert isinstance(sending.failed, SourceChanged)
        assert sending.source.closed == 1

    @pytest.mark.parametrize("at", range(4))
    def test_rewritten(self, at: int) -> None:
        """A file with other bytes of the same length is noticed at the end at the latest."""
        # covers: S10
        sending = Sending(b"x" * 25)
        for _ in range(at):
            sending.taker.ask()
            sending.disk.work(1)
        sending.source.data = b"y" * 25
        sending.run()
        assert isinstance(sending.failed, SourceChanged)

    @pytest.mark.parametrize(
        ("error", "found"),
        [
            (SourceUnreadable("no"), SourceUnreadable),
            (OSError(5, "Input/output error"), LanxferError),
            (ValueError("a bug"), Internal),
        ],
    )
    @pytest.mark.parametrize("good", range(3))
    def test_unreadable(self, error: Exception, found: type[LanxferError], good: int) -> None:
        """A file that cannot be read any more ends it with a type, and is closed once."""
        # covers: S10, R05
        sending = Sending(b"x" * 50)
        reads = iter([sending.source.read_into] * good)

        def read(space: memoryview) -> int:
            for real in reads:
                return int(real(space))
            raise error

        sending.source.read_into = read
        if good:
            sending.disk.work(1)
        sending.run()
        assert isinstance(sending.failed, found)
        assert sending.source.closed == 1
        assert sending.taker.data == b"x" * len(sending.taker.data)

    def test_check_fails(self) -> None:
        """A file that cannot even be asked at the end has failed."""
        sending = Sending(b"x" * 5)

        def check() -> None:
            raise SourceUnreadable("gone")

        sending.source.check_unchanged = check
        sending.run()
        assert isinstance(sending.failed, SourceUnreadable)
        assert sending.source.closed == 1


class MemoryPart:
    """A part that keeps what is written, and breaks where it is told to."""

    def __init__(self, fails_at: int | None = None, error: Exception | None = None) -> None:
        self.writes: list[bytes] = []
        self.fails_at = fails_at
        self.error = error or DiskFull()
        self.position = 0
        self.busy = False

    def write(self, chunks: Sequence[bytes]) -> None:
        assert not self.busy, "one writer at a time"
        if self.fails_at is not None and len(self.writes) == self.fails_at:
            raise self.error
        self.writes.append(b"".join(chunks))
        self.position += len(self.writes[-1])

    @property
    def data(self) -> bytes:
        return b"".join(self.writes)


class Writing:
    """A writer on a disk that works when it is told to."""

    def __init__(self, part: MemoryPart | None = None, pour: bool = True) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk(held=True)
        self.part = part or MemoryPart()
        self.written: list[int] = []
        self.results: list[Any] = []
        self.writer = BodyWriter(self.disk, self.clock, self.written.append)
        if pour:
            self.pour()

    def pour(self) -> None:
        poured: Part = self.part  # type: ignore[assignment]
        self.writer.pour(poured).addBoth(self.results.append)

    def work(self) -> None:
        while self.disk.work():
            pass

    @property
    def failed(self) -> LanxferError:
        [why] = self.results
        assert isinstance(why.value, LanxferError)
        return why.value


class WriterTests:
    @given(
        st.lists(
            st.one_of(
                st.binary(min_size=1, max_size=25), st.sampled_from(["work", "wait", "pour"])
            ),
            max_size=30,
        )
    )
    @settings(max_examples=200)
    def test_any_order(self, steps: list[Any]) -> None:
        """However bytes, disk and time come, all are written, in order, once, and counted."""
        writing = Writing(pour=False)
        poured = False
        sent = b""
        for step in steps:
            if step == "work":
                writing.disk.work(1)
            elif step == "wait":
                writing.clock.advance(FLUSH_AFTER)
            elif step == "pour":
                if not poured:
                    writing.pour()
                poured = True
            else:
                sent += step
                writing.writer.received(step)
            assert writing.disk.waiting <= 1
            assert sent.startswith(writing.part.data)
            assert writing.writer.waiting == len(sent) - sum(writing.written)
        if not poured:
            writing.pour()
        writing.writer.ended("af")
        writing.work()
        assert writing.part.data == sent
        assert sum(writing.written) == len(sent)
        assert writing.results == ["af"]
        assert writing.clock.getDelayedCalls() == []

    def test_units(self) -> None:
        """Bytes are handed over in units, not as they come."""
        # covers: J15
        writing = Writing()
        for _ in range(35):
            writing.writer.received(b"x")
            writing.work()
        assert writing.part.writes == [b"x" * UNIT] * 3

    def test_one_at_a_time(self) -> None:
        """While one unit is being written the rest gathers."""
        writing = Writing()
        for _ in range(50):
            writing.writer.received(b"x")
        assert writing.disk.waiting == 1
        writing.disk.work(1)
        assert writing.part.writes == [b"x" * UNIT]
        writing.disk.work(1)
        assert writing.part.writes[1] == b"x" * 40

    def test_empty(self) -> None:
        """A body of no bytes ends with its header."""
        # covers: S02
        writing = Writing()
        writing.writer.ended(None)
        assert writing.results == [None]
        assert writing.part.writes == []

    def test_end_waits_for_the_disk(self) -> None:
        """The end is said when the last byte is written, not before."""
        writing = Writing()
        writing.writer.received(b"x" * UNIT)
        writing.writer.received(b"y")
        writing.writer.ended("af")
        assert writing.results == []
        writing.disk.work(1)
        assert writing.results == []
        writing.disk.work(1)
        assert writing.results == ["af"]

    @pytest.mark.parametrize("early", [True, False])
    def test_before_there_is_a_part(self, early: bool) -> None:
        """Bytes, and the end, may come before it is known where to."""
        writing = Writing(pour=False)
        writing.writer.received(b"x" * 25)
        if early:
            writing.writer.ended("af")
        assert writing.writer.waiting == 25
        assert writing.disk.waiting == 0
        writing.pour()
        writing.work()
        if not early:
            writing.writer.ended("af")
            writing.work()
        assert (writing.part.data, writing.results) == (b"x" * 25, ["af"])


class SlowBodyTests:
    def test_after_a_quarter_of_a_second(self) -> None:
        """A few bytes are written when they have waited for a quarter of a second."""
        writing = Writing()
        writing.writer.received(b"abc")
        writing.clock.advance(FLUSH_AFTER / 2)
        writing.work()
        assert writing.part.writes == []
        writing.clock.advance(FLUSH_AFTER / 2)
        writing.work()
        assert writing.part.writes == [b"abc"]
        assert writing.clock.getDelayedCalls() == []

    def test_behind_a_slow_disk(self) -> None:
        """Bytes that came while the disk was busy are not forgotten when it is not."""
        writing = Writing()
        writing.writer.received(b"x" * UNIT)
        writing.writer.received(b"abc")
        writing.clock.advance(10 * FLUSH_AFTER)
        writing.work()
        writing.clock.advance(FLUSH_AFTER)
        writing.work()
        assert writing.part.data == b"x" * UNIT + b"abc"

    def test_behind_a_slow_start(self) -> None:
        """Bytes that came long before the part did are written without waiting for more."""
        writing = Writing(pour=False)
        writing.writer.received(b"abc")
        writing.clock.advance(10 * FLUSH_AFTER)
        writing.pour()
        writing.clock.advance(FLUSH_AFTER)
        writing.work()
        assert writing.part.data == b"abc"

    @pytest.mark.parametrize("pour", [False, True])
    @pytest.mark.parametrize("how", ["ended", "fail"])
    def test_no_timer_is_left(self, pour: bool, how: str) -> None:
        """After the end nothing waits any more."""
        writing = Writing(pour=pour)
        writing.writer.received(b"abc")
        getattr(writing.writer, how)(None if how == "ended" else Lost())
        assert writing.clock.getDelayedCalls() == []


class WriterFailTests:
    @pytest.mark.parametrize("pour", [False, True])
    def test_nothing_is_lost(self, pour: bool) -> None:
        """When the connection breaks, what had come is written before it is said."""
        # covers: B04, S03
        writing = Writing(pour=pour)
        writing.writer.received(b"x" * UNIT)
        writing.writer.received(b"abc")
        writing.writer.fail(Lost())
        writing.writer.received(b"late")
        if not pour:
            writing.pour()
        assert writing.results == []
        writing.work()
        assert writing.part.data == b"x" * UNIT + b"abc"
        assert isinstance(writing.failed, Lost)
        assert writing.writer.waiting == 0

    def test_fail_after_end(self) -> None:
        """After the end of the body it is too late to give up."""
        # covers: C06
        writing = Writing()
        writing.writer.received(b"abc")
        writing.writer.ended("af")
        writing.writer.fail(Cancelled())
        writing.work()
        assert writing.results == ["af"]

    def test_end_after_fail(self) -> None:
        """An end that comes after it was given up changes nothing: one verdict."""
        # covers: J11
        writing = Writing()
        writing.writer.fail(Cancelled("mine"))
        writing.writer.fail(Lost())
        writing.writer.ended("af")
        writing.work()
        assert writing.failed.reason == "mine"

    @pytest.mark.parametrize("fails_at", range(3))
    @pytest.mark.parametrize(
        ("error", "found"),
        [
            (DiskFull(), DiskFull),
            (BadOffset(), BadOffset),
            (OSError(28, "No space left on device"), DiskFull),
            (ValueError("a bug"), Internal),
        ],
    )
    def test_disk_fails(self, fails_at: int, error: Exception, found: type[LanxferError]) -> None:
        """What the disk says is the end of it, with a type, and no byte is written after it."""
        # covers: R01, R02
        writing = Writing(MemoryPart(fails_at, error))
        for _ in range(5):
            writing.writer.received(b"x" * UNIT)
            writing.disk.work(1)
        writing.writer.ended("af")
        writing.work()
        assert isinstance(writing.failed, found)
        assert writing.part.writes == [b"x" * UNIT] * fails_at
        assert writing.writer.waiting == 0
        assert writing.clock.getDelayedCalls() == []

    def test_bytes_are_uncounted(self) -> None:
        """What waited when the disk failed waits no more, so that reading can go on."""
        # covers: J16
        writing = Writing(MemoryPart(0))
        writing.writer.received(b"x" * UNIT)
        writing.writer.received(b"x" * 7)
        writing.work()
        assert (writing.writer.waiting, sum(writing.written)) == (0, UNIT + 7)

    def test_first_reason_wins(self) -> None:
        """A disk that fails on what came before a cancel does not hide the cancel."""
        # covers: C06
        writing = Writing(MemoryPart(0))
        writing.writer.received(b"abc")
        writing.writer.fail(Cancelled())
        writing.work()
        assert isinstance(writing.failed, Cancelled)


class RealDiskTests:
    def test_typed(self) -> None:
        """A disk's work comes back in the caller's thread; the test's own disk does the same."""
        disk: Disk = MemoryDisk()
        found: list[Any] = []
        disk.run(get_ident).addCallback(found.append)
        assert found == [get_ident()]
        disk.run(open, "/nowhere/at/all").addErrback(lambda why: found.append(type(why.value)))
        assert issubclass(found[1], LanxferError)
