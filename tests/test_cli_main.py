from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lanxfer.cli import send as send_module
from lanxfer.cli import serve as serve_module
from lanxfer.cli.main import main
from lanxfer.errors import Exit
from lanxfer.identity import load_identity
from lanxfer.keys import format_key
from lanxfer.peers import DEFAULT_PORT, Peers
from lanxfer.state import StateFolder
from tests.scripted_service import Say, Service, greeted

KEY = "A" * 51 + "Q"
OTHER = "B" * 51 + "A"


def run(*line: str | Path) -> Result:
    return CliRunner().invoke(main, [str(each) for each in line])


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder that is named nowhere, and a default one that must stay untouched."""
    monkeypatch.setenv("LANXFER_STATE", str(tmp_path / "default"))
    return tmp_path / "state"


class MainTests:
    def test_quick(self) -> None:
        """What needs no connection pays for neither Twisted nor rich."""
        code = (
            "import sys, lanxfer.cli.main, lanxfer.peers, lanxfer.identity\n"
            "print({'twisted', 'rich'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "set()\n", done.stderr

    def test_help(self) -> None:
        """--help names every command."""
        done = run("--help")
        assert done.exit_code == Exit.OK
        for name in ("send", "message", "serve", "watch", "peer", "peers", "key", "status"):
            assert f"\n  {name} " in done.stdout

    def test_version(self) -> None:
        """--version says which it is."""
        done = run("--version")
        assert done.exit_code == Exit.OK
        assert done.stdout.startswith("lanxfer ")

    def test_as_module(self) -> None:
        """Python finds the command where the shell does not."""
        line = [sys.executable, "-m", "lanxfer", "--version"]
        found = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        assert found == run("--version").stdout

    def test_nothing(self) -> None:
        """Without a command there is help, and the code of a line that makes no sense."""
        done = run()
        assert done.exit_code == Exit.USAGE
        assert "Usage:" in done.stderr and not done.stdout

    @pytest.mark.parametrize("group", ["peer", "key", "web", "job"])
    def test_group_alone(self, group: str) -> None:
        """A group without a command shows its help, line by line."""
        done = run(group)
        assert done.exit_code == Exit.USAGE and not done.stdout
        assert done.stderr == run(group, "--help").stdout

    def test_choices_in_a_line(self) -> None:
        """What could be said instead is in the one sentence."""
        done = run("completion")
        assert "Choose from: bash, zsh, fish;" in done.stderr

    @pytest.mark.parametrize(
        "line",
        [
            ["nope"],
            ["send"],
            ["send", "film.mkv"],
            ["send", "--nope", "film.mkv", "nas"],
            ["send", "-", "-", "nas"],
            ["send", "", "nas"],
            ["send", "a", "b", "nas", "--name", "c"],
            ["send", ".", "nas", "--name", "c"],
            ["send", "a", "nas", "--name", ""],
            ["send", "a", "nas", "--wait", "-1"],
            ["send", "a", "nas", "--conflict", "series"],
            ["send", "-", "nas", "--queue"],
            ["send", "a", "nas", "--queue", "--links"],
            ["message", "hello"],
            ["message", "\udcff", "nas"],
            ["history", "--limit", "0"],
            ["peer", "add", "--tofu", "--legacy", "x", "nas"],
            ["serve", "--legacy", "some"],
            ["serve", "--port", "70000"],
            ["serve", "--port", "-1"],
            ["serve", "--web-port", "many"],
            ["serve", "--buf-len", "1"],
            ["key", "show", "--port", "70000"],
        ],
    )
    def test_usage(self, line: list[str], state: Path) -> None:
        """A line that makes no sense gets a sentence, and 4 instead of click's 2."""
        done = run("--state", state, *line)
        assert done.exit_code == Exit.USAGE
        assert done.stderr.startswith("lanxfer: ") and done.stderr.count("\n") == 1
        assert not done.stdout

    def test_no_peer(self) -> None:
        """Who names a file alone hears that a PEER is missing, and how one is named."""
        done = run("send", "film.mkv")
        assert done.exit_code == Exit.USAGE
        assert "A PEER is missing" in done.stderr and "lanxfer peers" in done.stderr

    @pytest.mark.parametrize(("text", "typed"), [("", ""), ("-", ""), ("-", "\n")])
    def test_empty_message(self, text: str, typed: str, tmp_path: Path) -> None:
        """A message without a word is refused before anybody is asked to take it."""
        command = [sys.executable, "-m", "lanxfer", "-s", tmp_path / "s", "message", text, "nas"]
        done = subprocess.run(command, input=typed, capture_output=True, text=True)
        assert done.returncode == Exit.USAGE
        assert done.stderr.startswith("lanxfer: The text is empty")

    def test_order(self, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A device in front of a file is told where it belongs; a file of its name is a file."""
        monkeypatch.chdir(tmp_path)
        Path("film.mkv").touch()
        run("peer", "add", "nas", KEY, "-s", state)
        done = run("send", "nas", "film.mkv", "-s", state)
        assert done.exit_code == Exit.USAGE and "the device comes last" in done.stderr
        asked = list[str]()
        monkeypatch.setattr(
            send_module.ways, "send", lambda choices, job, here: asked.append(job.over.peer) or 0
        )
        assert run("send", "film.mkv", "nas", "-s", state).exit_code == Exit.OK
        Path("nas").touch()
        assert run("send", "nas", "film.mkv", "-s", state).exit_code == Exit.OK
        assert asked == ["nas", "film.mkv"]

    def test_unexpected(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What nobody expected is one sentence; the traceback is for who asks for it."""

        def fail(*args: Any) -> None:
            raise RuntimeError("oh\x1b[2J")

        monkeypatch.setattr(send_module, "_check", fail)
        done = run("send", "a", "nas")
        assert done.exit_code == Exit.FAILED
        assert "RuntimeError: oh\\x1b[2J" in done.stderr and "Traceback" not in done.stderr
        monkeypatch.setenv("LANXFER_DEBUG", "1")
        assert "Traceback" in run("send", "a", "nas").stderr

    def test_interrupted(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C before anything has begun ends with the code for that."""

        def interrupt(*args: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(send_module, "_check", interrupt)
        done = run("send", "a", "nas")
        assert done.exit_code == Exit.CANCELLED
        assert "lanxfer: Cancelled." in done.stderr


class CommonOptionsTests:
    @pytest.mark.parametrize(
        "line",
        [
            ["--state", "{}", "--json", "key", "show"],
            ["key", "--json", "--state", "{}", "show"],
            ["key", "show", "-s", "{}", "--json"],
            ["--json", "key", "show", "--state", "{}"],
        ],
    )
    def test_anywhere(self, line: list[str], state: Path) -> None:
        """--state and --json count in front of a command's name and after it."""
        done = run(*(each.format(state) for each in line))
        assert json.loads(done.stdout)["key"] == load_identity(StateFolder(str(state))).key
        assert not (state.parent / "default").exists()

    def test_environment(self, state: Path) -> None:
        """LANXFER_STATE names the folder where nothing else does, and only there."""
        default = load_identity(StateFolder(os.environ["LANXFER_STATE"])).key
        assert json.loads(run("--json", "key", "show").stdout)["key"] == default
        named = json.loads(run("--state", state, "key", "show", "--json").stdout)["key"]
        assert named != default

    def test_quiet(self, state: Path) -> None:
        """--quiet leaves what was asked for, and nothing else."""
        own = format_key(load_identity(StateFolder(str(state))).key)
        assert run("key", "show", "-q", "-s", state).stdout == f"{own}\n"
        assert run("-q", "peer", "add", "nas", KEY, "-s", state).stdout == ""

    def test_json_error(self, tmp_path: Path) -> None:
        """With --json an error is a row as well."""
        (tmp_path / "open").mkdir(mode=0o755)
        (tmp_path / "open").chmod(0o755)
        done = run("--json", "peers", "--state", tmp_path / "open")
        assert done.exit_code == Exit.CONFIG
        row = json.loads(done.stdout)
        assert row["error"] == "bad-state" and row["exit"] == Exit.CONFIG
        assert row["reason"] in done.stderr

    @pytest.mark.parametrize(
        "line",
        [
            ["--json"],
            ["--json", "peer"],
            ["peer", "--json"],
            ["send", "--json"],
            ["send", "--bogus", "x", "y", "--json"],
        ],
    )
    def test_json_usage(self, line: list[str], state: Path) -> None:
        """With --json a line that makes no sense is a row as well, wherever --json is in it."""
        command = [sys.executable, "-m", "lanxfer", *line]
        environment = {**os.environ, "LANXFER_ALLOW_ROOT": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == Exit.USAGE
        row = json.loads(done.stdout)
        assert (row["error"], row["exit"]) == ("usage", Exit.USAGE)
        assert done.stderr == f"lanxfer: {row['reason']}\n"


class KeyTests:
    def test_show(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The key in groups of four, and a line for the other device per address."""
        monkeypatch.setattr("lanxfer.cli.peers.own_addresses", lambda: ["10.0.0.7", "fd00::7"])
        monkeypatch.setattr("socket.gethostname", lambda: "anna's laptop")
        own = format_key(load_identity(StateFolder(str(state))).key)
        lines = run("key", "show", "-s", state).stdout.splitlines()
        assert lines[0] == own
        assert lines[-1] == f"  lanxfer peer add 'anna'\"'\"'s laptop' {own}@10.0.0.7"
        lines = run("key", "show", "-s", state, "--port", "5").stdout.splitlines()
        assert lines[-1].endswith(f"{own}@10.0.0.7:5")

    def test_configured(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The lines are for a service as its configuration has it, also where none runs."""
        monkeypatch.setattr("lanxfer.cli.peers.own_addresses", lambda: ["10.0.0.7", "fd00::7"])
        file = state.with_suffix(".toml")

        def commands(*options: str) -> Any:
            row = json.loads(run("key", "show", "--json", "-s", state, *options).stdout)
            key = row["shown"]
            return [each.replace(f"{key}@", "KEY@") for each in row["commands"]]

        file.write_text('port = 5\nbind = "::"\ndevice = "nas"\n')
        known = ["lanxfer peer add nas KEY@10.0.0.7:5", "lanxfer peer add nas KEY@[fd00::7]:5"]
        assert commands() == known
        file.write_text('port = 0\ndevice = "nas"\n')
        assert commands() == []
        assert commands("--port", "5") == known[:1]

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no control sockets here")
    def test_running(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A service that runs is asked where it listens, and what it calls itself."""
        monkeypatch.setattr("lanxfer.cli.peers.own_addresses", lambda: ["10.0.0.7", "fd00::7"])
        state.with_suffix(".toml").write_text('port = 5\ndevice = "laptop"\n')
        folder = StateFolder(str(state))
        load_identity(folder)

        @greeted
        def script(hear: Callable[[], dict[str, Any]], say: Say) -> None:
            assert hear()["name"] == "status"
            say({"ok": 2, "device": "nas", "listening": ["0.0.0.0:7"]})

        service = Service(folder.socket_path, script)
        row = json.loads(run("key", "show", "--json", "-s", state).stdout)
        service.close()
        assert row["commands"] == [f"lanxfer peer add nas {row['shown']}@10.0.0.7:7"]

    def test_bad_configuration(self, state: Path) -> None:
        """The key is shown although nothing can be said of where a service would listen."""
        state.with_suffix(".toml").write_text("prot = 5\n")
        done = run("key", "show", "-s", state)
        assert done.exit_code == Exit.OK and "did you mean" in done.stderr
        assert format_key(load_identity(StateFolder(str(state))).key) in done.stdout

    def test_no_name(self, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host name that cannot be a peer's leaves the choice to the other side."""
        monkeypatch.setattr("lanxfer.cli.peers.own_addresses", lambda: ["10.0.0.7"])
        monkeypatch.setattr("socket.gethostname", lambda: "10.0.0.7")
        row = json.loads(run("key", "show", "--json", "-s", state).stdout)
        assert row["commands"] == [f"lanxfer peer add NAME {row['shown']}@10.0.0.7"]

    def test_reachable_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a service that listens on IPv4 alone no IPv6 address is offered."""
        from lanxfer.cli.peers import reachable_at

        monkeypatch.setattr("lanxfer.cli.peers.own_addresses", lambda: ["10.0.0.7", "fd00::7"])
        assert reachable_at(["0.0.0.0:5"]) == ["10.0.0.7:5"]
        assert reachable_at(["[::]:5"]) == ["10.0.0.7:5", "[fd00::7]:5"]
        assert reachable_at(["0.0.0.0:5", "[fd00::7]:36969"]) == ["10.0.0.7:5", "fd00::7"]

    def test_own_addresses(self) -> None:
        """Nothing is offered that another device could not use."""
        from lanxfer.cli.peers import own_addresses

        found = own_addresses()
        assert not [each for each in found if each.startswith(("127.", "fe80:", "169.254."))]
        assert "::1" not in found


class PeerTests:
    def test_add(self, state: Path) -> None:
        """A key with an address behind it is a peer, and peers lists it."""
        done = run("peer", "add", "nas", f"{format_key(KEY).lower()}@10.0.0.2:5", "-s", state)
        assert done.exit_code == Exit.OK and format_key(KEY) in done.stdout
        peer = Peers(StateFolder(str(state))).find("nas")
        assert (peer.key, peer.addresses, peer.legacy) == (KEY, ("10.0.0.2:5",), False)
        listed = run("peers", "-s", state).stdout
        assert "nas" in listed and "10.0.0.2:5" in listed and "AAAA-AAAA-..." in listed
        row = json.loads(run("peers", "--json", "-s", state).stdout)
        assert row == {"name": "nas", "key": KEY, "addresses": ["10.0.0.2:5"], "legacy": False}

    def test_no_address(self, state: Path) -> None:
        """Who only comes to us needs none."""
        assert run("peer", "add", "nas", KEY, "-s", state).exit_code == Exit.OK
        assert Peers(StateFolder(str(state))).find("nas").addresses == ()

    def test_legacy(self, state: Path) -> None:
        """An ae device has an address and no key."""
        assert run("peer", "add", "--legacy", "old", "10.0.0.3", "-s", state).exit_code == Exit.OK
        peer = Peers(StateFolder(str(state))).find("old")
        assert (peer.key, peer.addresses, peer.legacy) == ("", ("10.0.0.3",), True)
        assert "plain text" in run("peers", "-s", state).stdout

    def test_replace(self, state: Path) -> None:
        """A name changes its key only where that was said."""
        run("peer", "add", "nas", KEY, "-s", state)
        done = run("peer", "add", "nas", OTHER, "-s", state)
        assert done.exit_code == Exit.REFUSED and "BBBB-BBBB" in done.stderr
        assert Peers(StateFolder(str(state))).find("nas").key == KEY
        assert run("peer", "add", "nas", OTHER, "--replace", "-s", state).exit_code == Exit.OK
        assert Peers(StateFolder(str(state))).find("nas").key == OTHER

    def test_forget(self, state: Path) -> None:
        """Who is forgotten is not listed; who is not known cannot be forgotten."""
        run("peer", "add", "nas", KEY, "-s", state)
        assert run("peer", "forget", "nas", "-s", state).exit_code == Exit.OK
        done = run("peers", "-s", state)
        assert done.stdout == "" and "Nobody" in done.stderr
        done = run("peer", "forget", "nas", "-s", state)
        assert done.exit_code == Exit.FAILED and "nas" in done.stderr

    @pytest.mark.parametrize(
        "where", ["not-a-key", "A" * 51 + "B", f"{KEY}@10.0.0.999", "@10.0.0.2"]
    )
    def test_bad(self, where: str, state: Path) -> None:
        """A key or address that is none is said, and nothing is kept."""
        done = run("peer", "add", "nas", where, "-s", state)
        assert done.exit_code == Exit.CONFIG
        assert Peers(StateFolder(str(state))).all() == ()


class RightsTests:
    def known(self, state: Path) -> None:
        assert run("peer", "add", "laptop", KEY, "-s", state).exit_code == Exit.OK

    def test_set_and_show(self, state: Path) -> None:
        """What was set is shown, in the words of the file, and a comment stays."""
        self.known(state)
        file = state / "rights"
        file.write_text("# mine\n")
        done = run("peer", "set", "laptop", "offers=ask", "quota=50GiB", "-s", state)
        assert done.exit_code == Exit.OK
        assert "[peer laptop] quota = 50GiB" in done.output
        assert run("peer", "allow", "laptop", "/pictures", "-s", state).exit_code == Exit.OK
        assert run("peer", "deny", "laptop", "pictures/x", "-s", state).exit_code == Exit.OK
        assert file.read_text() == (
            "# mine\n\n[peer laptop]\noffers = ask\nquota = 50GiB\n/pictures = write\n"
            "/pictures/x = none\n"
        )
        shown = run("peer", "rights", "laptop", "--json", "-s", state)
        row = json.loads(shown.output)
        assert (row["section"], row["file"]) == ("peer laptop", str(file))
        assert row["rights"]["offers"] == "ask" and row["rights"]["quota"] == "50 GiB"
        assert row["rights"]["/pictures"] == "write"
        assert run("peer", "set", "laptop", "quota=", "/pictures=", "-s", state).exit_code == 0
        assert "quota" not in file.read_text() and "/pictures =" not in file.read_text()

    @pytest.mark.parametrize(
        ("who", "section"),
        [
            ("everyone", "everyone"),
            ("guests", "guests"),
            ("user:anna", "user anna"),
            ("laptop", "peer laptop"),
            ("peer:laptop", "peer laptop"),
            (KEY[:6], "peer laptop"),
        ],
    )
    def test_who(self, who: str, section: str, state: Path) -> None:
        """A peer by name or key, a user, or many at once."""
        self.known(state)
        assert run("peer", "set", who, "offers=deny", "-s", state).exit_code == Exit.OK
        assert (state / "rights").read_text() == f"[{section}]\noffers = deny\n"

    @pytest.mark.parametrize(
        ("line", "code"),
        [
            (["set", "phone", "offers=ask"], Exit.FAILED),
            (["set", "laptop", "offers"], Exit.USAGE),
            (["set", "laptop"], Exit.USAGE),
            (["set", "laptop", "offers=perhaps"], Exit.CONFIG),
            (["set", "laptop", "offer=ask"], Exit.CONFIG),
            (["set", "user:", "offers=ask"], Exit.CONFIG),
            (["allow", "laptop", "/../x"], Exit.CONFIG),
            (["allow", "laptop", "/x", "fly"], Exit.CONFIG),
            (["rights", "phone"], Exit.FAILED),
        ],
    )
    def test_nonsense(self, line: list[str], code: Exit, state: Path) -> None:
        """What makes no sense is said, and nothing is written."""
        self.known(state)
        done = run("peer", *line, "-s", state)
        assert done.exit_code == code, done.output
        assert not (state / "rights").exists()

    def test_bad_file(self, state: Path) -> None:
        """A file that makes no sense is named with its line, and stays as it is."""
        self.known(state)
        (state / "rights").write_text("[peers]\nnonsense\n")
        for line in (["rights"], ["set", "laptop", "offers=ask"]):
            done = run("peer", *line, "-s", state)
            assert done.exit_code == Exit.CONFIG
            assert "rights, line 2: " in done.output
        assert (state / "rights").read_text() == "[peers]\nnonsense\n"

    @pytest.mark.parametrize(
        "options",
        [
            ["--password-file", "x"],
            ["--user", "anna", "--plain"],
            ["--user", "anna", "--legacy-peer"],
            ["--user", "anna", "--queue"],
            ["--user", ""],
        ],
    )
    def test_login_nonsense(self, options: list[str], state: Path) -> None:
        """A login goes with TLS, and a password with a user."""
        done = run("send", "a", "nas", *options, "-s", state)
        assert done.exit_code == Exit.USAGE


class ServeOptionsTests:
    def test_like_twistd(self) -> None:
        """serve has the options of "twistd lanxfer", with the same letters and defaults."""
        from lanxfer.tap import Options, settings_from

        tap = Options()
        theirs = {name.rstrip("=") for name in tap.longOpt} - {
            "help",
            "version",
            "help-auth",
            "help-auth-type",
        }
        ours = {
            name.removeprefix("--")
            for each in serve_module.serve.params
            for name in each.opts
            if name.startswith("--")
        }
        # A daemon has no standard input and output.
        assert ours - {"json", "quiet", "stdio"} == theirs
        letters = {name for each in serve_module.serve.params for name in each.opts}
        assert {f"-{each}" for each in "pblisd"} <= letters
        parameters: list[Any] = tap.optParameters
        defaults = {each[0]: each[2] for each in parameters}
        assert defaults["port"] == DEFAULT_PORT
        context = serve_module.serve.make_context("serve", [])
        named = {name.replace("_", "-"): value for name, value in context.params.items()}
        settings = settings_from({**named, "state": str(Path("s"))})
        tap.parseOptions(["--state", "s"])  # type: ignore[no-untyped-call]
        assert settings == settings_from(tap)
