"""TLS in large pieces.

Twisted's TLS transport cuts what it is given into records itself, reads and
writes one at a time, and hands each to the protocol on its own; for a large
file that is ten times the work of the encryption.  Here OpenSSL cuts the
records, what comes is decrypted straight into the place where a body belongs,
and headers are handed on together.  Handshake, shutdown and errors are
Twisted's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from lanxfer.direct import Direct, Reader
from lanxfer.wire import limits

RECORD = 16 * limits.KIB
"""Bytes that one TLS record carries at most; OpenSSL gives no more at a time (RFC 8446, 5.1)."""

PIECE = 512 * limits.KIB
"""Bytes encrypted, or decrypted, before they go on; they fit into a processor's own cache."""

# pyOpenSSL's own way to OpenSSL, as long as it has these names: what it offers to others
# copies each record once more, for a tenth of the receiver's time.
_ffi: Any = getattr(SSL, "_ffi", None)
_lib: Any = getattr(SSL, "_lib", None)
_RAW = all(
    (
        _ffi,
        *(hasattr(_lib, name) for name in ("SSL_read", "SSL_get_error", "SSL_ERROR_WANT_READ")),
        hasattr(SSL.Connection, "_raise_ssl_error"),
    )
)

_CIPHERTEXT = bytearray(PIECE)
"""Read into by every connection in turn, and empty again before the next one."""
_CLEARTEXT = bytearray(PIECE)
"""The same for what came out of it and belongs nowhere yet."""


class BulkTLS(BufferingTLSTransport):
    """One connection; the protocol inside may say where its bytes go, and how many.

    See ``space``, ``filled`` and ``in_body`` of ``lanxfer.receiver.PacketReceiver``, and
    ``read_most`` of ``lanxfer.lifetime.Lifetime``.
    """

    transport: Any  # whatever carries bytes

    def __init__(
        self, factory: TLSMemoryBIOFactory, wrappedProtocol: IProtocol, _connectWrapped: bool = True
    ) -> None:
        super().__init__(factory, wrappedProtocol, _connectWrapped)
        self.paused = False
        self._direct: Direct | None = None
        self._small = self.write
        self.write = self._write_any  # type: ignore[method-assign]
        self._space: Callable[[], memoryview | None] = getattr(
            wrappedProtocol, "space", lambda: None
        )
        self._most: Callable[[], int] = getattr(wrappedProtocol, "read_most", lambda: PIECE)

    def makeConnection(self, transport: ITransport) -> None:
        self._direct = Direct.beside(transport, self)
        super().makeConnection(transport)

    # Writing.

    def _write_any(self, data: bytes | memoryview) -> None:
        """Small pieces wait for others until the next turn of the loop; large ones do not."""
        if len(data) < RECORD:
            self._small(bytes(data))
        else:
            self.write_now(data)

    def write_now(self, data: bytes | memoryview) -> None:
        """``write``, without waiting for others."""
        self._aggregator.flush()
        TLSMemoryBIOProtocol.write(self, data)

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        # A transport that waits for a paused producer before it closes would wait for ever:
        # from now on nothing that the producer says is written.
        self.transport.unregisterProducer()
        super()._tlsShutdownFinished(reason)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self._small = self.write

    def send(self, header: bytes, body: memoryview) -> None:
        """As ``Direct.send``; the body is encrypted by the time this returns."""
        if header:
            self.write(header)
        self._write_any(body)

    def _write(self, data: bytes | memoryview) -> None:
        if self._lostTLSConnection:
            return
        left = memoryview(data)
        while left:
            try:
                sent = self._tlsConnection.send(left[:PIECE])
            except WantReadError:
                self._bufferedWrite(bytes(left))
                return
            except Error:
                self._tlsShutdownFinished(Failure())
                return
            left = left[sent:]
            self._flushSendBIO()

    def _flushSendBIO(self) -> None:
        size = 2 * PIECE
        found = size
        while found == size:
            try:
                data = self._tlsConnection.bio_read(size)
            except WantReadError:
                return
            found = len(data)
            if self._direct is not None:
                self._direct.send(b"", memoryview(data))
            else:
                self.transport.write(data)

    # Reading: the ciphertext from the socket, as ``direct.Reader``.

    in_body = True

    def space(self) -> memoryview:
        # One record at least: only a whole one can be decrypted.
        return memoryview(_CIPHERTEXT)[: max(self._most(), RECORD)]

    def filled(self, size: int) -> None:
        self.dataReceived(memoryview(_CIPHERTEXT)[:size])

    def begin_stretch(self, direct: Direct) -> bool:
        return False

    def pauseProducing(self) -> None:
        self.paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self.transport.resumeProducing()

    # Reading: what is inside.

    def _flushReceiveBIO(self) -> None:
        more = True
        while more and not self._lostTLSConnection:
            space = None if self._aborted else self._space()
            more = self._receive() if space is None else self._receive_into(space)
        self._flushSendBIO()

    def _receive_into(self, space: memoryview) -> bool:
        """Decrypt into ``space``; whether there may be more."""
        found, why = self._decrypted(space)
        if found:
            protocol: Any = self.wrappedProtocol
            protocol.filled(found)
        if why is not None:
            self._stopped(why)
        return why is None

    def _receive(self) -> bool:
        """Decrypt what is there, and hand it on in one; whether there may be more."""
        # In the middle of a file no more than can hold the next header.
        most = RECORD if getattr(self.wrappedProtocol, "in_body", False) else PIECE
        space = memoryview(_CLEARTEXT)[:most]
        found, why = self._decrypted(space)
        if found and not self._aborted:
            self.wrappedProtocol.dataReceived(bytes(space[:found]))
        if why is not None:
            self._stopped(why)
        return why is None

    def _decrypted(self, space: memoryview) -> tuple[int, Error | None]:
        """Bytes that were decrypted into ``space``, and why no more of them."""
        return self._decrypt_raw(space) if _RAW else self._decrypt(space)

    def _decrypt(self, space: memoryview) -> tuple[int, Error | None]:
        """Record by record, as pyOpenSSL gives them."""
        found = 0
        try:
            while found < len(space):
                found += self._tlsConnection.recv_into(space[found:], RECORD)
        except Error as error:
            return found, error
        return found, None

    def _decrypt_raw(self, space: memoryview) -> tuple[int, Error | None]:
        """The same, each record at once where it belongs."""
        connection: Any = self._tlsConnection
        ssl, size, found, got = connection._ssl, len(space), 0, 1
        with _ffi.from_buffer("char[]", space, require_writable=True) as memory:
            while found < size and (got := _lib.SSL_read(ssl, memory + found, size - found)) > 0:
                found += got
        if got > 0:
            return found, None
        if _lib.SSL_get_error(ssl, got) == _lib.SSL_ERROR_WANT_READ:
            return found, WantReadError()
        try:
            connection._raise_ssl_error(ssl, got)
        except Error as error:
            return found, error
        return found, WantReadError()

    def _stopped(self, why: Error) -> None:
        """OpenSSL gives no more for now, or never again."""
        if isinstance(why, WantReadError) or self._lostTLSConnection:
            return
        if isinstance(why, ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        else:
            self._tlsShutdownFinished(Failure(why))


class BulkTLSFactory(TLSMemoryBIOFactory):
    """Makes such connections; arguments as those of Twisted's own."""

    protocol = BulkTLS


def way_past(transport: object, reader: Reader) -> Direct | BulkTLS | None:
    """What moves bodies faster than ``transport.write`` and ``dataReceived``, if anything does."""
    return transport if isinstance(transport, BulkTLS) else Direct.beside(transport, reader)
