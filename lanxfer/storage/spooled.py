"""A store that receives on this device's disk, and then puts what came whole into a volume.

So a broken transfer goes on from what is proved as with any local folder, nothing that is not
complete and compared ever reaches the volume, and how slow that is holds up nobody but
who waits for its answer.  What could not be put there stays for the next try of the same
file, which then sends nothing again.
"""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import BinaryIO

from blake3 import blake3

from lanxfer.errors import (
    BadName,
    BadOffset,
    Busy,
    DigestMismatch,
    DiskFailed,
    Exists,
    LanxferError,
    ShortBody,
)
from lanxfer.storage import Facts, Part, Small
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import SafePath, quoted
from lanxfer.storage.remote import remote_volume
from lanxfer.storage.replacing import Replacing
from lanxfer.storage.rules import (
    numbered,
    refuse_hidden,
    refuse_key,
    refuse_small,
    refuse_taken,
    usable_mtime,
)
from lanxfer.storage.shares import ShareSpec
from lanxfer.storage.staging import NAME as STAGING
from lanxfer.storage.system import FILE_FLAGS, typed
from lanxfer.storage.volumes import (
    Parts,
    Volume,
    VolumeShare,
    chunks_of,
    make_folders,
    same_time,
    stir,
)
from lanxfer.transfers import Conflict, Offer, Stored


