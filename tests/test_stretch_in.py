"""A stretch of a body read in a thread: what came, in order, and not a byte more than was due."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer import stretch_in
from lanxfer.direct import Plain
from lanxfer.errors import DiskFull
from lanxfer.stretch_in import LINE, Ahead, Lent, StretchIn
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import End, Part, Window

UNIT = 1000
ID = 7


class MemoryPart:
    """A part that keeps what it gets, and fails where it is told to."""

    def __init__(self) -> None:
        self.data = b""
        self.fails_at: int | None = None
        self.before: Any = lambda: None

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        self.before()
        if self.fails_at is not None and len(self.data) >= self.fails_at:
            raise DiskFull()
        self.data += b"".join(chunks)


class Stretched:
    """A stretch on one end of a pair of sockets; ``far`` is the other one."""

    def __init__(
        self,
        expected: int,
        *,
        size: int = 10**9,
        credit: int = 10**9,
        full: Sequence[bytes] = (),
        begun: bytes = b"",
    ) -> None:
        near, self.far = socket.socketpair()
        near.setblocking(False)
        self.part = MemoryPart()
        unit = bytearray(UNIT)
        unit[: len(begun)] = begun
        part: Any = self.part
        lent = Lent(part, [memoryview(each) for each in full], unit, len(begun))
        ahead = Ahead(ID, expected, expected, credit, size, 4 * UNIT)
        self.told: list[int] = []
        self.stretch = StretchIn(
            Plain(near), lent, ahead, lambda stretch, size: self.told.append(size)
        )

    def move(self, sent: bytes, cuts: Sequence[int] = ()) -> None:
        """Have it read what is sent, in these pieces, and then the end of the stream."""

        def send() -> None:
            with self.far, suppress(BrokenPipeError):  # it need not read all
                at = 0
                for cut in sorted({each % (len(sent) + 1) for each in cuts}):
                    self.far.sendall(sent[at:cut])
                    at = cut
                self.far.sendall(sent[at:])

        sending = threading.Thread(target=send)
        sending.start()
        try:
            self.stretch.move()
        finally:
            sending.join(0 if self.stretch.revoked else None)

    @property
    def body(self) -> bytes:
        """What is in the file, and after it what waits to be."""
        lent = self.stretch.lent
        return self.part.data + bytes(lent.unit[: lent.filled])

    @property
    def came(self) -> int:
        return sum(size for _, size in self.stretch.moves)


@contextmanager
def patient() -> Iterator[None]:
    """However slow the other thread is, it is waited for."""
    usual, stretch_in.WAIT = stretch_in.WAIT, 10_000
    try:
        yield
    finally:
        stretch_in.WAIT = usual


def parts(sizes: Sequence[int], start: int) -> tuple[bytes, bytes, list[bytes]]:
    """So many parts on the wire, their bytes, and their lines."""
    wire, body, lines, at = b"", b"", [], start
    for number, size in enumerate(sizes):
        line = format_packet(Part(ID, at, size))
        data = bytes([number % 251]) * size
        wire, body, at = wire + line + data, body + data, at + size
        lines.append(line.rstrip(b"\n"))
    return wire, body, lines


FOREIGN = [
    b"",
    format_packet(Window(ID, 5)),
    format_packet(End(ID, 5, "00" * 32)),
    format_packet(Part(ID + 1, 0, 5)) + b"12345",
    b"no header at all\n",
    b"x" * 2 * LINE,
    b"\n",
    b'{"part": 7, "offs',
]


@settings(max_examples=300, deadline=None)
@given(
    first=st.integers(1, 3 * UNIT),
    sizes=st.lists(st.integers(1, 3 * UNIT), max_size=8),
    cuts=st.lists(st.integers(0, 10**6), max_size=6),
    after=st.sampled_from(FOREIGN),
    full=st.lists(st.binary(min_size=1, max_size=50), max_size=2),
    begun=st.binary(max_size=UNIT - 1),
)
def test_all_of_it(
    first: int,
    sizes: list[int],
    cuts: list[int],
    after: bytes,
    full: list[bytes],
    begun: bytes,
) -> None:
    """However the bytes come: all are in the file or wait, and what follows is left as it was."""
    # covers: J15
    stretched = Stretched(first, full=full, begun=begun)
    wire, body, lines = parts(sizes, first)
    head = b"\xff" * first
    with patient():
        stretched.move(head + wire + after, cuts)
    stretch = stretched.stretch
    assert stretched.body.startswith(b"".join(full) + begun)
    got = stretched.body[len(b"".join(full) + begun) :]
    assert got == (head + body)[: len(got)]
    assert len(got) == stretch.came == stretched.came
    assert [line for line, _ in stretch.moves] == [b"", *lines[: len(stretch.moves) - 1]]
    assert stretch.written == len(stretched.part.data)
    # What was read is what was sent, and what was not read is still there.
    told = b"".join(line + b"\n" if line else b"" for line, _ in stretch.moves)
    assert len(told) + stretch.came + len(stretch.rest) <= len(head + wire + after)
    everything = head + wire + after
    assert everything[len(told) + stretch.came :].startswith(stretch.rest)
    if not after and not stretch.rest:
        assert got == head + body


@pytest.mark.parametrize("most", [1, 5, 400])
def test_line_in_pieces(most: int) -> None:
    """A header that comes byte by byte, and with something trailing, begins its part."""
    stretched = Stretched(3)
    wire, body, _ = parts([UNIT, LINE, 3 * LINE], 3)
    sent = b"abc" + wire + b"after"
    with patient():
        stretched.move(sent, range(0, len(sent), most))
    assert stretched.body == b"abc" + body
    assert stretched.stretch.rest == b"after"


@pytest.mark.parametrize(
    ("part", "credit", "size"),
    [
        (Part(ID, 10, 11), 10, 100),  # more than was granted
        (Part(ID, 10, 11), 50, 20),  # beyond the end of the file
        (Part(ID, 11, 5), 50, 100),  # not where the last one ended
        (Part(ID, 0, 5), 50, 100),
        (Part(ID + 1, 10, 5), 50, 100),  # of another file
        (Part(ID, 10, 0), 50, 100),
    ],
)
def test_not_the_next_one(part: Part, credit: int, size: int) -> None:
    """A header that is not that of the next part is for those who know what it means."""
    # covers: H07
    stretched = Stretched(10, credit=credit, size=size)
    line = format_packet(part)
    with patient():
        stretched.move(b"x" * 10 + line + b"yyyy")
    assert stretched.body == b"x" * 10
    assert stretched.stretch.rest == (line + b"yyyy")[: len(stretched.stretch.rest)]
    assert line.startswith(stretched.stretch.rest[: len(line)])
    assert len(stretched.stretch.moves) == 1


def test_granted_meanwhile() -> None:
    """What is granted while it reads counts at once."""
    stretched = Stretched(4 * UNIT, credit=0)
    stretched.stretch._tell = lambda stretch, size: (
        stretched.told.append(size),
        stretch.grant(size),
    )
    wire, body, _ = parts([UNIT], 4 * UNIT)
    with patient():
        stretched.move(b"x" * 4 * UNIT + wire)
    assert stretched.body == b"x" * 4 * UNIT + body
    assert stretched.told == [UNIT] * 5
    assert stretched.stretch.told == 5 * UNIT


def test_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of tiny parts it takes no more than the reactor reads in one turn: it has to catch up."""
    # covers: H02
    monkeypatch.setattr(limits, "LINES_PER_TURN", 3)
    stretched = Stretched(1)
    wire, _, _ = parts([LINE] * 200, 1)
    with patient():
        stretched.move(b"x" + wire)
    assert len(stretched.stretch.moves) == 3


