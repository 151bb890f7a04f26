"""A request of the other side's on one connection, while it is answered.

``IncomingCall`` is what a command sees of it (the ``Call`` of
``lanxfer.commands.table``).  What we ask is an ``Exchange`` (``lanxfer.exchange``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate
from typing import Any, TypeVar
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from lanxfer.bodies import BodyWriter
from lanxfer.clear import ClearIn
from lanxfer.deferreds import as_deferred
from lanxfer.disk import Disk
from lanxfer.errors import BadRequest, LanxferError, Lost, ShortBody
from lanxfer.gathering import Gathered
from lanxfer.outbox import Outbox
from lanxfer.pake import Channel
from lanxfer.policy import Principal, Standing
from lanxfer.registry import Transfer
from lanxfer.storage import Part
from lanxfer.streams import Inflow, Outflow
from lanxfer.stretch_in import FEW, LATER, LEAST, MORE, Ahead, StretchIn
from lanxfer.wire import limits
from lanxfer.wire.packets import Args, Do, End, Event, Go, Window
from lanxfer.wire.packets import Part as PartPacket

T = TypeVar("T")


def _window() -> int:
    return limits.WINDOW


class IncomingCall:
    """One request being answered; see ``lanxfer.commands.table.Call``.

    ``on_moved`` is told by how much the bytes that wait for the disk became more
    or fewer, so that the connection can stop and go on reading; and with 0 when
    bytes begin to be due.  ``on_become`` is told who the other side is from now on.
    """

    def __init__(
        self,
        do: Do,
        principal: Principal,
        data: bytes | Gathered | None,
        proves: bool,
        outbox: Outbox,
        disk: Disk,
        clock: IReactorTime,
        on_moved: Callable[[int], None],
        channel: Callable[[], Channel | None] = lambda: None,
        on_become: Callable[[Principal], None] = lambda principal: None,
        link: Callable[[], Any] = lambda: None,
        stream_window: int = limits.STREAM_WINDOW,
    ) -> None:
        self.id = do.id
        self._link = link
        self.stream_window = stream_window
        self.name = do.name
        self.args: Args = do.args
        self.principal = principal
        self._data = data
        self.proves = proves
        self.channel = channel
        self._outbox = outbox
        self._disk = disk
        self._clock = clock
        self._on_moved = on_moved
        self.become = on_become
        self.window: Callable[[], int] = _window
        """Bytes the sender of a file may have on the way; less while this side is kept slow."""
        self._weighed = 0 if data is None else len(data)

    # Most requests are small and need none of these, so they cost nothing until they are set.
    writer: BodyWriter | None = None
    given_up = False
    """The asker does not want it any more."""
    crc = 0
    got = 0
    _inflow: Inflow | None = None
    _outflow: Outflow | None = None
    _window = 0
    _owed = 0
    _paused = False
    _due: float | None = None
    _ended = False
    _starved = False
    _have: frozenset[int] = frozenset()
    _error: LanxferError | None = None
    _offset: Deferred[int] | None = None
    _usual_until = 0
    _quick = False
    _waiting: tuple[Deferred[Any], Deferred[Any]] | None = None
    _transfer: Transfer | None = None
    _part: Part | None = None
    _mine: Transfer | None = None
    offer_clear: Callable[[IncomingCall], ClearIn | None] | None = None
    """Makes a ticket for a body in clear, where this device takes those on this connection."""
    clear: ClearIn | None = None

    @property
    def weight(self) -> int:
        """Bytes of this call that are in memory."""
        return self.body_size + (self.writer.waiting if self.writer else 0)

    @property
    def data(self) -> bytes | None:
        found = self._data
        if isinstance(found, Gathered):
            self._data = found.whole()
            found.release()
            return self._data
        return found

    @property
    def body_size(self) -> int:
        return len(self._data or b"")

    def pieces(self, at: int, sizes: Sequence[int]) -> list[list[memoryview]]:
        found = self._data
        if isinstance(found, Gathered):
            return found.pieces(at, sizes)
        starts, view = accumulate(sizes, initial=at), memoryview(found or b"")
        return [[view[start : start + size]] for start, size in zip(starts, sizes, strict=False)]

    def answered(self) -> None:
        """It came to its end, and nobody looks at its body any more."""
        if isinstance(self._data, Gathered):
            self._data.release()

    @property
    def hungry(self) -> bool:
        """Bytes ought to be coming: it was told to go, and is neither paused nor complete."""
        return self.writer is not None and not self._ended and not self._paused

    @property
    def due_since(self) -> float | None:
        """Since when bytes of it ought to be coming; None while it waits for this side's disk."""
        behind = self.writer is not None and self.writer.waiting >= self._window // 2
        return self._due if self.hungry and not behind else None

    # The command's side.

    @property
    def takes_clear(self) -> bool:
        return self.offer_clear is not None

    def began(self, transfer: Transfer) -> None:
        transfer.on_cancel = self.stop
        transfer.on_pause = self._pause
        self._mine = transfer

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def shield(self, waiting: Awaitable[T]) -> Deferred[T]:
        inner = as_deferred(waiting)
        # Fired before the inner one is cancelled: whoever waits hears our reason, not that.
        outer: Deferred[T] = Deferred(lambda d: inner.cancel())

        def came(result: Any) -> None:
            if not outer.called:
                self._waiting = None
                outer.callback(result)

        if self._error is not None:
            outer.errback(self._error)
            inner.cancel()
        else:
            self._waiting = outer, inner
        inner.addBoth(came)
        return outer

    async def begin(self, have: Sequence[tuple[int, str]], args: Args) -> int:
        self.check()
        if self._starved:
            raise ShortBody()
        self.writer = BodyWriter(self._disk, self._clock, self._written)
        self._offset = Deferred()
        self._have = frozenset(offset for offset, _ in have)
        chosen = self.shield(self._offset)
        self._window = self.window()
        if self.offer_clear is not None and self.args.get("clear") is True:
            self.clear = self.offer_clear(self)
        if self.clear is not None:
            args = {**args, "clear": self.clear.ticket}
        self._outbox.say(Go(self.id, self._window, tuple(have), args))
        self._due = self._clock.seconds()
        self._on_moved(0)
        return await chosen

    async def pour(self, part: Part, transfer: Transfer) -> str | None:
        assert self.writer is not None
        self._transfer = transfer
        self._part = part
        return await self.writer.pour(part)

    def tell(self, args: Args) -> bool:
        if self._outbox.crowded:
            return False
        self._outbox.say(Event(self.id, args))
        return True

    @property
    def flags(self) -> int:
        flags = self.args.get("flags", 0)
        if type(flags) is not int:
            raise BadRequest('"flags" is a number.')
        return flags

    @property
    def link(self) -> Any:
        return self._link()

    def stream_in(self) -> Inflow:
        if self.args.get("stream") is not True:
            raise BadRequest("That command wants a stream of bytes.")
        if self._inflow is None:
            self._inflow = Inflow(self._read)
            if self._error is not None:
                self._inflow.fail(self._error)
            elif self._starved:
                self._inflow.fail(ShortBody())
            else:
                self._outbox.say(Go(self.id, self.stream_window))
        return self._inflow

    def stream_out(self) -> Outflow:
        take = self.args.get("take")
        if type(take) is not int:
            raise BadRequest("That command answers with a stream of bytes.")
        if self._outflow is None:
            self._outflow = Outflow(self._outbox, lambda at, size: Event(self.id, {}, size), take)
            if self._error is not None:
                self._outflow.fail(self._error)
        return self._outflow

    async def stopped(self) -> None:
        await self.shield(Deferred())

    # The connection's side.

    def part(self, part: PartPacket) -> None:
        """A part begins here; its bytes go to ``received``."""
        if self.clear is not None:
            self.clear.not_wanted()
        self._choose(part.offset)

    def received(self, data: bytes) -> None:
        """Bytes of a part."""
        if self._inflow is not None:
            self._inflow.received(data)
            return
        assert self.writer is not None
        self.writer.received(data)
        self._weigh()
        if self.principal.standing is Standing.TICKET:
            self.crc = crc32(data, self.crc)
            self.got += len(data)

    def space(self) -> memoryview | None:
        """Memory for the next bytes of a part, to be told of with ``filled``."""
        if self.writer is None or self.principal.standing is Standing.TICKET:
            return None
        return self.writer.space()

    def stretch(self, expected: int, position: int, credit: int) -> tuple[BodyWriter, Ahead] | None:
        """Who would write the next bytes, and which, where it is worth it that a thread reads them.

        ``expected`` bytes of a part are still to come, and the next one begins at ``position``.
        """
        writer = self.writer
        if writer is None or self.principal.standing is Standing.TICKET or not writer.lends:
            return None
        left = self.size - position + expected
        if position < self._usual_until or left < (MORE if self._quick else LEAST):
            return None
        self._quick = True
        return writer, Ahead(self.id, expected, position, credit, self.size, self._most)

    def stretched(self, stretch: StretchIn) -> None:
        """Nothing more is read there, though some of it may wait for the disk."""
        assert self.writer is not None
        self.writer.came(stretch.came, stretch.lent)
        if stretch.came < FEW:
            self._quick = False
            self._usual_until = stretch.ahead.position + LATER
        self._weigh()

    def filled(self, size: int) -> None:
        """Bytes of a part are in what ``space`` gave."""
        assert self.writer is not None
        self.writer.filled(size)
        self._weigh()

    def end(self, end: End) -> None:
        """The sender said that was all."""
        if self.clear is not None and self.clear.holds(end):
            return
        self._ended = True
        if self._inflow is not None:
            self._inflow.end()
            return
        self._choose(end.size if end.size in self._have else 0)
        if self.writer is not None:
            self.writer.ended(end.digest)

    @property
    def size(self) -> int:
        """Bytes of the file that is received."""
        return int(self.args["size"])

    def begins_at(self, offset: int) -> bool:
        """Whether the body is still to come, and may begin there."""
        open = self.writer is not None and not self._ended and self._error is None
        return open and offset < self.size and (offset == 0 or offset in self._have)

    def came_in_clear(self, offset: int) -> None:
        """The body comes on a connection of its own, from there on."""
        if self._mine is not None:
            self._mine.in_clear()
        self._choose(offset)

    def stop(self, error: LanxferError) -> None:
        """End this call with ``error`` at the next point where that loses nothing."""
        if self._error is not None:
            return
        self._error = error
        self.over(error)
        waiting, self._waiting = self._waiting, None
        if self.writer is not None:
            self.writer.fail(error)
        if waiting is not None:
            outer, inner = waiting
            outer.errback(error)
            inner.cancel()

    def take(self, more: int) -> None:
        """The asker takes that much more of the stream."""
        if self._outflow is not None:
            self._outflow.grant(more)
        else:
            self.args = {**self.args, "take": self.args["take"] + more}

    def over(self, error: LanxferError | None = None) -> None:
        """It was answered, or will not be: nothing streams any more."""
        if self.clear is not None:
            self.clear.over()
        if self._inflow is not None:
            self._inflow.fail(error or Lost("That request was answered."))
        if self._outflow is not None:
            self._outflow.fail(error or Lost("That request was answered."))

    def _read(self, size: int) -> None:
        self._owed += size
        if self._owed >= self.stream_window // 4 and not self._ended and self._error is None:
            owed, self._owed = self._owed, 0
            self._outbox.say(Window(self.id, owed))

    def starve(self) -> None:
        """Nothing more will come: a body that is not complete never will be."""
        self._starved = True
        if self._inflow is not None and not self._ended:
            self.stop(ShortBody())
        if self.writer is not None and not self._ended:
            self.stop(ShortBody())

    def _choose(self, offset: int) -> None:
        if self._offset is not None and not self._offset.called:
            self._offset.callback(offset)

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._due = self._clock.seconds()
        self._written(0)
        self._on_moved(0)

    def _written(self, size: int) -> None:
        self._owed += size
        if size and self.writer is not None and self.writer.waiting + size >= self._window // 2:
            self._due = self._clock.seconds()  # only now there is room for more
        if size and self._transfer is not None and self._part is not None:
            self._transfer.progressed(self._part.position)
        self._fit_window()
        enough = self.clear is not None and self.clear.ending
        if self._owed >= self._window // 4 and self.hungry and self._error is None and not enough:
            self._outbox.say(Window(self.id, self._owed))
            self._owed = 0
        self._weigh()
        if self.clear is not None:
            self.clear.look()

    @property
    def _most(self) -> int:
        """What its sender may have on the way."""
        most = self.window()
        return limits.WINDOW_QUICK if self._quick and most == limits.WINDOW else most

    def _fit_window(self) -> None:
        """Owe more where there may be more on the way by now, or keep what is too much."""
        change = max(self._most - self._window, -self._owed)
        self._window += change
        self._owed += change

    def _weigh(self) -> None:
        change, self._weighed = self.weight - self._weighed, self.weight
        if change:
            self._on_moved(change)
