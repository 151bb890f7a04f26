"""What every shared folder promises: on the disk, in memory, over fsspec, SFTP and S3.

One suite for all; where a place cannot promise something, ``weaknesses`` says so and the
test asks for what is left.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from blake3 import blake3
from object_server import BUCKET, ObjectServer, object_server
from servers import Sshd, sshd

from lanxfer.errors import (
    BadName,
    Busy,
    DigestMismatch,
    DiskFailed,
    Exists,
    Forbidden,
    LanxferError,
    NotFound,
    ShortBody,
    SourceChanged,
)
from lanxfer.storage import Small, Store, shares
from lanxfer.storage.local import LocalStore
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.memory_volume import MemoryVolume, memory_share
from lanxfer.storage.names import part_key, safe_path
from lanxfer.storage.objects import ObjectVolume
from lanxfer.storage.remote import RemoteVolume, remote_volume
from lanxfer.storage.sftp import SftpVolume
from lanxfer.storage.shares import Share
from lanxfer.storage.spooled import SpooledStore
from lanxfer.storage.system import _own_call
from lanxfer.storage.tree import Tree
from lanxfer.storage.volumes import SharedFolder, Volume, VolumeShare
from lanxfer.transfers import Conflict, Offer, Stored
from lanxfer.wire import limits

MTIME = 1_700_000_000_000_000_000
MIB = limits.MIB
KINDS = ["local", "memory", "spooled", "fsspec", "sftp", "s3"]


def typed(one: LocalStore, two: MemoryStore, three: SpooledStore) -> list[Store]:
    """The type checker looks at this: all stores meet the one interface."""
    return [one, two, three]


def typed_shares(one: Share, two: VolumeShare) -> list[SharedFolder]:
    return [one, two]


def typed_volumes(
    one: MemoryVolume, two: RemoteVolume, three: ObjectVolume, four: SftpVolume
) -> list[Volume]:
    return [one, two, three, four]


def digest(data: bytes) -> str:
    return blake3(data).hexdigest()


def big(size: int) -> bytes:
    return os.urandom(4096) * (size // 4096)


@define
class Place:
    """A share with a store, and another way to the same files."""

    kind: str
    share: Any
    put_there: Callable[[str, bytes], object]
    again: Callable[[], Place]
    closed: list[Callable[[], object]] = field(factory=list)

    @property
    def store(self) -> Any:
        return self.share.store

    def offer(self, path: str, data: bytes, **more: Any) -> Offer:
        return Offer(path, len(data), mtime_ns=MTIME, **more)

    def key(self, path: str, data: bytes) -> str:
        return part_key("peer:a", path, len(data), MTIME)

    def open_part(self, path: str, data: bytes, conflict: Conflict = Conflict.REFUSE) -> Any:
        offer = self.offer(path, data)
        return self.store.open_part(self.key(path, data), offer, safe_path(path), conflict)

    def put(self, path: str, data: bytes, conflict: Conflict = Conflict.REFUSE) -> Stored:
        part = self.open_part(path, data, conflict)
        part.begin(0)
        part.write([data])
        stored: Stored = part.publish(digest(data))
        return stored

    def put_small(self, path: str, data: bytes, conflict: Conflict = Conflict.REFUSE) -> Stored:
        offer = self.offer(path, data, digest=digest(data))
        small = Small("peer:a", offer, safe_path(path), conflict, [data])
        (answer,) = self.store.put_many([small])
        if isinstance(answer, LanxferError):
            raise answer
        assert isinstance(answer, Stored)
        return answer

    def read(self, path: str) -> bytes:
        with self.share.open(safe_path(path)) as source:
            data: bytes = source.read(source.size + 1)
            source.check_unchanged()
        return data

    def names(self, path: str = "") -> list[str]:
        inside = safe_path(path) if path else None
        return [row["name"] for row in self.share.scan(inside)]

    def kinds(self, path: str = "") -> dict[str, str]:
        inside = safe_path(path) if path else None
        return {row["name"]: row["kind"] for row in self.share.scan(inside)}

    def missing(self, path: str) -> bool:
        try:
            self.share.stat(safe_path(path))
        except NotFound:
            return True
        return False


def local(folder: Path) -> Place:
    root = folder / "root"
    store = LocalStore(str(root), reserve_bytes=0, reserve_share=0)
    share = Share("docs", str(root), store)

    def put(path: str, data: bytes) -> None:
        (root / path).write_bytes(data)

    def again() -> Place:
        share.close()
        store.close()
        return local(folder)

    return Place("local", share, put, again, [share.close, store.close])


def memory(folder: Path, held: MemoryStore | None = None) -> Place:
    store = held or MemoryStore()

    def put(path: str, data: bytes) -> None:
        store.files[path] = data
        store._mtimes[path] = store._mtimes.get(path, MTIME) + 1

    return Place("memory", memory_share("docs", store), put, lambda: memory(folder, store))


def spooled(kind: str, folder: Path, volume: Callable[[], Volume], put: Any) -> Place:
    there = volume()
    store = SpooledStore(there, str(folder / "spool"), reserve_bytes=0, reserve_share=0)
    share = VolumeShare("docs", there, store)

    def again() -> Place:
        store.close()
        return spooled(kind, folder, volume, put)

    return Place(kind, share, put, again, [store.close])


def over_memory(folder: Path) -> Place:
    held = MemoryStore()

    def put(path: str, data: bytes) -> None:
        held.files[path] = data
        held._mtimes[path] = held._mtimes.get(path, MTIME) + 1

    return spooled("spooled", folder, lambda: MemoryVolume(held), put)


def fsspec_place(folder: Path) -> Place:
    root = f"/{uuid.uuid4().hex}"

    def put(path: str, data: bytes) -> None:
        from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

        MemoryFileSystem().pipe_file(f"{root}/{path}", data)

    return spooled("fsspec", folder, lambda: remote_volume(f"memory:/{root}", make=True), put)


def sftp_place(folder: Path, server: Sshd) -> Place:
    root = folder / "served"
    root.mkdir()

    def volume() -> Volume:
        return remote_volume(
            f"sftp://{server.user}@127.0.0.1:{server.port}{root}",
            make=True,
            known_hosts=str(server.known_hosts()),
            key_filename=str(server.user_key),
            passphrase=server.passphrase,
            allow_agent=False,
            look_for_keys=False,
        )

    def put(path: str, data: bytes) -> None:
        (root / path).write_bytes(data)
        os.utime(root / path, (1_600_000_000, 1_600_000_000))

    return spooled("sftp", folder, volume, put)


def s3_place(folder: Path, server: ObjectServer) -> Place:
    root = f"{BUCKET}/{uuid.uuid4().hex}"

    def put(path: str, data: bytes) -> None:
        server.fs.pipe_file(f"{root}/{path}", data)

    return spooled("s3", folder, lambda: remote_volume(f"s3://{root}", **server.options), put)


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    pytest.importorskip("paramiko")
    with sshd(tmp_path_factory.mktemp("ssh") / "server") as server:
        yield server


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    pytest.importorskip("s3fs")
    with object_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each kind of place, empty."""
    kind = request.param
    if kind == "sftp":
        made = sftp_place(tmp_path, request.getfixturevalue("ssh_server"))
    elif kind == "s3":
        made = s3_place(tmp_path, request.getfixturevalue("s3_server"))
    else:
        make = {
            "local": local,
            "memory": memory,
            "spooled": over_memory,
            "fsspec": fsspec_place,
        }[kind]
        made = make(tmp_path)
    yield made
    for close in made.closed:
        close()


