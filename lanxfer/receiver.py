"""LineReceiver that counts its raw bytes and reads many lines without copying the rest.

LineReceiver itself splits its buffer once a line, which is quadratic in a
burst of lines (13.7 s for 1 MiB of bare newlines, catalogue H02), and hands
raw data on without knowing where it ends.  Here one pass walks over what
arrived; a body is announced with ``expect`` and never gets a byte too many.
"""

from __future__ import annotations

from twisted.protocols.basic import LineReceiver

from lanxfer.direct import Direct
from lanxfer.wire import limits


class PacketReceiver(LineReceiver):
    """Lines, and bodies of known length between them.

    Subclasses have ``line_limit``, ``lineReceived``, ``rawDataReceived`` and
    ``bodyReceived``.  Setting ``deaf`` drops whatever is there and still comes.
    """

    delimiter = b"\n"
    deaf = False
    unread = b""
    """What was there, and not looked at, when it became deaf."""
    lines = 0
    _expected = 0

    @property
    def line_limit(self) -> int:
        """Bytes of the next line, without its end."""
        raise NotImplementedError

    def lineReceived(self, line: bytes) -> None:
        """A line came, without its end."""
        raise NotImplementedError

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line is longer than ``line_limit``."""
        raise NotImplementedError

    def rawDataReceived(self, data: bytes) -> None:
        """Some of the body announced last came."""
        raise NotImplementedError

    def bodyReceived(self) -> None:
        """The body announced last is complete; lines come next."""
        raise NotImplementedError

    def turn_over(self) -> None:
        """So many lines were read in one go; ``pauseProducing`` leaves the rest for later."""

    @property
    def line_begun(self) -> bool:
        """A part of a line waits for its end."""
        return bool(self._buffer) and not (self._expected or self.paused)

    @property
    def expected(self) -> int:
        """Bytes of the body that are still to come; 0 between bodies."""
        return self._expected

    def expect(self, size: int) -> None:
        """The next ``size`` bytes, at least one, are a body."""
        self._expected = size
        self.setRawMode()

    def forget_body(self) -> None:
        """The rest of the body announced last will never come."""
        if self._expected:
            self._buffer = b""  # what waits unread belongs to it, and is no header
        self._expected = 0
        self.setLineMode()

    def dataReceived(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if self._busyReceiving:
            self._buffer = data
            return
        self._busyReceiving = True
        try:
            rest = self._walk(data)
            # What a nested call brought comes after what was left of this one.
            while self._buffer and not (self.paused or self.deaf):
                data, self._buffer = rest + self._buffer, b""
                rest = self._walk(data)
        finally:
            self._busyReceiving = False
        if self.deaf:
            self.unread, self._buffer = rest + self._buffer, b""
        else:
            self._buffer = rest + self._buffer

    # Past ``dataReceived``: see ``lanxfer.direct``.

    @property
    def in_body(self) -> bool:
        """What comes next is a header, and then more of a body for which there is space."""
        return False

    def body_space(self) -> memoryview | None:
        """Memory for the next bytes of the body; None if ``rawDataReceived`` wants them."""
        return None

    def bodyFilled(self, size: int) -> None:
        """So many bytes of the body are in what ``body_space`` gave."""
        raise NotImplementedError

    def space(self) -> memoryview | None:
        """Where the next bytes from the socket belong, if they are those of a body."""
        if not self._expected or self._buffer or self._busyReceiving or self.paused or self.deaf:
            return None
        space = self.body_space()
        return None if space is None else space[: self._expected]

    def filled(self, size: int) -> None:
        """So many bytes, at least one, are in what ``space`` gave."""
        self._expected -= size
        self.bodyFilled(size)
        self._end_body()

    def begin_stretch(self, direct: Direct) -> bool:
        """Whether somebody else reads from now on (``lanxfer.stretch_in``)."""
        return False

    def moved(self, size: int) -> None:
        """So many bytes of the body were read by somebody else."""
        self._expected -= size
        self._end_body()

    def _end_body(self) -> None:
        if not self._expected and not self.deaf:
            self.setLineMode()
            self.bodyReceived()

    def _walk(self, data: bytes) -> bytes:
        """Read on in ``data``; what is left of it."""
        at, end = 0, len(data)
        while at < end and not (self.paused or self.deaf):
            if self._expected:
                size = min(self._expected, end - at)
                chunk = data if size == end else data[at : at + size]
                at += size
                self._expected -= size
                self.rawDataReceived(chunk)
                self._end_body()
                continue
            limit = self.line_limit
            found = data.find(b"\n", at, at + limit + 2)
            if found < 0:
                if end - at > limit + 1:
                    at = end
                    self.lineLengthExceeded(b"")
                break
            line = data[at:found]
            at = found + 1
            if line.endswith(b"\r"):
                line = line[:-1]
            self.lines += 1
            if len(line) > limit:
                self.lineLengthExceeded(line)
            else:
                self.lineReceived(line)
            if at < end and not self.lines % limits.LINES_PER_TURN:
                self.turn_over()
        return data[at:]
