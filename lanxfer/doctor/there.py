"""Another device: where it may be, who answers there, and how fast.

The addresses are tried one by one until one is good; the finding that says most
about the others is the cause.
"""

from __future__ import annotations

import errno
import shlex
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from attrs import frozen
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread

from lanxfer.cli.keys import key_of
from lanxfer.client import Client, connect
from lanxfer.connecting import find_target
from lanxfer.discovery.looking import find
from lanxfer.discovery.marks import Adapter, read_marks
from lanxfer.doctor.findings import Finding, fault, fine, has_version, is_near, note, own_networks
from lanxfer.doctor.system import neighbour
from lanxfer.errors import LanxferError, NotPaired, TimedOut, UnknownCommand
from lanxfer.identity import Identity
from lanxfer.keys import short_key
from lanxfer.peers import DEFAULT_PORT, Peers, format_address, parse_address
from lanxfer.showing import shown
from lanxfer.state import StateFolder

TIMEOUT = 4.0
"""Seconds for an answer: longer than it takes to learn that nobody has an address."""

MIB = 1024 * 1024
PROBE = 8
"""Requests with a MiB each by which the link is measured."""

SLOW = 5 * MIB
CLOCK_OFF = 120.0


@frozen
class Knock:
    """What connecting came to: "open", "refused", "silent", "nobody" or "no-route"."""

    host: str
    port: int
    outcome: str


