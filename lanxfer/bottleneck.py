"""What keeps a send from being faster, as the operating system counts it (docs/doctor.rst).

Linux accounts for how long a connection had something on its way, and how much of
that it waited for the other side to read; and what each thread of this process
does.  The rest follows: while nothing is on its way, this side reads its disk,
computes, or has sent all that the other side is ready for.  Elsewhere, and where
nothing stands out, nothing is said.

A look costs half a millisecond; ``EVERY`` is how often one is meant to be taken.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum

from attrs import define, field, frozen

EVERY = 0.2

SPAN = 3.0
"""Seconds over which it is judged."""

MOST = 0.6
"""The share of them that makes a cause stand out."""

BUSY = 0.85
"""The share in which one thread computes, or stands in line for a core, that is the limit."""

_TASKS = "/proc/self/task"

_TIMES = struct.Struct("=168xQQ")
"""Of ``struct tcp_info``: busy_time and rwnd_limited, in microseconds."""


class Limit(Enum):
    """What is waited for."""

    SOURCE = "source disk"
    NETWORK = "network"
    PROCESSOR = "processor"
    TARGET = "target"
    UNKNOWN = ""


@frozen
class Look:
    """What was counted up to a moment, in seconds; ``waits``: a thread waits for a disk."""

    at: float
    busy: float
    unread: float
    waits: bool
    computed: dict[int, float]


def judge(looks: deque[Look]) -> Limit:
    """What stands out between the first look and the last."""
    first, last = looks[0], looks[-1]
    span = last.at - first.at
    if span < SPAN / 2:
        return Limit.UNKNOWN
    busy, unread = (last.busy - first.busy) / span, (last.unread - first.unread) / span
    common = first.computed.keys() & last.computed.keys()
    computing = [(last.computed[each] - first.computed[each]) / span for each in common]
    if max(computing, default=0.0) >= BUSY:
        return Limit.PROCESSOR
    if unread >= MOST:
        return Limit.TARGET
    if busy - unread >= MOST:
        return Limit.NETWORK
    waiting = sum(each.waits for each in looks) / len(looks)
    idle = 1 - busy
    if idle >= MOST and waiting >= MOST * idle:
        return Limit.SOURCE
    # By elimination, so this side has to be idle indeed: threads may work in turns.
    if idle + unread >= MOST and waiting + sum(computing) < (1 - MOST) * idle:
        return Limit.TARGET
    return Limit.UNKNOWN


@define(eq=False)
class Bottleneck:
    """One connection, looked at again and again; ``handle`` gives its socket, if there is one."""

    clock: Callable[[], float]
    handle: Callable[[], socket.socket | None]
    _looks: deque[Look] = field(factory=deque)
    _known: socket.socket | None = None

    def look(self) -> Limit:
        """What it is just now."""
        handle = self.handle()
        if handle is not self._known:
            self._looks.clear()
            self._known = handle
        times = None if handle is None else _times(handle)
        threads = _threads()
        if times is None or threads is None:
            return Limit.UNKNOWN
        now = self.clock()
        self._looks.append(Look(now, *times, *threads))
        while now - self._looks[0].at > SPAN:
            self._looks.popleft()
        return judge(self._looks)


def _times(handle: socket.socket) -> tuple[float, float] | None:
    with suppress(OSError, AttributeError, struct.error):
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        busy, unread = _TIMES.unpack_from(info)
        return busy / 1e6, unread / 1e6
    return None


def _threads() -> tuple[bool, dict[int, float]] | None:
    """Whether any thread waits for a disk, and the seconds each computed or wanted to."""
    waits, computed = False, {}
    try:
        for name in os.listdir(_TASKS):
            with suppress(FileNotFoundError, ProcessLookupError):
                state = _read(f"{_TASKS}/{name}/stat").rpartition(b")")[2].split()[0]
                ran, stood_in_line = _read(f"{_TASKS}/{name}/schedstat").split()[:2]
                waits = waits or state == b"D"
                computed[int(name)] = (int(ran) + int(stood_in_line)) / 1e9
    except (OSError, ValueError, IndexError):
        return None
    return waits, computed


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)
