"""What a device is called on the network: a word that only those who know its key can read.

A tag is a random number and a keyed digest of it, so the same device looks like
another one every time, and two tags of it cannot be told to belong together
without its key (security design, section 9).  It proves nothing: anybody may say
again what was heard.  That is for TLS to find out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable

NONCE = 8
"""Bytes of the random number."""

_DIGEST = 8
_LENGTH = 26
_CONTEXT = b"lanxfer/1 discovery\0"


def make_tag(key: str, nonce: bytes) -> str:
    """The tag of the device with this key for a random number of ``NONCE`` bytes."""
    return base64.b32encode(nonce + _digest(key, nonce)).decode("ascii").rstrip("=").lower()


def match_tag(tag: str, keys: Iterable[str]) -> str | None:
    """Whose tag this is, of the devices that are known; None for all others."""
    try:
        data = base64.b32decode(tag.upper() + "======") if len(tag) == _LENGTH else b""
    except (binascii.Error, ValueError):
        return None
    if len(data) != NONCE + _DIGEST:
        return None
    nonce, said = data[:NONCE], data[NONCE:]
    for key in keys:
        if hmac.compare_digest(_digest(key, nonce), said):
            return key
    return None


def _digest(key: str, nonce: bytes) -> bytes:
    return hmac.digest(key.encode("ascii"), _CONTEXT + nonce, "sha256")[:_DIGEST]
