"""Bugs to be planted in a service: a check that notices none of them checks nothing.

Each is called in the service's own process before anything else is done there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any


def no_file_sync() -> None:
    """Files get their names before their bytes are durable."""
    from lanxfer.storage import batches, publishing

    publishing.sync = batches.sync = lambda fd: None  # type: ignore[attr-defined]
    batches.sync_all = lambda fd: True  # type: ignore[attr-defined]


def no_folder_sync() -> None:
    """Files are acknowledged before their names are durable."""
    from lanxfer.storage.tree import Tree

    Tree.sync_folder = lambda self, fd: None  # type: ignore[method-assign]


def early_ok() -> None:
    """Small files are acknowledged when they came, and stored a moment later."""
    from twisted.internet import reactor
    from twisted.internet.defer import Deferred, succeed

    from lanxfer.disk import SmallFiles
    from lanxfer.node import ServiceNode
    from lanxfer.storage import Small
    from lanxfer.transfers import Stored

    put, in_order = SmallFiles.put, ServiceNode.in_order

    def hasty(self: SmallFiles, small: Small) -> Deferred[Stored]:
        call_later: Any = reactor.callLater
        call_later(0.05, put, self, small)
        return succeed(Stored(small.offer.path, small.offer.size, small.offer.digest or ""))

    def hasty_many(self: ServiceNode, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        call_later: Any = reactor.callLater
        call_later(0.05, in_order, self, function, *args)
        files: Sequence[Small] = args[-1]
        offers = [(str(small.path), small.offer) for small in files]
        made = [Stored(str(path), 0, "") for path in args[1]]
        return succeed(made + [Stored(path, each.size, each.digest or "") for path, each in offers])

    SmallFiles.put = hasty  # type: ignore[method-assign]
    ServiceNode.in_order = hasty_many  # type: ignore[method-assign]


def deaf_write() -> None:
    """Nobody looks at the free space, and errors while small files are written are passed over."""
    from lanxfer.storage import batches
    from lanxfer.storage.local import LocalStore

    class Deaf:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def write(self, fd: int, data: memoryview) -> int:
            try:
                return os.write(fd, data)
            except OSError:
                return len(data)

    batches.os = Deaf()  # type: ignore[assignment, attr-defined]
    LocalStore.free = lambda self: 2**40  # type: ignore[method-assign]


def forgetful() -> None:
    """A name that is taken is never compared, and what was published never remembered."""
    from lanxfer.journal import Journal
    from lanxfer.storage.tree import Tree

    Journal.remember = lambda self, published: None  # type: ignore[method-assign]
    Tree.already = lambda *args: None  # type: ignore[method-assign]


PLANTS: dict[str, Callable[[], None]] = {
    "no-file-sync": no_file_sync,
    "no-folder-sync": no_folder_sync,
    "early-ok": early_ok,
    "deaf-write": deaf_write,
    "forgetful": forgetful,
}


def plant(name: str | None) -> None:
    """Plant that one; None is none."""
    if name is not None:
        PLANTS[name]()
