"""Guessing the words of a pairing window, as often and as fast as one connection after another can.

A service with a window open, and a stranger who never waits: how many guesses
were looked at before the words were void, and whether anything was kept
(security catalogue F20, A02, A12).  Each try is a new TLS connection with a key of
the stranger's own, which the service does not know.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click

from chaos.figures import Figures


@click.command()
@click.option("--tries", type=click.IntRange(min=1), default=10_000, show_default=True)
def command(tries: int) -> None:
    """Guess at a pairing window that is open."""
    from twisted.internet.task import react

    figures = Figures()

    async def run(reactor: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            await _guess(reactor, Path(folder), tries, figures)

    from twisted.internet.defer import ensureDeferred

    try:
        react(lambda reactor: ensureDeferred(run(reactor)))
    except SystemExit as ended:
        if ended.code:
            raise
    figures.finish()


async def _guess(reactor: Any, folder: Path, tries: int, figures: Figures) -> None:
    from lanxfer.codes import code_secret, new_code
    from lanxfer.connecting import Dialer, Target
    from lanxfer.disk import Disk
    from lanxfer.errors import AuthFailed, LanxferError, NotPaired
    from lanxfer.identity import load_identity
    from lanxfer.introducing import introduce
    from lanxfer.peers import Peers
    from lanxfer.service import Settings, TransferService
    from lanxfer.state import StateFolder

    service = TransferService(
        reactor,
        Settings(
            inbox=str(folder / "inbox"),
            state=str(folder / "nas"),
            port=0,
            bind="127.0.0.1",
            reserve_bytes=0,
            reserve_share=0.0,
        ),
    )
    service.startService()
    disk = Disk(reactor)
    disk.start()
    try:
        (address,) = await service.when_listening()
        thief = StateFolder(str(folder / "thief"))
        dialer = Dialer(reactor, disk, Peers(thief), load_identity(thief), "thief")
        window = service.open_pairing()
        window.outcome.addErrback(lambda why: why.trap(AuthFailed) and None)
        looked_at = refused = other = 0
        slowest = 0.0
        ticks = _Ticks(reactor)
        for number in range(tries):
            code = next(each for each in iter(new_code, "") if each != window.code)
            since = time.monotonic()
            try:
                await introduce(dialer, Target("nas", (address,)), code_secret(code))
            except AuthFailed:
                looked_at += 1
            except NotPaired:
                refused += 1
                slowest = max(slowest, time.monotonic() - since)
            except LanxferError:
                other += 1
            figures.tell(number + 1, tries, "guesses")
        ticks.stop()
        kept = Peers(StateFolder(str(folder / "nas"))).all()
    finally:
        disk.stop()
        await service.stopService()
    figures.add("guesses looked at", looked_at, most=1, least=1)
    figures.add("refused unseen", refused)
    figures.add("ended otherwise", other, most=0)
    figures.add("keys kept", len(kept), most=0)
    figures.add("slowest refusal", slowest, "s")
    figures.add("longest the loop was held up", ticks.longest, "s", most=0.25)


class _Ticks:
    """How late a call comes that is due every ten milliseconds."""

    def __init__(self, reactor: Any) -> None:
        from twisted.internet.task import LoopingCall

        self.longest = 0.0
        self._last = time.monotonic()
        self._calls = LoopingCall(self._tick)
        self._calls.clock = reactor
        self._calls.start(0.01)

    def _tick(self) -> None:
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last - 0.01)
        self._last = now

    def stop(self) -> None:
        self._calls.stop()
