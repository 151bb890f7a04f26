"""How a process that does nothing but lanxfer treats its memory.

Not for an application that has a service in it: these settings hold for all of a process.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

GARBAGE = 20_000
"""Objects that may come before those in circles are looked for; the language's own is 700."""

ARENAS = 2
"""Heaps that the threads of this process share.

glibc gives each thread its own, which keeps what another one freed: 5 MiB and more of
files that have long gone, where one thread reads them and another sends them."""

_M_ARENA_MAX = -8  # of malloc.h


def arrange(serving: bool = False) -> None:
    """Suit thousands of small files; to be called once, when all is imported.

    What was imported stays, and of what comes with such files next to nothing is in circles.
    A service first lets go of what importing left in circles, about 1.5 MiB; that takes 35 ms,
    half as long as sending a small file does, so others leave it.
    """
    if serving:
        gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE)
    gc.enable()
    with suppress(AttributeError, OSError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)
