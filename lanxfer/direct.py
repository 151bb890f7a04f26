"""Bodies between a plain TCP socket and memory that is used again.

Twisted's transport makes a new string of every read and joins everything that
is to be written into another one.  For headers that is right; for the bytes of
large files it is most of the work (bench/large).  ``Direct`` stands beside one
transport and moves bodies between the socket and units of memory that somebody
else owns, while everything else goes the way it always goes and in its order.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Connection

LINE_READ = 512
"""Bytes read where a header comes next and more of a body after it."""


Pieces: TypeAlias = list[memoryview]
"""A body as it lies in memory, one piece after the other."""


def size_of(data: bytes | Pieces) -> int:
    """Its bytes."""
    return len(data) if isinstance(data, bytes) else sum(map(len, data))


AT_ONCE = 64
"""Pieces given to the socket at a time; systems take 1,024."""

READS = 4
"""How often a connection may read before it is the others' turn."""


class Reader(Protocol):
    """The protocol of such a transport, as far as bodies are read directly."""

    paused: bool

    def space(self) -> memoryview | None:
        """Where the next bytes belong; None if they have to come through ``dataReceived``."""

    def filled(self, size: int) -> None:
        """So many bytes, at least one, are in what ``space`` gave."""

    def begin_stretch(self, direct: Direct) -> bool:
        """Whether a thread reads from now on, until ``direct.back_in``."""

    @property
    def in_body(self) -> bool:
        """What comes next is a header in the midst of a large file."""


class Plain:
    """The socket of a connection once more, for a thread; the bytes as they are.

    Whatever becomes of the connection, that stays what it is until it is closed; and one
    that is cut is cut only then.
    """

    def __init__(self, another: socket.socket) -> None:
        self._socket = another
        self.lost = False  # the connection was found broken

    def receive(self, into: Sequence[memoryview]) -> int | None:
        """Bytes that came, into these one after the other.

        None where nothing has yet, 0 where nothing will: whoever reads next finds why.
        """
        try:
            return self._socket.recvmsg_into(into)[0]
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            self.lost = True
            return 0

    def send(self, pieces: Sequence[memoryview]) -> int | None:
        """Bytes of these that were taken, maybe none; None where the connection is broken."""
        try:
            return self._socket.sendmsg(pieces)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.lost = True
            return None

    def asking(self, event: int) -> select.poll:
        """What can be asked whether there is something to receive, or room to send."""
        asking = select.poll()
        asking.register(self._socket, event)
        return asking

    def close(self) -> None:
        """Use it no more."""
        self._socket.close()


