"""What became of each thing that was named, and of all of it together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field

from lanxfer.cli.output import Output, count, human_size, human_time
from lanxfer.errors import Exit, LanxferError
from lanxfer.storage.names import quoted, shown
from lanxfer.storage.sources import Entry
from lanxfer.transfers import Kind, Receipt


@define
class _Named:
    """Something that was named on the command line."""

    files: int = 0
    bytes: int = 0
    already: int = 0
    failed: int = 0
    decided: int = 0


@define
class Report:
    """Hears how each file ended; says it in lines for people, or in rows for programs.

    ``below`` gives the number of things belonging to a name at the top, or None
    while that is not known.
    """

    out: Output
    peer: str
    clock: Callable[[], float]
    below: Callable[[str], int | None]
    files: int = 0
    folders: int = 0
    bytes: int = 0
    already: int = 0
    failed: int = 0
    _error: LanxferError | None = None
    _skipped: dict[str, int] = field(factory=dict)
    _open: dict[str, _Named] = field(factory=dict)
    _moved: int = 0
    _began: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._began = self.clock()

    def entry(self, entry: Entry, outcome: Receipt | LanxferError, *, single: bool = False) -> None:
        """One file, folder or link is decided; a ``single`` one was named as such."""
        top = entry.path if single else entry.path.partition("/")[0]
        named = self._open.setdefault(top, _Named())
        named.decided += 1
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
        return int(Exit.PARTIAL if self.arrived else self._error.exit)

    @property
    def arrived(self) -> int:
        """Files, folders and links that the other side has."""
        return self.files + self.folders

    def _arrive(self, entry: Entry, receipt: Receipt, named: _Named) -> None:
        folder = entry.kind is Kind.FOLDER
        self.folders += folder
        self.files += not folder
        self.bytes += receipt.size
        self._moved += 0 if receipt.already else receipt.size - receipt.resumed_from
        self.already += receipt.already and not folder
        named.files += not folder
        named.bytes += receipt.size
        named.already += receipt.already and not folder
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
        parts = [f"{shown(top)}/: {count(named.files, 'file')}, {human_size(named.bytes)}"]
        if named.already:
            parts.append(f"{named.already} already there")
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
            "files": self.files,
            "folders": self.folders,
            "bytes": self.bytes,
            "already": self.already,
            "skipped": sum(self._skipped.values()),
            "failed": self.failed,
            "seconds": round(seconds, 3),
        }

    def _sentence(self, seconds: float) -> str:
        peer = shown(self.peer)
        failed = f" {self.failed} did not arrive." if self.failed else ""
        if not self.arrived:
            return f"Nothing arrived at {peer}."
        if self.already and self.already == self.files:
            return f"{count(self.files, 'file')} ({human_size(self.bytes)}) there already.{failed}"
        what = count(self.files, "file") if self.files else count(self.folders, "folder")
        already = f", {self.already} of them there already" if self.already else ""
        rate = f", {human_size(self._moved / seconds)}/s" if seconds > 0.5 and self._moved else ""
        return (
            f"{what} ({human_size(self.bytes)}) sent to {peer} in"
            f" {human_time(seconds)}{rate}{already}.{failed}"
        )


def _file_line(entry: Entry, receipt: Receipt) -> str:
    line = f"{shown(entry.path)}: {human_size(receipt.size)}"
    if receipt.stored and receipt.stored != entry.path:
        line += f", stored as {quoted(receipt.stored)}"
    if receipt.resumed_from:
        line += f", {human_size(receipt.resumed_from)} of it from before"
    return line + (", already there" if receipt.already else "")
