"""Streams of an application's commands: bytes that are not a file, with credit both ways.

What has come and was not read yet is at most one window, and what was written and
not sent yet is with whoever wrote it: ``write`` fires when the next piece may
come.  So memory stays bounded, whoever of the two does not keep up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

from twisted.internet.defer import Deferred

from lanxfer.errors import LanxferError, ShortBody
from lanxfer.outbox import Outbox
from lanxfer.wire import limits
from lanxfer.wire.packets import Packet

_SMALL = 16 * limits.KIB


class Inflow:
    """The end of a stream that is read; see ``lanxfer.commands.declared.Reader``.

    ``on_read`` hears how many bytes were taken, so that their credit can be given
    back.  Only one ``read`` may wait at a time.
    """

    def __init__(self, on_read: Callable[[int], None]) -> None:
        self._on_read = on_read
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._error: LanxferError | None = None
        self._waiting: Deferred[None] | None = None
        self.waiting = 0
        """Bytes that came and were not read yet."""

    # Reading.

    async def read(self, most: int = -1) -> bytes:
        """Some bytes, at most ``most`` of them, as soon as there are some; b"" at the end.

        Fails with what ended the stream before its end: Cancelled, Lost, or the refusal.
        """
        while not self._chunks:
            if self._ended:
                return b""
            if self._error is not None:
                raise self._error
            if self._waiting is not None:
                raise RuntimeError("somebody else reads this stream just now")
            self._waiting = Deferred()
            try:
                await self._waiting
            finally:
                self._waiting = None
        chunk = self._chunks.popleft()
        if 0 <= most < len(chunk):
            self._chunks.appendleft(chunk[most:])
            chunk = chunk[:most]
        self._took(len(chunk))
        return chunk

    async def read_exactly(self, size: int) -> bytes:
        """That many bytes; ShortBody where the stream ends before."""
        found = bytearray()
        while len(found) < size:
            chunk = await self.read(size - len(found))
            if not chunk:
                raise ShortBody("The stream ended too early.")
            found += chunk
        return bytes(found)

    async def read_all(self) -> bytes:
        """Everything up to the end; in memory, so only where that is known to be little."""
        return b"".join([chunk async for chunk in self])

    async def read_line(self, most: int = limits.STREAM_PART) -> bytes:
        """A line with its LF; the last one may have none, and b"" is the end.

        A line of more than ``most`` bytes comes in pieces.
        """
        line = bytearray()
        while len(line) < most and not line.endswith(b"\n"):
            chunk = await self.read(most - len(line))
            if not chunk:
                break
            at = chunk.find(b"\n") + 1
            if at:
                self._give_back(chunk[at:])
                chunk = chunk[:at]
            line += chunk
        return bytes(line)

    async def blocks(self, size: int) -> AsyncIterator[bytes]:
        """Blocks of ``size`` bytes; the last one may be shorter."""
        block = bytearray()
        async for chunk in self:
            block += chunk
            at = 0
            while len(block) - at >= size:
                yield bytes(block[at : at + size])
                at += size
            del block[:at]
        if block:
            yield bytes(block)

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines as ``read_line`` gives them."""
        while line := await self.read_line():
            yield line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    def _give_back(self, rest: bytes) -> None:
        if rest:
            self._chunks.appendleft(rest)
            self._took(-len(rest))

    def _took(self, size: int) -> None:
        self.waiting -= size
        self._on_read(size)

    # The connection's side.

    def received(self, data: bytes) -> None:
        if data and self._error is None:
            self._chunks.append(data)
            self.waiting += len(data)
            self._tell()

    def end(self) -> None:
        """All of it came."""
        if self._error is None:
            self._ended = True
            self._tell()

    def fail(self, error: LanxferError) -> None:
        """No more will come, and it is not complete; what came is not worth reading."""
        if not self._ended and self._error is None:
            self._error = error
            self._chunks.clear()
            self.waiting = 0
            self._tell()

    def _tell(self) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.called:
            waiting.callback(None)


class Outflow:
    """The end of a stream that is written; see ``lanxfer.commands.declared.Writer``.

    ``make`` is given offset and size of each piece and makes its packet.  Takes its
    turns in the outbox as files do.
    """

    def __init__(self, outbox: Outbox, make: Callable[[int, int], Packet], credit: int) -> None:
        self._outbox = outbox
        self._make = make
        self._credit = credit
        self._offset = 0
        self._waiting: deque[tuple[memoryview, Deferred[None]]] = deque()
        self._queued = False
        self._last: Callable[[int], None] | None = None
        self._going = credit > 0  # nothing is said before the first grant, not even an end
        self._error: LanxferError | None = None

    def write(self, data: bytes) -> Deferred[None]:
        """Send ``data``, which must not change; fires when more may be written.

        That is when all of it was granted and given to the transport.  Fails with
        what ended the request.  Who does not wait keeps in memory what was written.
        Cancelled, it stops waiting; the bytes are sent all the same.
        """
        done: Deferred[None] = Deferred()
        if self._error is not None:
            done.errback(self._error)
        elif self._last is not None:
            done.errback(ValueError("the stream was ended already"))
        elif not data:
            done.callback(None)
        else:
            self._waiting.append((memoryview(data), done))
            self._enqueue()
        return done

    # The connection's side.

    def grant(self, more: int) -> None:
        self._going = True
        self._credit += more
        self._enqueue()

    def when_sent(self, last: Callable[[int], None]) -> None:
        """Have ``last`` called with the size once all that was written is sent; none may follow."""
        if self._error is None and self._last is None:
            self._last = last
            self._enqueue()

    def fail(self, error: LanxferError) -> None:
        """Nothing more is wanted."""
        if self._error is not None:
            return
        self._error = error
        waiting, self._waiting = self._waiting, deque()
        for _, done in waiting:
            if not done.called:
                done.errback(error)

    def _enqueue(self) -> None:
        if self._queued or self._error is not None:
            return
        if self._waiting and self._credit:
            self._queued = True
            self._outbox.queue(self)
        elif self._going and not self._waiting and self._last is not None:
            last, self._last = self._last, _nothing
            last(self._offset)

    def go(self) -> None:
        """It is this stream's turn to send one piece."""
        self._queued = False
        if not (self._waiting and self._credit):
            return
        data, done = self._waiting[0]
        size = min(len(data), self._credit, limits.STREAM_PART)
        packet = self._make(self._offset, size)
        self._offset += size
        self._credit -= size
        if size < len(data):
            self._waiting[0] = data[size:], done
        else:
            self._waiting.popleft()
        # What is small goes with its header in one write; what is not is not copied.
        self._outbox.say(packet, bytes(data[:size]) if size < _SMALL else [data[:size]])
        self._enqueue()
        if size == len(data) and not done.called:
            done.callback(None)

    def lost(self) -> None:
        """There is nothing to write to any more; why, ``fail`` is told."""
        self._queued = False


def _nothing(size: int) -> None:
    """The end was said."""
