"""``lanxfer discovery``: the networks on which this device is seen, and looks around."""

from __future__ import annotations

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common
from lanxfer.cli.output import Output
from lanxfer.errors import BadConfig, Exit
from lanxfer.state import StateFolder, default_state


@click.group(invoke_without_command=True)
@common
@click.pass_context
def discovery(context: click.Context) -> int:
    """Show or change on which networks this device is seen and looks around: at first, on none.

    What others see is a word that changes every quarter of an hour, an address
    and a port; who knows this device's key knows from the word that it is this
    one.  A running service takes a change up within seconds.
    """
    if context.invoked_subcommand is None:
        from lanxfer.discovery.marks import read_marks

        choices = context.find_object(Choices) or Choices()
        _tell(choices, read_marks(_state(choices)))
    return int(Exit.OK)


@discovery.command()
@click.argument("networks", nargs=-1, metavar="[NETWORK|INTERFACE|all]...")
@common
@click.pass_obj
def on(choices: Choices, networks: tuple[str, ...]) -> int:
    """Be seen on these networks and no others; without one, on those this device is on now."""
    from importlib.util import find_spec

    from lanxfer.discovery.marks import adapters, usual_marks, write_marks

    if find_spec("zeroconf") is None:
        from lanxfer.discovery.mdns import NOT_INSTALLED

        raise BadConfig(NOT_INSTALLED)
    marks = networks or usual_marks(adapters())
    if not marks:
        raise BadConfig("This device is on no network just now.")
    _tell(choices, write_marks(_state(choices), marks))
    return int(Exit.OK)


@discovery.command()
@common
@click.pass_obj
def off(choices: Choices) -> int:
    """Be seen nowhere, and look for nobody."""
    from lanxfer.discovery.marks import write_marks

    _tell(choices, write_marks(_state(choices), ()))
    return int(Exit.OK)


def _state(choices: Choices) -> StateFolder:
    return StateFolder(choices.state or default_state())


def _tell(choices: Choices, marks: tuple[str, ...]) -> None:
    out = Output(choices.json, choices.quiet)
    out.row({"networks": list(marks)})
    if marks:
        out.line(f"This device may be seen on {', '.join(marks)}.")
    else:
        out.line('This device is seen nowhere, and looks for nobody; see "lanxfer discovery on".')


COMMANDS = (discovery,)
