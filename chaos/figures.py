"""What a command found, beside what was promised."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

from attrs import define, field, frozen

BREACH = 3
"""The exit code where a figure is outside its bound."""


@frozen
class Figure:
    """One promise and what was found; ``least`` and ``most`` are both within the bound."""

    name: str
    found: float
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def kept(self) -> bool:
        above = self.least is None or self.found >= self.least
        return above and (self.most is None or self.found <= self.most)

    def __str__(self) -> str:
        bounds = [
            *([f">= {self.least:g}"] if self.least is not None else []),
            *([f"<= {self.most:g}"] if self.most is not None else []),
        ]
        unit = f" {self.unit}" if self.unit else ""
        shown = f"{self.found:.6g}{unit}"
        if not bounds:
            return f"{self.name}: {shown}"
        return f"{self.name}: {shown} ({' and '.join(bounds)}): {'kept' if self.kept else 'BREACH'}"


@define
class Figures:
    """The figures of one run; ``finish`` ends the process by them."""

    seed: int | None = None
    all: list[Figure] = field(factory=list)
    _since: float = field(factory=time.monotonic)
    _told: float = field(factory=time.monotonic)

    def add(
        self,
        name: str,
        found: float,
        unit: str = "",
        *,
        least: float | None = None,
        most: float | None = None,
    ) -> None:
        """Note one figure and print it."""
        figure = Figure(name, found, unit, least, most)
        self.all.append(figure)
        print(figure, flush=True)

    def tell(self, done: int, total: int, what: str) -> None:
        """How far it is, at most once a second, for whoever waits."""
        now = time.monotonic()
        if now - self._told >= 1.0:
            self._told = now
            print(f"{done}/{total} {what}, {now - self._since:.0f} s", file=sys.stderr, flush=True)

    def finish(self) -> NoReturn:
        """Print the seed and the time; exit 0 if all is kept, else BREACH."""
        if self.seed is not None:
            print(f"seed {self.seed}")
        print(f"{time.monotonic() - self._since:.1f} s")
        sys.exit(0 if all(each.kept for each in self.all) else BREACH)
