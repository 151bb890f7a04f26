"""Somebody else in the inbox at the worst moment: just before a file gets its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from lanxfer.errors import Exists, LanxferError
from lanxfer.storage import Small
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import part_key, safe_path
from lanxfer.transfers import Conflict, Offer, Stored

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no folder descriptors")

OURS = b"what was sent"
THEIRS = b"what somebody else put there"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    made = LocalStore(str(tmp_path / "inbox"), reserve_bytes=0, reserve_share=0.0)
    yield made
    made.close()


def as_part(store: LocalStore, conflict: Conflict) -> Stored:
    offer = Offer("x.txt", len(OURS))
    part = store.open_part(part_key("p", "x.txt", 1, None), offer, safe_path("x.txt"), conflict)
    part.begin(0)
    part.write([OURS])
    return part.publish(blake3(OURS).hexdigest())


def as_small(store: LocalStore, conflict: Conflict) -> Stored:
    offer = Offer("x.txt", len(OURS), digest=blake3(OURS).hexdigest())
    (answer,) = store.put_many([Small("p", offer, safe_path("x.txt"), conflict, [OURS])])
    if isinstance(answer, LanxferError):
        raise answer
    return answer


def appears(path: Path) -> None:
    path.write_bytes(THEIRS)


def is_linked(path: Path) -> None:
    (path.parent.parent / "outside").write_bytes(THEIRS)
    path.symlink_to(path.parent.parent / "outside")


def dangles(path: Path) -> None:
    path.symlink_to(path.parent.parent / "nowhere")


def is_a_pipe(path: Path) -> None:
    os.mkfifo(path)


WAYS = [as_part, as_small]
THINGS = [appears, is_linked, dangles, is_a_pipe]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("thing", THINGS)
class RaceTests:
    @pytest.fixture
    def there(
        self, thing: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> list[os.stat_result]:
        """Something takes the name at the moment at which it is about to be given."""
        path = tmp_path / "inbox" / "x.txt"
        link = os.link
        seen: list[os.stat_result] = []

        def late(*args: Any, **options: Any) -> None:
            if not seen:
                thing(path)
                seen.append(os.lstat(path))
            link(*args, **options)

        monkeypatch.setattr(os, "link", late)
        return seen

    def unhurt(self, tmp_path: Path, there: list[os.stat_result]) -> None:
        path = tmp_path / "inbox" / "x.txt"
        assert os.path.samestat(os.lstat(path), there[0])
        if path.is_file():
            assert path.read_bytes() == THEIRS
        assert not (tmp_path / "nowhere").exists()

    # covers: P15, P10, P14
    def test_renamed(
        self, way: Any, thing: Any, there: Any, store: LocalStore, tmp_path: Path
    ) -> None:
        """The file gets another name; what took the first is not touched."""
        assert way(store, Conflict.RENAME).path == "x (2).txt"
        assert (tmp_path / "inbox" / "x (2).txt").read_bytes() == OURS
        self.unhurt(tmp_path, there)

    # covers: P15
    @pytest.mark.parametrize("conflict", [Conflict.REFUSE, Conflict.SKIP])
    def test_refused(
        self,
        conflict: Conflict,
        way: Any,
        thing: Any,
        there: Any,
        store: LocalStore,
        tmp_path: Path,
    ) -> None:
        """Where no other name is wanted it is refused, and what is there is not touched."""
        if conflict is Conflict.REFUSE:
            with pytest.raises(Exists):
                way(store, conflict)
        else:
            way(store, conflict)  # left, or under another name, but never over it
        self.unhurt(tmp_path, there)

    # covers: P14, P15
    def test_only_files_are_overwritten(
        self, way: Any, thing: Any, there: Any, store: LocalStore, tmp_path: Path
    ) -> None:
        """Overwriting replaces a file that came late, and nothing that is no file."""
        if thing is appears:
            assert way(store, Conflict.OVERWRITE).path == "x.txt"
            assert (tmp_path / "inbox" / "x.txt").read_bytes() == OURS
            return
        with pytest.raises(Exists):
            way(store, Conflict.OVERWRITE)
        self.unhurt(tmp_path, there)
