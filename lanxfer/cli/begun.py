"""A send that was begun in one way and is gone on with in another, or is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lanxfer.cli.report import Report
from lanxfer.errors import Cancelled, LanxferError
from lanxfer.offering import maybe_arrived
from lanxfer.tally import Tally
from lanxfer.transfers import Entry


class Begun(NamedTuple):
    """What is still to be sent, and what became of the rest.

    ``broke`` says that it is the connection that was in the way, ``named`` that it is one file
    which has its name from the command line.
    """

    entries: Iterator[Entry]
    report: Report
    tally: Tally
    broke: bool = False
    named: bool = False

    def fail(self, error: LanxferError) -> Iterator[Entry]:
        """Report it of each that is left, as they are taken from here."""
        for entry in self.entries:
            if entry.skipped:
                self.report.skip(entry.path, entry.skipped)
            else:
                self.report.entry(entry, entry.error or error, single=self.named)
            yield entry

    @property
    def cancelled(self) -> Cancelled:
        """What to say where nobody wants the rest any more."""
        so_far = self.report.so_far
        if not self.broke:
            return Cancelled(so_far)
        return Cancelled(f"{so_far} More may have arrived.") if so_far else maybe_arrived()
