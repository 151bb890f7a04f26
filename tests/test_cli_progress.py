from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock, LoopingCall

from lanxfer.cli.output import Output
from lanxfer.cli.progress import BARS_AFTER, LINE_EVERY, line_of, show_progress
from lanxfer.cli.report import Report
from lanxfer.errors import DiskFull, Exit, Lost, SourceUnreadable
from lanxfer.tally import Below, Rate, Sums, Tally
from lanxfer.transfers import Direction, Entry, Kind, Receipt, Snapshot, State, Together

OFFERED = Snapshot("1", Direction.OUT, Kind.FILE, "nas", "film.mkv", 1000, State.OFFERED)


class RateTests:
    def test_average(self) -> None:
        """The rate is that of the last moments, not of all time."""
        rate = Rate()
        for second in range(21):
            rate.add(second, 1000 * second if second < 10 else 10_000 + 10 * (second - 10))
        assert rate.per_second(20) == pytest.approx(10)

    def test_unknown(self) -> None:
        """Nothing is said before there is something to say, and a standstill is none."""
        rate = Rate()
        assert rate.per_second(0) == 0
        rate.add(0, 0)
        rate.add(0.1, 500)
        assert rate.per_second(0.1) == 0
        assert rate.per_second(100) == 0

    def test_by_the_thousand(self) -> None:
        """However often it is added to, it does not grow, and says the same."""
        rate = Rate()
        for count in range(100_000):
            rate.add(count / 1000, count * 50)
        assert len(rate._samples) < 200
        assert rate.per_second(100) == pytest.approx(50_000, rel=0.01)


class TallyTests:
    def setup_method(self) -> None:
        self.now = 0.0
        self.tally = Tally(lambda: self.now)

    def hear(self, snapshot: Snapshot, at: float) -> None:
        self.now = at
        self.tally.hear([snapshot])

    def test_together(self) -> None:
        """Files of one pack are there at once, as if each had been heard of."""
        other = Tally(lambda: self.now)
        common = OFFERED._replace(state=State.DONE)
        files = Together(common, [0, 1], ["a", "b"], [300, 400], ["", ""])
        self.tally.hear(files)
        other.hear(list(files))
        assert self.tally.as_row() == other.as_row()
        assert (self.tally.done, self.tally.files) == (700, 2)

    def test_one(self) -> None:
        """A file in motion shows as bytes, rate and time left."""
        self.tally.expect(Kind.FILE, 1000)
        self.tally.counted = True
        moving = OFFERED._replace(state=State.MOVING)
        self.hear(OFFERED, 0)
        self.hear(moving, 0)
        self.hear(moving._replace(done=100), 1)
        self.hear(moving._replace(done=300), 2)
        self.hear(moving._replace(done=600), 3)
        assert (self.tally.done, self.tally.total, self.tally.current) == (600, 1000, "film.mkv")
        assert self.tally.rate == pytest.approx(500 / 3)
        assert self.tally.left == pytest.approx(2.4)
        assert line_of(self.tally) == "600 B of 1000 B (60%), 167 B/s, 2.4 s left: film.mkv"

    def test_waits_for_a_yes(self) -> None:
        """While somebody is asked, and nothing else moves, that is what is said."""
        tally = self.tally = Tally(lambda: self.now, "na\x1bs")
        waiting = OFFERED._replace(state=State.WAITING)
        self.hear(OFFERED, 0)
        assert tally.waits == ""
        self.hear(waiting, 0)
        assert line_of(tally) == tally.waits == r"waiting for na\x1bs to accept"
        other = OFFERED._replace(id="other", state=State.MOVING)
        self.hear(other, 1)
        assert tally.waits == ""
        self.hear(other._replace(state=State.DONE, done=other.size), 2)
        assert tally.waits
        self.hear(waiting._replace(state=State.ACCEPTED), 3)
        assert tally.waits == ""

    def test_row(self) -> None:
        """As a row it says the same elsewhere."""
        moving = OFFERED._replace(state=State.MOVING)
        self.hear(OFFERED, 0)
        self.hear(moving._replace(done=100), 1)
        self.hear(OFFERED._replace(id="2", state=State.DONE, size=5), 2)
        there = Tally(lambda: self.now)
        there.take_row(self.tally.as_row())
        assert there.as_row() == self.tally.as_row()
        assert (there.done, there.files, there.current) == (105, 1, "film.mkv")
        self.hear(OFFERED._replace(state=State.WAITING), 3)
        there.take_row(self.tally.as_row())
        assert there.waits == self.tally.waits != ""

    def test_resumed(self) -> None:
        """What was there from before is done, but was not fast."""
        moving = OFFERED._replace(state=State.MOVING)
        self.hear(OFFERED, 0)
        self.hear(moving, 0)
        self.hear(moving._replace(done=900), 1)
        self.hear(moving._replace(done=950), 2)
        assert self.tally.done == 950
        assert self.tally.rate == pytest.approx(25)

    def test_growing(self) -> None:
        """While it is still being counted no time is promised, and no share."""
        self.tally.expect(Kind.FILE, 10)
        moving = OFFERED._replace(state=State.MOVING)
        for second in range(4):
            self.hear(moving._replace(done=100 * second), second)
        assert self.tally.left is None and "%" not in line_of(self.tally)
        assert self.tally.total == 300

    def test_ends(self) -> None:
        """What arrived counts; what failed is expected no longer; folders are no files."""
        for kind, size in ((Kind.FOLDER, 0), (Kind.FILE, 1000), (Kind.FILE, 500)):
            self.tally.expect(kind, size)
        self.tally.counted = True
        self.hear(OFFERED._replace(id="0", kind=Kind.FOLDER, size=0, state=State.DONE), 0)
        self.hear(OFFERED._replace(state=State.DONE, done=1000), 1)
        self.hear(OFFERED._replace(id="2", size=500, state=State.FAILED, done=20), 1)
        assert (self.tally.files, self.tally.expected_files) == (1, 2)
        assert (self.tally.done, self.tally.total) == (1000, 1000)


