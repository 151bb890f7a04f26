"""One file of another device's shared folder, fetched into a store of this one.

What was fetched is written, proved and named by the same store that receives
files, so a broken fetch goes on where it stopped, and nothing has its final
name before all of it was compared with the digest that the other side gave.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from lanxfer.disk import Disk
from lanxfer.errors import (
    BadHeader,
    BadName,
    BadOffset,
    Cancelled,
    DigestMismatch,
    LanxferError,
    SourceChanged,
)
from lanxfer.exchange import Answer, Exchange
from lanxfer.protocol import LanxferProtocol
from lanxfer.registry import Transfer
from lanxfer.storage import Part, Store
from lanxfer.storage.names import SafePath, part_key, safe_path
from lanxfer.streams import Inflow
from lanxfer.transfers import Conflict, Offer, Receipt, State
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

_DISCARD = (Cancelled, SourceChanged, DigestMismatch, BadOffset)
"""After these nothing remains of what came; after anything else it may be gone on with."""


@frozen
class FileFacts:
    """What lies at a path of a shared folder.

    ``kind`` is "file", "folder", "link" or "other", ``size`` in bytes (of files),
    ``target`` where a link points, as text.  ``usable`` is False where the name is
    one that no path can spell: it is the other side's word then, and for people
    only.  ``writable`` is about the shared folders themselves.
    """

    path: str
    name: str
    kind: str
    size: int = 0
    mtime_ns: int = 0
    target: str | None = None
    usable: bool = True
    writable: bool = False


def read_facts(above: str, row: Args) -> FileFacts:
    """A row as the other side wrote it; a name that leads elsewhere is not usable."""
    name, kind, size, time = (row.get(key) for key in ("name", "kind", "size", "mtime_ns"))
    target = row.get("target")
    if not (isinstance(name, str) and isinstance(kind, str)):
        raise BadHeader("An entry of a list has no name or no kind.")
    if type(size) is not int or type(time) is not int or size < 0:
        raise BadHeader("An entry of a list has no size or no time.")
    usable = row.get("unusable") is not True
    try:
        usable = usable and safe_path(name, dotfiles=True).parts == (name,)
    except BadName:
        usable = False
    return FileFacts(
        f"{above}/{name}" if above else name,
        name,
        kind,
        size,
        time,
        target if isinstance(target, str) else None,
        usable,
        row.get("writable") is True,
    )


def as_row(facts: FileFacts) -> dict[str, Any]:
    """For programs."""
    row: dict[str, Any] = {
        "path": facts.path,
        "kind": facts.kind,
        "size": facts.size,
        "mtime_ns": facts.mtime_ns,
    }
    if facts.target is not None:
        row["target"] = facts.target
    if not facts.usable:
        row["unusable"] = True
    return row


async def stat(connection: LanxferProtocol, path: str) -> FileFacts:
    """What lies at a path there."""
    answer = await connection.ask("stat_file", {"path": path}).answered()
    above, _, name = path.strip("/").rpartition("/")
    return read_facts(above, {**answer.args, "name": name})


def ask_to_read(connection: LanxferProtocol, facts: FileFacts, offset: int) -> Exchange:
    """Ask for the bytes from ``offset`` on of the very file that ``facts`` are about."""
    return connection.ask("read_file", {**_which(facts), "offset": offset}, reads=True)


def _which(facts: FileFacts) -> dict[str, Any]:
    which: dict[str, Any] = {"path": facts.path, "size": facts.size}
    if facts.mtime_ns:
        which["mtime_ns"] = facts.mtime_ns
    return which


async def fetch(
    connection: LanxferProtocol,
    disk: Disk,
    store: Store,
    facts: FileFacts,
    name: SafePath,
    transfer: Transfer,
    conflict: Conflict,
) -> Receipt:
    """Fetch it into ``store``; fires when it has its name there and is durable.

    Raises what the other side refused it with, SourceChanged where it is not any
    more what ``facts`` say, Exists, DigestMismatch or Lost.  The transfer is left open.
    """
    if facts.kind != "file":
        raise BadName(f"That is a {facts.kind}, not a file.")
    offer = Offer(str(name), facts.size, mtime_ns=facts.mtime_ns or None)
    peer = transfer.snapshot.peer
    key = part_key(peer, facts.path, facts.size, facts.mtime_ns)
    part: Part = await disk.run(store.open_part, key, offer, name, conflict)
    try:
        offset = await _prove(connection, facts, await disk.run(part.have), transfer)
        await disk.run(part.begin, offset)
        transfer.enter(State.ACCEPTED)
        transfer.enter(State.MOVING)
        transfer.progressed(offset)
        exchange = ask_to_read(connection, facts, offset)
        transfer.on_cancel = exchange.cancel
        answer = await _pour(exchange, disk, part, transfer)
        transfer.enter(State.COMMITTING)
        digest = answer.args.get("blake3")
        if not isinstance(digest, str):
            raise BadHeader("The other side did not say what it had sent.")
        stored = await disk.run(part.publish, digest)
    except BaseException as error:
        # A Deferred that was cancelled is a Cancelled to whoever asked.
        over = isinstance(error, _DISCARD) or not isinstance(error, LanxferError)
        await disk.run(part.discard if over else part.keep)
        raise
    return Receipt(stored.path, stored.size, stored.digest, stored.already, offset)


async def _prove(
    connection: LanxferProtocol,
    facts: FileFacts,
    have: tuple[tuple[int, str], ...],
    transfer: Transfer,
) -> int:
    have = tuple(each for each in have if each[0])
    if not have:
        return 0
    args = {**_which(facts), "have": [list(each) for each in have]}
    exchange = connection.ask("prove_file", args)
    transfer.on_cancel = exchange.cancel
    offset = (await exchange.answered()).args.get("offset")
    if offset != 0 and offset not in [at for at, _ in have]:
        raise BadHeader("The other side agreed to what this one does not have.")
    return int(offset)


async def _pour(exchange: Exchange, disk: Disk, part: Part, transfer: Transfer) -> Answer:
    inflow = exchange.inflow
    if inflow is None:  # the connection was over before it was asked
        return await exchange.answered()
    try:
        while chunks := await _unit(inflow):
            await disk.run(part.write, chunks)
            transfer.progressed(part.position)
    except BaseException as error:
        exchange.cancel(error if isinstance(error, LanxferError) else Cancelled())
        raise
    return await exchange.answered()


async def _unit(inflow: Inflow) -> list[bytes]:
    """About a unit of bytes for the disk; none at the end."""
    chunks: list[bytes] = []
    size = 0
    while size < limits.UNIT // 2 and (chunk := await inflow.read()):
        chunks.append(chunk)
        size += len(chunk)
    return chunks
