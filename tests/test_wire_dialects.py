"""Telling the dialects apart by their first bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.wire.dialects import VERBS, Dialect, sniff
from lanxfer.wire.native import _PARSERS

TICKET = b"2f1e7a0c-5b1d-4c7e-9a77-0123456789ab 9b0d44f1-0000-4fff-8abc-fedcba987654 5\n"

FIRST: list[tuple[bytes, Dialect]] = [
    (b"\x16\x03\x01\x02\x00\x01", Dialect.TLS),
    (b'{"do": 1, "name": "hello"}\n', Dialect.NATIVE),
    (b'{"bye": "all"}\n', Dialect.NATIVE),
    (b'{"error": 0, "code": "internal"}\n', Dialect.NATIVE),
    (b"{'method_name': 'recv_file'}\n", Dialect.LITERAL),
    (b'{"method_name": "recv_file"}\n', Dialect.LITERAL),
    (b'{"Do": 1}\n', Dialect.LITERAL),
    (b'{"": 1}\n', Dialect.LITERAL),
    (b'{"\\u0064o": 1}\n', Dialect.LITERAL),
    (b'{"' + b"d" * 100, Dialect.LITERAL),
    (b'{"\xff": 1}', Dialect.LITERAL),
    (TICKET, Dialect.TICKET),
    (b"0", Dialect.TICKET),
    (b"f", Dialect.TICKET),
    (b"9b0d44f1", Dialect.TICKET),
    (b"GET / HTTP/1.1\r\n", Dialect.NONE),
    (b"POST / HTTP/1.1\r\n", Dialect.NONE),
    (b"OPTIONS * HTTP/1.1\r\n", Dialect.NONE),
    (b"PRI * HTTP/2.0\r\n\r\n", Dialect.NONE),
    (b"SSH-2.0-OpenSSH_9.6\r\n", Dialect.NONE),
    (b"\x16\x02\x01", Dialect.NONE),
    (b"\x16GET /", Dialect.NONE),
    (b"\x15\x03\x01", Dialect.NONE),
    (b"\n", Dialect.NONE),
    (b"\r\n", Dialect.NONE),
    (b" {", Dialect.NONE),
    (b'\xef\xbb\xbf{"do"', Dialect.NONE),
    (b"{ 'method_name'", Dialect.NONE),
    (b"{}", Dialect.NONE),
    (b"{do: 1}", Dialect.NONE),
    (b"[", Dialect.NONE),
    (b"A", Dialect.NONE),
    (b"g", Dialect.NONE),
    (b"-", Dialect.NONE),
    (b"\0", Dialect.NONE),
]


class SniffTests:
    @pytest.mark.parametrize(("first", "dialect"), FIRST)
    def test_table(self, first: bytes, dialect: Dialect) -> None:
        """The first bytes tell the dialect, as the document says."""
        # covers: H08, J06
        assert sniff(first) is dialect

    @pytest.mark.parametrize("begun", [b"", b"{", b"\x16", b'{"', b'{"d', b'{"do', b'{"method_nam'])
    def test_open(self, begun: bytes) -> None:
        """What may still become one thing or another is not decided yet."""
        # covers: J06
        assert sniff(begun) is None

    @pytest.mark.parametrize(("first", "dialect"), FIRST)
    def test_never_a_second_guess(self, first: bytes, dialect: Dialect) -> None:
        """Once decided, no later byte changes the answer; and it is decided within 40 bytes."""
        # covers: J06, J07, H09
        answers = [sniff(first[:size]) for size in range(len(first) + 1)]
        decided = next(index for index, answer in enumerate(answers) if answer is not None)
        assert set(answers[decided:]) == {dialect}
        assert decided <= 40

    @given(st.binary(min_size=0, max_size=60), st.binary(max_size=20))
    @settings(max_examples=200)
    def test_total(self, first: bytes, more: bytes) -> None:
        """Any bytes have an answer that more bytes do not change."""
        # covers: J06
        found = sniff(first)
        if found is not None:
            assert sniff(first + more) is found
        elif len(first) >= 40:
            raise AssertionError("still open after 40 bytes")

    @given(st.text('do"{\\x', max_size=50))
    @settings(max_examples=200)
    def test_decided_within_forty(self, text: str) -> None:
        """However long the first key, there is a decision within 40 bytes."""
        # covers: J06
        assert sniff((b'{"' + text.encode()).ljust(40, b"d")[:40]) is not None

    def test_verbs(self) -> None:
        """The verbs by which the dialect is told are those the grammar has."""
        assert set(_PARSERS) == VERBS
