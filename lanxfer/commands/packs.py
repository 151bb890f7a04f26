"""recv_files: many files and folders in one request (docs/protocol.rst, "Many files")."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lanxfer.commands.table import Call, Node, Reply, command
from lanxfer.errors import BadHeader, Internal, LanxferError
from lanxfer.storage import Small, Store
from lanxfer.storage.names import SafePath
from lanxfer.transfers import Conflict, Direction, Kind, Offer, Stored
from lanxfer.wire import limits
from lanxfer.wire.native import Fields
from lanxfer.wire.packets import Args
from lanxfer.wire.packs import format_outcome, parse_manifest


@command("recv_files")
async def recv_files(call: Call, node: Node) -> Reply:
    """Take many things, each by itself; answered when all that is taken is durable."""
    offers, bodies, group = _read(call, node)
    started = node.registry.clock()
    id = node.registry.new_id()
    # Raises before anything counts; from here on each file has an end of its own.
    admitted = node.admit(call.principal, offers, group, id)
    ends: list[Stored | LanxferError] = [Internal()] * len(offers)
    odd: Sequence[int] = range(len(offers))
    try:
        ends = await _store(call, node, admitted, offers, bodies)
        odd = [
            at
            for at, (offer, end) in enumerate(zip(offers, ends, strict=True))
            if end != (offer.path, offer.size, offer.digest, False)
        ]
    finally:
        node.registry.passed(
            Direction.IN,
            call.principal.name,
            offers,
            ends,
            odd,
            started=started,
            id=id,
            group=group,
            secure=call.principal.secure,
        )
    rows = [format_outcome(at, told) for at in odd if (told := _told(offers[at], ends[at]))]
    return Reply({"files": len(offers), "outcomes": len(rows)}, rows=rows)


def _read(call: Call, node: Node) -> tuple[list[Offer], list[list[memoryview]], str]:
    """What is offered, the bytes of each, and the group; BadHeader if that does not add up."""
    fields = Fields(call.args)
    files = fields.take_number("files", least=1, most=limits.PACK_FILES)
    size = fields.take_number("manifest", most=limits.MANIFEST_MAX)
    policy = fields.maybe_text("conflict", most=16)
    try:
        conflict = None if policy is None else Conflict(policy)
    except ValueError:
        raise BadHeader('"conflict" is not one of the words there are.') from None
    [manifest] = call.pieces(0, [size])
    offers = parse_manifest(b"".join(manifest), files, node.conflict(conflict))
    sizes = [offer.size for offer in offers]
    if size + sum(sizes) != call.body_size:
        raise BadHeader("The body is not as long as the manifest says.")
    return offers, call.pieces(size, sizes), (fields.maybe_text("group") or "")[:64]


async def _store(
    call: Call,
    node: Node,
    admitted: Sequence[SafePath | LanxferError],
    offers: Sequence[Offer],
    bodies: Sequence[list[memoryview]],
) -> list[Stored | LanxferError]:
    """How each of them ended."""
    principal = call.principal.name
    taken = [at for at, each in enumerate(admitted) if isinstance(each, SafePath)]
    ends: list[Any] = [*admitted]
    folders = [at for at in taken if offers[at].kind is Kind.FOLDER]
    files = [at for at in taken if offers[at].kind is not Kind.FOLDER] if folders else taken
    small = [
        Small(principal, offers[at], ends[at], offers[at].conflict or Conflict.RENAME, bodies[at])
        for at in files
    ]
    stored: Sequence[Stored | LanxferError] = []
    try:
        call.check()
        waiting = node.reserve(None, sum([offers[at].size for at in files]))
        if waiting is not None:
            await call.shield(waiting)
        if taken:
            # Not to be stopped from here on: what is stored is to be said.
            stored = await node.in_order(_put, node.store, [ends[at] for at in folders], small)
    except LanxferError as error:
        stored = [error] * len(taken)
    for at, end in zip([*folders, *files], stored, strict=True):
        ends[at] = end
    return ends


def _put(
    store: Store, folders: Sequence[SafePath], files: Sequence[Small]
) -> list[Stored | LanxferError]:
    """How these ended, in this order; each by itself.

    Files go first: a folder that is new comes to be with what is in it.
    """
    new = {path for path in folders if not _is_there(store, path)}
    for path in _wanted_twice(folders, files):
        with suppress(LanxferError):  # which is said below
            store.make_folder(path)
    stored = store.put_many(files) if files else []
    ends: list[Stored | LanxferError] = []
    for path in folders:
        try:
            ends.append(store.make_folder(path)._replace(already=path not in new))
            new.discard(path)
        except LanxferError as error:
            ends.append(error)
    return ends + stored


def _wanted_twice(folders: Sequence[SafePath], files: Sequence[Small]) -> list[SafePath]:
    """Folders whose name, or one that is the same to some file systems, a file wants as well.

    The folder has to have it, or what is in it has no place.
    """
    if not folders:
        return []
    names = {file.path.text.casefold() for file in files}
    return [path for path in folders if path.text.casefold() in names]


def _is_there(store: Store, path: SafePath) -> bool:
    try:
        return store.look(path) is not None
    except LanxferError:
        return False


def _told(offer: Offer, end: Stored | LanxferError) -> Args | LanxferError:
    """What of the answer about one file is not plain; nothing where it was stored as it was."""
    if isinstance(end, LanxferError):
        return end
    args: dict[str, object] = {}
    if end.path != offer.path:
        args["stored"] = end.path
    if end.digest != (offer.digest or ""):
        args["blake3"] = end.digest
    if end.already:
        args["already"] = True
    return args
