"""Links over any two streams of bytes: TCP, UNIX sockets, standard input and output, a child.

Nobody proves who they are on these, so whoever makes one says whom it is with
(``principal``): the user's own processes, in the main.  Between devices there is
``lanxfer.client``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from attrs import define
from twisted.application.internet import ClientService, backoffPolicy
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater

from lanxfer.commands.control import hello, ping
from lanxfer.commands.declared import table_of
from lanxfer.commands.table import Command, Node, Table, Tables
from lanxfer.connecting import connect_over, greet
from lanxfer.deferreds import Shared, as_deferred, public
from lanxfer.disk import Disk
from lanxfer.errors import Lost
from lanxfer.links import Link
from lanxfer.pipes import PipeProtocol, child_endpoint, over_descriptors
from lanxfer.policy import LOCAL, Principal
from lanxfer.protocol import LanxferProtocol
from lanxfer.sessions.native import NativeSession
from lanxfer.sockets import tune
from lanxfer.storage.names import SafePath
from lanxfer.turns import Turns

T = TypeVar("T")

_TALK: dict[str, Command] = {"hello": hello, "ping": ping}

WORKERS = 4
"""Commands that block and run at the same time."""


@define(eq=False)
class LinkNode:
    """What commands see of a side that answers an application's commands and has no files."""

    reactor: Any
    device: str = ""
    workers: int = WORKERS
    _pool: Disk | None = None
    _stopping: Any = None

    def enter(self, principal: Principal, name: str) -> None:
        """There is no allowance to keep to."""

    def leave(self, principal: Principal, name: str) -> None:
        """See ``enter``."""

    def inline(self, principal: Principal) -> int:
        return 0

    def pack(self, principal: Principal) -> int:
        return 0

    def may(self, principal: Principal, perm: str, path: SafePath) -> bool:
        return False  # there is no folder that the path could be in

    def in_pool(self, function: Callable[..., T], **given: Any) -> Deferred[T]:
        if self._pool is None:
            self._pool = Disk(self.reactor, self.workers)
            self._pool.start()
            self._stopping = self.reactor.addSystemEventTrigger(
                "during", "shutdown", self._pool.stop
            )
        return self._pool.run(partial(function, **given))

    async def close(self) -> None:
        """Wait for what the threads have begun, and end them."""
        pool, self._pool = self._pool, None
        if pool is not None:
            self.reactor.removeSystemEventTrigger(self._stopping)
            await pool.stopped()


