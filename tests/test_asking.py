"""What this side asks, sends and hears, whoever answers it and however."""

from __future__ import annotations

from typing import Any

import pytest
from talks import (
    FILM,
    digest,
    end,
    say,
)
from talks import ended as ended
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost

from lanxfer import offering, sending
from lanxfer.errors import (
    BadHeader,
    DigestMismatch,
    DiskFull,
    Forbidden,
    LanxferError,
    Lost,
    ShortBody,
    UnknownCommand,
)
from lanxfer.exchange import Answer
from lanxfer.registry import Transfer
from lanxfer.testing import (
    Pair,
    split_packets,
)
from lanxfer.transfers import Direction, Kind, Snapshot, State
from lanxfer.wire import limits
from lanxfer.wire.packets import (
    Do,
    Event,
    Failed,
    Go,
    Ok,
    Packet,
    Part,
    Window,
)

pytestmark = pytest.mark.usefixtures("logged")


class AnswererTests:
    """What the asking side makes of an answerer that does not keep to the protocol."""

    def asking(self, *said: Packet | bytes) -> tuple[Pair, Deferred[Any], list[Any]]:
        pair = Pair()
        pair.pump()
        sent = pair.send("film", FILM)
        outcome: list[Any] = []
        sent.addBoth(outcome.append)
        pair.server.dataReceived = lambda data: None  # type: ignore[method-assign]
        pair.wire.b.write(say(*said))
        pair.pump()
        return pair, sent, outcome

    @pytest.mark.parametrize(
        "said",
        [
            [Ok(2, {"stored": "film"})],
            [Go(2, 5), Ok(2, {"stored": "film"})],
            [Go(2, 5, ((len(FILM) + 1, "af" * 32),))],
            [Go(2, 5, ((3, "af" * 32), (5, "af" * 32)))],
            [b"nonsense\n"],
            [b'{"go": 2, "window": 1e3}\n'],
            [b"\n"],
            [Ok(7)] * (limits.STRAY_PACKETS + 1),
            [Event(9)] * (limits.STRAY_PACKETS + 1),
        ],
    )
    def test_not_believed(self, said: list[Packet | bytes]) -> None:
        """Answers too early, unordered or malformed end the connection; nothing counts as sent."""
        # covers: J12, J13
        pair, _, outcome = self.asking(*said)
        assert outcome[0].check(BadHeader)
        assert pair.client.gone or pair.client.deaf

    def test_asked_when_it_broke(self) -> None:
        """Each who waited for a turn when the connection broke, and asks then, hears of it."""
        # covers: B09
        pair = Pair()
        pair.pump()
        assert pair.client._outbox is not None
        pair.client._outbox.pauseProducing()
        outcome: list[Any] = []

        def ask(_: None) -> None:
            assert pair.client.deaf
            pair.client.ask("ping", {}).answered().addBoth(outcome.append)

        for _ in range(3):
            waiting = pair.client.paced()
            assert waiting is not None
            waiting.addCallback(ask)
        pair.wire.cut_off()
        pair.pump()
        assert [bool(each.check(Lost)) for each in outcome] == [True] * 3

    def test_wrong_digests(self) -> None:
        """A have that nothing agrees with is answered from the beginning."""
        # covers: J12
        pair = Pair()
        pair.pump()
        heard_: list[bytes] = []
        pair.server.dataReceived = heard_.append  # type: ignore[assignment,method-assign]
        pair.send("film", FILM).addErrback(lambda why: None)
        have = tuple((at, "af" * 32) for at in (5000, 400, 3))
        pair.wire.b.write(say(Go(2, 10**9, have)))
        pair.pump()
        packets = [packet for packet, _ in split_packets(b"".join(heard_))]
        assert packets[1:] == [Part(2, 0, len(FILM)), end(2, FILM)]

    def test_resumes_where_it_agrees(self) -> None:
        """The largest offset at which both agree is taken, not the largest that was named."""
        # covers: J12
        pair = Pair()
        pair.pump()
        heard_: list[bytes] = []
        pair.server.dataReceived = heard_.append  # type: ignore[assignment,method-assign]
        pair.send("film", FILM).addErrback(lambda why: None)
        have = ((9000, "af" * 32), (5000, digest(FILM[:5000])), (3, digest(FILM[:3])))
        pair.wire.b.write(say(Go(2, 10**9, have)))
        pair.pump()
        packets = [packet for packet, _ in split_packets(b"".join(heard_))]
        assert packets[1] == Part(2, 5000, len(FILM) - 5000)

    def test_no_window(self) -> None:
        """Without credit nothing is sent; with a byte of it, a byte."""
        # covers: J18
        pair = Pair()
        pair.pump()
        heard_: list[bytes] = []
        pair.server.dataReceived = heard_.append  # type: ignore[assignment,method-assign]
        pair.send("film", FILM).addErrback(lambda why: None)
        pair.wire.b.write(say(Go(2, 0)))
        pair.pump()
        assert len(split_packets(b"".join(heard_))) == 1
        pair.wire.b.write(say(Window(2, 1)))
        pair.pump()
        assert split_packets(b"".join(heard_))[1:] == [(Part(2, 0, 1), FILM[:1])]

    def test_many_grants_after_the_end(self) -> None:
        """A receiver whose grants cross the end of many files does nothing wrong."""
        pair = Pair()
        for count in range(40):
            data = bytes([count]) * 100
            pair.disk.held = True
            sent = pair.send(str(count), data)
            outcome: list[Any] = []
            sent.addBoth(outcome.append)
            pair.pump()
            while not pair.there.store._parts and pair.disk.work(1):
                pair.pump()
            while not outcome:
                pair.wire.b.write(say(Window(count + 2, 5)) * 3)
                pair.pump()
                pair.disk.work(1)
                pair.pump()
            assert outcome[0].stored == str(count)

    def test_answer_with_a_body_nobody_waits_for(self) -> None:
        """The body of an answer to nothing is dropped to the byte."""
        # covers: J13, H10
        pair = Pair()
        pair.pump()
        body = say(Failed(0, "internal"))
        pair.wire.b.write(say(Ok(99, {}, len(body)), body))
        pair.pump()
        assert pair.result(pair.client.ask("ping", {}).answered()) == Answer({})

    @pytest.mark.parametrize(
        "said", [say(Do(1, "hello", {"speaks": ["lanxfer/1"]}), Do(2, "ping"))]
    )
    def test_may_ask_as_well(self, said: bytes) -> None:
        """The side that was called may ask, too; the two directions count apart."""
        pair = Pair()
        pair.pump()
        pair.result(pair.server.ask("hello", {"speaks": ["lanxfer/1"]}).answered())
        asked = pair.server.ask("ping", {}).answered()
        other = pair.client.ask("ping", {}).answered()
        assert pair.result(asked) == pair.result(other) == Answer({})


