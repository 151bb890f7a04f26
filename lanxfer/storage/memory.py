"""Files kept in a dictionary: for tests, and for applications that want no disk.

The same promises as ``local``, but for the one about power cuts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field
from blake3 import blake3

from lanxfer.errors import (
    BadName,
    BadOffset,
    Busy,
    DigestMismatch,
    DiskFailed,
    DiskFull,
    Exists,
    LanxferError,
    ShortBody,
)
from lanxfer.storage import Facts, Receipts, Small
from lanxfer.storage.names import SafePath, link_target, quoted, whose
from lanxfer.storage.prefixes import ladder, running_digests
from lanxfer.storage.rules import (
    looks_like,
    may_be_elsewhere,
    numbered,
    refuse_hidden,
    refuse_key,
    refuse_small,
    refuse_taken,
    refuse_unfinished,
    told_by_name,
    usable_mtime,
)
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits


@define
class _Held:
    """What is there of one file."""

    data: bytearray = field(factory=bytearray)
    touched: float = field(factory=time.monotonic)


class MemoryStore:
    """A ``Store`` without a disk; ``files`` is what it holds, path to content.

    ``capacity`` in bytes, all files and parts together; None for no end.
    """

    def __init__(
        self,
        *,
        receipts: Receipts | None = None,
        capacity: int | None = None,
        unfinished: tuple[int, int] | None = None,
        dotfiles: bool = False,
    ) -> None:
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.folders: set[str] = set()
        self._mtimes: dict[str, int] = {}
        self._parts: dict[str, _Held] = {}
        self._open: set[str] = set()
        self._receipts = receipts
        self._capacity = capacity
        self._unfinished = unfinished or (limits.UNFINISHED_FILES, limits.UNFINISHED_BYTES)
        self._dotfiles = dotfiles
        self.mutex = threading.RLock()

    @property
    def volume(self) -> None:
        """None: nothing is waited for but a disk, if that."""

    @property
    def quick(self) -> bool:
        """It waits for nothing."""
        return True

    # Files.

    def open_part(self, key: str, offer: Offer, path: SafePath, conflict: Conflict) -> MemoryPart:
        """The writer of one file."""
        refuse_hidden(path, self._dotfiles)
        self._claim(key)
        try:
            with self.mutex:
                finished = self._finished(key, offer, path, conflict)
                if finished is None:
                    refuse_taken(self.facts(str(path)), offer, conflict)
                if finished is None and key not in self._parts:
                    refuse_unfinished(*self._left_unfinished(whose(key)), self._unfinished)
                part = MemoryPart(self, key, offer, path, conflict, finished)
                if finished is None and offer.size - part.held > self.free():
                    raise DiskFull()
                return part
        except BaseException:
            self._open.discard(key)
            raise

    def _left_unfinished(self, owner: str) -> tuple[int, int]:
        sizes = [
            len(held.data)
            for key, held in self._parts.items()
            if whose(key) == owner and key not in self._open
        ]
        return len(sizes), sum(sizes)

    def _claim(self, key: str) -> None:
        refuse_key(key)
        with self.mutex:
            if key in self._open:
                raise Busy()
            self._open.add(key)

    def _finished(self, key: str, offer: Offer, path: SafePath, conflict: Conflict) -> str | None:
        remembered = self._receipts.recall([key]).get(key) if self._receipts else None
        candidates = [remembered.path] if remembered and may_be_elsewhere(conflict) else []
        if usable_mtime(offer.mtime_ns) is not None:
            candidates.append(str(path))
        return next((each for each in candidates if looks_like(self.facts(each), offer)), None)

    def put_many(self, files: Sequence[Small]) -> list[Stored | LanxferError]:
        """Store whole small files, each by itself, in the order given."""
        answers: list[Stored | LanxferError] = []
        for small in files:
            try:
                answers.append(self._put(small))
            except LanxferError as error:
                answers.append(error)
        return answers

    def _put(self, small: Small) -> Stored:
        offer = small.offer
        refuse_small(small, self._dotfiles)
        self._claim(small.key)
        try:
            data = b"".join(small.pieces)
            stored = self._choose_and_keep(small.key, offer, small.path, small.conflict, data)
        finally:
            self._parts.pop(small.key, None)
            self._open.discard(small.key)
        known = self._receipts is not None and self._receipts.recall([small.key])
        if known or not told_by_name(offer, small.path, stored):
            self._remember({small.key: stored})
        return stored

    def _publish(
        self, key: str, offer: Offer, path: SafePath, conflict: Conflict, data: bytes
    ) -> Stored:
        stored = self._choose_and_keep(key, offer, path, conflict, data)
        self._remember({key: stored})
        return stored

    def _choose_and_keep(
        self, key: str, offer: Offer, path: SafePath, conflict: Conflict, data: bytes
    ) -> Stored:
        with self.mutex:
            held = self._parts.get(key)
            if len(data) - (len(held.data) if held else 0) > self.free():
                raise DiskFull()
            name, already = self._choose(key, offer, path, conflict, data)
            if not already:
                self._make_folders(path.parent)
                self.files[name] = data
                self._mtimes[name] = usable_mtime(offer.mtime_ns) or time.time_ns()
            digest = blake3(self.files[name]).hexdigest()
            self._parts.pop(key, None)
            return Stored(name, offer.size, digest, already)

    def _choose(
        self, key: str, offer: Offer, path: SafePath, conflict: Conflict, data: bytes
    ) -> tuple[str, bool]:
        """The name for that content, and whether it is there already."""
        again = self._finished(key, offer, path, conflict)
        if again is not None and self.files[again] == data:
            return again, True
        name = str(path)
        facts = self.facts(name)
        if facts is None and conflict is not Conflict.SERIES:
            return name, False
        mtime = usable_mtime(offer.mtime_ns)
        if facts is not None and facts.kind == "file" and facts.size == offer.size:
            skipped = conflict is Conflict.SKIP and facts.mtime_ns == mtime
            if skipped or self.files[name] == data:
                return name, True
        if conflict is Conflict.OVERWRITE and facts is not None and facts.kind == "file":
            return name, False
        if conflict in {Conflict.REFUSE, Conflict.OVERWRITE}:
            raise Exists()
        return self._number(path, conflict, data)

    def _number(self, path: SafePath, conflict: Conflict, data: bytes) -> tuple[str, bool]:
        series = conflict is Conflict.SERIES
        return next(
            (name, self.facts(name) is not None)
            for name in self._numbers(path, conflict)
            if self.facts(name) is None or (not series and self.files.get(name) == data)
        )

    def _numbers(self, path: SafePath, conflict: Conflict) -> Iterator[str]:
        return ("/".join((*path.parent, name)) for name in numbered(path.name, conflict))

    def _remember(self, published: Mapping[str, Stored]) -> None:
        if self._receipts is not None:
            self._receipts.remember(published)

    # Folders and links.

    def make_folder(self, path: SafePath) -> Stored:
        """Make a folder and those above it."""
        refuse_hidden(path, self._dotfiles)
        with self.mutex:
            facts = self.look(path)
            if facts is not None and facts.kind != "folder":
                raise Exists(f"There is a {facts.kind} of that name.")
            self._make_folders(path.parts)
            return Stored(str(path), 0, "", already=facts is not None)

    def _make_folders(self, parts: tuple[str, ...]) -> None:
        for depth in range(1, len(parts) + 1):
            name = "/".join(parts[:depth])
            if name in self.files or name in self.links:
                raise BadName(f"{quoted(parts[depth - 1])} is no folder there.")
            self.folders.add(name)

    def make_link(self, path: SafePath, target: str, conflict: Conflict) -> Stored:
        """Note a symbolic link; nothing ever follows it."""
        refuse_hidden(path, self._dotfiles)
        target = link_target(path, target, dotfiles=self._dotfiles)
        with self.mutex:
            self._make_folders(path.parent)
            name = str(path)
            if self.links.get(name) == target:
                return Stored(name, 0, "", already=True)
            replaced = name in self.links and conflict is Conflict.OVERWRITE
            if (self.facts(name) and not replaced) or conflict is Conflict.SERIES:
                if conflict in {Conflict.REFUSE, Conflict.OVERWRITE}:
                    raise Exists()
                numbers = self._numbers(path, conflict)
                name = next(
                    each
                    for each in numbers
                    if self.facts(each) is None or self.links.get(each) == target
                )
            already = name in self.links and not replaced
            self.links[name] = target
            return Stored(name, 0, "", already)

    def look(self, path: SafePath) -> Facts | None:
        """What is at that name."""
        with self.mutex:
            return self.facts(str(path))

    def facts(self, name: str) -> Facts | None:
        """What is at a name; whoever asks has the ``mutex``."""
        if name in self.files:
            return Facts("file", len(self.files[name]), self._mtimes.get(name, 0))
        if name in self.links:
            return Facts("link", len(self.links[name].encode()), 0)
        return Facts("folder", 0, 0) if name in self.folders else None

    # For whoever has the mutex and changes what is held (``memory_volume``).

    def keep(self, name: str, data: bytes, mtime_ns: int) -> None:
        """Have that content at that name."""
        self.files[name] = data
        self._mtimes[name] = mtime_ns

    def drop(self, name: str) -> bool:
        """Forget a file or a link; whether there was one."""
        self._mtimes.pop(name, None)
        return self.files.pop(name, self.links.pop(name, None)) is not None

    def rename(self, name: str, to: str) -> None:
        """Another name for a file, a link or a folder with all that is in it."""
        below = f"{name}/"

        def new(old: str) -> str:
            return to + old[len(name) :] if old == name or old.startswith(below) else old

        # In place: others have these dictionaries in hand.
        everything: tuple[dict[str, Any], ...] = (self.files, self.links, self._mtimes)
        for held in everything:
            for old in [each for each in held if new(each) != each]:
                held[new(old)] = held.pop(old)
        for old in [each for each in self.folders if new(each) != each]:
            self.folders.remove(old)
            self.folders.add(new(old))

    # The place.

    def free(self) -> int:
        """Bytes that may still be written."""
        if self._capacity is None:
            return 2**63 - 1
        with self.mutex:
            used = sum(map(len, self.files.values()))
            used += sum(len(held.data) for held in self._parts.values())
        return max(0, self._capacity - used)

    def holds(self, key: str) -> bool:
        """Whether there is a part of that key."""
        refuse_key(key)
        with self.mutex:
            return key in self._parts

    def forget(self, key: str) -> None:
        """Remove the part of that key; one that is being written stays."""
        refuse_key(key)
        with self.mutex:
            if key not in self._open:
                self._parts.pop(key, None)

    def tidy(self, older_than: float) -> int:
        """Remove parts untouched for so many seconds; how many."""
        before = time.monotonic() - older_than
        with self.mutex:
            old = [
                key
                for key, held in self._parts.items()
                if key not in self._open and held.touched < before
            ]
            for key in old:
                del self._parts[key]
        return len(old)

    def weaknesses(self) -> tuple[str, ...]:
        """The one that memory has."""
        return ("What is received is gone when the service ends.",)

    def close(self) -> None:
        """Nothing to let go of; what is held can still be read."""


class MemoryPart:
    """The receiving end of one file in memory; the interface is ``lanxfer.storage.Part``."""

    def __init__(
        self,
        store: MemoryStore,
        key: str,
        offer: Offer,
        path: SafePath,
        conflict: Conflict,
        finished: str | None,
    ) -> None:
        self._store = store
        self._key = key
        self._offer = offer
        self._path = path
        self._conflict = conflict
        self._finished = finished
        self._held = store._parts.get(key)
        self._proved: dict[int, str] = {}
        self._whole = False
        self._begun = False
        self._closed = False
        self.position = 0
        self.held = len(self._held.data) if self._held else 0

    def have(self) -> tuple[tuple[int, str], ...]:
        """(offset, digest of all before it), largest first."""
        entries: list[tuple[int, str]] = []
        if self._held is not None:
            data = self._held.data
            found = running_digests(lambda at, size: bytes(data[at : at + size]), ladder(self.held))
            entries = [(at, digest.hexdigest()) for at, digest in found.items()]
        size = self._offer.size
        if self._finished is not None and size:
            digest = blake3(self._store.files.get(self._finished, b"")).hexdigest()
            other = dict(entries).get(size, digest) != digest
            if not other or self._conflict is Conflict.SKIP:
                entries = [entry for entry in entries if entry[0] != size] + [(size, digest)]
                self._whole = True
        self._proved = dict(entries)
        return tuple(sorted(entries, reverse=True))

    def begin(self, offset: int, proved: bool = True) -> None:
        """Start at ``offset``; what the part holds behind it is cut off."""
        self._refuse_closed()
        if proved and self._whole and offset == self._offer.size:
            self._begun = False
            self.position = offset
            return
        known = offset in self._proved if proved else offset == self.held
        if offset and not known:
            raise BadOffset(offset=self.held)
        if self._held is None:
            self._held = self._store._parts[self._key] = _Held()
        del self._held.data[offset:]
        self._proved = {at: each for at, each in self._proved.items() if at <= offset}
        self._whole = False
        self._begun = True
        self.position = offset

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Append; after DiskFull ``position`` says how much is in place."""
        self._refuse_closed()
        size = sum(len(chunk) for chunk in chunks)
        if self.position + size > self._offer.size:
            raise BadOffset("More bytes came than were announced.", offset=self.position)
        if not size:
            return
        if self._held is None or not self._begun:
            raise BadOffset("No byte was asked for.", offset=self.position)
        fitting = b"".join(chunks)[: self._store.free()]
        self._held.data += fitting
        self._held.touched = time.monotonic()
        self.position += len(fitting)
        if len(fitting) < size:
            raise DiskFull()

    def publish(self, digest: str | None) -> Stored:
        """Verify and give it its name; the part is closed whatever comes of it."""
        self._refuse_closed()
        try:
            return self._publish(digest)
        except (BadName, Exists):
            self.discard()
            raise
        finally:
            self.keep()

    def _publish(self, digest: str | None) -> Stored:
        size = self._offer.size
        if not self._begun and not size:
            self.begin(0)
        if self.position != size:
            raise ShortBody(have=self.position)
        if self._whole and self._finished is not None:
            return self._publish_finished(self._finished, digest)
        data = bytes(self._held.data) if self._held else b""
        if digest is not None and digest != blake3(data).hexdigest():
            self.discard()
            raise DigestMismatch()
        return self._store._publish(self._key, self._offer, self._path, self._conflict, data)

    def _publish_finished(self, name: str, digest: str | None) -> Stored:
        found = blake3(self._store.files.get(name, b"")).hexdigest()
        if found != self._proved.get(self._offer.size):
            raise ShortBody("The file that was there is gone by now; send it again.")
        if digest is not None and digest != found:
            self.discard()
            raise DigestMismatch()
        stored = Stored(name, self._offer.size, found, already=True)
        self._store._remember({self._key: stored})
        self._store._parts.pop(self._key, None)
        return stored

    def keep(self) -> None:
        """Close; a part without a byte is not kept."""
        if not self._closed:
            if self._held is not None and not self._held.data:
                self._store._parts.pop(self._key, None)
            self._close()

    def discard(self) -> None:
        """Close and remove."""
        if not self._closed:
            self._store._parts.pop(self._key, None)
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._store._open.discard(self._key)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise DiskFailed("This part is closed.")
