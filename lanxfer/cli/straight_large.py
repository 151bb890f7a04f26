"""One large file of a send that has no reactor (``lanxfer.cli.straight_many``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from lanxfer.errors import LanxferError, SourceChanged
from lanxfer.offering import Loaded, as_found, request_of
from lanxfer.storage.sources import open_source
from lanxfer.transfers import Conflict, Entry, Receipt, State
from lanxfer.upload import Upload
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

if TYPE_CHECKING:
    from lanxfer.straight import Straight

Told: TypeAlias = Callable[[Entry, State, int], object]
"""Hears how far a file is: bytes that are there, or on their way."""


class Large:
    """A large file that was asked for, and is then sent, and heard of.

    ``before`` is how many bytes of all had arrived when it was ``asked``, in seconds.  Making
    one raises what is wrong with the file, SourceChanged where it is small by now, and what the
    connection raises.
    """

    def __init__(
        self,
        there: Straight,
        entry: Entry,
        conflict: Conflict | None,
        group: str,
        before: int,
        told: Told,
    ) -> None:
        self.asked = time.monotonic()
        self.before = before
        self.sent = False
        self._told = told
        source = open_source(entry.local)
        try:
            self.entry = as_found(entry, source)
            if self.entry.size <= limits.INLINE_MAX:
                raise SourceChanged
            args = request_of(Loaded(self.entry), conflict, group)
            self._upload = Upload(there, source, args)
        except BaseException:
            source.close()
            raise
        told(self.entry, State.OFFERED, 0)

    @property
    def brief(self) -> bool:
        """Whether it may wait for others without being missed there."""
        return self.entry.size <= limits.WINDOW

    def send(self, memory: bytearray) -> None:
        """Send it; raises as ``Upload.send``."""
        self.sent = True

        def heard(event: Args) -> None:
            if event.get("waiting") is True:
                self._told(self.entry, State.WAITING, 0)

        def moved(position: int) -> None:
            self._told(self.entry, State.MOVING, position)

        self._upload.send(memory, heard, moved)

    def receipt(self) -> Receipt:
        """Wait for the word of its receiver; raises as ``Upload.receipt``."""
        return self._upload.receipt()

    def over(self, end: Receipt | LanxferError) -> None:
        """It came to its end."""
        state = State.DONE if isinstance(end, Receipt) else State.FAILED
        self._told(self.entry, state, self.entry.size)

    def give_back(self) -> Entry:
        """What is to be sent once more, by somebody else."""
        self._upload.close()
        self._told(self.entry, State.OFFERED, 0)
        return self.entry
