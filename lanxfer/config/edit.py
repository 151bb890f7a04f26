"""Changing the configuration file, comments and order untouched."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from lanxfer.config.file import parse_config
from lanxfer.config.table import setting
from lanxfer.errors import BadConfig, NotFound
from lanxfer.state import StateFolder
from lanxfer.storage.owned import read_owned, replace_owned


def set_value(path: str, key: str, value: Any, folder: StateFolder | None = None) -> None:
    """Have ``key`` be ``value``; BadConfig where the file would make no sense with it."""
    plain = setting(key).plain(value)

    def change(document: tomlkit.TOMLDocument) -> None:
        if isinstance(plain, list) and len(plain) > 1:
            lines = tomlkit.array()
            lines.extend(plain)
            document[key] = lines.multiline(True)
        else:
            document[key] = plain

    _change(path, change, folder, check=True)


def unset_value(path: str, key: str, folder: StateFolder | None = None) -> None:
    """Have the file say nothing of ``key``, known or not; NotFound where it does not anyway."""

    def change(document: tomlkit.TOMLDocument) -> None:
        if key not in document:
            setting(key)
            raise NotFound(f"{path} does not set {key}.")
        del document[key]

    _change(path, change, folder, check=False)


def _change(
    path: str,
    change: Callable[[tomlkit.TOMLDocument], None],
    folder: StateFolder | None,
    *,
    check: bool,
) -> None:
    alone: AbstractContextManager[None] = nullcontext() if folder is None else folder.exclusive()
    with alone:
        before = read_owned(path) or b""
        try:
            document = tomlkit.parse(before.decode("utf-8"))
            change(document)
            after = f"{tomlkit.dumps(document).rstrip()}\n".encode()
        except (TOMLKitError, UnicodeError):
            parse_config(before, path)  # says it better
            raise BadConfig(f"{path} cannot be changed by this command; edit it.") from None
        if check:
            parse_config(after, path)
        replace_owned(path, after)
