"""What a measured process does besides its work: report, and obey its standard input.

A side prints one JSON object a line.  The serving one says where it listens,
answers each line of its input with what it has used so far, and stops when
that input ends, so that none outlives the benchmark.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


def say(**fields: object) -> None:
    """Report."""
    print(json.dumps(fields), flush=True)


def peak() -> int:
    """The most memory this process ever had in use, in bytes.

    The kernel's own mark where there is one: what ``getrusage`` says begins, on
    Linux, with the size of whoever started the process.
    """
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def say_usage() -> None:
    """Report processor seconds, of all threads, and memory."""
    say(cpu=time.process_time(), peak=peak())


@implementer(IReadDescriptor)
class Control:
    """Standard input of a serving side."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        return 0

    def logPrefix(self) -> str:
        return "control"

    def doRead(self) -> None:
        asked = os.read(0, 4096)
        for _ in range(asked.count(b"\n")):
            say_usage()
        if not asked:
            self._end()

    def connectionLost(self, reason: Failure) -> None:
        # Some reactors see the end of a pipe without having anything read.
        self._end()

    def _end(self) -> None:
        self._reactor.removeReader(self)
        with suppress(ReactorNotRunning):
            self._reactor.stop()


@contextmanager
def reporting() -> Iterator[None]:
    """Report what was used when all is over, however it ended."""
    try:
        yield
    finally:
        say_usage()


def run(work: Callable[[], object], profile: str | None) -> None:
    """Do the work of one side, under a profiler if there is a file for what it finds."""
    with reporting():
        if profile is None:
            work()
        else:
            from bench.profiler import profiled

            with profiled(profile):
                work()
