"""A stretch of a file sent by a thread: parts as the reactor sends them, and what is left."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer import stretch_out
from lanxfer.direct import Plain
from lanxfer.errors import SourceChanged
from lanxfer.stretch_out import Load, StretchOut
from lanxfer.wire.native import parse_packet
from lanxfer.wire.packets import Part

UNIT = 1000
ID = 3


class MemorySource:
    """A file of zeros and ones and twos, which can turn out to be shorter."""

    def __init__(self, size: int) -> None:
        self.data = bytes(at % 251 for at in range(size))
        self.position = 0
        self.ends = size
        self.before: Any = lambda: None

    def read_into(self, space: memoryview) -> int:
        self.before()
        if self.position + len(space) > self.ends:
            raise SourceChanged()
        space[:] = self.data[self.position : self.position + len(space)]
        self.position += len(space)
        return len(space)


class Stretched:
    """A stretch, and whoever reads it on the other end of a pair of sockets."""

    def __init__(
        self, size: int, *, ahead: int = 0, credit: int = 10**9, slow: bool = False
    ) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.source = MemorySource(size)
        chunks: deque[tuple[bytearray, memoryview]] = deque()
        for _ in range(ahead):
            unit = bytearray(UNIT)
            space = memoryview(unit)[: size - self.source.position]
            self.source.read_into(space)
            chunks.append((unit, space))
        source: Any = self.source
        self.load = Load(source, chunks, size - self.source.position, [bytearray(UNIT)])
        self.stretch = StretchOut(Plain(near), self.load, ID, 0, credit)
        self.got = b""
        self._reading = threading.Thread(target=self._read)
        self._slow = slow
        if not slow:
            self._reading.start()

    def _read(self) -> None:
        while data := self.far.recv(65536):
            self.got += data

    def move(self) -> bytes:
        """What was sent, up to the end, and what is left to be sent."""
        try:
            self.stretch.move()
        finally:
            if self._slow:
                self._reading.start()
            self._reading.join()
            self.far.close()
        return self.got + b"".join(self.stretch.rest)


def taken_apart(wire: bytes) -> tuple[list[Part], bytes]:
    """The parts on the wire, and their bytes."""
    found, body = [], b""
    while wire:
        line, _, wire = wire.partition(b"\n")
        part = parse_packet(line)
        assert isinstance(part, Part)
        found.append(part)
        body += wire[: part.body]
        wire = wire[part.body :]
    return found, body


@contextmanager
def patient(wait: int = 10_000) -> Iterator[None]:
    usual, stretch_out.WAIT = stretch_out.WAIT, wait
    try:
        yield
    finally:
        stretch_out.WAIT = usual


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6 * UNIT), st.integers(0, 3), st.integers(1, 7 * UNIT))
def test_all_that_may_be_sent(size: int, ahead: int, credit: int) -> None:
    """Every byte within the credit, once, in order, in parts that say so."""
    # covers: J15
    ahead = min(ahead, size // UNIT)
    stretched = Stretched(size, ahead=ahead, credit=credit)
    with patient(1):
        parts, body = taken_apart(stretched.move())
    assert body == stretched.source.data[: min(size, credit)]
    assert parts == stretched.stretch.parts
    ends = list(accumulate(part.body for part in parts))
    assert [part.offset for part in parts] == [0, *ends[:-1]]
    assert {part.id for part in parts} == {ID}
    left = b"".join(bytes(chunk) for _, chunk in stretched.load.ahead)
    assert len(body) + len(left) + stretched.load.unread == size
    assert left == stretched.source.data[len(body) : len(body) + len(left)]
    assert stretched.stretch.went == len(body)


def test_granted_meanwhile() -> None:
    """It waits for a grant that is about to come."""
    stretched = Stretched(5 * UNIT, credit=2 * UNIT)
    late = threading.Timer(0.05, stretched.stretch.grant, [3 * UNIT])
    late.start()
    with patient():
        _, body = taken_apart(stretched.move())
    late.join()
    assert body == stretched.source.data


def test_nobody_reads() -> None:
    """What the socket does not take is left, and lies where nobody writes to."""
    # covers: B07
    size = 10**7
    stretched = Stretched(size, slow=True)
    with patient(1):
        parts, body = taken_apart(stretched.move())
    assert 0 < len(body) < size
    assert sum(part.body for part in parts) == len(body)
    assert body == stretched.source.data[: len(body)]
    assert stretched.stretch.rest
    assert stretched.stretch.sending is not None
    assert all(unit is not stretched.stretch.sending for unit in stretched.load.free)


def test_a_part_of_a_chunk_is_left() -> None:
    """A chunk of which the credit is for a part only is in use as long as the rest of it is."""
    stretched = Stretched(UNIT, ahead=1, credit=300)
    with patient(1):
        stretched.move()
    [(unit, chunk)] = stretched.load.ahead
    assert len(chunk) == 700
    assert all(each is not unit for each in stretched.load.free)
    assert stretched.stretch.sending is None


def test_taken_back_while_it_reads() -> None:
    """Taken back in the midst of reading it announces nothing more; what was read is kept."""
    # covers: R10
    stretched = Stretched(3 * UNIT)
    stretched.source.before = stretched.stretch.revoke
    with patient():
        assert stretched.move() == b""
    [(_, chunk)] = stretched.load.ahead
    assert bytes(chunk) == stretched.source.data[:UNIT]
    assert stretched.load.unread == 2 * UNIT


def test_no_more_than_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while others have their turn."""
    monkeypatch.setattr(stretch_out, "MOST", 2 * UNIT)
    stretched = Stretched(10 * UNIT)
    with patient():
        _, body = taken_apart(stretched.move())
    assert len(body) == 2 * UNIT


def test_file_became_shorter() -> None:
    """A file that ends early is said so by whoever reads it; what was announced was sent."""
    # covers: S10
    stretched = Stretched(5 * UNIT)
    stretched.source.ends = 2 * UNIT + 5
    with pytest.raises(SourceChanged), patient():
        stretched.move()
    parts, body = taken_apart(stretched.got)
    assert len(body) == sum(part.body for part in parts) == 2 * UNIT


def test_broken() -> None:
    """A connection that is gone is left to whoever writes next."""
    # covers: B04
    stretched = Stretched(5 * UNIT, slow=True)
    stretched.far.close()
    with patient():
        stretched.stretch.move()
    assert stretched.stretch.rest


def test_real_file(tmp_path: Path) -> None:
    """With a real source the digest is that of the file."""
    from blake3 import blake3

    from lanxfer.storage.sources import open_source

    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 1234)
    with open_source(str(path)) as source:
        stretched = Stretched(0)
        stretched.load.source = source
        stretched.load.unread = source.size
        with patient():
            _, body = taken_apart(stretched.move())
        assert body == path.read_bytes()
        assert source.digest() == blake3(body).hexdigest()
