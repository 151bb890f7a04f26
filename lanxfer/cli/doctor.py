"""``lanxfer doctor``: its options; ``lanxfer.cli.checkup`` does it."""

from __future__ import annotations

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.completion import Device
from lanxfer.cli.options import common


@click.command(short_help="Say why PEER is not there, or is slow.")
@click.argument("peer", required=False, type=Device())
@common
@click.pass_obj
def doctor(choices: Choices, peer: str | None) -> int:
    """Look at this device, and at PEER: a name, HOST[:PORT], or the beginning of a key.

    Says in words what is wrong and what helps.  Writes 32 MiB to the inbox, and
    sends 8 MiB to PEER, to see how fast they are; nothing of it is kept.  The
    exit code is 0 where nothing is wrong, else 2.
    """
    from lanxfer.cli import checkup
    from lanxfer.cli.running import run

    return run(lambda here: checkup.look(here, peer), choices)


COMMANDS = (doctor,)
