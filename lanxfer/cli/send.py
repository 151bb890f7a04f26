"""``lanxfer send`` and ``lanxfer message``: their options."""

from __future__ import annotations

import os
from typing import Any

import click

from lanxfer.cli import ways
from lanxfer.cli.choices import Choices
from lanxfer.cli.completion import Device
from lanxfer.cli.jobs import STDIN, Job, Over
from lanxfer.cli.options import Speed, common
from lanxfer.cli.pair import by_secret, check_secret
from lanxfer.transfers import Conflict

POLICIES = [each.value for each in Conflict if each is not Conflict.SERIES]


def _over(command: Any) -> Any:
    """The options that say how to speak to the other side."""
    legacy = click.option("--legacy-peer", is_flag=True, help="PEER is an ae device; plain text.")
    plain = click.option("--plain", is_flag=True, help="Without TLS; PEER needs --plain-from.")
    user = click.option("--user", metavar="NAME", help="Log in there as this user.")
    file = click.option(
        "--password-file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="The password of --user (or LANXFER_PASSWORD; else it is asked for).",
    )
    here = click.option("--here", is_flag=True, help="Without the service on this machine.")
    return plain(legacy(by_secret(user(file(here(command))))))


def _login(user: str | None, file: str | None, plain: bool) -> tuple[str, str] | None:
    if user is None:
        if file is not None:
            raise click.UsageError("--password-file is the password of a --user")
        return None
    if plain or not user:
        raise click.UsageError("--user is the name of a user, and needs TLS")
    from lanxfer.cli.passwords import read_password

    return user, read_password(user, file)


class _Paths(click.Argument):
    """All but the last of what is named; a single thing is taken for the PEER."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            raise click.UsageError(
                'A PEER is missing behind what is to be sent: a name that "lanxfer peers" shows,'
                " HOST[:PORT], or the beginning of a key",
                ctx,
            ) from None


@click.command(short_help="Send files and folders to PEER.")
@click.argument("paths", cls=_Paths, nargs=-1, required=True, metavar="PATH...")
@click.argument("peer", type=Device())
@click.option("--name", help="Name for a single file, or for standard input.")
@click.option("--conflict", type=click.Choice(POLICIES), help="What to do when a name is taken.")
@click.option("--links", is_flag=True, help="Send symbolic links as such.")
@click.option("--queue", is_flag=True, help="Let the service here send it when PEER is there.")
@click.option(
    "--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="Patience with an absent PEER."
)
@click.option("--limit-rate", type=Speed(), help="Bytes a second at most, such as 5M.")
@click.option(
    "--clear-body",
    is_flag=True,
    help="Large files in clear, if PEER takes them so: readable by all, guarded from changes.",
)
@_over
@common
@click.pass_obj
def send(
    choices: Choices,
    paths: tuple[str, ...],
    peer: str,
    name: str | None,
    conflict: str | None,
    links: bool,
    queue: bool,
    wait: float | None,
    limit_rate: int | None,
    clear_body: bool,
    plain: bool,
    legacy_peer: bool,
    code: str | None,
    token_file: str | None,
    user: str | None,
    password_file: str | None,
    here: bool,
) -> int:
    """Send files and folders to PEER: a name, HOST[:PORT], or the beginning of a key.

    A PATH of "-" is standard input.  What broke off goes on where it stopped
    when the same is sent again.
    """
    policy = None if conflict is None else Conflict(conflict)
    job = Job(paths, Over(peer, plain, legacy_peer, wait, code, token_file), name, policy, links)
    _check(job, queue)
    _check_order(choices, job)
    if queue and user is not None:
        raise click.UsageError("--queue keeps no passwords; send it without --queue")
    if queue and limit_rate is not None:
        raise click.UsageError("what is queued is as fast as the service: lanxfer limit")
    if clear_body and (queue or plain or legacy_peer):
        raise click.UsageError("--clear-body goes with a connection in TLS of this command's own")
    login = _login(user, password_file, plain or legacy_peer)
    over = job.over._replace(login=login, limit_rate=limit_rate, clear_body=clear_body)
    job = job._replace(over=over)
    return ways.queue(choices, job) if queue else ways.send(choices, job, here)


def _check_over(over: Over) -> None:
    check_secret(over.code, over.token_file)
    if (over.plain or over.legacy) and (over.code or over.token_file):
        raise click.UsageError("In plain text there is no key, and nothing to pair by.")


def _check(job: Job, queue: bool) -> None:
    _check_over(job.over)
    if job.stdin and job.over.code == STDIN:
        raise click.UsageError("Standard input is what is sent, so the words cannot be there.")
    if job.paths.count(STDIN) > 1:
        raise click.UsageError("Standard input can be sent only once.")
    if "" in job.paths:
        raise click.UsageError("An empty PATH names nothing.")
    if job.name is not None and (not job.name or len(job.paths) > 1):
        raise click.UsageError("--name is the name of one file.")
    if job.name is not None and not job.stdin and os.path.isdir(job.paths[0]):
        raise click.UsageError("--name is for files; a folder keeps its name.")
    over = (job.over.wait, job.over.code, job.over.token_file)
    special = (job.stdin, job.name, job.conflict, job.links)
    if queue and (any(special) or over != (None, None, None)):
        raise click.UsageError("--queue takes files and folders as they are, and their PEER.")


def _check_order(choices: Choices, job: Job) -> None:
    """A device in front of a file is an order that other commands have."""
    first, last = job.paths[0], job.over.peer
    if not os.path.lexists(last) or os.path.lexists(first):
        return
    from lanxfer.errors import LanxferError
    from lanxfer.peers import Peers
    from lanxfer.state import StateFolder, default_state

    peers = Peers(StateFolder(choices.state or default_state()))
    try:
        names = {each.name for each in peers.all()}
    except LanxferError:
        return  # whoever needs them says what is wrong
    if first in names and last not in names:
        raise click.UsageError(f"{last!r} is a file here; the device comes last")


@click.command()
@click.argument("text")
@click.argument("peer", type=Device())
@_over
@common
@click.pass_obj
def message(
    choices: Choices,
    text: str,
    peer: str,
    plain: bool,
    legacy_peer: bool,
    code: str | None,
    token_file: str | None,
    user: str | None,
    password_file: str | None,
    here: bool,
) -> int:
    """Send TEXT to PEER; a TEXT of "-" is standard input."""
    if text == STDIN:
        from lanxfer.cli.sources import read_text

        text = read_text()
    elif not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise click.UsageError("The text is not UTF-8; send it as a file.") from None
    if not text:
        raise click.UsageError("The text is empty; there is nothing to send.")
    login = _login(user, password_file, plain or legacy_peer)
    over = Over(peer, plain, legacy_peer, code=code, token_file=token_file, login=login)
    _check_over(over)
    return ways.message(choices, text, over, here)


COMMANDS = (send, message)
