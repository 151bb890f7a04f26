"""Shares in stores, between real devices: all that can be done, and a store that hangs or fails."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, until
from object_server import BUCKET, object_server
from servers import PASSWORD, USER, free_port, ftp_server, silent_server, sshd
from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet import reactor
from twisted.protocols.ftp import FTPFactory, FTPRealm

from lanxfer.client import Client
from lanxfer.errors import (
    BadConfig,
    BadState,
    DiskFailed,
    Exists,
    Forbidden,
    NotFound,
    StoreStalled,
)
from lanxfer.policy import Principal
from lanxfer.storage.memory import MemoryStore
from lanxfer.storage.memory_volume import MemoryVolume, memory_share
from lanxfer.storage.remote import remote_volume, shown_url
from lanxfer.storage.spooled import SpooledStore
from lanxfer.storage.volumes import SharedFolder, VolumeShare
from lanxfer.transfers import Conflict

MIB = 1024 * 1024


def big(size: int) -> bytes:
    return bytes(range(256)) * (size // 256)


async def names(entries: Any) -> list[str]:
    return [each.path async for each in entries]


async def reach(devices: Devices, **settings: Any) -> Client:
    service = await devices.start("nas", **settings)
    await devices.pair("kitchen", service, "nas")
    return await devices.client("kitchen", "nas")


@pytest.fixture
def memory_url() -> str:
    pytest.importorskip("fsspec")
    return f"memory://{uuid.uuid4().hex}"


class Slow(MemoryVolume):
    """A store somewhere else, which may hang or fail; ``asked`` is what it was told to store."""

    blocks = True

    def __init__(self, held: MemoryStore) -> None:
        super().__init__(held)
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None
        self.asked: list[str] = []

    def look(self, parts: Any) -> Any:
        self.free.wait(20)
        return super().look(parts)

    def store(self, parts: Any, chunks: Any, mtime_ns: Any, replace: bool) -> None:
        self.asked.append("/".join(parts))
        if self.error is not None:
            raise self.error
        super().store(parts, chunks, mtime_ns, replace)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Slow, VolumeShare]]:
    volume = Slow(MemoryStore())
    store = SpooledStore(volume, str(tmp_path / "spool"), reserve_bytes=0, reserve_share=0)
    yield volume, VolumeShare("far", volume, store)
    volume.free.set()
    store.close()


class UrlTests:
    async def everything(self, devices: Devices, tmp_path: Path, client: Client) -> None:
        """What one does with a shared folder."""
        small, large = devices.source("s", b"small"), devices.source("l", big(20 * MIB))
        assert (await client.put(small, "far/new/s.txt")).stored == "far/new/s.txt"
        receipt = await client.put(large, "far/l.bin")
        assert (receipt.size, receipt.already) == (20 * MIB, False)
        assert await names(client.walk("far")) == ["far/l.bin", "far/new", "far/new/s.txt"]
        with pytest.raises(Exists):
            await client.put(small, "far/l.bin")
        await client.put(small, "far/l.bin", conflict=Conflict.OVERWRITE)
        assert (await client.stat("far/l.bin")).size == 5
        await client.put(large, "far/l.bin", conflict=Conflict.OVERWRITE)
        await client.get("far/l.bin", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == big(20 * MIB)
        await client.mkdir("far/a/b")
        await client.move("far/new/s.txt", "far/a/b/t.txt")
        assert await client.append(small, "far/a/b/t.txt") == 10
        async with await client.open_read("far/a/b/t.txt", offset=3) as file:
            assert await file.read_exactly(7) == b"llsmall"
        with pytest.raises(Exists):
            await client.remove("far/a")
        await client.remove("far/a", recursive=True)
        with pytest.raises(NotFound):
            await client.stat("far/a/b")
        listed = [each async for each in client.list()]
        assert [(each.name, each.kind) for each in listed] == [("far", "folder")]

    @in_reactor
    async def test_memory(self, devices: Devices, tmp_path: Path, memory_url: str) -> None:
        """A share can be a store that is named by its URL."""
        # covers: S2-47
        client = await reach(devices, shares=(f"far={memory_url}:rw",))
        await self.everything(devices, tmp_path, client)

    @in_reactor
    async def test_sftp(self, devices: Devices, tmp_path: Path, monkeypatch: Any) -> None:
        """A folder of an SFTP server, with what fsspec's own settings say about the key."""
        # covers: S2-47
        pytest.importorskip("paramiko")
        from fsspec.config import conf  # type: ignore[import-untyped]

        with sshd(tmp_path / "ssh") as server:
            known = {
                "known_hosts": str(server.known_hosts()),
                "key_filename": str(server.user_key),
                "passphrase": server.passphrase,
            }
            monkeypatch.setitem(conf, "sftp", known)
            root = tmp_path / "served" / "deep"
            url = f"sftp://{server.user}@127.0.0.1:{server.port}{root}"
            client = await reach(devices, shares=(f"far={url}:rw",))
            await self.everything(devices, tmp_path, client)
            assert (root / "l.bin").read_bytes() == big(20 * MIB)
            assert sorted(os.listdir(root)) == [".lanxfer-staging", "l.bin", "new"]
            assert os.listdir(root / ".lanxfer-staging") == []
            # Links of the server are shown and lead nowhere.
            (root / "link").symlink_to("/etc")
            (root / "file").symlink_to("/etc/passwd")
            kinds = {each.name: each.kind async for each in client.list("far")}
            assert (kinds["link"], kinds["file"]) == ("link", "link")
            with pytest.raises(NotFound):
                await client.stat("far/link/passwd")
            for asked in (
                client.open_read("far/file"),
                client.put(str(root / "l.bin"), "far/file"),
            ):
                with pytest.raises((Forbidden, Exists)):
                    await (await asked).read()  # type: ignore[union-attr]
            await client.remove("far/link")
            assert os.path.exists("/etc/passwd")
            await client.close()
            await devices.close()

    @in_reactor
    async def test_unknown_host_key(self, tmp_path: Path) -> None:
        """A server whose key nobody knows is told nothing, no password least of all."""
        pytest.importorskip("paramiko")
        with sshd(tmp_path / "ssh") as server:
            url = f"sftp://{server.user}:secret@127.0.0.1:{server.port}/tmp"
            other = server.known_hosts(server.key("other"))
            for options, words in (
                ({}, "known_hosts"),
                ({"known_hosts": str(other)}, "another key"),
            ):
                volume = remote_volume(url, allow_agent=False, look_for_keys=False, **options)
                with pytest.raises(DiskFailed, match=words):
                    volume.look(("a",))
            log = server.log.read_text().lower()
            assert "connection from" in log and "userauth" not in log

    @in_reactor
    async def test_s3(self, devices: Devices, tmp_path: Path, monkeypatch: Any) -> None:
        """A bucket, with what fsspec's own settings say about how to reach it."""
        # covers: S2-47
        pytest.importorskip("s3fs")
        from fsspec.config import conf

        with object_server(tmp_path / "s3") as server:
            monkeypatch.setitem(conf, "s3", server.options)
            client = await reach(devices, shares=(f"far=s3://{BUCKET}/some/where:rw",))
            await self.everything(devices, tmp_path, client)
            where = f"{BUCKET}/some/where"
            assert server.fs.cat(f"{where}/l.bin") == big(20 * MIB)
            await client.close()
            await devices.close()

    @in_reactor
    async def test_read_only(self, devices: Devices, memory_url: str) -> None:
        """A store is shared for reading, as a folder is, unless it was said otherwise."""
        from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

        MemoryFileSystem().pipe_file(f"/{memory_url.partition('//')[2]}/a", b"a")
        client = await reach(devices, shares=(f"far={memory_url}",))
        assert await names(client.list("far")) == ["far/a"]
        with pytest.raises(Forbidden):
            await client.put(devices.source("b", b"b"), "far/b")
        with pytest.raises(Forbidden):
            await client.remove("far/a")

    @in_reactor
    async def test_words(self, devices: Devices, memory_url: str) -> None:
        """The owner is told which promises a store does not keep."""
        service = await devices.start("nas", shares=(f"far={memory_url}:rw",))
        (said,) = [each for each in service.warnings() if each.startswith("SHARE far")]
        assert "before it is whole" in said

    @pytest.mark.parametrize(
        "share", ["a=file:///srv", "a=local:///srv", "a=nothing-known://x", "a=s3://u:p@b?:rw=://"]
    )
    @in_reactor
    async def test_wrong(self, devices: Devices, share: str, monkeypatch: Any) -> None:
        """What is no store is said when the service is started."""
        pytest.importorskip("fsspec")
        if share.startswith("a=s3"):
            monkeypatch.setattr(
                "fsspec.get_filesystem_class", lambda protocol: (_ for _ in ()).throw(ImportError())
            )
        with pytest.raises(BadConfig):
            devices.service("nas", shares=(share,)).startService()

    def test_no_password(self) -> None:
        """A URL is shown without the password in it."""
        assert shown_url("sftp://anna:s3c@ret@nas/x") == "sftp://anna:***@nas/x"
        assert shown_url("s3://bucket/a:b@c") == "s3://bucket/a:b@c"


