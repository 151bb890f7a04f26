"""Results to standard output, words for people to standard error, and how both look.

Text of other devices and names of files go through ``harmless`` or ``shown``
before a terminal sees them; ``--json`` is ASCII by itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TextIO
from unicodedata import combining, east_asian_width

from lanxfer.errors import Cancelled, Exit, LanxferError
from lanxfer.showing import shown

SENTENCE_MAX = 2000


class BadLine(LanxferError):
    """The command line makes no sense."""

    code = "usage"
    exit = Exit.USAGE


class Output:
    """Where a command says what it found.

    ``above`` prints a line above the progress bars, where there are any.  A
    reader that has gone away is no error: ``on_broken`` is called once, and
    what would still be printed is dropped.  ``tell`` gets what would go to standard error,
    and whether it has to be known, where a log is written there.
    """

    def __init__(self, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self.quiet = quiet
        self.above: Callable[[str], None] | None = None
        self.on_broken: Callable[[], None] = lambda: None
        self.tell: Callable[[str, bool], None] | None = None
        self.trouble = ""
        self._broken = False

    @property
    def talks(self) -> bool:
        """Whether anybody wants to be told how it goes on."""
        return not (self.json or self.quiet)

    def line(self, text: str) -> None:
        """A result that was asked for, for people."""
        if not self.json:
            self._result(text)

    def done(self, text: str) -> None:
        """What was done, for people who want to know."""
        if self.talks:
            self._result(text)

    def row(self, values: Mapping[str, Any]) -> None:
        """The same result, for programs."""
        if self.json:
            self._result(json.dumps(dict(values)))

    def say(self, text: str) -> None:
        """Something about how it goes, for people."""
        if self.talks:
            self._aside(harmless(text), False)

    def warn(self, text: str) -> None:
        """Something that has to be known."""
        self._aside(harmless(text), True)

    def report(self, error: BaseException) -> int:
        """Say what a command failed with; the exit code for it."""
        if not isinstance(error, LanxferError):
            kind = type(error).__name__
            error = LanxferError(
                f"Something went wrong that should not have ({kind}: {error});"
                " LANXFER_DEBUG=1 shows where."
            )
        self.warn(error.reason)
        self.row({"error": error.code, "reason": error.reason, "exit": int(error.exit)})
        return int(error.exit)

    def with_trouble(self, code: int) -> int:
        """The exit code, when the results could not be written as well."""
        if not self.trouble:
            return code
        self.warn(self.trouble)
        return code or int(Exit.FAILED)

    def _result(self, text: str) -> None:
        if self._broken:
            return
        try:
            self._write(sys.stdout, text)
        except BrokenPipeError:
            self._give_up()
        except OSError as error:
            self.trouble = f"The results cannot be written: {error.strerror}."
            self._give_up()

    def _aside(self, text: str, matters: bool) -> None:
        if self.tell is not None:
            self.tell(text, matters)
            return
        with suppress(OSError):
            self._write(sys.stderr, f"lanxfer: {text}" if matters else text)

    def _write(self, stream: TextIO | None, text: str) -> None:
        if stream is None:  # closed by whoever started us
            return
        if self.above is not None and stream.isatty():
            self.above(text)
            return
        stream.write(text + "\n")
        stream.flush()

    def _give_up(self) -> None:
        self._broken = True
        # What the stream still holds would be tried again, and complained about, at exit.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        self.on_broken()


def make_printable() -> None:
    """No name is unprintable on any terminal: what it lacks shows as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("LANXFER_DEBUG", "") not in ("", "0")


def show_traceback(error: BaseException) -> None:
    """Everything about an error, where that is wanted."""
    if debugging():
        import traceback

        traceback.print_exception(error, file=sys.stderr)


def failed(error: BaseException, json: bool) -> int:
    """Say what a command failed with, or that it was interrupted; the exit code for it."""
    show_traceback(error)
    if isinstance(error, KeyboardInterrupt):
        print(file=sys.stderr)  # a terminal shows ^C where the next word would be
        error = Cancelled()
    return Output(json).report(error)


def fail_usage(text: str, json: bool) -> int:
    """Say what is wrong with the command line; the exit code for it."""
    return Output(json).report(BadLine(text))


def harmless(text: str) -> str:
    """A sentence of ours with text of others in it, as a terminal may see it."""
    return shown(text, SENTENCE_MAX).replace("\\\\", "\\")


def human_size(size: float) -> str:
    """1536 as "1.5 KiB"."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1023.95 or unit == "TiB":
            break
    return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"


def human_time(seconds: float) -> str:
    """Seconds as "0.4 s", "18 s", "2:05" or "1:02:03"."""
    if seconds < 9.95:
        return f"{max(seconds, 0.1):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int, one: str, many: str = "") -> str:
    """ "1 file" or "2 files"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def columns(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Rows of cells as aligned lines; the columns in ``right`` have their ends aligned."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for at, cell in enumerate(row):
            room = " " * (widths[at] - _width(cell))
            cells.append(room + cell if at in right else cell + room)
        lines.append("  ".join(cells).rstrip())
    return lines


def _width(text: str) -> int:
    """Columns of a terminal: East Asian characters take two, combining ones none."""
    wide = sum(east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(bool(combining(each)) for each in text)
