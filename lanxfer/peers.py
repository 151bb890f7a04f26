"""The devices this one knows: a name chosen here, a pinned key, where it was last met.

The name is only a label; the key is the peer.  A damaged file lets nobody in
and is never written over, and a name never changes its key by itself
(docs/protocol.rst, "Who speaks").

Asking costs one ``stat``; what changes the file blocks and belongs in a disk thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import socket
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lanxfer.errors import BadConfig, BadState, KeyChanged, NotFound
from lanxfer.keys import parse_key, short_key, squeeze_key
from lanxfer.state import StateFolder

FILE = "peers.json"
VERSION = 1
DEFAULT_PORT = 36969

FORGOTTEN = "The other device's key is known no longer; to go on, pair the two again."
"""What whoever is connected hears when a peer is forgotten."""

NAME_MAX = 64
PREFIX_MIN = 4
"""Characters of a key that may stand for it, where they tell it from all others."""
ADDRESSES_MAX = 8
PEERS_MAX = 10_000

_HOST_MAX = 253
_ADDRESS_MAX = _HOST_MAX + len(":65535")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
# Resolvers read all of these as IPv4, "1" and "0x7f.1" included.
_NUMERIC = re.compile(r"[0-9.]+|0[xX][0-9A-Fa-fxX.]*")


# What taking apart a document of any shape can raise.
_UNEXPECTED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, BadConfig)


class Peer(NamedTuple):
    """A device that is known here.

    ``addresses`` are "HOST" or "HOST:PORT", the one that worked last first.  A
    ``legacy`` device speaks the old plain-text protocol and has no key (``key``
    is empty); every other device has one.  ``certificate`` is the SHA-256 of one that was found
    to be of that key, for those who do not want to take it apart each time.
    """

    name: str
    key: str
    addresses: tuple[str, ...] = ()
    legacy: bool = False
    certificate: str = ""


class Peers:
    """The known devices of one state folder, as its file says at this moment.

    Every question looks first whether the file changed, so a running service
    knows whom a command added, and no longer knows whom it removed.  Every
    method raises BadState while the file is damaged or of a newer version.
    """

    def __init__(self, state: StateFolder) -> None:
        self._state = state
        # Never held while something is written: a slow disk must not hold up a question.
        self._guard = threading.RLock()
        self._seen: tuple[int, ...] | None = None
        self._by_name: dict[str, Peer] = {}
        self._by_key: dict[str, Peer] = {}
        self._by_certificate: dict[str, Peer] = {}
        # What this version does not know stays in the file.
        self._extra: dict[str, Any] = {}
        self._extra_by_name: dict[str, dict[str, Any]] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again if it changed; whether it had."""
        with self._guard:
            seen = self._look()
            if seen == self._seen:
                return False
            # Until all of it has been read and found good, nobody is known.
            self._seen = None
            self._by_name, self._by_key, self._by_certificate = {}, {}, {}
            self._extra, self._extra_by_name = {}, {}
            data = self._state.read(FILE, secret=True)
            if data is not None:
                self._take(data)
            self._seen = seen
            return True

    def all(self) -> tuple[Peer, ...]:
        """All of them, by name."""
        with self._guard:
            self.refresh()
            return tuple(sorted(self._by_name.values(), key=lambda peer: peer.name.casefold()))

    def by_key(self, key: str) -> Peer | None:
        """Whose key this is, if it is anybody's."""
        with self._guard:
            self.refresh()
            return self._by_key.get(key)

    def by_certificate(self, der: bytes) -> Peer | None:
        """Whose certificate this is, if it is the one that somebody was met with before."""
        with self._guard:
            self.refresh()
            return self._by_certificate.get(name_certificate(der))

    def find(self, text: str) -> Peer:
        """By exact name, or by the beginning of the key, at least four characters.

        Raises NotFound, and BadConfig where several keys begin like that.
        """
        start = squeeze_key(text)
        with self._guard:
            self.refresh()
            named = self._by_name.get(unicodedata.normalize("NFC", text))
            if named is not None:
                return named
            keys = [key for key in self._by_key if key.startswith(start)]
            found = [self._by_key[key] for key in keys if len(start) >= PREFIX_MIN]
        if not found:
            raise NotFound(f"No peer is called {text!r} or has a key that begins like that.")
        if len(found) > 1:
            names = ", ".join(sorted(repr(peer.name) for peer in found))
            raise BadConfig(f"The keys of several peers begin with {text!r}: {names}.")
        return found[0]

    def add(self, peer: Peer, replace: bool = False) -> Peer:
        """Keep a peer; what is kept is given back.

        Where name and key are known already, new addresses go before the old ones.
        Raises KeyChanged where the name stands for another key, unless
        ``replace``; BadConfig where the key is known by another name or the
        peer makes no sense.
        """
        peer = _checked(peer)
        with self._changing() as draft:
            for each in draft.values():
                if peer.key and each.key == peer.key and each.name != peer.name:
                    raise BadConfig(
                        f"That key is known as {each.name!r}; to give it another name,"
                        f' "lanxfer peer forget {shlex.quote(each.name)}" first.'
                    )
            known = draft.get(peer.name)
            if known is None and len(draft) >= PEERS_MAX:
                raise BadConfig(f"{PEERS_MAX} peers are known already; forget some first.")
            if known is not None and not replace:
                if known.key != peer.key:
                    raise KeyChanged(_changed(known, peer))
                peer = _met_at(known, *peer.addresses, *known.addresses)
            draft[peer.name] = peer
        return peer

    def forget(self, name: str) -> Peer:
        """Remove the peer of that exact name, and give it back; NotFound where there is none."""
        with self._changing() as draft:
            gone = draft.pop(unicodedata.normalize("NFC", name), None)
            if gone is None:
                raise NotFound(f"No peer is called {name!r}.")
        return gone

    def remember_address(self, key: str, address: str, certificate: bytes = b"") -> None:
        """This address worked just now; a key that is not known (any more) is left alone.

        A ``certificate`` was found to be of that key.
        """
        parse_address(address)
        known = self.by_key(key)
        if known is None or known == _met(known, address, certificate):
            return
        with self._changing() as draft:
            peer = draft.get(known.name)
            if peer is not None and peer.key == key:
                draft[peer.name] = _met(peer, address, certificate)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Peer]]:
        """What is known, by name, to be changed at will; written if the block ends well."""
        with self._state.exclusive():
            self.refresh()
            with self._guard:
                before, extra, extras = self._by_name, self._extra, self._extra_by_name
            draft = dict(before)
            yield draft
            if draft == before:
                return
            rows = []
            for name, peer in draft.items():
                old = before.get(name)
                kept = extras.get(name, {}) if old and old.key == peer.key else {}
                rows.append({**kept, **_as_row(peer)})
            document = {**extra, "version": VERSION, "peers": rows}
            document["check"] = _check(document)
            self._state.write(FILE, json.dumps(document, indent=1).encode("ascii") + b"\n")
            self.refresh()

    def _look(self) -> tuple[int, ...]:
        try:
            found = os.stat(self._state.file(FILE))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise BadState(f"The known peers cannot be read: {error.strerror}.") from error
        # The change time as well, so that a loosened mode does not go unseen.
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)

    def _take(self, data: bytes) -> None:
        try:
            document = json.loads(data)
            version = document["version"]
            if isinstance(version, int) and version > VERSION:
                raise BadState(
                    f"{self._shown()} is damaged or was written by a newer lanxfer;"
                    " use that one, or name another folder with --state."
                )
            if version != VERSION or document.pop("check") != _check(document):
                raise ValueError("not what was written")
            by_name: dict[str, Peer] = {}
            by_key: dict[str, Peer] = {}
            by_certificate: dict[str, Peer] = {}
            rows: list[dict[str, Any]] = document["peers"]
            for row in rows:
                peer = _from_row(row)
                if peer.name in by_name or peer.key in by_key:
                    raise ValueError("twice")
                by_name[peer.name] = peer
                if peer.key:
                    by_key[peer.key] = peer
                if peer.certificate in by_certificate:
                    raise ValueError("twice")
                if peer.certificate:
                    by_certificate[peer.certificate] = peer
        except _UNEXPECTED as error:
            raise BadState(
                f"{self._shown()}, the list of known peers, is damaged, so nobody is let in. Put"
                " it back from a backup; or move it away and pair again."
            ) from error
        self._by_name, self._by_key, self._by_certificate = by_name, by_key, by_certificate
        self._extra = document
        self._extra_by_name = dict(zip(by_name, rows, strict=True))

    def _shown(self) -> str:
        return shlex.quote(self._state.file(FILE))


