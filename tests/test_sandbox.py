"""What a service gives up: writing elsewhere, running programs, being root."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lanxfer.errors import AsRoot, Exit
from lanxfer.sandbox import refuse_root
from lanxfer.service import Settings
from lanxfer.tap import _for_twistd

landlockpy = pytest.importorskip("landlockpy", reason="landlockpy is not installed")


def _version() -> int:
    try:
        return int(landlockpy.abi_version())
    except landlockpy.LandlockError:
        return 0


needs_landlock = pytest.mark.skipif(_version() < 2, reason="this kernel has no Landlock")

CONFINED = """
import errno, json, os, subprocess, sys
from lanxfer.sandbox import confine, writable
inbox, outside = sys.argv[1:]
open(f"{outside}/there", "w").write("precious")
held = os.open(outside, os.O_RDONLY | os.O_DIRECTORY)
found = {"why": confine(writable([inbox]))}

def attempt(name, do):
    try:
        do()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]

attempt("create", lambda: open(f"{outside}/new", "w"))
attempt("by handle", lambda: os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=held))
attempt("change", lambda: open(f"{outside}/there", "a"))
attempt("truncate", lambda: os.truncate(f"{outside}/there", 0))
attempt("remove", lambda: os.unlink(f"{outside}/there"))
attempt("rename", lambda: os.rename(f"{outside}/there", f"{inbox}/there"))
attempt("folder", lambda: os.mkdir(f"{outside}/folder"))
attempt("link", lambda: os.symlink("x", f"{outside}/link"))
attempt("run", lambda: subprocess.run(["/bin/true"], check=True))
attempt("read", lambda: open(f"{outside}/there").read())
attempt("devnull", lambda: open(os.devnull, "w").write("x"))
os.mkdir(f"{inbox}/a")
attempt("inside", lambda: open(f"{inbox}/a/one", "w").write("x"))
attempt("moved inside", lambda: os.link(f"{inbox}/a/one", f"{inbox}/two"))
attempt("removed inside", lambda: os.unlink(f"{inbox}/a/one"))
found["again"] = confine(writable([inbox]))
try:
    confine(writable([outside]))
except Exception as error:
    found["other"] = type(error).__name__
print(json.dumps(found))
"""


def python(script: str, *args: object) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_landlock
class ConfineTests:
    # covers: P12 P20
    def test_rights(self, tmp_path: Path) -> None:
        """Outside nothing can be created, changed, removed or run; inside everything goes on."""
        inbox, outside = tmp_path / "in", tmp_path / "out"
        inbox.mkdir()
        outside.mkdir()
        found = python(CONFINED, inbox, outside)
        refused = ("create", "by handle", "change", "truncate", "remove", "rename", "folder")
        assert [found[each] for each in (*refused, "link", "run")] == ["EACCES"] * 9
        allowed = ("read", "devnull", "inside", "moved inside", "removed inside")
        assert [found[each] for each in allowed] == ["done"] * 5
        assert (found["why"], found["again"], found["other"]) == ("", "", "BadConfig")
        assert [each.name for each in outside.iterdir()] == ["there"]
        assert (outside / "there").read_text() == "precious"

    def test_threads(self, tmp_path: Path) -> None:
        """A process whose other threads would stay free says so instead of pretending."""
        script = (
            "import json, sys, threading\n"
            "from lanxfer.sandbox import confine, writable\n"
            "stop = threading.Event()\n"
            "threading.Thread(target=stop.wait).start()\n"
            "why = confine(writable([sys.argv[1]]))\n"
            "free = []\n"
            "stop.set()\n"
            "print(json.dumps(why))\n"
        )
        why = python(script, tmp_path)
        assert ("threads" in why) is (_version() < 8)

    def test_history(self, tmp_path: Path) -> None:
        """What SQLite would like to put into /tmp it does without: history of many files at once.

        The first statement makes a journal that is large, the second one changes much of it.
        """
        script = (
            "import json, sys\n"
            "from lanxfer.journal import Journal\n"
            "from lanxfer.sandbox import confine, writable\n"
            "from lanxfer.transfers import Direction, Kind, Snapshot, State\n"
            "journal = Journal(sys.argv[1] + '/history.db')\n"
            "assert confine(writable([sys.argv[1]])) == ''\n"
            "def some(first):\n"
            "    return [Snapshot(f'{first + at * 7919 % 2000:08}', Direction.IN, Kind.FILE, 'p',"
            " f'{at}' * 40, 1, State.DONE) for at in range(2000)]\n"
            "for first in (0, 1000, 2000):\n"
            "    journal.record(some(first))\n"
            "print(json.dumps(sum(1 for _ in journal.history(1000))))\n"
        )
        assert python(script, tmp_path) == 1000


SERVICE = """
import json, os, sys
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import react
sys.path.insert(0, sys.argv[3])
from lanxfer.client import connect
from lanxfer.peers import Peer, Peers
from lanxfer.service import Settings, TransferService
from lanxfer.state import StateFolder
from lanxfer.identity import load_identity

folder, outside = sys.argv[1:3]
states = {name: StateFolder(f"{folder}/{name}.state") for name in ("nas", "laptop")}
for here, there in (("nas", "laptop"), ("laptop", "nas")):
    Peers(states[here]).add(Peer(there, load_identity(states[there]).key, ()))