@pytest.mark.parametrize("name", ["", "a="])
@in_reactor
async def test_no_folder(devices: Devices, tmp_path: Path, name: str) -> None:
    """A share that is no folder is said when the service is started, with a name or without."""
    with pytest.raises(BadState, match="cannot be shared"):
        devices.service("nas", shares=(f"{name}{tmp_path / 'none'}",)).startService()


class ShareTests:
    @in_reactor
    async def test_memory(self, devices: Devices, tmp_path: Path) -> None:
        """An application shares what it keeps in memory, also while the service runs."""
        # covers: S2-43
        service = await devices.start("nas")
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        held = MemoryStore()
        service.share("far", memory_share("far", held))
        await UrlTests().everything(devices, tmp_path, client)
        assert held.files["l.bin"] == big(20 * MIB)
        with pytest.raises(BadConfig):
            service.share("FAR", memory_share("FAR"))

    @in_reactor
    async def test_of_each_device(self, devices: Devices) -> None:
        """One function gives each device a folder of its own, and nobody another's."""
        # covers: S2-44
        made: dict[str, SharedFolder] = {}

        def home(principal: Principal) -> SharedFolder:
            if principal.label == "guest":
                raise NotFound("There is no home for that device.")
            return made.setdefault(principal.name, memory_share("home"))

        service = await devices.start("nas")
        service.share("home", home)
        clients = []
        for name in ("kitchen", "laptop", "guest"):
            await devices.pair(name, service, "nas")
            clients.append(await devices.client(name, "nas"))
        kitchen, laptop, guest = clients
        await kitchen.put(devices.source("a", b"of the kitchen"), "home/a")
        await laptop.put(devices.source("b", b"of the laptop"), "home/b")
        assert await names(kitchen.list("home")) == ["home/a"]
        assert await names(laptop.list("home")) == ["home/b"]
        with pytest.raises(NotFound):
            await laptop.open_read("home/a")
        assert await names(guest.list()) == []
        with pytest.raises(NotFound):
            await guest.stat("home")
        assert len(made) == 2


