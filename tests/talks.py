"""What tests of a connection say on it, and how they hear what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from blake3 import blake3

from lanxfer.testing import (
    Cut,
    Dialogue,
    Pair,
    bytewise,
    pieces,
    whole,
)
from lanxfer.wire.native import format_packet
from lanxfer.wire.packets import (
    Bye,
    Cancel,
    Do,
    End,
    Failed,
    Ok,
    Packet,
    Part,
)


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """See every connection to its end, as a service does."""
    made: list[Pair] = []
    connect = Pair.connect

    def note(pair: Pair) -> None:
        made.append(pair)
        connect(pair)

    monkeypatch.setattr(Pair, "connect", note)
    yield
    for pair in made:
        pair.close()


CUTS: dict[str, Cut] = {"whole": whole, "bytewise": bytewise, "pieces": pieces(7, 1, 30)}
MTIME = 1_700_000_000_000_000_000


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


def say(*packets: Packet | bytes) -> bytes:
    """Packets as they are written, with bodies as bytes between them."""
    return b"".join(each if isinstance(each, bytes) else format_packet(each) for each in packets)


HELLO = Do(1, "hello", {"speaks": ["lanxfer/1"], "device": "kitchen"})


def file(id: int, path: str, data: bytes, **more: Any) -> bytes:
    """A small file with its bytes."""
    args = {"path": path, "size": len(data), "blake3": digest(data), **more}
    return say(Do(id, "recv_file", args, len(data)), data)


def large(id: int, path: str, size: int, **more: Any) -> Do:
    return Do(id, "recv_file", {"path": path, "size": size, "mtime_ns": MTIME, **more})


def end(id: int, data: bytes) -> End:
    return End(id, len(data), digest(data))


def stored(id: int, path: str, data: bytes) -> Ok:
    return Ok(id, {"stored": path, "size": len(data), "blake3": digest(data)})


def hello(pair: Pair | None = None) -> Dialogue:
    """A connection on which hello has been said; what was answered to it is forgotten."""
    dialogue = Dialogue(pair)
    dialogue.say(say(HELLO))
    dialogue.raw.received = b""
    return dialogue


def heard(dialogue: Dialogue) -> list[Packet]:
    return [packet for packet, _ in dialogue.raw.packets]


def answers(dialogue: Dialogue) -> dict[int, str]:
    """The code of every answer, "ok" for the good ones."""
    found: dict[int, str] = {}
    for packet in heard(dialogue):
        if isinstance(packet, Ok | Failed):
            assert packet.id not in found, "one answer a request"
            found[packet.id] = "ok" if isinstance(packet, Ok) else packet.code
    return found


def closed(dialogue: Dialogue) -> bool:
    return dialogue.server.gone


FILM = bytes(range(256)) * 40
LETTERS = b"abcdefghij" * 30

CONVERSATIONS: dict[str, tuple[bytes, dict[str, bytes], dict[int, str]]] = {
    "hello": (say(HELLO), {}, {1: "ok"}),
    "small files": (
        say(HELLO) + file(2, "a/1.txt", b"hello") + file(3, "a/2.txt", b"") + file(9, "b", b"x\ny"),
        {"a/1.txt": b"hello", "a/2.txt": b"", "b": b"x\ny"},
        {1: "ok", 2: "ok", 3: "ok", 9: "ok"},
    ),
    "folder and link": (
        say(
            HELLO,
            Do(2, "recv_file", {"path": "f/g", "size": 0, "kind": "folder"}),
            Do(3, "recv_file", {"path": "f/l", "size": 0, "kind": "link", "target": "g"}),
        ),
        {},
        {1: "ok", 2: "ok", 3: "ok"},
    ),
    "large file": (
        say(HELLO, large(2, "film", len(FILM)), Part(2, 0, 4000), FILM[:4000])
        + say(Part(2, 4000, len(FILM) - 4000), FILM[4000:], end(2, FILM)),
        {"film": FILM},
        {1: "ok", 2: "ok"},
    ),
    "two files in turns": (
        say(HELLO, large(2, "film", len(FILM)), large(3, "letters", len(LETTERS)))
        + say(Part(2, 0, 100), FILM[:100], Part(3, 0, 7), LETTERS[:7], Do(4, "ping"))
        + say(Part(2, 100, len(FILM) - 100), FILM[100:], Part(3, 7, 293), LETTERS[7:])
        + say(end(3, LETTERS))
        + file(5, "small", b"in between")
        + say(end(2, FILM)),
        {"film": FILM, "letters": LETTERS, "small": b"in between"},
        {1: "ok", 2: "ok", 3: "ok", 4: "ok", 5: "ok"},
    ),
    "a body that looks like packets": (
        say(HELLO)
        + file(2, "a", say(Do(3, "ping"), Bye(all=True)))
        + say(large(4, "b", 60), Part(4, 0, 60), say(Do(5, "ping")).ljust(60, b"\n"))
        + say(end(4, say(Do(5, "ping")).ljust(60, b"\n"))),
        {"a": say(Do(3, "ping"), Bye(all=True)), "b": say(Do(5, "ping")).ljust(60, b"\n")},
        {1: "ok", 2: "ok", 4: "ok"},
    ),
    "giving up": (
        say(HELLO, large(2, "film", len(FILM)), Part(2, 0, 400), FILM[:400], Cancel(2))
        + say(Do(3, "ping")),
        {},
        {1: "ok", 2: "cancelled", 3: "ok"},
    ),
    "giving up before the first byte": (
        say(HELLO, large(2, "film", len(FILM)), Cancel(2, "why"), Do(3, "ping")),
        {},
        {1: "ok", 2: "cancelled", 3: "ok"},
    ),
    "messages and lists": (
        say(HELLO, Do(2, "recv_message", {}, 12), "Grüße!\n☃".encode(), Do(3, "pending_requests"))
        + say(Do(4, "history", {"limit": 5}), Do(5, "status"), Do(6, "nothing")),
        {},
        {1: "ok", 2: "ok", 3: "ok", 4: "ok", 5: "forbidden", 6: "unknown-command"},
    ),
    "watching": (
        say(HELLO, Do(2, "watch")) + file(3, "a", b"x") + say(Cancel(2), Do(4, "ping")),
        {"a": b"x"},
        {1: "ok", 2: "cancelled", 3: "ok", 4: "ok"},
    ),
    "refused files": (
        say(HELLO)
        + file(2, "../up", say(Do(9, "ping")))
        + file(3, "", b"x")
        + file(4, "good", b"x", blake3="af" * 32)
        + file(5, "good", b"y"),
        {"good": b"y"},
        {1: "ok", 2: "bad-name", 3: "bad-name", 4: "digest-mismatch", 5: "ok"},
    ),
    "a refused part": (
        say(HELLO, large(2, "film", len(FILM)), Part(2, 5, 30), say(Do(8, "ping")).ljust(30))
        + say(Part(2, 35, 9), b"x" * 9, end(2, FILM), Do(3, "ping")),
        {},
        {1: "ok", 2: "bad-offset", 3: "ok"},
    ),
    "ended too early": (
        say(HELLO, large(2, "film", len(FILM)), Part(2, 0, 9), FILM[:9], end(2, FILM))
        + say(Do(3, "ping")),
        {},
        {1: "ok", 2: "short-body", 3: "ok"},
    ),
    "another digest": (
        say(HELLO, large(2, "film", 9), Part(2, 0, 9), FILM[:9], End(2, 9, "af" * 32))
        + say(Do(3, "ping")),
        {},
        {1: "ok", 2: "digest-mismatch", 3: "ok"},
    ),
}
