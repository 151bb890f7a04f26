"""A command that takes no reactor, from start to exit code.

The service on this machine does what there is to do, or the other device at once.

The counterpart of ``lanxfer.cli.running``, with the same meaning of Ctrl-C:
what is being asked is given up, and its answer is still waited for.
"""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from lanxfer.cli.choices import Choices
from lanxfer.cli.ending import AGAIN, PATIENT, Ending
from lanxfer.cli.output import Output
from lanxfer.control import Control
from lanxfer.conversation import Conversation
from lanxfer.errors import Cancelled, LanxferError, Lost
from lanxfer.state import StateFolder, default_state

if TYPE_CHECKING:
    from lanxfer.straight import Straight

Work: TypeAlias = "Callable[[Brief], int]"
Asked = TypeVar("Asked", bound=Conversation)


class _Timer:
    def __init__(self, every: float, callback: Callable[[], object], due: float) -> None:
        self.every = every
        self.callback = callback
        self.due = due


class Brief(Ending):
    """What such a command is given."""

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self.choices = choices
        self.out = Output(choices.json, choices.quiet)
        self.state = StateFolder(choices.state or default_state())
        self._asked: Conversation | None = None
        self._gave_up = False
        self._timers: list[_Timer] = []
        self._signalled, self._wake = socket.socketpair()
        self._signalled.setblocking(False)
        self._wake.setblocking(False)
        self._woke = -1

    @contextmanager
    def service(self) -> Iterator[Control]:
        """The service, for as long as it is asked; Unreachable where none runs."""
        with self._asking(Control(self.state.socket_path, self._wait)) as service:
            yield service

    @contextmanager
    def device(
        self, peer: str, lost: Callable[[bool], Lost], plain: bool = False
    ) -> Iterator[Straight]:
        """Another device, for as long as it is asked; raises NotStraight."""
        from lanxfer.straight import Straight  # TLS takes as long as all the rest

        with self._asking(Straight(self.state, peer, self._wait, lost, plain)) as there:
            yield there

    @contextmanager
    def _asking(self, asked: Asked) -> Iterator[Asked]:
        self._asked = asked
        try:
            yield asked
        finally:
            asked.close()
            self._asked = None

    def every(self, seconds: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called every so many seconds until what this gives is called."""
        timer = _Timer(seconds, callback, time.monotonic() + seconds)
        self._timers.append(timer)

        def stop() -> None:
            if timer in self._timers:
                self._timers.remove(timer)

        return stop

    def tick(self) -> None:
        """Call what is due; for whoever has not waited for a while."""
        now = time.monotonic()
        for each in [each for each in self._timers if each.due <= now]:
            each.due = now + each.every
            each.callback()

    def listen(self) -> None:
        """Hear of signals, whatever is being waited for."""
        self.catch_signals(lambda: None)
        self._woke = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def deafen(self) -> None:
        """Leave signals to whoever comes next; what came before that, ``interrupted`` says."""
        signal.set_wakeup_fd(self._woke)
        self.leave_signals()

    def _wait(self, connection: socket.socket, seconds: float, writing: bool = False) -> bool:
        until = time.monotonic() + seconds
        while True:
            if self.interrupted:
                self._give_up()
            soonest = min([until, *(each.due for each in self._timers)])
            left = max(0.0, soonest - time.monotonic())
            room = [connection] if writing else []
            heard, free, _ = select.select([connection, self._signalled], room, [], left)
            if self._signalled in heard:
                self._signalled.recv(64)
                continue
            if connection in heard or free:
                return True
            self.tick()
            if time.monotonic() >= until:
                return False

    def _give_up(self) -> None:
        """Once: after that the answer is waited for, and what that waits for is said."""
        if self._gave_up:
            return
        self._gave_up = True

        def tell() -> None:
            stop()
            self.out.say(f"Cancelling; {AGAIN}")

        stop = self.every(PATIENT, tell)
        if self._asked is None or not self._asked.cancel():
            stop()
            raise Cancelled()


def run(work: Work, here: Brief) -> int:
    """Run ``work`` to its end; the exit code.  Its error becomes a sentence and its own code."""
    here.listen()
    try:
        code = work(here)
    except LanxferError as error:
        code = here.out.report(error)
    finally:
        here.deafen()
    return here.out.with_trouble(code)
