"""A real send over a link that is down for 2 s of every 5 s, without anybody's help.

Between the two sides is a proxy that lets so many MiB a second through and,
while the link is down, resets what is connected and refuses what comes.  The
send must come to its end in one run, with one verdict, and what goes through
the proxy more than once is bounded (catalogue B09).
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import click
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from chaos.figures import Figures
from chaos.resume import numbered, place
from chaos.sides import MIB, Sides, reactor, run
from lanxfer.transfers import Direction, Snapshot, State

AGAIN_MOST = 0.05
"""The share of the file that may be sent more than once."""


class _Half(Protocol):
    """One side of a proxied connection."""

    transport: Any

    def __init__(self, link: Link) -> None:
        self.link = link
        self.other: _Half | None = None
        self.early: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.link.passed(self, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.link.halves.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class _Inward(_Half):
    """From the client; the service is connected to at once."""

    def connectionMade(self) -> None:
        self.link.halves.add(self)
        self.transport.pauseProducing()
        out = _Half(self.link)
        out.other, self.other = self, out
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.link.target)
        connecting = connectProtocol(endpoint, out)
        connecting.addCallbacks(self._connected, lambda why: self.transport.abortConnection())

    def _connected(self, out: _Half) -> None:
        self.link.halves.add(out)
        self.transport.resumeProducing()


class Link:
    """The proxy; ``rate`` in bytes a second, from the client to the service."""

    def __init__(self, target: int, rate: float) -> None:
        self.target = target
        self.rate = rate
        self.halves: set[_Half] = set()
        self.sent = 0
        self.cuts = 0
        self.port = 0
        self._listening: Any = None

    def up(self) -> None:
        self._listening = reactor.listenTCP(self.port, _Inwards(self), interface="127.0.0.1")
        self.port = self._listening.getHost().port

    def down(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.stopListening()
        if self.halves:
            self.cuts += 1
        for each in list(self.halves):
            each.transport.abortConnection()

    def passed(self, half: _Half, data: bytes) -> None:
        assert half.other is not None
        half.other.transport.write(data)
        if isinstance(half, _Inward):
            self.sent += len(data)
            half.transport.pauseProducing()
            reactor.callLater(len(data) / self.rate, self._on, half)

    def _on(self, half: _Half) -> None:
        if half in self.halves:
            half.transport.resumeProducing()


class _Inwards(Factory):
    noisy = False

    def __init__(self, link: Link) -> None:
        self.link = link

    def buildProtocol(self, addr: object) -> _Inward:
        return _Inward(self.link)


@click.command(help=__doc__)
@click.option("--size", default=1024, show_default=True, help="of the file, in MiB")
@click.option("--rate", default=50.0, show_default=True, help="of the link, in MiB a second")
@click.option("--every", default=5.0, show_default=True, help="seconds from one cut to the next")
@click.option("--down", default=2.0, show_default=True, help="seconds that one lasts")
def command(size: int, rate: float, every: float, down: float) -> None:
    figures = Figures()
    verdicts: list[Snapshot] = []

    async def work() -> None:
        sides = Sides(os.path.realpath(folder))
        path = numbered(sides.folder, size * MIB)
        await sides.start()
        link = Link(sides.port, rate * MIB)
        link.up()
        sides.move_peer(link.port)
        sides.service.subscribe(verdicts.append)

        def fall() -> None:
            link.down()
            reactor.callLater(down, link.up)

        client = await sides.client()
        falling = LoopingCall(fall)
        falling.clock = reactor
        begun = reactor.seconds()
        reactor.callLater(every - down, falling.start, every)
        receipt = await client.send_file(
            path, on_progress=lambda done, all: figures.tell(done // MIB, all // MIB, "MiB")
        )
        seconds = reactor.seconds() - begun
        if falling.running:
            falling.stop()
        await client.close(1.0)
        link.down()
        with open(sides.inbox / receipt.stored, "rb") as stored, open(path, "rb") as sent:
            same = all(piece == sent.read(MIB) for piece in iter(lambda: stored.read(MIB), b""))
        files = sum(not name.startswith(".") for name in os.listdir(sides.inbox))
        await sides.stop()
        again = max(0, link.sent - size * MIB) / (size * MIB)
        figures.add("cuts", link.cuts, least=1)
        figures.add("seconds", seconds, "s", most=3 * size / rate * every / (every - down) + 10)
        figures.add("sent again", 100 * again, "%", most=100 * AGAIN_MOST)
        figures.add("the same file", same, least=1)
        done = [
            now for now in verdicts if now.direction is Direction.IN and now.state is State.DONE
        ]
        # Where a cut took the answer, it is asked for again, and that is one more of them.
        figures.add("stored there", sum(not now.already for now in done), least=1, most=1)
        figures.add("files there", files, least=1, most=1)

    with tempfile.TemporaryDirectory(prefix="lanxfer-flap-", dir=place(None, 2 * size)) as folder:
        run(work)
    figures.add("ended", len(figures.all) >= 5, least=1)
    figures.finish()
