"""Both ends of a conversation with plain sockets, so that a test says every byte itself."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import TracebackType

from interop.children import PORT

TIMEOUT = 6.0
"""Seconds until a test that waits for a byte in vain fails."""


_PERIOD = 65_536


@cache
def _ramp7(seed: int) -> bytes:
    return bytes((7 * at + at // 256 + seed) % 256 for at in range(_PERIOD))


def ramp7(offset: int, length: int, seed: int = 0) -> bytes:
    """The content rule of the recordings: bytes that differ from place to place."""
    start = offset % _PERIOD
    times = (start + length) // _PERIOD + 1
    return (_ramp7(seed) * times)[start : start + length]


class Wire:
    """One connection: what was read and is no line yet is kept for the next reading."""

    def __init__(self, sock: socket.socket, timeout: float = TIMEOUT) -> None:
        self._sock = sock
        self._kept = bytearray()
        self._timeout = timeout
        self.late = False  # something was waited for in vain
        sock.settimeout(timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def to(cls, address: str, port: int, source: str = "", timeout: float = TIMEOUT) -> Wire:
        """Connect, from the address ``source`` if that is given."""
        origin = (source, 0) if source else None
        return cls(socket.create_connection((address, port), TIMEOUT, origin), timeout)

    def send(self, data: bytes) -> None:
        """Send it in one piece; an other side that is gone already does not matter."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._sock.sendall(data)

    def trickle(self, data: bytes, most: int = 600) -> None:
        """Send it byte by byte; of what is long, only the first and the last ``most`` bytes."""
        end = max(most, len(data) - most)
        pieces = [data[at : at + 1] for at in range(min(most, len(data)))]
        pieces += [data[at : min(at + 1009, end)] for at in range(most, end, 1009)]
        pieces += [data[at : at + 1] for at in range(end, len(data))]
        for each in pieces:
            self.send(each)

    def _more(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except ConnectionResetError:
            return False
        except TimeoutError:
            self.late = True
            raise
        self._kept += data
        return bool(data)

    def line(self) -> bytes:
        """The next line with its end; what is left at the end of the stream, without one."""
        while b"\n" not in self._kept and self._more():
            pass
        return self._take(self._kept.find(b"\n") + 1 or len(self._kept))

    def read(self, length: int) -> bytes:
        """``length`` bytes, fewer only at the end of the stream."""
        while len(self._kept) < length and self._more():
            pass
        return self._take(length)

    def rest(self) -> bytes:
        """All that still comes, up to the end of the stream."""
        if self.late:
            self._sock.settimeout(TIMEOUT)
        while self._more():
            pass
        return self._take(len(self._kept))

    def _take(self, length: int) -> bytes:
        data = bytes(self._kept[:length])
        del self._kept[:length]
        return data

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long."""
        if self._kept:
            return False
        self._sock.settimeout(seconds)
        try:
            self._more()
        except TimeoutError:
            self.late = False
            return True
        else:
            return False
        finally:
            self._sock.settimeout(self._timeout)

    def half_close(self) -> None:
        """Say that no more will come."""
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Close as a crash does."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Listener:
    """A receiver that plays ``parts``, one connection after the other, in a thread.

    A part that returns True is played again.  ``join`` waits until all were
    played and raises what went wrong in them.
    """

    def __init__(self, address: str, *parts: Callable[[Wire], bool | None]) -> None:
        self._parts = parts
        self._socket = socket.create_server((address, PORT))
        self._socket.settimeout(TIMEOUT)
        self._wrong: BaseException | None = None
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        try:
            for part in self._parts:
                again: bool | None = True
                while again:
                    sock, _ = self._socket.accept()
                    with Wire(sock) as wire:
                        again = part(wire)
        except BaseException as error:
            self._wrong = error
        finally:
            self._socket.close()

    def join(self) -> None:
        self._thread.join(TIMEOUT + 5)
        assert not self._thread.is_alive(), "nobody connected"
        if self._wrong is not None:
            raise self._wrong
