"""``python -m chaos rate``: whether speed limits hold, over long stretches and over short ones.

Services and clients are in this one process; what counts are the bytes of real
sockets on loopback, added up where they are counted for progress, and one clock.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from attrs import define, field
from twisted.internet import task
from twisted.internet.defer import Deferred, gatherResults

from chaos.figures import Figures
from lanxfer.client import Client, connect
from lanxfer.identity import load_identity
from lanxfer.peers import Peer, Peers
from lanxfer.service import Settings, TransferService
from lanxfer.state import StateFolder
from lanxfer.transfers import Direction, Snapshot

MIB = 1024 * 1024
WINDOW = 0.5
"""Seconds of a short stretch."""


@define
class Watch:
    """When how many bytes were there, of all transfers of one registry in one direction."""

    direction: Direction
    began: float = field(factory=time.monotonic)
    marks: list[tuple[float, int]] = field(factory=list)
    _done: dict[str, int] = field(factory=dict)

    def hear(self, snapshot: Snapshot) -> None:
        """One more word of the registry."""
        if snapshot.direction is self.direction:
            more = snapshot.done - self._done.get(snapshot.id, 0)
            self._done[snapshot.id] = snapshot.done
            if more > 0:
                self.marks.append((time.monotonic(), more))

    def most(self, seconds: float) -> int:
        """The most bytes of any stretch of so many seconds."""
        best = total = begin = 0
        for at, size in self.marks:
            total += size
            while at - self.marks[begin][0] > seconds:
                total -= self.marks[begin][1]
                begin += 1
            best = max(best, total)
        return best


class Place:
    """A receiving service and as many devices as are asked for, in a folder of their own."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self._reactor = reactor
        self._folder = folder
        self._made = 0

    def _state(self, name: str) -> StateFolder:
        return StateFolder(str(self._folder / f"{name}.state"))

    def _key(self, name: str) -> str:
        return load_identity(self._state(name)).key

    async def service(self, **settings: Any) -> tuple[TransferService, str]:
        """Started, with its address."""
        self._made += 1
        made = TransferService(
            self._reactor,
            Settings(
                state=self._state(f"nas{self._made}").path,
                inbox=str(self._folder / f"inbox{self._made}"),
                port=0,
                bind="127.0.0.1",
                reserve_bytes=0,
                reserve_share=0.0,
                plain_from=("127.0.0.1",),
                **settings,
            ),
        )
        rights = Path(self._state(f"nas{self._made}").path) / "rights"
        rights.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        rights.write_text("[plain]\noffers = accept\n")
        rights.chmod(0o600)
        made.startService()
        return made, (await made.when_listening())[0]

    async def client(self, name: str, address: str, plain: bool, **options: Any) -> Client:
        """A paired device, or one in plain text."""
        here, there = self._state(name), f"nas{self._made}"
        if not plain:
            key = self._key(there)
            if key not in [each.key for each in Peers(here).all()]:
                Peers(here).add(Peer(there, key, (address,)))
            if self._key(name) not in [each.key for each in Peers(self._state(there)).all()]:
                Peers(self._state(there)).add(Peer(name, self._key(name)))
        peer = address if plain else there
        made = await connect(self._reactor, peer, state=here.path, plain=plain, **options)
        return made

    def file(self, name: str, size: int) -> str:
        """Random bytes to send."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
        return str(path)


Measure = Callable[[Place, Figures, int, float], Coroutine[Any, Any, None]]


def _judge(figures: Figures, what: str, size: int, took: float, rate: int) -> None:
    figures.add(f"{what}: share of the limit", size / took / rate, least=0.9, most=1.1)


async def one(place: Place, figures: Figures, rate: int, seconds: float) -> None:
    """One large file, received at a limit and sent at one, in plain text and in TLS."""
    for plain in (True, False):
        how = "in clear" if plain else "in TLS"
        size = int(seconds * rate)
        path = place.file(f"one{plain}", size)
        for side in ("receiver", "sender"):
            service, address = await place.service(
                **{"rate_in": rate} if side == "receiver" else {}
            )
            options = {"rate_out": rate} if side == "sender" else {}
            client = await place.client(f"a{plain}{side}", address, plain, **options)
            counted = Watch(Direction.IN)
            service.subscribe(counted.hear)
            began = time.monotonic()
            await client.send_file(path)
            took = time.monotonic() - began
            await client.close()
            await service.stopService()
            _judge(figures, f"{how}, limited by the {side}", size, took, rate)
            # A quarter of a second waits for the disk, a fifth is what a bucket holds.
            most = counted.most(WINDOW) / (rate * WINDOW)
            figures.add(f"{how}, {side}: most in {WINDOW} s, of the limit", most, most=1.7)


async def shared(place: Place, figures: Figures, rate: int, seconds: float) -> None:
    """Two devices, one with eight connections, share one limit of the service."""
    service, address = await place.service(rate_in=rate)
    one = await place.client("b", address, plain=False)
    many = [await place.client("c", address, plain=False) for _ in range(8)]
    path = place.file("shared", int(4 * seconds * rate))
    counted: dict[str, int] = {}

    def hear(snapshot: Snapshot) -> None:
        counted[snapshot.id] = snapshot.done

    service.subscribe(hear)
    sending = [one.send_file(path, name="one")]
    sending += [each.send_file(path, name=f"many{n}") for n, each in enumerate(many)]
    # Of each connection something has been read that is not on the disk yet.
    await task.deferLater(place._reactor, seconds, lambda: None)
    before = {each.path: each.done for each in service.registry.pending()}
    await task.deferLater(place._reactor, 2 * seconds, lambda: None)
    done = {each.path: each.done - before[each.path] for each in service.registry.pending()}
    total = sum(done.values())
    _judge(figures, "nine connections of two devices together", total, 2 * seconds, rate)
    figures.add("share of the one with one connection", done["one"] / total, least=0.4, most=0.6)
    for each in sending:
        each.addErrback(lambda why: None)
        each.cancel()
    await gatherResults([each.close(1.0) for each in (one, *many)])
    await service.stopService()


async def small(place: Place, figures: Figures, rate: int, seconds: float) -> None:
    """A folder of small files, which travel with their requests, at a limit of either side."""
    for number in range(400):
        place.file(f"small/{number}", int(seconds * rate) // 400)
    for side in ("receiver", "sender"):
        service, address = await place.service(**{"rate_in": rate} if side == "receiver" else {})
        options = {"rate_out": rate} if side == "sender" else {}
        client = await place.client(f"d{side}", address, plain=False, **options)
        began = time.monotonic()
        sent = await client.send_paths([str(place._folder / "small")])
        took = time.monotonic() - began
        await client.close()
        await service.stopService()
        assert not sent.failed, sent.failed
        _judge(figures, f"400 small files, limited by the {side}", int(seconds * rate), took, rate)


async def changed(place: Place, figures: Figures, rate: int, seconds: float) -> None:
    """A limit that is changed while a file is on its way."""
    service, address = await place.service(rate_in=rate)
    client = await place.client("e", address, plain=False)
    counted = Watch(Direction.IN)
    service.subscribe(counted.hear)
    sending = client.send_file(place.file("changed", int(10 * seconds * rate)))
    await task.deferLater(place._reactor, 2.0, lambda: None)
    before = sum(size for _, size in counted.marks)
    service.limit(rate_in=4 * rate)
    await task.deferLater(place._reactor, 1.0, lambda: None)
    middle = sum(size for _, size in counted.marks)
    await task.deferLater(place._reactor, 3.0, lambda: None)
    after = sum(size for _, size in counted.marks)
    _judge(figures, "before a change", before, 2.0, rate)
    figures.add(
        "in the second after it, of the new limit", (middle - before) / (4 * rate), least=0.6
    )
    _judge(figures, "after that", after - middle, 3.0, 4 * rate)
    sending.addErrback(lambda why: None)
    sending.cancel()
    await client.close(1.0)
    await service.stopService()


# covers: S2-55 S2-56
MEASURES: tuple[Measure, ...] = (one, shared, small, changed)


@click.command()
@click.option("--rate", default=1.0, help="MiB a second.")
@click.option("--seconds", default=4.0, help="How much there is to send.")
@click.option(
    "--only", type=click.Choice([each.__name__ for each in MEASURES]), help="One of them."
)
@click.option("--seed", default=0, help="Shown; nothing here is random.")
@click.option("--short", is_flag=True, help="One large file each way, and nothing else.")
def command(rate: float, seconds: float, only: str | None, seed: int, short: bool) -> None:
    """Speed limits, counted over real sockets.

    Bounds: 0.9 to 1.1 of the limit over seconds, 1.7 of it in any half second; of two devices
    the one with eight connections gets no more than the one with one.
    """
    figures = Figures(seed)
    chosen = [one] if short else [each for each in MEASURES if only in (None, each.__name__)]

    async def run(reactor: Any) -> None:
        where = "/dev/shm" if os.path.isdir("/dev/shm") else None
        with tempfile.TemporaryDirectory(prefix="lanxfer-rate-", dir=where) as folder:
            for measure in chosen:
                await measure(Place(reactor, Path(folder)), figures, int(rate * MIB), seconds)

    def main(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(run(reactor))

    try:
        task.react(main)
    except SystemExit as ended:
        if ended.code:
            raise
    figures.finish()
