"""What every store promises, over the disk and over memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pytest
from attrs import define, field
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.errors import (
    BadName,
    BadOffset,
    Busy,
    DigestMismatch,
    DiskFailed,
    DiskFull,
    Exists,
    LanxferError,
    QuotaExceeded,
    ShortBody,
)
from lanxfer.storage import Small, Store
from lanxfer.storage.local import LocalStore
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.names import part_key, safe_path
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

MTIME = 1_700_000_000_123_456_789
MIB = limits.MIB


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


@define(slots=False)
class Memory:
    """Receipts in a dictionary that checks what it is given."""

    kept: dict[str, Stored] = field(factory=dict)
    error: LanxferError | None = None
    calls: int = 0

    def any(self) -> bool:
        return bool(self.kept)

    def recall(self, keys: Sequence[str]) -> Mapping[str, Stored]:
        assert all(len(key) == 32 for key in keys)
        return {key: self.kept[key] for key in keys if key in self.kept}

    def remember(self, published: Mapping[str, Stored]) -> None:
        assert published
        self.calls += 1
        if self.error is not None:
            raise self.error
        self.kept.update(published)


@define
class Place:
    """A store to be tested, and how its files are read without it."""

    store: Any
    receipts: Memory
    read: Callable[[str], bytes]
    names: Callable[[], set[str]]
    again: Callable[..., Any]
    move_away: Callable[[str], object]

    def key(self, path: str, size: int, mtime: int | None = MTIME, who: str = "peer:a") -> str:
        return part_key(who, path, size, mtime)

    def open(
        self,
        path: str,
        size: int,
        conflict: Conflict = Conflict.RENAME,
        mtime: int | None = MTIME,
        who: str = "peer:a",
    ) -> Any:
        offer = Offer(path, size, mtime_ns=mtime)
        key = self.key(path, size, mtime, who)
        return self.store.open_part(key, offer, safe_path(path), conflict)

    def put(self, path: str, data: bytes, *args: Any, **named: Any) -> Stored:
        part = self.open(path, len(data), *args, **named)
        try:
            part.begin(0)
            part.write([data])
            stored: Stored = part.publish(digest(data))
        finally:
            part.keep()
        return stored

    def small(
        self,
        path: str,
        data: bytes,
        conflict: Conflict = Conflict.RENAME,
        mtime: int | None = MTIME,
        who: str = "peer:a",
    ) -> Small:
        offer = Offer(path, len(data), mtime_ns=mtime, digest=digest(data))
        half = len(data) // 2
        pieces = [piece for piece in (data[:half], memoryview(data)[half:]) if piece]
        return Small(who, offer, safe_path(path), conflict, pieces)

    def put_small(self, path: str, data: bytes, *args: Any, **named: Any) -> Stored:
        (answer,) = self.store.put_many([self.small(path, data, *args, **named)])
        if isinstance(answer, LanxferError):
            raise answer
        assert isinstance(answer, Stored)
        return answer


Make: TypeAlias = Callable[..., Place]


def local_place(root: str, **settings: Any) -> Place:
    receipts = settings.pop("receipts", None) or Memory()
    capacity = settings.pop("capacity", None)
    store = LocalStore(root, receipts=receipts, reserve_bytes=0, reserve_share=0, **settings)
    if capacity is not None:
        store.free = lambda: max(0, capacity - used(root))  # type: ignore[method-assign]

    def read(path: str) -> bytes:
        with open(os.path.join(root, path), "rb") as file:
            return file.read()

    def again(**others: Any) -> Place:
        store.close()
        return local_place(root, receipts=receipts, **{**settings, **others})

    def move_away(path: str) -> None:
        os.unlink(os.path.join(root, path))

    return Place(store, receipts, read, lambda: local_names(root), again, move_away)


def used(root: str) -> int:
    return sum(
        os.path.getsize(os.path.join(above, name))
        for above, _, names in os.walk(root)
        for name in names
    )


def local_names(root: str) -> set[str]:
    return {
        os.path.relpath(os.path.join(above, name), root)
        for above, folders, names in os.walk(root)
        for name in names
        if ".lanxfer-staging" not in above
    }


def memory_place(**settings: Any) -> Place:
    receipts = settings.pop("receipts", None) or Memory()
    store = MemoryStore(receipts=receipts, **settings)

    def again(**others: Any) -> Place:
        assert not others
        names, read = store.files.keys, store.files.__getitem__
        return Place(store, receipts, read, lambda: set(names()), again, store.files.pop)

    return again()


@pytest.fixture(params=["local", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Make]:
    made: list[Place] = []

    def build(**settings: Any) -> Place:
        if request.param == "memory":
            place = memory_place(**settings)
        else:
            place = local_place(str(tmp_path / f"inbox{len(made)}"), **settings)
        made.append(place)
        return place

    yield build
    for place in made:
        place.store.close()


@pytest.fixture
def place(make: Make) -> Place:
    return make()


@pytest.fixture(params=["part", "small"])
def put(request: pytest.FixtureRequest, place: Place) -> Callable[..., Stored]:
    return place.put if request.param == "part" else place.put_small


def typed_store(store: LocalStore | MemoryStore) -> Store:
    """Both stores meet the interface; the type checker looks at this."""
    return store


class PublishTests:
    def test_whole(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file ends up under its name, with its size, digest and mtime."""
        data = b"some content"
        stored = put("notes/deep/a.txt", data)
        assert stored == Stored("notes/deep/a.txt", len(data), digest(data))
        assert place.read("notes/deep/a.txt") == data
        assert place.names() == {"notes/deep/a.txt"}
        facts = place.store.look(safe_path("notes/deep/a.txt"))
        assert (facts.kind, facts.size, facts.mtime_ns) == ("file", len(data), MTIME)

    def test_remembered(self, place: Place, put: Callable[..., Stored]) -> None:
        """What got another name than it asked for is remembered by it."""
        put("notes/a.txt", b"another")
        place.receipts.kept.clear()
        data = b"some content"
        stored = put("notes/a.txt", data)
        assert stored.path == "notes/a (2).txt"
        assert place.receipts.kept == {place.key("notes/a.txt", len(data)): stored}

    def test_not_remembered(self, place: Place) -> None:
        """A small file under its own name tells by itself that it was stored."""
        place.put_small("a", b"x")
        assert not place.receipts.kept
        assert place.put_small("a", b"x").already
        place.put_small("b", b"x", mtime=None)
        assert len(place.receipts.kept) == 1

    def test_remembered_once_more(self, place: Place) -> None:
        """A memory of another name does not outlive that name."""
        place.put_small("a", b"other")
        assert place.put_small("a", b"x").path == "a (2)"
        place.move_away("a")
        place.move_away("a (2)")
        assert place.put_small("a", b"x").path == "a"
        (stored,) = place.receipts.kept.values()
        assert stored.path == "a"

    # covers: S02
    def test_empty(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file without a byte is a file."""
        assert put("empty", b"").digest == digest(b"")
        assert place.read("empty") == b""
        assert put("empty", b"").already
        assert place.names() == {"empty"}

    def test_empty_without_begin(self, place: Place) -> None:
        """A file without a byte can be published at once."""
        part = place.open("empty", 0)
        part.write([])
        assert part.publish(None).size == 0
        assert place.read("empty") == b""

    def test_nothing_before_begin(self, place: Place) -> None:
        """Opening and keeping a part leaves nothing behind."""
        part = place.open("a", 5)
        assert (part.held, part.position, part.have()) == (0, 0, ())
        part.keep()
        assert place.names() == set()
        assert place.store.tidy(-1) == 0

    def test_begun_without_a_byte(self, place: Place) -> None:
        """A part that was begun and got no byte leaves nothing behind either."""
        part = place.open("a", 5)
        part.begin(0)
        part.keep()
        assert place.store.tidy(-1) == 0

    def test_in_pieces(self, place: Place) -> None:
        """Pieces of any size and kind add up."""
        data = bytes(range(256)) * 40
        part = place.open("a", len(data))
        part.begin(0)
        part.write([])
        part.write([b"", data[:1], memoryview(data)[1:300], b""])
        assert part.position == 300
        part.write([data[at : at + 1] for at in range(300, 1300)])
        part.write([data[1300:]])
        assert part.publish(digest(data)).digest == digest(data)
        assert place.read("a") == data

    # covers: S04, J10
    def test_never_more_than_announced(self, place: Place) -> None:
        """A byte too many is refused, and nothing of that write is kept."""
        part = place.open("a", 5)
        part.begin(0)
        part.write([b"abc"])
        with pytest.raises(BadOffset) as caught:
            part.write([b"d", b"ef"])
        assert caught.value.details["offset"] == 3
        assert part.position == 3
        part.write([b"de"])
        part.publish(digest(b"abcde"))
        assert place.read("a") == b"abcde"

    # covers: S03, J11
    def test_short(self, place: Place) -> None:
        """A file that lacks bytes is not published, and can be resumed."""
        part = place.open("a", 5)
        part.begin(0)
        part.write([b"abc"])
        with pytest.raises(ShortBody):
            part.publish(digest(b"abc"))
        assert place.names() == set()
        part = place.open("a", 5)
        assert part.have() == ((3, digest(b"abc")),)
        part.begin(3)
        part.write([b"de"])
        assert part.publish(digest(b"abcde")).digest == digest(b"abcde")
        assert place.read("a") == b"abcde"

    def test_short_without_begin(self, place: Place) -> None:
        """A part that was never begun is short, and stays closed."""
        part = place.open("a", 5)
        with pytest.raises(ShortBody):
            part.publish(None)
        part.discard()
        place.open("a", 5).keep()

    # covers: S05
    def test_wrong_digest(self, place: Place) -> None:
        """Wrong bytes are thrown away."""
        part = place.open("a", 3)
        part.begin(0)
        part.write([b"abc"])
        with pytest.raises(DigestMismatch):
            part.publish(digest(b"abd"))
        assert place.names() == set()
        assert place.open("a", 3).held == 0

    def test_no_digest(self, place: Place) -> None:
        """Where the dialect has no digest the size decides, and the receipt names what came."""
        part = place.open("a", 3)
        part.begin(0)
        part.write([b"abc"])
        assert part.publish(None) == Stored("a", 3, digest(b"abc"))

    # covers: C06, C07
    def test_ends_are_final(self, place: Place) -> None:
        """After one end the others change nothing, and nothing more can be written."""
        part = place.open("a", 3)
        part.begin(0)
        part.write([b"abc"])
        part.publish(None)
        part.discard()
        part.keep()
        late: list[Callable[[], object]] = [
            lambda: part.write([b"x"]),
            lambda: part.publish(None),
            lambda: part.begin(0),
        ]
        for call in late:
            with pytest.raises(DiskFailed):
                call()
        assert place.read("a") == b"abc"

    def test_discard(self, place: Place) -> None:
        """A discarded part is gone."""
        part = place.open("a", 3)
        part.begin(0)
        part.write([b"ab"])
        part.discard()
        assert place.open("a", 3).held == 0

    def test_writing_before_begin(self, place: Place) -> None:
        """No byte is taken before it is settled where it goes."""
        part = place.open("a", 3)
        with pytest.raises(BadOffset):
            part.write([b"a"])
        part.keep()


class ResumeTests:
    def held(self, place: Place, path: str, data: bytes, size: int) -> None:
        part = place.open(path, size)
        part.begin(0)
        part.write([data])
        part.keep()

    # covers: S06
    def test_offsets(self, place: Place) -> None:
        """Only offsets that were proved, or the whole of what is held, are begun at."""
        self.held(place, "a", b"abcdef", 10)
        part = place.open("a", 10)
        assert part.held == 6
        for offset in (6, 1, -1, 7, 10, 11):
            with pytest.raises(BadOffset) as caught:
                part.begin(offset)
            assert caught.value.details["offset"] == 6
        for offset in (5, 7):
            with pytest.raises(BadOffset):
                part.begin(offset, proved=False)
        assert part.have() == ((6, digest(b"abcdef")),)
        part.begin(6)
        assert part.position == 6
        part.keep()

    def test_unproved(self, place: Place) -> None:
        """What holds no proof goes on from the length, and the receipt has the digest of it all."""
        self.held(place, "a", b"abcdef", 10)
        part = place.open("a", 10)
        part.begin(part.held, proved=False)
        part.write([b"ghij"])
        assert part.publish(None).digest == digest(b"abcdefghij")

    def test_unproved_from_the_start(self, place: Place) -> None:
        """Beginning anew needs no proof."""
        self.held(place, "a", b"abcdef", 10)
        part = place.open("a", 10)
        part.begin(0, proved=False)
        part.write([b"0123456789"])
        assert part.publish(None).digest == digest(b"0123456789")

    # covers: J25
    def test_same_key_other_content(self, place: Place) -> None:
        """Another content under the same key replaces what was held, never mixes with it."""
        self.held(place, "a", b"abcdef", 10)
        part = place.open("a", 10)
        assert part.have()
        part.begin(0)
        part.write([b"xyz"])
        part.keep()
        part = place.open("a", 10)
        assert part.have() == ((3, digest(b"xyz")),)
        part.begin(3)
        part.write([b"0123456"])
        assert part.publish(digest(b"xyz0123456")).size == 10
        assert place.read("a") == b"xyz0123456"

    # covers: J25
    def test_mixture_is_found_out(self, place: Place) -> None:
        """A mixture of two contents under one key ends as a wrong digest."""
        self.held(place, "a", b"abcdef", 10)
        part = place.open("a", 10)
        part.begin(6, proved=False)
        part.write([b"6789"])
        with pytest.raises(DigestMismatch):
            part.publish(digest(b"0123456789"))
        assert place.names() == set()

    # covers: S07
    def test_without_progress(self, place: Place) -> None:
        """Resuming again and again changes nothing."""
        self.held(place, "a", b"abcdef", 10)
        for _ in range(5):
            part = place.open("a", 10)
            assert part.have() == part.have() == ((6, digest(b"abcdef")),)
            part.begin(6)
            part.keep()

    # covers: B01
    def test_interrupted_often(self, place: Place) -> None:
        """However often it was interrupted, its proof has room in a go, and goes on at its end."""
        times = limits.HAVE_MAX + 10
        data = os.urandom(3 * times)
        for end in range(0, len(data), 3):
            part = place.open("a", len(data))
            have = part.have()
            assert len(have) <= limits.HAVE_MAX
            assert have[:1] == (((end, digest(data[:end])),) if end else ())
            part.begin(end)
            part.write([data[end : end + 3]])
            part.keep()

    def test_all_of_it_held(self, place: Place) -> None:
        """A part that is complete is published without another byte."""
        self.held(place, "a", b"abcde", 5)
        part = place.open("a", 5)
        part.begin(part.have()[0][0])
        assert part.publish(digest(b"abcde")) == Stored("a", 5, digest(b"abcde"))

    def test_a_shorter_start(self, place: Place) -> None:
        """The sender may go back to an earlier offset; what lay behind it is forgotten."""
        size = 17 * MIB
        data = os.urandom(MIB) * 17
        self.held(place, "a", data[:-5], size)
        place = place.again()
        part = place.open("a", size)
        offsets = [offset for offset, _ in part.have()]
        assert offsets == [size - 5, size - 5 - 16 * MIB]
        assert part.have()[1] == (offsets[1], digest(data[: offsets[1]]))
        with pytest.raises(BadOffset):
            part.begin(offsets[1], proved=False)
        part.begin(offsets[1])
        part.keep()
        part = place.open("a", size)
        assert part.held == offsets[1]
        part.discard()
        place.store.close()

    # covers: C02
    def test_one_writer(self, place: Place) -> None:
        """A second writer of the same key has to wait, one of another key has not."""
        part = place.open("a", 5)
        with pytest.raises(Busy):
            place.open("a", 5)
        (answer,) = place.store.put_many([place.small("a", b"abcde", Conflict.SERIES)])
        assert isinstance(answer, Busy)
        other = place.open("a", 5, who="peer:b")
        other.keep()
        part.keep()
        place.open("a", 5).keep()

    # covers: C02
    def test_one_writer_of_many(self, place: Place) -> None:
        """Of many that open the same key at once exactly one gets it."""
        won: list[Any] = []
        lost: list[Busy] = []
        ready = threading.Barrier(8)

        def run() -> None:
            ready.wait()
            try:
                won.append(place.open("a", 5))
            except Busy as error:
                lost.append(error)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
        won[0].keep()

    def test_forget(self, place: Place) -> None:
        """A part that nobody writes can be forgotten; one that is written stays."""
        self.held(place, "a", b"abc", 5)
        part = place.open("a", 5)
        place.store.forget(place.key("a", 5))
        part.keep()
        assert place.open("a", 5).held == 3
        place.store.forget(place.key("b", 5))

    def test_forgotten(self, place: Place) -> None:
        """A forgotten part is gone."""
        self.held(place, "a", b"abc", 5)
        place.store.forget(place.key("a", 5))
        assert place.open("a", 5).held == 0

    def test_holds(self, place: Place) -> None:
        """Whether there is a part can be asked, while it is written and when it is not."""
        key = place.key("a", 5)
        assert not place.store.holds(key)
        part = place.open("a", 5)
        assert not place.store.holds(key)
        part.begin(0)
        part.write([b"abc"])
        assert place.store.holds(key)
        part.keep()
        assert place.store.holds(key)
        place.store.forget(key)
        assert not place.store.holds(key)

    # covers: K10
    @pytest.mark.parametrize("most", [(2, MIB), (100, 6)])
    def test_unfinished(self, make: Make, most: tuple[int, int]) -> None:
        """Who left too much unfinished begins nothing new, but may finish; others may begin."""
        place = make(unfinished=most)
        for name in ("a", "b"):
            self.held(place, name, b"abc", 5)
        for _ in range(2):
            with pytest.raises(QuotaExceeded, match="2 unfinished"):
                place.open("c", 5)
        other = place.open("c", 5, who="peer:b")
        other.begin(0)
        other.keep()
        assert place.put_small("small", b"x").path == "small"
        part = place.open("a", 5)
        assert part.have() == ((3, digest(b"abc")),)
        part.begin(3)
        part.write([b"de"])
        part.publish(digest(b"abcde"))
        assert place.open("c", 5).held == 0

    # covers: K10, P20
    def test_tidy(self, place: Place) -> None:
        """Only parts that are old and not in use are removed."""
        self.held(place, "old", b"abc", 5)
        self.held(place, "used", b"abc", 5)
        part = place.open("used", 5)
        place.put("file", b"published")
        assert place.store.tidy(3600) == 0
        assert place.store.tidy(-1) == 1
        assert part.have()
        part.keep()
        assert place.open("old", 5).held == 0
        assert place.read("file") == b"published"

    # covers: P20, H12
    @pytest.mark.parametrize("key", ["", "../x", "a" * 31, "A" * 32, "0" * 33, "0" * 32 + "\n"])
    def test_keys(self, place: Place, key: str) -> None:
        """What is no key never becomes a name."""
        with pytest.raises(BadName):
            place.store.forget(key)
        with pytest.raises(BadName):
            place.store.holds(key)
        with pytest.raises(BadName):
            place.store.open_part(key, Offer("a", 1), safe_path("a"), Conflict.RENAME)


class ConflictTests:
    # covers: P15, C01
    def test_rename(self, place: Place, put: Callable[..., Stored]) -> None:
        """A taken name is left alone, and the file gets the next free number."""
        assert put("d/a.txt", b"one").path == "d/a.txt"
        assert put("d/a.txt", b"two").path == "d/a (2).txt"
        assert put("d/a.txt", b"three").path == "d/a (3).txt"
        assert place.read("d/a.txt") == b"one"
        assert place.read("d/a (2).txt") == b"two"

    # covers: P06
    def test_longest_name(self, place: Place, put: Callable[..., Stored]) -> None:
        """A name of 255 bytes is stored, and renamed if it must be."""
        name = "\u00e9" * 125 + ".html"
        assert put(name, b"one").path == name
        second = put(name, b"two").path
        assert second.endswith("\u00e9 (2).html")
        assert len(second.encode()) <= 255
        assert place.read(second) == b"two"

    # covers: K08
    def test_same_content_is_not_stored_twice(
        self, place: Place, put: Callable[..., Stored]
    ) -> None:
        """Whatever the policy, content that is there already is there already."""
        put("a", b"content")
        for conflict in Conflict:
            again = put("a", b"content", conflict, who="peer:b", mtime=None)
            assert again == Stored("a", 7, digest(b"content"), already=True)
        assert place.names() == {"a"}

    # covers: K08
    def test_lost_answer(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file that had to be renamed is found again when its sender tries once more."""
        put("a", b"first", who="peer:x")
        for conflict in (Conflict.RENAME, Conflict.SKIP, Conflict.SERIES, Conflict.REFUSE):
            stored = put("a", b"other content", mtime=MTIME + 1)
            assert stored.path == "a (2)"
            again = put("a", b"other content", conflict, mtime=MTIME + 1)
            assert again == Stored("a (2)", 13, digest(b"other content"), already=True)
        assert place.names() == {"a", "a (2)"}

    # covers: K08
    def test_renamed_and_then_to_replace(self, place: Place, put: Callable[..., Stored]) -> None:
        """Who wants the very name gets it, though there is a copy beside it from last time."""
        put("a", b"first", who="peer:x")
        assert put("a", b"other content").path == "a (2)"
        wanted = Stored("a", 13, digest(b"other content"))
        assert put("a", b"other content", Conflict.OVERWRITE) == wanted
        assert place.read("a") == b"other content"
        assert put("a", b"other content", Conflict.OVERWRITE) == wanted._replace(already=True)

    # covers: K08
    @pytest.mark.parametrize("conflict", [Conflict.RENAME, Conflict.SKIP])
    def test_named_but_not_remembered(
        self, place: Place, put: Callable[..., Stored], conflict: Conflict
    ) -> None:
        """A crash between the new name and the receipt for it makes no third name."""
        put("a", b"first", who="peer:x")
        put("a", b"other content", mtime=MTIME + 1)
        place.receipts.kept.clear()
        again = put("a", b"other content", conflict, mtime=MTIME + 1)
        assert again == Stored("a (2)", 13, digest(b"other content"), already=True)
        assert put("a", b"OTHER CONTENT", conflict, mtime=MTIME + 2).path == "a (3)"
        assert place.names() == {"a", "a (2)", "a (3)"}

    # covers: K08
    def test_lost_answer_costs_no_bytes(self, place: Place) -> None:
        """The sender of a finished file learns its digest and need not send it again."""
        place.put("a", b"first", who="peer:x")
        place.put("a", b"other content")
        part = place.open("a", 13)
        assert part.have() == ((13, digest(b"other content")),)
        part.begin(13)
        assert part.position == 13
        assert part.publish(digest(b"other content")) == Stored(
            "a (2)", 13, digest(b"other content"), already=True
        )
        assert place.names() == {"a", "a (2)"}

    def test_remembered_but_gone(self, place: Place, put: Callable[..., Stored]) -> None:
        """A remembered file that is no longer there is stored again."""
        key = place.key("a", 3)
        place.receipts.kept[key] = Stored("elsewhere", 3, digest(b"abc"))
        assert put("a", b"abc") == Stored("a", 3, digest(b"abc"))

    # covers: P20
    @pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "", "a\x00b", "x/../.."])
    def test_hostile_memory(self, place: Place, put: Callable[..., Stored], path: str) -> None:
        """A record that was tampered with leads nowhere."""
        place.receipts.kept[place.key("a", 3)] = Stored(path, 3, digest(b"abc"))
        assert put("a", b"abc") == Stored("a", 3, digest(b"abc"))

    def test_same_size_and_mtime(self, place: Place) -> None:
        """A file that looks the same is offered by its digest, whoever sent it."""
        place.put("a", b"content", who="peer:x")
        part = place.open("a", 7, who="peer:y")
        assert part.have() == ((7, digest(b"content")),)
        part.begin(7)
        assert part.publish(digest(b"content")).already
        assert place.receipts.kept[place.key("a", 7, who="peer:y")].already

    def test_another_time(self, place: Place) -> None:
        """A file of the same size from another time is not read to be offered."""
        place.put("a", b"content")
        part = place.open("a", 7, mtime=MTIME + 1)
        assert part.have() == ()
        part.keep()

    def test_looks_the_same_and_is_not(self, place: Place) -> None:
        """A file that only looks the same is not taken for the other."""
        place.put("a", b"content")
        part = place.open("a", 7, who="peer:y")
        assert part.have()
        part.begin(0)
        part.write([b"CONTENT"])
        assert part.publish(digest(b"CONTENT")).path == "a (2)"
        assert place.read("a") == b"content"

    def test_finished_and_digest_differs(self, place: Place) -> None:
        """Claiming a finished file under another digest is an error and changes nothing."""
        place.put("a", b"content")
        part = place.open("a", 7)
        part.have()
        part.begin(7)
        with pytest.raises(DigestMismatch):
            part.publish(digest(b"CONTENT"))
        assert place.read("a") == b"content"

    def test_part_beside_a_finished_file(self, place: Place) -> None:
        """Where a whole part and another file look the same, the part is resumed."""
        part = place.open("a", 7, who="peer:y")
        part.begin(0)
        part.write([b"CONTENT"])
        part.keep()
        place.put("a", b"content")
        part = place.open("a", 7, who="peer:y")
        assert part.have() == ((7, digest(b"CONTENT")),)
        part.begin(7)
        assert part.publish(digest(b"CONTENT")).path == "a (2)"

    def test_skip(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file of the same size and mtime is kept, and the answer has the digest it has."""
        put("a", b"content")
        again = put("a", b"CONTENT", Conflict.SKIP, who="peer:b")
        assert again == Stored("a", 7, digest(b"content"), already=True)
        assert place.read("a") == b"content"
        assert put("a", b"CONTENT", Conflict.SKIP, mtime=MTIME + 1).path == "a (2)"
        assert put("a", b"longer content", Conflict.SKIP).path == "a (3)"

    def test_overwrite(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file is replaced where that was chosen."""
        put("a", b"old")
        assert put("a", b"new and longer", Conflict.OVERWRITE) == Stored(
            "a", 14, digest(b"new and longer")
        )
        assert place.read("a") == b"new and longer"
        assert put("a", b"old", Conflict.OVERWRITE, mtime=MTIME + 5).path == "a"
        facts = place.store.look(safe_path("a"))
        assert facts.mtime_ns == MTIME + 5
        assert put("fresh", b"x", Conflict.OVERWRITE).path == "fresh"

    def test_refuse(self, place: Place, put: Callable[..., Stored]) -> None:
        """Nothing is stored where something else is, and the same content is fine."""
        assert put("a", b"one", Conflict.REFUSE).path == "a"
        with pytest.raises(Exists):
            put("a", b"two", Conflict.REFUSE)
        with pytest.raises(Exists):
            put("a", b"three", Conflict.REFUSE)
        assert put("a", b"one", Conflict.REFUSE, mtime=None).already
        assert place.names() == {"a"}
        assert place.read("a") == b"one"

    def test_refuse_early(self, place: Place) -> None:
        """A file of another size is refused before its first byte."""
        place.put("a", b"one")
        with pytest.raises(Exists):
            place.open("a", 5, Conflict.REFUSE)
        part = place.open("a", 3, Conflict.REFUSE, mtime=None)
        part.keep()

    # covers: K10
    def test_refused_at_the_end(self, place: Place) -> None:
        """Nothing is kept of a file that no other try would store."""
        place.put("a", b"one")
        with pytest.raises(Exists):
            place.put("a", b"two", Conflict.REFUSE, mtime=MTIME + 1)
        assert not place.store.holds(place.key("a", 3, MTIME + 1))

    def test_series(self, place: Place, put: Callable[..., Stored]) -> None:
        """A series never uses the plain name."""
        assert put("s.txt", b"one", Conflict.SERIES).path == "s 01.txt"
        assert put("s.txt", b"two", Conflict.SERIES, mtime=1).path == "s 02.txt"
        assert place.names() == {"s 01.txt", "s 02.txt"}

    # covers: P14
    @pytest.mark.parametrize("conflict", list(Conflict))
    def test_folder_at_the_name(
        self, place: Place, put: Callable[..., Stored], conflict: Conflict
    ) -> None:
        """A folder is never replaced."""
        place.put("a/inside", b"precious")
        if conflict in {Conflict.REFUSE, Conflict.OVERWRITE}:
            with pytest.raises(Exists):
                put("a", b"file", conflict)
        else:
            assert put("a", b"file", conflict).path in {"a (2)", "a 01"}
        assert place.read("a/inside") == b"precious"

    # covers: P11
    def test_file_above_the_name(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file is no folder."""
        put("a", b"file")
        with pytest.raises(BadName):
            put("a/b", b"x")
        assert place.store.look(safe_path("a/b")) is None
        assert place.read("a") == b"file"

    # covers: P08
    def test_case(self, place: Place, put: Callable[..., Stored]) -> None:
        """Two names that differ by case are two files."""
        put("a", b"one")
        stored = put("A", b"two")
        assert place.read("a") == b"one"
        assert place.read(stored.path) == b"two"

    # covers: P18
    @pytest.mark.parametrize("mtime", [-1, 2**63 - 1, 2**70, -(2**70), None])
    def test_odd_times(self, place: Place, put: Callable[..., Stored], mtime: int | None) -> None:
        """Times that make no sense are ignored."""
        put("a", b"x", mtime=mtime)
        facts = place.store.look(safe_path("a"))
        assert 1_500_000_000 * 10**9 < facts.mtime_ns < 2**62

    # covers: P09
    def test_hidden(self, make: Make) -> None:
        """A store refuses hidden files by itself, unless told otherwise."""
        plain, open_minded = make(), make(dotfiles=True)
        hidden = safe_path(".profile", dotfiles=True)
        offer = Offer(".profile", 1, digest=digest(b"x"))
        key = part_key("peer:a", ".profile", 1, None)
        small = Small("peer:a", offer, hidden, Conflict.RENAME, [b"x"])
        calls: list[Callable[[], object]] = [
            lambda: plain.store.open_part(key, offer, hidden, Conflict.RENAME),
            lambda: plain.store.make_folder(hidden),
            lambda: plain.store.make_link(hidden, "x", Conflict.RENAME),
        ]
        for call in calls:
            with pytest.raises(BadName):
                call()
        assert isinstance(plain.store.put_many([small])[0], BadName)
        assert open_minded.store.put_many([small]) == [Stored(".profile", 1, digest(b"x"))]


class ManyTests:
    def test_order_and_independence(self, place: Place) -> None:
        """Each file has its own answer, in the order given, whatever becomes of the others."""
        place.put("taken", b"old")
        good = [place.small(f"d{n % 3}/f{n}", b"%d" % n) for n in range(150)]
        bad = Small(
            "peer:a",
            Offer("bad", 1, digest=digest(b"y")),
            safe_path("bad"),
            Conflict.RENAME,
            [b"x"],
        )
        none = Small("peer:a", Offer("n", 1), safe_path("n"), Conflict.RENAME, [b"x"])
        short = Small("peer:a", Offer("short", 9), safe_path("short"), Conflict.RENAME, [b"x"])
        refused = place.small("taken", b"new!", Conflict.REFUSE)
        below = place.small("taken/x", b"x")
        files = [*good[:70], bad, short, refused, none, below, *good[70:]]
        answers = place.store.put_many(files)
        assert len(answers) == len(files)
        kinds = [DigestMismatch, ShortBody, Exists, DigestMismatch, BadName]
        assert [type(each) for each in answers[70:75]] == kinds
        rest = answers[:70] + answers[75:]
        assert [each.path for each in rest] == [f"d{n % 3}/f{n}" for n in range(150)]
        for n, small in enumerate(good):
            assert place.read(f"d{n % 3}/f{n}") == b"".join(small.pieces)
        assert place.names() == {each.path for each in rest} | {"taken"}

    def test_nothing(self, place: Place) -> None:
        """No files are no work."""
        assert place.store.put_many([]) == []
        assert place.receipts.calls == 0

    # covers: P08, P15
    def test_same_name_twice(self, place: Place) -> None:
        """Two files of one name in one go are both stored, two equal ones once."""
        answers = place.store.put_many(
            [
                place.small("a", b"one", mtime=1),
                place.small("a", b"two", mtime=2),
                place.small("a", b"one", mtime=3),
            ]
        )
        assert [(each.path, each.already) for each in answers] == [
            ("a", False),
            ("a (2)", False),
            ("a", True),
        ]

    # covers: K08
    def test_again(self, place: Place) -> None:
        """A batch that is sent again writes nothing."""
        files = [place.small(f"f{n}", b"%d" % n) for n in range(10)]
        place.store.put_many(files)
        answers = place.store.put_many(files)
        assert all(each.already for each in answers)
        assert len(place.names()) == 10

    # covers: K08
    def test_some_again(self, place: Place) -> None:
        """What is there already is not stored twice, whichever of a folder's files that is."""
        files = [place.small(f"d/f{n}", b"%d" % n) for n in range(6)]
        place.store.put_many(files[2:4])
        answers = place.store.put_many(files)
        assert [each.already for each in answers] == [n in (2, 3) for n in range(6)]
        assert place.names() == {f"d/f{n}" for n in range(6)}

    def test_leaves_nothing(self, place: Place) -> None:
        """Whatever becomes of small files, no part of them remains."""
        place.put("a", b"old")
        place.store.put_many([place.small("a", b"new", Conflict.REFUSE), place.small("b", b"x")])
        assert place.store.tidy(-1) == 0

    # covers: C02
    @pytest.mark.parametrize("conflict", [Conflict.RENAME, Conflict.SERIES, Conflict.OVERWRITE])
    def test_twice_at_once(self, place: Place, conflict: Conflict) -> None:
        """A pack that is sent again while the first is being stored is there once all the same."""
        taken = conflict is Conflict.RENAME
        if taken:
            place.put("f0", b"something else")
        files = [place.small(f"f{n}", b"%d" % n, conflict) for n in range(20)]
        answers: list[Stored | LanxferError] = []
        ready = threading.Barrier(3)

        def run() -> None:
            ready.wait()
            answers.extend(place.store.put_many(files))

        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {type(each) for each in answers} <= {Stored, Busy}
        assert len(place.names()) == 20 + taken
        assert {place.read(path) for path in place.names()} >= {b"%d" % n for n in range(20)}

    def test_resumable_part_of_the_same_file(self, place: Place) -> None:
        """A part that an earlier attempt left is gone once the file is stored whole."""
        part = place.open("a", 5)
        part.begin(0)
        part.write([b"ab"])
        part.keep()
        assert place.put_small("a", b"abcde").path == "a"
        assert place.store.tidy(-1) == 0


class ReceiptTests:
    # covers: K07
    def test_no_memory_no_word(self, place: Place, put: Callable[..., Stored]) -> None:
        """Without a durable memory nothing is acknowledged, and the next attempt is."""
        put("a", b"another")
        place.receipts.kept.clear()
        place.receipts.error = DiskFull("the journal")
        with pytest.raises(DiskFull):
            put("a", b"content")
        assert place.receipts.kept == {}
        place.receipts.error = None
        assert put("a", b"content").already
        assert place.names() == {"a", "a (2)"}
        assert place.store.tidy(-1) == 0

    def test_no_memory_for_many(self, place: Place) -> None:
        """Each file of a batch gets the answer that there is no memory."""
        place.receipts.error = DiskFull("the journal")
        small = [place.small(name, b"x", mtime=None) for name in "ab"]
        answers = place.store.put_many([*small, place.small("c", b"y")])
        assert [type(each) for each in answers] == [DiskFull, DiskFull, Stored]

    def test_one_receipt_a_batch(self, place: Place) -> None:
        """Small files share the memory's sync."""
        if isinstance(place.store, MemoryStore):
            pytest.skip("memory has nothing to sync")
        place.store.put_many([place.small(f"f{n}", b"x", mtime=None) for n in range(20)])
        assert place.receipts.calls == 1
        assert len(place.receipts.kept) == 20


class SpaceTests:
    # covers: S01
    @pytest.mark.parametrize("size", [2**63 - 1, 2**40])
    def test_too_large_a_claim(self, make: Make, size: int) -> None:
        """A file that does not fit is refused before anything is made for it."""
        place = make(capacity=1000)
        with pytest.raises(DiskFull):
            place.open("a", size)
        assert place.names() == set()
        assert place.store.tidy(-1) == 0
        place.open("a", 900).keep()

    def test_what_is_held_counts(self, make: Make) -> None:
        """A resume needs room only for the rest."""
        place = make(capacity=1000)
        part = place.open("a", 900)
        part.begin(0)
        part.write([b"x" * 500])
        part.keep()
        with pytest.raises(DiskFull):
            place.open("b", 600)
        part = place.open("a", 900)
        part.begin(500, proved=False)
        part.write([b"x" * 400])
        assert part.publish(None).size == 900

    # covers: S08
    def test_many_together(self, make: Make) -> None:
        """Small files are taken as long as there is room for them."""
        place = make(capacity=1000)
        files = [place.small(f"f{n}", bytes([n]) * 300) for n in range(5)]
        answers = place.store.put_many(files)
        assert [type(each) for each in answers] == [Stored] * 3 + [DiskFull] * 2
        assert place.names() == {"f0", "f1", "f2"}


class FolderTests:
    def test_folder(self, place: Place) -> None:
        """Folders are made with those above them, and one that is there is fine."""
        assert place.store.make_folder(safe_path("a/b/c")) == Stored("a/b/c", 0, "")
        assert place.store.look(safe_path("a/b")).kind == "folder"
        assert place.store.make_folder(safe_path("a/b")).already
        assert place.store.make_folder(safe_path("a/b/c")).already

    def test_taken(self, place: Place) -> None:
        """A file is neither replaced by a folder nor taken for one."""
        place.put("a", b"file")
        with pytest.raises(Exists):
            place.store.make_folder(safe_path("a"))
        with pytest.raises(BadName):
            place.store.make_folder(safe_path("a/b"))
        assert place.read("a") == b"file"

    # covers: P21
    def test_what_is_there_stays(self, place: Place) -> None:
        """Receiving a folder again removes nothing from it."""
        place.put("camera/old", b"x")
        place.store.make_folder(safe_path("camera"))
        place.put("camera/new", b"y")
        assert place.names() == {"camera/old", "camera/new"}


class LinkTests:
    def test_link(self, place: Place) -> None:
        """A link is made once, and is a link."""
        path = safe_path("d/l")
        assert place.store.make_link(path, "../x", Conflict.RENAME) == Stored("d/l", 0, "")
        assert place.store.look(path).kind == "link"
        assert place.store.make_link(path, "../x", Conflict.REFUSE).already

    # covers: P19
    @pytest.mark.parametrize("target", ["../../x", "/etc", "x/../../..", "../.lanxfer-staging/x"])
    def test_outside(self, place: Place, target: str) -> None:
        """A link that leads out is not made."""
        with pytest.raises(BadName):
            place.store.make_link(safe_path("d/l"), target, Conflict.RENAME)
        assert place.store.look(safe_path("d/l")) is None

    def test_conflicts(self, place: Place) -> None:
        """A taken name is treated as the policy says, and only links are replaced by links."""
        path = safe_path("l")
        store = place.store
        store.make_link(path, "one", Conflict.RENAME)
        assert store.make_link(path, "two", Conflict.RENAME).path == "l (2)"
        assert store.make_link(path, "two", Conflict.RENAME) == Stored("l (2)", 0, "", already=True)
        assert store.make_link(path, "three", Conflict.SKIP).path == "l (3)"
        assert store.make_link(path, "four", Conflict.SERIES).path == "l 01"
        with pytest.raises(Exists):
            store.make_link(path, "five", Conflict.REFUSE)
        assert store.make_link(path, "six", Conflict.OVERWRITE) == Stored("l", 0, "")
        assert store.make_link(path, "six", Conflict.REFUSE).already
        place.put("f", b"file")
        with pytest.raises(Exists):
            store.make_link(safe_path("f"), "x", Conflict.OVERWRITE)
        assert place.read("f") == b"file"

    # covers: P10
    @pytest.mark.parametrize("conflict", list(Conflict))
    def test_link_at_the_name(
        self, place: Place, put: Callable[..., Stored], conflict: Conflict
    ) -> None:
        """A link at the name is neither followed nor replaced."""
        place.put("target", b"precious")
        place.store.make_link(safe_path("l"), "target", Conflict.RENAME)
        if conflict in {Conflict.REFUSE, Conflict.OVERWRITE}:
            with pytest.raises(Exists):
                put("l", b"file", conflict)
        else:
            assert put("l", b"file", conflict).path in {"l (2)", "l 01"}
        assert place.read("target") == b"precious"
        assert place.store.look(safe_path("l")).kind == "link"

    # covers: P11
    def test_link_above_the_name(self, place: Place, put: Callable[..., Stored]) -> None:
        """A link to a folder is no folder."""
        place.store.make_folder(safe_path("real"))
        place.store.make_link(safe_path("l"), "real", Conflict.RENAME)
        with pytest.raises(BadName):
            put("l/x", b"file")
        with pytest.raises(BadName):
            place.store.make_folder(safe_path("l/x"))
        assert place.store.look(safe_path("l/x")) is None
        assert place.store.look(safe_path("real/x")) is None


class TogetherTests:
    # covers: C01, C04
    def test_same_name_from_many(self, place: Place) -> None:
        """Many that store one name at once all get a whole file of their own."""
        contents = [bytes([n]) * 5000 for n in range(12)]
        answers: list[Stored] = []

        def run(n: int) -> None:
            store = place.put if n % 2 else place.put_small
            answers.append(store("d/a.bin", contents[n], who=f"peer:{n}", mtime=n))

        threads = [threading.Thread(target=run, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 12
        assert len({each.path for each in answers}) == 12
        assert sorted(place.read(each.path) for each in answers) == contents

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b", "d/a"]),
                st.binary(max_size=3),
                st.sampled_from(list(Conflict)),
                st.sampled_from([None, 1, 2]),
                st.booleans(),
            ),
            max_size=8,
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_memory_is_a_model(self, steps: list[Any]) -> None:
        """Whatever is stored in whatever order, the disk and memory answer alike."""
        import tempfile

        with tempfile.TemporaryDirectory() as root:
            disk, memory = local_place(os.path.join(root, "inbox")), memory_place()
            for path, data, conflict, mtime, small in steps:
                answers: list[object] = []
                for place in (disk, memory):
                    store = place.put_small if small else place.put
                    try:
                        answers.append(store(path, data, conflict, mtime=mtime))
                    except LanxferError as error:
                        answers.append(type(error))
                assert answers[0] == answers[1]
            assert disk.names() == memory.names()
            assert all(disk.read(name) == memory.read(name) for name in disk.names())
            disk.store.close()
