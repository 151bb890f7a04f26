"""Digests of a file's beginnings, by which a resume is proved before it continues.

The receiver lists a few offsets with the digest of everything before each,
the sender looks for the largest at which its own file agrees.  Both sides
keep the running digest of every offset, so that whoever goes on from there
does not read the beginning a second time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from blake3 import blake3

from lanxfer.wire import limits

ReadAt: TypeAlias = Callable[[int, int], bytes]
"""(offset, most bytes) to bytes; b"" where the file ends."""

# Large enough to keep the digest busy, small enough for the allocator to reuse it.
_UNIT = 256 * limits.KIB


def ladder(held: int) -> tuple[int, ...]:
    """The offsets to prove of ``held`` bytes: the end, and 16, 32, 64 ... MiB before it."""
    offsets = [held] if held > 0 else []
    step = limits.CHECKPOINT
    while step < held:
        offsets.append(held - step)
        step *= 2
    return tuple(offsets[: limits.HAVE_MAX])


def thinned(known: Mapping[int, blake3], held: int) -> dict[int, blake3]:
    """Of the digests that are known those at the rungs of ``ladder(held)``, or next above them.

    Each interruption leaves one more, and a proof has room for so many (``limits.HAVE_MAX``).
    Those below a rung would do as well, but so none would stay that a later one needs.
    """
    marks = sorted(known)
    found = {}
    for rung in ladder(held):
        at = bisect_left(marks, rung)
        if at < len(marks):
            found[marks[at]] = known[marks[at]]
    return found


def running_digests(
    read_at: ReadAt, offsets: Iterable[int], known: Mapping[int, blake3] | None = None
) -> dict[int, blake3]:
    """The running digest at each of these offsets, from one pass; copy one before updating it.

    Offsets the bytes do not reach are missing from the answer.  What is ``known``
    of the same bytes is not read again.
    """
    found: dict[int, blake3] = {}
    running, position = blake3(), 0
    marks = sorted(known or ())
    for offset in sorted(set(offsets)):
        before = bisect_right(marks, offset)
        if known and before and marks[before - 1] > position:
            position = marks[before - 1]
            running = known[position].copy()
        while position < offset:
            data = read_at(position, min(_UNIT, offset - position))
            if not data:
                return found
            running.update(data)
            position += len(data)
        found[offset] = running.copy()
    return found


def digest_of(read_at: ReadAt, size: int) -> str | None:
    """The digest of the first ``size`` bytes, None if there are fewer."""
    whole = running_digests(read_at, [size]).get(size)
    return whole.hexdigest() if whole else None
