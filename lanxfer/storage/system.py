"""The few things the disk modules ask of the operating system, and how its errors are read.

Importable everywhere; a store can be made only where folders can be reached
through descriptors.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lanxfer.errors import DiskFailed, LanxferError, SourceUnreadable, from_os
from lanxfer.showing import quoted

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
_NOREPLACE = 1


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


@cache
def _own_call(name: str, since: tuple[int, int]) -> Any:
    """A call of Linux that Python has no name for; None on other systems, and on older ones."""
    if sys.platform != "linux":
        return None
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if found is None or (int(found[1]), int(found[2])) < since:
        return None
    # Not above: who sends calls none of them, and it is a twentieth of what such a one imports.
    import ctypes

    return getattr(ctypes.CDLL(None, use_errno=True), name, None)


def sync_all(fd: int) -> bool:
    """Make everything durable that was written to the file system of ``fd``; or SyncFailed.

    For many files that is less work than a sync each (250 of 4 KiB on ext4: 4 ms instead of
    17), though it waits for what others wrote there as well.  False where there is no such
    call that says what went wrong.
    """
    syncfs = _own_call("syncfs", (5, 8))
    if syncfs is None:
        return False
    if syncfs(fd) < 0:
        import ctypes

        number = ctypes.get_errno()
        raise SyncFailed(from_os(OSError(number, os.strerror(number))))
    return True


def can_sync_all() -> bool:
    """Whether ``sync_all`` does anything here."""
    return _own_call("syncfs", (5, 8)) is not None


def rename_new(name: str, new: str, src_dir_fd: int, dst_dir_fd: int) -> bool:
    """Give a folder another name, which nothing may have; False if that is not to be had.

    The system's usual call puts a folder in the place of an empty one, that somebody may just
    have made to put something there.
    """
    renameat2 = _own_call("renameat2", (3, 15))
    if renameat2 is None:
        return False
    names = os.fsencode(name), os.fsencode(new)
    return bool(renameat2(src_dir_fd, names[0], dst_dir_fd, names[1], _NOREPLACE) == 0)


def gives_on(folder: int) -> bool:
    """Whether a folder that is made in it would be another than elsewhere: its group, its ACL."""
    if os.fstat(folder).st_mode & stat.S_ISGID:
        return True
    try:
        return bool(os.getxattr(folder, "system.posix_acl_default"))
    except OSError as error:
        return error.errno not in {errno.ENODATA, errno.ENOTSUP}
    except AttributeError:  # no Linux
        return True


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
