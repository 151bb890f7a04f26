"""Whole devices in trouble: bad wires, crowds, hanging disks, other settings after a restart."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from devices import Devices, in_reactor, run, until
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from wires import Wire

from lanxfer.disk import WORKERS
from lanxfer.errors import DigestMismatch
from lanxfer.storage import parts
from lanxfer.transfers import Snapshot, State
from lanxfer.wire import limits

MIB = 1024 * 1024


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[Devices]:
    made = Devices(tmp_path)
    yield made
    run(made.close())


def published(inbox: Path) -> list[str]:
    """What lies in an inbox under a final name."""
    found = (str(each.relative_to(inbox)) for each in inbox.rglob("*") if each.is_file())
    return sorted(each for each in found if not each.startswith(".lanxfer"))


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


class CrowdTests:
    @in_reactor
    async def test_all_come_back(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forty devices in the middle of a file come back at once after a restart, and finish.

        What they hold is proved by few threads at a time, and the owner is answered meanwhile.
        """
        # covers: C08
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
            if snapshot.state is State.MOVING and snapshot.done:
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
            return len(pending) == 40 and all(each.state is State.PAUSED for each in pending)

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
        """While every disk worker hangs in a sync, the owner and other peers are answered.

        When the disk works again, what waited for it completes.
        """
        # covers: R09, R10
        service = await devices.start("nas", drain=0.0)
        await devices.pair("laptop", service, "nas")
        await devices.pair("phone", service, "nas")
        laptop = await devices.client("laptop", "nas")
        phone = await devices.client("phone", "nas")
        control = await devices.control("nas")
        await phone.send_message("before")
        hanging, release = threading.Semaphore(0), threading.Event()
        prove = parts.LocalPart.publish

        def hang(part: Any, *args: Any) -> Any:
            hanging.release()
            release.wait(30)
            return prove(part, *args)

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
            assert not any(each.called for each in sending)
        finally:
            release.set()
        for each in sending:
            assert (await each).digest == blake3(data).hexdigest()
        assert published(devices.inbox("nas")) == [f"f{n}" for n in range(count)]


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
