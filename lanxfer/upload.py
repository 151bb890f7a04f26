"""One large file over a conversation, without a reactor (docs/protocol.rst, "A large file").

It is read, digested and sent in one thread, a unit at a time, while the bytes are in its
processor's cache, as ``lanxfer.stretch_out`` does it for those who have a reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

from lanxfer.errors import LanxferError, Lost
from lanxfer.offering import READ_AHEAD_AFTER, receipt_of
from lanxfer.storage.sources import Source
from lanxfer.transfers import Receipt
from lanxfer.wire.packets import Args, Cancel, End, Go, Part

if TYPE_CHECKING:
    from lanxfer.conversation import Conversation

LOOK_EVERY = 0.02
"""Seconds after which a Ctrl-C is seen while a thread proves what is there."""


class Upload:
    """One such file: asked for when it is made, then sent, then heard of.

    ``args`` are those of ``recv_file``.  Whoever makes one soon sends it, for the receiver gives
    up what does not move; ``send`` closes the source, or whoever does not come to that.
    """

    def __init__(self, there: Conversation, source: Source, args: dict[str, Any]) -> None:
        self.offset = 0
        self._there = there
        self._source = source
        self._digest = ""
        self.id = there.ask_ahead("recv_file", args, ())

    def send(
        self,
        memory: bytearray,
        on_event: Callable[[Args], object],
        on_moved: Callable[[int], object],
    ) -> None:
        """Send it; what is wrong with it there, ``receipt`` says.

        ``memory`` is filled again and again.  ``on_moved`` is told up to which byte all of the
        file is there or on its way, first of all where it begins.

        Raises what is wrong with the source, of which the receiver was told then, and what
        the conversation raises where the other side is gone.
        """
        try:
            go = self._going(on_event)
            if go is not None and self._prove(go):
                on_moved(self.offset)
                self._send(memory, on_moved)
        except Lost:
            raise
        except LanxferError as error:
            if self._there.asks(self.id):
                self._there.say(Cancel(self.id, error.reason, error.code))
                with suppress(LanxferError):
                    self._there.answer(self.id)
            raise
        finally:
            self.close()

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def receipt(self) -> Receipt:
        """Wait for the receiver's word; raises what it refused it with, or Cancelled."""
        args = self._there.answer(self.id).args
        return receipt_of(args, self._digest, self._source.size, self.offset)

    def _going(self, on_event: Callable[[Args], object]) -> Go | None:
        """Wait for the go; None where there is an answer instead.

        Whoever lets wait for it reads what is there, and wants to see the same of this side's:
        so that is read meanwhile.  Who has to ask somebody first reads nothing.
        """
        asks: list[Args] = []

        def told(event: Args) -> None:
            asks.append(event)
            on_event(event)

        if self._there.decided(self.id, told, READ_AHEAD_AFTER) or asks:
            return self._there.going(self.id, told)
        reading = Thread(target=_read_ahead, args=[self._source], daemon=True)
        reading.start()
        try:
            return self._there.going(self.id, on_event)
        finally:
            self._source.enough()
            reading.join()

    def _prove(self, go: Go) -> bool:
        """Go to the byte from which on the receiver lacks ours; False where it is given up."""
        if not go.have:
            return True
        wrong: list[BaseException] = []

        def prove() -> None:
            try:
                self._source.prove(go.have)
            except BaseException as error:
                wrong.append(error)

        proving = Thread(target=prove, daemon=True)
        proving.start()
        while proving.is_alive():
            if not self._there.wanted(self.id):
                return False
            proving.join(LOOK_EVERY)
        if wrong:
            raise wrong[0]
        self.offset = self._source.position
        return True

    def _send(self, memory: bytearray, on_moved: Callable[[int], object]) -> None:
        there, source = self._there, self._source
        while source.position < source.size:
            offset, room = source.position, there.room(self.id)
            if not room:
                return
            rest = memoryview(memory)[: source.size - offset]
            source.read_into(rest)
            while rest:
                part, rest = rest[:room], rest[room:]
                there.send_part(Part(self.id, offset, len(part)), part)
                offset += len(part)
                room = there.room(self.id) if rest else 0
                if rest and not room:
                    return
            on_moved(offset)
        source.check_unchanged()
        self._digest = source.digest()
        if there.wanted(self.id):
            there.say(End(self.id, source.size, self._digest))


def _read_ahead(source: Source) -> None:
    with suppress(LanxferError):  # it shows again when it is to be proved, or sent
        source.read_ahead()
