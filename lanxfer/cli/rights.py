"""``lanxfer peer set``, ``allow``, ``deny`` and ``rights``: the file of rights, line by line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common
from lanxfer.cli.output import Output, columns
from lanxfer.errors import Exit

if TYPE_CHECKING:
    from lanxfer.rights.file import RightsFile
    from lanxfer.state import StateFolder

WHO = "WHO is a peer, user:NAME, or one of everyone, peers, users, guests, plain and ae."


def _folder(choices: Choices) -> StateFolder:
    from lanxfer.state import StateFolder, default_state

    return StateFolder(choices.state or default_state())


def _file(choices: Choices) -> RightsFile:
    from lanxfer.rights.file import RightsFile

    return RightsFile(_folder(choices))


def _section(choices: Choices, who: str) -> str:
    """The heading for whom a user names; NotFound for a peer that is not known."""
    from lanxfer.peers import Peers
    from lanxfer.rights import GROUPS
    from lanxfer.rights.file import heading

    kind, colon, name = who.partition(":")
    if who in GROUPS or (colon and kind == "user"):
        return heading(f"{kind} {name}")
    wanted = name if colon and kind == "peer" else who
    return heading(f"peer {Peers(_folder(choices)).find(wanted).name}")


def _change(choices: Choices, who: str, changes: dict[str, str | None]) -> int:
    section = _section(choices, who)
    _file(choices).change(section, changes)
    out = Output(choices.json, choices.quiet)
    for key, value in changes.items():
        out.row({"section": section, "name": key, "value": value})
        said = f"{key} = {value}" if value is not None else f"{key} is not set any more"
        out.done(f"[{section}] {said}")
    return int(Exit.OK)


@click.command("set", help=f"Set what WHO may do here, such as offers=ask quota=50GiB.\n\n{WHO}")
@click.argument("who")
@click.argument("settings", nargs=-1, required=True, metavar="NAME=VALUE...")
@common
@click.pass_obj
def set_(choices: Choices, who: str, settings: tuple[str, ...]) -> int:
    """An empty value takes the line out of the file."""
    changes: dict[str, str | None] = {}
    for each in settings:
        name, equals, value = each.rpartition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"{each!r} is not NAME=VALUE")
        changes[name.strip()] = value.strip() or None
    return _change(choices, who, changes)


@click.command(help=f"Let WHO do that below PATH, and nothing where no rule says so.\n\n{WHO}")
@click.argument("who")
@click.argument("path")
@click.argument("rights", nargs=-1, metavar="[read|write|list|delete|all]...")
@common
@click.pass_obj
def allow(choices: Choices, who: str, path: str, rights: tuple[str, ...]) -> int:
    """The nearest rule above a file is the one that counts."""
    from lanxfer.rights.words import format_words, parse_words

    words = format_words(parse_words(" ".join(rights))) if rights else "write"
    return _change(choices, who, {_rule(path): words})


@click.command(help=f"Let WHO do nothing below PATH.\n\n{WHO}")
@click.argument("who")
@click.argument("path")
@common
@click.pass_obj
def deny(choices: Choices, who: str, path: str) -> int:
    """The same as "none" in the file."""
    return _change(choices, who, {_rule(path): "none"})


def _rule(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


@click.command("rights", help=f"Show what WHO may do here, as it comes to in the end.\n\n{WHO}")
@click.argument("who", default="everyone")
@common
@click.pass_obj
def rights_(choices: Choices, who: str) -> int:
    """In the words of the file."""
    from lanxfer.rights.words import rows_of

    out = Output(choices.json, choices.quiet)
    file, section = _file(choices), _section(choices, who)
    rows = rows_of(file.book().terms(section))
    out.row({"section": section, "file": file.path, "rights": dict(rows)})
    out.say(f"[{section}], as {file.path} says")
    for line in columns(rows):
        out.line(line)
    return int(Exit.OK)


COMMANDS = (set_, allow, deny, rights_)
