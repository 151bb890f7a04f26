"""What this side asks on a connection, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from lanxfer.direct import Pieces, size_of
from lanxfer.errors import LanxferError, Lost, from_wire
from lanxfer.exchange import Answer, Exchange
from lanxfer.gathering import Gathered
from lanxfer.policy import Principal
from lanxfer.reading import Reading
from lanxfer.sessions import Session
from lanxfer.wire import limits
from lanxfer.wire.packets import Args, Bye, Event, Failed, Go, Ok, Window


class Queue(Protocol):
    """Requests of this side for which there is no room yet; see ``lanxfer.links``."""

    @property
    def waiting(self) -> int:
        """How many."""

    def ask(self) -> None:
        """There may be room for some."""

    def fail(self, error: LanxferError) -> None:
        """There never will."""


class Asking(Reading):
    """A connection on which this side asks."""

    def __init__(
        self,
        session: Session,
        clock: IReactorTime,
        identify: Callable[[Any], Principal],
        secure: bool,
        why_lost: Callable[[Failure], LanxferError],
    ) -> None:
        super().__init__(session, clock, identify, secure, why_lost)
        self.peer_limits: Args = {}
        self.hello: Args = {}  # what the other side answered to ours
        self.meant = False  # this side closes it, by its own will
        self.queue: Queue | None = None
        self._exchanges: dict[int, Exchange] = {}
        self._stream_room = limits.UNWRITTEN_MAX
        self._windows: dict[tuple[bool, int], int] = {}
        self._peer_done: list[Callable[[], object]] = []

    def ask(
        self,
        name: str,
        args: Args,
        data: bytes | Pieces = b"",
        on_event: Callable[[Args], None] | None = None,
        *,
        writes: bool = False,
        reads: bool = False,
    ) -> Exchange:
        """Send a request; see ``Exchange`` for what comes of it.

        The pieces of ``data`` must not change before it was answered.  Asked on a connection
        that is over, it fails at once.  ``writes`` and ``reads`` say whether a stream
        goes with it, and whether one comes with its answer.
        """
        window = self._window() if reads else 0
        if writes:
            args = {**args, "stream": True}
        if reads:
            args = {**args, "take": window}
        do = self.session.ask(name, args, size_of(data))
        outbox = self._outbox
        exchange = Exchange(do.id, outbox, on_event)
        # What is not written has no number of its own: another would be taken for it.
        if outbox is None or outbox.closed or self.deaf:
            exchange.end(self.lost_because or Lost())
            return exchange
        if reads or writes:
            exchange.streams(writes, window)
            self._lend(False, do.id, window)
        self._exchanges[do.id] = exchange
        self.watch()
        try:
            outbox.say(do, data)
        except LanxferError as error:
            del self._exchanges[do.id]
            exchange.end(error)
        except ValueError:
            del self._exchanges[do.id]
            raise
        return exchange

    def asked_until_now(self) -> Callable[[], bool]:
        """Tells whether all that was asked has left, and none of its memory is in use."""
        outbox = self._outbox
        if outbox is None:
            return lambda: False
        return partial(outbox.gone, outbox.said)

    def peer_has(self, feature: str) -> bool:
        """Whether the other side said that it knows that (docs/protocol.rst, "Hello")."""
        features = self.hello.get("features")
        return isinstance(features, list) and feature in features

    @property
    def open(self) -> int:
        """Requests of ours that wait for their answer."""
        return len(self._exchanges)

    @property
    def asking(self) -> bool:
        return bool(self._exchanges) and getattr(self.session, "room", 0) > 0

    def ping(self) -> None:
        self.ask("ping", {}).answered().addErrback(lambda why: None)

    # What is said of it.

    def _heard_of(self, packet: Go | Window | Event) -> None:
        exchange = self._exchanges.get(packet.id)
        if exchange is None:
            return
        match packet:
            case Go():
                exchange.go(packet)
            case Window():
                exchange.window(packet)
            case Event():
                exchange.event(packet)

    def _streamed(self, event: Event) -> None:
        """Bytes of a stream that comes with the answer to a request of ours."""
        exchange = self._exchanges.get(event.id)
        flow = None if exchange is None else exchange.inflow
        self.await_body(event.body, _ignore if flow is None else flow.received)
        self.watch()

    def _good(self, ok: Ok) -> None:
        exchange = self._exchanges.get(ok.id)
        if exchange is not None:
            # Until its body is here it waits with the others for what becomes of the connection.
            if ok.body:
                self._collect(ok.body, partial(self._answered, exchange, ok))
            else:
                self._answered(exchange, ok, b"")
            self._ask_queued()
        if not self._exchanges:
            self._pace.ease()
        self.maybe_leave()

    def _answered(self, exchange: Exchange, ok: Ok, data: bytes | Gathered) -> None:
        self._exchanges.pop(ok.id, None)
        if self._windows:
            self._give_back(False, ok.id)
        body = data if isinstance(data, bytes) else data.whole()
        if isinstance(data, Gathered):
            data.release()
        exchange.end(Answer(ok.args, body))

    def _refused(self, failed: Failed) -> None:
        error = from_wire(failed.code, failed.reason, **_details(failed.args))
        if failed.retry:
            error.retry = True
        if failed.id == 0:
            self.lost_because = error
            self.abandon(error)
            self.hang_up()
            return
        exchange = self._exchanges.pop(failed.id, None)
        if exchange is not None:
            self._give_back(False, failed.id)
            exchange.end(error)
            self._ask_queued()
        if not self._exchanges:
            self._pace.ease()
        self.maybe_leave()

    def _end_exchanges(self, error: LanxferError) -> None:
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.end(error)

    def _ask_queued(self) -> None:
        if self.queue is not None:
            self.queue.ask()

    # Streams share what may wait here unread; a small window is left for each.

    def _window(self) -> int:
        most = min(limits.STREAM_WINDOW, self._stream_room, self.window)
        return max(limits.STREAM_PART, most)

    def _lend(self, theirs: bool, id: int, window: int) -> None:
        self._windows[theirs, id] = window
        self._stream_room -= window

    def _give_back(self, theirs: bool, id: int) -> None:
        self._stream_room += self._windows.pop((theirs, id), 0)

    # Asking nothing more.

    def say_bye(self) -> None:
        """Ask nothing more, and say so; what the other side asks is still answered."""
        if self._outbox is not None and not self.deaf and getattr(self.session, "we_ask", False):
            self._outbox.say(Bye(all=False))
            self.maybe_leave()

    def when_peer_done(self) -> Deferred[None]:
        """Fires when the other side asks nothing more: it said so, or the connection is over."""
        fired: Deferred[None] = Deferred()
        if self.gone or not getattr(self.session, "peer_asks", True):
            fired.callback(None)
        else:
            self._peer_done.append(lambda: fired.callback(None))
        return fired

    def _tell_peer_done(self) -> None:
        told, self._peer_done = self._peer_done, []
        for tell in told:
            tell()


def _ignore(data: bytes) -> None:
    """Nobody reads that stream any more."""


def _details(args: Args) -> dict[str, int | str]:
    return {
        key: value
        for key, value in args.items()
        if isinstance(value, (int, str)) and not isinstance(value, bool)
    }
