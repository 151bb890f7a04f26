"""What a newly paired device is called here: what it calls itself, if nobody else is.

A device's own word for itself proves nothing (catalogue A13), so it never
takes the place of a peer that is known; the second "laptop" is "laptop-2".
"""

from __future__ import annotations

import shlex

from lanxfer.errors import BadConfig, KeyChanged
from lanxfer.keys import GROUP, short_key
from lanxfer.peers import NAME_MAX, Peer, Peers, parse_address, parse_name

_TRIES = 100


def pin(
    peers: Peers, key: str, device: str, name: str | None = None, addresses: tuple[str, ...] = ()
) -> Peer:
    """Keep a key; durable when this returns.

    A key that is known keeps its name.  Else the peer is called ``name``, and
    KeyChanged says where that stands for another key; or, without one, as it
    calls itself (``device``) or nearly so.
    """
    known = peers.by_key(key)
    if known is not None:
        return peers.add(Peer(known.name, key, addresses))
    if name is not None:
        return peers.add(Peer(name, key, addresses))
    label = label_of(device, key)
    for number in range(1, _TRIES):
        end = f"-{number}" if number > 1 else ""
        try:
            return peers.add(Peer(label[: NAME_MAX - len(end)] + end, key, addresses))
        except KeyChanged:
            continue
    raise BadConfig(f"Too many peers are called like {label!r}; choose a name with --name.")


def label_of(device: str, key: str) -> str:
    """What a device calls itself, where that can be a name here; else a word with its key."""
    try:
        return parse_name(device)
    except BadConfig:
        return f"device-{key[:GROUP]}"


def met_at(peers: Peers, address: str) -> Peer | None:
    """The device that was last met at this address, if any was."""
    wanted = parse_address(address)
    for peer in peers.all():
        if peer.key and peer.addresses and parse_address(peer.addresses[0]) == wanted:
            return peer
    return None


def changed_key(known: Peer, address: str, key: str) -> KeyChanged:
    """The alarm where a known device, or the one at a known address, shows another key (A07)."""
    name = shlex.quote(known.name)
    old = short_key(known.key) if known.key else "none (an ae device)"
    return KeyChanged(
        f"{known.name} at {address} shows the key {short_key(key)} instead of"
        f" {old}. If it was set up anew: lanxfer peer forget {name}, then"
        f" lanxfer pair {address} --name {name}. If another device has that address now:"
        f" lanxfer pair {address} --name NAME. If neither, somebody answers in its place."
    )
