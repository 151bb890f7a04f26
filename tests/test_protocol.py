"""Whole conversations on one connection, however they are cut, broken, flooded or held up."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from talks import (
    CONVERSATIONS,
    CUTS,
    FILM,
    HELLO,
    LETTERS,
    MTIME,
    answers,
    closed,
    digest,
    end,
    file,
    heard,
    hello,
    large,
    say,
    stored,
)
from talks import ended as ended
from twisted.internet.defer import CancelledError, Deferred

from lanxfer.commands.table import Call, Command, Node, Reply
from lanxfer.errors import (
    BadHeader,
    Cancelled,
    LanxferError,
    Lost,
    NotFound,
    ShortBody,
    SourceChanged,
    TooLarge,
)
from lanxfer.exchange import Answer
from lanxfer.node import Taking
from lanxfer.policy import UNKNOWN, Principal, Standing
from lanxfer.sessions import Session
from lanxfer.sessions.literal import LiteralSession
from lanxfer.sessions.ticket import TicketSession
from lanxfer.testing import (
    Dialogue,
    MemorySource,
    Pair,
    pieces,
    pump,
)
from lanxfer.transfers import Direction, Kind, State
from lanxfer.wire import limits
from lanxfer.wire.native import parse_rows
from lanxfer.wire.packets import (
    Cancel,
    Do,
    Event,
    Failed,
    Go,
    Ok,
    Packet,
    Part,
)
from tests.test_policy import COMMANDS, MAY
from tests.test_wire_native import PACKETS

pytestmark = pytest.mark.usefixtures("logged")


class ForeignCancelTests:
    def test_unknown_word(self) -> None:
        """A cancel with a code nobody knows gives up like any other, and nothing remains."""
        dialogue = hello()
        dialogue.say(
            b'{"do": 2, "name": "recv_file", "path": "a", "size": 9, "mtime_ns": 1}\n',
            b'{"part": 2, "offset": 0, "body": 3}\nabc',
            b'{"cancel": 2, "code": "tired", "reason": "no"}\n',
        )
        dialogue.pass_time(1.0)
        assert answers(dialogue)[2] == "cancelled"
        assert dialogue.pair.there.store._parts == {}


class ConversationTests:
    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("trailing", [b"", b'{"do": 99, "na', b'{"do": 99, "name": "ping"}'])
    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_any_cutting(self, name: str, trailing: bytes, cut: str) -> None:
        """Every conversation has the same end in any cutting, and with more behind it."""
        # covers: H09, H10, J09, J11, S02, S04, S05, C06
        said, files, expected = CONVERSATIONS[name]
        dialogue = Dialogue(Pair(cut=CUTS[cut], taking=Taking(links=True)))
        dialogue.say(said, trailing)
        assert answers(dialogue) == expected
        assert dialogue.pair.there.store.files == files
        assert not closed(dialogue)
        assert dialogue.server.expected == 0

    @pytest.mark.parametrize("name", CONVERSATIONS)
    def test_one_split(self, name: str) -> None:
        """Split at one byte or another the same is answered, in the same order."""
        # covers: H09
        said, _, _ = CONVERSATIONS[name]
        said = said[:700]
        once = Dialogue(Pair(taking=Taking(links=True)))
        once.say(said)
        for at in range(0, len(said), 9):
            dialogue = Dialogue(Pair(taking=Taking(links=True)))
            dialogue.say(said[:at])
            dialogue.say(said[at:])
            assert dialogue.raw.packets == once.raw.packets

    @given(
        st.sampled_from(sorted(CONVERSATIONS)),
        st.lists(st.integers(1, 400), min_size=1, max_size=8),
    )
    @settings(max_examples=60)
    def test_random_cutting(self, name: str, sizes: list[int]) -> None:
        """Any cutting whatever: the same packets."""
        # covers: H09
        said, files, expected = CONVERSATIONS[name]
        dialogue = Dialogue(Pair(cut=pieces(*sizes), taking=Taking(links=True)))
        dialogue.say(said)
        assert answers(dialogue) == expected
        assert dialogue.pair.there.store.files == files

    def test_hello(self) -> None:
        """The answer to hello says version, device and limits."""
        dialogue = Dialogue()
        dialogue.say(say(HELLO))
        [(packet, _)] = dialogue.raw.packets
        wanted = {
            "inline": 262144,
            "part": 16777216,
            "open": 256,
            "pack": 4194304,
            "pack_file": 4194304,
        }
        assert packet == Ok(
            1,
            {
                "speaks": "lanxfer/1",
                "device": "there",
                "limits": wanted,
                "features": ["streams", "folders"],
            },
        )

    @pytest.mark.parametrize("name", ["recv_message", "recv_file"])
    @pytest.mark.parametrize("request_id", [[], {}, 5, True])
    def test_odd_request_id(self, name: str, request_id: Any) -> None:
        """The id of a request is a text, or it is none of this protocol's."""
        dialogue = Dialogue()
        args = {"text": "a"} if name == "recv_message" else {"path": "a", "size": 0}
        dialogue.say(say(HELLO, Do(2, name, {**args, "request": request_id})))
        (_, _), (failed, _) = dialogue.raw.packets
        assert isinstance(failed, Failed) and failed.code == BadHeader.code
        assert dialogue.pair.there.registry.finished() == []

    def test_large_file(self) -> None:
        """Go before the first part, and the receiver's word after the last."""
        dialogue = hello()
        dialogue.say(say(large(2, "film", len(FILM))))
        assert heard(dialogue) == [Go(2, limits.WINDOW, (), {"transfer": "00000001"})]
        dialogue.say(say(Part(2, 0, len(FILM)), FILM, end(2, FILM)))
        assert heard(dialogue)[1:] == [stored(2, "film", FILM)]

    def test_rows(self) -> None:
        """A list comes as rows, one transfer each."""
        dialogue = hello()
        dialogue.say(say(large(2, "film", 9), Do(3, "pending_requests")))
        packet, body = dialogue.raw.packets[-1]
        assert packet == Ok(3, {"total": 1, "rows": 1}, len(body))
        [row] = parse_rows(body)
        assert (row["path"], row["state"], row["size"]) == ("film", "accepted", 9)

    def test_message(self) -> None:
        """A message is a body of text, answered when it is kept."""
        # covers: S09
        dialogue = hello()
        text = "Grüße!\n☃ \x1b[31m<b>%s{}"
        data = text.encode()
        dialogue.say(say(Do(2, "recv_message", {}, len(data)), data))
        assert heard(dialogue) == [Ok(2, {"size": len(data)})]
        [message] = dialogue.pair.there.messages
        assert message.text == text

    def test_watching(self) -> None:
        """Who watches hears of every change until it wants no more."""
        dialogue = hello()
        dialogue.say(say(Do(2, "watch")), file(3, "a", b"x"), say(Cancel(2)))
        states = [e.args["transfer"]["state"] for e in heard(dialogue) if isinstance(e, Event)]
        assert states == ["offered", "accepted", "committing", "done"]
        dialogue.say(file(4, "b", b"x"))
        assert answers(dialogue) == {2: "cancelled", 3: "ok", 4: "ok"}
        assert len(heard(dialogue)) == 4 + 3


