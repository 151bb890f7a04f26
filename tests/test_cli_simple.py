"""What ``lanxfer send`` reads without click is what click reads, and is done in the same way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli_straight import Serving, met
from test_cli_straight import nas as nas

from lanxfer.cli import ways
from lanxfer.cli.choices import Choices
from lanxfer.cli.jobs import Job, Over
from lanxfer.cli.main import main
from lanxfer.cli.output import failed
from lanxfer.cli.simple import COMPLETING, Line, read
from lanxfer.errors import Exit

COMMON = ("-q", "--quiet", "--json")
KNOWN = (*COMMON, "--plain", "--here", "a.txt", "folder", "nas", "*.txt", "ä", "\udcff", "send")
ODD = (
    *("message", "-", "--", "", "-s", "--state", "state", "--state=x", "-sx", "-qs", "-x"),
    *("--name", "--links", "--wait", "3", "--legacy-peer", "--queue", "--help"),
)

SIMPLE = (
    ["send", "a", "nas"],
    ["send", "a", "b", "c", "nas", "-q"],
    ["-q", "send", "--plain", "a", "nas:7", "--here"],
    ["--state", "there", "--json", "send", "a", "nas", "--quiet"],
    ["send", "-s", "there", "a", "nas"],
    ["send", "a", "send"],
)


def as_click_reads(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Line | None:
    """What click makes of it; None where that is no ``lanxfer send``."""
    found: list[Line] = []

    def send(choices: Choices, job: Job, here: bool) -> int:
        found.append(Line(choices, job, here))
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(ways, "send", send)
        patch.setattr(ways, "message", lambda *about: 0)
        patch.setattr(ways, "queue", lambda *about: 0)
        with pytest.raises(SystemExit):
            main(list(words))
    return found[0] if found else None


def same(one: Line, other: Line | None) -> bool:
    return other is not None and (vars(one.choices), *one[1:]) == (vars(other.choices), *other[1:])


class ReadTests:
    @given(
        first=st.lists(st.sampled_from(COMMON), max_size=2),
        then=st.lists(st.sampled_from(KNOWN), min_size=2, max_size=6),
        odd=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(ODD)), max_size=2),
    )
    def test_as_click(self, first: list[str], then: list[str], odd: list[tuple[int, str]]) -> None:
        """Whatever it reads, click reads too, and all of it to the same effect."""
        words = [*first, "send", *then]
        for at, word in odd:
            words.insert(at, word)
        line = read(words, {})
        if line is not None:
            with pytest.MonkeyPatch.context() as monkeypatch:
                assert same(line, as_click_reads(words, monkeypatch))
        elif not odd:  # all of these it knows
            assert len([word for word in then if not word.startswith("-")]) < 2

    @pytest.mark.parametrize("words", SIMPLE)
    def test_simple(self, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """These need no click."""
        line = read(words, {})
        assert line is not None and same(line, as_click_reads(words, monkeypatch))

    def test_what_it_says(self) -> None:
        line = read(["-s", "x", "send", "--json", "a", "b", "nas", "--plain"], {})
        assert line is not None
        assert vars(line.choices) == {"state": "x", "json": True, "quiet": False}
        assert line.job == Job(("a", "b"), Over("nas", plain=True)) and not line.here

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["send"],
            ["send", "nas"],
            ["send", "-", "nas"],
            ["send", "", "nas"],
            ["send", "a", "nas", "--links"],
            ["--plain", "send", "a", "nas"],
            ["send", "a", "nas", "-s"],
            ["send", "a", "nas", "-s", "x", "-s", "y"],
            ["message", "a", "nas"],
        ],
    )
    def test_for_click(self, words: list[str]) -> None:
        """What may be wrong, or means more, is not decided here."""
        assert read(words, {}) is None

    def test_completing(self) -> None:
        """A shell that asks what comes next has nothing sent."""
        assert read(["send", "a", "nas"], {COMPLETING: "bash_complete"}) is None


class RunTests:
    def test_light(self, nas: Serving, tmp_path: Path) -> None:
        """A file goes without click, and what is odd ends as it does with it."""
        here = met(nas, tmp_path / "state", "simple")
        (tmp_path / "simple.txt").write_text("simple")
        script = (
            "import os, sys\n"
            "from lanxfer.cli.start import start\n"
            "leave = os._exit\n"
            "def ended(code):\n"
            "    print('click' in sys.modules, flush=True)\n"
            "    leave(code)\n"
            "os._exit = ended\n"
            "start()\n"
        )
        line = ["send", str(tmp_path / "simple.txt"), "nas", "-s", str(here)]
        for more, light in (([], "False"), (["--links"], "True")):
            done = subprocess.run(
                [sys.executable, "-c", script, *line, *more],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout.splitlines()[-1]) == (Exit.OK, light)
        assert (nas.inbox / "simple.txt").read_text() == "simple"

    @pytest.mark.parametrize("how", [[], ["--json"]])
    def test_refused(self, tmp_path: Path, how: list[str]) -> None:
        """A file that is not there, and a device that nobody knows."""
        state = ["-s", str(tmp_path / "state"), *how]
        for what, whom in ((tmp_path / "none.txt", "nobody"), (tmp_path, "nobody")):
            said = []
            for module in ("lanxfer", "lanxfer.cli.main"):
                line = [sys.executable, "-m", module, "send", str(what), whom, *state]
                done = subprocess.run(line, capture_output=True, text=True, check=False)
                said.append((done.returncode, done.stdout, done.stderr))
            assert said[0] == said[1] and said[0][0] not in (Exit.OK, 1)

    def test_interrupted(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Ctrl-C before anything listens to it, and what nobody thought of, are told in words."""

        def fail(*about: object) -> int:
            raise error

        monkeypatch.setattr(ways, "send", fail)
        line = read(["send", "a", "nas"], {})
        assert line is not None
        error: BaseException = KeyboardInterrupt()
        assert line.run() == Exit.CANCELLED
        error = OSError("odd")
        assert line.run() == Exit.FAILED
        told = capsys.readouterr().err
        assert "OSError: odd" in told and "Traceback" not in told
        assert failed(KeyboardInterrupt(), json=False) == Exit.CANCELLED
