"""mDNS and DNS-SD on some interfaces, through zeroconf, which has a thread of its own.

Everything here blocks for moments, so a reactor calls it from threads.  The
library is imported when the first engine is made: most commands never need it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from lanxfer.discovery.marks import Adapter
from lanxfer.discovery.table import Seen, Table
from lanxfer.errors import BadConfig, Unreachable

SERVICE = "_lanxfer._tcp.local."
VERSION = b"1"

ASKED_MAX = 32
"""Devices that are asked for what they left out, at a time."""

ASK_TIMEOUT = 1500
"""Milliseconds for such an answer."""

PORT_LEAST = 1024
"""Below are other services, at which nobody is to be sent by hearsay."""

LIFETIME = 120
"""Seconds for which others keep what was announced."""

NOT_INSTALLED = 'Finding devices needs zeroconf: pip install "lanxfer[discovery]".'


def _zeroconf() -> Any:
    try:
        import zeroconf
    except ImportError:
        raise BadConfig(NOT_INSTALLED) from None
    return zeroconf


class Engine:
    """Hears and speaks on these interfaces until it is closed.

    BadConfig where zeroconf is not installed, Unreachable where the port of mDNS
    cannot be had.
    """

    def __init__(self, found: Sequence[Adapter]) -> None:
        self._library = _zeroconf()
        self._adapters = tuple(found)
        self._info: Any = None
        self._browser: Any = None
        self._asked: set[str] = set()
        interfaces: list[str | int] = []
        for adapter in found:
            interfaces += [str(ip) for ip in adapter.ips if ip.version == 4]
            if any(ip.version == 6 for ip in adapter.ips):
                interfaces.append(adapter.index)
        try:
            self._zeroconf = self._library.Zeroconf(interfaces=interfaces)
        except (OSError, RuntimeError, self._library.Error) as error:
            raise Unreachable(f"Nobody can be looked for on this network: {error}.") from error

    def close(self) -> None:
        """Say goodbye, and hear no more."""
        if self._browser is not None:
            self._browser.cancel()
        self._zeroconf.close()

    # Being found.

    def announce(self, tag: str, hosts: Iterable[str], port: int, pairing: bool) -> None:
        """Be there under this name, and no longer under the one before."""
        before, info = self._info, self._record(tag, hosts, port, pairing)
        if before is not None and before.name == info.name:
            self._zeroconf.update_service(info)
        else:
            # The name is random: nobody has to be asked whether it is taken.
            self._zeroconf.register_service(info, cooperating_responders=True)
            if before is not None:
                self._zeroconf.unregister_service(before)
        self._info = info

    def _record(self, tag: str, hosts: Iterable[str], port: int, pairing: bool) -> Any:
        properties = {"v": VERSION, **({"pair": b"1"} if pairing else {})}
        return self._library.ServiceInfo(
            SERVICE,
            f"{tag}.{SERVICE}",
            port=port,
            properties=properties,
            server=f"{tag}.local.",
            host_ttl=LIFETIME,
            other_ttl=LIFETIME,
            parsed_addresses=list(hosts),
        )

    # Finding.

    def browse(self, table: Table, told: Callable[[Seen], object] = lambda seen: None) -> None:
        """Keep ``table`` as the network is; ``told`` hears of each device, in some thread."""

        def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
            if state_change is self._library.ServiceStateChange.Removed:
                table.drop(_tag(name))
                return
            info = self._library.ServiceInfo(SERVICE, name)
            if info.load_from_cache(zeroconf):
                take(info)
            elif len(self._asked) < ASKED_MAX and name not in self._asked:
                self._asked.add(name)
                asyncio.run_coroutine_threadsafe(ask(info), zeroconf.loop)

        async def ask(info: Any) -> None:
            try:
                if await info.async_request(self._zeroconf, ASK_TIMEOUT):
                    take(info)
            finally:
                self._asked.discard(info.name)

        def take(info: Any) -> None:
            hosts = [
                each
                for text in info.parsed_scoped_addresses()
                if (each := host_of(text)) and on_link(each, self._adapters)
            ]
            port = info.port or 0
            if info.properties.get(b"v") != VERSION or port < PORT_LEAST or not hosts:
                return
            pairing = info.properties.get(b"pair") == b"1"
            seen = table.put(_tag(info.name), hosts, port, pairing)
            if seen is not None:
                told(seen)

        self._browser = self._library.ServiceBrowser(
            self._zeroconf, SERVICE, handlers=[changed], delay=100
        )


def _tag(name: str) -> str:
    return name.removesuffix(f".{SERVICE}")


def host_of(text: str) -> str:
    """An address as people write it, with the name of the interface; "" where nobody can be."""
    ip, _, zone = text.partition("%")
    number = ip_address(ip)
    if number.is_unspecified or number.is_multicast:
        return ""
    if not (number.version == 6 and number.is_link_local):
        return ip
    try:
        return f"{ip}%{socket.if_indextoname(int(zone))}"
    except (OSError, ValueError):
        return ""


def on_link(host: str, found: Sequence[Adapter]) -> bool:
    """Whether it is on one of these networks: elsewhere nobody is sent by hearsay."""
    ip, _, zone = host.partition("%")
    if zone:
        return any(each.name == zone for each in found)
    networks = (
        ip_network(f"{own}/{length}", strict=False)
        for each in found
        for own, length in each.addresses
    )
    number = ip_address(ip)
    return any(number.version == each.version and number in each for each in networks)
