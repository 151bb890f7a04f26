"""Names that were given and are not durable yet, so that they may have to be taken back.

Whoever finds such a file there must not say that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

Folder: TypeAlias = tuple[str, ...]


class Unsynced:
    """Those of one store; for all of its threads."""

    def __init__(self) -> None:
        self._given: dict[object, tuple[Folder, set[str]]] = {}

    @contextmanager
    def placing(self, folder: Folder) -> Iterator[set[str]]:
        """A set for the names that are about to be given there, kept until they are durable."""
        key, names = object(), set[str]()
        self._given[key] = (folder, names)
        try:
            yield names
        finally:
            del self._given[key]

    def by_others(self, folder: Folder, name: str, ours: set[str] | None = None) -> bool:
        """Whether somebody else gave that name, and is not through with it."""
        return any(
            names is not ours and where == folder and name in names
            for where, names in [*self._given.values()]
        )
