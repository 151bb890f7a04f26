"""Tags, marks, the table of who is seen, and what a hint leads to."""

from __future__ import annotations

import base64
import hmac
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from devices import Devices, in_reactor
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from lanxfer.connecting import Dialer, Target
from lanxfer.discovery.announcing import reachable
from lanxfer.discovery.looking import find, look
from lanxfer.discovery.marks import (
    FILE,
    Adapter,
    adapters,
    marked,
    parse_mark,
    read_marks,
    usual_marks,
    write_marks,
)
from lanxfer.discovery.mdns import ASKED_MAX, SERVICE, Engine, host_of, on_link
from lanxfer.discovery.table import SEEN_MAX, Table
from lanxfer.discovery.tags import NONCE, make_tag, match_tag
from lanxfer.disk import Disk
from lanxfer.errors import BadConfig, BadState, Exit, KeyChanged, NotFound, Unreachable
from lanxfer.identity import load_identity
from lanxfer.peers import Peers, parse_address
from lanxfer.state import StateFolder

KEYS = ["A" * 52, "B" * 51 + "A", "C" * 51 + "Q"]
nonces = st.binary(min_size=NONCE, max_size=NONCE)

HOME = Adapter("eth0", 2, (("192.168.1.5", 24), ("fd00::5", 64), ("fe80::5", 64)))
CAFE = Adapter("wlan0", 3, (("10.1.2.3", 16),))
LONE = Adapter("usb0", 4, (("fe80::7", 64),))
LOOP = Adapter("lo", 1, (("127.0.0.1", 8), ("::1", 128)))
ALL = [LOOP, HOME, CAFE, LONE]


class TagTests:
    @given(st.sampled_from(KEYS), nonces)
    def test_round_trip(self, key: str, nonce: bytes) -> None:
        """Who knows the key knows whose tag it is."""
        assert match_tag(make_tag(key, nonce), KEYS) == key

    @given(st.sampled_from(KEYS), nonces)
    def test_opaque(self, key: str, nonce: bytes) -> None:
        """Who does not know the key does not, and a tag is a plain DNS label."""
        tag = make_tag(key, nonce)
        assert match_tag(tag, [each for each in KEYS if each != key]) is None
        assert tag.isascii() and tag.isalnum() and len(tag) < 63

    def test_as_specified(self) -> None:
        """docs/protocol.rst, "Being found", in other words."""
        nonce = bytes(range(NONCE))
        said = hmac.new(KEYS[1].encode(), b"lanxfer/1 discovery\0" + nonce, "sha256").digest()[:8]
        text = base64.b32encode(nonce + said).decode().lower()
        assert make_tag(KEYS[1], nonce) == text.replace("=", "") and len(text.strip("=")) == 26

    @given(st.text(max_size=40))
    def test_garbage(self, text: str) -> None:
        """Anything may stand there."""
        assert match_tag(text, KEYS) is None


class MarkTests:
    def test_none_at_first(self, tmp_path: Path) -> None:
        """Nobody is looked for, and nothing is announced, before somebody says so."""
        state = StateFolder(str(tmp_path / "s"))
        assert read_marks(state) == ()
        assert look(state) == [] and find(state, KEYS[0]) == []

    def test_kept(self, tmp_path: Path) -> None:
        """What is marked is marked in the next process, too, and can be taken back."""
        state = StateFolder(str(tmp_path / "s"))
        assert write_marks(state, ["192.168.1.77/24", "eth0"]) == ("192.168.1.0/24", "eth0")
        assert read_marks(state) == ("192.168.1.0/24", "eth0")
        write_marks(state, [])
        assert read_marks(state) == ()

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version": 2, "networks": []}', b"\xff"])
    def test_damaged(self, tmp_path: Path, data: bytes) -> None:
        """A damaged file marks nothing, and says so."""
        state = StateFolder(str(tmp_path / "s"))
        state.write(FILE, data)
        with pytest.raises(BadState, match="discovery off"):
            read_marks(state)

    @pytest.mark.parametrize("text", ["", "a b", "1.2.3.4/33", "x" * 40, "eth0/24", "-"])
    def test_no_mark(self, text: str) -> None:
        """What is neither a network nor an interface is refused."""
        if text == "-":
            assert parse_mark(text) == text
            return
        with pytest.raises(BadConfig):
            parse_mark(text)

    @pytest.mark.parametrize(
        ("marks", "expected"),
        [
            ([], []),
            (["192.168.0.0/16"], [HOME]),
            (["fd00::/64"], [HOME]),
            (["wlan0", "usb0"], [CAFE, LONE]),
            (["all"], [HOME, CAFE, LONE]),
            (["lo"], [LOOP]),
            (["127.0.0.0/8"], []),
        ],
    )
    def test_marked(self, marks: list[str], expected: list[Adapter]) -> None:
        """Only interfaces on marked networks are used."""
        assert marked(ALL, marks) == expected

    def test_usual(self) -> None:
        """Without a word, where this machine is now; an interface without a network by its name."""
        assert usual_marks(ALL) == ("192.168.1.0/24", "fd00::/64", "10.1.0.0/16", "usb0")

    @pytest.mark.parametrize(
        ("listening", "hosts"),
        [
            ([("0.0.0.0", 5)], ("192.168.1.5", "10.1.2.3")),
            ([("::", 5)], ("192.168.1.5", "fd00::5", "fe80::5", "10.1.2.3")),
            ([("10.1.2.3", 5)], ("10.1.2.3",)),
            ([("fe80::5%eth0", 5)], ("fe80::5",)),
            ([("10.1.2.3", 5), ("192.168.1.5", 6)], ("10.1.2.3",)),
        ],
    )
    def test_reachable(self, listening: list[tuple[str, int]], hosts: tuple[str, ...]) -> None:
        """Only where the service listens is announced."""
        assert reachable([HOME, CAFE], listening) == (hosts, 5)


