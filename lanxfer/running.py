"""A service from one start to the next stop: what there is then, its doors, and its end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from attrs import Factory, frozen
from twisted.internet.defer import gatherResults, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import deferLater

from lanxfer.admission import Legacy
from lanxfer.client import Client
from lanxfer.codes import Secret
from lanxfer.connecting import Dialer, find_target
from lanxfer.deferreds import public
from lanxfer.discovery.announcing import Announcing
from lanxfer.disk import Disk
from lanxfer.errors import BadConfig, BadHeader, BadState, Forbidden, Stopping
from lanxfer.factory import LanxferFactory, LocalFactory
from lanxfer.hooks.hooks import Hooks
from lanxfer.introducing import dial
from lanxfer.journal import Journal
from lanxfer.metrics.door import Metrics
from lanxfer.node import ServiceNode
from lanxfer.outgoing import Outgoing
from lanxfer.pairing import Pairing
from lanxfer.registry import Registry
from lanxfer.retrying import PATIENCE
from lanxfer.revoking import Revoking
from lanxfer.settings import Settings
from lanxfer.sharing import close_shares
from lanxfer.state import StateFolder
from lanxfer.storage.local import LocalStore
from lanxfer.storage.volumes import SharedFolder
from lanxfer.tidying import Tidying
from lanxfer.wire import limits

BACKLOG = 1024
"""Callers that wait to be accepted: with Twisted's 50 a burst costs the next one a second."""


@frozen
class Running:
    """What exists from one start to the next stop."""

    reactor: Any
    folder: StateFolder
    store: LocalStore
    journal: Journal
    disk: Disk
    """For the inbox; all else has ``reading``, and does not wait for it (catalogue R10)."""
    reading: Disk
    node: ServiceNode
    factory: LanxferFactory
    dialer: Dialer
    outgoing: Outgoing
    registry: Registry
    key: str
    unconfined: str
    """Why the process may write elsewhere, too; "" if it may not."""
    tidying: Tidying
    pairing: Pairing
    revoking: Revoking
    announcing: Announcing
    hooks: Hooks
    token: Secret | None
    limits_before: dict[str, float]
    shares: dict[str, SharedFolder]
    opened: dict[str, SharedFolder]
    """All that were ever shared, by ``--share`` option."""
    metrics: Metrics
    page: Any = None
    """A ``lanxfer.web.door.Page``, where there is one."""
    following: list[Callable[[], object]] = Factory(list)
    """What ends that ae controllers are shown everything."""
    ports: list[IListeningPort] = Factory(list)
    page_ports: list[IListeningPort] = Factory(list)

    async def listen(self, settings: Settings) -> list[str]:
        """Open all doors, and begin what goes on by itself; the addresses.

        Raises BadState where a port is taken, BadConfig where an endpoint makes no sense.
        """
        for endpoint in _endpoints(self.reactor, settings):
            self.ports.append(await _listening(endpoint, self.factory))
        if self.page is not None:
            port = await _listening(self.page.endpoint(), self.page.site)
            self.page.opened(port)
            self.page_ports.append(port)
        if (scraped := self.metrics.endpoint()) is not None:
            self.metrics.port = await _listening(scraped, self.metrics.site)
            self.page_ports.append(self.metrics.port)
        self.revoking.start()
        await self.outgoing.begin()
        self.tidying.start()
        self.announcing.start()
        if settings.control and hasattr(socket, "AF_UNIX"):
            # The last of the doors: who is answered there finds a service that is whole.
            path = self.folder.socket_path
            await self.disk.run(_remove_socket, path)
            door = UNIXServerEndpoint(self.reactor, path, mode=0o600, wantPID=False)
            self.ports.append(await _listening(door, LocalFactory(self.factory)))
        return [_shown(port) for port in self.ports if hasattr(port.getHost(), "port")]

    def client(self, args: Mapping[str, Any]) -> Client:
        """One for the ``peer`` that a request to send names; see ``lanxfer.handing``.

        Raises BadHeader, NotFound or Forbidden.
        """
        peer = args.get("peer")
        if not isinstance(peer, str):
            raise BadHeader('The request needs a text "peer".')
        legacy, plain = args.get("legacy") is True, args.get("plain") is True
        # An ae controller waits for its answer, and tries again by itself.
        request = args.get("request")
        patience = args.get("patience", PATIENCE if request is None else 0.0)
        target = find_target(self.dialer.peers, peer, plain=plain, legacy=legacy, finds=True)
        if target.legacy and args.get("native"):
            raise Forbidden("That is an ae device.")
        return Client(
            self.reactor,
            target,
            lambda: dial(self.dialer, target, self.token),
            self.reading,
            dialer=self.dialer,
            registry=self.registry,
            patience=patience,
            request=request or "",
        )

    async def stop(self, drain: float) -> None:
        """Close all doors, let transfers finish for so many seconds, then give them up, and close
        everything; unfinished files are kept for a resume."""
        self.revoking.stop()
        farewell = public(self.announcing.stop())
        self.pairing.stop()
        ports = [*self.ports, *self.page_ports]
        await gatherResults([maybeDeferred(port.stopListening) for port in ports])
        if self.page is not None:
            self.page.stop()
        self.metrics.stop()
        self.outgoing.end()
        self.node.offers.close(Stopping())
        leaving = [each.leave(drain) for each in list(self.factory.connections)]
        until = self.reactor.seconds() + drain
        while len(self.registry) and self.reactor.seconds() < until:
            await deferLater(self.reactor, 0.05, lambda: None)
        self.registry.cancel_all(Stopping())
        if leaving:
            for connection in list(self.factory.connections):
                connection.leave(limits.ABORT_AFTER)
            await gatherResults(leaving)
        self.factory.refusals.stop()
        await farewell
        await self.outgoing.ended()
        await self.node.stores.stopped(limits.ABORT_AFTER)
        await self.tidying.stop()
        self.hooks.stop()
        await self.node.recorded()
        await self.disk.stopped()
        await self.reading.stopped()
        if self.node.workers is not None:
            await self.node.workers.stopped()
        await self.node.end()
        close_shares(self.opened, self.store)
        self.store.close()
        self.journal.close()
        limits.change(self.limits_before)
        self.folder.unlock()


