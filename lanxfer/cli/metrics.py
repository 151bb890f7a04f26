"""``lanxfer metrics``: the figures of the service here, without a port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common

if TYPE_CHECKING:
    from lanxfer.cli.brief import Brief


@click.command()
@click.option("--classic", is_flag=True, help="In Prometheus's older format, not as OpenMetrics.")
@common
@click.pass_obj
def metrics(choices: Choices, classic: bool) -> int:
    """Print the figures of the service on this machine, for who watches over it.

    The same as its --metrics-port answers with; --classic is what the textfile collector of
    node_exporter reads.
    """
    from lanxfer.cli.brief import Brief, run

    return run(lambda here: _print(here, classic), Brief(choices))


def _print(here: Brief, classic: bool) -> int:
    from lanxfer.errors import Exit

    with here.service() as service:
        text = service.ask("metrics.text", {"classic": classic}).body.decode()
    if here.out.json:
        here.out.row({"text": text})
    here.out.line(text.rstrip("\n"))
    return int(Exit.OK)


COMMANDS = (metrics,)
