"""The doctor names the cause, in conditions that are real."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor
from networks import Host, connect, hosts, know, until
from twisted.internet import reactor

from lanxfer.discovery.marks import Adapter
from lanxfer.doctor.findings import Level
from lanxfer.doctor.here import look_here
from lanxfer.doctor.system import neighbour
from lanxfer.doctor.there import There
from lanxfer.errors import Exit, TooLarge
from lanxfer.identity import load_identity
from lanxfer.wire import limits

PAGE = Path(__file__).parent.parent / "docs" / "doctor.rst"

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A laptop that knows a nas at 10.77.0.2, on one cable."""
    with hosts(tmp_path, "ab") as (laptop, nas):
        connect(laptop, "lan0", nas, "lan0")
        laptop.ip("addr", "add", "10.77.0.1/24", "dev", "lan0")
        nas.ip("addr", "add", "10.77.0.2/24", "dev", "lan0")
        know(laptop, nas, "10.77.0.2")
        yield laptop, nas


def faults(host: Host, *line: str) -> dict[str, str]:
    done = host.run("doctor", *line, "--json")
    found = {row["check"]: row["text"] for row in done.rows if row["level"] == "fault"}
    assert done.code == (Exit.FAILED if found else Exit.OK), done.err
    return found


@on_linux
class CauseTests:
    def test_well(self, two: tuple[Host, Host]) -> None:
        """Where nothing is wrong nothing is complained of, and how fast it is is said."""
        laptop, nas = two
        nas.serve()
        page = re.findall(r"^    lanxfer (doctor.*)$", PAGE.read_text(), re.MULTILINE)
        assert page == ["doctor", "doctor nas"]
        for line in page:
            done = laptop.run(*line.split())
            assert done.code == Exit.OK and "FAULT" not in done.out
        assert re.search(r"carries \d+ MiB/s; an answer takes \d", done.out)
        assert faults(nas) == {}
        assert "MiB/s, and has room" in nas.run("doctor").out

    def test_peer_off(self, two: tuple[Host, Host]) -> None:
        """Switched off: nobody has its address."""
        laptop, nas = two
        nas.ip("link", "set", "lan0", "down")
        laptop.ip("neigh", "flush", "all")
        assert list(faults(laptop, "nas")) == ["peer-off"]

    def test_not_running(self, two: tuple[Host, Host]) -> None:
        """On, without a service."""
        laptop, _ = two
        assert list(faults(laptop, "nas")) == ["refused"]

    def test_wrong_port(self, two: tuple[Host, Host]) -> None:
        """At the usual port instead of the one that was said, or at the one it announces."""
        laptop, nas = two
        key = nas.key()
        laptop.run("peer", "forget", "nas")
        assert laptop.run("peer", "add", "nas", f"{key}@10.77.0.2:4444").code == 0
        nas.serve()
        found = faults(laptop, "nas")
        assert list(found) == ["wrong-port"]
        assert "port 36969, not 4444" in found["wrong-port"]
        assert list(faults(laptop, "10.77.0.2:5555")) == ["wrong-port"]

    def test_announced_port(self, two: tuple[Host, Host]) -> None:
        """It moved to another port, where it is found; the old one is no fault then."""
        laptop, nas = two
        for host in two:
            host.run("discovery", "on")
        nas.serve("--port", 4321)
        until(lambda: laptop.run("peers", "--json").rows[0]["seen"])
        done = laptop.run("doctor", "nas")
        assert done.code == Exit.OK, done.out
        assert "seen at 10.77.0.2:4321" in done.out

    def test_key_changed(self, two: tuple[Host, Host]) -> None:
        """Set up anew."""
        laptop, nas = two
        nas.state.rename(nas.state.with_name("old"))
        nas.serve()
        found = faults(laptop, "nas")
        assert list(found) == ["key-changed"]
        assert nas.key()[:4] in found["key-changed"]

    def test_disk_full(self, two: tuple[Host, Host]) -> None:
        """The disk of the inbox is full, as seen from either side."""
        laptop, nas = two
        nas.inbox.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(nas.inbox)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting a small disk is not allowed")
        try:
            nas.serve("--limit", "reserve-bytes=0", "--limit", "reserve-share=0", "--no-sandbox")
            assert faults(laptop, "nas") == {}
            with (nas.inbox / "filler").open("wb") as filler, pytest.raises(OSError):
                while True:
                    filler.write(bytes(65536))
                    filler.flush()
            assert list(faults(laptop, "nas")) == ["disk-full"]
            assert list(faults(nas)) == ["disk-full"]
        finally:
            nas.end()
            subprocess.run(["umount", str(nas.inbox)], check=True)

    def test_other_subnet(self, two: tuple[Host, Host]) -> None:
        """The laptop is in another network, without a way to the nas."""
        laptop, nas = two
        laptop.ip("addr", "del", "10.77.0.1/24", "dev", "lan0")
        laptop.ip("addr", "add", "192.168.7.1/24", "dev", "lan0")
        nas.serve()
        found = faults(laptop, "nas")
        assert list(found) == ["other-subnet"]
        assert "192.168.7.0/24" in found["other-subnet"]

    def test_ipv6_only(self, two: tuple[Host, Host]) -> None:
        """Both have IPv6 only: from either side it is said, and what helps does help."""
        laptop, nas = two
        laptop.ip("addr", "del", "10.77.0.1/24", "dev", "lan0")
        nas.ip("addr", "del", "10.77.0.2/24", "dev", "lan0")
        nas.serve()
        assert list(faults(laptop, "nas")) == ["ipv6-only"]
        assert list(faults(nas)) == ["ipv6-only"]
        nas.end()
        for host in two:
            assert host.run("discovery", "on").code == 0
        nas.serve("--bind", "::")
        until(lambda: laptop.run("peers", "--json").rows[0]["seen"])
        assert faults(nas) == {} == faults(laptop, "nas")

    def test_firewall(self, two: tuple[Host, Host]) -> None:
        """It is there, and its answers do not come back."""
        laptop, nas = two
        nas.serve()
        assert faults(laptop, "nas") == {}
        nas.ip("route", "add", "blackhole", "10.77.0.1/32")
        assert list(faults(laptop, "nas")) == ["firewall"]

    def test_unknown_there(self, two: tuple[Host, Host]) -> None:
        """The nas has forgotten the laptop."""
        laptop, nas = two
        nas.run("peer", "forget", "laptop")
        nas.serve()
        assert list(faults(laptop, "nas")) == ["not-known-there"]

    def test_no_name(self, two: tuple[Host, Host]) -> None:
        """A name that nobody knows."""
        assert list(faults(two[0], "nosuchname.invalid")) == ["no-such-name"]


