"""``lanxfer send`` and ``lanxfer message`` without a service and without a reactor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from lanxfer import conversation, packet_socket
from lanxfer.cli import progress, straight
from lanxfer.cli.brief import Brief
from lanxfer.cli.choices import Choices
from lanxfer.cli.jobs import Job, Over
from lanxfer.errors import Exit, Lost
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder
from lanxfer.straight import NotStraight, Straight
from lanxfer.tally import Tally
from tests.odd_devices import Make, odd_devices
from tests.scripted_device import Hear
from tests.scripted_service import Say
from tests.test_cli_real import (
    Done,
    Serving,
    end,
    finish,
    know,
    met,
    own_key,
    run,
    serve,
    start,
    until,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

ELSEWHERE = ("--wait", "0")
"""Options with which a command takes the long way, and does the same."""


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = serve(tmp_path_factory.mktemp("nas") / "nas")
    yield serving
    assert end(serving) == Exit.OK
    assert serving.errors.read_text() == ""


@pytest.fixture(scope="module")
def here(nas: Serving, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a device that has no service."""
    state = tmp_path_factory.mktemp("here") / "state"
    return met(nas, state)


@pytest.fixture
def make(here: Path, tmp_path: Path) -> Iterator[Make]:
    """A device that says what it is told to, known here as "odd"."""
    with odd_devices(here, tmp_path) as make:
        yield make


HEAVY = ("twisted", "asyncio", "OpenSSL")


def imported(*line: object, heavy: Sequence[str] = HEAVY) -> tuple[Done, list[str]]:
    """What a command says, and what of the heavy packages it imported."""
    script = (
        "import sys\n"
        "from lanxfer.cli.main import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        f"    print(*[each for each in {heavy!r} if each in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, line)], capture_output=True, text=True, check=False
    )
    *lines, last = done.stdout.splitlines() or [""]
    return Done(done.returncode, "\n".join(lines), done.stderr), last.split()


