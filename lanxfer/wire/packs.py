"""Many small files in one request: their manifest, and what became of each of them.

The body of ``recv_files`` (docs/protocol.rst, "Many small files").  The parsers are
total and bounded: any bytes give values or BadHeader, in time linear in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from lanxfer.errors import BadHeader, LanxferError, from_wire
from lanxfer.transfers import Conflict, Kind, Offer
from lanxfer.wire import limits
from lanxfer.wire.native import REASON_MAX, Fields, is_whole

_DIGEST = re.compile(r"[0-9a-f]{64}")


def format_manifest(offers: Iterable[Offer]) -> bytes:
    """One line a file; digests must be known.  ValueError where a path is no text."""
    lines = []
    for each in offers:
        if not is_whole(each.path):
            raise ValueError("half a character in a path")
        row = [each.path, each.size, each.mtime_ns, each.digest, each.executable]
        lines.append(json.dumps(row) + "\n")
    return "".join(lines).encode("ascii")


def parse_manifest(data: bytes, files: int, conflict: Conflict | None = None) -> list[Offer]:
    """What ``files`` lines offer; BadHeader if they are not that, or too much.

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
    offers, left = [], limits.PACK_MAX
    for row in rows:
        offer = _offer(row, conflict)
        left -= offer.size
        offers.append(offer)
    if left < 0:
        raise BadHeader("More bytes than one request carries.")
    return offers


def _offer(row: Any, conflict: Conflict | None) -> Offer:
    if type(row) is not list or len(row) != 5:
        raise BadHeader("A line of the manifest has five entries.")
    path, size, mtime, digest, executable = row
    if (
        type(path) is not str
        or type(size) is not int
        or not 0 <= size <= limits.PACK_FILE_MAX
        or not (mtime is None or (type(mtime) is int and 0 <= mtime <= limits.NUMBER_MAX))
        or type(digest) is not str
        or not _DIGEST.fullmatch(digest)
        or type(executable) is not bool
    ):
        raise BadHeader("A line of the manifest is path, size, time, digest and a flag.")
    return Offer(path, size, Kind.FILE, mtime, digest, executable, conflict)


@frozen
class Outcome:
    """What became of one file; without a row in the answer, this."""

    stored: str | None = None  # None: under its own name
    already: bool = False
    error: LanxferError | None = None


def outcome_row(at: int, outcome: Outcome) -> dict[str, Any] | None:
    """The row of the answer for file ``at``; None where nothing has to be said."""
    row: dict[str, Any] = {"at": at}
    error = outcome.error
    if error is not None:
        row.update(error=error.code, reason=error.reason[:REASON_MAX], retry=error.retry)
    if outcome.stored is not None:
        row["stored"] = outcome.stored
    if outcome.already:
        row["already"] = True
    return row if len(row) > 1 else None


def parse_outcomes(rows: Sequence[Mapping[str, Any]], files: int) -> list[Outcome]:
    """One outcome a file; BadHeader where the rows make no sense."""
    found = [Outcome()] * files
    named = set()
    for row in rows:
        fields = Fields(row)
        at = fields.take_number("at", most=files - 1)
        if at in named:
            raise BadHeader("The answer names a file twice.")
        named.add(at)
        code = fields.maybe_text("error", most=32)
        reason = fields.maybe_text("reason", most=REASON_MAX) or ""
        fields.take_flag("retry")  # the code says that as well
        error = None if code is None else from_wire(code, reason)
        found[at] = Outcome(fields.maybe_text("stored"), fields.take_flag("already"), error)
    return found
