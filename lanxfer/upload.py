"""One large file over a conversation, without a reactor (docs/protocol.rst, "A large file").

It is read, digested and sent in one thread, a unit at a time, while the bytes are in its
processor's cache, as ``lanxfer.stretch_out`` does it for those who have a reactor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, Any

from lanxfer.errors import Internal, LanxferError, Lost
from lanxfer.offering import READ_AHEAD_AFTER, receipt_of
from lanxfer.storage.sources import Source
from lanxfer.transfers import Receipt, State
from lanxfer.wire.packets import Args, Cancel, End, Go, Part

if TYPE_CHECKING:
    from lanxfer.conversation import Conversation


class Upload:
    """One such file: asked for when it is made, sent step by step, then heard of.

    ``args`` are those of ``recv_file``.  ``told`` hears its state, and up to which byte all of
    it is there or on its way.  It closes the source, at the latest when it is ``close``d.
    """

    def __init__(
        self,
        there: Conversation,
        source: Source,
        args: dict[str, Any],
        told: Callable[[State, int], object],
    ) -> None:
        self.over = False
        """Whether there is nothing more to be sent of it."""
        self._there = there
        self._source = source
        self._told = told
        self._began = time.monotonic()
        self._offset: int | None = None
        self._digest = ""
        self._waits = False
        self._go: Go | None = None
        self._aside: Thread | None = None
        self._unread: LanxferError | None = None  # what was wrong when it was read aside
        self._wrong: LanxferError | None = None
        self.id = there.ask_ahead("recv_file", args, (), self._event)
        told(State.OFFERED, 0)

    @property
    def left(self) -> int:
        """Bytes of it that are still to be sent, as far as is known."""
        return 0 if self.over else self._source.size - self._source.position

    def step(self, memory: bytearray) -> bool:
        """Send what fits into ``memory``, and may be sent by now; whether there was anything.

        Raises what the conversation raises where the other side is gone.  All else that goes
        wrong its receiver hears, and then ``receipt`` raises it.
        """
        try:
            return self._step(memory)
        except Lost:
            if not self._there.wanted(self.id):  # that had been its last word
                return self._end()
            raise
        except LanxferError as error:
            self._wrong = error
            self._there.say(Cancel(self.id, error.reason, error.code))
            return self._end()

    def receipt(self) -> Receipt:
        """Wait for the receiver's word; raises what it refused it with, or Cancelled."""
        try:
            args = self._there.answer(self.id).args
        except Lost:
            raise
        except LanxferError as error:
            raise self._wrong or error from None
        if self._wrong is not None:
            raise self._wrong
        return receipt_of(args, self._digest, self._source.size, self._offset or 0)

    def close(self) -> None:
        """Close the source, when nobody reads it any more."""
        self._source.stop()
        self._join()
        self._source.close()

    def _step(self, memory: bytearray) -> bool:
        there, source = self._there, self._source
        if not there.wanted(self.id):
            return self._end()
        if self._offset is None and not self._begin():
            return False
        if source.position < source.size:
            room = min(there.credit(self.id), source.size - source.position)
            part = memoryview(memory)[:room]
            if part:
                position = source.position
                source.read_into(part)
                there.say(Part(self.id, position, len(part)), part)
                self._told(State.MOVING, source.position)
            return bool(part)
        source.check_unchanged()
        self._digest = source.digest()
        there.say(End(self.id, source.size, self._digest))
        self._told(State.COMMITTING, source.size)
        return self._end()

    def _end(self) -> bool:
        self.over = True
        self.close()
        return True

    def _begin(self) -> bool:
        """Whether it is known where to begin: what its receiver has, and what of that is alike."""
        if self._go is None:
            self._go = self._there.go_of(self.id)
            if self._go is None:
                self._read_ahead()
                return False
            self._source.enough()
            self._join()
            self._unread = None  # it shows again when it is to be proved, or sent
            if self._go.have:
                self._begin_aside(self._prove)
        if self._aside is not None:
            if self._aside.is_alive():
                return False
            self._join()
            if self._unread is not None:
                raise self._unread
        self._offset = self._source.position
        self._told(State.MOVING, self._offset)
        return True

    def _read_ahead(self) -> None:
        """Whoever lets wait for its go reads what is there, and will want to see the same of ours.

        But not who has to ask somebody first.
        """
        late = time.monotonic() - self._began >= READ_AHEAD_AFTER
        if late and not self._waits and self._aside is None:
            self._begin_aside(self._source.read_ahead)

    def _prove(self) -> None:
        assert self._go is not None
        self._source.prove(self._go.have)

    def _begin_aside(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except LanxferError as error:
                self._unread = error
            except Exception:
                self._unread = Internal()

        self._aside = Thread(target=run, daemon=True)
        self._aside.start()

    def _join(self) -> None:
        aside, self._aside = self._aside, None
        if aside is not None:
            aside.join()

    def _event(self, event: Args) -> None:
        if event.get("waiting") is True:
            self._waits = True
            self._told(State.WAITING, 0)
