"""A connection as two equals see it: each asks, each answers, many things at once.

::

    link = await dial_link(endpoint, commands=Sums())
    answer = await link.call("sums.add", {"n": 7}, b"abc")
    async with link.stream("sums.all", reads=True) as stream:
        async for chunk in stream: ...
    await link.close()

There is a ``Link`` around every connection: ``dial_link`` makes one, ``call.link`` of a
command gives the one it was asked on, to ask back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, TypeVar

import attrs
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.commands.declared import numbers_of
from lanxfer.commands.values import plain
from lanxfer.errors import (
    BadConfig,
    BadRequest,
    Cancelled,
    LanxferError,
    Lost,
    Overloaded,
    Stopping,
)
from lanxfer.exchange import Answer, Exchange
from lanxfer.protocol import LanxferProtocol
from lanxfer.streams import Inflow
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

T = TypeVar("T")


class _Request:
    """One that waits for room on its connection, and then for its answer."""

    __slots__ = ("args", "channel", "data", "exchange", "name", "on_event", "told")

    def __init__(
        self,
        name: str,
        args: Args,
        data: bytes,
        channel: int,
        on_event: Callable[[Args], None] | None,
    ) -> None:
        self.name, self.args, self.data = name, args, data
        self.channel, self.on_event = channel, on_event
        self.exchange: Exchange | None = None
        self.told: Deferred[Answer] = Deferred(self._cancel)

    def _cancel(self, told: Deferred[Answer]) -> None:
        if self.exchange is not None:
            self.exchange.cancel(Cancelled())
        told.errback(Cancelled())


class _Line:
    """What waits on one connection: in order, and on each channel no more than it takes."""

    def __init__(self, protocol: LanxferProtocol) -> None:
        self._protocol = protocol
        self._lines: dict[int, deque[_Request]] = {}
        self._open: dict[int, int] = {}
        self._bytes = 0
        self.waiting = 0
        self.most: dict[int, int] = {}
        self.numbers: dict[int, str] = {}

    def put(self, request: _Request) -> None:
        """Ask now, or when there is room; Overloaded where too much waits already."""
        channel = request.channel
        if channel not in self._lines and self._room(channel):
            self._send(request)
            return
        size = len(request.data)
        if self.waiting >= limits.QUEUED_MAX or self._bytes + size > limits.QUEUED_BYTES:
            raise Overloaded("Too many requests wait for their turn already.")
        self._lines.setdefault(channel, deque()).append(request)
        self.waiting += 1
        self._bytes += size

    def _room(self, channel: int) -> bool:
        if channel and self._open.get(channel, 0) >= self.most.get(channel, limits.CHANNEL_OPEN):
            return False
        room: int = getattr(self._protocol.session, "room", 0)
        # The other side must keep a place for channel 0, so this one keeps some for it, too.
        return room > (limits.OPEN_EXCHANGES - limits.CHANNELS_OPEN if channel else 0)

    def ask(self) -> None:
        for channel, line in list(self._lines.items()):
            while line and self._room(channel):
                request = line.popleft()
                self.waiting -= 1
                self._bytes -= len(request.data)
                if not request.told.called:
                    self._send(request)
            if not line:
                self._lines.pop(channel, None)

    def _send(self, request: _Request) -> None:
        try:
            exchange = self._protocol.ask(
                request.name, request.args, request.data, request.on_event
            )
        except ValueError as error:
            request.told.errback(BadRequest(f"That cannot be asked: {error}."))
            return
        request.exchange = exchange
        if request.channel:
            self._open[request.channel] = self._open.get(request.channel, 0) + 1
            exchange.answered().addBoth(self._over, request.channel)
        exchange.tell(request.told)

    def _over(self, result: Any, channel: int) -> None:
        self._open[channel] -= 1

    def fail(self, error: LanxferError) -> None:
        lines, self._lines = self._lines, {}
        self.waiting = self._bytes = 0
        for line in lines.values():
            for each in line:
                if not each.told.called:
                    each.told.errback(error)


@frozen
class Stats:
    """What has passed on one connection: requests each way, bytes read, requests open now."""

    asked: int
    answered: int
    bytes_read: int
    open: int
    waiting: int


class Link:
    """See the module.  Any number of these may stand around one connection."""

    log = Logger()

    def __init__(self, protocol: LanxferProtocol) -> None:
        self.protocol = protocol
        if not isinstance(protocol.queue, _Line):
            protocol.queue = _Line(protocol)
        self._line: _Line = protocol.queue

    def _begin(self) -> None:
        """Say hello, where this side has not yet; nobody has to wait for the answer."""
        if self.protocol.session.counts[0] == 0:  # type: ignore[attr-defined]  # native only
            self.protocol.ask("hello", {"speaks": ["lanxfer/1"], "device": ""})

    # Asking.

    def call(
        self,
        name: str | int,
        args: Any = None,
        data: bytes = b"",
        *,
        flags: int = 0,
        channel: int = 0,
        label: str = "",
        decode: Callable[[bytes], Any] | None = None,
        on_event: Callable[[Args], None] | None = None,
    ) -> Deferred[Any]:
        """Ask for ``name``; fires with its Answer, or with what ``decode`` makes of its body.

        A command that was made known with its number (``know``) may be asked for by that.
        ``args`` is a mapping or an attrs object, whose field of bytes is the body then.
        Where there is no room for one more request it waits its turn; Overloaded if too many
        do.  Fails with the refusal, Lost, Stopping after ``end_requests``, or what
        ``decode`` raises.  Cancelling it cancels the command on the other side; the
        connection goes on, and an answer that crosses that is dropped.  ``label`` is for
        this side's log.
        """
        try:
            fields, data = said(args, data)
            if isinstance(name, int):
                name = self._named(name)
        except LanxferError as error:
            return _failed(error)
        head: dict[str, Any] = {"args": fields} if fields else {}
        if flags:
            head["flags"] = flags
        if channel:
            head["channel"] = channel
        told = self.ask(name, head, data, channel=channel, on_event=on_event)
        if label:
            told.addBoth(self._log, label, name)
        if decode is not None:
            told.addCallback(lambda answer: decode(answer.body))
        return told

    def know(self, *kinds: type) -> None:
        """Ask by number for the commands of these classes; BadConfig for a number of two.

        It holds for every ``Link`` around this connection.
        """
        for kind in kinds:
            for number, name in numbers_of(kind).items():
                if self._line.numbers.setdefault(number, name) != name:
                    raise BadConfig(f"The number {number} is that of another command.")

    def _named(self, number: int) -> str:
        try:
            return self._line.numbers[number]
        except KeyError:
            raise BadRequest(f"No command with the number {number} was made known.") from None

    def submit(
        self, name: str | int, args: Any = None, data: bytes = b"", **how: Any
    ) -> Deferred[Answer]:
        """``call``, but a refusal is an Answer, too: one that is not ``ok`` and has the ``error``.

        What this side did (Lost, Cancelled) still fails.
        """
        told: Deferred[Answer] = self.call(name, args, data, **how)
        return told.addErrback(_refusal)

    def ask(
        self,
        name: str,
        head: Args,
        data: bytes = b"",
        *,
        channel: int = 0,
        on_event: Callable[[Args], None] | None = None,
    ) -> Deferred[Answer]:
        """``call`` with the fields of the header as they are: for commands of lanxfer's own."""
        protocol = self.protocol
        if protocol.deaf:
            return _failed(protocol.lost_because or Lost())
        if not getattr(protocol.session, "we_ask", True):
            return _failed(Stopping("This side said that it asks nothing more."))
        self._begin()
        request = _Request(name, head, data, channel, on_event)
        try:
            self._line.put(request)
        except LanxferError as error:
            request.told.errback(error)
        return request.told

    def channel(
        self, number: int, limit: int = limits.CHANNEL_OPEN
    ) -> Callable[..., Deferred[Any]]:
        """``call`` on a channel, on which at most ``limit`` requests are open at a time."""
        self._line.most[number] = min(limit, limits.CHANNEL_OPEN)

        def call(name: str | int, args: Any = None, data: bytes = b"", **how: Any) -> Deferred[Any]:
            return self.call(name, args, data, channel=number, **how)

        return call

    def stream(
        self,
        name: str,
        args: Any = None,
        data: bytes = b"",
        *,
        writes: bool = False,
        reads: bool = False,
        flags: int = 0,
        on_event: Callable[[Args], None] | None = None,
    ) -> Stream:
        """Ask for a command that takes a stream, gives one, or both.

        Raises Overloaded where as many requests are open as may be, Lost, Stopping.
        """
        protocol = self.protocol
        if protocol.deaf:
            raise protocol.lost_because or Lost()
        if not getattr(protocol.session, "we_ask", True):
            raise Stopping("This side said that it asks nothing more.")
        fields, data = said(args, data)
        head: dict[str, Any] = {"args": fields} if fields else {}
        if flags:
            head["flags"] = flags
        self._begin()
        exchange = protocol.ask(name, head, data, on_event, writes=writes, reads=reads)
        return Stream(exchange)

    async def ping(self) -> float:
        """Seconds until the other side answered."""
        clock = self.protocol.seconds
        began = clock()
        await self.ask("ping", {})
        return clock() - began

    def _log(self, result: Any, label: str, name: str) -> Any:
        bad = isinstance(result, Failure)
        self.log.debug(
            "{label}: {name} {how}",
            label=label,
            name=name,
            how=f"failed: {result.value}" if bad else "was answered",
        )
        return result

    # Its life.

    @property
    def principal(self) -> Any:
        """Who is on the other end."""
        return self.protocol.principal

    @property
    def unread(self) -> bytes:
        """What came after the last word of the other side, on pipes that go on after it."""
        return self.protocol.unread

    @property
    def stats(self) -> Stats:
        asked, answered = self.protocol.session.counts  # type: ignore[attr-defined]  # native
        open = self.protocol.open
        return Stats(asked, answered, self.protocol.bytes_read, open, self._line.waiting)

    def trace(self, observer: Callable[[str, bytes], None] | None) -> None:
        """Have ``observer`` see every header line, with "<" or ">" for where it went.

        Passwords and tickets in them show as ``***``.
        """
        self.protocol.trace(observer)

    def end_requests(self) -> None:
        """Ask nothing more, and say so; what the other side asks is still answered.

        When both have said so and all is answered, the connection closes.
        """
        self.protocol.say_bye()

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """Ask nothing more, let what is under way finish, for ``timeout`` seconds, and close.

        Fires when the connection is over, one way or the other.
        """
        if not self._line.waiting:
            self.end_requests()
        self.protocol.meant = True
        return self.protocol.leave(timeout)

    def when_peer_done(self) -> Deferred[None]:
        """Fires when the other side asks nothing more, because it said so or is gone."""
        return self.protocol.when_peer_done()

    def when_closed(self) -> Deferred[LanxferError | None]:
        """Fires when the connection is over, with why; None where one side said bye."""
        return self.protocol.when_gone().addCallback(lambda _: self.protocol.ended_with)

    async def __aenter__(self) -> Link:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what is outstanding; after an error, for nothing."""
        if error is None:
            await self.close()
        else:
            self.protocol.abort(Lost("This side closed the connection."))
            await self.protocol.when_gone()


class Stream:
    """Both directions of one request that streams, and its answer.

    What is read and how: ``Inflow``.  As a context it is finished and waited for at
    the end, and cancelled where that is an error.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._answer = exchange.answered()
        self._answer.addErrback(lambda why: None)  # ``answered`` has one of its own

    @property
    def reader(self) -> Inflow:
        """The stream that comes back."""
        if self._exchange.inflow is None:
            raise ValueError("this request reads no stream")
        return self._exchange.inflow

    def read(self, most: int = -1) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.reader.read(most))

    def read_exactly(self, size: int) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.reader.read_exactly(size))

    def read_line(self) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.reader.read_line())

    def read_all(self) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self.reader.read_all())

    def blocks(self, size: int) -> AsyncIterator[bytes]:
        return self.reader.blocks(size)

    def lines(self) -> AsyncIterator[bytes]:
        return self.reader.lines()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.reader.__aiter__()

    def write(self, data: bytes) -> Deferred[None]:
        """Send ``data``; fires when more may be written (``Outflow.write``)."""
        if self._exchange.outflow is None:
            raise ValueError("this request writes no stream")
        return self._exchange.outflow.write(data)

    def finish(self) -> None:
        """All that was written is all there is."""
        self._exchange.finish()

    def answered(self) -> Deferred[Answer]:
        """The answer; fails with the refusal, or Lost.  Finish before, or it may never come."""
        return self._exchange.answered()

    def cancel(self) -> None:
        """Give it up; the connection goes on."""
        self._exchange.cancel(Cancelled())

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.cancel()
            return
        self.finish()
        await self.answered()


