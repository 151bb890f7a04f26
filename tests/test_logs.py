"""The log as JSON: every line is one object, says what is promised, and nothing that is secret."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor
from devices import run as run_now
from hypothesis import given
from hypothesis import strategies as st
from test_cli_real import end, know, own_key, run, serve, until
from test_secrets import Secrets, _say
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import Logger, LogPublisher, globalLogPublisher
from twisted.python import log as old_log
from twisted.python.failure import Failure
from twisted.python.usage import UsageError

from lanxfer.errors import BadName, LanxferError
from lanxfer.logged import check_log
from lanxfer.logs import LINES, OWN, PERIOD, TransferLog, json_line, json_observer
from lanxfer.registry import Registry, new_ids
from lanxfer.transfers import Direction, Kind, Offer, State, Stored

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "operations.rst"


class Book:
    """A log that is written to memory."""

    def __init__(self, namespace: str = "lanxfer.test") -> None:
        self.file = StringIO()
        self.log = Logger(namespace, observer=LogPublisher(json_observer(self.file)))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.getvalue().splitlines()]


class LineTests:
    def test_fields(self) -> None:
        """A line has what every line has, and the event's own plain values."""
        book = Book()
        book.log.info("{peer} sent {size}", event="x", peer="nas", size=5, secure=True, more=None)
        (line,) = book.lines()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
        assert line == {
            "level": "info",
            "namespace": "lanxfer.test",
            "message": "nas sent 5",
            "event": "x",
            "peer": "nas",
            "size": 5,
            "secure": True,
            "more": None,
        }

    def test_time(self) -> None:
        """Times are UTC, wherever this machine is."""
        line = json_line({"log_time": 1e9 + 0.25, "log_format": "x"})
        assert json.loads(line or "")["time"] == "2001-09-09T01:46:40.250000Z"

    def test_objects(self) -> None:
        """Objects, and what belongs to the message only, are no fields."""
        book = Book()
        book.log.info("{_text}", _text="a", thing=object(), some=[1], data=b"x", not_one=math.nan)
        (line,) = book.lines()
        assert line["message"] == "a" and line["not_one"] is None
        assert not line.keys() & {"_text", "thing", "some", "data"}

    def test_others(self) -> None:
        """Of what is not lanxfer's there is the text, and nothing else."""
        book = Book("twisted.internet")
        book.log.info("{host} is there", host="nas", log_system="x")
        (line,) = book.lines()
        assert line.keys() == {"time", "level", "namespace", "message"}
        text = StringIO()
        observer = json_observer(text)
        globalLogPublisher.addObserver(observer)
        old_log.msg("as it was", system="-")
        globalLogPublisher.removeObserver(observer)
        assert json.loads(text.getvalue())["message"] == "as it was"

    def test_failure(self) -> None:
        """A traceback is one field of one line."""
        book = Book()
        try:
            raise ValueError("first\nsecond")
        except ValueError:
            book.log.failure("it failed", event="x")
        book.log.failure("again", Failure(LanxferError("no")), event="x")
        first, second = book.lines()
        assert first["level"] == "critical" and first["event"] == "x"
        assert "first\nsecond" in first["traceback"] and "test_logs.py" in first["traceback"]
        assert "no" in second["traceback"]

    def test_levels(self) -> None:
        """Debugging is left out."""
        book = Book()
        book.log.debug("a")
        book.log.warn("b")
        assert [line["level"] for line in book.lines()] == ["warn"]

    @given(st.text(st.characters(exclude_categories=()), max_size=30))
    def test_any_text(self, text: str) -> None:
        """Whatever is in a name, a line is one line of printable ASCII, and reads back."""
        # covers: R07
        event = {"log_namespace": "lanxfer.x", "log_format": "{path}", "path": text}
        line = json_line(event)
        assert line is not None and line.endswith("\n")
        assert line[:-1].isascii() and line[:-1].isprintable()
        found = json.loads(line)["path"]
        found.encode()  # no halves of characters
        if not any("\ud800" <= each <= "\udfff" for each in text):
            assert found == text

    def test_escapes(self) -> None:
        """A terminal that shows the log is told nothing by it."""
        book = Book()
        book.log.info("{path}", path="\x1b[2J\r\n{log_source}%s\x7f\x9b\u202e\udc80")
        text = book.file.getvalue()
        assert text.count("\n") == 1 and text[:-1].isprintable()
        assert book.lines()[0]["path"] == "\x1b[2J\r\n{log_source}%s\x7f\x9b\u202e\\udc80"


