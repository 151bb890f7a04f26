"""The words of tus 1.0 (https://tus.io/protocols/resumable-upload): headers to values and back."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from email.utils import formatdate
from typing import Any

from attrs import frozen

from lanxfer.errors import BadRequest, LanxferError
from lanxfer.wire import limits

VERSION = "1.0.0"
EXTENSIONS = "creation,termination,checksum,expiration"
BODY_TYPE = "application/offset+octet-stream"

ALGORITHMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}

METADATA_MAX = 8 * limits.KIB
"""Bytes of the header; a name has at most 2 KiB of them."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class WrongVersion(LanxferError):
    """The request does not speak tus 1.0.0."""

    code = "unsupported-version"


class ChecksumMismatch(LanxferError):
    """The part is not what its checksum says; nothing of it was kept."""

    code = "digest-mismatch"
    retry = True


def parse_number(text: str | None, header: str) -> int:
    """A number of bytes; BadRequest names the header that has none."""
    if text is None or not _NUMBER.fullmatch(text) or int(text) > limits.NUMBER_MAX:
        raise BadRequest(f"{header} has to be a number of bytes.")
    return int(text)


def parse_metadata(text: str) -> dict[str, str]:
    """``key base64,key base64``; a key may stand alone.  BadRequest for what is none."""
    found: dict[str, str] = {}
    if len(text) > METADATA_MAX:
        raise BadRequest("Upload-Metadata is too long.")
    for each in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = each.partition(" ")
        if key in found:
            raise BadRequest(f"Upload-Metadata says {key!r} twice.")
        try:
            found[key] = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise BadRequest("Upload-Metadata is not UTF-8 in Base64.") from None
    return found


@frozen
class Checksum:
    """What a part has to come to."""

    algorithm: str
    digest: bytes

    def holds(self, data: bytes | bytearray) -> bool:
        """Whether these are the bytes."""
        return bool(ALGORITHMS[self.algorithm](data).digest() == self.digest)


def parse_checksum(text: str | None) -> Checksum | None:
    """``algorithm base64``; BadRequest for one that is not known here."""
    if text is None:
        return None
    algorithm, _, value = text.partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"Checksums are {' or '.join(ALGORITHMS)}.")
    try:
        return Checksum(algorithm, base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        raise BadRequest("Upload-Checksum is not Base64.") from None


def format_expires(seconds: float) -> str:
    """A moment, in seconds since the epoch, as HTTP says it."""
    return formatdate(seconds, usegmt=True)


def about(most: int) -> dict[str, Any]:
    """The headers that say what is spoken here; ``most`` bytes fit."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(most),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
