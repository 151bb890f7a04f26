"""``lanxfer config``: what a service here would be started with, and changing that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common
from lanxfer.config.table import BY_KEY

F = TypeVar("F", bound=Callable[..., Any])


class Key(click.ParamType):  # type: ignore[type-arg]  # generic in newer ones only
    """The key of a setting; whether there is such a one is said by those who know the table."""

    name = "key"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        from click.shell_completion import CompletionItem

        from lanxfer.config.table import KEYS

        return [
            CompletionItem(each, help=BY_KEY[each].help)
            for each in KEYS
            if each.startswith(incomplete)
        ]


def _file(command: F) -> F:
    option = click.option(
        "-c",
        "--config",
        "file",
        metavar="FILE",
        help='Another file than the one "lanxfer config path" names.',
    )
    return option(common(command))


@click.group(invoke_without_command=True)
@_file
@click.pass_context
def config(context: click.Context, file: str | None) -> int:
    """Show or change the configuration file of the service here (docs/configuration.rst).

    Without a command: every setting, its value, and where that comes from.
    """
    context.meta["lanxfer.config"] = file
    if context.invoked_subcommand is not None:
        return 0
    from lanxfer.cli import configuring

    return configuring.show(context.ensure_object(Choices), file)


def _named(file: str | None) -> str | None:
    """What --config named, in front of the command's name or after it."""
    found: str | None = file or click.get_current_context().meta.get("lanxfer.config")
    return found


@config.command("list")
@_file
@click.pass_obj
def list_(choices: Choices, file: str | None) -> int:
    """Every setting, its value, and where that comes from."""
    from lanxfer.cli import configuring

    return configuring.show(choices, _named(file))


@config.command()
@click.argument("key", type=Key())
@_file
@click.pass_obj
def get(choices: Choices, key: str, file: str | None) -> int:
    """The value of one setting; of a list, a line for each of its parts."""
    from lanxfer.cli import configuring

    return configuring.get(choices, _named(file), key)


@config.command("set")
@click.argument("key", type=Key())
@click.argument("values", metavar="VALUE...", nargs=-1, required=True)
@_file
@click.pass_obj
def set_(choices: Choices, key: str, values: tuple[str, ...], file: str | None) -> int:
    """Have a setting be VALUE; of a list, all of its parts are named."""
    from lanxfer.cli import configuring

    return configuring.change(choices, _named(file), key, values)


@config.command()
@click.argument("key", type=Key())
@_file
@click.pass_obj
def unset(choices: Choices, key: str, file: str | None) -> int:
    """Have the file say nothing of a setting: it is as usual then."""
    from lanxfer.cli import configuring

    return configuring.change(choices, _named(file), key, None)


@config.command()
@_file
@click.pass_obj
def check(choices: Choices, file: str | None) -> int:
    """Say what in the file a service could not start with."""
    from lanxfer.cli import configuring

    return configuring.check(choices, _named(file))


@config.command()
@_file
@click.pass_obj
def path(choices: Choices, file: str | None) -> int:
    """Where the file is, or would be."""
    from lanxfer.cli import configuring

    return configuring.path(choices, _named(file))


@config.command()
@common
@click.pass_obj
def reload(choices: Choices) -> int:
    """Have the service here read its file again; what is under way goes on.

    Says what changed, and what only a restart changes.  A file with a mistake changes
    nothing.
    """
    from lanxfer.cli import asking
    from lanxfer.cli.brief import Brief, run

    return run(asking.reload, Brief(choices))


COMMANDS = (config,)
