"""Values that do not change: what is offered, what became of it, what a reader may see.

Mostly tuples, for there is one for every small file, and no other value is made as fast.
No behaviour that needs a disk, a clock or a socket lives here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import repeat
from typing import Any, NamedTuple, overload

from lanxfer.errors import LanxferError


class State(Enum):
    """Where a transfer is; the same words in the registry, the log, the wire and the docs."""

    OFFERED = "offered"
    WAITING = "waiting"  # for somebody's yes
    ACCEPTED = "accepted"
    MOVING = "moving"
    PAUSED = "paused"
    COMMITTING = "committing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    # There is one of each; Enum's own is slow, and every file asks for it.
    __hash__ = object.__hash__

    finished: bool
    """Whether nothing more happens to a transfer in this state."""

    def __init__(self, word: str) -> None:
        # Not looked up in a set each time: it is asked several times a file.
        self.finished = word in ("done", "failed", "cancelled", "interrupted")


class Direction(Enum):
    """Which way the bytes go, seen from this device."""

    IN = "in"
    OUT = "out"

    __hash__ = object.__hash__


class Kind(Enum):
    """What a transfer carries."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    MESSAGE = "message"
    JOB = "job"  # a run of one, in the history only

    __hash__ = object.__hash__


class Conflict(Enum):
    """What happens when the name is taken by something with other content.

    A file that is there already with the same content is never stored twice,
    whatever is chosen here.
    """

    RENAME = "rename"  # stored as "name (2).ext"
    SKIP = "skip"  # kept as it is if size and mtime agree, else renamed
    OVERWRITE = "overwrite"
    REFUSE = "refuse"
    SERIES = "series"  # always a new numbered name, "name 01.ext"


class Offer(NamedTuple):
    """What a sender says of one file, folder, link or message before its bytes.

    ``path`` is as the peer wrote it, with ``/`` between components; only
    ``lanxfer.storage.names`` turns it into something the disk accepts.
    ``size`` in bytes (of a message: bytes of UTF-8).  ``mtime_ns`` is None
    where the sender does not know it.  ``digest`` is BLAKE3 in lower-case hex,
    None where it comes with the end of the body.
    """

    path: str
    size: int
    kind: Kind = Kind.FILE
    mtime_ns: int | None = None
    digest: str | None = None
    executable: bool = False
    conflict: Conflict | None = None
    target: str | None = None  # of a link


class Entry(NamedTuple):
    """One thing that was found.

    ``path`` is the name for the wire, ``local`` where it is here.  With
    ``error`` it cannot be sent; ``skipped`` says why it is not, and neither is
    an entry's fault that the others are sent.  ``target`` is where a link points.
    ``shared`` says that the path begins with the name of a shared folder there.
    """

    kind: Kind
    path: str
    local: str
    size: int = 0
    mtime_ns: int | None = None
    target: str | None = None
    executable: bool = False
    error: LanxferError | None = None
    skipped: str = ""
    shared: bool = False

    @property
    def readable(self) -> bool:
        """Whether it is a file with bytes to send, as far as that was found."""
        return self.kind is Kind.FILE and self.error is None and not self.skipped


class Stored(NamedTuple):
    """The receiver's word that something is safely on its disk.

    ``path`` is the final name below the inbox, with ``/``; ``already`` says
    that the same content had been there before and nothing was written.
    """

    path: str
    size: int
    digest: str
    already: bool = False


class Receipt(NamedTuple):
    """What a sender may rely on: said by the receiver after its disk had it.

    ``stored`` is the name there, ``size`` in bytes, ``digest`` BLAKE3 in hex
    (empty where the dialect has none, as with ae peers), ``resumed_from`` the
    offset this run began at.  ``literal`` is the line that an ae device said it in, for
    controllers that expect that line.
    """

    stored: str
    size: int
    digest: str
    already: bool = False
    resumed_from: int = 0
    literal: Mapping[str, Any] | None = None


