"""A folder one is in, among those that another device shares.

Paths on the wire are always whole, so where somebody is concerns nobody else: several of
these on one connection do not disturb each other, and none is left behind there.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred

from lanxfer.fetching import FileFacts
from lanxfer.folders import Folders, RemoteFile, RemoteWriter
from lanxfer.transfers import Receipt
from lanxfer.trees import Sent

Local = str | os.PathLike[str]


def joined(here: str, path: str) -> str:
    """Where ``path`` leads from ``here``: ``..`` is up, a slash at the start is from the top.

    Above the top there is nothing, so up from there is the top again.
    """
    steps = [] if path.startswith("/") else here.split("/")
    for step in path.split("/"):
        if step == "..":
            steps = steps[:-1]
        elif step not in {"", "."}:
            steps.append(step)
    return "/".join(filter(None, steps))


class Within:
    """The calls of a client about shared folders, with paths that begin at ``path``.

    Made by ``client.at``; frozen, so ``at`` and ``up`` give another one.  What the calls do,
    fire and fail with is said at those of the client.
    """

    def __init__(self, client: Folders, path: str = "") -> None:
        self._client = client
        self.path = joined("", path)

    def at(self, path: str) -> Within:
        """The folder there; whether there is one is not asked."""
        return Within(self._client, joined(self.path, path))

    def up(self) -> Within:
        """The folder above, or the same at the top."""
        return self.at("..")

    def _to(self, path: str) -> str:
        return joined(self.path, path)

    def list(self, path: str = "") -> AsyncIterator[FileFacts]:
        return self._client.list(self._to(path))

    def walk(self, path: str = "") -> AsyncIterator[FileFacts]:
        return self._client.walk(self._to(path))

    def stat(self, path: str = "") -> Deferred[FileFacts]:
        return self._client.stat(self._to(path))

    def exists(self, path: str = "") -> Deferred[bool]:
        return self._client.exists(self._to(path))

    def get(self, path: str, local: Local, **options: Any) -> Deferred[Receipt]:
        return self._client.get(self._to(path), local, **options)

    def get_tree(self, path: str, local: Local, **options: Any) -> Deferred[Sent]:
        return self._client.get_tree(self._to(path), local, **options)

    def open_read(self, path: str, offset: int = 0) -> Deferred[RemoteFile]:
        return self._client.open_read(self._to(path), offset)

    def put(self, local: Local, path: str, **options: Any) -> Deferred[Receipt]:
        return self._client.put(local, self._to(path), **options)

    def put_tree(self, local: Local, path: str, **options: Any) -> Deferred[Sent]:
        return self._client.put_tree(local, self._to(path), **options)

    def open_write(self, path: str, **options: Any) -> Deferred[RemoteWriter]:
        return self._client.open_write(self._to(path), **options)

    def append(self, local: Local, path: str) -> Deferred[int]:
        return self._client.append(local, self._to(path))

    def mkdir(self, path: str, **options: Any) -> Deferred[bool]:
        return self._client.mkdir(self._to(path), **options)

    def move(self, path: str, to: str, **options: Any) -> Deferred[bool]:
        return self._client.move(self._to(path), self._to(to), **options)

    def remove(self, path: str, **options: Any) -> Deferred[bool]:
        return self._client.remove(self._to(path), **options)
