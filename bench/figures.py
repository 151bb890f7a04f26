"""What is shown: medians, goals, and a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from attrs import asdict, define, field, frozen

from bench.pairs import Sample
from bench.place import MIB


def middle(samples: Sequence[Sample], name: str) -> float:
    """The median of one figure of several runs."""
    found: float = median(getattr(each, name) for each in samples)
    return found


@frozen
class Goal:
    """Something that is wanted, and what there is."""

    name: str
    found: float
    wanted: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.found < self.wanted if self.at_most else self.found >= self.wanted

    def __str__(self) -> str:
        sign = "<" if self.at_most else ">="
        word = "reached" if self.met else "MISSED"
        return f"goal: {self.name} {self.found:.6g} {sign} {self.wanted:.6g}: {word}"


@define
class Report:
    """One benchmark's table, its goals, and every sample behind it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(factory=list)
    goals: list[Goal] = field(factory=list)
    samples: dict[str, list[Sample]] = field(factory=dict)

    def text(self) -> str:
        """The table as people read it: names to the left, figures to the right."""
        lines = [self.title, *_aligned([self.columns, *self.rows])]
        return "\n".join([*lines, *map(str, self.goals)])

    def plain(self) -> dict[str, Any]:
        """All of it as plain values, for ``--json``."""
        return {
            "title": self.title,
            "table": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "goals": [{**asdict(each), "met": each.met} for each in self.goals],
            "samples": {name: [asdict(s) for s in each] for name, each in self.samples.items()},
        }


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


COSTS = ("transfer s", "process s", "client CPU s", "server CPU s", "client MiB", "server MiB")
"""The columns ``costs`` fills; memory is the most that either side had in use."""


def costs(samples: Sequence[Sample]) -> tuple[str, ...]:
    times = ("seconds", "process", "client_cpu", "server_cpu")
    return (
        *(f"{middle(samples, name):.3f}" for name in times),
        *(f"{middle(samples, name) / MIB:.0f}" for name in ("client_peak", "server_peak")),
    )


def most(samples: Iterable[Sample]) -> float:
    """The most memory either side ever took, in MiB."""
    return max(max(each.client_peak, each.server_peak) for each in samples) / MIB