class SpooledStore:
    """A ``Store`` on a volume; ``spool`` is the folder of this device in which files arrive.

    The folder is this store's alone.  Both are closed with it.
    """

    def __init__(
        self,
        volume: Volume,
        spool: str,
        *,
        reserve_bytes: int | None = None,
        reserve_share: float | None = None,
        dotfiles: bool = False,
    ) -> None:
        self.volume = volume
        self._dotfiles = dotfiles
        self._spool = LocalStore(
            spool, reserve_bytes=reserve_bytes, reserve_share=reserve_share, weak=True
        )
        self._folder = os.path.realpath(spool)
        self._busy: set[str] = set()
        self.mutex = threading.Lock()
        self.replacing = Replacing()

    @property
    def quick(self) -> bool:
        """Not it: the volume is waited for."""
        return False

    # Files.

    def open_part(self, key: str, offer: Offer, path: SafePath, conflict: Conflict) -> SpooledPart:
        """The writer of one file; see ``Store.open_part``."""
        refuse_hidden(path, self._dotfiles)
        refuse_key(key)
        self.claim(key)
        try:
            with typed():
                self._check_way(path.parent)
                refuse_taken(self.volume.look(path.parts), offer, conflict)
            spooled = offer._replace(path=key)
            part = self._spool.open_part(key, spooled, SafePath((key,)), Conflict.OVERWRITE)
        except BaseException:
            self.release(key)
            raise
        return SpooledPart(self, part, key, offer, path, conflict)

    def claim(self, key: str) -> None:
        """One writer a key; Busy where there is one."""
        with self.mutex:
            if key in self._busy:
                raise Busy()
            self._busy.add(key)

    def release(self, key: str) -> None:
        """Whoever claimed it has done with it."""
        with self.mutex:
            self._busy.discard(key)

    def put_many(self, files: Sequence[Small]) -> list[Stored | LanxferError]:
        """Store whole small files, each by itself, in the order given."""
        answers: list[Stored | LanxferError] = []
        for small in files:
            try:
                refuse_small(small, self._dotfiles)
                answers.append(self._put(small))
            except LanxferError as error:
                answers.append(error)
            stir()
        return answers

    def _put(self, small: Small) -> Stored:
        self.claim(small.key)
        try:
            file, digest = io.BytesIO(b"".join(small.pieces)), small.offer.digest or ""
            stored = self._place(small.offer, small.path, small.conflict, digest, file)
        finally:
            self.release(small.key)
        self._spool.forget(small.key)  # an earlier try, in parts
        return stored

    def put_spooled(
        self, key: str, offer: Offer, path: SafePath, conflict: Conflict, digest: str
    ) -> Stored:
        """Put what has arrived under that key into the volume, and forget it here."""
        spooled = os.path.join(self._folder, key)
        with typed(), open(os.open(spooled, os.O_RDONLY | FILE_FLAGS), "rb") as file:
            stored = self._place(offer, path, conflict, digest, file)
            os.unlink(spooled)
        return stored

    def _place(
        self, offer: Offer, path: SafePath, conflict: Conflict, digest: str, file: BinaryIO
    ) -> Stored:
        with typed():
            self._check_way(path.parent)
            make_folders(self.volume, path.parent)
            alone = conflict is Conflict.OVERWRITE
            with self.replacing.hold(path.parts) if alone else nullcontext():
                series = conflict is Conflict.SERIES
                if not series and (stored := self._at(offer, path, conflict, digest, file)):
                    return stored
            if conflict in {Conflict.REFUSE, Conflict.OVERWRITE}:
                raise Exists()
            for name in numbered(path.name, conflict):
                other = SafePath((*path.parent, name))
                if stored := self._at(offer, other, conflict, digest, file):
                    return stored
        raise Exists()

    def _at(
        self, offer: Offer, path: SafePath, conflict: Conflict, digest: str, file: BinaryIO
    ) -> Stored | None:
        """Put it under that very name, or find it there; None where that is another's."""
        facts = self.volume.look(path.parts)
        if stored := self._already(facts, path, offer, conflict, digest):
            return stored
        replace = conflict is Conflict.OVERWRITE and facts is not None and facts.kind == "file"
        if facts is not None and not replace:
            return None
        try:
            mtime = usable_mtime(offer.mtime_ns)
            self.volume.store(path.parts, chunks_of(file), mtime, replace)
        except FileExistsError:
            # Another's, or this very one: it was stored, and only the answer was lost.
            return self._already(self.volume.look(path.parts), path, offer, conflict, digest)
        return Stored(str(path), offer.size, digest)

    def _already(
        self, facts: Facts | None, path: SafePath, offer: Offer, conflict: Conflict, digest: str
    ) -> Stored | None:
        """The answer where what is there is what is offered; in a series nothing is."""
        if conflict is Conflict.SERIES or facts is None or facts.kind != "file":
            return None
        if facts.size != offer.size:
            return None
        found = self._digest(path.parts)
        skipped = conflict is Conflict.SKIP and same_time(self.volume, facts, offer.mtime_ns)
        if not skipped and found != digest:
            return None
        return Stored(str(path), offer.size, found, already=True)

    def _digest(self, parts: Parts) -> str:
        running = blake3()
        file = self.volume.open(parts)
        try:
            for chunk in chunks_of(file):
                running.update(chunk)
        finally:
            file.close()
        return running.hexdigest()

    def finished(self, offer: Offer, path: SafePath) -> tuple[Facts, str] | None:
        """What is at that name and its digest, if it could be what is offered."""
        with typed():
            facts = self.volume.look(path.parts)
            if facts is None or facts.kind != "file" or facts.size != offer.size:
                return None
            mtime = usable_mtime(offer.mtime_ns)
            known = mtime is not None and self.volume.keeps_times
            if known and not same_time(self.volume, facts, mtime):
                return None
            return facts, self._digest(path.parts)

    def _check_way(self, parts: Parts) -> None:
        """BadName where one of these is something else than a folder; those that lack are fine."""
        if not self.volume.has_links:
            return
        for depth in range(1, len(parts) + 1):
            facts = self.volume.look(parts[:depth])
            if facts is None:
                return
            if facts.kind != "folder":
                raise BadName(f"{quoted(parts[depth - 1])} is no folder there.")

    # Folders and links.

    def make_folder(self, path: SafePath) -> Stored:
        """Make a folder and those above it; Exists if something else has its name."""
        refuse_hidden(path, self._dotfiles)
        with typed():
            facts = self.look(path)
            if facts is not None and facts.kind != "folder":
                raise Exists(f"There is a {facts.kind} of that name.")
            make_folders(self.volume, path.parts)
        return Stored(str(path), 0, "", already=facts is not None)

    def make_link(self, path: SafePath, target: str, conflict: Conflict) -> Stored:
        """Not every store has links, and so none is made."""
        raise BadName("Links cannot be kept there.")

    def look(self, path: SafePath) -> Facts | None:
        """What is at that name, links not followed; None also where a folder above it is none."""
        with typed():
            try:
                self._check_way(path.parent)
            except BadName:
                return None
            return self.volume.look(path.parts)

    # The place.

    def free(self) -> int:
        """Bytes that may still arrive; what the volume has room for it says when it has none."""
        return self._spool.free()

    def holds(self, key: str) -> bool:
        return self._spool.holds(key)

    def forget(self, key: str) -> None:
        self._spool.forget(key)

    def tidy(self, older_than: float) -> int:
        """Remove parts, and files that could not be put, untouched for so many seconds."""
        before = time.time() - older_than
        count = self._spool.tidy(older_than)
        with typed(), os.scandir(self._folder) as entries:
            for each in entries:
                # Not by its mtime, which is that of the file that was sent.
                old = each.stat(follow_symlinks=False).st_ctime < before
                if old and each.name != STAGING and each.name not in self._busy:
                    with suppress(OSError):
                        os.unlink(each.path)
                        count += 1
        return count

    def weaknesses(self) -> tuple[str, ...]:
        return self.volume.weaknesses()

    def close(self) -> None:
        self._spool.close()
        self.volume.close()


