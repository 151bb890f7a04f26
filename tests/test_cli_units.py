"""What ``lanxfer unit`` prints, and a service whose port comes from elsewhere."""

from __future__ import annotations

import configparser
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from lanxfer.cli.main import main
from lanxfer.cli.units import quoted, service_unit, socket_unit, user_unit

ROOT = Path(__file__).parent.parent


def parsed(text: str) -> dict[str, dict[str, list[str]]]:
    """A unit as systemd reads it: a key may come several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            section.setdefault(key, []).append(value)
    return found


def printed(*line: object) -> str:
    done = CliRunner().invoke(main, ["unit", *map(str, line)])
    assert done.exit_code == 0, done.output
    return done.stdout


class UnitTests:
    def test_hardening(self) -> None:
        """The unit has every line the security design asks for, and names its two folders."""
        unit = parsed(service_unit("ann", "/home/ann/in", "/home/ann/state", 36969, "", False))
        service = unit["Service"]
        for key, value in {
            "ProtectSystem": "strict",
            "ReadWritePaths": "/home/ann/in /home/ann/state",
            "NoNewPrivileges": "yes",
            "PrivateTmp": "yes",
            "CapabilityBoundingSet": "",
            "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
            "User": "ann",
        }.items():
            assert service[key] == [value]
        for key in ("MemoryMax", "TasksMax", "LimitNOFILE"):
            assert len(service[key]) == 1
        assert any("landlock_restrict_self" in each for each in service["SystemCallFilter"])
        assert "--port 36969" in service["ExecStart"][0]
        assert unit["Install"]["WantedBy"] == ["multi-user.target"]

    def test_valid_syntax(self) -> None:
        """Both are what a reader of ini files takes them for."""
        for text in (service_unit("", "/a", "/b", 1, "", True), socket_unit(1, "")):
            reader = configparser.RawConfigParser(strict=False, delimiters="=")
            reader.read_string(text)
            assert reader.sections()

    def test_printed(self, tmp_path: Path) -> None:
        """The command fills in the folders; for root systemd makes a user."""
        text = printed("--inbox", tmp_path / "my files", "-s", tmp_path / "s", "--user", "bob")
        assert parsed(text)["Service"]["ReadWritePaths"] == [f'"{tmp_path}/my files" {tmp_path}/s']
        text = printed("--user", "")
        assert parsed(text)["Service"]["DynamicUser"] == ["yes"]
        assert "/var/lib/lanxfer/inbox" in text
        text = printed("--user", "", "--activated")
        assert "systemd:domain=INET:index=0" in text and "[Install]" not in text
        text = printed("socket", "--port", 4000, "--bind", "10.0.0.1")
        assert parsed(text)["Socket"]["ListenStream"] == ["10.0.0.1:4000"]

    def test_users(self, tmp_path: Path) -> None:
        """For a user's own systemd there is nothing in it that only the machine's may do."""
        text = printed("--user", "-s", tmp_path / "s", "-i", tmp_path / "my files", "-p", 4000)
        unit = parsed(text)
        service = unit["Service"]
        assert unit["Install"] == {"WantedBy": ["default.target"]}
        assert service["NoNewPrivileges"] == ["yes"] and service["Type"] == ["notify"]
        assert service["Restart"] == ["on-failure"]
        command = service["ExecStart"][0]
        assert command.startswith("/") and f'--inbox "{tmp_path}/my files"' in command
        assert f"--state {tmp_path}/s" in command and "--port 4000" in command
        # Each of these needs another user, a mount namespace, or a capability to give up.
        for key in service:
            assert key not in ("User", "DynamicUser", "ReadWritePaths", "AmbientCapabilities")
            assert not key.startswith(("Protect", "Private", "Capability"))
        assert "network-online" not in text  # is no unit of theirs
        # The word after --user is a name, but for the two that say which unit.
        assert parsed(printed("--user", "socket"))["Socket"] == parsed(printed("socket"))["Socket"]
        assert parsed(printed("--user", "bob"))["Service"]["User"] == ["bob"]
        assert "[Install]" not in printed("--user", "--activated")

    def test_installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """--install writes what is printed without it where systemd looks; what is next is said."""
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        path = tmp_path / "systemd" / "user" / "lanxfer.service"
        for _ in range(2):
            done = CliRunner().invoke(main, ["unit", "--user", "--install"])
            assert done.exit_code == 0 and str(path) in done.stdout
            assert "systemctl --user enable --now lanxfer.service" in done.stderr
            assert path.read_text() == printed("--user")
        done = CliRunner().invoke(main, ["unit", "--install"])
        assert done.exit_code == 4 and "--user" in done.stderr
        path.unlink()
        path.mkdir()
        done = CliRunner().invoke(main, ["unit", "--user", "--install"])
        assert done.exit_code == 3 and str(path) in done.stderr

    @pytest.mark.parametrize(
        ("path", "word"),
        [("/a/b", "/a/b"), ("/a b", '"/a b"'), ("/50%", "/50%%"), ('/"x"', '"/\\"x\\""')],
    )
    def test_quoting(self, path: str, word: str) -> None:
        """What systemd would read as something else is escaped."""
        assert quoted(path) == word

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not there")
    def test_verified(self, tmp_path: Path) -> None:
        """systemd itself has nothing to say about them."""
        (tmp_path / "lanxfer.service").write_text(
            service_unit("", "/var/lib/lanxfer/in", "/var/lib/lanxfer/s", 36969, "", True)
        )
        (tmp_path / "lanxfer.socket").write_text(socket_unit(36969, ""))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "lanxfer.service", "lanxfer.socket"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        complaints = [line for line in done.stderr.splitlines() if "lanxfer" in line]
        assert complaints == []

    @pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not there")
    @pytest.mark.parametrize("activated", [False, True])
    def test_verified_for_users(self, tmp_path: Path, activated: bool) -> None:
        """Nor has a user's own systemd."""
        unit = user_unit(str(tmp_path / "in"), str(tmp_path / "s"), 36969, "", activated)
        (tmp_path / "lanxfer.service").write_text(unit)
        (tmp_path / "lanxfer.socket").write_text(socket_unit(36969, ""))
        (tmp_path / "run").mkdir(mode=0o700)
        done = subprocess.run(
            [
                "systemd-analyze",
                "--user",
                "verify",
                "--man=no",
                "lanxfer.service",
                "lanxfer.socket",
            ],
            cwd=tmp_path,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stderr.splitlines() if "lanxfer" in line] == []


