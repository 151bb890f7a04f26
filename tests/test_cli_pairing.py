"""``lanxfer pair`` as people type it: processes, terminals, exit codes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_cli_real import (
    PATIENCE,
    Done,
    Process,
    Serving,
    end,
    finish,
    next_line,
    run,
    serve,
    start,
    until,
)

from lanxfer.cli.main import main
from lanxfer.codes import new_code, words
from lanxfer.errors import Exit
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and control sockets of POSIX")


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service that runs for all of these tests."""
    serving = serve(tmp_path_factory.mktemp("pairing") / "nas")
    yield serving
    assert end(serving) == Exit.OK
    assert serving.errors.read_text() == ""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The state folder of a device that nobody knows yet."""
    return tmp_path / "here"


class Shown:
    """``lanxfer pair`` on the nas, waiting."""

    def __init__(self, nas: Serving, *options: object) -> None:
        self.process: Process = start("--state", nas.state, "pair", "--json", *options)
        self.row = json.loads(next_line(self.process.stdout))
        self.words = " ".join(self.row["words"])

    def end(self) -> Done:
        return finish(self.process)


def names(state: Path) -> list[str]:
    return [each.name for each in Peers(StateFolder(str(state))).all()]


def clear(state: Path) -> None:
    peers = Peers(StateFolder(str(state)))
    for name in names(state):
        peers.forget(name)


@pytest.fixture(autouse=True)
def strangers(nas: Serving) -> None:
    """Nobody is known to the nas when a test begins."""
    clear(nas.state)


def join(here: Path, nas: Serving, said: str, *options: object) -> Done:
    line = ("--state", here, "--json", "pair", nas.address, "--code", "-", *options)
    return run(*line, data=said.encode())


def welcomes(nas: Serving, here: Path) -> bool:
    """Whether a stranger's hello is answered, which it is while there is a window."""
    key = here.parent / "openssl.pem"
    folder = StateFolder(str(here))
    identity = load_identity(folder)
    key.write_bytes(identity.certificate_pem + identity.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["lanxfer/1"])
    context.load_cert_chain(key)
    host, port = nas.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE) as plain,
        context.wrap_socket(plain) as wire,
        wire.makefile("rb") as answers,
    ):
        wire.sendall(b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"]}\n')
        return "ok" in json.loads(answers.readline())


class PairTests:
    def test_right(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """Words shown here, typed there: both say so, with the key, and a file can be sent."""
        shown = Shown(nas)
        assert len(shown.row["words"]) == 3 and shown.row["seconds"] == 120
        assert shown.row["addresses"] == [nas.address]
        came = join(here, nas, shown.words + "\n", "--name", "my-nas")
        assert came.code == Exit.OK, came.err
        assert came.rows[-1]["paired"]["peer"] == "my-nas"
        done = shown.end()
        assert done.code == Exit.OK and done.rows[-1]["paired"]["once"] is False
        assert (names(here), len(names(nas.state))) == (["my-nas"], 1)
        file = tmp_path / "a.txt"
        file.write_bytes(b"hello")
        assert run("--state", here, "send", file, "my-nas").code == Exit.OK
        assert (nas.inbox / "a.txt").read_bytes() == b"hello"

    def test_wrong(self, nas: Serving, here: Path) -> None:
        """Wrong words: both commands say so, and end with the code of a refusal."""
        # covers: A02, A04
        shown = Shown(nas)
        wrong = next(each for each in iter(new_code, "") if each.split("-") != shown.row["words"])
        came = join(here, nas, wrong)
        assert (came.code, came.rows[-1]["error"]) == (Exit.REFUSED, "auth-failed")
        done = shown.end()
        assert (done.code, done.rows[-1]["error"]) == (Exit.REFUSED, "auth-failed")
        again = join(here, nas, shown.words)
        assert (again.code, again.rows[-1]["error"]) == (Exit.REFUSED, "not-paired")
        assert (names(here), names(nas.state)) == ([], [])

    def test_slip(self, nas: Serving, here: Path) -> None:
        """A slip of the finger is named, and costs nothing."""
        shown = Shown(nas, "--name", "laptop")
        slipped = join(here, nas, shown.words.replace(shown.row["words"][1], "mapel"))
        assert slipped.code == Exit.CONFIG and "'mapel'" in slipped.err
        assert join(here, nas, shown.words).code == Exit.OK
        assert shown.end().rows[-1]["paired"]["peer"] == "laptop"

    def test_once(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """--once: one sending, with the words from a file, and nobody is known afterwards."""
        shown = Shown(nas, "--once")
        refused = join(here, nas, shown.words)
        assert refused.code == Exit.REFUSED and "lanxfer send FILE" in refused.err
        code = tmp_path / "code"
        code.write_text(shown.words)
        file = tmp_path / "once.txt"
        file.write_bytes(b"hello")
        line = ("--state", here, "send", file, nas.address)
        sent = run(*line, "--code", code)
        assert sent.code == Exit.OK, sent.err
        assert shown.end().code == Exit.OK
        assert (nas.inbox / "once.txt").read_bytes() == b"hello"
        assert (names(here), names(nas.state)) == ([], [])
        assert run(*line).code == Exit.REFUSED

    def test_first_message(self, nas: Serving, here: Path) -> None:
        """The first message brings the words along, and pairs."""
        shown = Shown(nas)
        said = run(
            "--state",
            here,
            "message",
            "hello",
            nas.address,
            "--code",
            "-",
            data=shown.words.encode(),
        )
        assert said.code == Exit.OK, said.err
        assert shown.end().code == Exit.OK and len(names(here)) == 1

    def test_token(self, tmp_path: Path, here: Path) -> None:
        """Devices that hold the same token know each other without words."""
        token = tmp_path / "token"
        token.write_text("0123456789abcdef0123456789abcdef\n")
        token.chmod(0o600)
        serving = serve(tmp_path / "fleet", "--token-file", token)
        try:
            line = ("--state", here, "message", "hello", serving.address)
            assert run(*line).code == Exit.REFUSED
            done = run(*line, "--token-file", token)
            assert done.code == Exit.OK, done.err
            other = tmp_path / "other"
            paired = run("--state", other, "pair", serving.address, "--token-file", token)
            assert paired.code == Exit.OK, paired.err
            assert len(names(serving.state)) == 2
        finally:
            assert end(serving) == Exit.OK

    def test_words_are_nowhere(self, nas: Serving, here: Path) -> None:
        """Words are in no argument and in no log, whatever became of them."""
        # covers: A11
        shown = Shown(nas)
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert join(here, nas, shown.words).code == Exit.OK
        shown.end()
        kept = [
            path.read_bytes()
            for top in (nas.state, here)
            for path in top.rglob("*")
            if path.is_file()
        ]
        for form in (shown.words, shown.words.replace(" ", "-")):
            for text in (*lines, *kept, nas.log.read_bytes(), nas.errors.read_bytes()):
                assert form.encode() not in text


class EndTests:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_closes(self, number: signal.Signals, nas: Serving, here: Path) -> None:
        """However the command ends that shows the words, they are void then."""
        shown = Shown(nas)
        shown.process.send_signal(number)
        code = shown.end().code
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else Exit.CANCELLED)

        until(lambda: not welcomes(nas, here))
        assert join(here, nas, shown.words).rows[-1]["error"] == "not-paired"

    def test_no_service(self, tmp_path: Path) -> None:
        """Without a service there is nobody to open a window."""
        done = run("--state", tmp_path / "none", "pair")
        assert done.code == Exit.UNREACHABLE and "lanxfer serve" in done.err

    def test_nobody_there(self, tmp_path: Path, here: Path) -> None:
        """A host that does not answer is said as such."""
        done = run("--state", here, "pair", "127.0.0.1:1", "--code", "-", data=new_code().encode())
        assert done.code == Exit.UNREACHABLE

    def test_no_terminal(self, nas: Serving, here: Path) -> None:
        """Where nobody can be asked, it says where words can come from."""
        done = run("--state", here, "pair", nas.address)
        assert done.code == Exit.CONFIG and "--code" in done.err

    def test_not_asked_either(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """A script that sends to a stranger gets the refusal, and what to type."""
        file = tmp_path / "a.txt"
        file.write_bytes(b"hello")
        done = run("--state", here, "send", file, nas.address)
        assert done.code == Exit.REFUSED and f"lanxfer pair {nas.address}" in done.err

    @pytest.mark.parametrize(
        "line",
        [
            ("pair", "--code", "-"),
            ("pair", "--token-file", "x"),
            ("pair", "nas", "--once"),
            ("pair", "nas", "--code", "-", "--token-file", "x"),
            ("message", "hi", "nas", "--code", "-", "--plain"),
            ("send", "-", "nas", "--code", "-"),
            ("send", "a", "nas", "--code", "x", "--queue"),
        ],
    )
    def test_no_sense(self, line: tuple[str, ...], tmp_path: Path) -> None:
        """Lines that make no sense are said as such, before anything is done."""
        done = CliRunner().invoke(main, ["--state", str(tmp_path / "state"), *line])
        assert done.exit_code == Exit.USAGE
        assert not (tmp_path / "state").exists()


class TerminalTests:
    def open(self, *line: object) -> tuple[Process, int]:
        master, slave = pty.openpty()
        process = start(*line, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        return process, master

    def see(self, master: int, what: str) -> str:
        """Everything on the screen, up to the first ``what`` that is new."""
        found, deadline = "", time.monotonic() + PATIENCE
        while what not in found:
            assert time.monotonic() < deadline, found
            if select.select([master], [], [], 0.1)[0]:
                try:
                    found += os.read(master, 4096).decode()
                except OSError:
                    break
        assert what in found, found
        return found

    def test_first_send(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """The first send to a stranger asks for the words, again after a slip, pairs, sends."""
        shown = Shown(nas)
        file = tmp_path / "first.txt"
        file.write_bytes(b"hello")
        process, master = self.open("--state", here, "send", file, nas.address)
        try:
            asked = self.see(master, "Words: ")
            assert "lanxfer pair" in asked and "do not know each other" in asked
            os.write(master, b"mapel orbit tundra\n")
            assert "'maple'" in self.see(master, "Words: ")
            os.write(master, shown.words.upper().encode() + b"\n")
            self.see(master, "sent to")
            assert process.wait(PATIENCE) == Exit.OK
        finally:
            process.kill()
            os.close(master)
        assert shown.end().code == Exit.OK
        assert (nas.inbox / "first.txt").read_bytes() == b"hello"

    def test_changed_key(self, nas: Serving, here: Path) -> None:
        """Where a known device shows another key, nobody is asked for words at all."""
        # covers: A07
        Peers(StateFolder(str(here))).add(Peer("nas", "A" * 51 + "Q", (nas.address,)))
        for line in (("pair", "nas"), ("pair", nas.address), ("message", "hi", "nas")):
            process, master = self.open("--state", here, *line)
            try:
                seen = self.see(master, "--name NAME")
                assert "lanxfer peer forget nas" in seen and "Words" not in seen
                assert process.wait(PATIENCE) == Exit.REFUSED
            finally:
                process.kill()
                os.close(master)

    @pytest.mark.parametrize("typed", [b"\n", b"\x03"])
    def test_gives_up(self, typed: bytes, nas: Serving, here: Path) -> None:
        """Enter alone, or Ctrl-C, gives up; the words stay good."""
        shown = Shown(nas)
        process, master = self.open("--state", here, "pair", nas.address)
        try:
            self.see(master, "Words: ")
            os.write(master, typed)
            if typed == b"\x03":  # the terminal is not the process's own here
                process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == Exit.CANCELLED
        finally:
            process.kill()
            os.close(master)
        assert join(here, nas, shown.words).code == Exit.OK
        shown.end()

    def test_shows(self, nas: Serving) -> None:
        """People see the addresses to type, and the words."""
        process, master = self.open("--state", nas.state, "pair")
        try:
            seen = self.see(master, "one try")
            assert f"lanxfer pair {nas.address}" in seen
            assert any(set(line.split()) <= words() and line.split() for line in seen.splitlines())
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == Exit.CANCELLED
        finally:
            process.kill()
            os.close(master)
