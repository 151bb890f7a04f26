"""The command ``lanxfer``: its group, and one table of exit codes for all of it.

Whatever needs the reactor, TLS or a terminal is imported by the command that
needs it, so that ``lanxfer --help`` answers at once.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from lanxfer.cli import control, files, job, pair, peers, rights, send, serve, units
from lanxfer.cli.options import Choices, common
from lanxfer.cli.output import Output, fail_usage, make_printable, show_traceback
from lanxfer.errors import Cancelled, Exit
from lanxfer.state import forbid_cores
from lanxfer.version import VERSION


class Lanxfer(click.Group):
    """A group whose errors are one sentence, and whose exit codes are those of ``Exit``."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """As click's own, but never with a traceback, and 4 for a line that makes no sense."""
        make_printable()
        forbid_cores()
        kwargs["standalone_mode"] = False
        kwargs.setdefault("prog_name", "lanxfer")
        sys.exit(self._code(*args, **kwargs))

    def _code(self, *args: Any, **kwargs: Any) -> int:
        choices = kwargs.setdefault("obj", Choices())
        try:
            return int(super().main(*args, **kwargs) or 0)
        except click.UsageError as error:
            hint = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
            return fail_usage(error.format_message().rstrip(".") + hint)
        except click.ClickException as error:
            return fail_usage(error.format_message())
        except click.Abort:
            return Output(choices.json).report(Cancelled())
        except Exception as error:
            show_traceback(error)
            return Output(choices.json).report(error)


@click.group(
    cls=Lanxfer,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(VERSION, message="lanxfer %(version)s")
@common
@click.pass_context
def main(context: click.Context) -> int:
    """Files and text messages between the devices of one network."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return int(Exit.USAGE)
    return int(Exit.OK)


MODULES = (send, files, control, peers, pair, serve, units, job)
for each in (command for module in MODULES for command in module.COMMANDS):
    main.add_command(each)
for each in rights.COMMANDS:
    peers.peer.add_command(each)

if __name__ == "__main__":
    main()
