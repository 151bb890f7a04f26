"""Who was refused and why, in a log that nobody can fill (security design, sections 5 and 10).

The first refusals of an address are told one by one; what follows within the
minute is counted and told in one line.  Addresses are counted up to a bound,
and the rest of them together, so that a million refusals from as many
addresses are a few lines a minute as well (catalogue R07, R08, F22).
"""

from __future__ import annotations

from collections import Counter

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from lanxfer.errors import BY_CODE, LanxferError
from lanxfer.sparing import Sparing
from lanxfer.storage.names import shown

PERIOD = 60.0
"""Seconds between two summaries."""

SINGLY = 5
"""Refusals of one address in a period that have a line each."""

LINES = 40
"""Lines of that kind in a period, whoever they are about."""

SOURCES = 256
"""Addresses that are counted one by one in a period."""

TOLD = 8
"""Addresses that a summary names; those with the most refusals."""


@define
class _Count:
    all: int = 0
    told: int = 0
    last: str = ""

    @property
    def silent(self) -> int:
        return self.all - self.told


class Refusals:
    """The refusals of one service on their way into its log."""

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._sources: dict[str, _Count] = {}
        self._others = _Count()
        self._sparing = Sparing(clock, PERIOD, LINES, self._summarise)
        self.stop = self._sparing.stop
        self.codes: Counter[str] = Counter()
        """How many were refused since the start, by the code of ``lanxfer.errors``."""

    def note(self, source: str, error: LanxferError) -> None:
        """Whoever comes from ``source`` was refused with ``error``."""
        self._sparing.begin()
        count = self._sources.get(source)
        if count is None:
            count = self._others
            if len(self._sources) < SOURCES:
                count = self._sources[source] = _Count()
        count.all += 1
        count.last = error.code
        self.codes[error.code if error.code in BY_CODE else "other"] += 1
        known = count is not self._others and count.told < SINGLY
        if known and self._sparing.spend():
            count.told += 1
            self.log.info(
                "{source} was refused: {reason} [{code}]",
                event="refused",
                source=shown(source, 60) or "somebody here",
                reason=shown(error.reason, 200),
                code=shown(error.code, 40),
            )

    def _summarise(self) -> None:
        silent = [(count.silent, source, count) for source, count in self._sources.items()]
        silent = sorted((each for each in silent if each[0]), key=lambda each: -each[0])
        for number, source, count in silent[:TOLD]:
            self.log.info(
                "{source} was refused {count} times more within a minute, the last time [{code}]",
                event="refused_more",
                source=shown(source, 60) or "somebody here",
                count=number,
                code=shown(count.last, 40),
            )
        rest = sum(each[0] for each in silent[TOLD:]) + self._others.silent
        if rest:
            self.log.info(
                "others were refused {count} times within a minute",
                event="refused_more",
                count=rest,
            )
        self._sources.clear()
        self._others = _Count()
