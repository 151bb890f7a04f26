"""One side of a conversation without a reactor: requests, and their answers.

For commands whose work is over before Twisted would be imported, or takes one thread: what a
reactor is for they have not.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeAlias

from lanxfer.errors import BadHeader, Busy, Cancelled, LanxferError, Lost, from_wire
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

OnEvent: TypeAlias = Callable[[Args], object]


class Answer(NamedTuple):
    """A good answer: its fields, and its body where it had one."""

    args: Args
    body: bytes


class _Ended(Exception):
    """What the other side said of the connection as a whole."""

    def __init__(self, error: LanxferError) -> None:
        super().__init__(error)
        self.error = error


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
        self._asked: dict[int, OnEvent | None] = {}
        self._goes: dict[int, Go] = {}
        self._ends: dict[int, Answer | LanxferError] = {}
        self._gave_up = False
        self._cancelled: set[int] = set()

    def greet(self, device: str) -> Args:
        """Say hello; what the other side is and takes.  BadHeader where it speaks otherwise."""
        self._packets.due = time.monotonic() + HELLO_WAIT
        said = self.ask("hello", {"speaks": [VERSION], "device": device}).args
        if said.get("speaks") != VERSION:
            raise BadHeader("The other side speaks another version than it was asked for.")
        self._packets.greeted = True
        self._packets.due = time.monotonic() + limits.PING_AFTER
        self.socket.settimeout(limits.REPLIES_TIMEOUT)
        return said

    def ask(
        self,
        name: str,
        args: Args | None = None,
        data: bytes = b"",
        on_event: OnEvent | None = None,
    ) -> Answer:
        """Ask, and wait for the answer; raises the LanxferError it is, or what ``lost`` made."""
        try:
            with self._packets.lasting():
                id = self._ask(name, args or {}, [memoryview(data)], on_event)
                self._await(id)
        except _Ended as end:
            raise end.error from None
        return self._taken(id)

    def ask_ahead(
        self, name: str, args: Args, body: Sequence[memoryview], on_event: OnEvent | None = None
    ) -> int:
        """Ask, and do not wait for the answer, which ``answer`` has; the number of the request.

        Raises what ``lost`` made, and TooLarge where it is more than goes with a request.
        """
        with self._packets.lasting():
            return self._ask(name, args, body, on_event)

    def answer(self, id: int) -> Answer:
        """The answer to what was asked ahead; raises as ``ask``."""
        with self._sound():
            self._await(id)
        return self._taken(id)

    def hear(self, seconds: float = 0.0) -> None:
        """Take in what was said, for the first of which it waits so long.

        Raises what ``lost`` made, but not before all is taken that was said before that.
        """
        with self._sound():
            self._give_up()
            heard = self._packets.next(seconds)
            if heard is not None:
                self._heard(*heard)
        with suppress(Lost), self._sound():
            while heard is not None and (heard := self._packets.next(0)) is not None:
                self._heard(*heard)

    def answered(self, id: int) -> bool:
        """Whether ``answer`` has it without waiting."""
        return id in self._ends

    def wanted(self, id: int) -> bool:
        """Whether it is neither answered nor given up, as far as was heard; before ``answer``."""
        return not self._gave_up and id not in self._ends

    def cancel(self) -> bool:
        """Give up what is being asked, from within ``wait`` or ``on_event``.

        Its answer is still waited for.  False where nothing was being asked.
        """
        if not (self._asked and self._packets.greeted):
            return False
        self._gave_up = True
        if not self._packets.pushing:
            self._give_up()
        return True

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    # The body of a large file that was asked ahead (``lanxfer.upload``).

    def go_of(self, id: int) -> Go | None:
        """Where its receiver said to begin, once; None where it did not yet."""
        return self._goes.pop(id, None)

    def credit(self, id: int) -> int:
        """Bytes of it that may be sent now."""
        return self._packets.session.credit(id)

    def say(self, packet: Part | End | Cancel, *data: memoryview) -> None:
        """Send so much of it, or say that this is all, or that there will be no more."""
        with self._packets.lasting():
            self._push(memoryview(self._packets.session.send(packet)), *data)

    # Within.

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Who says what makes no sense is lost: nobody knows what comes after that."""
        try:
            with self._packets.lasting():
                yield
        except (Cancelled, Lost):
            raise
        except (_Ended, LanxferError):
            raise self._packets.lost(False) from None

    def _ask(
        self, name: str, args: Args, body: Sequence[memoryview], on_event: OnEvent | None
    ) -> int:
        if not self._asked:
            self._gave_up = False
        do = self._packets.session.ask(name, args, sum(map(len, body)))
        line = self._packets.session.send(do)
        self._asked[do.id] = on_event
        self._push(memoryview(line), *body)
        return do.id

    def _push(self, *pieces: memoryview) -> None:
        try:
            self._packets.push(*pieces)
        except (Lost, OSError):
            with suppress(_Ended, LanxferError):
                for packet, body in self._packets.last_words():
                    self._heard(packet, body)
            raise
        self._give_up()

    def _give_up(self) -> None:
        """Say of what is asked that nobody wants it, once of each."""
        while self._gave_up and (left := self._asked.keys() - self._cancelled):
            id = min(left)
            self._cancelled.add(id)
            if not self._packets.mute:
                self._packets.say(Cancel(id, Cancelled().reason, Cancelled.code))

    def _await(self, id: int) -> None:
        while id not in self._ends:
            self._give_up()
            heard = self._packets.next()
            assert heard is not None
            self._heard(*heard)

    def _taken(self, id: int) -> Answer:
        self._asked.pop(id, None)
        self._goes.pop(id, None)
        end = self._ends.pop(id)
        if isinstance(end, LanxferError):
            raise end
        return end

    def _heard(self, packet: Packet | Drop, body: bytes) -> None:
        match packet:
            case Ok() if packet.id in self._asked:
                self._ends[packet.id] = Answer(packet.args, body)
            case Failed() if packet.id in self._asked:
                error = from_wire(packet.code, packet.reason)
                # Of this request alone; the connection is there.
                self._ends[packet.id] = Busy(error.reason) if isinstance(error, Lost) else error
            case Failed(id=0):
                self._packets.end()
                raise _Ended(from_wire(packet.code, packet.reason))
            case Go() if packet.id in self._asked:
                self._goes[packet.id] = packet
            case Event() if (on_event := self._asked.get(packet.id)) is not None:
                on_event(packet.args)
            case Do():
                self._refuse(packet)
            case Bye(all=True):
                self._packets.end()
            case _:
                pass

    def _refuse(self, do: Do) -> None:
        """The other side may ask whether this one lives, and nothing else."""
        if self._packets.mute:
            return
        if do.name == "ping":
            self._packets.say(Ok(do.id))
        else:
            self._packets.say(Failed(do.id, "unknown-command"))
