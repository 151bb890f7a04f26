"""Short forms of the commands that kill, cut the power and let the disk fail, and bugs for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chaos import faults
from chaos.figures import BREACH
from lanxfer.errors import DiskFailed
from lanxfer.storage import batches
from lanxfer.storage.publishing import Publisher
from lanxfer.wire import limits

ROOT = Path(__file__).resolve().parent.parent


def chaos(*args: str) -> subprocess.CompletedProcess[str]:
    """Run a command of its own process, for it forks; skip where it says that it must."""
    command = [sys.executable, "-m", "chaos", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if done.stdout.startswith("skipped: "):
        pytest.skip(done.stdout)
    return done


def kept(*args: str) -> str:
    """What it printed; every figure is within its bound."""
    done = chaos(*args)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


def breached(*args: str) -> str:
    """What it printed; it noticed what was planted."""
    done = chaos(*args)
    assert done.returncode == BREACH, done.stdout + done.stderr[-3000:]
    return done.stdout


class KillTests:
    # covers: K01 K02 K03 K08 K09
    def test_kept(self) -> None:
        """Killed anywhere, nothing is lost, damaged, doubled or left over."""
        assert "cycles: 80" in kept("kill", "--cycles", "80", "--seed", "1")

    @pytest.mark.parametrize(("bug", "kind"), [("early-ok", "lost"), ("forgetful", "doubled")])
    def test_noticed(self, bug: str, kind: str) -> None:
        """An acknowledgement that comes too early is noticed, and so is a second copy."""
        found = breached("kill", "--cycles", "8", "--seed", "2", "--plant", bug)
        assert f"  {kind}: " in found


class PowercutTests:
    # covers: K04 K05 K08
    def test_kept(self) -> None:
        """On whatever a power cut leaves, every promise is kept and the rest comes again."""
        assert "images: 100" in kept("powercut", "--images", "100", "--seed", "1")

    @pytest.mark.parametrize(
        ("bug", "kind"), [("no-file-sync", "damaged"), ("no-folder-sync", "lost")]
    )
    def test_noticed(self, bug: str, kind: str) -> None:
        """A sync that is left out is noticed."""
        found = breached("powercut", "--images", "90", "--seed", "2", "--plant", bug)
        assert f"  {kind}: " in found


class ShutdownTests:
    # covers: K04
    def test_kept(self) -> None:
        """A real file system that is shut down without its log keeps every promise."""
        assert "shutdowns: 8" in kept("shutdown", "--times", "8", "--seed", "1")


class EverycallTests:
    # covers: K01 K02 R05 R14
    def test_kept(self) -> None:
        """Whichever call fails or is the last, the verdict is right and a rerun completes."""
        assert "wrong ok: 0" in kept("everycall", "--sample", "50", "--seed", "1")

    def test_noticed(self) -> None:
        """A second copy after a failure is noticed."""
        args = ("--sample", "12", "--side", "receiver", "--seed", "5", "--plant", "forgetful")
        assert "  doubled: " in breached("everycall", *args)


class FullTests:
    # covers: R01 R03
    def test_kept(self) -> None:
        """A disk that is full is said to be, and all goes on when there is space."""
        assert "points: 17" in kept("full", "--step", "65536", "--seed", "1")

    def test_noticed(self) -> None:
        """A disk that is full and not said to be is noticed."""
        found = breached("full", "--step", "131072", "--seed", "1", "--plant", "deaf-write")
        assert "  damaged: " in found


class FaultsTests:
    # covers: R01 R02 R05
    def test_kept(self) -> None:
        """Each file call fails with each error, and every answer is true or typed."""
        assert "faults: 500" in kept("faults", "--sample", "500", "--seed", "1")

    def run(self, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setattr(limits, "CHECKPOINT", limits.CHECKPOINT)
        done = CliRunner().invoke(faults.command, ["--sample", "150", "--seed", "1"])
        assert done.exit_code == BREACH
        return done.stdout

    def test_descriptors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A descriptor that stays open after an error is noticed."""
        close = batches.close

        def forget(fd: int, closed: Callable[[int], Any] = close) -> None:
            forget.calls += 1  # type: ignore[attr-defined]
            if forget.calls % 5:  # type: ignore[attr-defined]
                closed(fd)

        forget.calls = 0  # type: ignore[attr-defined]
        monkeypatch.setattr(batches, "close", forget)
        assert "  descriptors left open: " in self.run(monkeypatch)

    def test_untyped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error of the system's own that comes out is noticed."""
        monkeypatch.setattr(batches, "_ANY", ())
        assert "  untyped: " in self.run(monkeypatch)

    def test_left_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A part file that nobody clears away is noticed."""
        monkeypatch.setattr(Publisher, "clear", lambda self, key: None)
        assert "  left over: " in self.run(monkeypatch)

    def test_stuck(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What does not go through although nothing fails any more is noticed."""

        def fail(*args: object) -> None:
            raise DiskFailed()

        monkeypatch.setattr(Publisher, "publish", fail)
        assert "  never went through: " in self.run(monkeypatch)
