"""Connections between equals: asking both ways, channels, ends that are orderly and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults

from lanxfer.commands.declared import command
from lanxfer.commands.table import Call
from lanxfer.errors import BadRequest, Cancelled, Forbidden, Lost, Overloaded, Stopping
from lanxfer.links import Link, as_completed
from lanxfer.testing import Dialogue, Pair
from lanxfer.wire import limits
from lanxfer.wire.packets import Bye, Failed, Ok


class Both:
    """What both sides answer."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []
        self.begun: list[int] = []

    @command("b.noop")
    def noop(self) -> None:
        pass

    @command("b.wait")
    def wait(self, n: int = 0) -> Deferred[Any]:
        self.begun.append(n)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    @command("b.back")
    async def back(self, call: Call, depth: int) -> int:
        """Ask the asker, who asks back."""
        if not depth:
            return 0
        answer = await call.link.call("b.back", {"depth": depth - 1})
        return int(answer.flags) + 1

    @command("b.private", channel=5)
    def private(self) -> None:
        pass


def both() -> tuple[Both, Pair, Link, Link]:
    made = Both()
    pair = Pair(commands=made)
    pair.pump()
    return made, pair, Link(pair.client), Link(pair.server)


class EqualTests:
    def test_each_asks(self) -> None:
        """Each side asks the other at any time, with numbers of its own."""
        # covers: S3-01 S3-32
        made, pair, here, there = both()
        waiting = here.call("b.wait")
        pair.pump()
        assert pair.result(there.call("b.noop")).ok
        assert pair.result(here.call("b.noop")).ok
        made.waiting[0].callback(5)
        assert pair.result(waiting).flags == 5

    def test_back_and_forth(self) -> None:
        """A command may ask its asker, however deep that goes."""
        # covers: S3-01
        _, pair, here, _ = both()
        assert pair.result(here.call("b.back", {"depth": 20})).flags == 20

    def test_during_a_file(self) -> None:
        """The receiver of a file asks its sender while the file is under way."""
        # covers: S3-01
        _, pair, _, there = both()
        pair.disk.held = True
        sending = pair.send("big", bytes(1_000_000))
        pair.pump()
        assert pair.result(there.call("b.noop")).ok
        while not sending.called:
            pair.disk.work()
            pair.pump()
        assert pair.result(sending).size == 1_000_000

    def test_many(self) -> None:
        """Requests that are too many at once wait for their turn; each has its own answer."""
        # covers: S3-03 S3-09
        _, pair, here, _ = both()
        asked = [here.call("b.back", {"depth": 0}, label=str(n)) for n in range(1000)]
        assert here.stats.waiting == 1000 - limits.OPEN_EXCHANGES
        answers = pair.result(gatherResults(asked))
        assert len(answers) == 1000
        assert (here.stats.open, here.stats.waiting) == (0, 0)
        assert pair.server._calls == {}

    def test_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A peer that answers nothing fills a queue of bounded length."""
        # covers: S3-28
        monkeypatch.setattr(limits, "QUEUED_MAX", 10)
        made, pair, here, _ = both()
        asked = [here.call("b.wait") for _ in range(limits.OPEN_EXCHANGES + 10)]
        with pytest.raises(Overloaded):
            pair.result(here.call("b.wait"))
        asked[-1].cancel()
        asked[-1].addErrback(lambda why: why.trap(Cancelled))
        pair.pump()
        while made.waiting:
            made.waiting.pop().callback(None)
            pair.pump()
        assert len(made.begun) == limits.OPEN_EXCHANGES + 9
        pair.result(gatherResults(asked[:-1]))

    def test_duplicate(self) -> None:
        """A number that is in use is refused and ends the conversation; so does a smaller one."""
        # covers: S3-17
        for again in (2, 1):
            made = Both()
            dialogue = Dialogue(Pair(commands=made))
            dialogue.say(b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": ""}\n')
            dialogue.say(b'{"do": 2, "name": "b.wait"}\n')
            dialogue.say(b'{"do": %d, "name": "b.wait"}\n' % again)
            failed = [each for each, _ in dialogue.raw.packets if isinstance(each, Failed)]
            assert failed[0].code == "bad-header"
            assert made.begun == [0]  # the first one only

    def test_completed(self) -> None:
        """Results come in the order in which they are there."""
        # covers: S3-11
        made, pair, here, _ = both()
        asked = [here.call("b.wait", {"n": n}) for n in range(3)]
        pair.pump()
        found: list[int] = []

        async def collect() -> None:
            async for answer in as_completed(asked):
                found.append(answer.flags)

        collecting = Deferred.fromCoroutine(collect())
        for n in (2, 0, 1):
            made.waiting[n].callback(n)
            pair.pump()
        pair.result(collecting)
        assert found == [2, 0, 1]

    def test_completed_failure(self) -> None:
        """The first failure is raised."""
        _made, pair, here, _ = both()
        asked = [here.call("b.wait"), here.call("b.zzz")]

        async def collect() -> None:
            async for _ in as_completed(asked):
                raise AssertionError("there is nothing yet")

        with pytest.raises(Exception, match="no such command"):
            pair.result(collect())

    def test_trace(self) -> None:
        """Every header of a call can be seen."""
        # covers: S3-30
        _, pair, here, _ = both()
        seen: list[tuple[str, bytes]] = []
        here.trace(lambda way, line: seen.append((way, line)))
        pair.result(here.call("b.noop", label="mine"))
        here.trace(None)
        pair.result(here.call("b.noop"))
        assert seen == [(">", b'{"do": 2, "name": "b.noop"}'), ("<", b'{"ok": 2}')]
        assert (here.stats.asked, here.stats.bytes_read > 20) == (3, True)
        assert pair.result(here.ping()) == 0.0


class ChannelTests:
    def test_order(self) -> None:
        """On a channel one is begun after the other; elsewhere nothing waits for that."""
        # covers: S3-04
        made, pair, here, _ = both()
        one = here.channel(1)
        asked = [one("b.wait", {"n": n}) for n in range(3)]
        pair.pump()
        assert made.begun == [0]
        assert pair.result(here.call("b.noop")).ok
        assert pair.result(here.call("b.noop", channel=2)).ok
        for n in range(3):
            made.waiting[n].callback(n)
            pair.pump()
        assert made.begun == [0, 1, 2]
        assert [each.flags for each in pair.result(gatherResults(asked))] == [0, 1, 2]

    def test_saturated(self) -> None:
        """Channels that are full leave room on channel 0."""
        # covers: S3-04
        _, pair, here, _ = both()
        asked = [here.call("b.wait", channel=1 + n % 5) for n in range(1000)]
        pair.pump()
        for _ in range(10):
            assert pair.result(here.call("b.noop")).ok
        assert not any(each.called for each in asked)

    def test_limit(self) -> None:
        """A channel has a limit of its own."""
        made, pair, here, _ = both()
        one = here.channel(1, limit=2)
        asked = [one("b.wait", {"n": n}) for n in range(5)]
        pair.pump()
        assert here.stats.open == 2
        for n in range(5):
            made.waiting[n].callback(n)
            pair.pump()
        assert len(pair.result(gatherResults(asked))) == 5

    def test_enforced(self) -> None:
        """A side that asks more on its channels than may be is refused."""
        dialogue = Dialogue(Pair(commands=Both()))
        dialogue.say(b'{"do": 1, "name": "hello", "speaks": ["lanxfer/1"], "device": ""}\n')
        for n in range(limits.CHANNEL_OPEN + 1):
            dialogue.say(b'{"do": %d, "name": "b.wait", "channel": 3}\n' % (2 + n))
        dialogue.say(b'{"do": 200, "name": "b.noop", "channel": 256}\n')
        codes = [each.code for each, _ in dialogue.raw.packets if isinstance(each, Failed)]
        assert codes == ["overloaded", "bad-request"]

    def test_cancel_waiting(self) -> None:
        """What waits on a channel can be given up, and the rest goes on."""
        made, pair, here, _ = both()
        asked = [here.call("b.wait", {"n": n}, channel=1) for n in range(3)]
        pair.pump()
        asked[1].cancel()
        with pytest.raises(Cancelled):
            pair.result(asked[1])
        assert len(pair.server._calls) == 2
        made.waiting[0].callback(0)
        pair.pump()
        made.waiting[1].callback(2)
        assert pair.result(asked[2]).flags == 2
        assert made.begun == [0, 2]

    def test_own_commands(self) -> None:
        """A command may be reached on its own channel only."""
        # covers: S3-04
        _, pair, here, _ = both()
        assert pair.result(here.call("b.private", channel=5)).ok
        with pytest.raises(Forbidden):
            pair.result(here.call("b.private"))
        with pytest.raises(BadRequest):
            pair.result(here.call("b.noop", channel=256))


class EndTests:
    def test_end_requests(self) -> None:
        """Who asks nothing more still answers, and is told no on this side."""
        # covers: S3-18 S3-29
        _made, pair, here, there = both()
        told: list[str] = []
        there.when_peer_done().addCallback(lambda _: told.append("done"))
        there.when_closed().addCallback(lambda _: told.append("closed"))
        here.end_requests()
        pair.pump()
        assert told == ["done"]
        with pytest.raises(Stopping):
            pair.result(here.call("b.noop"))
        with pytest.raises(Stopping):
            here.stream("b.noop")
        assert pair.result(there.call("b.noop")).ok
        there.end_requests()
        pair.pump()
        assert told == ["done", "closed"]
        assert pair.client.gone
        assert pair.server.gone

    def test_close(self) -> None:
        """What is outstanding is finished, then each side says that it has nothing more to say."""
        # covers: S3-20 S3-21
        made, pair, here, _ = both()
        waiting = here.call("b.wait")
        pair.pump()
        lines: list[bytes] = []
        here.trace(lambda way, line: lines.append(line) if way == ">" else None)
        closing = here.close()
        pair.pump()
        assert not closing.called
        made.waiting[0].callback(7)
        pair.pump()
        assert pair.result(waiting).flags == 7
        assert closing.called
        assert lines == [b'{"bye": "requests"}', b'{"bye": "all"}']
        with pytest.raises(Lost):
            pair.result(here.call("b.noop"))

    def test_close_with_queue(self) -> None:
        """What waits for its turn is asked and answered before the end, too."""
        _, pair, here, _ = both()
        asked = [here.call("b.noop") for _ in range(600)]
        closing = here.close()
        assert all(each.ok for each in pair.result(gatherResults(asked)))
        assert closing.called

    def test_silent_peer(self) -> None:
        """A peer that never answers cannot keep this side from closing in time."""
        # covers: S3-20
        _, pair, here, _ = both()
        waiting = here.call("b.wait")
        pair.pump()
        closing = here.close(timeout=3)
        pair.pump()
        assert not closing.called
        pair.clock.advance(3)
        pair.pump()
        assert closing.called
        with pytest.raises(Lost):
            pair.result(waiting)

    def test_peer_closes(self) -> None:
        """All that wait hear of the end, each exactly once; also who asks afterwards."""
        # covers: S3-19 S3-35 S3-29
        _, pair, here, _there = both()
        asked = [here.call("b.wait") for _ in range(300)]
        heard: list[Any] = []
        for each in asked:
            each.addErrback(lambda why: heard.append(type(why.value)))
        closed: list[Any] = []
        here.when_closed().addCallback(closed.append)
        pair.pump()
        pair.server.abort(Stopping())
        pair.pump()
        assert heard == [Lost] * 300
        here.when_closed().addCallback(closed.append)
        assert [type(each) for each in closed] == [Lost, Lost]
        assert here.when_peer_done().called

    def test_said_goodbye(self) -> None:
        """A goodbye is no error."""
        # covers: S3-19
        _, pair, here, there = both()
        closed: list[Any] = []
        here.when_closed().addCallback(closed.append)
        there.close()
        pair.pump()
        assert closed == [None]

    def test_context(self) -> None:
        """Leaving the scope waits for what is outstanding; after an error it does not."""
        # covers: S3-21 S2-67
        made, pair, here, _ = both()

        async def use() -> int:
            async with here:
                waiting = here.call("b.wait")
                pair.clock.callLater(1, lambda: made.waiting[0].callback(3))
            return int((await waiting).flags)

        using = Deferred.fromCoroutine(use())
        pair.pump()
        assert not using.called
        pair.clock.advance(1)
        assert pair.result(using) == 3

        made, pair, here, _ = both()

        async def fail() -> None:
            async with here:
                here.call("b.wait").addErrback(lambda why: None)
                raise KeyError("x")

        with pytest.raises(KeyError):
            pair.result(fail())
        assert pair.client.gone
        assert pair.clock.getDelayedCalls() == []

    def test_memory_is_flat(self) -> None:
        """Nothing of a request is kept once it was answered."""
        # covers: S3-03
        _, pair, here, _ = both()
        for _ in range(5000):
            here.call("b.noop")
            pair.pump()
        session: Any = pair.client.session
        served: Any = pair.server.session
        assert (session._ours, served._theirs, served._refused) == ({}, {}, set())
        assert pair.client._exchanges == pair.server._calls == {}
        assert pair.server._windows == {}


class PacketTests:
    def test_golden(self) -> None:
        """The conversation of the document, byte for byte."""
        # covers: S3-02
        from lanxfer.wire.native import format_packet, parse_packet
        from lanxfer.wire.packets import Do, End, Event, Take

        for packet, line in (
            (
                Do(8, "myapp.add", {"args": {"n": 7}, "flags": 5, "channel": 1}, 3),
                b'{"do": 8, "name": "myapp.add", "args": {"n": 7}, "flags": 5, "channel": 1,'
                b' "body": 3}\n',
            ),
            (Ok(8, {"flags": 9}, 2), b'{"ok": 8, "flags": 9, "body": 2}\n'),
            (Event(9, {}, 5), b'{"event": 9, "body": 5}\n'),
            (Take(9, 5), b'{"take": 9, "bytes": 5}\n'),
            (End(9, 5, None), b'{"end": 9, "size": 5}\n'),
            (Bye(False), b'{"bye": "requests"}\n'),
            (
                Do(9, "a.b", {"stream": True, "take": 7}),
                b'{"do": 9, "name": "a.b", "stream": true, "take": 7}\n',
            ),
        ):
            assert format_packet(packet) == line
            assert parse_packet(line[:-1]) == packet
