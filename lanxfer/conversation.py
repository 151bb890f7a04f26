"""One side of a conversation without a reactor: requests, and their answers.

For commands that are over in a moment: what Twisted costs to import is several
times what they have to do.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, Protocol

from lanxfer.errors import BadHeader, Cancelled, HeaderTooLong, LanxferError, Lost, from_wire
from lanxfer.sessions.native import NativeSession
from lanxfer.wire import limits
from lanxfer.wire.native import VERSION
from lanxfer.wire.packets import (
    Args,
    Bye,
    Cancel,
    Do,
    Drop,
    End,
    Event,
    Failed,
    Go,
    Ok,
    Packet,
    Part,
)

HELLO_WAIT = 5.0
"""Seconds in which whoever lives says hello, however busy."""

_READ = 256 * limits.KIB

_WRITE = 512 * limits.KIB

_MORE = getattr(socket, "MSG_MORE", 0)

HEARD_MAX = 4 * limits.ANSWER_BODY_MAX
"""Bytes kept that came while something was sent; whoever says more has not been asked for it."""


class Wait(Protocol):
    """Waits until there is something to read, or, ``writing``, room to write as well."""

    def __call__(self, connection: socket.socket, seconds: float, writing: bool = False) -> bool:
        """For so many seconds at most; whether there is."""


def wait(connection: socket.socket, seconds: float, writing: bool = False) -> bool:
    """Just wait."""
    return any(select.select([connection], [connection] if writing else [], [], seconds))


class Answer(NamedTuple):
    """A good answer: its fields, and its body where it had one."""

    args: Args
    body: bytes


class Conversation:
    """Over a socket that is connected; whoever made it closes it.

    ``wait`` is called whenever there is nothing to read, or no room to write; what it raises
    ends the request.  ``lost`` makes the error that says the other side is gone, or silent.
    """

    def __init__(self, connection: socket.socket, wait: Wait, lost: Callable[[bool], Lost]) -> None:
        self.socket = connection
        self._wait = wait
        self._lost = lost
        self._session = NativeSession(known=True)
        self._data = bytearray()
        self._packet: Packet | Drop | None = None
        self._greeted = False
        self._asking = 0
        self._ahead: set[int] = set()
        self._goes: dict[int, Go] = {}
        self._ends: dict[int, Answer | LanxferError] = {}
        self._pushing = False
        self._gave_up = False

    def greet(self, device: str) -> Args:
        """Say hello; what the other side is and takes.  BadHeader where it speaks otherwise."""
        hello = {"speaks": [VERSION], "device": device}
        said = self._answer(self._ask("hello", hello, b""), None, HELLO_WAIT).args
        if said.get("speaks") != VERSION:
            raise BadHeader("The other side speaks another version than it was asked for.")
        self._greeted = True
        self.socket.settimeout(limits.REPLIES_TIMEOUT)
        return said

    def ask(
        self,
        name: str,
        args: Args | None = None,
        data: bytes = b"",
        on_event: Callable[[Args], object] | None = None,
    ) -> Answer:
        """Ask, and wait for the answer; raises the LanxferError it is, or what ``lost`` made."""
        with self._lasting():
            return self._answer(self._ask(name, args or {}, data), on_event, limits.PING_AFTER)

    def ask_ahead(self, name: str, args: Args, body: Sequence[memoryview]) -> int:
        """Ask, and do not wait for the answer, which ``answer`` has; the number of the request.

        Raises what ``lost`` made, and TooLarge where it is more than goes with a request.
        """
        do = self._session.ask(name, args, sum(map(len, body)))
        line = self._session.send(do)
        self._ahead.add(do.id)
        self._push_all(memoryview(line), *body)
        return do.id

    def answer(self, id: int) -> Answer:
        """The answer to what was asked ahead; raises as ``ask``."""
        with self._lasting():
            return self._answer(id, None, limits.PING_AFTER)

    # The body of a large file that was asked ahead (``lanxfer.upload``).

    def going(self, id: int, on_event: Callable[[Args], object]) -> Go | None:
        """Wait until its receiver says where to begin; None where it has answered instead."""
        with self._lasting():
            while id not in self._goes and id not in self._ends:
                self._hear(id, on_event, limits.PING_AFTER)
        return self._goes.pop(id, None)

    def wanted(self, id: int) -> bool:
        """Whether it is neither answered nor given up, as far as that is known by now."""
        with self._lasting():
            if self._ready(0):
                self._take_in()
            packet, body = self._read()
            while packet is not None:
                self._heard(packet, body, id, None)
                packet, body = self._read()
        return not self._gave_up and id not in self._ends

    def room(self, id: int) -> int:
        """Bytes of it that may be sent now, for which it waits; 0 where it is not ``wanted``."""
        while self.wanted(id):
            room = self._session.credit(id)
            if room:
                return room
            with self._lasting():
                self._hear(id, None, limits.PING_AFTER)
        return 0

    def asks(self, id: int) -> bool:
        """Whether it was neither answered nor given up."""
        return id in self._ahead and id not in self._ends and not self._gave_up

    def send_part(self, part: Part, data: memoryview) -> None:
        """Send so much of it."""
        self._push_all(memoryview(self._session.send(part)), data)

    def say(self, packet: End | Cancel) -> None:
        """Say that this is all of it, or that there will be no more."""
        self._push_all(memoryview(self._session.send(packet)))

    def cancel(self) -> bool:
        """Give up what is being asked, from within ``wait`` or ``on_event``.

        Its answer is still waited for.  False where nothing was being asked.
        """
        if not (self._asking or self._ahead):
            return False
        if not self._gave_up:
            self._gave_up = True
            if not self._pushing:
                self._give_up()
        return True

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        """What the socket raises is that the other side is gone, or silent."""
        try:
            yield
        except TimeoutError:
            raise self._lost(True) from None
        except OSError:
            raise self._lost(False) from None

    def _give_up(self) -> None:
        for id in {*self._ahead, self._asking} - {0}:
            self._say(Cancel(id, Cancelled().reason, Cancelled.code))

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def _say(self, packet: Packet, data: bytes = b"") -> None:
        self._send_all(self._session.send(packet) + data)

    def _ask(self, name: str, args: Args, data: bytes) -> int:
        do = self._session.ask(name, args, len(data))
        self._say(do, data)
        return do.id

    def _answer(
        self, id: int, on_event: Callable[[Args], object] | None, patience: float
    ) -> Answer:
        if id not in self._ahead:
            self._asking, self._gave_up = (id if self._greeted else 0), False
        try:
            while id not in self._ends:
                self._hear(id, on_event, patience)
        finally:
            self._asking = 0
            self._ahead.discard(id)
        end = self._ends.pop(id)
        if isinstance(end, LanxferError):
            raise end
        return end

    def _hear(self, id: int, on_event: Callable[[Args], object] | None, patience: float) -> None:
        """Wait for one packet more; ``id`` is what is being asked."""
        packet, body = self._next(patience)
        self._heard(packet, body, id, on_event)

    def _heard(
        self,
        packet: Packet | Drop | None,
        body: bytes,
        id: int,
        on_event: Callable[[Args], object] | None,
    ) -> None:
        match packet:
            case Ok() if packet.id == id or packet.id in self._ahead:
                self._ends[packet.id] = Answer(packet.args, body)
            case Failed() if packet.id == id or packet.id in self._ahead:
                self._ends[packet.id] = from_wire(packet.code, packet.reason)
            case Failed(id=0):
                raise from_wire(packet.code, packet.reason)
            case Go() if packet.id in self._ahead:
                self._goes[packet.id] = packet
            case Event() if packet.id == id and on_event is not None:
                on_event(packet.args)
            case Do():
                self._refuse(packet)
            case Bye(all=True):
                raise self._lost(False)
            case _:
                pass

    def _refuse(self, do: Do) -> None:
        """The other side may ask whether this one lives, and nothing else."""
        if do.name == "ping":
            self._say(Ok(do.id))
        else:
            self._say(Failed(do.id, "unknown-command"))

    def _next(self, patience: float) -> tuple[Packet | Drop | None, bytes]:
        """The next packet, with its body."""
        pinged, began = False, time.monotonic()
        while True:
            packet, body = self._read()
            if packet is not None:
                return packet, body
            if self._greeted:
                began = time.monotonic()
            elif time.monotonic() - began >= patience:  # drop by drop is no way to say hello
                raise self._lost(True)
            while not self._ready(max(0.0, patience - (time.monotonic() - began))):
                if time.monotonic() - began < patience:
                    continue
                if pinged or not self._greeted:
                    raise self._lost(True)
                pinged, began, patience = True, time.monotonic(), limits.PING_TIMEOUT
                self._ask("ping", {}, b"")
            self._take_in()

    def _take_in(self) -> None:
        data = self._receive()
        if data == b"":
            raise self._lost(False)
        self._data += data or b""

    def _push_all(self, *pieces: memoryview) -> None:
        patience, self._pushing = self.socket.gettimeout(), True
        with self._lasting():
            try:
                self.socket.settimeout(0)
                for number, piece in enumerate(pieces, 1):
                    self._push(piece, number < len(pieces))
            finally:
                self.socket.settimeout(patience)
                self._pushing = False
            if self._gave_up:
                self._give_up()

    def _push(self, piece: memoryview, more: bool) -> None:
        """Send it, and hear what is said meanwhile: who is not heard may stop reading.

        Where ``more`` comes at once, the end of it may wait for that.
        """
        until = time.monotonic() + limits.REPLIES_TIMEOUT
        while piece or (self._waits and not more):
            sent = self._send(piece[:_WRITE], more or len(piece) > _WRITE)
            if sent is not None:
                piece = piece[sent:]
                until = time.monotonic() + limits.REPLIES_TIMEOUT
                continue
            left = until - time.monotonic()
            if left <= 0 or not self._wait(self.socket, left, writing=True):
                raise self._lost(True)
            with suppress(BlockingIOError):
                data = self._receive()
                if data == b"" or len(self._data) > HEARD_MAX:
                    raise self._lost(False)
                self._data += data or b""

    @property
    def _waits(self) -> bool:
        """Whether something that was taken is still to be sent."""
        return False

    def _send(self, some: memoryview, more: bool) -> int | None:
        """How much of it was taken; None where there is no room."""
        try:
            return self.socket.send(some, _MORE if more else 0)
        except BlockingIOError:
            return None

    def _send_all(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _ready(self, seconds: float) -> bool:
        return self._wait(self.socket, seconds)

    def _receive(self) -> bytes | None:
        """What is there; b"" at the end, None where it was nothing that counts."""
        return self.socket.recv(_READ)

    def _read(self) -> tuple[Packet | Drop | None, bytes]:
        """A packet that is here as a whole, if one is."""
        while self._packet is None:
            end = self._data.find(b"\n")
            if max(end, len(self._data) if end < 0 else 0) > self._session.line_limit:
                raise HeaderTooLong()
            if end < 0:
                return None, b""
            line = bytes(self._data[:end])
            del self._data[: end + 1]
            self._packet = self._session.receive(line.removesuffix(b"\r"))
        size = self._packet.body
        if len(self._data) < size:
            return None, b""
        body = bytes(self._data[:size])
        del self._data[:size]
        packet, self._packet = self._packet, None
        return packet, body
