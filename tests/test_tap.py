"""The options of ``twistd lanxfer``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.cred.checkers import FilePasswordDB, InMemoryUsernamePasswordDatabaseDontUse
from twisted.python import usage

from lanxfer.admission import Legacy
from lanxfer.service import Settings
from lanxfer.state import StateFolder
from lanxfer.tap import Options, settings_from
from lanxfer.transfers import Conflict

ROOT = Path(__file__).parent.parent


def parse(*words: str) -> Settings:
    options = Options()
    options.parseOptions(list(words))
    return settings_from(options)


class OptionsTests:
    def test_defaults(self) -> None:
        """Without options it listens on 36969 everywhere and lets nobody in but peers."""
        settings = parse()
        assert (settings.port, settings.bind, settings.legacy) == (36969, "", Legacy.OFF)
        assert not (settings.open or settings.plain_from or settings.tickets_plain)

    def test_as_ae_has_them(self) -> None:
        """--bind, --port and --buf-len mean what they mean to users of ae."""
        settings = parse("--bind", "127.0.0.1", "--port", "0", "--buf-len", "16384")
        assert (settings.bind, settings.port, settings.buf_len) == ("127.0.0.1", 0, 16384)

    def test_everything(self) -> None:
        """Every option arrives in the settings."""
        settings = parse(
            *("--inbox", "in", "--state", "st", "--device", "nas", "--legacy", "full"),
            *("--legacy-from", "10.0.0.0/8", "--legacy-from", "::1", "--plain-from", "10.1.0.0/16"),
            *("--listen", "tcp:1", "--listen", "tcp:2", "--share", "a", "--share", "b"),
            *("--conflict", "skip", "--tickets", "plain"),
            *("--open", "--links", "--dotfiles", "--weak-storage"),
        )
        assert (settings.inbox, settings.state, settings.device) == ("in", "st", "nas")
        assert settings.legacy is Legacy.FULL
        assert settings.legacy_from == ("10.0.0.0/8", "::1")
        assert settings.plain_from == ("10.1.0.0/16",)
        assert settings.listen == ("tcp:1", "tcp:2")
        assert settings.shares == ("a", "b")
        assert settings.conflict is Conflict.SKIP
        assert settings.tickets_plain and settings.open and settings.links
        assert settings.dotfiles and settings.weak_storage

    def test_auth(self, tmp_path: Path) -> None:
        """--auth is Twisted's own option, and may be there more than once."""
        path = tmp_path / "users"
        path.write_text("anna:one\n")
        path.chmod(0o600)
        settings = parse("--auth", f"file:{path}", "--auth", "memory:bob:two")
        kinds = [type(each) for each in settings.checkers]
        assert kinds == [FilePasswordDB, InMemoryUsernamePasswordDatabaseDontUse]
        assert parse().checkers == ()

    def test_loose_passwords(self, tmp_path: Path) -> None:
        """A file of passwords that other users can read is refused."""
        # covers: A11
        path = tmp_path / "users"
        path.write_text("anna:one\n")
        path.chmod(0o640)
        with pytest.raises(usage.UsageError, match="chmod 600"):
            parse("--auth", f"file:{path}")

    @pytest.mark.parametrize(
        "words",
        [
            ["--auth", "file:/nowhere/at/all"],
            ["--auth", "nonsense"],
            ["--auth", "anonymous"],
            ["--legacy", "yes"],
            ["--conflict", "panic"],
            ["--tickets", "paper"],
            ["--buf-len", "1"],
            ["--buf-len", "many"],
            ["--port", "-1"],
            ["--nonsense"],
            ["stray"],
        ],
    )
    def test_nonsense(self, words: list[str]) -> None:
        """What makes no sense is a usage error, not a traceback."""
        with pytest.raises(usage.UsageError):
            parse(*words)


@pytest.mark.skipif(os.name == "nt", reason="twistd has no background there")
class BackgroundTests:
    def start(self, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """``twistd lanxfer`` without -n, until whoever typed it has the terminal again."""
        state = ("--state", str(folder / "state"), "--inbox", str(folder / "inbox"))
        return subprocess.run(
            [
                *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
                *("lanxfer", "--bind", "127.0.0.1", "--allow-root", *state, *options),
            ],
            check=False,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LANXFER_ALLOW_ROOT": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_port_taken(self, tmp_path: Path) -> None:
        """What keeps it from listening is said where it was started, and nothing is left."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = self.start(tmp_path, "--port", str(port))
        assert done.returncode == 1
        why = f"lanxfer: Cannot listen on 127.0.0.1, port {port}: Address already in use."
        assert why in done.stderr.splitlines()
        assert why.removeprefix("lanxfer: ") in (tmp_path / "twistd.log").read_text()
        assert not (tmp_path / "twistd.pid").exists()

    def test_state_taken(self, tmp_path: Path) -> None:
        """A sentence that is longer than twistd's own word for it is said as a whole."""
        state = StateFolder(str(tmp_path / "state"))
        state.lock()
        try:
            done = self.start(tmp_path, "--port", "0")
        finally:
            state.unlock()
        assert done.returncode == 1
        assert "stop that one, or name another folder with --state.\n" in done.stderr
        assert not (tmp_path / "twistd.pid").exists()
