"""Devices that find each other on networks of the test's own."""

from __future__ import annotations

import getpass
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from networks import Host, connect, hosts, know, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")

LISTEN = """
import socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 5353))
group = socket.inet_aton("224.0.0.251") + socket.inet_aton(sys.argv[1])
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
s.settimeout(4)
end = time.monotonic() + 4
try:
    while time.monotonic() < end:
        print(s.recv(65536).hex(), flush=True)
except TimeoutError:
    pass
"""


PAGE = Path(__file__).parent.parent / "docs" / "discovery.rst"


def literal_blocks(text: str) -> list[str]:
    found = re.findall(r"::\n\n((?:(?:    .*)?\n)+)", text)
    return [dedent(each).strip("\n") for each in found]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A laptop and a nas on one cable."""
    with hosts(tmp_path, "ab") as (laptop, nas):
        connect(laptop, "lan0", nas, "lan0")
        yield laptop, nas


def with_addresses(laptop: Host, nas: Host) -> None:
    laptop.ip("addr", "add", "10.77.0.1/24", "dev", "lan0")
    nas.ip("addr", "add", "10.77.0.2/24", "dev", "lan0")


def settled(*on: Host) -> None:
    """IPv6 addresses are looked at for a moment before they may be used."""
    for host in on:
        command = ["ip", "-n", host.name, "-6", "addr", "show", "tentative"]
        until(lambda command=command: not subprocess.check_output(command))


def test_found(two: tuple[Host, Host], tmp_path: Path) -> None:
    """Paired without an address, sent to by name, and found again where it went."""
    laptop, nas = two
    with_addresses(laptop, nas)
    for host in two:
        done = host.run("discovery", "on", "--json")
        assert done.rows == [{"networks": ["10.77.0.0/24"]}]
    nas.serve()
    shows = nas.start("pair", "--json")
    assert shows.stdout is not None
    row = json.loads(shows.stdout.readline())
    assert row["addresses"][-1] == "--find"
    until(lambda: any(row["pairing"] for row in laptop.run("peers", "--json").rows))
    paired = laptop.run("pair", "--find", "--code", "-", data=" ".join(row["words"]).encode())
    assert paired.code == 0, paired.err
    assert shows.wait(20) == 0
    assert until(lambda: laptop.run("peers", "--json").rows[0]["seen"]) == ["10.77.0.2"]

    file = tmp_path / "film.mkv"
    file.write_bytes(b"film")
    assert laptop.run("send", file, "nas").code == 0
    nas.ip("addr", "del", "10.77.0.2/24", "dev", "lan0")
    nas.ip("addr", "add", "10.77.0.9/24", "dev", "lan0")
    until(lambda: laptop.run("peers", "--json").rows[0]["seen"] == ["10.77.0.9"])
    # Whoever has its old address does not answer for long.
    laptop.ip("neigh", "replace", "10.77.0.2", "lladdr", "02:00:00:00:00:01", "dev", "lan0")
    moved = laptop.run("send", file, "nas", "--name", "again.mkv")
    assert moved.code == 0, moved.err
    assert (nas.inbox / "again.mkv").read_bytes() == b"film"
    known = laptop.run("peers", "--known", "--json").rows[0]
    assert known["addresses"] == ["10.77.0.9", "10.77.0.2"] and "seen" not in known


def test_page(two: tuple[Host, Host], tmp_path: Path) -> None:
    """The lines of docs/discovery.rst, as they stand there."""
    laptop, nas = two
    with_addresses(laptop, nas)
    know(laptop, nas)
    on, use, where = (block.split("\n") for block in literal_blocks(PAGE.read_text()))
    for host in two:
        assert host.run(*on[0].split()[1:]).code == 0
    nas.serve()
    (tmp_path / "film.mkv").write_bytes(b"film")
    assert [line.split()[1] for line in use] == ["peers", "pair", "send"]
    listed = laptop.run(*use[0].split()[1:])
    assert listed.code == 0 and "10.77.0.2" in listed.out
    nobody = laptop.run(*use[1].split()[1:])
    assert nobody.code == 2 and "lanxfer pair" in nobody.err
    sent = laptop.run(*use[2].replace("film.mkv", str(tmp_path / "film.mkv")).split()[1:])
    assert sent.code == 0, sent.err
    told = [laptop.run(*line.split()[1:]).out for line in where]
    assert ["10.77.0.0/24" in told[0], "eth1" in told[1], "nowhere" in told[2]] == [True] * 3


def test_link_local(two: tuple[Host, Host], tmp_path: Path) -> None:
    """A cable without any address but those that IPv6 makes by itself is enough."""
    laptop, nas = two
    settled(laptop, nas)
    know(laptop, nas)
    for host in two:
        assert host.run("discovery", "on", "--json").rows == [{"networks": ["lan0"]}]
    nas.serve("--bind", "::")
    seen = until(lambda: laptop.run("peers", "--json").rows[0]["seen"])
    assert seen[0].startswith("fe80::") and seen[0].endswith("%lan0")
    file = tmp_path / "a.txt"
    file.write_text("hello")
    sent = laptop.run("send", file, "nas")
    assert sent.code == 0, sent.err
    assert laptop.run("peers", "--known", "--json").rows[0]["addresses"] == seen


def test_several_interfaces(tmp_path: Path) -> None:
    """Who is on a network that was not marked sees nothing; the others see what is there."""
    with hosts(tmp_path, "abc") as (laptop, nas, guest):
        connect(laptop, "lan0", nas, "lan0")
        connect(guest, "lan0", nas, "lan1")
        with_addresses(laptop, nas)
        guest.ip("addr", "add", "10.78.0.1/24", "dev", "lan0")
        nas.ip("addr", "add", "10.78.0.2/24", "dev", "lan1")
        know(laptop, nas)
        assert guest.run("peer", "add", "nas", nas.key()).code == 0
        laptop.run("discovery", "on")
        guest.run("discovery", "on")
        nas.run("discovery", "on", "10.77.0.0/24")
        nas.serve()
        until(lambda: laptop.run("peers", "--json").rows[0]["seen"] == ["10.77.0.2"])
        assert guest.run("peers", "--json").rows[0]["seen"] == []
        # And while it runs, the other way round.
        nas.run("discovery", "on", "10.78.0.0/24")
        until(lambda: guest.run("peers", "--json").rows[0]["seen"] == ["10.78.0.2"])
        assert laptop.run("peers", "--json").rows[0]["seen"] == []


def test_what_is_said(two: tuple[Host, Host]) -> None:
    """Off, nothing is said; on, nothing about whoever it is, and little."""
    # covers: D07
    laptop, nas = two
    with_addresses(laptop, nas)
    key = nas.key()
    nas.serve()
    assert laptop.python(LISTEN, "10.77.0.1").out == ""
    nas.run("discovery", "on")
    packets = [bytes.fromhex(line) for line in laptop.python(LISTEN, "10.77.0.1").out.split()]
    assert any(b"_lanxfer" in each for each in packets)
    for secret in (socket.gethostname(), getpass.getuser(), "nas", key, key[:8]):
        assert not any(secret.lower().encode() in each.lower() for each in packets), secret
    assert max(map(len, packets)) <= 1200


def test_thin(two: tuple[Host, Host], tmp_path: Path) -> None:
    """Where the remembered address is right, nobody is looked for."""
    laptop, nas = two
    with_addresses(laptop, nas)
    know(laptop, nas, "10.77.0.2")
    laptop.run("discovery", "on")
    nas.serve()
    file = tmp_path / "a.txt"
    file.write_text("hello")
    script = (
        "import sys\n"
        "from lanxfer.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print('zeroconf' in sys.modules, 'ifaddr' in sys.modules)\n"
    )
    line = ["--state", str(laptop.state), "send", str(file), "nas", "--quiet"]
    assert laptop.python(script, *line).out == "False False\n"