class HangingTests:
    @in_reactor
    async def test_others_go_on(
        self, devices: Devices, slow: tuple[Slow, VolumeShare], tmp_path: Path
    ) -> None:
        """A store that hangs holds up nobody but who asked for something there."""
        # covers: S2-42
        volume, share = slow
        (tmp_path / "docs").mkdir()
        service = await devices.start("nas", shares=(f"docs={tmp_path}/docs:rw",))
        service.share("far", share)
        for name in ("kitchen", "laptop"):
            await devices.pair(name, service, "nas")
        kitchen = await devices.client("kitchen", "nas")
        laptop = await devices.client("laptop", "nas")
        volume.free.clear()
        file = devices.source("f", big(2 * MIB))
        hanging = [kitchen.stat("far/a") for _ in range(10)]
        hanging += [kitchen.put(file, f"far/{n}") for n in range(3)]  # type: ignore[misc]
        for client in (laptop, kitchen):
            # Each of these waits for the disk, or for nothing, and none for that store.
            await client.call("ping")
            assert sorted(await names(client.list())) == ["docs", "far"]
            await client.put(file, f"docs/{client is kitchen}")
            await client.stat("docs")
            await client.send_file(file)
        assert not any(each.called for each in hanging)
        volume.free.set()
        for each in hanging[:10]:
            with pytest.raises(NotFound):
                await each
        for put in hanging[10:]:
            assert (await put).size == 2 * MIB

    @in_reactor
    async def test_given_up(self, devices: Devices, slow: tuple[Slow, VolumeShare]) -> None:
        """Who asks a store that hangs is told so in the end, and the connection goes on."""
        # covers: S2-46
        volume, share = slow
        service = await devices.start("nas", limits=("store-patience=0.3",))
        service.share("far", share)
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        await client.call("ping")
        connection = client._connection
        volume.free.clear()
        with pytest.raises(StoreStalled):
            await client.stat("far/a")
        with pytest.raises(StoreStalled):
            await client.mkdir("far/b")
        await client.call("ping")
        assert client._connection is connection
        volume.free.set()
        await until(lambda: not service._now.node.stores.of(volume)._running)
        assert not await client.exists("far/a")

    @in_reactor
    async def test_stopping(self, devices: Devices, slow: tuple[Slow, VolumeShare]) -> None:
        """A service with a store that hangs can be stopped."""
        volume, share = slow
        service = await devices.start("nas", drain=0.1)
        service.share("far", share)
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        volume.free.clear()
        asked = client.stat("far/a")
        asked.addErrback(lambda why: None)
        await until(lambda: service._now.node.stores.of(volume)._running)
        await service.stopService()
        await asked
        assert not volume.free.is_set()


