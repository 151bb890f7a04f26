"""TLS in large pieces.

Twisted's TLS transport cuts what it is given into records itself, reads and
writes one at a time, and hands each to the protocol on its own; for a large
file that is ten times the work of the encryption.  Here OpenSSL cuts the
records, what comes is decrypted straight into the place where a body belongs,
and headers are handed on together.  Handshake, shutdown and errors are
Twisted's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL.SSL import Error, WantReadError, ZeroReturnError
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from lanxfer import sealed
from lanxfer.direct import Direct, Pieces, Reader
from lanxfer.sealed import PIECE, RECORD, Sealed

_CIPHERTEXT = sealed.scratch(PIECE)
"""Read into by every connection in turn, and empty again before the next one."""
_THERE = sealed.address(_CIPHERTEXT)
_CLEARTEXT = sealed.scratch(PIECE)
"""The same for what came out of it and belongs nowhere yet."""


class BulkTLS(BufferingTLSTransport):
    """One connection; the protocol inside may say where its bytes go, and how many.

    See ``space``, ``filled`` and ``in_body`` of ``lanxfer.receiver.PacketReceiver``, and
    ``read_most`` of ``lanxfer.backpressure.Backpressure``.
    """

    transport: Any  # whatever carries bytes
    _tlsConnection: Any  # ``Records``; None when it is over

    def __init__(
        self, factory: TLSMemoryBIOFactory, wrappedProtocol: IProtocol, _connectWrapped: bool = True
    ) -> None:
        super().__init__(factory, wrappedProtocol, _connectWrapped)
        self.paused = False
        self._direct: Direct | None = None
        self._lent: Sealed | None = None
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
        if self._lent is not None and self._producer is not None:
            self._lostTLSConnection = True
            self._producer.stopProducing()  # what a thread has encrypted goes before the last word
        # A transport that waits for a paused producer before it closes would wait for ever:
        # from now on nothing that the producer says is written.
        self.transport.unregisterProducer()
        super()._tlsShutdownFinished(reason)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self._small = self.write

    def send(self, header: bytes, body: Pieces) -> None:
        """As ``Direct.send``; the body is encrypted by the time this returns."""
        self.write(header)
        for piece in body:
            self._write_any(piece)

    @property
    def said(self) -> int:
        """As ``Direct.said``, of what is encrypted."""
        return 0 if self._direct is None else self._direct.said

    def gone(self, said: int) -> bool:
        """As ``Direct.gone``."""
        return self._direct is None or self._direct.gone(said)

    @property
    def lends(self) -> bool:
        """Whether ``lend_out`` is worth asking."""
        return sealed.RAW and self._direct is not None

    def lend_out(self) -> Sealed | None:
        """As ``Direct.lend_out``."""
        self._aggregator.flush()
        over = self.disconnecting or self._lostTLSConnection
        if over or self._appSendBuffer or self._direct is None or not self.lends:
            return None
        plain = self._direct.lend_out()
        self._lent = None if plain is None else Sealed(plain, self._tlsConnection)
        return self._lent

    def back_out(self, rest: Sequence[memoryview]) -> None:
        """As ``Direct.back_out``."""
        lent, self._lent = self._lent, None
        assert self._direct is not None and lent is not None
        self._direct.back_out([lent.waiting] if lent.waiting else [])
        self._flushSendBIO()
        for each in rest:
            self.write_now(each)

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
        if self._lent is not None:
            return  # the thread sends it, after what it has encrypted
        while data := self._tlsConnection.sealed():
            if self._direct is not None:
                self._direct.send(b"", [memoryview(data)])
            else:
                self.transport.write(data)

    # Reading: the ciphertext from the socket, as ``direct.Reader``.

    in_body = True

    def space(self) -> memoryview:
        # One record at least: only a whole one can be decrypted.
        return memoryview(_CIPHERTEXT)[: max(self._most(), RECORD)]

    def filled(self, size: int) -> None:
        records = self._tlsConnection
        if _THERE is None or not self._handshakeDone or records.unread:
            self.dataReceived(memoryview(_CIPHERTEXT)[:size])
            return
        records.lay(_THERE, size)
        try:
            self.dataReceived(b"")
        finally:
            records.lift()

    def begin_stretch(self, direct: Direct) -> bool:
        return False  # one thread that decrypts and one that writes are faster than one for both

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
        found, why = self._tlsConnection.open_into(space)
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
        found, why = self._tlsConnection.open_into(space)
        if found and not self._aborted:
            self.wrappedProtocol.dataReceived(bytes(space[:found]))
        if why is not None:
            self._stopped(why)
        return why is None

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
