"""What must hold at the receiver, whatever was done to the two sides (invariants I1 to I4)."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field, frozen
from blake3 import blake3

from chaos.figures import Figures
from lanxfer.storage.names import renamed

STAGING = ".lanxfer-staging"

KINDS = ("lost", "damaged", "doubled", "left over")


def digest(path: Path) -> str:
    """The BLAKE3 of a file."""
    return blake3(path.read_bytes()).hexdigest()


@frozen
class Tree:
    """A folder that is sent, and what its files are to be in the end.

    ``wanted`` has the names below the inbox where nothing else goes wrong;
    ``before`` is what somebody else had put there, which must stay as it is.
    """

    path: Path
    wanted: Mapping[str, str]
    before: Mapping[str, str] = field(factory=dict)

    @classmethod
    def make(
        cls, rng: random.Random, path: Path, sizes: list[int], inbox: Path, taken: int = 0
    ) -> Tree:
        """Files of these sizes in a few folders; the first ``taken`` names are taken there."""
        wanted, before = {}, {}
        for number, size in enumerate(sizes):
            below = rng.choice(("", "a/", "a/b/"))
            name = f"{path.name}/{below}{number}.bin"
            local = path.parent / name
            local.parent.mkdir(parents=True, exist_ok=True)
            data = rng.randbytes(size)
            local.write_bytes(data)
            wanted[name] = blake3(data).hexdigest()
            if number < taken:
                other = inbox / name
                other.parent.mkdir(parents=True, exist_ok=True)
                other.write_bytes(b"somebody else's " + data[: size // 2])
                before[name] = digest(other)
        for name in before:
            above, _, last = name.rpartition("/")
            wanted[f"{above}/{renamed(last, 2)}"] = wanted.pop(name)
        return cls(path, wanted, before)

    def clear(self, inbox: Path) -> None:
        """Take both ends of it away."""
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.rmtree(inbox / self.path.name, ignore_errors=True)


def files_below(inbox: Path) -> dict[str, Path]:
    """Every file that has a final name."""
    found = {}
    for above, folders, names in os.walk(inbox):
        if STAGING in folders:
            folders.remove(STAGING)
        for name in names:
            path = Path(above, name)
            found[str(path.relative_to(inbox))] = path
    return found


@define
class Verdict:
    """Complaints, by their kind."""

    found: dict[str, list[str]] = field(factory=lambda: {kind: [] for kind in KINDS})

    def complain(self, kind: str, what: str) -> None:
        self.found[kind].append(what)

    def add(self, other: Verdict) -> None:
        for kind, complaints in other.found.items():
            self.found[kind].extend(complaints)

    def __len__(self) -> int:
        return sum(map(len, self.found.values()))

    def show(self, figures: Figures) -> None:
        """One figure a kind, and the first complaints."""
        for kind, complaints in self.found.items():
            figures.add(kind, len(complaints), "files", most=0)
            for each in complaints[:5]:
                print(f"  {kind}: {each}")

    def examine(self, inbox: Path, tree: Tree, acknowledged: Mapping[str, str], when: str) -> None:
        """At any moment: what was there and what was acknowledged is, and nothing is half there."""
        there = files_below(inbox)
        for known, what in ((tree.before, "was there before"), (acknowledged, "was acknowledged")):
            for name, wanted in known.items():
                if name not in there:
                    self.complain("lost", f"{name} {what}, {when}")
                elif digest(there[name]) != wanted:
                    self.complain("damaged", f"{name} {what}, {when}")
        for name, path in there.items():
            if not name.startswith(f"{tree.path.name}/") or name in tree.before:
                continue
            if name not in tree.wanted:
                self.complain("doubled", f"{name} is one too many, {when}")
            elif digest(path) != tree.wanted[name]:
                self.complain("damaged", f"{name} is not what was sent, {when}")

    def examine_end(self, inbox: Path, tree: Tree, parts: list[str], when: str) -> None:
        """After a run that went through: everything is there, and nothing else."""
        self.examine(inbox, tree, tree.wanted, when)
        for each in parts:
            self.complain("left over", f"{each}, {when}")
