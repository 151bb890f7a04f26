"""A wire between two devices that a test may meddle with: bits turn over, it is cut, it is dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

Meddle = Callable[[bytes, int], bytes | None]
"""What arrives of these bytes, which begin at this offset of all that went up; None cuts."""


class _Client(ProxyClient):  # type: ignore[misc]
    def connectionLost(self, reason: Any = None) -> None:
        if self.peer is not None:
            self.peer.transport.abortConnection()


class _ClientFactory(ProxyClientFactory):  # type: ignore[misc]
    protocol = _Client
    noisy = False


class _Server(ProxyServer):  # type: ignore[misc]
    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # until the way on is there
        onward = _ClientFactory()
        onward.setServer(self)
        wire = self.factory.wire
        reactor.connectTCP(  # type: ignore[attr-defined]
            wire.host, wire.port, onward, bindAddress=(wire.source, 0)
        )

    def dataReceived(self, data: bytes) -> None:
        wire = self.factory.wire
        at, wire.up = wire.up, wire.up + len(data)
        passed = wire.meddle(data, at)
        if passed is None:
            self.transport.abortConnection()
        else:
            super().dataReceived(passed)

    def connectionLost(self, reason: Any = None) -> None:
        if self.peer is not None:
            self.peer.transport.abortConnection()


class _Dead(Protocol):
    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.abortConnection()  # type: ignore[attr-defined]


class Wire(ProxyFactory):  # type: ignore[misc]
    """Listens, and passes on to a service; ``up`` counts what came from the callers.

    To the service everything seems to come from ``source``.
    """

    protocol = _Server
    noisy = False

    def __init__(self, service: str, meddle: Meddle = lambda data, at: data) -> None:
        host, _, port = service.rpartition(":")
        super().__init__(host, int(port))
        self.wire = self
        self.meddle = meddle
        self.source = "127.0.0.1"
        self.up = 0
        self.callers = 0
        self.dead = False
        self._listening: Any = reactor.listenTCP(  # type: ignore[attr-defined]
            0, self, interface="127.0.0.1"
        )
        self.address = f"127.0.0.1:{self._listening.getHost().port}"

    def buildProtocol(self, addr: Any) -> Any:
        self.callers += 1
        return _Dead() if self.dead else super().buildProtocol(addr)

    def close(self) -> Deferred[Any]:
        return maybeDeferred(self._listening.stopListening)
