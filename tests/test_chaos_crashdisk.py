"""The model of a disk after a power cut: what is sure is there, and all else may be missing."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.crashdisk import (
    Attributes,
    CrashDisk,
    Cut,
    Luck,
    Made,
    Named,
    Operation,
    Synced,
    Written,
)

ROOT, FILE, FOLDER = 1, 10, 20
TRIES = 60


@pytest.fixture
def outcomes(tmp_path: Path) -> Callable[..., set[tuple[tuple[str, bytes | None], ...]]]:
    """All disks that are found after these operations: (path, bytes or None for a folder)."""

    def find(*operations: Operation) -> set[tuple[tuple[str, bytes | None], ...]]:
        (tmp_path / "start").mkdir(exist_ok=True)
        disk = CrashDisk.load([tmp_path / "start"])
        disk.nodes[ROOT] = disk.nodes.pop((tmp_path / "start").stat().st_ino)
        for each in operations:
            disk.apply(each)
        rng = random.Random(1)
        found = set()
        for number in range(TRIES):
            image = tmp_path / f"image-{len(os.listdir(tmp_path))}-{number}"
            disk.image(rng, rng.choice(list(Luck)), {ROOT: image})
            found.add(
                tuple(
                    (str(each.relative_to(image)), each.read_bytes() if each.is_file() else None)
                    for each in sorted(image.rglob("*"))
                )
            )
        return found

    return find


NEW = (Made(ROOT, "a", FILE, "file"), Written(FILE, 0, b"bytes"))


class CrashDiskTests:
    def test_nothing_is_sure(self, outcomes: Callable[..., set[object]]) -> None:
        """Without a sync a file may be missing, empty, full of zeros, or there."""
        found = outcomes(*NEW)
        assert {(), (("a", b""),), (("a", bytes(5)),), (("a", b"bytes"),)} <= found

    def test_bytes_do_not_make_a_name(self, outcomes: Callable[..., set[object]]) -> None:
        """Syncing a new file does not make its name sure; if it is there, so are its bytes."""
        assert outcomes(*NEW, Synced(FILE)) == {(), (("a", b"bytes"),)}

    def test_a_name_does_not_make_bytes(self, outcomes: Callable[..., set[object]]) -> None:
        """Syncing a folder makes names sure, and no bytes."""
        found = outcomes(*NEW, Synced(ROOT))
        assert () not in found
        assert (("a", b""),) in found

    def test_both_are_sure(self, outcomes: Callable[..., set[object]]) -> None:
        """Synced, both of them, it is there."""
        assert outcomes(*NEW, Synced(FILE, False), Synced(ROOT)) == {(("a", b"bytes"),)}

    def test_folder_in_a_folder(self, outcomes: Callable[..., set[object]]) -> None:
        """A folder that is not sure takes with it what is sure in it."""
        below = (Made(ROOT, "d", FOLDER, "folder"), Made(FOLDER, "a", FILE, "file"))
        assert () in outcomes(*below, Synced(FILE), Synced(FOLDER))
        assert outcomes(*below, Synced(FILE), Synced(FOLDER), Synced(ROOT)) == {
            (("d", None), ("d/a", b""))
        }

    def test_rename(self, outcomes: Callable[..., set[object]]) -> None:
        """A rename in one folder is whole or not at all."""
        safe = (*NEW, Synced(FILE), Synced(ROOT))
        renamed = Named(((ROOT, "a", None), (ROOT, "b", FILE)))
        assert outcomes(*safe, renamed) == {(("a", b"bytes"),), (("b", b"bytes"),)}
        assert outcomes(*safe, renamed, Synced(ROOT)) == {(("b", b"bytes"),)}

    def test_link_and_unlink(self, outcomes: Callable[..., set[object]]) -> None:
        """Changes of names come in any order: the old one may go before the new one is there."""
        safe = (*NEW, Synced(FILE), Synced(ROOT))
        moved = (Named(((ROOT, "b", FILE),)), Named(((ROOT, "a", None),)))
        assert () in outcomes(*safe, *moved)
        assert () not in outcomes(*safe, moved[0], Synced(ROOT), moved[1])

    def test_lengths(self, outcomes: Callable[..., set[object]]) -> None:
        """A change of length is lost or there, and sure once synced."""
        safe = (*NEW, Synced(FILE), Synced(ROOT))
        assert outcomes(*safe, Cut(FILE, 2)) >= {(("a", b"bytes"),), (("a", b"by"),)}
        assert outcomes(*safe, Cut(FILE, 2), Synced(FILE)) == {(("a", b"by"),)}

    def test_sectors(self, outcomes: Callable[..., set[object]]) -> None:
        """A long write may be there in parts."""
        safe = (*NEW, Synced(FILE), Synced(ROOT))
        found = outcomes(*safe, Written(FILE, 0, b"x" * 2048))
        assert any(b"x" in data and b"\0" in data for ((_, data),) in found)

    @pytest.mark.parametrize("everything", [True, False])
    def test_attributes(self, tmp_path: Path, everything: bool) -> None:
        """Mode and time are made sure by a sync of everything only."""
        (tmp_path / "start").mkdir()
        (tmp_path / "start" / "a").write_bytes(b"x")
        disk = CrashDisk.load([tmp_path / "start"])
        root, node = (each.stat().st_ino for each in (tmp_path / "start", tmp_path / "start" / "a"))
        disk.apply(Attributes(node, None, 10**18))
        disk.apply(Synced(node, everything))
        disk.image(random.Random(1), Luck.NOTHING, {root: tmp_path / "image"})
        assert ((tmp_path / "image" / "a").stat().st_mtime_ns == 10**18) is everything
