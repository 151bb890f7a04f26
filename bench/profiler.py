"""cProfile over the reactor's thread and over the disk threads, in processor time.

Wall-clock time would count waiting for the other threads, and for the other
side, as work of whatever function happened to wait.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

THREADS = ".threads"
"""What the file name of the other threads' profile has at its end."""


class _Threads:
    """A profiler for each thread that starts from now on."""

    def __init__(self) -> None:
        self.profiles: list[cProfile.Profile] = []

    def begin(self, frame: Any, event: str, arg: Any) -> None:
        """The first event of a new thread; its own profiler takes over from here."""
        sys.setprofile(None)
        profile = cProfile.Profile(time.thread_time)
        self.profiles.append(profile)
        profile.enable()


@contextmanager
def profiled(path: str) -> Iterator[None]:
    """Profile this thread into ``path``, and threads started meanwhile into ``path.threads``.

    From Python 3.12 on there can be one profiler a process only, and the
    other threads go without.
    """
    threads = _Threads()
    if sys.version_info < (3, 12):
        threading.setprofile(threads.begin)
    own = cProfile.Profile(time.thread_time)
    own.enable()
    try:
        yield
    finally:
        own.disable()
        threading.setprofile(None)
        own.dump_stats(path)
        if threads.profiles:
            found = pstats.Stats(*threads.profiles)
            found.dump_stats(path + THREADS)
