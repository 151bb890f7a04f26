"""The one door to disk: names, part files, commit (docs/protocol.rst, "Received").

``names`` turns what a peer wrote into a ``SafePath``, the only kind of path a
store accepts.  ``local`` keeps files below one folder, ``memory`` keeps them
in a dictionary; both meet the interface below and pass the same tests.
``sources`` and ``walks`` read what is to be sent.

A shared folder is looked into and changed as well: ``shares`` is one of this device,
``volumes`` any other, such as those of ``memory_volume``, ``remote``, ``sftp`` and ``objects``,
into which ``spooled`` puts files.

Behind ``local``: ``tree`` is the folder and its names, ``staging`` the part
files (``wholes`` those that come in one piece), ``publishing`` the way from one to the
other (``unsynced`` the names on it), ``parts`` and ``batches`` (of what is ``arriving``) the
two ways in.

Everything here blocks and nothing here knows a reactor: floor 4 calls it from
its disk threads.  A store may be used from several threads at once, a part
from one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lanxfer.errors import LanxferError
from lanxfer.transfers import Conflict, Offer, Stored

if TYPE_CHECKING:
    from lanxfer.storage.names import SafePath
    from lanxfer.storage.volumes import Volume


class Small(NamedTuple):
    """A whole file in memory, ready to be stored in one go.

    ``whose`` it is makes its ``key``, as for ``Store.open_part``; ``offer.digest`` must be set.
    The ``pieces`` of the file may be something else as soon as ``put_many`` has returned.
    """

    whose: str
    offer: Offer
    path: SafePath
    conflict: Conflict
    pieces: Sequence[bytes | memoryview]

    @property
    def key(self) -> str:
        """What it is remembered by, made when it is asked for."""
        from lanxfer.storage.names import part_key  # of which those who only send know nothing

        offer = self.offer
        return part_key(self.whose, offer.path, offer.size, offer.mtime_ns)

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(map(len, self.pieces))


class Facts(NamedTuple):
    """What lies at a name: ``kind`` is "file", "folder", "link" or "other"."""

    kind: str
    size: int
    mtime_ns: int


class Receipts(Protocol):
    """The durable memory of what was published, so that a lost answer makes no second copy.

    Of what is not found again by its own name and time, that is.
    """

    def any(self) -> bool:
        """Whether there may be any at all."""

    def recall(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        """What was published under these keys; those under which nothing was are missing."""

    def remember(self, published: Mapping[str, Stored]) -> None:
        """Keep these; durable when this returns."""


class Part(Protocol):
    """The receiving end of one file.

    The order of calls: ``have`` (if wanted), ``begin``, any number of
    ``write``, then ``publish``, ``keep`` or ``discard``; the last three close
    it, and closing twice is fine.
    """

    @property
    def position(self) -> int:
        """Bytes of the file that are in place; the next write goes here."""

    @property
    def held(self) -> int:
        """Bytes that were there when the part was opened, unproved."""

    def have(self) -> tuple[tuple[int, str], ...]:
        """(offset, BLAKE3 hex of all before it), largest offset first; reads what it digests.

        At the end of what is held and, unless this very store saw it written,
        16, 32, 64 ... MiB before it, for the end may be damaged.  Where the
        finished file is there already (same name or remembered name, same size
        and mtime), the first entry is (size, its digest).
        """

    def begin(self, offset: int, proved: bool = True) -> None:
        """Start at ``offset``, forgetting what lies behind it.

        Raises BadOffset unless it is 0, or one that ``have`` gave, or
        (``proved`` False: the ae rule, nothing was compared) exactly ``held``.
        """

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Append and digest; every 16 MiB, and every 2 s, make it durable.

        Never beyond the offered size (BadOffset).  After any other error
        ``position`` says what is in place, and the part can be kept.
        """

    def publish(self, digest: str | None) -> Stored:
        """Verify size and digest, make durable, give it its final name, say where.

        Raises ShortBody (part kept), DigestMismatch (part discarded), Exists
        (policy), DiskFull and the like (part kept), DiskFailed where a sync
        failed (part discarded).  With ``digest`` None only the size is
        compared.  The part is closed in every case.
        """

    def keep(self) -> None:
        """Close; what is there may be resumed."""

    def discard(self) -> None:
        """Close and remove."""


class Store(Protocol):
    """A place where files are kept."""

    @property
    def volume(self) -> Volume | None:
        """What everything but the writing of a part waits for; None where that is a disk."""

    @property
    def quick(self) -> bool:
        """Whether it is so quick that many small files are better stored by one thread alone.

        Several would only take the interpreter from one another.
        """

    def open_part(self, key: str, offer: Offer, path: SafePath, conflict: Conflict) -> Part:
        """One writer a key (Busy); nothing is created before ``begin``.

        ``key`` names the transfer: 32 lower-case hex digits, see ``names.part_key``.
        Raises DiskFull where the rest of ``offer.size`` does not fit above the reserve,
        Exists where the policy refuses already now.
        """

    def put_many(self, files: Sequence[Small]) -> list[Stored | LanxferError]:
        """Store whole small files, each by itself, with one sync for all; in the order given.

        Busy for one that somebody else stores just now, where that could make two of it.
        """

    def make_folder(self, path: SafePath) -> Stored:
        """Make a folder and those above it; one that is there is fine."""

    def make_link(self, path: SafePath, target: str, conflict: Conflict) -> Stored:
        """Make a relative symbolic link whose target stays inside; BadName if it does not.

        Like a file it is not made twice, and the policy decides if the name is taken.
        """

    def look(self, path: SafePath) -> Facts | None:
        """What is at that name, links not followed."""

    def free(self) -> int:
        """Bytes that may still be written, the reserve taken off."""

    def holds(self, key: str) -> bool:
        """Whether there is a part of that key; it proves nothing."""

    def forget(self, key: str) -> None:
        """Remove the part of that key, if there is one and nobody writes it."""

    def tidy(self, older_than: float) -> int:
        """Finish what a crash left, remove parts untouched for so many seconds; how many."""

    def weaknesses(self) -> tuple[str, ...]:
        """Sentences about promises this place cannot keep; empty where all is well."""

    def close(self) -> None:
        """Let go of the place."""