async def main(reactor):
    # The client is in the same process, so its state has to stay open as well.
    service = TransferService(reactor, Settings(
        inbox=f"{folder}/in", state=states["nas"].path, port=0, bind="127.0.0.1",
        reserve_bytes=0, reserve_share=0.0, sandbox=True, also_writable=(states["laptop"].path,)))
    service.startService()
    address = (await service.when_listening())[0]
    client = await connect(reactor, address, state=states["laptop"].path, device="laptop")
    receipt = await client.send_file(f"{outside}/film")
    small = await client.send_file(f"{outside}/note")
    from twisted.internet.threads import deferToThread
    tried = await deferToThread(attempt, f"{outside}/evil")
    status = service.status()
    await client.close()
    await service.stopService()
    print(json.dumps({"stored": [receipt.stored, small.stored], "tried": tried,
        "sandbox": status["sandbox"], "warnings": status["warnings"]}))

def attempt(path):
    try:
        open(path, "w")
    except OSError as error:
        return error.errno
    return 0

react(lambda reactor: ensureDeferred(main(reactor)))
"""


@needs_landlock
class ServiceTests:
    def test_confined_service(self, tmp_path: Path) -> None:
        """A confined service receives as ever, and none of its threads can write elsewhere."""
        inner, outside = tmp_path / "home", tmp_path / "outside"
        inner.mkdir()
        outside.mkdir()
        film = os.urandom(3_000_000)
        (outside / "film").write_bytes(film)
        (outside / "note").write_bytes(b"small")
        found = python(SERVICE, inner, outside, Path(__file__).parent.parent)
        assert found["stored"] == ["film", "note"]
        assert (inner / "in" / "film").read_bytes() == film
        assert (found["tried"], found["sandbox"]) == (13, "on")
        assert not any("SANDBOX" in each for each in found["warnings"])
        assert sorted(each.name for each in outside.iterdir()) == ["film", "note"]

    def test_status_tells(self, tmp_path: Path) -> None:
        """ "twistd lanxfer" is confined unless it is told not to be, and status says which."""
        root = Path(__file__).parent.parent
        for options, told in (((), "on"), (("--no-sandbox",), "off")):
            folder = tmp_path / told
            folder.mkdir()
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "twisted", "lanxfer", "--port", "none"),
                    *("--inbox", folder / "in", "--state", folder / "s", "--allow-root", *options),
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(root), "HOME": str(tmp_path)},
                stderr=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            try:
                assert _ask(folder / "s" / "control.sock", "status")["sandbox"].startswith(told)
            finally:
                process.terminate()
                assert process.wait(20) in (0, -15)


def _ask(path: Path, name: str) -> Any:
    for _ in range(200):
        with socket.socket(socket.AF_UNIX) as control:
            try:
                control.connect(str(path))
            except OSError:
                import time

                time.sleep(0.1)
                continue
            hello = {"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": "test"}
            for request in (hello, {"do": 2, "name": name}):
                control.sendall(json.dumps(request).encode() + b"\n")
            with control.makefile("rb") as answers:
                while (answer := json.loads(answers.readline())).get("ok") != 2:
                    pass
                return answer
    raise AssertionError("the service did not start")


class RootTests:
    @pytest.mark.parametrize(
        ("user", "told", "environment", "refused"),
        [
            (0, False, {}, True),
            (0, True, {}, True),
            (0, False, {"LANXFER_ALLOW_ROOT": "1"}, True),
            (0, True, {"LANXFER_ALLOW_ROOT": "0"}, True),
            (0, True, {"LANXFER_ALLOW_ROOT": "1"}, False),
            (1000, False, {}, False),
        ],
    )
    def test_twice(
        self,
        monkeypatch: pytest.MonkeyPatch,
        user: int,
        told: bool,
        environment: dict[str, str],
        refused: bool,
    ) -> None:
        """Root has to be told twice; anybody else not at all."""
        monkeypatch.setattr(os, "geteuid", lambda: user)
        if refused:
            with pytest.raises(AsRoot, match="--allow-root"):
                refuse_root(told, environment)
        else:
            refuse_root(told, environment)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can be refused")
    @pytest.mark.parametrize("door", ["twistd", "serve"])
    def test_sentence(self, tmp_path: Path, door: str) -> None:
        """Root hears one sentence and gets the exit code for settings; nothing is made."""
        line = (
            ("-m", "twisted", "lanxfer")
            if door == "twistd"
            else ("-c", "from lanxfer.cli.main import main; main()", "serve")
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        del environment["LANXFER_ALLOW_ROOT"]
        done = subprocess.run(
            [
                *(sys.executable, *line, "--port", "0", "--allow-root"),
                *("--state", tmp_path / "s", "--inbox", tmp_path / "in"),
            ],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == Exit.CONFIG
        assert done.stderr.count("LANXFER_ALLOW_ROOT") == 1 and "Traceback" not in done.stderr
        assert not (tmp_path / "in").exists()


class TwistdTests:
    def test_log_and_pid(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What twistd writes later stays open, unless that would open the home folder."""
        home, run = tmp_path / "home", tmp_path / "run"
        home.mkdir()
        run.mkdir()
        monkeypatch.setenv("HOME", str(home))
        base = Settings(inbox="in", state="st", sandbox=True)
        foreground = {"nodaemon": True, "logfile": None, "rundir": str(run), "pidfile": "a.pid"}
        settings, why = _for_twistd(base, foreground)
        assert (settings.also_writable, settings.also_removable, why) == ((), (str(run),), "")
        settings, why = _for_twistd(base, {**foreground, "nodaemon": False, "pidfile": ""})
        assert (settings.also_writable, settings.also_removable, why) == ((str(run),), (), "")
        settings, why = _for_twistd(base, {**foreground, "rundir": str(home)})
        assert (settings.also_removable, settings.sandbox, why) == ((), True, "")
        settings, why = _for_twistd(base, {**foreground, "rundir": "/", "logfile": "x.log"})
        assert not settings.sandbox and "--logfile" in why
        settings, why = _for_twistd(base, {**foreground, "logfile": "-"})
        assert settings.also_writable == () and settings.sandbox