class LostTests:
    """Connections that break, and servers that never say a word."""

    @in_reactor
    async def test_silent(self, devices: Devices, tmp_path: Path) -> None:
        """A server that takes the connection and says nothing holds up nobody else."""
        # covers: S2-42 S2-46
        pytest.importorskip("paramiko")
        (tmp_path / "docs").mkdir()
        with silent_server() as port:
            shares = (f"far=sftp://anna@127.0.0.1:{port}/x:rw", f"docs={tmp_path}/docs:rw")
            client = await reach(devices, shares=shares, limits=("store-patience=0.5",), drain=0.1)
            asked = client.stat("far/a")
            file = devices.source("f", b"f")
            await client.put(file, "docs/f")
            assert sorted(await names(client.list())) == ["docs", "far"]
            assert not asked.called
            with pytest.raises(StoreStalled):
                await asked
            await client.close()
            await devices.close()

    def test_sftp(self, tmp_path: Path) -> None:
        """A connection that was lost is made again by the next look."""
        pytest.importorskip("paramiko")
        with sshd(tmp_path / "ssh") as server:
            (tmp_path / "served").mkdir()
            (tmp_path / "served" / "a").write_bytes(b"a")
            volume = remote_volume(
                f"sftp://{server.user}@127.0.0.1:{server.port}{tmp_path}/served",
                known_hosts=str(server.known_hosts()),
                key_filename=str(server.user_key),
                passphrase=server.passphrase,
            )
            for _ in range(3):
                facts = volume.look(("a",))
                assert facts is not None and facts.size == 1
                assert [name for name, _ in volume.names(())] == ["a"]
                volume._fs.client.get_transport().close()
            volume.close()

    def test_no_server(self) -> None:
        """Nobody there is said as that, and no path and no password with it."""
        pytest.importorskip("paramiko")
        volume = remote_volume(f"sftp://anna:s3cret@127.0.0.1:{free_port()}/deep/folder")
        with pytest.raises(DiskFailed) as caught:
            volume.look(("a",))
        assert "s3cret" not in str(caught.value) and "deep" not in str(caught.value)

    def test_no_bucket(self, tmp_path: Path) -> None:
        """A bucket that is not there is no empty folder."""
        pytest.importorskip("s3fs")
        with object_server(tmp_path / "s3") as server:
            volume = remote_volume("s3://none/x", **server.options)
            with pytest.raises(NotFound):
                volume.names(())

    def test_half_an_object(self, tmp_path: Path) -> None:
        """What breaks off in the middle of an object leaves none, and nothing unfinished."""
        pytest.importorskip("s3fs")
        with object_server(tmp_path / "s3") as server:
            volume = remote_volume(f"s3://{BUCKET}/x", **server.options)

            def chunks() -> Iterator[bytes]:
                for _ in range(40):
                    yield b"x" * MIB
                raise OSError("the source broke")

            with pytest.raises((OSError, DiskFailed)):
                volume.store(("a",), chunks(), None, False)
            assert volume.look(("a",)) is None
            left = server.fs.call_s3("list_multipart_uploads", Bucket=BUCKET)
            assert "Uploads" not in left


