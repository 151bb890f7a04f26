"""The commands that run real services, in their short forms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def chaos(*arguments: str) -> str:
    """Run a command; what it printed.  Fails with that where a figure is out of its bound."""
    ended = subprocess.run(
        [sys.executable, "-m", "chaos", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
class RealTests:
    # covers: C04
    def test_leak(self) -> None:
        """Lives of every kind leave nothing."""
        told = chaos("leak", "--lives", "70")
        assert "lives, cut: 10" in told

    # covers: B09
    def test_flap(self) -> None:
        """A link that comes and goes delays a send and nothing else."""
        told = chaos("flap", "--size", "32", "--rate", "16", "--every", "2", "--down", "0.6")
        assert "stored there: 1" in told and "files there: 1" in told

    # covers: S06 I10
    def test_resume(self) -> None:
        """A large file that was cut goes on near its end, whatever happened to the part."""
        told = chaos("resume", "--size", "128")
        for form in ("cut", "damaged", "zeroed", "longer", "anew"):
            assert f"{form}: the same file: 1" in told

    # covers: R06
    def test_memory(self) -> None:
        """A large file takes no more memory than a smaller one."""
        assert "sender: more" in chaos("memory", "--large", "768", "--small", "256", "--more", "16")
