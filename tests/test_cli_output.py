from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from lanxfer.cli.output import Output, columns, count, harmless, human_size, human_time
from lanxfer.errors import DiskFull, Exit


class FormatTests:
    @pytest.mark.parametrize(
        ("size", "text"),
        [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (150 * 1024, "150 KiB"),
            (1024**2 - 1, "1.0 MiB"),
            (2 * 1024**3, "2.0 GiB"),
            (5000 * 1024**4, "5000 TiB"),
        ],
    )
    def test_human_size(self, size: int, text: str) -> None:
        """Sizes have at most three digits before the next unit takes over."""
        assert human_size(size) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "0.1 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.6, "1:00"),
            (125, "2:05"),
            (3723, "1:02:03"),
        ],
    )
    def test_human_time(self, seconds: float, text: str) -> None:
        """Seconds, then minutes, then hours; nothing took no time at all."""
        assert human_time(seconds) == text

    def test_count(self) -> None:
        """One is not many."""
        assert [count(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]

    def test_columns(self) -> None:
        """Columns line up, wide and combining characters included, and end without blanks."""
        rows = [("name", "1", ""), ("映画", "10", "x"), ("e\u0301", "100", "")]
        assert columns(rows, frozenset({1})) == [
            "name    1",
            "映画   10  x",
            "e\u0301     100",
        ]

    def test_harmless(self) -> None:
        """Text of others moves no cursor and keeps its backslashes."""
        assert harmless("C:\\x\x1b[2J\u202e\n") == "C:\\x\\x1b[2J\\u202e\\x0a"


class OutputTests:
    def test_people(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Results go to standard output, all else to standard error."""
        out = Output()
        out.line("asked for")
        out.done("done")
        out.row({"for": "programs"})
        out.say("by the way")
        out.warn("careful")
        assert capsys.readouterr() == ("asked for\ndone\n", "by the way\nlanxfer: careful\n")

    def test_programs(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With json there are rows of ASCII, and warnings for whoever reads the log."""
        out = Output(json=True)
        out.line("asked for")
        out.done("done")
        out.row({"name": "é\udcff"})
        out.say("by the way")
        out.warn("careful")
        assert capsys.readouterr() == ('{"name": "\\u00e9\\udcff"}\n', "lanxfer: careful\n")

    def test_quiet(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With quiet there is what was asked for, and errors."""
        out = Output(quiet=True)
        out.line("asked for")
        out.done("done")
        out.say("by the way")
        out.warn("careful")
        assert capsys.readouterr() == ("asked for\n", "lanxfer: careful\n")

    def test_report(self, capsys: pytest.CaptureFixture[str]) -> None:
        """An error is its sentence, its row and its exit code."""
        assert Output(json=True).report(DiskFull("No room.")) == Exit.FAILED
        printed = capsys.readouterr()
        assert json.loads(printed.out) == {"error": "disk-full", "reason": "No room.", "exit": 2}
        assert printed.err == "lanxfer: No room.\n"

    def test_above(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Lines for a terminal go above the bars; those for a pipe past them."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        out, lines = Output(), list[str]()
        out.above = lines.append
        out.done("to a pipe")
        monkeypatch.setattr(sys, "stderr", Terminal())
        out.warn("to a terminal")
        assert capsys.readouterr().out == "to a pipe\n"
        assert lines == ["lanxfer: to a terminal"]

    def test_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Started without standard output and error, there is simply nobody to talk to."""
        monkeypatch.setattr(sys, "stdout", None)
        monkeypatch.setattr(sys, "stderr", None)
        Output().done("x")
        Output().warn("x")

    def test_reader_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader that has gone away is told of once, and is no trouble."""
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, "w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            out, told = Output(), list[bool]()
            out.on_broken = lambda: told.append(True)
            out.line("one")
            out.line("two")
            assert told == [True] and not out.trouble
        # Closing it had nothing left to fail with.

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
    def test_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that is full is trouble, since results are lost."""
        with open("/dev/full", "w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            out = Output()
            out.line("one")
            assert "No space left" in out.trouble