class ResumeTests:
    def begin(self, sent: int, data: bytes = FILM, **more: Any) -> Pair:
        """A transfer of ``data`` that broke after so many bytes."""
        dialogue = hello()
        dialogue.say(say(large(2, "film", len(data), **more), Part(2, 0, sent), data[:sent]))
        dialogue.wire.cut_off()
        dialogue.pump()
        assert dialogue.server.gone
        return dialogue.pair

    def test_goes_on(self) -> None:
        """After a break the same request says what is there, and goes on from it."""
        # covers: B04, S03, S2-10
        dialogue = hello(self.begin(5000))
        assert dialogue.pair.there.store.files == {}
        dialogue.say(say(large(2, "film", len(FILM))))
        [go] = heard(dialogue)
        assert isinstance(go, Go)
        assert go.have == ((5000, digest(FILM[:5000])),)
        rest = FILM[5000:]
        dialogue.say(say(Part(2, 5000, len(rest)), rest, end(2, FILM)))
        assert heard(dialogue)[1:] == [stored(2, "film", FILM)]

    @pytest.mark.parametrize("offset", [1, 4999, 5001, len(FILM) - 1])
    def test_elsewhere(self, offset: int) -> None:
        """An offset the receiver did not name is refused, and nothing of it is written."""
        # covers: S06, J10
        dialogue = hello(self.begin(5000))
        dialogue.say(say(large(2, "film", len(FILM)), Part(2, offset, 1), b"x", end(2, FILM)))
        assert answers(dialogue) == {2: "bad-offset"}
        assert dialogue.pair.there.store.files == {}

    def test_another_content(self) -> None:
        """The same name, size and time with other bytes never makes a mixture."""
        # covers: J25, S06
        other = b"x" * len(FILM)
        dialogue = hello(self.begin(5000))
        dialogue.say(say(large(2, "film", len(FILM)), Part(2, 5000, 9), other[:9]))
        dialogue.say(say(Part(2, 5009, len(FILM) - 5009), other[5009:], end(2, other)))
        assert answers(dialogue) == {2: "digest-mismatch"}
        dialogue.say(say(large(3, "film", len(FILM)), Part(3, 0, len(other)), other, end(3, other)))
        assert dialogue.pair.there.store.files == {"film": other}

    def test_already_there(self) -> None:
        """What was stored already is said to be there, and makes no second copy."""
        # covers: K08
        pair = Pair()
        for already in (False, True):
            receipt = pair.result(pair.send("film", FILM))
            assert (receipt.already, receipt.stored) == (already, "film")
            assert receipt.resumed_from == (len(FILM) if already else 0)
        assert pair.there.store.files == {"film": FILM}

    def test_again_and_again(self) -> None:
        """A thousand resumes without progress keep the part and cost no transfer left over."""
        # covers: S07
        pair = self.begin(5000)
        for _ in range(100):
            dialogue = hello(pair)
            dialogue.say(say(large(2, "film", len(FILM))))
            assert isinstance(heard(dialogue)[0], Go)
            dialogue.wire.cut_off()
            dialogue.pump()
        assert len(pair.there.registry) == 0
        assert len(pair.there.store._parts) == 1
        assert pair.result(pair.send("film", MemorySource(FILM, MTIME))).resumed_from == 5000

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("after", [0, 1, 60, 400, 1000, 5000, 10_000])
    def test_broken_after_any_byte(self, after: int, cut: str) -> None:
        """A connection may break after any byte; the next one finishes what it began."""
        # covers: B04, S03, C06
        pair = Pair(cut=CUTS[cut])
        pair.pump()
        pair.wire.cut_off(from_a=after)
        first = pair.send("film", FILM)
        with pytest.raises(Lost):
            pair.result(first)
        assert pair.there.store.files == {}
        assert len(pair.there.registry) == 0
        pair.connect()
        receipt = pair.result(pair.send("film", FILM))
        assert receipt.resumed_from <= after
        assert pair.there.store.files == {"film": FILM}

    @pytest.mark.parametrize("after", [0, 1, 50, 110])
    def test_answer_lost(self, after: int) -> None:
        """Where the answer got lost the file is there, and sending it again makes no second."""
        # covers: B04, K08
        pair = Pair()
        pair.pump()
        sent = pair.send("film", FILM)
        pair.wire.step()
        pair.wire.cut_off(from_b=after + len(pair.wire.b.unread))
        with pytest.raises(Lost):
            pair.result(sent)
        pair.connect()
        pair.result(pair.send("film", FILM))
        assert pair.there.store.files == {"film": FILM}


