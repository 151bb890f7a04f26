"""The benchmark runs and prints what it promises; how fast anything is is not asserted here."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.__main__ import MISSED, main
from bench.figures import Goal, Report
from bench.options import parse
from bench.place import Place, check_same, place
from bench.processes import ROOT, BenchFailed, Side

TINY = ("--quick", "--size", "2", "--files", "20", "--runs", "1")


def run_bench(folder: Path, *args: str, reachable: Sequence[int] = (0, MISSED)) -> str:
    """What a whole run prints; nothing of it is left in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *TINY, "--dir", str(folder), *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode in reachable, done.stderr
    assert os.listdir(folder) == []
    return done.stdout


def rows(text: str, title: str) -> dict[str, list[str]]:
    """The rows of one table, by their name of one or two words."""
    lines = text.partition(title)[2].partition("\n\n")[0].splitlines()[2:]
    table = [line for line in lines if not line.startswith("goal: ")]
    return {" ".join(line.split()[:2]): line.split()[2:] for line in table}


class BenchTests:
    def test_large_and_warm(self, tmp_path: Path) -> None:
        """The tables have their rows and goals, and the JSON after them every sample."""
        text = run_bench(tmp_path, "--only", "large", "--only", "warm", "--json")
        large = rows(text, "large: ")
        assert list(large) == ["bare Twisted", "lanxfer plain", "lanxfer TLS", "resume plain"]
        assert all(len(figures) >= 8 for figures in large.values())
        assert list(rows(text, "warm: ")) == ["bare Twisted", "lanxfer plain", "lanxfer TLS"]
        assert text.count("goal: ") == 2
        found = json.loads(text.splitlines()[-1])
        assert list(found) == ["large", "warm"]
        resumed = found["large"]["samples"]["resume plain"][0]
        assert 0 < resumed["resumed_from"] <= 2 * 1024 * 1024
        for name, samples in found["large"]["samples"].items():
            assert samples[0]["client_peak"] > 0 and samples[0]["server_peak"] > 0, name

    def test_profile(self, tmp_path: Path) -> None:
        """A profile names functions of the side that was asked for, and is no measurement."""
        text = run_bench(tmp_path, "profile", "small", "--side", "client", reachable=(0,))
        assert "small, lanxfer plain, client" in text
        assert "tottime" in text and "/lanxfer/" in text
        assert "goal: " not in text

    def test_small(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """A goal that is out of reach is shown as missed, and the exit code says so."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.small.RATE", 10**9)
            code = main([*TINY, "--dir", str(tmp_path), "--only", "small"])
        assert code == MISSED
        text = capsys.readouterr().out
        assert list(rows(text, "small: ")) == ["cp -r", "lanxfer plain", "lanxfer TLS"]
        assert "goal: plain files/s" in text and "MISSED" in text

    def test_no_room(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """What cannot be measured ends with a sentence and exit code 1."""
        size = str(10**9)
        assert main(["--size", size, "--dir", str(tmp_path), "--only", "large"]) == 1
        assert "has room for" in capsys.readouterr().err
        assert os.listdir(tmp_path) == []


class GoalTests:
    def test_at_least(self) -> None:
        """A least figure is reached when it is exactly met."""
        assert Goal("x", 1.0, 1.0).met
        assert not Goal("x", 0.99, 1.0).met

    def test_at_most(self) -> None:
        """A bound must stay out of reach."""
        assert Goal("x", 79.9, 80.0, at_most=True).met
        assert not Goal("x", 80.0, 80.0, at_most=True).met

    def test_text(self) -> None:
        """A table is aligned, and its goals are below it."""
        goals = [Goal("b", 1, 2)]
        report = Report("title", ("", "a"), [("one", "1"), ("three", "100")], goals)
        lines = report.text().splitlines()
        assert lines[1:4] == ["         a", "one      1", "three  100"]
        assert lines[4] == "goal: b 1 >= 2: MISSED"


class PlaceTests:
    def test_difference(self, tmp_path: Path) -> None:
        """One wrong byte, and one missing file, is noticed."""
        with place(str(tmp_path)) as there:
            tree = there.tree(3)
            with there.run() as run:
                copy = run.inbox / "copy"
                copy.mkdir()
                for each in tree.rglob("*.bin"):
                    (copy / each.relative_to(tree).parent).mkdir(exist_ok=True)
                    (copy / each.relative_to(tree)).write_bytes(each.read_bytes())
                check_same(tree, copy)
                wrong = next(copy.rglob("*.bin"))
                data = wrong.read_bytes()
                wrong.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
                with pytest.raises(BenchFailed):
                    check_same(tree, copy)
                wrong.unlink()
                with pytest.raises(BenchFailed):
                    check_same(tree, copy)
        assert os.listdir(tmp_path) == []

    def test_runs_apart(self, tmp_path: Path) -> None:
        """Each run has folders of its own, with the keys that know each other."""
        there = Place(tmp_path)
        with there.run() as one:
            (one.inbox / "left").touch()
        with there.run() as two:
            assert os.listdir(two.inbox) == []
            assert (two.server / "key.pem").stat().st_mode & 0o077 == 0
            assert two.server.stat().st_mode & 0o077 == 0


class SideTests:
    def test_failure(self, tmp_path: Path) -> None:
        """A side that fails is an error with its own last words."""
        errors = str(tmp_path / "errors")
        args = ["put", "nothing", "--unit", "1", "--read-size", "1", "--address", "127.0.0.1:1"]
        with Side("bench.bare", args, errors) as side, pytest.raises(BenchFailed, match="refused"):
            side.end()

    def test_killed(self, tmp_path: Path) -> None:
        """Whoever leaves early takes the process along."""
        received = str(tmp_path / "received")
        args = ["serve", received, "--unit", "1", "--read-size", "1024"]
        with Side("bench.bare", args, str(tmp_path / "errors")) as side:
            said = side.hear()
        assert said is not None
        host, _, port = said["listening"].partition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)


class OptionsTests:
    def test_quick(self) -> None:
        """What is said wins over what --quick would choose."""
        options = parse(["--quick", "--files", "7"])
        assert (options.size, options.files, options.runs) == (64, 7, 1)

    @pytest.mark.parametrize("args", [["profile"], ["profile", "warm"], ["large"], ["--runs", "0"]])
    def test_nonsense(self, args: list[str]) -> None:
        """What makes no sense is refused before anything is measured."""
        with pytest.raises(SystemExit) as ended:
            parse(args)
        assert ended.value.code == 2
