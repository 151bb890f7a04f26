"""``lanxfer serve``: the options of ``twistd lanxfer``, for the foreground."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import Speed, common
from lanxfer.config.file import config_path, read_config
from lanxfer.config.kinds import FLAG, RATE, Kind
from lanxfer.config.table import TABLE, Setting


class _Number(click.ParamType):  # type: ignore[type-arg]  # generic in newer ones only
    """What a kind of setting reads of a text."""

    def __init__(self, kind: Kind) -> None:
        self.name = kind.name.lower()
        self._kind = kind

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._kind.parse(value)
        except ValueError:
            self.fail(f"{value!r} is not {self._kind.expected}.", param, ctx)


def _type(each: Setting) -> Any:
    if each.kind.choices:
        return click.Choice(each.kind.choices)
    if each.kind is RATE:
        return Speed()
    return _Number(each.kind) if each.kind.coerces else None


def option(each: Setting) -> Any:
    """The click option of a setting."""
    names = [*([f"-{each.letter}"] if each.letter else []), f"--{each.key}"]
    told: dict[str, Any] = {"help": each.help}
    if each.kind is FLAG:
        told["is_flag"] = True
    elif each.many:
        told["multiple"] = True
    else:
        told |= {"type": _type(each), "default": each.default}
    if each.metavar:
        told["metavar"] = each.metavar
    return click.option(*names, **told)


def _options(command: Any) -> Any:
    command = click.option(
        "--stdio",
        is_flag=True,
        help="Answer on standard input and output instead, to their owner.",
    )(command)
    for each in reversed(TABLE):
        if each.key != "state":  # every command has that one
            command = option(each)(command)
    return command


@click.command()
@_options
@common
@click.pass_context
def serve(context: click.Context, /, stdio: bool, **options: Any) -> int:
    """Receive files and messages, in the foreground, until Ctrl-C.

    The options are those of "twistd lanxfer"; what is said here counts before what the
    configuration file says ("lanxfer config").
    """
    from lanxfer.cli import serving
    from lanxfer.cli.running import run

    choices = context.ensure_object(Choices)
    given = {
        name.replace("_", "-"): value
        for name, value in options.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if choices.state is not None:
        given["state"] = choices.state
    work = serving.speak if stdio else serving.serve
    return run(
        lambda here: work(here, given),
        choices,
        ending="Stopping",
        logs=True,
        as_json=_log_format(given) == "json",
    )


def _log_format(given: Mapping[str, Any]) -> Any:
    """How the log is to look, which is to be known before anything is said."""
    if "log-format" in given:
        return given["log-format"]
    path = config_path(given.get("config"), given.get("state"))
    return read_config(path).get("log-format")


COMMANDS = (serve,)