class HeaderTests:
    @pytest.mark.parametrize("known", [False, True])
    @pytest.mark.parametrize("cut", ["whole", "pieces"])
    def test_line_without_end(self, known: bool, cut: str) -> None:
        """A line without end is cut off at the limit: an error, a second, and it is over."""
        # covers: H01
        standing = Standing.PEER if known else Standing.STRANGER
        limit = limits.HEADER_KNOWN if known else limits.HEADER_STRANGER
        pair = Pair(cut=CUTS[cut], principal=Principal(standing, "x", "x"))
        dialogue = Dialogue(pair)
        dialogue.say(b'{"do": 1' + b" " * (limit - 8))
        assert heard(dialogue) == []
        dialogue.say(b"  ")
        assert answers(dialogue) == {0: "header-too-long"}
        assert closed(dialogue)

    def test_cut_even_if_unread(self) -> None:
        """Whoever does not read the error is cut off a second later."""
        # covers: H01, B06
        dialogue = hello()
        dialogue.wire.b.disconnecting = False
        dialogue.server.transport.loseConnection = lambda: None
        dialogue.say(b"x" * 100_000)
        assert not closed(dialogue)
        dialogue.pass_time(limits.ABORT_AFTER)
        assert closed(dialogue)
        assert dialogue.pair.clock.getDelayedCalls() == []

    @pytest.mark.parametrize("size", [64 * 1024, 1024 * 1024])
    def test_flood_of_empty_lines(self, size: int) -> None:
        """A megabyte of line ends is three bad lines, or one after hello."""
        # covers: H02
        dialogue = Dialogue()
        dialogue.say(b"\n" * size)
        found = heard(dialogue)
        assert [type(each) for each in found] == [Failed] * limits.MALFORMED_LINES
        assert closed(dialogue)
        dialogue = hello()
        dialogue.say(b"\n" * size)
        assert answers(dialogue) == {0: "bad-header"}
        assert closed(dialogue)

    @pytest.mark.parametrize(
        "line",
        [
            b"GET / HTTP/1.1\r\n",
            b'{"do": 2, "name": "ping"}\r\r\n',
            b'{"do": 2, "name": "p\x00ing"}\n',
            b'{"do": 2, "name": "ping", "x": 1.0}\n',
            b'{"do": 2, "name": "ping", "x": "\\ud800"}\n',
            b'{"do": -2, "name": "ping"}\n',
            b'{"cancel": 1, "body": 1000000000}\n',
            b'{"part": 9, "offset": 0, "body": 5}\n',
            b"{'method_name': 'recv_file'}\n",
            b"2f1e7a0c-5b1d-4c7e-9a77-0123456789ab 9b0d44f1-0000-4fff-8abc-fedcba987654 5\n",
            b"\x16\x03\x01\x02\x00\n",
            b'{"do": 2, "name": "hello", "speaks": ["lanxfer/1"]}\n',
        ],
    )
    def test_nothing_after_a_bad_line(self, line: bytes) -> None:
        """After a bad line nothing is looked at, whatever dialect it may be in."""
        # covers: H03, H04, H06, H08, J05, J07, J08, J14, T06
        dialogue = hello()
        dialogue.say(line, file(3, "after", b"x"), say(Do(4, "ping")))
        assert answers(dialogue) == {0: "bad-header"}
        assert dialogue.pair.there.store.files == {}
        assert closed(dialogue)

    def test_unknown_verb(self) -> None:
        """A first key that is no verb is no command, and the end where bodies may follow."""
        # covers: H07, J23
        dialogue = hello()
        dialogue.say(b'{"dance": 2, "body": 20}\n', say(Do(3, "ping")))
        assert answers(dialogue) == {0: "unknown-command"}
        assert closed(dialogue)

    @pytest.mark.parametrize("name", ["delete", "myapp.thumbnail", "a.b.c.d", "hello2"])
    def test_unknown_command(self, name: str) -> None:
        """What there is not is refused by itself, with its body."""
        # covers: H07, H10, J23, S2-13
        dialogue = hello()
        body = say(Do(9, "ping"))
        dialogue.say(say(Do(2, name, {}, len(body)), body, Do(3, "ping")))
        assert answers(dialogue) == {2: "unknown-command", 3: "ok"}

    @pytest.mark.parametrize(
        "speaks", [[], ["lanxfer/0"], ["lanxfer/999"], ["LANXFER/1"], [1, None]]
    )
    def test_no_version_in_common(self, speaks: list[Any]) -> None:
        """Without a version in common it ends, and says what is spoken here."""
        # covers: H07
        dialogue = Dialogue()
        dialogue.say(say(Do(1, "hello", {"speaks": speaks}), Do(2, "ping")))
        assert answers(dialogue) == {1: "unsupported-version"}
        [refused] = heard(dialogue)
        assert isinstance(refused, Failed)
        assert "lanxfer/1" in refused.reason
        assert closed(dialogue)

    @pytest.mark.parametrize(
        ("args", "field"),
        [
            ({"path": 5, "size": 5}, "path"),
            ({"path": "a", "size": "5"}, "size"),
            ({"path": "a", "size": True}, "size"),
            ({"path": "a"}, "size"),
            ({"path": "a", "size": 0, "kind": "socket"}, "kind"),
            ({"path": "a", "size": 5, "kind": "folder"}, "size"),
            ({"path": "a", "size": 0, "kind": "link"}, "target"),
            ({"path": "a", "size": 0, "target": "b"}, "target"),
            ({"path": "a", "size": 0, "kind": "message"}, "size"),
            ({"path": "a", "size": 5, "blake3": "AF" * 32}, "blake3"),
            ({"path": "a", "size": 5, "conflict": "destroy"}, "conflict"),
            ({"path": "a", "size": 5, "executable": 1}, "executable"),
        ],
    )
    def test_contradictions(self, args: dict[str, Any], field: str) -> None:
        """Fields that make no sense end it before any file is touched."""
        # covers: H13, J02, S05
        dialogue = hello()
        dialogue.say(say(Do(2, "recv_file", args), Do(3, "ping")))
        assert answers(dialogue) == {2: "bad-header"}
        store = dialogue.pair.there.store
        assert (store.files, store._parts, store.folders) == ({}, {}, set())
        assert closed(dialogue)

    @pytest.mark.parametrize("text", ["a\0b", "\x1b[31mred", "%s%n{0.__class__}" * 200, "x" * 3000])
    @pytest.mark.parametrize("field", ["path", "group", "request", "conflict", "kind", "target"])
    def test_odd_texts(self, field: str, text: str) -> None:
        """Odd text in any field is refused with a type or kept as it is, never more."""
        # covers: H14, R07
        dialogue = hello()
        args = {"path": "a", "size": 1, "blake3": digest(b"x"), field: text}
        dialogue.say(say(Do(2, "recv_file", args, 1), b"x"))
        code = answers(dialogue)[2]
        assert code in ("ok", "bad-name", "bad-header")
        for snapshot in dialogue.pair.there.told:
            assert snapshot.path.isprintable()

    @given(st.lists(st.one_of(PACKETS, st.binary(max_size=30)), max_size=12), st.booleans())
    @settings(max_examples=100)
    def test_any_packets(self, packets: list[Packet | bytes], greeted: bool) -> None:
        """Whatever packets come in whatever order, every word in return is a typed one."""
        # covers: H05, J05
        dialogue = hello() if greeted else Dialogue()
        for packet in packets:
            body = min(packet.body, 100) if not isinstance(packet, bytes) else 0
            dialogue.say(say(packet), b"x" * body)
        for found in heard(dialogue):
            assert not (isinstance(found, Failed) and found.code == "internal")
        dialogue.wire.cut_off()
        dialogue.pump()
        assert closed(dialogue)
        assert len(dialogue.pair.there.registry) == 0
        assert dialogue.pair.disk.waiting == 0

    @given(st.binary(max_size=200))
    @settings(max_examples=100)
    def test_any_bytes(self, stream: bytes) -> None:
        """Any bytes after hello are answered with types, and leave nothing behind."""
        dialogue = hello()
        dialogue.say(stream)
        assert all(code != "internal" for code in answers(dialogue).values())