class SpooledPart:
    """The receiving end of one file; see ``lanxfer.storage.Part``.

    ``have`` and ``publish`` may ask the volume, all else is about the disk of this device.
    """

    def __init__(
        self,
        store: SpooledStore,
        part: Part,
        key: str,
        offer: Offer,
        path: SafePath,
        conflict: Conflict,
    ) -> None:
        self._store = store
        self._part = part
        self._key = key
        self._offer = offer
        self._path = path
        self._conflict = conflict
        self._there: tuple[Facts, str] | None = None
        self._whole = False
        self._ended = False

    @property
    def position(self) -> int:
        return self._offer.size if self._whole else self._part.position

    @property
    def held(self) -> int:
        return self._part.held

    def have(self) -> tuple[tuple[int, str], ...]:
        entries = dict(self._part.have())
        size = self._offer.size
        if size and size not in entries and self._conflict is not Conflict.SERIES:
            # It would be read to be compared anyway; so it need not be sent for that.
            self._there = self._store.finished(self._offer, self._path)
            if self._there is not None:
                entries[size] = self._there[1]
        return tuple(sorted(entries.items(), reverse=True))

    def begin(self, offset: int, proved: bool = True) -> None:
        self._whole = proved and self._there is not None and offset == self._offer.size
        if not self._whole:
            self._part.begin(offset, proved)

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        if self._whole and any(map(len, chunks)):
            raise BadOffset("More bytes came than were announced.", offset=self.position)
        if not self._whole:
            self._part.write(chunks)

    def publish(self, digest: str | None) -> Stored:
        """Verify it here, then put it into the volume; it stays here where that does not work."""
        if not self._first():
            raise DiskFailed("This part is closed.")
        try:
            if self._whole and self._there is not None:
                return self._publish_finished(*self._there, digest)
            here = self._part.publish(digest)
            return self._store.put_spooled(
                self._key, self._offer, self._path, self._conflict, here.digest
            )
        finally:
            # Whoever gave this up meanwhile has left the end to this thread.
            self._part.keep()
            self._store.release(self._key)

    def _publish_finished(self, facts: Facts, found: str, digest: str | None) -> Stored:
        if self._store.look(self._path) != facts:
            raise ShortBody("The file that was there is gone by now; send it again.")
        self._part.discard()
        if digest is not None and digest != found:
            raise DigestMismatch()
        return Stored(str(self._path), self._offer.size, found, already=True)

    def keep(self) -> None:
        self._end(self._part.keep)

    def discard(self) -> None:
        self._end(self._part.discard)

    def _first(self) -> bool:
        """Whether this is the first end that it comes to, of which there is one."""
        with self._store.mutex:
            ended, self._ended = self._ended, True
        return not ended

    def _end(self, close: Callable[[], None]) -> None:
        if self._first():
            close()
            self._store.release(self._key)


def open_remote(
    spec: ShareSpec, state: str, reserve: Mapping[str, float | None], dotfiles: bool
) -> VolumeShare:
    """The share that a URL names; what is put there arrives in a folder below ``state`` first."""
    volume = remote_volume(spec.folder, make=spec.writable)
    if not spec.writable:
        return VolumeShare(spec.name, volume, None, dotfiles)
    # Another store under the same name is another folder: what waits there is not for this one.
    which = blake3(spec.folder.encode("utf-8", "surrogatepass")).hexdigest(length=8)
    spool = os.path.join(state, "stores", which)
    store = SpooledStore(volume, spool, dotfiles=True, **reserve)  # type: ignore[arg-type]
    return VolumeShare(spec.name, volume, store, dotfiles)
