"""Processes that are cheap to start and may be killed at any moment.

Starting Python and importing lanxfer takes far longer than a transfer of some
files, so a command imports everything once and forks each side from there;
only the reactor is made in the child, for it holds descriptors.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from attrs import define

_WARM = (
    "lanxfer.cli.main",
    "lanxfer.cli.running",
    "lanxfer.cli.sending",
    "lanxfer.client",
    "lanxfer.service",
    "twisted.internet.default",
    "twisted.internet.epollreactor",
    "twisted.internet.endpoints",
    "twisted.internet.unix",
    "twisted.python.threadpool",
    "twisted.plugin",
    "encodings.idna",
    "rich",
)

PATIENCE = 20.0
"""Seconds after which a side is taken to hang: far longer than any wait that is meant."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

reaped: dict[int, int] = {}
"""Statuses of children that were waited for by somebody else than their ``Process``."""


class ChaosFailed(Exception):
    """The command itself could not do its work, so it has no figure to show."""


def warm() -> None:
    """Import what both sides need, but no reactor."""
    for name in _WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


@define
class Process:
    """A child of this process, in a process group of its own."""

    pid: int
    gate: int = -1
    """Closing it lets a child go that was started ``held``."""
    _fd: int = -1
    _status: int | None = None

    def __attrs_post_init__(self) -> None:
        self._fd = os.pidfd_open(self.pid)

    def release(self) -> None:
        """Let a held child go."""
        gate, self.gate = self.gate, -1
        if gate >= 0:
            os.close(gate)

    def kill(self) -> None:
        """kill -9, and wait for the end of it."""
        if self.over():
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def over(self) -> bool:
        """Whether it has ended."""
        if self._status is None and self.pid in reaped:
            self._end(reaped.pop(self.pid))
        # Not by waitpid alone: that would take the stops of a traced process from its tracer.
        if self._status is None and select.select([self._fd], [], [], 0)[0]:
            with suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._end(status)
        return self._status is not None

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Its exit code, a signal's number below 0, None if it hangs."""
        if not self.over():
            select.select([self._fd], [], [], seconds)
        return os.waitstatus_to_exitcode(self._status or 0) if self.over() else None

    def _end(self, status: int) -> None:
        self._status = status
        self.release()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def spawn(work: Callable[[], int], said: str, *, held: bool = False) -> Process:
    """Fork a child that does ``work``; its standard output is ``said``, its errors are beside it.

    It never outlives this process.  With ``held`` it waits for ``release``.
    """
    ready, tell = os.pipe()
    wait, gate = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tell)
        os.close(wait)
        os.read(ready, 1)
        os.close(ready)
        process = Process(pid, gate)
        if not held:
            process.release()
        return process
    code = 70
    try:
        os.close(ready)
        os.close(gate)
        _become(said)
        os.close(tell)
        os.read(wait, 1)
        os.close(wait)
        code = work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _become(said: str) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptor, path in ((1, said), (2, f"{said}.errors")):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
