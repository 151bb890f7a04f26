"""Showing and changing the configuration file, for ``lanxfer config``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Any

from lanxfer.cli.choices import Choices
from lanxfer.cli.output import Output, columns, count
from lanxfer.config.file import config_path, read_config
from lanxfer.config.table import BY_KEY, KEYS, Setting, setting
from lanxfer.errors import Exit
from lanxfer.showing import shown
from lanxfer.state import StateFolder, default_state

WIDTH = 200
"""Characters of a text that are shown."""


def show(choices: Choices, file: str | None) -> int:
    """Every setting."""
    out, values = _begin(choices, file)
    rows = []
    for key in KEYS:
        each = BY_KEY[key]
        source = "file" if key in values else "default"
        value = values.get(key, each.default)
        out.row({"key": key, "value": _plain(each, value), "from": source, "live": each.live})
        rows.append((key, _words(each, value), source))
    for line in columns(rows):
        out.line(line)
    return int(Exit.OK)


def get(choices: Choices, file: str | None, key: str) -> int:
    """One of them."""
    each = setting(key)
    out, values = _begin(choices, file)
    value = values.get(key, each.default)
    source = "file" if key in values else "default"
    out.row({"key": key, "value": _plain(each, value), "from": source})
    for text in each.texts(value):
        out.line(shown(text, WIDTH))
    return int(Exit.OK)


def change(choices: Choices, file: str | None, key: str, texts: Sequence[str] | None) -> int:
    """Set one, or with None unset it."""
    from lanxfer.config.edit import set_value, unset_value

    out, path = Output(choices.json, choices.quiet), _path(choices, file)
    value = None if texts is None else setting(key).parse(*texts)
    folder = StateFolder(choices.state or default_state())
    if texts is None:
        unset_value(path, key, folder)
        out.row({"unset": key, "file": path})
        out.done(f"{shown(path, WIDTH)} says nothing of {key} any more.")
    else:
        set_value(path, key, value, folder)
        each = setting(key)
        out.row({"set": key, "value": _plain(each, value), "file": path})
        out.done(f"{key} is {_words(each, value) or 'nothing'} in {shown(path, WIDTH)}.")
    if folder.maybe_served():
        live = key in BY_KEY and BY_KEY[key].live
        out.say(
            'The service here takes it up with "lanxfer config reload".'
            if live
            else "A service that runs takes it up when it is started again."
        )
    return int(Exit.OK)


def check(choices: Choices, file: str | None) -> int:
    """Everything a start would find; raises what it would fail with."""
    # With what only Twisted knows, as the service does.
    from lanxfer.configured import Configured

    out, path = Output(choices.json, choices.quiet), _path(choices, file)
    given = {"state": choices.state, "config": file}
    found = Configured({key: value for key, value in given.items() if value})
    said = [key for key in KEYS if key in found.values]
    out.row({"file": path, "there": os.path.exists(path), "settings": said})
    if os.path.exists(path):
        out.line(f"{shown(path, WIDTH)} is good: {count(len(said), 'setting')}.")
    else:
        out.line(f"There is no {shown(path, WIDTH)}; all is as usual.")
    return int(Exit.OK)


def path(choices: Choices, file: str | None) -> int:
    """Where it is."""
    out, found = Output(choices.json, choices.quiet), _path(choices, file)
    out.row({"file": found, "there": os.path.exists(found)})
    out.line(shlex.quote(found) if not found.isprintable() else found)
    return int(Exit.OK)


def _path(choices: Choices, file: str | None) -> str:
    return config_path(file, choices.state)


def _begin(choices: Choices, file: str | None) -> tuple[Output, dict[str, Any]]:
    values = read_config(_path(choices, file), must=file is not None)
    return Output(choices.json, choices.quiet), values


def _plain(each: Setting, value: Any) -> Any:
    """For programs: as the file has it, but without what is secret."""
    if value is None and not each.texts(value):
        return None
    return each.texts(value) if each.many else each.plain(value)


def _words(each: Setting, value: Any) -> str:
    texts = each.texts(value)
    if not texts and each.usual:
        return f"({each.usual})"
    return shown(", ".join(texts), WIDTH)