@pytest.fixture(params=["part", "small"])
def put(request: pytest.FixtureRequest, place: Place) -> Callable[..., Stored]:
    return place.put if request.param == "part" else place.put_small


# covers: S2-40 S2-41 S2-47
class PutTests:
    def test_whole(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file is under its name with its bytes, and folders are made for it."""
        data = b"some content"
        stored = put("notes/deep/a.txt", data)
        assert stored == Stored("notes/deep/a.txt", len(data), digest(data))
        assert place.read("notes/deep/a.txt") == data
        assert place.names() == ["notes"]
        assert place.kinds("notes/deep") == {"a.txt": "file"}
        facts = place.store.look(safe_path("notes/deep/a.txt"))
        assert (facts.kind, facts.size) == ("file", len(data))

    def test_time(self, place: Place, put: Callable[..., Stored]) -> None:
        """The time of a file is kept by all that say nothing else."""
        put("a", b"a")
        kept = place.share.stat(safe_path("a"))["mtime_ns"] == MTIME
        assert kept is (place.kind not in {"fsspec", "s3"})

    def test_empty(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file without a byte is a file."""
        assert put("empty", b"").size == 0
        assert place.read("empty") == b""
        assert put("empty", b"").already

    def test_large(self, place: Place) -> None:
        """A file of more than one part of a store's own arrives as it was."""
        data = big(36 * MIB)
        part = place.open_part("big", data)
        part.begin(0)
        for at in range(0, len(data), MIB):
            part.write([data[at : at + MIB]])
        assert part.publish(digest(data)).digest == digest(data)
        assert digest(place.read("big")) == digest(data)
        with place.share.open(safe_path("big")) as source:
            source.seek(17 * MIB + 3)
            assert source.read(5) == data[17 * MIB + 3 : 17 * MIB + 8]
            assert place.names() == ["big"]

    def test_not_before(self, place: Place) -> None:
        """Nothing is seen of a file before all of it is there and was compared."""
        data = big(2 * MIB)
        part = place.open_part("a", data)
        part.begin(0)
        part.write([data[:MIB]])
        assert place.missing("a") and place.names() == []
        part.keep()
        assert place.missing("a")

    def test_wrong_digest(self, place: Place) -> None:
        """What is not what was announced is not stored."""
        part = place.open_part("a", b"right")
        part.begin(0)
        part.write([b"wrong"])
        with pytest.raises(DigestMismatch):
            part.publish(digest(b"right"))
        assert place.missing("a")
        assert not place.store.holds(place.key("a", b"right"))

    def test_short(self, place: Place) -> None:
        """What is cut short is not stored, and kept to be gone on with."""
        part = place.open_part("a", b"0123456789")
        part.begin(0)
        part.write([b"01234"])
        with pytest.raises(ShortBody):
            part.publish(None)
        assert place.missing("a")
        assert place.open_part("a", b"0123456789").held == 5

    def test_resume(self, place: Place) -> None:
        """After a break, and a new start, a file goes on where what is there is proved."""
        # covers: S2-27
        data = big(20 * MIB)
        part = place.open_part("a", data)
        part.begin(0)
        part.write([data[: 18 * MIB]])
        part.keep()
        place = place.again()
        part = place.open_part("a", data)
        have = dict(part.have())
        assert have[18 * MIB] == digest(data[: 18 * MIB])
        part.begin(18 * MIB)
        part.write([data[18 * MIB :]])
        part.publish(digest(data))
        assert digest(place.read("a")) == digest(data)
        for close in place.closed:
            close()

    def test_one_writer(self, place: Place) -> None:
        """One transfer has one writer."""
        part = place.open_part("a", b"aa")
        with pytest.raises(Busy):
            place.open_part("a", b"aa")
        part.discard()
        place.put("a", b"aa")

    def test_not_sent_again(self, place: Place) -> None:
        """What is there already is proved by its digest, and costs no byte."""
        data = big(2 * MIB)
        place.put("a", data)
        part = place.open_part("a", data)
        assert part.have()[0] == (len(data), digest(data))
        part.begin(len(data))
        assert part.position == len(data)
        assert part.publish(digest(data)) == Stored("a", len(data), digest(data), already=True)
        assert place.read("a") == data

    def test_gone_meanwhile(self, place: Place) -> None:
        """What went away since it was proved has to be sent; nobody is told that it is there."""
        place.put("a", b"content")
        part = place.open_part("a", b"content")
        part.begin(part.have()[0][0])
        place.share.remove(safe_path("a"), recursive=False)
        with pytest.raises(ShortBody):
            part.publish(digest(b"content"))
        assert place.put("a", b"content") == Stored("a", 7, digest(b"content"))

    def test_one_of_both(self, place: Place) -> None:
        """A file comes in parts or at once; one waits for the other, or finds it there."""
        part = place.open_part("b", b"bb")
        part.begin(0)
        with suppress(Busy):
            place.put_small("b", b"bb")
        part.write([b"bb"])
        assert part.publish(digest(b"bb")).path == "b"
        assert place.read("b") == b"bb"
        part = place.open_part("a", b"aa")
        part.begin(0)
        part.write([b"a"])
        part.keep()
        assert place.store.holds(place.key("a", b"aa"))
        assert place.put_small("a", b"aa").path == "a"
        assert not place.store.holds(place.key("a", b"aa"))

    def test_ends_are_final(self, place: Place) -> None:
        """Closing twice is fine, and nothing is published after it."""
        part = place.open_part("a", b"aa")
        part.begin(0)
        part.write([b"aa"])
        part.keep()
        part.keep()
        part.discard()
        with pytest.raises(DiskFailed):
            part.publish(digest(b"aa"))
        assert place.missing("a")
        place.put("a", b"aa")

    def test_many(self, place: Place) -> None:
        """Many small files are stored each by itself; a bad one keeps no other back."""
        good = [(f"f/{n}", b"%d" % n) for n in range(5)]
        smalls = [
            Small(
                "peer:a",
                place.offer(path, data, digest=digest(b"x" if path == "f/2" else data)),
                safe_path(path),
                Conflict.REFUSE,
                [data],
            )
            for path, data in good
        ]
        answers = place.store.put_many(smalls)
        assert [type(each) for each in answers] == [Stored, Stored, DigestMismatch, Stored, Stored]
        assert place.names("f") == ["0", "1", "3", "4"]


class ConflictTests:
    def test_refuse(self, place: Place, put: Callable[..., Stored]) -> None:
        """A name that is taken is kept."""
        put("a", b"first")
        with pytest.raises(Exists):
            put("a", b"other")
        with pytest.raises(Exists):
            put("a", b"a longer one")
        assert place.read("a") == b"first"

    def test_same(self, place: Place, put: Callable[..., Stored]) -> None:
        """The same file again is there already, and makes no second one."""
        put("a", b"first")
        assert put("a", b"first") == Stored("a", 5, digest(b"first"), already=True)
        assert put("a", b"first", Conflict.RENAME).already
        assert place.names() == ["a"]

    def test_rename(self, place: Place, put: Callable[..., Stored]) -> None:
        """Or it gets another name."""
        put("a.txt", b"first")
        assert put("a.txt", b"other", Conflict.RENAME).path == "a (2).txt"
        assert place.read("a (2).txt") == b"other"
        assert place.read("a.txt") == b"first"

    def test_overwrite(self, place: Place, put: Callable[..., Stored]) -> None:
        """Or takes the place of what was there, if that is a file."""
        put("a", b"first")
        put("a", b"the second", Conflict.OVERWRITE)
        assert place.read("a") == b"the second"
        put("folder/x", b"x")
        with pytest.raises(Exists):
            put("folder", b"no", Conflict.OVERWRITE)
        assert place.names() == ["a", "folder"]

    def test_file_above(self, place: Place, put: Callable[..., Stored]) -> None:
        """A file is no folder."""
        put("a", b"first")
        with pytest.raises(BadName):
            put("a/b", b"below")
        assert place.read("a") == b"first"

    def test_together(self, place: Place) -> None:
        """Of several that want one name at once each gets one, and all content is there."""
        contents = [b"x" * 1000 * n for n in range(1, 7)]  # another size is another transfer
        stored: list[str] = []

        def work(data: bytes) -> None:
            stored.append(place.put_small("a", data, Conflict.RENAME).path)

        workers = [threading.Thread(target=work, args=(each,)) for each in contents]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        assert sorted(stored) == ["a", *(f"a ({n})" for n in range(2, 7))]
        assert sorted(map(place.read, stored)) == contents


class LookTests:
    def test_stat(self, place: Place) -> None:
        """What is there, and what it is."""
        # covers: S2-31
        place.put("a/b.txt", b"12345")
        found = place.share.stat(safe_path("a/b.txt"))
        assert (found["name"], found["kind"], found["size"]) == ("b.txt", "file", 5)
        assert place.share.stat(safe_path("a"))["kind"] == "folder"
        assert place.share.stat(None)["kind"] == "folder"
        for path in ("b", "a/c", "x/y", "a/b.txt/c"):
            with pytest.raises(NotFound):
                place.share.stat(safe_path(path))

    def test_scan(self, place: Place) -> None:
        """A folder is listed in order, with folders that are empty, without lanxfer's own."""
        assert place.names() == []
        place.put("b c", b"1")
        place.put("a/x", b"1")
        place.share.make_folder(safe_path("empty"), parents=True, exist_ok=False)
        assert place.kinds() == {"a": "folder", "b c": "file", "empty": "folder"}
        assert place.names() == ["a", "b c", "empty"]
        assert place.names("empty") == []
        for path in ("none", "b c"):
            with pytest.raises(NotFound):
                place.names(path)

    def test_names(self, place: Place) -> None:
        """Names of any text come back as they were."""
        odd = ["Grüße ☃.txt", "a'b\"c", "percent%20", "plus+and&", "[1]{2}", "#hash"]
        for name in odd:
            place.put_small(name, name.encode())
        assert place.names() == sorted(odd)
        assert [place.read(name) for name in odd] == [name.encode() for name in odd]

    def test_hidden(self, place: Place) -> None:
        """What is hidden is neither shown nor taken."""
        place.put_there(".hidden", b"1")
        place.put_there("seen", b"1")
        assert place.names() == ["seen"]

    def test_outside(self, place: Place) -> None:
        """No path leads out, nor to what lanxfer keeps there for itself."""
        # covers: S2-36
        for path in ("../x", "a/../../x", "/etc/passwd", ".lanxfer-staging/lock", "a//b", "."):
            with pytest.raises(BadName):
                safe_path(path, dotfiles=True)

    def test_open(self, place: Place) -> None:
        """Only files are read."""
        place.put("a/b", b"1")
        with pytest.raises(NotFound):
            place.share.open(safe_path("none"))
        for path in (None, safe_path("a")):
            with pytest.raises(BadName):
                place.share.open(path)

    def test_prove(self, place: Place) -> None:
        """Who has the beginning already finds out where to go on."""
        data = big(4 * MIB)
        place.put("a", data)
        with place.share.open(safe_path("a")) as source:
            have = [(3 * MIB, digest(b"other")), (2 * MIB, digest(data[: 2 * MIB]))]
            assert source.prove(have) == 2 * MIB
            assert source.read(10) == data[2 * MIB : 2 * MIB + 10]

    def test_changed(self, place: Place) -> None:
        """A file that changes while it is read does not look complete."""
        place.put("a", b"first content")
        with place.share.open(safe_path("a")) as source:
            source.read(5)
            place.put_there("a", b"something else")
            with pytest.raises(SourceChanged):
                source.check_unchanged()


class ChangeTests:
    def test_make_folder(self, place: Place) -> None:
        """Folders are made, with those above them where that is asked for."""
        make = place.share.make_folder
        with pytest.raises(NotFound):
            make(safe_path("a/b"), parents=False, exist_ok=False)
        assert make(safe_path("a/b"), parents=True, exist_ok=False)
        with pytest.raises(Exists):
            make(safe_path("a/b"), parents=True, exist_ok=False)
        assert not make(safe_path("a/b"), parents=True, exist_ok=True)
        place.put("f", b"1")
        with pytest.raises(Exists):
            make(safe_path("f"), parents=True, exist_ok=True)
        assert place.store.make_folder(safe_path("a/c")) == Stored("a/c", 0, "")
        assert place.store.make_folder(safe_path("a/c")).already
        assert place.kinds("a") == {"b": "folder", "c": "folder"}

    def test_move(self, place: Place) -> None:
        """A file or folder gets another name; one that is taken only where that is meant."""
        place.put("a", b"a")
        place.put("b", b"b")
        place.put("sub/deep/x", b"x")
        with pytest.raises(Exists):
            place.share.move(safe_path("a"), safe_path("b"), overwrite=False)
        assert place.read("b") == b"b"
        place.share.move(safe_path("a"), safe_path("b"), overwrite=True)
        assert place.read("b") == b"a" and place.missing("a")
        place.share.move(safe_path("b"), safe_path("sub/c"), overwrite=False)
        place.share.move(safe_path("sub"), safe_path("other"), overwrite=False)
        assert place.read("other/c") == b"a" and place.read("other/deep/x") == b"x"
        assert place.names() == ["other"]
        with pytest.raises(BadName):
            place.share.move(safe_path("other"), safe_path("other/in"), overwrite=False)
        for path, to in (("none", "x"), ("other", "none/x")):
            with pytest.raises(NotFound):
                place.share.move(safe_path(path), safe_path(to), overwrite=False)

    def test_append(self, place: Place) -> None:
        """A tail goes to the end of a file, and is gone then."""
        # covers: S2-26
        place.put("log", b"begin.")
        place.put("tail", b"end")
        assert place.share.append(safe_path("log"), safe_path("tail")) == 9
        assert place.read("log") == b"begin.end"
        assert place.names() == ["log"]
        with pytest.raises(NotFound):
            place.share.append(safe_path("log"), safe_path("tail"))
        place.put("tail", b"end")
        with pytest.raises(NotFound):
            place.share.append(safe_path("none"), safe_path("tail"))
        with pytest.raises(BadName):
            place.share.append(safe_path("log"), safe_path("log"))
        assert place.names() == ["log", "tail"]

    def test_append_together(self, place: Place) -> None:
        """Of several that append at once, none loses a byte and none gets between another's."""
        # covers: S2-26
        place.put("log", b"")
        tails = {f"t{n}": b"%d" % n * 50_000 for n in range(4)}
        for name, data in tails.items():
            place.put_small(name, data)
        workers = [
            threading.Thread(target=place.share.append, args=(safe_path("log"), safe_path(name)))
            for name in tails
        ]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        found = place.read("log")
        runs = [found[at : at + 50_000] for at in range(0, len(found), 50_000)]
        assert sorted(runs) == sorted(tails.values())

    def test_remove(self, place: Place) -> None:
        """Files go, and folders where they are empty or all of it is meant."""
        place.put("a/b/c", b"1")
        place.put("a/d", b"1")
        place.put("keep", b"1")
        with pytest.raises(Exists):
            place.share.remove(safe_path("a"), recursive=False)
        assert place.read("a/b/c") == b"1"
        place.share.remove(safe_path("a/b/c"), recursive=False)
        place.share.remove(safe_path("a/b"), recursive=False)
        assert place.names("a") == ["d"]
        place.share.remove(safe_path("a"), recursive=True)
        with pytest.raises(NotFound):
            place.share.remove(safe_path("a"), recursive=True)
        with pytest.raises(Forbidden):
            place.share.remove(None, recursive=True)
        assert place.names() == ["keep"]


class LocalTests:
    """What several steps on this device's own disk leave to others in between."""

    def test_move_in_one_step(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A new file that gets the old name meanwhile is not taken away with it."""
        if _own_call("renameat2", (3, 15)) is None:
            pytest.skip("needs renameat2")
        place = local(tmp_path)
        place.put("a", b"old")

        def fails(*args: Any, **how: Any) -> None:
            raise AssertionError("a second name, and then the first removed")

        monkeypatch.setattr(os, "link", fails)
        place.share.move(safe_path("a"), safe_path("b"), overwrite=False)
        assert place.read("b") == b"old" and place.names() == ["b"]

    @pytest.mark.parametrize("kind", ["file", "folder", "link"])
    @pytest.mark.parametrize("atomic", [False, True])
    def test_move_where_something_came(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, atomic: bool
    ) -> None:
        """What got the new name just now stays."""
        place, root = local(tmp_path), tmp_path / "root"
        if kind == "file":
            place.put("a", b"old")
        elif kind == "folder":
            (root / "a").mkdir()
        else:
            (root / "a").symlink_to("x")
        real, looked = Tree.look, list[str]()

        def look(tree: Tree, folder: int, name: str) -> Any:
            found = real(tree, folder, name)
            if name == "b" and not looked:
                looked.append(name)
                (root / "b").write_bytes(b"came")
            return found

        monkeypatch.setattr(Tree, "look", look)
        if not atomic:
            monkeypatch.setattr(shares, "rename_new", lambda *names: False)
        with pytest.raises(Exists):
            place.share.move(safe_path("a"), safe_path("b"), overwrite=False)
        assert (root / "b").read_bytes() == b"came"
        assert os.path.lexists(root / "a")


class FirstTests:
    """What is asked before anything else was, so that a connection is made for it."""

    @pytest.fixture
    def volume(self, place: Place) -> Iterator[Any]:
        if place.kind == "local":
            pytest.skip("a folder of this device is no volume")
        place.put("a", b"a")
        again = place.again()
        yield again.share._place
        for close in again.closed:
            close()

    def test_store(self, volume: Any) -> None:
        """A file is stored, small or in parts."""
        for size in (1, 20 * MIB):
            volume.store((f"b{size}",), iter([b"x" * size]), None, False)
            assert volume.look((f"b{size}",)).size == size

    def test_taken(self, volume: Any) -> None:
        """A name that is taken is refused by the place itself, small or in parts."""
        for size in (1, 20 * MIB):
            with pytest.raises(FileExistsError):
                volume.store(("a",), iter([b"x" * size]), None, False)
        assert volume.look(("a",)).size == 1

    def test_rename(self, volume: Any) -> None:
        """A file gets another name."""
        volume.rename(("a",), ("b",), False)
        assert [name for name, _ in volume.names(()) if name[0] != "."] == ["b"]

    def test_open(self, volume: Any) -> None:
        """A file is read."""
        file = volume.open(("a",))
        assert file.read(9) == b"a"
        file.close()

    def test_remove(self, volume: Any) -> None:
        """A file goes."""
        volume.remove(("a",))
        assert volume.look(("a",)) is None


class RestTests:
    def test_words(self, place: Place) -> None:
        """What a place does not promise it says; a local folder and nothing else has no word."""
        words = place.store.weaknesses()
        assert all(each.endswith(".") for each in words)
        assert (words == ()) is (place.kind == "local")

    def test_tidy(self, place: Place) -> None:
        """Parts that nobody goes on with are removed, and nothing else."""
        place.put("a", b"a")
        part = place.open_part("b", b"bb")
        part.begin(0)
        part.write([b"b"])
        part.keep()
        assert place.store.holds(place.key("b", b"bb"))
        assert place.store.tidy(3600) == 0
        assert place.store.tidy(-3600) >= 1
        assert not place.store.holds(place.key("b", b"bb"))
        assert place.read("a") == b"a"
