"""The commands that break things are found by name, and end by what they found."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from chaos.__main__ import main
from chaos.figures import BREACH, Figures


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
