"""Another device, asked without a reactor, by a process that is over when that is done.

It does what ``lanxfer.connecting`` does where all is as it was the last time: the
device is known by its key and is at the address it had.  Whatever else there is to
say or to try is left to that, and so nothing was begun where this raises NotStraight.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from lanxfer.conversation import Conversation
from lanxfer.errors import BadState, LanxferError, Lost, NotFound
from lanxfer.packet_socket import Wait
from lanxfer.peers import Peers, parse_address
from lanxfer.state import CERTIFICATE_FILE, KEY_FILE, StateFolder
from lanxfer.wire.native import VERSION

if TYPE_CHECKING:
    from lanxfer.straight_tls import Tls

PATIENCE = 2.0
"""Seconds for the connection, and again for TLS: whoever is slower is worth the other way."""


class NotStraight(Exception):
    """It takes ``lanxfer.connecting``; nothing was begun."""


class Straight(Conversation):
    """A connection to a device whose key is pinned here, and what it takes.

    Its key is compared before anything is said; ``plain`` is for one that has none.  Making
    it raises NotStraight, also where what lies in the state folder is not as it should be.
    """

    limits: dict[str, Any]
    features: list[Any]
    forgotten = False
    """Whether its key is known no longer."""

    def __init__(
        self,
        state: StateFolder,
        peer: str,
        wait: Wait,
        lost: Callable[[bool], Lost],
        plain: bool = False,
    ) -> None:
        try:
            peers = Peers(state)
            address, expects = _whom(peers, peer, plain)
            tls = None if plain else _tls(state)
            host, port = parse_address(address)
            # No name is looked up, which nobody could interrupt.
            socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)
            connection = socket.create_connection((host, port), PATIENCE)
        except (LanxferError, OSError, ValueError):
            raise NotStraight from None
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = None if tls is None else tls(connection)
        except (OSError, ValueError):
            connection.close()
            raise NotStraight from None
        super().__init__(connection, wait, lost, stream)
        try:
            certificate = b"" if stream is None else _proved(stream)
            key = "" if stream is None else _key_of(certificate, peers)
            if not expects(key):
                raise NotStraight
            hello = self.greet(socket.gethostname())
            said, features = hello.get("limits"), hello.get("features")
            self.limits = said if isinstance(said, dict) else {}
            self.features = features if isinstance(features, list) else []
            if key:
                with suppress(LanxferError):  # it is for the next time
                    peers.remember_address(key, address, certificate)
            self._peers, self._key = peers, key
        except (LanxferError, OSError, ValueError):
            self.close()
            raise NotStraight from None
        except BaseException:
            self.close()
            raise

    def end_if_forgotten(self) -> None:
        """End the connection where its key is known no longer (catalogue A08)."""
        with suppress(BadState):  # that nobody can be read does not say who was forgotten
            self.forgotten = bool(self._key) and self._peers.by_key(self._key) is None
        if self.forgotten:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


def _whom(peers: Peers, text: str, plain: bool) -> tuple[str, Callable[[str], bool]]:
    """Where it is, and whether a key may be shown there; a LanxferError where that is not clear."""
    try:
        found = peers.find(text)
    except NotFound:
        return text, lambda key: plain or peers.by_key(key) is not None
    if found.legacy or plain is bool(found.key) or not found.addresses:
        raise NotFound()
    return found.addresses[0], lambda key: key == found.key


def _tls(state: StateFolder) -> Callable[[socket.socket], Tls]:
    """TLS as ``lanxfer.tls`` has it: any certificate will do, the key in it is what counts."""
    # In plain text nobody needs them.
    import ssl

    from lanxfer.straight_tls import Tls

    if state.read(CERTIFICATE_FILE) is None or state.read(KEY_FILE, secret=True) is None:
        raise NotFound()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([VERSION])
    # OpenSSL compares the two: a certificate of another key is an error.
    context.load_cert_chain(state.file(CERTIFICATE_FILE), state.file(KEY_FILE), _no_password)
    return partial(Tls, context, seconds=PATIENCE)


def _no_password() -> str:
    raise ValueError("The key of a device has no password.")


def _proved(connection: Tls) -> bytes:
    """The certificate of whose key the other side has; a LanxferError where it is no device."""
    if connection.protocol != VERSION or not connection.certificate:
        raise NotFound()
    return connection.certificate


def _key_of(certificate: bytes, peers: Peers) -> str:
    """The key in that certificate; a LanxferError where that is no device's."""
    known = peers.by_certificate(certificate)
    if known is not None:
        return known.key
    # To import what takes certificates apart takes a fifth of all the time of a small file.
    from lanxfer.identity import CERTIFICATE_MAX, key_of_certificate

    if len(certificate) > CERTIFICATE_MAX:
        raise NotFound()
    return key_of_certificate(certificate)