class ReachTests:
    @pytest.mark.parametrize("standing", Standing)
    @pytest.mark.parametrize("name", [name for name in COMMANDS if name != "hello"])
    def test_walk(self, standing: Standing, name: str) -> None:
        """No command runs for whom it is not there, and not one byte of its body is kept."""
        # covers: A01, A14, J20, L04
        called: list[tuple[str, bytes | None]] = []

        async def note(call: Call, node: Node) -> Reply:
            called.append((call.name, call.data))
            return Reply()

        table: dict[str, Command] = dict.fromkeys(COMMANDS, note)
        pair = Pair(principal=Principal(standing, "x", "x"), commands=table)
        dialogue = Dialogue(pair)
        dialogue.say(say(HELLO, Do(2, name, {}, 4), b"body", Do(3, name)))
        if standing is Standing.STRANGER:
            assert answers(dialogue) == {1: "not-paired"}
            assert closed(dialogue)
        elif standing in UNKNOWN and name not in MAY[standing]:
            # The refusal ends the connection, so there is no second one.
            assert answers(dialogue)[2] == "not-paired" and closed(dialogue)
            assert name not in [each for each, _ in called]
        elif name in MAY[standing]:
            assert called[-2:] == [(name, b"body"), (name, None)]
        else:
            found = answers(dialogue)
            assert (found[2], found[3]) == ("forbidden", "forbidden")
            assert name not in [each for each, _ in called]

    @pytest.mark.parametrize("mine", [True, False])
    @pytest.mark.parametrize("verb", ["cancel_request", "pause", "resume"])
    def test_others_transfers(self, verb: str, mine: bool) -> None:
        """What is another's is not there, with the same words as what never was."""
        # covers: L01, L02, C07
        pair = Pair()
        theirs = hello(pair)
        theirs.say(say(large(2, "film", 9)))
        pair.principal = pair.principal if mine else Principal(Standing.PEER, "peer:b", "b")
        dialogue = hello(pair)
        dialogue.say(say(Do(2, verb, {"id": "00000001"}), Do(3, verb, {"id": "00000009"})))
        dialogue.say(say(Do(4, "pending_requests"), Do(5, "history")))
        assert answers(dialogue)[2] == ("ok" if mine else "not-found")
        assert answers(dialogue)[3] == "not-found"
        if not mine:
            two, three = heard(dialogue)[:2]
            assert isinstance(two, Failed) and isinstance(three, Failed)
            assert two.reason.replace("00000001", "") == three.reason.replace("00000009", "")
            assert [each.args["rows"] for each in heard(dialogue)[2:] if isinstance(each, Ok)] == [
                0,
                0,
            ]
            theirs.say(say(Part(2, 0, 9), b"x" * 9, end(2, b"x" * 9)))
            assert answers(theirs) == {2: "ok"}

    @pytest.mark.parametrize("standing", [Standing.LOCAL, Standing.PEER, Standing.USER])
    def test_queue_of_the_owner(self, standing: Standing) -> None:
        """What waits in the owner's queue is given up for the owner, and for nobody else."""
        # covers: L01
        asked: list[str] = []

        async def unqueued(id: str) -> bool:
            asked.append(id)
            return id == "queued01"

        pair = Pair()
        pair.there.unqueued = unqueued
        pair.principal = Principal(standing, "x", "x")
        dialogue = hello(pair)
        ids = {2: "queued01", 3: "queued02"}
        dialogue.say(*(say(Do(number, "cancel_request", {"id": id})) for number, id in ids.items()))
        owner = standing is Standing.LOCAL
        assert answers(dialogue) == {2: "ok" if owner else "not-found", 3: "not-found"}
        assert asked == (["queued01", "queued02"] if owner else [])

    def test_watching_others(self) -> None:
        """Who watches hears nothing of what is another's."""
        # covers: L02
        pair = Pair()
        pair.principal = Principal(Standing.PEER, "peer:b", "b")
        watcher = hello(pair)
        watcher.say(say(Do(2, "watch")))
        pair.result(pair.send("secret", b"x"))
        watcher.pump()
        assert heard(watcher) == []


