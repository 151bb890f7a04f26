"""TLS for a conversation without a reactor: many records at a time between two memories.

A socket of ``ssl`` sends each record of 16 KiB by itself, which takes a tenth longer.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

from lanxfer.packet_socket import READ, WRITE
from lanxfer.wire import limits


class Tls:
    """TLS over a socket that is connected; whoever made that closes it.

    What ``ssl`` and the socket raise are OSErrors.
    """

    def __init__(self, context: ssl.SSLContext, connection: socket.socket, seconds: float) -> None:
        """Shake hands, within so many seconds."""
        self._socket = connection
        self._from_there, self._to_there = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._from_there, self._to_there)
        self._waiting = memoryview(b"")
        self._over = False
        self._wrong: OSError | None = None
        until = time.monotonic() + seconds
        while not self._shaken():
            connection.settimeout(max(0.001, until - time.monotonic()))
            data = connection.recv(READ)
            if not data or time.monotonic() >= until:
                raise ConnectionError("The other side did not show its key.")
            self._from_there.write(data)

    def _shaken(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self._socket.sendall(self._to_there.read())
        return True

    @property
    def protocol(self) -> str | None:
        """What was agreed on to speak."""
        return self._tls.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes:
        """What the other side has shown, as DER, and proved to hold the key of."""
        return self._tls.getpeercert(binary_form=True) or b""

    @property
    def waits(self) -> int:
        """As ``packet_socket.Stream``."""
        return len(self._waiting) + self._to_there.pending

    def send(self, some: memoryview, more: bool = False) -> int:
        """As ``packet_socket.Stream``."""
        if self._to_there.pending + len(some) > WRITE + limits.KIB or not some:
            self._push()
        size = self._tls.write(some[:WRITE]) if some else 0
        if not more:
            with suppress(BlockingIOError):  # it is encrypted, and waits
                self._push()
        return size

    def receive(self) -> bytes | None:
        """As ``packet_socket.Stream``."""
        if self._wrong is not None:
            raise self._wrong
        data = b"" if self._over else self._socket.recv(READ)
        if not data:
            return b""
        self._from_there.write(data)
        found = []
        try:
            while piece := self._tls.read(READ):
                found.append(piece)
            self._over = True
        except ssl.SSLWantReadError:
            pass
        except OSError as error:
            if not found:
                raise
            self._wrong = error  # what came before it counts
        if not found:
            return b"" if self._over else None
        return b"".join(found)

    def _push(self) -> None:
        """Send what waits; BlockingIOError where the socket does not take all of it now."""
        while self.waits:
            if not self._waiting:
                self._waiting = memoryview(self._to_there.read())
            self._waiting = self._waiting[self._socket.send(self._waiting) :]
