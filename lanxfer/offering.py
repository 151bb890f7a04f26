"""What is offered of a file here, and what its receiver's answer is worth."""

from __future__ import annotations

import os
from typing import Any

from attrs import evolve, frozen

from lanxfer.errors import BadHeader, Cancelled, DigestMismatch
from lanxfer.storage.sources import Entry, open_source, read_small
from lanxfer.transfers import Conflict, Kind, Receipt
from lanxfer.wire import limits
from lanxfer.wire.packets import Args


@frozen
class Loaded:
    """An entry that is ready to go: a file that goes with its request with its bytes."""

    entry: Entry
    data: bytes | None = None
    digest: str | None = None


def pack_file(slowest: int | None) -> int:
    """Bytes of the largest file that goes with others, where so many may pass in a second.

    What is more than a fifth of a second's worth goes in parts, if it is not that small.
    """
    slow = slowest is not None and slowest < 5 * limits.PACK_FILE_MAX
    return limits.INLINE_MAX if slow else limits.PACK_FILE_MAX


def single(path: str, name: str | None = None) -> Entry:
    """The entry of one file that is sent by itself; blocks.  Raises what is wrong with it."""
    with open_source(path) as source:
        return Entry(
            Kind.FILE,
            name or os.path.basename(os.path.abspath(path)),
            path,
            source.size,
            source.mtime_ns,
            executable=source.executable,
        )


def load(entry: Entry, most: int = limits.INLINE_MAX) -> Loaded:
    """Read a file of at most ``most`` bytes; blocks.  The entry then says what was really read."""
    if entry.kind is not Kind.FILE or entry.error is not None or entry.skipped:
        return Loaded(entry)
    if entry.size > most:
        return Loaded(entry)
    whole = read_small(entry.local, most)
    found = (whole.size, whole.mtime_ns, whole.executable)
    if found != (entry.size, entry.mtime_ns, entry.executable):
        size, mtime_ns, executable = found
        entry = evolve(entry, size=size, mtime_ns=mtime_ns, executable=executable)
    return Loaded(entry, whole.data, whole.digest)


def request_of(loaded: Loaded, conflict: Conflict | None, group: str) -> dict[str, Any]:
    """The fields of ``recv_file`` (docs/protocol.rst, "A small file", "A large file")."""
    entry = loaded.entry
    args: dict[str, Any] = {"path": entry.path, "size": entry.size}
    if entry.kind is not Kind.FILE:
        args.update(kind=entry.kind.value, size=0)
    if entry.target is not None:
        args["target"] = entry.target
    if entry.kind is Kind.FILE:
        args.update(wire_time(entry.mtime_ns))
    if loaded.digest is not None:
        args["blake3"] = loaded.digest
    if entry.executable:
        args["executable"] = True
    if conflict is not None:
        args["conflict"] = conflict.value
    if group:
        args["group"] = group
    if entry.shared:
        args["shared"] = True
    return args


def wire_time(mtime_ns: int | None) -> dict[str, int]:
    """A time as the wire has it: none before 1970."""
    return {} if mtime_ns is None or mtime_ns < 0 else {"mtime_ns": mtime_ns}


def receipt_of(args: Args, digest: str, size: int, offset: int = 0) -> Receipt:
    """What the receiver answered, compared with what was sent; BadHeader or DigestMismatch."""
    stored, said = args.get("stored", ""), args.get("blake3", "")
    if not isinstance(stored, str) or not isinstance(said, str):
        raise BadHeader("The answer of the other side makes no sense.")
    if args.get("size", size) != size or (digest and said != digest):
        raise DigestMismatch("The other side says that it stored something else than was sent.")
    return Receipt(stored, size, said, args.get("already") is True, offset)


def maybe_arrived() -> Cancelled:
    """What to say of something that was cancelled while nobody knew what had become of it."""
    return Cancelled("Given up, but the connection broke: it may have arrived before that.")
