"""Many files in one request: what it says, its body, and what the answer says of each.

See docs/protocol.rst, "Many files".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lanxfer.errors import DigestMismatch, LanxferError, SourceChanged, TooLarge
from lanxfer.offering import Loaded, at_once, receipt_of, wire_time
from lanxfer.transfers import Conflict, Receipt
from lanxfer.wire import limits
from lanxfer.wire.native import parse_rows
from lanxfer.wire.packets import Args
from lanxfer.wire.packs import Row, format_manifest, parse_outcomes

PIECE = 64 * limits.KIB
"""Bytes from which on a file of a pack is not joined with others."""
JOINED = 256 * limits.KIB
"""Bytes of small files that are joined at a time."""

AGAIN_ONCE = (SourceChanged, DigestMismatch)
"""What is hardly ever so twice."""


def most_together(said: Mapping[str, object], rate: float | None) -> int:
    """Bytes of files that may go with one request to a receiver that ``said`` its limits.

    ``rate`` is how many bytes a second may pass, None where nobody holds them back.
    0 where none may but a small one by itself.
    """
    most = at_once(rate)
    for name in ("pack", "pack_file"):
        theirs = said.get(name, 0)
        most = min(most, theirs) if isinstance(theirs, int) else 0
    return most if most >= limits.INLINE_MAX else 0


def request_for(
    pack: Sequence[Loaded], conflict: Conflict | None, group: str
) -> tuple[dict[str, Any], bytes]:
    """The fields of ``recv_files``, and the manifest.

    TooLarge where the names are too long to go together.
    """
    manifest = format_manifest(map(_row, pack))
    if len(manifest) > limits.MANIFEST_MAX:
        raise TooLarge("The names of these files are too long to go with one request.")
    args: dict[str, Any] = {"files": len(pack), "manifest": len(manifest)}
    if conflict is not None:
        args["conflict"] = conflict.value
    if group:
        args["group"] = group
    return args, manifest


def _row(loaded: Loaded) -> Row:
    kind, path, _, size, mtime_ns, _, executable, *_ = loaded.entry
    return path, size, kind, wire_time(mtime_ns), loaded.digest, executable


def body_of(manifest: bytes, pack: Sequence[Loaded]) -> list[memoryview]:
    """The body of that request; small files are joined, for each piece has its price.

    They are there no longer then: twice as much memory would be needed else.
    """
    pieces: list[memoryview] = []
    small, size = [manifest], len(manifest)
    for loaded in pack:
        data, loaded.data = loaded.data or b"", None
        if loaded.units or len(data) >= PIECE or size >= JOINED:
            pieces.append(memoryview(b"".join(small)))
            small, size = [], 0
        pieces += loaded.units
        if len(data) >= PIECE:
            pieces.append(memoryview(data))
        else:
            small.append(data)
            size += len(data)
    return [*pieces, memoryview(b"".join(small))]


def body_in(memory: bytearray, manifest: bytes, pack: Sequence[Loaded]) -> list[memoryview]:
    """As ``body_of``, for who has sent all of it before the memory is wanted again.

    New memory for what is joined costs three times what copying it there does.
    """
    view, at = memoryview(memory), len(manifest)
    fits = at + sum([loaded.size for loaded in pack]) <= len(memory)
    if not fits or any([loaded.units for loaded in pack]):
        return body_of(manifest, pack)
    view[:at] = manifest
    for loaded in pack:
        data, loaded.data = loaded.data or b"", None
        end = at + len(data)
        view[at:end] = data
        at = end
    return [view[:at]]


def odd_ends(pack: Sequence[Loaded], args: Args, body: bytes) -> dict[int, Receipt | LanxferError]:
    """What an answer says of those that did not just arrive; BadHeader where it makes no sense."""
    said = parse_outcomes(parse_rows(body), len(pack), args.get("outcomes"))
    return {at: _end(pack[at], end) for at, end in said.items()}


def as_sent(loaded: Loaded) -> Receipt:
    """What is said of one that just arrived."""
    return Receipt(loaded.entry.path, loaded.entry.size, loaded.digest or "")


def _end(loaded: Loaded, end: dict[str, Any] | LanxferError) -> Receipt | LanxferError:
    if isinstance(end, LanxferError):
        return end
    path, size, digest, *_ = as_sent(loaded)
    try:
        return receipt_of({"stored": path, "blake3": digest, **end}, digest, size, 0)
    except LanxferError as error:
        return error


def goes_again(end: Receipt | LanxferError) -> bool:
    """Whether one of them goes once more, by itself."""
    return isinstance(end, LanxferError) and (end.retry or isinstance(end, AGAIN_ONCE))
