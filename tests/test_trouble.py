"""Whole devices in trouble: bad wires, crowds, hanging disks, other settings after a restart."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from devices import Devices, in_reactor, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from wires import Wire

from lanxfer.disk import RESERVED, WORKERS
from lanxfer.errors import DigestMismatch, DiskFailed
from lanxfer.journal import Journal
from lanxfer.storage import parts
from lanxfer.transfers import Snapshot, State
from lanxfer.wire import limits

MIB = 1024 * 1024


def published(inbox: Path) -> list[str]:
    """What lies in an inbox under a final name."""
    found = (str(each.relative_to(inbox)) for each in inbox.rglob("*") if each.is_file())
    return sorted(each for each in found if not each.startswith(".lanxfer"))


def disk_threads() -> int:
    return len([each for each in threading.enumerate() if "lanxfer" in each.name])


def port_of(service: Any) -> int:
    return int(service.address.rpartition(":")[2])


class WireTests:
    @pytest.mark.parametrize("size", [200 * 1024, 12 * MIB])
    @in_reactor
    async def test_flipped_bit(self, size: int, devices: Devices) -> None:
        """One bit turned over in plain text is noticed; nothing is stored until it is sent again.

        That goes for a file that travels with its request and for one in parts.
        """
        # covers: B11, S05
        service = await devices.start("nas", plain_from=("127.0.0.1",))
        flipped: list[int] = []

        def flip(data: bytes, at: int) -> bytes:
            middle = size // 2 - at
            if flipped or not 0 <= middle < len(data):
                return data
            flipped.append(at + middle)
            return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]

        wire = Wire(service.address, flip)
        there: list[tuple[str, list[str]]] = []

        def look(snapshot: Snapshot) -> None:
            if snapshot.state.finished:
                there.append((snapshot.code, published(devices.inbox("nas"))))

        service.subscribe(look)
        client = await devices.client("laptop", wire.address, plain=True)
        data = os.urandom(size)
        receipt = await client.send_file(devices.source("x", data))
        assert flipped
        assert (receipt.digest, receipt.already) == (blake3(data).hexdigest(), False)
        assert (devices.inbox("nas") / "x").read_bytes() == data
        assert there == [(DigestMismatch.code, []), ("", ["x"])]
        await wire.close()

    @in_reactor
    async def test_flapping(self, devices: Devices) -> None:
        """Over a wire that breaks again and again a file arrives without anybody's doing.

        Each break costs at most what was on its way, and a dead wire is tried again.
        """
        # covers: B09, I10
        service = await devices.start("nas")
        breaks = [at * MIB for at in (10, 25, 40, 55)]

        def cut(data: bytes, at: int) -> bytes | None:
            if not breaks or at + len(data) < breaks[0]:
                return data
            del breaks[0]
            wire.dead = True
            reactor.callLater(0.4, setattr, wire, "dead", False)  # type: ignore[attr-defined]
            return None

        wire = Wire(service.address, cut)
        devices.pin("laptop", "nas", wire.address)
        devices.pin("nas", "laptop")
        client = await devices.client("laptop", "nas")
        data = os.urandom(64 * MIB)
        receipt = await client.send_file(devices.source("big", data))
        assert receipt.digest == blake3(data).hexdigest()
        assert published(devices.inbox("nas")) == ["big"]
        assert not breaks and wire.callers > 5  # some of them found it dead
        overhead = len(data) // 100 + MIB  # TLS and headers
        assert wire.up - len(data) - overhead <= 4 * limits.WINDOW
        await wire.close()

    @pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is loopback there")
    @in_reactor
    async def test_another_address(self, devices: Devices) -> None:
        """A sender that comes back from another address goes on where it was: its key counts."""
        # covers: B10
        service = await devices.start("nas")
        wire = Wire(service.address)
        devices.pin("laptop", "nas", wire.address)
        devices.pin("nas", "laptop")
        client = await devices.client("laptop", "nas")
        seen = set()

        def moving() -> bool:
            for each in service._now.factory.connections:
                seen.add(each.transport.getPeer().host)
            return any(each.done > 8 * MIB for each in service.registry.pending())

        data = os.urandom(32 * MIB)
        sending = client.send_file(devices.source("big", data))
        await until(moving)
        wire.source = "127.0.0.2"
        (connection,) = service._now.factory.connections
        connection.transport.abortConnection()
        await until(lambda: moving() and "127.0.0.2" in seen)
        receipt = await sending
        assert seen == {"127.0.0.1", "127.0.0.2"}
        assert receipt.resumed_from > 0
        assert published(devices.inbox("nas")) == ["big"]
        assert (devices.inbox("nas") / "big").read_bytes() == data
        await wire.close()

    @pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the options of Linux")
    @in_reactor
    async def test_cut_cable_is_noticed(self, devices: Devices) -> None:
        """Both ends tell the system to notice within a minute that nobody is there any more."""
        # covers: B08
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        (connection,) = service._now.factory.connections
        for end in (connection, client._connection):
            wire = end.transport.transport.getHandle()
            ask = wire.getsockopt
            assert ask(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle, every, count = (
                ask(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + every * count <= 60
            # Keep-alives stand still while bytes wait to be acknowledged; this does not.
            assert ask(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000


class CrowdTests:
    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at /proc")
    @in_reactor
    async def test_many_connections(self, devices: Devices) -> None:
        """Many connections at once with a file each: all arrive, and nothing is left of them."""
        # covers: C04
        service = await devices.start("nas")
        names = ("laptop", "phone", "tablet")
        for name in names:
            await devices.pair(name, service, "nas")
        before = (len(os.listdir("/proc/self/fd")), disk_threads())
        clients = [
            (name, number, await devices.client(name, "nas"))
            for name in names
            for number in range(limits.CONNECTIONS_PER_PEER)
        ]
        assert len(service._now.factory.connections) == len(clients)
        data = os.urandom(MIB)
        sending = []
        for name, number, client in clients:
            path = devices.source(f"{name}-{number}", number.to_bytes(2, "big") + data)
            sending.append(client.send_file(path))
        for (_, number, _), receipt in zip(clients, await gatherResults(sending), strict=True):
            sent = number.to_bytes(2, "big") + data
            assert (devices.inbox("nas") / receipt.stored).read_bytes() == sent
        assert len(published(devices.inbox("nas"))) == len(clients)
        await gatherResults([client.close() for *_, client in clients])
        running = service._now
        await until(lambda: not running.factory.connections and not running.factory._unknown)
        await until(lambda: (len(running.registry), running.disk._under_way) == (0, 0))
        assert sorted(os.listdir(devices.inbox("nas") / ".lanxfer-staging")) == ["lock"]
        workers = WORKERS + RESERVED  # of the service, which made them meanwhile
        descriptors, threads = before
        await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
        await until(lambda: disk_threads() <= threads + workers)

    @in_reactor
    async def test_all_come_back(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forty devices in the middle of a file come back at once after a restart, and finish.

        What they hold is proved by few threads at a time, and the owner is answered meanwhile.
        """
        # covers: C08, C09
        monkeypatch.setattr(limits, "WINDOW", MIB // 2)
        guard, now, most, proved = threading.Lock(), 0, 0, 0
        have = parts.LocalPart.have

        def watched(part: Any) -> Any:
            nonlocal now, most, proved
            with guard:
                now, proved = now + 1, proved + 1
                most = max(most, now)
            try:
                return have(part)
            finally:
                with guard:
                    now -= 1

        service = await devices.start("nas", drain=0.0)

        def hold(snapshot: Snapshot) -> None:
            if snapshot.state is State.MOVING:  # its first window comes all the same
                service.registry.find(snapshot.id).pause(True)

        service.subscribe(hold)
        names = [f"d{number:02}" for number in range(40)]
        contents = {name: name.encode() + bytes(MIB) for name in names}
        sending: list[Deferred[Any]] = []
        for name in names:
            await devices.pair(name, service, "nas")
            client = await devices.client(name, "nas")
            sending.append(client.send_file(devices.source(name, contents[name])))

        def held() -> bool:
            pending = service.registry.pending()
            paused = [each for each in pending if each.state is State.PAUSED and each.done]
            return len(paused) == 40

        await until(held, 60)
        await service.stopService()
        monkeypatch.setattr(parts.LocalPart, "have", watched)
        again = await devices.start("nas", port=port_of(service))
        control = await devices.control("nas")
        together = gatherResults(sending)
        while not together.called:
            assert (await control.call("ping")).args == {}
            await control.rows("pending_requests")
        for name, receipt in zip(names, await together, strict=True):
            assert receipt.digest == blake3(contents[name]).hexdigest()
            assert receipt.resumed_from
            assert (devices.inbox("nas") / name).read_bytes() == contents[name]
        assert proved == 40 and most <= WORKERS
        assert not again.registry.pending()


class DiskTests:
    @in_reactor
    async def test_hanging(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """While all workers of the inbox hang, owner and peers are answered, and files are sent.

        When the disk works again, what waited for it completes.
        """
        # covers: R09, R10
        service = await devices.start("nas", drain=0.0)
        third = await devices.start("third")
        devices.pin("nas", "third", third.address)
        devices.pin("third", "nas")
        await devices.pair("laptop", service, "nas")
        await devices.pair("phone", service, "nas")
        laptop = await devices.client("laptop", "nas")
        phone = await devices.client("phone", "nas")
        control = await devices.control("nas")
        await phone.send_message("before")
        hanging, release = threading.Semaphore(0), threading.Event()
        publish = parts.LocalPart.publish
        ours = service._now.store._publisher

        def hang(part: Any, *args: Any) -> Any:
            if part._publisher is ours:
                hanging.release()
                release.wait(30)
            return publish(part, *args)

        monkeypatch.setattr(parts.LocalPart, "publish", hang)
        data = os.urandom(MIB)
        try:
            count = 2 * WORKERS
            sending = [laptop.send_file(devices.source(f"f{n}", data)) for n in range(count)]
            reached = 0

            def all_hang() -> bool:
                nonlocal reached
                while hanging.acquire(blocking=False):
                    reached += 1
                return reached == WORKERS

            await until(all_hang)
            assert (await control.call("status")).args["pending"] == count
            assert len(await control.rows("pending_requests")) == count
            (row,) = await control.rows("history")
            assert row["path"] == "before"
            await phone.send_message("and a message is kept")
            assert len(await phone.rows("history")) == 2
            later = {"text": "x", "peer": "127.0.0.1:1", "wait": False}
            answer = await control.call("send_message", later)
            assert answer.args["queued"]
            await phone.call("ping")
            away = {"path": devices.source("away", data), "peer": "third"}
            assert (await control.call("send_file", away)).args["stored"] == "away"
            assert not any(each.called for each in sending)
        finally:
            release.set()
        for each in sending:
            assert (await each).digest == blake3(data).hexdigest()
        assert published(devices.inbox("nas")) == [f"f{n}" for n in range(count)]


class CrashTests:
    @in_reactor
    async def test_answer_not_recorded(
        self, devices: Devices, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A sender that dies between the answer and its record asks again, and makes no copy."""
        # covers: K09
        third = await devices.start("third")
        nas = await devices.start("nas")
        devices.pin("nas", "third", third.address)
        devices.pin("third", "nas")
        control = await devices.control("nas")

        def dies(journal: Any, id: str) -> None:
            raise DiskFailed()

        monkeypatch.setattr(Journal, "dequeue", dies)
        for size in (10, 2 * MIB):
            path = devices.source(f"f{size}", os.urandom(size))
            await control.call("send_file", {"path": path, "peer": "third", "wait": False})
        await until(lambda: len(published(devices.inbox("third"))) == 2)
        await until(lambda: not nas.registry.pending() and not nas._now.outgoing._waiting)
        await control.close()
        await nas.stopService()
        monkeypatch.undo()
        told: list[Snapshot] = []
        again = devices.service("nas")
        again.subscribe(told.append)
        again.startService()
        await again.when_listening()
        await until(lambda: len([each for each in told if each.state is State.DONE]) == 2)
        await until(lambda: not again._now.outgoing._waiting)
        assert published(devices.inbox("third")) == ["f10", f"f{2 * MIB}"]
        assert Journal(devices.state("nas").file("history.db")).queued() == []

    @in_reactor
    async def test_orphans(self, devices: Devices) -> None:
        """Ten thousand parts of peers that never came back go when they are old, and nothing else.

        A service that starts on them serves, and what is young can still be continued.
        """
        # covers: K10
        service = await devices.start("nas")
        await service.stopService()
        staging = devices.inbox("nas") / ".lanxfer-staging"
        for number in range(10_000):
            (staging / f"{number:032x}.part").touch(0o600)
        others = ["lock", "notes", "x.part", f"{1:032x}.part.bak", f"{'G' * 32}.part"]
        for name in others:
            (staging / name).touch(0o600)
        await devices.pair("laptop", service, "nas")
        again = await devices.start("nas", port=port_of(service))
        client = await devices.client("laptop", "nas")
        assert (await client.send_file(devices.source("new", b"1"))).stored == "new"
        assert len(list(staging.iterdir())) == 10_000 + len(others)
        # They cannot be made to look old: the time of a change of the file itself counts.
        assert again._now.store.tidy(3600.0) == 0
        assert again._now.store.tidy(-1.0) == 10_000
        assert sorted(each.name for each in staging.iterdir()) == sorted(others)
        assert published(devices.inbox("nas")) == ["new"]


class SettingsTests:
    @in_reactor
    async def test_another_inbox(self, devices: Devices) -> None:
        """Settings change with a restart only; a file under way is then whole in the new inbox.

        In the old one its part stays, unpublished and untouched, until it is too old.
        """
        # covers: C10
        service = await devices.start("nas", drain=0.0)
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        data = os.urandom(24 * MIB)
        await client.send_file(devices.source("early", b"1"))
        sending = client.send_file(devices.source("big", data))
        await until(lambda: any(each.done > MIB for each in service.registry.pending()))
        service.registry.find(service.registry.pending()[0].id).pause(True)
        await service.stopService()
        old, new = devices.inbox("nas"), devices.inbox("new")
        (part,) = (old / ".lanxfer-staging").glob("*.part")
        held = part.read_bytes()
        again = await devices.start("nas", port=port_of(service), inbox=str(new))
        receipt = await sending
        assert receipt.resumed_from == 0
        assert (new / "big").read_bytes() == data
        assert published(old) == ["early"] and part.read_bytes() == held
        # What was published in the old one is not taken for being in the new one.
        assert not (await client.send_file(devices.source("early", b"1"))).already
        assert published(new) == ["big", "early"]
        assert not again.registry.pending()
