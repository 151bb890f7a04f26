"""recv_file, recv_slot and recv_message: what others send to this device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from lanxfer.commands.table import Call, Node, Opened, Reply, command
from lanxfer.errors import (
    BadHeader,
    BadOffset,
    Busy,
    Cancelled,
    DigestMismatch,
    DiskFull,
    Exists,
    Internal,
    LanxferError,
    SourceChanged,
    TooLarge,
)
from lanxfer.registry import Transfer, outcome
from lanxfer.storage import Facts, Part, Small, Store
from lanxfer.storage.names import SafePath, part_key, safe_path, shown
from lanxfer.storage.rules import numbered
from lanxfer.transfers import Conflict, Direction, Kind, Offer, State, Stored
from lanxfer.wire import limits
from lanxfer.wire.native import Fields
from lanxfer.wire.packets import Args

_DISCARD = (Cancelled, SourceChanged, DigestMismatch, BadOffset)
"""After these nothing remains of a file; after anything else it may be resumed."""

Have: TypeAlias = tuple[tuple[int, str], ...]
"""As ``Part.have`` gives it."""

PREVIEW = 200
"""Characters of a message that lists show."""


def read_offer(args: Args) -> Offer:
    """The typed form of what recv_file was given; BadHeader names the field that is wrong."""
    fields = Fields(args)
    try:
        kind = Kind(fields.maybe_text("kind", most=8) or "file")
        policy = fields.maybe_text("conflict", most=16)
        conflict = None if policy is None else Conflict(policy)
    except ValueError:
        raise BadHeader('"kind" or "conflict" is not one of the words there are.') from None
    offer = Offer(
        path=fields.take_text("path"),
        size=fields.take_number("size"),
        kind=kind,
        mtime_ns=fields.maybe_number("mtime_ns"),
        digest=fields.maybe_digest("blake3"),
        executable=fields.take_flag("executable"),
        conflict=conflict,
        target=fields.maybe_text("target"),
    )
    if kind in (Kind.MESSAGE, Kind.JOB) or (kind is not Kind.FILE and offer.size):
        raise BadHeader("A file has a size; a folder and a link have none.")
    if (kind is Kind.LINK) is (offer.target is None):
        raise BadHeader('A link has a "target", and nothing else has.')
    return offer


def _request_id(args: Args) -> str:
    """The id that an ae peer gave its request, "" where none did."""
    return Fields(args).maybe_text("request") or ""


def _received(stored: Stored) -> Reply:
    args: dict[str, object] = {
        "stored": stored.path,
        "size": stored.size,
        "blake3": stored.digest,
    }
    if stored.already:
        args["already"] = True
    return Reply(args)


@command("recv_file")
async def recv_file(call: Call, node: Node) -> Reply:
    """Take a file, a folder or a link; the answer is the receiver's word (protocol, "Received")."""
    return await _take(call, node, read_offer(call.args))


@command("recv_slot")
async def recv_slot(call: Call, node: Node) -> Reply:
    """Take the one file that a ticket was made for (protocol, "The ticket dialect")."""
    args = call.args
    slot = node.redeem(args["session"], args["file"], args["size"], call.principal.source)
    offer = Offer(slot.path, args["size"], conflict=slot.conflict)
    try:
        reply = await _take(call, node, offer, slot)
    except BaseException as error:
        node.broke_off(slot, error if isinstance(error, LanxferError) else Internal())
        raise
    stored = reply.args
    slot.stored(Stored(stored["stored"], stored["size"], stored["blake3"]))
    return Reply({**stored, "crc32": f"{call.crc:08x}"})


async def _take(call: Call, node: Node, offer: Offer, slot: Opened | None = None) -> Reply:
    if call.data is not None and (offer.kind is not Kind.FILE or len(call.data) != offer.size):
        raise BadHeader("The body is not as long as the file was said to be.")
    args = call.args
    transfer = node.registry.open(
        Direction.IN,
        offer.kind,
        (slot.owner if slot is not None else "") or call.principal.name,
        shown(offer.path),
        offer.size,
        request=_request_id(args),
        group=str(args.get("group", ""))[:64],
        secure=call.principal.secure,
    )
    call.began(transfer)
    if slot is not None:
        slot.transfer = transfer.id
    try:
        if args.get("shared") is True:
            share, path = node.sharing.take(call, offer, transfer)
            transfer.enter(State.ACCEPTED)
            stored = await _store(call, node, offer, path, transfer, slot, share.store)
            stored = stored._replace(path=f"{share.name}/{stored.path}")
        else:
            accepted = await call.shield(node.consent(call, offer, transfer))
            assert accepted.path is not None
            transfer.enter(State.ACCEPTED)
            stored = await _store(call, node, accepted.offer, accepted.path, transfer, slot)
    except LanxferError as error:
        transfer.retire(outcome(error), error=error)
        raise
    except BaseException:
        transfer.retire(State.FAILED, error=Internal())
        raise
    transfer.retire(State.DONE, stored=stored)
    return _received(stored)


