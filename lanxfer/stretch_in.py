"""A stretch of a large body, from its socket to its file in one thread.

Read by the reactor and written by a thread, each mebibyte goes from one processor's
cache to the other's, and four threads of two processes want two processors: that costs
more than the copying (bench/large).  So where nothing has to be decided about the next
few mebibytes, a disk thread reads them itself, and nobody else reads that connection
until it is back.

It waits for the disk and never long for a peer, and it can be told to stop at any
time: whoever has taken the connection back reads on at once, while the thread still
waits for its disk.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from lanxfer.direct import Direct, Plain
from lanxfer.disk import Disk
from lanxfer.errors import LanxferError
from lanxfer.storage import Part
from lanxfer.wire import limits
from lanxfer.wire.native import parse_packet
from lanxfer.wire.packets import Part as PartPacket

LEAST = 32 * limits.MIB
"""Bytes of a file still to come from which on all this is worth it, ..."""

MORE = 2 * limits.MIB
"""... and those from which on another stretch of the same is."""

MOST = 32 * limits.MIB
"""Bytes after which others that wait for a thread have their turn."""

OFTEN = 4
"""How often the reactor hears of a window's worth that was written, so that it can grant more.

Where all processors are busy it takes milliseconds until a thread is heard, and as long again
until the sender has read the grant.
"""

PATIENCE = 0.05
"""Seconds after which the reactor takes the connection back: a disk is slow, or a peer."""

WAIT = 1
"""Milliseconds in which more has to come."""

FEW = limits.MIB
"""Bytes; where a stretch brought less, whoever sends is too slow for this, and ..."""

LATER = 16 * limits.MIB
"""... so many go the usual way before it is tried again."""

LINE = 256
"""Bytes of room for the header of a part."""


@define
class Lent:
    """What whoever writes a body has in hand.

    The file, memory that has to be written to it first, and after that the ``unit`` in use,
    of which ``filled`` bytes are.
    """

    part: Part
    full: list[memoryview]
    unit: bytearray
    filled: int


@define
class Ahead:
    """What is to come: ``expected`` bytes of the part of the body that has begun.

    After it others of the exchange ``id`` may come, the next at ``position``, within
    ``credit`` bytes in all and up to ``size``.  ``window`` is how much the sender may have
    on the way.
    """

    id: int
    expected: int
    position: int
    credit: int
    size: int
    window: int


@define(eq=False)
class StretchIn:
    """The bytes of one body that come next, and the headers of its parts between them.

    What came is in ``moves``, headers and how many bytes came after each, the first of
    which has none; ``rest`` is what was read beyond.  ``came`` bytes of the body are here
    by now, and ``written`` bytes were written, of which ``tell`` was ``told`` in between.
    """

    _plain: Plain
    lent: Lent
    ahead: Ahead
    _tell: Callable[[StretchIn, int], object]
    moves: list[tuple[bytes, int]] = field(factory=lambda: [(b"", 0)])
    rest: bytes = b""
    came: int = 0
    written: int = 0
    told: int = 0
    revoked: bool = False
    _line: bytearray = field(factory=lambda: bytearray(LINE))
    _mutex: threading.Lock = field(factory=threading.Lock)

    def revoke(self) -> None:
        """Read nothing more: what is in ``moves`` and ``rest`` now is all.

        The unit is in use until the thread is back where it is full, and else not any more.
        """
        with self._mutex:
            self.revoked = True
            self._plain.close()

    def grant(self, more: int) -> None:
        """The sender may send so much more."""
        with self._mutex:
            self.ahead.credit += more

    def move(self) -> None:
        """Read and write as long as there is something; for a thread.

        Raises what the disk said, and then nothing more was written.
        """
        lent = self.lent
        with closing(self._plain):
            if lent.full:
                self._write(lent.full)
            while self._step():
                if lent.filled == len(lent.unit):
                    self._write([memoryview(lent.unit)])
                    with self._mutex:
                        lent.filled = 0

    def _write(self, pieces: list[memoryview]) -> None:
        self.lent.part.write(pieces)
        self.written += sum(map(len, pieces))
        untold = self.written - self.told
        if untold >= self.ahead.window // OFTEN:
            self.told = self.written
            self._tell(self, untold)

    def _step(self) -> bool:
        """Read once; whether there may be more."""
        with self._mutex:
            much = self.came >= MOST or len(self.moves) >= limits.LINES_PER_TURN
            if self.revoked or much or not (self.ahead.expected or self._line_goes_on()):
                return False
            found = self._read()
            if found is not None:
                return found
            asking = self._plain.asking(select.POLLIN)
        return bool(asking.poll(WAIT))

    def _read(self) -> bool | None:
        """Whether something came; None where nothing has yet."""
        lent, had = self.lent, len(self.rest)
        space = memoryview(lent.unit)[lent.filled :][: self.ahead.expected]
        into = [space]
        if len(space) == self.ahead.expected:  # with the end of a part comes the header of the next
            into.append(memoryview(self._line)[had:])
        size = self._plain.receive(into)
        if not size:
            return size if size is None else False  # whoever reads next finds the same
        body = min(size, len(space))
        self._take(body)
        self.rest += self._line[had : had + size - body]
        return True

    def _take(self, size: int) -> None:
        line, before = self.moves[-1]
        self.moves[-1] = line, before + size
        self.ahead.expected -= size
        self.lent.filled += size
        self.came += size

    def _line_goes_on(self) -> bool:
        """Begin the part whose header is in ``rest``; False where that is something else."""
        lent = self.lent
        line, end, body = self.rest.partition(b"\n")
        if not end:
            return len(line) < LINE
        size = self._follows(line)
        if not size or len(body) > size or len(body) >= len(lent.unit) - lent.filled:
            return False
        self.moves.append((line, 0))
        self.rest = b""
        self.ahead.position += size
        self.ahead.credit -= size
        self.ahead.expected = size
        lent.unit[lent.filled : lent.filled + len(body)] = body
        self._take(len(body))
        return True

    def _follows(self, line: bytes) -> int:
        """Bytes of the part that this header begins; 0 where it is anything but the next one."""
        try:
            packet = parse_packet(line)
        except LanxferError:
            return 0
        if not isinstance(packet, PartPacket):
            return 0
        fits = packet.body <= min(self.ahead.credit, self.ahead.size - self.ahead.position)
        goes_on = (packet.id, packet.offset) == (self.ahead.id, self.ahead.position)
        return packet.body if goes_on and fits else 0


class Wire(Protocol):
    """The connection that is not read meanwhile."""

    def catch_up(self, moves: Sequence[tuple[bytes, int]], rest: bytes) -> None:
        """Headers, and the bytes of bodies after them, were read by somebody else; ``rest`` is
        still to be read."""

    def granted(self, id: int) -> int:
        """How much of the body of that request may come, as far as is known here."""


class Receiving(Protocol):
    """The request whose body it is."""

    def stretched(self, stretch: StretchIn) -> None:
        """Nothing more is read there, though some of it may wait for the disk."""


class Writing(Protocol):
    """Whoever writes that body."""

    def lend(self, again: Callable[[], object]) -> Lent | None:
        """What somebody needs who reads and writes in its place, until it got that ``back``.

        None where something is being written; ``again`` is called afterwards.
        """

    def came(self, size: int, lent: Lent) -> None:
        """So much was read in its place, and nothing more is."""

    def wrote(self, size: int) -> None:
        """So much was written in its place by now."""

    def back(self, written: int, told: int) -> None:
        """So much was written, of which it was ``told``; nothing is under way any more."""

    def failed(self, why: Failure, told: int) -> None:
        """As ``back``, but the disk failed."""


@define(eq=False)
class StretchingIn:
    """One stretch under way, at the latest ``PATIENCE`` seconds after ``begin`` here again."""

    _wire: Wire
    _call: Receiving
    _writer: Writing
    _direct: Direct
    _plain: Plain
    _disk: Disk
    _stretch: StretchIn | None = None
    _late: IDelayedCall | None = None

    def begin(self, ahead: Ahead, clock: IReactorTime) -> None:
        """Nothing is read any more until what is being written is, and then in a thread."""
        self._late = clock.callLater(PATIENCE, self._take_back)
        self._start(ahead)

    def _start(self, ahead: Ahead) -> None:
        if self._late is None:
            return
        lent = self._writer.lend(lambda: self._start(ahead))
        if lent is None:
            return
        tell = partial(self._disk.tell, self._wrote)
        self._stretch = StretchIn(self._plain, lent, ahead, tell)
        self._disk.run(self._stretch.move).addBoth(self._moved)

    def _wrote(self, stretch: StretchIn, size: int) -> None:
        """So much is in the file: the sender may send more."""
        before = self._wire.granted(stretch.ahead.id)
        self._writer.wrote(size)
        stretch.grant(self._wire.granted(stretch.ahead.id) - before)

    def _take_back(self) -> None:
        """Whatever the thread does still, the connection is read here again."""
        late, self._late = self._late, None
        if late is None:
            return
        if late.active():
            late.cancel()
        stretch = self._stretch
        if stretch is None:
            self._plain.close()
            self._direct.back_in()
            return
        stretch.revoke()
        self._direct.back_in()
        self._call.stretched(stretch)
        self._wire.catch_up(stretch.moves, stretch.rest)

    def _moved(self, result: Any) -> None:
        try:
            self._take_back()
        finally:
            # Not kept: it knows this object, too, and a circle's memory stays for a while.
            stretch, self._stretch = self._stretch, None
            assert stretch is not None
            if isinstance(result, Failure):
                self._writer.failed(result, stretch.told)
            else:
                self._writer.back(stretch.written, stretch.told)
