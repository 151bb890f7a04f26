"""The command line as people have it: real processes, real sockets, a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any

import pytest
from attrs import define
from blake3 import blake3

from lanxfer.errors import Exit
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder
from lanxfer.wire.native import parse_rows

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and control sockets of POSIX")

PATIENCE = 15.0
HUGE = 2 * 1024**3
"""Bytes of a sparse file that is not sent before anybody can do something about it."""

Process = subprocess.Popen[bytes]


def start(*line: object, env: dict[str, str] | None = None, **streams: Any) -> Process:
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "bufsize": 0,  # see next_line
        **streams,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "lanxfer.cli.main", *map(str, line)],
        env={**os.environ, "TERM": "xterm", **(env or {})},
        # Tests that run in the background must not hand on that Ctrl-C is ignored there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


@define
class Done:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def finish(process: Process, data: bytes | None = None) -> Done:
    try:
        out, err = process.communicate(data, timeout=PATIENCE)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return Done(process.returncode, (out or b"").decode(), (err or b"").decode())


def run(
    *line: object, data: bytes | None = None, env: dict[str, str] | None = None, **streams: Any
) -> Done:
    if data is not None:
        streams["stdin"] = subprocess.PIPE
    return finish(start(*line, env=env, **streams), data)


def next_line(stream: IO[bytes] | None) -> str:
    """The next line, but not for ever; what comes after it is left where it is."""
    assert stream is not None
    line, deadline = b"", time.monotonic() + PATIENCE
    while not line.endswith(b"\n"):
        assert time.monotonic() < deadline, f"no more than {line!r}"
        if select.select([stream], [], [], 0.1)[0]:
            more = os.read(stream.fileno(), 1)
            assert more, f"nothing after {line!r}"
            line += more
    return line.decode()


def until(ready: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


@define
class Serving:
    """A service of its own process, and how to ask it."""

    process: Process
    state: Path
    inbox: Path
    first: dict[str, Any]
    log: Path
    errors: Path

    @property
    def address(self) -> str:
        return str(self.first["listening"][0])

    def ask(self, *line: object) -> Done:
        return run("--state", self.state, *line)

    def rows(self, name: str, **args: object) -> list[dict[str, Any]]:
        """Ask without a process of its own, which is a good deal quicker."""
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(self.state / "control.sock"))
            hello = {"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": "test"}
            for request in (hello, {"do": 2, "name": name, **args}):
                control.sendall(json.dumps(request).encode() + b"\n")
            with control.makefile("rb") as answers:
                while "ok" not in (answer := json.loads(answers.readline())) or answer["ok"] != 2:
                    pass
                return parse_rows(answers.read(answer.get("body", 0)))

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


def serve(folder: Path, *options: object) -> Serving:
    state, inbox = folder / "state", folder / "inbox"
    log, errors = folder / "log", folder / "errors"
    folder.mkdir(exist_ok=True)
    with log.open("wb") as out, errors.open("wb") as err:
        line = ("serve", "--port", 0, "--bind", "127.0.0.1", "--state", state, "--inbox", inbox)
        line = (*line, "--allow-root")
        process = start(*line, *options, "--json", stdout=out, stderr=err)
    until(lambda: log.read_text().count("\n") or process.poll() is not None)
    assert process.poll() is None, errors.read_text()
    first = json.loads(log.read_text().splitlines()[0])
    return Serving(process, state, inbox, first, log, errors)


def end(serving: Serving) -> int:
    serving.process.send_signal(signal.SIGTERM)
    try:
        return serving.process.wait(PATIENCE)
    finally:
        serving.process.kill()


def own_key(state: Path) -> str:
    return load_identity(StateFolder(str(state))).key


def know(state: Path, name: str, key: str, *addresses: str, legacy: bool = False) -> None:
    Peers(StateFolder(str(state))).add(Peer(name, key, addresses, legacy), replace=True)


def met(nas: Serving, state: Path, name: str = "laptop") -> Path:
    """``state`` as that of a device which the service knows, and that knows it as "nas"."""
    know(nas.state, name, own_key(state))
    know(state, "nas", own_key(nas.state), nas.address)
    return state


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service that runs for all of these tests."""
    serving = serve(tmp_path_factory.mktemp("nas") / "nas")
    yield serving
    assert end(serving) == Exit.OK
    assert serving.errors.read_text() == ""


