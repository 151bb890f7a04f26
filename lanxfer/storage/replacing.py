"""Names of a volume whose content is replaced, each by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Replacing:
    """Which names are being replaced just now; from several threads."""

    def __init__(self) -> None:
        self._held: set[tuple[str, ...]] = set()
        self._released = threading.Condition()

    @contextmanager
    def hold(self, parts: tuple[str, ...]) -> Iterator[None]:
        """Have a name for oneself; waits for whoever has it."""
        with self._released:
            self._released.wait_for(lambda: parts not in self._held)
            self._held.add(parts)
        try:
            yield
        finally:
            with self._released:
                self._held.remove(parts)
                self._released.notify_all()
