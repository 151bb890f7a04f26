"""How a connection stays within its bounds, notices silence, and ends."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from talks import (
    CONVERSATIONS,
    FILM,
    answers,
    closed,
    digest,
    end,
    file,
    heard,
    hello,
    large,
    say,
)
from talks import ended as ended
from twisted.internet.defer import Deferred

from lanxfer.errors import (
    LanxferError,
    Lost,
    Stopping,
    TimedOut,
)
from lanxfer.node import Taking
from lanxfer.policy import Principal, Standing
from lanxfer.testing import (
    Dialogue,
    Pair,
)
from lanxfer.transfers import State
from lanxfer.wire import limits
from lanxfer.wire.packets import (
    Bye,
    Cancel,
    Do,
    Event,
    Part,
)

pytestmark = pytest.mark.usefixtures("logged")


class BoundTests:
    def test_many_open(self) -> None:
        """The 257th open request is refused by itself; the others go on."""
        # covers: J08
        dialogue = hello()
        dialogue.say(*(say(Do(id, "watch")) for id in range(2, 300)))
        found = answers(dialogue)
        assert set(found.values()) == {"overloaded"}
        assert len(found) == 298 - limits.OPEN_EXCHANGES
        dialogue.say(say(Cancel(2)), say(Do(300, "ping")))
        assert answers(dialogue)[300] == "ok"

    def test_one_writer(self) -> None:
        """The same transfer twice at once is busy the second time, and the first is unhurt."""
        # covers: C02
        dialogue = hello()
        dialogue.say(say(large(2, "film", 9), large(3, "film", 9)))
        assert answers(dialogue) == {3: "busy"}
        dialogue.say(say(Part(2, 0, 9), b"x" * 9, end(2, b"x" * 9)))
        assert answers(dialogue)[2] == "ok"

    def test_two_peers(self) -> None:
        """Two peers with the same numbers, names, sizes and times are independent."""
        # covers: C01, C03
        pair = Pair()
        one = hello(pair)
        pair.principal = Principal(Standing.PEER, "peer:b", "b")
        two = hello(pair)
        for dialogue, data in ((one, b"x" * 9), (two, b"y" * 9)):
            dialogue.say(say(large(2, "film", 9, request="r1"), Part(2, 0, 5), data[:5]))
        for dialogue, data in ((one, b"x" * 9), (two, b"y" * 9)):
            dialogue.say(say(Part(2, 5, 4), data[5:], end(2, data)))
            assert answers(dialogue) == {2: "ok"}
        assert sorted(pair.there.store.files.values()) == [b"x" * 9, b"y" * 9]

    def test_reading_stops_when_the_disk_is_behind(self) -> None:
        """More than 16 MiB that wait for the disk stop the reading; nothing is dropped."""
        # covers: J16
        dialogue = hello()
        dialogue.pair.disk.held = True
        data = b"x" * limits.INLINE_MAX
        for id in range(2, 102):
            dialogue.say(file(id, str(id), data))
        waiting = dialogue.server._weight
        assert limits.UNWRITTEN_MAX < waiting <= limits.UNWRITTEN_MAX + 2 * limits.INLINE_MAX
        assert not dialogue.wire.b.reading
        while dialogue.pair.disk.work():
            dialogue.pump()
        assert len(dialogue.pair.there.store.files) == 100
        assert set(answers(dialogue).values()) == {"ok"}
        assert dialogue.server._weight == 0

    def test_large_file_before_the_disk(self) -> None:
        """Of a large file no more than its window waits for the disk."""
        # covers: J16, R06
        dialogue = hello()
        dialogue.say(say(large(2, "film", 100 * limits.MIB)))
        dialogue.pair.disk.held = True
        part = b"x" * limits.MIB
        for count in range(9):
            dialogue.say(say(Part(2, count * limits.MIB, len(part)), part))
        assert dialogue.server._weight == limits.WINDOW
        while dialogue.pair.disk.work():
            dialogue.pump()
        assert answers(dialogue) == {2: "overloaded"}
        assert dialogue.server._weight == 0

    def test_slow_reader(self) -> None:
        """A client that never reads is cut off; what waits for it stays bounded."""
        # covers: B06
        dialogue = hello()
        dialogue.wire.a.reading = False
        id = 2
        while dialogue.wire.b.reading and id < 20_000:
            dialogue.say(say(Do(id, "nothing")))
            id += 1
        waiting = len(dialogue.wire.b.unread)
        assert limits.REPLIES_MAX < waiting < 4 * limits.REPLIES_MAX
        dialogue.say(*(say(Do(id + n, "nothing")) for n in range(1000)))
        assert len(dialogue.wire.b.unread) == waiting
        dialogue.pass_time(limits.REPLIES_TIMEOUT - 1)
        assert not closed(dialogue)
        dialogue.pass_time(2)
        assert closed(dialogue)
        assert isinstance(dialogue.server.lost_because, TimedOut)

    def test_reader_that_comes_back(self) -> None:
        """Who reads again in time is listened to again, and nothing is lost."""
        # covers: B06
        dialogue = hello()
        dialogue.wire.a.reading = False
        id = 2
        while dialogue.wire.b.reading:
            dialogue.say(say(Do(id, "nothing")))
            id += 1
        dialogue.pass_time(limits.REPLIES_TIMEOUT - 1)
        dialogue.wire.a.reading = True
        dialogue.pump()
        dialogue.say(say(Do(id, "ping")))
        dialogue.pass_time(limits.REPLIES_TIMEOUT)
        assert not closed(dialogue)
        assert len(answers(dialogue)) == id - 1
        assert answers(dialogue)[id] == "ok"

    @pytest.mark.parametrize(
        ("name", "size", "code"),
        [
            ("recv_file", limits.INLINE_MAX, "ok"),
            ("recv_file", limits.INLINE_MAX + 1, "too-large"),
            ("recv_message", limits.MESSAGE_MAX, "ok"),
            ("recv_message", limits.MESSAGE_MAX + 1, "too-large"),
        ],
    )
    def test_bodies(self, name: str, size: int, code: str) -> None:
        """What travels with a request has its limit; behind what is beyond nothing is read."""
        # covers: S09, H10
        dialogue = hello()
        data = b"\n" * size
        args = {"path": "a", "size": size, "blake3": digest(data)} if name == "recv_file" else {}
        dialogue.say(say(Do(2, name, args, size), data, Do(3, "ping")))
        refused = code != "ok"
        assert answers(dialogue) == ({2: code} if refused else {2: code, 3: "ok"})
        assert closed(dialogue) is refused

    @pytest.mark.parametrize("size", [limits.REFUSED_MAX, limits.REFUSED_MAX + 1])
    def test_refused_body(self, size: int) -> None:
        """The body of a refused request is read to its end, unless that is a long way."""
        # covers: H10
        dialogue = hello()
        body = say(Do(9, "ping")).ljust(size, b"\n")
        dialogue.say(say(Do(2, "no.such", {}, size), body, Do(3, "ping")))
        much = size > limits.REFUSED_MAX
        assert answers(dialogue) == (
            {2: "unknown-command"} if much else {2: "unknown-command", 3: "ok"}
        )
        assert closed(dialogue) is much

    @pytest.mark.parametrize("size", [2**62, limits.NUMBER_MAX])
    def test_huge_file(self, size: int) -> None:
        """A size that cannot be is refused before a byte, and nothing is set aside for it."""
        # covers: S01
        dialogue = hello(Pair(capacity=1000))
        dialogue.say(say(large(2, "film", size), Do(3, "ping")))
        assert answers(dialogue) == {2: "disk-full", 3: "ok"}
        assert dialogue.pair.there.store._parts == {}

    def test_disk_full_in_the_middle(self) -> None:
        """A disk that fills up ends that file; its late parts are dropped, the rest goes on."""
        # covers: R01, J09, S2-45
        dialogue = hello(Pair(capacity=1000))
        dialogue.say(say(large(2, "film", 900), Part(2, 0, 100), b"x" * 100))
        dialogue.pair.there.store.files["of somebody else"] = b"y" * 500
        late = say(Part(2, 500, 400), b"z" * 400, end(2, b"x" * 900))
        dialogue.say(
            say(Part(2, 100, 400), say(Do(9, "ping")).ljust(400)), late, say(Do(4, "ping"))
        )
        found = answers(dialogue)
        assert (found[2], found[4]) == ("disk-full", "ok")
        assert 9 not in found

    def test_promised_space(self) -> None:
        """What was promised to one file nobody else gets, and is free again when it is over."""
        # covers: S01, S08
        dialogue = hello(Pair(capacity=1000))
        dialogue.say(say(large(2, "film", 900), Part(2, 0, 100), b"x" * 100))
        dialogue.say(say(large(3, "other", 101)), file(4, "small", b"y" * 101))
        dialogue.say(file(5, "fits", b"y" * 100))
        assert answers(dialogue) == {3: "disk-full", 4: "disk-full", 5: "ok"}
        dialogue.say(say(Cancel(2)))
        dialogue.say(file(6, "now", b"y" * 101))
        assert answers(dialogue)[6] == "ok"

    def test_running_total(self) -> None:
        """Files that fit each by itself stop where the space does; what was stored stays."""
        # covers: S08
        dialogue = hello(Pair(capacity=1000))
        for id in range(2, 22):
            dialogue.say(file(id, str(id), bytes([id]) * 100))
        found = list(answers(dialogue).values())
        assert found == ["ok"] * 10 + ["disk-full"] * 10
        assert len(dialogue.pair.there.store.files) == 10

    @pytest.mark.parametrize("device", ["x" * 65_000, "peer:there", "\x1b[31m", ""])
    def test_device_name_proves_nothing(self, device: str) -> None:
        """What a device calls itself changes nothing of who it is."""
        # covers: J18, A13
        dialogue = Dialogue()
        dialogue.say(say(Do(1, "hello", {"speaks": ["lanxfer/1"], "device": device})))
        dialogue.say(file(2, "a", b"x"))
        if len(device) < 256:
            assert answers(dialogue) == {1: "ok", 2: "ok"}
            assert {each.peer for each in dialogue.pair.there.told} == {"peer:here"}
        else:
            assert answers(dialogue) == {1: "bad-header"}
            assert closed(dialogue)


IDLE: dict[str, bytes] = {
    "go without a part": say(large(2, "film", 9)),
    "part": say(large(2, "film", 9), Part(2, 0, 9), b"x"),
    "between parts": say(large(2, "film", 9), Part(2, 0, 1), b"x"),
    "small file": say(Do(2, "recv_file", {"path": "a", "size": 9, "blake3": "af" * 32}, 9), b"x"),
    "message": say(Do(2, "recv_message", {}, 9)),
    "body of what is refused": say(Do(2, "nothing", {}, 9), b"x"),
    "late part": say(large(2, "film", 9), Part(2, 3, 6), b"x"),
}


class SilenceTests:
    @pytest.mark.parametrize("name", IDLE)
    def test_within_a_body(self, name: str) -> None:
        """Whoever falls silent within a body is cut off after a minute, and not before."""
        # covers: B01
        dialogue = hello()
        dialogue.say(IDLE[name])
        dialogue.pass_time(limits.BODY_IDLE_TIMEOUT - 1)
        assert not closed(dialogue)
        dialogue.pass_time(2)
        assert closed(dialogue)
        assert answers(dialogue)[0] == "timeout"
        assert len(dialogue.pair.there.registry) == 0
        assert dialogue.pair.clock.getDelayedCalls() == []

    def test_now_and_then(self) -> None:
        """A slow body is none that fell silent, as long as it keeps the least rate."""
        dialogue = hello()
        some = b"x" * limits.RATE_LEAST * 120
        dialogue.say(say(large(2, "film", len(some) * 9), Part(2, 0, len(some) * 9)))
        for _ in range(9):
            dialogue.pass_time(limits.BODY_IDLE_TIMEOUT - 1)
            dialogue.say(some)
        dialogue.say(say(end(2, some * 9)))
        assert answers(dialogue) == {2: "ok"}

    def test_too_slow(self) -> None:
        """A byte now and then is less than the least rate; what came is kept, the place is free."""
        # covers: B03
        dialogue = hello()
        dialogue.say(say(large(2, "film", 1000), Part(2, 0, 1000)))
        for _ in range(29):
            dialogue.pass_time(2.0)
            dialogue.say(b"x")
        assert not closed(dialogue)
        dialogue.pass_time(4.0)
        assert answers(dialogue) == {0: "too-slow"}
        dialogue.pass_time(limits.ABORT_AFTER)
        assert closed(dialogue)
        there = dialogue.pair.there
        assert there.told[-1].state is State.INTERRUPTED
        assert len(there.registry) == 0 and there.store._open == set()
        assert [len(each.data) for each in there.store._parts.values()] == [29]

    def test_after_the_bodies(self) -> None:
        """A connection on which nothing is due may be silent as long as it likes."""
        # covers: C05
        dialogue = hello()
        dialogue.say(file(2, "a", b"x"), say(Do(3, "watch")))
        dialogue.pass_time(10 * limits.BODY_IDLE_TIMEOUT)
        assert not closed(dialogue)
        assert dialogue.pair.clock.getDelayedCalls() == []

    def test_paused(self) -> None:
        """A transfer that is held back here may be silent; once it goes on it must speak."""
        # covers: B01
        dialogue = hello()
        dialogue.say(
            say(large(2, "film", 9), Part(2, 0, 1), b"x", Do(3, "pause", {"id": "00000001"}))
        )
        dialogue.pass_time(5 * limits.BODY_IDLE_TIMEOUT)
        assert not closed(dialogue)
        dialogue.say(say(Do(4, "resume", {"id": "00000001"})))
        dialogue.pass_time(limits.BODY_IDLE_TIMEOUT - 1)
        assert not closed(dialogue)
        dialogue.pass_time(2)
        assert closed(dialogue)

    def test_nobody_answers_the_offer(self) -> None:
        """An offer that nobody answers expires, and the connection goes on."""
        # covers: L07
        asked: list[Deferred[bool]] = []

        def ask(offer: object) -> Deferred[bool]:
            asked.append(Deferred())
            return asked[-1]

        dialogue = hello(Pair(on_offer=ask))
        dialogue.say(say(large(2, "film", 9)))
        assert len(asked) == 1
        dialogue.pass_time(limits.OFFER_LIFETIME - 1)
        assert heard(dialogue) == [Event(2, {"waiting": True})]
        dialogue.pass_time(2)
        assert answers(dialogue) == {2: "expired"}
        dialogue.say(say(Do(3, "ping")))
        assert answers(dialogue)[3] == "ok"


def _append(told: list[str], name: str, _: object) -> None:
    told.append(name)


class EndTests:
    def test_bye(self) -> None:
        """Who says bye to requests is still answered; bye to all is followed by the end."""
        # covers: J17
        dialogue = hello()
        dialogue.say(say(large(2, "film", 9), Bye(all=False)))
        dialogue.say(say(Part(2, 0, 9), b"x" * 9, end(2, b"x" * 9)))
        assert answers(dialogue) == {2: "ok"}
        assert not closed(dialogue)
        dialogue.say(say(Bye(all=True)))
        assert closed(dialogue)
        assert answers(dialogue) == {2: "ok"}

    @pytest.mark.parametrize("bye", [Bye(all=False), Bye(all=True)])
    def test_request_after_bye(self, bye: Bye) -> None:
        """A request after bye is not begun."""
        # covers: J17
        dialogue = hello()
        dialogue.say(say(Do(2, "watch"), bye), file(3, "a", b"x"))
        assert 3 not in answers(dialogue)
        assert dialogue.pair.there.store.files == {}
        assert closed(dialogue)

    @pytest.mark.parametrize("held", [False, True])
    def test_bye_with_a_body_under_way(self, held: bool) -> None:
        """What is not complete at the bye never will be: it is kept, and answered as short."""
        # covers: J17, S03
        dialogue = hello()
        dialogue.say(say(large(2, "film", 9), Part(2, 0, 5), b"x" * 5))
        dialogue.pair.disk.held = held
        dialogue.say(say(Bye(all=True)))
        while dialogue.pair.disk.work():
            dialogue.pump()
        assert answers(dialogue) == {2: "short-body"}
        assert closed(dialogue)
        assert [bytes(part.data) for part in dialogue.pair.there.store._parts.values()] == [
            b"xxxxx"
        ]

    @pytest.mark.parametrize(
        ("first", "then", "expected"),
        [
            (b"", b"", {}),
            (b"", say(Do(2, "ping")), {2: "ok"}),
            (b"", say(Do(2, "ping"))[:9], {}),
            (b"", file(2, "a", b"x"), {2: "ok"}),
            (b"", file(2, "a", b"hello")[:-1], {2: "short-body"}),
            (b"", file(2, "a", b"x") + file(3, "b", b"hello")[:-1], {2: "ok", 3: "short-body"}),
            (b"", say(large(2, "film", 9)), {2: "short-body"}),
            (say(large(2, "film", 9)), b"", {2: "short-body"}),
            (say(large(2, "film", 9)), say(Part(2, 0, 9), b"x"), {2: "short-body"}),
            (say(large(2, "film", 9)), say(Part(2, 0, 9), b"x" * 9), {2: "short-body"}),
            (
                say(large(2, "film", 9)),
                say(Part(2, 0, 9), b"x" * 9, end(2, b"x" * 9)),
                {2: "ok"},
            ),
            (
                say(large(2, "film", 9), Part(2, 0, 1), b"x"),
                say(Do(3, "pause", {"id": "00000001"})),
                {2: "short-body", 3: "ok"},
            ),
        ],
    )
    @pytest.mark.parametrize("held", [False, True])
    def test_half_closed(
        self, first: bytes, then: bytes, expected: dict[int, str], held: bool
    ) -> None:
        """Who closes its half hears what became of everything, and then the end."""
        # covers: B05, S03
        dialogue = hello()
        dialogue.say(first)
        dialogue.pair.disk.held = held
        dialogue.wire.a.write(then)
        dialogue.wire.a.loseWriteConnection()
        dialogue.pump()
        while dialogue.pair.disk.work():
            dialogue.pump()
        assert answers(dialogue) == expected
        assert closed(dialogue)
        assert len(dialogue.pair.there.registry) == 0

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_reset_anywhere(self, name: str) -> None:
        """A connection that breaks after any byte leaves nothing half-done and no timer."""
        # covers: B04
        said, files, _ = CONVERSATIONS[name]
        for after in range(1, len(said), max(1, len(said) // 12)):
            dialogue = Dialogue(Pair(taking=Taking(links=True)))
            dialogue.wire.cut_off(from_a=after)
            dialogue.say(said)
            assert closed(dialogue)
            there = dialogue.pair.there
            assert len(there.registry) == 0
            assert set(there.store.files.items()) <= set(files.items())
            assert there.store._open == set()
            dialogue.pass_time(1)
            assert dialogue.pair.clock.getDelayedCalls() == []

    def test_both_gone_with_a_body_under_way(self) -> None:
        """When both say bye to all in the middle of a file, it ends, and what had come is kept."""
        # covers: J17
        pair = Pair(held=True)
        pair.pump()
        outcome: list[Any] = []
        pair.send("film", b"x" * 3 * limits.WINDOW).addBoth(outcome.append)
        for _ in range(8):
            pair.pump()
            pair.disk.work(1)
        for end_ in (pair.client, pair.server):
            outbox = end_._outbox
            assert outbox is not None
            outbox.say(Bye(all=True))
        pair.pump()
        while pair.disk.work():
            pair.pump()
        assert isinstance(outcome[0].value, LanxferError)
        assert pair.client.gone and pair.server.gone
        assert len(pair.there.registry) == 0
        assert pair.there.store.files == {}
        pair.connect()
        assert pair.there.store._open == set()

    def test_both_leave(self) -> None:
        """When both have said bye and all is answered the connection closes by itself."""
        # covers: J17
        pair = Pair()
        pair.pump()
        for end_ in (pair.client, pair.server):
            outbox = end_._outbox
            assert outbox is not None
            outbox.say(Bye(all=False))
        pair.pump()
        pair.client.maybe_leave()
        pair.pump()
        assert pair.client.gone
        assert pair.server.gone

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_leave(self, who: str) -> None:
        """Leaving waits for what is under way, takes nothing new, and closes."""
        # covers: C09
        pair = Pair()
        pair.pump()
        pair.disk.held = True
        sent = pair.send("film", FILM)
        outcome: list[Any] = []
        sent.addBoth(outcome.append)
        pair.pump()
        left = getattr(pair, who).leave(10)
        gone: list[Any] = []
        left.addCallback(gone.append)
        if who == "server":
            refused = pair.client.ask("ping", {}).answered()
            with pytest.raises(Stopping):
                pair.result(refused)
        pair.pump()
        assert gone == []
        while pair.disk.work():
            pair.pump()
        assert outcome[0].stored == "film"
        assert gone == [None]
        assert pair.client.gone and pair.server.gone
        assert pair.clock.getDelayedCalls() == []

    def test_leave_in_vain(self) -> None:
        """What does not finish in time is cut off."""
        # covers: C09
        pair = Pair()
        pair.pump()
        pair.disk.held = True
        sent = pair.send("film", FILM)
        sent.addErrback(lambda why: why.trap(Lost))
        pair.pump()
        pair.server.leave(5)
        pair.clock.advance(5)
        pair.pump()
        assert pair.client.gone and pair.server.gone

    def test_when_gone(self) -> None:
        """Everybody who waits for the end hears of it, also afterwards."""
        pair = Pair()
        pair.pump()
        told: list[str] = []
        for name in "ab":
            pair.client.when_gone().addCallback(partial(_append, told, name))
        pair.wire.cut_off()
        pair.pump()
        pair.client.when_gone().addCallback(lambda _: told.append("c"))
        assert told == ["a", "b", "c"]

    def test_asked_afterwards(self) -> None:
        """A request on a connection that is over fails at once, with the reason."""
        pair = Pair()
        pair.pump()
        pair.client.abort(TimedOut("mine"))
        with pytest.raises(TimedOut, match="mine"):
            pair.result(pair.client.ask("ping", {}).answered())

    def test_all_that_wait_hear(self) -> None:
        """A broken connection fails everybody who waits on it, on both sides."""
        # covers: B04
        pair = Pair()
        pair.pump()
        waiting = [pair.client.ask("watch", {}).answered() for _ in range(3)]
        outcome: list[Any] = []
        for each in waiting:
            each.addBoth(outcome.append)
        pair.pump()
        pair.wire.cut_off()
        pair.pump()
        assert [why.type for why in outcome] == [Lost] * 3
        assert pair.server._calls == {}

    def test_one_reason(self) -> None:
        """An error that ends the connection is said once, with the number 0, before all else."""
        # covers: H10, T06
        dialogue = hello()
        dialogue.say(say(Do(2, "watch"), large(3, "film", 9)))
        dialogue.raw.received = b""
        dialogue.say(b"nonsense\n")
        assert answers(dialogue) == {0: "bad-header"}
        assert len(dialogue.pair.there.registry) == 0
        assert closed(dialogue)

    def test_told_that_it_is_over(self) -> None:
        """Who hears an error with the number 0 fails all its requests with it."""
        pair = Pair()
        pair.pump()
        asked = pair.client.ask("watch", {}).answered()
        pair.pump()
        pair.server.fail(Stopping("going down"))
        with pytest.raises(Stopping, match="going down"):
            pair.result(asked)
        assert pair.client.gone
