"""Where the bytes behind a header belong: into memory, to a file, or nowhere."""

from __future__ import annotations

from collections.abc import Callable

from lanxfer.calls import IncomingCall
from lanxfer.disk import Disk
from lanxfer.gathering import FIRST, Gathered
from lanxfer.lifetime import Lifetime
from lanxfer.wire.packets import Drop, Packet


class Reading(Lifetime):
    """A connection whose packets have bodies; it is told by ``take`` what each means."""

    _disk: Disk
    _sink: Callable[[bytes], None] | None = None
    _body_done: Callable[[], None] | None = None
    _into: IncomingCall | Gathered | None = None
    """To where the body may be read."""
    _parts_follow = False
    _body_since = 0.0

    def take(self, packet: Packet | Drop | None) -> None:
        """What a line means, or its absence (``Session.implied``)."""
        raise NotImplementedError

    def await_body(self, size: int, sink: Callable[[bytes], None] | None) -> None:
        """The next ``size`` bytes, at least one, are for ``sink``, or for nobody."""
        self._sink = sink
        self.expect(size)
        self._body_since = self._clock.seconds()

    def _collect(self, size: int, done: Callable[[bytes | Gathered], None]) -> None:
        """Read a body into memory; its size was bounded when its header was parsed."""
        if size <= FIRST:
            chunks: list[bytes] = []
            sink = chunks.append
            self._body_done = lambda: done(b"".join(chunks))
        else:
            self._into = gathered = Gathered(size, self._disk.units)
            sink = gathered.received
            self._body_done = lambda: done(gathered)
            self.weigh()  # there may be more connections by now to share the memory with
        self.await_body(size, sink)
        self.watch()

    def rawDataReceived(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)

    @property
    def in_body(self) -> bool:
        return self._parts_follow

    def body_space(self) -> memoryview | None:
        return None if self._into is None else self._into.space()

    def bodyFilled(self, size: int) -> None:
        if self._into is not None:
            self._into.filled(size)

    def bodyReceived(self) -> None:
        self._parts_follow = isinstance(self._into, IncomingCall)
        done, self._sink, self._body_done, self._into = self._body_done, None, None, None
        if done is not None:
            done()
        self._take_implied()

    def _take_implied(self) -> None:
        while not self.expected and not self.deaf:
            packet = self.session.implied()
            if packet is None:
                return
            self.take(packet)

    def drop_body(self) -> None:
        """The connection is over: nothing more comes of it, and its memory is wanted by others."""
        if isinstance(self._into, Gathered):
            self._into.release()
        self._into = self._sink = self._body_done = None