ETH = Adapter("eth0", 2, (("10.0.0.1", 24),))
LOOP = Adapter("lo", 1, (("127.0.0.1", 8),))


class HereTests:
    @pytest.mark.parametrize(
        ("adapters", "listening", "check"),
        [
            ([LOOP], ["0.0.0.0:36969"], "no-network"),
            ([LOOP, ETH], ["127.0.0.1:36969"], "loopback-only"),
            ([LOOP, Adapter("eth0", 2, (("fd00::1", 64),))], ["0.0.0.0:36969"], "ipv6-only"),
        ],
    )
    def test_faults(
        self, devices: Devices, adapters: list[Adapter], listening: list[str], check: str
    ) -> None:
        """What is wrong here is said without anybody else."""
        devices.inbox("nas").mkdir()
        status: dict[str, Any] = {
            "listening": listening,
            "warnings": [],
            "inbox": str(devices.inbox("nas")),
            "free": 10**9,
        }
        found = list(look_here(devices.state("nas"), adapters, status))
        assert [each.check for each in found if each.level is Level.FAULT] == [check]
        assert list(devices.inbox("nas").iterdir()) == []

    def test_one_other(self, devices: Devices) -> None:
        """Who knows one device is not told of others."""
        devices.pin("nas", "laptop")
        found = list(look_here(devices.state("nas"), [], None))
        assert any(each.text.endswith("knows 1 other.") for each in found)

    @on_linux
    def test_neighbour(self) -> None:
        """Of an address nobody asked for nothing is known."""
        assert neighbour("203.0.113.77") is None


class ThereTests:
    @in_reactor
    async def test_silent(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who takes a connection and says nothing is not said to be something else."""
        monkeypatch.setattr(limits, "HANDSHAKE_TIMEOUT", 0.05)
        state = devices.state("laptop")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = f"127.0.0.1:{silent.getsockname()[1]}"
            there = There(reactor, state, load_identity(state), [LOOP], where)
            found = [each async for each in there.look()]
        assert [each.check for each in found] == ["silent"]
        assert found[0].level is Level.FAULT and where in found[0].text


class CheckupTests:
    @in_reactor
    async def test_for_peers(self, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
        """A known device is told the time and the room; a body is dropped, a larger one refused."""
        nas = await devices.start("nas")
        await devices.pair("laptop", nas, "nas")
        client = await devices.client("laptop", "nas")
        monkeypatch.setattr("lanxfer.commands.checkup.time.time", lambda: 12.5)
        answer = (await client.call("checkup", {}, bytes(1024 * 1024))).args
        assert answer["time_ms"] == 12500
        assert answer["room"] > 0 and answer["room"] % (1024 * 1024) == 0
        with pytest.raises(TooLarge):
            await client.call("checkup", {}, bytes(1024 * 1024 + 1))
