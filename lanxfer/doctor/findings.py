"""What a checkup finds, one sentence each, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from ipaddress import ip_address, ip_network

from attrs import frozen

from lanxfer.discovery.marks import Adapter


class Level(Enum):
    """How bad it is."""

    FINE = "fine"
    NOTE = "note"
    FAULT = "fault"


@frozen
class Finding:
    """``check`` is a word for programs that stays the same; ``advice`` may be ""."""

    check: str
    level: Level
    text: str
    advice: str = ""


def fine(check: str, text: str) -> Finding:
    return Finding(check, Level.FINE, text)


def note(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, Level.NOTE, text, advice)


def fault(check: str, text: str, advice: str = "") -> Finding:
    return Finding(check, Level.FAULT, text, advice)


def outward(found: Sequence[Adapter]) -> list[Adapter]:
    """Those that lead to others."""
    return [each for each in found if not any(ip.is_loopback for ip in each.ips)]


def has_version(found: Sequence[Adapter], version: int) -> bool:
    """Whether any interface that leads to others has an address of that version of IP."""
    return any(ip.version == version for each in outward(found) for ip in each.ips)


def is_near(host: str, found: Sequence[Adapter]) -> bool:
    """Whether an address is on a network this machine is on, or on this machine."""
    ip, _, zone = host.partition("%")
    number = ip_address(ip)
    if zone or number.is_link_local:
        return True
    return any(
        number.version == network.version and number in network
        for each in found
        for network in (ip_network(f"{own}/{size}", strict=False) for own, size in each.addresses)
    )


def own_networks(found: Sequence[Adapter]) -> str:
    """The networks this machine is on, in words."""
    named = [
        str(ip_network(f"{ip}/{size}", strict=False))
        for each in outward(found)
        for ip, size in each.addresses
        if not ip_address(ip).is_link_local
    ]
    return ", ".join(dict.fromkeys(named)) or "none"
