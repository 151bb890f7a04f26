"""What a principal may send here, how much of it, and whether somebody is asked first.

The owner of a device writes it into one file of the state folder, by hand or
with ``lanxfer peer set`` and ``lanxfer peer allow`` (docs/permissions.rst)::

    [guests]
    offers = accept

    [peer laptop]
    offers = ask
    quota = 50 GiB
    /photos = write

Here is what that means for a principal: a ``Book`` of ``Section``s comes to
``Terms``.  ``words`` reads and writes single values, ``file`` the text and the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time
from enum import Enum
from typing import Any

from attrs import evolve, field, frozen

from lanxfer.policy import Principal, Standing
from lanxfer.storage.names import SafePath
from lanxfer.wire import limits


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
    are rates.  ``rate_in`` and ``rate_out`` are bytes a second of all their
    connections, ``rate_in_each`` and ``rate_out_each`` of each.  ``rules`` are
    paths in lower case below ``folder``.
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
    rate_in: int | None = None
    rate_out: int | None = None
    rate_in_each: int | None = None
    rate_out_each: int | None = None
    rules: Mapping[tuple[str, ...], frozenset[Right]] = field(factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it matters how much there is in all."""
        return self.quota is not None or self.files is not None

    def may(self, right: Right, path: SafePath) -> bool:
        """Whether the nearest rule at or above ``path`` gives that right.

        Where there are no rules everything may be done, where there are some
        nothing but what they say.  Letters are compared without their case:
        on some disks ``Private`` is the folder ``private``.
        """
        if not self.rules:
            return True
        parts = folded(path)
        for end in range(len(parts), -1, -1):
            found = self.rules.get(parts[:end])
            if found is not None:
                return right in found
        return False

    def may_all(self, right: Right, path: SafePath) -> bool:
        """Whether it may be done at ``path`` and no rule below takes it back."""
        parts = folded(path)
        below = (found for at, found in self.rules.items() if at[: len(parts)] == parts)
        return self.may(right, path) and all(right in found for found in below)


NO_TERMS = Terms(entries=None, transfers=None, requests=None, commands=None)
"""Those of the device's own user."""


def folded(path: SafePath) -> tuple[str, ...]:
    """The components without their case."""
    return tuple(part.casefold() for part in path.parts)


EVERYONE = "everyone"
GROUPS: Mapping[str, str] = {
    EVERYONE: "all but the user of this device",
    "peers": "devices that are known by their key",
    "users": "whoever logged in with a password",
    "guests": "devices that are not known, with --open",
    "plain": "plain text, with --plain-from",
    "ae": "ae devices, with --legacy",
    "browsers": "the page in the owner's browsers, with --web",
}
"""Sections that are about many; the others are [peer NAME] and [user NAME]."""


@frozen
class Section:
    """What the file says under one heading."""

    settings: Mapping[str, Any] = field(factory=dict)
    rules: Mapping[tuple[str, ...], frozenset[Right]] = field(factory=dict)


_GROUP = {
    Standing.PEER: "peers",
    Standing.USER: "users",
    Standing.LEGACY: "ae",
    Standing.LEGACY_LOCAL: "ae",
    Standing.BROWSER: "browsers",
    Standing.BROWSER_GUEST: "guests",
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
        """The same for whoever a heading, as ``file.heading`` spells it, is about."""
        word, _, name = section.partition(" ")
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
