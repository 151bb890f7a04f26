"""Looking for the next packet before the process sleeps: for whom, when, and how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from devices import Devices, in_reactor
from twisted.internet import reactor

from lanxfer.commands.declared import command
from lanxfer.commands.table import Call
from lanxfer.eager import NEAR, Eager
from lanxfer.errors import NotPaired
from lanxfer.lifetime import Lifetime
from lanxfer.linking import dial_link, listen_links
from lanxfer.policy import Principal, Standing


class Turns:
    """A reactor of which each turn takes 10 µs, and an ``Eager`` on it."""

    def __init__(self, processors: int = 2) -> None:
        self.time = 50.0
        self.due: list[Callable[[], Any]] = []
        self.eager = Eager(self, lambda: self.time, lambda: processors)  # type: ignore[arg-type]

    def callLater(self, delay: float, function: Callable[[], Any]) -> None:
        assert delay == 0
        self.due.append(function)

    def rounds(self, *gaps: float) -> None:
        for gap in gaps:
            self.time += gap
            self.eager.turned()

    def looked(self) -> float:
        """Seconds for which it looks if nothing more comes."""
        began = self.time
        while self.due:
            assert len(self.due) == 1
            self.time += 0.00001
            self.due.pop()()
        return self.time - began


class EagerTests:
    def test_twice_a_round(self) -> None:
        """It looks for twice as long as the last round took, and then lets the reactor sleep."""
        turns = Turns()
        turns.rounds(1.0, 0.0002)
        assert turns.looked() == pytest.approx(0.0004, abs=0.00002)

    def test_first_round(self) -> None:
        """Nothing is known of the first one."""
        turns = Turns()
        turns.rounds(0.0)
        assert not turns.due

    def test_slow(self) -> None:
        """A conversation over a slower way is waited for, and costs nothing more."""
        turns = Turns()
        turns.rounds(*[NEAR * 1.1] * 20)
        assert not turns.due

    def test_again(self) -> None:
        """A round that comes meanwhile makes it look on, once and not twice."""
        turns = Turns()
        turns.rounds(1.0, 0.0002, 0.0001, 0.0001)
        assert turns.looked() == pytest.approx(0.0002, abs=0.00002)
        turns.rounds(0.0001)
        assert turns.looked() > 0

    def test_bounded(self) -> None:
        """A millisecond is the most."""
        turns = Turns()
        turns.rounds(1.0, NEAR)
        assert turns.looked() <= 0.00102

    def test_one_processor(self) -> None:
        """Where there is one only it is left to the others."""
        turns = Turns(processors=1)
        turns.rounds(1.0, 0.0001, 0.0001)
        assert not turns.due


class Adding:
    @command("adding.next")
    def next(self, call: Call) -> int:
        return call.flags + 1


class ConversationTests:
    @in_reactor
    async def test_link(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each round of one that goes back and forth counts, at both ends."""
        turned: list[Eager] = []
        was = Eager.turned
        monkeypatch.setattr(Eager, "turned", lambda self: (turned.append(self), was(self)))
        listening = await listen_links(reactor, "tcp:0:interface=127.0.0.1", Adding())
        link = await dial_link(reactor, f"tcp:127.0.0.1:{listening.port.getHost().port}")
        for number in range(20):
            assert (await link.call("adding.next", flags=number)).flags == number + 1
        await link.close()
        await listening.close()
        assert len(set(turned)) == 2 and len(turned) >= 38

    @in_reactor
    async def test_body(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """A large file is no conversation."""
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        path = devices.source("film", b"x" * (64 << 20))
        rounds: list[float] = []
        monkeypatch.setattr(Eager, "turned", lambda self: rounds.append(0.0))
        await client.send_file(path)
        assert len(rounds) < 8

    @in_reactor
    async def test_stranger(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """For somebody who is not known here nothing is done meanwhile."""
        here: list[tuple[Standing, bool]] = []
        was = Lifetime._quicken

        def quicken(connection: Lifetime, principal: Principal) -> None:
            was(connection, principal)
            if not connection.may_idle:
                here.append((principal.standing, connection._eager is not None))

        monkeypatch.setattr(Lifetime, "_quicken", quicken)
        service = await devices.start("nas")
        devices.pin("laptop", "nas", service.address)
        with pytest.raises(NotPaired):
            await devices.client("laptop", "nas")
        assert here and not any(eager for _, eager in here)
        devices.pin("nas", "laptop")
        await devices.client("laptop", "nas")
        assert (Standing.PEER, True) in here