class Transfers:
    """A registry whose transfers are told of in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        book = Book("lanxfer.logs")
        monkeypatch.setattr(TransferLog, "log", book.log)
        self.log = TransferLog(self.clock, lambda principal: f"<{principal}>")
        self.registry = Registry(self.clock.seconds, new_ids(), lambda error: None)
        self.registry.subscribe_many(self.log.hear)
        self.lines = book.lines

    def ended(self, kind: Kind = Kind.FILE, error: LanxferError | None = None) -> None:
        transfer = self.registry.open(Direction.IN, kind, "peer:k", "a/b\x1b", 7)
        self.clock.advance(0.5)
        if error is not None:
            transfer.retire(State.FAILED, error=error)
        else:
            transfer.retire(State.DONE, stored=Stored("a/b (2)", 7, "d"))


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Transfers]:
    made = Transfers(monkeypatch)
    yield made
    made.log.stop()
    assert made.clock.getDelayedCalls() == []


class TransferLogTests:
    def test_told(self, transfers: Transfers) -> None:
        """A transfer that ended is told with all that is known of it, and once."""
        transfers.ended()
        transfers.ended(error=BadName("no"))
        done, failed = transfers.lines()
        assert done["message"] == "a/b\\x1b from <peer:k>: done"
        assert done["transfer"] and done.pop("transfer") != failed["transfer"]
        assert {key: value for key, value in done.items() if key not in OWN} == {
            "event": "transfer_ended",
            "direction": "in",
            "kind": "file",
            "peer": "peer:k",
            "peer_name": "<peer:k>",
            "path": "a/b\x1b",
            "stored": "a/b (2)",
            "size": 7,
            "state": "done",
            "already": False,
            "seconds": 0.5,
            "secure": True,
            "code": "",
            "reason": "",
        }
        assert (failed["state"], failed["code"], failed["reason"]) == ("failed", "bad-name", "no")

    def test_messages(self, transfers: Transfers) -> None:
        """What a message says is not told."""
        transfers.ended(Kind.MESSAGE)
        (line,) = transfers.lines()
        assert line["kind"] == "message" and line["path"] == ""
        assert "a/b\x1b" not in json.dumps(line["message"])

    def test_jobs(self, transfers: Transfers) -> None:
        """A run of a job is no transfer; who runs jobs tells of it."""
        transfers.ended(Kind.JOB)
        assert transfers.lines() == []

    def test_bounded(self, transfers: Transfers) -> None:
        """However many end within a minute, the log has a bounded number of lines."""
        # covers: R08
        offer, stored = Offer("x", 1), Stored("x", 1, "d")
        for files in (LINES - 1, 2, LINES - 1):
            transfers.registry.passed(
                Direction.IN, "p", [offer] * files, [stored] * files, started=0.0
            )
        for _ in range(900):
            transfers.registry.passed(Direction.IN, "p", [offer], [BadName()], started=0.0)
        assert len(transfers.lines()) == LINES
        transfers.clock.advance(PERIOD)
        last = transfers.lines()[LINES:]
        assert [line["event"] for line in last] == ["transfers_ended"]
        assert last[0]["count"] == 900 + LINES
        assert (last[0]["done"], last[0]["failed"]) == (LINES, 900)
        transfers.ended()
        assert transfers.lines()[-1]["event"] == "transfer_ended"

    def test_stopped(self, transfers: Transfers) -> None:
        """What was not told yet is told at the end."""
        for _ in range(LINES + 1):
            transfers.ended()
        transfers.log.stop()
        assert transfers.lines()[-1]["event"] == "transfers_ended"


def log_calls() -> Iterator[tuple[str, int, str | None, list[str], str]]:
    """Every line of code that logs for the service: where, its event, its fields, its level."""
    for path in sorted((ROOT / "lanxfer").rglob("*.py")):
        tree = ast.parse(path.read_text())
        ours = any(
            isinstance(node, ast.ImportFrom)
            and node.module == "twisted.logger"
            and any(name.name == "Logger" for name in node.names)
            for node in ast.walk(tree)
        )
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            if isinstance(function, ast.IfExp):  # one of two levels
                function = function.body
            levels = ("info", "warn", "error", "failure", "critical")
            if not isinstance(function, ast.Attribute) or function.attr not in levels:
                continue
            where = ast.unparse(function.value)
            if where.rpartition(".")[2] not in ("log", "_log"):
                continue
            keys = {each.arg or "**": each.value for each in node.keywords}
            event = keys.pop("event", None)
            if event is None and not ours:
                continue  # the log of a run of a job, which is a file of its own
            level = "critical" if function.attr == "failure" else function.attr
            fields = [key for key in keys if not key.startswith("_") and key != "failure"]
            named = event.value if isinstance(event, ast.Constant) else None
            yield str(path.relative_to(ROOT)), node.lineno, named, fields, level


def cells(line: str, starts: list[int]) -> list[str]:
    ends = [*starts[1:], None]
    return [line[start:stop].strip() for start, stop in zip(starts, ends, strict=True)]


def table(first: str) -> dict[str, list[str]]:
    """The rows of the table in the document whose first column is called so."""
    lines = iter(DOCUMENT.read_text().splitlines())
    border = ""
    for line in lines:
        if re.match(rf"{first} +", line) and border:
            break
        border = line if line.startswith("====") else ""
    starts = [found.start() for found in re.finditer("=+", border)]
    next(lines)
    rows: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("===="):
            return rows
        found = cells(line, starts)
        if found[0]:
            name = found[0].strip("`")
            rows[name] = found[1:]
        else:
            rows[name] = [f"{a} {b}".strip() for a, b in zip(rows[name], found[1:], strict=True)]
    raise AssertionError("no such table")


class PromiseTests:
    def test_every_call(self) -> None:
        """Every event of the code is in the table of docs/operations.rst, and no other."""
        made: dict[str, tuple[set[str], set[str]]] = {}
        for path, number, event, fields, level in log_calls():
            assert event is not None, f"{path}:{number} logs without an event"
            assert not {*fields} & OWN, f"{path}:{number}"
            levels, all_fields = made.setdefault(event, (set(), set()))
            levels.add(level)
            all_fields.update(fields)
        written = {
            event: ({*levels.split()}, {*fields.replace("`", "").split()})
            for event, (levels, fields, _) in table("event").items()
        }
        made["said"][0].update({"info", "warn"})  # one call with either
        assert written == made

    def test_every_field(self) -> None:
        """Every field of an event is explained, and no other."""
        used = {
            field
            for _, fields, _ in table("event").values()
            for field in fields.replace("`", "").split()
        }
        assert used == table("field").keys()


class OptionTests:
    def test_what_does_not_go_together(self) -> None:
        """What cannot be done is said before anything starts."""
        check_log("text", None)
        check_log("json", {"nodaemon": True, "logfile": "-"})
        check_log("json", {"nodaemon": 0, "logfile": "x", "syslog": 0, "logger": None})
        for format, twistd in (
            ("jsn", None),
            ("json", {"syslog": 1}),
            ("json", {"logger": "x.y"}),
            ("json", {"nodaemon": 0, "logfile": "-"}),
        ):
            with pytest.raises(UsageError):
                check_log(format, twistd)


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Devices]:
    made = Devices(tmp_path)
    yield made
    run_now(made.close())


class SecretTests:
    @in_reactor
    async def test_nothing_secret(self, devices: Devices) -> None:
        """No words, ticket, private key or message gets into the log, whatever happens."""
        # covers: A11, I11
        text = StringIO()
        observer = json_observer(text)
        globalLogPublisher.addObserver(observer)
        try:
            service = await devices.start("nas", tickets_plain=True, plain_from=("127.0.0.1",))
            log = TransferLog(service.reactor, str)
            service.subscribe_many(log.hear)
            await devices.pair("laptop", service, "nas")
            secrets = Secrets()
            for name in ("nas", "laptop"):
                secrets.add_key(devices.state(name))
            slot = service.offer_slot(None, 5)
            slot.done.addErrback(lambda why: None)
            secrets.add(slot.session)
            secrets.add(slot.file)
            window = service.open_pairing()
            window.outcome.addErrback(lambda why: None)
            secrets.add(window.code)
            for line in (slot.line + b"hello", slot.line + b"again", slot.line[:60]):
                await deferToThread(_say, service.address, line)
            client = await devices.client("laptop", "nas")
            await client.send_message("the eagle has landed")
            secrets.add("the eagle")
            await client.send_file(devices.source("a", b"hello"))
            await client.close()
            log.stop()
            await service.stopService()
        finally:
            globalLogPublisher.removeObserver(observer)
        events = [json.loads(line).get("event") for line in text.getvalue().splitlines()]
        assert events.count("transfer_ended") == 3 and "listening" in events
        assert secrets.within(text.getvalue().encode()) == []


RUN_TWISTD = "from twisted.scripts.twistd import run; run()"


@pytest.mark.skipif(os.name == "nt", reason="signals and control sockets of POSIX")
class ProcessTests:
    def start(self, folder: Path, *before: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-c", RUN_TWISTD, "--pidfile", folder / "pid", *before),
                *("lanxfer", "--port", "0", "--bind", "127.0.0.1", "--allow-root"),
                *("--inbox", folder / "in", "--state", folder / "state"),
                *("--log-format", "json", "--conflict", "rename"),
            ],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LANXFER_ALLOW_ROOT": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def listening(self, folder: Path) -> tuple[str, int]:
        def ready() -> Any:
            done = run("status", "--json", "-s", folder / "state")
            return done.rows[0]["listening"] if not done.code else None

        host, _, port = until(ready)[0].rpartition(":")
        return host, int(port)

    def test_twistd(self, tmp_path: Path) -> None:
        """twistd writes it to standard output, strangers and transfers included."""
        process = self.start(tmp_path, "-n")
        try:
            host, port = self.listening(tmp_path)
            with socket.create_connection((host, port), 20) as wire:
                wire.sendall(b"GET \x1b[2J / HTTP/1.1\r\n\r\n")
                wire.recv(4096)
            here = tmp_path / "here"
            know(tmp_path / "state", "laptop", own_key(here))
            know(here, "nas", own_key(tmp_path / "state"), f"{host}:{port}")
            name = tmp_path / "a b.txt"
            name.write_text("hello")
            assert run("send", name, "nas", "-s", here).code == 0
        finally:
            process.terminate()
            out, err = process.communicate(timeout=30)
        lines = [json.loads(line) for line in out.decode().splitlines()]
        found = {line["event"]: line for line in lines if "event" in line}
        assert found["refused"]["code"] == "bad-header"
        assert found["transfer_ended"]["path"] == "a b.txt"
        assert found["transfer_ended"]["peer_name"] == "laptop"
        assert f":{port}" in found["listening"]["addresses"]
        assert err == b"" and all(line.keys() >= OWN - {"traceback"} for line in lines)

    def test_daemon(self, tmp_path: Path) -> None:
        """A daemon writes it to its log file, which is turned over when it is told to."""
        log = tmp_path / "logs" / "log"
        log.parent.mkdir()
        process = self.start(tmp_path, "--logfile", str(log))
        process.communicate(timeout=30)
        until((tmp_path / "pid").exists)
        number = int((tmp_path / "pid").read_text())
        try:
            self.listening(tmp_path)
            os.kill(number, signal.SIGUSR1)
            until((log.parent / "log.1").exists)
        finally:
            os.kill(number, signal.SIGTERM)
        until(lambda: not (tmp_path / "pid").exists())
        until(lambda: "Server Shut Down" in log.read_text())
        for file in log.parent.iterdir():
            assert [json.loads(line) for line in file.read_text().splitlines()]

    def test_serve(self, tmp_path: Path) -> None:
        """Standard error of "lanxfer serve" is the log, and nothing but the log."""
        serving = serve(tmp_path, "--log-format", "json", "--open")
        end(serving)
        lines = [json.loads(line) for line in serving.errors.read_text().splitlines()]
        events = [line.get("event") for line in lines]
        assert events.count("listening") == 1 and events.count("warning") >= 1
        assert "said" not in events

    def test_no_start(self, tmp_path: Path) -> None:
        """Why it does not start is in the log as well."""
        (tmp_path / "file").write_text("")
        folders = ("-s", tmp_path / "s", "-i", tmp_path / "file", "--allow-root")
        done = run(
            *("serve", "-p", 0, *folders, "--log-format", "json"),
            env={"LANXFER_ALLOW_ROOT": "1"},
        )
        lines = [json.loads(line) for line in done.err.splitlines()]
        assert done.code == 3
        assert [line["event"] for line in lines if line["level"] == "warn"] == ["said"]
