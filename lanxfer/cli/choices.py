"""What can be said to every command."""

from __future__ import annotations


class Choices:
    """What was said with --state, --json and --quiet, wherever on the line it was."""

    def __init__(self, state: str | None = None, json: bool = False, quiet: bool = False) -> None:
        self.state = state
        self.json = json
        self.quiet = quiet