class SendingTests:
    """The sending side as clients use it."""

    def send(self, pair: Pair, path: Any, **more: Any) -> Any:
        entry = offering.single(str(path))
        loaded = offering.load(entry)
        transfer = pair.here.registry.open(
            Direction.OUT, Kind.FILE, "peer:there", entry.path, entry.size
        )
        return transfer, Deferred.fromCoroutine(
            sending.send(pair.client, pair.disk, loaded, transfer, **more)
        )

    @pytest.mark.parametrize(
        "size", [0, 1, limits.INLINE_MAX, limits.INLINE_MAX + 1, 3 * limits.MIB]
    )
    def test_any_size(self, tmp_path: Any, size: int) -> None:
        """Files of every size arrive, with or without their request."""
        # covers: S02
        path = tmp_path / "a.bin"
        path.write_bytes(b"x" * size)
        pair = Pair()
        _, sent = self.send(pair, path)
        receipt = pair.result(sent)
        assert (receipt.stored, receipt.size) == ("a.bin", size)
        assert pair.there.store.files == {"a.bin": b"x" * size}

    @pytest.mark.parametrize("side", ["sender", "receiver"])
    @pytest.mark.parametrize("early", [True, False])
    def test_pause(self, tmp_path: Any, side: str, early: bool) -> None:
        """Held back on either side, before or after it began, a file waits and then arrives."""
        path = tmp_path / "a.bin"
        path.write_bytes(b"x" * (20 * limits.MIB))
        pair = Pair(held=True)
        when = State.ACCEPTED if early else State.MOVING
        end = pair.here if side == "sender" else pair.there
        chosen: list[Transfer] = []

        def hold(snapshot: Snapshot) -> None:
            if snapshot.state is when and not chosen:
                chosen.append(end.registry.find(snapshot.id))
                chosen[0].pause(True)

        end.registry.subscribe(hold)
        _, sent = self.send(pair, path)
        outcome: list[Any] = []
        sent.addBoth(outcome.append)
        for _ in range(50):
            pair.pump()
            pair.disk.work()
        assert chosen[0].state is State.PAUSED
        assert outcome == []
        chosen[0].pause(False)
        for _ in range(200):
            pair.pump()
            pair.disk.work()
        assert outcome and outcome[0].size == 20 * limits.MIB

    def test_digest_disagrees(self, tmp_path: Any) -> None:
        """A receiver that says it stored other bytes is not believed."""
        # covers: J13
        path = tmp_path / "a.bin"
        path.write_bytes(b"x")
        pair = Pair()
        pair.pump()
        _, sent = self.send(pair, path)
        pair.server.dataReceived = lambda data: None  # type: ignore[method-assign]
        pair.wire.b.write(say(Ok(2, {"stored": "a.bin", "size": 1, "blake3": "af" * 32})))
        with pytest.raises(DigestMismatch):
            pair.result(sent)


class RetryTests:
    @pytest.mark.parametrize("retry", [False, True])
    def test_said_of_this_one(self, retry: bool) -> None:
        """Whether the same may be otherwise later is what the other side says of it."""
        pair = Pair()
        pair.pump()
        asked = pair.client.ask("watch", {}).answered()
        pair.pump()
        pair.server._say_last(Failed(2, "forbidden", "Not at this hour.", retry))
        with pytest.raises(Forbidden) as told:
            pair.result(asked)
        assert told.value.retry is retry and not Forbidden.retry


class SilentErrorsTests:
    def test_connection_errors_are_lost(self) -> None:
        """A connection that breaks for whatever reason is lost, nothing more."""
        pair = Pair()
        pair.pump()
        asked = pair.client.ask("watch", {}).answered()
        pair.pump()
        pair.wire.a.break_off(ConnectionLost())
        with pytest.raises(Lost):
            pair.result(asked)

    def test_declined(self) -> None:
        """An owner who declines is answered for with forbidden, and no byte is taken."""
        # covers: A01
        pair = Pair(on_offer=lambda offer: False)
        with pytest.raises(Forbidden):
            pair.result(pair.send("film", FILM))
        assert pair.there.store.files == {}

    @pytest.mark.parametrize("error", [DiskFull(), ShortBody(), UnknownCommand()])
    def test_owner_may_say_why(self, error: LanxferError) -> None:
        """A reason that the owner's own code gives is the reason."""

        def refuse(offer: object) -> None:
            raise error

        pair = Pair(on_offer=refuse)
        with pytest.raises(type(error)):
            pair.result(pair.send("film", FILM))
