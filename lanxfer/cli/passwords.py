"""A password, from where nobody else sees it: a file, the environment, or somebody who types.

Never from the command line, which every user of the machine can read (catalogue A11).
"""

from __future__ import annotations

import os
import stat
import sys

import click

from lanxfer.errors import BadConfig

VARIABLE = "LANXFER_PASSWORD"
LENGTH_MAX = 1024


def read_password(user: str, file: str | None) -> str:
    """The password of ``user``; BadConfig where there is none to be had."""
    if file is not None:
        return _checked(_from_file(file))
    if VARIABLE in os.environ:
        # What this process starts has no business with it.
        return _checked(os.environ.pop(VARIABLE))
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadConfig(
            f"Nobody is there to type the password; put it into a file for --password-file,"
            f" or into {VARIABLE}."
        )
    return _checked(str(click.prompt(f"Password of {user}", hide_input=True, err=True)))


def _from_file(path: str) -> str:
    shown = click.format_filename(path)
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077 and sys.platform != "win32":
                raise BadConfig(f'{shown} is open to other users; close it with "chmod 600".')
            data = file.read(4 * LENGTH_MAX)
    except OSError as error:
        raise BadConfig(f"{shown} cannot be read: {error.strerror}.") from None
    try:
        return data.decode("utf-8").partition("\n")[0].removesuffix("\r")
    except UnicodeDecodeError:
        raise BadConfig(f"{shown} is not UTF-8.") from None


def _checked(password: str) -> str:
    if not 0 < len(password) <= LENGTH_MAX:
        raise BadConfig(f"A password has 1 to {LENGTH_MAX} characters.")
    return password
