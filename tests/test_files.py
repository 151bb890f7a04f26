"""Shared folders between real devices: looking, fetching, putting, changing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from lanxfer import fetching
from lanxfer.client import Client
from lanxfer.errors import (
    BadConfig,
    BadName,
    BadState,
    Exists,
    Forbidden,
    LanxferError,
    NotFound,
    NotPaired,
    SourceChanged,
)
from lanxfer.fetching import FileFacts
from lanxfer.storage.staging import NAME as STAGING
from lanxfer.transfers import Conflict, Snapshot, State
from lanxfer.wire import limits
from tests.devices import Devices, in_reactor

MIB = 1024 * 1024


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


async def reach(
    devices: Devices, shared: Path, mode: str = "rw", rights: str = "", **settings: Any
) -> Client:
    """A client of a device that shares one folder as "docs"."""
    if rights:
        devices.state("nas").write("rights", rights.encode())
    service = await devices.start("nas", shares=(f"docs={shared}:{mode}",), **settings)
    await devices.pair("kitchen", service, "nas")
    return await devices.client("kitchen", "nas")


async def names(entries: Any) -> list[str]:
    return [each.path async for each in entries]


def big(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


class LookTests:
    @in_reactor
    async def test_list(self, devices: Devices, shared: Path) -> None:
        """A folder is listed with kinds and sizes, links as links, in order."""
        # covers: S2-29 S2-30 S2-31
        (shared / "b c.txt").write_bytes(b"12345")
        (shared / "a").mkdir()
        (shared / "link").symlink_to("/etc")
        client = await reach(devices, shared)
        found = [each async for each in client.list("docs")]
        assert [(each.name, each.kind, each.size) for each in found] == [
            ("a", "folder", 0),
            ("b c.txt", "file", 5),
            ("link", "link", 0),
        ]
        assert found[2].target == "/etc"
        assert found[1].mtime_ns == (shared / "b c.txt").stat().st_mtime_ns
        assert await client.stat("docs/b c.txt") == found[1]
        assert (await client.stat("docs")).kind == "folder"
        assert await client.exists("docs/link") and not await client.exists("docs/none")
        assert await names(client.list()) == ["docs"]

    @pytest.mark.parametrize("dotfiles", [False, True])
    @in_reactor
    async def test_hidden(self, devices: Devices, shared: Path, dotfiles: bool) -> None:
        """What is hidden is not shown, given, taken or removed, unless that was asked for."""
        # covers: P09
        (shared / "seen").write_bytes(b"")
        (shared / ".git").mkdir()
        (shared / ".git" / "config").write_bytes(b"hidden")
        client = await reach(devices, shared, dotfiles=dotfiles)
        if dotfiles:
            assert await names(client.list("docs")) == ["docs/.git", "docs/seen"]
            assert (await client.stat("docs/.git/config")).size == 6
            return
        assert await names(client.list("docs")) == ["docs/seen"]
        for asked in (
            client.stat("docs/.git/config"),
            client.mkdir("docs/.new"),
            client.remove("docs/.git/config"),
            client.move("docs/seen", "docs/.seen"),
        ):
            with pytest.raises(BadName):
                await asked
        assert (shared / ".git" / "config").read_bytes() == b"hidden"

    @in_reactor
    async def test_odd_names(self, devices: Devices, shared: Path) -> None:
        """A name that no path can spell is listed in another form, and leads nowhere."""
        # covers: S2-30 S2-61
        (shared / "new\nline").write_bytes(b"1")
        (Path(os.fsdecode(os.fsencode(shared) + b"/\xff"))).write_bytes(b"1")
        client = await reach(devices, shared)
        found = [each async for each in client.list("docs")]
        assert sorted(each.name for each in found) == ["\\udcff", "new\\x0aline"]
        assert not any(each.usable for each in found)

    @in_reactor
    async def test_lazy(self, devices: Devices, shared: Path) -> None:
        """Other calls go on while a long list is read, and it may be left half-way."""
        # covers: S2-29 S2-08
        for number in range(3000):
            (shared / f"{number:04}").touch()
        client = await reach(devices, shared)
        listing = client.list("docs")
        assert (await listing.__anext__()).name == "0000"
        assert (await client.stat("docs/2999")).size == 0
        await listing.aclose()  # type: ignore[attr-defined]
        assert len(await names(client.list("docs"))) == 3000

    @in_reactor
    async def test_walk(self, devices: Devices, shared: Path) -> None:
        """A walk finds everything once, and a link to where it came from leads nowhere."""
        # covers: S2-29 S2-36
        (shared / "a" / "b").mkdir(parents=True)
        (shared / "a" / "b" / "c").write_bytes(b"")
        (shared / "a" / "loop").symlink_to("..")
        client = await reach(devices, shared)
        assert await names(client.walk("docs")) == [
            "docs/a",
            "docs/a/b",
            "docs/a/b/c",
            "docs/a/loop",
        ]


class ReachTests:
    @in_reactor
    async def test_outside(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """Neither dots nor links lead out of a shared folder."""
        # covers: S2-36 L05
        (tmp_path / "secret").write_bytes(b"secret")
        (shared / "link").symlink_to(tmp_path / "secret")
        (shared / "out").symlink_to(tmp_path)
        client = await reach(devices, shared)
        refused: dict[str, type[LanxferError]] = {
            "docs/../secret": BadName,
            "docs/link": Forbidden,
            "docs/out/secret": NotFound,
            "none/secret": NotFound,
            f"docs/{STAGING}/lock": BadName,
        }
        for path, error in refused.items():
            with pytest.raises(error):
                await client.call("read_file", {"path": path, "take": 65536})
        assert await names(client.list("docs")) == ["docs/link", "docs/out"]

    @in_reactor
    async def test_read_only(self, devices: Devices, shared: Path) -> None:
        """A folder is shared for reading unless it was said that it may be changed."""
        # covers: S2-07
        (shared / "a").write_bytes(b"a")
        client = await reach(devices, shared, "ro")
        source = devices.source("new", b"new")
        for act in (
            client.put(source, "docs/new"),
            client.mkdir("docs/new"),
            client.move("docs/a", "docs/b"),
            client.remove("docs/a"),
        ):
            with pytest.raises(Forbidden):
                await act
        assert sorted(os.listdir(shared)) == ["a"]

    @in_reactor
    async def test_rights(self, devices: Devices, shared: Path) -> None:
        """The nearest rule of the file of rights counts, and none is no."""
        # covers: S2-53 S2-07
        (shared / "open").mkdir()
        (shared / "open" / "a").write_bytes(b"a")
        (shared / "open" / "closed").mkdir()
        (shared / "open" / "closed" / "b").write_bytes(b"b")
        rights = "[peers]\n/docs/open = all\n/docs/open/closed = list\n"
        client = await reach(devices, shared, "rw", rights)
        assert await names(client.list()) == []
        with pytest.raises(Forbidden):
            await names(client.list("docs"))
        assert await names(client.list("docs/open/closed")) == ["docs/open/closed/b"]
        with pytest.raises(Forbidden):
            await client.get("docs/open/closed/b", devices.folder)
        # What may not be read or removed does not go along with the folder it is in.
        for act in (
            client.move("docs/open/closed", "docs/open/other"),
            client.remove("docs/open", recursive=True),
            client.move("docs/open", "docs/new"),
        ):
            with pytest.raises(Forbidden):
                await act
        await client.get("docs/open/a", devices.folder / "a")

    @in_reactor
    async def test_nothing_shared(self, devices: Devices) -> None:
        """Nothing is shared that was not named."""
        service = await devices.start("nas")
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        assert await names(client.list()) == []
        with pytest.raises(NotFound):
            await client.stat("docs")

    @in_reactor
    async def test_key_is_not_shared(self, devices: Devices, tmp_path: Path) -> None:
        """A folder that contains this device's key is not shared, under whatever name."""
        # covers: L05
        devices.key("nas")
        (tmp_path / "link").symlink_to(tmp_path)
        for folder in (tmp_path, tmp_path / "link", devices.state("nas").path, "/"):
            service = devices.service("nas", shares=(f"all={folder}",))
            with pytest.raises(BadConfig):
                service.startService()
        with pytest.raises(BadState):
            devices.service("nas", shares=(f"all={tmp_path}/none",)).startService()
        with pytest.raises(BadConfig):
            devices.service("nas", shares=("a=/srv", "A=/srv")).startService()

    @in_reactor
    async def test_guests(self, devices: Devices, shared: Path) -> None:
        """Who is not known reaches no shared folder, also where everybody may offer."""
        # covers: S2-05
        service = await devices.start("nas", shares=(f"docs={shared}",), open=True)
        devices.pin("kitchen", "nas", service.address)
        client = await devices.client("kitchen", "nas")
        with pytest.raises((Forbidden, NotPaired)):
            await client.stat("docs")


