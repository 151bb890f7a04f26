"""The first line of a connection that carries one body in clear: ``pour <ticket> <offset>``.

See docs/protocol.rst, "A body in clear".  Whatever is wrong with the line has one
sentence, as with the tickets of ``lanxfer.wire.ticket``.
"""

from __future__ import annotations

import re

from lanxfer.errors import BadHeader
from lanxfer.wire import limits

BEGINNING = b"pour "

TAKEN = b"ok\n"
"""What the receiver answers before the first byte of the body."""

_POUR = re.compile(rb"pour ([0-9a-f]{32}) (0|[1-9][0-9]{0,18})")


def parse_pour(line: bytes) -> tuple[str, int]:
    """Ticket and offset of such a line, line end cut off; BadHeader for all else."""
    found = _POUR.fullmatch(line)
    if found is None or int(found[2]) > limits.NUMBER_MAX:
        raise BadHeader("That is no ticket for a body.")
    return found[1].decode("ascii"), int(found[2])


def format_pour(ticket: str, offset: int) -> bytes:
    """The line, LF included; ValueError for what is no such ticket."""
    line = f"pour {ticket} {offset}".encode("ascii")
    if not _POUR.fullmatch(line):
        raise ValueError("a ticket for a body has 32 hex digits and an offset")
    return line + b"\n"
