"""Every recording of real ae peers against a real service and a real sender, over loopback.

The service plays the recorded server and a socket the client; then our sender
plays the recorded client and a socket the server.  What sockets and files show
beyond the lines of ``test_sessions_literal`` is compared here: where silence is
kept, when the connection ends, and what lies in the inbox afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define, frozen
from interop.children import new_address
from interop.lanxfer_peer import Lanxfer, Refused, Served
from interop.scripted import TIMEOUT, Listener, Wire, ramp7
from test_sessions_literal import DEVIATIONS as OF_LINES

from lanxfer.wire.literal import parse_literal

VECTORS = Path(__file__).parent / "vectors" / "ae"

# Where a service says or does something else than a real peer did, and why: what
# the lines alone show already, and what shows only with files, sockets and
# several connections.  An entry that is no deviation any more fails.
DEVIATIONS = {
    **OF_LINES,
    ("cancel_running_recv", "c1"): "a cancel counts at once, not after the next block",
    ("line_tolerances", "c3"): "a line begins with its brace, which tells the dialect",
    ("recv_resume_rejected", "c1"): "a file under its name is complete, another gets another name",
    ("recv_tilde_absolute_dotdot", "c2"): "no path has dots that lead upwards",
    ("send_missing_file", "control"): "what is wrong with a file is said in words of our own",
    ("send_resume_after_interruption", "control"): "a part that is refused is sent anew",
}

UNFINISHED = "what is unfinished has no name in the inbox"
FILES: dict[str, tuple[str, dict[str, int]]] = {
    "cancel_running_recv": ("what was cancelled is gone", {}),
    "recv_interrupt_then_retry": (UNFINISHED, {}),
    "recv_overlong_body_within_block": ("no more than was declared is stored", {"over1.bin": 20}),
    "recv_placeholders_known": (
        "placeholders are known at the beginning of a path only",
        {"Documents/ph_doc.txt": 10, "ph_cwd.txt": 10, "x_{app_name}_y.txt": 10},
    ),
    "recv_placeholders_unknown_fallback": (
        "{documents} is always known",
        {"bare.txt": 10, "deep.txt": 10, "dl.txt": 10, "Documents/docs.txt": 10, "unk.txt": 10}
        | {"usr.txt": 10},
    ),
    "recv_short_body_fin": (UNFINISHED, {}),
    "recv_tilde_absolute_dotdot": ("a peer gets at one folder", {"abs.txt": 10, "tilde.txt": 10}),
}
"""Case to reason, and to the files that are in the inbox instead, with their lengths."""

PARTS = {"recv_interrupt_then_retry": [50000], "recv_short_body_fin": [30000]}
"""The lengths of what is kept to be continued."""

SILENCE = 0.3
"""Seconds that stand for a recorded silence; the recordings have up to three."""


@frozen
class Vector:
    case: str
    conformance: str
    usable_for: tuple[str, ...]
    events: tuple[dict[str, Any], ...]
    setup: dict[str, Any]
    files_after: tuple[dict[str, Any], ...]
    expect: dict[str, Any]

    def of(self, conn: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["conn"] == conn]

    @property
    def sends(self) -> bool:
        """Whether the recorded server is one that sends, to a peer of its own."""
        return self.case.startswith("send_")


def load(case: str, **known: str) -> Vector:
    """One recording, with ``known`` for what it leaves open, and its examples for the rest."""
    raw = json.loads((VECTORS / f"{case}.json").read_text("utf-8"))
    names = {name: str(each["example"]) for name, each in raw["variables"].items()} | known
    addresses = {
        "127.0.0.82": "127.0.0.1",
        "127.0.0.83": known.get("PEER", "127.0.0.83"),
        "127.0.0.99": known.get("NOBODY", "127.0.0.99"),
    }

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            for name, each in names.items():
                value = value.replace("${" + name + "}", each)
            for recorded, ours in addresses.items():
                value = value.replace(recorded, ours)
            return value
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        return [fill(each) for each in value] if isinstance(value, list) else value

    for event in raw["events"]:
        if "parts" in event:
            event["text"] = "".join(
                each.get("text", "") + each.get("repeat", "") * each.get("count", 0)
                for each in event.pop("parts")
            )
            event.setdefault("compare", "dict")
    return Vector(
        raw["case"],
        raw["conformance"],
        tuple(raw["usable_for"]),
        tuple(fill(raw["events"])),
        raw["setup"],
        tuple(raw.get("files_after", ())),
        raw.get("expect") or {},
    )


CASES = sorted(each.stem for each in VECTORS.glob("*.json"))


def parse(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n"), f"no line: {line[-80:]!r}"
    return parse_literal(line[:-1], limit=4 * 2**20, depth=12, values=2**20)


def bare(path: str) -> str:
    return path.rpartition("/")[2]


def blurred(value: Any) -> Any:
    """Without the wording of errors, and without the folder a series went to."""
    if isinstance(value, dict):
        found = {key: blurred(each) for key, each in value.items()}
        if "error" in found:
            found["error"] = "…"
        if "series_file_name" in found:
            found["series_file_name"] = bare(found["series_file_name"])
        return found
    return [blurred(each) for each in value] if isinstance(value, list) else value


def same(line: bytes, event: dict[str, Any], vector: Vector) -> bool:
    """Whether ``line`` is what ``event`` asks for, in the way its ``compare`` says."""
    if not line:
        return False
    ours, theirs = parse(line), parse(event["text"].encode())
    if event["compare"] == "has_error":
        wanted = vector.expect.get("error_contains", "")
        return "error" in ours and (vector.conformance == "defect" or wanted in ours["error"])
    return bool(blurred(ours) == blurred(theirs))


def body(event: dict[str, Any]) -> bytes:
    found = event["body"]
    data = ramp7(found["offset"], found["length"], found["seed"])
    assert hashlib.sha256(data).hexdigest() == found["sha256"]
    return data


Send = Callable[[Wire, bytes], None]


@define(eq=False)
class Replay:
    """Plays the client side of a recording against a service."""

    vector: Vector
    served: Served
    send: Send
    eager: bool = False
    fits: dict[str, bool] = Factory(dict)
    notes: dict[str, str] = Factory(dict)
    _wires: dict[str, Wire] = Factory(dict)
    _said: set[int] = Factory(set)
    _closing: set[str] = Factory(set)

    def run(self) -> dict[str, bool]:
        """Whether each connection went as recorded."""
        events = [each for each in enumerate(self.vector.events) if each[1]["conn"] != "peer"]
        for at, event in events:
            conn = event["conn"]
            if event.get("event") == "connect":
                # Where the table says that something will not come, it is not waited for long.
                seconds = 0.5 if (self.vector.case, conn) in DEVIATIONS else TIMEOUT
                self._wires[conn] = Wire.to(self.served.address, self.served.port, timeout=seconds)
                self.fits[conn] = True
            elif event["from"] == "server":
                self._heard(conn, event)
            elif event["from"] == "nobody":
                required = self.vector.expect.get("silence_required", True)
                if required and not self._wires[conn].silent(SILENCE):
                    self._differs(conn, "silence", "something")
            else:
                self._say(at, event)
        for wire in self._wires.values():
            wire.close()
        return self.fits

    def _heard(self, conn: str, event: dict[str, Any]) -> None:
        wire = self._wires[conn]
        wanted = event.get("event") or event["text"]
        if wire.late:
            return
        try:
            if wanted != "close":
                line = wire.line()
                if not same(line, event, self.vector):
                    self._differs(conn, wanted, line)
            elif rest := wire.rest():
                self._differs(conn, wanted, rest)
        except TimeoutError:
            self._differs(conn, wanted, "nothing")

    def _differs(self, conn: str, wanted: object, came: object) -> None:
        self.fits[conn] = False
        self.notes.setdefault(conn, f"{came!r} instead of {wanted!r}")

    def _say(self, at: int, event: dict[str, Any]) -> None:
        wire = self._wires[event["conn"]]
        if at in self._said:
            return
        if "event" in event:
            # What a server still has to say after a close, only a half-close lets us hear.
            wire.half_close()
            if wire.late:
                wire.rest()
            return
        data = self._bytes(event)
        if self.eager:
            for number, later in self._following(at):
                data += self._bytes(later)
                self._said.add(number)
        self.send(wire, data)

    def _following(self, at: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """What the client says next on this connection, as long as nothing else happens."""
        conn = self.vector.events[at]["conn"]
        for number, event in enumerate(self.vector.events[at + 1 :], at + 1):
            if event["conn"] != conn or "event" in event:
                return
            if event["from"] == "client":
                yield number, event

    def _bytes(self, event: dict[str, Any]) -> bytes:
        return body(event) if "body" in event else str(event["text"]).encode()


@define(eq=False)
class Receiver:
    """Plays the server side of a recorded sending to whoever connects."""

    vector: Vector
    send: Send
    requests: list[dict[str, Any]] = Factory(list)
    recorded: list[dict[str, Any]] = Factory(list)
    bodies: list[bytes] = Factory(list)

    def play(self, wire: Wire) -> None:
        events = self.vector.of("peer") or self.vector.of("c1")
        together = b""
        for event, following in pairwise([*events, {}]):
            match event:
                case {"from": "client", "text": text}:
                    self.requests.append(parse(wire.line()))
                    self.recorded.append(parse(text.encode()))
                case {"from": "client", "body": wanted}:
                    self.bodies.append(wire.read(wanted["length"]))
                case {"from": "client", "event": "close" | "half_close"}:
                    assert wire.rest() == b"", "more came than was asked for"
                case {"from": "server", "text": text} if _more_of_it(following):
                    # Lines that come together mean something else than the same lines apart.
                    together += text.encode()
                case {"from": "server", "text": text} if together:
                    wire.send(together + text.encode())
                case {"from": "server", "text": text}:
                    self.send(wire, text.encode())
                case {"from": "server", "event": "close"}:
                    return

    def check(self) -> None:
        """Each request was as recorded, but for the name and our own address."""
        for ours, theirs in zip(self.requests, self.recorded, strict=True):
            theirs.setdefault("transferred_bytes", 0)  # the client function leaves it to its caller
            assert set(ours) == set(theirs)
            for key in ("local_ip", "rt_id"):
                ours.pop(key), theirs.pop(key)
            for each in (ours, theirs):
                each["file_path"] = bare(each.get("file_path", ""))
            assert ours == theirs
        wanted = [body(each) for each in self.vector.of("peer") if "body" in each]
        if self.vector.conformance != "defect":
            assert self.bodies == wanted


def _more_of_it(event: dict[str, Any]) -> bool:
    return event.get("from") == "server" and "text" in event


def anew(wire: Wire) -> bool:
    """A receiver that takes what is sent as one of a series, and refuses it otherwise."""
    request = parse(wire.line())
    if "series_file" not in request:
        # The reset that closing means here was faster than the refusal before.
        wire.send(b"{'transferred_bytes': 50000}\n{'error': 'destination file exists already'}\n")
        return True
    wire.send(b"{'transferred_bytes': 0, 'series_file_name': '/srv/data 01.bin'}\n")
    assert wire.rest() == ramp7(0, request["total_bytes"])
    wire.send(b"{'transferred_bytes': %d}\n" % request["total_bytes"])
    return False


@pytest.fixture(scope="module")
def lanxfer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanxfer]:
    host = Lanxfer(tmp_path_factory.mktemp("vectors"))
    host.ask("answer_timeout", seconds=1.0)
    try:
        yield host
    finally:
        host.end()


def whole(wire: Wire, data: bytes) -> None:
    wire.send(data)


def trickled(wire: Wire, data: bytes) -> None:
    wire.trickle(data)


WAYS: dict[str, tuple[Send, bool]] = {
    "by line": (whole, False),
    "byte by byte": (trickled, False),
    "in one piece": (whole, True),
}


def prepare(case: str, base: Path, served: Served) -> Vector:
    """The recording for this service, with the files it begins with."""
    here = {"SEND_DIR": base / "send", "SEND_HOME": base / "home", "RECV_ROOT": base / "root"}
    peer = new_address()
    known = {name: str(path) for name, path in here.items()}
    vector = load(case, PEER=peer, NOBODY=new_address(), **known)
    folders = {"RECV_DIR": served.folder, "RECV_HOME": served.folder, **here}
    for file in vector.setup["files_before"]:
        variable, _, path = file["path"].removeprefix("${").partition("}/")
        target = folders[variable] / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(ramp7(0, file["length"], file["content"]["seed"]))
        assert hashlib.sha256(target.read_bytes()).hexdigest() == file["sha256"]
    return vector


def relative(recorded: str) -> str:
    return recorded.partition("}/")[2]


class ServerTests:
    """Our service against clients as recorded."""

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("case", CASES)
    def test_as_recorded(self, case: str, way: str, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """Lines, silence, ends and files are as recorded, unless a table says why not."""
        # covers: J01 J02 J04 J20 J21 J22
        served = lanxfer.service()
        vector = prepare(case, tmp_path, served)
        send, eager = WAYS[way]
        receiver, listener = Receiver(vector, send), None
        if vector.of("peer"):
            peer = vector.of("peer")[1]["text"]
            parts: list[Callable[[Wire], bool | None]] = [receiver.play]
            if case == "send_resume_after_interruption":
                parts.append(anew)
            listener = Listener(parse(peer.encode())["remote_ip"], *parts)
        (tmp_path / "send").mkdir(exist_ok=True)
        lanxfer.ask("chdir", path=str(tmp_path / "send"))
        replay = Replay(vector, served, send, eager)
        fits = replay.run()
        if listener is not None:
            listener.join()
            receiver.check()
        served.stop()
        for conn, as_recorded in fits.items():
            reason = DEVIATIONS.get((case, conn))
            note = replay.notes.get(conn, "as recorded")
            assert as_recorded is (reason is None), f"{conn}: {reason}: {note}"
        if not vector.sends:
            self.check_files(vector, served, tmp_path)

    def check_files(self, vector: Vector, served: Served, base: Path) -> None:
        """Compare the inbox with ``files_after``, and see that nothing lies outside."""
        there = {path: len(data) for path, data in served.files().items()}
        recorded = {relative(each["path"]): each["length"] for each in vector.files_after}
        reason, instead = FILES.get(vector.case, ("", recorded))
        assert (recorded != instead) is bool(reason)
        assert there == instead, reason
        digests = {relative(each["path"]): each["sha256"] for each in vector.files_after}
        for path, data in served.files().items():
            if there[path] == recorded.get(path):
                assert hashlib.sha256(data).hexdigest() == digests[path]
        assert served.unfinished() == PARTS.get(vector.case, [])
        assert [each.name for each in base.rglob("*")] == ["send"]
        assert [each.name for each in served.inbox.iterdir() if each.name[0] != "."] in (
            [],
            [served.folder.name],
        )

    def test_the_tables_are_about_recordings(self) -> None:
        """Every deviation names a connection of a recording."""
        conns = {(each, event["conn"]) for each in CASES for event in load(each).events}
        assert set(DEVIATIONS) <= conns
        assert set(FILES) <= set(CASES)


OUTCOMES: dict[str, str | dict[str, Any]] = {
    "msg_basic": {"size": 5},
    "msg_unicode_quotes_newlines": {"size": 44},
    "send_already_complete": "exists",
    "send_fresh": {"stored": "data.bin", "size": 40000, "resumed_from": 0},
    "send_from_documents_unicode": {"stored": "Müller's Bericht ☃.txt", "size": 1000},
    "send_message_ok": {"size": 14},
    "send_message_peer_silent_timeout": "unconfirmed",
    "send_series_when_same_ip": {"stored": "data 01.bin", "size": 100},
    "send_to_minimal_receiver": "unconfirmed",
    "send_to_receiver_closing_without_answer": "connection-lost",
    "send_to_receiver_final_error_ignored": "unknown-reason",
    "send_to_receiver_two_lines": "bad-header",
    "send_to_receiver_with_offset": "unconfirmed",
    "send_to_receiver_without_offset": "bad-header",
}
"""What our sender makes of each recorded receiver: a receipt, or a code."""


class ClientTests:
    """Our sender against receivers as recorded."""

    @pytest.mark.parametrize("way", ["by line", "byte by byte"])
    @pytest.mark.parametrize("case", OUTCOMES)
    def test_as_recorded(self, case: str, way: str, lanxfer: Lanxfer, tmp_path: Path) -> None:
        """The request and the body are as recorded; the outcome is what the receiver said."""
        # covers: J13
        served = lanxfer.service()
        vector = prepare(case, tmp_path, served)
        first = (vector.of("peer") or vector.of("c1"))[1]
        said = parse(first["text"].encode())
        receiver = Receiver(vector, WAYS[way][0])
        listener = Listener(said["remote_ip"], receiver.play)
        if said["method_name"] == "recv_message":
            what = {"text": said["message"]}
        else:
            (path,) = (each for each in tmp_path.rglob("*") if each.is_file())
            what = {"path": str(path)}
        if "series_file" in said:
            what["conflict"] = "series"
        wanted = OUTCOMES[case]
        if isinstance(wanted, str):
            with pytest.raises(Refused) as caught:
                lanxfer.send(said["remote_ip"], **what)
            assert caught.value.code == wanted
        else:
            receipt = lanxfer.send(said["remote_ip"], **what)
            assert {key: receipt[key] for key in wanted} == wanted
        listener.join()
        receiver.check()
        served.stop()

    def test_every_recording_for_a_client_is_used(self) -> None:
        """The table has each recording that is usable for a client."""
        usable = {each for each in CASES if "client" in load(each).usable_for}
        assert set(OUTCOMES) == usable