@pytest.fixture(scope="module")
def here(nas: Serving, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a device that the service knows, and that knows it as "nas"."""
    state = tmp_path_factory.mktemp("here") / "state"
    know(nas.state, "laptop", own_key(state))
    know(state, "nas", own_key(nas.state), nas.address)
    return state


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    path = tmp_path / "huge.bin"
    with path.open("wb") as file:
        file.truncate(HUGE)
    return path


def moving(nas: Serving, name: str) -> str:
    """Wait until that file is on its way; the id of its transfer."""

    def look() -> str:
        found = [each for each in nas.rows("pending_requests") if each["path"] == name]
        return str(found[0]["id"]) if found and found[0]["state"] == "moving" else ""

    return str(until(look))


class SendTests:
    def test_files_and_folders(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """What is named arrives, a pipe has a line for each of it and a sentence at the end."""
        folder = tmp_path / "photos"
        (folder / "inner").mkdir(parents=True)
        (folder / "inner" / "é 映画.txt").write_text("hello")
        (folder / "link").symlink_to("inner")
        (tmp_path / "note.txt").write_bytes(b"x" * 2000)
        done = run("send", tmp_path / "note.txt", folder, "nas", "--state", here)
        assert done.code == Exit.OK, done.err
        lines = done.out.splitlines()
        assert sorted(lines[:2]) == ["note.txt: 2.0 KiB", "photos/: 1 file, 5 B"]
        assert lines[2].startswith("2 files (2.0 KiB) sent to nas in ")
        assert done.err == "1 symbolic link was left out; --links sends them.\n"
        assert (nas.inbox / "photos" / "inner" / "é 映画.txt").read_text() == "hello"
        assert (nas.inbox / "note.txt").read_bytes() == b"x" * 2000

    def test_json(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """With --json each entry is a row; what failed does not keep the rest back."""
        (tmp_path / "one").write_text("1")
        done = run("send", tmp_path / "one", tmp_path / "gone", "nas", "--json", "-s", here)
        assert done.code == Exit.PARTIAL
        by_path = {row["path"]: row for row in done.rows[:-1]}
        assert by_path["one"]["stored"] == "one" and len(by_path["one"]["blake3"]) == 64
        assert by_path["gone"]["error"] == "source-unreadable"
        assert (done.rows[-1]["files"], done.rows[-1]["failed"]) == (1, 1)
        assert done.err == ""

    def test_stdin(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """Standard input arrives under its own name or a given one, and nothing of it stays."""
        env = {"TMPDIR": str(tmp_path)}
        data = os.urandom(3_000_000)
        done = run("send", "-", "nas", "--name", "src.tar", "-s", here, data=data, env=env)
        assert done.code == Exit.OK, done.err
        assert (nas.inbox / "src.tar").read_bytes() == data
        assert run("send", "-", "nas", "-q", "-s", here, data=b"", env=env) == Done(0, "", "")
        assert (nas.inbox / "stdin").read_bytes() == b""
        assert not list(tmp_path.iterdir())

    def test_name_and_conflict(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """A file may get another name; what happens to a name that is taken can be said."""
        (tmp_path / "a").write_text("first")
        assert run("send", tmp_path / "a", "nas", "--name", "sub/b.txt", "-s", here).code == 0
        assert (nas.inbox / "sub" / "b.txt").read_text() == "first"
        (tmp_path / "a").write_text("other")
        line = ("send", tmp_path / "a", "nas", "--name", "sub/b.txt", "-s", here)
        done = run(*line, "--conflict", "refuse")
        assert done.code == Exit.FAILED and "sub/b.txt" in done.err
        done = run(*line)
        assert done.code == Exit.OK and 'stored as "sub/b (2).txt"' in done.out

    def test_any_locale(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """A name that the terminal lacks letters for is sent and shown all the same."""
        (tmp_path / "naïve.txt").write_text("x")
        env = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        done = run("send", tmp_path / "naïve.txt", "nas", "-s", here, env=env)
        assert done.code == Exit.OK, done.err
        assert done.out.startswith("na\\xefve.txt: 1 B\n")
        assert (nas.inbox / "naïve.txt").exists()

    def test_queue(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """The service sends what it was handed, from wherever the command was typed."""
        other = serve(tmp_path / "other")
        try:
            know(other.state, "nas", own_key(nas.state))
            know(nas.state, "other", own_key(other.state), other.address)
            (tmp_path / "queued.txt").write_text("q")
            env = {"PYTHONPATH": os.getcwd()}
            line = ("send", "queued.txt", "gone.txt", "other", "--queue", "--json")
            done = run(*line, "-s", nas.state, cwd=tmp_path, env=env)
            assert done.code == Exit.PARTIAL, done.err
            assert done.rows[0]["queued"] and done.rows[1]["error"] == "source-unreadable"
            until((other.inbox / "queued.txt").exists)
            done = run("send", "queued.txt", "nobody", "--queue", "-s", here, cwd=tmp_path, env=env)
            assert done.code == Exit.UNREACHABLE and "lanxfer serve" in done.err
        finally:
            assert end(other) == Exit.OK

    def test_queue_refuses(self, nas: Serving, tmp_path: Path) -> None:
        """What cannot be sent is not queued either, and the reason is the same."""
        (tmp_path / "there").write_text("x")
        (tmp_path / "link").symlink_to("there")
        os.mkfifo(tmp_path / "pipe")
        paths = (tmp_path / "link", tmp_path / "pipe", "/proc/version", "/")
        know(nas.state, "itself", own_key(nas.state), nas.address)
        line = ("send", *paths, "itself", "--json", "-s", nas.state)
        now, later = run(*line), run(*line, "--queue")
        assert later.code == Exit.FAILED, later.err
        reasons = [each["reason"] for each in later.rows]
        assert reasons == [each["reason"] for each in now.rows if "reason" in each]
        assert len(reasons) == 4

    def test_message(self, nas: Serving, here: Path) -> None:
        """A text arrives as it was typed, or piped without its last line end."""
        # covers: S09
        done = run("message", "hello\n\x1b[2Jworld", "nas", "-s", here)
        assert done == Done(0, "nas has the message.\n", "")
        assert run("message", "-", "nas", "-s", here, "--json", data="grüße\n".encode()).rows == [
            {"peer": "nas", "size": 7}
        ]
        texts = [row["message"]["text"] for row in nas.said() if "message" in row]
        assert texts[-2:] == ["hello\n\x1b[2Jworld", "grüße"]
        # What arrived just before may be written only now.
        listed = nas.ask("history", "--limit", 10).out
        assert '"grüße"' in listed and '"hello\\x0a\\x1b[2Jworld"' in listed
        done = run("message", "-", "nas", "-s", here, data=b"x" * 70_000)
        assert done.code == Exit.FAILED and "as a file" in done.err
        done = run("message", "-", "nas", "-s", here, data=b"\xff")
        assert done.code == Exit.FAILED and "UTF-8" in done.err


class PlainTests:
    def test_plain_and_legacy(self, tmp_path: Path) -> None:
        """Plain text is spoken only where both sides said so, and never silently."""
        options = ("--legacy", "receive", "--legacy-from", "127.0.0.1")
        old = serve(tmp_path / "old", "--plain-from", "127.0.0.0/8", *options)
        state = tmp_path / "state"
        try:
            (tmp_path / "a.txt").write_text("plain")
            line = ("send", tmp_path / "a.txt", old.address, "-s", state)
            assert run(*line).code == Exit.REFUSED
            done = run(*line, "--plain")
            assert done.code == Exit.OK and "nobody has proved" in done.err
            done = run(*line, "--legacy-peer")
            assert done.code == Exit.OK and "nobody has proved" in done.err
            assert (old.inbox / "a.txt").read_text() == "plain"
            assert (old.inbox / "from-ae" / "a.txt").read_text() == "plain"
            assert run("message", "hi", old.address, "--plain", "-s", state).code == Exit.OK
            warnings = " ".join(row["warning"] for row in old.said() if "warning" in row)
            assert "PLAIN" in warnings and "LEGACY" in warnings
            assert "(unauthenticated)" in old.ask("history").out
            assert "PLAIN" in old.ask("status").out
        finally:
            assert end(old) == Exit.OK


class ExitCodeTests:
    def test_failed(self, here: Path, tmp_path: Path) -> None:
        """Nothing to be sent is a failure, not a part of a success."""
        done = run("send", tmp_path / "gone", "nas", "-s", here)
        assert done.code == Exit.FAILED
        assert done.out == "Nothing arrived at nas.\n" and str(tmp_path / "gone")[:20] in done.err

    def test_config(self, nas: Serving, tmp_path: Path) -> None:
        """A state folder others may look into is not used; a taken port or folder is said."""
        loose = tmp_path / "loose"
        loose.mkdir()
        loose.chmod(0o755)
        done = run("send", __file__, "nas", "-s", loose)
        assert done.code == Exit.CONFIG and "chmod 700" in done.err
        line = (
            "serve",
            "--bind",
            "127.0.0.1",
            "--inbox",
            tmp_path / "in",
            "--allow-root",
            "--port",
        )
        port = nas.address.rpartition(":")[2]
        done = run(*line, port, "--state", tmp_path / "s")
        assert done.code == Exit.CONFIG and done.err.count("\n") == 1 and port in done.err
        done = run(*line, 0, "--state", nas.state)
        assert done.code == Exit.CONFIG and "Another lanxfer service" in done.err

    def test_unreachable(self, here: Path, tmp_path: Path) -> None:
        """Who does not answer is waited for as long as was asked, and no longer."""
        began = time.monotonic()
        done = run("send", __file__, "127.0.0.1:1", "--wait", "1", "-s", here)
        assert done.code == Exit.UNREACHABLE and "Trying again" in done.err
        assert 1 < time.monotonic() - began < 6
        for line in (("pending",), ("watch",), ("cancel", "x")):
            done = run(*line, "-s", tmp_path / "none")
            assert done.code == Exit.UNREACHABLE and "lanxfer serve" in done.err

    def test_wait(self, tmp_path: Path) -> None:
        """A service that comes up within the time is reached."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        here, there = tmp_path / "here", tmp_path / "late" / "state"
        there.parent.mkdir()
        know(here, "late", own_key(there), f"127.0.0.1:{port}")
        know(there, "here", own_key(here))
        sending = start("send", __file__, "late", "--wait", "30", "-s", here)
        assert "Trying again" in next_line(sending.stderr)
        late = serve(tmp_path / "late", "--port", port)
        try:
            assert finish(sending).code == Exit.OK
            assert (late.inbox / Path(__file__).name).exists()
        finally:
            assert end(late) == Exit.OK

    def test_wait_no_longer(self, here: Path) -> None:
        """Ctrl-C ends the waiting."""
        sending = start("send", __file__, "127.0.0.1:1", "--wait", "30", "-s", here)
        assert "Trying again" in next_line(sending.stderr)
        sending.send_signal(signal.SIGINT)
        assert finish(sending).code == Exit.CANCELLED

    def test_refused(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """Unknown on either side, or known by another key: refused, with what to do about it."""
        stranger = tmp_path / "stranger"
        done = run("send", __file__, nas.address, "-s", stranger)
        assert done.code == Exit.REFUSED and "lanxfer peer add NAME" in done.err
        know(stranger, "nas", own_key(nas.state), nas.address)
        done = run("send", __file__, "nas", "-s", stranger)
        assert done.code == Exit.REFUSED and "lanxfer pair" in done.err
        know(stranger, "nas", own_key(here), nas.address)
        done = run("message", "secret", "nas", "-s", stranger)
        assert done.code == Exit.REFUSED and "lanxfer peer forget nas" in done.err

    def test_tofu(self, nas: Serving, tmp_path: Path) -> None:
        """A key that was fetched is the right one, shown in full, and said to be unproven."""
        state = tmp_path / "state"
        done = run("peer", "add", "--tofu", "nas", nas.address, "-s", state)
        assert done.code == Exit.OK and "TRUSTED UNSEEN" in done.err
        shown = nas.ask("key", "show", "-q").out.strip()
        assert shown in done.out
        peer = Peers(StateFolder(str(state))).find("nas")
        assert (peer.key, peer.addresses) == (own_key(nas.state), (nas.address,))
        done = run("peer", "add", "--tofu", "me", nas.address, "-s", nas.state)
        assert done.code == Exit.CONFIG and "itself" in done.err
        done = run("peer", "add", "--tofu", "x", "127.0.0.1:1", "-s", state)
        assert done.code == Exit.UNREACHABLE

    def test_results_lost(self, nas: Serving, here: Path) -> None:
        """A reader that went away is no failure; a full disk is one."""
        run("message", "x", "nas", "-s", here)
        reading, writing = os.pipe()
        os.close(reading)
        done = run("history", "-s", nas.state, stdout=writing)
        os.close(writing)
        assert (done.code, done.err) == (Exit.OK, "")
        if Path("/dev/full").exists():
            with open("/dev/full", "wb") as full:
                done = run("message", "x", "nas", "-s", here, stdout=full)
            assert done.code == Exit.FAILED and "No space left" in done.err


class ControlTests:
    def test_pause_and_cancel(self, nas: Serving, here: Path, huge: Path) -> None:
        """The receiver's owner may hold a transfer back, let it go on, and give it up."""
        sending = start("send", huge, "nas", "--name", "one.bin", "-s", here)
        id = moving(nas, "one.bin")
        assert nas.ask("pause", id) == Done(0, f"{id} is paused.\n", "")
        line = next(each for each in nas.ask("pending").out.splitlines() if id in each)
        assert "from laptop" in line and "paused" in line and "2.0 GiB" in line
        assert nas.ask("resume", id, "--json").rows == [{"id": id, "state": "moving"}]
        assert nas.ask("cancel", id).code == Exit.OK
        done = finish(sending)
        assert done.code == Exit.CANCELLED and "one.bin" in done.err
        until(lambda: not nas.rows("pending_requests"))
        assert nas.ask("cancel", id, "--json").rows == [{"id": id, "state": "cancelled"}]
        for verb in ("cancel", "pause", "resume"):
            done = nas.ask(verb, "nope")
            assert done.code == Exit.FAILED
            said = 'No such transfer is under way; "lanxfer pending" shows what is.'
            assert done.err == f"lanxfer: {said}\n"

    def test_quiet_limit(self, nas: Serving) -> None:
        """A limit that set with --quiet is set silently, and shown where it is asked for."""
        assert nas.ask("limit", "--out", "any", "--quiet").out == ""
        assert "sent" in nas.ask("limit", "--quiet").out
        assert "sent" in nas.ask("limit", "--out", "any").out

    def test_status(self, nas: Serving) -> None:
        """The service tells about itself, to people and to programs."""
        row = nas.ask("status", "--json").rows[0]
        assert row["listening"] == [nas.address] and row["key"] == own_key(nas.state)
        text = nas.ask("status").out
        assert nas.address in text and str(nas.inbox) in text

    def test_history(self, nas: Serving, here: Path) -> None:
        """The newest comes first, as many as were asked for, over several pages too."""
        for text in ("one", "two"):
            run("message", text, "nas", "-s", here)
        rows = nas.ask("history", "--json", "--limit", 2).rows
        assert [row["path"] for row in rows] == ["two", "one"]
        assert len(nas.ask("history", "--limit", 1).out.splitlines()) == 2

    def test_watch(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """watch tells of what happens as it happens, until Ctrl-C, which is no failure."""
        rows = start("watch", "--json", "-s", nas.state)
        lines = start("watch", "-s", nas.state)
        assert "Watching" in next_line(lines.stderr)
        # What does not say that it watches shows that it does.
        until(lambda: run("message", "x", "nas", "-s", here) and self.readable(rows.stdout))
        (tmp_path / "large").write_bytes(bytes(3_000_000))
        run("send", tmp_path / "large", "nas", "--name", "watched.txt", "-s", here)
        states: list[str] = []
        while not states or states[-1] != "done":
            row = json.loads(next_line(rows.stdout))
            states += [row["state"]] if row["path"] == "watched.txt" else []
        assert states[0] == "offered"
        while "watched.txt" not in (line := next_line(lines.stdout)) or " done\n" not in line:
            pass
        assert "from laptop  watched.txt" in line
        for process in (rows, lines):
            process.send_signal(signal.SIGINT)
            done = finish(process)
            assert (done.code, done.err) == (Exit.OK, "")

    def readable(self, stream: Any) -> bool:
        return bool(select.select([stream], [], [], 0)[0])

    def test_watch_unread(self, nas: Serving, here: Path) -> None:
        """Where nobody reads it any more, watching ends by itself."""
        reading, writing = os.pipe()
        watching = start("watch", "--json", "-s", nas.state, stdout=writing)
        os.close(reading)
        os.close(writing)
        until(lambda: run("message", "x", "nas", "-s", here) and watching.poll() is not None)
        assert finish(watching) == Done(0, "", "")


class InterruptTests:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_once(self, number: int, nas: Serving, here: Path, huge: Path) -> None:
        """The first Ctrl-C, or SIGTERM, tells the other side and ends with the code for it."""
        name = f"interrupted-{int(number)}.bin"
        sending = start("send", huge, "nas", "--name", name, "-s", here)
        id = moving(nas, name)
        sending.send_signal(number)
        done = finish(sending)
        assert done == Done(Exit.CANCELLED, "", "lanxfer: Cancelled.\n")
        until(lambda: not nas.rows("pending_requests"))
        row = next(row for row in nas.ask("history", "--json").rows if row["id"] == id)
        assert row["state"] in ("cancelled", "interrupted")
        assert not (nas.inbox / name).exists()

    def test_paused(self, nas: Serving, here: Path, huge: Path) -> None:
        """Ctrl-C works as well while the other side holds the transfer back."""
        sending = start("send", huge, "nas", "--name", "held.bin", "-s", here)
        nas.ask("pause", moving(nas, "held.bin"))
        sending.send_signal(signal.SIGINT)
        assert finish(sending).code == Exit.CANCELLED
        until(lambda: not nas.rows("pending_requests"))

    def test_twice(self, nas: Serving, here: Path, huge: Path) -> None:
        """The second Ctrl-C ends it at once, though the other side says nothing."""
        sending = start("send", huge, "nas", "--name", "stuck.bin", "-s", here)
        moving(nas, "stuck.bin")
        nas.process.send_signal(signal.SIGSTOP)
        try:
            sending.send_signal(signal.SIGINT)
            assert "again ends it" in next_line(sending.stderr)
            assert sending.poll() is None
            began = time.monotonic()
            sending.send_signal(signal.SIGINT)
            assert sending.wait(5) == Exit.CANCELLED
            assert time.monotonic() - began < 2
        finally:
            nas.process.send_signal(signal.SIGCONT)
            finish(sending)
        until(lambda: not nas.rows("pending_requests"))

    def test_reading(self, here: Path, tmp_path: Path) -> None:
        """Ctrl-C while standard input is read leaves nothing of it."""
        env = {"TMPDIR": str(tmp_path)}
        sending = start("send", "-", "nas", "-s", here, env=env, stdin=subprocess.PIPE)
        assert sending.stdin is not None
        sending.stdin.write(b"half")
        sending.stdin.flush()
        until(lambda: [each for each in tmp_path.glob("*/stdin") if each.stat().st_size])
        sending.send_signal(signal.SIGINT)
        assert finish(sending).code == Exit.CANCELLED
        assert not list(tmp_path.iterdir())


class StopTests:
    """A process that the system holds still for a while, as a laptop's lid does."""

    @pytest.mark.parametrize("side", ["sender", "receiver"])
    def test_stopped_and_continued(
        self, side: str, nas: Serving, here: Path, tmp_path: Path
    ) -> None:
        """Held still in the middle of a file and let go again, it goes on and arrives whole."""
        # covers: K11
        name = f"held-{side}.bin"
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(300_000_000)
        sending = start("send", path, "nas", "--json", "-s", here)
        id = moving(nas, name)
        # Paused as well, so that it cannot be over before it is held.
        nas.rows("pause", id=id)
        (before,) = (row for row in nas.rows("pending_requests") if row["id"] == id)
        process = sending if side == "sender" else nas.process
        process.send_signal(signal.SIGSTOP)
        try:
            if side == "sender":
                nas.rows("resume", id=id)  # asks for more of one who does not hear it
            time.sleep(1.0)
            assert sending.poll() is None and nas.process.poll() is None
        finally:
            process.send_signal(signal.SIGCONT)
        assert before["done"] < before["size"]
        if side == "receiver":
            assert not (nas.inbox / name).exists()
            nas.rows("resume", id=id)
        done = finish(sending)
        assert (done.code, done.err) == (Exit.OK, "")
        with (nas.inbox / name).open("rb") as there, path.open("rb") as ours:
            assert file_digest(there, blake3).digest() == file_digest(ours, blake3).digest()
        (nas.inbox / name).unlink()


class TerminalTests:
    def see(self, process: Process, master: int, stop: Callable[[str], bool]) -> str:
        """What a terminal is sent until ``stop`` says so, or until the process ends."""
        seen, deadline = b"", time.monotonic() + PATIENCE
        while not stop(seen.decode(errors="replace")):
            assert time.monotonic() < deadline
            if select.select([master], [], [], 0.1)[0]:
                try:
                    seen += os.read(master, 65536)
                except OSError:  # how Linux says that the other end is closed
                    break
            elif process.poll() is not None:
                break
        return seen.decode(errors="replace")

    def open(self, *line: object, **env: str) -> tuple[Process, int]:
        master, slave = pty.openpty()
        streams = {"stdin": slave, "stdout": slave, "stderr": slave}
        env = {"COLUMNS": "80", "LINES": "24", **env}
        process = start(*line, env=env, **streams)
        os.close(slave)
        return process, master

    def test_send(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """A terminal sees a bar, and afterwards only what became of it."""
        path = tmp_path / "bar.bin"
        with path.open("wb") as file:
            file.truncate(200_000_000)
        process, master = self.open("send", path, "nas", "-s", here)
        id = moving(nas, path.name)
        # What is over within a second needs no bar.
        nas.rows("pause", id=id)
        seen = self.see(process, master, lambda text: "━" in text)
        nas.rows("resume", id=id)
        seen += self.see(process, master, lambda text: False)
        os.close(master)
        assert process.wait(PATIENCE) == Exit.OK, seen
        assert "━" in seen and "191 MiB" in seen and "%" in seen and "bar.bin" in seen
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
        assert plain.rstrip().splitlines()[-1].startswith("1 file (191 MiB) sent to nas")
        assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1

    def test_dumb(self, nas: Serving, here: Path) -> None:
        """A terminal that can do nothing is spared the bar."""
        process, master = self.open("send", __file__, "nas", "-s", here, TERM="dumb")
        seen = self.see(process, master, lambda text: False)
        os.close(master)
        assert process.wait(PATIENCE) == Exit.OK
        assert "\x1b" not in seen and "sent to nas" in seen

    def test_watch(self, nas: Serving, here: Path, huge: Path) -> None:
        """watch shows a bar for what is under way, and gives the terminal back at Ctrl-C."""
        watching, master = self.open("watch", "-s", nas.state)
        self.see(watching, master, lambda text: "Nothing is under way" in text)
        sending = start("send", huge, "nas", "--name", "seen.bin", "-s", here)
        seen = self.see(watching, master, lambda text: "seen.bin" in text and "%" in text)
        assert "━" in seen and "from laptop" in seen
        sending.send_signal(signal.SIGINT)
        finish(sending)
        self.see(watching, master, lambda text: "Nothing is under way" in text)
        watching.send_signal(signal.SIGINT)
        seen = self.see(watching, master, lambda text: False)
        os.close(master)
        assert watching.wait(PATIENCE) == Exit.OK
        assert seen.endswith("\x1b[?25h") or "\x1b[?25h" in seen


class AskedTests:
    """A yes that is waited for, and who may log in, with real processes."""

    @pytest.fixture
    def asking(self, tmp_path: Path) -> Iterator[Serving]:
        users = tmp_path / "users"
        users.write_text("anna:s3cret\n")
        users.chmod(0o600)
        serving = serve(tmp_path / "asking", "--auth", f"file:{users}")
        yield serving
        assert end(serving) == Exit.OK

    @pytest.fixture
    def laptop(self, asking: Serving, tmp_path: Path) -> Path:
        state = tmp_path / "laptop"
        know(asking.state, "laptop", own_key(state))
        know(state, "nas", own_key(asking.state), asking.address)
        assert asking.ask("peer", "set", "laptop", "offers=ask").code == Exit.OK
        return state

    def waiting(self, asking: Serving) -> str:
        def look() -> str:
            rows = asking.rows("pending_requests")
            return str(rows[0]["id"]) if rows and rows[0]["state"] == "waiting" else ""

        return str(until(look))

    @pytest.mark.parametrize("yes", [True, False])
    def test_answered(self, asking: Serving, laptop: Path, tmp_path: Path, yes: bool) -> None:
        """The sender reads that it waits, the owner reads what for, and one word decides it."""
        # covers: L06, L07
        (tmp_path / "film").write_bytes(os.urandom(500_000))
        sending = start("send", tmp_path / "film", "nas", "-s", laptop)
        assert next_line(sending.stderr) == "Waiting for nas to accept.\n"
        id = self.waiting(asking)
        listed = asking.ask("pending")
        assert "waiting" in listed.out and "lanxfer accept ID" in listed.err
        [asked] = [row["asked"] for row in asking.said() if "asked" in row]
        assert (asked["id"], asked["what"], asked["label"]) == (id, "film", "laptop")
        assert "1 offer" in asking.ask("status").out
        done = asking.ask("accept", id) if yes else asking.ask("reject", id, "--reason", "Later.")
        assert done == Done(0, f"{id} is {'accepted' if yes else 'rejected'}.\n", "")
        found = finish(sending)
        if yes:
            assert found.code == Exit.OK
            assert (asking.inbox / "film").read_bytes() == (tmp_path / "film").read_bytes()
            assert "laptop" in asking.ask("usage").out
            assert asking.ask("usage", "--forget", "laptop").err == (
                "Nothing has been received yet.\n"
            )
        else:
            assert found.code == Exit.REFUSED and "Later." in found.err
            assert not (asking.inbox / "film").exists()
        late = asking.ask("accept", id)
        assert late.code == Exit.FAILED and "lanxfer pending" in late.err

    def test_ctrl_c_takes_it_back(self, asking: Serving, laptop: Path, tmp_path: Path) -> None:
        """An offer ends with the command that made it."""
        (tmp_path / "film").write_bytes(b"x")
        sending = start("send", tmp_path / "film", "nas", "-s", laptop)
        assert next_line(sending.stderr) == "Waiting for nas to accept.\n"
        self.waiting(asking)
        sending.send_signal(signal.SIGINT)
        assert finish(sending).code == Exit.CANCELLED
        until(lambda: not asking.rows("pending_requests"))

    def test_login(self, asking: Serving, tmp_path: Path) -> None:
        """A user logs in with a password from a file or the environment, never from the line."""
        # covers: A11
        state = tmp_path / "tablet"
        know(state, "nas", own_key(asking.state), asking.address)
        (tmp_path / "a").write_text("1")
        secret = tmp_path / "secret"
        secret.write_text("s3cret\n")
        secret.chmod(0o600)
        line = ("send", tmp_path / "a", "nas", "--user", "anna", "-s", state)
        assert run(*line, "--password-file", secret).code == Exit.OK
        env = {"LANXFER_PASSWORD": "s3cret"}
        message = ("message", "hi", "nas", "--user", "anna", "-s", state)
        assert run(*message, env=env).code == Exit.OK
        wrong = run(*message, env={"LANXFER_PASSWORD": "guess"})
        assert wrong.code == Exit.REFUSED and "password of such a user" in wrong.err
        nobody = run("message", "hi", "nas", "-s", state)
        assert nobody.code == Exit.REFUSED and "--user" in nobody.err
        assert [row["peer"] for row in asking.rows("history")] == ["user:anna"] * 2
        secret.chmod(0o644)
        loose = run(*line, "--password-file", secret)
        assert loose.code == Exit.CONFIG and "chmod 600" in loose.err
        unasked = run(*message)
        assert unasked.code == Exit.CONFIG and "LANXFER_PASSWORD" in unasked.err
        everything = asking.log.read_text() + asking.errors.read_text()
        assert "s3cret" not in everything + wrong.out + wrong.err

    def test_password_is_typed(self, asking: Serving, tmp_path: Path) -> None:
        """Where somebody sits at a terminal the password is asked for, and not shown."""
        # covers: A11
        state = tmp_path / "tablet"
        know(state, "nas", own_key(asking.state), asking.address)
        parent, child = pty.openpty()
        process = start(
            "message", "hi", "nas", "--user", "anna", "-s", state, stdin=child, stderr=child
        )
        os.close(child)
        shown = b""
        while b"anna:" not in shown:
            shown += os.read(parent, 1000)
        time.sleep(0.2)
        os.write(parent, b"s3cret\n")
        assert finish(process).code == Exit.OK
        os.close(parent)
        assert b"s3cret" not in shown
