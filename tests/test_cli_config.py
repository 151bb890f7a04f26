"""``lanxfer config``, and real services that read their file: when they start, and on SIGHUP."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from click.testing import CliRunner, Result

from lanxfer.cli.main import main
from lanxfer.config.file import read_config
from lanxfer.config.table import KEYS
from lanxfer.errors import Exit

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and control sockets of POSIX")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


def run(*line: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in line])


class CommandTests:
    def test_list(self, state: Path) -> None:
        """Every setting is there with its value and where it is from."""
        (state.with_suffix(".toml")).write_text('port = 40000\nauth = ["memory:bob:two"]\n')
        for line in (["config"], ["config", "list"]):
            done = run(*line, "-s", state, "--json")
            assert done.exit_code == 0
            rows = {row["key"]: row for row in map(json.loads, done.stdout.splitlines())}
            assert tuple(rows) == KEYS
            port = {"key": "port", "value": 40000, "from": "file", "live": False}
            assert rows["port"] == port
            assert rows["web-port"]["from"] == "default" and rows["web-port"]["value"] == 36970
            assert rows["auth"]["value"] == ["memory:bob:***"]
        words = [line.split() for line in run("config", "-s", state).stdout.splitlines()]
        assert ["port", "40000", "file"] in words and ["open", "false", "default"] in words

    def test_change(self, state: Path) -> None:
        """What is set is in the file, what is unset is not, and get says which."""
        path = state.with_suffix(".toml")
        assert run("config", "set", "share", "a=/x", "b=/y:rw", "-s", state).exit_code == 0
        assert run("config", "set", "rate-in", "5M", "-s", state).exit_code == 0
        assert read_config(str(path)) == {"share": ("a=/x", "b=/y:rw"), "rate-in": 5 << 20}
        assert run("config", "get", "share", "-s", state).stdout == "a=/x\nb=/y:rw\n"
        assert run("config", "unset", "share", "-s", state).exit_code == 0
        assert run("config", "get", "share", "-s", state).stdout == ""
        assert path.read_text() == 'rate-in = "5 MiB"\n'
        assert run("config", "path", "-s", state).stdout == f"{path}\n"
        done = run("config", "check", "-s", state)
        assert (done.exit_code, done.stdout) == (0, f"{path} is good: 1 setting.\n")

    def test_another_file(self, state: Path, tmp_path: Path) -> None:
        """--config names it, in front of the command or after it."""
        other = tmp_path / "other.toml"
        assert run("config", "set", "port", "none", "-c", other, "-s", state).exit_code == 0
        for line in (["-c", other, "get", "port"], ["get", "port", "-c", other]):
            assert run("config", *line, "-s", state).stdout == "none\n"
        done = run("config", "list", "-c", tmp_path / "missing", "-s", state)
        assert done.exit_code == Exit.CONFIG and "There is no configuration file" in done.stderr

    @pytest.mark.parametrize(
        ("line", "code", "said"),
        [
            (["set", "prot", "1"], Exit.CONFIG, 'did you mean "port"?'),
            (["set", "port", "many"], Exit.CONFIG, "port is a number from 0 to 65535"),
            (["set", "port", "1", "2"], Exit.CONFIG, "port has one value, not 2."),
            (["set", "inbox", "here"], Exit.CONFIG, "a whole path"),
            (["set", "port"], Exit.USAGE, "VALUE"),
            (["get", "prot"], Exit.CONFIG, 'did you mean "port"?'),
            (["unset", "port"], Exit.FAILED, "does not set port"),
            (["unset", "prot"], Exit.CONFIG, 'did you mean "port"?'),
            (["reload"], Exit.UNREACHABLE, "No lanxfer service of yours"),
        ],
    )
    def test_nonsense(self, line: list[str], code: Exit, said: str, state: Path) -> None:
        """What makes no sense is said, and writes nothing."""
        done = run("config", *line, "-s", state)
        assert done.exit_code == code
        assert said in done.stderr
        assert not (state.with_suffix(".toml")).exists()

    @pytest.mark.parametrize(
        "text",
        ["prot = 1\n", "port = \n", 'auth = ["nonsense"]\n', 'auth = ["file:/nowhere"]\n'],
    )
    def test_check(self, text: str, state: Path) -> None:
        """A file with which nothing would start is found out before."""
        (state.with_suffix(".toml")).write_text(text)
        done = run("config", "check", "-s", state)
        assert done.exit_code == Exit.CONFIG
        assert f"{state}.toml" in done.stderr


@define
class Service:
    """A real one, without a terminal."""

    process: subprocess.Popen[bytes]
    log: Path
    state: Path

    @property
    def file(self) -> Path:
        return self.state.with_suffix(".toml")

    def said(self, text: str, times: int = 1) -> None:
        wait(lambda: self.log.read_text().count(text) >= times, self.log)

    def hang_up(self, text: str, said: str) -> None:
        before = self.log.read_text().count(said)
        self.file.write_text(text)
        self.process.send_signal(signal.SIGHUP)
        self.said(said, before + 1)

    def ask(self, *line: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lanxfer.cli.main", *line, "-s", str(self.state)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    def rate(self) -> int:
        return int(json.loads(self.ask("limit", "--json").stdout)["in"])


def wait(true: Callable[[], object], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)


LISTENS = {"serve": "Listening on", "twistd": "lanxfer listens on"}


SERVE = [sys.executable, "-m", "lanxfer.cli.main", "serve"]
TWISTD = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "lanxfer"]


def begin(kind: str, folder: Path, *options: str, **how: Any) -> Service:
    state, log = folder / "state", folder / "log"
    state.mkdir(mode=0o700, exist_ok=True)
    line = SERVE if kind == "serve" else TWISTD
    told = ["--bind=127.0.0.1", f"--state={state}", f"--inbox={folder / 'inbox'}", "--allow-root"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*line, *told, *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # where twistd looks for plugins
            stdout=out,
            stderr=subprocess.STDOUT,
            **{"stdin": subprocess.DEVNULL, "start_new_session": True, **how},
        )
    return Service(process, log, state)


def stop(service: Service) -> int:
    service.process.terminate()
    try:
        code = service.process.wait(PATIENCE)
        return 0 if code == -signal.SIGTERM else code  # twistd passes it on when all is done
    finally:
        service.process.kill()


@pytest.fixture(params=["serve", "twistd"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state.with_suffix(".toml")).write_text('port = 0\nrate-in = "5M"\n')
    made = begin(request.param, tmp_path)
    try:
        made.said(LISTENS[request.param])
        yield made
    finally:
        code = stop(made)
    assert code == 0


class ReloadTests:
    def test_hang_up(self, service: Service, tmp_path: Path) -> None:
        """SIGHUP has the file read again: what can change does, all else is named in the log."""
        assert service.rate() == 5 << 20
        good = f'port = 0\nrate-in = "6M"\nshare = ["docs={tmp_path}/docs"]\n'
        (tmp_path / "docs").mkdir()
        service.hang_up(good, "share, rate-in")
        assert service.rate() == 6 << 20
        for wrong, said in (
            ("prot = 1\n", 'line 1: There is no setting "prot"; did you mean "port"?'),
            (good.replace("6M", "7M") + "port = 1\n", "this is no TOML"),
            (good.replace("6M", "7M").replace("/docs", "/missing"), "cannot be shared"),
        ):
            service.hang_up(wrong, said)
            assert service.rate() == 6 << 20
        service.hang_up(good.replace("port = 0", "port = 1").replace("6M", "8M"), "restart: port")
        assert service.rate() == 8 << 20
        assert service.process.poll() is None

    def test_confined(self, service: Service, tmp_path: Path) -> None:
        """What the service gave up when it started is named, since it needs a restart."""
        if json.loads(service.ask("status", "--json").stdout)["sandbox"] != "on":
            pytest.skip("this kernel has no Landlock")
        (tmp_path / "docs").mkdir()
        shares = f'share = ["docs={tmp_path}/docs:rw", "in={tmp_path}/inbox:rw"]\n'
        service.file.write_text(f'port = 0\nrate-in = "6M"\n{shares}hook = ["received=true"]\n')
        done = service.ask("config", "reload", "--json")
        assert json.loads(done.stdout) == {"changed": ["rate-in"], "restart": ["share", "hook"]}
        shares = shares.replace("docs:rw", "docs")
        service.file.write_text(f'port = 0\nhook = ["received=http://127.0.0.1/"]\n{shares}')
        done = service.ask("config", "reload", "--json")
        found = {"changed": ["share", "rate-in", "hook"], "restart": []}
        assert json.loads(done.stdout) == found
        assert service.rate() == 0

    def test_command(self, service: Service, tmp_path: Path) -> None:
        """The command says the same to who asked, and a mistake is its end."""
        done = service.ask("config", "reload")
        assert (done.returncode, done.stdout) == (0, "Nothing has changed.\n")
        assert service.ask("config", "set", "rate-in", "9M").returncode == 0
        assert service.ask("config", "set", "web-port", "5").returncode == 0
        done = service.ask("config", "reload")
        assert done.stdout == "Changed: rate-in\n"
        assert done.stderr == "lanxfer: needs a restart: web-port\n"
        assert service.rate() == 9 << 20
        done = service.ask("config", "reload", "--json")
        assert json.loads(done.stdout) == {"changed": [], "restart": ["web-port"]}
        service.file.write_text("port = 0\nrate-in = 1\n")
        done = service.ask("config", "reload")
        assert done.returncode == Exit.CONFIG
        assert f"{service.file}, line 2: rate-in is bytes a second" in done.stderr
        service.file.chmod(0o666)
        assert "chmod go-w" in service.ask("config", "reload").stderr
        assert service.rate() == 9 << 20


class StartTests:
    @pytest.mark.parametrize("kind", ["serve", "twistd"])
    @pytest.mark.parametrize(
        "text", ["prot = 1\n", "port = -1\n", 'log-format = "x"\n', 'auth = ["x"]\n']
    )
    def test_mistake(self, kind: str, text: str, tmp_path: Path) -> None:
        """With a mistake in its file nothing starts, not even half of it."""
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state.toml").write_text(text)
        service = begin(kind, tmp_path)
        assert service.process.wait(PATIENCE) == Exit.CONFIG
        assert str(service.file) in service.log.read_text()
        assert os.listdir(service.state) == []
        assert not (tmp_path / "inbox").exists()

    @pytest.mark.parametrize("kind", ["serve", "twistd"])
    def test_precedence(self, kind: str, tmp_path: Path) -> None:
        """The command line counts before the file, now and when that is read again."""
        text = 'port = 1\nrate-in = "5M"\nrate-out = "5M"\nlog-format = "json"\n'
        (tmp_path / "my.toml").write_text(text)
        options = ["--port=0", "--rate-in=any", f"--config={tmp_path}/my.toml"]
        service = begin(kind, tmp_path, *options)
        try:
            service.said('"event": "listening"')
            (tmp_path / "my.toml").write_text(text.replace("5M", "6M"))
            assert json.loads(service.ask("config", "reload", "--json").stdout) == {
                "changed": ["rate-out"],
                "restart": [],
            }
            found = json.loads(service.ask("limit", "--json").stdout)
            assert (found["in"], found["out"]) == (0, 6 << 20)
        finally:
            assert stop(service) == 0

    @pytest.mark.parametrize("kind", ["serve", "twistd"])
    def test_closed_terminal(self, kind: str, tmp_path: Path) -> None:
        """A service whose terminal is closed ends, in order."""
        ours, theirs = pty.openpty()

        def take_terminal() -> None:
            fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)

        service = begin(kind, tmp_path, "--port=0", stdin=theirs, preexec_fn=take_terminal)
        os.close(theirs)
        try:
            service.said(LISTENS[kind])
            os.close(ours)
            assert service.process.wait(PATIENCE) == 0
        finally:
            service.process.kill()
        assert not (service.state / "control.sock").exists()


def manual() -> Any:
    spec = importlib.util.spec_from_file_location("manual", ROOT / "docs" / "manual.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ManualTests:
    def test_not_stale(self) -> None:
        """The page is the one that the commands make: python docs/manual.py"""
        assert (ROOT / "docs/lanxfer.1").read_text() == manual().page()

    @pytest.mark.skipif(not shutil.which("groff"), reason="groff is not there")
    def test_no_warnings(self) -> None:
        """The formatter has nothing to say about it, and every command is in what it makes."""
        line = ["groff", "-man", "-ww", "-Tutf8", "-P-cbu", str(ROOT / "docs/lanxfer.1")]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        for name in ("send", "serve", "config set", "config reload", "job run"):
            assert f"lanxfer {name} " in done.stdout
        assert "--rate-in" in done.stdout