class LinkFactory(Factory):
    """Makes the connections of one side; ``links`` are those that are open.

    ``commands`` is an object with marked methods, or a table; without it the other
    side can ask for nothing.  ``on_link`` is told of each one that another opened.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        commands: Any = None,
        *,
        device: str = "",
        principal: Principal = LOCAL,
        workers: int = WORKERS,
        on_link: Callable[[Link], object] = lambda link: None,
    ) -> None:
        self.reactor = reactor
        self.node = LinkNode(reactor, device, workers)
        self.commands = table_of(commands)
        self.links: set[Link] = set()
        self._table: Table = Tables(_TALK, self.commands)
        self._principal = principal
        self._on_link = on_link
        self._turns = Turns(reactor)

    def buildProtocol(self, addr: IAddress | None) -> LanxferProtocol:
        made = PipeProtocol(
            NativeSession(known=True),
            cast(Node, self.node),
            Disk(self.reactor),  # of which nothing runs: there are no files
            self._table,
            self.reactor,
            lambda transport: self._principal,
            on_ready=self._ready,
        )
        made.take_turns(self._turns)
        return made

    def _ready(self, protocol: LanxferProtocol) -> None:
        tune(protocol.transport)
        link = Link(protocol)
        self.links.add(link)
        protocol.when_gone().addCallback(lambda _: self.links.discard(link))
        self._on_link(link)

    async def close(self, timeout: float = 10.0) -> None:
        """Close what is open, and end the threads."""
        leaving = [each.close(timeout) for each in list(self.links)]
        for each in leaving:
            await each
        await self.node.close()


class Listening:
    """A place where others can open links; made by ``listen_links``."""

    def __init__(self, port: IListeningPort, factory: LinkFactory) -> None:
        self.port = port
        self.factory = factory

    @property
    def links(self) -> set[Link]:
        return self.factory.links

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """Listen no more, and close each link as ``Link.close`` does."""

        async def run() -> None:
            stopped = self.port.stopListening()
            if isinstance(stopped, Deferred):
                await stopped
            await self.factory.close(timeout)

        return public(run())


def listen_links(
    reactor: Any, endpoint: Any, commands: Any = None, **how: Any
) -> Deferred[Listening]:
    """Take links at an endpoint, or where an endpoint string says; see ``LinkFactory``.

    Whoever can reach it is ``principal``: a UNIX socket in a folder of the user's own
    is a good place, a TCP port on all addresses is none.
    """

    async def run() -> Listening:
        place = serverFromString(reactor, endpoint) if isinstance(endpoint, str) else endpoint
        factory = LinkFactory(reactor, commands, **how)
        return Listening(await place.listen(factory), factory)

    return public(run())


def dial_link(reactor: Any, endpoint: Any, commands: Any = None, **how: Any) -> Deferred[Link]:
    """Open a link to an endpoint, or to where an endpoint string says; see ``LinkFactory``.

    Fires when the other side has said hello; fails with Unreachable, or its refusal.
    """

    async def run() -> Link:
        place: IStreamClientEndpoint = (
            clientFromString(reactor, endpoint) if isinstance(endpoint, str) else endpoint
        )
        factory = LinkFactory(reactor, commands, **how)
        protocol = await connect_over(place, factory, "the other side")
        return await _greeted(protocol, factory)

    return public(run())


async def _greeted(protocol: LanxferProtocol, factory: LinkFactory) -> Link:
    try:
        await greet(protocol, factory.node.device)
    except BaseException:
        protocol.abort(Lost())
        raise
    protocol.when_gone().addCallback(lambda _: as_deferred(factory.node.close()))
    return Link(protocol)


def spawn_link(
    reactor: Any,
    argv: Sequence[str],
    commands: Any = None,
    *,
    env: Mapping[str, str] | None = None,
    **how: Any,
) -> Deferred[Link]:
    """Start a program and open a link to it through its standard input and output.

    ``argv[0]`` is a full path or found through PATH; ``env`` None is this process's
    own.  The program ends with the link.
    """
    return dial_link(reactor, child_endpoint(reactor, argv, env), commands, **how)


def stdio_link(
    reactor: Any, commands: Any = None, *, stdin: int = 0, stdout: int = 1, **how: Any
) -> Link:
    """A link through this process's own standard input and output, or other descriptors.

    They are open when it has ended, and may be used for something else: what came after the
    last word of the other side is in ``link.unread``.
    """
    factory = LinkFactory(reactor, commands, **how)
    protocol = factory.buildProtocol(None)
    over_descriptors(protocol, stdin, stdout, reactor)
    protocol.when_gone().addCallback(lambda _: as_deferred(factory.node.close()))
    return Link(protocol)


class LinkService(ClientService):
    """Keeps a link open: made anew, after growing pauses, whenever it breaks.

    An ``IService``.  Requests under way when it breaks fail with Lost; whether they may be
    asked again is the application's to know.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: Any,
        commands: Any = None,
        *,
        initial_delay: float = 0.5,
        max_delay: float = 60.0,
        **how: Any,
    ) -> None:
        place = clientFromString(reactor, endpoint) if isinstance(endpoint, str) else endpoint
        self._links = LinkFactory(reactor, commands, **how)

        def prepare(protocol: Any) -> Deferred[Any]:
            return as_deferred(greet(protocol, self._links.node.device))

        super().__init__(
            place,
            self._links,
            retryPolicy=backoffPolicy(initial_delay, max_delay),
            clock=reactor,
            prepareConnection=prepare,
        )

    def when_linked(self, attempts: int | None = None) -> Deferred[Link]:
        """Fires with the link as soon as there is one; fails after so many attempts without."""

        async def run() -> Link:
            while True:
                protocol: Any = await self.whenConnected(failAfterFailures=attempts)
                if not protocol.deaf:
                    return Link(protocol)
                # Asked from within the end of the one before, which is not noticed yet.
                await protocol.when_gone()
                await deferLater(self._links.reactor, 0, lambda: None)

        return public(run())

    def stopService(self) -> Deferred[None]:
        stopping = Deferred.fromCoroutine(self._links.close())
        return stopping.addCallback(lambda _: as_deferred(super(LinkService, self).stopService()))


class SharedLink:
    """One connection for many users: made when the first one needs it, closed after the last.

    ``dial`` makes it: ``partial(dial_link, reactor, "tcp:nas:4000")``, say.  ``idle``
    seconds after the last release it is closed.
    """

    def __init__(self, reactor: Any, dial: Callable[[], Deferred[Link]], idle: float = 0.0) -> None:
        self._reactor = reactor
        self._dial = dial
        self._idle = idle
        self._link: Link | None = None
        self._dialing = Shared(self._redial)
        self._closing: Any = None
        self.holders = 0

    def hold(self) -> Deferred[Link]:
        """Fires with the link, made if there is none; ``release`` it once afterwards.

        Where it fails there is nothing to release.
        """
        self._stay()
        self.holders += 1
        return public(self._hold())

    async def _hold(self) -> Link:
        try:
            return await self._linked()
        except BaseException:
            self.holders -= 1
            raise

    async def _linked(self) -> Link:
        link = self._link
        if link is not None and not link.protocol.deaf:
            return link
        return await self._dialing.get()

    async def _redial(self) -> Link:
        self._link = await self._dial()
        return self._link

    def release(self) -> None:
        """One user fewer; after the last one the link is closed, unless another one comes."""
        if self.holders < 1:
            raise ValueError("released more often than held")
        self.holders -= 1
        if not self.holders:
            self._closing = self._reactor.callLater(self._idle, self._close)

    def _stay(self) -> None:
        closing, self._closing = self._closing, None
        if closing is not None and closing.active():
            closing.cancel()

    def _close(self) -> None:
        self._closing = None
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def call(self, name: str, args: Any = None, data: bytes = b"", **how: Any) -> Deferred[Any]:
        """``Link.call``, on a link held for just that long."""

        async def run() -> Any:
            link = await self.hold()
            try:
                return await link.call(name, args, data, **how)
            finally:
                self.release()

        return public(run())
