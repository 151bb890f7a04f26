"""TLS between two devices that trust keys, not authorities.

TLS 1.3 only, both sides show a certificate, and any certificate will do: what
counts is that the other side holds the private key (the handshake proves
that, whatever the verify callback says) and which key it is (the caller
compares ``peer_key`` with its pin in ``handshakeCompleted``, before it looks
at a single byte).  So dates, names and issuers mean nothing here, and nothing
is resumed: every connection proves the key anew (docs/protocol.rst, "Who speaks").

A TLS 1.3 client completes its handshake before the server has looked at its
certificate.  It may send at once, but only the server's first answer tells it
that it was let in.
"""

from __future__ import annotations

from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from lanxfer.bulk import BulkTLSFactory
from lanxfer.errors import (
    AuthFailed,
    BadState,
    LanxferError,
    Lost,
    TlsRequired,
    UnsupportedVersion,
)
from lanxfer.identity import CERTIFICATE_MAX, Identity, key_of_certificate
from lanxfer.pake import Channel
from lanxfer.sealed import Records
from lanxfer.wire.native import VERSION

ALPN = VERSION.encode()

CHAIN_MAX = 4
"""Certificates above the device's own that are put up with; ours has none."""

_PARTIAL_WRITE = 1
"""SSL_MODE_ENABLE_PARTIAL_WRITE, which pyOpenSSL sets and has no name for."""

BINDING = b"EXPORTER-Channel-Binding"
BINDING_SIZE = 32
"""RFC 9266: both ends of one TLS connection get the same bytes, and nobody else does."""

_OTHER_PROTOCOL = "The other side speaks TLS, but not lanxfer/1."

# The words OpenSSL has for it, its own findings and the other side's alerts alike.
_FAILURES: tuple[tuple[type[LanxferError], str, tuple[str, ...]], ...] = (
    (
        TlsRequired,
        "The other side speaks plain text, not TLS; to send to an ae device, see --legacy-peer.",
        ("wrong version number", "http request", "https proxy request", "packet length too long"),
    ),
    (
        TlsRequired,
        "The two sides have no TLS version in common; lanxfer takes TLS 1.3 and nothing older.",
        ("unsupported protocol", "protocol version", "version too low"),
    ),
    (UnsupportedVersion, _OTHER_PROTOCOL, ("no application protocol",)),
    (
        UnsupportedVersion,
        "The two sides have no encryption in common.",
        ("handshake failure", "no shared cipher", "no suitable", "insufficient security"),
    ),
    (
        AuthFailed,
        "The other side does not accept this device's certificate, or shows none it can prove.",
        ("certificate", "signature", "unknown ca", "decrypt error", "access denied", "excessive"),
    ),
)


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class TlsOptions:
    """How one device speaks TLS, in both roles; one OpenSSL context for all its connections."""

    def __init__(self, identity: Identity) -> None:
        self._context = _make_context(identity)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection that Twisted puts into the accepting state."""
        return Records(self._context)

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection that Twisted puts into the connecting state; it names no server (SNI)."""
        return Records(self._context)


def server_options(identity: Identity) -> TlsOptions:
    """What ``wrap_server`` needs; the same object does for ``wrap_client``."""
    return TlsOptions(identity)


def client_options(identity: Identity) -> TlsOptions:
    """What ``wrap_client`` needs; the same object does for ``wrap_server``."""
    return TlsOptions(identity)


def wrap_server(
    options: TlsOptions, factory: IProtocolFactory, clock: IReactorTime | None = None
) -> BulkTLSFactory:
    """The factory to listen with; ``factory`` builds what speaks inside."""
    creator = cast(IOpenSSLServerConnectionCreator, options)
    return BulkTLSFactory(creator, False, factory, clock)


def wrap_client(
    options: TlsOptions, factory: IProtocolFactory, clock: IReactorTime | None = None
) -> BulkTLSFactory:
    """The factory to connect with; ``factory`` builds what speaks inside."""
    creator = cast(IOpenSSLClientConnectionCreator, options)
    return BulkTLSFactory(creator, True, factory, clock)


