"""``lanxfer completion``: what makes a shell complete commands, options and names of devices."""

from __future__ import annotations

import os
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from lanxfer.cli.choices import COMPLETING, Choices
from lanxfer.cli.options import common

SHELLS = ("bash", "zsh", "fish")


class Device(click.ParamType):  # type: ignore[type-arg]  # generic in newer ones only
    """A PEER: any text, since whether it is one only the state folder and the network know."""

    name = "peer"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The known devices whose names begin like that; none where they cannot be read."""
        from lanxfer.errors import LanxferError
        from lanxfer.peers import Peers
        from lanxfer.state import StateFolder, default_state

        choices = ctx.find_object(Choices)
        state = (choices and choices.state) or default_state()
        if not os.path.isdir(state):
            return []  # completing makes none
        try:
            known = Peers(StateFolder(state)).all()
        except LanxferError:
            return []
        return [CompletionItem(each.name) for each in known if each.name.startswith(incomplete)]


@click.command(short_help="Make a shell complete what is typed.")
@click.argument("shell", type=click.Choice(SHELLS))
@common
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print what SHELL has to read for completing commands, options and devices.

    \b
    bash, in ~/.bashrc:                  eval "$(lanxfer completion bash)"
    zsh, in ~/.zshrc:                    eval "$(lanxfer completion zsh)"
    fish, in ~/.config/fish/config.fish: lanxfer completion fish | source
    """
    kind: Any = get_completion_class(shell)
    click.echo(kind(context.find_root().command, {}, "lanxfer", COMPLETING).source())
    return 0


COMMANDS = (completion,)
