"""Bodies in clear from the command line: real processes, and what their users read."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli_real import Serving, end, finish, met, run, serve, start, until

from lanxfer.errors import Exit

MIB = 1024 * 1024


@pytest.fixture(params=[True, False], ids=["taken", "not taken"])
def nas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serving]:
    serving = serve(tmp_path / "nas", *(["--accept-clear-body"] if request.param else []))
    yield serving
    assert end(serving) == Exit.OK


@pytest.fixture
def laptop(nas: Serving, tmp_path: Path) -> Path:
    return met(nas, tmp_path / "laptop")


class SendTests:
    def test_said(self, nas: Serving, laptop: Path, tmp_path: Path) -> None:
        """One sentence says what others can read; the lists of the receiver say it, too."""
        warnings = nas.ask("status", "--json").rows[0]["warnings"]
        taken = any("CLEAR" in each for each in warnings)
        (tmp_path / "film").write_bytes(os.urandom(4 * MIB))
        (tmp_path / "note").write_bytes(os.urandom(400))
        line = ("send", tmp_path / "film", tmp_path / "note", "nas", "-s", laptop)
        done = run(*line, "--clear-body")
        assert done.code == Exit.OK
        if taken:
            assert done.err.startswith("Large files go in clear: everyone")
        else:
            assert done.err.startswith("nas does not take files in clear")
        assert done.err.count("\n") == 1
        assert (nas.inbox / "film").read_bytes() == (tmp_path / "film").read_bytes()
        clear = {row["path"]: row.get("clear", False) for row in nas.rows("history")}
        assert clear == {"film": taken, "note": False}
        assert ("(in clear)" in nas.ask("history").out) is taken
        again = run(*line)
        assert again.code == Exit.OK and again.err == ""

    def test_killed(self, nas: Serving, laptop: Path, tmp_path: Path) -> None:
        """A sender that is killed in the middle goes on with the same command."""
        (tmp_path / "film").write_bytes(os.urandom(60 * MIB))
        line = ("send", tmp_path / "film", "nas", "--json", "-s", laptop, "--clear-body")
        slow = start(*line, "--limit-rate", "20M")

        def far() -> bool:
            return any(row["done"] > 20 * MIB for row in nas.rows("pending_requests"))

        until(far)
        slow.send_signal(signal.SIGKILL)
        assert finish(slow).code == -signal.SIGKILL
        until(lambda: not nas.rows("pending_requests"))
        done = run(*line)
        assert done.code == Exit.OK and done.rows[0]["resumed_from"] >= 16 * MIB
        assert (nas.inbox / "film").read_bytes() == (tmp_path / "film").read_bytes()

    def test_nonsense(self, nas: Serving, laptop: Path, tmp_path: Path) -> None:
        """What goes with it and what does not, the command line says itself."""
        (tmp_path / "film").write_bytes(b"x")
        for wrong in ("--plain", "--legacy-peer", "--queue"):
            done = run("send", tmp_path / "film", "nas", "-s", laptop, "--clear-body", wrong)
            assert done.code == Exit.USAGE and "--clear-body" in done.err