class TableTests:
    def test_known_first(self) -> None:
        """A crowd of strangers does not keep a known device out."""
        # covers: D02
        table = Table(lambda: KEYS)
        assert table.put(make_tag(KEYS[0], b"12345678"), ["10.0.0.8"], 36969, False)
        for number in range(SEEN_MAX + 50):
            assert table.put(f"stranger{number}", ["10.0.0.1"], 5, False)
        assert len(table.all()) == SEEN_MAX
        assert table.put(make_tag(KEYS[1], b"12345678"), ["10.0.0.9"], 36969, False)
        assert len(table.all()) == SEEN_MAX
        assert table.addresses(KEYS[0]) == ["10.0.0.8"]
        assert table.addresses(KEYS[1]) == ["10.0.0.9"]
        for number in range(SEEN_MAX):
            table.put(make_tag(KEYS[1], number.to_bytes(NONCE)), ["10.0.0.9"], 36969, False)
        assert table.put("stranger", ["10.0.0.1"], 5, False) is None

    def test_known_later(self) -> None:
        """A device that was seen before it was known is found; a damaged list hides nobody."""
        known: list[str] = []

        def keys() -> list[str]:
            if not known:
                raise BadState()
            return known

        table = Table(keys)
        seen = table.put(make_tag(KEYS[1], b"12345678"), ["10.0.0.9"], 36969, False)
        assert seen is not None and seen.key is None
        known.append(KEYS[1])
        assert table.addresses(KEYS[1]) == ["10.0.0.9"]
        assert table.addresses(KEYS[0]) == []

    def test_newest_first(self) -> None:
        """Under its newest name it is where it is now."""
        table = Table(lambda: KEYS)
        old, new = make_tag(KEYS[0], b"a" * NONCE), make_tag(KEYS[0], b"b" * NONCE)
        table.put(old, ["10.0.0.1"], 5, False)
        table.put(new, ["10.0.0.2", "fe80::1%eth0"], 5, False)
        assert table.addresses(KEYS[0]) == ["10.0.0.2:5", "[fe80::1%eth0]:5", "10.0.0.1:5"]
        table.drop(old)
        assert len(table.all()) == 1
        assert parse_address(table.addresses(KEYS[0])[1]) == ("fe80::1%eth0", 5)

    @pytest.mark.parametrize(
        ("text", "host"),
        [
            ("10.0.0.1", "10.0.0.1"),
            ("0.0.0.0", ""),
            ("224.0.0.1", ""),
            ("ff02::1", ""),
            ("fe80::1", ""),
            ("fe80::1%1", "fe80::1%lo"),
            ("fe80::1%nonsense", ""),
            ("fd00::1", "fd00::1"),
        ],
    )
    def test_host(self, text: str, host: str) -> None:
        """An address that leads to nobody is none."""
        assert host_of(text) == host

    @pytest.mark.parametrize(
        ("host", "there"),
        [
            ("192.168.1.99", True),
            ("192.168.2.99", False),
            ("fd00::99", True),
            ("2001:db8::1", False),
            ("fe80::99%eth0", True),
            ("fe80::99%wlan0", False),
            ("127.0.0.1", False),
        ],
    )
    def test_on_link(self, host: str, there: bool) -> None:
        """Nobody is sent to another network, nor to this machine itself, by hearsay."""
        # covers: D04
        assert on_link(host, [HOME]) is there