class CancelTests:
    @pytest.mark.parametrize("steps", range(12))
    @pytest.mark.parametrize("side", ["sender", "receiver"])
    def test_anywhere(self, steps: int, side: str) -> None:
        """Cancelled after any step there is one verdict, the same on both sides and on disk."""
        # covers: C06, C07
        pair = Pair(held=True)
        pair.pump()
        source = MemorySource(FILM)
        registry = pair.here.registry
        transfer = registry.open(Direction.OUT, Kind.FILE, "peer:there", "film", len(FILM))
        exchange = pair.client.ask(
            "recv_file", {"path": "film", "size": len(FILM), "mtime_ns": MTIME}
        )
        transfer.on_cancel = exchange.cancel

        async def send() -> Answer:
            go = await exchange.going()
            offset = source.prove(go.have)
            with suppress(LanxferError):
                await exchange.send_body(pair.disk, source, offset, lambda done: None)
            return await exchange.answered()

        outcome: list[Any] = []
        Deferred.fromCoroutine(send()).addBoth(outcome.append)
        for _ in range(steps):
            pair.pump()
            pair.disk.work(1)
        pair.pump()
        if side == "sender":
            transfer.cancel(Cancelled("enough"))
            transfer.cancel(Cancelled("enough"))
        else:
            for each in pair.there.registry.pending():
                pair.there.registry.cancel(each.id)
                pair.there.registry.cancel(each.id)
        pair.pump()
        while pair.disk.work():
            pair.pump()
        [found] = outcome
        [told] = pair.there.registry.finished()
        if isinstance(found, Answer):
            assert told.state is State.DONE
            assert pair.there.store.files == {"film": FILM}
        else:
            assert found.check(Cancelled)
            assert told.state is State.CANCELLED
            assert pair.there.store.files == {}
        assert pair.there.store._parts == {}
        assert pair.there.store._open == set()
        assert not pair.client.gone

    def test_deferred(self) -> None:
        """Cancelling the Deferred of a send gives it up on both sides."""
        # covers: C06
        pair = Pair(held=True)
        sent = pair.send("film", FILM)
        for _ in range(3):
            pair.pump()
            pair.disk.work(1)
        sent.addErrback(lambda why: why.trap(Cancelled, CancelledError))
        sent.cancel()
        pair.pump()
        while pair.disk.work():
            pair.pump()
        [told] = pair.there.registry.finished()
        assert told.state is State.CANCELLED
        assert pair.there.store._parts == {}

    def test_source_changed(self) -> None:
        """A file that changes while it is sent is not stored, and both sides know why."""
        # covers: S10
        pair = Pair(held=True)
        source = MemorySource(FILM)
        sent = pair.send("film", source)
        outcome: list[Any] = []
        sent.addBoth(outcome.append)
        pair.pump()
        pair.disk.work(2)
        source.data = FILM[::-1]
        pair.pump()
        while pair.disk.work():
            pair.pump()
        assert outcome[0].check(SourceChanged)
        [told] = pair.there.registry.finished()
        assert told.code == "source-changed"
        assert (pair.there.store.files, pair.there.store._parts) == ({}, {})

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_small_file(self, when: str) -> None:
        """A cancel that comes while a small file is being stored does not un-store it."""
        # covers: C06
        dialogue = hello()
        dialogue.say(file(2, "before", b""), file(3, "it", b"y"))
        dialogue.pair.disk.held = True
        dialogue.say(file(4, "a", b"x"))
        if when == "after":
            dialogue.pair.disk.work()
        dialogue.say(say(Cancel(4), Cancel(4)))
        while dialogue.pair.disk.work():
            dialogue.pump()
        assert answers(dialogue) == {2: "ok", 3: "ok", 4: "ok"}
        assert dialogue.pair.there.store.files == {"before": b"", "it": b"y", "a": b"x"}
        assert dialogue.pair.there.told[-1].state is State.DONE

    def test_by_command(self) -> None:
        """A peer may cancel its own transfer by id, twice, and after it is done."""
        # covers: C07, L01
        dialogue = hello()
        ask = {"id": "00000001"}
        dialogue.say(say(large(2, "film", 9)))
        dialogue.say(*(say(Do(id, "cancel_request", ask)) for id in (3, 4)))
        assert answers(dialogue) == {2: "cancelled", 3: "ok", 4: "ok"}
        last = heard(dialogue)[-1]
        assert last == Ok(4, {"state": "cancelled"})

    def test_long_reason(self) -> None:
        """A reason that quotes whatever was asked for is short enough to be read."""
        # covers: H12, L01
        pair = Pair()
        asked = pair.client.ask("cancel_request", {"rt_id": "x" * 60_000})
        with pytest.raises(NotFound):
            pair.result(asked.answered())
        assert pair.result(pair.client.ask("ping", {}).answered())


