"""Looking around for a moment: what a command does that has no service to ask.  It blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lanxfer.discovery.marks import adapters, marked, read_marks
from lanxfer.discovery.table import Seen, Table
from lanxfer.identity import load_identity
from lanxfer.peers import Peers
from lanxfer.state import StateFolder

LOOK = 1.5
"""Seconds in which whoever is there has answered."""

FIND = 4.0
"""Seconds for a device that is looked for: it may have been asleep."""


def look(
    state: StateFolder, seconds: float = LOOK, enough: Callable[[Seen], bool] = lambda seen: False
) -> list[Seen]:
    """Who is seen on the marked networks within so many seconds, or when it is ``enough``.

    This device itself is left out.  Nobody, at once, where no network is marked.
    """
    found = marked(adapters(), read_marks(state))
    if not found:
        return []
    from lanxfer.discovery.mdns import Engine

    peers, own = Peers(state), load_identity(state).key
    table = Table(lambda: [own, *(each.key for each in peers.all() if each.key)])
    there = threading.Event()

    def told(seen: Seen) -> None:
        if seen.key != own and enough(seen):
            there.set()

    engine = Engine(found)
    try:
        engine.browse(table, told)
        there.wait(seconds)
        if there.is_set():
            time.sleep(0.05)  # the other addresses come with the first
    finally:
        engine.close()
    return [each for each in table.all() if each.key != own]


def find(state: StateFolder, key: str, seconds: float = FIND) -> list[str]:
    """Addresses at which the device with this key may be."""
    seen = look(state, seconds, lambda each: each.key == key)
    return list(
        dict.fromkeys(address for each in seen if each.key == key for address in each.addresses)
    )