class HintTests:
    async def _dialer(self, devices: Devices, found: list[str]) -> Dialer:
        from twisted.internet import reactor

        async def find(key: str) -> list[str]:
            return found

        disk = Disk(reactor)
        disk.start()
        state = devices.state("laptop")
        return Dialer(reactor, disk, Peers(state), load_identity(state), "laptop", find=find)

    @in_reactor
    async def test_key_decides(self, devices: Devices) -> None:
        """Somebody else who says to be it is passed over without an alarm; the key tells."""
        # covers: D01 D06
        nas, other = await devices.start("nas"), await devices.start("other")
        devices.pin("laptop", "nas", "127.0.0.1:9")
        devices.pin("nas", "laptop")
        dialer = await self._dialer(devices, [other.address, "127.0.0.1:9", nas.address])
        target = Target("nas", ("127.0.0.1:9",), devices.key("nas"))
        connection = await dialer.dial(target)
        assert connection.principal is not None and connection.principal.label == "nas"
        # What proved itself is remembered; what was only heard of is not.
        assert Peers(devices.state("laptop")).find("nas").addresses[0] == nas.address
        assert other.address not in Peers(devices.state("laptop")).find("nas").addresses
        await connection.leave(1)
        dialer.disk.stop()

    @in_reactor
    async def test_false_hints(self, devices: Devices) -> None:
        """Where hints lead nowhere, what is said is what its own addresses led to."""
        other = await devices.start("other")
        devices.pin("laptop", "nas")
        dialer = await self._dialer(devices, [other.address])
        key = devices.key("nas")
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await dialer.dial(Target("nas", ("127.0.0.1:9",), key))
        with pytest.raises(NotFound):
            await dialer.dial(Target("nas", (), key))
        with pytest.raises(KeyChanged):
            await dialer.dial(Target("nas", (other.address,), key))
        dialer.disk.stop()


class SlowTests:
    def _dialer(self, found: list[str], open: list[str]) -> tuple[Any, list[tuple[str, float]]]:
        """A dialer on a clock, with its attempts; those at ``open`` end well."""
        clock, tried = Clock(), []

        async def find(key: str) -> list[str]:
            return found

        def dial(self: Any, target: Any, address: str, expect: Any, timeout: float) -> Any:
            tried.append((address, timeout))
            if address in open:
                return succeed(address)
            if address.startswith("slow"):
                clock.advance(timeout)
            return fail(Unreachable())

        dialer: Any = type("Dialing", (Dialer,), {"_open": dial, "__slots__": ()})
        none: Any = None
        return dialer(clock, none, none, none, "x", find=find), tried

    @pytest.mark.parametrize(
        ("found", "open", "tried"),
        [
            ([], ["slow1"], [("slow1", 3.0)]),
            (["new"], ["new"], [("slow1", 3.0), ("shut", 3.0), ("new", 10.0)]),
            ([], [], [("slow1", 3.0), ("shut", 3.0), ("slow1", 7.0)]),
            (["shut2"], [], [("slow1", 3.0), ("shut", 3.0), ("shut2", 10.0), ("slow1", 7.0)]),
        ],
    )
    def test_patience(
        self, found: list[str], open: list[str], tried: list[tuple[str, float]]
    ) -> None:
        """An old address has its time: a little before others are looked for, the rest after."""
        dialer, attempts = self._dialer(found, open)
        target = Target("nas", ("slow1", "shut"), "K")
        done = Deferred.fromCoroutine(dialer._reach(target, None))
        ended: list[Any] = []
        done.addBoth(ended.append)
        assert ended and attempts == tried
        assert ended[0] == (open[0], open[0]) if open else ended[0].check(Unreachable)

    def test_nobody_to_ask(self) -> None:
        """Without a key to look for, an address has all of its time at once."""
        dialer, attempts = self._dialer(["new"], [])
        done = Deferred.fromCoroutine(dialer._reach(Target("slow1", ("slow1",)), None))
        done.addErrback(lambda why: why.trap(Unreachable))
        assert done.called and attempts == [("slow1", 10.0)]


