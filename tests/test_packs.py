"""recv_files: many small files in one request."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from blake3 import blake3
from talks import answers, hello

from lanxfer import ahead, packing, sending, trees
from lanxfer.ahead import TRIES
from lanxfer.errors import LanxferError, Lost
from lanxfer.offering import Loaded
from lanxfer.policy import Principal, Standing
from lanxfer.rights import Book
from lanxfer.rights.file import parse_rights
from lanxfer.sessions import native
from lanxfer.storage.names import safe_path
from lanxfer.testing import Cut, Dialogue, Pair, bytewise, pieces, whole
from lanxfer.transfers import Conflict, Entry, Kind, Offer, Receipt, State
from lanxfer.turns import Turns
from lanxfer.wire import limits
from lanxfer.wire.native import format_packet, parse_rows
from lanxfer.wire.packets import Do, Failed, Ok
from lanxfer.wire.packs import format_manifest
from tests.devices import Devices, in_reactor, sleep, until

CUTS: dict[str, Cut] = {"whole": whole, "bytewise": bytewise, "pieces": pieces(7, 1, 30)}


@pytest.mark.parametrize("sizes", [[0, 1, 5000], [], [100, 300_000], [100, 100_000, 100]])
@pytest.mark.parametrize("units", [False, True])
def test_body_in_memory(sizes: list[int], units: bool) -> None:
    """A body is the same bytes, in memory of its own or in that of somebody else."""
    bodies = []
    for body in (packing.body_of, partial(packing.body_in, bytearray(200_000))):
        pack = []
        for size in sizes:
            pack.append(Loaded(Entry(Kind.FILE, "a", "/a", size), bytes(size), "ab"))
        if units:
            pack.append(
                Loaded(Entry(Kind.FILE, "b", "/b", 7), None, "ab", [memoryview(b"in unit")])
            )
        bodies.append(b"".join(body(b"manifest", pack)))
        assert not any(each.data for each in pack)
    assert bodies[0] == bodies[1] == b"manifest" + bytes(sum(sizes)) + b"in unit" * units


def offer(path: str, data: bytes, **more: Any) -> Offer:
    return Offer(path, len(data), digest=blake3(data).hexdigest(), mtime_ns=5, **more)


def pack(id: int, some: list[tuple[Offer, bytes]], **more: Any) -> bytes:
    """The request and its body."""
    manifest = format_manifest(each[:6] for each, _ in some)
    body = manifest + b"".join(data for _, data in some)
    args = {"files": len(some), "manifest": len(manifest), **more}
    return format_packet(Do(id, "recv_files", args, len(body))) + body


def files(**contents: bytes) -> list[tuple[Offer, bytes]]:
    return [(offer(name, data), data) for name, data in contents.items()]


def outcome(dialogue: Dialogue, id: int) -> tuple[Any, list[dict[str, Any]]]:
    """The answer to that request, and its rows."""
    packet, body = next(
        (packet, body)
        for packet, body in dialogue.raw.packets
        if isinstance(packet, (Ok, Failed)) and packet.id == id
    )
    return packet, parse_rows(body)


class PackTests:
    # covers: H01
    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("behind", [b"", format_packet(Do(3, "ping"))])
    def test_whole(self, cut: str, behind: bytes) -> None:
        """All are stored, in whatever pieces they come; what follows is read."""
        pair = Pair()
        dialogue = hello(pair)
        dialogue.say(*CUTS[cut](pack(2, files(a=b"one", b=b"", c=b"three")) + behind))
        packet, rows = outcome(dialogue, 2)
        assert packet.args["files"] == 3 and rows == []
        assert pair.there.store.files == {"a": b"one", "b": b"", "c": b"three"}
        states = [(each.path, each.state) for each in pair.there.told]
        assert states == [("a", State.DONE), ("b", State.DONE), ("c", State.DONE)]
        assert not behind or outcome(dialogue, 3)

    # covers: J16 R06
    @pytest.mark.parametrize("senders", [1, 2, 5])
    def test_many_connections(self, senders: int) -> None:
        """All connections together have few packs in memory, and each has one, and all arrive."""
        size = 3 * limits.MIB
        pair = Pair()
        turns = Turns(pair.clock)
        dialogues = [hello(pair) for _ in range(senders)]
        for dialogue in dialogues:
            dialogue.server.take_turns(turns)
        pair.disk.held = True
        for id in range(2, 7):
            for number, dialogue in enumerate(dialogues):
                data = bytes([number]) * size
                dialogue.say(pack(id, files(**{f"{number}-{id}": data})))
        # One more than its share has room for, which is then found to be too many.
        each = (turns.share // size + 1) * (size + 100)
        held = [dialogue.server._packs for dialogue in dialogues]
        assert size <= min(held) <= max(held) <= each
        assert not any(dialogue.wire.b.reading for dialogue in dialogues)
        while pair.disk.work():
            for dialogue in dialogues:
                dialogue.pump()
        for dialogue in dialogues:
            assert answers(dialogue) == dict.fromkeys(range(2, 7), "ok")
            assert dialogue.server._packs == dialogue.server._weight == 0
            assert dialogue.wire.b.reading
        assert len(pair.there.store.files) == 5 * senders
        assert turns.share == limits.PACKS_MAX

    # covers: J16
    def test_heard_after_all(self) -> None:
        """Who has its share, and has nothing stored for long, is answered that this one lives."""
        pair = Pair()
        dialogue = hello(pair)
        pair.disk.held = True
        for id in range(2, 5):
            dialogue.say(pack(id, files(**{str(id): bytes(3 * limits.MIB)})))
        dialogue.say(format_packet(Do(5, "ping")))
        assert answers(dialogue) == {} and not dialogue.wire.b.reading
        pair.clock.advance(limits.PACKS_PATIENCE - 1)
        dialogue.pump()
        assert answers(dialogue) == {}
        pair.clock.advance(1)
        dialogue.pump()
        assert answers(dialogue) == {5: "ok"} and dialogue.wire.b.reading
        while pair.disk.work():
            dialogue.pump()
        assert answers(dialogue) == dict.fromkeys((5, 2, 3, 4), "ok")
        assert not dialogue.server._lapsed

    # covers: J16
    def test_paused_anyway(self) -> None:
        """That holds as well where it was not read for another reason when they came."""
        dialogue = hello()
        server, clock = dialogue.server, dialogue.pair.clock
        server.pauseProducing()
        server.load(limits.PACKS_MAX + 1)
        assert server.behind and not dialogue.wire.b.reading
        clock.advance(limits.PACKS_PATIENCE)
        assert not server.behind and dialogue.wire.b.reading
        server.load(-limits.PACKS_MAX - 1)
        assert server._packs == server._weight == 0

    # covers: J16
    def test_beside(self) -> None:
        """A body that comes in clear is read again when packs are stored (``lanxfer.clear``)."""
        pair = Pair()
        dialogue = hello(pair)
        pair.disk.held = True
        for id in (2, 3, 4):
            dialogue.say(pack(id, files(**{str(id): bytes(3 * limits.MIB)})))
        server, room = dialogue.server, list[bool]()
        server.clear = cast(Any, object())
        beside = SimpleNamespace(look=lambda: room.append(not server.behind))
        server._calls[9] = cast(Any, SimpleNamespace(clear=beside))
        assert server.behind
        while pair.disk.work():
            dialogue.pump()
        assert True in room

    # covers: R06
    def test_connection_gone(self) -> None:
        """Who is gone has no share any more, whatever of theirs is still being stored."""
        pair = Pair()
        turns = Turns(pair.clock)
        dialogues = [hello(pair), hello(pair)]
        pair.disk.held = True
        for number, dialogue in enumerate(dialogues):
            dialogue.server.take_turns(turns)
            dialogue.say(pack(2, files(**{str(number): bytes(limits.MIB)})))
        assert turns.share == limits.PACKS_MAX // 2
        dialogues[0].wire.cut_off()
        dialogues[0].pump()
        assert turns.share == limits.PACKS_MAX
        while pair.disk.work():
            for dialogue in dialogues:
                dialogue.pump()
        assert answers(dialogues[1]) == {2: "ok"}
        assert turns.share == limits.PACKS_MAX

    # covers: P01
    def test_each_by_itself(self) -> None:
        """What is wrong with one is its own affair."""
        pair = Pair()
        dialogue = hello(pair)
        some = files(good=b"x", spoilt=b"y")
        some.append((offer("../out", b"z"), b"z"))
        some.append((offer("taken", b"w"), b"w"))
        some[1] = (some[1][0], b"Y")
        pair.there.store.files["taken"] = b"other"
        dialogue.say(pack(2, some))
        _, rows = outcome(dialogue, 2)
        assert [(row["at"], row.get("error") or row["stored"]) for row in rows] == [
            (1, "digest-mismatch"),
            (2, "bad-name"),
            (3, "taken (2)"),
        ]
        assert set(pair.there.store.files) == {"good", "taken", "taken (2)"}
        ends = {each.path: each.state for each in pair.there.told}
        assert ends["spoilt"] is State.INTERRUPTED and ends["good"] is State.DONE

    def test_folders(self) -> None:
        """Folders go with files, are made before them, and each has an end of its own."""
        pair = Pair()
        pair.there.store.files["file"] = b"other"
        dialogue = hello(pair)
        names = ("d", "d/empty", "file", "../out", "d")
        some = [(Offer(name, 0, Kind.FOLDER), b"") for name in names]
        dialogue.say(pack(2, [*files(**{"d/a": b"one"}), *some]))
        packet, rows = outcome(dialogue, 2)
        assert (packet.args["files"], packet.args["outcomes"]) == (6, 3)
        ends = [(row["at"], row.get("error") or row["already"]) for row in rows]
        assert ends == [(3, "exists"), (4, "bad-name"), (5, True)]
        assert pair.there.store.files == {"d/a": b"one", "file": b"other"}
        for name in ("d", "d/empty"):
            facts = pair.there.store.look(safe_path(name))
            assert facts is not None and facts.kind == "folder"
        kinds = [(each.path, each.kind) for each in pair.there.told if each.state is State.DONE]
        assert kinds == [
            ("d/a", Kind.FILE),
            ("d", Kind.FOLDER),
            ("d/empty", Kind.FOLDER),
            ("d", Kind.FOLDER),
        ]

    # covers: S08
    @pytest.mark.parametrize("most", [0, 1])
    def test_folders_and_quota(self, most: int) -> None:
        """A folder is no file: it counts against no quota of those."""
        pair = Pair(rights=Book(parse_rights(f"[peers]\nfiles = {most}\n")))
        dialogue = hello(pair)
        folder = (Offer("d", 0, Kind.FOLDER), b"")
        dialogue.say(pack(2, [folder, *files(a=b"x", b=b"y")]))
        rows = outcome(dialogue, 2)[1]
        assert [(row["at"], row["error"]) for row in rows] == [
            (at, "quota") for at in (1, 2)[most:]
        ]

    def test_again(self) -> None:
        """The same once more is there already, and is said to be."""
        pair = Pair()
        dialogue = hello(pair)
        dialogue.say(pack(2, files(a=b"x")), pack(3, files(a=b"x")))
        assert outcome(dialogue, 3)[1] == [{"at": 0, "already": True}]

    def test_conflict(self) -> None:
        """A policy for all of them."""
        pair = Pair()
        pair.there.store.files["a"] = b"other"
        dialogue = hello(pair)
        dialogue.say(pack(2, files(a=b"x", b=b"y"), conflict=Conflict.REFUSE.value))
        assert [row["error"] for row in outcome(dialogue, 2)[1]] == ["exists"]

    # covers: H03
    @pytest.mark.parametrize(
        "args",
        [
            {"files": 0},
            {"files": 2},
            {"files": limits.PACK_FILES + 1},
            {"manifest": 1},
            {"manifest": 10**6},
            {"conflict": "perhaps"},
        ],
    )
    def test_nonsense(self, args: dict[str, Any]) -> None:
        """A request that does not add up is refused as a whole, and nothing is stored."""
        pair = Pair()
        dialogue = hello(pair)
        dialogue.say(pack(2, files(a=b"x"), **args))
        packet, _ = outcome(dialogue, 2)
        assert packet.code == "bad-header"
        assert not pair.there.store.files and not pair.there.told

    def test_surplus(self) -> None:
        """Bytes that belong to no file are not passed over."""
        pair = Pair()
        dialogue = hello(pair)
        dialogue.say(pack(2, [(offer("a", b"x"), b"xx")]))
        assert outcome(dialogue, 2)[0].code == "bad-header"
        assert not pair.there.store.files

    # covers: L06
    def test_where_somebody_is_asked(self) -> None:
        """Nothing travels along where each file is asked about."""
        pair = Pair(on_offer=lambda incoming: True)
        dialogue = hello(pair)
        dialogue.say(pack(2, files(a=b"x")))
        assert outcome(dialogue, 2)[0].code == "too-large"
        assert not pair.there.store.files

    # covers: A01
    @pytest.mark.parametrize("standing", [Standing.VISITOR, Standing.NEWCOMER])
    def test_unknown(self, standing: Standing) -> None:
        """Who may not offer one file may not offer many, and none of their bytes is kept."""
        pair = Pair(principal=Principal(standing, "x", "x"))
        dialogue = hello(pair)
        dialogue.say(pack(2, files(a=b"x")))
        assert outcome(dialogue, 2)[0].code == "not-paired"
        assert not pair.there.store.files

    def test_skipped(self) -> None:
        """What is kept instead of the file that was sent is not said to be that."""
        pair = Pair()
        pair.there.store.files["a"] = b"y"
        pair.there.store._mtimes["a"] = 5
        dialogue = hello(pair)
        dialogue.say(pack(2, files(a=b"x"), conflict=Conflict.SKIP.value))
        [row] = outcome(dialogue, 2)[1]
        assert row == {"at": 0, "blake3": blake3(b"y").hexdigest(), "already": True}

    # covers: S08
    def test_broken_store(self, logged: list[str]) -> None:
        """Where the store itself fails, each file has an end, and counts against nothing."""
        pair = Pair()
        pair.there.store.put_many = lambda files: 1 / 0
        dialogue = hello(pair)
        dialogue.say(pack(2, files(a=b"x", b=b"y")))
        assert outcome(dialogue, 2)[0].code == "internal"
        assert {each.state for each in pair.there.told} == {State.FAILED}
        assert len(pair.there.told) == 2 and logged
        logged.clear()


class Hostile(threading.Thread):
    """A receiver that answers each pack as soon as it has read its header.

    What it reads of the bodies, if it does, is compared with what their manifests say.
    """

    def __init__(self, reads: bool) -> None:
        super().__init__(daemon=True)
        self.reads = reads
        self.port = socket.create_server(("127.0.0.1", 0))
        self.port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.good = 0
        self.bad: list[str] = []

    def run(self) -> None:
        there, _ = self.port.accept()
        self.port.close()  # nobody is to come back
        with there, suppress(OSError):
            self.answer(there, there.makefile("rb"))

    def answer(self, there: socket.socket, lines: Any) -> None:
        hello = json.loads(lines.readline())
        most = {"inline": 262144, "open": 256, "pack": 4194304, "pack_file": 4194304}
        said = {"speaks": "lanxfer/1", "device": "h", "limits": most, "features": []}
        there.sendall(format_packet(Ok(hello["do"], said)))
        if not self.reads:
            for id in range(hello["do"] + 1, hello["do"] + 60):
                time.sleep(0.02)
                there.sendall(format_packet(Ok(id, {"files": 1, "outcomes": 0})))
        while self.reads and (line := lines.readline()):
            asked = json.loads(line)
            if "do" not in asked:
                return
            if asked["name"] != "recv_files":
                there.sendall(format_packet(Failed(asked["do"], "forbidden", "No.")))
                continue
            there.sendall(format_packet(Ok(asked["do"], {"files": 1, "outcomes": 0})))
            time.sleep(0.1)  # so that what comes next is read before this is
            body, at = lines.read(asked["body"]), asked["manifest"]
            for row in body[:at].splitlines():
                path, size, _, digest, _ = json.loads(row)
                right = blake3(body[at : at + size]).hexdigest() == digest
                self.good += right
                self.bad += [] if right else [path]
                at += size


class SendingTests:
    def tree(self, devices: Devices, number: int = 40) -> str:
        for at in range(number):
            devices.source(f"tree/{at % 3}/{at}", os.urandom(at * 50))
        return str(devices.folder / "tree")

    def same(self, devices: Devices, folder: str) -> bool:
        there = devices.inbox("nas") / "tree"
        return all(
            (there / each.relative_to(folder)).read_bytes() == each.read_bytes()
            for each in Path(folder).rglob("*")
            if each.is_file()
        )

    async def laptop(self, devices: Devices, **how: Any) -> tuple[Any, Any]:
        service = await devices.start("nas", **how)
        await devices.pair("laptop", service, "nas")
        return service, await devices.client("laptop", "nas")

    @in_reactor
    async def test_tree(self, devices: Devices) -> None:
        """A tree arrives, each file with its own word and its own entry in the history."""
        _, laptop = await self.laptop(devices)
        folder = self.tree(devices)
        told: list[str] = []
        sent = await laptop.send_paths([folder], on_entry=lambda entry, _: told.append(entry.path))
        assert (sent.files, sent.failed, len(set(told))) == (40, [], 44)
        assert self.same(devices, folder)
        local = await devices.control("nas")
        rows = await local.rows("history", {"limit": 100})
        assert len([row for row in rows if row["kind"] == "file"]) == 40
        again = await laptop.send_paths([folder])
        assert again.already == 40

    @in_reactor
    async def test_one_by_one(self, devices: Devices) -> None:
        """Where the owner is asked about each file, they go one by one."""
        asked: list[str] = []
        _, laptop = await self.laptop(
            devices, hooks={"on_offer": lambda incoming: asked.append(incoming.path)}
        )
        folder = self.tree(devices, 10)
        sent = await laptop.send_paths([folder])
        assert sent.files == 10 and len(asked) == 14
        assert self.same(devices, folder)

    # covers: I1
    @in_reactor
    async def test_not_all_said(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer that has no room for what became of all files makes none of them good."""
        _, laptop = await self.laptop(devices)
        folder = self.tree(devices)
        (devices.inbox("nas") / "tree" / "0").mkdir(parents=True)
        for at in range(0, 40, 3):  # in the way of a third of them
            (devices.inbox("nas") / "tree" / "0" / str(at)).mkdir()
        fits = native.NativeSession._list

        def short(self: Any, ok: Ok, rows: Any) -> bytes:
            return fits(self, ok, rows[:1] if "outcomes" in ok.args else rows)

        monkeypatch.setattr(native.NativeSession, "_list", short)
        sent = await laptop.send_paths([folder], conflict=Conflict.REFUSE)
        assert len(sent.failed) == 14 and {error.code for _, error in sent.failed} == {"exists"}
        assert sent.files == 26

    # covers: B01 C05
    @in_reactor
    async def test_cut(self, devices: Devices) -> None:
        """A connection that breaks over a pack costs nothing: what is left goes by itself."""
        _, laptop = await self.laptop(devices)
        folder = self.tree(devices)
        connection = await laptop.connected()
        ask, cut = connection.ask, []

        def ask_and_break(name: str, *args: Any, **named: Any) -> Any:
            exchange = ask(name, *args, **named)
            if name == "recv_files" and not cut:
                cut.append(name)
                connection.abort(Lost())
            return exchange

        connection.ask = ask_and_break
        sent = await laptop.send_paths([folder])
        assert cut and (sent.files, sent.failed) == (40, [])
        assert self.same(devices, folder)
        names = {each.name for each in (devices.inbox("nas") / "tree").rglob("*")}
        assert not any("(2)" in name for name in names)

    def photos(self, devices: Devices, sizes: list[int]) -> str:
        folder = devices.folder / "tree"
        folder.mkdir()
        for at, size in enumerate(sizes):
            (folder / f"{at:02}.jpg").write_bytes(os.urandom(size))
        return str(folder)

    def asked(self, laptop: Any, connection: Any) -> list[str]:
        """What will be asked on that connection."""
        ask, names = connection.ask, []

        def noted(name: str, *args: Any, **named: Any) -> Any:
            names.append(name)
            return ask(name, *args, **named)

        connection.ask = noted
        return names

    @in_reactor
    async def test_of_some_mib(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Files of up to 4 MiB go in packs where that takes no time, be it one alone."""
        monkeypatch.setattr(ahead, "at_once", lambda rate: limits.PACK_MAX)
        _, laptop = await self.laptop(devices)
        small = [300_000] * 3
        sizes = [*small, *[1_200_000] * 40, 100, limits.PACK_MAX, limits.PACK_MAX + 1, 100]
        folder = self.photos(devices, sizes)
        names = self.asked(laptop, await laptop.connected())
        sent = await laptop.send_paths([folder])
        assert (sent.files, sent.bytes, sent.failed) == (len(sizes), sum(sizes), [])
        assert self.same(devices, folder)
        # Those of which nobody knew yet how fast they go, and the one that is too large.
        assert 2 <= names.count("recv_file") - 1 <= 20
        assert names.count("recv_files") >= 12

    async def hostile(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch, reads: bool
    ) -> tuple[Hostile, Any, list[str]]:
        """One, a client of it whose socket takes little at a time, and files for it."""
        monkeypatch.setattr(ahead, "at_once", lambda rate: limits.PACK_MAX)
        monkeypatch.setattr(trees, "ENOUGH", limits.PACK_MAX)  # from the first file on
        for at in range(16):
            devices.source(f"tree/{at:02}", os.urandom(3_900_000))
        hostile = Hostile(reads)
        hostile.start()
        address = f"127.0.0.1:{hostile.port.getsockname()[1]}"
        client = await devices.client("laptop", address, plain=True, patience=0.1)
        connection: Any = await client.connected()
        connection.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        # No folder: whatever goes with one would be copied.
        return hostile, client, sorted(map(str, (devices.folder / "tree").iterdir()))

    # covers: J13
    @in_reactor
    async def test_answered_early(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who answers before it has all stored nothing, and is sent nothing that was read later."""
        hostile, client, files = await self.hostile(devices, monkeypatch, True)
        sent = await client.send_paths(files)
        assert sent.files == 0 and {error.code for _, error in sent.failed} == {"forbidden"}
        await client.close(5)
        await until(lambda: not hostile.is_alive())
        assert hostile.good == 16 * TRIES and not hostile.bad

    # covers: B07
    @in_reactor
    async def test_never_read(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """What waits for one who answers and reads nothing is bounded."""
        hostile, client, files = await self.hostile(devices, monkeypatch, False)
        direct = (await client.connected())._outbox._direct
        sending = client.send_paths(files)
        most = 0
        while hostile.is_alive():
            most = max(most, sum(map(len, direct._rest)))
            await sleep(0.02)
        assert 0 < most <= 2 * limits.PACK_MAX
        client.drop()
        sending.addErrback(lambda why: None)
        sending.cancel()

    @in_reactor
    async def test_there_already(self, devices: Devices) -> None:
        """Of a folder that is there the larger files do not travel again, but for the first few."""
        _, laptop = await self.laptop(devices)
        sizes = [600_000] * 60
        folder = self.photos(devices, sizes)
        await laptop.send_paths([folder])
        connection = await laptop.connected()
        names = self.asked(laptop, connection)
        sent = await laptop.send_paths([folder])
        assert (sent.files, sent.already) == (len(sizes), len(sizes))
        # packs of six: one is answered, two are not, one waits for its turn, one is being read,
        # and of those before it is known how fast they go there may be three of one file each
        together = 5 * 6 + 3
        assert names.count("recv_files") <= together
        assert names.count("recv_file") >= 1 + len(sizes) - together

    @in_reactor
    @pytest.mark.parametrize("largest", [0, 262_144])
    async def test_older_receiver(self, devices: Devices, largest: int) -> None:
        """One that takes smaller files in packs, or none, gets all else one by one."""
        _, laptop = await self.laptop(devices)
        connection = await laptop.connected()
        connection.peer_limits = {**connection.peer_limits, "pack_file": largest}
        connection.hello = {**connection.hello, "features": ["streams"]}
        sizes = [0, 1000, 1000, 200_000, 100_000, 100_000, 300_000]
        folder = self.photos(devices, sizes)
        names = self.asked(laptop, connection)
        sent = await laptop.send_paths([folder])
        assert (sent.files, sent.failed) == (len(sizes), [])
        assert self.same(devices, folder)
        alone = sum(size > largest for size in sizes) if largest else len(sizes)
        assert names.count("recv_file") == 1 + alone
        assert names.count("recv_files") == (2 if largest else 0)

    @in_reactor
    @pytest.mark.parametrize("who", ["sender", "receiver"])
    async def test_kept_slow(self, devices: Devices, who: str) -> None:
        """Where no more than 2 MiB/s may pass, what is more than a part of that goes in parts."""
        rate = 2 * limits.MIB
        service = await devices.start("nas", rate_in=rate if who == "receiver" else None)
        await devices.pair("laptop", service, "nas")
        how = {"rate_out": rate} if who == "sender" else {}
        laptop = await devices.client("laptop", "nas", **how)
        names = self.asked(laptop, await laptop.connected())
        sizes = [100_000, 100_000, 100_000, 300_000, 600_000]
        sent = await laptop.send_paths([self.photos(devices, sizes)])
        assert (sent.files, sent.failed) == (5, [])
        assert names.count("recv_files") == 2  # the folder, three small ones, and the next one
        assert names.count("recv_file") == 1

    @in_reactor
    async def test_told_together(self, devices: Devices) -> None:
        """Who wants to hears of many at a time; of what is odd, or has no folder, one by one."""
        _, laptop = await self.laptop(devices)
        folder = Path(self.photos(devices, [1000] * 40))
        (devices.inbox("nas") / "tree").mkdir()
        for at in (3, 4):
            shutil.copy2(folder / f"{at:02}.jpg", devices.inbox("nas") / "tree")
        (devices.inbox("nas") / "tree" / "05.jpg").mkdir()
        one, two = (folder.parent / name for name in ("one", "two"))
        for each in (one, two):
            each.write_text(each.name)
        together, alone = list[str](), dict[str, Receipt | LanxferError]()
        sent = await laptop.send_paths(
            [folder, one, two],
            conflict=Conflict.REFUSE,
            on_entry=lambda entry, end: alone.update({entry.path: end}),
            on_sent=lambda entries: together.extend(each.path for each in entries),
        )
        assert (sent.files, sent.already, len(sent.failed)) == (41, 2, 1)
        assert sent.bytes == 39 * 1000 + 6
        assert len(together) == 37 and not {*together} & {*alone}
        assert {*alone} == {"tree", "tree/03.jpg", "tree/04.jpg", "tree/05.jpg", "one", "two"}
        assert cast(Receipt, alone["one"]).digest == blake3(b"one").hexdigest()

    @in_reactor
    async def test_limit_on_the_way(self, devices: Devices) -> None:
        """A limit that comes meanwhile makes packs smaller, and no end of them."""
        _, laptop = await self.laptop(devices)
        folder = self.photos(devices, [4000] * 1200)
        names = self.asked(laptop, await laptop.connected())
        sent = await laptop.send_paths(
            [folder], on_entry=lambda entry, end: laptop.limit(rate_out=4 * limits.MIB)
        )
        assert (sent.files, sent.failed) == (1200, [])
        assert names.count("recv_file") < 800 and names.count("recv_files") >= 4

    @in_reactor
    async def test_broken_while_packs_wait(self, devices: Devices) -> None:
        """Packs that wait for their turn when the connection breaks go over the next one."""
        # covers: B09
        service, laptop = await self.laptop(devices)
        laptop.limit(rate_out=4 * limits.MIB)
        folder = self.photos(devices, [4000] * 1000)
        connection = await laptop.connected()
        sending = laptop.send_paths([folder])
        await until(lambda: len(connection._outbox._turns) > 1)
        (there,) = service._now.factory.connections
        tcp = there.transport.transport  # no word of TLS: as if the process had been killed
        tcp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tcp.abortConnection()
        sent = await sending
        assert connection.gone and (sent.files, sent.failed) == (1000, [])
        assert self.same(devices, folder)

    @in_reactor
    async def test_two_of_a_name(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of two files of one name the second is not sent, be it as large as may be in a pack."""
        monkeypatch.setattr(ahead, "at_once", lambda rate: limits.PACK_MAX)
        _, laptop = await self.laptop(devices)
        folder = self.photos(devices, [1_100_000] * 20)
        first = devices.source("a/x", b"A" * 1_500_000)
        second = devices.source("b/x", b"B" * 1_500_000)
        sent = await laptop.send_paths([folder, first, second], conflict=Conflict.OVERWRITE)
        assert sent.files == 21 and [error.code for _, error in sent.failed] == ["bad-name"]
        assert (devices.inbox("nas") / "x").read_bytes() == b"A" * 1_500_000

    @in_reactor
    async def test_refused_together(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of files whose pack came to nothing the larger ones go on one after the other."""
        service, laptop = await self.laptop(devices)
        most = 0

        def count(snapshot: Any) -> None:
            nonlocal most
            rows = service.registry.pending()
            most = max(most, sum(each.state is State.MOVING for each in rows))

        async def refuse(*args: Any) -> Any:
            raise Lost()

        monkeypatch.setattr(sending, "send_pack", refuse)
        service.subscribe(count)
        folder = self.photos(devices, [300_000] * 12)
        sent = await laptop.send_paths([folder])
        assert (sent.files, sent.failed) == (12, [])
        assert self.same(devices, folder)
        assert 1 <= most <= 4  # a pack each

    @in_reactor
    async def test_some_there_already(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a folder of which a few files are there the others go together all the same."""
        monkeypatch.setattr(ahead, "at_once", lambda rate: 0)  # however fast it is
        _, laptop = await self.laptop(devices)
        sizes = [400_000] * 12
        folder = self.photos(devices, sizes)
        shutil.copytree(folder, devices.inbox("nas") / "tree")
        for at in range(0, 12, 2):
            (devices.inbox("nas") / "tree" / f"{at:02}.jpg").unlink()
        names = self.asked(laptop, await laptop.connected())
        sent = await laptop.send_paths([folder])
        assert (sent.files, sent.already) == (len(sizes), 6)
        assert self.same(devices, folder)
        assert names.count("recv_files") == 6
