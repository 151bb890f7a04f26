"""Files of the owner's own that say what this device does: nobody else may have written them."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from functools import partial

from lanxfer.errors import BadConfig
from lanxfer.state import read_file, replace_file
from lanxfer.wire import limits

OWNED_MAX = 1 * limits.MIB


def read_owned(path: str) -> bytes | None:
    """The whole file, None where there is none; BadConfig where others may write to it.

    Root's own file is as good as one of this user's: an administrator put it there.
    """
    try:
        return read_file(path, partial(_check, path), OWNED_MAX)
    except (OSError, ValueError) as error:
        raise _unusable(path, "be read", error) from None


def replace_owned(path: str, data: bytes) -> None:
    """Put ``data`` in place of the whole file, with its old mode, else 600; durable.

    A folder that is not there is made, for this user alone.  A reader sees the old content or
    the new.  A link stays, and what it leads to changes.
    """
    path = os.path.realpath(path)
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        try:
            mode = stat.S_IMODE(os.stat(path).st_mode)
        except FileNotFoundError:
            mode = 0o600
        replace_file(path, f"{path}.{os.urandom(8).hex()}.tmp", data, mode)
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
