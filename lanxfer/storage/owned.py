"""Files of the owner's own that say what this device does: nobody else may have written them."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from contextlib import suppress

from lanxfer.errors import BadConfig
from lanxfer.state import sync_folder
from lanxfer.wire import limits

OWNED_MAX = 1 * limits.MIB

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_owned(path: str) -> bytes | None:
    """The whole file, None where there is none; BadConfig where others may write to it.

    Root's own file is as good as one of this user's: an administrator put it there.
    """
    try:
        # Without waiting, since what lies there might be a pipe.
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _unusable(path, "be read", error) from None
    try:
        _check(path, os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(OWNED_MAX)
    except OSError as error:
        raise _unusable(path, "be read", error) from None
    finally:
        os.close(descriptor)


def replace_owned(path: str, data: bytes) -> None:
    """Put ``data`` in place of the whole file, with its old mode, else 600; durable.

    A folder that is not there is made, for this user alone.

    A reader sees the old content or the new.  A link stays, and what it leads to changes.
    """
    path = os.path.realpath(path)
    beside = f"{path}.{os.urandom(8).hex()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            mode = 0o600
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                if sys.platform != "win32":
                    os.fchmod(descriptor, mode)
                file.flush()
                os.fsync(descriptor)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise
        sync_folder(os.path.dirname(path))
    except OSError as error:
        raise _unusable(path, "be written", error) from None


def _check(path: str, found: os.stat_result) -> None:
    shown = shlex.quote(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size > OWNED_MAX:
        raise BadConfig(f"{shown} is no configuration file.")
    if sys.platform == "win32":
        return
    if found.st_uid not in (os.geteuid(), 0):
        raise BadConfig(
            f"{shown} belongs to another user (number {found.st_uid}), who could change it."
        )
    if found.st_mode & 0o022:
        raise BadConfig(
            f'Other users of this machine can write to {shown}; close it: "chmod go-w {shown}".'
        )


def _unusable(path: str, verb: str, error: Exception) -> BadConfig:
    why = getattr(error, "strerror", None) or str(error)
    return BadConfig(f"{shlex.quote(path)} cannot {verb}: {why}.")
