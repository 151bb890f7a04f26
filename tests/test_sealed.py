"""TLS records in large pieces: all that was given arrives, whoever sends it and however slowly."""

from __future__ import annotations

import os
import random
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from mmap import mmap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL.SSL import Error, WantReadError, ZeroReturnError

from lanxfer import sealed
from lanxfer.direct import Plain
from lanxfer.identity import load_identity
from lanxfer.sealed import PIECE, RECORD, Records, Sealed
from lanxfer.state import StateFolder
from lanxfer.tls import TlsOptions
from lanxfer.wire import limits


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Pair]:
    folder = tmp_path_factory.mktemp("state")
    options = TlsOptions(load_identity(StateFolder(str(folder))))
    return lambda: Pair(options)


class Pair:
    """Two ends of one TLS connection; what ``near`` sends goes through a socket to ``far``."""

    def __init__(self, options: TlsOptions) -> None:
        self.near, self.far = Records(options._context), Records(options._context)
        self.near.set_connect_state()
        self.far.set_accept_state()
        for _ in range(3):
            for here, there in ((self.near, self.far), (self.far, self.near)):
                with suppress(WantReadError):
                    here.do_handshake()
                with suppress(WantReadError):
                    there.bio_write(here.bio_read(2**16))
        here, self.socket = socket.socketpair()
        here.setblocking(False)
        self.plain = Plain(here)
        self.outlet = Sealed(self.plain, self.near)

    def got(self, data: bytes) -> bytes:
        """What is inside of what came."""
        self.far.bio_write(data)
        return opened(self.far)

    def all(self) -> bytes:
        """What is inside of all that came, up to the end."""
        got = b""
        while data := self.socket.recv(2**20):
            got += self.got(data)
        return got


def opened(records: Records) -> bytes:
    space = memoryview(bytearray(3 * PIECE))
    got = b""
    while True:
        size, why = records.open_into(space)
        got += space[:size]
        if why is not None:
            assert isinstance(why, WantReadError)
            return got


def rest_of(pieces: Sequence[memoryview], sent: int) -> list[memoryview]:
    """What of these was not taken."""
    left = []
    for each in pieces:
        left.append(each[sent:])
        sent = max(sent - len(each), 0)
    return [each for each in left if each]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([1, 60, RECORD, 70_000, PIECE, 2 * PIECE + 5]), max_size=5),
    st.booleans(),
)
def test_all_arrives(pair: Callable[[], Pair], sizes: list[int], raw: bool) -> None:
    """Pieces of any size, in order, opened in either way, by somebody who reads slowly."""
    # covers: B07
    made = pair()
    sent = [random.Random(size).randbytes(size) for size in sizes]
    usual = sealed.RAW
    assert usual  # or half of this says nothing

    def send() -> None:
        pieces = [memoryview(each) for each in sent]
        while pieces or made.outlet.waiting:
            size = made.outlet.send(pieces)
            assert size is not None
            pieces = rest_of(pieces, size)
            made.outlet.asking(select.POLLOUT).poll(10_000)
        made.outlet.close()

    sending = threading.Thread(target=send)
    sending.start()
    try:
        sealed.RAW = raw
        assert made.all() == b"".join(sent)
    finally:
        sealed.RAW = usual
        sending.join()
        made.socket.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 70_000), min_size=1, max_size=6),
    st.integers(1, 40_000),
    st.data(),
)
def test_laid(pair: Callable[[], Pair], sizes: list[int], step: int, data: st.DataObject) -> None:
    """Read where it is: records in any pieces, some not read at once, and some written as usual."""
    # covers: B07
    made = pair()
    sent = b"".join(random.Random(size).randbytes(size) for size in sizes)
    made.near.send(sent)
    secret = made.near.bio_read(2**20)
    memory = mmap(-1, 2**17)
    there = sealed.address(memory)
    got = b""
    for at in range(0, len(secret), step):
        piece = secret[at : at + step]
        how = data.draw(st.sampled_from(["laid", "laid", "not read", "written"]))
        if how == "written" or made.far.unread:
            made.far.bio_write(piece)
        else:
            memory[: len(piece)] = piece
            made.far.lay(there, len(piece))
        if how != "not read":
            got += opened(made.far)
        made.far.lift()
        memory[:] = bytes(len(memory))  # it is another one's by now
    assert got + opened(made.far) == sent
    made.near.shutdown()
    made.far.bio_write(made.near.bio_read(2**20))
    with pytest.raises(ZeroReturnError):
        made.far.recv(1)


FORKED = """
import os
from lanxfer import bulk, sealed
for memory in (bulk._CIPHERTEXT, bulk._CLEARTEXT, sealed._SEALED):
    memory[:5] = b"ours "
    child = os.fork()
    if not child:
        memory[:5] = b"its ."
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert memory[:5] == b"ours "
"""


