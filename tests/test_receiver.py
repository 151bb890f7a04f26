"""Lines, and bodies of known length between them, however the stream is cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from lanxfer.receiver import PacketReceiver
from lanxfer.testing import bytewise, pieces, whole

LIMIT = 20


class Reader(PacketReceiver):
    """Takes a line that is a number for the announcement of so many bytes.

    ``at`` maps an event to what is done then, once.
    """

    line_limit = LIMIT

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.at: dict[Any, Any] = {}
        self._body = b""
        self.makeConnection(StringTransport())

    def note(self, event: Any) -> None:
        self.events.append(event)
        self.at.pop(event, lambda: None)()

    def lineReceived(self, line: bytes) -> None:
        if line.isdigit() and int(line):
            self._body = b""
            self.expect(int(line))
        self.note(line)

    def rawDataReceived(self, data: bytes) -> None:
        assert data
        self._body += data

    def bodyReceived(self) -> None:
        self.note((self._body,))

    def lineLengthExceeded(self, line: bytes) -> None:
        self.deaf = True
        self.note("too long")


def read(stream: bytes, cut: Iterable[bytes] | None = None) -> Reader:
    reader = Reader()
    for piece in cut or [stream]:
        reader.dataReceived(piece)
    return reader


CONVERSATION = b"hello\n5\nabcde3\r\nx\ny0\n\nlast\n"
EVENTS = [b"hello", b"5", (b"abcde",), b"3", (b"x\ny",), b"0", b"", b"last"]


class CuttingTests:
    @pytest.mark.parametrize("cut", [whole, bytewise, pieces(2), pieces(3, 1), pieces(1, 7)])
    @pytest.mark.parametrize("trailing", [b"", b"rest", b"9\nabc"])
    def test_any_cutting(self, cut: Any, trailing: bytes) -> None:
        """A stream means the same however it is cut, and what is unfinished waits."""
        # covers: H09
        reader = read(b"", cut(CONVERSATION + trailing))
        expected = [*EVENTS, b"9"] if trailing.startswith(b"9") else EVENTS
        assert reader.events == expected
        assert reader.expected == (6 if trailing.startswith(b"9") else 0)

    @pytest.mark.parametrize("at", range(len(CONVERSATION) + 1))
    def test_every_split(self, at: int) -> None:
        """Split at any one byte the result is the same."""
        # covers: H09
        assert read(b"", [CONVERSATION[:at], CONVERSATION[at:]]).events == EVENTS

    @given(st.binary(max_size=80), st.lists(st.integers(1, 30), min_size=1, max_size=10))
    @settings(max_examples=200)
    def test_any_bytes(self, stream: bytes, sizes: list[int]) -> None:
        """Any bytes in any cutting give what they give in one piece."""
        # covers: H09
        assert read(b"", pieces(*sizes)(stream)).events == read(stream).events


class LimitTests:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("cut", [whole, bytewise])
    def test_exactly(self, end: bytes, cut: Any) -> None:
        """A line may have as many bytes as the limit, its end not counted."""
        # covers: H01
        assert read(b"", cut(b"x" * LIMIT + end)).events == [b"x" * LIMIT]
        assert read(b"", cut(b"x" * (LIMIT + 1) + end)).events == ["too long"]

    @pytest.mark.parametrize("cut", [whole, bytewise, pieces(7)])
    def test_without_end(self, cut: Any) -> None:
        """A line without end is noticed at the limit, and no more of it is kept."""
        # covers: H01
        reader = Reader()
        most = 0
        for piece in cut(b"x" * 10_000):
            reader.dataReceived(piece)
            most = max(most, len(reader._buffer))
        assert reader.events == ["too long"]
        assert most <= LIMIT + 2

    def test_limit_may_change(self) -> None:
        """The limit is asked anew for every line."""
        reader = Reader()
        reader.at[b"more"] = lambda: setattr(reader, "line_limit", 50)
        reader.dataReceived(b"more\n" + b"x" * 50 + b"\n")
        assert reader.events == [b"more", b"x" * 50]

    def test_body_has_no_limit_of_lines(self) -> None:
        """A body is no line, however long and whatever is in it."""
        body = (b"x" * 99 + b"\n") * 10
        assert read(b"1000\n" + body).events == [b"1000", (body,)]


class LineEndTests:
    @pytest.mark.parametrize(
        "other", [b"\r", b"\n\r", b"\v", b"\f", b"\0", b"\x85", b"\xe2\x80\xa8"]
    )
    def test_only_lf(self, other: bytes) -> None:
        """Nothing but LF ends a line; one CR before it belongs to the end."""
        # covers: H03
        found = read(b"a" + other + b"b\r\n").events
        assert b"".join(found) == (b"a" + other + b"b").replace(b"\n", b"")
        assert len(found) == 1 + other.count(b"\n")

    def test_two_cr(self) -> None:
        """Only one CR is taken off."""
        # covers: H03
        assert read(b"a\r\r\n").events == [b"a\r"]


class Counted(bytes):
    """Counts how often it is searched and how many bytes are copied out of it."""

    searches = copied = 0

    def find(self, *args: Any) -> int:
        type(self).searches += 1
        return super().find(*args)

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            type(self).copied += len(found)
        return found


class FloodTests:
    @pytest.mark.parametrize("size", [64 * 1024, 1024 * 1024])
    def test_linear(self, size: int) -> None:
        """A flood of empty lines is walked over once: one search a line, nothing copied."""
        # covers: H02

        class Flood(Counted):
            searches = copied = 0

        reader = Reader()
        reader.dataReceived(Flood(b"\n" * size))
        assert len(reader.events) == size
        assert Flood.searches <= size + 1
        assert Flood.copied == 0

    def test_linear_with_text(self) -> None:
        """Short lines are copied once each, and no byte of the rest."""
        # covers: H02

        class Flood(Counted):
            searches = copied = 0

        reader = Reader()
        reader.dataReceived(Flood(b"ab\n" * 100_000))
        assert len(reader.events) == 100_000
        assert Flood.copied == 200_000

    def test_deaf_in_the_middle(self) -> None:
        """Once deaf, the rest of a flood is not looked at."""
        # covers: H02, H08, T06
        reader = Reader()
        reader.at[b"stop"] = lambda: setattr(reader, "deaf", True)
        reader.dataReceived(b"a\nstop\n" + b"\n" * 1_000_000)
        reader.dataReceived(b"b\n" * 100)
        assert reader.events == [b"a", b"stop"]
        assert reader._buffer == b""

    def test_deaf_within_a_body(self) -> None:
        """A body that makes deaf is not completed."""
        reader = Reader()
        reader.dataReceived(b"5\nab")
        reader.deaf = True
        reader.dataReceived(b"cde")
        assert reader.events == [b"5"]


class PauseTests:
    @pytest.mark.parametrize("event", [b"hello", b"5", (b"abcde",), b"3", b"last"])
    @pytest.mark.parametrize("cut", [whole, bytewise])
    def test_nothing_while_paused(self, event: Any, cut: Any) -> None:
        """While paused nothing is read; afterwards it goes on where it was."""
        # covers: J16
        reader = Reader()
        reader.at[event] = reader.pauseProducing
        for piece in cut(CONVERSATION):
            reader.dataReceived(piece)
        assert reader.events == EVENTS[: EVENTS.index(event) + 1]
        reader.resumeProducing()
        assert reader.events == EVENTS

    def test_pause_and_resume_at_once(self) -> None:
        """Whoever resumes within the same call loses nothing and gets nothing twice."""
        reader = Reader()

        def both() -> None:
            reader.pauseProducing()
            reader.resumeProducing()

        reader.at[b"5"] = both
        reader.dataReceived(CONVERSATION)
        assert reader.events == EVENTS

    def test_nested_data(self) -> None:
        """Data that comes while other data is read waits for its turn, and is then read."""
        reader = Reader()
        reader.at[b"hello"] = lambda: reader.dataReceived(b"0\n\nla")
        reader.at[b"5"] = lambda: reader.dataReceived(b"st\n")
        reader.dataReceived(b"hello\n5\nabcde3\r\nx\ny")
        assert reader.events == EVENTS

    def test_nested_while_paused(self) -> None:
        """Data that comes while paused, in a nested call too, keeps its place."""
        reader = Reader()

        def wait() -> None:
            reader.pauseProducing()
            reader.dataReceived(b"0\n\nlast\n")

        reader.at[b"5"] = wait
        reader.dataReceived(b"hello\n5\nabcde3\r\nx\ny")
        assert reader.events == [b"hello", b"5"]
        reader.resumeProducing()
        assert reader.events == EVENTS


class ForgetTests:
    @pytest.mark.parametrize("paused", [False, True])
    def test_rest_of_a_body(self, paused: bool) -> None:
        """What had come of a body that is given up is never taken for lines."""
        # covers: H10, S03
        reader = Reader()
        if paused:
            reader.at[b"9"] = reader.pauseProducing
        reader.dataReceived(b"9\nline\n")
        reader.forget_body()
        assert reader.expected == 0
        if paused:
            reader.resumeProducing()
        assert reader.events == [b"9"]

    def test_between_bodies(self) -> None:
        """Where there is no body there is nothing to forget."""
        reader = Reader()
        reader.dataReceived(b"hel")
        reader.forget_body()
        reader.dataReceived(b"lo\n")
        assert reader.events == [b"hello"]
