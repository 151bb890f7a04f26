"""``lanxfer pair``: its options; ``lanxfer.cli.pairing`` does it."""

from __future__ import annotations

from typing import Any

import click

from lanxfer.cli.choices import Choices
from lanxfer.cli.options import common

CODE_HELP = 'File with the words; "-" is standard input. Never the words themselves.'


def by_secret(command: Any) -> Any:
    """The options that say where the words, or the token, are read from."""
    code = click.option("--code", metavar="FILE", help=CODE_HELP)
    token = click.option(
        "--token-file", metavar="FILE", help="Pair by the token in FILE, without words."
    )
    return code(token(command))


def check_secret(code: str | None, token_file: str | None) -> None:
    """Words or a token, not both."""
    if code is not None and token_file is not None:
        raise click.UsageError("--code and --token-file exclude one another.")


@click.command(short_help="Get to know another device by three words.")
@click.argument("host", required=False)
@click.option("--find", is_flag=True, help="Find the device that shows words; no HOST is needed.")
@click.option("--name", help="What the other device will be called here.")
@click.option("--once", is_flag=True, help="Let it in for one sending, and keep no key.")
@by_secret
@common
@click.pass_obj
def pair(
    choices: Choices,
    host: str | None,
    find: bool,
    name: str | None,
    once: bool,
    code: str | None,
    token_file: str | None,
) -> int:
    """Get to know another device by three words.

    Without HOST, show three words and let in whoever knows them, once, within
    two minutes.  With the HOST[:PORT] where that was done, ask for the words;
    from then on both know each other's key.  With --find, HOST is found by itself
    on the networks that "lanxfer discovery on" marked on both devices.
    """
    check_secret(code, token_file)
    if find and (host is not None or once or token_file is not None):
        raise click.UsageError("--find takes the place of HOST.")
    if host is None and not find and (code is not None or token_file is not None):
        raise click.UsageError("--code and --token-file need the HOST that is to be paired with.")
    if host is not None and once:
        raise click.UsageError("--once belongs to the device that shows the words.")
    if name is not None:
        from lanxfer.peers import parse_name

        parse_name(name)
    from lanxfer.cli import pairing
    from lanxfer.cli.running import run

    if host is None and not find:
        return run(lambda here: pairing.show(here, once, name), choices, ending="Closing")
    if host is None:
        host = pairing.find_words(choices.state)
    asked = pairing.Asked(host, name, code, token_file)
    return run(lambda here: pairing.join(here, asked), choices)


COMMANDS = (pair,)
