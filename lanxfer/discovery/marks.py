"""The networks on which this device may be seen and may look around: none, until its owner says so.

A mark is a network in CIDR notation, the name of an interface, or ``all``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from attrs import frozen

from lanxfer.errors import BadConfig, BadState
from lanxfer.state import StateFolder

FILE = "discovery.json"
ALL = "all"
MARKS_MAX = 64

_VERSION = 1
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@frozen
class Adapter:
    """A network interface; ``addresses`` are (address, length of the network's prefix)."""

    name: str
    index: int
    addresses: tuple[tuple[str, int], ...]

    @property
    def ips(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Its addresses, without zones."""
        return tuple(ip_address(ip) for ip, _ in self.addresses)


def adapters() -> list[Adapter]:
    """Those of this machine that have an address just now."""
    import ifaddr

    found = []
    for each in ifaddr.get_adapters():
        pairs = [(ip.ip if isinstance(ip.ip, str) else ip.ip[0], ip) for ip in each.ips]
        addresses = tuple((text.partition("%")[0], ip.network_prefix) for text, ip in pairs)
        if addresses:
            found.append(Adapter(each.name, each.index or 0, addresses))
    return found


def read_marks(state: StateFolder) -> tuple[str, ...]:
    """What was marked; BadState where the file is damaged."""
    data = state.read(FILE)
    if data is None:
        return ()
    try:
        document = json.loads(data)
        marks = document["networks"]
        if document["version"] != _VERSION or not isinstance(marks, list):
            raise ValueError("not what was written")
        return tuple(parse_mark(each) for each in marks[:MARKS_MAX])
    except (ValueError, TypeError, KeyError, BadConfig, RecursionError) as error:
        raise BadState(
            f'{state.file(FILE)} is damaged; "lanxfer discovery off" writes a new one.'
        ) from error


def write_marks(state: StateFolder, marks: Iterable[str]) -> tuple[str, ...]:
    """Mark these and no others; durable when this returns."""
    kept = tuple(dict.fromkeys(map(parse_mark, marks)))
    if len(kept) > MARKS_MAX:
        raise BadConfig(f"At most {MARKS_MAX} networks can be marked.")
    document = {"version": _VERSION, "networks": kept}
    with state.exclusive():
        state.write(FILE, json.dumps(document).encode("ascii") + b"\n")
    return kept


def parse_mark(text: str) -> str:
    """A mark in its one spelling; BadConfig for what is none."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        pass
    if not _INTERFACE.fullmatch(text) or "/" in text:
        raise BadConfig(
            f'{text!r} is neither a network such as 192.168.1.0/24, nor an interface, nor "{ALL}".'
        )
    return text


def usual_marks(found: Iterable[Adapter]) -> tuple[str, ...]:
    """The networks this machine is on; by the interface's name where that has no network."""
    marks: list[str] = []
    for adapter in found:
        if any(ip.is_loopback for ip in adapter.ips):
            continue
        networks = [
            str(ip_network(f"{ip}/{length}", strict=False))
            for ip, length in adapter.addresses
            if not ip_address(ip).is_link_local
        ]
        marks += networks or [adapter.name]
    return tuple(dict.fromkeys(marks))


def marked(found: Iterable[Adapter], marks: Sequence[str]) -> list[Adapter]:
    """The interfaces that are on a marked network; loopback only by its own name."""
    networks = [ip_network(each) for each in marks if "/" in each]
    kept = []
    for adapter in found:
        named = adapter.name in marks
        loopback = any(ip.is_loopback for ip in adapter.ips)
        within = any(
            ip.version == network.version and ip in network
            for ip in adapter.ips
            for network in networks
        )
        if named or (not loopback and (ALL in marks or within)):
            kept.append(adapter)
    return kept
