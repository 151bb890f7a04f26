"""When a connection that does not move is given up, and when it is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from lanxfer.errors import LanxferError
from lanxfer.pace import Pace, taken
from lanxfer.wire import limits


class Connection:
    """What is watched; tests say how it is."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.transport: Any = self
        self.dataBuffer = b""
        self.deaf = self.paused = self.asking = False
        self.due_since: float | None = None
        self.blocked_since: float | None = None
        self.pings = 0
        self.ended: list[str] = []
        self.pace = Pace(self.clock, self)

    def ping(self) -> None:
        self.pings += 1

    def fail(self, error: LanxferError) -> None:
        self.deaf = True
        self.ended.append(error.code)

    def abort(self, error: LanxferError) -> None:
        self.deaf = True
        self.ended.append(f"cut: {error.code}")

    def due(self) -> None:
        self.due_since = self.clock.seconds()
        self.pace.watch()

    def blocked(self, waiting: int) -> None:
        self.dataBuffer = b"x" * waiting
        self.blocked_since = self.clock.seconds()
        self.pace.watch()

    def pass_time(self, seconds: int, each: int = 0) -> None:
        """Second by second, ``each`` bytes coming in every one of them."""
        for _ in range(seconds):
            self.clock.advance(1)
            if each and not self.deaf:
                self.pace.received(each)


@pytest.fixture
def connection() -> Iterator[Connection]:
    made = Connection()
    yield made
    made.pace.stop()
    assert made.clock.getDelayedCalls() == []


class ComingTests:
    def test_silence(self, connection: Connection) -> None:
        """A body that does not begin is given up after a minute, and not sooner."""
        # covers: B01
        connection.due()
        connection.pass_time(int(limits.BODY_IDLE_TIMEOUT) - 1)
        assert connection.ended == []
        connection.pass_time(2)
        assert connection.ended == ["timeout"]

    def test_silence_before(self, connection: Connection) -> None:
        """How long nothing had to come before does not count."""
        connection.pace.received(1)
        connection.pass_time(1000)
        connection.due()
        connection.pass_time(int(limits.BODY_IDLE_TIMEOUT) - 1)
        assert connection.ended == []

    @pytest.mark.parametrize(("each", "ended"), [(900, ["too-slow"]), (1200, [])])
    def test_rate(self, connection: Connection, each: int, ended: list[str]) -> None:
        """Below the least rate it ends within two minutes; above it goes on for ever."""
        # covers: B03
        connection.due()
        connection.pass_time(122, each)
        assert connection.ended == ended
        connection.pass_time(600, each)
        assert connection.ended == ended

    def test_grace(self, connection: Connection) -> None:
        """Nobody is called slow before a minute is over."""
        connection.due()
        connection.pass_time(int(limits.RATE_OVER) - 1, 1)
        assert connection.ended == []

    def test_slow_later(self, connection: Connection) -> None:
        """A good beginning buys nobody a slow end."""
        connection.due()
        connection.pass_time(30, 10_000_000)
        connection.pass_time(180, 10)
        assert connection.ended == ["too-slow"]

    def test_own_pause(self, connection: Connection) -> None:
        """While this side does not read, nothing is missed; afterwards the minute begins anew."""
        connection.due()
        connection.pass_time(30, 2000)
        connection.paused = True
        connection.pass_time(600)
        assert connection.ended == []
        connection.paused = False
        connection.pace.rested()
        connection.pass_time(int(limits.BODY_IDLE_TIMEOUT) - 1)
        assert connection.ended == []
        connection.pass_time(40)
        assert connection.ended == ["timeout"]

    def test_one_after_the_other(self, connection: Connection) -> None:
        """Each body has its own minute: many small ones are no slow one."""
        for _ in range(100):
            connection.due()
            connection.pass_time(9, 1)
            connection.due_since = None
        assert connection.ended == []

    def test_nothing_left(self, connection: Connection) -> None:
        """Where nothing is due any more, the looking stops."""
        connection.due()
        connection.due_since = None
        connection.pass_time(100)
        assert connection.clock.getDelayedCalls() == []
        connection.due()
        connection.due_since = None
        connection.pace.ease()
        assert connection.clock.getDelayedCalls() == []


class GoingTests:
    # covers: B07
    def test_takes_nothing(self, connection: Connection) -> None:
        """A receiver that stopped reading is cut off after a minute."""
        connection.blocked(1000)
        connection.pass_time(int(limits.RATE_OVER) - 1)
        assert connection.ended == []
        connection.pass_time(62)
        assert connection.ended == ["cut: timeout"]

    def test_takes_little(self, connection: Connection) -> None:
        """So is one that takes a byte now and then."""
        connection.blocked(1000)
        for _ in range(122):
            connection.dataBuffer = connection.dataBuffer[1:]
            connection.pass_time(1)
        assert connection.ended == ["cut: too-slow"]

    def test_takes_enough(self, connection: Connection) -> None:
        """One that is merely slow is not, however long its buffer stays full."""
        connection.blocked(1_000_000)
        for _ in range(600):
            connection.dataBuffer = connection.dataBuffer[1500:]
            connection.pass_time(1)
        assert connection.ended == []

    def test_free_meanwhile(self, connection: Connection) -> None:
        """The minute begins when it blocks, not when it blocked the last time."""
        for _ in range(10):
            connection.blocked(1000)
            connection.pass_time(50)
            connection.blocked_since = None
            connection.pass_time(1)
        assert connection.ended == []

    def test_acknowledged(self) -> None:
        """On Linux it is known what the other system took, beside what waits in buffers."""
        listening = socket.create_server(("127.0.0.1", 0))
        with listening, socket.create_connection(listening.getsockname()) as here:
            there, _ = listening.accept()
            with there:

                class Transport:
                    pass

                transport: Any = Transport()
                transport.socket = here
                before = taken(transport)
                here.sendall(b"x" * 1000)
                there.recv(1000, socket.MSG_WAITALL)
                if hasattr(socket, "TCP_INFO"):
                    assert 0 < taken(transport) - before <= 1001
        assert taken(transport) == 0


class AliveTests:
    # covers: B08
    def test_silent_answerer(self, connection: Connection) -> None:
        """Who owes an answer and says nothing is asked, then given up."""
        connection.asking = True
        connection.pace.received(1)
        connection.pace.watch()
        connection.pass_time(int(limits.PING_AFTER) - 1)
        assert connection.pings == 0
        connection.pass_time(2)
        assert (connection.pings, connection.ended) == (1, [])
        connection.pass_time(int(limits.PING_TIMEOUT) + 1)
        assert connection.ended == ["cut: timeout"]

    def test_slow_answerer(self, connection: Connection) -> None:
        """One that lives may take as long as it likes."""
        connection.asking = True
        connection.pace.watch()
        for _ in range(50):
            pings = connection.pings
            connection.pass_time(20)
            if connection.pings > pings:
                connection.pace.received(10)
        assert connection.ended == [] and connection.pings > 10

    def test_own_pause(self, connection: Connection) -> None:
        """Its answer cannot be heard while this side does not read."""
        connection.asking = connection.paused = True
        connection.pace.watch()
        connection.pass_time(600)
        assert (connection.pings, connection.ended) == (0, [])
