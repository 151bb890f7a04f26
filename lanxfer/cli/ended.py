"""What became of each entry of a send that has no reactor (``lanxfer.cli.straight_many``)."""

from __future__ import annotations

from collections.abc import Sequence

from lanxfer.cli.brief import Brief
from lanxfer.cli.report import Report
from lanxfer.errors import LanxferError
from lanxfer.offering import Loaded
from lanxfer.packing import as_sent
from lanxfer.tally import Below
from lanxfer.transfers import Entry, Receipt


class Ended:
    """Tells a report of it.

    Not of one after the other where that is of no interest: there may be thousands.  A ``single``
    one has its name from the command line.
    """

    def __init__(self, here: Brief, report: Report, single: bool) -> None:
        self._here = here
        self._report = report
        self._single = single
        self._each = single or here.out.json
        self._below = Below()

    def one(self, entry: Entry, end: Receipt | LanxferError) -> None:
        """One of them ended."""
        if isinstance(end, Receipt):
            if self._each or not self._below.add(entry, end):
                self._report.entry(entry, end, single=self._single)
        elif not self._here.interrupted:  # else it is no news of each single one
            self._report.entry(entry, end, single=self._single)

    def as_sent(self, pack: Sequence[Loaded]) -> None:
        """These arrived as they were sent."""
        if not self._each:
            self._below.add_sent(each.entry for each in pack if "/" in each.entry.path)
            pack = [each for each in pack if "/" not in each.entry.path]
        for loaded in pack:
            self._report.entry(loaded.entry, as_sent(loaded), single=self._single)

    def report(self) -> None:
        """Say what was counted."""
        for top, sums in self._below.take():
            self._report.below_arrived(top, sums)
