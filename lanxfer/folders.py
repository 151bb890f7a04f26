"""Shared folders of another device, as the client's methods (docs/files.rst).

::

    async for each in client.list("photos/2024"):
        print(each.name, each.size)
    receipt = await client.get("photos/2024/a.jpg", "a.jpg")
    receipt = await client.put("b.jpg", "photos/2024/b.jpg")

A path is the name of a shared folder and what is below it, with ``/``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, FirstError, gatherResults

from lanxfer import fetching
from lanxfer.deferreds import public
from lanxfer.delivery import Delivery
from lanxfer.disk import Disk
from lanxfer.errors import BadName, Cancelled, LanxferError, NotFound
from lanxfer.exchange import Exchange
from lanxfer.fetching import FileFacts
from lanxfer.storage.names import SafePath, safe_path
from lanxfer.storage.shares import close_target, fetch_target, open_target
from lanxfer.storage.sources import Entry, walk
from lanxfer.storage.spools import Spool
from lanxfer.transfers import Conflict, Direction, Kind, Receipt
from lanxfer.trees import Sent, send_tree
from lanxfer.wire import limits
from lanxfer.wire.native import parse_rows

if TYPE_CHECKING:
    from lanxfer.within import Within

OnEntry = Callable[[str, "Receipt | LanxferError"], None]

FETCHES = 16
"""Files that are fetched at the same time, where there are many."""


class Folders(Delivery):
    """What a ``Client`` can do with the folders that the other device shares.

    Every call fails with NotFound for what is not there (or not shared), with
    Forbidden for what this device may not do there.
    """

    # Looking.

    async def list(self, path: str = "") -> AsyncIterator[FileFacts]:
        """What is in a folder, as it comes; without a path, what is shared.

        Entries are asked for as they are taken.  Other calls go on meanwhile.
        """
        path = path.strip("/")
        connection = await self.connected()
        exchange = connection.ask("list_files", {"path": path}, reads=True)
        try:
            if exchange.inflow is not None:
                async for line in exchange.inflow.lines():
                    for row in parse_rows(line):
                        yield fetching.read_facts(path, row)
            await exchange.answered()
        finally:
            exchange.cancel(Cancelled())  # does nothing once it was answered

    async def walk(self, path: str) -> AsyncIterator[FileFacts]:
        """All that is below a folder, a folder before what is in it; links are not followed."""
        async for facts in self.list(path):
            yield facts
            deep = facts.path.count("/") > limits.DEPTH_MAX  # or it could go on for ever
            if facts.kind == "folder" and facts.usable and not deep:
                async for below in self.walk(facts.path):
                    yield below

    def stat(self, path: str) -> Deferred[FileFacts]:
        """What lies at a path."""

        async def run() -> FileFacts:
            return await fetching.stat(await self.connected(), path)

        return public(run())

    def exists(self, path: str) -> Deferred[bool]:
        """Whether anything lies at a path, a link that leads nowhere included."""

        async def run() -> bool:
            try:
                await self.stat(path)
            except NotFound:
                return False
            return True

        return public(run())

    # Fetching.

    def get(
        self,
        path: str,
        local: str | os.PathLike[str],
        *,
        conflict: Conflict = Conflict.REFUSE,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Deferred[Receipt]:
        """Fetch one file to ``local``, or into it where that is a folder.

        Fires when it is there under its name, proved and durable; ``stored`` is
        where.  A file of the same content that is there already is enough.  What
        broke off goes on when the same is fetched again.
        """
        return public(self._get(path, os.fspath(local), conflict, on_progress))

    async def _get(
        self,
        path: str,
        local: str,
        conflict: Conflict,
        on_progress: Callable[[int, int], None] | None,
    ) -> Receipt:
        facts = await self.stat(path)
        folder, name = await self._disk.run(fetch_target, local, facts.name)
        store = await self._disk.run(open_target, folder)
        try:
            place = safe_path(name, dotfiles=True)
            receipt = await self._fetch(store, facts, place, conflict, on_progress)
        finally:
            await self._disk.run(close_target, folder, store)
        return receipt._replace(stored=os.path.join(folder, receipt.stored))

    async def _fetch(
        self,
        store: Any,
        facts: FileFacts,
        name: SafePath,
        conflict: Conflict,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Receipt:
        if facts.kind != "file":
            raise BadName(f"That is a {facts.kind}, not a file.")
        now = facts
        transfer = self.registry.open(
            Direction.IN, Kind.FILE, self.peer, facts.path, facts.size, request=self._request
        )
        unsubscribe = self.registry.follow(transfer, on_progress)

        async def attempt(unsure: bool) -> Receipt:
            connection = await self.connected()
            if transfer.given_up is not None:
                raise transfer.given_up
            return await fetching.fetch(
                connection, self._disk, store, now, name, transfer, conflict
            )

        try:
            return await self._retrying.persist(attempt, transfer)
        finally:
            unsubscribe()

    def get_tree(
        self,
        path: str,
        local: str | os.PathLike[str],
        *,
        conflict: Conflict = Conflict.REFUSE,
        on_entry: OnEntry | None = None,
    ) -> Deferred[Sent]:
        """Fetch a folder and all that is in it, to become ``local``; links are skipped.

        Fires with what came and what did not; one file that fails keeps no other back.
        """
        return public(self._get_tree(path.strip("/"), os.fspath(local), conflict, on_entry))

    async def _get_tree(
        self, path: str, local: str, conflict: Conflict, on_entry: OnEntry | None
    ) -> Sent:
        store = await self._disk.run(open_target, local)
        sent = Sent()
        try:
            async for facts in self.walk(path):
                if facts.kind not in ("file", "folder"):
                    sent.skipped.append((facts.path, _why_skipped(facts)))
                    continue
                outcome: Receipt | LanxferError
                try:
                    # A SafePath again, whatever the other side had said.
                    name = safe_path(facts.path[len(path) + 1 :], dotfiles=True)
                    if not facts.usable:
                        raise BadName("The name cannot be used on every system.")
                    if facts.kind == "folder":
                        made = await self._disk.run(store.make_folder, name)
                        outcome = Receipt(made.path, 0, "", made.already)
                        sent.folders += 1
                    else:
                        outcome = await self._fetch(store, facts, name, conflict)
                        sent.files += 1
                        sent.bytes += outcome.size
                        sent.already += outcome.already
                except Cancelled:
                    raise
                except LanxferError as error:
                    sent.failed.append((facts.path, error))
                    outcome = error
                if on_entry is not None:
                    on_entry(facts.path, outcome)
        finally:
            await self._disk.run(close_target, local, store)
        return sent

    def get_files(
        self,
        files: Sequence[tuple[FileFacts, str]],
        local: str | os.PathLike[str],
        *,
        conflict: Conflict = Conflict.REFUSE,
        on_entry: OnEntry | None = None,
    ) -> Deferred[None]:
        """Fetch chosen files below ``local``, each under the name beside it; several at a time.

        ``on_entry`` hears of each, by that name; none that fails keeps another back.
        """
        return public(self._get_files(tuple(files), os.fspath(local), conflict, on_entry))

    async def _get_files(
        self,
        files: Iterable[tuple[FileFacts, str]],
        local: str,
        conflict: Conflict,
        on_entry: OnEntry | None,
    ) -> None:
        store = await self._disk.run(open_target, local)
        left: Iterator[tuple[FileFacts, str]] = iter(files)

        async def some() -> None:
            for facts, name in left:
                outcome: Receipt | LanxferError
                try:
                    place = safe_path(name, dotfiles=True)
                    outcome = await self._fetch(store, facts, place, conflict)
                except Cancelled:
                    raise
                except LanxferError as error:
                    outcome = error
                if on_entry is not None:
                    on_entry(name, outcome)

        under_way = [Deferred.fromCoroutine(some()) for _ in range(FETCHES)]
        try:
            await gatherResults(under_way, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            for each in under_way:
                each.cancel()
            await DeferredList(under_way, consumeErrors=True)
            await self._disk.run(close_target, local, store)

    def open_read(self, path: str, offset: int = 0) -> Deferred[RemoteFile]:
        """A file to be read as a stream, from ``offset`` on."""

        async def run() -> RemoteFile:
            connection = await self.connected()
            facts = await fetching.stat(connection, path)
            return RemoteFile(facts, fetching.ask_to_read(connection, facts, offset))

        return public(run())

    # Changing.

    def put(
        self,
        local: str | os.PathLike[str],
        path: str,
        *,
        conflict: Conflict = Conflict.REFUSE,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Deferred[Receipt]:
        """Put one file to ``path``, which is its name there; folders above it are made.

        Fires when the other side has it durable.  What broke off goes on when the
        same is put again.
        """

        named = path.strip("/")
        return public(self._send_file(os.fspath(local), named, conflict, on_progress, True))

    def append(self, local: str | os.PathLike[str], path: str) -> Deferred[int]:
        """Add a local file to the end of one there; fires with the size it has then.

        The bytes are put beside it first and added in one go, so appends of several
        devices never mix.  Needs ``read`` and ``delete`` there besides ``write``.
        """

        async def run() -> int:
            tail = f"{path.strip('/')}.{secrets.token_hex(8)}.tail"
            await self.put(local, tail)
            try:
                answer = await self.call("append_file", {"path": path.strip("/"), "tail": tail})
            except LanxferError as error:
                # What stays behind after a break is better than what is added twice.
                if not error.retry:
                    await self.remove(tail)
                raise
            return int(answer.args["size"])

        return public(run())

    def open_write(
        self, path: str, *, conflict: Conflict = Conflict.REFUSE
    ) -> Deferred[RemoteWriter]:
        """A file to be written as a stream, from data that is made on the way.

        It is kept in a file of this device until ``finish``, which puts it there: so
        what breaks off goes on, and nobody there sees half of it.
        """

        async def run() -> RemoteWriter:
            spool = await self._disk.run(Spool, undo=Spool.remove)

            def put() -> Deferred[Receipt]:
                return self.put(spool.path, path, conflict=conflict)

            return RemoteWriter(self._disk, spool, put)

        return public(run())

    def put_tree(
        self,
        local: str | os.PathLike[str],
        path: str,
        *,
        conflict: Conflict = Conflict.REFUSE,
        on_entry: OnEntry | None = None,
    ) -> Deferred[Sent]:
        """Put a folder and all that is in it there, to become ``path``."""

        def told(entry: Entry, outcome: Receipt | LanxferError) -> None:
            if on_entry is not None:
                on_entry(entry.path, outcome)

        async def run() -> Sent:
            entries = _renamed(walk([os.fspath(local)]), path.strip("/"))
            return await send_tree(
                self._deliver, None, self._disk, entries, self._open, conflict, told
            )

        return public(run())

    def mkdir(self, path: str, *, parents: bool = True, exist_ok: bool = False) -> Deferred[bool]:
        """Make a folder; fires with whether it is new."""
        args = {"path": path, "parents": parents, "exist_ok": exist_ok}
        return public(self._change("make_folder", args))

    def move(self, path: str, to: str, *, overwrite: bool = False) -> Deferred[bool]:
        """Give a file or folder another name in the same shared folder; Exists where taken."""
        args = {"path": path, "to": to, "overwrite": overwrite}
        return public(self._change("move_file", args))

    def remove(self, path: str, *, recursive: bool = False) -> Deferred[bool]:
        """Remove a file, a link or an empty folder; with ``recursive`` all below it, for good."""
        return public(self._change("remove_file", {"path": path, "recursive": recursive}))

    def at(self, path: str) -> Within:
        """These calls with paths that begin at ``path``; the other device knows nothing of that."""
        from lanxfer.within import Within  # which is made of what is here

        return Within(self, path)

    async def _change(self, name: str, args: dict[str, Any]) -> bool:
        connection = await self.connected()
        answer = await connection.ask(name, args).answered()
        return answer.args.get("made", True) is True


class RemoteFile:
    """A file of a shared folder that is being read; made by ``client.open_read``.

    ``facts`` are those of when it was opened.  A change of the file meanwhile is
    SourceChanged at the end, so only who reads to the end knows that all of it
    was right.  Close it where that is not done.
    """

    def __init__(self, facts: FileFacts, exchange: Exchange) -> None:
        self.facts = facts
        self._exchange = exchange

    def read(self, most: int = -1) -> Deferred[bytes]:
        """Some bytes, at most ``most``; b"" at the end."""
        return public(self._read(most))

    async def _read(self, most: int) -> bytes:
        flow = self._exchange.inflow
        data = b"" if flow is None else await flow.read(most)
        if not data:
            await self._exchange.answered()
        return data

    def read_exactly(self, size: int) -> Deferred[bytes]:
        """That many bytes; ShortBody where there are fewer."""
        assert self._exchange.inflow is not None
        return public(self._exchange.inflow.read_exactly(size))

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines with their LF; the last one may have none."""
        if self._exchange.inflow is not None:
            async for line in self._exchange.inflow.lines():
                yield line
        await self._exchange.answered()

    async def blocks(self, size: int) -> AsyncIterator[bytes]:
        """Blocks of ``size`` bytes; the last one may be shorter."""
        if self._exchange.inflow is not None:
            async for block in self._exchange.inflow.blocks(size):
                yield block
        await self._exchange.answered()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._read(-1):
            yield data

    def close(self) -> None:
        """Ask for no more; closing twice is fine."""
        self._exchange.cancel(Cancelled())

    async def __aenter__(self) -> RemoteFile:
        return self

    async def __aexit__(self, *why: object) -> None:
        self.close()


