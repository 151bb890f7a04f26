"""The large files of a send that has no reactor (``lanxfer.cli.straight_many``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from lanxfer.ahead import LARGE_AT_ONCE
from lanxfer.errors import LanxferError, SourceChanged
from lanxfer.offering import Loaded, as_found, request_of
from lanxfer.storage.sources import open_source
from lanxfer.transfers import Conflict, Entry, Receipt, State
from lanxfer.upload import Upload
from lanxfer.wire import limits

if TYPE_CHECKING:
    from lanxfer.straight import Straight

PATIENCE = 1.0
"""Seconds for which one that cannot go on holds up what comes next: it may be paused there."""

LOOK_EVERY = 0.02
"""Seconds after which is seen what was done beside: a file that is read, a Ctrl-C."""

Told: TypeAlias = Callable[[Entry, State, int], object]
"""Hears how far a file is: bytes that are there, or on their way."""


class Large:
    """One of them.  ``before`` is how many bytes had arrived when it was ``asked``, in seconds."""

    def __init__(self, entry: Entry, upload: Upload, before: int, told: Told) -> None:
        self.entry = entry
        self.upload = upload
        self.before = before
        self.told = told
        self.asked = self.moved = time.monotonic()

    @property
    def id(self) -> int:
        """The number of its request."""
        return self.upload.id

    def ended(self, end: Receipt | LanxferError) -> None:
        """It came to its end."""
        state = State.DONE if isinstance(end, Receipt) else State.FAILED
        self.told(self.entry, state, self.entry.size)

    def give_back(self) -> Entry:
        """What is to be sent once more, by somebody else."""
        self.upload.close()
        self.told(self.entry, State.OFFERED, 0)
        return self.entry


class UnderWay:
    """Those that were asked for, and are not yet sent as a whole.

    Each goes as a whole before the next one does, but one that cannot go on is overtaken.
    """

    def __init__(self, there: Straight, told: Told) -> None:
        self.files: list[Large] = []
        self._there = there
        self._told = told
        self._memory = bytearray()

    @property
    def left(self) -> int:
        """Bytes that go before one that is asked for now has its turn."""
        return sum(each.upload.left for each in self.files)

    def ask(self, entry: Entry, conflict: Conflict | None, group: str, before: int) -> None:
        """Ask for one more.

        Raises what is wrong with the file, SourceChanged where it is small by now, and what the
        connection raises.
        """
        source = open_source(entry.local)
        try:
            entry = as_found(entry, source)
            if entry.size <= limits.INLINE_MAX:
                raise SourceChanged
            args = request_of(Loaded(entry), conflict, group)
            upload = Upload(
                self._there, source, args, lambda state, done: self._told(entry, state, done)
            )
        except BaseException:
            source.close()
            raise
        self.files.append(Large(entry, upload, before, self._told))

    def send(self, enough: Callable[[], bool]) -> Iterator[Large]:
        """Send until that is ``enough``, or none can go on, and give each whose end was said."""
        self._memory = self._memory or bytearray(limits.UNIT)
        while self.files and not enough():
            moved = next((each for each in self.files if each.upload.step(self._memory)), None)
            if moved is None and self.stuck:
                return
            if moved is not None:
                moved.moved = time.monotonic()
                if moved.upload.over:
                    self.files.remove(moved)
                    yield moved
                    continue
            self._there.hear(LOOK_EVERY if moved is None else 0.0)

    @property
    def stuck(self) -> bool:
        """Whether none of them has gone on for a while."""
        now = time.monotonic()
        return all(now - each.moved >= PATIENCE for each in self.files)

    @property
    def full(self) -> bool:
        """Whether as many are stuck as may be: more would only share what there is."""
        return len(self.files) >= LARGE_AT_ONCE and self.stuck

    def close(self) -> None:
        """Close what is open here."""
        for each in self.files:
            each.upload.close()
