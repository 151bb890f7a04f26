"""One side of a conversation without a reactor: requests, and their answers.

For commands that are over in a moment: what Twisted costs to import is several
times what they have to do.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lanxfer.errors import BadHeader, Cancelled, LanxferError, Lost, from_wire
from lanxfer.packet_socket import PacketSocket, Plain, Stream, Wait
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


class Answer(NamedTuple):
    """A good answer: its fields, and its body where it had one."""

    args: Args
    body: bytes


class Conversation:
    """Over a socket that is connected, as ``PacketSocket``; what ``wait`` raises ends a request."""

    def __init__(
        self,
        connection: socket.socket,
        wait: Wait,
        lost: Callable[[bool], Lost],
        stream: Stream | None = None,
    ) -> None:
        self.socket = connection
        self._packets = PacketSocket(connection, stream or Plain(connection), wait, lost)
        self._asking = 0
        self._ahead: set[int] = set()
        self._goes: dict[int, Go] = {}
        self._ends: dict[int, Answer | LanxferError] = {}
        self._gave_up = False

    def greet(self, device: str) -> Args:
        """Say hello; what the other side is and takes.  BadHeader where it speaks otherwise."""
        hello = {"speaks": [VERSION], "device": device}
        said = self._answer(self._ask("hello", hello, b""), None, HELLO_WAIT).args
        if said.get("speaks") != VERSION:
            raise BadHeader("The other side speaks another version than it was asked for.")
        self._packets.greeted = True
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
        with self._packets.lasting():
            return self._answer(self._ask(name, args or {}, data), on_event, limits.PING_AFTER)

    def ask_ahead(self, name: str, args: Args, body: Sequence[memoryview]) -> int:
        """Ask, and do not wait for the answer, which ``answer`` has; the number of the request.

        Raises what ``lost`` made, and TooLarge where it is more than goes with a request.
        """
        do = self._packets.session.ask(name, args, sum(map(len, body)))
        line = self._packets.session.send(do)
        self._ahead.add(do.id)
        self._push(memoryview(line), *body)
        return do.id

    def answer(self, id: int) -> Answer:
        """The answer to what was asked ahead; raises as ``ask``."""
        with self._packets.lasting():
            return self._answer(id, None, limits.PING_AFTER)

    # The body of a large file that was asked ahead (``lanxfer.upload``).

    def decided(self, id: int, on_event: Callable[[Args], object], seconds: float) -> bool:
        """Whether within so many seconds its receiver says where to begin, or answers instead."""
        until = time.monotonic() + seconds
        with self._packets.lasting():
            while id not in self._goes and id not in self._ends:
                left = until - time.monotonic()
                if left <= 0:
                    return False
                for packet, body in self._packets.here(left):
                    self._heard(packet, body, id, on_event)
        return True

    def going(self, id: int, on_event: Callable[[Args], object]) -> Go | None:
        """Wait until its receiver says where to begin; None where it has answered instead."""
        with self._packets.lasting():
            while id not in self._goes and id not in self._ends:
                self._hear(id, on_event, limits.PING_AFTER)
        return self._goes.pop(id, None)

    def wanted(self, id: int) -> bool:
        """Whether it is neither answered nor given up, as far as that is known by now."""
        with self._packets.lasting():
            for packet, body in self._packets.here():
                self._heard(packet, body, id, None)
        return not self._gave_up and id not in self._ends

    def room(self, id: int) -> int:
        """Bytes of it that may be sent now, for which it waits; 0 where it is not ``wanted``."""
        while self.wanted(id):
            room = self._packets.session.credit(id)
            if room:
                return room
            with self._packets.lasting():
                self._hear(id, None, limits.PING_AFTER)
        return 0

    def asks(self, id: int) -> bool:
        """Whether it was neither answered nor given up."""
        return id in self._ahead and id not in self._ends and not self._gave_up

    def send_part(self, part: Part, data: memoryview) -> None:
        """Send so much of it."""
        self._push(memoryview(self._packets.session.send(part)), data)

    def say(self, packet: End | Cancel) -> None:
        """Say that this is all of it, or that there will be no more."""
        self._push(memoryview(self._packets.session.send(packet)))

    def cancel(self) -> bool:
        """Give up what is being asked, from within ``wait`` or ``on_event``.

        Its answer is still waited for.  False where nothing was being asked.
        """
        if not (self._asking or self._ahead):
            return False
        if not self._gave_up:
            self._gave_up = True
            if not self._packets.pushing:
                self._give_up()
        return True

    def _give_up(self) -> None:
        for id in {*self._ahead, self._asking} - {0}:
            self._packets.say(Cancel(id, Cancelled().reason, Cancelled.code))

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def _push(self, *pieces: memoryview) -> None:
        with self._packets.lasting():
            self._packets.push(*pieces)
            if self._gave_up:
                self._give_up()

    def _ask(self, name: str, args: Args, data: bytes) -> int:
        do = self._packets.session.ask(name, args, len(data))
        self._packets.say(do, data)
        return do.id

    def _answer(
        self, id: int, on_event: Callable[[Args], object] | None, patience: float
    ) -> Answer:
        if id not in self._ahead:
            self._asking, self._gave_up = (id if self._packets.greeted else 0), False
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
        packet, body = self._packets.next(patience)
        self._heard(packet, body, id, on_event)

    def _heard(
        self,
        packet: Packet | Drop,
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
                raise self._packets.lost(False)
            case _:
                pass

    def _refuse(self, do: Do) -> None:
        """The other side may ask whether this one lives, and nothing else."""
        if do.name == "ping":
            self._packets.say(Ok(do.id))
        else:
            self._packets.say(Failed(do.id, "unknown-command"))
