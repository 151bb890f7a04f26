"""Ending the connections of a device that was forgotten, whoever forgot it (catalogue A08).

The file of known peers is what counts, and any process of this user may change
it, so it is looked at several times a second for as long as there is a
connection that lives by it; in a thread, since a disk may be slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from lanxfer.errors import BadState, NotPaired
from lanxfer.peers import FORGOTTEN, Peers
from lanxfer.policy import Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.wire import limits

_CLOSING = 0.3
"""Seconds for the last word to get out."""


class Revoking:
    """See the module; ``connections`` gives those that are open just now."""

    log = Logger()

    def __init__(
        self, reactor: Any, peers: Peers, connections: Callable[[], Iterable[LanxferProtocol]]
    ) -> None:
        self._reactor = reactor
        self._peers = peers
        self._connections = connections
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._unreadable = False

    def start(self) -> None:
        """Begin to look."""
        looking = self._looking.start(limits.REVOKE_EVERY, now=False)
        looking.addErrback(
            lambda why: self.log.failure(
                "forgotten keys go unnoticed", why, event="revoking_failed"
            )
        )

    def stop(self) -> None:
        """Look no more; fine where it was not started."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._end_forgotten())

    async def _end_forgotten(self) -> None:
        # A disk thread may be held up for long by what is being written.
        if not any(True for _ in self._living()):
            return
        pool = self._reactor.getThreadPool()
        try:
            known = await deferToThreadPool(self._reactor, pool, _keys, self._peers)
        except BadState as error:
            # Nobody gets in now, but that nobody can be read does not say who was forgotten.
            if not self._unreadable:
                self.log.error("{reason}", event="revoking_failed", reason=error.reason)
            self._unreadable = True
            return
        self._unreadable = False
        for key, connection in list(self._living()):
            if key not in known:
                connection.fail(NotPaired(FORGOTTEN))
                self._reactor.callLater(_CLOSING, _cut, connection)

    def _living(self) -> Iterable[tuple[str, LanxferProtocol]]:
        for each in self._connections():
            who = each.principal
            if who is not None and who.standing is Standing.PEER and not each.deaf:
                yield who.name.removeprefix("peer:"), each


def _keys(peers: Peers) -> frozenset[str]:
    return frozenset(each.key for each in peers.all())


def _cut(connection: LanxferProtocol) -> None:
    if not connection.gone:
        connection.abort(NotPaired(FORGOTTEN))
