"""Bodies past the transport's buffers: all of them, in order, and no memory changed early."""

from __future__ import annotations

import random
import socket
from typing import Any, cast

import pytest
from devices import in_reactor
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from lanxfer.direct import Direct
from lanxfer.receiver import PacketReceiver

loop = cast(Any, reactor)
UNIT = 100_000


class Sender(Protocol):
    """Has a direct way out, and notes when it may not write."""

    def __init__(self) -> None:
        self.pauses = 0
        self.writable = True
        self.stopped = False
        self.resumed: Deferred[None] | None = None
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.direct = Direct.beside(self.transport, cast(Any, Unread()))
        cast(Any, self.transport).registerProducer(self, True)

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.writable = False

    def resumeProducing(self) -> None:
        self.writable = True
        resumed, self.resumed = self.resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self.stopped = True

    def ready(self) -> Deferred[None]:
        """Fires when this may write."""
        ready: Deferred[None] = Deferred()
        if self.writable:
            ready.callback(None)
        else:
            self.resumed = ready
        return ready


class Unread:
    paused = False
    in_body = False

    def space(self) -> None:
        return None


class Receiver(PacketReceiver):
    """A line that is a number announces so many bytes; they go to memory where there is some."""

    line_limit = 20
    roomy = True

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.heard: list[bytes] = []
        self.direct_bytes = 0
        self.gone: Deferred[None] = Deferred()
        self._unit = bytearray(UNIT)
        self._got = bytearray()
        self._after_body = False

    def connectionMade(self) -> None:
        Direct.beside(self.transport, self)

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)

    @property
    def in_body(self) -> bool:
        return self._after_body

    def lineReceived(self, line: bytes) -> None:
        self.heard.append(line)
        self._after_body = False
        if line.isdigit() and int(line):
            self._got = bytearray()
            self.expect(int(line))

    def rawDataReceived(self, data: bytes) -> None:
        self._got += data

    def body_space(self) -> memoryview | None:
        return memoryview(self._unit) if self.roomy else None

    def bodyFilled(self, size: int) -> None:
        self.direct_bytes += size
        self._got += self._unit[:size]

    def bodyReceived(self) -> None:
        self._after_body = True
        self.bodies.append(bytes(self._got))


async def meet(sender: Protocol, receiver: Protocol) -> Any:
    """A TCP connection on loopback between the two; the port, which the caller stops."""
    met: Deferred[None] = Deferred()

    class Here(Factory):
        def buildProtocol(self, addr: Any) -> Protocol:
            loop.callLater(0, met.callback, None)
            return receiver

    class There(Factory):
        def buildProtocol(self, addr: Any) -> Protocol:
            return sender

        def startedConnecting(self, connector: Any) -> None: ...

        def clientConnectionLost(self, connector: Any, reason: Any) -> None: ...

    port = loop.listenTCP(0, Here(), interface="127.0.0.1")
    loop.connectTCP("127.0.0.1", port.getHost().port, There())
    await met
    return port


async def until(true: Any) -> None:
    for _ in range(1000):
        if true():
            return
        await deferLater(loop, 0.01)
    raise AssertionError("that never came")


@in_reactor
@pytest.mark.parametrize("roomy", [True, False])
@pytest.mark.parametrize("seed", range(4))
async def test_order(seed: int, roomy: bool) -> None:
    """Lines and bodies of any size arrive as they were sent, by whichever way each went."""
    # covers: B07
    chance = random.Random(seed)
    sender, receiver = Sender(), Receiver()
    receiver.roomy = roomy
    port = await meet(sender, receiver)
    assert sender.direct is not None
    sent: list[bytes] = []
    unit = bytearray(3_000_000)
    for number in range(60):
        await sender.ready()
        assert not sender.direct._rest
        size = chance.choice((1, 300, 5000, 70_000, 400_000, len(unit)))
        # The memory is written over as soon as that is allowed.
        body, cut = memoryview(unit)[:size], chance.randrange(size)
        body[:] = bytes([number]) * size
        sent.append(bytes(body))
        if chance.random() < 0.3:
            cast(Any, sender.transport).write(b"word\n")
        sender.direct.send(b"%d\n" % size, [body[:cut], body[cut:]])
        if chance.random() < 0.3:
            cast(Any, sender.transport).write(b"word\n")
        if chance.random() < 0.2:
            receiver.pauseProducing()
            loop.callLater(0.01, receiver.resumeProducing)
    await sender.ready()
    cast(Any, sender.transport).loseConnection()
    await receiver.gone
    assert receiver.bodies == sent
    assert bool(receiver.direct_bytes) == roomy
    assert sender.pauses
    await port.stopListening()
    await sender.gone