def peer_key(transport: object) -> str | None:
    """The key that the other side of a TLS transport has proved to hold.

    None on a transport without TLS, after the connection is gone, and before the
    proof: a certificate alone is public.  Raises AuthFailed where the
    certificate is too large or cannot be read.
    """
    certificate_of = getattr(transport, "getPeerCertificate", None)
    handle_of = getattr(transport, "getHandle", None)
    if certificate_of is None or handle_of is None:
        return None
    handle = handle_of()
    # The Finished message comes after the signature that proves the key.
    if not isinstance(handle, SSL.Connection) or handle.get_peer_finished() is None:
        return None
    certificate = certificate_of()
    return None if certificate is None else key_of_certificate(_der(certificate))


def channel_of(transport: object) -> Channel | None:
    """What TLS proved of this connection; None, or AuthFailed, as ``peer_key``."""
    key = peer_key(transport)
    handle_of = getattr(transport, "getHandle", None)
    if key is None or handle_of is None:
        return None
    return Channel(key, handle_of().export_keying_material(BINDING, BINDING_SIZE))


def describe_tls_failure(reason: Failure | BaseException) -> LanxferError:
    """What ``connectionLost`` was told, as one of our errors."""
    error = reason.value if isinstance(reason, Failure) else reason
    if isinstance(error, LanxferError):
        return error
    if isinstance(error, _Refused):
        return error.why
    words = _words(error)
    for found, sentence, signs in _FAILURES:
        if any(sign in words for sign in signs):
            return found(sentence)
    return Lost(f"The connection broke ({words}).") if words else Lost()


class _Refused(SSL.Error):
    """Raised within OpenSSL's callbacks; Twisted takes it for what the handshake failed with."""

    def __init__(self, why: LanxferError) -> None:
        # The shape of OpenSSL's own errors, which Twisted looks into.
        super().__init__([("lanxfer", "", why.reason)])
        self.why = why


def _make_context(identity: Identity) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    try:
        key = load_pem_private_key(identity.key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("not a key that load_identity gives")
        context.use_certificate(x509.load_pem_x509_certificate(identity.certificate_pem))
        context.use_privatekey(key)
    except (SSL.Error, ValueError, TypeError) as error:
        raise BadState("The key and the certificate of this device cannot be used.") from error
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    context.set_verify_depth(CHAIN_MAX)
    # OpenSSL sends two tickets all the same, but they stand for sessions that nobody
    # keeps.  Early data is off as long as nobody allows some.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    # A write is for all its bytes: ``lanxfer.bulk`` gives many records at a time.
    context.clear_mode(_PARTIAL_WRITE)
    # Idle connections are the most frequent kind.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_alpn_protos([ALPN])
    context.set_alpn_select_callback(_select_protocol)
    return context


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    # pyOpenSSL's own way of saying "none of these" lets the handshake go on without one.
    if ALPN not in offered:
        raise _Refused(UnsupportedVersion(_OTHER_PROTOCOL))
    return ALPN


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    """Whether to go on: whatever is said of the certificate, but not for ever and not for others.

    This is called before a handshake can complete, on either side, and after
    the protocol was chosen; a side that offered or chose none is found out here.
    """
    if connection.get_alpn_proto_negotiated() != ALPN:
        raise _Refused(UnsupportedVersion(_OTHER_PROTOCOL))
    if depth > CHAIN_MAX:
        raise _Refused(AuthFailed("The other side shows too long a chain of certificates."))
    if depth == 0:
        try:
            _der(certificate)
        except AuthFailed as why:
            raise _Refused(why) from why
    return True


def _der(certificate: crypto.X509) -> bytes:
    der = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)
    if len(der) > CERTIFICATE_MAX:
        raise AuthFailed("The certificate of the other side is too large.")
    return der


def _words(error: BaseException | None) -> str:
    """OpenSSL's reasons, its last ones included; nothing for errors that are not its."""
    queue = error.args[0] if isinstance(error, SSL.Error) and error.args else ()
    if not isinstance(queue, (list, tuple)):
        return ""
    return "; ".join(str(entry[-1]) for entry in queue if isinstance(entry, tuple) and entry)
