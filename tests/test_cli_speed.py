"""Speed limits, and odd locales, from the command line: real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli_real import (
    Serving,
    end,
    finish,
    met,
    run,
    serve,
    start,
    until,
)

from lanxfer.errors import Exit

MIB = 1024 * 1024


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Serving]:
    serving = serve(tmp_path / "nas", "--rate-in", "100M", "--rate-out-each", "any")
    yield serving
    assert end(serving) == Exit.OK


@pytest.fixture
def laptop(nas: Serving, tmp_path: Path) -> Path:
    return met(nas, tmp_path / "laptop")


class LimitTests:
    def test_shown_and_changed(self, nas: Serving) -> None:
        """The owner sees the limits of the service, changes some of them, and takes some away."""
        # covers: S2-56
        assert nas.ask("limit", "--json").rows == [
            {"in": 100 * MIB, "out": 0, "in_each": 0, "out_each": 0}
        ]
        shown = nas.ask("limit", "--in", "any", "--out-each", "1.5M")
        assert shown.code == Exit.OK
        assert [line.split("  ")[-1].strip() for line in shown.out.splitlines()] == [
            "any",
            "any",
            "any",
            "1536 KiB/s",
        ]
        nonsense = nas.ask("limit", "--in", "fast")
        assert nonsense.code == Exit.USAGE and "'fast' is not bytes a second" in nonsense.err

    def test_send(self, nas: Serving, laptop: Path, tmp_path: Path) -> None:
        """What is sent at a limit is on its way for long, and can be given up."""
        # covers: S2-55
        (tmp_path / "film").write_bytes(os.urandom(4 * MIB))
        line = ("send", tmp_path / "film", "nas", "-s", laptop)
        slow = start(*line, "--limit-rate", "4K")
        until(lambda: any(row["state"] == "moving" for row in nas.rows("pending_requests")))
        slow.send_signal(signal.SIGINT)
        assert finish(slow).code == Exit.CANCELLED
        assert run(*line, "--limit-rate", "500M").code == Exit.OK
        assert (nas.inbox / "film").read_bytes() == (tmp_path / "film").read_bytes()
        for wrong in (("--limit-rate", "12"), ("--queue", "--limit-rate", "1M")):
            assert run(*line, *wrong).code == Exit.USAGE

    def test_one_peer(self, nas: Serving, laptop: Path) -> None:
        """A peer's own limits are lines of the file of rights."""
        # covers: S2-50
        assert nas.ask("peer", "set", "laptop", "rate-in=5M", "rate-out-each=1MiB/s").code == 0
        shown = nas.ask("peer", "rights", "laptop").out
        assert "5 MiB/s" in shown and "1 MiB/s" in shown
        wrong = nas.ask("peer", "set", "laptop", "rate-in=5")
        assert wrong.code == Exit.CONFIG and "at least 4 KiB" in wrong.err


class ServeTests:
    def test_prints_where(self, nas: Serving, laptop: Path, tmp_path: Path) -> None:
        """A service says where it listens, and whoever reads that can send there."""
        # covers: S2-66
        host, _, port = nas.address.rpartition(":")
        assert host == "127.0.0.1" and int(port) > 0
        (tmp_path / "a").write_bytes(b"hello")
        assert run("send", tmp_path / "a", nas.address, "-s", laptop).code == Exit.OK
        assert (nas.inbox / "a").read_bytes() == b"hello"


class LocaleTests:
    @pytest.mark.parametrize("here", ["C", "tr_TR.UTF-8"])
    def test_any(self, nas: Serving, laptop: Path, tmp_path: Path, here: str) -> None:
        """Commands, settings and names mean the same wherever their user is from."""
        # covers: S2-69
        env = {"LC_ALL": here, "LANG": here}
        name = "İstanbul ı ﬁ ß.TXT"
        (tmp_path / name).write_bytes(b"hello")
        done = run("send", tmp_path / name, "nas", "-s", laptop, "--json", env=env)
        assert done.code == Exit.OK, done.err
        assert (nas.inbox / name).read_bytes() == b"hello"
        assert run("peer", "set", "nas", "OFFERS=ask", "-s", laptop, env=env).code == Exit.CONFIG
        assert run("peer", "set", "nas", "largest=1 TIB", "-s", laptop, env=env).code == Exit.OK
        assert run("limit", "--in", "5m", "-s", nas.state, env=env).code == Exit.OK
        listed = run("history", "-s", nas.state, env=env)
        assert listed.code == Exit.OK and "stanbul" in listed.out
