"""What a setting's value may be: from the text of a command line or a file's value, and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from attrs import frozen

from lanxfer.errors import BadConfig
from lanxfer.wire import limits


def _itself(value: Any) -> Any:
    return value


@frozen
class Kind:
    """One kind of value.

    ``parse`` makes a value of text; it raises ValueError, after which ``expected`` says what
    it wants ("port is ..., not 'x'"), or a LanxferError that says it by itself.  ``types``
    are those that a configuration file may have there, and ``plain`` makes one of them of a
    value.  ``coerces`` says that the text of a command line is made a value at once;
    elsewhere it stays as it is, since a shell knows about folders what a file does not.
    """

    name: str
    expected: str
    parse: Callable[[str], Any]
    types: tuple[type, ...] = (str,)
    plain: Callable[[Any], Any] = _itself
    choices: tuple[str, ...] = ()
    coerces: bool = False

    def read(self, value: Any) -> Any:
        """The value of what a file has there; ValueError for what cannot be."""
        if type(value) not in self.types:
            raise ValueError(self.expected)
        return value if type(value) is bool else self.parse(str(value))

    def format(self, value: Any) -> str:
        """As text, which ``parse`` reads again."""
        found = self.plain(value)
        return str(found).lower() if type(found) is bool else str(found)


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValueError("that is no number")
    return int(text)


def number(least: int, most: int, unit: str = "") -> Kind:
    """A whole number."""
    expected = f"a number{f' of {unit}' if unit else ''} from {least} to {most}"

    def parse(text: str) -> int:
        found = _whole(text)
        if not least <= found <= most:
            raise ValueError(expected)
        return found

    return Kind("INTEGER", expected, parse, (int,), coerces=True)


PORT_MAX = 65535


def port_number(text: str) -> int | None:
    """The value of --port; ValueError for what is neither a port nor "none"."""
    if text == "none":
        return None
    found = _whole(text)
    if found > PORT_MAX:
        raise ValueError(f"a port is at most {PORT_MAX}")
    return found


def speed(text: str) -> int | None:
    """Bytes a second, None for "any"; ValueError for what is neither."""
    from lanxfer.rights.words import parse_speed

    if text == "any":
        return None
    try:
        return parse_speed(text)
    except BadConfig as error:
        raise ValueError(error.reason) from None


def _plain_speed(value: int | None) -> str:
    from lanxfer.rights.words import format_size

    return "any" if value is None else format_size(value)


def _yes(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("that is neither true nor false")
    return text == "true"


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("that is no single line of text")
    return text


def whole_path(text: str) -> str:
    """A path that is the same wherever the service is started; ValueError for another."""
    found = os.path.expanduser(text)
    if not os.path.isabs(found) or "\0" in found:
        raise ValueError("that is no whole path")
    return found


def choice(*words: str) -> Kind:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("that is none of them")
        return text

    *most, last = (f'"{each}"' for each in words)
    return Kind("CHOICE", f"{', '.join(most)} or {last}", parse, choices=words)


def _share(text: str) -> str:
    from lanxfer.storage.shares import parse_share

    spec = parse_share(text)
    if spec is None:
        return whole_path(text)
    if spec.remote:
        return text
    mode = ":rw" if spec.writable else ""
    return f"{spec.name}={whole_path(spec.folder)}{mode}"


def _hook(text: str) -> str:
    from lanxfer.hooks.events import parse_hook

    parse_hook(text)
    return text


def _limit(text: str) -> str:
    try:
        limits.parse([text])
    except ValueError as error:
        raise BadConfig(str(error)) from None
    return text


def _network(text: str) -> str:
    from lanxfer.admission import networks

    networks([text])
    return text


TEXT = Kind("TEXT", "a line of text", _line)
PATH = Kind("TEXT", "a whole path, or one that begins with ~/", whole_path)
FLAG = Kind("FLAG", "true or false", _yes, (bool,))
PORT = Kind(
    "PORT",
    f'a number from 0 to {PORT_MAX}, or "none"',
    port_number,
    (int, str),
    lambda value: "none" if value is None else value,
    coerces=True,
)
RATE = Kind(
    "RATE",
    'bytes a second such as "5M", at least 4 KiB, or "any"',
    speed,
    (int, str),
    _plain_speed,
    coerces=True,
)
SHARE = Kind("TEXT", "NAME=DIR or NAME=DIR:rw with a whole path, or NAME=URL", _share)
HOOK = Kind("TEXT", "WHEN=COMMAND, WHEN=URL or WHEN=notify", _hook)
LIMIT = Kind("TEXT", "NAME=N, such as strangers-max=64", _limit)
NETWORK = Kind("TEXT", "an address or a network such as 192.168.1.0/24", _network)
