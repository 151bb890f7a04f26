"""What somebody might send who is mistaken, broken or hostile.

Two sources: conversations that are right, with something done to them, and
sequences put together from the grammar with fields that are nearly right.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable

from blake3 import blake3

from lanxfer.testing import bytewise, pieces, whole

HELLO = b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": "x"}\n'
SESSION = "2f1e7a0c-1111-4111-8111-{:012x}"
FILE = "9b0d44f1-2222-4222-8222-{:012x}"

_NUMBERS = (0, 1, 2, 3, 5, 255, 256, 65536, 262144, 262145, 2**31, 2**32, 2**63 - 1, 2**63, 2**64)
_ODD_NUMBERS = ("-1", "-0", "00", "1.0", "1e3", "0x10", "true", "null", '"1"', "[]", "{}")
_NAMES = (
    "a.txt", "b/c.txt", "", ".", "..", "../x", "/etc/passwd", "a/../../b", "C:\\x", "con",
    "x" * 255, "x" * 256, "d/" * 33 + "f", "\x00", "a\nb", "\u202etxt.exe", "e\u0301", "~/x",
    "aux.txt", ".hidden", "{cwd}/q", "{documents}/q", ".lanxfer-staging/x", "a//b", "a/",
    "\ud800", "☃",
)  # fmt: skip
_COMMANDS = (
    "hello", "ping", "recv_file", "recv_file", "recv_files", "recv_message", "send_file",
    "send_message", "pending_requests", "history", "cancel_request", "pause", "resume", "watch",
    "status", "recv_slot", "nothing", "my.own", "__class__", "",
)  # fmt: skip
_VERBS = ("do", "do", "do", "ok", "error", "go", "window", "part", "end", "cancel", "event", "bye")
_CODES = ("cancelled", "disk-full", "x", "busy", "", "A B")
_SPLICES = (
    b"\n", b"\r\n", b"\x00", b"\xff", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\ud800",
    b"'", b"(", b")", b"True", b"None", b"nan", b"1e999", b"[" * 9, b"{" * 40, b" " * 300,
    b"\x16\x03", b'"body": 5', b'"do": 1, ', b"b'x'", b"\xe2\x98\x83", b"\xc3", b"-", b"0",
    b"99999999999999999999",
)  # fmt: skip


def _digest(data: bytes) -> str:
    return blake3(data).hexdigest()


def _line(packet: dict[str, object], body: bytes = b"") -> bytes:
    if body:
        packet = {**packet, "body": len(body)}
    return json.dumps(packet).encode() + b"\n" + body


def _conversations() -> list[list[bytes]]:
    """Right conversations of the native dialect, a packet with its body at a time."""
    small = b"hello"
    large = bytes(range(256)) * 4
    put = {"do": 2, "name": "recv_file", "path": "a/1.txt", "size": 5, "mtime_ns": 17 * 10**17}
    stream = {"do": 3, "name": "recv_file", "path": "film.mkv", "size": len(large), "mtime_ns": 1}
    link = {"do": 2, "name": "recv_file", "path": "l", "size": 0, "kind": "link", "target": "a"}
    folder = {"do": 2, "name": "recv_file", "path": "f/g", "size": 0, "kind": "folder"}
    ends = {"end": 3, "size": len(large), "blake3": _digest(large)}
    lines = [["p/1", 5, None, _digest(small), False], ["p/2", 0, 5, _digest(b""), True]]
    manifest = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    pack = {"do": 4, "name": "recv_files", "files": 2, "manifest": len(manifest), "group": "g"}
    gives_up = {"cancel": 3, "code": "cancelled", "reason": "no"}
    return [
        [HELLO, _line({**put, "blake3": _digest(small)}, small), _line({"bye": "requests"})],
        [HELLO, _line(pack, manifest + small), _line({"bye": "all"})],
        [
            HELLO,
            _line(stream),
            _line({"part": 3, "offset": 0}, large[:700]),
            _line({"part": 3, "offset": 700}, large[700:]),
            _line(ends),
        ],
        [HELLO, _line(stream), _line({"part": 3, "offset": 0}, large[:99]), _line(gives_up)],
        [HELLO, _line(stream), _line({"part": 3, "offset": 0}, large[:99])],
        [HELLO, _line(folder), _line({**link, "do": 3})],
        [HELLO, _line({"do": 5, "name": "recv_message"}, "Grüße".encode())],
        [HELLO, _line({"do": 6, "name": "pending_requests"}), _line({"do": 7, "name": "status"})],
        [HELLO, _line({"do": 7, "name": "watch"}), _line({**gives_up, "cancel": 7})],
        [HELLO, _line({"do": 8, "name": "history", "limit": 3, "before": "0000"})],
        [HELLO, _line({"do": 9, "name": "cancel_request", "id": "00000001"})],
        [HELLO, _line({"do": 9, "name": "pause", "id": "00000001"})],
        [HELLO, _line({"do": 4, "name": "send_file", "path": "/nowhere", "peer": "nas"})],
    ]


def _literals() -> list[list[bytes]]:
    base = {"rt_id": "r1", "local_ip": "10.0.0.2"}
    requests: list[dict[str, object]] = [
        {"method_name": "recv_file", "file_path": "{cwd}/data.bin", "total_bytes": 40, **base},
        {"method_name": "recv_file", "file_path": "s.bin", "total_bytes": 9, "series_file": True},
        {"method_name": "recv_message", "message": "Grüße", "total_bytes": 5, **base},
        {"method_name": "send_file", "file_path": "x", "remote_ip": "10.0.0.3", **base},
        {"method_name": "send_message", "message": "x", "remote_ip": "10.0.0.3", **base},
        {"method_name": "pending_requests", "a_date": (2024, 1, 2, 3, 4, 5), **base},
        {"method_name": "cancel_request", "rt_id_to_cancel": "r1", **base},
    ]
    return [[repr(each).encode() + b"\n", b"z" * 40] for each in requests]


NATIVE = _conversations()
LITERAL = _literals()

_ANSWERS = [
    [b'{"ok": 1, "speaks": "lanxfer/1", "device": "nas", "limits": {"inline": 262144}}\n'],
    [b'{"go": 2, "window": 8388608, "have": [], "transfer": "5f1c09aa"}\n',
     b'{"window": 2, "bytes": 1000}\n',
     b'{"ok": 2, "stored": "x", "size": 600, "blake3": "' + b"0" * 64 + b'"}\n'],
    [b'{"go": 2, "window": 100, "have": [[600, "%s"], [3, "%s"]]}\n' % (b"1" * 64, b"2" * 64),
     b'{"error": 2, "code": "disk-full", "reason": "no space", "retry": true}\n'],
    [b'{"event": 2, "transfer": {"id": "x"}}\n', b'{"ok": 2, "rows": 1, "body": 3}\n{}\n'],
    [b'{"error": 0, "code": "bad-header", "reason": "x", "retry": false}\n'],
]  # fmt: skip
_LITERAL_ANSWERS = [
    [b"{'method_name': 'recv_file', 'transferred_bytes': 0, 'total_bytes': 600}\n",
     b"{'method_name': 'recv_file', 'transferred_bytes': 600, 'total_bytes': 600}\n"],
    [b"{'error': 'The file was already transferred.', 'transferred_bytes': 600}\n"],
    [b"{'transferred_bytes': 601}\n", b"{'transferred_bytes': -1}\n"],
]  # fmt: skip
_TICKET_ANSWERS = [[b"ok 600 3610a686 " + b"0" * 64 + b"\n"], [b"error forbidden no\n"]]


def answers(dialect: str) -> list[list[bytes]]:
    """What a client hears in that dialect."""
    return {"native": _ANSWERS, "literal": _LITERAL_ANSWERS, "ticket": _TICKET_ANSWERS}[dialect]


# Something done to what is right.


def mutate(rng: random.Random, packets: list[bytes]) -> bytes:
    """A right conversation with one to four things wrong, some of them in the order."""
    kept = list(packets)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(kept))
        rng.choice(_MUTATIONS)(rng, kept, at)
        if not kept:
            return b"\n"
    return b"".join(kept)


def _flip(rng: random.Random, kept: list[bytes], at: int) -> None:
    data = bytearray(kept[at])
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    kept[at] = bytes(data)


def _cut(rng: random.Random, kept: list[bytes], at: int) -> None:
    kept[at] = kept[at][: rng.randrange(len(kept[at]) + 1)]


def _hole(rng: random.Random, kept: list[bytes], at: int) -> None:
    begin = rng.randrange(len(kept[at]) + 1)
    kept[at] = kept[at][:begin] + kept[at][begin + rng.randrange(1, 20) :]


def _splice(rng: random.Random, kept: list[bytes], at: int) -> None:
    begin = rng.randrange(len(kept[at]) + 1)
    kept[at] = kept[at][:begin] + rng.choice(_SPLICES) + kept[at][begin:]


def _number(rng: random.Random, kept: list[bytes], at: int) -> None:
    """Another number in the place of one that is there."""
    data = kept[at]
    places = [i for i, byte in enumerate(data[:300]) if 48 <= byte <= 57]
    if places:
        begin = end = rng.choice(places)
        while end < len(data) and 48 <= data[end] <= 57:
            end += 1
        kept[at] = data[:begin] + _any_number(rng).encode() + data[end:]


def _again(rng: random.Random, kept: list[bytes], at: int) -> None:
    kept.insert(at, kept[at])


def _drop(rng: random.Random, kept: list[bytes], at: int) -> None:
    del kept[at]


def _swap(rng: random.Random, kept: list[bytes], at: int) -> None:
    other = rng.randrange(len(kept))
    kept[at], kept[other] = kept[other], kept[at]


def _noise(rng: random.Random, kept: list[bytes], at: int) -> None:
    kept.insert(at, rng.randbytes(rng.randrange(1, 60)))


def _flood(rng: random.Random, kept: list[bytes], at: int) -> None:
    """Far too much of something, in a tenth of the cases that get here."""
    if rng.random() < 0.1:
        begin = rng.choice((0, rng.randrange(len(kept[at]) + 1)))
        much = rng.choice(_FLOODS) * rng.choice((5_000, 20_000))
        kept[at] = kept[at][:begin] + much[:70_000] + kept[at][begin:]


_FLOODS = (b"\n", b"[", b"{", b"x", b'"', b"\\", b"9", b"\x00", b" ", b'{"a":', b"(1,", b"\r\n")
_MUTATIONS: tuple[Callable[[random.Random, list[bytes], int], None], ...] = (
    _flip, _flip, _cut, _hole, _splice, _splice, _number, _number, _again, _drop, _swap, _noise,
    _flood,
)  # fmt: skip


# From the grammar.


def _any_number(rng: random.Random) -> str:
    return rng.choice(_ODD_NUMBERS) if rng.random() < 0.2 else str(rng.choice(_NUMBERS))


def _field(rng: random.Random, name: str) -> str:
    choice = rng.random()
    if choice < 0.06:
        return rng.choice(_ODD_NUMBERS)
    match name:
        case "path" | "target":
            return json.dumps(rng.choice(_NAMES))
        case "blake3":
            return json.dumps(rng.choice((_digest(b"hello"), _digest(b""), "0" * 63, "A" * 64, "")))
        case "kind":
            return json.dumps(rng.choice(("file", "folder", "link", "message", "x")))
        case "conflict":
            return json.dumps(rng.choice(("rename", "skip", "overwrite", "refuse", "series", "y")))
        case "have":
            return rng.choice(("[]", '[[5, "00"]]', f'[[5, "{"0" * 64}"]]', "[[]]", "[5]", "{}"))
        case "code":
            return json.dumps(rng.choice(_CODES))
        case "reason" | "id" | "before" | "request" | "group" | "text":
            return json.dumps(rng.choice(_NAMES))
        case "speaks":
            return rng.choice(('["lanxfer/1"]', '["lanxfer/2"]', "[]", '"lanxfer/1"', "[1]"))
        case "retry" | "executable":
            return rng.choice(("true", "false", "1"))
        case _:
            return _any_number(rng)


_FIELDS = {
    "do": ("path", "size", "mtime_ns", "blake3", "kind", "target", "executable", "conflict",
           "group", "id", "limit", "before", "speaks", "text", "request"),
    "ok": ("rows", "stored", "size", "blake3"),
    "error": ("code", "reason", "retry"),
    "go": ("window", "have"),
    "window": ("bytes",),
    "part": ("offset",),
    "end": ("size", "blake3"),
    "cancel": ("code", "reason"),
    "event": ("transfer",),
    "bye": (),
}  # fmt: skip


def packet(rng: random.Random, number: int) -> bytes:
    """One packet that may be right; ``number`` is the next request's."""
    verb = rng.choice(_VERBS)
    if verb == "bye":
        return b'{"bye": "%s"}\n' % rng.choice((b"all", b"requests", b"requests", b"x"))
    id = number if verb == "do" else rng.randrange(1, number + 2)
    if rng.random() < 0.05:
        id = rng.choice(_NUMBERS)
    parts = [f'"{verb}": {id}']
    if verb == "do":
        parts.append(f'"name": {json.dumps(rng.choice(_COMMANDS))}')
    known = _FIELDS[verb]
    wanted = [name for name in known if rng.random() < (0.45 if verb == "do" else 0.93)]
    parts += [f'"{name}": {_field(rng, name)}' for name in wanted]
    body = b""
    if rng.random() < (0.3 if verb == "do" else 1.0 if verb == "part" else 0.02):
        body = b"hello" if rng.random() < 0.6 else rng.randbytes(rng.randrange(1, 80))
        parts.append(f'"body": {len(body) if rng.random() < 0.95 else _any_number(rng)}')
    return ("{" + ", ".join(parts) + "}\n").encode("utf-8", "surrogatepass") + body


