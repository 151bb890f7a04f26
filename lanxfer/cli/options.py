"""The options that every command takes, in front of its name and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from lanxfer.cli.choices import Choices

F = TypeVar("F", bound=Callable[..., Any])

STATE_HELP = "Folder with key, known peers, history and control socket (or LANXFER_STATE)."


class Speed(click.ParamType):  # type: ignore[type-arg]  # generic in newer ones only
    """Bytes a second, such as 5M or "500 KiB/s"; "any" for no limit."""

    name = "rate"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        if not isinstance(value, str):
            return cast("int | None", value)
        from lanxfer.errors import BadConfig
        from lanxfer.rights.words import parse_speed

        if value == "any":
            return None
        try:
            return parse_speed(value)
        except BadConfig as error:
            self.fail(f"{value!r} {error.reason}.".replace("is bytes", "is not bytes"), param, ctx)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    choices = context.ensure_object(Choices)
    if value and parameter.name is not None:
        setattr(choices, parameter.name, value)
    return value


def common(command: F) -> F:
    """Give a command or a group the options that all of them have."""
    # LANXFER_STATE is read where the folder is opened: here it would hide what
    # was said in front of the command's name.
    state, as_json, quiet = (
        click.option(*names, expose_value=False, callback=_keep, **attributes)
        for names, attributes in _OPTIONS
    )
    return state(as_json(quiet(command)))


_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-s", "--state"), {"metavar": "DIR", "help": STATE_HELP}),
    (("--json",), {"is_flag": True, "help": "One JSON object a line."}),
    (("-q", "--quiet"), {"is_flag": True, "help": "Say nothing but errors."}),
)
