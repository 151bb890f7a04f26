"""What can be said to every command, by who types it or by a shell."""

from __future__ import annotations

COMPLETING = "_LANXFER_COMPLETE"
"""Set where a shell asks what could come next: click's name for it."""


class Choices:
    """What was said with --state, --json and --quiet, wherever on the line it was."""

    def __init__(self, state: str | None = None, json: bool = False, quiet: bool = False) -> None:
        self.state = state
        self.json = json
        self.quiet = quiet
