"""Processes that a test talks to, line by line, and addresses for them to listen on."""

from __future__ import annotations

import ast
import os
import secrets
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PORT = 36969
"""The one port ae servers send to; so every peer of a test needs an address of its own."""

_taken: set[str] = set()


def new_address() -> str:
    """A loopback address that nothing else of this run, and hardly any other run, has."""
    while True:
        first, second, third = secrets.token_bytes(3)
        address = f"127.{64 + first % 128}.{second}.{third}"
        if address not in _taken and 0 < third < 255:
            _taken.add(address)
            return address


class Child:
    """A process that answers ``(number, request)`` with ``(number, answer)``, a line each.

    It is expected to say answer 0 when it is ready, and to end with its standard
    input; if it does not, it is killed, by its id.  ``log`` gets what it prints.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        timeout: float = 20.0,
    ) -> None:
        self.log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [str(each) for each in argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=cwd,
                env={**os.environ, **env, "PYTHONIOENCODING": "utf-8"},
                encoding="utf-8",
            )
        self._answers: dict[int, Any] = {}
        self._news = threading.Condition()
        self._over = False
        self._asked = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.ready = self.wait(0, timeout)
        except BaseException:
            self.end()
            raise

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                number, answer = ast.literal_eval(line)
                with self._news:
                    self._answers[number] = answer
                    self._news.notify_all()
        finally:
            with self._news:
                self._over = True
                self._news.notify_all()

    def begin(self, do: str, **args: Any) -> int:
        """Ask something; ``wait`` for the number this returns."""
        assert self._process.stdin is not None
        self._asked += 1
        self._process.stdin.write(f"{(self._asked, {'do': do, **args})!r}\n")
        self._process.stdin.flush()
        return self._asked

    def wait(self, number: int, timeout: float = 20.0) -> Any:
        """The answer to what ``begin`` asked."""
        with self._news:
            there = self._news.wait_for(lambda: number in self._answers or self._over, timeout)
            if number in self._answers:
                return self._answers.pop(number)
        why = "no answer in time" if not there else "it ended"
        raise AssertionError(f"{why}; its last words: {self.log.read_text('utf-8')[-3000:]}")

    def ask(self, do: str, *, timeout: float = 20.0, **args: Any) -> Any:
        """Ask something and wait for the answer."""
        return self.wait(self.begin(do, **args), timeout)

    def end(self) -> None:
        """End it; done twice it does nothing."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        if not process.stdin.closed:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(10)
        process.stdout.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