class FailingTests:
    @in_reactor
    async def test_again(self, devices: Devices, slow: tuple[Slow, VolumeShare]) -> None:
        """What a store did not take is not stored; the same put again sends no byte of it."""
        # covers: S2-45 S2-10
        volume, share = slow
        service = await devices.start("nas")
        service.share("far", share)
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        file = devices.source("f", big(4 * MIB))
        volume.error = DiskFailed("The store has a bad day.")
        with pytest.raises(DiskFailed, match="bad day"):
            await client.put(file, "far/f")
        assert not await client.exists("far/f")
        volume.error = None
        receipt = await client.put(file, "far/f")
        assert (receipt.size, receipt.resumed_from) == (4 * MIB, 4 * MIB)
        assert volume.asked == ["f", "f"]
        async with await client.open_read("far/f") as read:
            assert b"".join([each async for each in read]) == big(4 * MIB)


class FtpTests:
    @in_reactor
    async def test_list(self, devices: Devices, tmp_path: Path) -> None:
        """The list of an FTP server without machine-readable ones is what is in the folder."""
        # covers: S2-37
        pytest.importorskip("fsspec")
        served = tmp_path / "served"
        (served / "a folder").mkdir(parents=True)
        for name, size in (("one.txt", 1), ("two words.bin", 70_000), ("ünï.txt", 12)):
            (served / name).write_bytes(b"x" * size)
        portal = Portal(FTPRealm(str(served)), [AllowAnonymousAccess()])
        port = reactor.listenTCP(  # type: ignore[attr-defined]
            0, FTPFactory(portal), interface="127.0.0.1"
        )
        try:
            number = port.getHost().port
            client = await reach(devices, shares=(f"far=ftp://127.0.0.1:{number}",))
            found = {each.name: (each.kind, each.size) async for each in client.list("far")}
            with os.scandir(served) as entries:
                there = {
                    each.name: ("folder", 0) if each.is_dir() else ("file", each.stat().st_size)
                    for each in entries
                }
            assert found == there
            await client.close()
            await devices.close()
        finally:
            await port.stopListening()

    @in_reactor
    async def test_everything(self, devices: Devices, tmp_path: Path, monkeypatch: Any) -> None:
        """A folder of an FTP server: all that can be done in others."""
        # covers: S2-37 S2-47
        pytest.importorskip("fsspec")
        pytest.importorskip("pyftpdlib")
        from fsspec.config import conf

        with ftp_server(tmp_path / "served") as server:
            monkeypatch.setitem(conf, "ftp", {"username": USER, "password": PASSWORD})
            client = await reach(devices, shares=(f"far=ftp://127.0.0.1:{server.port}/in:rw",))
            await UrlTests().everything(devices, tmp_path, client)
            assert (tmp_path / "served" / "in" / "l.bin").read_bytes() == big(20 * MIB)
            await client.close()
            await devices.close()
