"""TLS between two memories, against a socket of the standard library."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lanxfer.identity import key_of_certificate, load_identity
from lanxfer.state import CERTIFICATE_FILE, KEY_FILE, StateFolder
from lanxfer.straight_tls import PIECE, Tls
from lanxfer.wire import limits

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
    data = os.urandom(5 * PIECE + 17)

    def back(wire: ssl.SSLSocket) -> None:
        found = b""
        while len(found) < len(data):
            found += wire.recv(limits.MIB)
        wire.sendall(found)

    ours = ends(back)
    tls = Tls(client(), ours)
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
    tls = Tls(client(), ours)
    assert tls.send(memoryview(b"header\n"), more=True) == 7
    assert tls.waits
    assert tls.send(memoryview(b"body")) == 4
    assert not tls.waits
    tls.send(memoryview(b"x"), more=True)
    tls.send_all(b"y")
    ours.shutdown(socket.SHUT_WR)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(10)
    assert b"".join(heard) == b"header\nbodyxy"


def test_end(ends: Callable[[Work], socket.socket]) -> None:
    """What came before the other side closed is there, then nothing."""

    def last(wire: ssl.SSLSocket) -> None:
        wire.sendall(b"last")
        with suppress(OSError):
            wire.unwrap()

    ours = ends(last)
    tls = Tls(client(), ours)
    found = b""
    while not found:
        found = tls.receive() or b""
    assert found == b"last"
    assert tls.receive() == b""


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_no_tls(said: bytes) -> None:
    """Who speaks otherwise, or hangs up, is an OSError."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError):
            Tls(client(), ours)
