"""How a connection's socket is set up, whichever side opened it."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from typing import Any

from lanxfer.wire import limits

READ_SIZE = 256 * limits.KIB
"""Bytes taken from a socket at a time; 64 KiB, Twisted's own, costs a quarter of the speed."""

SEND_SIZE = 1024 * limits.KIB
"""Bytes given to a socket at a time; with Twisted's 128 KiB a unit takes four turns of the loop."""


_NOTICE_SILENCE = [
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", 20),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 50_000),
    )
    if hasattr(socket, name)
]
"""Seconds (and milliseconds, in the last) after which a cut wire shows, where the platform can."""


def tune(transport: Any, read_size: int = READ_SIZE) -> None:
    """Large reads, no waiting for more, and word within a minute when the wire is cut (B08)."""
    handle = getattr(transport, "socket", None)
    if handle is not None and handle.family in (socket.AF_INET, socket.AF_INET6):
        # A system that is short of memory may refuse; all works without them, only slower.
        with suppress(OSError):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
            for option, value in _NOTICE_SILENCE:
                handle.setsockopt(socket.IPPROTO_TCP, option, value)
    if hasattr(transport, "bufferSize"):
        transport.bufferSize = read_size
        transport.SEND_LIMIT = SEND_SIZE


def socket_of(transport: Any) -> socket.socket | None:
    """The socket below a transport, whatever lies between; None where there is none."""
    while transport is not None:
        found = getattr(transport, "socket", None)
        if isinstance(found, socket.socket):
            return found
        transport = getattr(transport, "transport", None)
    return None


def hung_up(transport: Any) -> bool:
    """Whether the other end of a UNIX socket is closed both ways, so that nobody reads any more.

    Over TCP that shows only when something is written.
    """
    found = socket_of(transport)
    if found is None or found.family != getattr(socket, "AF_UNIX", None):
        return False
    asking = select.poll()
    asking.register(found, select.POLLIN)
    return any(event & select.POLLHUP for _, event in asking.poll(0))
