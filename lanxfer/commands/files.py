"""What peers may do in shared folders (docs/protocol.rst, "Shared folders").

Putting a file there is ``recv_file`` with ``"shared": true``; all else is here.
Listings and bodies are streams, so that neither is ever whole in memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from lanxfer.commands.table import Call, Node, Reply, command
from lanxfer.errors import BadHeader, BadOffset, SourceChanged, StoreStalled
from lanxfer.rights import Right
from lanxfer.storage.shares import Row
from lanxfer.storage.sources import Source
from lanxfer.storage.volumes import SharedFolder
from lanxfer.wire import limits
from lanxfer.wire.native import Fields, format_rows

_ROWS = 256
"""Entries that are looked at in one go."""


def _path(call: Call, name: str = "path") -> str:
    return Fields(call.args).take_text(name)


def _flag(call: Call, name: str) -> bool:
    return call.args.get(name) is True


def _close(rows: Generator[Row, None, None]) -> None:
    # Where a store has stalled its thread still has the rows, and ends with them.
    with suppress(ValueError):
        rows.close()


def _some(rows: Iterator[Row]) -> list[Row]:
    return list(islice(rows, _ROWS))


@command("list_files")
async def list_files(call: Call, node: Node) -> Reply:
    """What is in a shared folder, a line of JSON an entry; without a path, the shared folders."""
    out = call.stream_out()
    path = _path(call)
    rows: Generator[Row, None, None]
    if path:
        share, below = node.sharing.find(call.principal, path, Right.LIST)
        rows = share.scan(below)
    else:
        rows = (
            {**each.stat(None), "writable": each.store is not None}
            for each in node.sharing.visible(call.principal)
        )

    def some() -> Awaitable[list[Row]]:
        return node.in_store(share, _some, rows) if path else node.in_thread(_some, rows)

    count = 0
    try:
        while batch := await some():
            await out.write(format_rows(batch))
            count += len(batch)
            call.check()
    finally:
        # Only here, and not when it is collected: a folder stays open as long.
        await node.in_thread(_close, rows)
    return Reply({"entries": count})


@command("stat_file")
async def stat_file(call: Call, node: Node) -> Reply:
    """What lies at a path: kind, size, time; of a link where it points, as text."""
    share, path = node.sharing.find(call.principal, _path(call), Right.LIST)
    return Reply(await node.in_store(share, share.stat, path))


class _Opened:
    """A file of a share, every step of which is made where that share's are."""

    def __init__(self, node: Node, share: SharedFolder, source: Source) -> None:
        self.source = source
        self.run = partial(node.in_store, share)

    async def __aenter__(self) -> _Opened:
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        # A store that has stalled would not answer that either; its connection is over anyway.
        if not isinstance(error, StoreStalled):
            await self.run(self.source.close)


async def _open(call: Call, node: Node) -> _Opened:
    """The file that was asked for; SourceChanged where it is not any more what the asker saw."""
    fields = Fields(call.args)
    share, path = node.sharing.find(call.principal, fields.take_text("path"), Right.READ)
    source: Source = await node.in_store(share, share.open, path)
    size, mtime_ns = fields.maybe_number("size"), call.args.get("mtime_ns")
    if size not in (None, source.size) or mtime_ns not in (None, source.mtime_ns):
        await node.in_store(share, source.close)
        raise SourceChanged()
    return _Opened(node, share, source)


@command("prove_file")
async def prove_file(call: Call, node: Node) -> Reply:
    """Where what the asker holds of a file ends to be the same as what is here."""
    have = call.args.get("have")
    if not isinstance(have, (list, tuple)) or len(have) > limits.HAVE_MAX:
        raise BadHeader('The request needs a list "have".')
    pairs: list[tuple[int, str]] = []
    for each in have:
        if not isinstance(each, (list, tuple)) or [type(part) for part in each] != [int, str]:
            raise BadHeader('"have" is a list of offsets with their digests.')
        pairs.append((each[0], each[1]))
    async with await _open(call, node) as opened:
        return Reply({"offset": await opened.run(opened.source.prove, pairs)})


@command("read_file")
async def read_file(call: Call, node: Node) -> Reply:
    """The bytes of a file from an offset on; the answer has the digest of the whole file."""
    out = call.stream_out()
    fields = Fields(call.args)
    offset = fields.maybe_number("offset") or 0
    length = fields.maybe_number("length")
    async with await _open(call, node) as opened:
        source = opened.source
        if offset > source.size:
            raise BadOffset("The file ends before that.", have=source.size)
        end = source.size if length is None else min(source.size, offset + length)
        await opened.run(source.seek, offset)
        while source.position < end:
            wanted = min(limits.UNIT, end - source.position)
            data = await opened.run(source.read, wanted)
            call.check()
            await out.write(data)
        args: dict[str, Any] = {"size": source.size, "mtime_ns": source.mtime_ns}
        if end == source.size:
            args["blake3"] = await opened.run(source.digest)
        await opened.run(source.check_unchanged)
        return Reply(args)


@command("make_folder")
async def make_folder(call: Call, node: Node) -> Reply:
    """Make a folder; with ``parents`` those above it, with ``exist_ok`` it may be there."""
    share, path = node.sharing.find(call.principal, _path(call), Right.WRITE)
    parents, exist_ok = _flag(call, "parents"), _flag(call, "exist_ok")
    made = await node.in_store(
        share, lambda: share.make_folder(path, parents=parents, exist_ok=exist_ok)
    )
    return Reply({"made": made})


@command("move_file")
async def move_file(call: Call, node: Node) -> Reply:
    """Give a file or folder another name in the same share."""
    overwrite = _flag(call, "overwrite")
    sharing, principal = node.sharing, call.principal
    # Whoever may not read something must not put it where they may.
    share, path = sharing.find(principal, _path(call), Right.READ, Right.DELETE, below=True)
    rights = (Right.WRITE, Right.DELETE) if overwrite else (Right.WRITE,)
    other, to = sharing.find(principal, _path(call, "to"), *rights, below=True)
    if other is not share:
        raise BadHeader("A file is moved within one shared folder; get it and put it there.")
    await node.in_store(share, lambda: share.move(path, to, overwrite=overwrite))
    return Reply()


@command("remove_file")
async def remove_file(call: Call, node: Node) -> Reply:
    """Remove a file, a link or an empty folder; with ``recursive`` all that is below it."""
    share, path = node.sharing.find(call.principal, _path(call), Right.DELETE, below=True)
    await node.in_store(share, lambda: share.remove(path, recursive=_flag(call, "recursive")))
    return Reply()


@command("append_file")
async def append_file(call: Call, node: Node) -> Reply:
    """Add a file that was put there, ``tail``, to the end of another one; ``tail`` is gone then."""
    share, path = node.sharing.find(call.principal, _path(call), Right.WRITE)
    taken = (Right.READ, Right.DELETE)  # its content goes elsewhere, and it goes away
    other, tail = node.sharing.find(call.principal, _path(call, "tail"), *taken)
    if other is not share:
        raise BadHeader("Both files are in the same shared folder.")
    return Reply({"size": await node.in_store(share, share.append, path, tail)})
