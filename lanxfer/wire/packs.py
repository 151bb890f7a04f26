"""Many files in one request: their manifest, and what became of each of them.

The body of ``recv_files`` (docs/protocol.rst, "Many files").  The parsers are
total and bounded: any bytes give values or BadHeader, in time linear in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from json.encoder import encode_basestring_ascii as _as_json
from typing import Any, TypeAlias

from lanxfer.errors import BadHeader, LanxferError, from_wire
from lanxfer.transfers import Conflict, Kind, Offer
from lanxfer.wire import limits
from lanxfer.wire.native import REASON_MAX, Fields, is_whole
from lanxfer.wire.packets import Args

_DIGITS = re.compile(r"[0-9a-f]*")


Row: TypeAlias = tuple[str, int, Kind, int | None, str | None, bool]
"""What a manifest says of one: what an ``Offer`` begins with."""


def format_manifest(rows: Iterable[Row]) -> bytes:
    """One line a file or folder; digests must be known.  ValueError where a path is no text."""
    lines = []
    for path, size, kind, mtime_ns, digest, flag in rows:
        if not (path.isascii() or is_whole(path)):
            raise ValueError("half a character in a path")
        if kind is Kind.FOLDER:
            lines.append(f"[{_as_json(path)}]\n")
            continue
        # As ``json.dumps`` has it, which takes as long as reading the file does.
        time = "null" if mtime_ns is None else mtime_ns
        executable = "true" if flag else "false"
        lines.append(f'[{_as_json(path)}, {size}, {time}, "{digest}", {executable}]\n')
    return "".join(lines).encode("ascii")


def parse_manifest(data: bytes, files: int, conflict: Conflict | None = None) -> list[Offer]:
    """What ``files`` lines offer, files and folders; BadHeader if they do not, or too much.

    Paths are as the peer wrote them, lone surrogates included.
    """
    lines = data.split(b"\n")
    if len(lines) != files + 1 or lines.pop():
        raise BadHeader("The manifest has not a line for each file.")
    try:
        # In one go, where a decoder a line would cost more than a file; that each line
        # is one row shows in their number, and in that a row has no rows in it.
        rows = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        raise BadHeader("A line of the manifest is not JSON.") from None
    if not data.isascii() or len(rows) != files:
        raise BadHeader("The manifest has not a line for each file.")
    folders = {
        at: Offer(row[0], 0, Kind.FOLDER, conflict=conflict)
        for at, row in enumerate(rows)
        if type(row) is list and len(row) == 1 and type(row[0]) is str
    }
    offers = _offers([row for at, row in enumerate(rows) if at not in folders], conflict)
    return [folders.get(at) or next(offers) for at in range(files)]


def _offers(rows: list[Any], conflict: Conflict | None) -> Iterator[Offer]:
    """Files, column by column: for one by one all these questions cost more than storing it."""
    if not rows:
        return iter([])
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {5}:
        raise BadHeader("A line of the manifest has five entries, or one for a folder.")
    paths, sizes, times, digests, flags = zip(*rows, strict=True)
    known = [each for each in times if each is not None]
    if (
        set(map(type, paths)) != {str}
        or set(map(type, sizes)) != {int}
        or not 0 <= min(sizes) <= max(sizes) <= limits.PACK_MAX
        or not set(map(type, known)) <= {int}
        or (known and not 0 <= min(known) <= max(known) <= limits.NUMBER_MAX)
        or set(map(type, digests)) != {str}
        or set(map(len, digests)) != {64}
        or not _DIGITS.fullmatch("".join(digests))
        or set(map(type, flags)) != {bool}
    ):
        raise BadHeader("A line of the manifest is path, size, time, digest and a flag.")
    if sum(sizes) > limits.PACK_MAX:
        raise BadHeader("More bytes than one request carries.")
    return map(Offer, paths, sizes, repeat(Kind.FILE), times, digests, flags, repeat(conflict))


REASON = 200
"""Characters of a reason in a row: an answer has to have room for one about each file."""


def format_outcome(at: int, end: Args | LanxferError) -> Args:
    """The row about file ``at``; there is none where nothing is to be said but "stored"."""
    if isinstance(end, LanxferError):
        return {
            "at": at,
            "error": end.code,
            "reason": end.reason[:REASON],
            "retry": end.retry,
        }
    return {"at": at, **end}


def parse_outcomes(
    rows: Sequence[Args], files: int, outcomes: object
) -> dict[int, dict[str, Any] | LanxferError]:
    """What became of those that are named: the error, or what the answer about it alone would say.

    BadHeader where the rows make no sense, or where there are not as many ``outcomes``
    of them as the other side had: what is not said must not be taken for good.
    """
    if type(outcomes) is not int or len(rows) != outcomes:
        raise BadHeader("The answer does not say what became of all files.")
    found: dict[int, dict[str, Any] | LanxferError] = {}
    for row in rows:
        fields = Fields(row)
        at = fields.take_number("at", most=files - 1)
        if at in found:
            raise BadHeader("The answer names a file twice.")
        code = fields.maybe_text("error", most=32)
        if code is None:
            found[at] = dict(fields.rest())
        else:
            found[at] = from_wire(code, fields.maybe_text("reason", most=REASON_MAX) or "")
    return found
