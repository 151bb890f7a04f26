"""``lanxfer web``: links to the page, and what its owner says to those who have it open."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common

if TYPE_CHECKING:
    from lanxfer.cli.brief import Brief


def _run(choices: Choices, work: Callable[[Brief], int]) -> int:
    from lanxfer.cli.brief import Brief, run

    return run(work, Brief(choices))


@click.group()
@common
def web() -> None:
    """The page in the browser: "lanxfer serve --web" has one."""


@web.command()
@click.option("--guest", is_flag=True, help="For somebody else: what it sends waits for a yes.")
@click.option("--name", metavar="NAME", help='What that browser is called here ("browser").')
@common
@click.pass_obj
def link(choices: Choices, guest: bool, name: str | None) -> int:
    """Print a link, and a QR code, that signs one browser in, once, within ten minutes."""
    from lanxfer.cli import weblink

    return _run(choices, lambda here: weblink.link(here, guest, name))


@web.command()
@click.argument("text")
@click.option("--to", metavar="NAME", help="Only to browsers called so.")
@common
@click.pass_obj
def say(choices: Choices, text: str, to: str | None) -> int:
    """Show a message to everybody who has the page open."""
    from lanxfer.cli import weblink

    return _run(choices, lambda here: weblink.say(here, text, to))


@web.command()
@common
@click.pass_obj
def end(choices: Choices) -> int:
    """Sign all browsers out, and make links that were not used worthless."""
    from lanxfer.cli import weblink

    return _run(choices, weblink.end)


COMMANDS = (web,)
