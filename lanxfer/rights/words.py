"""The words of the file of rights: from text to values, and back (docs/permissions.rst)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import time
from typing import Any

from attrs import fields

from lanxfer.errors import BadConfig, BadName
from lanxfer.rights import ALL, Answer, Hours, Rate, Right, Terms, folded
from lanxfer.storage.names import safe_path
from lanxfer.wire import limits

_SIZE = re.compile(
    r"([0-9]{1,19})(?:\.([0-9]{1,3}))? ?(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE | re.ASCII
)
_RATE = re.compile(r"([1-9][0-9]{0,6}) ?/ ?(s|min|h)(?: burst ([1-9][0-9]{0,6}))?")
_HOURS = re.compile(r"([0-2]?[0-9]):([0-5][0-9]) ?- ?([0-2]?[0-9]):([0-5][0-9])")
_SECONDS = {"s": 1, "min": 60, "h": 3600}


def _answer(text: str) -> Answer:
    try:
        return Answer(text)
    except ValueError:
        raise BadConfig('is "ask", "accept" or "deny"') from None


def _yes_or_no(text: str) -> Answer:
    if text not in ("accept", "deny"):
        raise BadConfig('is "accept" or "deny"')
    return Answer(text)


def parse_size(text: str) -> int:
    """Bytes of "1500", "20 MiB" or "1.5G"; units are powers of 1024.  Else BadConfig."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise BadConfig('is a size such as "500 MiB", or "any"')
    whole, part, unit = found.groups()
    shift = 10 * ("KMGT".index(unit.upper()) + 1) if unit else 0
    return (
        (int(whole) << shift) + (int(f"{part:<03}") << shift) // 1000
        if part
        else (int(whole) << shift)
    )


def format_size(size: int) -> str:
    """What ``parse_size`` reads, as short as it can be exact."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return f"{size} B"


def parse_speed(text: str) -> int:
    """Bytes a second of "5M", "500 KiB/s" or "1.5 MiB/s"; else BadConfig."""
    try:
        found = parse_size(text.strip().removesuffix("/s").rstrip())
    except BadConfig:
        found = -1
    if found < limits.SPEED_LEAST:
        least = format_size(limits.SPEED_LEAST)
        raise BadConfig(f'is bytes a second such as "5M", at least {least}, or "any"')
    return found


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise BadConfig('is a number, or "any"')
    return int(text)


def _rate(text: str) -> Rate:
    found = _RATE.fullmatch(text)
    if found is None:
        raise BadConfig('is a rate such as "20/s", "60/min" or "20/s burst 50", or "any"')
    count, unit, burst = found.groups()
    return Rate(int(count) / _SECONDS[unit], int(burst or count))


def _format_rate(rate: Rate) -> str:
    counts = [(rate.per_second * seconds, unit) for unit, seconds in _SECONDS.items()]
    whole = [each for each in counts if abs(each[0] - round(each[0])) < 1e-6 * each[0]]
    count, unit = (whole or counts[-1:])[0]
    return f"{round(count)}/{unit} burst {rate.burst}"


def _hours(text: str) -> Hours:
    found = _HOURS.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        hour, minute, last_hour, last_minute = (int(each) for each in found.groups())
        return Hours(time(hour, minute), time(last_hour, last_minute))
    except ValueError:
        raise BadConfig('is a time of the day such as "08:00-22:00", or "any"') from None


def _folder(text: str) -> str:
    try:
        return str(safe_path(text.strip("/"), dotfiles=True)) if text.strip("/") else ""
    except BadName as error:
        raise BadConfig(f"is a folder below the inbox ({error.reason})") from None


_READERS: dict[str, Callable[[str], Any]] = {
    "offers": _answer,
    "messages": _yes_or_no,
    "largest": parse_size,
    "entries": _count,
    "quota": parse_size,
    "files": _count,
    "hours": _hours,
    "folder": _folder,
    "transfers": _count,
    "requests": _count,
    "commands": _rate,
    "new-offers": _rate,
    "rate-in": parse_speed,
    "rate-out": parse_speed,
    "rate-in-each": parse_speed,
    "rate-out-each": parse_speed,
}
"""The words of the file; ``any`` takes a limit away."""

_NEVER_ANY = {"offers", "messages", "folder"}

KEYS = tuple(_READERS)


def parse_value(key: str, text: str) -> Any:
    """The value of a setting; BadConfig, beginning with the key, where it cannot be one."""
    reader = _READERS.get(key)
    if reader is None:
        raise BadConfig(f"There is no setting {key!r}; there are {', '.join(KEYS)}.")
    if text == "any" and key not in _NEVER_ANY:
        return None
    try:
        return reader(text)
    except BadConfig as error:
        raise BadConfig(f"{key!r} {error.reason}, not {text[:60]!r}.") from None


def format_value(key: str, value: Any) -> str:
    """What ``parse_value`` reads."""
    if value is None:
        return "any"
    if isinstance(value, Answer):
        return value.value
    if isinstance(value, Rate):
        return _format_rate(value)
    if key.startswith("rate-"):
        return f"{format_size(value)}/s"
    return format_size(value) if key in ("largest", "quota") else str(value)


def parse_path(text: str) -> tuple[str, ...]:
    """The components of a rule's path, in lower case; "/" has none.  Else BadConfig."""
    if not text.startswith("/"):
        raise BadConfig(f'The path of a rule begins with "/": {text[:60]!r}.')
    inner = text.strip("/")
    try:
        return folded(safe_path(inner, dotfiles=True)) if inner else ()
    except BadName as error:
        raise BadConfig(f"{text[:60]!r} is no path that can be sent: {error.reason}") from None


def parse_words(text: str) -> frozenset[Right]:
    """The rights that "read write", "all" or "none" stand for; else BadConfig."""
    words = text.replace(",", " ").split()
    if words == ["all"]:
        return ALL
    if words == ["none"]:
        return frozenset()
    try:
        if not words:
            raise ValueError
        return frozenset(Right(word) for word in words)
    except ValueError:
        names = ", ".join(each.value for each in Right)
        raise BadConfig(f'A rule gives some of {names}, or "all", or "none".') from None


def format_words(rights: frozenset[Right]) -> str:
    """What ``parse_words`` reads."""
    if rights == ALL:
        return "all"
    return " ".join(each.value for each in Right if each in rights) or "none"


def rows_of(terms: Terms) -> list[tuple[str, str]]:
    """The settings and rules as lines of the file, name and value."""
    rows = []
    for each in fields(Terms):
        if each.name != "rules":
            key = each.name.replace("_", "-")
            rows.append((key, format_value(key, getattr(terms, each.name))))
    for path, rights in sorted(terms.rules.items()):
        rows.append(("/" + "/".join(path), format_words(rights)))
    return rows
