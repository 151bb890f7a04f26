"""Asking a device for its key, without knowing it: what ``peer add --tofu`` is built on."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError, UserError
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.connecting import endpoint_of
from lanxfer.errors import AuthFailed, LanxferError, TimedOut, Unreachable
from lanxfer.identity import Identity
from lanxfer.peers import format_address
from lanxfer.tls import client_options, describe_tls_failure, peer_key, wrap_client
from lanxfer.wire import limits


@implementer(IHandshakeListener)
class _Look(Protocol):
    """Looks at the key the other side proves to hold, and hangs up."""

    def __init__(self, found: Deferred[str]) -> None:
        self._found: Deferred[str] | None = found

    def handshakeCompleted(self) -> None:
        try:
            key = peer_key(self.transport)
            self._tell(AuthFailed() if key is None else key)
        except LanxferError as error:
            self._tell(error)
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._tell(describe_tls_failure(reason))

    def _tell(self, outcome: str | LanxferError) -> None:
        found, self._found = self._found, None
        if found is None or found.called:
            return
        if isinstance(outcome, str):
            found.callback(outcome)
        else:
            found.errback(outcome)


class _Looking(Factory):
    noisy = False

    def __init__(self, found: Deferred[str]) -> None:
        self._found = found

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Look(self._found)


async def key_of(reactor: Any, host: str, port: int, identity: Identity) -> str:
    """The key that whoever answers there can prove to hold; that it is theirs, nobody proves.

    Raises Unreachable, TimedOut, or what kept TLS from beginning.
    """
    found: Deferred[str] = Deferred()
    factory = wrap_client(client_options(identity), _Looking(found), reactor)
    endpoint = endpoint_of(reactor, host, port)
    try:
        connection: Any = await endpoint.connect(factory)
    except (ConnectError, DNSLookupError, TimeoutError, UserError) as error:
        where = format_address(host, port)
        raise Unreachable(f"{where} does not answer; is lanxfer running there?") from error
    late = reactor.callLater(limits.HANDSHAKE_TIMEOUT, lambda: found.errback(TimedOut()))
    try:
        return await found
    finally:
        if late.active():
            late.cancel()
        if connection.transport is not None:
            connection.transport.abortConnection()
