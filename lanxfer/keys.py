"""The name of a device's key, as people read, write and shorten it."""

from __future__ import annotations

import re

from lanxfer.errors import BadConfig

KEY_LENGTH = 52
GROUP = 4

# 52 characters are 260 bits: the last one carries the 256th and four zeros.
_KEY = re.compile(r"[A-Z2-7]{51}[AQ]")


def format_key(key: str) -> str:
    """As people read it: groups of four with dashes."""
    return "-".join(key[at : at + GROUP] for at in range(0, len(key), GROUP))


def short_key(key: str) -> str:
    """The first two groups: enough to tell the devices of one network apart, proof of nothing."""
    return format_key(key[: 2 * GROUP])


def parse_key(text: str) -> str:
    """What ``format_key`` wrote, also in lower case, with blanks, or without dashes."""
    key = squeeze_key(text)
    if len(key) != KEY_LENGTH:
        raise BadConfig(
            f"A key has {KEY_LENGTH} letters and digits, this has {len(key)};"
            ' "lanxfer key show" on the other device prints it.'
        )
    if not _KEY.fullmatch(key):
        raise BadConfig(
            "That is not a key: only the letters A to Z and the digits 2 to 7 occur in one,"
            " and not every combination is one; please compare it again."
        )
    return key


def squeeze_key(text: str) -> str:
    """A key, or the beginning of one, without dashes and blanks and in upper case."""
    kept = "".join(text.replace("-", "").split())
    return kept.upper() if kept.isascii() else kept
