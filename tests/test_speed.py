"""Speed limits over real sockets: what is held back is held back, and arrives whole all the same.

How exactly a limit holds is measured by ``python -m chaos rate``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor, sleep, until

from lanxfer.errors import BadConfig, BadHeader, Cancelled
from lanxfer.rates import LOOK_EVERY, Speeds
from lanxfer.rights.words import format_value, parse_value
from lanxfer.tap import Options, settings_from
from lanxfer.transfers import State
from lanxfer.wire import limits

MIB = limits.MIB
SLOW = limits.SPEED_LEAST
"""At this a mebibyte takes four minutes, however slow the machine is."""


async def pair(devices: Devices, plain: bool = False, **settings: Any) -> Any:
    service = await devices.start("nas", plain_from=("127.0.0.1",), **settings)
    await devices.pair("laptop", service, "nas")
    Path(devices.state("nas").file("rights")).write_text("[plain]\noffers = accept\n")
    await sleep(0.1)
    peer = service.address if plain else "nas"
    return service, await devices.client("laptop", peer, plain=plain)


def done(service: Any) -> int:
    return sum(each.done for each in service.registry.pending() if each.state is State.MOVING)


class HeldBackTests:
    @pytest.mark.parametrize("plain", [True, False])
    @pytest.mark.parametrize("side", ["receiver", "sender"])
    @in_reactor
    async def test_large(self, devices: Devices, plain: bool, side: str) -> None:
        """A large file moves, is far from done, and is there at once when the limit is gone."""
        # covers: S2-55 S2-56
        service, client = await pair(devices, plain)
        limited = service if side == "receiver" else client
        name = "rate_in" if side == "receiver" else "rate_out"
        limited.limit(**{name: SLOW})
        data = os.urandom(4 * MIB)
        sending = client.send_file(devices.source("big", data))
        await until(lambda: done(service) > SLOW)
        assert done(service) < MIB
        # What needs no bytes to speak of is still answered: the connection is slow, not stuck.
        await (await devices.control("nas")).call("status")
        assert not sending.called
        limited.limit(**{name: None})
        await sending
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @pytest.mark.parametrize("side", ["receiver", "sender"])
    @in_reactor
    async def test_small(self, devices: Devices, side: str) -> None:
        """Small files wait as well, although they travel with their requests."""
        # covers: S2-55
        service, client = await pair(devices)
        limited = service if side == "receiver" else client
        name = "rate_in" if side == "receiver" else "rate_out"
        limited.limit(**{name: SLOW})
        if side == "receiver":
            client = await devices.client("laptop", "nas")  # told what may travel with a request
        for number in range(50):
            devices.source(f"many/{number}", os.urandom(4_000))
        sending = client.send_paths([str(devices.folder / "many")])
        await until(lambda: any(devices.inbox("nas").glob("many/*")))
        await sleep(0.2)
        assert len(list(devices.inbox("nas").glob("many/*"))) < 40
        limited.limit(**{name: None})
        sent = await sending
        assert not sent.failed
        assert len(list(devices.inbox("nas").glob("many/*"))) == 50

    @in_reactor
    async def test_owner_says_so(self, devices: Devices) -> None:
        """What the file of rights says of a peer holds for what is under way, soon after."""
        # covers: S2-50 S2-55 S2-56
        service, client = await pair(devices)
        rights = Path(devices.state("nas").file("rights"))
        rights.write_text("[peer laptop]\nrate-in = 4 KiB/s\n")
        await sleep(LOOK_EVERY + 0.1)
        data = os.urandom(4 * MIB)
        sending = client.send_file(devices.source("big", data))
        await until(lambda: done(service) > SLOW)
        assert done(service) < MIB
        rights.write_text("[peer laptop]\nrate-in-each = 100 MiB/s\n")
        await sending
        assert (devices.inbox("nas") / "big").read_bytes() == data

    @in_reactor
    async def test_cancelled(self, devices: Devices) -> None:
        """What waits for its turn can be given up, and the connection goes on."""
        service, client = await pair(devices)
        client.limit(rate_out=SLOW)
        sending = client.send_file(devices.source("big", os.urandom(MIB)))
        await until(lambda: done(service) > 0)
        small = client.send_file(devices.source("small", os.urandom(50_000)))
        small.cancel()
        sending.cancel()
        for each in (small, sending):
            with pytest.raises(Cancelled):
                await each
        client.limit(rate_out=None)
        assert (await client.send_message("still there")).size == 11
        assert not (devices.inbox("nas") / "small").exists()

    @in_reactor
    async def test_service_stops(self, devices: Devices) -> None:
        """A service that is stopped does not wait for what would take for ever."""
        service, client = await pair(devices, drain=0.1)
        client._retrying.patience = 0
        service.limit(rate_in=SLOW)
        sending = client.send_file(devices.source("big", os.urandom(MIB)))
        await until(lambda: done(service) > 0)
        await service.stopService()
        with pytest.raises(Exception, match=r"."):
            await sending

    @in_reactor
    async def test_ticket(self, devices: Devices) -> None:
        """Uploads by ticket count among all the others."""
        # covers: S2-55
        from twisted.internet import reactor
        from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
        from twisted.internet.protocol import Protocol

        service = await devices.start("nas", tickets_plain=True, rate_in=100_000)
        data = os.urandom(16 * MIB)
        slot = service.offer_slot("big", len(data))
        port = int(service.address.rpartition(":")[2])
        wire = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Protocol())
        wire.transport.write(slot.line + data)
        await until(lambda: done(service) > 0)
        assert done(service) < 8 * MIB
        service.limit(rate_in=None)
        await slot.done
        assert (devices.inbox("nas") / "big").read_bytes() == data
        wire.transport.loseConnection()


class PatienceTests:
    """Timeouts are about peers that do nothing, not about limits."""

    @pytest.mark.parametrize("side", ["receiver", "sender"])
    @in_reactor
    async def test_slow_is_not_idle(self, devices: Devices, side: str, monkeypatch: Any) -> None:
        """A transfer at a limit outlives every timeout many times over."""
        # covers: S2-57 S2-58
        for name in ("BODY_IDLE_TIMEOUT", "RATE_OVER"):
            monkeypatch.setattr(limits, name, 0.2)
        for name in ("HEADER_TIMEOUT", "PING_AFTER", "PING_TIMEOUT"):
            monkeypatch.setattr(limits, name, 2.0)
        service, client = await pair(devices)
        limited = service if side == "receiver" else client
        limited.limit(**{"rate_in" if side == "receiver" else "rate_out": 50_000})
        connection = await client.connected()
        await client.send_file(devices.source("a", os.urandom(300_000)))
        assert (await client.connected()) is connection


class ControlTests:
    @in_reactor
    async def test_command(self, devices: Devices) -> None:
        """This device's user sees and changes the limits of the running service; nobody else."""
        # covers: S2-56
        service, client = await pair(devices, rate_in=10 * MIB)
        control = await devices.control("nas")
        first = (await control.call("limit")).args
        assert first == {"in": 10 * MIB, "out": 0, "in_each": 0, "out_each": 0}
        changed = await control.call("limit", {"in": 0, "out_each": 5000})
        assert changed.args == {"in": 0, "out": 0, "in_each": 0, "out_each": 5000}
        assert service.limit() == Speeds(rate_out_each=5000)
        with pytest.raises(BadHeader):
            await control.call("limit", {"in": 1})
        with pytest.raises(Exception, match=r"."):
            await client.call("limit", {"in": 0})


