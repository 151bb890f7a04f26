"""Telling from its first bytes what a connection speaks (docs/protocol.rst, "Who speaks")."""

from __future__ import annotations

import re
from enum import Enum

from lanxfer.wire.clear import BEGINNING

VERBS = frozenset(
    {"do", "ok", "error", "go", "window", "part", "end", "cancel", "event", "take", "bye"}
)


class Dialect(Enum):
    """What a caller speaks; NONE is everything that lanxfer does not."""

    TLS = "tls"
    NATIVE = "native"
    LITERAL = "literal"
    TICKET = "ticket"
    CLEAR = "clear"
    NONE = "none"


_FIRST_KEY = re.compile(rb'\{"([^"\\]{0,32})"')
_FIRST_KEY_BEGUN = re.compile(rb'\{"[^"\\]{0,32}\Z')
_TICKET_BEGUN = re.compile(rb"[0-9a-f][0-9a-f-]{0,36}")


def sniff(first: bytes) -> Dialect | None:
    """The dialect of a connection that began with ``first``; None while that is open.

    Decided within 40 bytes, and for good: whoever began like one dialect and
    goes on like another is answered in the first.
    """
    if first[:2] in (b"\x16\x03", b"\x16"):
        return Dialect.TLS if len(first) > 1 else None
    if first in (b"", b"{"):
        return None
    if first.startswith(b"{'"):
        return Dialect.LITERAL
    if first.startswith(b'{"'):
        if _FIRST_KEY_BEGUN.match(first):
            return None
        key = _FIRST_KEY.match(first)
        native = key is not None and key[1].decode("latin-1") in VERBS
        return Dialect.NATIVE if native else Dialect.LITERAL
    if first.startswith(BEGINNING):
        return Dialect.CLEAR
    if BEGINNING.startswith(first):
        return None
    if _TICKET_BEGUN.match(first):
        return Dialect.TICKET
    return Dialect.NONE
