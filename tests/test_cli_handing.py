"""``lanxfer send`` where a service of its own is there to do it: real processes on both sides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lanxfer.control import Control
from lanxfer.errors import Exit
from lanxfer.views import look, view
from lanxfer.wire.native import format_rows
from tests.scripted_service import Say, Service, greeted
from tests.test_cli_real import (
    Done,
    Serving,
    end,
    finish,
    know,
    moving,
    next_line,
    own_key,
    run,
    serve,
    start,
    until,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and control sockets of POSIX")

LARGE = 400_000_000
"""Bytes of a sparse file that is paused before it has arrived."""

HEAVY = ("twisted", "rich", "asyncio", "cryptography", "OpenSSL", "sqlite3", "zope", "spake2")
HEAVY_MODULES = ("importlib.metadata", "http.cookiejar", "lanxfer.peers", "lanxfer.storage")


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The device that is sent to."""
    # So slow that what is to be seen midway is.
    serving = serve(tmp_path_factory.mktemp("nas") / "nas", "--rate-in", "150M")
    yield serving
    assert end(serving) == Exit.OK
    assert serving.errors.read_text() == ""


def beside(nas: Serving, folder: Path) -> Serving:
    """A service of the sending device, which knows the other one as "nas"."""
    serving = serve(folder)
    know(nas.state, folder.name, own_key(serving.state))
    know(serving.state, "nas", own_key(nas.state), nas.address)
    return serving


