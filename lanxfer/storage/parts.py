"""The receiving end of one file on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from blake3 import blake3

from lanxfer.errors import (
    BadName,
    BadOffset,
    DigestMismatch,
    DiskFailed,
    DiskFull,
    Exists,
    LanxferError,
    ShortBody,
)
from lanxfer.storage.names import SafePath
from lanxfer.storage.prefixes import ladder, running_digests, thinned
from lanxfer.storage.publishing import Finished, Publisher
from lanxfer.storage.system import SyncFailed, close, sync, typed
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

# More pieces than this are joined first: one system call a piece would cost more.
_PIECES_MAX = 64


class LocalPart:
    """A part file and its writer; the interface is ``lanxfer.storage.Part``.

    The key is claimed when this is made, and released when this is closed.
    ``fd`` is the part that was there, or None, ``remembered`` the name that was given to
    what was published under that key; ``free`` tells how many bytes may still be written
    to the disk, ``clock`` the seconds.
    """

    def __init__(
        self,
        publisher: Publisher,
        free: Callable[[], int],
        clock: Callable[[], float],
        key: str,
        offer: Offer,
        path: SafePath,
        conflict: Conflict,
        fd: int | None,
        remembered: SafePath | None,
        finished: Finished | None,
    ) -> None:
        self._publisher = publisher
        self._staging = publisher.staging
        self._free = free
        self._clock = clock
        self._key = key
        self._offer = offer
        self._path = path
        self._conflict = conflict
        self._fd = fd
        self._remembered = remembered
        self._finished = finished
        self._finished_digest: str | None = None
        self._proof: tuple[tuple[int, str], ...] | None = None
        self._resumable: dict[int, blake3] = {}
        self._running: blake3 | None = None
        self._synced = 0
        self._synced_at = 0.0
        self._name_synced = False
        self._closed = False
        self.position = 0
        self.held = 0
        if fd is not None:
            # What lies behind the end of the file is nothing; the rest is proved before it counts.
            self.held = min(os.fstat(fd).st_size, offer.size)

    # What is there already.

    def have(self) -> tuple[tuple[int, str], ...]:
        """(offset, digest of all before it), largest first; what cannot be read is left out."""
        if self._proof is None:
            with typed():
                self._read_held()
                self._read_finished()
            entries = [(at, digest.hexdigest()) for at, digest in self._resumable.items()]
            if self._finished_digest is not None:
                entries.append((self._offer.size, self._finished_digest))
            self._proof = tuple(sorted(entries, reverse=True))
        return self._proof

    def _read_held(self) -> None:
        if self._fd is None or self._resumable or not self.held:
            return
        fd = self._fd
        kept = self._staging.recall(self._key, fd)
        if self.held in kept:
            self._resumable = dict(kept)
            return

        def read_at(offset: int, size: int) -> bytes:
            # A damaged end must cost no more than itself.
            try:
                return os.pread(fd, size, offset)
            except OSError:
                return b""

        self._resumable = running_digests(read_at, ladder(self.held))

    def _read_finished(self) -> None:
        size = self._offer.size
        if self._finished is None or not size:
            return
        digest = self._publisher.digest(self._finished)
        whole = self._resumable.get(size)
        if digest is not None and whole is not None and whole.hexdigest() != digest:
            # Two different files of that length, and one offset can stand for one only.
            if self._conflict is not Conflict.SKIP:
                return
            del self._resumable[size]
        self._finished_digest = digest

    # Writing.

    def begin(self, offset: int, proved: bool = True) -> None:
        """Start at ``offset``; what the part holds behind it is cut off."""
        self._refuse_closed()
        if proved and self._finished_digest is not None and offset == self._offer.size:
            self._running = None
            self.position = offset
            return
        with typed():
            if not proved:
                self._read_held()
            known = blake3() if offset == 0 else self._resumable.get(offset)
            if known is None or not (proved or offset in (0, self.held)):
                raise BadOffset(offset=self.held)
            if self._fd is None:
                self._fd = self._staging.create(self._key)
            os.ftruncate(self._fd, offset)
            os.lseek(self._fd, offset, os.SEEK_SET)
        self._finished_digest = None
        self._resumable = {at: each for at, each in self._resumable.items() if at <= offset}
        self._running = known.copy()
        self.position = self._synced = offset
        self._synced_at = self._clock()

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Append and digest; after an error ``position`` says how much is in place.

        What came is durable after 16 MiB, or 2 s, whichever is less.
        """
        self._refuse_closed()
        size = sum(len(chunk) for chunk in chunks)
        if self.position + size > self._offer.size:
            raise BadOffset("More bytes came than were announced.", offset=self.position)
        if not size:
            return
        if self._running is None or self._fd is None:
            raise BadOffset("No byte was asked for.", offset=self.position)
        if len(chunks) > _PIECES_MAX:
            chunks = [b"".join(chunks)]
        try:
            with typed():
                self._append(self._fd, self._running, [memoryview(chunk) for chunk in chunks])
                if self._due():
                    self._checkpoint(self._fd)
        except LanxferError:
            self._cut_back()
            raise

    def _append(self, fd: int, running: blake3, pieces: list[memoryview]) -> None:
        while pieces:
            written = os.writev(fd, pieces)
            self.position += written
            while pieces and written >= len(pieces[0]):
                written -= len(pieces[0])
                running.update(pieces.pop(0))
            if written:
                running.update(pieces[0][:written])
                pieces[0] = pieces[0][written:]

    def _due(self) -> bool:
        if self.position == self._offer.size:
            return False  # the end has a sync of its own
        much = self.position - self._synced >= limits.CHECKPOINT
        return much or self._clock() - self._synced_at >= limits.CHECKPOINT_TIME

    def _checkpoint(self, fd: int) -> None:
        try:
            sync(fd)
            if not self._name_synced:
                self._staging.sync()
                self._name_synced = True
        except SyncFailed:
            self.discard()
            raise
        self._synced, self._synced_at = self.position, self._clock()
        # Whoever else writes to that disk was not asked when this file was let in.
        if not self._free():
            raise DiskFull()

    def _cut_back(self) -> None:
        # What lies behind the position was not digested, so nobody may go on from there.
        if self._fd is not None:
            with suppress(OSError):
                os.ftruncate(self._fd, self.position)
                os.lseek(self._fd, self.position, os.SEEK_SET)

    # Ends.

    def publish(self, digest: str | None) -> Stored:
        """Verify, make durable, name; the part is closed whatever comes of it."""
        self._refuse_closed()
        try:
            with typed():
                stored = self._publish(digest)
        except (BadName, Exists):
            # No other try would end otherwise, and what is kept counts against its sender.
            self.discard()
            raise
        except BaseException:
            self.keep()
            raise
        self._close()
        return stored

    def _publish(self, digest: str | None) -> Stored:
        size = self._offer.size
        if self._finished_digest is not None and self.position == size:
            return self._publish_finished(self._finished_digest, digest)
        if self._running is None and not size:
            self.begin(0)
        if self._running is None or self._fd is None or self.position != size:
            raise ShortBody(have=self.position)
        found = self._running.hexdigest()
        if digest is not None and digest != found:
            self.discard()
            raise DigestMismatch()
        try:
            self._publisher.ready(self._fd, self._offer)
            return self._publisher.publish(
                self._key, self._remembered, self._offer, self._path, self._conflict, found
            )
        except SyncFailed:
            # The file may be whole or not and can no longer be asked: away with it.
            self.discard()
            raise

    def _publish_finished(self, found: str, digest: str | None) -> Stored:
        finished = self._finished
        if digest is not None and digest != found:
            self.discard()
            raise DigestMismatch()
        if finished is None or not self._publisher.confirm(finished):
            raise ShortBody("The file that was there is gone by now; send it again.")
        stored = Stored(str(finished.path), self._offer.size, found, already=True)
        self._publisher.remember({self._key: stored})
        self._publisher.clear(self._key)
        return stored

    def keep(self) -> None:
        """Close; a part without a byte is not kept."""
        if self._closed:
            return
        if self._fd is not None:
            with suppress(OSError):
                size = os.fstat(self._fd).st_size
                known = dict(self._resumable)
                if self._running is not None and size == self.position:
                    known[size] = self._running
                if not size:
                    self._staging.remove(self._key)
                else:
                    self._staging.leave(self._key)
                    if known:
                        self._staging.remember(self._key, self._fd, thinned(known, size))
        self._close()

    def discard(self) -> None:
        """Close and remove."""
        if not self._closed:
            with suppress(OSError):
                self._staging.remove(self._key)
            self._close()

    def _close(self) -> None:
        self._closed = True
        fd, self._fd = self._fd, None
        try:
            if fd is not None:
                close(fd)
        finally:
            self._staging.release(self._key)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise DiskFailed("This part is closed.")