class StraightTests:
    def test_met_before(self, nas: Serving, tmp_path: Path) -> None:
        """A certificate is taken apart once; later on it is enough that it is the same one."""
        here = met(nas, tmp_path / "state", "twice")
        heavy = ("cryptography", "OpenSSL", "ssl")
        for wanted in (["cryptography", "ssl"], ["ssl"], ["ssl"]):
            done, found = imported("message", "again", "nas", "-s", here, heavy=heavy)
            assert (done.code, found) == (Exit.OK, wanted)
        # Somebody else's certificate is still somebody else's.
        stranger = own_key(tmp_path / "stranger")
        know(here, "nas", stranger, nas.address)
        assert run("message", "to whom", "nas", "-s", here).code == Exit.REFUSED

    def test_met_before_and_another(self, make: Make, nas: Serving, tmp_path: Path) -> None:
        """Who answers with another certificate has another key, whatever was seen before."""
        here = met(nas, tmp_path / "state", "again")
        assert run("message", "hello", "nas", "-s", here).code == Exit.OK
        device = make(lambda hear, say: None, lambda hear, say: None)
        known = Peers(StateFolder(str(here)))
        known.add(Peer("nas", own_key(nas.state), (device.address,)))
        assert known.find("nas").certificate
        done = run("message", "to whom", "nas", "-s", here)
        assert done.code == Exit.REFUSED and "shows the key" in done.err
        assert not any(device.heard)  # nothing was said there

    def test_light(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """One file, small or not, and a text, take no reactor; patience does."""
        (tmp_path / "light.txt").write_text("light")
        for whom in ("nas", nas.address):
            done, heavy = imported("send", tmp_path / "light.txt", whom, "-s", here)
            assert (done.code, heavy) == (Exit.OK, [])
        done, heavy = imported("message", "light", "nas", "-s", here)
        assert (done.code, done.out, heavy) == (Exit.OK, "nas has the message.", [])
        assert (nas.inbox / "light.txt").read_text() == "light"
        for size in (2_000_000, 9_000_000):
            (tmp_path / "heavy.txt").write_text("x" * size)
            done, heavy = imported("send", tmp_path / "heavy.txt", "nas", "-s", here)
            assert (done.code, heavy) == (Exit.OK, [])
        done, heavy = imported("send", tmp_path / "heavy.txt", "nas", "-s", here, *ELSEWHERE)
        assert done.code == Exit.OK and "twisted" in heavy

    @pytest.mark.parametrize("how", [(), ("--json",), ("-q",)])
    def test_same(self, nas: Serving, here: Path, tmp_path: Path, how: tuple[str, ...]) -> None:
        """What is printed, and what arrives, is what the long way prints and sends."""
        file = tmp_path / "same.sh"
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
        os.utime(file, ns=(10**18, 10**18))
        (tmp_path / "empty").touch()

        def outcome(*options: str) -> list[Any]:
            found: list[Any] = []
            for line in (
                (file,),
                (file,),
                (tmp_path / "empty",),
                (file, "--name", "other.sh"),
                (file, "--name", "empty", "--conflict", "refuse"),
                (tmp_path / "missing",),
            ):
                path, *more = line
                done = run("send", path, "nas", "-s", here, *more, *how, *options)
                rows = done.rows if how == ("--json",) else []
                said = [{k: row[k] for k in row if k != "seconds"} for row in rows]
                found.append((done.code, said or done.out, done.err))
            stored = nas.inbox / "same.sh"
            facts = stored.stat()
            found.append((stored.read_text(), facts.st_mode, facts.st_mtime_ns))
            for name in ("same.sh", "other.sh", "empty"):
                (nas.inbox / name).unlink()
            return found

        assert outcome() == outcome(*ELSEWHERE)

    def test_refused(self, nas: Serving, tmp_path: Path) -> None:
        """Somebody who is not known there learns how to change that, as on the long way."""
        state = tmp_path / "stranger"
        (tmp_path / "a").write_text("a")
        know(state, "nas", own_key(nas.state), nas.address)
        line = ("send", tmp_path / "a", "nas", "-s", state)
        found = run(*line)
        assert found.code == Exit.REFUSED and found == run(*line, *ELSEWHERE)

    # covers: A04 T02
    def test_another_key(self, make: Make, here: Path, nas: Serving, tmp_path: Path) -> None:
        """Nothing is said to a device that shows another key than the one that is pinned."""
        device = make(lambda hear, say: None, lambda hear, say: None, key=own_key(tmp_path / "x"))
        (tmp_path / "a").write_text("a")
        done = run("send", tmp_path / "a", "odd", "-s", here)
        assert done.code == Exit.REFUSED and "shows the key" in done.err
        assert until(lambda: len(device.heard) == 2) and device.heard == [[], []]

    def test_hello_only(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Where somebody would be asked first, the bytes do not go with the request."""

        def asks(hear: Hear, say: Say) -> None:
            assert hear() == {}

        def streams(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"error": asked["do"], "code": "forbidden", "reason": "No.", "retry": False})
            hear()

        device = make(asks, streams, inline=0)
        (tmp_path / "a").write_text("abc")
        done = run("send", tmp_path / "a", "odd", "-s", here)
        assert done.code == Exit.REFUSED and "No." in done.err
        assert b"abc" not in device.bodies


class TroubleTests:
    def test_lost(self, make: Make, here: Path, tmp_path: Path) -> None:
        """A file whose answer was lost is asked about again, and arrives once."""

        def breaks(hear: Hear, say: Say) -> None:
            assert hear()["name"] == "recv_file"

        def answers(hear: Hear, say: Say) -> None:
            asked = hear()
            digest = blake3(b"abc").hexdigest()
            said = {"stored": "a", "size": 3, "blake3": digest, "already": True}
            say({"ok": asked["do"], **said})
            hear()

        device = make(breaks, answers)
        (tmp_path / "a").write_text("abc")
        done = run("send", tmp_path / "a", "odd", "-s", here)
        assert (done.code, done.err) == (Exit.OK, "")
        assert "already there" in done.out
        first, second = (heard[1] for heard in device.heard)
        assert first["path"] == second["path"] and first["blake3"] == second["blake3"]

    def test_message_lost(self, make: Make, here: Path) -> None:
        """A text is not said twice."""

        def breaks(hear: Hear, say: Say) -> None:
            hear()

        device = make(breaks)
        done = run("message", "hello", "odd", "-s", here)
        assert done.code == Exit.UNREACHABLE and "connection" in done.err
        assert [each["name"] for each in device.heard[0]] == ["hello", "recv_message"]

    def test_lies(self, make: Make, here: Path, tmp_path: Path) -> None:
        """An answer about other bytes is not believed, the second time neither."""

        def lies(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"ok": asked["do"], "stored": "a", "size": 3, "blake3": "ab" * 32})
            hear()

        make(lies, lies, lies, lies)
        (tmp_path / "a").write_text("abc")
        done = run("send", tmp_path / "a", "odd", "-s", here)
        assert done.code != Exit.OK and "something else" in done.err

    def test_pinged(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Whoever asks meanwhile whether this side lives hears that it does."""

        def pings(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"do": 1, "name": "hello", "speaks": ["lanxfer/1"]})
            say({"do": 2, "name": "ping"})
            assert hear()["error"] == 1
            assert hear() == {"ok": 2}
            digest = blake3(b"abc").hexdigest()
            say({"ok": asked["do"], "stored": "a", "size": 3, "blake3": digest})
            hear()

        make(pings)
        (tmp_path / "a").write_text("abc")
        assert run("send", tmp_path / "a", "odd", "-s", here).code == Exit.OK

    def test_interrupted(self, make: Make, here: Path, tmp_path: Path) -> None:
        """Ctrl-C gives the file up there, and its answer is waited for."""

        def waits(hear: Hear, say: Say) -> None:
            asked = hear()
            assert hear()["cancel"] == asked["do"]
            say({"error": asked["do"], "code": "cancelled", "reason": "", "retry": False})
            hear()

        device = make(waits)
        (tmp_path / "a").write_text("abc")
        process = start("send", tmp_path / "a", "odd", "-s", here)
        until(lambda: device.heard and len(device.heard[0]) == 2)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert (done.code, done.out) == (Exit.CANCELLED, "")
        assert done.err == "lanxfer: Cancelled.\n"
        assert device.heard[0][2]["cancel"] == 2

    @pytest.mark.parametrize("what", ["send", "message"])
    def test_interrupted_and_lost(self, make: Make, here: Path, tmp_path: Path, what: str) -> None:
        """Where the connection breaks before the answer to that, it may have arrived."""

        def breaks(hear: Hear, say: Say) -> None:
            hear()
            assert "cancel" in hear()

        device = make(breaks)
        (tmp_path / "a").write_text("abc")
        process = start(what, tmp_path / "a", "odd", "-s", here)
        until(lambda: device.heard and len(device.heard[0]) == 2)
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert done.code == Exit.CANCELLED and "may have arrived" in done.err

    def test_message_believed(self, make: Make, here: Path) -> None:
        """What was kept of a text has to be as long as the text."""

        def lies(hear: Hear, say: Say) -> None:
            say({"ok": hear()["do"], "size": 77})
            hear()

        make(lies)
        done = run("message", "hello", "odd", "-s", here)
        assert done.code == Exit.FAILED and "something else" in done.err

    def test_waits(
        self,
        make: Make,
        here: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """That somebody over there is asked is said, as long as it takes, too."""
        shown = threading.Event()

        def line_of(tally: Tally) -> str:
            if tally.waits:
                shown.set()
            return tally.waits

        def asks(hear: Hear, say: Say) -> None:
            asked = hear()
            say({"event": asked["do"], "waiting": True})
            assert shown.wait(10)
            digest = blake3(b"abc").hexdigest()
            say({"ok": asked["do"], "stored": "a", "size": 3, "blake3": digest})
            hear()

        make(asks)
        monkeypatch.setattr(progress, "line_of", line_of)
        monkeypatch.setattr(progress, "BARS_AFTER", 0.01)
        monkeypatch.setattr(progress, "LINE_EVERY", 0.01)
        (tmp_path / "a").write_text("abc")
        job = Job((str(tmp_path / "a"),), Over("odd"))
        assert straight.send(Choices(state=str(here)), job) == Exit.OK
        said = capsys.readouterr().err.splitlines()
        assert said.count("Waiting for odd to accept.") == 1
        assert "waiting for odd to accept" in said

    def test_drop_by_drop(self, make: Make, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hello that does not come to its end is given up."""
        monkeypatch.setattr(conversation, "HELLO_WAIT", 0.5)

        def drips(hear: Hear, say: Say) -> None:
            pass

        device = make(drips)
        device.slow = 0.1
        with pytest.raises(NotStraight):
            Straight(StateFolder(str(here)), "odd", packet_socket.wait, lambda silent: Lost())

    def test_remembered(self, nas: Serving, here: Path, tmp_path: Path) -> None:
        """The address that worked is the one that is tried first from then on."""
        state = tmp_path / "state"
        know(nas.state, "desktop", own_key(state))
        know(state, "nas", own_key(nas.state), "127.0.0.1:9")
        (tmp_path / "a").write_text("a")
        assert run("send", tmp_path / "a", nas.address, "-s", state).code == Exit.OK
        assert run("send", tmp_path / "a", "nas", "-s", state).code == Exit.OK
        (peer,) = Peers(StateFolder(str(state))).all()
        assert peer.addresses == (nas.address, "127.0.0.1:9")


class SignalTests:
    def test_left(self, tmp_path: Path) -> None:
        """When such a command has said that it cannot do it, signals mean what they meant."""
        meant = signal.getsignal(signal.SIGTERM)
        brief = Brief(Choices(state=str(tmp_path)))
        brief.listen()
        assert signal.getsignal(signal.SIGTERM) is not meant
        signal.raise_signal(signal.SIGTERM)
        brief.deafen()
        assert brief.interrupted
        assert signal.getsignal(signal.SIGTERM) is meant
