"""``python -m chaos NAME …``: find the command of that name and run it."""

from __future__ import annotations

import importlib
import pkgutil

import click

import chaos


class Commands(click.Group):
    """A command is the attribute ``command`` of a module here; only the one named is imported."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        found = [each.name for each in pkgutil.iter_modules(chaos.__path__)]
        return sorted(name for name in found if self.get_command(ctx, name) is not None)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name.startswith("_") or not cmd_name.isidentifier():
            return None
        try:
            module = importlib.import_module(f"chaos.{cmd_name}")
        except ModuleNotFoundError as error:
            if error.name == f"chaos.{cmd_name}":
                return None
            raise
        command = getattr(module, "command", None)
        return command if isinstance(command, click.Command) else None


@click.command(cls=Commands, help=chaos.__doc__)
def main() -> None:
    """The group itself has nothing to do."""


if __name__ == "__main__":
    main(prog_name="python -m chaos")