@pytest.fixture(scope="module")
def ours(nas: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = beside(nas, tmp_path_factory.mktemp("ours") / "laptop")
    yield serving
    assert end(serving) == Exit.OK
    assert serving.errors.read_text() == ""


def history(serving: Serving) -> list[str]:
    """What a service knows it has sent or received, newest first."""
    return [row["path"] for row in serving.rows("history", limit=100)]


def tree(folder: Path) -> Path:
    (folder / "inner").mkdir(parents=True)
    for number in range(30):
        (folder / "inner" / f"{number}.txt").write_text(f"{folder} {number}")
    (folder / "link").symlink_to("inner")
    (folder / os.fsdecode(b"\xff.txt")).write_text("no text")
    os.mkfifo(folder / "pipe")
    return folder


def untimed(done: Done) -> Any:
    """Everything that was printed, but for how long it took and in which order it arrived."""
    rows = [{key: row[key] for key in row if key != "seconds"} for row in done.rows]
    return done.code, sorted(map(json.dumps, rows)), done.err


class HandedTests:
    def test_light(self, ours: Serving, tmp_path: Path) -> None:
        """A plain send, and whatever only asks the service, imports nothing that is heavy."""
        (tmp_path / "light.txt").write_text("1")
        script = (
            "import sys\n"
            "from lanxfer.cli.main import main\n"
            "try:\n"
            "    main(sys.argv[1:])\n"
            "finally:\n"
            "    tops = {name.partition('.')[0] for name in sys.modules}\n"
            f"    found = [each for each in {HEAVY!r} if each in tops]\n"
            f"    found += [each for each in {HEAVY_MODULES!r} if each in sys.modules]\n"
            "    print(found, file=sys.stderr)\n"
        )
        for line in (
            ["send", str(tmp_path / "light.txt"), "nas"],
            ["message", "light", "nas"],
            ["status"],
        ):
            done = subprocess.run(
                [sys.executable, "-c", script, "-s", str(ours.state), *line],
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == Exit.OK
            if line == ["status"]:
                assert done.stderr == "['lanxfer.peers']\n"  # it shows names of keys
            else:
                assert done.stderr == "[]\n"
        assert "light.txt" in history(ours)

    def test_same(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """What is printed is what a process prints that does it itself, in rows and in lines."""
        folder = tree(tmp_path / "same")
        (tmp_path / "one.txt").write_text("one")
        line = ("send", folder, tmp_path / "one.txt", "nas", "-s", ours.state)
        assert run(*line).code == Exit.PARTIAL
        handed, here = run(*line), run(*line, "--here")
        assert handed.err == here.err and handed.code == here.code == Exit.PARTIAL
        assert sorted(handed.out.splitlines()) == sorted(here.out.splitlines())
        assert "30 already there, 1 did not arrive\n" in handed.out
        assert untimed(run(*line, "--json")) == untimed(run(*line, "--json", "--here"))
        assert run(*line, "--quiet").out == ""
        stored = nas.inbox / "same" / "inner" / "7.txt"
        assert stored.read_text() == f"{folder} 7"

    def test_relative(self, ours: Serving, tmp_path: Path) -> None:
        """Paths are those of the folder the command was given in, and said as they were typed."""
        folder = tmp_path / "relative"
        folder.mkdir()
        (folder / "a").write_text("a")
        os.mkfifo(tmp_path / "fifo")
        lines = (["relative", "nas"], ["relative/../relative/.", "nas"], ["fifo", "nas"])
        for line in lines:
            found = [
                run("send", *line, "-s", ours.state, *how, cwd=tmp_path) for how in ([], ["--here"])
            ]
            handed, here = found
            assert (handed.code, handed.err) == (here.code, here.err)
        assert '"fifo"' in here.err
        assert history(ours).count("relative/a") == 2

    def test_name_conflict_links(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """The options that say how to store are heeded."""
        (tmp_path / "a.txt").write_text("one")
        line = ("send", tmp_path / "a.txt", "nas", "-s", ours.state, "--name", "b/handed.txt")
        assert run(*line).out.startswith("b/handed.txt: 3 B\n")
        assert (nas.inbox / "b" / "handed.txt").read_text() == "one"
        (tmp_path / "a.txt").write_text("two")
        assert 'stored as "b/handed (2).txt"' in run(*line).out
        (tmp_path / "a.txt").write_text("three")
        refused = run(*line, "--conflict", "refuse")
        assert refused == run(*line, "--conflict", "refuse", "--here")
        assert refused.code != Exit.OK and "b/handed.txt" in refused.err
        (tmp_path / "sym").symlink_to("a.txt")
        linked = ("send", tmp_path / "sym", "nas", "-s", ours.state, "--links")
        assert run(*linked).err == run(*linked, "--here").err
        assert "b/handed.txt" in history(ours)

    def test_message(self, nas: Serving, ours: Serving) -> None:
        """A text goes the same way."""
        done = run("message", "handed on", "nas", "-s", ours.state)
        assert done == Done(Exit.OK, "nas has the message.\n", "")
        assert "handed on" in history(ours) and "handed on" in history(nas)

    def test_plain(self, ours: Serving, tmp_path: Path) -> None:
        """In plain text as well, where that is asked for."""
        anybody = serve(tmp_path / "anybody", "--open", "--plain-from", "127.0.0.0/8")
        try:
            (tmp_path / "plain.txt").write_text("plain")
            line = ("plain.txt", anybody.address, "--plain", "-s", ours.state)
            assert run("send", *line, cwd=tmp_path).code == Exit.OK
            assert run("message", "in plain", *line[1:]).code == Exit.OK
            assert (anybody.inbox / "plain.txt").read_text() == "plain"
            assert {"plain.txt", "in plain"} <= set(history(ours))
            tls_only = ("send", "plain.txt", "nas", "--plain", "-s", ours.state)
            assert run(*tls_only, cwd=tmp_path) == run(*tls_only, "--here", cwd=tmp_path)
        finally:
            assert end(anybody) == Exit.OK

    def test_waits_for_a_yes(self, tmp_path: Path) -> None:
        """That somebody is asked over there is said here."""
        asking = serve(tmp_path / "asking")
        laptop = beside(asking, tmp_path / "asker")
        try:
            assert asking.ask("peer", "set", "asker", "offers=ask").code == Exit.OK
            (tmp_path / "film").write_bytes(b"film")
            sending = start("send", tmp_path / "film", "nas", "-s", laptop.state)
            assert next_line(sending.stderr) == "Waiting for nas to accept.\n"
            (row,) = until(lambda: asking.rows("pending_requests"))
            assert asking.ask("accept", row["id"]).code == Exit.OK
            assert finish(sending).code == Exit.OK
            assert "film" in history(laptop)
        finally:
            assert (end(laptop), end(asking)) == (Exit.OK, Exit.OK)

    def test_unreachable(self, ours: Serving, tmp_path: Path) -> None:
        """A device that is not there is said to be so, with the same code."""
        know(ours.state, "gone", "B" * 51 + "A", "127.0.0.1:1")
        (tmp_path / "a").write_text("a")
        line = ("send", tmp_path / "a", "gone", "-s", ours.state)
        handed = run(*line)
        assert handed == run(*line, "--here") and handed.code == Exit.UNREACHABLE

    def test_unknown(self, ours: Serving, tmp_path: Path) -> None:
        """What the two would have to be paired for is done, and said, by the command itself."""
        other = serve(tmp_path / "other")
        try:
            (tmp_path / "a").write_text("a")
            done = run("send", tmp_path / "a", other.address, "-s", ours.state)
            assert done.code == Exit.REFUSED and "lanxfer pair" in done.err
        finally:
            assert end(other) == Exit.OK

    def test_crashed_service(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """A socket that a crash left keeps nobody from sending."""
        laptop = beside(nas, tmp_path / "crashed")
        laptop.process.kill()
        laptop.process.wait()
        (tmp_path / "left.txt").write_text("left")
        assert run("send", tmp_path / "left.txt", "nas", "-s", laptop.state).code == Exit.OK
        assert run("status", "-s", laptop.state).code == Exit.UNREACHABLE

    @pytest.mark.parametrize("code", ["unknown-command", "stopping", "overloaded"])
    def test_refuses(self, nas: Serving, tmp_path: Path, code: str) -> None:
        """Where the service is too old, or does not want to, the command does it by itself."""
        state, path = tmp_path / "state", tmp_path / f"{code}.txt"
        know(nas.state, code, own_key(state))
        know(state, "nas", own_key(nas.state), nas.address)
        path.write_text(code)

        @greeted
        def script(hear: Callable[[], dict[str, Any]], say: Say) -> None:
            assert hear()["name"] == "send_paths"
            say({"error": 2, "code": code, "reason": "", "retry": False})

        service = Service(str(state / "control.sock"), script)
        try:
            done = run("send", path, "nas", "-s", state)
        finally:
            service.close()
        assert [each.get("name") for each in service.heard] == ["hello", "send_paths"]
        assert (done.code, done.err) == (Exit.OK, "")
        assert (nas.inbox / path.name).read_text() == code


class SightTests:
    def ask(self, ours: Serving, path: Path, ino: int = 0, where: str = "") -> bool:
        """What a service answers that is told to see another inode, or from another place."""
        seen = look(str(path))
        row = {"path": seen.path, "dev": seen.dev, "ino": ino or seen.ino}
        control = Control(str(ours.state / "control.sock"))
        try:
            args = {"peer": "nas", "view": where or view()}
            answer = control.ask("send_paths", args, format_rows([row]))
        finally:
            control.close()
        return bool(answer.args["sees"])

    def test_other_file(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """A service that sees something else by that name sends nothing."""
        path = tmp_path / "other.bin"
        path.write_bytes(b"other")
        assert not self.ask(ours, path, ino=1)
        assert not (nas.inbox / "other.bin").exists()
        assert self.ask(ours, path, where="mnt:[1] 1:1")
        assert (nas.inbox / "other.bin").read_bytes() == b"other"

    def test_other_view(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """Of a folder nobody knows what is mounted below it in another place."""
        folder = tmp_path / "viewed"
        folder.mkdir()
        (folder / "a").write_text("a")
        assert not self.ask(ours, folder, where="mnt:[1] 1:1")
        assert not (nas.inbox / "viewed").exists()
        assert self.ask(ours, folder)
        assert (nas.inbox / "viewed" / "a").exists()

    def test_queue(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """What the service does not see as the command does is refused, and not queued."""
        path = tmp_path / "unseen.txt"
        path.write_text("x")
        script = (
            "import sys, lanxfer.cli.sending as sending\n"
            "from lanxfer.cli.main import main\n"
            "look = sending.look\n"
            "sending.look = lambda path: look(path)._replace(ino=1)\n"
            "main(sys.argv[1:])\n"
        )
        line = [sys.executable, "-c", script, "send", str(path), "nas", "--queue"]
        done = subprocess.run(
            [*line, "-s", str(ours.state)], capture_output=True, text=True, check=False
        )
        assert done.returncode == Exit.FAILED and "without --queue" in done.stderr

    def test_falls_back(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """The command then sends by itself, and nobody sees a difference."""
        path = tmp_path / "fallen.txt"
        path.write_text("x")
        script = (
            "import sys, lanxfer.cli.handing as handing\n"
            "from lanxfer.cli.main import main\n"
            "handing.view = lambda: 'elsewhere'\n"
            "look = handing.look\n"
            "handing.look = lambda path: type(look(path))(look(path).path, 1, 1)\n"
            "main(sys.argv[1:])\n"
        )
        line = [sys.executable, "-c", script, "send", str(path), "nas", "-s", str(ours.state)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (Exit.OK, "")
        assert done.stdout.startswith("fallen.txt: 1 B\n")
        assert (nas.inbox / "fallen.txt").exists() and "fallen.txt" not in history(ours)


class EndTests:
    @pytest.fixture
    def large(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        path = tmp_path / f"{request.node.name}.bin"
        with path.open("wb") as file:
            file.truncate(LARGE)
        return path

    def quiet(self, nas: Serving, ours: Serving) -> None:
        """Wait until nothing is under way any more, on either side."""
        until(lambda: not nas.rows("pending_requests") and not ours.rows("pending_requests"))

    def test_ctrl_c(self, nas: Serving, ours: Serving, large: Path, tmp_path: Path) -> None:
        """Ctrl-C gives it up on all three sides; what had arrived is said."""
        (tmp_path / "first.txt").write_text("first")
        sending = start("send", tmp_path / "first.txt", large, "nas", "-s", ours.state)
        nas.rows("pause", id=moving(nas, large.name))
        until(lambda: "first.txt" in history(ours))
        sending.send_signal(signal.SIGINT)
        done = finish(sending)
        assert done.code == Exit.CANCELLED
        assert "Cancelled; 1 file had arrived." in done.err and large.name not in done.err
        self.quiet(nas, ours)
        assert not (nas.inbox / large.name).exists()

    def test_ctrl_c_twice(self, nas: Serving, ours: Serving, large: Path) -> None:
        """The second one ends the command at once, whatever the service is doing."""
        sending = start("send", large, "nas", "-s", ours.state)
        nas.rows("pause", id=moving(nas, large.name))
        ours.process.send_signal(signal.SIGSTOP)
        try:
            sending.send_signal(signal.SIGINT)
            assert "Ctrl-C again" in next_line(sending.stderr)
            sending.send_signal(signal.SIGINT)
            assert finish(sending).code == Exit.CANCELLED
        finally:
            ours.process.send_signal(signal.SIGCONT)
        self.quiet(nas, ours)

    def test_asker_killed(self, nas: Serving, ours: Serving, large: Path) -> None:
        """What a command asked for ends with it, and the same command goes on from there."""
        sending = start("send", large, "nas", "-s", ours.state)
        until(lambda: any(row["done"] > 2**25 for row in nas.rows("pending_requests")))
        nas.rows("pause", id=moving(nas, large.name))
        sending.kill()
        sending.communicate()
        self.quiet(nas, ours)
        assert not (nas.inbox / large.name).exists()
        done = run("send", large, "nas", "-s", ours.state)
        assert done.code == Exit.OK and "of it from before" in done.out, done
        (nas.inbox / large.name).unlink()

    def test_service_killed(self, nas: Serving, large: Path, tmp_path: Path) -> None:
        """A service that dies midway is said to have; the same command does it without one."""
        laptop = beside(nas, tmp_path / "dying")
        sending = start("send", large, "nas", "-s", laptop.state)
        until(lambda: any(row["done"] > 2**25 for row in nas.rows("pending_requests")))
        nas.rows("pause", id=moving(nas, large.name))
        laptop.process.kill()
        laptop.process.wait()
        done = finish(sending)
        assert done.code == Exit.UNREACHABLE
        assert done.err.count("\n") == 1 and "the same command" in done.err
        until(lambda: not nas.rows("pending_requests"))
        again = run("send", large, "nas", "-s", laptop.state)
        assert again.code == Exit.OK and "of it from before" in again.out, again
        (nas.inbox / large.name).unlink()

    def test_service_stopped(self, nas: Serving, large: Path, tmp_path: Path) -> None:
        """A service that is stopped ends what it does for others; that can be gone on with."""
        laptop = beside(nas, tmp_path / "stopping")
        sending = start("send", large, "nas", "-s", laptop.state)
        nas.rows("pause", id=moving(nas, large.name))
        assert end(laptop) == Exit.OK
        done = finish(sending)
        assert done.code not in (Exit.OK, Exit.CANCELLED) and done.err.startswith("lanxfer: ")
        until(lambda: not nas.rows("pending_requests"))

    def test_unread(self, nas: Serving, ours: Serving, tmp_path: Path) -> None:
        """A command that stands still holds up nothing but its own sending."""
        (tmp_path / "still.txt").write_text("still")
        sending = start("send", tmp_path / "still.txt", "nas", "-s", ours.state)
        sending.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        try:
            (tmp_path / "other.txt").write_text("other")
            assert run("send", tmp_path / "other.txt", "nas", "-s", ours.state).code == Exit.OK
        finally:
            sending.send_signal(signal.SIGCONT)
        assert finish(sending).code == Exit.OK
