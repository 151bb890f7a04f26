"""A large file over a conversation: whole and byte by byte, and with something trailing."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from lanxfer.conversation import Conversation
from lanxfer.errors import DigestMismatch, LanxferError, Lost
from lanxfer.packet_socket import wait
from lanxfer.storage.sources import open_source
from lanxfer.upload import Upload
from lanxfer.wire import limits

SIZE = 2 * limits.UNIT + 77

Peer = Callable[[Any, Callable[[str], None]], None]


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


def sent(other: Other, path: Path) -> tuple[Any, list[int]]:
    there = Conversation(other.ours, wait, lambda silent: Lost())
    there._packets.greeted = True
    moved: list[int] = []
    upload = Upload(there, open_source(str(path)), {"path": "file", "size": SIZE})
    upload.send(bytearray(limits.UNIT), lambda event: None, moved.append)
    return upload.receipt(), moved


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
    receipt, moved = sent(there, tmp_path / "file")
    assert (receipt.stored, receipt.digest, receipt.size) == ("file", digest, SIZE)
    assert there.body == data
    assert moved == [0, limits.UNIT, 2 * limits.UNIT, SIZE]
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
        "nonsense\n",
    ],
)
def test_nonsense(other: Callable[[Peer], Other], data: bytes, tmp_path: Path, said: str) -> None:
    """What cannot be is an error, and nothing is taken for stored."""

    def talks(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say(said)
        hear()

    with pytest.raises(LanxferError) as error:
        sent(other(talks), tmp_path / "file")
    assert error.value.code in ("bad-header", "connection-lost")


def test_closed(other: Callable[[Peer], Other], data: bytes, tmp_path: Path) -> None:
    """The source is closed, however it ends."""

    def goes(hear: Any, say: Callable[[str], None]) -> None:
        hear()
        say('{"go": 1, "window": 5, "have": []}\n')
        hear()

    there = Conversation(other(goes).ours, wait, lambda silent: Lost())
    source = open_source(str(tmp_path / "file"))
    upload = Upload(there, source, {"path": "file", "size": SIZE})
    with pytest.raises(Lost):
        upload.send(bytearray(limits.UNIT), lambda event: None, lambda moved: None)
    assert source._fd == -1
