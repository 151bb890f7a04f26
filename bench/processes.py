"""A measured process as the benchmark sees it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

PATIENCE = 120.0
"""Seconds without a word after which a side is taken for stuck."""

_LAST_WORDS = 2000


class BenchFailed(Exception):
    """Something went wrong, so there is no figure to show."""


@frozen
class Ended:
    """A process that is over: what it reported, and what it cost from start to end."""

    said: dict[str, Any]
    seconds: float
    cpu: float


class Side:
    """One process that speaks as ``bench.side`` says; leaving the context ends it."""

    def __init__(self, module: str, args: Sequence[str], errors: str) -> None:
        self._name = f"{module} {args[0]}"
        self._errors = errors
        self._buffer = b""
        self._eof = False
        with open(errors, "wb") as log:
            self._began = time.perf_counter()
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout

    def hear(self) -> dict[str, Any] | None:
        """The next thing it says; None when it is over."""
        while b"\n" not in self._buffer:
            if self._eof:
                return None
            if not select.select([self._stdout], [], [], PATIENCE)[0]:
                raise BenchFailed(f"{self._name} hangs.{self._last_words()}")
            more = os.read(self._stdout.fileno(), 1 << 20)
            self._buffer += more
            self._eof = not more
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self) -> dict[str, Any]:
        """What a serving side has used so far."""
        self._stdin.write(b"\n")
        self._stdin.flush()
        return self.hear() or self._fail()

    def end(self) -> Ended:
        """Wait for the end of one that asks, cause that of one that serves."""
        self._stdin.close()
        said: dict[str, Any] = {}
        while (more := self.hear()) is not None:
            said.update(more)
        _, status, usage = os.wait4(self._process.pid, 0)
        seconds = time.perf_counter() - self._began
        self._process.returncode = os.waitstatus_to_exitcode(status)
        if self._process.returncode:
            self._fail()
        return Ended(said, seconds, usage.ru_utime + usage.ru_stime)

    def _fail(self) -> Any:
        raise BenchFailed(f"{self._name} failed.{self._last_words()}")

    def _last_words(self) -> str:
        words = Path(self._errors).read_text(errors="replace").strip()
        return f"\n{words[-_LAST_WORDS:]}" if words else ""

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pipe in (self._stdin, self._stdout):
            pipe.close()
