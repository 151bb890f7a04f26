"""The line that a body in clear begins with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.errors import BadHeader
from lanxfer.wire.clear import format_pour, parse_pour
from lanxfer.wire.dialects import Dialect, sniff

TICKET = "0123456789abcdef" * 2


class PourTests:
    @given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 2**63 - 1))
    def test_round_trip(self, ticket: str, offset: int) -> None:
        """What is written is read as that, and as no other dialect, however it is cut."""
        line = format_pour(ticket, offset)
        assert parse_pour(line[:-1]) == (ticket, offset)
        known = [sniff(line[:at]) for at in range(len(line))]
        assert known[:5] == [None] * 5 and set(known[5:]) == {Dialect.CLEAR}

    @given(st.binary(max_size=100))
    def test_anything(self, line: bytes) -> None:
        """Whatever else there is has one word for it."""
        try:
            ticket, offset = parse_pour(line)
        except BadHeader as error:
            assert error.reason == "That is no ticket for a body."
        else:
            assert format_pour(ticket, offset) == line + b"\n"

    @pytest.mark.parametrize(
        "line",
        [
            f"pour {TICKET} 00",
            f"pour {TICKET} -1",
            f"pour {TICKET} 9223372036854775808",
            f"pour {TICKET.upper()} 0",
            f"pour {TICKET}  0",
            f"pour {TICKET} 0 ",
            f"pour {TICKET} \uff11",
            f"POUR {TICKET} 0",
        ],
    )
    def test_nearly(self, line: str) -> None:
        """There is one spelling."""
        with pytest.raises(BadHeader):
            parse_pour(line.encode())

    def test_not_said(self) -> None:
        """What cannot be read is not written."""
        with pytest.raises(ValueError, match="32 hex digits"):
            format_pour("abc", 0)
