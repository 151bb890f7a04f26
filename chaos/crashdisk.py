"""What a disk may hold after a power cut, given what was asked of it before.

The model, which is harsher than any one file system:

- Only what was synced is sure.  ``fsync`` and ``fdatasync`` of a file make its
  bytes and its length sure, ``fsync`` of a folder the names in it, and neither
  does anything for the other: not even for the name of a new file.
- Of all writes to a file since its last sync any may be there, wholly or by
  sectors of 512 bytes, in any order; its length may have grown without them,
  and there are zeros then.
- Of all changes of names since the last sync of their folder any may be there,
  in any order.  A single rename is whole or not at all, until one of its two
  folders is synced; then the other half still may be missing.
- Modes and times since the last ``fsync`` may be lost.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from attrs import define, field, frozen

SECTOR = 512


@frozen
class Made:
    """A file, folder or link came to be, under a name; ``target`` is a link's."""

    folder: int
    name: str
    node: int
    kind: str
    target: str = ""


@frozen
class Written:
    """Bytes of a file."""

    node: int
    offset: int
    data: bytes


@frozen
class Cut:
    """A file has another length."""

    node: int
    size: int


@frozen
class Attributes:
    """A file has another mode or time; None stays."""

    node: int
    mode: int | None
    mtime_ns: int | None


@frozen
class Named:
    """Names changed together: (folder, name, node or None for gone)."""

    changes: tuple[tuple[int, str, int | None], ...]


@frozen
class Synced:
    """A file or folder was made durable; without ``all`` not its mode and time."""

    node: int
    all: bool = True


@frozen
class SyncedAll:
    """The whole file system was made durable (syncfs)."""


@frozen
class Said:
    """The service said that a file of that digest is there, under that name."""

    stored: str
    digest: str


Operation = Made | Written | Cut | Attributes | Named | Synced | SyncedAll | Said


class Luck(Enum):
    """What became of all that was not synced."""

    NOTHING = "nothing of it is there"
    ALL = "all of it is there"
    NAMES = "names without bytes"
    BYTES = "bytes without names"
    ANY = "any of it"


@define
class _Node:
    kind: str
    target: str = ""
    durable: bytes = b""
    pending: list[Written | Cut] = field(factory=list)
    mode: int = 0o600
    mtime_ns: int | None = None
    attributes: list[Attributes] = field(factory=list)
    names: dict[str, int] = field(factory=dict)


