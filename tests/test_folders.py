"""What shared folders promise whoever asks: words, pieces, secrets, and no way out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from devices import Devices, in_reactor
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse as Passwords
from twisted.logger import globalLogPublisher, textFileLogObserver

from lanxfer.client import Client
from lanxfer.commands.declared import command
from lanxfer.errors import (
    AuthFailed,
    BadName,
    Exists,
    Forbidden,
    LanxferError,
    NotFound,
    UnknownCommand,
)
from lanxfer.showing import censored
from lanxfer.wire import limits

KIB, MIB = 1024, 1024 * 1024


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


async def reach(devices: Devices, shared: Path, **settings: Any) -> Client:
    service = await devices.start("nas", shares=(f"docs={shared}:rw",), **settings)
    await devices.pair("kitchen", service, "nas")
    return await devices.client("kitchen", "nas")


def big(size: int) -> bytes:
    return os.urandom(4096) * (size // 4096)


class WordsTests:
    @in_reactor
    async def test_before_the_answer(self, devices: Devices, shared: Path) -> None:
        """A put of what is there in part hears how much, sends the rest, has one answer."""
        # covers: S2-10
        client = await reach(devices, shared)
        data = big(192 * MIB)  # more than goes before a break is seen
        source = devices.source("l", data)
        lines: list[tuple[str, dict[str, Any]]] = []

        def note(way: str, line: bytes) -> None:
            lines.append((way, json.loads(line)))

        def breaks(done: int, size: int) -> None:
            if done and not lines:
                client._connection.transport.abortConnection()  # type: ignore[union-attr]
                lines.append(("-", {}))

        with pytest.raises(LanxferError):
            # The first try alone: the connection of the second is looked at.
            putting = client.put(source, "docs/l", on_progress=breaks)
            client._retrying.patience = 0.0
            await putting
        client._retrying.patience = 60.0
        lines.clear()
        (await client.connected()).trace(note)
        receipt = await client.put(source, "docs/l")
        assert receipt.resumed_from > 0
        # The last: one before it may have been told that the broken one is not over yet.
        asked = [said for way, said in lines if said.get("name") == "recv_file"][-1]
        mine = [
            said for way, said in lines if way == "<" and asked["do"] in list(said.values())[:1]
        ]
        kinds = [next(iter(said)) for said in mine if "window" not in list(said)[:1]]
        assert kinds == ["go", "ok"]
        assert mine[0]["have"][0][0] >= receipt.resumed_from
        parts = [said for way, said in lines if "part" in said]
        assert parts[0]["offset"] == receipt.resumed_from
        assert sum(said["body"] for said in parts) == len(data) - receipt.resumed_from
        assert (shared / "l").read_bytes() == data

    @in_reactor
    async def test_lines(self, devices: Devices, shared: Path) -> None:
        """Line ends in names and answers make no line of the protocol's."""
        # covers: S2-11
        odd = ["a\r\nb", '{"ok": 1}\n', "\r", "plain"]
        for name in odd:
            (shared / name).touch()
        client = await reach(devices, shared)
        found = [each async for each in client.list("docs")]
        assert len(found) == len(odd)
        assert [each.name for each in found if each.usable] == ["plain"]

    @in_reactor
    async def test_body(self, devices: Devices) -> None:
        """What an application answers comes back byte by byte, whatever lines are in it."""
        # covers: S2-11 S2-14
        names = ["a\r\nb", "\n", '{"do": 1, "name": "ping"}\n', "ünï\r"]

        class Lists:
            @command("my.names")
            def names(self) -> bytes:
                return "\0".join(names).encode()

            @command("my.rows")
            def rows(self) -> dict[str, Any]:
                return {"names": names}

        service = await devices.start("nas", {"commands": Lists()})
        await devices.pair("kitchen", service, "nas")
        client = await devices.client("kitchen", "nas")
        answer = await client.call("my.names")
        assert answer.body.decode().split("\0") == names
        with pytest.raises(UnknownCommand):
            await client.call("my.nothing")
        assert (await client.call("my.names")).body == answer.body


@pytest.fixture
def log() -> Iterator[StringIO]:
    """All that is logged at every level, by Twisted and by Python's own."""
    text = StringIO()
    observer = textFileLogObserver(text)
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    before = root.level
    globalLogPublisher.addObserver(observer)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(before)
    root.removeHandler(handler)
    globalLogPublisher.removeObserver(observer)


