"""The log of who was refused, and that nobody can fill it."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher, textFileLogObserver

from lanxfer.errors import BadHeader, LanxferError, NotPaired, TlsRequired
from lanxfer.refusals import LINES, PERIOD, SINGLY, SOURCES, TOLD, Refusals


class Book:
    """Refusals, and the text that a log file would have of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.file = StringIO()
        logger = Logger("test", observer=LogPublisher(textFileLogObserver(self.file)))
        monkeypatch.setattr(Refusals, "log", logger)
        self.refusals = Refusals(self.clock)

    def lines(self) -> list[str]:
        return [line.partition("] ")[2] for line in self.file.getvalue().splitlines()]


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    made = Book(monkeypatch)
    yield made
    made.refusals.stop()
    assert made.clock.getDelayedCalls() == []


class RefusalsTests:
    # covers: R08 F22
    def test_first_ones(self, book: Book) -> None:
        """The first refusals of an address have a line each, the others one together."""
        for _ in range(1000):
            book.refusals.note("10.0.0.1", TlsRequired())
        book.refusals.note("10.0.0.2", NotPaired())
        lines = book.lines()
        assert len(lines) == SINGLY + 1
        assert lines[0] == f"10.0.0.1 was refused: {TlsRequired().reason} [tls-required]"
        book.clock.advance(PERIOD)
        assert book.lines()[SINGLY + 1 :] == [
            "10.0.0.1 was refused 995 times more within a minute, the last time [tls-required]"
        ]

    def test_next_period(self, book: Book) -> None:
        """A minute later the first ones are told again, and without refusals nothing is."""
        for _ in range(2):
            for _ in range(SINGLY):
                book.refusals.note("10.0.0.1", BadHeader())
            book.clock.advance(PERIOD)
        assert len(book.lines()) == 2 * SINGLY
        assert book.clock.getDelayedCalls() == []

    def test_many_addresses(self, book: Book) -> None:
        """A million refusals from as many addresses are a few lines, and a bounded table."""
        for number in range(20_000):
            book.refusals.note(f"2001:db8:0:{number:x}::/64", BadHeader())
        assert len(book.refusals._sources) == SOURCES
        assert len(book.lines()) == LINES
        book.clock.advance(PERIOD)
        assert len(book.lines()) <= LINES + TOLD + 1
        assert book.lines()[-1].startswith("others were refused ")
        told = sum(int(line.split(" refused ")[1].split()[0]) for line in book.lines()[LINES:])
        assert told + LINES == 20_000

    @pytest.mark.parametrize(
        "text",
        ["a\nb", "\x1b[2J", "{log_source}", "%s%n", "\u202e\u2028\x85\x00", "x" * 5000, "\ud800"],
    )
    def test_one_printable_line(self, book: Book, text: str) -> None:
        """Whatever a peer wrote, a record is one printable line of at most 512 bytes."""
        # covers: R07 H14
        book.refusals.note(text, LanxferError(text))
        raw = book.file.getvalue()
        assert raw.count("\n") == 1 and raw.endswith("\n")
        assert raw[:-1].isprintable() and len(raw.encode()) <= 512

    def test_stop(self, book: Book) -> None:
        """The end of the service does not swallow what was only counted."""
        for _ in range(SINGLY + 3):
            book.refusals.note("10.0.0.1", BadHeader())
        book.refusals.stop()
        assert "3 times more" in book.lines()[-1]