@define
class CrashDisk:
    """The state of the disk while operations are asked of it; ``image`` is what a cut leaves."""

    nodes: dict[int, _Node] = field(factory=dict)
    unsure: list[Named] = field(factory=list)

    @classmethod
    def load(cls, roots: Iterable[Path]) -> CrashDisk:
        """What is there now, all of it durable."""
        disk = cls()
        for root in roots:
            disk._load(root)
        return disk

    def _load(self, path: Path) -> int:
        found = path.lstat()
        node = self.nodes[found.st_ino] = _Node("file", mode=found.st_mode & 0o7777)
        node.mtime_ns = found.st_mtime_ns
        if path.is_symlink():
            node.kind, node.target = "link", os.readlink(path)
        elif path.is_dir():
            node.kind = "folder"
            for each in path.iterdir():
                node.names[each.name] = self._load(each)
        else:
            node.durable = path.read_bytes()
        return found.st_ino

    def apply(self, operation: Operation) -> None:
        """One more operation."""
        match operation:
            case Made(folder, name, node, kind, target):
                # An inode's number may be given again; the old one is out of reach then.
                self.nodes[node] = _Node(kind, target, mode=0o700 if kind == "folder" else 0o600)
                self.unsure.append(Named(((folder, name, node),)))
            case Named():
                self.unsure.append(operation)
            case Written(node) | Cut(node):
                self.nodes[node].pending.append(operation)
            case Attributes(node):
                self.nodes[node].attributes.append(operation)
            case Synced(number, everything):
                self._sync(number, everything)
            case SyncedAll():
                for number in list(self.nodes):
                    self._sync(number, True)

    def _sync(self, number: int, everything: bool) -> None:
        node = self.nodes[number]
        node.durable = _written(node.durable, node.pending)
        node.pending = []
        if everything:
            for each in node.attributes:
                _set(node, each)
            node.attributes = []
        still = []
        for named in self.unsure:
            for change in named.changes:
                if change[0] == number:
                    _name(node.names, change[1], change[2])
            rest = tuple(each for each in named.changes if each[0] != number)
            if rest:
                still.append(Named(rest))
        self.unsure = still

    def image(self, rng: random.Random, luck: Luck, roots: dict[int, Path]) -> None:
        """Write one of the disks that a cut now may leave, each root at its path."""
        names = {number: dict(node.names) for number, node in self.nodes.items()}
        for named in self.unsure:
            if luck in (Luck.ALL, Luck.NAMES) or (luck is Luck.ANY and rng.random() < 0.5):
                for folder, name, node in named.changes:
                    _name(names[folder], name, node)
        made: dict[int, Path] = {}
        for number, path in roots.items():
            self._write(rng, luck, number, path, names, made)

    def _write(
        self,
        rng: random.Random,
        luck: Luck,
        number: int,
        path: Path,
        names: dict[int, dict[str, int]],
        made: dict[int, Path],
    ) -> None:
        node = self.nodes[number]
        if node.kind == "folder":
            path.mkdir(mode=0o700, parents=True)
            for name, below in names[number].items():
                self._write(rng, luck, below, path / name, names, made)
        elif node.kind == "link":
            path.symlink_to(node.target)
        elif number in made:
            os.link(made[number], path)
        else:
            made[number] = path
            path.write_bytes(self._bytes(rng, luck, node))
            now = _Node("file", mode=node.mode, mtime_ns=node.mtime_ns)
            for each in node.attributes:
                if luck in (Luck.ALL, Luck.BYTES) or (luck is Luck.ANY and rng.random() < 0.5):
                    _set(now, each)
            if now.mtime_ns is not None:
                os.utime(path, ns=(now.mtime_ns, now.mtime_ns))
            path.chmod(now.mode)

    def _bytes(self, rng: random.Random, luck: Luck, node: _Node) -> bytes:
        if luck is Luck.NOTHING or not node.pending:
            return node.durable
        if luck in (Luck.ALL, Luck.BYTES):
            return _written(node.durable, node.pending)
        kept: list[Written | Cut] = []
        if luck is Luck.ANY:
            for each in node.pending:
                kept += _pieces(rng, each)
            rng.shuffle(kept)
        found = _written(node.durable, kept)
        if rng.random() < 0.5:
            # The length is there, and what should fill it is not.
            found = found.ljust(len(_written(node.durable, node.pending)), b"\0")
        return found


def _name(names: dict[str, int], name: str, node: int | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _set(node: _Node, change: Attributes) -> None:
    node.mode = node.mode if change.mode is None else change.mode
    node.mtime_ns = node.mtime_ns if change.mtime_ns is None else change.mtime_ns


def _written(before: bytes, changes: Iterable[Written | Cut]) -> bytes:
    found = bytearray(before)
    for each in changes:
        if isinstance(each, Cut):
            del found[each.size :]
            found.extend(bytes(each.size - len(found)))
        else:
            found.extend(bytes(max(0, each.offset - len(found))))
            found[each.offset : each.offset + len(each.data)] = each.data
    return bytes(found)


def _pieces(rng: random.Random, change: Written | Cut) -> list[Written | Cut]:
    """What of one change is there: all, nothing, or some of its sectors."""
    chance = rng.random()
    if chance < 0.35 or isinstance(change, Cut):
        return [change] if chance < 0.5 else []
    if chance < 0.6:
        return []
    found: list[Written | Cut] = []
    at, end = 0, len(change.data)
    while at < end:
        size = min(end - at, SECTOR - (change.offset + at) % SECTOR)
        if rng.random() < 0.5:
            found.append(Written(change.node, change.offset + at, change.data[at : at + size]))
        at += size
    return found
