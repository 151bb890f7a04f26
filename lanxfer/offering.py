"""What is offered of a file here, and what its receiver's answer is worth."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from lanxfer.errors import BadHeader, Cancelled, DigestMismatch
from lanxfer.storage.sources import Entry, Source, Whole, open_source, read_small
from lanxfer.transfers import Conflict, Kind, Receipt
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

READ_AHEAD_AFTER = 0.05
"""Seconds without a go after which a receiver is taken to be reading what it has."""


class Loaded:
    """An entry that is ready to go: a file that is sent in one go with its bytes.

    It has them in ``data``, which whoever has copied it sets to None, or, where it was known
    to be large, in ``units`` of memory that is somebody else's as soon as it was sent.
    ``unsure`` is one that was sent before, and may have arrived.
    """

    __slots__ = ("data", "digest", "entry", "units", "unsure")

    def __init__(
        self,
        entry: Entry,
        data: bytes | None = None,
        digest: str | None = None,
        units: Sequence[memoryview] = (),
    ) -> None:
        self.entry = entry
        self.data = data
        self.digest = digest
        self.units = units
        self.unsure = False

    @property
    def whole(self) -> bool:
        """Whether its bytes are here."""
        return self.data is not None or bool(self.units)

    @property
    def folder(self) -> bool:
        """Whether it is a folder to be made."""
        entry = self.entry
        return entry.kind is Kind.FOLDER and entry.error is None and not entry.skipped

    @property
    def size(self) -> int:
        """How many of them are."""
        return sum(map(len, self.units)) if self.data is None else len(self.data)


def at_once(rate: float | None) -> int:
    """Bytes of files that go with one request, be it many or one, where so many pass in a second.

    No more than a fifth of a second's worth, so that nothing else waits longer for it, and its
    progress shows; 0 where that has no room for small files.
    """
    fifth = limits.PACK_MAX if rate is None else min(int(rate / 5), limits.PACK_MAX)
    return fifth if fifth >= limits.INLINE_MAX else 0


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
    if not entry.readable or entry.size > most:
        return Loaded(entry)
    listed = entry.size, entry.mtime_ns
    data, size, mtime_ns, digest, executable = whole = read_small(entry.local, most, listed)
    if (size, mtime_ns) != listed or executable is not entry.executable:
        entry = as_found(entry, whole)
    return Loaded(entry, data, digest)


def load_units(entry: Entry, most: int, take: Callable[[], bytearray]) -> Loaded:
    """As ``load``, but one that is large into units of memory, which ``take`` gives."""
    if entry.size <= limits.UNIT or entry.size > most or not entry.readable:
        return load(entry, most)
    with open_source(entry.local) as source:
        found = as_found(entry, source)
        if source.size <= limits.UNIT:
            return load(found, most)
        if source.size > most:
            return Loaded(found)
        read: list[memoryview] = []
        while source.position < source.size:
            left = source.size - source.position
            # Of a whole unit most would be in memory for nothing.
            memory = take() if left > limits.UNIT // 2 else bytearray(left)
            read.append(memoryview(memory)[:left])
            source.read_into(read[-1])
        source.check_unchanged()
        return Loaded(found, None, source.digest(), read)


def as_found(entry: Entry, source: Source | Whole) -> Entry:
    """The entry of what was really opened, or read."""
    found = source.size, source.mtime_ns, source.executable
    if found == (entry.size, entry.mtime_ns, entry.executable):
        return entry
    return entry._replace(size=source.size, mtime_ns=source.mtime_ns, executable=source.executable)


def request_of(loaded: Loaded, conflict: Conflict | None, group: str) -> dict[str, Any]:
    """The fields of ``recv_file`` (docs/protocol.rst, "A small file", "A large file")."""
    entry = loaded.entry
    args: dict[str, Any] = {"path": entry.path, "size": entry.size}
    if entry.kind is not Kind.FILE:
        args.update(kind=entry.kind.value, size=0)
    if entry.target is not None:
        args["target"] = entry.target
    if entry.kind is Kind.FILE:
        args.update(maybe_time(entry.mtime_ns))
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


def wire_time(mtime_ns: int | None) -> int | None:
    """A time as the wire has it: none before 1970, or after 2262."""
    return mtime_ns if mtime_ns is not None and 0 <= mtime_ns <= limits.NUMBER_MAX else None


def maybe_time(mtime_ns: int | None) -> dict[str, int]:
    """It as a field of a request, where there is one."""
    time = wire_time(mtime_ns)
    return {} if time is None else {"mtime_ns": time}


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
