"""What the chaos commands complain about, and that they complain about nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from chaos.proof import Tree, Verdict


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Three files that were all received, one of them under another name."""
    inbox = tmp_path / "inbox"
    tree = Tree.make(random.Random(1), tmp_path / "tree", [10, 20, 30], inbox, taken=1)
    for number, name in enumerate(sorted(tree.wanted, key=lambda name: "(2)" not in name)):
        there = inbox / name
        there.parent.mkdir(parents=True, exist_ok=True)
        (source,) = tree.path.rglob(f"{number}.bin")
        there.write_bytes(source.read_bytes())
    return tree


def judged(tree: Tree, tmp_path: Path, parts: list[str] | None = None) -> dict[str, int]:
    verdict = Verdict()
    verdict.examine_end(tmp_path / "inbox", tree, parts or [], "now")
    return {kind: len(found) for kind, found in verdict.found.items() if found}


class VerdictTests:
    def test_all_is_well(self, tree: Tree, tmp_path: Path) -> None:
        """Everything is there once, and what was there before as well."""
        assert judged(tree, tmp_path) == {}

    def test_lost(self, tree: Tree, tmp_path: Path) -> None:
        """A file that was to be there is not; nor is one that was there before."""
        for name in (next(iter(tree.before)), next(reversed(tree.wanted))):
            (tmp_path / "inbox" / name).unlink()
        assert judged(tree, tmp_path) == {"lost": 2}

    def test_damaged(self, tree: Tree, tmp_path: Path) -> None:
        """A file has other bytes, acknowledged or not."""
        for name in (next(iter(tree.before)), next(reversed(tree.wanted))):
            (tmp_path / "inbox" / name).write_bytes(b"other")
        assert judged(tree, tmp_path) == {"damaged": 3}
        verdict = Verdict()
        verdict.examine(tmp_path / "inbox", tree, {}, "now")
        assert len(verdict.found["damaged"]) == 2

    def test_doubled(self, tree: Tree, tmp_path: Path) -> None:
        """A file is there a second time."""
        name = next(reversed(tree.wanted))
        (tmp_path / "inbox" / name.replace(".bin", " (2).bin")).write_bytes(b"x")
        assert judged(tree, tmp_path) == {"doubled": 1}

    def test_left_over(self, tree: Tree, tmp_path: Path) -> None:
        """A part file stays behind."""
        assert judged(tree, tmp_path, ["a.part"]) == {"left over": 1}

    def test_staging_is_not_received(self, tree: Tree, tmp_path: Path) -> None:
        """What has no final name is no file yet."""
        staging = tmp_path / "inbox" / ".lanxfer-staging"
        staging.mkdir()
        (staging / "x").write_bytes(b"x")
        assert judged(tree, tmp_path) == {}
