"""This machine: its addresses, its service, its disk, its clock.  All of it blocks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from lanxfer.discovery.marks import Adapter, marked, read_marks
from lanxfer.doctor.findings import Finding, fault, fine, has_version, note, outward
from lanxfer.doctor.system import has_ufw, is_wireless, link_speed
from lanxfer.errors import LanxferError
from lanxfer.identity import load_identity
from lanxfer.keys import short_key
from lanxfer.peers import Peers
from lanxfer.state import StateFolder
from lanxfer.storage.speed import SIZE, write_speed

MIB = 1024 * 1024

SLOW_LINK = 100_000_000
"""Bits a second from which on a cable is no reason to wait."""

SLOW_DISK = 20 * MIB

_BUILT = 1_735_689_600
"""2025: no clock that is right shows less."""


def look_here(
    state: StateFolder, found: Sequence[Adapter], service: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """What is to be said of this machine; ``service`` is its status, None where none runs."""
    yield from _device(state)
    yield from _interfaces(found)
    yield from _service(found, service)
    yield from _discovery(state, found, service)
    if has_ufw():
        yield note(
            "firewall",
            "The firewall ufw is on; what it lets in only root can see.",
            "sudo ufw allow 36969/tcp; sudo ufw allow 5353/udp",
        )
    yield from _clock()
    if service is not None:
        yield from _disk(service)


def _device(state: StateFolder) -> Iterator[Finding]:
    try:
        key, known = load_identity(state).key, len(Peers(state).all())
    except LanxferError as error:
        yield fault("state", error.reason)
        return
    others = "1 other" if known == 1 else f"{known} others"
    yield fine("state", f"This device has the key {short_key(key)}-... and knows {others}.")


def _interfaces(found: Sequence[Adapter]) -> Iterator[Finding]:
    if not outward(found):
        yield fault(
            "no-network",
            "This device is on no network: no interface but loopback has an address.",
            "Plug in the cable, or join the Wi-Fi.",
        )
    for each in outward(found):
        addresses = ", ".join(map(str, each.ips))
        yield fine("interface", f"{each.name} has {addresses}.")
        speed = link_speed(each.name)
        if speed is not None and speed <= SLOW_LINK:
            yield note(
                "slow-link",
                f"{each.name} is linked at {speed // 1_000_000} Mbit/s: about"
                f" {speed / 8 / 1.06 / MIB:.0f} MiB/s at best.",
                "A better cable, or another port of the switch, may give ten times that.",
            )
        if is_wireless(each.name):
            yield note("wireless", f"{each.name} is Wi-Fi: a cable is faster, and steadier.")


def _service(found: Sequence[Adapter], service: Mapping[str, Any] | None) -> Iterator[Finding]:
    if service is None:
        yield note(
            "no-service",
            "No service runs here with this state folder: this device can send, not receive.",
            "lanxfer serve",
        )
        return
    listening = [str(each) for each in service["listening"]]
    yield fine("service", f"The service listens on {', '.join(listening) or 'nothing'}.")
    hosts = [each.rpartition(":")[0] for each in listening]
    if hosts and all(host.startswith("127.") or host == "[::1]" for host in hosts):
        yield fault(
            "loopback-only",
            "The service listens on loopback only: no other device reaches it.",
            "Start it without --bind.",
        )
    if hosts and outward(found) and not has_version(found, 4) and not any("[" in h for h in hosts):
        yield fault(
            "ipv6-only",
            "This device has only IPv6 addresses, and the service listens on IPv4 only.",
            "lanxfer serve --bind ::",
        )
    for warning in service["warnings"]:
        yield note("warning", str(warning))


def _discovery(
    state: StateFolder, found: Sequence[Adapter], service: Mapping[str, Any] | None
) -> Iterator[Finding]:
    try:
        marks = read_marks(state)
    except LanxferError as error:
        yield fault("discovery", error.reason)
        return
    if not marks:
        yield note(
            "discovery-off",
            "This device is not seen by others, and looks for nobody.",
            "lanxfer discovery on",
        )
    elif find_spec("zeroconf") is None:
        yield fault("discovery", "zeroconf is missing.", 'pip install "lanxfer[discovery]"')
    elif not marked(found, marks):
        yield fault(
            "not-marked",
            f"This device is on none of the networks that are marked ({', '.join(marks)}).",
            "lanxfer discovery on",
        )
    elif service is not None and service.get("discovery") not in ("on", None):
        yield fault("discovery", f"The service is not seen: {service['discovery']}")
    else:
        yield fine("discovery", f"Others are looked for on {', '.join(marks)}.")


def _clock() -> Iterator[Finding]:
    if time.time() < _BUILT:
        yield note(
            "clock",
            f"The clock says {time.strftime('%Y-%m-%d')}: transfers do not mind, but the times of"
            " files will be odd.",
        )


def _disk(service: Mapping[str, Any]) -> Iterator[Finding]:
    inbox, free = str(service["inbox"]), int(service["free"])
    if free < MIB:
        yield fault(
            "disk-full",
            f"The disk of the inbox {inbox} is full: nothing is received until there is more room"
            " than the reserve.",
            "Make room there, or use --inbox for another disk.",
        )
        return
    if free < 2 * SIZE:
        yield note("disk", f"Only {free // MIB} MiB fit in {inbox}.")
        return
    try:
        speed = write_speed(inbox)
    except OSError as error:
        yield fault("disk", f"{inbox} cannot be written to: {error.strerror}.")
        return
    text = f"{inbox} takes {speed / MIB:.0f} MiB/s, and has room for {free // MIB} MiB."
    yield note("slow-disk", text) if speed < SLOW_DISK else fine("disk", text)
