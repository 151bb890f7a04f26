"""The file of rights: its text, a line of it changed, and what it says at this moment.

The text is read line by line, and not by a library, because every complaint
names its line and a change leaves all other lines, comments too, as somebody
wrote them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any
from unicodedata import normalize

from lanxfer.errors import BadConfig
from lanxfer.policy import Principal
from lanxfer.rights import GROUPS, Book, Right, Section, Terms
from lanxfer.rights.words import KEYS, parse_path, parse_value, parse_words
from lanxfer.state import StateFolder

FILE = "rights"
"""The file in the state folder."""

LINES_MAX = 10_000

LOOK_EVERY = 0.05
"""Seconds for which what the file said is believed; small files come by the thousand."""


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
    if path is None and key not in KEYS:
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
