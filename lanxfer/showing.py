"""Text of others as a terminal or a log may see it."""

from __future__ import annotations

import re

# Characters that act on a terminal, turn the reading direction or show nothing at all.
# Variation selectors are missing on purpose: they belong to the spelling of many emoji.
INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff]"
)

_PASSWORD = re.compile(rb'("password"\s*:\s*)"(?:[^"\\]|\\.)*"')
_TICKET = re.compile(rb"\A[0-9A-Fa-f-]{36} [0-9A-Fa-f-]{36}(?= )")


def shown(text: str, limit: int = 120) -> str:
    r"""Peer text for a log or a terminal: one line, nothing invisible, at most ``limit`` long.

    Whatever does not print becomes ``\xNN``, ``\uNNNN`` or ``\UNNNNNNNN``, a
    backslash two of them; what is cut off shows as an ellipsis.
    """
    if len(text) <= limit and text.isascii() and text.isprintable() and "\\" not in text:
        return text
    pieces = [_escape(character) for character in text[: limit + 1]]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    kept, room = "", limit - 1
    for piece in pieces:
        if len(piece) > room:
            break
        kept += piece
        room -= len(piece)
    return kept + "\N{HORIZONTAL ELLIPSIS}"


def _escape(character: str) -> str:
    if character == "\\":
        return r"\\"
    if character.isprintable() and not INVISIBLE.match(character):
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def quoted(text: str) -> str:
    """``shown`` text between quotation marks, for sentences; short, for log records are."""
    return f'"{shown(text, 60)}"'


def censored(line: bytes) -> bytes:
    """A header line as it may be logged: without a password, and without a ticket."""
    return _TICKET.sub(b"***", _PASSWORD.sub(rb'\1"***"', line))
