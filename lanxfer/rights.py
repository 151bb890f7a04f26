"""What a principal may send here, how much of it, and whether somebody is asked first.

The owner of a device writes it into one file of the state folder, by hand or
with ``lanxfer peer set`` and ``lanxfer peer allow`` (docs/permissions.rst)::

    [guests]
    offers = accept

    [peer laptop]
    offers = ask
    quota = 50 GiB
    /photos = write

``parse_rights`` and ``change_rights`` are about its text, ``Book`` about what
the text means for a principal, ``RightsFile`` about the file itself.  The text
is read line by line, and not by a library, because every complaint names its
line and a change leaves all other lines, comments too, as somebody wrote them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import time
from enum import Enum
from time import monotonic
from typing import Any
from unicodedata import normalize

from attrs import evolve, field, fields, frozen

from lanxfer.errors import BadConfig, BadName
from lanxfer.policy import Principal, Standing
from lanxfer.state import StateFolder
from lanxfer.storage.names import SafePath, safe_path
from lanxfer.wire import limits

FILE = "rights"
"""The file in the state folder."""

LINES_MAX = 10_000

LOOK_EVERY = 0.05
"""Seconds for which what the file said is believed; small files come by the thousand."""


class Answer(Enum):
    """What an offer meets with."""

    ASK = "ask"
    ACCEPT = "accept"
    DENY = "deny"


class Right(Enum):
    """What can be done below a path."""

    READ = "read"
    WRITE = "write"
    LIST = "list"
    DELETE = "delete"


ALL = frozenset(Right)


@frozen
class Rate:
    """So many a second on average, and so many at once."""

    per_second: float
    burst: int


@frozen
class Hours:
    """From one time of the day to another, this device's own time; over midnight, too."""

    start: time
    end: time

    def __contains__(self, now: time) -> bool:
        if self.start <= self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


@frozen
class Terms:
    """What holds for one principal; None means that there is no such limit.

    ``largest`` bytes of one file, ``entries`` files and folders of one send,
    ``quota`` bytes and ``files`` files in all, ever received; ``folder`` is
    where in the inbox what they send goes; ``transfers`` and ``requests``
    (everything else that is asked) at a time; ``commands`` and ``new_offers``
    are rates.  ``rules`` are paths in lower case below ``folder``.
    """

    offers: Answer = Answer.ACCEPT
    messages: Answer = Answer.ACCEPT
    largest: int | None = None
    entries: int | None = limits.SEND_ENTRIES
    quota: int | None = None
    files: int | None = None
    hours: Hours | None = None
    folder: str = ""
    transfers: int | None = limits.TRANSFERS_PER_PRINCIPAL
    requests: int | None = limits.REQUESTS_PER_PRINCIPAL
    commands: Rate | None = Rate(limits.COMMANDS_RATE, limits.COMMANDS_BURST)
    new_offers: Rate | None = None
    rules: Mapping[tuple[str, ...], frozenset[Right]] = field(factory=dict)

    def may(self, right: Right, path: SafePath) -> bool:
        """Whether the nearest rule at or above ``path`` gives that right.

        Where there are no rules everything may be done, where there are some
        nothing but what they say.  Letters are compared without their case:
        on some disks ``Private`` is the folder ``private``.
        """
        if not self.rules:
            return True
        parts = _folded(path)
        for end in range(len(parts), -1, -1):
            found = self.rules.get(parts[:end])
            if found is not None:
                return right in found
        return False


NO_TERMS = Terms(entries=None, transfers=None, requests=None, commands=None)
"""Those of the device's own user."""


def _folded(path: SafePath) -> tuple[str, ...]:
    return tuple(part.casefold() for part in path.parts)


# From text to values, and back.