def test_forked() -> None:
    """What one process reads into another one that was forked from it does not see."""
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)


def test_nobody_reads(pair: Callable[[], Pair]) -> None:
    """What the socket does not take waits, also when the thread is gone; the rest was not taken."""
    # covers: B07
    made = pair()
    data = os.urandom(8 * limits.MIB)
    pieces = [memoryview(data)]
    sent = made.outlet.send(pieces)
    assert sent is not None
    assert 0 < sent < len(data)
    assert made.outlet.send(rest_of(pieces, sent)) == 0
    assert made.outlet.waiting
    made.outlet.close()
    waiting = bytes(made.outlet.waiting)
    got = made.all()
    got += made.got(waiting)
    with suppress(WantReadError):
        got += made.got(made.near.bio_read(2 * PIECE))
    assert got == data[:sent]
    made.socket.close()


def test_header_with_body(pair: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    """A header goes to the socket with what comes after it, and each mebibyte in a few pieces."""
    made = pair()
    calls: list[int] = []
    usual = made.plain.send
    monkeypatch.setattr(
        made.plain, "send", lambda pieces: calls.append(len(pieces[0])) or usual(pieces)
    )
    made.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * limits.MIB)
    header, body = memoryview(b"h" * 60), memoryview(bytes(100_000))
    assert made.outlet.send([header, body]) == len(header) + len(body)
    assert len(calls) == 1
    made.outlet.close()
    assert made.all() == bytes(header) + bytes(body)
    made.socket.close()


def test_broken(pair: Callable[[], Pair]) -> None:
    """A connection that is gone, or was shut down, takes nothing and raises nothing."""
    # covers: B04
    made = pair()
    made.socket.close()
    made.outlet.send([memoryview(bytes(PIECE))])
    assert made.outlet.send([memoryview(bytes(PIECE))]) is None
    made.outlet.close()
    made = pair()
    made.near.shutdown()
    assert made.outlet.send([memoryview(bytes(PIECE))]) is None
    made.outlet.close()
    _, why = made.far.open_into(memoryview(bytearray(9)))
    assert isinstance(why, WantReadError)
    made.far.bio_write(made.near.bio_read(PIECE))
    _, why = made.far.open_into(memoryview(bytearray(9)))
    assert isinstance(why, ZeroReturnError)
    made.socket.close()


def test_both_at_once(pair: Callable[[], Pair]) -> None:
    """While a thread sends on a connection, what comes on it is read, and neither disturbs."""
    made = pair()
    data = os.urandom(PIECE)
    rounds = 60
    got = bytearray()

    def send() -> None:
        for _ in range(rounds):
            pieces = [memoryview(data)]
            while pieces:
                size = made.outlet.send(pieces)
                assert size is not None
                pieces = rest_of(pieces, size)
                made.outlet.asking(select.POLLOUT).poll(10_000)
        while made.outlet.waiting:
            made.outlet.send([])
            made.outlet.asking(select.POLLOUT).poll(10_000)
        made.outlet.close()

    def receive() -> None:
        got.extend(made.all())

    threads = [threading.Thread(target=each) for each in (send, receive)]
    # The other end writes as it is read there, so that has to be one at a time as well.
    words = [b"%d\n" % number for number in range(2000)]
    heard = b""
    for each in threads:
        each.start()
    for word in words:
        made.far.send(word)
        with suppress(WantReadError):
            made.near.bio_write(made.far.bio_read(2**15))
        heard += opened(made.near)
    for each in threads:
        each.join()
    assert heard == b"".join(words)
    assert got == data * rounds
    made.socket.close()


def test_errors_of_others(pair: Callable[[], Pair]) -> None:
    """What went wrong in a handshake elsewhere is not said where a thread seals."""
    made = pair()
    problems: list[Exception] = made.near.get_context()._verify_helper._problems  # type: ignore
    problems.append(Error([("", "", "of somebody else")]))
    try:
        assert made.outlet.send([memoryview(bytes(100))]) == 100
        assert len(problems) == 1
    finally:
        problems.clear()
    made.outlet.close()
    assert made.all() == bytes(100)
    made.socket.close()


def test_broken_after_it_was_encrypted(
    pair: Callable[[], Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is encrypted was taken, though the socket did not take it: it is not sent twice."""
    made = pair()
    data = os.urandom(300_000)

    def fail(pieces: Sequence[memoryview]) -> None:
        made.plain.lost = True

    monkeypatch.setattr(made.plain, "send", fail)
    assert made.outlet.send([memoryview(b"header"), memoryview(data)]) == len(data) + 6
    made.outlet.close()
    got = made.got(bytes(made.outlet.waiting))
    with suppress(WantReadError):
        got += made.got(made.near.bio_read(2 * PIECE))
    assert got == b"header" + data
    made.socket.close()
