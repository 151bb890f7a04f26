"""Finding a device from a process that has a reactor and no service of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from lanxfer.errors import LanxferError
from lanxfer.state import StateFolder

_log = Logger()


def finder(reactor: Any, state: StateFolder) -> Callable[[str], Awaitable[Sequence[str]]]:
    """What a ``Dialer`` asks where a device may be; nobody is looked for before it does."""

    async def find(key: str) -> Sequence[str]:
        from lanxfer.discovery.looking import find

        try:
            found: Sequence[str] = await deferToThreadPool(
                reactor, reactor.getThreadPool(), find, state, key
            )
        except LanxferError as error:
            _log.warn(
                "{reason}", event="discovery_failed", reason=error.reason
            )  # that it was not reached is what counts
            return []
        return found

    return find