class SecretTests:
    @in_reactor
    async def test_login(self, devices: Devices, log: StringIO) -> None:
        """The password of a login is in no log and no trace, on neither side."""
        # covers: S2-14
        right, wrong = "right s3cret", "wr0ng s3cret"
        service = await devices.start("nas", checkers=(Passwords(anna=right.encode()),))
        devices.pin("laptop", "nas", service.address)
        devices.pin("nas", "laptop")
        client = await devices.client("laptop", "nas")
        seen: list[bytes] = []
        (await client.connected()).trace(lambda way, line: seen.append(line))
        for connection in service._now.factory.connections:
            connection.trace(lambda way, line: seen.append(line))
        answer = await client.call("login", {"user": "anna", "password": right})
        assert answer.args["user"] == "anna"
        with pytest.raises(AuthFailed):
            await devices.client("laptop", "nas", login=("anna", wrong))
        told = b"\n".join(seen)
        assert told.count(b'"anna"') >= 3 and b'"password": "***"' in told
        for secret in (right, wrong, "s3cret"):
            assert secret.encode() not in told and secret not in log.getvalue()

    @pytest.mark.parametrize(
        ("line", "shown"),
        [
            (b'{"do": 2, "user": "a", "password": "x\\"y", "z": 1}', b'"password": "***", "z": 1}'),
            (b'{"do": 2, "args": {"password":"x"}}', b'{"password":"***"}}'),
            (b"0" * 36 + b" " + b"1" * 36 + b" 512", b"*** 512"),
            (b'{"do": 2, "name": "ping"}', b'{"do": 2, "name": "ping"}'),
        ],
    )
    def test_censored(self, line: bytes, shown: bytes) -> None:
        """A line is shown without what opens something."""
        assert censored(line).endswith(shown)


class BlockTests:
    @pytest.mark.parametrize("block", [4 * KIB, 64 * KIB, MIB])
    @in_reactor
    async def test_digest(self, devices: Devices, shared: Path, tmp_path: Path, block: int) -> None:
        """In whichever blocks a file travels, is written and is read, it stays what it is."""
        # covers: S2-23
        data = big(3 * MIB) + b"and a rest"
        client = await reach(devices, shared, buf_len=block)
        source = devices.source("f", data)
        digest = blake3(data).hexdigest()
        assert (await client.put(source, "docs/put")).digest == digest
        async with await client.open_write("docs/written") as file:
            for at in range(0, len(data), block):
                await file.write(data[at : at + block])
        assert file.receipt is not None and file.receipt.digest == digest
        async with await client.open_read("docs/written") as read:
            blocks = [each async for each in read.blocks(block)]
        assert {len(each) for each in blocks[:-1]} == {block}
        assert 0 < len(blocks[-1]) <= block and b"".join(blocks) == data
        assert (await client.get("docs/put", tmp_path / "got")).digest == digest


class AppendTests:
    @in_reactor
    async def test_devices(self, devices: Devices, shared: Path) -> None:
        """What several devices append again and again is there whole, in each one's order."""
        # covers: S2-26
        (shared / "log").touch()
        service = await devices.start("nas", shares=(f"docs={shared}:rw",))
        size, rounds, names = 300_000, 4, ("kitchen", "laptop", "phone")
        clients = []
        for name in names:
            await devices.pair(name, service, "nas")
            clients.append(await devices.client(name, "nas"))

        def entry(name: str, number: int) -> bytes:
            mark = f"<{name} {number}>".encode()
            return mark + b"." * (size - len(mark))

        for number in range(rounds):
            adding = [
                client.append(devices.source(f"{name}.{number}", entry(name, number)), "docs/log")
                for name, client in zip(names, clients, strict=True)
            ]
            sizes = sorted([await each for each in adding])
            first = number * len(names)
            assert sizes == [(first + n) * size for n in range(1, len(names) + 1)]
        found = (shared / "log").read_bytes()
        entries = [found[at : at + size] for at in range(0, len(found), size)]
        wanted = [entry(name, number) for number in range(rounds) for name in names]
        assert sorted(entries) == sorted(wanted)
        for name in names:
            own = [each for each in entries if each.startswith(f"<{name} ".encode())]
            assert own == [entry(name, number) for number in range(rounds)]
        assert sorted(each for each in os.listdir(shared) if each[0] != ".") == ["log"]


