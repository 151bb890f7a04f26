"""Tables and picture in the documentation: between two marks, the rest of the page stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.figures import Report, simple_table
from bench.goals import COLUMNS, Goal
from bench.picture import draw
from bench.processes import BenchFailed

PAGE, PICTURE = "performance.rst", "performance.svg"
BEGIN, END = ".. figures begin", ".. figures end"


def write(
    folder: Path, reports: Mapping[str, Report], goals: Sequence[Goal], conditions: str
) -> None:
    """Renew the picture, and the part of the page that holds figures."""
    page = folder / PAGE
    before, begun, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise BenchFailed(f"{PAGE} has no place for figures ({BEGIN} … {END}).")
    (folder / PICTURE).write_text(draw(reports), encoding="utf-8")
    parts = [BEGIN, "", conditions, "", f".. image:: {PICTURE}", ""]
    if goals:
        parts += [*_heading("Goals"), *simple_table([COLUMNS, *(each.row() for each in goals)]), ""]
    for report in reports.values():
        parts += [*_heading(report.title), *simple_table([report.columns, *report.rows]), ""]
        parts += [line for note in report.notes for line in (f"* {note}", "")]
    text = before + "\n".join([*parts, END]) + after
    page.write_text(text, encoding="utf-8")


def _heading(text: str) -> list[str]:
    return [text, "~" * len(text), ""]
