"""Devices that say what they are told to, known as "odd" to whoever is to send to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from lanxfer.wire import limits
from tests.scripted_device import Device, Script
from tests.test_cli_real import know, run

Make: TypeAlias = Callable[..., Device]

TAKES = {"pack": limits.PACK_MAX, "pack_file": limits.PACK_MAX}
"""What one says that takes packs."""


@contextmanager
def odd_devices(
    here: Path, folder: Path, features: Sequence[str] = (), **said: int
) -> Iterator[Make]:
    """Makes them, by a script for each connection; ``key`` is one that it does not have."""
    made: list[Device] = []

    def make(*scripts: Script, key: str = "", **more: int) -> Device:
        made.append(Device(folder / "odd", scripts, {**said, **more}, features))
        know(here, "odd", key or made[0].key, made[0].address)
        return made[0]

    try:
        yield make
    finally:
        for each in made:
            each.close()
            run("peer", "forget", "odd", "-s", here)
