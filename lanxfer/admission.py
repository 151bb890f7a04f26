"""Who is let in at the door, and as whom (security design, sections 1, 5 and 7)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol, TypeAlias

from attrs import frozen

from lanxfer.errors import BadConfig, LanxferError, NotPaired, TlsRequired
from lanxfer.keys import short_key
from lanxfer.peers import Peers
from lanxfer.policy import Principal, Standing

Network: TypeAlias = IPv4Network | IPv6Network


class Legacy(Enum):
    """How far ae peers, who prove nothing, are let in."""

    OFF = "off"
    RECEIVE = "receive"
    FULL = "full"


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses or networks in CIDR notation; BadConfig names the one that is neither."""
    found = []
    for text in texts:
        try:
            found.append(ip_network(text, strict=False))
        except ValueError:
            raise BadConfig(
                f"{text!r} is no address and no network such as 192.168.1.0/24."
            ) from None
    return tuple(found)


def own_networks() -> tuple[Network, ...]:
    """This machine and the networks its interfaces are on."""
    import ifaddr  # only where ae peers are served

    found = ["127.0.0.0/8", "::1/128"]
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            ip = each.ip if isinstance(each.ip, str) else each.ip[0]
            found.append(f"{ip}/{each.network_prefix}")
    return networks(found)


class Welcome(Protocol):
    """Whom pairing lets in; see ``lanxfer.pairing.Pairing``."""

    @property
    def welcomes(self) -> bool: ...

    def use_grant(self, key: str) -> str | None: ...


@frozen
class Admission:
    """What the service was started with, as far as it says who may come in.

    ``peers`` are the pinned keys; ``open`` lets devices with other keys offer
    files and messages, ``users`` lets them log in with a password; ``pairing``
    knows who may try to pair, and who was let in for once; ``plain_from`` lets
    plain text in from some networks.
    """

    peers: Peers
    open: bool = False
    plain_from: tuple[Network, ...] = ()
    legacy: Legacy = Legacy.OFF
    legacy_from: tuple[Network, ...] = ()
    tickets_plain: bool = False
    pairing: Welcome | None = None
    users: bool = False

    def with_key(self, key: str | None, address: str = "") -> Principal:
        """Who shows this key in TLS, from where; a stranger can do nothing (catalogue A01)."""
        if key is None:
            raise NotPaired()
        peer = self.peers.by_key(key)
        if peer is not None:
            return Principal(Standing.PEER, f"peer:{key}", peer.name, source=address)
        granted = self.pairing.use_grant(key) if self.pairing is not None else None
        if granted is not None:
            return Principal(Standing.INVITED, f"once:{key}", granted, source=address)
        label = f"unknown {short_key(key)}"
        if self.open:
            return Principal(Standing.GUEST, f"guest:{key}", label, source=address)
        if self.users:
            standing = Standing.VISITOR
        elif self.pairing is not None and self.pairing.welcomes:
            standing = Standing.NEWCOMER
        else:
            standing = Standing.STRANGER
        return Principal(standing, f"{standing.value}:{key}", label, source=address)

    def in_plain(self, address: str) -> Principal | LanxferError:
        """Who speaks the native dialect in plain text from ``address``."""
        if not _within(address, self.plain_from):
            return TlsRequired()
        return Principal(Standing.GUEST, f"plain:{address}", address, False, address)

    def in_literal(self, address: str) -> Principal | LanxferError:
        """Who speaks the literal dialect from ``address`` (security design, section 7)."""
        if self.legacy is Legacy.OFF or not _within(address, self.legacy_from):
            return TlsRequired()
        full = self.legacy is Legacy.FULL and ip_address(bare(address)).is_loopback
        standing = Standing.LEGACY_LOCAL if full else Standing.LEGACY
        return Principal(standing, f"legacy:{address}", address, False, address)

    def with_ticket(self, address: str, secure: bool) -> Principal | LanxferError:
        """Whoever comes with a ticket line; what the ticket opens is decided later."""
        if not (secure or self.tickets_plain):
            return TlsRequired()
        return Principal(Standing.TICKET, f"ticket:{address}", address, secure, address)


def bare(address: str) -> str:
    """Without an IPv6 zone, and an IPv4 address in IPv6 clothes as itself."""
    bare = address.partition("%")[0]
    return bare.removeprefix("::ffff:") if "." in bare else bare


def _within(address: str, allowed: tuple[Network, ...]) -> bool:
    try:
        ip = ip_address(bare(address))
    except ValueError:
        return False
    return any(ip.version == each.version and ip in each for each in allowed)
