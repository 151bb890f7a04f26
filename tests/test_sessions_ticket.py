"""The ticket conversation, both roles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.errors import (
    BadHeader,
    Expired,
    Forbidden,
    HeaderTooLong,
    LanxferError,
    NotFound,
    TlsRequired,
)
from lanxfer.sessions import Session
from lanxfer.sessions.ticket import TicketSession
from lanxfer.wire import limits
from lanxfer.wire.packets import Cancel, Do, End, Event, Failed, Go, Ok, Packet, Part, Window
from lanxfer.wire.ticket import ANSWER_MAX

ONE = "2f1e7a0c-5b1d-4c7e-9a77-0123456789ab"
TWO = "9b0d44f1-0000-4fff-8abc-fedcba987654"
ARGS = {"session": ONE, "file": TWO, "size": 5}
LINE = f"{ONE} {TWO} 5".encode()
CRC = "3610a686"
DIGEST = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
GOOD = f"ok 5 {CRC} {DIGEST}".encode()
REFUSAL = b"error forbidden That ticket is not good here.\n"


def asked(size: int = 5) -> TicketSession:
    session = TicketSession()
    do = session.receive(f"{ONE} {TWO} {size}".encode())
    assert do == Do(1, "recv_slot", {**ARGS, "size": size})
    return session


class ServerTests:
    def test_face(self) -> None:
        """The session has the face the protocol needs."""
        session: Session = TicketSession()
        assert session.line_limit == limits.HEADER_TICKET

    @pytest.mark.parametrize("size", [0, 1, 5, limits.NUMBER_MAX])
    def test_good(self, size: int) -> None:
        """A ticket, the bytes, one line."""
        # covers: S1-01
        session = asked(size)
        assert session.implied() is None
        assert session.send(Go(1, 8, ((0, ""),), {"transfer": "x"})) == b""
        if size:
            assert session.implied() == Part(1, 0, size)
            with pytest.raises(ValueError):
                session.send(Ok(1, {"crc32": CRC, "blake3": DIGEST}))
        assert session.implied() == End(1, size, None)
        assert session.implied() is None
        assert session.send(Window(1, 5)) == session.send(Event(1)) == b""
        answer = session.send(Ok(1, {"stored": "a", "crc32": CRC, "blake3": DIGEST}))
        assert answer == f"ok {size} {CRC} {DIGEST}\n".encode()
        assert session.finished
        assert not session.half_close
        assert session.receive(LINE) is None
        assert session.send(Ok(1)) == session.complaint(BadHeader()) == b""

    def test_no_resume(self) -> None:
        """An upload begins at 0 in this dialect, whatever is held."""
        # covers: S1-08
        with pytest.raises(ValueError):
            asked().send(Go(1, 5, ((3, ""),)))
        assert asked().send(Go(1, 5)) == b""

    @pytest.mark.parametrize("held", [0, 3])
    def test_resume(self, held: int) -> None:
        """Who asks for it hears what is held, and sends the rest; both roles agree."""
        # covers: S1-08
        client, server = TicketSession(server=False), TicketSession()
        ask = client.ask("recv_slot", {**ARGS, "resume": True})
        line = client.send(ask)
        assert line == LINE + b" resume\n"
        assert client.implied() is None
        assert server.receive(line.rstrip()) == Do(1, "recv_slot", {**ARGS, "resume": True})
        have = server.send(Go(1, 8, ((held, ""),)))
        assert have == f"have {held}\n".encode()
        assert server.implied() == Part(1, held, 5 - held)
        assert client.receive(have.rstrip()) == Go(1, 5, ((held, ""),))
        assert client.send(Part(1, held, 5 - held)) == b""
        assert client.send(End(1, 5, None)) == b""
        assert client.receive(GOOD) == Ok(1, {"size": 5, "crc32": CRC, "blake3": DIGEST})

    @pytest.mark.parametrize("line", [b"have 6", b"have -1", b"have", GOOD])
    def test_resume_nonsense(self, line: bytes) -> None:
        """More than there is, and an answer before anything was sent, are no answers."""
        client = TicketSession(server=False)
        client.send(client.ask("recv_slot", {**ARGS, "resume": True}))
        with pytest.raises(BadHeader):
            client.receive(line)

    @pytest.mark.parametrize("code", ["short-body", "digest-mismatch", "disk-full"])
    @pytest.mark.parametrize("going", [False, True])
    def test_refused(self, code: str, going: bool) -> None:
        """A failure is one line wherever the body is."""
        session = asked()
        if going:
            session.send(Go(1, 5))
            session.implied()
        assert session.send(Failed(1, code, "Why ü not?")) == f"error {code} Why ? not?\n".encode()
        assert session.finished
        assert session.implied() is None

    def test_one_text_for_all(self) -> None:
        """Whatever is wrong with a ticket, its bearer hears the same."""
        # covers: J19 S1-03
        reasons = ("Used.", "Expired.", "")
        said = {asked().send(Failed(1, "forbidden", reason)) for reason in reasons}
        for line in (LINE.upper(), b"{" + LINE + b"}", b"urn:uuid:" + LINE, b"x", b"", b"a" * 999):
            session = TicketSession()
            with pytest.raises(LanxferError) as caught:
                session.receive(line)
            assert session.finished
            said.add(session.complaint(caught.value))
            assert session.complaint(caught.value) == b""
        said.add(TicketSession().complaint(HeaderTooLong()))
        said.add(TicketSession().complaint(Forbidden("Not from there.")))
        assert said == {REFUSAL}

    def test_other_complaints(self) -> None:
        """What has nothing to do with the ticket keeps its code."""
        assert TicketSession().complaint(TlsRequired()).startswith(b"error tls-required This ")
        assert TicketSession().complaint(RuntimeError("secret")).startswith(b"error internal ")
        assert b"secret" not in TicketSession().complaint(RuntimeError("secret"))

    @pytest.mark.parametrize(
        "packet", [Do(1, "x"), Part(1, 0, 5), End(1, 5, None), Cancel(1), Ok(1, {"crc32": CRC})]
    )
    def test_what_a_server_cannot_say(self, packet: Packet) -> None:
        """What has no place here is a ValueError."""
        with pytest.raises(ValueError):
            asked().send(packet)

    def test_incomplete_answer(self) -> None:
        """A good answer needs both sums, and there is still a bad one to give."""
        session = asked()
        session.send(Go(1, 5))
        while session.implied():
            pass
        with pytest.raises(ValueError):
            session.send(Ok(1, {"blake3": DIGEST}))
        assert session.send(Failed(1, "internal", "")) == b"error internal\n"

    def test_nothing_was_asked(self) -> None:
        """Without a ticket there is no answer, and a server never asks."""
        for packet in (Go(1, 5), Ok(1), Failed(1, "exists")):
            with pytest.raises(ValueError):
                TicketSession().send(packet)
        with pytest.raises(ValueError):
            TicketSession().ask("recv_slot", ARGS)
        assert asked().lost() is None

    def test_every_truncation(self) -> None:
        """A line cut short anywhere is refused."""
        for at in range(len(LINE) - 1):
            with pytest.raises(BadHeader):
                TicketSession().receive(LINE[:at])

    @settings(max_examples=100)
    @given(st.lists(st.binary(max_size=90) | st.just(LINE), max_size=4))
    def test_garbage(self, lines: list[bytes]) -> None:
        """Whatever comes, there is at most one upload or one error, and then silence."""
        session = TicketSession()
        heard: list[Packet | bytes | None] = []
        for line in lines:
            try:
                heard.append(session.receive(line))
            except LanxferError as error:
                heard.append(session.complaint(error))
        assert not any(heard[1:])


def going() -> TicketSession:
    client = TicketSession(server=False)
    assert client.send(client.ask("recv_slot", ARGS)) == LINE + b"\n"
    assert client.implied() == Go(1, 5, ((0, ""),))
    assert client.implied() is None
    return client


def sent() -> TicketSession:
    client = going()
    assert client.send(Part(1, 0, 2)) == client.send(Part(1, 2, 3)) == b""
    assert client.send(End(1, 5, DIGEST)) == b""
    return client


STEPS: list[Callable[[], TicketSession]] = [going, sent]


class ClientTests:
    def test_good(self) -> None:
        """The answer to a whole upload is its receipt."""
        client = sent()
        assert client.line_limit == ANSWER_MAX
        assert not client.half_close
        assert client.receive(GOOD) == Ok(1, {"size": 5, "crc32": CRC, "blake3": DIGEST})
        assert client.finished
        assert client.lost() is None
        assert client.receive(GOOD) is None
        assert client.send(Cancel(1)) == b""

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("error", [NotFound, Expired, LanxferError])
    def test_refused(self, step: Callable[[], TicketSession], error: type[LanxferError]) -> None:
        """An error counts wherever it comes."""
        client = step()
        failed = client.receive(f"error {error.code} Sorry.".encode())
        assert failed == Failed(1, error.code, "Sorry.", error.retry)
        assert client.finished
        assert client.send(Part(1, 0, 5)) == b""  # what was under way comes to nothing

    def test_unknown_code(self) -> None:
        """An error without a text, or with an unknown code, is an error."""
        failed = sent().receive(b"error no-such-code")
        assert isinstance(failed, Failed)
        assert (failed.code, failed.retry) == ("no-such-code", False)
        assert failed.reason

    def test_early_ok(self) -> None:
        """A good answer never completes what was not all sent."""
        # covers: J13
        client = going()
        client.send(Part(1, 0, 4))
        with pytest.raises(BadHeader):
            client.receive(GOOD)
        assert client.finished
        assert client.complaint(BadHeader()) == b""

    def test_ok_that_crosses_our_end(self) -> None:
        """A receiver that is faster than our own end is believed once that was said."""
        client = going()
        client.send(Part(1, 0, 5))
        assert client.receive(GOOD) is None
        assert client.implied() is None
        assert not client.finished
        client.send(End(1, 5, None))
        assert isinstance(client.implied(), Ok)
        assert client.finished

    @pytest.mark.parametrize("line", [GOOD.replace(b"5", b"6", 1), b"", b"OK", b"\xff", LINE])
    def test_nonsense(self, line: bytes) -> None:
        """An answer about something else, or none at all, is refused."""
        client = sent()
        with pytest.raises(BadHeader):
            client.receive(line)
        assert client.finished
        assert client.lost() is None

    def test_lost(self) -> None:
        """Without an answer it is unconfirmed once all was sent, lost before."""
        codes = []
        for step in STEPS:
            failed = step().lost()
            assert failed is not None
            codes.append(failed.code)
        assert codes == ["connection-lost", "unconfirmed"]
        assert TicketSession(server=False).lost() is None

    @pytest.mark.parametrize("step", STEPS)
    def test_cancel(self, step: Callable[[], TicketSession]) -> None:
        """Giving up says nothing and ends it with the reason we had."""
        client = step()
        assert client.send(Cancel(1, "Enough.", "source-changed")) == b""
        assert client.implied() == Failed(1, "source-changed", "Enough.", retry=True)
        assert client.finished

    @pytest.mark.parametrize(
        "packet", [Part(1, 1, 4), Part(1, 0, 6), End(1, 5, None), Go(1, 5), Ok(1), Do(1, "x")]
    )
    def test_what_a_client_cannot_say(self, packet: Packet) -> None:
        """Parts follow one another, and the end comes after all of them."""
        with pytest.raises(ValueError):
            going().send(packet)

    def test_one_ticket(self) -> None:
        """One connection, one ticket, and nothing else."""
        client = going()
        with pytest.raises(ValueError):
            client.ask("recv_slot", ARGS)
        with pytest.raises(ValueError):
            TicketSession(server=False).ask("recv_file", ARGS)
        with pytest.raises(BadHeader):
            TicketSession(server=False).receive(GOOD)

    @settings(max_examples=100)
    @given(
        st.sampled_from(STEPS),
        st.lists(st.binary(max_size=90) | st.sampled_from([GOOD, b"error busy x"]), max_size=4),
    )
    def test_garbage(self, step: Callable[[], TicketSession], lines: list[bytes]) -> None:
        """Whatever comes there is at most one verdict, and after it silence."""
        client = step()
        verdicts = 0
        for line in lines:
            try:
                packet = client.receive(line)
            except LanxferError:
                packet = None
                verdicts += 1
            verdicts += isinstance(packet, Ok | Failed)
            assert not (isinstance(packet, Ok) and step is going)
        assert verdicts <= 1
        assert client.finished is bool(verdicts)


class BothTests:
    @settings(max_examples=50)
    @given(st.uuids().map(str), st.uuids().map(str), st.integers(0, limits.NUMBER_MAX))
    def test_an_upload(self, one: str, two: str, size: int) -> None:
        """Our client and our server agree on any ticket and size."""
        client, session = TicketSession(server=False), TicketSession()
        args = {"session": one, "file": two, "size": size}
        do = session.receive(client.send(client.ask("recv_slot", args))[:-1])
        assert isinstance(do, Do)
        assert dict(do.args) == args
        assert isinstance(client.implied(), Go)
        session.send(Go(1, 1))
        while (packet := session.implied()) is not None:
            assert client.send(packet) == b""
        answer = session.send(Ok(1, {"crc32": CRC, "blake3": DIGEST}))
        assert isinstance(client.receive(answer[:-1]), Ok)
        assert client.finished
        assert session.finished