_SIZE = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,3}))? ?(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
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
    return format_size(value) if key in ("largest", "quota") else str(value)


def parse_path(text: str) -> tuple[str, ...]:
    """The components of a rule's path, in lower case; "/" has none.  Else BadConfig."""
    if not text.startswith("/"):
        raise BadConfig(f'The path of a rule begins with "/": {text[:60]!r}.')
    inner = text.strip("/")
    try:
        return _folded(safe_path(inner, dotfiles=True)) if inner else ()
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


# The text of the file.

EVERYONE = "everyone"
GROUPS: Mapping[str, str] = {
    EVERYONE: "all but the user of this device",
    "peers": "devices that are known by their key",
    "users": "whoever logged in with a password",
    "guests": "devices that are not known, with --open",
    "plain": "plain text, with --plain-from",
    "ae": "ae devices, with --legacy",
}
"""Sections that are about many; the others are [peer NAME] and [user NAME]."""


@frozen
class Section:
    """What the file says under one heading."""

    settings: Mapping[str, Any] = field(factory=dict)
    rules: Mapping[tuple[str, ...], frozenset[Right]] = field(factory=dict)


def heading(text: str) -> str:
    """The one spelling of what stands between brackets; BadConfig where it is none."""
    word, _, name = text.strip().partition(" ")
    name = normalize("NFC", name.strip())
    if word in GROUPS and not name:
        return word
    if word in ("peer", "user") and name and name.isprintable():
        return f"{word} {name}"
    groups = ", ".join(f"[{each}]" for each in GROUPS)
    raise BadConfig(f"A heading is [peer NAME], [user NAME] or one of {groups}: {text[:60]!r}.")


def _lines(text: str) -> Iterator[tuple[int, str, str, str]]:
    """(number, section, key, value) of each line that says something, headings with no key."""
    section = ""
    lines = text.split("\n")
    if len(lines) > LINES_MAX:
        raise BadConfig(f"There are more than {LINES_MAX} lines.")
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if line.startswith("["):
                if not line.endswith("]"):
                    raise BadConfig('A heading ends with "]".')
                section = heading(line[1:-1])
                yield number, section, "", ""
                continue
            # The last one: a path may have an equals sign in it, a value has none.
            key, equals, value = line.rpartition("=")
            if not equals:
                raise BadConfig('A line is a heading, or "NAME = VALUE".')
            if not section:
                raise BadConfig("Before the first line there is a heading, such as [everyone].")
            yield number, section, key.strip(), value.strip()
        except BadConfig as error:
            raise BadConfig(f"line {number}: {error.reason}", line=number) from None


def parse_rights(text: str) -> dict[str, Section]:
    """The sections of a file; BadConfig names the line that is wrong."""
    settings: dict[str, dict[str, Any]] = {}
    rules: dict[str, dict[tuple[str, ...], frozenset[Right]]] = {}
    for number, section, key, value in _lines(text):
        mine, below = settings.setdefault(section, {}), rules.setdefault(section, {})
        try:
            if not key:
                continue
            if key.startswith("/"):
                path = parse_path(key)
                if path in below:
                    raise BadConfig(f"There are two rules for {key[:60]!r} here.")
                below[path] = parse_words(value)
            elif key in mine:
                raise BadConfig(f"{key!r} is there twice under [{section}].")
            else:
                mine[key] = parse_value(key, value)
        except BadConfig as error:
            raise BadConfig(f"line {number}: {error.reason}", line=number) from None
    return {name: Section(settings[name], rules[name]) for name in settings}


def change_rights(text: str, section: str, key: str, value: str | None) -> str:
    """The text with one line set, or gone where ``value`` is None; all others as they were.

    ``key`` is a setting, or a path that begins with "/".  BadConfig for what
    makes no sense, also for a text that made none before.
    """
    section = heading(section)
    parse_rights(text)
    if not f"{key}{value or ''}".isprintable():
        raise BadConfig(f"That is more than one line can say: {key[:60]!r}.")
    path = parse_path(key) if key.startswith("/") else None
    if path is None and key not in _READERS:
        parse_value(key, "")  # says what there is
    lines = text.split("\n")
    last = at = None
    for number, under, name, _ in _lines(text):
        if under != section:
            continue
        last = number
        same = name.startswith("/") and parse_path(name) == path if path is not None else False
        if name and (name == key or same):
            at = number
    new = [] if value is None else [f"{key} = {value}"]
    if at is not None:
        lines[at - 1 : at] = new
    elif last is not None:
        lines[last:last] = new
    elif new:
        gap = [""] if text.strip() else []
        while lines and not lines[-1].strip():
            lines.pop()
        lines += [*gap, f"[{section}]", *new, ""]
    changed = "\n".join(lines)
    parse_rights(changed)
    return changed


# What it means.

_GROUP = {
    Standing.PEER: "peers",
    Standing.USER: "users",
    Standing.LEGACY: "ae",
    Standing.LEGACY_LOCAL: "ae",
}

_ASKED = Section({"offers": Answer.ASK})
"""Nobody has a say in who a guest is, so what one offers waits for a yes (catalogue A01)."""


def group_of(principal: Principal) -> str:
    """The section about all that are like this one."""
    if principal.standing is Standing.GUEST:
        return "guests" if principal.secure else "plain"
    return _GROUP.get(principal.standing, EVERYONE)


@frozen
class Book:
    """All that was said; ``of`` gives what it comes to for one principal."""

    sections: Mapping[str, Section] = field(factory=dict)
    _known: dict[tuple[str, str], Terms] = field(factory=dict, eq=False, repr=False)

    def of(self, principal: Principal) -> Terms:
        """What is said of itself goes before its group's, and that before everyone's."""
        if principal.standing in (Standing.LOCAL, Standing.TICKET):
            return NO_TERMS
        group = group_of(principal)
        own = f"{principal.standing.value} {principal.label}"
        found = self._known.get((group, own))
        if found is None:
            found = self._known[group, own] = self._merged(group, own)
            if len(self._known) > 1000:
                self._known.clear()
        return found

    def terms(self, section: str) -> Terms:
        """The same for whoever a heading is about."""
        word, _, name = heading(section).partition(" ")
        if not name:
            return self._merged(word, "")
        return self._merged("peers" if word == "peer" else "users", f"{word} {name}")

    def _merged(self, group: str, own: str) -> Terms:
        built_in = [_ASKED] if group == "guests" else []
        named = [self.sections.get(each, Section()) for each in (EVERYONE, group, own)]
        if group == EVERYONE:
            del named[1]
        layers = [named[0], *built_in, *named[1:]]
        settings: dict[str, Any] = {}
        rules: dict[tuple[str, ...], frozenset[Right]] = {}
        for layer in layers:
            settings.update(layer.settings)
            rules.update(layer.rules)
        changes = {key.replace("-", "_"): value for key, value in settings.items()}
        return evolve(Terms(), rules=rules, **changes)


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


class RightsFile:
    """The file of one state folder, as it is at this moment; none means an empty one.

    Asking costs a ``stat``, at most every twentieth of a second.  Every method
    raises BadConfig, with the file's name and the line, while the file makes no
    sense: a rule that cannot be read must not be one that does not count.
    """

    def __init__(self, state: StateFolder, clock: Callable[[], float] = monotonic) -> None:
        self._state = state
        self._clock = clock
        self._looked = 0.0
        self._guard = threading.Lock()
        self._seen: object = None
        self._book = Book()

    @property
    def path(self) -> str:
        return self._state.file(FILE)

    def book(self) -> Book:
        """What holds now."""
        with self._guard:
            now = self._clock()
            if self._seen is not None and now - self._looked < LOOK_EVERY:
                return self._book
            self._looked = now
            seen = self._state.stamp(FILE)
            if seen != self._seen or self._seen is None:
                self._seen = None
                self._book = Book(self._parsed(self._text()))
                self._seen = seen
            return self._book

    def of(self, principal: Principal) -> Terms:
        """What holds for that principal now."""
        return self.book().of(principal)

    def change(self, section: str, changes: Mapping[str, str | None]) -> None:
        """Set lines under a heading, or remove them; blocks, and is durable when it returns."""
        with self._state.exclusive():
            text = self._text()
            self._parsed(text)
            for key, value in changes.items():
                text = change_rights(text, section, key, value)
            self._state.write(FILE, text.encode("utf-8"))

    def _text(self) -> str:
        data = self._state.read(FILE)
        try:
            return "" if data is None else data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = (data or b"")[: error.start].count(b"\n") + 1
            raise BadConfig(f"{self.path}, line {line}: this is not UTF-8.", line=line) from None

    def _parsed(self, text: str) -> dict[str, Section]:
        try:
            return parse_rights(text)
        except BadConfig as error:
            raise BadConfig(f"{self.path}, {error.reason}", **error.details) from None
