"""Many connections with much to say, and one with little."""

from __future__ import annotations

from twisted.internet.task import Clock

from lanxfer.testing import Dialogue
from lanxfer.turns import Turns
from lanxfer.wire import limits
from lanxfer.wire.native import parse_packet

HELLO = b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": "a"}\n'


def pings(first: int, number: int) -> bytes:
    return b"".join(b'{"do": %d, "name": "ping"}\n' % each for each in range(first, first + number))


class TurnsTests:
    def test_one_a_turn(self) -> None:
        """Those who wait go one after the other, in the order in which they came."""
        clock, went = Clock(), list[str]()
        turns = Turns(clock)

        def again(name: str, times: int) -> None:
            went.append(name)
            if times:
                turns.queue(lambda: again(name, times - 1))

        turns.queue(lambda: again("a", 2))
        turns.queue(lambda: again("b", 0))
        assert len(clock.getDelayedCalls()) == 1
        clock.advance(0)
        assert went == ["a", "b", "a", "a"]
        assert clock.getDelayedCalls() == []

    def test_one_fails(self) -> None:
        """One that fails takes nobody's turn away."""
        clock, went = Clock(), list[int]()
        turns = Turns(clock)
        turns.queue(lambda: went.append(1 // 0))
        turns.queue(lambda: went.append(2))
        for _ in range(2):
            try:
                clock.advance(0)
            except ZeroDivisionError:
                went.append(0)
        assert went == [0, 2]


class FloodTests:
    # covers: H02 R08
    def test_in_helpings(self) -> None:
        """A burst of requests is answered in helpings, in order and without loss."""
        dialogue = Dialogue()
        dialogue.say(HELLO)
        answered = len(dialogue.raw.received.splitlines())
        dialogue.server.dataReceived(pings(2, 1000))
        assert dialogue.server.lines <= limits.LINES_PER_TURN
        assert dialogue.server.paused
        dialogue.pump()
        lines = dialogue.raw.received.splitlines()[answered:]
        assert [parse_packet(each).id for each in lines] == list(range(2, 1002))
        assert not dialogue.server.paused

    def test_gone_meanwhile(self) -> None:
        """A connection that breaks while it waits is not spoken to any more."""
        dialogue = Dialogue()
        dialogue.say(HELLO)
        dialogue.server.dataReceived(pings(2, 1000))
        dialogue.wire.cut_off()
        dialogue.pump()
        assert dialogue.server.gone
        assert dialogue.server.lines <= 2 * limits.LINES_PER_TURN
        assert dialogue.pair.clock.getDelayedCalls() == []
