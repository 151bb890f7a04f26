"""OpenSSL in large pieces, and by more than one thread.

What pyOpenSSL offers goes record by record and copies each once more.  Here many
records are sealed or opened at a time, in memory that the caller owns.  And since a disk
thread may seal for a while (``lanxfer.stretch_out``) what the reactor reads the answers
to, each use of a connection has it alone for as long as it takes.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Sequence
from mmap import ACCESS_COPY, mmap
from typing import Any

from OpenSSL import SSL
from OpenSSL.SSL import Error, WantReadError

from lanxfer.direct import Plain
from lanxfer.wire import limits

RECORD = 16 * limits.KIB
"""Bytes that one TLS record carries at most; OpenSSL gives no more at a time (RFC 8446, 5.1)."""

PIECE = 512 * limits.KIB
"""Bytes encrypted, or decrypted, before they go on; they fit into a processor's own cache."""

TOGETHER = PIECE + 4 * limits.KIB
"""Bytes that are encrypted before they are sent: a piece, and a header before it."""

SEALED = TOGETHER + 4 * limits.KIB
"""The same when they are encrypted: 22 bytes more for each record."""

_ffi: Any = getattr(SSL, "_ffi", None)
_lib: Any = getattr(SSL, "_lib", None)
_NAMES = (
    *("BIO_get_mem_data", "BIO_new", "BIO_new_mem_buf", "BIO_read", "BIO_s_mem", "BIO_write"),
    *("BIO_set_mem_eof_return", "ERR_clear_error"),
    *("SSL_get_error", "SSL_read", "SSL_set_bio", "SSL_write"),
)
# pyOpenSSL's public calls copy each record once more, for a tenth of the receiver's time, and
# raise in a thread what went wrong in another connection that begins meanwhile.
RAW = all(
    (
        _ffi,
        *(hasattr(_lib, name) for name in (*_NAMES, "SSL_ERROR_WANT_READ")),
        hasattr(SSL.Connection, "_raise_ssl_error"),
    )
)
"""Whether pyOpenSSL still has its own way to OpenSSL under these names."""


def scratch(size: int) -> mmap:
    """Memory of this process alone, of which only those pages take room that were ever filled."""
    return mmap(-1, size, access=ACCESS_COPY)  # else a process that is forked would share it


_SEALED = scratch(2 * PIECE)
"""What one connection after the other reads into: memory for each costs more than the reading."""

_where: Any = _ffi.new("char **") if RAW else None
"""Where OpenSSL says that something is, for the reactor's thread alone."""
_NOTHING_YET = -1
"""What OpenSSL is told where there is nothing to be read; 0 would be the end."""


def address(memory: mmap) -> Any:
    """Where that memory is, for ``Records.lay``; None where that cannot be told."""
    return _ffi.from_buffer("char[]", memory) if RAW else None