class BelowTests:
    @given(st.lists(st.sampled_from(["a", "a/b", "a/b/c", "ab/c", "b/a"]), max_size=20))
    def test_as_sent(self, paths: list[str]) -> None:
        """Those that arrived as they were sent count as if each had been counted by itself."""
        kinds = [Kind.FOLDER, Kind.FILE]
        some = [Entry(kinds[at % 2], each, "", at) for at, each in enumerate(paths) if "/" in each]
        one_by_one, together = Below(), Below()
        for each in some:
            assert one_by_one.add(each, Receipt(each.path, each.size, ""))
        together.add_sent(some)
        assert [*together.take()] == [*one_by_one.take()]


class LinesTests:
    def test_now_and_then(self, capsys: pytest.CaptureFixture[str]) -> None:
        """In a pipe there is a line every few seconds until it is stopped."""
        clock, counted = Clock(), []
        tally = Tally(clock.seconds, current="a\x1b")

        def every(seconds: float, callback: Callable[[], object]) -> Callable[[], None]:
            loop = LoopingCall(callback)
            loop.clock = clock
            loop.start(seconds, now=False)
            return lambda: loop.stop() if loop.running else None

        stop = show_progress(every, tally, Output(), lambda: counted.append(True))
        clock.advance(BARS_AFTER / 2)
        assert not counted
        clock.advance(BARS_AFTER / 2)
        assert counted == [True]
        clock.advance(LINE_EVERY - 1)
        assert capsys.readouterr().err == ""
        clock.advance(1)
        assert capsys.readouterr().err == "0 B of 0 B: a\\x1b\n"
        stop()
        stop()
        clock.advance(LINE_EVERY)
        assert capsys.readouterr() == ("", "") and counted == [True]

    @pytest.mark.parametrize("how", [{"quiet": True}, {"json": True}])
    def test_nobody(self, how: dict[str, bool], capsys: pytest.CaptureFixture[str]) -> None:
        """Where nobody wants to be told nothing is counted, and nothing waits to be stopped."""
        asked: list[float] = []

        def every(seconds: float, callback: Callable[[], object]) -> Callable[[], None]:
            asked.append(seconds)
            return lambda: None

        show_progress(every, Tally(Clock().seconds), Output(**how), lambda: asked.append(0))()
        assert asked == []
        assert capsys.readouterr() == ("", "")


