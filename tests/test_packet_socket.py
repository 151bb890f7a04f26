"""Packets over a socket that is waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lanxfer.errors import BadHeader, HeaderTooLong, Lost
from lanxfer.packet_socket import WRITE, PacketSocket, Plain, wait
from lanxfer.wire import limits
from lanxfer.wire.packets import Bye


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def packets(ours: socket.socket, stream: Plain | None = None) -> PacketSocket:
    found = PacketSocket(ours, stream or Plain(ours), wait, lambda silent: Lost(str(silent)))
    found.greeted = True
    return found


class Noting(Plain):
    """Takes note of what it sends, and whether more comes at once."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.sent: list[tuple[int, bool]] = []

    def send(self, some: memoryview, more: bool = False) -> int:
        self.sent.append((len(some), more))
        return super().send(some, more)


def test_held_back(ends: tuple[socket.socket, socket.socket]) -> None:
    """Only what something comes after is held back: a system keeps that for 0.2 s."""
    ours, _ = ends
    stream = Noting(ours)
    there = packets(ours, stream)
    for pieces in ([b"line"], [b"line", b""], [b"", b"line"], [b"", b""]):
        there.push(*map(memoryview, pieces))
    assert stream.sent == [(4, False)] * 3
    there.push(memoryview(b"line"), memoryview(b"body"))
    assert stream.sent[3:] == [(4, True), (4, False)]


def test_both_write(ends: tuple[socket.socket, socket.socket]) -> None:
    """What the other side says meanwhile is taken, so that both can write without end."""
    ours, theirs = ends
    size = 4 * WRITE
    line = b'{"bye": "requests"}\n'
    got: list[int] = []

    def other() -> None:
        theirs.sendall(b"{" + b" " * size)  # no line yet, and more than a socket holds
        left = size
        while left:
            left -= len(theirs.recv(left))
        got.append(size)

    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    there = packets(ours)
    there.push(memoryview(bytes(size)))
    thread.join(10)
    assert got == [size]
    with pytest.raises(HeaderTooLong):
        there.next(1.0)
    with pytest.raises(Lost):  # whatever comes after that
        theirs.sendall(line)
        there.next(1.0)


def test_said_before(ends: tuple[socket.socket, socket.socket]) -> None:
    """What was said before the other side hung up is heard, whole packets of it."""
    ours, theirs = ends
    theirs.sendall(b'{"bye": "requests"}\n{"bye": "all"}\n{"bye"')
    theirs.close()
    there = packets(ours)
    assert there.next() == (Bye(all=False), b"")
    assert there.next() == (Bye(all=True), b"")
    with pytest.raises((Lost, BadHeader)):
        there.next()


def test_silence(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is silent is asked whether it lives, and is gone when it says nothing to that."""
    monkeypatch.setattr(limits, "PING_AFTER", 0.2)
    monkeypatch.setattr(limits, "PING_TIMEOUT", 0.2)
    ours, theirs = ends
    there = packets(ours)
    with pytest.raises(Lost, match="True"):
        while there.next(0.02) is None:
            pass
    assert b'"ping"' in theirs.recv(1000)


def test_unread(ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes nothing is gone after a while."""
    monkeypatch.setattr(limits, "REPLIES_TIMEOUT", 0.2)
    ours, _ = ends
    began = time.monotonic()
    with pytest.raises(Lost, match="True"):
        packets(ours).push(memoryview(bytes(64 * limits.MIB)))
    assert time.monotonic() - began >= 0.2
    with suppress(OSError):
        ours.shutdown(socket.SHUT_RDWR)


def test_mute(ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """After it broke off in the midst of something nothing more is said, but heard."""
    monkeypatch.setattr(limits, "REPLIES_TIMEOUT", 0.1)
    ours, theirs = ends
    there = packets(ours)
    with pytest.raises(Lost):
        there.push(memoryview(bytes(64 * limits.MIB)))
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        while theirs.recv(limits.MIB):
            pass
    with pytest.raises(Lost):
        there.say(Bye(all=False))
    theirs.sendall(b'{"bye": "requests"}\n')
    assert there.next() == (Bye(all=False), b"")
    with pytest.raises(Lost):
        there.next()
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
