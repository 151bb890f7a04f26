"""Completing a line in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from lanxfer.cli.completion import SHELLS
from lanxfer.cli.main import main
from lanxfer.errors import Exit
from lanxfer.peers import Peer, Peers
from lanxfer.state import StateFolder

KEY = "B" * 51 + "A"


def completed(state: Path, line: str) -> list[str]:
    """What bash would offer for the last word of a line."""
    lanxfer = Path(sys.executable).with_name("lanxfer")
    words = line.split(" ")
    script = (
        f'eval "$({lanxfer} completion bash)"\n'
        f"COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}\n"
        f"_lanxfer_completion {lanxfer}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "LANXFER_STATE": str(state)},
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
class BashTests:
    def test_commands_and_options(self, tmp_path: Path) -> None:
        """Commands, and what goes with each of them."""
        assert completed(tmp_path / "none", "lanxfer pee") == ["peer", "peers"]
        assert "--queue" in completed(tmp_path / "none", "lanxfer send --q")

    def test_devices(self, tmp_path: Path) -> None:
        """Names of devices that are known here, and no folder where there was none."""
        state = tmp_path / "state"
        Peers(StateFolder(str(state))).add(Peer("nas", KEY))
        assert completed(state, "lanxfer message hello n") == ["nas"]
        assert completed(state, "lanxfer doctor x") == []
        assert completed(tmp_path / "none", "lanxfer doctor n") == []
        assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell(shell: str) -> None:
    """Each gets words of its own, which name the command."""
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == Exit.OK
    assert "_LANXFER_COMPLETE" in done.output and shell in done.output


def test_no_such_shell() -> None:
    """The shells there are get named."""
    done = CliRunner().invoke(main, ["completion", "dos"])
    assert done.exit_code == Exit.USAGE and "fish" in done.output
