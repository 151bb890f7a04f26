"""A file that is sent, in turn with others: what its sender writes to, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from twisted.internet.interfaces import IConsumer, IProducer, IPullProducer
from zope.interface import implementer

from lanxfer.bodies import BodySender
from lanxfer.disk import Disk
from lanxfer.outbox import Outbox
from lanxfer.stretch_in import FEW, LATER, LEAST, MORE
from lanxfer.wire.packets import Part


@implementer(IConsumer)
class Turn:
    """One file's place in the outbox, and the consumer its sender writes to.

    ``credit`` bytes may be sent until ``grant`` gives more; while ``paused``
    none.
    """

    def __init__(
        self,
        outbox: Outbox,
        id: int,
        offset: int,
        credit: int,
        on_progress: Callable[[int], None],
    ) -> None:
        self._outbox = outbox
        self._id = id
        self._offset = offset
        self._credit = credit
        self._on_progress = on_progress
        self._producer: IPullProducer | None = None
        self._chunk = memoryview(b"")
        self._queued = False
        self._asked = False
        self._paused = False
        self._away = self._quick = False
        self._usual_until = 0
        self._lender: tuple[Disk, BodySender] | None = None

    def lends(self, disk: Disk, sender: BodySender) -> None:
        """Have stretches of the file sent by threads of that disk."""
        self._lender = disk, sender

    def grant(self, more: int) -> None:
        """The receiver takes ``more`` bytes."""
        self._credit += more
        if self._away:
            self._outbox.grant(self._id, more)
        self._enqueue()

    def pause(self, paused: bool) -> None:
        """Hold the file back, or let it go on."""
        self._paused = paused
        if paused and self._away:
            self._outbox.end_stretch()
        self._enqueue()

    def _enqueue(self) -> None:
        if self._producer is None or self._queued or self._asked or self._away:
            return
        # Without credit the sender is still asked once: it may have nothing left but its end.
        if self._paused or (self._chunk and not self._credit):
            return
        self._queued = True
        self._outbox.queue(self)

    def go(self) -> None:
        """It is this file's turn: write what is here, or have some read."""
        self._queued = False
        if self._producer is None or self._paused:
            return
        if self._chunk:
            self._send()
        elif not self._stretch():
            self._asked = True
            self._producer.resumeProducing()

    def _stretch(self) -> bool:
        """Whether a thread sends what comes next, as soon as that may be sent."""
        if self._lender is None:
            return False
        disk, sender = self._lender
        least = MORE if self._quick else LEAST
        large = sender.left >= least and self._offset >= self._usual_until
        worth = large and self._outbox.may_stretch
        sender.reads_ahead = not worth
        if not (worth and sender.lends):
            return False
        if not self._credit:
            return True
        self._away = True
        first = Part(self._id, self._offset, self._credit)
        if self._outbox.begin_stretch(disk, sender, self, first):
            self._quick = True
            return True
        self._away = False
        sender.reads_ahead = True
        return False

    def stretched(self, size: int) -> None:
        """So much was sent by a thread, and nothing more is."""
        if size < FEW:
            self._usual_until = self._offset + LATER
        self._offset += size
        self._credit -= size
        self._on_progress(self._offset)

    def back(self) -> None:
        """The file is read here again."""
        self._away = False
        self._enqueue()
        self._outbox.go_on()

    def lost(self) -> None:
        """There is nothing to write to any more."""
        producer = self._producer
        self.unregisterProducer()
        if producer is not None:
            producer.stopProducing()

    def _send(self) -> None:
        size = min(self._credit, len(self._chunk), self._outbox.meter.allowance)
        data, self._chunk = self._chunk[:size], self._chunk[size:]
        part = Part(self._id, self._offset, size)
        self._offset += size
        self._credit -= size
        self._outbox.say(part, [data])
        self._on_progress(self._offset)
        self._enqueue()

    # IConsumer.

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        self._producer = cast(IPullProducer, producer)
        self._outbox.files += 1
        self._enqueue()

    def unregisterProducer(self) -> None:
        self._outbox.files -= self._producer is not None
        self._producer = None
        self._lender = None  # it knows this turn: a circle's memory stays for a while

    def write(self, data: bytes | memoryview) -> None:
        # Not written here: the others may be before it, and the transport may be full by now.
        self._asked = False
        self._chunk = memoryview(data)
        self._enqueue()
