"""The conversation of the native dialect: what may be said when, by either side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.errors import (
    BadHeader,
    BadName,
    BadOffset,
    LanxferError,
    Overloaded,
    TooLarge,
    UnknownCommand,
)
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet, parse_packet, parse_rows
from lanxfer.wire.packets import (
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
    Window,
)
from tests.test_wire_native import PACKETS

DIGEST = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
FILE = {"path": "film.mkv", "size": 100}
HAVE = ((40, DIGEST), (20, "af" * 32))


def line(packet: Packet) -> bytes:
    return format_packet(packet)[:-1]


def greeted() -> NativeSession:
    session = NativeSession(known=True)
    session.receive(line(Do(1, "hello", {"speaks": ["lanxfer/1"]})))
    session.send(Ok(1))
    return session


def connected() -> NativeSession:
    """The asking side, its hello answered."""
    session = NativeSession(known=True)
    session.send(session.ask("hello", {}))
    session.receive(line(Ok(1)))
    return session


# Sessions in which exchange 2 is at a certain point.


def theirs_asked() -> NativeSession:
    session = greeted()
    session.receive(line(Do(2, "recv_file", FILE)))
    return session


def theirs_going() -> NativeSession:
    session = theirs_asked()
    session.send(Go(2, 50, HAVE))
    return session


def theirs_ended() -> NativeSession:
    session = theirs_going()
    session.receive(line(Part(2, 0, 50)))
    session.receive(line(End(2, 100, DIGEST)))
    return session


def theirs_answered() -> NativeSession:
    session = theirs_going()
    session.send(Failed(2, "disk-full"))
    session._late_packets = 0  # what had crossed the answer is over
    session._late_bytes = 0
    return session


def theirs_short() -> NativeSession:
    """Exchange 2 is a request that nothing streams for."""
    session = greeted()
    session.receive(line(Do(2, "ping")))
    return session


def ours_asked() -> NativeSession:
    session = connected()
    session.send(session.ask("recv_file", FILE))
    return session


def ours_going() -> NativeSession:
    session = ours_asked()
    session.receive(line(Go(2, 50, HAVE)))
    return session


def ours_ended() -> NativeSession:
    session = ours_going()
    session.send(Part(2, 40, 50))
    session.send(End(2, 100, DIGEST))
    return session


def ours_answered() -> NativeSession:
    session = ours_ended()
    session.receive(line(Ok(2)))
    return session


def ours_short() -> NativeSession:
    session = connected()
    session.send(session.ask("ping", {}))
    return session


THEIRS: list[Callable[[], NativeSession]] = [
    greeted,
    theirs_asked,
    theirs_going,
    theirs_ended,
    theirs_answered,
    theirs_short,
]
OURS: list[Callable[[], NativeSession]] = [
    connected,
    ours_asked,
    ours_going,
    ours_ended,
    ours_answered,
    ours_short,
]

# What each packet means in each of these: it is taken, let pass as a stray, dropped with
# its body, refused for this exchange, or the end of the connection.
TAKE, PASS, DROP, REFUSE, END = "take", "pass", "drop", "refuse", "end"

HEARD: dict[str, tuple[Packet, list[str], list[str]]] = {
    "do": (Do(3, "ping"), [TAKE] * 6, [END] * 6),
    "do again": (Do(2, "ping"), [TAKE] + [END] * 5, [END] * 6),
    "hello": (Do(3, "hello"), [END] * 6, [TAKE] * 6),
    "part": (Part(2, 0, 5), [END, END, TAKE, END, DROP, END], [END] * 6),
    "part of resume": (Part(2, 40, 5), [END, END, TAKE, END, DROP, END], [END] * 6),
    "part elsewhere": (Part(2, 7, 5), [END, END, REFUSE, END, DROP, END], [END] * 6),
    "part beyond": (Part(2, 40, 61), [END, END, REFUSE, END, DROP, END], [END] * 6),
    "part over credit": (Part(2, 0, 51), [END, END, REFUSE, END, DROP, END], [END] * 6),
    "end": (End(2, 100, DIGEST), [END, END, TAKE, END, PASS, END], [END] * 6),
    "end of another size": (End(2, 99, DIGEST), [END, END, END, END, PASS, END], [END] * 6),
    "cancel": (Cancel(2), [END, TAKE, TAKE, TAKE, PASS, TAKE], [END] * 6),
    "go": (Go(2, 5), [PASS] * 6, [PASS, TAKE, PASS, PASS, PASS, PASS]),
    "go with more": (Go(2, 5, HAVE), [PASS] * 6, [PASS, TAKE, PASS, PASS, PASS, PASS]),
    "go unordered": (Go(2, 5, HAVE[::-1]), [PASS] * 6, [PASS, END, PASS, PASS, PASS, PASS]),
    "go twice": (Go(2, 5, HAVE[:1] * 2), [PASS] * 6, [PASS, END, PASS, PASS, PASS, PASS]),
    "go beyond": (Go(2, 5, ((101, DIGEST),)), [PASS] * 6, [PASS, END, PASS, PASS, PASS, PASS]),
    "window": (Window(2, 5), [PASS] * 6, [PASS, PASS, TAKE, TAKE, PASS, PASS]),
    "event": (Event(2), [PASS] * 6, [PASS, TAKE, TAKE, TAKE, PASS, TAKE]),
    "ok": (Ok(2), [PASS] * 6, [PASS, END, END, TAKE, PASS, TAKE]),
    "ok with body": (Ok(2, {}, 9), [DROP] * 6, [DROP, END, END, TAKE, DROP, TAKE]),
    "error": (Failed(2, "busy"), [PASS] * 6, [PASS, TAKE, TAKE, TAKE, PASS, TAKE]),
    "error of all": (Failed(0, "busy"), [TAKE] * 6, [TAKE] * 6),
    "bye": (Bye(all=False), [TAKE] * 6, [TAKE] * 6),
    "bye to all": (Bye(all=True), [TAKE] * 6, [TAKE] * 6),
}

SAID: dict[str, tuple[Packet, list[bool], list[bool]]] = {
    "ok": (Ok(2), [False, False, False, True, False, True], [False] * 6),
    "list": (Ok(2, rows=({},)), [False, False, False, True, False, True], [False] * 6),
    "error": (Failed(2, "busy"), [False, True, True, True, False, True], [False] * 6),
    "go": (Go(2, 9), [False, True, False, False, False, False], [False] * 6),
    "window": (Window(2, 9), [False, False, True, False, False, False], [False] * 6),
    "event": (Event(2), [False, True, True, True, False, True], [False] * 6),
    "do": (Do(3, "ping"), [True] * 6, [True] * 6),
    "do again": (Do(2, "ping"), [True] * 6, [True] + [False] * 5),
    "part": (Part(2, 0, 5), [False] * 6, [False, False, True, False, False, False]),
    "part elsewhere": (Part(2, 7, 5), [False] * 6, [False] * 6),
    "part over credit": (Part(2, 0, 51), [False] * 6, [False] * 6),
    "part beyond": (Part(2, 40, 61), [False] * 6, [False] * 6),
    "end": (End(2, 100, DIGEST), [False] * 6, [False, False, True, False, False, False]),
    "bye": (Bye(all=False), [True] * 6, [True] * 6),
}


def heard(session: NativeSession, packet: Packet) -> str:
    try:
        found = session.receive(line(packet))
    except BadHeader:
        assert session.finished
        return END
    assert session.finished is (packet == Bye(all=True))
    if found is None:
        return PASS
    if isinstance(found, Drop):
        assert found.body == packet.body
        return DROP if found.error is None else REFUSE
    assert found == packet
    return TAKE


class TableTests:
    @pytest.mark.parametrize("what", HEARD)
    def test_heard(self, what: str) -> None:
        """Every packet has an answer at every point of an exchange, theirs or ours."""
        # covers: J09, J10, J11, J12, J13, S06, H13
        packet, theirs, ours = HEARD[what]
        assert [heard(make(), packet) for make in THEIRS] == theirs
        assert [heard(make(), packet) for make in OURS] == ours

    @pytest.mark.parametrize("what", SAID)
    def test_said(self, what: str) -> None:
        """What this side may not say now is refused before a byte of it is made."""
        packet, theirs, ours = SAID[what]
        for makers, table in ((THEIRS, theirs), (OURS, ours)):
            for make, right in zip(makers, table, strict=True):
                session = make()
                if right:
                    assert session.send(packet)
                else:
                    with pytest.raises(ValueError):
                        session.send(packet)

    def test_face(self) -> None:
        """The session has the face that the protocol needs."""
        session: Session = NativeSession()
        assert (session.finished, session.half_close) == (False, False)
        assert session.implied() is None
        assert session.lost() is None

    def test_refusals_differ(self) -> None:
        """A part in the wrong place and one beyond the credit are told apart."""
        # covers: J10
        found = theirs_going().receive(line(Part(2, 7, 5)))
        assert isinstance(found, Drop)
        assert isinstance(found.error, BadOffset)
        found = theirs_going().receive(line(Part(2, 0, 51)))
        assert isinstance(found, Drop)
        assert isinstance(found.error, Overloaded)


class GreetingTests:
    def test_hello_first(self) -> None:
        """A conversation begins with hello, and has only one."""
        # covers: J18
        assert heard(NativeSession(), Do(1, "ping")) == END
        assert heard(NativeSession(), Do(1, "hello")) == TAKE
        assert heard(greeted(), Do(2, "hello")) == END

    def test_nobody_waits_for_hello(self) -> None:
        """What follows hello may come before its answer."""
        session = NativeSession()
        session.receive(line(Do(1, "hello")))
        assert heard(session, Do(2, "ping")) == TAKE

    def test_line_limit(self) -> None:
        """Lines are short until the other side is known."""
        # covers: H01
        session = NativeSession()
        assert session.line_limit == limits.HEADER_STRANGER
        session.known = True
        assert session.line_limit == limits.HEADER_KNOWN


class MalformedTests:
    @pytest.mark.parametrize("typed", [b"", b"help", b"GET / HTTP/1.1", b"hello?"])
    def test_three_tries(self, typed: bytes) -> None:
        """Somebody typing may try twice more; the third time it is over."""
        # covers: H02
        session = NativeSession()
        for attempt in range(limits.MALFORMED_LINES):
            assert not session.finished
            with pytest.raises(BadHeader):
                session.receive(typed)
            assert session.finished is (attempt == limits.MALFORMED_LINES - 1)

    @pytest.mark.parametrize("count", [0, 1, 2])
    def test_second_thoughts(self, count: int) -> None:
        """A good line after a bad one or two is as good as ever."""
        session = NativeSession()
        for _ in range(count):
            with pytest.raises(BadHeader):
                session.receive(b"")
        assert heard(session, Do(1, "hello")) == TAKE

    @pytest.mark.parametrize(
        "begun",
        [
            b'{"do": 1, "name": "hello", "body": 30, "body": 30}',
            b'{"do": 1, "name": "hello", "x": 1.5, "body": 30}',
            b'{"later": 1, "body": 30}',
            b'{"do": 1',
        ],
    )
    def test_no_second_try_with_a_body(self, begun: bytes) -> None:
        """A refused line that may have announced a body is the last: the body is no header."""
        # covers: H10, J23
        session = NativeSession()
        with pytest.raises((BadHeader, UnknownCommand)):
            session.receive(begun)
        assert session.finished
        with pytest.raises(BadHeader):
            session.receive(line(Do(1, "hello")))

    @pytest.mark.parametrize("make", [greeted, connected, ours_asked, theirs_going])
    def test_no_second_try_later(self, make: Callable[[], NativeSession]) -> None:
        """Once anything was asked by either side, the first bad line is the last."""
        # covers: H10
        session = make()
        with pytest.raises(BadHeader):
            session.receive(b"")
        assert session.finished


class DeadTests:
    @given(st.lists(PACKETS, max_size=8), st.binary(max_size=30))
    @settings(max_examples=50)
    def test_nothing_after_the_end(self, packets: list[Packet], garbage: bytes) -> None:
        """After an error that ended it, nothing on that connection is anything but an error."""
        # covers: T06, J07
        session = greeted()
        with pytest.raises(BadHeader):
            session.receive(b"")
        for said in [*map(line, packets), garbage]:
            with pytest.raises(BadHeader):
                session.receive(said)
        assert session.finished

    @pytest.mark.parametrize("packet", [Do(3, "ping"), Bye(all=True), Part(2, 0, 5), Ok(2, {}, 5)])
    def test_nothing_after_bye(self, packet: Packet) -> None:
        """Bye to all means nothing more whatever, but what was asked may still be answered."""
        # covers: J17
        session = theirs_going()
        assert heard(session, Bye(all=True)) == TAKE
        with pytest.raises(BadHeader):
            session.receive(line(packet))
        assert session.send(Failed(2, "short-body"))


class NumberTests:
    @pytest.mark.parametrize("id", [1, 2, 4, 5])
    def test_rising(self, id: int) -> None:
        """Numbers of requests rise, gaps allowed; used or lower ones end the connection."""
        # covers: J08
        session = greeted()
        session.receive(line(Do(4, "ping")))
        assert heard(session, Do(id, "ping")) == (TAKE if id > 4 else END)

    def test_highest(self) -> None:
        """After the highest number there is is none."""
        # covers: J08
        session = greeted()
        assert heard(session, Do(limits.NUMBER_MAX, "ping")) == TAKE
        assert heard(session, Do(limits.NUMBER_MAX, "ping")) == END

    def test_many_open(self) -> None:
        """The 257th open request is refused by itself, and an answer makes room again."""
        # covers: J08
        session = greeted()
        for id in range(2, 2 + limits.OPEN_EXCHANGES):
            assert heard(session, Do(id, "ping")) == TAKE
        for id in range(1000, 3000):
            refused = session.receive(line(Do(id, "ping", {}, 7)))
            assert isinstance(refused, Drop)
            assert isinstance(refused.error, Overloaded)
            assert (refused.id, refused.body) == (id, 7)
            assert session.send(Failed(id, "overloaded"))
        assert len(session._theirs) == limits.OPEN_EXCHANGES
        assert not session._refused
        session.send(Ok(2))
        assert heard(session, Do(5000, "ping")) == TAKE

    def test_we_keep_to_it(self) -> None:
        """This side opens no more than 256 either, and says so to whoever asks."""
        session = connected()
        assert session.room == limits.OPEN_EXCHANGES
        for _ in range(limits.OPEN_EXCHANGES):
            session.send(session.ask("ping", {}))
        assert session.room == 0
        with pytest.raises(Overloaded):
            session.send(session.ask("ping", {}))
        session.receive(line(Ok(2)))
        assert session.send(session.ask("ping", {}))

    @pytest.mark.parametrize("answer", [Ok(2), Failed(2, "busy"), Ok(2, rows=())])
    @pytest.mark.parametrize("again", [Ok(2), Failed(2, "busy"), Ok(2, rows=())])
    def test_one_answer(self, answer: Packet, again: Packet) -> None:
        """A request has one answer, which no second one follows."""
        session = theirs_short()
        session.send(answer)
        with pytest.raises(ValueError):
            session.send(again)


class InlineTests:
    @pytest.mark.parametrize(
        ("name", "most"),
        [("recv_file", limits.INLINE_MAX), ("recv_message", limits.MESSAGE_MAX)],
    )
    def test_too_large(self, name: str, most: int) -> None:
        """More than may travel with a request is refused before it is read, and dropped."""
        # covers: S09, S01
        assert heard(greeted(), Do(2, name, {"size": most}, most)) == TAKE
        session = greeted()
        found = session.receive(line(Do(2, name, {"size": most + 1}, most + 1)))
        assert isinstance(found, Drop)
        assert isinstance(found.error, TooLarge)
        assert found.body == most + 1
        assert session.send(Failed(2, "too-large"))

    @pytest.mark.parametrize(
        "args",
        [
            {"path": "x", "size": 0},
            {"path": "x", "size": 5, "kind": "folder"},
            {"path": "x", "size": "5"},
            {"path": "x", "size": True},
            {"path": "x"},
        ],
    )
    def test_no_stream(self, args: dict[str, Any]) -> None:
        """What has no bytes, or is no file, never takes a part."""
        # covers: S02, H13
        session = greeted()
        session.receive(line(Do(2, "recv_file", args)))
        with pytest.raises(ValueError):
            session.send(Go(2, 5))
        assert heard(session, Part(2, 0, 5)) == END

    @pytest.mark.parametrize("kind", [{}, {"kind": "file"}, {"kind": None}, {"kind": ""}])
    def test_stream(self, kind: dict[str, Any]) -> None:
        """A file is a file whether that is said or not."""
        session = greeted()
        session.receive(line(Do(2, "recv_file", {**FILE, **kind})))
        assert session.send(Go(2, 5))


class CreditTests:
    def test_exact(self) -> None:
        """The credit may be used to the last byte, and not one beyond."""
        session = theirs_going()
        assert heard(session, Part(2, 0, 50)) == TAKE
        assert heard(session, Part(2, 50, 1)) == REFUSE
        session.send(Window(2, 2))
        assert heard(session, Part(2, 50, 2)) == TAKE
        assert heard(session, Part(2, 52, 1)) == REFUSE

    def test_ours(self) -> None:
        """What was granted is what may be sent."""
        session = ours_going()
        assert session.credit(2) == 50
        session.send(Part(2, 20, 50))
        assert session.credit(2) == 0
        with pytest.raises(ValueError):
            session.send(Part(2, 70, 1))
        session.receive(line(Window(2, 7)))
        assert session.credit(2) == 7
        assert session.credit(99) == 0

    def test_huge_grants(self) -> None:
        """Grants beyond all numbers add up to a large number, no more."""
        # covers: J18
        session = ours_going()
        for _ in range(5):
            session.receive(line(Window(2, limits.NUMBER_MAX)))
        assert session.credit(2) == limits.NUMBER_MAX

    def test_grants_that_cross_the_end(self) -> None:
        """A receiver that grants after our end was sent does nothing wrong, however often."""
        session = connected()
        for id in range(2, 100):
            session.send(session.ask("recv_file", FILE))
            session.receive(line(Go(id, 100)))
            session.send(Part(id, 0, 100))
            session.send(End(id, 100, DIGEST))
            for _ in range(3):
                assert heard(session, Window(id, 30)) == TAKE
            session.receive(line(Ok(id)))

    @given(st.lists(st.tuples(st.sampled_from("pw"), st.integers(1, 40)), max_size=30))
    @settings(max_examples=100)
    def test_never_exceeded(self, steps: list[tuple[str, int]]) -> None:
        """Whatever comes, no more bytes are taken than were granted, and without a gap."""
        session = theirs_going()
        granted, taken = 50, 0
        for step, size in steps:
            if step == "w":
                session.send(Window(2, size))
                granted += size
            elif heard(session, Part(2, taken, size)) == TAKE:
                taken += size
            else:
                assert taken + size > min(granted, 100)
            assert taken <= min(granted, 100)


class StartTests:
    @pytest.mark.parametrize("start", [0, 20, 40])
    def test_named(self, start: int) -> None:
        """A file begins at 0 or where the receiver said, and goes on without gaps."""
        # covers: S06
        session = theirs_going()
        assert heard(session, Part(2, start, 10)) == TAKE
        assert heard(session, Part(2, start + 10, 10)) == TAKE
        assert heard(session, Part(2, start + 10, 10)) == REFUSE
        assert heard(session, Part(2, start, 10)) == REFUSE

    @pytest.mark.parametrize("start", [1, 19, 21, 60, 100, limits.NUMBER_MAX])
    def test_elsewhere(self, start: int) -> None:
        """Anywhere else is a bad offset, numbers that would overflow included."""
        # covers: S06, J10
        found = theirs_going().receive(line(Part(2, start, 10)))
        assert isinstance(found, Drop)
        assert isinstance(found.error, BadOffset)

    def test_all_there(self) -> None:
        """A file that is there already ends without a part."""
        session = theirs_asked()
        session.send(Go(2, 50, ((100, DIGEST),)))
        assert heard(session, End(2, 100, DIGEST)) == TAKE
        session = ours_asked()
        session.receive(line(Go(2, 50, ((100, DIGEST),))))
        assert session.send(End(2, 100, DIGEST))
        assert heard(session, Ok(2, {"already": True})) == TAKE


class LateTests:
    def test_parts_on_the_way(self) -> None:
        """Parts that crossed a refusal are dropped, as many as the credit allowed."""
        # covers: J09
        session = greeted()
        session.receive(line(Do(2, "recv_file", {"path": "x", "size": 1000})))
        session.send(Go(2, 500))
        session.send(Failed(2, "disk-full"))
        for at in range(500):
            assert heard(session, Part(2, at, 1)) == DROP
        assert heard(session, End(2, 1000, DIGEST)) == PASS

    def test_no_more_than_that(self) -> None:
        """Beyond the credit a few more are let pass, and then it is over."""
        # covers: J09
        session = theirs_going()
        session.send(Failed(2, "disk-full"))
        for _ in range(limits.STRAY_PACKETS):
            assert heard(session, Part(2, 0, 51)) == DROP
        assert heard(session, Part(2, 0, 51)) == END

    def test_many_cancels_at_once(self) -> None:
        """Two hundred requests may be answered and cancelled at the same moment."""
        # covers: C06, C07
        session = greeted()
        for id in range(2, 202):
            session.receive(line(Do(id, "recv_file", FILE)))
        for id in range(2, 202):
            session.send(Failed(id, "disk-full"))
        for id in range(2, 202):
            assert heard(session, Cancel(id)) == PASS

    def test_cancel_twice(self) -> None:
        """A second cancel is as good as the first, and one after the answer is late."""
        # covers: C07
        session = theirs_going()
        assert heard(session, Cancel(2)) == TAKE
        assert heard(session, Cancel(2)) == TAKE
        session.send(Failed(2, "cancelled"))
        assert heard(session, Cancel(2)) == PASS

    @pytest.mark.parametrize(
        "packet", [Ok(9), Ok(9, {}, 5), Failed(9, "busy"), Event(9), Window(9, 5), Go(9, 5)]
    )
    @pytest.mark.parametrize("make", [connected, ours_going, greeted])
    def test_strays_are_counted(self, make: Callable[[], NativeSession], packet: Packet) -> None:
        """Answers to questions never asked are ignored at first; then the connection ends."""
        # covers: J13
        session = make()
        for _ in range(limits.STRAY_PACKETS):
            assert heard(session, packet) in (PASS, DROP)
        assert heard(session, packet) == END

    def test_bye_a_thousand_times(self) -> None:
        """Saying bye again and again is a stray like others."""
        # covers: J17
        session = greeted()
        found = [heard(session, Bye(all=False)) for _ in range(limits.STRAY_PACKETS + 1)]
        assert found == [TAKE] + [PASS] * limits.STRAY_PACKETS
        assert heard(session, Bye(all=False)) == END

    def test_cancel_of_what_is_answered(self) -> None:
        """A cancel after the answer came is not said at all."""
        # covers: C07
        assert ours_answered().send(Cancel(2)) == b""


class ByeTests:
    def test_no_request_after_it(self) -> None:
        """Who said bye asks nothing more, but answers and is answered."""
        # covers: J17
        session = theirs_going()
        session.receive(line(Bye(all=False)))
        assert heard(session, Part(2, 0, 5)) == TAKE
        assert heard(session, Do(3, "ping")) == END

    def test_we_keep_to_it(self) -> None:
        """After our bye this side asks nothing."""
        session = connected()
        session.send(Bye(all=False))
        assert session.room == 0
        with pytest.raises(ValueError):
            session.send(session.ask("ping", {}))

    def test_quiet(self) -> None:
        """When both have said bye and all is answered, it is quiet."""
        # covers: J17
        session = theirs_going()
        session.send(Do(1, "hello"))
        steps: list[Callable[[], object]] = [
            lambda: session.receive(line(Bye(all=False))),
            lambda: session.send(Bye(all=False)),
            lambda: session.send(Failed(2, "busy")),
            lambda: session.receive(line(Ok(1))),
        ]
        for step in steps:
            assert not session.quiet
            step()
        assert session.quiet


class WritingTests:
    @pytest.mark.parametrize("args", [{"x": 1.5}, {"x": b""}, {"do": 1}, {"x": "a" * 100_000}])
    def test_nothing_left_behind(self, args: dict[str, Any]) -> None:
        """What cannot be said leaves no trace: the next request has its number."""
        session = connected()
        with pytest.raises(ValueError):
            session.send(session.ask("ping", args))
        assert session.room == limits.OPEN_EXCHANGES
        assert session.ask("ping", {}).id == 2

    def test_name_that_is_no_text(self) -> None:
        """A file whose name no line can carry is refused with a reason for people."""
        session = connected()
        with pytest.raises(BadName):
            session.send(session.ask("recv_file", {"path": "caf\udce9", "size": 1}))

    def test_too_much_for_a_request(self) -> None:
        """More bytes than any request may carry are refused on this side."""
        session = connected()
        with pytest.raises(TooLarge):
            session.send(session.ask("app.put", {}, limits.ANSWER_BODY_MAX + 1))

    @pytest.mark.parametrize("answer", [Ok(2, {"x": 0.5}), Ok(2, rows=({"x": 0.5},))])
    def test_answer_that_cannot_be_said(self, answer: Packet) -> None:
        """After an answer that could not be written there is room for another."""
        session = theirs_short()
        with pytest.raises(ValueError):
            session.send(answer)
        assert session.send(Failed(2, "internal"))

    def test_list(self) -> None:
        """A list travels as rows in the body, and its length in the header."""
        rows = tuple({"id": str(n), "done": n} for n in range(5))
        said = theirs_short().send(Ok(2, {"total": 9}, rows=rows))
        head, _, body = said.partition(b"\n")
        assert parse_packet(head) == Ok(2, {"total": 9, "rows": 5}, len(body))
        assert parse_rows(body) == list(rows)

    def test_long_list(self) -> None:
        """Of a list that no answer can carry the beginning is sent, never too much."""
        # covers: L09
        rows = tuple({"text": "\N{SNOWMAN}" * 10_000} for _ in range(100))
        said = theirs_short().send(Ok(2, {}, rows=rows))
        head, _, body = said.partition(b"\n")
        packet = parse_packet(head)
        assert isinstance(packet, Ok)
        assert packet.body == len(body) <= limits.ANSWER_BODY_MAX
        assert packet.args["rows"] == len(parse_rows(body)) == limits.ANSWER_BODY_MAX // 60_013

    @pytest.mark.parametrize(
        ("error", "code"),
        [(BadHeader("x"), "bad-header"), (ValueError("secret"), "internal")],
    )
    def test_complaint(self, error: Exception, code: str) -> None:
        """The last word of a connection is an error with the number 0, without foreign text."""
        packet = parse_packet(NativeSession().complaint(error)[:-1])
        assert isinstance(packet, Failed)
        assert (packet.id, packet.code) == (0, code)
        assert "secret" not in packet.reason


class AnySequenceTests:
    @given(st.lists(st.one_of(PACKETS.map(line), st.binary(max_size=20)), max_size=20))
    @settings(max_examples=100)
    def test_any_lines(self, lines: list[bytes]) -> None:
        """No sequence of lines does anything but mean something or be refused with a type."""
        for make in (NativeSession, theirs_going, ours_going):
            session = make()
            for each in lines:
                dead = session.finished
                try:
                    found = session.receive(each)
                except LanxferError:
                    assert session.finished or not (dead or each.startswith(b"{"))
                    continue
                assert not dead
                assert found is None or found.body >= 0

    @given(st.data())
    @settings(max_examples=100)
    def test_any_conversation(self, data: st.DataObject) -> None:
        """Two sessions that say whatever they may never find fault with one another."""
        asker, answerer = NativeSession(known=True), NativeSession(known=True)
        answerer.receive(asker.send(asker.ask("hello", {}))[:-1])
        asker.receive(answerer.send(Ok(1))[:-1])
        for _ in range(data.draw(st.integers(0, 30))):
            one, other = data.draw(st.sampled_from([(asker, answerer), (answerer, asker)]))
            id = data.draw(st.integers(1, 6))
            name = "recv_file" if one is asker else "ping" if other.greeted else "hello"
            packets: list[Packet] = [
                Do(one._last_ours + 1, name, FILE),
                Ok(id),
                Failed(id, "busy"),
                Go(id, 30, HAVE),
                Window(id, 30),
                Part(id, data.draw(st.integers(0, 10)) * 10, 10),
                End(id, 100, DIGEST),
                Cancel(id),
                Event(id),
            ]
            packet = data.draw(st.sampled_from(packets))
            try:
                said = one.send(packet)
            except ValueError:
                continue
            if said:
                assert not isinstance(other.receive(said[:-1]), LanxferError)
                assert not other.finished