class RemoteWriter:
    """A file that is being made; from ``client.open_write``.

    Nothing of it is there before ``finish``.  As a context it is finished at the
    end, or dropped where that is an error.
    """

    def __init__(self, disk: Disk, spool: Spool, put: Callable[[], Deferred[Receipt]]) -> None:
        self._disk = disk
        self._spool = spool
        self._put = put
        self.receipt: Receipt | None = None

    def write(self, data: bytes) -> Deferred[None]:
        """Append ``data``; one at a time, fires when the next may come."""
        return self._disk.run(self._spool.write, data)

    def finish(self) -> Deferred[Receipt]:
        """That was all: fires when the other device has it durable under its name."""

        async def run() -> Receipt:
            try:
                self.receipt = await self._put()
            finally:
                await self._disk.run(self._spool.remove)
            return self.receipt

        return public(run())

    def cancel(self) -> Deferred[None]:
        """Drop it; nothing to be done after ``finish``."""
        return self._disk.run(self._spool.remove)

    async def __aenter__(self) -> RemoteWriter:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self.receipt is None:
            await self.finish()
        else:
            await self.cancel()


def _renamed(entries: Iterator[Entry], path: str) -> Iterator[Entry]:
    """Entries whose first name, that of the folder here, is the path there."""
    for entry in entries:
        _, slash, below = entry.path.partition("/")
        yield entry._replace(path=path + slash + below, shared=True)


def _why_skipped(facts: FileFacts) -> str:
    return f"is a {facts.kind}" if facts.kind == "link" else "is neither file nor folder"
