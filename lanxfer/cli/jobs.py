"""What ``lanxfer send`` and ``lanxfer message`` were asked for."""

from __future__ import annotations

from typing import NamedTuple

from lanxfer.transfers import Conflict

STDIN = "-"


class Over(NamedTuple):
    """How to get to the other side: in plain text, as an ae device, as whom, how patiently.

    ``code`` and ``token_file`` say by what to pair with it where that has to be.
    """

    peer: str
    plain: bool = False
    legacy: bool = False
    wait: float | None = None
    code: str | None = None
    token_file: str | None = None
    login: tuple[str, str] | None = None
    limit_rate: int | None = None
    clear_body: bool = False

    def __repr__(self) -> str:
        return f"Over({self.peer!r})"  # a password is not for anybody's log


class Job(NamedTuple):
    """Files and folders, and where they go; ``name`` is for a single file."""

    paths: tuple[str, ...]
    over: Over
    name: str | None = None
    conflict: Conflict | None = None
    links: bool = False

    @property
    def stdin(self) -> bool:
        return STDIN in self.paths

    @property
    def files(self) -> tuple[str, ...]:
        """What was named, but for standard input."""
        return tuple(each for each in self.paths if each != STDIN)
