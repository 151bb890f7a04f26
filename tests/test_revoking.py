"""A device that is forgotten is gone at once, whoever forgot it and whatever it was doing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, sleep, until
from test_cli_real import run as lanxfer
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from lanxfer.errors import NotPaired
from lanxfer.peers import Peer, Peers
from lanxfer.wire import limits

HUGE = 8 * 1024**3


def huge(devices: Devices) -> str:
    """A file that is not sent before anybody can do something about it."""
    path = devices.source("huge", b"")
    os.truncate(path, HUGE)
    return path


async def moving(devices: Devices, **settings: Any) -> tuple[Any, Any, Deferred[Any]]:
    """A service, a client of its, and a file on its way."""
    service = await devices.start("nas", **settings)
    await devices.pair("laptop", service, "nas")
    client = await devices.client("laptop", "nas")
    sending = client.send_file(huge(devices))
    await until(lambda: [each for each in service.registry.pending() if each.done])
    return service, client, sending


class ForgetTests:
    @in_reactor
    async def test_by_another_process(self, devices: Devices) -> None:
        """A transfer ends when another process forgets its sender; what was stored stays."""
        # covers: A08
        service, client, sending = await moving(devices)
        stored = await client.send_file(devices.source("a.txt", b"hello"))
        state = devices.state("nas").path
        done = await deferToThread(lanxfer, "--state", state, "peer", "forget", "laptop")
        assert done.code == 0, done.err
        with pytest.raises(NotPaired):
            await sending
        await until(lambda: not service._now.factory.connections)
        assert (devices.inbox("nas") / stored.stored).read_bytes() == b"hello"
        assert not (devices.inbox("nas") / "huge").exists()
        with pytest.raises(NotPaired):
            await devices.client("laptop", "nas")

    @in_reactor
    async def test_idle(self, devices: Devices) -> None:
        """A connection on which nothing happens ends, too, and that of another peer does not."""
        # covers: A08, I9
        service = await devices.start("nas")
        clients = {}
        for name in ("laptop", "phone"):
            await devices.pair(name, service, "nas")
            clients[name] = await devices.client(name, "nas")
        Peers(devices.state("nas")).forget("laptop")
        await clients["laptop"]._connection.when_gone()
        assert (await clients["phone"].call("ping")).args == {}

    @in_reactor
    async def test_by_the_sender(self, devices: Devices) -> None:
        """The sending side, too, ends what it sends to whom it forgot."""
        # covers: A08
        _, _, sending = await moving(devices)
        Peers(devices.state("laptop")).forget("nas")
        with pytest.raises(NotPaired):
            await sending

    @in_reactor
    async def test_by_a_sending_service(self, devices: Devices) -> None:
        """What a service sends by itself ends in the same way."""
        # covers: A08
        service = await devices.start("nas")
        sender = await devices.start("attic")
        await devices.pair("attic", service, "nas")
        sending = sender.send({"peer": "nas", "path": huge(devices)})
        await until(lambda: [each for each in sender.registry.pending() if each.done])
        Peers(devices.state("attic")).forget("nas")
        with pytest.raises(NotPaired):
            await sending

    @in_reactor
    async def test_replaced(self, devices: Devices) -> None:
        """A name that stands for another key now: the old key's connections end."""
        # covers: A07, A08
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        Peers(devices.state("nas")).add(Peer("laptop", devices.key("new")), replace=True)
        await client._connection.when_gone()

    @in_reactor
    async def test_renamed(self, devices: Devices) -> None:
        """A key that is known under another name now goes on."""
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        path = Path(devices.state("nas").file("peers.json"))
        before = path.read_bytes()
        peers = Peers(devices.state("nas"))
        peers.forget("laptop")
        peers.add(Peer("renamed", devices.key("laptop")))
        assert path.read_bytes() != before
        await sleep(3 * limits.REVOKE_EVERY)
        assert (await client.call("ping")).args == {}

    @in_reactor
    async def test_damaged(self, devices: Devices) -> None:
        """A list that cannot be read lets nobody in, and cuts nobody off."""
        service = await devices.start("nas")
        await devices.pair("laptop", service, "nas")
        client = await devices.client("laptop", "nas")
        path = Path(devices.state("nas").file("peers.json"))
        good = path.read_bytes()
        path.write_bytes(good[:-20])
        await sleep(3 * limits.REVOKE_EVERY)
        assert (await client.call("ping")).args == {}
        path.write_bytes(good)
        Peers(devices.state("nas")).forget("laptop")
        await client._connection.when_gone()
