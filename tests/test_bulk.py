"""TLS in large pieces: the same bytes as through Twisted's own, with either on the other side."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest
from devices import in_reactor, until
from OpenSSL.SSL import ZeroReturnError
from test_direct import UNIT, Receiver, Sender, loop
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from lanxfer import sealed
from lanxfer.bulk import BulkTLS, BulkTLSFactory
from lanxfer.identity import load_identity
from lanxfer.state import StateFolder
from lanxfer.tls import TlsOptions


class Shouter(Sender):
    """Sends through the TLS transport itself where that takes bodies."""

    def connectionMade(self) -> None:
        way: Any = self.transport
        self.direct = way if isinstance(way, BulkTLS) else None
        way.registerProducer(self, True)

    def say(self, header: bytes, body: list[memoryview]) -> None:
        if self.direct is not None:
            self.direct.send(header, body)
        else:
            cast(Any, self.transport).write(b"".join([header, *body]))


class Listener(Receiver):
    """As over TCP, but what comes past ``dataReceived`` comes from the TLS transport."""

    def connectionMade(self) -> None:
        """There is nothing to take over."""


async def meet(folder: Path, sender: Shouter, receiver: Listener, bulk: tuple[bool, bool]) -> Any:
    """A TLS connection between the two; ``bulk`` says which sides do large pieces."""
    options = TlsOptions(load_identity(StateFolder(str(folder))))
    here, there = (BulkTLSFactory if each else TLSMemoryBIOFactory for each in bulk)
    inside = Factory.forProtocol(lambda: receiver)
    port = loop.listenTCP(0, there(options, False, inside, loop), interface="127.0.0.1")
    endpoint = TCP4ClientEndpoint(loop, "127.0.0.1", port.getHost().port)
    outside = Factory.forProtocol(lambda: sender)
    await endpoint.connect(here(options, True, outside, loop))
    return port


@in_reactor
@pytest.mark.parametrize("bulk", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("roomy", [True, False])
@pytest.mark.parametrize("raw", [True, False])
async def test_order(
    tmp_path: Path,
    bulk: tuple[bool, bool],
    roomy: bool,
    raw: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines and bodies of any size arrive as they were sent, however they are decrypted."""
    # covers: B07
    assert sealed.RAW  # or half of this says nothing
    monkeypatch.setattr(sealed, "RAW", raw)
    chance = random.Random(repr((bulk, roomy)))
    sender, receiver = Shouter(), Listener()
    receiver.roomy = roomy
    port = await meet(tmp_path, sender, receiver, bulk)
    sent: list[bytes] = []
    unit = bytearray(3_000_000)
    for number in range(60):
        await sender.ready()
        size = chance.choice((1, 300, 5000, 16_384, 70_000, 262_144, 400_000, len(unit)))
        body, cut = memoryview(unit)[:size], chance.randrange(size)
        body[:] = bytes([number]) * size
        sent.append(bytes(body))
        for _ in range(chance.choice((0, 0, 1, 5))):
            cast(Any, sender.transport).write(b"word\n")
        sender.say(b"%d\n" % size, [body[:cut], body[cut:]])
        if chance.random() < 0.2:
            receiver.pauseProducing()
            loop.callLater(0.01, receiver.resumeProducing)
    await sender.ready()
    cast(Any, sender.transport).unregisterProducer()
    cast(Any, sender.transport).loseConnection()
    await receiver.gone
    assert receiver.bodies == sent
    assert bool(receiver.direct_bytes) == (roomy and bulk[1])
    await port.stopListening()
    await sender.gone


@in_reactor
@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_cut(tmp_path: Path, who: str) -> None:
    """A connection that breaks in the middle of a body ends both sides."""
    # covers: B04
    sender, receiver = Shouter(), Listener()
    port = await meet(tmp_path, sender, receiver, (True, True))
    body = b"x" * 20_000_000
    sender.say(b"%d\n" % len(body), [memoryview(body)])
    assert not sender.writable
    both: dict[str, Any] = {"sender": sender, "receiver": receiver}
    loop.callLater(0.05, both[who].transport.abortConnection)
    await sender.gone
    await receiver.gone
    assert len(receiver.bodies) <= 1
    sender.say(b"1\n", [memoryview(b"x" * UNIT)])  # has no effect, and no error
    await port.stopListening()


@in_reactor
async def test_closed_while_full(tmp_path: Path) -> None:
    """A side that was told to wait, and then that the other one closes, is over soon after."""
    sender, receiver = Shouter(), Listener()
    port = await meet(tmp_path, sender, receiver, (True, True))
    body = b"x" * 20_000_000
    sender.say(b"%d\n" % len(body), [memoryview(body)])
    way: Any = sender.transport
    await until(lambda: way.transport.producerPaused)
    way._stopped(ZeroReturnError())  # as if that had just come
    await sender.gone.addTimeout(20, loop)
    await receiver.gone
    await port.stopListening()


@in_reactor
async def test_garbled(tmp_path: Path) -> None:
    """A record that was changed on its way ends the connection, and nothing of it is handed on."""
    # covers: B11
    sender, receiver = Shouter(), Listener()
    port = await meet(tmp_path, sender, receiver, (True, True))
    sender.say(b"%d\n" % UNIT, [memoryview(b"x" * UNIT)])
    arrived: Deferred[None] = Deferred()
    receiver.bodyReceived = lambda: arrived.callback(None)  # type: ignore[method-assign]
    await arrived
    got = receiver.direct_bytes
    below = cast(Any, sender.transport).transport
    below.write(b"\x17\x03\x03\x00\x20" + b"y" * 32)
    await receiver.gone
    await sender.gone
    assert receiver.direct_bytes == got
    await port.stopListening()


class Lender(Shouter):
    """Has a thread, as it were, that sends until it is to stop."""

    outlet: Any = None

    def stopProducing(self) -> None:
        super().stopProducing()
        if self.outlet is not None:
            self.outlet.close()
            cast(Any, self.transport).back_out([])
            self.outlet = None

    def lend(self) -> None:
        way: Any = self.transport
        self.outlet = way.lend_out()


@in_reactor
async def test_closed_while_lent(tmp_path: Path) -> None:
    """What a thread has encrypted is sent before the last word, when the other side closes."""
    sender, receiver = Lender(), Listener()
    port = await meet(tmp_path, sender, receiver, (True, True))
    way: Any = sender.transport
    await until(lambda: way._handshakeDone)
    sender.lend()
    body = memoryview(b"x" * 20_000_000)
    sent = sender.outlet.send([memoryview(b"%d\n" % len(body)), body])
    assert 0 < sent < len(body)
    outlet = sender.outlet
    way._stopped(ZeroReturnError())  # as if that had just come
    assert sender.stopped
    assert outlet.waiting
    await sender.gone.addTimeout(20, loop)
    await receiver.gone
    assert len(receiver._got) == sent - len(b"%d\n" % len(body))
    await port.stopListening()


@in_reactor
async def test_nothing_to_lend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyOpenSSL's own way to OpenSSL nobody tries."""
    sender, receiver = Lender(), Listener()
    port = await meet(tmp_path, sender, receiver, (True, True))
    way: Any = sender.transport
    await until(lambda: way._handshakeDone)
    assert way.lends
    monkeypatch.setattr(sealed, "RAW", False)
    assert not way.lends
    assert way.lend_out() is None
    way.abortConnection()
    await sender.gone
    await receiver.gone
    await port.stopListening()
