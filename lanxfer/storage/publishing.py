"""From a part file to an acknowledged one (docs/protocol.rst, "Received").

The order is what makes the promise: the bytes and their attributes are
durable, then the file gets its name, then the name is durable, then the
receipt is, where one is needed (``told_by_name``), and only then the part's own
name goes.  After a crash at any
point the disk says how far it came: two names of one file are a file that
was published, and no file ever gets a second name for the same content.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress

from attrs import frozen

from lanxfer.errors import BadName, Busy
from lanxfer.storage import Facts, Receipts
from lanxfer.storage.names import SafePath, safe_path
from lanxfer.storage.rules import looks_like, mode_of, told_by_name, usable_mtime
from lanxfer.storage.staging import Staging, staged
from lanxfer.storage.system import SyncFailed, sync
from lanxfer.storage.tree import Tree, Wanted
from lanxfer.transfers import Conflict, Offer, Stored


@frozen
class Finished:
    """A file that is there already and looks like the one offered; nothing is proved."""

    path: SafePath
    facts: Facts


@frozen
class Publisher:
    """Gives staged files their names and remembers that it did.

    ``umask`` as it was when the store was made: asking for it changes it, for all threads.
    """

    tree: Tree
    staging: Staging
    receipts: Receipts | None
    umask: int

    def finished(
        self, remembered: SafePath | None, offer: Offer, path: SafePath
    ) -> Finished | None:
        """What lies at the ``remembered`` name, or at ``path`` with that size and mtime."""
        candidates = [remembered] if remembered else []
        if usable_mtime(offer.mtime_ns) is not None:
            candidates.append(path)
        for candidate in candidates:
            with self.tree.find(candidate.parent) as folder:
                facts = None if folder is None else self.tree.look(folder, candidate.name)
            if facts is not None and looks_like(facts, offer):
                return Finished(candidate, facts)
        return None

    def recall(self, keys: Iterable[str]) -> dict[str, SafePath]:
        """The names that were given to what was published under these keys.

        They are not asked for where there are none at all.
        """
        found: dict[str, SafePath] = {}
        if self.receipts is not None and self.receipts.any():
            for key, stored in self.receipts.recall([*keys]).items():
                # The record may have been tampered with; it gets no more trust than a peer.
                with suppress(BadName):
                    found[key] = safe_path(stored.path, dotfiles=True)
        return found

    def digest(self, finished: Finished) -> str | None:
        """The digest of a finished file as it is now; None if it is another by now."""
        with self.tree.find(finished.path.parent) as folder:
            if folder is None:
                return None
            return self.tree.digest(folder, finished.path.name, finished.facts)

    def confirm(self, finished: Finished) -> bool:
        """Make sure of a finished file: still the same one, and durable whoever put it there.

        Busy where somebody is about to, and may have to take it back.
        """
        if self.staging.unsynced.by_others(finished.path.parent, finished.path.name):
            raise Busy()
        try:
            with self.tree.reach(finished.path.parent, make=False) as folder:
                with self.tree.opened(folder, finished.path.name, finished.facts) as fd:
                    if fd is None:
                        return False
                    sync(fd)
                self.tree.sync_folder(folder)
                return True
        except (FileNotFoundError, BadName):
            return False

    def dress(self, fd: int, offer: Offer) -> None:
        """Give a complete file its time; it is synced afterwards.

        And not with fdatasync, which may leave that behind: the mtime is what tells after a
        power cut that this is the file of that offer.
        """
        mtime = usable_mtime(offer.mtime_ns)
        if mtime is not None:
            os.utime(fd, ns=(mtime, mtime))

    def ready(self, fd: int, offer: Offer) -> None:
        """Give a complete part its attributes and make it durable."""
        os.fchmod(fd, mode_of(offer.executable) & ~self.umask)
        self.dress(fd, offer)
        sync(fd)

    def publish(
        self,
        key: str,
        remembered: SafePath | None,
        offer: Offer,
        path: SafePath,
        conflict: Conflict,
        digest: str,
    ) -> Stored:
        """Name, durability, receipt and clearing up of a part that is ``ready``.

        ``remembered`` is what ``recall`` gave for its key.

        Whatever is raised, the part is as it was, or the file has its name and
        lacks its receipt, which the next attempt at it makes good.
        """
        stored = self.found_again(remembered, offer, path, digest)
        if stored is None:
            wanted = Wanted(offer.size, digest, usable_mtime(offer.mtime_ns))
            with (
                self.tree.reach(path.parent) as folder,
                self.staging.unsynced.placing(path.parent) as names,
            ):
                names.add(path.name)
                placed = self.tree.place(
                    folder, self.staging.fd, staged(key), path.name, conflict, wanted
                )
                names.add(placed.name)
                unsynced = self.staging.unsynced
                if placed.already and unsynced.by_others(path.parent, placed.name, names):
                    raise Busy()
                try:
                    self.tree.sync_folder(folder)
                except SyncFailed:
                    self.tree.withdraw(folder, self.staging.fd, staged(key), placed)
                    raise
            name = "/".join((*path.parent, placed.name))
            stored = Stored(name, offer.size, placed.digest, placed.already)
        try:
            if remembered is not None or not told_by_name(offer, path, stored):
                self.remember({key: stored})
        finally:
            self.clear(key)
        return stored

    def clear(self, key: str) -> None:
        """Take a part's name away once the file is safe; if that fails it is for ``tidy`` to do."""
        with suppress(OSError):
            self.staging.remove(key)

    def found_again(
        self, remembered: SafePath | None, offer: Offer, path: SafePath, digest: str
    ) -> Stored | None:
        """The same content under the name it was given last time, which may not be ``path``.

        Without this a lost answer makes a second copy of a file that had to be renamed.
        """
        if remembered is None or remembered == path:
            return None
        finished = self.finished(remembered, offer, path)
        if finished is None or self.digest(finished) != digest or not self.confirm(finished):
            return None
        return Stored(str(finished.path), offer.size, digest, already=True)

    def remember(self, published: Mapping[str, Stored]) -> None:
        """Make the receipts durable; without a durable memory nothing may be acknowledged."""
        if self.receipts is not None and published:
            self.receipts.remember(published)
