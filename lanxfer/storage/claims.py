"""A name that one process at a time may have; it is free again when that process ends, however."""

from __future__ import annotations

import os

from lanxfer.storage.private import make_private
from lanxfer.storage.system import close, flock


class Claim:
    """A lock on a file, held until ``release`` or the end of the process."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        """The file stays: whoever removes it could have two processes lock two files."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            close(fd)


def claim(folder: str, name: str) -> Claim | None:
    """Take a name; None where another process has it.  The folder is made if need be."""
    make_private(folder)
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    fd = os.open(os.path.join(folder, f"{name}.lock"), flags, 0o600)
    try:
        flock(fd)
    except BlockingIOError:
        close(fd)
        return None
    except BaseException:
        close(fd)
        raise
    return Claim(fd)


def claimed(folder: str, name: str) -> bool:
    """Whether another process has the name just now."""
    if not os.path.exists(os.path.join(folder, f"{name}.lock")):
        return False
    found = claim(folder, name)
    if found is not None:
        found.release()
    return found is None