def _offer(rng: random.Random, number: int) -> bytes:
    """A small file that is right but for its name, and perhaps one thing more."""
    request: dict[str, object] = {
        "do": number,
        "name": "recv_file",
        "path": rng.choice(_NAMES),
        "size": 5,
        "blake3": _digest(b"hello"),
    }
    if rng.random() < 0.3:
        request[rng.choice(_FIELDS["do"])] = rng.choice((*_NUMBERS, *_NAMES))
    return _line(request, b"hello")


def sequence(rng: random.Random) -> bytes:
    """A conversation put together from the grammar."""
    found = [HELLO] if rng.random() < 0.95 else []
    for number in range(2, rng.randrange(3, 9)):
        found.append((_offer if rng.random() < 0.25 else packet)(rng, number))
    return b"".join(found)


def literal(rng: random.Random) -> bytes:
    """A request of the literal dialect that may be right."""
    method = rng.choice(("recv_file", "recv_file", "recv_message", "cancel_request", "__init__"))
    request = {
        "method_name": method,
        rng.choice(("file_path", "message", "rt_id_to_cancel")): rng.choice(_NAMES),
        "total_bytes": rng.choice((*_NUMBERS, -1, 1.5, None, True, "5")),
        rng.choice(("series_file", "x_date", "error", "rt_id")): rng.choice(_NAMES),
    }
    return repr(request).encode("utf-8", "surrogatepass") + b"\n" + b"z" * rng.randrange(0, 50)


def ticket(rng: random.Random, number: int) -> bytes:
    """A ticket and its file; the ids of slot ``number`` or others."""
    session = SESSION.format(number if rng.random() < 0.7 else 0)
    file = FILE.format(number if rng.random() < 0.7 else 1)
    size = 5 if rng.random() < 0.7 else _any_number(rng)
    return f"{session} {file} {size}\n".encode() + b"hello"


def split(rng: random.Random, data: bytes) -> Iterable[bytes]:
    """``data`` as it may arrive."""
    choice = rng.random()
    if choice < 0.6 or len(data) > 20_000:
        return whole(data)
    if choice < 0.75 and len(data) < 400:
        return bytewise(data)
    return pieces(rng.randrange(1, 30), rng.randrange(1, 300))(data)