def said(args: Any, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Arguments as a header carries them, and the body; BadRequest."""
    if args is None:
        return {}, data
    if attrs.has(type(args)):
        fields = {each.name: getattr(args, each.name) for each in attrs.fields(type(args))}
        bodies = [name for name, value in fields.items() if isinstance(value, bytes)]
        if bodies:
            data = fields.pop(bodies[0])
        return plain(fields), data
    if not isinstance(args, Mapping):
        raise BadRequest("Arguments are a mapping, or an object of an attrs class.")
    return plain(args), data


def _failed(error: LanxferError) -> Deferred[Any]:
    told: Deferred[Any] = Deferred()
    told.errback(error)
    return told


def _refusal(why: Failure) -> Answer:
    why.trap(LanxferError)
    if isinstance(why.value, (Lost, Cancelled)):
        why.raiseException()
    return Answer({}, b"", why.value)  # type: ignore[arg-type]  # trapped


async def as_completed(waiting: Iterable[Deferred[T]]) -> AsyncIterator[T]:
    """The results of Deferreds in the order in which they fire; raises the first failure.

    Where the caller stops looking, those that are left go on.
    """
    fired: deque[T | Failure] = deque()
    wake: list[Deferred[None]] = []

    def came(result: Any) -> None:
        fired.append(result)
        if wake:
            wake.pop().callback(None)

    left = 0
    for each in waiting:
        left += 1
        each.addBoth(came)
    while left:
        if not fired:
            wake.append(Deferred())
            await wake[0]
        left -= 1
        result = fired.popleft()
        if isinstance(result, Failure):
            result.raiseException()
        yield result
