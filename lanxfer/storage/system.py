"""The few things the disk modules ask of the operating system, and how its errors are read.

Importable everywhere; a store can be made only where folders can be reached
through descriptors.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lanxfer.errors import DiskFailed, LanxferError, SourceUnreadable, from_os
from lanxfer.storage.names import quoted

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_COMMON = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

FOLDER_FLAGS: int = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _COMMON
FILE_FLAGS: int = _COMMON | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""Not blocking: a pipe may have taken the place of a file since it was looked at."""

_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)


class SyncFailed(Exception):
    """A sync went wrong, so what was written since the last one may be there or not.

    Asking again can succeed without the bytes being there: nobody may.
    """

    def __init__(self, error: LanxferError) -> None:
        self.error = error
        super().__init__(str(error))


def sync(fd: int) -> None:
    """Make a file or a folder durable; SyncFailed if that cannot be said."""
    try:
        if not _full_sync(fd):
            os.fsync(fd)
    except OSError as error:
        raise SyncFailed(from_os(error)) from error


def _find_syncfs() -> Any:
    """The system's call, where it also says what went wrong: Linux from 5.8 on."""
    if sys.platform != "linux":
        return None
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    if found is None or (int(found[1]), int(found[2])) < (5, 8):
        return None
    return getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)


_syncfs = _find_syncfs()


def sync_all(fd: int) -> bool:
    """Make everything durable that was written to the file system of ``fd``; or SyncFailed.

    For many files that is less work than a sync each (250 of 4 KiB on ext4: 4 ms instead of
    17), though it waits for what others wrote there as well.  False where there is no such call.
    """
    if _syncfs is None:
        return False
    if _syncfs(fd) < 0:
        number = ctypes.get_errno()
        raise SyncFailed(from_os(OSError(number, os.strerror(number))))
    return True


def can_sync_all() -> bool:
    """Whether ``sync_all`` does anything here."""
    return _syncfs is not None


def _full_sync(fd: int) -> bool:
    """On macOS fsync stops at the drive's own memory; False where there is nothing stronger."""
    if _FULL_SYNC is None:
        return False
    try:
        fcntl.fcntl(fd, _FULL_SYNC)
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.EINVAL, errno.ENOTTY}:
            return False
        raise
    return True


def close(fd: int) -> None:
    """Let a descriptor go.

    It is gone even where that is an error, and the error says nothing that
    matters: what has to be durable was synced, and the rest is proved.
    """
    try:
        os.close(fd)
    except OSError:
        return


def flock(fd: int) -> bool:
    """Lock a file; BlockingIOError if somebody has it, False where there are no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def translated(error: OSError | SyncFailed | LanxferError) -> LanxferError:
    """The typed form of whatever work on the disk can raise."""
    if isinstance(error, LanxferError):
        return error
    if isinstance(error, SyncFailed):
        return error.error
    if isinstance(error, FileNotFoundError):
        # What peers may name is looked for, and has its own answer; here it is the ground itself.
        return DiskFailed("The receiving folder, or a part of it, is gone.")
    return from_os(error)


@contextmanager
def typed() -> Iterator[None]:
    """Let only errors of the family out."""
    try:
        yield
    except (OSError, SyncFailed) as error:
        raise translated(error) from error


def unreadable(path: str, error: OSError | ValueError) -> SourceUnreadable:
    """Why something cannot be sent, as a sentence."""
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.ELOOP, errno.EMLINK}:
        why = "is a symbolic link; name the file it points to"
    elif number == errno.ENOENT:
        return SourceUnreadable(f"There is no {quoted(path)}.")
    elif number in {errno.EACCES, errno.EPERM}:
        why = "may not be read by this user"
    elif number in {errno.ENXIO, errno.ENODEV}:
        why = "is not a regular file"
    elif number is None:
        why = "is not a valid name"
    else:
        assert isinstance(error, OSError)
        why = f"cannot be read ({error.strerror or 'no reason given'})"
    return SourceUnreadable(f"{quoted(path)} {why}.")
