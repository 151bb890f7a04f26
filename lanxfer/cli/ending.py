"""How a command ends before it is done: what Ctrl-C sets off, with a reactor and without."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from lanxfer.cli.output import show_traceback
from lanxfer.errors import Exit

PATIENT = 0.5
"""Seconds after Ctrl-C before it is said what is being waited for."""

AGAIN = "Ctrl-C again ends it at once."


class Ending:
    """The first Ctrl-C makes a command ``interrupted``; the second ends it at once."""

    def __init__(self) -> None:
        self.interrupted = False
        self._last_words: list[Callable[[], object]] = []
        self._before: dict[int, Any] = {}

    def if_killed(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called before a second Ctrl-C ends it; call the result to forget it."""
        self._last_words.append(callback)

        def forget() -> None:
            if callback in self._last_words:
                self._last_words.remove(callback)

        return forget

    def catch_signals(self, interrupt: Callable[[], object]) -> None:
        """Have ``interrupt`` called, as signal handlers are, by Ctrl-C and its like.

        What nohup, or a shell in the background, said to ignore stays ignored.
        """

        def signalled(number: int, frame: Any) -> None:
            if self.interrupted:
                self.killed()
            self.interrupted = True
            interrupt()

        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, signalled)

    def leave_signals(self) -> None:
        """Let them mean again what they meant before."""
        before, self._before = self._before, {}
        for number, meaning in before.items():
            signal.signal(number, meaning)

    def killed(self) -> None:
        """End at once."""
        for each in reversed(self._last_words):
            try:
                each()
            except Exception as error:
                show_traceback(error)
        os._exit(Exit.CANCELLED)
