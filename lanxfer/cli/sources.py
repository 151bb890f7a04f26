"""What a command reads itself: standard input, and the size of what it is going to send."""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from lanxfer.errors import LanxferError, SourceUnreadable
from lanxfer.showing import quoted
from lanxfer.storage.sources import walk
from lanxfer.tally import Tally
from lanxfer.wire import limits

CHUNK = 256 * limits.KIB
LOOK_EVERY = 0.2
"""Seconds after which a thread that waits for input sees that nobody wants it any more."""


class Spool:
    """Standard input, kept in a private file until it has been sent: its size must be known first.

    ``fill`` and ``stop`` may be in different threads.
    """

    def __init__(self) -> None:
        self.path = ""
        self._folder = ""
        self._stopped = threading.Event()

    def fill(self) -> None:
        """Read all there is; blocks.  SourceUnreadable where that fails."""
        import tempfile  # costs as much as a hundred small files, and is seldom needed

        source = _stdin()
        try:
            self._folder = tempfile.mkdtemp(prefix="lanxfer-")  # for this user alone
            self.path = os.path.join(self._folder, "stdin")
            with open(self.path, "xb", buffering=0) as file:
                while data := self._read(source):
                    file.write(data)
        except OSError as error:
            where = quoted(self._folder or tempfile.gettempdir())
            raise SourceUnreadable(
                f"Standard input cannot be kept in {where} until it is sent"
                f" ({error.strerror}); TMPDIR may name a larger folder."
            ) from error
        finally:
            if self._stopped.is_set():
                self.stop()  # perhaps it was too early to find anything

    def _read(self, source: int) -> bytes:
        while not self._stopped.is_set():
            if not _can_wait() or select.select([source], [], [], LOOK_EVERY)[0]:
                return os.read(source, CHUNK)
        return b""

    def stop(self) -> None:
        """Remove it; also while it is being filled."""
        self._stopped.set()
        if self._folder:
            with suppress(FileNotFoundError):
                os.unlink(self.path)
            with suppress(OSError):
                os.rmdir(self._folder)


def _can_wait() -> bool:
    return sys.platform != "win32"  # where select knows sockets only


def _stdin() -> int:
    if sys.stdin is None:
        raise SourceUnreadable("There is no standard input to send.")
    return sys.stdin.fileno()


def read_text() -> str:
    """Standard input as a message, without the line end it closes with; blocks."""
    source, data = _stdin(), b""
    while len(data) <= limits.MESSAGE_MAX + 1 and (more := os.read(source, CHUNK)):
        data += more
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise SourceUnreadable("The text is not UTF-8; send it as a file.") from None


class Count:
    """What there will be to send, counted by a thread while the first of it goes out."""

    def __init__(self, paths: Sequence[str], links: bool, tally: Tally) -> None:
        self.paths = paths
        self.links = links
        self.tally = tally
        self.below: dict[str, int] = {}
        """How many files, folders and links belong to each name at the top."""
        self._stopped = threading.Event()

    def run(self) -> None:
        """Walk over all of it; blocks.  What is wrong with it, the sending will say."""
        with suppress(LanxferError):
            for entry in walk(self.paths, links=self.links):
                if self._stopped.is_set():
                    return
                if entry.skipped:
                    continue
                top = entry.path.partition("/")[0]
                self.below[top] = self.below.get(top, 0) + 1
                if entry.error is None:
                    self.tally.expect(entry.kind, entry.size)
            self.tally.counted = True

    def of(self, top: str) -> int | None:
        """How many belong to a name at the top; None while not all is counted."""
        return self.below.get(top) if self.tally.counted else None

    def stop(self) -> None:
        """Nobody wants to know any more."""
        self._stopped.set()