def hosts_of(ports: Iterable[IListeningPort]) -> list[tuple[str, int]]:
    """Where a service listens for other devices; none of the ports may be closed."""
    found: list[Any] = [port.getHost() for port in ports]
    return [(each.host, each.port) for each in found if hasattr(each, "port")]


def warnings_of(settings: Settings, running: Running | None) -> list[str]:
    """What the owner should know about how a service was started, and how it runs."""
    found = []
    if settings.open:
        found.append("OPEN: devices that are not known may offer files and messages.")
    if settings.legacy is not Legacy.OFF:
        found.append(
            f"LEGACY {settings.legacy.value}: ae devices are let in, unauthenticated and in"
            " plain text."
        )
    if settings.token_file is not None:
        found.append("TOKEN: whoever holds the same token is let in, without words.")
    if settings.plain_from:
        found.append(f"PLAIN TEXT from {', '.join(settings.plain_from)}: unauthenticated.")
    if settings.accept_clear_body:
        found.append("CLEAR BODIES: files whose sender asks for it come readable for everyone.")
    if settings.web and settings.web_bind not in ("127.0.0.1", "::1", "localhost"):
        found.append("WEB: other devices may open the page; a link lets them in.")
    if settings.checkers:
        found.append("AUTH: whoever knows a user's password may log in, from any device.")
    if running is not None:
        found.extend(running.metrics.warnings())
        found.extend(running.store.weaknesses())
        for name, share in running.shares.items():
            if share.volume is not None and share.store is not None:
                words = " ".join(share.volume.weaknesses())
                found.append(f"SHARE {name} is in a store that promises less: {words}")
        if settings.sandbox and running.unconfined:
            found.append(f"NO SANDBOX: {running.unconfined}.")
        if running.node.deciding.complaint:
            found.append(f"NOTHING IS TAKEN: {running.node.deciding.complaint}")
    return found


def _endpoints(reactor: Any, settings: Settings) -> list[IStreamServerEndpoint]:
    texts = list(settings.listen)
    if settings.port is not None:
        bind = settings.bind.replace(":", r"\:")
        where = f":interface={bind}" if bind else ""
        texts.insert(0, f"tcp:{settings.port}:backlog={BACKLOG}{where}")
    try:
        return [serverFromString(reactor, each) for each in texts]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadConfig(f"--listen does not name an endpoint: {error}.") from None


async def _listening(endpoint: IStreamServerEndpoint, factory: Any) -> IListeningPort:
    try:
        port: IListeningPort = await maybeDeferred(endpoint.listen, factory)
    except CannotListenError as error:
        cause = getattr(error.socketError, "strerror", None) or str(error.socketError)
        where = f"{error.interface or 'every address'}, port {error.port}"
        raise BadState(f"Cannot listen on {where}: {cause}.") from None
    return port


def _remove_socket(path: str) -> None:
    """A socket that a crash left; the lock of the state folder says that nobody has it."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def _shown(port: IListeningPort) -> str:
    host: Any = port.getHost()
    return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"