async def _store(
    call: Call,
    node: Node,
    offer: Offer,
    path: SafePath,
    transfer: Transfer,
    slot: Opened | None,
    shared: Store | None = None,
) -> Stored:
    store = node.store if shared is None else shared
    default = Conflict.RENAME if shared is None else Conflict.REFUSE
    conflict = offer.conflict or default
    whose = call.principal.name if slot is None else f"ticket:{slot.session}"
    if offer.kind is Kind.FOLDER:
        return await node.in_store(store, store.make_folder, path)
    if offer.kind is Kind.LINK:
        return await node.in_store(store, store.make_link, path, offer.target or "", conflict)
    data = call.data if offer.size else b""
    if data is not None and call.proves:
        if offer.digest is None:
            raise BadHeader("A file that travels with its request needs its digest there.")
        small = Small(whose, offer, path, conflict, [data])
        if shared is None:
            await _reserve_small(call, node, offer, path, transfer)
        transfer.enter(State.COMMITTING)
        return await node.store_small(small, store)
    key = part_key(whose, offer.path, offer.size, offer.mtime_ns)
    return await _stream(call, node, offer, path, conflict, key, transfer, slot, shared)


async def _reserve(call: Call, node: Node, size: int, transfer: Transfer) -> None:
    waiting = node.reserve(transfer, size)
    if waiting is not None:
        await call.shield(waiting)


async def _reserve_small(
    call: Call, node: Node, offer: Offer, path: SafePath, transfer: Transfer
) -> None:
    try:
        await _reserve(call, node, offer.size, transfer)
    except DiskFull:
        # What is there already needs no room; whether it is, the store finds out.
        facts: Facts | None = await node.in_thread(node.store.look, path)
        if facts is None or facts.kind != "file" or facts.size != offer.size:
            raise


async def _stream(
    call: Call,
    node: Node,
    offer: Offer,
    path: SafePath,
    conflict: Conflict,
    key: str,
    transfer: Transfer,
    slot: Opened | None,
    shared: Store | None,
) -> Stored:
    store = node.store if shared is None else shared
    details: dict[str, object] = {"transfer": transfer.id}
    have: Have = ()
    series = conflict is Conflict.SERIES and not call.proves
    if not (series or call.proves or slot is not None):
        await _refuse_by_length(node, offer, path)
    call.check()  # a place that was given to a call already stopped would never come back
    await call.shield(node.receiving(call.principal))
    try:
        if series:
            part, path = await _next_of_series(call, node, offer, path)
            details["series_file_name"] = str(path)
        else:
            part, have = await _opened(node, store, key, offer, path, conflict, call.proves)
        return await _fill(call, node, offer, part, have, details, transfer, slot, store)
    finally:
        node.received(call.principal)


async def _opened(
    node: Node,
    store: Store,
    key: str,
    offer: Offer,
    path: SafePath,
    conflict: Conflict,
    proves: bool,
) -> tuple[Part, Have]:
    """``_open``; what is open when nobody waits for it any more is closed."""
    how = store, key, offer, path, conflict, proves
    return await node.in_store(store, _open, *how, undo=lambda opened: opened[0].keep())


def _open(
    store: Store, key: str, offer: Offer, path: SafePath, conflict: Conflict, proves: bool
) -> tuple[Part, Have]:
    """The part, and what it has to show; one that has nothing has been begun.

    All that in one go: each hop to a thread costs as much as a small file.
    """
    part = store.open_part(key, offer, path, conflict)
    try:
        have = part.have() if proves else ()
        if proves and not have:
            part.begin(0)
        return part, have
    except BaseException:
        part.keep()
        raise


