"""Many short lives against one real service, and what is left of them.

A life is one client with a connection of its own, whose files arrive, are
cancelled or are cut off, in turn; then it is gone.  After warming up, nothing
of the process may have grown with the number of lives: descriptors, timers,
threads, staged files, memory.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import tempfile
import threading
import tracemalloc
from contextlib import suppress
from pathlib import Path

import click

from chaos.figures import Figures
from chaos.logged import watched_log
from chaos.sides import MIB, Sides, open_files, reactor, run, sleep
from lanxfer.client import Client
from lanxfer.disk import WORKERS
from lanxfer.errors import LanxferError, Lost

WARM = 30
"""Lives before the first count: pools fill, modules load."""

BYTES_A_LIFE = 2 * 1024
"""Memory that may stay of one: the registry and the caches keep a bounded past of it.  Python's
memory is what is counted."""

SOME = MIB
"""Memory that may stay without having to do with their number."""


async def _live(sides: Sides, rng: random.Random, number: int) -> str:
    """One life; the word for how it went."""
    kind = ("arrives", "cancelled", "cut", "raw", "closed", "small", "message")[number % 7]
    if kind == "raw":
        await _raw(sides.port, rng)
        return kind
    client = await sides.client(patience=0.0)
    with suppress(LanxferError):
        await _act(client, sides, kind, number)
    await client.close(1.0)
    return kind


async def _act(client: Client, sides: Sides, kind: str, number: int) -> None:
    path = str(
        sides.folder / ("large" if kind in ("arrives", "cancelled", "cut", "closed") else "small")
    )
    if kind == "message":
        await client.send_message(f"text {number}")
        return
    sending = client.send_file(path, name=f"{kind}/{number % 20}.bin")
    if kind in ("arrives", "small"):
        await sending
        return
    await sleep(0.002 * (number % 9))
    if kind == "cancelled":
        sending.cancel()
    elif kind == "cut":
        (await client.connected()).abort(Lost())
    else:
        closing = client.close(0.05)
        sending.addErrback(lambda why: why.trap(LanxferError))
        await closing
    await sending


async def _raw(port: int, rng: random.Random) -> None:
    """Somebody who connects, says something odd, and goes."""
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(rng.choice((b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b'{"do": 1')))
        await sleep(0.01)


class _Count:
    """What the process holds now."""

    def __init__(self, sides: Sides) -> None:
        gc.collect()
        self.files = len(open_files())
        self.timers = len(reactor.getDelayedCalls())
        self.threads = threading.active_count()
        # Not what the system gave, which comes and goes by megabytes without a reason; and
        # not the units that are kept to be used again.
        running = sides.service._now
        assert running is not None
        kept = sum(map(len, running.disk.units._free))
        self.memory = tracemalloc.get_traced_memory()[0] - kept
        staging = sides.inbox / ".lanxfer-staging"
        self.staged = sum(each.suffix == ".part" for each in staging.iterdir())
        registry = sides.service.registry
        self.open = len(registry)


async def _measure(lives: int, figures: Figures, folder: str) -> None:
    rng = random.Random(figures.seed)
    tracemalloc.start()
    sides = Sides(folder)
    await sides.start()
    sides.source("large", 2 * MIB)
    sides.source("small", 3000)
    for number in range(WARM):
        await _live(sides, rng, number)
    await sleep(1.5)
    before = _Count(sides)
    kinds: dict[str, int] = {}
    for number in range(lives):
        kind = await _live(sides, rng, number)
        kinds[kind] = kinds.get(kind, 0) + 1
        figures.tell(number, lives, "lives")
    await sleep(1.5)
    after = _Count(sides)
    for kind, count in sorted(kinds.items()):
        figures.add(f"lives, {kind}", count)
    figures.add("descriptors more", after.files - before.files, most=0)
    figures.add("timers more", after.timers - before.timers, most=0)
    figures.add("threads more", after.threads - before.threads, most=WORKERS)
    # Cut and closed files may be resumed: one part for each name that was cut, no more.
    figures.add("parts staged", after.staged, most=40)
    figures.add("transfers open", after.open, most=0)
    grown = (after.memory - before.memory) / MIB
    most = (BYTES_A_LIFE * lives + SOME) / MIB
    figures.add("memory more", grown, "MiB", most=most)
    tracemalloc.stop()
    await sides.stop()
    await sleep(0.1)
    left = [each for each in open_files().values() if str(folder) in each]
    figures.add("files of the service open after its end", len(left), most=0)
    unknown = [each for each in Path(folder).rglob("*") if each.name.endswith((".tmp", ".new"))]
    figures.add("temporary files left", len(unknown), most=0)
    figures.add("timers after its end", len(reactor.getDelayedCalls()), most=0)


@click.command(help=__doc__)
@click.option("--lives", default=140, show_default=True)
@click.option("--seed", default=1, show_default=True)
def command(lives: int, seed: int) -> None:
    figures = Figures(seed)
    logged: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="lanxfer-leak-") as folder,
        watched_log(logged.append),
    ):
        run(lambda: _measure(lives, figures, os.path.realpath(folder)))
    for each in logged[:3]:
        print(each)
    figures.add("exceptions logged", len(logged), most=0)
    figures.finish()