class Direct:
    """Takes over reading and writing of a TCP transport that is not wrapped by anything."""

    def __init__(self, transport: Connection, reader: Reader) -> None:
        # Any: it has no public name for most of what is used of it here.
        self._transport: Any = transport
        self._socket: socket.socket = transport.socket
        self._reader = reader
        self._rest: list[memoryview] = []
        self._left = 0  # bytes of these
        self.said = 0  # bytes that were to be sent so far, in whatever way; see ``gone``
        self._lent: Plain | None = None
        self._lost = False
        self._read_otherwise = transport.doRead
        self._write_otherwise = transport.doWrite
        self._say_otherwise = transport.write
        transport.write = self._say  # type: ignore[method-assign]
        transport.doRead = self._read  # type: ignore[method-assign]
        transport.doWrite = self._write  # type: ignore[method-assign]

    @classmethod
    def beside(cls, transport: object, reader: Reader) -> Direct | None:
        """One for ``transport``; None where that is no bare TCP connection."""
        if not isinstance(transport, Connection):
            return None
        if transport.socket.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        return cls(transport, reader)

    def _another(self) -> Plain | None:
        """The socket once more, with a descriptor of its own; None where there are too many."""
        try:
            another = self._socket.dup()
        except OSError:
            return None
        another.setblocking(False)
        return Plain(another)

    def lend_in(self) -> Plain | None:
        """Read nothing before ``back_in``: the caller does, and closes this.

        None where there are no descriptors.
        """
        self._lent = self._another()
        if self._lent is not None:
            self._transport.stopReading()
        return self._lent

    def back_in(self) -> None:
        """Read on here."""
        transport, lent, self._lent = self._transport, self._lent, None
        self._lost = lent is not None and lent.lost
        if transport.connected and not (transport.disconnecting or self._reader.paused):
            transport.startReading()

    lends = True
    """Whether ``lend_out`` is worth asking."""

    def lend_out(self) -> Plain | None:
        """As ``lend_in`` for writing, until ``back_out``; None also where something waits."""
        transport = self._transport
        over = transport.disconnecting or not self._writable
        return None if over or self._waits else self._another()

    def back_out(self, rest: Sequence[memoryview]) -> None:
        """Write on here, first what was not sent, as ``send`` would."""
        if self._writable:
            self._add(rest)
            self._await_socket()

    def write_now(self, data: bytes) -> None:
        """As ``transport.write``, but what the socket takes it gets before the next turn."""
        if self._writable and not self._waits:
            with suppress(OSError):  # the loop will find the same
                sent = self._socket.send(data)
                self.said += sent
                data = data[sent:]
        if data:
            self._transport.write(data)

    @property
    def _writable(self) -> bool:
        return bool(self._transport.connected and not self._transport._writeDisconnected)

    @property
    def _waits(self) -> bool:
        """Something was not taken by the socket yet."""
        return bool(self._rest) or self._waits_otherwise

    @property
    def _waits_otherwise(self) -> bool:
        return bool(self._transport.dataBuffer or self._transport._tempDataBuffer)

    def _add(self, pieces: Sequence[memoryview]) -> None:
        self._rest += pieces
        size = sum(map(len, pieces))
        self._left += size
        self.said += size

    def _say(self, data: bytes) -> None:
        self.said += len(data)
        self._say_otherwise(data)

    def gone(self, said: int) -> bool:
        """Whether the socket has all that was to be sent when ``said`` was so much."""
        transport = self._transport
        # All goes in its turn: what ``_rest`` has, and then what waits in the usual way.
        otherwise = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return bool(self.said - self._left - otherwise >= said)

    def send(self, header: bytes, body: Pieces) -> None:
        """Send both, after all that was written before.

        What the socket does not take at once stays where it is, and the producer
        is paused until it is gone: ``body`` must not change before that.
        """
        if not self._writable:
            return
        if self._waits_otherwise:
            self._take_over()
        waiting = bool(self._rest)
        self._add([memoryview(header), *body])
        if not waiting:
            self._push()
        self._await_socket()

    def _take_over(self) -> None:
        """What waits in the usual way goes from here, so that nothing behind it is copied."""
        transport = self._transport
        waiting = [memoryview(transport.dataBuffer)[transport.offset :]]
        waiting += map(memoryview, transport._tempDataBuffer)
        transport.dataBuffer, transport.offset = b"", 0
        transport._tempDataBuffer, transport._tempDataLen = [], 0
        self._rest += filter(None, waiting)
        self._left += sum(map(len, waiting))

    def _await_socket(self) -> None:
        transport = self._transport
        if self._rest:
            transport.startWriting()
            if transport.producer is not None and not transport.producerPaused:
                transport.producerPaused = True
                transport.producer.pauseProducing()

    def _push(self) -> Any:
        """Give the socket as much as it takes; whatever means the connection is lost."""
        try:
            sent = self._socket.sendmsg(self._rest[:AT_ONCE])
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        self._left -= sent
        while self._rest and sent >= len(self._rest[0]):
            sent -= len(self._rest.pop(0))
        if sent:
            self._rest[0] = self._rest[0][sent:]
        return None

    def _write(self) -> Any:
        if self._rest:
            lost = self._push()
            if lost is not None or self._rest:
                return lost
        # With nothing left, this asks the producer for more, or closes.
        return self._write_otherwise()

    def _read(self) -> Any:
        if self._lent is not None:
            self._transport.stopReading()  # a producer was resumed, which knows nothing of this
            return None
        if self._lost:
            return CONNECTION_LOST
        if not self._reader.in_body and self._reader.space() is None:
            return self._read_otherwise()
        # Several at a time: a turn of the loop costs as much as a header.
        for _ in range(READS):
            if self._reader.paused or not self._transport.connected:
                break
            space = self._reader.space()
            if space is None:
                lost = self._read_line()
                if lost is not None or self._reader.space() is None:
                    return lost
                continue
            if self._reader.begin_stretch(self):
                return None
            try:
                size = self._socket.recv_into(space)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                return CONNECTION_LOST
            if not size:
                return CONNECTION_DONE
            self._reader.filled(size)
        return None

    def _read_line(self) -> Any:
        transport = self._transport
        usual, transport.bufferSize = transport.bufferSize, LINE_READ
        try:
            return self._read_otherwise()
        finally:
            transport.bufferSize = usual
