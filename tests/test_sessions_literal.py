"""The literal conversation: both roles against what real ae peers said, and against nonsense."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import Factory, define, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.commands.polled import Entry, Polled
from lanxfer.errors import (
    BadHeader,
    BadName,
    BadOffset,
    Cancelled,
    Forbidden,
    HeaderTooLong,
    LanxferError,
    NotFound,
    UnknownCommand,
    from_wire,
)
from lanxfer.sessions import Session
from lanxfer.sessions.literal import LIST_MAX, LiteralSession, request_id
from lanxfer.wire import limits
from lanxfer.wire.literal import format_literal, parse_literal
from lanxfer.wire.packets import (
    Bye,
    Cancel,
    Do,
    End,
    Event,
    Failed,
    Go,
    Ok,
    Packet,
    Part,
    Window,
)

VECTORS = Path(__file__).parent / "vectors" / "ae"
WIDE = limits.MIB

# Where lanxfer says something else than a real peer did, and why.  Everything
# else in the recordings is compared; an entry that is no deviation any more
# fails, too.
ANSWERED = "a malformed request is answered with an error instead of closing silently"
LOGS = "the list has no log entries, and a request that failed is listed with its error"
COMPLETED = "every request that ended is listed as such"
DEVIATIONS = {
    ("bad_missing_method_silent_close", "c1"): ANSWERED,
    ("bad_no_newline", "c1"): "a line that does not end is none, and is not answered",
    ("bad_no_newline", "c2"): "a line that does not end is none, and is not answered",
    ("bad_not_a_dict_silent_close", "c1"): ANSWERED,
    ("bad_not_a_dict_silent_close", "c2"): ANSWERED,
    ("bad_not_a_dict_silent_close", "c3"): ANSWERED,
    ("bad_not_a_dict_silent_close", "c4"): ANSWERED,
    ("bad_not_a_dict_silent_close", "c5"): LOGS,
    ("bad_unknown_method", "c2"): LOGS,
    ("cancel_finished_listed", "c2"): "what is finished cannot be cancelled",
    ("cancel_finished_listed", "c3"): "what is finished cannot be cancelled",
    ("cancel_running_recv", "c3"): "a cancel counts at once, not after the next block",
    ("line_tolerances", "c4"): "comments are refused",
    ("line_tolerances", "c5"): "a key given twice is refused",
    ("long_line_accepted", "c1"): "a line has at most 8 KiB",
    ("msg_datetime_bad_type_silent_close", "c1"): ANSWERED,
    ("msg_datetime_bad_type_silent_close", "c2"): ANSWERED,
    ("msg_datetime_bad_type_silent_close", "c3"): ANSWERED,
    ("msg_datetime_bad_type_silent_close", "c4"): ANSWERED,
    ("msg_datetime_keys", "c1"): "the seventh number is microseconds, not the weekday",
    ("msg_empty", "c2"): COMPLETED,
    ("msg_empty", "c3"): COMPLETED,
    ("pending_debug_logs", "c2"): LOGS,
    ("pending_running_completed_gone", "c2"): "progress is in bytes, not in blocks",
    ("pending_running_completed_gone", "c3"): "progress is in bytes, not in blocks",
    ("pending_verbose_logs", "c1"): LOGS,
    ("recv_missing_keys", "c3"): LOGS,
    ("recv_missing_keys", "c4"): LOGS,
    ("recv_interrupt_then_retry", "c2"): "what is there is continued",
    ("recv_overlong_body_within_block", "c1"): "no more than was declared is stored",
    ("recv_resume_rejected", "c1"): "what is there is continued",
    ("recv_two_to_same_path", "c2"): "the second writer is refused before it is accepted",
    ("send_to_minimal_receiver", "control"): "without a final line it is not confirmed",
    ("send_to_receiver_with_offset", "control"): "without a final line it is not confirmed",
    ("send_to_receiver_final_error_ignored", "control"): "the final line counts",
    ("send_to_receiver_two_lines", "control"): "two lines are read as two, the second is too early",
}


@frozen
class Vector:
    case: str
    conformance: str
    events: tuple[dict[str, Any], ...]
    setup: dict[str, Any]
    error_contains: str

    def line(self, event: dict[str, Any]) -> bytes:
        return str(event["text"]).encode("utf-8")


def load(path: Path) -> Vector:
    raw = json.loads(path.read_text("utf-8"))

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            for name, each in raw["variables"].items():
                value = value.replace("${" + name + "}", str(each["example"]))
            return value
        if isinstance(value, dict):
            return {key: fill(each) for key, each in value.items()}
        return [fill(each) for each in value] if isinstance(value, list) else value

    for event in raw["events"]:
        if "parts" in event:
            event["text"] = "".join(p.get("text", "") + p.get("repeat", "") * p.get("count", 0)
                                    for p in event.pop("parts"))  # fmt: skip
            event.setdefault("compare", "dict")
    return Vector(
        raw["case"],
        raw["conformance"],
        tuple(fill(raw["events"])),
        fill(raw["setup"]),
        raw.get("expect", {}).get("error_contains", ""),
    )


ALL = [load(path) for path in sorted(VECTORS.glob("*.json"))]
NAMES = [each.case for each in ALL]


def parse(line: bytes) -> dict[str, Any]:
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    return parse_literal(line[:-1], limit=2 * WIDE, depth=12, values=WIDE)


def blurred(value: Any) -> Any:
    """``value`` without the wording of errors."""
    if isinstance(value, dict):
        return {key: "…" if key == "error" else blurred(each) for key, each in value.items()}
    return [blurred(each) for each in value] if isinstance(value, list) else value


def bare(path: str) -> str:
    return path.rpartition("/")[2]


@define(eq=False)
class Device:
    """What a device knows beyond one connection, by ae's rules about what is there."""

    files: dict[str, int]
    polled: Polled = Factory(lambda: Polled(lambda: 0.0))
    running: dict[str, Conversation] = Factory(dict)
    series: int = 0


