"""Asking the service on this machine: their options; ``lanxfer.cli.asking`` does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import Speed, common

if TYPE_CHECKING:
    from lanxfer.cli.brief import Brief

HISTORY_LINES = 50


def _run(choices: Choices, work: Callable[[Brief], int]) -> int:
    from lanxfer.cli.brief import Brief, run

    return run(work, Brief(choices))


@click.command()
@common
@click.pass_obj
def pending(choices: Choices) -> int:
    """What is under way."""
    from lanxfer.cli import asking

    return _run(choices, asking.pending)


@click.command()
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=HISTORY_LINES,
    show_default=True,
    metavar="N",
    help="How much of it.",
)
@common
@click.pass_obj
def history(choices: Choices, limit: int) -> int:
    """What is finished, newest first."""
    from lanxfer.cli import asking

    return _run(choices, lambda here: asking.history(here, limit))


@click.command()
@click.argument("id")
@common
@click.pass_obj
def cancel(choices: Choices, id: str) -> int:
    """Give up a transfer; "lanxfer pending" shows the ID, "send --queue" that of all it queued."""
    from lanxfer.cli import asking

    return _run(choices, lambda here: asking.cancel(here, id))


@click.command()
@click.argument("id")
@common
@click.pass_obj
def pause(choices: Choices, id: str) -> int:
    """Hold a transfer back; it keeps its place and its bytes."""
    from lanxfer.cli import asking

    return _run(choices, lambda here: asking.pause(here, id))


@click.command()
@click.argument("id")
@common
@click.pass_obj
def resume(choices: Choices, id: str) -> int:
    """Let a paused transfer go on."""
    from lanxfer.cli import asking

    return _run(choices, lambda here: asking.resume(here, id))


@click.command()
@common
@click.pass_obj
def status(choices: Choices) -> int:
    """About the service on this machine."""
    from lanxfer.cli import asking

    return _run(choices, asking.status)


@click.command()
@common
@click.pass_obj
def watch(choices: Choices) -> int:
    """Show what happens, until Ctrl-C."""
    from lanxfer.cli import running, watching

    return running.run(watching.watch, choices, ending="Ending")


@click.command()
@click.argument("id")
@common
@click.pass_obj
def accept(choices: Choices, id: str) -> int:
    """Take what is offered and waits for a yes; a folder with all that is in it."""
    from lanxfer.cli import asking

    return _run(choices, lambda here: asking.accept(here, id))


@click.command()
@click.argument("id")
@click.option("--reason", metavar="TEXT", help="What the sender is told.")
@common
@click.pass_obj
def reject(choices: Choices, id: str, reason: str | None) -> int:
    """Do not take what is offered."""
    from lanxfer.cli import asking

    return _run(choices, lambda here: asking.reject(here, id, reason))


@click.command()
@click.option("--forget", metavar="WHO", help="Count what comes from this one anew.")
@common
@click.pass_obj
def usage(choices: Choices, forget: str | None) -> int:
    """How much was received from whom, as quotas count it."""
    from lanxfer.cli import asking

    return _run(choices, lambda here: asking.usage(here, forget))


@click.command()
@click.option("--in", "into", type=Speed(), help="Bytes a second received, such as 5M, or any.")
@click.option("--out", type=Speed(), help="Bytes a second sent.")
@click.option("--in-each", type=Speed(), help="Of each connection, received.")
@click.option("--out-each", type=Speed(), help="Of each connection, sent.")
@common
@click.pass_context
def limit(context: click.Context, /, **rates: int | None) -> int:
    """Show or change how fast the service here is, until it stops.

    For a single peer: lanxfer peer set NAME rate-in=5M.
    """
    from lanxfer.cli import asking

    # "any" and what was not said are both None.
    said = click.core.ParameterSource.COMMANDLINE
    changes = {
        name.replace("into", "in"): rate or 0
        for name, rate in rates.items()
        if context.get_parameter_source(name) is said
    }
    return _run(context.obj, lambda here: asking.limit(here, changes))


COMMANDS = (pending, accept, reject, history, cancel, pause, resume, status, usage, watch, limit)