LAUNCHER = """
import os, socket, sys
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
print(listening.getsockname()[1], flush=True)
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="lanxfer", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class ActivationTests:
    def test_nothing_inherited(self, tmp_path: Path) -> None:
        """Without systemd's socket the endpoint is a setting that cannot be used."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "twisted", "lanxfer", "--port", "none"),
                *("--listen", "systemd:domain=INET:index=0", "--allow-root", "--no-sandbox"),
                *("--inbox", tmp_path / "in", "--state", tmp_path / "state"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 3
        assert "--listen" in done.stderr and "Traceback" not in done.stderr

    def test_inherited_port(self, tmp_path: Path) -> None:
        """The service listens on the socket it was handed, and on no other."""
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", LAUNCHER, "-m", "twisted", "lanxfer", "--port", "none"),
                *("--listen", "systemd:domain=INET:index=0", "--allow-root", "--no-sandbox"),
                *("--inbox", tmp_path / "in", "--state", tmp_path / "state"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), 20) as connection:
                connection.settimeout(20)
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                answer = connection.makefile("rb").readline()
            assert b"bad-header" in answer
            for _ in range(100):
                if (tmp_path / "state" / "control.sock").exists():
                    break
                time.sleep(0.05)
            assert (tmp_path / "in").is_dir()
        finally:
            process.terminate()
            process.wait(20)