@define(eq=False)
class Conversation:
    """A server session, and as much of the commands behind it as its lines can show."""

    device: Device
    session: LiteralSession = Factory(LiteralSession)
    said: deque[bytes] = Factory(deque)
    do: Do | None = None
    entry: Entry | None = None
    expected: int = 0
    position: int = 0
    sender: Sender | None = None

    def line(self, line: bytes) -> None:
        if len(line.rstrip(b"\r\n")) > self.session.line_limit:
            self.said.append(self.session.complaint(HeaderTooLong()))
            return
        try:
            packet = self.session.receive(line.removesuffix(b"\n").removesuffix(b"\r"))
        except LanxferError as error:
            assert self.session.finished
            self.said.append(self.session.complaint(error))
            return
        if isinstance(packet, Do):
            self.do = packet
            if packet.name != "pending_requests":
                self.entry = self.device.polled.add(packet.args["literal"])
            self.run(packet)
        else:
            assert packet is None

    def run(self, do: Do) -> None:
        match do.name:
            case "recv_message":
                assert do.args["text"] is not None
                self.end()
            case "pending_requests":
                self.end(rows=tuple(self.device.polled.poll()))
            case "cancel_request":
                victim = self.device.running.get(do.args["rt_id"])
                if victim is None:
                    self.end(NotFound("There is no such transfer."))
                else:
                    victim.end(Cancelled())
                    self.end()
            case "recv_file":
                self.recv_file(do)
            case "send_file" | "send_message":
                assert self.sender is not None, "a recording without a sender"
                outcome = self.sender.outcome(do)
                if isinstance(outcome, LanxferError):
                    self.end(outcome)
                else:
                    self.end(args=outcome)

    def recv_file(self, do: Do) -> None:
        name, size = bare(do.args["path"]), do.args["size"]
        args = {}
        if do.args.get("conflict") == "series":
            self.device.series += 1
            stem, dot, ending = name.rpartition(".")
            name = f"{stem} {self.device.series:02}{dot}{ending}"
            args["series_file_name"] = f"/srv/recv_dir/{name}"
        have = self.device.files.get(name, 0)
        running = [each.do for each in self.device.running.values() if each.do]
        if any(bare(each.args["path"]) == name for each in running):
            self.end(from_wire("busy"))
        elif have >= size:
            self.end(from_wire("exists", have=have))
        else:
            self.device.running[do.args["request"]] = self
            self.position = have
            go = Go(1, size, ((have, ""),), {**args, "transfer": "x"})
            self.said.append(self.session.send(go))
            self.implied()

    def implied(self) -> None:
        while not self.expected and (packet := self.session.implied()) is not None:
            match packet:
                case Part():
                    assert packet.offset == self.position
                    self.expected = packet.body
                case End():
                    self.end()
                case _:
                    pytest.fail(f"a server session implied {packet}")

    def body(self, size: int) -> None:
        taken = min(size, self.expected)
        self.expected -= taken
        self.position += taken
        if self.entry is not None and taken:
            self.device.polled.update(self.entry, transferred_bytes=self.position)
        if not self.expected:
            self.implied()

    def end_of_stream(self) -> None:
        assert self.session.lost() is None
        if self.expected:
            self.end(from_wire("short-body", have=self.position))

    def end(self, error: LanxferError | None = None, **more: Any) -> None:
        if self.session.finished:
            return
        assert self.do is not None
        self.device.running.pop(self.do.args["request"], None)
        if self.do.name == "recv_file" and self.position:
            self.device.files[bare(self.do.args["path"])] = self.position
        if error is None:
            self.said.append(self.session.send(Ok(1, **more)))
        else:
            self.said.append(
                self.session.send(Failed(1, error.code, error.reason, error.retry, error.details))
            )
        if self.entry is not None:
            done = parse(self.said[-1]).get("transferred_bytes")
            self.device.polled.update(
                self.entry,
                transferred_bytes=done,
                completed=error is None,
                error=None if error is None else error.reason,
            )
        assert self.session.finished
        assert self.session.implied() is None