@in_reactor
async def test_closed_with_a_rest() -> None:
    """A connection that is given up while the socket is full still sends the rest first."""
    sender, receiver = Sender(), Receiver()
    port = await meet(sender, receiver)
    receiver.pauseProducing()
    body = b"x" * 20_000_000
    assert sender.direct is not None
    sender.direct.send(b"%d\n" % len(body), [memoryview(body)])
    assert not sender.direct.gone(sender.direct.said)
    assert not sender.writable
    cast(Any, sender.transport).unregisterProducer()
    cast(Any, sender.transport).write(b"last\n")
    cast(Any, sender.transport).loseConnection()
    receiver.resumeProducing()
    await receiver.gone
    assert receiver.bodies == [body]
    assert receiver.heard[-1] == b"last"
    await port.stopListening()
    await sender.gone


@in_reactor
async def test_gone() -> None:
    """What has left has, however much waits behind it, and in whatever way that goes."""
    sender, receiver = Sender(), Receiver()
    port = await meet(sender, receiver)
    direct, transport = sender.direct, cast(Any, sender.transport)
    assert direct is not None
    direct.write_now(b"0\n")
    assert direct.gone(direct.said)
    receiver.pauseProducing()
    ends: list[int] = []
    for letter in (b"a", b"b", b"c", b"d"):
        body = letter * 20_000_000
        direct.send(b"%d\n" % len(body), [memoryview(body)])
        transport.write(b"0\n" * 5)  # after the first one, all the others have to wait for this
        ends.append(direct.said)
    assert [direct.gone(end) for end in ends] == [False] * 4
    for count in range(1, 5):
        receiver.resumeProducing()
        while len(receiver.bodies) < count:
            await deferLater(loop, 0, lambda: None)
        receiver.pauseProducing()
        assert direct.gone(ends[count - 1] - 10)
        assert not any(direct.gone(end) for end in ends[count:])
    receiver.resumeProducing()
    transport.loseConnection()
    await receiver.gone
    assert direct.gone(ends[-1])
    assert [body[:1] for body in receiver.bodies] == [b"a", b"b", b"c", b"d"]
    await port.stopListening()
    await sender.gone


@in_reactor
@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_cut_with_a_rest(who: str) -> None:
    """A connection that breaks in the middle of a body ends both sides, and what it was given."""
    # covers: B04
    sender, receiver = Sender(), Receiver()
    port = await meet(sender, receiver)
    receiver.pauseProducing()
    body = b"x" * 20_000_000
    assert sender.direct is not None
    sender.direct.send(b"%d\n" % len(body), [memoryview(body)])
    both: dict[str, Any] = {"sender": sender, "receiver": receiver}
    both[who].transport.abortConnection()
    if who == "sender":
        receiver.resumeProducing()
    await sender.gone
    await receiver.gone
    assert receiver.bodies == []
    assert sender.stopped
    sender.direct.send(b"1\n", [memoryview(b"x")])
    assert not sender.direct.gone(sender.direct.said)  # of the old body; nothing new is taken
    await port.stopListening()


@in_reactor
async def test_line_by_line() -> None:
    """Where a header comes next, little is read with it, so that the body goes to its place."""
    sender, receiver = Sender(), Receiver()
    port = await meet(sender, receiver)
    data = b"".join(b"%d\n" % UNIT + b"x" * UNIT for _ in range(20))
    cast(Any, sender.transport).write(data)
    await until(lambda: len(receiver.bodies) == 20)
    assert receiver.direct_bytes > 18 * (UNIT - 512)
    cast(Any, sender.transport).loseConnection()
    await receiver.gone
    await port.stopListening()
    await sender.gone


def test_not_beside_other_transports() -> None:
    """Only a bare TCP connection is gone past."""
    assert Direct.beside(object(), cast(Any, Unread())) is None
    from twisted.internet.unix import Server

    one, two = socket.socketpair()
    server = Server(one, Protocol(), None, None, 0, loop)
    assert Direct.beside(server, cast(Any, Unread())) is None
    server.stopReading()
    one.close()
    two.close()
