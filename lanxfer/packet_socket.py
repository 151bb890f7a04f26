"""Packets over a socket that is waited for, for those who have no reactor."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeAlias

from lanxfer.errors import HeaderTooLong, LanxferError, Lost
from lanxfer.sessions.native import NativeSession
from lanxfer.tcp_info import acknowledged
from lanxfer.wire import limits
from lanxfer.wire.packets import Drop, Packet

HEARD_MAX = 4 * limits.ANSWER_BODY_MAX
"""Bytes kept that came while something was sent; whoever says more has not been asked for it."""

WRITE = 512 * limits.KIB
"""Bytes given to a stream at a time."""

READ = 256 * limits.KIB
"""Bytes taken from a socket at a time."""

_MORE = getattr(socket, "MSG_MORE", 0)

Heard: TypeAlias = tuple[Packet | Drop, bytes]
"""A packet, and its body."""


class Wait(Protocol):
    """Waits until there is something to read, or, ``writing``, room to write as well."""

    def __call__(self, connection: socket.socket, seconds: float, writing: bool = False) -> bool:
        """For so many seconds at most; whether there is."""


def wait(connection: socket.socket, seconds: float, writing: bool = False) -> bool:
    """Just wait."""
    return any(select.select([connection], [connection] if writing else [], [], seconds))


class Stream(Protocol):
    """Bytes over a socket, as they are (``Plain``) or in TLS; what goes wrong is an OSError."""

    @property
    def waits(self) -> int:
        """Bytes of what ``send`` took that were not sent yet, as they will be."""

    def send(self, some: memoryview, more: bool = False) -> int:
        """Bytes that were taken; BlockingIOError where there is no room for any.

        Where ``more`` comes at once it need not be sent before that.
        """

    def receive(self) -> bytes | None:
        """What came; None where that was nothing that counts, b"" where nothing more will."""


class Plain:
    """The bytes as they are."""

    waits = 0

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, some: memoryview, more: bool = False) -> int:
        return self._socket.send(some, _MORE if more else 0)

    def receive(self) -> bytes:
        return self._socket.recv(READ)


class PacketSocket:
    """Packets of the native dialect over a socket that is connected; whoever made that closes it.

    ``wait`` is called whenever there is nothing to read, or no room to write.  ``lost`` makes
    the error that says the other side is gone, or silent.
    """

    def __init__(
        self, connection: socket.socket, stream: Stream, wait: Wait, lost: Callable[[bool], Lost]
    ) -> None:
        self.session = NativeSession(known=True)
        self.greeted = False
        self.pushing = False
        """Whether it is in the midst of sending, and nothing else can be said."""
        self.due = time.monotonic() + limits.PING_AFTER
        """When something has to be heard at the latest: else it is asked, or has gone."""
        self.mute = False
        """Whether it broke off in the midst of something, of which all that is said were a part."""
        self.lost = lost
        self._socket = connection
        self._stream = stream
        self._wait = wait
        self._data = bytearray()
        self._packet: Packet | Drop | None = None
        self._pinged = False
        self._over = False

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """What the socket raises is that the other side is gone, or silent."""
        try:
            yield
        except TimeoutError:
            raise self.lost(True) from None
        except OSError:
            raise self.lost(False) from None

    def end(self) -> None:
        """Nothing that comes after this makes sense."""
        self._over = True
        self._data.clear()

    def say(self, packet: Packet) -> None:
        """Say it, as ``push``."""
        self.push(memoryview(self.session.send(packet)))

    def push(self, *pieces: memoryview) -> None:
        """Send these, and hear what is said meanwhile: who is not heard may stop reading."""
        if self.mute:
            raise self.lost(False)
        patience, self.pushing = self._socket.gettimeout(), True
        try:
            self._socket.settimeout(0)
            some = [each for each in pieces if each]
            for number, piece in enumerate(some, 1):
                self._push(piece, number < len(some))
        except BaseException:
            self.mute, self.due = True, time.monotonic()
            raise
        finally:
            self._socket.settimeout(patience)
            self.pushing = False

    def _push(self, piece: memoryview, more: bool) -> None:
        stream, until = self._stream, time.monotonic() + limits.REPLIES_TIMEOUT
        acked = acknowledged(self._socket)
        while piece or (stream.waits and not more):
            if self._over:
                raise self.lost(False)
            before = len(piece), stream.waits
            try:
                piece = piece[stream.send(piece[:WRITE], more or len(piece) > WRITE) :]
                room = more or not stream.waits
            except BlockingIOError:
                room = False
            if (len(piece), stream.waits) != before:
                until = time.monotonic() + limits.REPLIES_TIMEOUT
            if room:
                continue
            left = until - time.monotonic()
            if left <= 0 or not self._wait(self._socket, left, writing=True):
                # It has no room for long where little goes out of much that waits in the system.
                acked, before_that = acknowledged(self._socket), acked
                if acked == before_that:
                    raise self.lost(True)
                until = time.monotonic() + limits.REPLIES_TIMEOUT
                continue
            with suppress(BlockingIOError):
                if len(self._data) > HEARD_MAX:
                    raise self.lost(False)
                self._take_in()

    def next(self, seconds: float | None = None) -> Heard | None:
        """The next packet, for which it waits; None where that takes so many seconds.

        Asks in between whether the other side lives.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while (heard := self._read()) is None:
            if self._over:
                raise self.lost(False)
            now = time.monotonic()
            left = self.due - now if until is None else min(self.due, until) - now
            if self._wait(self._socket, max(0.0, left)):
                self._take_in()
            elif time.monotonic() >= self.due:
                self._silent()
            elif until is not None and time.monotonic() >= until:
                return None
        return heard

    def last_words(self) -> Iterator[Heard]:
        """What the other side had said before it hung up."""
        with suppress(LanxferError, OSError):
            self._socket.settimeout(0)
            while not self._over and len(self._data) <= HEARD_MAX:
                self._take_in()
        with suppress(LanxferError):
            while (heard := self._read()) is not None:
                yield heard

    def _silent(self) -> None:
        if self._pinged or self.mute or not self.greeted:
            raise self.lost(True)
        self._pinged, self.due = True, time.monotonic() + limits.PING_TIMEOUT
        self.say(self.session.ask("ping", {}))

    def _take_in(self) -> None:
        data = self._stream.receive()
        if data == b"":
            self._over = True
        if not data:
            return
        self._data += data
        if self.greeted and not self.mute:  # drop by drop is no way to say hello
            self._pinged, self.due = False, time.monotonic() + limits.PING_AFTER

    def _read(self) -> Heard | None:
        """A packet that is here as a whole, if one is."""
        try:
            while self._packet is None:
                end = self._data.find(b"\n")
                if max(end, len(self._data) if end < 0 else 0) > self.session.line_limit:
                    raise HeaderTooLong()
                if end < 0:
                    return None
                line = bytes(self._data[:end])
                del self._data[: end + 1]
                self._packet = self.session.receive(line.removesuffix(b"\r"))
        except LanxferError:
            self.end()
            raise
        size = self._packet.body
        if len(self._data) < size:
            return None
        body = bytes(self._data[:size])
        del self._data[:size]
        packet, self._packet = self._packet, None
        return packet, body
