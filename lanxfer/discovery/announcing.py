"""A service that is seen on the marked networks, and sees who else is.

Marks and interfaces change while it runs, so both are looked at every few
seconds; where nothing is marked that is all it does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

# When it is imported it runs programs to find the C library, which a confined service may not.
import ifaddr  # noqa: F401
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from lanxfer.discovery.marks import FILE, Adapter, adapters, marked, read_marks
from lanxfer.discovery.table import Seen, Table
from lanxfer.discovery.tags import NONCE, make_tag
from lanxfer.disk import Disk
from lanxfer.errors import LanxferError
from lanxfer.peers import Peers
from lanxfer.state import StateFolder

EVERY = 2.0
"""Seconds between two looks at marks and interfaces."""

ROTATE = 900.0
"""Seconds after which this device calls itself something else."""


class Announcing:
    """See the module.

    ``listening`` gives host and port of what the service listens on, ``pairing``
    whether it shows words just now.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        state: StateFolder,
        peers: Peers,
        key: str,
        listening: Callable[[], Sequence[tuple[str, int]]],
        pairing: Callable[[], bool],
    ) -> None:
        self._reactor = reactor
        self._state = state
        self._key = key
        self._listening = listening
        self._pairing = pairing
        self._table = Table(lambda: [key, *(each.key for each in peers.all() if each.key)])
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._thread = Disk(reactor, 1)
        self._started = False
        self._engine: Any = None
        self._adapters: list[Adapter] = []
        self._marks: tuple[str, ...] = ()
        self._stamp: tuple[int, ...] = ()
        self._said: tuple[Any, ...] = ()
        self._tag = ""
        self._tagged = -ROTATE
        self.complaint = ""

    def start(self) -> None:
        """Begin."""
        self._started = True
        self._thread.start()
        self._looking.start(EVERY).addErrback(
            lambda why: self.log.failure("discovery has ended", why, event="discovery_failed")
        )

    async def stop(self) -> None:
        """Say goodbye; fine where it was not started."""
        if not self._started:
            return
        self._started = False
        if self._looking.running:
            self._looking.stop()
        await self._thread.run(self._close)
        await self._thread.stopped()

    @property
    def on(self) -> bool:
        """Whether it is seen, and sees, on any network."""
        return self._engine is not None

    def seen(self) -> list[Seen]:
        """Who is there; this device itself is left out."""
        return [each for each in self._table.all() if each.key != self._key]

    async def find(self, key: str) -> list[str]:
        """Addresses at which the device with this key may be."""
        return self._table.addresses(key)

    def _look(self) -> Deferred[Any]:
        return self._thread.run(
            self._adjust, list(self._listening()), self._pairing(), self._reactor.seconds()
        ).addErrback(self._failed)

    def _failed(self, why: Any) -> None:
        error = why.value
        text = error.reason if isinstance(error, LanxferError) else f"{why.type.__name__}: {error}"
        if text != self.complaint:
            self.log.warn("{reason}", event="discovery_failed", reason=text)
        self.complaint = text

    # In the one thread.

    def _adjust(self, listening: Sequence[tuple[str, int]], pairing: bool, now: float) -> None:
        stamp = self._state.stamp(FILE)
        if stamp != self._stamp:
            self._marks, self._stamp = read_marks(self._state), stamp
        found = marked(adapters(), self._marks) if self._marks else []
        if found != self._adapters:
            self._close()
            self._open(found)
            self._tagged = now - ROTATE
        if self._engine is not None and listening:
            if now - self._tagged >= ROTATE:
                self._tag, self._tagged = make_tag(self._key, secrets.token_bytes(NONCE)), now
            hosts, port = reachable(found, listening)
            said = (self._tag, hosts, port, pairing)
            if hosts and said != self._said:
                self._engine.announce(*said)
                self._said = said
        self.complaint = ""

    def _open(self, found: list[Adapter]) -> None:
        if found:
            from lanxfer.discovery.mdns import Engine

            self._engine = Engine(found)
            self._engine.browse(self._table)
        self._adapters = found

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        self._adapters, self._said = [], ()
        if engine is not None:
            engine.close()
        for each in self._table.all():
            self._table.drop(each.tag)


def reachable(
    found: Sequence[Adapter], listening: Sequence[tuple[str, int]]
) -> tuple[tuple[str, ...], int]:
    """The addresses on these interfaces at which the service is, and its port.

    The first port is the one that is announced.
    """
    port = listening[0][1]
    hosts = [host for host, each in listening if each == port]
    kept = []
    for adapter in found:
        for ip in adapter.ips:
            everywhere = "::" in hosts or (ip.version == 4 and "0.0.0.0" in hosts)
            if everywhere or any(ip == ip_address(host.partition("%")[0]) for host in hosts):
                kept.append(str(ip))
    return tuple(dict.fromkeys(kept)), port
