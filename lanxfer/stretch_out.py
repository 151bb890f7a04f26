"""A stretch of a large file, from the disk to its socket in one thread.

The sender's side of what ``lanxfer.stretch_in`` is on the receiver's: a disk thread reads,
digests, encrypts and sends while the bytes are in its processor's cache, and what others say
on that connection waits until it is back, some milliseconds.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Protocol, TypeAlias

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from lanxfer.disk import Disk
from lanxfer.storage.sources import Source
from lanxfer.stretch_in import MOST, PATIENCE
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import Part

WAIT = 5
"""Milliseconds in which the socket has to take more, and the receiver to grant it."""

Chunk: TypeAlias = tuple[bytearray, memoryview]
"""What was read, and the unit of memory that it is in."""


class Outlet(Protocol):
    """The connection for a thread, in clear (``lanxfer.direct``) or TLS (``lanxfer.sealed``)."""

    def send(self, pieces: Sequence[memoryview]) -> int | None:
        """Bytes of these that were taken, maybe none; None where the connection is broken."""

    def asking(self, event: int) -> select.poll:
        """What can be asked whether there is room to send."""

    def close(self) -> None:
        """Use it no more."""


@define
class Load:
    """What whoever sends a file has in hand.

    Chunks that were read already, how many bytes are ``unread``, and memory that is ``free``.
    """

    source: Source
    ahead: deque[Chunk]
    unread: int
    free: list[bytearray]


@define(eq=False)
class StretchOut:
    """The bytes of one file that go next, of which ``credit`` may.

    ``parts`` were sent, but for what is still in ``rest``, which lies in ``sending``, and
    what waits in the outlet.
    """

    _outlet: Outlet
    load: Load
    id: int
    _offset: int
    _credit: int
    parts: list[Part] = field(factory=list)
    rest: list[memoryview] = field(factory=list)
    sending: bytearray | None = None
    went: int = 0
    revoked: bool = False
    _mutex: threading.Condition = field(factory=threading.Condition)

    def revoke(self) -> None:
        """Send nothing more: what is in ``parts`` and ``rest`` now is all."""
        with self._mutex:
            self.revoked = True
            self._outlet.close()
            self._mutex.notify()

    def grant(self, more: int) -> None:
        """So much more may be sent."""
        with self._mutex:
            self._credit += more
            self._mutex.notify()

    def move(self) -> None:
        """Read and send as long as the socket takes it; for a thread.

        Raises what is wrong with the file.
        """
        with closing(self._outlet):
            while self.went < MOST and self._read() and self._begin() and self._send():
                pass

    def _read(self) -> bool:
        load = self.load
        if not load.ahead and load.unread:
            unit = load.free.pop()
            space = memoryview(unit)[: load.unread]
            load.source.read_into(space)
            load.unread -= len(space)
            load.ahead.append((unit, space))
        return bool(load.ahead)

    def _begin(self) -> bool:
        """Announce the next chunk."""
        with self._mutex:
            if not (self._credit or self.revoked):
                self._mutex.wait(WAIT / 1000)
            if self.revoked or not self._credit:
                return False
            unit, chunk = self.load.ahead.popleft()
            size = min(len(chunk), self._credit)
            self.sending = unit
            if size < len(chunk):
                self.load.ahead.appendleft((unit, chunk[size:]))
                self.sending = None  # it is not free before that is sent
            part = Part(self.id, self._offset, size)
            self.rest = [memoryview(format_packet(part)), chunk[:size]]
            self.parts.append(part)
            self._offset += size
            self._credit -= size
            self.went += size
            return True

    def _send(self) -> bool:
        """Send it; False where the socket takes no more for now."""
        while True:
            with self._mutex:
                if self.revoked:
                    return False
                sent = self._outlet.send(self.rest)
                if sent is None:
                    return False  # whoever writes next finds the same
                while self.rest and sent >= len(self.rest[0]):
                    sent -= len(self.rest.pop(0))
                if not self.rest:
                    if self.sending is not None:
                        self.load.free.append(self.sending)
                    self.sending = None
                    return True
                self.rest[0] = self.rest[0][sent:]
                asking = self._outlet.asking(select.POLLOUT)
            if not asking.poll(WAIT):
                return False


class Sending(Protocol):
    """Whoever sends the file."""

    def lend(self) -> Load:
        """What somebody needs who reads and sends in its place, until it got that ``back``."""

    def sent(self, sending: bytearray | None) -> None:
        """Nothing more is sent in its place; that memory is in use still."""

    def back(self) -> None:
        """What was lent is here again."""

    def failed(self, why: Failure) -> None:
        """As ``back``, but the file could not be read."""


class Line(Protocol):
    """The connection on which nothing else is said meanwhile."""

    def went(self, parts: Sequence[Part], rest: list[memoryview]) -> None:
        """These were sent by somebody else, but for the ``rest``; say what waits."""

    def go_on(self) -> None:
        """Let those who wait for their turns have them."""


class Place(Protocol):
    """The file's place among those that are sent."""

    def stretched(self, size: int) -> None:
        """So much was sent by a thread, and nothing more is."""

    def back(self) -> None:
        """The file is read here again."""


@define(eq=False)
class StretchingOut:
    """One stretch under way, at the latest ``PATIENCE`` seconds after ``begin`` here again."""

    _line: Line
    _sender: Sending
    _place: Place
    _stretch: StretchOut
    _late: IDelayedCall | None = None

    def begin(self, disk: Disk, clock: IReactorTime) -> None:
        self._late = clock.callLater(PATIENCE, self.take_back)
        disk.run(self._stretch.move).addBoth(self._moved)

    def grant(self, id: int, more: int) -> None:
        """The receiver takes so much more, if it is that file."""
        if id == self._stretch.id:
            self._stretch.grant(more)

    def take_back(self) -> None:
        """Whatever the thread does still, it sends nothing more."""
        late, self._late = self._late, None
        if late is None:
            return
        if late.active():
            late.cancel()
        stretch = self._stretch
        stretch.revoke()
        self._sender.sent(stretch.sending)
        self._line.went(stretch.parts, stretch.rest)
        self._place.stretched(stretch.went)
        self._line.go_on()

    def _moved(self, result: Any) -> None:
        try:
            self.take_back()
        finally:
            if isinstance(result, Failure):
                self._sender.failed(result)
            else:
                self._sender.back()
            self._place.back()
