"""What a hook is told: as an object, as one argument and an environment, or as JSON."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from lanxfer.errors import BadConfig
from lanxfer.transfers import Direction, Kind, Snapshot, State, as_row

RECEIVED, MESSAGE, FINISHED = EVENTS = ("received", "message", "finished")
NOTIFY = "notify"
"""In place of a command: show it on this machine's desktop."""

_NUL = "\0"


@frozen
class Event:
    """Something that happened.

    ``name`` is "received" (a file, folder or link is on this disk, at ``path``),
    "message" (with its ``text``) or "finished" (any transfer is over, well or not).
    ``label`` is what the other device is called here.
    """

    name: str
    transfer: Snapshot
    label: str
    path: str = ""
    text: str = ""

    @property
    def subject(self) -> str:
        """The one argument: where it is, or its name; never anything that looks like an option."""
        if self.name == MESSAGE:
            return self.label
        name = self.path or self.transfer.path
        return f"./{name}" if name.startswith("-") else name

    def environment(self) -> dict[str, str]:
        """What a command finds in its environment beside what was there before."""
        about = self.transfer
        values = {
            "EVENT": self.name,
            "ID": about.id,
            "PEER": self.label,
            "PRINCIPAL": about.peer,
            "NAME": about.path if self.name != MESSAGE else "",
            "PATH": self.path,
            "TEXT": self.text,
            "SIZE": str(about.size),
            "OUTCOME": about.state.value,
            "REASON": about.reason,
            "DIRECTION": about.direction.value,
            "KIND": about.kind.value,
            "BLAKE3": about.digest,
            "SECURE": "1" if about.secure else "",
        }
        return {f"LANXFER_{name}": _plain(value) for name, value in values.items()}

    def document(self) -> bytes:
        """What is posted to a webhook."""
        transfer = as_row(self.transfer)
        if self.name == MESSAGE:
            transfer["path"] = ""
        values = {"event": self.name, "peer": self.label, "path": self.path, "text": self.text}
        return json.dumps({**values, "transfer": transfer}).encode("ascii")

    def notice(self) -> tuple[str, str]:
        """Title and text of a notification."""
        if self.name == MESSAGE:
            return f"Message from {self.label}", self.text
        about = self.transfer
        way = "from" if about.direction is Direction.IN else "to"
        state = "" if self.name == RECEIVED else f", {about.state.value}"
        return f"{'Received ' if self.name == RECEIVED else ''}{way} {self.label}", (
            f"{about.stored or about.path}{state}"
        )


def _plain(text: str) -> str:
    """As an environment can hold it."""
    return text.replace(_NUL, "\N{REPLACEMENT CHARACTER}")


def events_of(snapshot: Snapshot, label: str, path: str, text: str | None) -> list[Event]:
    """What the end of a transfer means; ``text`` is that of a message that came."""
    came = snapshot.direction is Direction.IN and snapshot.state is State.DONE
    found = []
    if came and snapshot.kind is Kind.MESSAGE:
        found.append(Event(MESSAGE, snapshot, label, text=text or ""))
    elif came:
        found.append(Event(RECEIVED, snapshot, label, path))
    found.append(Event(FINISHED, snapshot, label, path, text or ""))
    return found


@frozen
class Hook:
    """One ``--hook``: when, and one of the three things to do."""

    when: str
    command: tuple[str, ...] = ()
    url: str = ""
    notify: bool = False

    def __str__(self) -> str:
        # An address often holds a secret.
        what = self.command[0] if self.command else re.sub(r"(//[^/]*).*", r"\1/...", self.url)
        return f"{self.when}={what or NOTIFY}"


def parse_hook(text: str) -> Hook:
    """``WHEN=COMMAND``, ``WHEN=URL`` or ``WHEN=notify``; BadConfig for what is none of these."""
    when, equals, what = text.partition("=")
    if when not in EVENTS or not equals or not what.strip():
        raise BadConfig(
            f'--hook is WHEN=COMMAND, WHEN=URL or WHEN=notify, where WHEN is "{RECEIVED}",'
            f' "{MESSAGE}" or "{FINISHED}".'
        )
    if re.match(r"https?://[^/]", what):
        if not what.isascii() or not what.isprintable() or " " in what:
            raise BadConfig("--hook: an address has no blanks and no special characters.")
        return Hook(when, url=what)
    if what == NOTIFY:
        return Hook(when, notify=True)
    try:
        words = tuple(shlex.split(what))
    except ValueError as error:
        raise BadConfig(f"--hook: the command cannot be taken apart: {error}.") from None
    if _NUL in what or not words:
        raise BadConfig("--hook: that is no command.")
    return Hook(when, words)


def parse_hooks(texts: Sequence[str]) -> tuple[Hook, ...]:
    """All of them; BadConfig names the one that is none."""
    return tuple(map(parse_hook, texts))


def command_line(hook: Hook, event: Event) -> list[str]:
    """The words of the program to run; nothing in them goes through a shell."""
    if hook.notify:
        title, text = event.notice()
        return ["notify-send", "--app-name=lanxfer", "--", _plain(title), _plain(text)[:1000]]
    return [*hook.command, _plain(event.subject)]


def as_job(id: int, hook: Hook, event: Event, seconds: float) -> Mapping[str, Any]:
    """A line for ``lanxfer.hooks.runner``."""
    line = command_line(hook, event)
    return {"id": id, "argv": line, "env": event.environment(), "seconds": seconds}