class WordsTests:
    @pytest.mark.parametrize(
        ("text", "value", "shown"),
        [
            ("5M", 5 * MIB, "5 MiB/s"),
            ("500 KiB/s", 500 * limits.KIB, "500 KiB/s"),
            ("5000", 5000, "5000 B/s"),
            ("1.5 MiB/s", 3 * MIB // 2, "1536 KiB/s"),
            ("any", None, "any"),
        ],
    )
    def test_values(self, text: str, value: int | None, shown: str) -> None:
        """Rates are written as people write them, and read back."""
        assert parse_value("rate-in", text) == value
        assert format_value("rate-in", value) == shown
        assert parse_value("rate-in", shown) == value

    @pytest.mark.parametrize(
        "text", ["", "0", "1", "4095", "fast", "-5M", "5M/min", "20/s burst 3"]
    )
    def test_nonsense(self, text: str) -> None:
        """What is no rate, or slower than a peer that is taken for dead, is refused in words."""
        with pytest.raises(BadConfig, match="rate-out-each"):
            parse_value("rate-out-each", text)

    def test_options(self) -> None:
        """The options of the service are settings."""
        options = Options()
        options.parseOptions(["--rate-in", "5M", "--rate-out-each", "1M", "--rate-out", "any"])
        assert settings_from(options).speeds == Speeds(5 * MIB, None, None, MIB)