class MissingTests:
    def test_not_installed(self, tmp_path: Path) -> None:
        """Without zeroconf it cannot be turned on, and everything else works."""
        script = (
            "import sys\n"
            "sys.modules['zeroconf'] = None\n"
            "from lanxfer.cli.main import main\n"
            "main(sys.argv[1:])\n"
        )

        def call(*words: str) -> subprocess.CompletedProcess[str]:
            line = [sys.executable, "-c", script, "--state", str(tmp_path / "state"), *words]
            return subprocess.run(line, capture_output=True, text=True, timeout=60)

        turned = call("discovery", "on", "lo")
        assert turned.returncode == Exit.CONFIG and "lanxfer[discovery]" in turned.stderr
        # Somebody removed it later.
        write_marks(StateFolder(str(tmp_path / "state")), ["lo"])
        listed = call("peers")
        assert listed.returncode == Exit.OK and "lanxfer[discovery]" in listed.stderr
        examined = call("doctor", "--json")
        rows = [json.loads(line) for line in examined.stdout.splitlines()]
        assert ("discovery", "fault") in [(each["check"], each["level"]) for each in rows]


@pytest.fixture
def loopback() -> Adapter:
    return next(each for each in adapters() if any(ip.is_loopback for ip in each.ips))


class LoopbackTests:
    def test_engine(self, loopback: Adapter) -> None:
        """What one announces another sees, and sees go."""
        from networks import until

        speaks, hears = Engine([loopback]), Engine([loopback])
        table = Table(lambda: KEYS)
        seen: list[Any] = []
        tag = make_tag(KEYS[2], b"engine..")
        try:
            hears.browse(table, seen.append)
            speaks.announce(tag, ["127.0.0.1"], 4242, False)
            until(lambda: table.addresses(KEYS[2]) == ["127.0.0.1:4242"])
            speaks.announce(tag, ["127.0.0.1"], 4242, True)
            until(lambda: any(each.pairing for each in table.all()))
            newer = make_tag(KEYS[2], b"another.")
            speaks.announce(newer, ["127.0.0.1"], 4242, False)
            until(lambda: [each.tag for each in table.all() if each.key] == [newer])
        finally:
            speaks.close()
            until(lambda: not table.addresses(KEYS[2]))
            hears.close()
        assert seen

    def test_noise(self, loopback: Adapter) -> None:
        """Broken packets, and a flood of names, leave what is seen and can be seen alone."""
        # covers: D02 D03
        from networks import until
        from zeroconf import DNSOutgoing, DNSPointer

        speaks, hears = Engine([loopback]), Engine([loopback])
        table = Table(lambda: KEYS)
        noise = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        noise.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        flags_response, pointer, internet = 0x8400, 12, 1
        try:
            hears.browse(table)
            speaks.announce(make_tag(KEYS[0], b"01234567"), ["127.0.0.1"], 4242, False)
            until(lambda: table.addresses(KEYS[0]))
            broken = [b"", b"\0", b"\xff" * 1400, b"\0" * 60_000, b"\0\0\x84\0" + b"\0\xff" * 4]
            broken += [b"\0\0\x84\0\0\0\0\1\0\0\0\0" + b"\xc0\x0c" * 50]
            for data in broken:
                noise.sendto(data, ("224.0.0.251", 5353))
            for start in range(0, 4000, 20):
                packet = DNSOutgoing(flags_response)
                for number in range(start, start + 20):
                    name = f"flood{number}.{SERVICE}"
                    packet.add_answer_at_time(DNSPointer(SERVICE, pointer, internet, 4500, name), 0)
                for data in packet.packets():
                    noise.sendto(data, ("224.0.0.251", 5353))
            speaks.announce(make_tag(KEYS[1], b"01234567"), ["127.0.0.1"], 4242, False)
            until(lambda: table.addresses(KEYS[1]))
            assert len(table.all()) <= SEEN_MAX
            assert len(hears._asked) <= ASKED_MAX
        finally:
            noise.close()
            speaks.close()
            hears.close()

    @in_reactor
    async def test_service(self, devices: Devices, loopback: Adapter) -> None:
        """A service is found by name without an address, and another one finds it as well."""
        from devices import until

        for name in ("nas", "laptop"):
            write_marks(devices.state(name), [loopback.name])
        nas = await devices.start("nas")
        devices.pin("laptop", "nas")
        devices.pin("nas", "laptop")
        await until(lambda: nas.status()["discovery"] == "on")
        client = await devices.client("laptop", "nas")
        receipt = await client.send_file(devices.source("a.txt", b"hello"))
        assert receipt.stored == "a.txt"
        laptop = await devices.start("laptop")
        known = Peers(devices.state("laptop"))
        known.forget("nas")
        devices.pin("laptop", "nas")
        await until(lambda: laptop._now.announcing.seen())
        sent = await laptop.send({"path": devices.source("b.txt", b"hi"), "peer": "nas"})
        assert sent["stored"] == "b.txt"