class GetTests:
    @in_reactor
    async def test_get(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """A file comes with its bytes and its time, and progress ends at its size."""
        # covers: S2-21 S2-24 S2-38
        data = big(3 * MIB)
        (shared / "a.bin").write_bytes(data)
        os.utime(shared / "a.bin", ns=(1, 10**18))
        client = await reach(devices, shared, "ro")
        told: list[tuple[int, int]] = []
        target = tmp_path / "new.bin"
        receipt = await client.get(
            "docs/a.bin", target, on_progress=lambda *each: told.append(each)
        )
        assert target.read_bytes() == data
        assert target.stat().st_mtime_ns == 10**18
        assert (receipt.stored, receipt.size) == (str(target), len(data))
        assert told[-1] == (len(data), len(data))
        assert (await client.get("docs/a.bin", target)).already
        assert not (tmp_path / STAGING).exists()

    @in_reactor
    async def test_conflict(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """What is there is replaced only by who says so."""
        (shared / "a").write_bytes(b"new")
        target = tmp_path / "a"
        target.write_bytes(b"what was there")
        client = await reach(devices, shared, "ro")
        with pytest.raises(Exists):
            await client.get("docs/a", target)
        assert target.read_bytes() == b"what was there"
        await client.get("docs/a", target, conflict=Conflict.OVERWRITE)
        assert target.read_bytes() == b"new"

    @in_reactor
    async def test_resume(
        self, devices: Devices, shared: Path, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """A fetch that broke off goes on from what is proved to be here already."""
        # covers: S2-27
        data = big(40 * MIB)
        (shared / "a.bin").write_bytes(data)
        client = await reach(devices, shared, "ro")
        units, unit, came = [], fetching._unit, 0

        async def counted(inflow: Any) -> list[bytes]:
            nonlocal came
            units.append(await unit(inflow))
            came += sum(map(len, units[-1]))
            if len(units) == 40:
                client._connection.transport.abortConnection()  # type: ignore[union-attr]
            return units[-1]

        monkeypatch.setattr(fetching, "_unit", counted)
        receipt = await client.get("docs/a.bin", tmp_path / "a.bin")
        assert receipt.resumed_from >= 16 * MIB
        assert came < len(data) * 5 // 4
        assert (tmp_path / "a.bin").read_bytes() == data

    @in_reactor
    async def test_cancel(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """A fetch that is cancelled leaves nothing, and the connection goes on."""
        # covers: S2-09 S2-28
        (shared / "a.bin").write_bytes(big(16 * MIB))
        client = await reach(devices, shared, "ro")
        running: list[Any] = []

        def cancel(snapshot: Snapshot) -> None:
            if snapshot.state is State.MOVING and running:
                reactor.callLater(0, running.pop().cancel)  # type: ignore[attr-defined]

        client.registry.subscribe(cancel)
        getting = client.get("docs/a.bin", tmp_path / "a.bin")
        running.append(getting)
        with pytest.raises(LanxferError) as caught:
            await getting
        assert caught.value.code == "cancelled"
        assert not (tmp_path / "a.bin").exists() and not (tmp_path / STAGING).exists()
        assert (await client.stat("docs/a.bin")).size == 16 * MIB

    @in_reactor
    async def test_source_changed(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """A file that changes while it is read never looks complete."""
        # covers: S2-45
        (shared / "a.bin").write_bytes(big(8 * MIB))
        client = await reach(devices, shared, "ro")
        async with await client.open_read("docs/a.bin") as file:
            assert len(await file.read_exactly(1000)) == 1000
            (shared / "a.bin").write_bytes(b"short")
            with pytest.raises(SourceChanged):
                async for _ in file:
                    pass

    @in_reactor
    async def test_stream(self, devices: Devices, shared: Path) -> None:
        """A file is read from an offset, in lines, and two readers do not disturb each other."""
        # covers: S2-24 S2-25 S2-43
        (shared / "a").write_bytes(b"one\r\ntwo\nthree")
        client = await reach(devices, shared, "ro")
        file = await client.open_read("docs/a", offset=5)
        async with file, await client.open_read("docs/a") as other:
            assert await other.read(3) == b"one"
            assert [line async for line in file.lines()] == [b"two\n", b"three"]
            assert await other.read() == b"\r\ntwo\nthree"
            assert await other.read() == b""

    @in_reactor
    async def test_tree(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """A folder comes as it is, empty folders too, links left out and told of."""
        # covers: S2-21
        (shared / "a" / "empty").mkdir(parents=True)
        (shared / "a" / "x").write_bytes(b"x")
        (shared / "y").write_bytes(b"yy")
        (shared / "link").symlink_to("y")
        client = await reach(devices, shared, "ro")
        sent = await client.get_tree("docs", tmp_path / "copy")
        copy = tmp_path / "copy"
        assert sorted(str(each.relative_to(copy)) for each in copy.rglob("*")) == [
            "a",
            "a/empty",
            "a/x",
            "y",
        ]
        assert (sent.files, sent.folders, sent.bytes) == (2, 2, 3)
        assert [path for path, _ in sent.skipped] == ["docs/link"]

    @in_reactor
    async def test_tree_odd_names(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """A file whose name cannot be used did not arrive, and neither did such a folder."""
        # covers: S2-21
        (shared / "x").write_bytes(b"x")
        (shared / "a:b").write_bytes(b"lost")
        (shared / os.fsdecode(b"\xff")).write_bytes(b"lost")
        (shared / "aux").mkdir()
        client = await reach(devices, shared, "ro")
        told = dict[str, Any]()
        sent = await client.get_tree("docs", tmp_path / "copy", on_entry=told.__setitem__)
        assert os.listdir(tmp_path / "copy") == ["x"]
        assert (sent.files, sent.folders, sent.skipped) == (1, 0, [])
        assert [error.code for _, error in sent.failed] == ["bad-name"] * 3
        assert sorted(told) == sorted(["docs/x", *(path for path, _ in sent.failed)])

    @in_reactor
    async def test_hostile_list(
        self, devices: Devices, shared: Path, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """A list that names a way out of the target writes nothing outside of it."""
        # covers: S2-21
        client = await reach(devices, shared, "ro")

        async def hostile(path: str) -> Any:
            for name in ("../x", "/x", "a/../../x", STAGING):
                yield FileFacts(f"docs/{name}", name, "file")

        monkeypatch.setattr(client, "list", hostile)
        sent = await client.get_tree("docs", tmp_path / "deep" / "copy")
        assert [error.code for _, error in sent.failed] == ["bad-name"] * 4
        assert os.listdir(tmp_path / "deep") == ["copy"]
        assert not (tmp_path / "x").exists()


class PutTests:
    @in_reactor
    async def test_put(self, devices: Devices, shared: Path) -> None:
        """A small and a large file arrive under their names, and folders are made for them."""
        # covers: S2-20 S2-22
        client = await reach(devices, shared)
        small, large = devices.source("s", b"small"), devices.source("l", big(20 * MIB))
        receipt = await client.put(small, "docs/new/s.txt")
        assert (receipt.stored, receipt.size) == ("docs/new/s.txt", 5)
        await client.put(large, "docs/l.bin")
        assert (shared / "new" / "s.txt").read_bytes() == b"small"
        assert (shared / "l.bin").read_bytes() == big(20 * MIB)
        with pytest.raises(Exists):
            await client.put(large, "docs/new/s.txt")
        await client.put(large, "docs/new/s.txt", conflict=Conflict.OVERWRITE)
        assert (shared / "new" / "s.txt").stat().st_size == 20 * MIB
        assert not devices.inbox("nas").joinpath("new").exists()

    @in_reactor
    async def test_resume(self, devices: Devices, shared: Path) -> None:
        """A put that broke off goes on from what is there."""
        # covers: S2-27
        client = await reach(devices, shared)
        source = devices.source("l", big(64 * MIB))
        broken: list[int] = []

        def breaks(done: int, size: int) -> None:
            if done and not broken:
                broken.append(done)
                client._connection.transport.abortConnection()  # type: ignore[union-attr]

        receipt = await client.put(source, "docs/l", on_progress=breaks)
        assert broken and receipt.resumed_from > 0
        assert (shared / "l").read_bytes() == big(64 * MIB)

    @in_reactor
    async def test_stream(self, devices: Devices, shared: Path) -> None:
        """Data that is made on the way becomes a file when it is finished, and not before."""
        # covers: S2-24
        client = await reach(devices, shared)
        async with await client.open_write("docs/made") as file:
            for number in range(10):
                await file.write(bytes([number]) * MIB)
            assert not (shared / "made").exists()
        assert file.receipt is not None and file.receipt.size == 10 * MIB
        data = (shared / "made").read_bytes()
        assert data == b"".join(bytes([number]) * MIB for number in range(10))
        with pytest.raises(ZeroDivisionError):
            async with await client.open_write("docs/half") as file:
                await file.write(b"half")
                1 / 0  # noqa: B018
        assert not (shared / "half").exists() and not os.path.exists(file._spool.path)

    @in_reactor
    async def test_tree(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """A folder arrives as it is, under the name it is put to."""
        # covers: S2-20 S2-22
        devices.source("tree/a/b/c", b"c")
        devices.source("tree/d", b"dd")
        (tmp_path / "tree" / "empty").mkdir()
        os.utime(tmp_path / "tree" / "d", ns=(1, 10**18))
        client = await reach(devices, shared)
        sent = await client.put_tree(tmp_path / "tree", "docs/copy/of it")
        assert (sent.files, sent.failed) == (2, [])
        copy = shared / "copy" / "of it"
        assert sorted(str(each.relative_to(copy)) for each in copy.rglob("*")) == [
            "a",
            "a/b",
            "a/b/c",
            "d",
            "empty",
        ]
        assert (copy / "d").stat().st_mtime_ns == 10**18


class ChangeTests:
    @in_reactor
    async def test_append(self, devices: Devices, shared: Path) -> None:
        """Two that append at once both get their bytes in, one after the other."""
        # covers: S2-26
        (shared / "log").write_bytes(b"begin.")
        client = await reach(devices, shared)
        first = devices.source("1", b"1" * 3 * MIB)
        second = devices.source("2", b"2" * 3 * MIB)
        adding = [client.append(each, "docs/log") for each in (first, second)]
        assert sorted([await each for each in adding]) == [6 + 3 * MIB, 6 + 6 * MIB]
        one, two = b"1" * 3 * MIB, b"2" * 3 * MIB
        assert (shared / "log").read_bytes() in (b"begin." + one + two, b"begin." + two + one)
        with pytest.raises(NotFound):
            await client.append(first, "docs/none")
        (shared / "link").symlink_to(shared / "log")
        with pytest.raises(Forbidden):
            await client.append(first, "docs/link")
        assert sorted(os.listdir(shared)) == [STAGING, "link", "log"]

    @in_reactor
    async def test_mkdir(self, devices: Devices, shared: Path) -> None:
        """Folders are made with those above them, by several at once where that is meant."""
        # covers: S2-32 S2-06
        client = await reach(devices, shared)
        made = [client.mkdir("docs/a/b/c", exist_ok=True) for _ in range(4)]
        assert sorted([await each for each in made]) == [False, False, False, True]
        with pytest.raises(Exists):
            await client.mkdir("docs/a/b/c")
        with pytest.raises(NotFound):
            await client.mkdir("docs/x/y", parents=False)
        assert not (shared / "x").exists()

    @in_reactor
    async def test_move(self, devices: Devices, shared: Path) -> None:
        """A name that is taken is kept, unless it is a file's and that is meant."""
        # covers: S2-34
        (shared / "a").write_bytes(b"a")
        (shared / "b").write_bytes(b"b")
        (shared / "sub").mkdir()
        client = await reach(devices, shared)
        with pytest.raises(Exists):
            await client.move("docs/a", "docs/b")
        assert (shared / "b").read_bytes() == b"b"
        await client.move("docs/a", "docs/b", overwrite=True)
        assert (shared / "b").read_bytes() == b"a" and not (shared / "a").exists()
        await client.move("docs/b", "docs/sub/c")
        await client.move("docs/sub", "docs/other")
        assert (shared / "other" / "c").read_bytes() == b"a"
        with pytest.raises(BadName):
            await client.move("docs/other", "docs/other/in/it")
        with pytest.raises(NotFound):
            await client.move("docs/none", "docs/x")

    @in_reactor
    async def test_remove(self, devices: Devices, shared: Path, tmp_path: Path) -> None:
        """What is removed is below the folder; what a link in it points to stays."""
        # covers: S2-33 S2-06
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "precious").write_bytes(b"!")
        (shared / "a" / "b").mkdir(parents=True)
        (shared / "a" / "out").symlink_to(outside)
        (shared / "file").write_bytes(b"")
        client = await reach(devices, shared)
        await client.remove("docs/file")
        with pytest.raises(Exists):
            await client.remove("docs/a")
        await client.remove("docs/a", recursive=True)
        with pytest.raises(NotFound):
            await client.remove("docs/a")
        with pytest.raises(Forbidden):
            await client.remove("docs", recursive=True)
        assert (outside / "precious").exists()
        assert os.listdir(shared) == [STAGING]


def test_memory_is_bounded() -> None:
    """A unit of a fetch is less than what one stream may hold."""
    assert limits.UNIT <= limits.STREAM_WINDOW
