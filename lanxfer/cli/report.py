"""What became of each thing that was named, and of all of it together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lanxfer.cli.output import Output, count, human_size, human_time
from lanxfer.errors import Exit, LanxferError
from lanxfer.showing import quoted, shown
from lanxfer.tally import NOTHING, Sums, sums_of
from lanxfer.transfers import Entry, Kind, Receipt


class _Named:
    """Something that was named on the command line."""

    def __init__(self) -> None:
        self.arrived = NOTHING
        self.failed = 0

    @property
    def decided(self) -> int:
        """Files, folders and links."""
        return self.arrived.files + self.arrived.folders + self.failed


class Report:
    """Hears how each file ended; says it in lines for people, or in rows for programs.

    ``below`` gives the number of things belonging to a name at the top, or None
    while that is not known.
    """

    def __init__(
        self,
        out: Output,
        peer: str,
        clock: Callable[[], float],
        below: Callable[[str], int | None],
    ) -> None:
        self.out = out
        self.peer = peer
        self.clock = clock
        self.below = below
        self.arrived = NOTHING
        self.failed = 0
        self._waited = False
        self._error: LanxferError | None = None
        self._skipped: dict[str, int] = {}
        self._open: dict[str, _Named] = {}
        self._began = clock()

    def entry(self, entry: Entry, outcome: Receipt | LanxferError, *, single: bool = False) -> None:
        """One file, folder or link is decided; a ``single`` one was named as such."""
        top = entry.path if single else entry.path.partition("/")[0]
        named = self._open.get(top) or self._open.setdefault(top, _Named())
        if isinstance(outcome, LanxferError):
            self._fail(entry, outcome, named)
        else:
            self._arrive(entry, outcome, named)
        if entry.path == top and entry.kind is not Kind.FOLDER:
            del self._open[top]
            if isinstance(outcome, Receipt):
                self.out.done(_file_line(entry, outcome))
        elif named.decided == self.below(top):
            self._folder(top)

    def below_arrived(self, top: str, sums: Sums) -> None:
        """So much of what is below a name at the top arrived, all of it under its own name."""
        named = self._open.setdefault(top, _Named())
        self._count(named, sums)
        if named.decided == self.below(top):
            self._folder(top)

    def waits(self, path: str) -> None:
        """Somebody over there has to say yes first; that is said once."""
        if not self._waited:
            self._waited = True
            self.out.row({"path": path, "waiting": self.peer})
            self.out.say(f"Waiting for {shown(self.peer)} to accept.")

    @property
    def so_far(self) -> str:
        """What had arrived when it was cancelled, as a sentence; "" where that was nothing."""
        files = self.arrived.files
        return f"Cancelled; {count(files, 'file')} had arrived." if files else ""

    def skip(self, path: str, why: str) -> None:
        """Something was left out, and was never to be sent."""
        self._skipped[why] = self._skipped.get(why, 0) + 1
        self.out.row({"path": path, "skipped": why})

    def end(self) -> int:
        """Say how all of it ended; the exit code."""
        for top in list(self._open):
            self._folder(top)
        self._say_skipped()
        seconds = self.clock() - self._began
        self.out.row(self._summary(seconds))
        self.out.done(self._sentence(seconds))
        if self._error is None:
            return int(Exit.OK)
        return int(Exit.PARTIAL if self._anything else self._error.exit)

    @property
    def _anything(self) -> bool:
        return bool(self.arrived.files or self.arrived.folders)

    def _count(self, named: _Named, sums: Sums) -> None:
        self.arrived = self.arrived.plus(sums)
        named.arrived = named.arrived.plus(sums)

    def _arrive(self, entry: Entry, receipt: Receipt, named: _Named) -> None:
        self._count(named, sums_of(entry, receipt))
        if not self.out.json:
            return  # for people there is one line about all; a row for each is not made in vain
        self.out.row(
            {
                "path": entry.path,
                "kind": entry.kind.value,
                "stored": receipt.stored,
                "size": receipt.size,
                "blake3": receipt.digest,
                "already": receipt.already,
                "resumed_from": receipt.resumed_from,
            }
        )

    def _fail(self, entry: Entry, error: LanxferError, named: _Named) -> None:
        self.failed += 1
        named.failed += 1
        self._error = self._error or error
        self.out.row({"path": entry.path, "error": error.code, "reason": error.reason})
        if not self.out.json:
            told = quoted(entry.local) in error.reason
            self.out.warn(error.reason if told else f"{shown(entry.path)}: {error.reason}")

    def _folder(self, top: str) -> None:
        named = self._open.pop(top)
        arrived = named.arrived
        parts = [f"{shown(top)}/: {count(arrived.files, 'file')}, {human_size(arrived.bytes)}"]
        if arrived.already:
            parts.append(f"{arrived.already} already there")
        if named.failed:
            parts.append(f"{named.failed} did not arrive")
        self.out.done(", ".join(parts))

    def _say_skipped(self) -> None:
        for why, number in self._skipped.items():
            hint = "; --links sends them" if why == "symbolic link" else ""
            verb = "was" if number == 1 else "were"
            self.out.say(f"{count(number, why)} {verb} left out{hint}.")

    def _summary(self, seconds: float) -> Mapping[str, Any]:
        return {
            "peer": self.peer,
            "files": self.arrived.files,
            "folders": self.arrived.folders,
            "bytes": self.arrived.bytes,
            "already": self.arrived.already,
            "skipped": sum(self._skipped.values()),
            "failed": self.failed,
            "seconds": round(seconds, 3),
        }

    def _sentence(self, seconds: float) -> str:
        peer, arrived = shown(self.peer), self.arrived
        failed = f" {self.failed} did not arrive." if self.failed else ""
        if not self._anything:
            return f"Nothing arrived at {peer}."
        size = human_size(arrived.bytes)
        if arrived.already and arrived.already == arrived.files:
            return f"{count(arrived.files, 'file')} ({size}) there already.{failed}"
        what = count(arrived.files, "file") if arrived.files else count(arrived.folders, "folder")
        already = f", {arrived.already} of them there already" if arrived.already else ""
        fast = seconds > 0.5 and arrived.moved
        rate = f", {human_size(arrived.moved / seconds)}/s" if fast else ""
        return f"{what} ({size}) sent to {peer} in {human_time(seconds)}{rate}{already}.{failed}"


def _file_line(entry: Entry, receipt: Receipt) -> str:
    line = f"{shown(entry.path)}: {human_size(receipt.size)}"
    if receipt.stored and receipt.stored != entry.path:
        line += f", stored as {quoted(receipt.stored)}"
    if receipt.resumed_from:
        line += f", {human_size(receipt.resumed_from)} of it from before"
    return line + (", already there" if receipt.already else "")
