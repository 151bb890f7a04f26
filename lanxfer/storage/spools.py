"""Bytes that are made one after the other and go out as a file once it is known how many."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress

from lanxfer.storage.system import close


class Spool:
    """A file of its own, open to this user only, for as long as it is needed; blocks.

    ``path`` is where.  Whoever made it removes it.
    """

    def __init__(self) -> None:
        self._fd, self.path = tempfile.mkstemp(prefix="lanxfer-")

    def write(self, data: bytes) -> None:
        """Append all of ``data``."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def remove(self) -> None:
        """Close and remove it; twice is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            close(fd)
            with suppress(FileNotFoundError):
                os.unlink(self.path)
