"""The configuration file: TOML, a key for each setting, and sentences for what it gets wrong."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from typing import Any

from lanxfer.config.table import setting
from lanxfer.errors import BadConfig
from lanxfer.state import default_config
from lanxfer.storage.owned import read_owned

_WHERE = re.compile(r"(.*?)\s*\(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


_KEY = re.compile(r"""[ \t]*(?:\[+[ \t]*)?(?:([\w-]+)|"([^"]*)"|'([^']*)')[ \t]*[=.\]]""")


def config_path(config: str | None, state: str | None) -> str:
    """The file that is read: what ``--config`` named, else the one of that state folder."""
    return os.path.abspath(config or default_config(state))


def read_config(path: str, must: bool = False) -> dict[str, Any]:
    """The values of a file by key, {} where there is none and none ``must`` be; BadConfig."""
    data = read_owned(path)
    if data is None and must:
        raise BadConfig(f"There is no configuration file {shlex.quote(path)}.")
    return {} if data is None else parse_config(data, path)


def parse_config(data: bytes, path: str) -> dict[str, Any]:
    """The values of a file's content by key; BadConfig names file, line and key."""
    where = shlex.quote(path)
    try:
        text = data.decode("utf-8")
        found = tomllib.loads(text)
    except UnicodeDecodeError:
        raise BadConfig(f"{where}: this is no text in UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadConfig(_not_toml(where, str(error))) from None
    values: dict[str, Any] = {}
    for key, value in found.items():
        try:
            values[key] = setting(key).read(value)
        except BadConfig as error:
            raise BadConfig(f"{where}{_line_of(text, key)}: {error.reason}") from None
    return values


def _not_toml(where: str, said: str) -> str:
    match = _WHERE.fullmatch(said)
    if match is None:
        return f"{where}: {said}."
    what, line = match.groups()
    return f"{where}, {f'line {line}' if line else 'at its end'}: this is no TOML ({what})."


def _line_of(text: str, key: str) -> str:
    """In which line a key is, as far as that can be told from how it is written."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _KEY.match(line)
        if found is not None and key in found.groups():
            return f", line {number}"
    return ""
