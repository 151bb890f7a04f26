"""Programs as a user starts them: one that serves on a loopback port, others that send to it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define, frozen

from bench.processes import ROOT, BenchFailed

HOST = "127.0.0.1"

_WEIGH = str(Path(__file__).with_name("weigh.py"))
_PATIENCE = 30.0
"""Seconds a service gets to listen."""
_STUCK = 900.0
"""Seconds after which a sender is taken for stuck."""
_LAST_WORDS = 2000


@frozen
class Used:
    """``seconds`` from start to end, ``cpu`` seconds, ``peak`` bytes of the largest process."""

    seconds: float
    cpu: float
    peak: int


@define
class Serving:
    """A service; ``used`` is there when it is over."""

    pid: int
    used: Used = Used(0.0, 0.0, 0)


def free_port() -> int:
    """A port nobody listens on; all peers want to be told theirs."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _weighed(how: str, argv: Sequence[str], log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _WEIGH, how, str(log), *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "LANXFER_ALLOW_ROOT": "1"},
    )


def _used(said: str) -> tuple[Used, int]:
    found = json.loads(said)
    return Used(found["seconds"], found["cpu"], found["peak"]), found["status"]


def _failed(argv: Sequence[str], log: Path, what: str) -> BenchFailed:
    words = log.read_text(errors="replace").strip()[-_LAST_WORDS:] if log.exists() else ""
    return BenchFailed(f"{Path(argv[0]).name} {what}.\n{words}")


def run(argv: Sequence[str], log: Path) -> Used:
    """Run a program to its end; BenchFailed with its last words where that is not a good one."""
    with _weighed("run", argv, log) as process:
        try:
            said, _ = process.communicate(timeout=_STUCK)
        except subprocess.TimeoutExpired:
            process.kill()
            raise _failed(argv, log, "hangs") from None
    if process.returncode:
        raise _failed(argv, log, "could not be started")
    used, status = _used(said)
    if status:
        raise _failed(argv, log, f"failed with {status}")
    return used


@contextmanager
def serving(argv: Sequence[str], port: int, log: Path) -> Iterator[Serving]:
    """A program that listens on ``port`` meanwhile, whatever happens."""
    process = _weighed("serve", argv, log)
    found = Serving(process.pid)
    try:
        _await(process, argv, port, log)
        yield found
    finally:
        said, _ = process.communicate()
    if not process.returncode:
        found.used, _ = _used(said)


def _await(process: subprocess.Popen[str], argv: Sequence[str], port: int, log: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.01)
    raise _failed(argv, log, "does not listen")


def children(pid: int) -> list[int]:
    """All processes below this one."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return []
    return [found for each in below for found in (int(each), *children(int(each)))]


def memory(pid: int) -> int:
    """Bytes all processes below this one hold of their own, what they share counted once.

    Programs and libraries do not count, of which others may begin to use the same.
    """
    total = 0
    for each in children(pid):
        try:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        for line in rollup.splitlines():
            if line.startswith("Pss_Anon:"):
                total += int(line.split()[1]) * 1024
    return total