async def _fill(
    call: Call,
    node: Node,
    offer: Offer,
    part: Part,
    have: Have,
    details: dict[str, object],
    transfer: Transfer,
    slot: Opened | None,
    store: Store,
) -> Stored:
    begun = call.proves and not have
    try:
        call.check()
        if call.proves:
            if store is node.store:  # a share's store looks itself whether there is space
                await _reserve(call, node, offer.size - (have[0][0] if have else 0), transfer)
            offset = await call.begin(have, details)
        else:
            # The ae rule: the length that is there is the offset, and nothing
            # proves it.  A part that is full already is begun anew.
            held = part.held if part.held < offer.size else 0
            if slot is not None:
                held = _go_on(call, slot, held)
            await _reserve(call, node, offer.size - held, transfer)
            offset = await call.begin([(held, "")], details)
        if not begun:
            await node.in_thread(part.begin, offset, call.proves)
        transfer.enter(State.MOVING)
        transfer.progressed(offset)
        digest = await call.pour(part, transfer)
        call.check()
        transfer.enter(State.COMMITTING)
        return await node.in_store(store, part.publish, digest)
    except BaseException as error:
        over = isinstance(error, _DISCARD)
        if slot is not None:
            # Unless it was asked for otherwise a ticket is good once, and what it began is nothing.
            over = over or not (slot.keep and _note_held(call, slot, part.position, offer))
        close = part.discard if over else part.keep
        await node.in_thread(close)
        raise


def _go_on(call: Call, slot: Opened, held: int) -> int:
    """Where an upload begins: at 0, unless its bearer asks for what is held to be kept."""
    if not call.args.get("resume") or held != slot.held:
        return 0
    call.crc, call.got = slot.crc, held
    return held


def _note_held(call: Call, slot: Opened, position: int, offer: Offer) -> bool:
    """Note what can be gone on with; whether that is all that came.

    It is nothing where not all of it was written, since nothing is known of it then, and
    where the file is full: it would be begun anew.
    """
    whole = position == call.got and position < offer.size
    slot.held, slot.crc = (position, call.crc) if whole else (0, 0)
    return whole


async def _refuse_by_length(node: Node, offer: Offer, path: SafePath) -> None:
    """The ae rules about what is there already: same length is complete, longer is an error."""
    facts: Facts | None = await node.in_thread(node.store.look, path)
    if facts is not None and facts.kind == "file" and facts.size >= offer.size:
        if facts.size == offer.size:
            raise Exists("The file was already transferred.", have=facts.size)
        raise Exists(f"file size err {facts.size}>{offer.size}", have=facts.size)


async def _next_of_series(
    call: Call, node: Node, offer: Offer, path: SafePath
) -> tuple[Part, SafePath]:
    """The part for the next number that is free; one that is being received is not.

    Each number has a part of its own, since the same file sent twice as one of a
    series is two files there.
    """
    names = numbered(path.name, Conflict.SERIES)
    while True:
        found = await node.in_thread(_first_free, node.store, path, names)
        key = part_key(call.principal.name, str(found), offer.size, offer.mtime_ns)
        try:
            opened = node.in_thread(node.store.open_part, key, offer, found, Conflict.RENAME)
            return await opened, found
        except Busy:
            continue


def _first_free(store: Store, path: SafePath, names: Iterator[str]) -> SafePath:
    while True:
        found = safe_path("/".join((*path.parent, next(names))), dotfiles=True)
        if store.look(found) is None:
            return found


@command("recv_message")
async def recv_message(call: Call, node: Node) -> Reply:
    """Take a text; answered when it is kept."""
    if call.data is not None:
        try:
            text = call.data.decode("utf-8")
        except UnicodeDecodeError:
            raise BadHeader("The message is not UTF-8.") from None
    else:
        text = Fields(call.args).take_text("text")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limits.MESSAGE_MAX:
        raise TooLarge(f"A message has at most {limits.MESSAGE_MAX} bytes.")
    transfer = node.registry.open(
        Direction.IN,
        Kind.MESSAGE,
        call.principal.name,
        shown(text[:PREVIEW]),
        size,
        request=_request_id(call.args),
        secure=call.principal.secure,
    )
    call.began(transfer)
    try:
        offer = Offer(path="", size=size, kind=Kind.MESSAGE)
        await call.shield(node.consent(call, offer, transfer))
        await node.message(call.principal, text, transfer)
    except LanxferError as error:
        transfer.retire(outcome(error), error=error)
        raise
    except BaseException:
        transfer.retire(State.FAILED, error=Internal())
        raise
    transfer.retire(State.DONE, stored=Stored("", size, ""))
    return Reply({"size": size})
