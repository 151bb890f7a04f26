"""What the service in the foreground says of what comes and goes."""

from __future__ import annotations

import json

import pytest
from twisted.internet.task import Clock

from lanxfer.cli.asking import Names
from lanxfer.cli.output import Output
from lanxfer.cli.telling import LINES, PERIOD, Telling
from lanxfer.transfers import Direction, Kind, Snapshot, State, Together

DONE = Snapshot(
    "1", Direction.IN, Kind.FILE, "local", "a.txt", 1000, State.DONE, done=1000, stored="a.txt"
)


class TellingTests:
    def _telling(self, tmp_path: object, **output: bool) -> tuple[Clock, Telling]:
        clock = Clock()
        return clock, Telling(clock, Output(**output), Names(str(tmp_path)))

    def test_each(self, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
        """A line for what ended; none for what is still under way, none later on."""
        clock, telling = self._telling(tmp_path)
        telling.hear([DONE._replace(state=State.MOVING)])
        telling.hear([DONE])
        clock.advance(PERIOD)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.endswith("from local: a.txt, 1000 B, done")
        assert not clock.getDelayedCalls()

    def test_thousands(self, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
        """The first of a second, what failed, and of the rest the sum by device and direction."""
        clock, telling = self._telling(tmp_path)
        for _ in range(LINES + 3000):
            telling.hear([DONE])
        telling.hear([DONE._replace(state=State.FAILED, code="disk-full", reason="No room.")])
        telling.hear([DONE._replace(direction=Direction.OUT, peer="other", clear=True)])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == LINES + 1
        assert "No room." in lines[-1]
        clock.advance(PERIOD)
        said = [line[10:] for line in capsys.readouterr().out.splitlines()]
        assert said == [
            "from local: 3000 more files, 2.9 MiB, done",
            "to other (in clear): 1 more file, 1000 B, done",
        ]
        telling.hear([DONE])
        assert len(capsys.readouterr().out.splitlines()) == 1

    def test_together(self, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
        """Files of one pack are told of as if they had come one by one."""
        clock, telling = self._telling(tmp_path)
        files = LINES + 3000
        numbers = range(files)
        names = [f"{number}.txt" for number in numbers]
        telling.hear(Together(DONE, numbers, names, [1000] * files, ["ab"] * files))
        telling.hear(Together(DONE, [0], ["last"], [1000], ["ab"]))
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == LINES and lines[-1].endswith(
            f"from local: {LINES - 1}.txt, 1000 B, done"
        )
        clock.advance(PERIOD)
        (line,) = capsys.readouterr().out.splitlines()
        assert line.endswith("from local: 3001 more files, 2.9 MiB, done")

    def test_stopped(self, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
        """What was not said yet is said at the end."""
        clock, telling = self._telling(tmp_path)
        for _ in range(LINES + 1):
            telling.hear([DONE])
        telling.stop()
        assert capsys.readouterr().out.splitlines()[-1].endswith("1 more file, 1000 B, done")
        assert not clock.getDelayedCalls()

    def test_rows(self, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
        """Programs get every one."""
        clock, telling = self._telling(tmp_path, json=True)
        for _ in range(LINES + 8):
            telling.hear([DONE])
        telling.hear(Together(DONE, [0, 1], ["b", "c"], [1, 2], ["", ""]))
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(rows) == LINES + 10
        assert rows[0]["received"]["path"] == "a.txt"
        assert [row["received"]["id"] for row in rows[-2:]] == ["1-0", "1-1"]
        assert not clock.getDelayedCalls()

    def test_quiet(self, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
        """Who wants to hear nothing hears nothing."""
        clock, telling = self._telling(tmp_path, quiet=True)
        telling.hear([DONE])
        telling.stop()
        assert capsys.readouterr().out == ""
        assert not clock.getDelayedCalls()
