"""One request a connection, in both roles: what the literal and the ticket dialect share."""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import ClassVar

from attrs import Factory, define

from lanxfer.errors import BY_CODE, Foreign, LanxferError
from lanxfer.wire.packets import Bye, Cancel, Do, End, Event, Failed, Ok, Packet, Part, Window


class Step(Enum):
    """How far the one request of the connection is."""

    IDLE = "idle"
    ASKED = "asked"
    GOING = "going"  # accepted; the body is on its way
    ENDED = "ended"  # the whole body is there


@define
class SingleSession:
    """See ``lanxfer.sessions.Session``; which words there are, subclasses know.

    A server reads one line, its request, and ``complaint`` ends with its answer.  A client
    says one request and its body; a good answer counts when all of that was sent.
    """

    dialect: ClassVar[str]
    halves: ClassVar[bool] = False
    """Whether a client closes its half after the body."""
    implies = True
    server: bool = True
    finished: bool = False
    half_close: bool = False
    _step: Step = Step.IDLE
    _silent: deque[Packet] = Factory(deque)
    _kept: Ok | Failed | None = None
    _closed: bool = False
    _total: int = 0
    _position: int = 0

    # What subclasses know.

    def _requested(self, line: bytes) -> Do:
        """A server's request."""
        raise NotImplementedError

    def _answer(self, packet: Packet) -> bytes | None:
        """What a server says; None where it cannot."""
        raise NotImplementedError

    def _demand(self, do: Do) -> bytes:
        """What a client asks."""
        raise NotImplementedError

    def _answered(self, line: bytes) -> Packet | None:
        """What a client is told."""
        raise NotImplementedError

    # The session.

    def receive(self, line: bytes) -> Packet | None:
        """See ``Session``; a second request, and what follows the last line, is ignored."""
        if self.finished or (self.server and self._step is not Step.IDLE):
            return None
        try:
            return self._requested(line) if self.server else self._answered(line)
        except LanxferError:
            self.finished = True
            self._closed = not self.server  # a server has its complaint still to say
            raise

    def implied(self) -> Packet | None:
        if not self._silent:
            return None
        packet = self._silent.popleft()
        if isinstance(packet, End):
            self._step = Step.ENDED
        return packet

    def send(self, packet: Packet) -> bytes:
        """See ``Session``; b"" for whatever comes after the last line."""
        if self._closed or isinstance(packet, Window | Event | Bye):
            return b""
        line = self._answer(packet) if self.server else self._ask(packet)
        if line is None:
            raise ValueError(f"the {self.dialect} dialect cannot say {packet} now")
        return line

    def _ask(self, packet: Packet) -> bytes | None:
        match packet:
            case Do() if self._step is Step.IDLE:
                return self._demand(packet)
            case Part() if self._step is Step.GOING and packet.offset == self._position:
                if packet.offset + packet.body > self._total:
                    return None
                self._position += packet.body
                return b""
            case End() if self._step is Step.GOING and self._position == self._total:
                self._step = Step.ENDED
                self.half_close = self.halves
                self._settle()
                return b""
            case Cancel() if self._step is not Step.IDLE:
                # There is no line for it: the connection ends, and that is all they hear.
                self._kept = failed(packet.code, packet.reason)
                self._settle()
                return b""
        return None

    def _imply_body(self, offset: int) -> None:
        """What a server that has said where to go on gets from then on."""
        if offset < self._total:
            self._silent.append(Part(1, offset, self._total - offset))
        self._silent.append(End(1, self._total, None))
        self._step = Step.GOING

    def _settle(self) -> None:
        """Give what was kept as the end of the conversation."""
        if self._kept is not None:
            self._silent.append(self._kept)
            self._closed = self.finished = True

    def _end(self) -> None:
        """That was the last line."""
        self._closed = self.finished = True
        self._silent.clear()


def failed(code: str, reason: str = "") -> Failed:
    """The end of the one request, with that code."""
    error = BY_CODE.get(code, Foreign)(reason)
    return Failed(1, code, error.reason, error.retry)
