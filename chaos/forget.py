"""Forgetting a device in the middle of a transfer, by another process, and how long it goes on.

From the moment the new list of peers is on the disk to the end of the sender's
connection (security catalogue A08: within a second).
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from chaos.figures import Figures

SIZE = 64 * 1024**3
"""Bytes of a sparse file that is not through before it is forgotten."""


@click.command()
@click.option("--times", type=click.IntRange(min=1), default=20, show_default=True)
def command(times: int) -> None:
    """Forget a device while it sends."""
    from twisted.internet.defer import ensureDeferred
    from twisted.internet.task import react

    figures = Figures()

    async def run(reactor: Any) -> None:
        took = []
        for number in range(times):
            with tempfile.TemporaryDirectory() as folder:
                took.append(await _once(reactor, Path(folder)))
            figures.tell(number + 1, times, "times")
        figures.add("longest", max(took), "s", most=1.0)
        figures.add("median", sorted(took)[len(took) // 2], "s")

    try:
        react(lambda reactor: ensureDeferred(run(reactor)))
    except SystemExit as ended:
        if ended.code:
            raise
    figures.finish()


async def _once(reactor: Any, folder: Path) -> float:
    from twisted.internet.defer import Deferred
    from twisted.internet.task import deferLater

    from lanxfer.client import connect, pair
    from lanxfer.errors import NotPaired
    from lanxfer.service import Settings, TransferService

    state = folder / "nas"
    settings = Settings(
        inbox=str(folder / "in"),
        state=str(state),
        port=0,
        bind="127.0.0.1",
        reserve_bytes=0,
        reserve_share=0.0,
    )
    service = TransferService(reactor, settings)
    service.startService()
    client = None
    try:
        (address,) = await service.when_listening()
        me = str(folder / "me")
        await pair(reactor, address, service.open_pairing(name="laptop").code, state=me)
        client = await connect(reactor, address, state=me)
        source = folder / "huge"
        source.touch()
        os.truncate(source, SIZE)
        sending = client.send_file(source)
        while not any(each.done for each in service.registry.pending()):
            await deferLater(reactor, 0.01, lambda: None)
        gone: Deferred[None] = (await client.connected()).when_gone()
        ended: Deferred[float] = gone.addCallback(lambda _: time.monotonic())
        sending.addErrback(lambda why: why.trap(NotPaired) and None)
        since = await _forget(reactor, state)
        took = await ended - since
        await sending
        return took
    finally:
        if client is not None:
            await client.close(1.0)
        await service.stopService()


async def _forget(reactor: Any, state: Path) -> float:
    """Do it in a process of its own; when its file was in place, on this process's clock."""
    import sys

    from twisted.internet.utils import getProcessValue

    line = ["-m", "lanxfer.cli.main", "--state", str(state), "peer", "forget", "laptop"]
    code = await getProcessValue(sys.executable, line, dict(os.environ), reactor=reactor)
    if code:
        raise SystemExit(f"peer forget ended with {code}")
    written = (state / "peers.json").stat().st_mtime
    return time.monotonic() - (time.time() - written)
