"""The command ``lanxfer``: its group, and one table of exit codes for all of it.

A command's module is imported when that command is meant, and what needs the
reactor, TLS or a terminal by whoever needs it: ``lanxfer send`` of small files is
over before all of that would be there.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common
from lanxfer.cli.output import Output, fail_usage, failed, make_printable
from lanxfer.errors import Cancelled, Exit
from lanxfer.state import forbid_cores

_HELP = getattr(click.exceptions, "NoArgsIsHelpError", ())
"""What is raised, by newer ones only, where a group has no command: its text is the whole help."""


class Lanxfer(click.Group):
    """A group whose errors are one sentence, and whose exit codes are those of ``Exit``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of ``--help``."""
        return sorted(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, from its module."""
        name = _MODULES.get(cmd_name)
        if name is None:
            return None
        commands: tuple[click.Command, ...] = import_module(f"lanxfer.cli.{name}").COMMANDS
        return next(each for each in commands if each.name == cmd_name)

    def main(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        """As click's own, but never with a traceback, and 4 for a line that makes no sense."""
        make_printable()
        forbid_cores()
        kwargs["standalone_mode"] = False
        kwargs.setdefault("prog_name", "lanxfer")
        line = sys.argv[1:] if args is None else list(args)
        sys.exit(self._code(line, *more, **kwargs))

    def _code(self, line: list[str], *more: Any, **kwargs: Any) -> int:
        choices = kwargs.setdefault("obj", Choices())
        try:
            return int(super().main(line, *more, **kwargs) or 0)
        except click.UsageError as error:
            text = error.format_message()
            # Of a line that cannot be read, no option has been kept.
            as_json = choices.json or "--json" in line
            if isinstance(error, _HELP):
                if not as_json:
                    click.echo(text, err=True)
                    return int(Exit.USAGE)
                text = "A command is missing"
            hint = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
            return fail_usage(" ".join(text.split()).rstrip(".") + hint, as_json)
        except click.ClickException as error:
            return fail_usage(error.format_message(), choices.json)
        except click.Abort:
            return Output(choices.json).report(Cancelled())
        except Exception as error:
            return failed(error, choices.json)


_MODULES = {
    **dict.fromkeys(("send", "message"), "send"),
    **dict.fromkeys(("pending", "accept", "reject", "history", "cancel", "pause"), "control"),
    **dict.fromkeys(("resume", "status", "usage", "watch", "limit"), "control"),
    **dict.fromkeys(("ls", "get", "put", "rm", "mv", "mkdir"), "files"),
    **dict.fromkeys(("peers", "peer", "key"), "peers"),
    "config": "config",
    "job": "job",
    "discovery": "discovery",
    "doctor": "doctor",
    "completion": "completion",
    "metrics": "metrics",
    "pair": "pair",
    "serve": "serve",
    "unit": "units",
    "web": "web",
}
"""Where each command is, in ``lanxfer.cli``."""


def _show_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from lanxfer.version import VERSION

        click.echo(f"lanxfer {VERSION}")
        context.exit()


@click.group(
    cls=Lanxfer,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@common
@click.pass_context
def main(context: click.Context) -> int:
    """Files and text messages between the devices of one network."""
    if context.invoked_subcommand is None:
        if context.obj.json:
            raise click.UsageError("A command is missing")
        click.echo(context.get_help(), err=True)
        return int(Exit.USAGE)
    return int(Exit.OK)


if __name__ == "__main__":
    main()
