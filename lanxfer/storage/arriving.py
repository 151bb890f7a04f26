"""A small file on its way from memory to its name, with others (``lanxfer.storage.batches``)."""

from __future__ import annotations

from lanxfer.errors import LanxferError
from lanxfer.storage import Small
from lanxfer.storage.rules import usable_mtime
from lanxfer.storage.system import SyncFailed, translated
from lanxfer.storage.tree import Placed, Wanted
from lanxfer.storage.wholes import NewFolder
from lanxfer.transfers import Stored


class Arriving:
    """What it is, and how far it came; ``end`` is what became of it.

    ``staged`` is its name in staging, or where it is ``inside`` of a folder there, in that, which
    is ``new``.
    """

    __slots__ = (
        *("end", "fd", "folder", "inside", "name", "new", "offer", "placed", "small"),
        "staged",
    )

    def __init__(self, small: Small) -> None:
        self.small = small
        self.staged = ""
        self.inside = False
        self.new: NewFolder | None = None
        self.offer = small.offer
        parts = small.path.parts
        self.folder, self.name = parts[:-1], parts[-1]
        self.fd = -1
        self.placed: Placed | None = None
        self.end: Stored | LanxferError | None = None

    @property
    def wanted(self) -> Wanted:
        offer = self.offer
        return Wanted(offer.size, offer.digest or "", usable_mtime(offer.mtime_ns))

    def failed(self, error: OSError | SyncFailed | LanxferError) -> None:
        self.end = translated(error)

    def settled(self, placed: Placed) -> None:
        self.placed = placed
        name = "/".join((*self.folder, placed.name))
        self.end = Stored(name, self.offer.size, placed.digest, placed.already)

    def named(self) -> None:
        """It has the name that was wished for, which was free."""
        offer = self.offer
        self.end = Stored(self.small.path.text, offer.size, offer.digest or "")

    @property
    def told(self) -> bool:
        """Whether it needs no receipt, as most do not: see ``told_by_name``."""
        return self.placed is None and usable_mtime(self.offer.mtime_ns) is not None
