"""Connections over two descriptors: standard input and output, the pipes of a child.

What carries them may be used for something else before and after, so nothing is closed
here that was opened elsewhere, and each side says ``bye: all`` as its last packet: what
comes after that of the other side belongs to whoever reads next.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import ProcessEndpoint, StandardErrorBehavior, UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionAborted, ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.protocols.portforward import Proxy
from twisted.python.failure import Failure

from lanxfer.control import NO_SERVICE, NoService
from lanxfer.deferreds import own_cancel
from lanxfer.errors import BadConfig
from lanxfer.protocol import LanxferProtocol
from lanxfer.wire import limits
from lanxfer.wire.packets import Bye


class _Pipe:
    """A transport that has no way to be cut, with one: pipes, a child's or our own."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def abortConnection(self) -> None:
        transport = self._transport
        if hasattr(transport, "signalProcess"):
            transport.loseConnection()
            with suppress(ProcessExitedAlready):
                transport.signalProcess("TERM")
        elif not transport.disconnected:
            # Closing would wait for somebody to read what was written last.
            transport.connectionLost(Failure(ConnectionAborted()))


class PipeProtocol(LanxferProtocol):
    """A connection that ends with a packet of each side, not with the end of the stream.

    ``unread`` is what came after the last packet of the other side.
    """

    _said_bye = False
    _late: IDelayedCall | None = None

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(
            transport if hasattr(transport, "abortConnection") else _Pipe(transport)
        )

    def farewell(self) -> None:
        if not self._said_bye and self._outbox is not None:
            self._said_bye = True
            self._outbox.say(Bye(all=True))
            self._outbox.close()  # it is the last word, whatever is still asked
        if self.deaf:
            return
        if self.session.finished:
            self.hang_up()
        elif self._late is None:
            self._late = self.call_later(limits.ABORT_AFTER, self.hang_up)

    def _stop_timers(self) -> None:
        super()._stop_timers()
        late, self._late = self._late, None
        if late is not None and late.active():
            late.cancel()


def over_descriptors(protocol: Protocol, stdin: int, stdout: int, reactor: Any) -> None:
    """Have a protocol speak through two descriptors, which stay open and as they were."""
    before = {each: os.get_blocking(each) for each in (stdin, stdout)}
    lost = protocol.connectionLost

    def restore(reason: Failure = connectionDone) -> None:
        # The flag belongs to the pipe: another program at this end of it would trip over it.
        for descriptor, blocking in before.items():
            with suppress(OSError):
                os.set_blocking(descriptor, blocking)
        lost(reason)

    protocol.connectionLost = restore  # type: ignore[method-assign]
    StandardIO(protocol, stdin, stdout, reactor)  # type: ignore[call-arg]  # where it is POSIX


def child_endpoint(
    reactor: Any, argv: Sequence[str], env: Mapping[str, str] | None = None
) -> ProcessEndpoint:
    """Where a program that is started for it speaks; what it says on standard error is logged.

    ``argv[0]`` is a full path or found through PATH; ``env`` None is this process's own.
    BadConfig where there is nothing to be started.
    """
    if not argv:
        raise BadConfig("There is no program to be started.")
    return ProcessEndpoint(
        reactor,
        "/usr/bin/env",
        ["env", *argv],
        env=cast(Any, env),
        errFlag=StandardErrorBehavior.LOG,
    )


class _Passing(Proxy):
    """Hands on what comes, and tells when it is over."""

    noisy = False

    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.over.callback(None)


async def splice(reactor: Any, socket_path: str, stdin: int = 0, stdout: int = 1) -> None:
    """Pass bytes between two descriptors and the service at a control socket, until one ends.

    Raises NoService where none answers there.
    """
    here, there = _Passing(), _Passing()
    endpoint = UNIXClientEndpoint(reactor, socket_path, 5)
    try:
        await own_cancel(endpoint.connect(Factory.forProtocol(lambda: there)))
    except (ConnectError, OSError):
        raise NoService(NO_SERVICE) from None
    here.setPeer(there)
    there.setPeer(here)
    over_descriptors(here, stdin, stdout, reactor)
    wires: Any = here.transport, there.transport
    wires[0].registerProducer(wires[1], True)
    wires[1].registerProducer(wires[0], True)
    await there.over
    await here.over
