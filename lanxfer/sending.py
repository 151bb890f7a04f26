"""One file, folder, link or message to one other device, over one connection.

The receiver's answer is what counts: nothing here says that something arrived
(docs/protocol.rst, "Received").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred

from lanxfer import packing
from lanxfer.clear_out import ClearOut
from lanxfer.clear_sending import ClearBodies
from lanxfer.deferreds import settled
from lanxfer.disk import Disk, Units
from lanxfer.errors import (
    BadHeader,
    Cancelled,
    ClearBroken,
    LanxferError,
    TooSlow,
)
from lanxfer.exchange import Exchange
from lanxfer.offering import (
    READ_AHEAD_AFTER,
    Loaded,
    maybe_arrived,
    maybe_time,
    receipt_of,
    request_of,
)
from lanxfer.packing import body_of, odd_ends, request_for
from lanxfer.protocol import LanxferProtocol
from lanxfer.registry import Transfer
from lanxfer.storage.sources import Entry, Source, open_source
from lanxfer.transfers import Conflict, Kind, Receipt, State, Stored
from lanxfer.wire import limits
from lanxfer.wire.packets import Args, Go


async def send(
    connection: LanxferProtocol,
    disk: Disk,
    loaded: Loaded,
    transfer: Transfer,
    conflict: Conflict | None = None,
    clear: ClearBodies | None = None,
) -> Receipt:
    """Send it and wait for the receiver's word.

    Raises what the receiver refused it with, what is wrong with the source, or
    Lost.  When the awaiting Deferred is cancelled the receiver is told.  The
    transfer is left open: whoever made it decides whether to try again.
    """
    args = request_of(loaded, conflict, transfer.snapshot.group)
    entry = loaded.entry
    waiting = connection.paced()
    if waiting is not None:
        await waiting
        if transfer.given_up is not None:
            raise transfer.given_up
    if entry.kind is Kind.FILE and entry.size and not _travels(connection, loaded):
        args.pop("blake3", None)
        return await _stream(connection, disk, entry.local, args, transfer, clear)
    exchange = connection.ask("recv_file", args, loaded.data or b"", _waiting(transfer))
    transfer.on_cancel = exchange.cancel
    transfer.enter(State.ACCEPTED)
    transfer.enter(State.COMMITTING)
    answer = await exchange.answered()
    return receipt_of(answer.args, loaded.digest or "", entry.size, 0)


def _travels(connection: LanxferProtocol, loaded: Loaded) -> bool:
    """Whether a file goes with its request; the other side may want that for smaller ones only."""
    most = connection.peer_limits.get("inline", limits.INLINE_MAX)
    return loaded.data is not None and isinstance(most, int) and len(loaded.data) <= most


def most_together(connection: LanxferProtocol) -> int:
    """Bytes of files that may go with one request; 0 where none may but a small one by itself."""
    return packing.most_together(connection.peer_limits, connection.slowest_out)


async def send_pack(
    connection: LanxferProtocol,
    pack: Sequence[Loaded],
    conflict: Conflict | None,
    group: str,
    units: Units,
) -> dict[int, Receipt | LanxferError]:
    """Send files with one request; what the receiver says of those that did not just arrive.

    Their memory goes back to the ``units`` unless some of it is still to be sent: whoever
    answers before that must not see what comes later, and has stored nothing (J13).

    Raises what it refused all of them with, TooLarge where their names are too long to go
    together, BadHeader where the answer makes no sense, or Lost.  When the awaiting Deferred
    is cancelled the receiver is told.
    """
    args, manifest = request_for(pack, conflict, group)
    waiting = connection.paced()
    if waiting is not None:
        await waiting
    exchange = connection.ask("recv_files", args, body_of(manifest, pack))
    gone = connection.asked_until_now()
    try:
        answer = await exchange.answered()
        if not gone():
            raise BadHeader("The other side answered before it had all.")
    finally:
        if gone():
            for unit in chain.from_iterable(loaded.units for loaded in pack):
                units.give(cast(bytearray, unit.obj))
    return odd_ends(pack, answer.args, answer.body)


async def send_message(connection: LanxferProtocol, text: str, transfer: Transfer) -> Receipt:
    """Send a text of at most 64 KiB; fires when the receiver has kept it."""
    data = text.encode("utf-8")
    exchange = connection.ask("recv_message", {}, data, _waiting(transfer))
    transfer.on_cancel = exchange.cancel
    answer = await exchange.answered()
    return receipt_of(answer.args, "", len(data), 0)


async def _stream(
    connection: LanxferProtocol,
    disk: Disk,
    local: str,
    args: dict[str, Any],
    transfer: Transfer,
    clear: ClearBodies | None,
) -> Receipt:
    source: Source = await disk.run(open_source, local, undo=Source.close)
    handed_over = False
    way: ClearOut | None = None
    try:
        if transfer.given_up is not None:  # while it was being opened
            raise transfer.given_up
        args.update(size=source.size, **maybe_time(source.mtime_ns))
        transfer.resized(source.size)
        if clear is not None and clear.wanted(connection, source.size):
            args["clear"] = True
        exchange = connection.ask("recv_file", args, b"", _waiting(transfer))
        transfer.on_cancel = exchange.cancel
        go = await _going(connection, disk, exchange, source, transfer)
        transfer.on_pause = _pausing(connection, exchange, go)
        transfer.enter(State.ACCEPTED)
        offset = await _prove(disk, exchange, source, go)
        if clear is not None:
            left = source.size - offset
            way = await clear.way(connection, exchange, go, left, offset, transfer)
            connection.aside = None if way is None else way.transport
        transfer.enter(State.MOVING)
        transfer.progressed(offset)
        handed_over = True
        sending = exchange.send_body(disk, source, offset, transfer.progressed, way)
        try:
            digest = await sending
        except LanxferError:
            digest = ""  # the answer says why
        except CancelledError:
            exchange.cancel(Cancelled())
            raise
        transfer.enter(State.COMMITTING)
        answer = await exchange.answered()
    except LanxferError as error:
        # Somebody else may have brought the ticket, and broken it off.
        if clear is not None and (way is not None or isinstance(error, ClearBroken)):
            clear.failed(error)
            if isinstance(error, TooSlow):  # it was that way, and there is another one
                raise ClearBroken(error.reason) from None
        raise
    finally:
        if way is not None:
            connection.aside = None
            way.abort()
        if not handed_over:
            await disk.run(source.close)
    return receipt_of(answer.args, digest, source.size, offset)


async def _going(
    connection: LanxferProtocol,
    disk: Disk,
    exchange: Exchange,
    source: Source,
    transfer: Transfer,
) -> Go:
    """Wait for the go.

    A receiver that lets wait for it reads what it has, and will want to see the
    same of ours: so that is read meanwhile, and not afterwards.  One that said it
    waits for somebody's yes reads nothing, and one that gets many files lets most
    of them wait for the others.
    """
    reading: list[Deferred[None]] = []

    def begin() -> None:
        if transfer.snapshot.state is State.WAITING:
            return
        if any(each.state is State.MOVING for each in transfer.registry.pending()):
            return
        reading.append(disk.run(source.read_ahead))
        # What cannot be read shows again when it is to be proved, or sent.
        reading[0].addErrback(lambda why: why.trap(LanxferError) and None)

    late = connection.call_later(READ_AHEAD_AFTER, begin)
    try:
        return await exchange.going()
    finally:
        if late.active():
            late.cancel()
        source.enough()
        for each in reading:
            await settled(each)


async def withdraw(
    connection: LanxferProtocol,
    disk: Disk,
    loaded: Loaded,
    transfer: Transfer,
    conflict: Conflict | None = None,
) -> Receipt:
    """Give up a file whose last try broke off without an answer (docs/protocol.rst, "Giving up").

    The receipt if it had been stored by then, else Cancelled, and nothing is
    left of it there; raises Lost, or ``maybe_arrived``, where that cannot be found out.
    """
    entry = loaded.entry
    args = request_of(loaded, conflict, transfer.snapshot.group)
    digest = args.pop("blake3", None)
    exchange = connection.ask("recv_file", args)
    transfer.on_cancel = lambda error: None  # it is being given up already
    transfer.resized(entry.size)  # a later try may have found another size
    try:
        go = await exchange.going()
    except Cancelled:
        raise maybe_arrived() from None
    if digest is None and go.have and go.have[0][0] == entry.size:
        digest = await disk.run(_digest, entry)
    whole = [each for at, each in go.have if at == entry.size]
    there = digest in whole
    if there:
        exchange.end_body(entry.size, digest or "")
    else:
        exchange.cancel(Cancelled())
    try:
        answer = await exchange.answered()
        return receipt_of(answer.args, digest or "", entry.size, entry.size)
    except Cancelled:
        # Somebody there cancelled this try as well, which takes nothing away.
        # Of another file of that name, size and time it remembers no more than the last one.
        raise maybe_arrived() if whole else Cancelled() from None


def _digest(entry: Entry) -> str | None:
    with open_source(entry.local) as source:
        return source.digests([entry.size]).get(entry.size) if source.size == entry.size else None


def _waiting(transfer: Transfer) -> Callable[[Args], None]:
    """What a receiver says before it decided: that it asks somebody."""

    def told(args: Args) -> None:
        if args.get("waiting") is True:
            transfer.wait()

    return told


def _pausing(connection: LanxferProtocol, exchange: Exchange, go: Go) -> Callable[[bool], None]:
    """Hold a file back here, and say so there: a receiver that waits in vain gives up."""

    def pause(paused: bool) -> None:
        exchange.pause(paused)
        if isinstance(go.args.get("transfer"), str):
            connection.ask("pause" if paused else "resume", {"id": go.args["transfer"]})

    return pause


async def _prove(disk: Disk, exchange: Exchange, source: Source, go: Go) -> int:
    """The offset from which on the receiver lacks our bytes."""
    if not go.have:
        return 0
    try:
        return await disk.run(source.prove, go.have)
    except LanxferError as error:
        exchange.cancel(error)
        raise


def as_stored(receipt: Receipt) -> Stored:
    """What the registry keeps of a receipt."""
    return Stored(receipt.stored, receipt.size, receipt.digest, receipt.already)
