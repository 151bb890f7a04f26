"""The ticket dialect's two lines."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.errors import BadHeader, HeaderTooLong, LanxferError
from lanxfer.wire import limits
from lanxfer.wire.ticket import (
    ANSWER_MAX,
    NOT_GOOD,
    Received,
    Refused,
    Ticket,
    format_answer,
    format_ticket,
    looks_like_ticket,
    parse_answer,
    parse_ticket,
)

ONE = "2f1e7a0c-5b1d-4c7e-9a77-0123456789ab"
TWO = "9b0d44f1-0000-4fff-8abc-fedcba987654"
LINE = f"{ONE} {TWO} 5".encode()
CRC = "3610a686"
DIGEST = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"

TICKETS = st.builds(
    Ticket, st.uuids().map(str), st.uuids().map(str), st.integers(0, limits.NUMBER_MAX)
)


class TicketTests:
    @settings(max_examples=50)
    @given(TICKETS)
    def test_round_trip(self, ticket: Ticket) -> None:
        """What is written is read back, and looks like what it is."""
        line = format_ticket(ticket)
        assert line.endswith(b"\n")
        assert parse_ticket(line[:-1]) == ticket
        assert looks_like_ticket(line) is True

    def test_read(self) -> None:
        """Two ids and a size."""
        assert parse_ticket(LINE) == Ticket(ONE, TWO, 5)

    @pytest.mark.parametrize(
        "line",
        [
            LINE.upper(), f"{{{ONE}}} {TWO} 5".encode(), f"urn:uuid:{ONE} {TWO} 5".encode(),
            f"{ONE.replace('-', '')} {TWO} 5".encode(), f"{ONE} {UUID(TWO).hex} 5".encode(),
            f"{ONE[:-1]} {TWO} 5".encode(), f"{ONE}0 {TWO} 5".encode(), f"{ONE} 5".encode(),
            f"{ONE}  {TWO} 5".encode(), f"{ONE}\t{TWO} 5".encode(), f" {ONE} {TWO} 5".encode(),
            f"{ONE} {TWO} 5 ".encode(), f"{ONE} {TWO} 5\r".encode(), f"{ONE} {TWO} 5\n".encode(),
            f"{ONE} {TWO} 5 6".encode(), f"{ONE} {TWO}".encode(), b"", b"\xff",
            f"{ONE} {TWO} \u0665".encode(), f"{'g' * 8}{ONE[8:]} {TWO} 5".encode(),
        ],
    )  # fmt: skip
    def test_one_spelling(self, line: bytes) -> None:
        """Every other spelling is refused with the one sentence."""
        # covers: J19
        with pytest.raises(BadHeader) as caught:
            parse_ticket(line)
        assert caught.value.reason == NOT_GOOD

    @pytest.mark.parametrize(
        "size",
        ["-1", "+7", "007", "1_000", "0x10", "1e3", "", "5.0", "9223372036854775808", "1" * 20],
    )
    def test_sizes(self, size: str) -> None:
        """A size is a plain number below 2**63."""
        # covers: H06
        with pytest.raises(BadHeader):
            parse_ticket(f"{ONE} {TWO} {size}".encode())

    def test_too_long(self) -> None:
        """A line that no ticket fills is too long."""
        with pytest.raises(HeaderTooLong):
            parse_ticket(b"a" * (limits.HEADER_TICKET + 1))

    @pytest.mark.parametrize(
        "ticket", [Ticket("x", TWO, 5), Ticket(ONE, TWO.upper(), 5), Ticket(ONE, TWO, -1)]
    )
    def test_not_written(self, ticket: Ticket) -> None:
        """A ticket that nobody could read is never written."""
        with pytest.raises(ValueError):
            format_ticket(ticket)

    @settings(max_examples=200)
    @given(st.binary(max_size=100) | st.tuples(st.integers(0, 80), st.binary(max_size=3)).map(
        lambda cut: LINE[: cut[0]] + cut[1] + LINE[cut[0] + 1 :]
    ))  # fmt: skip
    def test_any_bytes(self, line: bytes) -> None:
        """Any bytes are a ticket in its one spelling, or a typed error."""
        try:
            ticket = parse_ticket(line)
        except LanxferError:
            return
        assert format_ticket(ticket) == line + b"\n"


class LooksTests:
    # covers: J06

    def test_byte_by_byte(self) -> None:
        """Nothing is decided before the size begins, and then it is a ticket."""
        for at in range(len(LINE)):
            assert looks_like_ticket(LINE[:at]) is (None if at < 75 else True)

    def test_any_wrong_byte(self) -> None:
        """A byte out of place is seen as soon as it is there."""
        for at in range(75):
            for wrong in (b"\n", b"G", b"{", b"\x16", b"A"):
                assert looks_like_ticket(LINE[:at] + wrong) is False
                assert looks_like_ticket(LINE[:at] + wrong + LINE[at + 1 :]) is False


class AnswerTests:
    @pytest.mark.parametrize(
        ("answer", "line"),
        [
            (Received(5, CRC, DIGEST), f"ok 5 {CRC} {DIGEST}\n"),
            (Received(0, "00000000", DIGEST), f"ok 0 00000000 {DIGEST}\n"),
            (Refused("forbidden", "No."), "error forbidden No.\n"),
            (Refused("busy"), "error busy\n"),
        ],
    )
    def test_round_trip(self, answer: Received | Refused, line: str) -> None:
        """Both answers are written and read back."""
        assert format_answer(answer) == line.encode()
        assert parse_answer(line.encode()[:-1]) == answer

    @settings(max_examples=100)
    @given(st.text(max_size=600))
    def test_any_reason(self, reason: str) -> None:
        """A reason, whatever it is, becomes one short line that can be read."""
        line = format_answer(Refused("bad-name", reason))
        assert line.count(b"\n") == 1
        assert line.isascii()
        assert len(line) <= ANSWER_MAX + 1
        assert isinstance(parse_answer(line[:-1]), Refused)

    @pytest.mark.parametrize(
        "answer",
        [Received(5, "", DIGEST), Received(5, CRC.upper(), DIGEST), Received(5, CRC, ""),
         Received(-1, CRC, DIGEST)],
    )  # fmt: skip
    def test_not_written(self, answer: Received) -> None:
        """A good answer that lacks something is never written."""
        with pytest.raises(ValueError):
            format_answer(answer)

    @pytest.mark.parametrize(
        "line",
        ["", "ok", f"ok 5 {CRC}", f"ok 5 {CRC} {DIGEST} x", f"ok 05 {CRC} {DIGEST}", "error",
         f"ok 9999999999999999999 {CRC} {DIGEST}", f"OK 5 {CRC} {DIGEST}", "error Bad x",
         "error bad\x1b[2J", "maybe", "error ü"],
    )  # fmt: skip
    def test_refused(self, line: str) -> None:
        """Anything else is refused."""
        with pytest.raises(BadHeader):
            parse_answer(line.encode())

    def test_too_long(self) -> None:
        """An answer without end is too long."""
        with pytest.raises(HeaderTooLong):
            parse_answer(b"error x " + b"y" * ANSWER_MAX)

    @settings(max_examples=100)
    @given(st.binary(max_size=100))
    def test_any_bytes(self, line: bytes) -> None:
        """Any bytes are an answer or a typed error."""
        with suppress(LanxferError):
            assert isinstance(parse_answer(line), Received | Refused)
