"""Small files that come whole, in staging: nobody goes on with one, so each needs a name, no key.

The names are numbers of our own; whoever starts next takes away what a crash left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import count, islice
from secrets import token_hex

from lanxfer.storage.system import FILE_FLAGS

_NAME = re.compile(r"[0-9a-f]{16}-[0-9]+\.small\Z")


class Wholes:
    """Those in the staging folder ``fd``, which is locked by whoever makes this."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._token, self._numbers = token_hex(8), count()
        self._stuck: list[str] = []
        for name in filter(_NAME.match, os.listdir(fd)):
            with suppress(OSError):
                os.unlink(name, dir_fd=fd)

    def names(self, files: int) -> list[str]:
        """Names that nothing in the folder has."""
        token = self._token
        return [f"{token}-{number}.small" for number in islice(self._numbers, files)]

    def create(self, name: str) -> int:
        """A new, empty file of such a name; whoever asked closes it."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE_FLAGS
        return os.open(name, flags, 0o600, dir_fd=self._fd)

    def remove(self, names: Iterable[str]) -> None:
        """Take names away; what cannot be taken now is for ``tidy``."""
        for name in names:
            try:
                os.unlink(name, dir_fd=self._fd)
            except FileNotFoundError:
                continue
            except OSError:
                self._stuck.append(name)

    def tidy(self) -> int:
        """Try once more what could not be taken away; how many went."""
        stuck, self._stuck = self._stuck, []
        self.remove(stuck)
        return len(stuck) - len(self._stuck)