NO_NAME = (
    *("docs/../secret", "docs/a/../../secret", "docs/./a", "docs//a", "docs/../../etc/passwd"),
    *("docs/..\\secret", "docs/C:", "docs/\0", "docs/.lanxfer-staging/lock"),
)
OUT = {
    **{path: {"bad-name"} for path in NO_NAME},
    "../../etc/passwd": {"not-found", "bad-name"},
    "/../etc/passwd": {"not-found", "bad-name"},
    "%2e%2e/secret": {"not-found"},
    "docs/link": {"forbidden", "exists"},
    "docs/etc/passwd": {"not-found", "bad-name"},
    "docs/up/secret": {"not-found", "bad-name"},
}
"""Ways out, and what may be said of them."""

ASKED: dict[str, tuple[dict[str, Any], ...]] = {
    "list_files": ({"take": 65536},),
    "read_file": ({"take": 65536},),
    "prove_file": ({"have": []},),
    "make_folder": ({"parents": True}, {"parents": False, "exist_ok": True}),
    "append_file": ({"tail": "docs/tail"},),
    "move_file": ({"to": "docs/moved", "overwrite": True},),
}


class WayOutTests:
    @pytest.fixture
    def outside(self, tmp_path: Path, shared: Path) -> Path:
        (tmp_path / "secret").write_bytes(b"secret")
        (shared / "a").mkdir()
        (shared / "tail").write_bytes(b"tail")
        (shared / "link").symlink_to(tmp_path / "secret")
        (shared / "etc").symlink_to("/etc")
        (shared / "up").symlink_to("..")
        return tmp_path / "secret"

    @pytest.mark.parametrize("path", OUT)
    @in_reactor
    async def test_every_command(
        self, devices: Devices, shared: Path, outside: Path, path: str
    ) -> None:
        """Whatever is asked at a path that leads out, it is refused, and nothing is changed."""
        # covers: S2-36 L05
        client = await reach(devices, shared)
        before = (sorted(os.listdir(shared.parent)), os.stat("/etc/passwd").st_mtime_ns)
        link = path == "docs/link"
        for name, variants in ASKED.items():
            for more in variants:
                if link and name == "move_file":
                    continue  # a link itself may be moved, and stays one
                with pytest.raises(LanxferError) as caught:
                    await client.call(name, {"path": path, **more})
                assert caught.value.code in OUT[path] | ({"not-found"} if link else set())
        with pytest.raises(LanxferError):
            await client.call("append_file", {"path": "docs/tail", "tail": path})
        if not link:
            for name, args in (("stat_file", {}), ("remove_file", {"recursive": True})):
                with pytest.raises((BadName, NotFound)):
                    await client.call(name, {"path": path, **args})
            with pytest.raises((BadName, NotFound)):
                await client.call("move_file", {"path": "docs/a", "to": path})
        for data in (b"small", big(2 * limits.INLINE_MAX)):
            with pytest.raises(LanxferError):
                await client.put(devices.source("new", data), path)
        assert outside.read_bytes() == b"secret"
        assert (shared / "tail").read_bytes() == b"tail"
        after = (sorted(os.listdir(shared.parent)), os.stat("/etc/passwd").st_mtime_ns)
        assert after == (sorted({*before[0], "new"}), before[1])

    @in_reactor
    async def test_moved_link(self, devices: Devices, shared: Path, outside: Path) -> None:
        """A link that is moved or removed stays a link, and is followed under no name."""
        # covers: S2-36
        client = await reach(devices, shared)
        await client.move("docs/link", "docs/a/other")
        assert (await client.stat("docs/a/other")).kind == "link"
        with pytest.raises(Forbidden):
            await client.call("read_file", {"path": "docs/a/other", "take": 65536})
        with pytest.raises(Exists):
            await client.put(devices.source("new", b"new"), "docs/a/other")
        await client.remove("docs/a", recursive=True)
        await client.remove("docs/up")
        assert outside.read_bytes() == b"secret" and shared.is_dir()