class Snapshot(NamedTuple):
    """One transfer as it was at one moment; safe to keep and to pass on.

    ``done`` counts bytes that are safe on this side of it, ``peer`` is the
    principal on the other end, ``started`` and ``changed`` are seconds since
    the epoch, ``already`` says that nothing had to be written, ``clear`` that bytes of it
    went where everyone on the wire can read them, though nobody change them unnoticed.
    """

    id: str
    direction: Direction
    kind: Kind
    peer: str
    path: str
    size: int
    state: State
    done: int = 0
    stored: str = ""
    digest: str = ""
    code: str = ""
    reason: str = ""
    request: str = ""
    started: float = 0.0
    changed: float = 0.0
    secure: bool = True
    group: str = ""
    already: bool = False
    clear: bool = False

    @property
    def counts(self) -> bool:
        """Whether that is one more file on this disk, and so counts against a quota."""
        received = self.direction is Direction.IN and self.kind is Kind.FILE
        return received and self.state is State.DONE and not self.already


class Together(Sequence[Snapshot]):
    """Files of one pack that arrived, each as it was offered: a snapshot of each.

    Kept as columns, for there may be ten thousand in a second, and most of those who hear of
    them want sums.  ``common`` is what all have in common; its id is the pack's, and a file's
    own has its number in the pack behind that, as in ``1a2b3c4d-17``.
    """

    def __init__(
        self,
        common: Snapshot,
        numbers: Sequence[int],
        paths: Sequence[str],
        sizes: Sequence[int],
        digests: Sequence[str],
    ) -> None:
        self.common = common
        self.numbers = numbers
        self.paths = paths
        self.sizes = sizes
        self.digests = digests
        self._all: list[Snapshot] = []

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, at: int) -> Snapshot: ...

    @overload
    def __getitem__(self, at: slice) -> list[Snapshot]: ...

    def __getitem__(self, at: int | slice) -> Snapshot | list[Snapshot]:
        return self._made()[at]

    def __iter__(self) -> Iterator[Snapshot]:
        return iter(self._made())

    def _made(self) -> list[Snapshot]:
        if not self._all:
            id, direction, kind, peer, _, _, state, *_ = self.common
            self._all = list(
                map(
                    Snapshot,
                    (f"{id}-{number}" for number in self.numbers),
                    *map(repeat, (direction, kind, peer)),
                    self.paths,
                    self.sizes,
                    repeat(state),
                    self.sizes,
                    self.paths,
                    self.digests,
                    *map(repeat, self.common[10:]),
                )
            )
        return self._all


class Usage(NamedTuple):
    """What was received from one principal since its owner began to count: files, and bytes."""

    files: int = 0
    bytes: int = 0

    def plus(self, more: Usage) -> Usage:
        return Usage(self.files + more.files, self.bytes + more.bytes)


def used_by(ended: Iterable[Snapshot | Together]) -> dict[str, Usage]:
    """What each principal has sent with these."""
    sizes: dict[str, list[int]] = {}
    for each in ended:
        if isinstance(each, Together):
            if each.common.counts:
                sizes.setdefault(each.common.peer, []).extend(each.sizes)
        elif each.counts:
            sizes.setdefault(each.peer, []).append(each.size)
    return {peer: Usage(len(some), sum(some)) for peer, some in sizes.items()}


def as_row(snapshot: Snapshot) -> dict[str, int | str | bool]:
    """A snapshot as plain values, for packets, journals and ``--json``; times in milliseconds."""
    return {
        "id": snapshot.id,
        "direction": snapshot.direction.value,
        "kind": snapshot.kind.value,
        "peer": snapshot.peer,
        "path": snapshot.path,
        "size": snapshot.size,
        "state": snapshot.state.value,
        "done": snapshot.done,
        "stored": snapshot.stored,
        "blake3": snapshot.digest,
        "code": snapshot.code,
        "reason": snapshot.reason,
        "request": snapshot.request,
        "started_ms": int(snapshot.started * 1000),
        "changed_ms": int(snapshot.changed * 1000),
        "secure": snapshot.secure,
        "group": snapshot.group,
        **({"clear": True} if snapshot.clear else {}),
    }
