"""What systemd is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lanxfer.ready import READY, STOPPING, notify

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="abstract sockets, and systemd"
)


@pytest.fixture(params=["file", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """An address as systemd gives it, and its own end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(60)
        if request.param == "file":
            address = str(tmp_path / "notify")
            listening.bind(address)
        else:
            address = f"@lanxfer-{os.getpid()}-{tmp_path.name}"
            listening.bind("\0" + address[1:])
        yield address, listening


class NotifyTests:
    def test_said(
        self, listener: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It comes as it was said."""
        address, listening = listener
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify(READY)
        assert listening.recv(100) == b"READY=1"

    def test_nobody(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without systemd nothing happens, nor with one that is gone."""
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
        notify(READY)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
        notify(READY)


class DaemonTests:
    def start(self, folder: Path, address: str, *line: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "twisted", "lanxfer", "--bind", "127.0.0.1"),
                *("--inbox", folder / "in", "--state", folder / "state", *map(str, line)),
                *("--allow-root", "--no-sandbox"),
            ],
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LANXFER_ALLOW_ROOT": "1",
                "NOTIFY_SOCKET": address,
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def test_life(self, listener: tuple[str, socket.socket], tmp_path: Path) -> None:
        """It is ready when it can be asked, and says when it ends."""
        address, listening = listener
        process = self.start(tmp_path, address, "--port", 0)
        try:
            assert listening.recv(100) == READY.encode()
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(tmp_path / "state" / "control.sock"))
        finally:
            process.terminate()
            process.wait(30)
        assert listening.recv(100) == STOPPING.encode()

    def test_no_start(self, listener: tuple[str, socket.socket], tmp_path: Path) -> None:
        """One that cannot listen was never ready."""
        address, listening = listener
        with socket.create_server(("127.0.0.1", 0)) as taken:
            process = self.start(tmp_path, address, "--port", taken.getsockname()[1])
            assert process.wait(60) == 3
        listening.setblocking(False)
        said = []
        while True:
            try:
                said.append(listening.recv(100))
            except BlockingIOError:
                break
        assert READY.encode() not in said