@define(eq=False)
class Sender:
    """A client session that plays the sending server of a recording against its receiver."""

    vector: Vector

    def outcome(self, do: Do) -> LanxferError | dict[str, Any]:
        try:
            return self.play(do)
        except LanxferError as error:
            return error

    def play(self, do: Do) -> LanxferError | dict[str, Any]:
        events = [each for each in self.vector.events if each["conn"] == "peer"]
        client = LiteralSession(
            server=False, local_ip=do.args["literal"].get("local_ip", ""), remote_ip=do.args["peer"]
        )
        if do.name == "send_message":
            request = client.ask("recv_message", {"text": do.args["text"]})
        else:
            sizes = {each["path"]: each["length"] for each in self.vector.setup["files_before"]}
            here = {bare(path): size for path, size in sizes.items()}
            size = sizes.get(do.args["path"], here.get(bare(do.args["path"])))
            if size is None and "refused" not in self.vector.case:
                return from_wire("not-found")
            args = {"path": do.args["path"], "size": 10 if size is None else size}
            if do.args["series"]:
                args["conflict"] = "series"
            request = client.ask("recv_file", args)
        if not events:
            return from_wire("unreachable")
        line = client.send(request)
        self.compare(line, next(self.vector.line(each) for each in events if "text" in each))
        return self.talk(client, request, events)

    def talk(
        self, client: LiteralSession, request: Do, events: list[dict[str, Any]]
    ) -> LanxferError | dict[str, Any]:
        offset = 0
        for event in events:
            packet: Packet | None = None
            if event["from"] == "server" and "text" in event:
                packet = client.receive(self.vector.line(event)[:-1])
            elif event["from"] == "client" and "body" in event and not client.finished:
                assert event["body"]["offset"] == offset
                assert client.send(Part(1, offset, event["body"]["length"])) == b""
                assert client.send(End(1, request.args["size"], None)) == b""
                assert client.half_close
                packet = client.implied()
            elif event["from"] == "client" and event.get("event") == "close" and event.get("t"):
                return from_wire("timeout")
            match packet:
                case Go():
                    offset = packet.have[0][0]
                    assert packet.window == request.args["size"] - offset
                case Ok():
                    assert client.finished
                    return {"literal": packet.args["literal"], "size": packet.args["size"]}
                case Failed():
                    assert client.finished
                    details = {key: packet.args[key] for key in packet.args}
                    return from_wire(packet.code, packet.reason, **details)
        failed = client.lost()
        assert failed is not None
        return from_wire(failed.code, failed.reason)

    def compare(self, ours: bytes, theirs: bytes) -> None:
        """Our request has the keys and values of the real one, but a bare name."""
        said, recorded = parse(ours), parse(theirs)
        assert set(said) == set(recorded)
        for key in ("file_path", "rt_id"):
            if key in recorded and "/" in recorded[key]:
                assert bare(recorded[key]) == bare(said[key].partition(":")[2] if key == "rt_id"
                                                   else said[key])  # fmt: skip
                said.pop(key)
                recorded.pop(key)
        assert said == recorded


def replay(vector: Vector) -> Iterator[tuple[str, bool]]:
    """Play one recording; (connection, whether a server event came as recorded)."""
    files = {bare(each["path"]): each["length"] for each in vector.setup["files_before"]}
    receiving = {} if vector.case.startswith("send_") else files
    device = Device({} if vector.case == "recv_series" else dict(receiving))
    open_ones: dict[str, Conversation] = {}
    for event in vector.events:
        conn = event["conn"]
        if conn == "peer":
            continue
        here = open_ones.get(conn)
        match event:
            case {"event": "connect"}:
                open_ones[conn] = Conversation(device, sender=Sender(vector))
            case {"from": "client", "text": text} if here and text.endswith("\n"):
                here.line(vector.line(event))
            case {"from": "client", "body": body} if here:
                here.body(body["length"])
            case {"from": "client", "event": "half_close" | "close"} if here:
                here.end_of_stream()
            case {"from": "server", "text": _} if here:
                yield conn, bool(here.said) and same(here.said.popleft(), event, vector)
            case {"from": "server", "event": "close"} if here:
                yield conn, here.session.finished and not here.said


def same(line: bytes, event: dict[str, Any], vector: Vector) -> bool:
    ours, theirs = parse(line), parse(vector.line(event))
    if event["compare"] == "has_error":
        fits = vector.error_contains in str(ours.get("error")) or vector.conformance == "defect"
        known = {key: value for key, value in theirs.items() if key in ours}
        inner = vector.case.startswith("send_")  # which request is echoed then is open
        return "error" in ours and fits and (inner or _echoes(ours, known))
    return bool(blurred(ours) == blurred(theirs))