def knock(host: str, port: int) -> Knock:
    """Try to connect; blocks for ``TIMEOUT`` seconds at most."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    where = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
    with socket.socket(family, socket.SOCK_STREAM) as trying:
        trying.settimeout(TIMEOUT)
        try:
            trying.connect(where)
        except ConnectionRefusedError:
            return Knock(host, port, "refused")
        except TimeoutError:
            return Knock(host, port, "silent")
        except OSError as error:
            no_route = error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EINVAL)
            return Knock(host, port, "no-route" if no_route else "nobody")
    return Knock(host, port, "open")


def resolve(host: str) -> list[str]:
    """The numbers of a name, or the number itself; none where nobody knows it."""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        return [host]
    with suppress(OSError):
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(each[4][0]) for each in found))
    return []


class There:
    """One checkup of ``peer``, as a person typed it."""

    def __init__(
        self,
        reactor: Any,
        state: StateFolder,
        identity: Identity,
        found: Sequence[Adapter],
        peer: str,
    ) -> None:
        self._reactor = reactor
        self._state = state
        self._identity = identity
        self._found = found
        self._peer = peer
        self._label = shown(peer)
        self._seen: list[str] = []

    async def look(self) -> AsyncIterator[Finding]:
        """All that is to be said of it; a device that is not known, or a bad address, raises."""
        target = find_target(Peers(self._state), self._peer, finds=True)
        if target.legacy:
            yield note("legacy", f"{self._label} is an ae device: it has no key to look at.")
        if target.key is not None and read_marks(self._state):
            self._seen = await deferToThread(find, self._state, target.key)
            if self._seen:
                yield fine("seen", f"{self._label} is seen at {', '.join(self._seen)}.")
            else:
                yield note(
                    "not-seen",
                    f"{self._label} does not announce itself on a marked network.",
                    'There: "lanxfer discovery on", and "lanxfer serve".',
                )
        addresses = list(dict.fromkeys([*target.addresses, *self._seen]))
        if not addresses:
            yield fault(
                "no-address",
                f"No address of {self._label} is known here.",
                f"lanxfer doctor HOST; lanxfer peer add {self._label} KEY@HOST",
            )
            return
        faults: list[Finding] = []
        for address in addresses:
            good, findings = await self._at(address, target.key, target.legacy)
            if good:
                for each in findings:
                    yield each
                async for each in self._connected(address, target.legacy):
                    yield each
                return
            faults += findings
        # A word about who answers says more than one about who does not.
        for each in sorted(faults, key=lambda each: _ORDER.index(each.check)):
            yield each

    async def _at(self, address: str, key: str | None, legacy: bool) -> tuple[bool, list[Finding]]:
        """Whether the right device answers there, and what is to be said."""
        host, port = parse_address(address)
        numbers = await deferToThread(resolve, host)
        if not numbers:
            text = f"{shown(host)} is no name that this device can find an address for."
            return False, [fault("no-such-name", text, "Say the address in numbers.")]
        said: list[Finding] = []
        for number in numbers:
            found = await deferToThread(knock, number, port)
            if found.outcome != "open":
                said.append(await self._unanswered(found, key))
                continue
            if legacy:
                return True, [fine("answers", f"{format_address(number, port)} answers.")]
            good, finding = await self._who(number, port, key)
            if good:
                return True, [finding]
            said.append(finding)
        return False, said

    async def _who(self, host: str, port: int, key: str | None) -> tuple[bool, Finding]:
        where = format_address(host, port)
        try:
            shows = await key_of(self._reactor, host, port, self._identity)
        except TimedOut:
            return False, fault(
                "silent",
                f"{where} takes connections and says nothing: lanxfer is suspended there, or has"
                " too much to do, or something else has that port.",
                "There: lanxfer status.  If that has no answer either, start the service again.",
            )
        except LanxferError as error:
            return False, fault(
                "not-lanxfer",
                f"Something answers at {where}, and it is no lanxfer ({error.reason})",
                "Another port may be the right one.",
            )
        known = Peers(self._state).by_key(shows)
        wanted = key or (known.key if known is not None else None)
        if wanted is None:
            return True, note(
                "not-paired",
                f"{where} answers with the key {short_key(shows)}-..., which is not known here.",
                f"There: lanxfer pair.  Here: lanxfer pair {where}",
            )
        if shows != wanted:
            return False, fault(
                "key-changed",
                f"{where} shows the key {short_key(shows)}-..., and {self._label} has"
                f" {short_key(wanted)}-...: it was set up anew, or another device has that"
                " address now, or somebody answers in its place.",
                f"If it was set up anew: lanxfer peer forget {self._label}, then pair again.",
            )
        return True, fine("answers", f"{where} answers with the right key.")

    async def _unanswered(self, found: Knock, key: str | None) -> Finding:
        where, host = format_address(found.host, found.port), found.host
        version = 6 if ":" in host else 4
        near = is_near(host, self._found)
        if found.outcome == "refused":
            return await self._refused(found, key)
        if (
            not has_version(self._found, version)
            and not ip_address(host.partition("%")[0]).is_loopback
        ):
            return fault(
                "ipv6-only" if version == 4 else "ipv4-only",
                f"{where} is an IPv{version} address, and this device has none of that kind: it"
                f" has IPv{10 - version} only.",
                'Use its other address: "lanxfer discovery on" on both, and there "lanxfer serve'
                ' --bind ::".'
                if version == 4
                else "Use its IPv4 address.",
            )
        if not near:
            why = (
                "nothing there answers: no router brings the two together, a firewall is between"
                " them, or the device is off"
                if found.outcome == "silent"
                else "no router brings the two together"
            )
            return fault(
                "other-subnet",
                f"{host} is on another network than this device, which is on"
                f" {own_networks(self._found)}, and {why}.",
                "Join the same network (a guest Wi-Fi is another one), or give the device's"
                " address in this one.",
            )
        there = neighbour(host) if version == 4 else None
        if found.outcome == "silent" and there is not False:
            return fault(
                "firewall",
                f"{host} is there, and says nothing at port {found.port}: a firewall drops it.",
                f"There: let TCP port {found.port} in.",
            )
        return fault(
            "peer-off",
            f"Nobody has the address {host} on this network: the device is off, asleep, not"
            " connected, or has another address now.",
            "Wake it.  There: lanxfer status.  Its new address: lanxfer doctor HOST",
        )

    async def _refused(self, found: Knock, key: str | None) -> Finding:
        """The device is on; is the service at another port?"""
        host, port = found.host, found.port
        others = [parse_address(each) for each in self._seen] + [(host, DEFAULT_PORT)]
        for other_host, other in dict.fromkeys(others):
            if other == port or (await deferToThread(knock, other_host, other)).outcome != "open":
                continue
            with suppress(LanxferError):
                shows = await key_of(self._reactor, other_host, other, self._identity)
                known = Peers(self._state).by_key(shows)
                if known is not None and key in (shows, None):
                    where = format_address(other_host, other, default_port=0)
                    return fault(
                        "wrong-port",
                        f"{shown(known.name)} is at port {other}, not {port}.",
                        f"lanxfer peer add {shlex.quote(known.name)} {shows}@{where}",
                    )
        version6 = (
            " If it has IPv4 only, it does not listen here: --bind ::." if ":" in host else ""
        )
        return fault(
            "refused",
            f"{host} is on, and nothing listens at port {port}: lanxfer does not run there, or"
            f" uses another port.{version6}",
            'There: "lanxfer status" says where it listens; "lanxfer serve" starts it.',
        )

    # It answers.

    async def _connected(self, address: str, legacy: bool) -> AsyncIterator[Finding]:
        if legacy:
            return
        try:
            client = await connect(self._reactor, self._peer, state=self._state.path, patience=0.0)
        except NotPaired:
            if Peers(self._state).all():
                yield fault(
                    "not-known-there",
                    f"{self._label} and this device do not know each other's key, or no more.",
                    f"There: lanxfer pair.  Here: lanxfer pair {address}",
                )
            return
        except LanxferError as error:
            yield fault("refused-by", f"{self._label} says no: {error.reason}")
            return
        try:
            async for each in self._measured(client):
                yield each
        except UnknownCommand:
            yield note("old", f"{self._label} is of an older version: it tells nothing more.")
        except LanxferError as error:
            yield fault("broke", f"While it was measured: {error.reason}")
        finally:
            await client.close(1.0)

    async def _measured(self, client: Client) -> AsyncIterator[Finding]:
        began = time.monotonic()
        answer = (await client.call("checkup")).args
        delay = time.monotonic() - began
        off = int(answer.get("time_ms", 0)) / 1000 - time.time()
        if abs(off) > CLOCK_OFF:
            yield note(
                "clock",
                f"The clocks are {abs(off):.0f} s apart ({self._label} is"
                f" {'ahead' if off > 0 else 'behind'}): transfers do not mind, but the times of"
                " files look odd.",
            )
        if int(answer.get("room", 0)) < MIB:
            yield fault(
                "disk-full",
                f"The disk of {self._label} is full: it takes nothing until there is more room"
                " than its reserve.",
                "Make room there.",
            )
        body = bytes(MIB)
        began = time.monotonic()
        await gatherResults([client.call("checkup", {}, body) for _ in range(PROBE)])
        speed = PROBE * MIB / max(time.monotonic() - began, 1e-6)
        text = (
            f"The way to {self._label} carries {speed / MIB:.0f} MiB/s; an answer takes"
            f" {delay * 1000:.1f} ms."
        )
        yield (
            note("slow-link", text, "A cable, or a place nearer to the Wi-Fi.")
            if (speed < SLOW)
            else fine("speed", text)
        )


_ORDER = (
    *("key-changed", "wrong-port", "not-lanxfer", "silent", "refused", "firewall", "ipv6-only"),
    *("ipv4-only", "other-subnet", "peer-off", "no-such-name"),
)
