"""A service that begins on what was left: the short form of ``chaos startup``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner

import chaos.startup
from chaos.__main__ import main
from chaos.figures import BREACH
from chaos.startup import lay_out
from lanxfer.journal import Journal
from lanxfer.state import StateFolder

LINE = ["startup", "--records", "200", "--parts", "20", "--runs", "1", "--seed", "1"]


class StartupTests:
    def test_layout(self, tmp_path: Path) -> None:
        """As many records and parts are there as were asked for, and all of them can be read."""
        lay_out(tmp_path, 300, 20, random.Random(1))
        journal = Journal(StateFolder(str(tmp_path / "state")).file("history.db"))
        assert len(journal.history(1000)) == 300
        journal.close()
        assert len(list((tmp_path / "inbox" / ".lanxfer-staging").glob("*.part"))) == 20

    def test_serves(self) -> None:
        """A real service starts on them and throws nothing away that is young."""
        # covers: F23, K10, R13
        done = CliRunner().invoke(main, LINE)
        assert "until it listens" in done.output
        assert "parts of its peers thrown away: 0 (<= 0): kept" in done.output

    @pytest.mark.parametrize("found", [(9.0, 20), (0.5, 19)])
    def test_breach(self, found: tuple[float, int], monkeypatch: pytest.MonkeyPatch) -> None:
        """A slow start, and a part that is gone, end with the code for it."""
        monkeypatch.setattr(chaos.startup, "begin", lambda folder: found)
        assert CliRunner().invoke(main, LINE).exit_code == BREACH
