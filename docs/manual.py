"""Makes docs/lanxfer.1, the manual page, of the commands themselves: python docs/manual.py"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.main import main
from lanxfer.errors import Exit
from lanxfer.version import VERSION

PAGE = Path(__file__).parent / "lanxfer.1"

COMMON = {"--state", "--json", "--quiet", "--help"}

ENDS = {
    Exit.OK: "all of it arrived, or was there already",
    Exit.PARTIAL: "some of it did not",
    Exit.FAILED: "it failed",
    Exit.CONFIG: "settings, state folder or inbox cannot be used",
    Exit.USAGE: "the command line makes no sense",
    Exit.CANCELLED: "cancelled",
    Exit.UNREACHABLE: "the other device does not answer",
    Exit.REFUSED: "the other device says no (key not known, not allowed)",
}

FILES = {
    "config.toml": 'the settings of the service; "lanxfer config path" says where.',
    "rights": 'in the state folder: what other devices and users may do; see "lanxfer peer set".',
}

ENVIRONMENT = {
    "LANXFER_STATE": "The state folder where --state names none.",
    "LANXFER_PASSWORD": "The password of --user.",
    "LANXFER_ALLOW_ROOT": "With 1, --allow-root is meant.",
    "LANXFER_DEBUG": "With 1, errors come with the place in the code where they arose.",
}


def roff(text: str) -> str:
    """Text as roff has to have it, to be put at the beginning of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def paragraphs(text: str) -> Iterator[str]:
    """A command's help; what begins with a backspace stays as its lines are."""
    for number, each in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text))):
        if number:
            yield ".PP"
        if each.startswith("\b"):
            yield from (".nf", *map(roff, each.strip("\b\n").splitlines()), ".fi")
        else:
            yield roff(" ".join(each.split()))


def described(term: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {roff(term)}", roff(text))


def options(context: click.Context) -> Iterator[str]:
    for each in context.command.get_params(context):
        record = each.get_help_record(context)
        if record is not None and isinstance(each, click.Option) and not COMMON & {*each.opts}:
            yield from described(*record)


def commands(group: click.Command, context: click.Context) -> Iterator[str]:
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inside = click.Context(command, info_name=name, parent=context)
        usage = " ".join(command.collect_usage_pieces(inside))
        yield f'.SS "{roff(f"{inside.command_path} {usage}")}"'
        yield from paragraphs(command.help or "")
        yield from options(inside)
        if isinstance(command, click.Group):
            yield from commands(command, inside)


def section(name: str, *lines: str) -> Iterator[str]:
    yield from (f".SH {name}", *lines)


def page() -> str:
    """The whole page."""
    context = click.Context(main, info_name="lanxfer", obj=Choices(), **main.context_settings)
    about = (main.help or "").strip()
    records = [each.get_help_record(context) for each in main.get_params(context)]
    lines = [
        '.\\" Made by docs/manual.py; to be changed there, or in the commands.',
        f'.TH LANXFER 1 "" "lanxfer {VERSION}" "User Commands"',
        *section("NAME", f"lanxfer \\- {about[0].lower()}{about[1:].rstrip('.')}"),
        *section(
            "SYNOPSIS",
            ".B lanxfer",
            ".RI [ OPTIONS ]",
            ".I COMMAND",
            ".RI [ ARGUMENTS ]...",
            ".br",
            ".B twistd lanxfer",
            ".RI [ OPTIONS ]",
        ),
        *section(
            "DESCRIPTION",
            roff(about),
            ".PP",
            roff(
                '"lanxfer serve" or "twistd lanxfer" runs on each device that is to receive;'
                ' "lanxfer send" sends to it once the two are paired ("lanxfer pair").'
                ' "twistd lanxfer" has the options of "lanxfer serve".'
            ),
        ),
        *section("OPTIONS", "Every command takes these, and they may stand in front of its name."),
        *(line for each in records if each is not None for line in described(*each)),
        *section("COMMANDS", *commands(main, context)),
        *section("FILES"),
        *(line for each in FILES.items() for line in described(*each)),
        *section("ENVIRONMENT"),
        *(line for each in ENVIRONMENT.items() for line in described(*each)),
        *section("EXIT STATUS"),
        *(line for code, text in ENDS.items() for line in described(str(int(code)), text)),
        *section("SEE ALSO", ".BR twistd (1)"),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="ascii")
    sys.exit(0)