class ReportTests:
    def setup_method(self) -> None:
        self.now = 0.0

    def make(self, below: dict[str, int] | None = None, **how: bool) -> Report:
        return Report(Output(**how), "nas", lambda: self.now, lambda top: (below or {}).get(top))

    def test_files(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Each file has a line, with the name it was given; all of them a sentence."""
        report = self.make()
        report.entry(Entry(Kind.FILE, "a", "a", 10), Receipt("a", 10, ""))
        report.entry(Entry(Kind.FILE, "b", "b", 2048), Receipt("b (2)", 2048, "", False, 1024))
        self.now = 2.0
        assert report.end() == Exit.OK
        assert capsys.readouterr().out == (
            "a: 10 B\n"
            'b: 2.0 KiB, stored as "b (2)", 1.0 KiB of it from before\n'
            "2 files (2.0 KiB) sent to nas in 2.0 s, 517 B/s.\n"
        )

    def test_single(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A file that was given a name with folders in it is still one file."""
        report = self.make()
        report.entry(Entry(Kind.FILE, "d/a", "a", 10), Receipt("d/a", 10, ""), single=True)
        assert capsys.readouterr().out == "d/a: 10 B\n"

    def test_folder(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A folder has one line, as soon as all that is in it is decided."""
        report = self.make({"d": 3})
        report.entry(Entry(Kind.FOLDER, "d", "d"), Receipt("d", 0, ""))
        report.entry(Entry(Kind.FILE, "d/a", "d/a", 1), Receipt("d/a", 1, "", True))
        assert capsys.readouterr().out == ""
        report.entry(Entry(Kind.FILE, "d/b", "d/b", 1), DiskFull("No room."))
        printed = capsys.readouterr()
        assert printed.err == "lanxfer: d/b: No room.\n"
        assert printed.out == "d/: 1 file, 1 B, 1 already there, 1 did not arrive\n"
        assert report.end() == Exit.PARTIAL
        assert capsys.readouterr().out == "1 file (1 B) there already. 1 did not arrive.\n"

    def test_sums(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What is only counted comes to the same as what is told one by one."""
        report = self.make({"d": 4})
        report.entry(Entry(Kind.FOLDER, "d", "d"), Receipt("d", 0, ""))
        report.below_arrived("d", Sums(2, 1, 1024, 1, 24))
        assert capsys.readouterr().out == "d/: 2 files, 1.0 KiB, 1 already there\n"
        self.now = 1.0
        assert report.end() == Exit.OK
        assert capsys.readouterr().out == (
            "2 files (1.0 KiB) sent to nas in 1.0 s, 24 B/s, 1 of them there already.\n"
        )

    def test_uncounted(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A folder nobody could count has its line at the end."""
        report = self.make()
        report.entry(Entry(Kind.FOLDER, "d", "d"), Receipt("d", 0, ""))
        assert report.end() == Exit.OK
        lines = capsys.readouterr().out.splitlines()
        assert lines == ["d/: 0 files, 0 B", "1 folder (0 B) sent to nas in 0.1 s."]

    def test_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Where nothing arrived, the first error says with which code."""
        report = self.make()
        report.entry(Entry(Kind.FILE, "a", "x/a"), SourceUnreadable('There is no "x/a".'))
        report.entry(Entry(Kind.FILE, "b", "x/b"), Lost())
        assert report.end() == Exit.FAILED
        printed = capsys.readouterr()
        assert printed.err.splitlines()[0] == 'lanxfer: There is no "x/a".'
        assert printed.out == "Nothing arrived at nas.\n"

    def test_skipped(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Links that were left out are mentioned once, with their number."""
        report = self.make()
        report.entry(Entry(Kind.FOLDER, "d", "d"), Receipt("d", 0, ""))
        for name in "abc":
            report.skip(f"d/{name}", "symbolic link")
        assert report.end() == Exit.OK
        assert capsys.readouterr().err == "3 symbolic links were left out; --links sends them.\n"

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Every entry is a row, and so is the sum."""
        report = self.make({"d": 2}, json=True)
        report.entry(Entry(Kind.FOLDER, "d", "d"), Receipt("d", 0, ""))
        report.entry(Entry(Kind.FILE, "d/a", "d/a", 9), Receipt("d/a", 9, "ff", True))
        report.entry(Entry(Kind.FILE, "b", "b", 9), DiskFull("No room."))
        report.skip("d/l", "symbolic link")
        assert report.end() == Exit.PARTIAL
        printed = capsys.readouterr()
        assert printed.err == ""
        rows: list[dict[str, Any]] = [json.loads(line) for line in printed.out.splitlines()]
        folder, file, failed, skipped, summary = rows
        assert folder["kind"] == "folder" and folder["stored"] == "d"
        assert file == {
            "path": "d/a",
            "kind": "file",
            "stored": "d/a",
            "size": 9,
            "blake3": "ff",
            "already": True,
            "resumed_from": 0,
        }
        assert failed == {"path": "b", "error": "disk-full", "reason": "No room."}
        assert skipped == {"path": "d/l", "skipped": "symbolic link"}
        assert summary == {
            "peer": "nas",
            "files": 1,
            "folders": 1,
            "bytes": 9,
            "already": 1,
            "skipped": 1,
            "failed": 1,
            "seconds": 0.0,
        }