class ApplicationTests:
    def pair(self, **more: Any) -> Pair:
        async def echo(call: Call, node: Node) -> Reply:
            call.tell({"n": 1})
            return Reply({"size": len(call.data or b""), **call.args})

        async def broken(call: Call, node: Node) -> Reply:
            raise ValueError("/a/secret/path")

        async def unsayable(call: Call, node: Node) -> Reply:
            return Reply({"x": 1.5})

        async def rows(call: Call, node: Node) -> Reply:
            return Reply({}, rows=[{"x": object()}])

        async def refused(call: Call, node: Node) -> Reply:
            raise TooLarge("caf\udce9 " + "x" * 5000)

        commands: dict[str, Command] = {
            "app.echo": echo,
            "app.broken": broken,
            "app.unsayable": unsayable,
            "app.rows": rows,
            "app.refused": refused,
        }
        return Pair(commands=commands, **more)

    def ask(self, pair: Pair, name: str, *args: Any, **more: Any) -> Any:
        return pair.result(pair.client.ask(name, *args, **more).answered())

    def test_own_commands(self) -> None:
        """An application's command gets fields and body, tells, and answers."""
        pair = self.pair()
        events: list[Any] = []
        answer = self.ask(pair, "app.echo", {"x": [1, "☃"]}, b"hello", on_event=events.append)
        assert answer.args == {"size": 5, "x": [1, "☃"]}
        assert events == [{"n": 1}]

    @pytest.mark.parametrize("size", [5, 100_000, limits.UNIT, limits.UNIT + 1, 3 * limits.MIB])
    def test_large_bodies(self, size: int) -> None:
        """A body is a string of bytes, or looked at where it lies until it is answered."""
        seen: list[bytes] = []
        views: list[memoryview] = []

        async def data(call: Call, node: Node) -> Reply:
            assert isinstance(call.data, bytes) and call.pieces(0, [size]) == [[call.data]]
            assert call.body_size == size
            seen.append(call.data)
            return Reply({}, body=call.data)

        async def view(call: Call, node: Node) -> Reply:
            assert call.body_size == size
            (pieces,) = call.pieces(0, [size])
            views.append(pieces[-1])
            seen.append(b"".join(pieces))
            return Reply()

        pair = Pair(commands={"app.data": data, "app.view": view})
        for name in ("app.view", "app.view", "app.data"):
            body = random.Random(len(seen)).randbytes(size)
            answer = self.ask(pair, name, {}, body)
            assert seen[-1] == body
            assert answer.body == (body if name == "app.data" else b"")
        # What is large enough is read to where the first one lay.
        assert (views[0] != seen[0][-len(views[0]) :]) == (size >= 100_000)

    # covers: H08
    def test_body_breaks_off(self) -> None:
        """Memory that a body had when its connection broke is free for others at once."""
        pair = Pair(commands={})
        taken = [pair.disk.units.take() for _ in range(11)]
        assert not pair.disk.units.scarce
        pair.wire.a.write(say(Do(2, "recv_files", {"files": 1, "manifest": 5}, 300_000)))
        pair.wire.a.write(b"x" * 200_000)
        pair.pump()
        assert pair.disk.units.scarce and len(taken) == 11
        pair.wire.a.abortConnection()
        pair.pump()
        assert not pair.disk.units.scarce

    @pytest.mark.parametrize("name", ["app.broken", "app.unsayable", "app.rows"])
    def test_bugs(self, name: str, logged: list[str]) -> None:
        """A bug in a command is an internal error without its text, logged in full."""
        pair = self.pair()
        with pytest.raises(LanxferError) as caught:
            self.ask(pair, name, {})
        assert caught.value.code == "internal"
        assert "secret" not in caught.value.reason
        assert len(logged) == 1
        assert "Traceback" in logged.pop()
        assert self.ask(pair, "app.echo", {}).args == {"size": 0}

    def test_reason_of_any_length(self) -> None:
        """A refusal arrives whatever its reason quotes."""
        pair = self.pair()
        with pytest.raises(TooLarge, match="caf"):
            self.ask(pair, "app.refused", {})
        assert self.ask(pair, "app.echo", {}).args == {"size": 0}

    def test_unsayable_request(self) -> None:
        """A request that cannot be said is refused here, and the next one is as good as any."""
        pair = self.pair()
        with pytest.raises(ValueError):
            pair.client.ask("app.echo", {"x": 1.5})
        with pytest.raises(TooLarge):
            self.ask(pair, "app.echo", {}, b"x" * (limits.ANSWER_BODY_MAX + 1))
        assert self.ask(pair, "app.echo", {}, b"x" * limits.ANSWER_BODY_MAX)

    def test_many_at_once(self) -> None:
        """More than 256 requests at once are refused on this side, and the connection lives."""
        # covers: J08
        pair = self.pair()
        waiting = [pair.client.ask("watch", {}) for _ in range(300)]
        outcome: list[Any] = []
        for each in waiting:
            each.answered().addErrback(outcome.append)
        pair.pump()
        assert len(outcome) == 300 - (limits.OPEN_EXCHANGES - 1)
        assert {why.value.code for why in outcome} == {"overloaded"}
        assert not pair.client.gone