def _echoes(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    skipped = {"error", "transferred_bytes"}
    return all(ours[key] == theirs[key] for key in theirs if key not in skipped)


class RecordedTests:
    """Every recording that is usable for a server, or has a sending server in it."""

    @pytest.mark.parametrize("vector", ALL, ids=NAMES)
    def test_as_recorded(self, vector: Vector) -> None:
        """Each line of the server is as recorded, unless the table says why not."""
        came: dict[str, bool] = {}
        for conn, fits in replay(vector):
            came[conn] = came.get(conn, True) and fits
        assert came, "nothing was compared"
        for conn, fits in came.items():
            reason = DEVIATIONS.get((vector.case, conn))
            assert fits is (reason is None), f"{conn}: {reason or 'not as recorded'}"

    def test_the_table_is_about_recordings(self) -> None:
        """Every deviation names a connection of a recording."""
        there = {(each.case, event["conn"]) for each in ALL for event in each.events}
        assert set(DEVIATIONS) <= there

    @pytest.mark.parametrize("vector", ALL, ids=NAMES)
    def test_cut_short(self, vector: Vector) -> None:
        """A request line cut anywhere is refused with one error line, and that was all."""
        for event in vector.events:
            if event["from"] != "client" or "text" not in event or event["text"].startswith("{}"):
                continue
            line = vector.line(event).partition(b"#")[0].strip()
            for at in range(0, min(len(line), 400), 3):
                conversation = Conversation(Device({}))
                conversation.line(line[:at])
                (answer,) = conversation.said
                assert list(parse(answer)) == ["error"]
                assert "in parsing the request literal" in parse(answer)["error"]

    @pytest.mark.parametrize("case", ["msg_basic", "msg_unicode_quotes_newlines"])
    def test_client_function(self, case: str) -> None:
        """A message goes out as the real client function sends it, and its answer is understood."""
        vector = load(VECTORS / f"{case}.json")
        said, answered = (vector.line(each) for each in vector.events if "text" in each)
        recorded = parse(said)
        client = LiteralSession(server=False, local_ip="127.0.0.82", remote_ip="127.0.0.83")
        line = client.send(client.ask("recv_message", {"text": recorded["message"]}))
        ours = parse(line)
        assert ours.pop("transferred_bytes") == 0  # only the sending server has it
        assert ours.pop("rt_id").startswith(f"recv_message:{recorded['message']}")
        recorded.pop("rt_id")
        assert ours == recorded
        answer = client.receive(answered[:-1])
        assert isinstance(answer, Ok)
        assert answer.args["size"] == recorded["total_bytes"]
        assert client.finished


def server(line: bytes) -> tuple[LiteralSession, Do]:
    session = LiteralSession()
    do = session.receive(line)
    assert isinstance(do, Do)
    return session, do


RECV = b"{'method_name': 'recv_file', 'file_path': 'a.txt', 'total_bytes': 10, 'rt_id': 'r'}"
ECHO = {"method_name": "recv_file", "file_path": "a.txt", "total_bytes": 10, "rt_id": "r"}


class ServerTests:
    def test_face(self) -> None:
        """The session has the face the protocol needs."""
        # covers: J03
        session: Session = LiteralSession()
        assert session.line_limit == limits.HEADER_LITERAL

    @pytest.mark.parametrize(
        ("said", "name", "args"),
        [
            (ECHO, "recv_file", {"path": "a.txt", "size": 10, "dialect": "literal"}),
            ({**ECHO, "series_file": 1}, "recv_file", {"path": "a.txt", "size": 10,
             "dialect": "literal", "conflict": "series"}),
            ({**ECHO, "series_file": 0}, "recv_file", {"path": "a.txt", "size": 10,
             "dialect": "literal"}),
            ({"method_name": "recv_message", "message": "ä\ud800", "rt_id": "r"}, "recv_message",
             {"text": "ä\ufffd"}),
            ({"method_name": "send_file", "file_path": "/b/c", "remote_ip": "1", "local_ip": "1",
              "rt_id": "r"}, "send_file", {"path": "/b/c", "peer": "1", "legacy": True,
             "series": True}),
            ({"method_name": "send_message", "message": "m", "remote_ip": "1", "rt_id": "r"},
             "send_message", {"text": "m", "peer": "1", "legacy": True}),
            ({"method_name": "pending_requests", "rt_id": "r"}, "pending_requests", {}),
            ({"method_name": "cancel_request", "rt_id_to_cancel": "x", "rt_id": "r"},
             "cancel_request", {"rt_id": "x"}),
        ],
    )  # fmt: skip
    def test_requests(self, said: dict[str, Any], name: str, args: dict[str, Any]) -> None:
        """The six methods become packets."""
        _, do = server(format_literal(said)[:-1])
        assert do.name == name
        assert dict(do.args) == {**args, "request": "r", "literal": said}

    @pytest.mark.parametrize(
        ("said", "id"),
        [
            ({"method_name": "recv_file", "file_path": "a", "local_ip": "1.2.3.4"},
             "recv_file:a@1.2.3.4"),
            ({"method_name": "recv_message", "message": "hé\udfff"}, "recv_message:hé\ufffd@?"),
            ({"method_name": "cancel_request", "rt_id_to_cancel": "x", "rt_id": ""},
             "cancel_request:x@?"),
            ({"method_name": "pending_requests", "local_ip": 5}, "pending_requests:@?"),
            ({"method_name": "recv_file", "file_path": "a", "rt_id": "own"}, "own"),
        ],
    )  # fmt: skip
    def test_request_id(self, said: dict[str, Any], id: str) -> None:
        """A request without an id gets the one an ae peer would have given it."""
        assert request_id(said) == id

    @pytest.mark.parametrize(
        ("said", "field"),
        [
            ({}, "method_name"),
            ({"method_name": 5}, "method_name"),
            ({**ECHO, "rt_id": 5}, "rt_id"),
            ({**ECHO, "file_path": None}, "file_path"),
            ({**ECHO, "file_path": ""}, "file_path"),
            ({**ECHO, "file_path": "a\udc80"}, "file_path"),
            ({**ECHO, "total_bytes": "10"}, "total_bytes"),
            ({**ECHO, "total_bytes": True}, "total_bytes"),
            ({**ECHO, "total_bytes": 1.0}, "total_bytes"),
            ({**ECHO, "total_bytes": -1}, "total_bytes"),
            ({**ECHO, "total_bytes": 0}, "total_bytes"),
            ({**ECHO, "total_bytes": None}, "total_bytes"),
            ({"method_name": "recv_message"}, "message"),
            ({"method_name": "recv_message", "message": b"x"}, "message"),
            ({"method_name": "send_file", "file_path": "a"}, "remote_ip"),
            ({"method_name": "send_file", "remote_ip": "a"}, "file_path"),
            ({"method_name": "send_file", "file_path": "a", "remote_ip": "a", "local_ip": 1},
             "local_ip"),
            ({"method_name": "send_message", "message": "a", "remote_ip": ()}, "remote_ip"),
            ({"method_name": "cancel_request", "rt_id": "a"}, "rt_id_to_cancel"),
        ],
    )  # fmt: skip
    def test_wrong_fields(self, said: dict[str, Any], field: str) -> None:
        """A field that is missing or of the wrong type is named; the answer echoes the rest."""
        # covers: J02
        session = LiteralSession()
        with pytest.raises(BadHeader, match=repr(field)) as caught:
            session.receive(format_literal(said)[:-1])
        assert session.finished
        answer = parse(session.complaint(caught.value))
        assert repr(field) in answer.pop("error")
        assert answer == said
        assert session.complaint(caught.value) == b""

    @pytest.mark.parametrize("name", ["shutdown", "Recv_File", "__class__", "", "recv_slot"])
    def test_white_list(self, name: str) -> None:
        """There are six methods and no others."""
        session = LiteralSession()
        with pytest.raises(UnknownCommand) as caught:
            session.receive(format_literal({"method_name": name, "k": 1})[:-1])
        assert session.finished
        answer = parse(session.complaint(caught.value))
        assert answer["k"] == 1
        assert "unknown-command" in answer["error"]

    @pytest.mark.parametrize("offset", [0, 1, 9, 10])
    def test_a_file(self, offset: int) -> None:
        """Accept line, body from the offset, end, final line, and nothing between them."""
        session, _ = server(RECV)
        accept = session.send(Go(1, 5, ((offset, ""),), {"transfer": "not theirs to know"}))
        assert parse(accept) == {**ECHO, "transferred_bytes": offset}
        if offset < 10:
            assert session.implied() == Part(1, offset, 10 - offset)
            with pytest.raises(ValueError):
                session.send(Ok(1))
        assert session.implied() == End(1, 10, None)
        assert session.implied() is None
        for silent in (Window(1, 5), Event(1), Bye(True)):
            assert session.send(silent) == b""
        assert session.receive(RECV) is None
        assert not session.finished
        assert parse(session.send(Ok(1, {"size": 10, "stored": "b"}))) == {
            **ECHO,
            "transferred_bytes": 10,
        }
        assert session.finished
        assert not session.half_close
        assert session.implied() is None
        assert session.receive(RECV) is None
        assert session.send(Ok(1)) == session.complaint(BadHeader()) == b""

    def test_series_name(self) -> None:
        """The name a series got is in both lines."""
        session, _ = server(RECV)
        name = "a 01.txt"
        assert parse(session.send(Go(1, 9, (), {"series_file_name": name}))) == {
            **ECHO,
            "transferred_bytes": 0,
            "series_file_name": name,
        }
        while session.implied():
            pass
        assert parse(session.send(Ok(1)))["series_file_name"] == name

    def test_refused_at_once(self) -> None:
        """A refusal is one line; for a complete file with the words controllers show."""
        session, _ = server(RECV)
        answer = parse(session.send(Failed(1, "exists", "There is one.", args={"have": 10})))
        assert answer["transferred_bytes"] == 10
        assert "already transferred" in answer["error"]
        assert session.finished

    @pytest.mark.parametrize("code", ["disk-full", "cancelled", "short-body", "internal"])
    def test_failed_amid_the_body(self, code: str) -> None:
        """A failure ends the conversation wherever the body is, and leaves nothing implied."""
        session, _ = server(RECV)
        session.send(Go(1, 5))
        session.implied()
        answer = parse(session.send(Failed(1, code, "Why.", args={"have": 3})))
        assert f"[{code}]" in answer["error"]
        assert answer["transferred_bytes"] == 3
        assert session.finished
        assert session.implied() is None

    def test_an_error_in_the_request(self) -> None:
        """An ``error`` that a request brings along does not make its answer a failure."""
        session, do = server(format_literal({**ECHO, "error": "x"})[:-1])
        assert "error" not in parse(session.send(Go(1, 5)))
        assert do.args["literal"]["error"] == "x"

    def test_message_counts_characters(self) -> None:
        """A message is counted in characters, half ones included."""
        session, _ = server(b"{'method_name': 'recv_message', 'message': '\xc3\xbc\\ud800x'}")
        assert parse(session.send(Ok(1, {"size": 6})))["transferred_bytes"] == 3

    def test_lists(self) -> None:
        """A list answer has its rows under ``pending_requests``, from the packet or its args."""
        rows = ({"a": 1, "log_time": datetime(2024, 1, 1)}, {"b": (1,)})
        for ok in (Ok(1, rows=rows), Ok(1, {"rows": list(rows)})):
            session, _ = server(b"{'method_name': 'pending_requests', 'foo': 1}")
            assert parse(session.send(ok)) == {
                "method_name": "pending_requests",
                "foo": 1,
                "pending_requests": list(rows),
            }

    def test_passed_on(self) -> None:
        """A controller gets its receiver's answer, or its own request with the size."""
        said = {"method_name": "send_file", "file_path": "/a", "remote_ip": "1", "rt_id": "r"}
        session, _ = server(format_literal(said)[:-1])
        assert parse(session.send(Ok(1, {"literal": {"transferred_bytes": 5}}))) == {
            "transferred_bytes": 5
        }
        session, _ = server(format_literal(said)[:-1])
        assert parse(session.send(Ok(1, {"size": 7}))) == {
            **said,
            "total_bytes": 7,
            "transferred_bytes": 7,
        }

    def test_cancelled_request_is_echoed(self) -> None:
        """A cancel that hit is its request again."""
        said = {"method_name": "cancel_request", "rt_id_to_cancel": "x", "rt_id": "r"}
        session, _ = server(format_literal(said)[:-1])
        assert parse(session.send(Ok(1, {"state": "cancelled"}))) == said

    @pytest.mark.parametrize(
        "packet",
        [Do(1, "x"), Part(1, 0, 5), End(1, 5, None), Cancel(1),
         Go(1, 5, ((11, ""),)), Go(1, 5, ((-1, ""),))],
    )  # fmt: skip
    def test_what_a_server_cannot_say(self, packet: Packet) -> None:
        """What has no place here is a ValueError, and nothing was said."""
        session, _ = server(RECV)
        with pytest.raises(ValueError):
            session.send(packet)
        assert parse(session.send(Go(1, 5))) == {**ECHO, "transferred_bytes": 0}

    def test_nothing_was_asked(self) -> None:
        """Without a request there is no answer, but there may be a complaint."""
        session = LiteralSession()
        for packet in (Go(1, 5), Ok(1), Failed(1, "exists")):
            with pytest.raises(ValueError):
                session.send(packet)
        with pytest.raises(ValueError):
            session.ask("recv_file", {})
        assert session.lost() is None
        answer = parse(session.complaint(RuntimeError("secret")))
        assert "internal" in answer["error"]
        assert "secret" not in answer["error"]

    def test_a_message_has_no_accept_line(self) -> None:
        """Go belongs to files only."""
        session, _ = server(b"{'method_name': 'recv_message', 'message': 'x'}")
        with pytest.raises(ValueError):
            session.send(Go(1, 5))

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.binary(max_size=40) | st.just(RECV), max_size=4))
    def test_garbage(self, lines: list[bytes]) -> None:
        """Whatever comes, there is at most one request or one error, and then silence."""
        session = LiteralSession()
        heard: list[Packet | bytes | None] = []
        for line in lines:
            try:
                heard.append(session.receive(line))
            except LanxferError as error:
                heard.append(session.complaint(error))
        first, rest = heard[:1], heard[1:]
        assert all(isinstance(each, Do | bytes) for each in first)
        assert not any(rest)