def test_no_more_than_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while others have their turn."""
    monkeypatch.setattr(stretch_in, "MOST", 3 * UNIT)
    stretched = Stretched(50 * UNIT)
    with patient():
        stretched.move(b"x" * 50 * UNIT)
    assert 3 * UNIT <= stretched.stretch.came <= 4 * UNIT


def test_nothing_comes() -> None:
    """It does not wait for a peer that says nothing."""
    # covers: B03
    stretched = Stretched(10)
    stretched.stretch.move()
    assert stretched.stretch.came == 0
    stretched.far.close()


def test_broken() -> None:
    """A connection that breaks shows, whoever finds that first; one that ends is left to end."""
    # covers: B04
    listening = socket.create_server(("127.0.0.1", 0))
    far = socket.create_connection(listening.getsockname())
    near, _ = listening.accept()
    listening.close()
    near.setblocking(False)
    stretched = Stretched(10)
    stretched.stretch._plain.close()
    stretched.far.close()
    stretched.stretch._plain = plain = Plain(near)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with patient():
        stretched.stretch.move()
    assert plain.lost
    ended = Stretched(10)
    ended.move(b"abc")
    assert not ended.stretch._plain.lost
    assert ended.body == b"abc"


def test_taken_back_while_it_writes() -> None:
    """Taken back in the midst of a write it reads nothing more; what it has it writes."""
    # covers: R10
    stretched = Stretched(10 * UNIT)
    stretched.part.before = stretched.stretch.revoke
    with patient():
        stretched.move(b"x" * 3 * UNIT)
    assert stretched.part.data == b"x" * UNIT
    assert stretched.stretch.written == UNIT
    assert stretched.stretch.lent.filled == 0
    assert stretched.stretch.came == UNIT


def test_taken_back_before_it_began() -> None:
    """One that had to wait for a thread writes what was before it, and reads nothing."""
    stretched = Stretched(10, full=[b"before"], begun=b"of the unit")
    stretched.stretch.revoke()
    stretched.move(b"x" * 10)
    assert stretched.part.data == b"before"
    assert stretched.stretch.lent.filled == len(b"of the unit")
    assert stretched.stretch.came == 0


def test_disk_full() -> None:
    """What the disk says ends it; what came by then is known."""
    # covers: F18
    stretched = Stretched(10 * UNIT)
    stretched.part.fails_at = 2 * UNIT
    with pytest.raises(DiskFull), patient():
        stretched.move(b"x" * 5 * UNIT)
    assert stretched.stretch.written == 2 * UNIT
    assert stretched.stretch.came == stretched.came == 3 * UNIT