AE = Principal(Standing.LEGACY, "legacy:10.0.0.2", "10.0.0.2", secure=False)
BEARER = Principal(Standing.TICKET, "ticket:10.0.0.2", "10.0.0.2", secure=False)
REQUEST = (
    b"{'method_name': 'recv_file', 'file_path': '{cwd}/data.bin', 'total_bytes': 300,"
    b" 'rt_id': 'r1', 'local_ip': '10.0.0.2'}\n"
)


class OtherDialectsTests:
    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("trailing", [b"", b"more", REQUEST])
    @pytest.mark.parametrize("held", [False, True])
    def test_literal_file(self, cut: str, trailing: bytes, held: bool) -> None:
        """A file in the literal dialect: accept line, body, final line, whatever comes behind."""
        # covers: H09, J07, S04
        pair = Pair(cut=CUTS[cut], held=held, principal=AE)
        dialogue = Dialogue(pair, LiteralSession())
        dialogue.say(REQUEST, LETTERS, trailing)
        while pair.disk.work():
            dialogue.pump()
        accepted, final = dialogue.raw.received.splitlines()
        assert accepted.endswith(b"'local_ip': '10.0.0.2', 'transferred_bytes': 0}")
        assert final.endswith(b"'local_ip': '10.0.0.2', 'transferred_bytes': 300}")
        assert closed(dialogue)
        assert pair.there.store.files == {"data.bin": LETTERS}

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("sent", [0, 1, 299])
    def test_literal_cut_short(self, cut: str, sent: int) -> None:
        """A body that ends early is answered with an error, and continued from its length."""
        # covers: S03, B05
        pair = Pair(cut=CUTS[cut], principal=AE)
        dialogue = Dialogue(pair, LiteralSession())
        dialogue.say(REQUEST, LETTERS[:sent])
        dialogue.wire.a.loseWriteConnection()
        dialogue.pump()
        assert b"'error'" in dialogue.raw.received.splitlines()[-1]
        assert closed(dialogue)
        assert pair.there.store.files == {}
        again = Dialogue(pair, LiteralSession())
        again.say(REQUEST, LETTERS[sent:])
        accepted, final = again.raw.received.splitlines()
        assert accepted.endswith(b"'transferred_bytes': %d}" % sent)
        assert b"error" not in final
        assert pair.there.store.files == {"data.bin": LETTERS}

    @pytest.mark.parametrize("cut", CUTS)
    def test_literal_lines(self, cut: str) -> None:
        """Every other request is one line each way; what is not allowed is an error."""
        # covers: J20, J21
        pair = Pair(cut=CUTS[cut], principal=AE)
        for line, wanted in (
            (b"{'method_name': 'pending_requests', 'rt_id': 'p'}", b"'pending_requests': []"),
            (b"{'method_name': 'cancel_request', 'rt_id_to_cancel': 'x'}", b"'error'"),
            (b"{'method_name': 'send_file', 'file_path': 'x', 'remote_ip': 'y'}", b"forbidden"),
            (b"{'method_name': 'open'}", b"'error'"),
            (b"{'method_name': 'recv_file', 'file_path': '../x', 'total_bytes': 1}", b"'error'"),
            (b"[" * 8000, b"'error'"),
        ):
            dialogue = Dialogue(pair, LiteralSession())
            dialogue.say(line, b"\n")
            assert dialogue.raw.received.count(b"\n") == 1
            assert wanted in dialogue.raw.received
            assert closed(dialogue)

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("trailing", [b"", b"more"])
    @pytest.mark.parametrize("held", [False, True])
    def test_ticket(self, cut: str, trailing: bytes, held: bool) -> None:
        """A ticket's line, its bytes, and one line in return."""
        # covers: H09, J19
        pair = Pair(cut=CUTS[cut], held=held, principal=BEARER)
        slot = pair.there.offer_slot("photo.jpg", 5, 60)
        done: list[str] = []
        dialogue = Dialogue(pair, TicketSession())
        dialogue.say(slot.line, b"hello", trailing)
        while pair.disk.work():
            dialogue.pump()
        assert dialogue.raw.received == f"ok 5 3610a686 {digest(b'hello')}\n".encode()
        assert closed(dialogue)
        assert pair.there.store.files == {"photo.jpg": b"hello"}
        slot.done.addCallback(lambda stored: stored.path).addCallback(done.append)
        assert done == ["photo.jpg"]

    def test_ticket_cut_short(self) -> None:
        """An upload that is cut short leaves nothing, and the ticket is used up."""
        # covers: S03, J19
        pair = Pair(principal=BEARER)
        slot = pair.there.offer_slot("photo.jpg", 5, 60)
        slot.done.addErrback(lambda why: why.trap(ShortBody))
        dialogue = Dialogue(pair, TicketSession())
        dialogue.say(slot.line, b"hell")
        dialogue.wire.a.loseWriteConnection()
        dialogue.pump()
        assert dialogue.raw.received.startswith(b"error short-body")
        store = pair.there.store
        assert (store.files, store._parts) == ({}, {})
        again = Dialogue(pair, TicketSession())
        again.say(slot.line, b"hello")
        assert again.raw.received.startswith(b"error forbidden ")

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("dialect", ["literal", "ticket"])
    def test_both_ends(self, cut: str, dialect: str) -> None:
        """Our own client of each dialect gets a file across to our own server of it."""
        pair = Pair(cut=CUTS[cut])
        slot = pair.there.offer_slot("data.bin", len(FILM), 60)
        peer = Principal(Standing.STRANGER, "there", "there", secure=False)
        if dialect == "literal":
            sessions: tuple[Session, Session] = LiteralSession(server=False), LiteralSession()
            name, args = "recv_file", {"path": "data.bin", "size": len(FILM)}
            pair.principal = AE
        else:
            sessions = TicketSession(server=False), TicketSession()
            name = "recv_slot"
            args = {"session": slot.session, "file": slot.file, "size": len(FILM)}
            pair.principal = BEARER
        client = pair.end(pair.here, peer, sessions[0])
        pair.wired(client, pair.end(pair.there, pair.principal, sessions[1]))
        exchange = client.ask(name, args)

        async def send() -> Answer:
            await exchange.going()
            await exchange.send_body(pair.disk, MemorySource(FILM), 0, lambda done: None)
            return await exchange.answered()

        outcome: list[Any] = []
        Deferred.fromCoroutine(send()).addBoth(outcome.append)
        pump(pair.clock, *pair.wires)
        assert isinstance(outcome[0], Answer)
        assert outcome[0].args["size"] == len(FILM)
        assert pair.there.store.files == {"data.bin": FILM}
