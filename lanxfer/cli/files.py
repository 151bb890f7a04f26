"""``lanxfer ls``, ``get``, ``put``, ``rm``, ``mv`` and ``mkdir``: folders that other devices share.

Their options; ``lanxfer.cli.filing`` does it.
"""

from __future__ import annotations

from typing import Any

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.jobs import Over
from lanxfer.cli.options import common
from lanxfer.cli.send import POLICIES
from lanxfer.transfers import Conflict

Place = tuple[str, str]


class _Place(click.ParamType):  # type: ignore[type-arg]
    """PEER:SHARE/PATH; the last colon counts, since no path has one and an address may."""

    name = "PEER:SHARE/PATH"

    def convert(self, value: Any, param: Any, ctx: Any) -> Place:
        peer, colon, path = str(value).rpartition(":")
        if not colon or not peer:
            self.fail(f"{value!r} is not PEER:SHARE/PATH", param, ctx)
        return peer, path


PLACE = _Place()


def _run(work: str, choices: Choices, place: Place, *args: Any) -> int:
    """Do what ``lanxfer.cli.filing`` has under that name; imported late, for it is much."""
    from lanxfer.cli import filing
    from lanxfer.cli.running import run

    peer, path = place
    return run(lambda here: getattr(filing, work)(here, Over(peer), path, *args), choices)


@click.command(short_help="List what PEER shares.")
@click.argument("place", type=PLACE, metavar="PEER:[SHARE[/PATH]]")
@click.option("-r", "--recursive", is_flag=True, help="All that is below it, too.")
@common
@click.pass_obj
def ls(choices: Choices, place: Place, recursive: bool) -> int:
    """List a shared folder of PEER; "PEER:" alone lists the folders it shares."""
    return _run("ls", choices, place, recursive)


@click.command(short_help="Fetch a file or folder that PEER shares.")
@click.argument("place", type=PLACE, metavar="PEER:SHARE/PATH")
@click.argument("local", default=".", metavar="[LOCAL]")
@click.option("--conflict", type=click.Choice(POLICIES), help="What to do when a name is taken.")
@common
@click.pass_obj
def get(choices: Choices, place: Place, local: str, conflict: str | None) -> int:
    """Fetch a file or folder to LOCAL, or into it where that is a folder.

    What broke off goes on where it stopped when the same is fetched again.
    """
    return _run("get", choices, place, local, Conflict(conflict or "refuse"))


@click.command(short_help="Put a file or folder where PEER shares.")
@click.argument("local", metavar="LOCAL")
@click.argument("place", type=PLACE, metavar="PEER:SHARE/PATH")
@click.option("--conflict", type=click.Choice(POLICIES), help="What to do when a name is taken.")
@common
@click.pass_obj
def put(choices: Choices, local: str, place: Place, conflict: str | None) -> int:
    """Put a file or folder to PATH, its name there; with "/" at the end, into PATH.

    What broke off goes on where it stopped when the same is put again.
    """
    return _run("put", choices, place, local, Conflict(conflict or "refuse"))


@click.command(short_help="Remove a file or folder that PEER shares.")
@click.argument("place", type=PLACE, metavar="PEER:SHARE/PATH")
@click.option("-r", "--recursive", is_flag=True, help="A folder with all that is in it.")
@common
@click.pass_obj
def rm(choices: Choices, place: Place, recursive: bool) -> int:
    """Remove a file, a link or an empty folder, for good."""
    return _run("rm", choices, place, recursive)


@click.command(short_help="Give a file that PEER shares another name.")
@click.argument("place", type=PLACE, metavar="PEER:SHARE/PATH")
@click.argument("to", metavar="SHARE/PATH")
@click.option("--overwrite", is_flag=True, help="Replace a file that has that name.")
@common
@click.pass_obj
def mv(choices: Choices, place: Place, to: str, overwrite: bool) -> int:
    """Give a file or folder another name in the same shared folder."""
    return _run("mv", choices, place, to.removeprefix(f"{place[0]}:"), overwrite)


@click.command(short_help="Make a folder where PEER shares.")
@click.argument("place", type=PLACE, metavar="PEER:SHARE/PATH")
@click.option("-p", "--exist-ok", is_flag=True, help="It may be there already.")
@common
@click.pass_obj
def mkdir(choices: Choices, place: Place, exist_ok: bool) -> int:
    """Make a folder, and those above it."""
    return _run("mkdir", choices, place, exist_ok)


COMMANDS = (ls, get, put, rm, mv, mkdir)
