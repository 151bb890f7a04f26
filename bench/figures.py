"""What is shown: tables, and goals, on a terminal and in the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import asdict, define, field, frozen

from bench.samples import Sample


@frozen
class Bar:
    """One contender in the picture; the longer, the better."""

    name: str
    value: float
    ours: bool


@define
class Report:
    """One workload's table, and every sample behind it; ``bars`` in ``unit``."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(factory=list)
    notes: list[str] = field(factory=list)
    samples: dict[str, list[Sample]] = field(factory=dict)
    bars: list[Bar] = field(factory=list)
    unit: str = ""

    def text(self) -> str:
        """As people read it: names to the left, figures to the right."""
        return "\n".join([self.title, *aligned([self.columns, *self.rows]), *self.notes])

    def plain(self) -> dict[str, Any]:
        """All of it as plain values, for ``--json``."""
        return {
            "title": self.title,
            "table": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "notes": self.notes,
            "samples": {name: [asdict(s) for s in each] for name, each in self.samples.items()},
        }


def aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """Lines of a table whose first row names the columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def simple_table(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """The same as reStructuredText; an empty first cell would join two rows."""
    filled = [(row[0] or "..", *(cell or "–" for cell in row[1:])) for row in rows]
    filled[0] = (rows[0][0] or "\\", *rows[0][1:])
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    first, *rest = aligned(filled)
    yield from (rule, first, rule, *rest, rule)
