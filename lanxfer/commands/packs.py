"""recv_files: many small files in one request (docs/protocol.rst, "Many small files")."""

from __future__ import annotations

from collections.abc import Sequence

from lanxfer.commands.receiving import outcome
from lanxfer.commands.table import Accepted, Call, Node, Reply, command
from lanxfer.errors import BadHeader, LanxferError
from lanxfer.storage import Small
from lanxfer.storage.names import part_key, shown
from lanxfer.transfers import Conflict, Direction, Kind, Offer, Snapshot, State, Stored
from lanxfer.wire import limits
from lanxfer.wire.native import Fields
from lanxfer.wire.packs import Outcome, outcome_row, parse_manifest


@command("recv_files")
async def recv_files(call: Call, node: Node) -> Reply:
    """Take many small files, each by itself; answered when all that is taken is durable."""
    offers, bodies, group = _read(call)
    started = node.registry.clock()
    ids = [node.registry.new_id() for _ in offers]
    # Raises before anything counts; from here on each file has an end of its own.
    admitted = list(node.admit(call.principal, offers, group, ids))
    ends = await _store(call, node, admitted, offers, bodies)
    finished = [
        _snapshot(call, node, offer, end, id, group, started)
        for offer, end, id in zip(offers, ends, ids, strict=True)
    ]
    node.registry.passed(finished)
    rows = (
        outcome_row(at, _outcome(offer, end))
        for at, (offer, end) in enumerate(zip(offers, ends, strict=True))
    )
    return Reply({"files": len(offers)}, rows=[row for row in rows if row is not None])


def _read(call: Call) -> tuple[list[Offer], list[memoryview], str]:
    """What is offered, the bytes of each, and the group; BadHeader if that does not add up."""
    fields = Fields(call.args)
    files = fields.take_number("files", least=1, most=limits.PACK_FILES)
    size = fields.take_number("manifest", most=limits.MANIFEST_MAX)
    policy = fields.maybe_text("conflict", most=16)
    try:
        conflict = None if policy is None else Conflict(policy)
    except ValueError:
        raise BadHeader('"conflict" is not one of the words there are.') from None
    data = memoryview(call.data or b"")
    offers = parse_manifest(bytes(data[:size]), files, conflict)
    bodies, at = [], size
    for offer in offers:
        bodies.append(data[at : at + offer.size])
        at += offer.size
    if at != len(data):
        raise BadHeader("The body is not as long as the manifest says.")
    return offers, bodies, (fields.maybe_text("group") or "")[:64]


async def _store(
    call: Call,
    node: Node,
    admitted: Sequence[Accepted | LanxferError],
    offers: Sequence[Offer],
    bodies: Sequence[memoryview],
) -> list[Stored | LanxferError]:
    """One end a file, whatever happens: each was counted, and has to be uncounted."""
    principal = call.principal.name
    ends: list[Stored | LanxferError] = [
        each if isinstance(each, LanxferError) else LanxferError() for each in admitted
    ]
    files: list[tuple[int, Small]] = []
    for at, each in enumerate(admitted):
        if isinstance(each, Accepted) and each.path is not None:
            asked, offer = offers[at], each.offer
            key = part_key(principal, asked.path, asked.size, asked.mtime_ns)
            conflict = offer.conflict or Conflict.RENAME
            files.append((at, Small(key, offer, each.path, conflict, bodies[at])))
    try:
        call.check()
        waiting = node.hold(sum(len(small.data) for _, small in files))
        if waiting is not None:
            await call.shield(waiting)
        # Not to be stopped from here on: what is stored is to be said.
        stored = await node.store_many([small for _, small in files]) if files else []
    except LanxferError as error:
        stored = [error] * len(files)
    for (at, _), end in zip(files, stored, strict=True):
        ends[at] = end
    return ends


def _outcome(offer: Offer, end: Stored | LanxferError) -> Outcome:
    if isinstance(end, LanxferError):
        return Outcome(error=end)
    return Outcome(None if end.path == offer.path else end.path, end.already)


def _snapshot(
    call: Call,
    node: Node,
    offer: Offer,
    end: Stored | LanxferError,
    id: str,
    group: str,
    started: float,
) -> Snapshot:
    """The whole life of one of the files."""
    failed = end if isinstance(end, LanxferError) else None
    stored = end if isinstance(end, Stored) else Stored("", 0, "")
    return Snapshot(
        id=id,
        direction=Direction.IN,
        kind=Kind.FILE,
        peer=call.principal.name,
        path=shown(offer.path),
        size=offer.size,
        state=State.DONE if failed is None else outcome(failed),
        done=stored.size,
        stored=stored.path,
        digest=stored.digest,
        already=stored.already,
        code="" if failed is None else failed.code,
        reason="" if failed is None else failed.reason,
        started=started,
        changed=node.registry.clock(),
        secure=call.principal.secure,
        group=group,
    )
