"""TLS between two memories, against a socket of the standard library."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lanxfer.errors import Lost
from lanxfer.identity import key_of_certificate, load_identity
from lanxfer.packet_socket import WRITE, PacketSocket, wait
from lanxfer.state import CERTIFICATE_FILE, KEY_FILE, StateFolder
from lanxfer.straight_tls import Tls
from lanxfer.wire import limits
from tests.test_cli_real import until

Work = Callable[[ssl.SSLSocket], None]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Callable[[Work], socket.socket]]:
    """Makes our end, while a thread does ``work`` on the other one."""
    key = load_identity(StateFolder(str(tmp_path))).key
    assert key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["lanxfer/1"])
    context.load_cert_chain(tmp_path / CERTIFICATE_FILE, tmp_path / KEY_FILE)
    threads: list[threading.Thread] = []
    made: list[socket.socket] = []

    def make(work: Work) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(10)
        made.append(ours)

        def run() -> None:
            with theirs, context.wrap_socket(theirs, server_side=True) as wire:
                work(wire)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[0].start()
        return ours

    yield make
    for each in made:
        each.close()
    for thread in threads:
        thread.join(10)


def client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["lanxfer/1"])
    return context


def push(ours: socket.socket, tls: Tls, data: bytes) -> None:
    """Send it without ever waiting in ``send``."""
    ours.settimeout(0)
    rest = memoryview(data)
    while rest or tls.waits:
        try:
            rest = rest[tls.send(rest) :]
        except BlockingIOError:
            assert select.select([], [ours], [], 10)[1]
    ours.settimeout(10)


def test_much(ends: Callable[[Work], socket.socket], tmp_path: Path) -> None:
    """More than a socket holds goes one way, and comes back."""
    data = os.urandom(5 * WRITE + 17)

    def back(wire: ssl.SSLSocket) -> None:
        found = b""
        while len(found) < len(data):
            found += wire.recv(limits.MIB)
        wire.sendall(found)

    ours = ends(back)
    tls = Tls(client(), ours, 10.0)
    assert tls.protocol == "lanxfer/1"
    assert key_of_certificate(tls.certificate) == load_identity(StateFolder(str(tmp_path))).key
    push(ours, tls, data)
    found = b""
    while len(found) < len(data):
        found += tls.receive() or b""
    assert found == data


def test_together(ends: Callable[[Work], socket.socket]) -> None:
    """What is short waits for what comes at once, and not for ever."""
    heard: list[bytes] = []

    def hear(wire: ssl.SSLSocket) -> None:
        while data := wire.recv(limits.MIB):
            heard.append(data)

    ours = ends(hear)
    tls = Tls(client(), ours, 10.0)
    assert tls.send(memoryview(b"header\n"), more=True) == 7
    assert tls.waits
    assert tls.send(memoryview(b"body")) == 4
    assert not tls.waits
    push(ours, tls, b"x")
    ours.shutdown(socket.SHUT_WR)
    until(lambda: b"".join(heard) == b"header\nbodyx")


def test_end(ends: Callable[[Work], socket.socket]) -> None:
    """What came before the other side closed is there, then nothing."""

    def last(wire: ssl.SSLSocket) -> None:
        wire.sendall(b"last")
        with suppress(OSError):
            wire.unwrap()

    ours = ends(last)
    tls = Tls(client(), ours, 10.0)
    found = b""
    while not found:
        found = tls.receive() or b""
    assert found == b"last"
    assert tls.receive() == b""


def test_wrong_after(ends: Callable[[Work], socket.socket]) -> None:
    """What came before something that is no record counts."""

    def wrong(wire: ssl.SSLSocket) -> None:
        wire.recv(1)
        both = socket.socket(fileno=os.dup(wire.fileno()))
        both.setblocking(True)
        wire.sendall(b"last")
        with both:
            both.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))

    ours = ends(wrong)
    tls = Tls(client(), ours, 10.0)
    push(ours, tls, b"x")
    time.sleep(0.2)  # so that both are there
    found = b""
    while not found:
        found = tls.receive() or b""
    assert found == b"last"
    with pytest.raises(OSError):
        tls.receive()


def test_slow(ends: Callable[[Work], socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes it slowly, but takes it, is not silent."""
    monkeypatch.setattr(limits, "REPLIES_TIMEOUT", 2.0)
    size = limits.MIB

    def read(wire: ssl.SSLSocket) -> None:
        left = size
        while left:
            left -= len(wire.recv(left))
            time.sleep(0.06)

    ours = ends(read)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * limits.KIB)
    packets = PacketSocket(ours, Tls(client(), ours, 10.0), wait, lambda silent: Lost())
    began = time.monotonic()
    packets.push(memoryview(bytes(size)))
    assert time.monotonic() - began > 2.0  # else it was not slow


def test_drips() -> None:
    """Who says drop by drop who it is has so long for all of it."""
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        data = b"\x16\x03\x03\x40\x00" + bytes(16_384)
        for byte in data:
            if over.wait(0.01):
                return
            theirs.sendall(bytes([byte]))

    dripping = threading.Thread(target=drip, daemon=True)
    dripping.start()
    with ours, pytest.raises(OSError):
        Tls(client(), ours, 0.3)
    over.set()
    dripping.join(10)
    theirs.close()


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_no_tls(said: bytes) -> None:
    """Who speaks otherwise, or hangs up, is an OSError."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError):
            Tls(client(), ours, 10.0)