def asking() -> LiteralSession:
    client = LiteralSession(server=False, local_ip="10.0.0.2", remote_ip="10.0.0.3")
    client.send(client.ask("recv_file", {"path": "a.txt", "size": 10}))
    return client


def accepted(offset: int = 0) -> LiteralSession:
    client = asking()
    go = client.receive(b"{'transferred_bytes': %d}" % offset)
    assert isinstance(go, Go)
    return client


def sent(offset: int = 0) -> LiteralSession:
    client = accepted(offset)
    if offset < 10:
        client.send(Part(1, offset, 10 - offset))
    client.send(End(1, 10, "digest of ours"))
    return client


STEPS: list[Callable[[], LiteralSession]] = [asking, accepted, sent]


class ClientTests:
    def test_request_line(self) -> None:
        """The request has exactly the keys of a real sender, in its order, and a bare name."""
        client = LiteralSession(server=False, local_ip="10.0.0.2", remote_ip="10.0.0.3")
        args = {"path": "/home/x/{a}b{{.txt", "size": 10, "conflict": "series", "mtime_ns": 5}
        assert client.send(client.ask("recv_file", args)) == (
            b"{'method_name': 'recv_file', 'file_path': '{{a}}b{{{{.txt', 'transferred_bytes': 0, "
            b"'total_bytes': 10, 'remote_ip': '10.0.0.3', 'local_ip': '10.0.0.2', "
            b"'server_address': ('10.0.0.3', 36969), 'rt_id': 'recv_file:{{a}}b{{{{.txt@10.0.0.2', "
            b"'series_file': True}\n"
        )
        client.receive(b"{'transferred_bytes': 0}")
        client.send(Part(1, 0, 10))
        client.send(End(1, 10, None))
        answer = client.receive(b"{'transferred_bytes': 10}")
        assert isinstance(answer, Ok)
        assert answer.args["stored"] == "{a}b{{.txt"

    def test_series_name(self) -> None:
        """The name that a receiver gave one of a series is told with each answer."""
        client = asking()
        named = {"series_file_name": "/srv/in/a 01.txt"}
        go = client.receive(format_literal({"transferred_bytes": 10, **named})[:-1])
        assert isinstance(go, Go)
        assert go.args["series_file_name"] == "/srv/in/a 01.txt"
        client.send(End(1, 10, None))
        ok = client.receive(format_literal({"transferred_bytes": 10, **named})[:-1])
        assert isinstance(ok, Ok)
        assert ok.args["stored"] == "a 01.txt"
        assert ok.args["series_file_name"] == "/srv/in/a 01.txt"

    def test_port(self) -> None:
        """Another port is in the address."""
        client = LiteralSession(server=False, remote_ip="h", port=5)
        line = client.send(client.ask("recv_message", {"text": "ü"}))
        said = parse(line)
        assert said["server_address"] == ("h", 5)
        assert said["total_bytes"] == 1

    @pytest.mark.parametrize(
        ("name", "args", "said"),
        [
            ("pending_requests", {}, {"method_name": "pending_requests",
             "rt_id": "pending_requests:@10.0.0.2"}),
            ("cancel_request", {"rt_id": "x", "request": "mine"}, {"method_name": "cancel_request",
             "rt_id_to_cancel": "x", "rt_id": "mine"}),
            ("send_file", {"path": "/a/{b", "peer": "10.9.9.9"}, {"method_name": "send_file",
             "file_path": "/a/{b", "remote_ip": "10.9.9.9", "local_ip": "10.0.0.2",
             "rt_id": "send_file:/a/{b@10.0.0.2"}),
            ("send_message", {"text": "t", "peer": "10.9.9.9"}, {"method_name": "send_message",
             "message": "t", "remote_ip": "10.9.9.9", "local_ip": "10.0.0.2",
             "rt_id": "send_message:t@10.0.0.2"}),
        ],
    )  # fmt: skip
    def test_controller(self, name: str, args: dict[str, Any], said: dict[str, Any]) -> None:
        """The requests of a controller are written, and read back by our server."""
        client = LiteralSession(server=False, local_ip="10.0.0.2")
        line = client.send(client.ask(name, args))
        assert parse(line) == said
        _, do = server(line[:-1])
        assert do.name == name

    @pytest.mark.parametrize(
        ("args", "error"),
        [
            ({"size": 0}, Forbidden),
            ({"kind": "folder"}, Forbidden),
            ({"path": ""}, BadName),
            ({"path": "a/.."}, BadName),
            ({"path": "a\\b"}, BadName),
            ({"path": "a\0"}, BadName),
        ],
    )
    def test_refused_here(self, args: dict[str, Any], error: type[LanxferError]) -> None:
        """What a real receiver could not take is refused before a byte leaves."""
        client = LiteralSession(server=False)
        with pytest.raises(error):
            client.ask("recv_file", {"path": "a", "size": 10, **args})

    def test_unknown_here(self) -> None:
        """A command that ae peers do not have is refused here."""
        with pytest.raises(UnknownCommand):
            LiteralSession(server=False).ask("watch", {})

    @pytest.mark.parametrize("offset", [0, 4, 10])
    def test_good(self, offset: int) -> None:
        """Accept, the rest of the file, end and half-close, final line."""
        client = asking()
        answer = {**ECHO, "transferred_bytes": offset}
        go = client.receive(format_literal(answer)[:-1])
        assert go == Go(1, 10 - offset, ((offset, ""),), {"literal": answer})
        for at in range(offset, 10, 3):
            assert client.send(Part(1, at, min(3, 10 - at))) == b""
        assert not client.half_close
        assert client.send(End(1, 10, "ours")) == b""
        assert client.half_close
        assert client.implied() is None
        final = {**ECHO, "transferred_bytes": 10}
        assert client.receive(format_literal(final)[:-1]) == Ok(
            1, {"stored": "a.txt", "size": 10, "literal": final}
        )
        assert client.finished
        assert client.lost() is None
        assert client.receive(b"{'error': 'x'}") is None

    @pytest.mark.parametrize(
        ("step", "line", "code"),
        [
            (asking, b"{'transferred_bytes': 10, 'error': 'already transferred'}", "exists"),
            (asking, b"{'error': None}", "unknown-reason"),
            (accepted, b"{'error': 'destination file exists already'}", "exists"),
            (accepted, b"{'error': 'no space [disk-full]'}", "disk-full"),
            (sent, b"{'transferred_bytes': 10, 'error': 'disk full'}", "unknown-reason"),
            (sent, b"{'transferred_bytes': 9}", "short-body"),
            (sent, b"{'transferred_bytes': 50}", "bad-offset"),
            (sent, b"{}", "unconfirmed"),
            (sent, b"{'transferred_bytes': True}", "unconfirmed"),
        ],
    )
    def test_bad(self, step: Any, line: bytes, code: str) -> None:
        """An error counts wherever it comes, and so does a final line with another length."""
        client = step()
        failed = client.receive(line)
        assert isinstance(failed, Failed)
        assert failed.code == code
        assert client.finished
        assert client.receive(line) is None
        assert client.lost() is None
        assert client.send(Part(1, 0, 10)) == b""  # what was under way comes to nothing

    def test_have_of_a_refusal(self) -> None:
        """A refusal of what is there already tells how much that is."""
        failed = asking().receive(b"{'error': 'file already transferred'}")
        assert isinstance(failed, Failed)
        assert failed.args["have"] == 10

    @pytest.mark.parametrize("offset", [b"-1", b"11", b"9223372036854775807"])
    def test_bad_offset(self, offset: bytes) -> None:
        """An offset outside the file is refused; a real sender would spin or lie."""
        client = asking()
        with pytest.raises(BadOffset):
            client.receive(b"{'transferred_bytes': " + offset + b"}")
        assert client.finished
        assert client.complaint(BadOffset()) == b""

    @pytest.mark.parametrize("line", [b"{'ok': True}", b"{'transferred_bytes': True}", b"{}", b"x"])
    def test_no_offset(self, line: bytes) -> None:
        """An accept line needs a number."""
        client = asking()
        with pytest.raises(BadHeader):
            client.receive(line)
        assert client.finished
        assert client.lost() is None

    def test_early_end(self) -> None:
        """A final line while parts are missing is refused, it never completes the file."""
        # covers: J13
        client = accepted()
        client.send(Part(1, 0, 9))
        with pytest.raises(BadHeader):
            client.receive(b"{'transferred_bytes': 10}")
        assert client.finished
        assert client.send(Part(1, 0, 10)) == client.send(Cancel(1)) == b""
        assert client.implied() is None

    def test_end_that_crosses_ours(self) -> None:
        """A receiver that is faster than our own end is believed once that was said."""
        client = accepted()
        client.send(Part(1, 0, 10))
        assert client.receive(b"{'transferred_bytes': 10}") is None
        assert not client.finished
        assert client.implied() is None
        client.send(End(1, 10, None))
        assert isinstance(client.implied(), Ok)
        assert client.finished

    @pytest.mark.parametrize(
        ("step", "code"),
        [(asking, "connection-lost"), (accepted, "connection-lost"), (sent, "unconfirmed")],
    )
    def test_lost(self, step: Any, code: str) -> None:
        """Without the final line it is unconfirmed once all was sent, lost before."""
        client = step()
        failed = client.lost()
        assert failed.code == code
        assert client.finished
        assert client.lost() is None

    def test_lost_message(self) -> None:
        """A message whose answer is missing may have been shown."""
        client = LiteralSession(server=False)
        assert client.lost() is None
        client.send(client.ask("recv_message", {"text": "x"}))
        failed = client.lost()
        assert failed is not None
        assert (failed.code, failed.retry) == ("unconfirmed", False)

    @pytest.mark.parametrize("step", [asking, accepted, sent])
    def test_cancel(self, step: Any) -> None:
        """Giving up says nothing and ends it with the reason we had."""
        client = step()
        assert client.send(Cancel(1, "Enough.", "source-changed")) == b""
        assert client.implied() == Failed(1, "source-changed", "Enough.", retry=True)
        assert client.finished

    @pytest.mark.parametrize(
        "packet", [Part(1, 1, 5), Part(1, 0, 11), End(1, 10, None), Go(1, 5), Ok(1), Do(1, "x")]
    )
    def test_what_a_client_cannot_say(self, packet: Packet) -> None:
        """Parts follow one another, and the end comes after all of them."""
        client = accepted()
        with pytest.raises(ValueError):
            client.send(packet)

    def test_one_request(self) -> None:
        """One connection, one request, without a body."""
        client = asking()
        with pytest.raises(ValueError):
            client.ask("recv_file", {"path": "b", "size": 5})
        with pytest.raises(ValueError):
            LiteralSession(server=False).ask("recv_file", {"path": "b", "size": 5}, 5)

    def test_unasked(self) -> None:
        """An answer before the request is refused."""
        client = LiteralSession(server=False)
        with pytest.raises(BadHeader):
            client.receive(b"{}")

    def test_rows(self) -> None:
        """A list answer may be long, and its rows are dicts."""
        client = LiteralSession(server=False)
        client.send(client.ask("pending_requests", {}))
        assert client.line_limit == LIST_MAX
        rows = [{"n": each, "request": {"x": [(1,)]}} for each in range(2000)]
        answer = client.receive(format_literal({"pending_requests": rows})[:-1])
        assert isinstance(answer, Ok)
        assert answer.args["rows"] == rows
        client = LiteralSession(server=False)
        client.send(client.ask("pending_requests", {}))
        with pytest.raises(BadHeader):
            client.receive(b"{'pending_requests': [1]}")

    def test_long_echo(self) -> None:
        """The answer to a long message fits, though a request of that length would not."""
        text = "\x01" * limits.MESSAGE_MAX
        client = LiteralSession(server=False)
        line = client.send(client.ask("recv_message", {"text": text}))
        said = parse(line)
        answer = format_literal({**said, "transferred_bytes": len(text)})[:-1]
        assert len(answer) <= client.line_limit
        assert isinstance(client.receive(answer), Ok)

    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(STEPS),
        st.lists(
            st.binary(max_size=30)
            | st.sampled_from(
                [b"{'transferred_bytes': 10}", b"{'transferred_bytes': 3}", b"{'error': ''}", b"{}"]
            ),
            max_size=4,
        ),
    )
    def test_garbage(self, step: Any, lines: list[bytes]) -> None:
        """Whatever comes there is at most one verdict, and after it silence."""
        client = step()
        verdicts = 0
        for line in lines:
            over = client.finished
            try:
                packet = client.receive(line)
            except LanxferError:
                verdicts += 1
                assert client.finished
                continue
            assert not (over and packet)
            verdicts += isinstance(packet, Ok | Failed)
            assert not (isinstance(packet, Ok) and step is not sent)
        assert verdicts <= 1
        assert client.finished is bool(verdicts)