class Records(SSL.Connection):
    """One TLS connection between two memories; what changes it is done by one at a time.

    The handshake is the reactor's alone, and who is on the other end may be asked at any
    time: that is known by then and stays what it is.
    """

    def __init__(self, context: SSL.Context) -> None:
        super().__init__(context, None)
        self._mutex = threading.Lock()
        self._laid = False

    def send(self, buf: Any, flags: int = 0) -> int:
        with self._mutex:
            return super().send(buf, flags)

    def bio_read(self, bufsiz: int) -> bytes:
        with self._mutex:
            return super().bio_read(bufsiz)

    def bio_write(self, buf: Any) -> int:
        if not buf:
            return 0  # all of it was laid
        with self._mutex:
            if self._laid:
                self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))
            return super().bio_write(buf)

    def lay(self, there: Any, size: int) -> None:
        """Have so many encrypted bytes read where they are; ``lift`` comes before they change.

        Else each byte would be copied, into memory that is cleared before.  ``RAW`` only, and
        nothing may be left of what came before.
        """
        with self._mutex:
            self._read_from(_lib.BIO_new_mem_buf(there, size))
            self._laid = True

    def lift(self) -> None:
        """Copy what was not read of what was laid there."""
        connection: Any = self
        with self._mutex:
            if self._laid and (left := _lib.BIO_get_mem_data(connection._into_ssl, _where)):
                kept = _ffi.buffer(_where[0], left)[:]
                self._read_from(_lib.BIO_new(_lib.BIO_s_mem()))
                super().bio_write(kept)

    def _read_from(self, bio: Any) -> None:
        """Read from there from now on; OpenSSL frees what it read from before."""
        connection: Any = self
        if bio == _ffi.NULL:
            raise MemoryError
        _lib.BIO_set_mem_eof_return(bio, _NOTHING_YET)
        _lib.SSL_set_bio(connection._ssl, bio, connection._from_ssl)
        connection._into_ssl = bio
        self._laid = False

    @property
    def unread(self) -> bool:
        """Whether there is something encrypted that was not read yet."""
        connection: Any = self
        with self._mutex:
            return bool(_lib.BIO_get_mem_data(connection._into_ssl, _where))

    def bio_shutdown(self) -> None:
        with self._mutex:
            super().bio_shutdown()

    def shutdown(self) -> bool:
        with self._mutex:
            return super().shutdown()

    def open_into(self, space: memoryview) -> tuple[int, Error | None]:
        """Bytes that were decrypted into ``space``, and why no more of them."""
        with self._mutex:
            return self._open_raw(space) if RAW else self._open(space)

    def _open(self, space: memoryview) -> tuple[int, Error | None]:
        """Record by record, as pyOpenSSL gives them."""
        found = 0
        try:
            while found < len(space):
                found += self.recv_into(space[found:], RECORD)
        except Error as error:
            return found, error
        return found, None

    def _open_raw(self, space: memoryview) -> tuple[int, Error | None]:
        """The same, each record at once where it belongs."""
        connection: Any = self  # of which pyOpenSSL names no such attribute
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

    def seal(self, data: memoryview) -> int:
        """Bytes of ``data`` that were encrypted, all or none: OpenSSL is over, or has to read.

        For a thread, in which pyOpenSSL's errors would be those of others; ``RAW`` only.
        """
        connection: Any = self
        with self._mutex, _ffi.from_buffer("char[]", data) as memory:
            size: int = _lib.SSL_write(connection._ssl, memory, len(data))
            if size <= 0:
                _lib.ERR_clear_error()  # whoever writes next finds the same
            return max(size, 0)

    def sealed(self) -> bytes:
        """Encrypted bytes that wait to be sent, as many as ``_SEALED`` holds; for the reactor."""
        if RAW:
            connection: Any = self
            with self._mutex:  # mostly there is nothing
                some = _lib.BIO_get_mem_data(connection._from_ssl, _where)
            return bytes(memoryview(_SEALED)[: self.take_sealed(_SEALED)]) if some else b""
        try:
            return self.bio_read(len(_SEALED))
        except WantReadError:
            return b""

    def take_sealed(self, space: bytearray | mmap) -> int:
        """Encrypted bytes that were waiting to be sent, and are in ``space`` now; ``RAW`` only."""
        connection: Any = self
        with self._mutex, _ffi.from_buffer("char[]", space, require_writable=True) as memory:
            size: int = _lib.BIO_read(connection._from_ssl, memory, len(space))
            return max(size, 0)  # it is empty


class Sealed:
    """What a thread sends through a TLS connection (``stretch_out.Outlet``); ``RAW`` only.

    What ``send`` took is encrypted; of that ``waiting`` was not sent yet.  OpenSSL may have
    more to send after it: an answer to what the reactor reads meanwhile.
    """

    def __init__(self, plain: Plain, records: Records) -> None:
        self._plain = plain
        self._records = records
        self._memory = bytearray(SEALED)
        self._sealed = 0  # bytes that were encrypted since all was sent
        self.waiting = memoryview(b"")

    def send(self, pieces: Sequence[memoryview]) -> int | None:
        """Bytes that are encrypted, and on their way or ``waiting``; None where none will be."""
        sent = 0
        for piece in pieces:
            rest = piece
            while rest:
                part = rest[:PIECE]
                # A header goes with what comes after it.
                if self._sealed + len(part) > TOGETHER and not self._push():
                    return self._taken(sent)
                size = self._records.seal(part)
                if not size:
                    return sent or None
                self._sealed += size
                sent += size
                rest = rest[size:]
        self._push()
        return self._taken(sent)

    def _taken(self, sent: int) -> int | None:
        # What is encrypted is not to be sent again, even if the connection broke after it.
        return None if self._plain.lost and not sent else sent

    def _push(self) -> bool:
        """Whether all that was encrypted is sent."""
        while True:
            while self.waiting:
                size = self._plain.send([self.waiting])
                if not size:
                    return False
                self.waiting = self.waiting[size:]
            size = self._records.take_sealed(self._memory)
            if not size:
                self._sealed = 0
                return True
            self.waiting = memoryview(self._memory)[:size]

    def asking(self, event: int) -> select.poll:
        """As ``Plain.asking``."""
        return self._plain.asking(event)

    def close(self) -> None:
        """Use it no more; ``waiting`` stays what it is."""
        self._plain.close()
        # Its memory is large, and whoever takes the connection back may send the rest much later.
        self.waiting = memoryview(bytes(self.waiting))
        self._memory = bytearray()