def parse_name(text: str) -> str:
    """A name for a peer, in the one spelling it is kept in; BadConfig where it cannot be one."""
    name = unicodedata.normalize("NFC", text)
    shown = repr(text[:NAME_MAX])
    if not 1 <= len(name) <= NAME_MAX:
        raise BadConfig(f"The name of a peer has 1 to {NAME_MAX} characters: {shown}.")
    if not name.isprintable() or name != name.strip():
        raise BadConfig(f"A peer's name is printable, with no blank at either end: {shown}.")
    if any(each in name for each in "/\\:") or name.startswith("-"):
        raise BadConfig(f'A peer\'s name has no "/", "\\" or ":" and no "-" in front: {shown}.')
    if _NUMERIC.fullmatch(name):
        raise BadConfig(f"A peer's name must not look like an address: {shown}.")
    return name


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Host and port of "nas", "10.0.0.2:5", "[fe80::1%eth0]:36969" or "::1"; else BadConfig.

    A name in other letters comes back in the ASCII form resolvers want.
    """
    if len(text) > _ADDRESS_MAX:
        raise _no_address(text)
    host, port = text.strip(), ""
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise _no_address(text)
        port = rest[1:] if rest else str(default_port)
    elif host.count(":") <= 1:
        host, colon, port = host.partition(":")
        port = port if colon else str(default_port)
    else:
        port = str(default_port)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise _no_address(text)
    return _host(host, text), int(port)


def format_address(host: str, port: int, default_port: int = DEFAULT_PORT) -> str:
    """What ``parse_address`` reads, the port only where it is not the usual one."""
    if port == default_port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(host: str, text: str) -> str:
    if ":" in host:
        number, percent, zone = host.partition("%")
        try:
            socket.inet_pton(socket.AF_INET6, number)
        except (OSError, ValueError):
            raise _no_address(text) from None
        if percent and not _ZONE.fullmatch(zone):
            raise _no_address(text)
        return host
    if _NUMERIC.fullmatch(host):
        try:
            socket.inet_pton(socket.AF_INET, host)
        except (OSError, ValueError):
            raise _no_address(text) from None
        return host
    try:
        name = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise _no_address(text) from None
    labels = name.removesuffix(".").split(".")
    if len(name) > _HOST_MAX or not all(_LABEL.fullmatch(each) for each in labels):
        raise _no_address(text)
    return name


def _no_address(text: str) -> BadConfig:
    shown = repr(text[:_ADDRESS_MAX])
    return BadConfig(f"That is no address (HOST, HOST:PORT or [IPV6]:PORT): {shown}.")


def _checked(peer: Peer) -> Peer:
    """The peer in the spelling it is kept in; BadConfig where it makes no sense."""
    if peer.legacy and peer.key:
        raise BadConfig("A device that has a key is never spoken to in plain text.")
    key = "" if peer.legacy else parse_key(peer.key)
    for each in peer.addresses:
        parse_address(each)
    return _met_at(peer._replace(name=parse_name(peer.name), key=key), *peer.addresses)


def _met_at(peer: Peer, *addresses: str) -> Peer:
    return peer._replace(addresses=tuple(dict.fromkeys(addresses))[:ADDRESSES_MAX])


def _met(peer: Peer, address: str, certificate: bytes) -> Peer:
    met = _met_at(peer, address, *peer.addresses)
    return met._replace(certificate=name_certificate(certificate)) if certificate else met


def name_certificate(der: bytes) -> str:
    """What a certificate is remembered by: its SHA-256."""
    return hashlib.sha256(der).hexdigest()


def _changed(known: Peer, peer: Peer) -> str:
    old = short_key(known.key) if known.key else "none (an ae device)"
    new = short_key(peer.key) if peer.key else "none (an ae device)"
    return (
        f"{known.name!r} has the key {old}, not {new}. If that device was set up anew,"
        f' "lanxfer peer forget {shlex.quote(known.name)}" and pair again; if not, somebody'
        " else answers in its place."
    )


def _as_row(peer: Peer) -> dict[str, Any]:
    return {
        "name": peer.name,
        "key": peer.key,
        "addresses": list(peer.addresses),
        "legacy": peer.legacy,
        "certificate": peer.certificate,
    }


def _from_row(row: Mapping[str, Any]) -> Peer:
    name, key, addresses, legacy = row["name"], row["key"], row["addresses"], row["legacy"]
    certificate = row.get("certificate", "")
    if not isinstance(addresses, list) or not isinstance(legacy, bool):
        raise TypeError("not a peer")
    if certificate and not (key and _DIGEST.fullmatch(certificate)):
        raise TypeError("not a certificate")
    return _checked(Peer(name, key, tuple(addresses), legacy, certificate))


def _check(document: Mapping[str, Any]) -> str:
    """A digest of the content, since a flipped bit in a name or a key is still good JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
