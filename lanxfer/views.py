"""Whether two processes see the same files: by the same path another may find other ones.

A service in a mount namespace of its own (``PrivateTmp`` and its like), or in
another root folder, must not send something else than the command meant that
asked it to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    """Something that was named: where it lies, and what is there."""

    path: str
    dev: int
    ino: int


def view() -> str:
    """The mount namespace and the root folder of this process, in a word to compare."""
    try:
        namespace = os.readlink("/proc/self/ns/mnt")
    except OSError:
        namespace = ""  # systems that have no such thing, or do not tell
    root = os.stat(os.sep)
    return f"{namespace} {root.st_dev}:{root.st_ino}"


def look(path: str) -> Seen:
    """What lies at a path, itself and not what it points to; OSError or ValueError."""
    whole = os.path.join(os.getcwd(), path)
    found = os.lstat(whole)
    return Seen(whole, found.st_dev, found.st_ino)


def as_typed(local: str, paths: Sequence[str]) -> str:
    """Where something below ``paths`` lies, beginning with the one that was typed."""
    for path in paths:
        whole = os.path.join(os.getcwd(), path)
        if local == whole or local.startswith(whole.rstrip(os.sep) + os.sep):
            return path + local[len(whole) :]
    return local


def sees(things: Sequence[Seen], from_where: str | None = None) -> bool:
    """Whether this process sees all of these as the one did whose ``view`` that is.

    An inode says all about a file.  What is mounted below a folder it does not say, which
    counts only where there is a view.
    """
    same_view = from_where is None or from_where == view()
    for thing in things:
        try:
            found = os.lstat(thing.path)
        except (OSError, ValueError):
            return False
        if (found.st_dev, found.st_ino) != (thing.dev, thing.ino):
            return False
        if not (same_view or stat.S_ISREG(found.st_mode)):
            return False
    return True
