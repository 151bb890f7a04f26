"""What every store refuses, and how it tells a file that is there from the one offered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

from blake3 import blake3

from lanxfer.errors import (
    BadName,
    BadOffset,
    DigestMismatch,
    Exists,
    QuotaExceeded,
    ShortBody,
)
from lanxfer.storage import Facts, Small
from lanxfer.storage.names import SafePath, quoted, renamed, series_name
from lanxfer.transfers import Conflict, Offer, Stored

_KEY = re.compile(r"[0-9a-f]{32}\Z")

# Numbered names that are tried before giving up; each costs a look, and a peer can fill them.
_NUMBERS = 10_000

# What file systems keep without turning it into something else: 1970 to 2200.
_MTIME_MAX = 230 * 366 * 24 * 3600 * 10**9


def usable_mtime(mtime_ns: int | None) -> int | None:
    """A time that may be given to a file; None for what is missing or odd."""
    return mtime_ns if mtime_ns is not None and 0 <= mtime_ns <= _MTIME_MAX else None


def mode_of(executable: bool) -> int:
    """The mode of a file, before the umask."""
    return 0o777 if executable else 0o666


def refuse_key(key: str) -> None:
    """BadName for what is no key of a transfer: keys become file names."""
    if not _KEY.match(key):
        raise BadName("That is not the key of a transfer.")


def refuse_hidden(path: SafePath, dotfiles: bool) -> None:
    """BadName for a hidden file where those are not taken."""
    if not dotfiles and path.hidden:
        raise BadName(f"Hidden files such as {quoted(str(path))} are not taken here.")


def refuse_taken(facts: Facts | None, offer: Offer, conflict: Conflict) -> None:
    """Exists where what lies at the name settles before the first byte that it cannot be had."""
    if facts is None or conflict not in {Conflict.REFUSE, Conflict.OVERWRITE}:
        return
    if facts.kind != "file":
        raise Exists(f"There is a {facts.kind} of that name, which is not replaced.")
    if conflict is Conflict.REFUSE and facts.size != offer.size:
        raise Exists()


def may_be_elsewhere(conflict: Conflict) -> bool:
    """Whether the name that a file was given last time settles this, too, if it is another one.

    Who asks to replace what is there is not served by a copy beside it.
    """
    return conflict is not Conflict.OVERWRITE


def refuse_unfinished(files: int, size: int, most: tuple[int, int]) -> None:
    """QuotaExceeded where somebody left too much unfinished to begin anything new (K10)."""
    if files >= most[0] or size >= most[1]:
        raise QuotaExceeded(
            f"{files} unfinished files of this device wait there already: finish some of them"
            " first, or wait until they are too old."
        )


def refuse_small(small: Small, dotfiles: bool) -> None:
    """Whatever is wrong with a small file in itself."""
    _, offer, path, _, pieces = small
    refuse_hidden(path, dotfiles)
    size = offer.size
    if len(pieces) == 1:
        found, digest = len(pieces[0]), blake3(pieces[0])
    else:
        found, digest = sum(map(len, pieces)), blake3()
        for piece in pieces:
            digest.update(piece)
    if digest.hexdigest() == offer.digest and found == size:
        return
    if found < size:
        raise ShortBody(have=found)
    if found > size:
        raise BadOffset("More bytes came than were announced.", offset=size)
    raise DigestMismatch()


def looks_like(facts: Facts | None, offer: Offer) -> bool:
    """Whether that could be the file that is offered; only its digest proves it."""
    mtime = usable_mtime(offer.mtime_ns)
    return (
        facts is not None
        and facts.kind == "file"
        and facts.size == offer.size
        and (mtime is None or facts.mtime_ns == mtime)
    )


def told_by_name(offer: Offer, path: SafePath, stored: Stored) -> bool:
    """Whether who offers it again finds it without a receipt: under its own name, by its time."""
    return stored.path == str(path) and usable_mtime(offer.mtime_ns) is not None


def numbered(name: str, conflict: Conflict) -> Iterator[str]:
    """The names to try, in order, where a name is taken or not to be used; then Exists."""
    make, first = (series_name, 1) if conflict is Conflict.SERIES else (renamed, 2)
    for number in count(first):
        if number >= _NUMBERS:
            raise Exists("There are too many files of that name.")
        yield make(name, number)
