"""The commands that break things are found by name, and end by what they found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from chaos.__main__ import main
from chaos.figures import BREACH, Figures

ROOT = Path(__file__).parent.parent


class FiguresTests:
    @pytest.mark.parametrize(
        ("found", "least", "most", "kept"),
        [(1, 1, None, True), (0, 1, None, False), (1, None, 1, True), (2, None, 1, False)],
    )
    def test_bounds(self, found: int, least: int | None, most: int | None, kept: bool) -> None:
        """A figure is kept on its bound and broken beyond it, and the process ends by that."""
        figures = Figures(seed=1)
        figures.add("files", found, least=least, most=most)
        with pytest.raises(SystemExit) as ended:
            figures.finish()
        assert ended.value.code == (0 if kept else BREACH)

    def test_no_bound(self) -> None:
        """A figure without a bound is shown and cannot be broken."""
        figures = Figures()
        figures.add("size", 3, "MiB")
        assert str(figures.all[0]) == "size: 3 MiB"


class CommandTests:
    def test_unknown(self) -> None:
        """A name that is no command ends with a word about it; a module of the kit is none."""
        for name in ("nothing", "figures", "__main__", "a.b"):
            assert CliRunner().invoke(main, [name]).exit_code == 2


class AttackTests:
    """The commands themselves, with little to do; their figures of time are not judged here."""

    @pytest.mark.parametrize(
        ("line", "kept"),
        [
            # covers: P12 F16
            ("escape --writes 3000", ["escapes: 0 ", "bugs: 0 "]),
            # covers: F22 R08 R07
            ("logflood --refusals 3000 --sockets 40", ["refused: 3000 ", "tracebacks: 0 "]),
            # covers: F8 F9 C05
            ("idle --connections 70", ["paired connections kept: 71 ", "strangers left: 0 "]),
            # covers: S2-55
            ("rate --short --seconds 0.5", []),  # whose figures are all of speed
            # covers: H02
            ("flood --connections 2 --requests 300 --short", ["tracebacks: 0 "]),
        ],
    )
    def test_runs(self, line: str, kept: list[str]) -> None:
        """A command does what it says and finds nothing broken that is not a matter of speed."""
        command = [sys.executable, "-m", "chaos", *line.split(), "--seed", "7"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, BREACH), done.stderr
        assert "seed 7" in done.stdout
        for each in kept:
            (found,) = [row for row in done.stdout.splitlines() if row.startswith(each)]
            assert found.endswith(": kept")
