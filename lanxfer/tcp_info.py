"""What the system knows of a TCP connection, where it tells."""

from __future__ import annotations

import socket
import struct
from typing import Any

_BYTES_ACKED = 120
"""Where ``tcpi_bytes_acked`` is in Linux's ``struct tcp_info`` (linux/tcp.h, since 4.1)."""


def acknowledged(handle: Any) -> int | None:
    """Bytes that the other side's system has acknowledged; None where nobody says.

    Raises the OSError of a socket that is closed.
    """
    tcp = handle is not None and handle.family in (socket.AF_INET, socket.AF_INET6)
    if not (tcp and hasattr(socket, "TCP_INFO")):
        return None
    info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED + 8)
    if len(info) < _BYTES_ACKED + 8:
        return None
    return int(struct.unpack_from("=Q", info, _BYTES_ACKED)[0])
