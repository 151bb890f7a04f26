"""Small files that come whole, in staging: nobody goes on with one, so each needs a name, no key.

The names are numbers of our own; whoever starts next takes away what a crash left.  Files of a
folder that is new are written in one here, which then gets its name with all of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from secrets import token_hex

from lanxfer.storage.system import FILE_FLAGS, FOLDER_FLAGS, close

_NAME = re.compile(r"[0-9a-f]{16}-[0-9]+\.(?:small|new)\Z")
_NEW = ".new"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE_FLAGS


class NewFolder:
    """A folder in staging, for files that have their own names in it; until ``close``.

    It is ``sound`` as long as nothing is in it but what is to be.
    """

    def __init__(self, above: int, staged: str) -> None:
        self.staged = staged
        self.sound = True
        os.mkdir(staged, 0o777, dir_fd=above)
        try:
            self.fd = os.open(staged, FOLDER_FLAGS, dir_fd=above)
        except OSError:
            os.rmdir(staged, dir_fd=above)
            raise

    def create(self, name: str, mode: int) -> int:
        """A new, empty file; whoever asked closes it.  FileExistsError where there is one."""
        return os.open(name, _FLAGS, mode, dir_fd=self.fd)

    def remove(self, name: str) -> None:
        """Take a file out again."""
        os.unlink(name, dir_fd=self.fd)

    def inodes(self) -> dict[str, int]:
        """The files in it, to be known again."""
        with os.scandir(self.fd) as entries:
            return {entry.name: entry.inode() for entry in entries}

    def take_back(self, inodes: Mapping[str, int]) -> None:
        """Remove those files, wherever it is by now; what others put in it stays."""
        with suppress(OSError):
            for name, _ in self.inodes().items() & inodes.items():
                self.remove(name)

    def close(self) -> None:
        """Let it go; closing twice is fine."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close(fd)


class Wholes:
    """Those in the staging folder ``fd``, which is locked by whoever makes this."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._token, self._numbers = token_hex(8), count()
        self._stuck: list[str] = []
        self.remove(filter(_NAME.match, os.listdir(fd)))

    def create(self, mode: int) -> tuple[str, int]:
        """The name of a new, empty file, and its descriptor; whoever asked closes it.

        It may have its ``mode`` (before the umask) at once, for nobody else is let in here.
        """
        name = f"{self._token}-{next(self._numbers)}.small"
        return name, os.open(name, _FLAGS, mode, dir_fd=self._fd)

    def new_folder(self) -> NewFolder:
        """A new, empty folder; whoever asked closes it."""
        return NewFolder(self._fd, f"{self._token}-{next(self._numbers)}{_NEW}")

    def remove(self, names: Iterable[str]) -> None:
        """Take away files and folders; what cannot be taken now is for ``tidy``."""
        for name in names:
            try:
                if name.endswith(_NEW):
                    self._remove_folder(name)
                else:
                    os.unlink(name, dir_fd=self._fd)
            except FileNotFoundError:
                continue
            except OSError:
                self._stuck.append(name)

    def _remove_folder(self, name: str) -> None:
        fd = os.open(name, FOLDER_FLAGS, dir_fd=self._fd)
        try:
            for each in os.listdir(fd):
                os.unlink(each, dir_fd=fd)
        finally:
            close(fd)
        os.rmdir(name, dir_fd=self._fd)

    def tidy(self) -> int:
        """Try once more what could not be taken away; how many went."""
        stuck, self._stuck = self._stuck, []
        self.remove(stuck)
        return len(stuck) - len(self._stuck)