class BothTests:
    """Our client against our server."""

    @settings(max_examples=60, deadline=None)
    @given(
        st.text(min_size=1, max_size=20).filter(
            lambda name: not set(name) & set("/\\\0") and name not in (".", "..")
        ),
        st.integers(1, 2**60),
        st.data(),
    )
    def test_a_file(self, name: str, size: int, data: Any) -> None:
        """Any name and size get across, resumed anywhere, and both sides agree on the end."""
        offset = data.draw(st.integers(0, size))
        client = LiteralSession(server=False)
        line = client.send(client.ask("recv_file", {"path": name, "size": size}))
        session, do = server(line[:-1])
        assert do.args["path"].replace("{{", "{").replace("}}", "}") == name
        go = client.receive(session.send(Go(1, 1, ((offset, ""),)))[:-1])
        assert isinstance(go, Go)
        assert go.have == ((offset, ""),)
        part = session.implied()
        if offset < size:
            assert isinstance(part, Part)
            assert client.send(part) == b""
            part = session.implied()
        assert isinstance(part, End)
        assert client.send(part) == b""
        ok = client.receive(session.send(Ok(1))[:-1])
        assert isinstance(ok, Ok)
        assert ok.args["size"] == size
        assert ok.args["stored"] == name
        assert client.finished
        assert session.finished

    @pytest.mark.parametrize("code", ["disk-full", "exists", "forbidden", "busy", "bad-name"])
    def test_codes(self, code: str) -> None:
        """A refusal keeps its code and its sentence between two lanxfers."""
        client = asking()
        session, _ = server(RECV)
        failed = client.receive(session.send(Failed(1, code, "The reason."))[:-1])
        assert isinstance(failed, Failed)
        assert failed.code == code
        assert "The reason." in failed.reason
