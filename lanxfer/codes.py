"""The secrets two devices are paired by: three words a person carries over, or a token.

The words are 1,024 of lanxfer's own, no two of which are one slip of a finger
apart or sound alike, so a typing error is found here, before it costs the one
guess a code is good for.  Three different ones are 30 bits (docs/protocol.rst,
"Pairing"; catalogue A02, F20).
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import stat
import sys
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from attrs import field, frozen

from lanxfer.errors import BadConfig

WORDS = 3

TOKEN_MIN = 20
"""Characters; a token may be guessed at for ever, so it has to be long."""
TOKEN_MAX = 4096

_BETWEEN = re.compile(r"[\s,.;+_-]+")
_SHOWN = 30


@frozen
class Secret:
    """What both sides know: ``kind`` is "code" or "token", ``value`` never to be shown."""

    kind: str
    value: bytes = field(repr=False)


@cache
def words() -> frozenset[str]:
    """All words that occur in codes."""
    text = files("lanxfer").joinpath("words.txt").read_text("ascii")
    return frozenset(text.split())


def new_code() -> str:
    """Three different words, in the form ``parse_code`` gives."""
    return "-".join(secrets.SystemRandom().sample(sorted(words()), WORDS))


def parse_code(text: str) -> str:
    """The words as typed, in any case and with anything between them, as "one-two-three".

    BadConfig where it cannot be a code; it names the word that is wrong, and
    the one that was probably meant.
    """
    typed = [each for each in _BETWEEN.split(text.strip().lower()) if each]
    for each in typed:
        if each not in words():
            meant = get_close_matches(each, words(), n=1)
            hint = f"; was it {meant[0]!r}?" if meant else "."
            raise BadConfig(f"{each[:_SHOWN]!r} is none of the words that are used{hint}")
    if len(typed) != WORDS:
        raise BadConfig(f"A code has {WORDS} words, this has {len(typed)}.")
    return "-".join(typed)


def code_secret(code: str) -> Secret:
    """The secret of a code as ``new_code`` and ``parse_code`` write it."""
    return Secret("code", code.encode("ascii"))


def load_token(path: str) -> Secret:
    """The token in a file, without the line end.

    BadConfig where it cannot be read, others may read it, or it is too short to
    be safe (catalogue A11).
    """
    shown = shlex.quote(path)
    try:
        # Without waiting, since what lies there might be a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            found = os.fstat(descriptor)
            data = os.read(descriptor, TOKEN_MAX + 1) if stat.S_ISREG(found.st_mode) else b""
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadConfig(f"The token in {shown} cannot be read: {why}.") from error
    if sys.platform != "win32" and found.st_mode & 0o077:
        raise BadConfig(f'{shown} is open to other users; close it with "chmod 600 {shown}".')
    token = data.strip()
    if not TOKEN_MIN <= len(token) <= TOKEN_MAX:
        raise BadConfig(
            f"A token has {TOKEN_MIN} to {TOKEN_MAX} characters, {shown} has {len(token)};"
            f" make one with: (umask 077; openssl rand -hex 32 > {shown})"
        )
    return Secret("token", token)
