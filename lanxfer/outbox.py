"""Everything one side writes on one connection: answers first, files in turns.

The outbox is the transport's push producer.  Headers are written at once, those
said while a chunk is read together at its end; bodies are pulled from their
senders, a chunk at a time and one after the other, only while the transport can
take more.  A part is written together with its header, so nothing can ever stand
inside it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IPushProducer,
    IReactorTime,
    ITransport,
)
from zope.interface import implementer

from lanxfer.bulk import BulkTLS
from lanxfer.direct import Direct, Pieces, size_of
from lanxfer.disk import Disk
from lanxfer.rates import UNMETERED, Metered
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.showing import censored
from lanxfer.stretch_out import Place, Sending, StretchingOut, StretchOut
from lanxfer.wire import limits
from lanxfer.wire.packets import Packet, Part, Window

GATHERED_MAX = 16 * limits.KIB
"""Bytes said while a chunk is read that are kept for its end."""


class InTurn(Protocol):
    """What takes turns: a file (``lanxfer.in_turn``) or a stream (``lanxfer.streams``)."""

    def go(self) -> None:
        """It is its turn: say one piece."""

    def lost(self) -> None:
        """There is nothing to write to any more."""


class Awaited:
    """A turn that somebody waits for; ``come`` fires when it is there, or never will be."""

    def __init__(self) -> None:
        self.come: Deferred[None] = Deferred(lambda d: None)

    def go(self) -> None:
        """It is its turn."""
        if not self.come.called:
            self.come.callback(None)

    lost = go


@implementer(IPushProducer)
class Outbox:
    """See the module.

    ``on_backlog`` hears True when the other side reads so little that more than
    64 KiB of headers wait for it, and False when that is over; ``on_said`` is
    called after each packet, since it may imply others (``Session.implied``);
    ``on_blocked`` is called when the transport takes no more for now.
    ``direct`` sends the parts of files where the transport can be gone past.
    """

    def __init__(
        self,
        transport: ITransport,
        session: Session,
        on_backlog: Callable[[bool], None],
        on_said: Callable[[], None],
        direct: Direct | BulkTLS | None = None,
    ) -> None:
        self._transport = transport
        self._direct = direct
        self._session = session
        self._on_backlog = on_backlog
        self._on_said = on_said
        self._turns: deque[InTurn] = deque()
        self._pumping = False
        self._backlog = 0
        self._open = True
        self._over = False  # nobody has a turn any more
        self.writable = True
        self.trace: Callable[[str, bytes], None] | None = None
        self.on_blocked: Callable[[], None] = lambda: None
        self.meter: Metered = UNMETERED
        self._waits_rate = False
        self._gathered: list[bytes] | None = None
        self._size = 0  # bytes of them
        self.files = 0  # that are being sent
        self.clock: IReactorTime | None = None  # of one who sends stretches of them
        self._away: StretchingOut | None = None
        self._held: list[bytes] = []
        transport.registerProducer(self, True)  # type: ignore[attr-defined]

    def say(self, packet: Packet, data: bytes | Pieces = b"") -> None:
        """Write a packet and its body, if the connection still takes anything.

        Pieces must not change before the outbox is writable again.
        """
        if not self._open:
            return
        line = self._session.send(packet)
        hurries = self._away is not None and not isinstance(packet, Window)
        if hurries:
            self.end_stretch()  # that is not to wait; a grant may
        if self.trace is not None and line:
            self.trace(">", censored(line.partition(b"\n")[0]))
        if self._away is not None:
            self._held.append(line)
        elif self._direct is not None and isinstance(data, list):
            if self._gathered:
                self._write_gathered()
            self._direct.send(line, data)
        else:
            self._write(line, data if isinstance(data, bytes) else b"".join(data))
        self.meter.spend(len(line) + size_of(data))
        if self._session.half_close:
            self.close()
            self._transport.loseWriteConnection()  # type: ignore[attr-defined]
        if not self.writable:
            self._backlog += len(line)
            if self._backlog > limits.REPLIES_MAX:
                self._on_backlog(True)
        self._on_said()
        if hurries:
            self._pump()

    def _write(self, line: bytes, data: bytes) -> None:
        size = len(line) + len(data)
        if self._gathered is None or self._size + size > GATHERED_MAX:
            if self._gathered:
                self._write_gathered()
            if line:
                self._transport.write(line)
            if data:
                self._transport.write(data)
        else:
            self._size += size
            self._gathered += (line, data) if data else (line,)

    def gather(self) -> bool:
        """Keep what is said until ``flush``; False where that was asked for already.

        For the time of one call only: what is kept does not count as waiting, so of
        bodies it keeps none but the smallest.
        """
        if self._gathered is not None:
            return False
        self._gathered = []
        return True

    def flush(self) -> bool:
        """Write what was gathered, and keep nothing any more; whether there was something."""
        gathered = bool(self._gathered)
        if gathered:
            self._write_gathered()
        self._gathered = None
        return gathered

    def _write_gathered(self) -> None:
        """Write it, to the socket itself where that takes it."""
        assert self._gathered is not None
        data = b"".join(self._gathered)
        self._gathered.clear()
        self._size = 0
        if self._direct is None:
            self._transport.write(data)
        else:
            self._direct.write_now(data)

    @property
    def to_socket(self) -> bool:
        """What is said goes to a socket of TCP, in TLS or not, and not to something in between."""
        return self._direct is not None

    @property
    def said(self) -> int:
        """Bytes of pieces that were said, and headers before them; to ask of whether they are
        ``gone``."""
        return 0 if self._direct is None else self._direct.said

    def gone(self, said: int) -> bool:
        """Whether the socket has all that was said until then, and no memory of it is in use."""
        return self._direct is None or self._direct.gone(said)

    @property
    def closed(self) -> bool:
        """Whatever is said is not written any more."""
        return not self._open

    @property
    def crowded(self) -> bool:
        """So much waits that what nobody asked for should be left unsaid."""
        return self._backlog > limits.REPLIES_MAX // 2

    def write(self, data: bytes) -> None:
        """Write bytes that are no packet: the last word of a dialect."""
        self.end_stretch()
        self.flush()
        if self._open and data:
            self._transport.write(data)

    def close(self) -> None:
        """Write nothing more; senders that still have a turn lose it."""
        self.end_stretch()
        self.flush()
        self._over = True
        if self._open:
            self._open = False
            self._transport.unregisterProducer()  # type: ignore[attr-defined]
        turns, self._turns = self._turns, deque()
        for turn in turns:
            turn.lost()

    def queue(self, turn: InTurn) -> None:
        """``turn`` may be asked for a chunk when it is its turn."""
        if self._over:
            turn.lost()
        else:
            self._turns.append(turn)
            self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._turns and self.writable and self._open and not self._waits:
                if self.meter.allowance > 0:
                    self._turns.popleft().go()
                else:
                    self._waits_rate = True
                    self.meter.ask(self._on_rate)
        finally:
            self._pumping = False

    @property
    def _waits(self) -> bool:
        return self._waits_rate or self._away is not None

    def _on_rate(self) -> None:
        self._waits_rate = False
        self._pump()

    def go_on(self) -> None:
        """Let those who wait for their turns have them."""
        self._pump()

    # Stretches of files, which threads send (``lanxfer.stretch_out``).

    @property
    def may_stretch(self) -> bool:
        """Whether nobody has anything else to say, and a thread could."""
        alone = self.files == 1 and not (self._turns or self._away or self.trace)
        direct = self._direct
        lends = direct is not None and direct.lends
        native = lends and isinstance(self._session, NativeSession)
        return alone and native and self.clock is not None and self.meter.slowest is None

    def begin_stretch(self, disk: Disk, sender: Sending, place: Place, first: Part) -> bool:
        """Have a thread send the next parts of a file, where nobody else has anything to say.

        The credit of all stands in place of the size of the ``first``.  False where that
        cannot be now.
        """
        direct = self._direct
        if not self.may_stretch or self.clock is None or direct is None:
            return False
        if self._gathered:
            self._write_gathered()
        outlet = direct.lend_out()
        if outlet is None:
            return False
        stretch = StretchOut(outlet, sender.lend(), first.id, first.offset, first.body)
        self._away = StretchingOut(self, sender, place, stretch)
        self._away.begin(disk, self.clock)
        return True

    def grant(self, id: int, more: int) -> None:
        """If that file is being sent by a thread: it may send so much more."""
        if self._away is not None:
            self._away.grant(id, more)

    def end_stretch(self) -> None:
        """Let nobody else send any more; turns wait until somebody lets them go on."""
        if self._away is not None:
            pumping, self._pumping = self._pumping, True  # else the next one would begin
            self._away.take_back()
            self._pumping = pumping

    def went(self, parts: Sequence[Part], rest: list[memoryview]) -> None:
        session, direct = self._session, self._direct
        assert direct is not None and isinstance(session, NativeSession)
        for part in parts:
            session.went(part)
            self.meter.spend(part.body)
        self._away = None
        held, self._held = b"".join(self._held), []
        direct.back_out(rest)
        if held:
            direct.write_now(held)

    # IPushProducer: what the transport says.

    def pauseProducing(self) -> None:
        if self.writable:
            self.writable = False
            self.on_blocked()

    def resumeProducing(self) -> None:
        self.writable = True
        if self._backlog > limits.REPLIES_MAX:
            self._on_backlog(False)
        self._backlog = 0
        self._pump()

    def stopProducing(self) -> None:
        # Whoever waits for a turn hears of it from ``close``: the connection must know first, or
        # it would be asked to go on.
        self.writable = False
        self.end_stretch()
        self._open = False
