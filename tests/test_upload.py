"""A large file over a conversation: whole and byte by byte, and with something trailing."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from lanxfer.conversation import Conversation
from lanxfer.errors import DigestMismatch, Lost, QuotaExceeded
from lanxfer.offering import READ_AHEAD_AFTER
from lanxfer.packet_socket import wait
from lanxfer.storage.sources import open_source
from lanxfer.transfers import State
from lanxfer.upload import Upload
from lanxfer.wire import limits

SIZE = 2 * limits.UNIT + 77

Peer = Callable[[Any, Callable[[str], None]], None]
Told = tuple[State, int]


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    found = os.urandom(SIZE)
    (tmp_path / "file").write_bytes(found)
    return found


class Other:
    """The other side: it says lines, all of one call together or byte by byte."""

    def __init__(self, peer: Peer, bytewise: bool) -> None:
        self.ours, self._theirs = socket.socketpair()
        self._bytewise = bytewise
        self.heard: list[dict[str, Any]] = []
        self.body = b""
        self._thread = threading.Thread(target=self._run, args=(peer,), daemon=True)
        self._thread.start()

    def _run(self, peer: Peer) -> None:
        # This side may hang up as soon as it has its answer.
        with suppress(OSError), self._theirs, self._theirs.makefile("rb") as file:
            peer(lambda: self._hear(file), self._say)

    def _hear(self, file: Any) -> dict[str, Any]:
        line = file.readline()
        if not line:
            return {}
        found: dict[str, Any] = json.loads(line)
        self.body += file.read(found.get("body", 0))
        self.heard.append(found)
        return found

    def _say(self, text: str) -> None:
        said = text.encode()
        for at in range(0, len(said), 1 if self._bytewise else len(said)):
            self._theirs.sendall(said[at : at + (1 if self._bytewise else len(said))])

    def close(self) -> None:
        self.ours.close()
        self._thread.join(10)


@pytest.fixture(params=[False, True], ids=["whole", "bytewise"])
def other(request: pytest.FixtureRequest) -> Iterator[Callable[[Peer], Other]]:
    made: list[Other] = []

    def make(peer: Peer) -> Other:
        made.append(Other(peer, request.param))
        return made[0]

    yield make
    for each in made:
        each.close()


def sent(other: Other, path: Path) -> tuple[Any, list[Told]]:
    there = Conversation(other.ours, wait, lambda silent: Lost())
    there._packets.greeted = True
    told: list[Told] = []
    args = {"path": "file", "size": SIZE}
    upload = Upload(there, open_source(str(path)), args, lambda *heard: told.append(heard))
    steps(there, upload)
    return upload.receipt(), told


def steps(there: Conversation, upload: Upload) -> None:
    memory = bytearray(limits.UNIT)
    while True:
        moved = upload.step(memory)
        if upload.over:
            return
        there.hear(0.0 if moved else 0.02)


def last_of(hear: Any) -> dict[str, Any]:
    while "part" in (said := hear()):
        pass
    found: dict[str, Any] = said
    return found


def test_whole(other: Callable[[Peer], Other], data: bytes, tmp_path: Path) -> None:
    """Credit in several packets, what is not known, and something after the answer."""
    digest = blake3(data).hexdigest()

    def takes(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say('{"event": 1, "something": "new"}\n')
        say(f'{{"go": 1, "window": 5, "have": []}}\n{{"window": 1, "bytes": {limits.UNIT}}}\n')
        say(f'{{"window": 1, "bytes": {limits.UNIT}}}\n{{"window": 1, "bytes": 72}}\n')
        last_of(hear)
        answer = f'{{"ok": 1, "stored": "file", "size": {SIZE}, "blake3": "{digest}"}}\n'
        say(answer + '{"bye": "requests"}\n{"window": 1, "bytes": 5}\n{"eve')

    there = other(takes)
    receipt, told = sent(there, tmp_path / "file")
    assert (receipt.stored, receipt.digest, receipt.size) == ("file", digest, SIZE)
    assert there.body == data
    assert told[:2] == [(State.OFFERED, 0), (State.MOVING, 0)]
    assert told[-2:] == [(State.MOVING, SIZE), (State.COMMITTING, SIZE)]
    positions = [done for state, done in told if state is State.MOVING]
    assert positions == sorted(positions)
    sizes = [each["body"] for each in there.heard if "part" in each]
    assert sum(sizes) == SIZE
    assert there.heard[-1] == {"end": 1, "size": SIZE, "blake3": digest}


def test_something_else(other: Callable[[Peer], Other], data: bytes, tmp_path: Path) -> None:
    """Who says that it stored something else is not believed."""

    def lies(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say(f'{{"go": 1, "window": {SIZE}, "have": []}}\n')
        last_of(hear)
        say(f'{{"ok": 1, "stored": "file", "size": {SIZE}, "blake3": "{"0" * 64}"}}\n')

    with pytest.raises(DigestMismatch):
        sent(other(lies), tmp_path / "file")


@pytest.mark.parametrize(
    "said",
    [
        '{"ok": 1, "stored": "file", "size": 1}\n',
        '{"go": 1, "window": 5, "have": [[9000000, "00"]]}\n',
        '{"go": 1}\n',
        '{"error": 0, "code": "bad-header", "reason": "", "retry": false}\n',
        '{"bye": "all"}\n',
        "nonsense\n",
    ],
)
def test_nonsense(other: Callable[[Peer], Other], data: bytes, tmp_path: Path, said: str) -> None:
    """Where there is nothing more to be understood the other side is lost, though it is there."""
    asked = threading.Event()

    def talks(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say(said)
        asked.wait(10)

    with pytest.raises(Lost):
        sent(other(talks), tmp_path / "file")
    asked.set()


def test_last_word(other: Callable[[Peer], Other], data: bytes, tmp_path: Path) -> None:
    """What was said before somebody hung up counts, also in the midst of what is sent to him."""
    heard = threading.Event()

    def refuses(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say(f'{{"go": 1, "window": {SIZE}, "have": []}}\n')
        said = '{"error": 1, "code": "quota", "reason": "No more.", "retry": false}\n'
        say(said)
        there._theirs.shutdown(socket.SHUT_WR)
        heard.wait(10)

    there = other(refuses)
    with pytest.raises(QuotaExceeded, match=r"No more\."):
        sent(there, tmp_path / "file")
    heard.set()


@pytest.mark.parametrize("how", ["proves", "reads ahead"])
def test_closed_meanwhile(other: Callable[[Peer], Other], tmp_path: Path, how: str) -> None:
    """Whoever closes it waits for the thread that reads the file."""
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 40)

    def goes(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        if how == "proves":
            say(f'{{"go": 1, "window": 5, "have": [[{1 << 40}, "{"0" * 64}"]]}}\n')
        hear()

    there = Conversation(other(goes).ours, wait, lambda silent: Lost())
    there._packets.greeted = True
    source = open_source(str(huge))
    upload = Upload(there, source, {"path": "file", "size": 1 << 40}, lambda state, done: None)
    while upload._aside is None:
        there.hear(0.02)
        assert not upload.step(bytearray(10))
    reading = upload._aside
    assert reading.is_alive()
    if how == "reads ahead":
        source.enough()
    upload.close()
    assert not reading.is_alive() and source._fd == -1


def test_waits_unread(other: Callable[[Peer], Other], data: bytes, tmp_path: Path) -> None:
    """While somebody is asked, what he may refuse is not read."""

    def asks(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say('{"event": 1, "waiting": true}\n')
        hear()

    there = Conversation(other(asks).ours, wait, lambda silent: Lost())
    there._packets.greeted = True
    told: list[State] = []
    upload = Upload(
        there,
        open_source(str(tmp_path / "file")),
        {"path": "file", "size": SIZE},
        lambda state, done: told.append(state),
    )
    while State.WAITING not in told:
        there.hear(0.02)
    time.sleep(2 * READ_AHEAD_AFTER)
    assert not upload.step(bytearray(10)) and upload._aside is None
    upload.close()


def test_closed(other: Callable[[Peer], Other], data: bytes, tmp_path: Path) -> None:
    """The source is closed, however it ends."""

    def goes(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say('{"go": 1, "window": 5, "have": []}\n')
        hear()

    there = Conversation(other(goes).ours, wait, lambda silent: Lost())
    source = open_source(str(tmp_path / "file"))
    upload = Upload(there, source, {"path": "file", "size": SIZE}, lambda state, done: None)
    with pytest.raises(Lost):
        steps(there, upload)
    upload.close()
    assert source._fd == -1
