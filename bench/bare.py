"""The yardstick: Twisted's own LineReceiver and FileSender, and nothing else.

No digest, no sync, no rename, no limits; chunks and reads as large as
lanxfer's, which are arguments here so that nothing of lanxfer is imported.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import IO, Any

from OpenSSL import SSL
from twisted.internet import reactor, ssl
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    SSL4ClientEndpoint,
    TCP4ClientEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import react
from twisted.protocols.basic import FileSender, LineReceiver

from bench.side import Control, run, say

_reactor: Any = reactor


class Receiver(LineReceiver):
    """Takes ``put SIZE`` with its bytes, and ``ping``; answers with one line."""

    delimiter = b"\n"

    def __init__(self, path: str, read_size: int) -> None:
        self._path = path
        self._read_size = read_size
        self._left = 0
        self._file: IO[bytes] | None = None

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.bufferSize = self._read_size
        transport.setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:
        verb, _, size = line.partition(b" ")
        if verb == b"put":
            self._left = int(size)
            self._file = open(self._path, "wb")  # noqa: SIM115  # closed when the body is complete
            self.setRawMode()
        else:
            self.sendLine(b"ok")

    def rawDataReceived(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._left -= len(data)
        if not self._left:
            self._file.close()
            self.sendLine(b"ok")
            self.setLineMode()


class Asker(LineReceiver):
    """Waits for one answer at a time."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self._answer: Deferred[bytes] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        answer, self._answer = self._answer, Deferred()
        answer.callback(line)

    def answered(self) -> Deferred[bytes]:
        return self._answer


class Sender(FileSender):
    def __init__(self, unit: int) -> None:
        self.CHUNK_SIZE = unit


async def _put(asker: Asker, path: str, unit: int) -> dict[str, Any]:
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        began = time.perf_counter()
        answer = asker.answered()
        asker.sendLine(b"put %d" % size)
        await Sender(unit).beginFileTransfer(file, asker.transport)
        await answer
        return {"seconds": time.perf_counter() - began}


async def _ping(asker: Asker, times: int) -> dict[str, Any]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        answer = asker.answered()
        asker.sendLine(b"ping")
        await answer
        taken.append(time.perf_counter() - began)
    return {"seconds": sum(taken), "each": taken}


async def _ask(options: argparse.Namespace) -> None:
    host, _, port = options.address.partition(":")
    endpoint: Any = TCP4ClientEndpoint(_reactor, host, int(port))
    if options.tls:
        # Who is asked does not matter here, only what the bytes cost.
        endpoint = SSL4ClientEndpoint(_reactor, host, int(port), ssl.ClientContextFactory())
    asker: Asker = await connectProtocol(endpoint, Asker())
    transport: Any = asker.transport
    transport.setTcpNoDelay(True)
    if options.verb == "ping":
        found = await _ping(asker, int(options.what))
    else:
        found = await _put(asker, options.what, options.unit)
    transport.loseConnection()
    say(**found)


def _factory(key: str, cert: str) -> Any:
    made: Any = ssl.DefaultOpenSSLContextFactory
    return made(key, cert, SSL.TLS_SERVER_METHOD)


def _serve(options: argparse.Namespace) -> None:
    factory = Factory.forProtocol(partial(Receiver, options.what, options.read_size))
    where = {"interface": "127.0.0.1"}
    if options.keys:
        context = _factory(*options.keys)
        port = _reactor.listenSSL(options.port, factory, context, **where)
    else:
        port = _reactor.listenTCP(options.port, factory, **where)
    address: IPv4Address = port.getHost()
    if not options.port:
        Control(_reactor)
    say(listening=f"{address.host}:{address.port}")
    _reactor.run()


def main() -> None:
    """``bench.bare serve FILE`` or ``bench.bare put FILE | ping TIMES --address HOST:PORT``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=("serve", "put", "ping"))
    parser.add_argument("what")
    parser.add_argument("--address", default="")
    parser.add_argument("--unit", type=int, required=True)
    parser.add_argument("--read-size", type=int, required=True)
    parser.add_argument("--port", type=int, default=0, help="one that outlives its input")
    parser.add_argument("--keys", nargs=2, help="serve in TLS")
    parser.add_argument("--tls", action="store_true", help="ask in TLS")
    parser.add_argument("--profile")
    options = parser.parse_args()
    if options.verb == "serve":
        run(lambda: _serve(options), options.profile)
    else:
        run(lambda: react(lambda _: Deferred.fromCoroutine(_ask(options)), ()), options.profile)


if __name__ == "__main__":
    main()
