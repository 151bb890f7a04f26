from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.verify import verifyObject

from lanxfer.errors import (
    AuthFailed,
    BadState,
    LanxferError,
    Lost,
    NotPaired,
    TlsRequired,
    UnsupportedVersion,
)
from lanxfer.identity import Identity, key_of_certificate, load_identity
from lanxfer.sealed import Records
from lanxfer.state import StateFolder
from lanxfer.tls import (
    ALPN,
    CERTIFICATE_MAX,
    CHAIN_MAX,
    TlsOptions,
    client_options,
    describe_tls_failure,
    peer_key,
    server_options,
    wrap_client,
    wrap_server,
)

T = TypeVar("T")
Certificates = Sequence[x509.Certificate]


LIBRARY = cast(Any, SSL)._lib
"""For the few things that pyOpenSSL does not show."""

in_reactor: Callable[[T], T] = pytest_twisted.ensureDeferred
failed: Callable[[BaseException], Failure] = Failure

TIMEOUT = 10.0
"""Seconds after which a test that waits has failed."""


def reactor() -> Any:
    """Not imported above: pytest-twisted chooses it first."""
    from twisted.internet import reactor

    return reactor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def nas(folder: Path) -> Identity:
    return load_identity(StateFolder(str(folder / "nas")))


@pytest.fixture(scope="module")
def phone(folder: Path) -> Identity:
    return load_identity(StateFolder(str(folder / "phone")))


def certificate_of(identity: Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate_pem)


def make_certificate(
    key: Any,
    signed_by: Any = None,
    name: str = "x",
    issuer: str = "x",
    extra: int = 0,
    until: datetime = datetime(2001, 1, 1),
) -> x509.Certificate:
    """A certificate, by default self-signed and long expired, ``extra`` bytes too large."""

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder(named(issuer), named(name), key.public_key(), 1)
        .not_valid_before(datetime(2000, 1, 1))
        .not_valid_after(until)
    )
    if extra:
        filling = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(extra))
        builder = builder.add_extension(filling, critical=False)
    return builder.sign(signed_by or key, hashes.SHA256())


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class Hostile:
    """A peer that does not keep to lanxfer's rules."""

    def __init__(
        self,
        certificate: x509.Certificate | None = None,
        key: Any = None,
        chain: Certificates = (),
        alpn: bytes = ALPN,
        highest: int = SSL.TLS1_3_VERSION,
    ) -> None:
        self.context = SSL.Context(SSL.TLS_METHOD)
        self.context.set_max_proto_version(highest)
        if certificate is not None:
            self.context.use_certificate(certificate)
            self.context.use_privatekey(key)
        for each in chain:
            self.context.add_extra_chain_cert(each)
        if alpn:
            self.context.set_alpn_protos([alpn])
            self.context.set_alpn_select_callback(lambda connection, offered: alpn)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return Records(self.context)

    clientConnectionForTLS = serverConnectionForTLS


def key_of(identity: Identity) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(identity.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def resumed(connection: SSL.Connection) -> bool:
    return bool(LIBRARY.SSL_session_reused(cast(Any, connection)._ssl))


def hostile(identity: Identity, **options: Any) -> Hostile:
    """Somebody with a key and certificate of lanxfer's, who is hostile in another way."""
    return Hostile(certificate_of(identity), key_of(identity), **options)


def thief(victim: Identity) -> Hostile:
    """Somebody who copied a certificate and claims that its own key belongs to it."""
    own = ec.generate_private_key(ec.SECP256R1())
    real = key_of(victim)
    halves = [key.private_numbers().private_value.to_bytes(32, "big") for key in (real, own)]
    der = real.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    lie = der.replace(halves[0], halves[1])
    assert lie != der
    # Only the old kind of key object does not compare the private half with the public one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Hostile(certificate_of(victim), crypto.load_privatekey(crypto.FILETYPE_ASN1, lie))


@implementer(IHandshakeListener)
class Talker(Protocol):
    """Notes what happens to it."""

    transport: Any

    def __init__(self) -> None:
        self.key: str | None = "never completed"
        self.key_when_connected: str | None = "never connected"
        self.received = b""
        self.error: LanxferError | None = None
        self._heard: Deferred[bytes] = Deferred()
        self._lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.key_when_connected = peer_key(self.transport)

    def handshakeCompleted(self) -> None:
        self.key = peer_key(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self._heard.called:
            self._heard.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.error = describe_tls_failure(reason)
        self._lost.callback(None)

    def hears(self) -> Deferred[bytes]:
        """Fires with the first bytes."""
        return self._heard.addTimeout(TIMEOUT, reactor())

    def is_lost(self) -> Deferred[None]:
        """Fires when the connection is gone."""
        return self._lost.addTimeout(TIMEOUT, reactor())

    @property
    def shaken(self) -> bool:
        return self.key != "never completed"


class Meeting:
    """Two talkers on a real loopback connection."""

    def __init__(self, server: Any, client: Any) -> None:
        self.server, self.client = Talker(), Talker()
        self._creators = server, client

    async def begin(self) -> Meeting:
        server, client = self._creators
        listening: Any = Factory.forProtocol(lambda: self.server)
        connecting: Any = Factory.forProtocol(lambda: self.client)
        if server is not None:
            listening = wrap_server(server, listening)
        if client is not None:
            connecting = wrap_client(client, connecting)
        self.port = reactor().listenTCP(0, listening, interface="127.0.0.1")
        number = self.port.getHost().port
        await TCP4ClientEndpoint(reactor(), "127.0.0.1", number).connect(connecting)
        return self

    async def end(self) -> None:
        """Both sides are gone and the port is closed."""
        for each in (self.client, self.server):
            await each.is_lost()
        await self.port.stopListening()


class LoopbackTests:
    @in_reactor
    async def test_keys(self, nas: Identity, phone: Identity) -> None:
        """Each side learns the other's key when the handshake is complete, and not before."""
        meeting = await Meeting(server_options(nas), client_options(phone)).begin()
        meeting.client.transport.write(b"hello")
        assert await meeting.server.hears() == b"hello"
        meeting.server.transport.write(b"hello yourself")
        assert await meeting.client.hears() == b"hello yourself"
        assert meeting.server.key == phone.key
        assert meeting.client.key == nas.key
        assert meeting.server.key_when_connected is meeting.client.key_when_connected is None
        handle = meeting.client.transport.getHandle()
        assert handle.get_protocol_version() == SSL.TLS1_3_VERSION
        assert handle.get_alpn_proto_negotiated() == ALPN
        assert meeting.server.transport.getHandle().get_servername() is None
        meeting.client.transport.loseConnection()
        await meeting.end()
        assert type(meeting.server.error) is Lost
        assert peer_key(meeting.server.transport) is None

    @in_reactor
    async def test_same_device(self, nas: Identity) -> None:
        """A device may speak to itself, and one object does for both roles."""
        options = server_options(nas)
        meeting = await Meeting(options, options).begin()
        meeting.client.transport.write(b"x")
        await meeting.server.hears()
        assert meeting.server.key == meeting.client.key == nas.key
        meeting.server.transport.loseConnection()
        await meeting.end()

    # covers: T03, T04
    @in_reactor
    async def test_no_client_certificate(self, nas: Identity) -> None:
        """A client without one is refused, though its own handshake had completed before."""
        meeting = await Meeting(server_options(nas), Hostile()).begin()
        meeting.client.transport.write(b"too early")
        await meeting.end()
        assert not meeting.server.shaken
        assert meeting.server.received == b""
        assert type(meeting.server.error) is AuthFailed
        # Why a client must not call itself connected before it has been answered.
        assert meeting.client.shaken
        assert type(meeting.client.error) is AuthFailed

    # covers: T08
    @in_reactor
    async def test_stolen_certificate(self, nas: Identity, phone: Identity) -> None:
        """A copied certificate without its key gets nobody in."""
        meeting = await Meeting(server_options(nas), thief(phone)).begin()
        await meeting.end()
        assert not meeting.server.shaken
        assert type(meeting.server.error) is AuthFailed

    # covers: T08
    @in_reactor
    async def test_stolen_server_certificate(self, nas: Identity, phone: Identity) -> None:
        """A server with a copied certificate is not spoken to."""
        meeting = await Meeting(thief(nas), client_options(phone)).begin()
        meeting.client.transport.write(b"secret")
        await meeting.end()
        assert not meeting.client.shaken
        assert meeting.server.received == b""
        assert type(meeting.client.error) is AuthFailed

    # covers: T04
    @in_reactor
    async def test_expired(self, nas: Identity, phone: Identity) -> None:
        """Dates are ignored by rule: an expired certificate with the right key is that peer."""
        expired = make_certificate(key_of(phone)).public_bytes(Encoding.PEM)
        options = client_options(Identity(phone.key, expired, phone.key_pem))
        meeting = await Meeting(server_options(nas), options).begin()
        meeting.client.transport.write(b"x")
        await meeting.server.hears()
        assert meeting.server.key == phone.key
        meeting.client.transport.loseConnection()
        await meeting.end()

    # covers: T09
    @pytest.mark.parametrize("alpn", [b"", b"http/1.1", b"lanxfer/2"])
    @in_reactor
    async def test_other_protocol(self, nas: Identity, phone: Identity, alpn: bytes) -> None:
        """A client of another protocol, or of none, is refused within the handshake."""
        meeting = await Meeting(server_options(nas), hostile(phone, alpn=alpn)).begin()
        await meeting.end()
        assert not meeting.server.shaken
        assert type(meeting.server.error) is UnsupportedVersion
        assert meeting.client.error is not None

    # covers: T09
    @pytest.mark.parametrize(("alpn", "expected"), [(b"", UnsupportedVersion), (b"h2", Lost)])
    @in_reactor
    async def test_other_server(
        self, nas: Identity, phone: Identity, alpn: bytes, expected: type[LanxferError]
    ) -> None:
        """A server that chose no protocol, or one nobody offered, is not spoken to."""
        meeting = await Meeting(hostile(nas, alpn=alpn), client_options(phone)).begin()
        meeting.client.transport.write(b"secret")
        await meeting.end()
        assert not meeting.client.shaken
        assert meeting.server.received == b""
        assert type(meeting.client.error) is expected

    # covers: A06
    @in_reactor
    async def test_old_client(self, nas: Identity, phone: Identity) -> None:
        """A client that has TLS 1.2 only is refused, and both are told why."""
        old = hostile(phone, highest=SSL.TLS1_2_VERSION)
        meeting = await Meeting(server_options(nas), old).begin()
        await meeting.end()
        assert not meeting.server.shaken and not meeting.client.shaken
        assert type(meeting.server.error) is type(meeting.client.error) is TlsRequired

    # covers: A06
    @in_reactor
    async def test_old_server(self, nas: Identity, phone: Identity) -> None:
        """A server that has TLS 1.2 only is not spoken to."""
        old = hostile(nas, highest=SSL.TLS1_2_VERSION)
        meeting = await Meeting(old, client_options(phone)).begin()
        await meeting.end()
        assert not meeting.client.shaken
        assert type(meeting.client.error) is TlsRequired

    # covers: A06
    @pytest.mark.parametrize(
        "line",
        [
            b'{"do": 1, "name": "hello"}\n',
            b"{'method_name': 'recv_file'}\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"0" * 4096,
        ],
    )
    @in_reactor
    async def test_plain_text(self, nas: Identity, phone: Identity, line: bytes) -> None:
        """Plain text from either side is recognised as that."""
        for meeting in (Meeting(server_options(nas), None), Meeting(None, client_options(phone))):
            await meeting.begin()
            plain, tls = meeting.client, meeting.server
            if isinstance(plain.transport, TLSMemoryBIOProtocol):
                plain, tls = tls, plain
                await plain.hears()
            plain.transport.write(line)
            await tls.is_lost()
            plain.transport.loseConnection()
            await meeting.end()
            assert not tls.shaken
            assert type(tls.error) is TlsRequired

    # covers: T05
    @in_reactor
    async def test_cut(self, nas: Identity, phone: Identity) -> None:
        """A connection that is cut without a word is lost."""
        meeting = await Meeting(server_options(nas), client_options(phone)).begin()
        meeting.client.transport.write(b"x")
        await meeting.server.hears()
        meeting.client.transport.transport.abortConnection()
        await meeting.end()
        assert type(meeting.server.error) is Lost

    # covers: R
    @in_reactor
    async def test_refusals_leave_nothing_behind(self, nas: Identity, phone: Identity) -> None:
        """After refusals of all kinds the same options still serve a good peer."""
        options = server_options(nas)
        for bad in (Hostile(), thief(phone), hostile(phone, alpn=b""), hostile(phone, alpn=b"x")):
            meeting = await Meeting(options, bad).begin()
            await meeting.end()
            assert not meeting.server.shaken
        meeting = await Meeting(options, client_options(phone)).begin()
        meeting.client.transport.write(b"x")
        await meeting.server.hears()
        assert meeting.server.key == phone.key
        meeting.client.transport.loseConnection()
        await meeting.end()


class Wire:
    """Two OpenSSL connections, and between them somebody who counts the records."""

    def __init__(self, server: Any, client: Any) -> None:
        self.server = server.serverConnectionForTLS(cast(Any, None))
        self.server.set_accept_state()
        self.client = client.clientConnectionForTLS(cast(Any, None))
        self.client.set_connect_state()
        self.failures: dict[str, SSL.Error] = {}

    def step(self, name: str) -> None:
        connection = getattr(self, name)
        if name in self.failures:
            return
        try:
            connection.do_handshake()
            connection.recv(1)
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self.failures[name] = error

    def take(self, name: str) -> bytes:
        """What this side wants sent."""
        self.step(name)
        try:
            return cast(bytes, getattr(self, name).bio_read(2**20))
        except SSL.WantReadError:
            return b""

    def records(self, data: bytes) -> Iterator[bytes]:
        while data:
            size = 5 + int.from_bytes(data[3:5], "big")
            yield data[:size]
            data = data[size:]

    def run(self) -> Wire:
        """Let both talk until neither has anything to say."""
        moved = True
        while moved:
            moved = False
            for giver, taker in (("client", self.server), ("server", self.client)):
                data = self.take(giver)
                if data:
                    taker.bio_write(data)
                    moved = True
        return self

    def error(self, name: str) -> LanxferError | None:
        found = self.failures.get(name)
        return None if found is None else describe_tls_failure(found)


class OverMemory:
    """What a TLS transport of Twisted's looks like to ``peer_key``."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def getHandle(self) -> SSL.Connection:
        return self._connection

    def getPeerCertificate(self) -> crypto.X509 | None:
        return self._connection.get_peer_certificate()


class CertificateTests:
    def chain(self, length: int, extra: int = 0) -> tuple[x509.Certificate, Any, Certificates]:
        """A device's certificate, its key, and ``length`` authorities above it."""
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(length + 1)]
        made = [
            make_certificate(key, above, str(place), str(place + 1), extra)
            for place, (key, above) in enumerate(zip(keys, [*keys[1:], keys[-1]], strict=True))
        ]
        return made[0], keys[0], made[1:]

    # covers: T04
    def test_signed_by_others(self, nas: Identity) -> None:
        """A certificate of somebody's authority is as good as any: the key counts."""
        certificate, key, above = self.chain(CHAIN_MAX)
        wire = Wire(server_options(nas), Hostile(certificate, key, above)).run()
        assert wire.failures == {}
        expected = key_of_certificate(certificate.public_bytes(Encoding.DER))
        assert peer_key(OverMemory(wire.server)) == expected

    # covers: T04
    def test_other_kinds_of_keys(self, nas: Identity) -> None:
        """A key of another kind is a key."""
        key = rsa.generate_private_key(65537, 2048)
        certificate = make_certificate(key)
        wire = Wire(server_options(nas), Hostile(certificate, key)).run()
        expected = key_of_certificate(certificate.public_bytes(Encoding.DER))
        assert peer_key(OverMemory(wire.server)) == expected

    # covers: T04
    @pytest.mark.parametrize("length", [CHAIN_MAX + 1, 50])
    def test_long_chain(self, nas: Identity, length: int) -> None:
        """A chain has an end, on either side."""
        wire = Wire(server_options(nas), Hostile(*self.chain(length))).run()
        assert type(wire.error("server")) is AuthFailed
        wire = Wire(Hostile(*self.chain(length)), client_options(nas)).run()
        assert type(wire.error("client")) is AuthFailed

    # covers: T04
    @pytest.mark.parametrize("extra", [CERTIFICATE_MAX, 64 * 1024, 200 * 1024])
    def test_large_certificate(self, nas: Identity, extra: int) -> None:
        """A certificate larger than any honest one is refused, on either side."""
        key = ec.generate_private_key(ec.SECP256R1())
        large = Hostile(make_certificate(key, extra=extra), key)
        wire = Wire(server_options(nas), large).run()
        assert type(wire.error("server")) is AuthFailed
        wire = Wire(large, client_options(nas)).run()
        assert type(wire.error("client")) is AuthFailed

    def test_almost_too_large(self, nas: Identity) -> None:
        """Just below the limit it is taken."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = make_certificate(key, extra=CERTIFICATE_MAX - 1024)
        wire = Wire(server_options(nas), Hostile(certificate, key)).run()
        assert wire.failures == {}

    # covers: T04
    def test_many_large_ones(self, nas: Identity) -> None:
        """All of a chain together has an end too."""
        _, key, above = self.chain(3, extra=40 * 1024)
        small = make_certificate(key)
        wire = Wire(server_options(nas), Hostile(small, key, above)).run()
        assert type(wire.error("server")) is AuthFailed


class ResumptionTests:
    # covers: T07
    def test_nothing_is_resumed(self, nas: Identity, phone: Identity) -> None:
        """A session of one connection is worth nothing on the next, whoever brings it."""
        server, client = server_options(nas), client_options(phone)
        first = Wire(server, client).run()
        session = first.client.get_session()
        assert session is not None
        for again in (phone, nas):
            wire = Wire(server, client)
            wire.client.set_session(session)
            wire.client.use_certificate(certificate_of(again))
            wire.client.use_privatekey(key_of(again))
            wire.run()
            assert wire.failures == {}
            assert resumed(wire.server) is False
            assert peer_key(OverMemory(wire.server)) == again.key

    # covers: T07
    def test_no_early_data(self, nas: Identity, phone: Identity) -> None:
        """The server never invites a client to send before the handshake."""
        wire = Wire(server_options(nas), client_options(phone)).run()
        session = wire.client.get_session()
        assert LIBRARY.SSL_SESSION_get_max_early_data(session._session) == 0

    def test_control(self, nas: Identity, phone: Identity) -> None:
        """The way these tests look does see a resumed session where there is one."""
        server = hostile(nas)
        server.context.set_session_id(b"x")
        client = client_options(phone)
        first = Wire(server, client).run()
        wire = Wire(server, client)
        wire.client.set_session(first.client.get_session())
        wire.run()
        assert resumed(wire.server) is True


class PeerKeyTests:
    # covers: T02, T08
    def test_not_before_the_proof(self, nas: Identity, phone: Identity) -> None:
        """A certificate that arrived says nothing until its key has signed."""
        wire = Wire(server_options(nas), client_options(phone))
        wire.server.bio_write(wire.take("client"))
        wire.client.bio_write(wire.take("server"))
        shown_early = False
        for record in wire.records(wire.take("client")):
            assert peer_key(OverMemory(wire.server)) is None
            shown_early = shown_early or wire.server.get_peer_certificate() is not None
            wire.server.bio_write(record)
            wire.step("server")
        assert shown_early  # or this test looks at nothing
        assert peer_key(OverMemory(wire.server)) == phone.key

    def test_no_tls(self) -> None:
        """A transport without TLS has no key."""
        make: Callable[[], object] = StringTransport
        plain = make()
        assert peer_key(plain) is None
        assert peer_key(None) is None

    # covers: T04
    def test_large(self, nas: Identity) -> None:
        """Wherever a large certificate comes from, it is not looked at."""
        key = ec.generate_private_key(ec.SECP256R1())
        large = Hostile(make_certificate(key, extra=CERTIFICATE_MAX), key)
        careless = hostile(nas)
        careless.context.set_verify(SSL.VERIFY_PEER, lambda *arguments: True)
        wire = Wire(careless, large).run()
        assert wire.failures == {}
        with pytest.raises(AuthFailed, match="too large"):
            peer_key(OverMemory(wire.server))


class OptionsTests:
    def test_interfaces(self, nas: Identity) -> None:
        """The options are what Twisted asks for."""
        options = server_options(nas)
        assert verifyObject(IOpenSSLServerConnectionCreator, options)
        assert verifyObject(IOpenSSLClientConnectionCreator, options)

    def test_one_context(self, nas: Identity) -> None:
        """All connections of one object share a context."""
        options = TlsOptions(nas)
        wires = [Wire(options, options) for _ in range(2)]
        found = {id(each.get_context()) for wire in wires for each in (wire.server, wire.client)}
        assert len(found) == 1

    def test_unusable(self, nas: Identity, phone: Identity) -> None:
        """A certificate of another key, and damaged ones, are a sentence."""
        for bad in (
            Identity(nas.key, phone.certificate_pem, nas.key_pem),
            Identity(nas.key, b"", nas.key_pem),
            Identity(nas.key, nas.certificate_pem, b"x"),
        ):
            with pytest.raises(BadState):
                server_options(bad)


class DescribeTests:
    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("tlsv1 alert unknown ca", AuthFailed),
            ("sslv3 alert bad certificate", AuthFailed),
            ("tlsv1 alert access denied", AuthFailed),
            ("bad signature", AuthFailed),
            ("wrong version number", TlsRequired),
            ("tlsv1 alert protocol version", TlsRequired),
            ("tlsv1 alert no application protocol", UnsupportedVersion),
            ("sslv3 alert handshake failure", UnsupportedVersion),
            ("no shared cipher", UnsupportedVersion),
            ("decryption failed or bad record mac", Lost),
            ("something new", Lost),
        ],
    )
    def test_words(self, words: str, expected: type[LanxferError]) -> None:
        """OpenSSL's words, alone or among others, become one of our errors."""
        for error in (
            SSL.Error([("SSL routines", "", words)]),
            SSL.Error([("SSL routines", "", "x"), ("SSL routines", "", words)]),
        ):
            assert type(describe_tls_failure(error)) is expected
            assert type(describe_tls_failure(failed(error))) is expected

    def test_others(self) -> None:
        """Everything else is a lost connection, and our own errors stay what they are."""
        for error in (
            ConnectionDone(),
            ConnectionLost(),
            SSL.SysCallError(-1, "Unexpected EOF"),
            SSL.ZeroReturnError(),
            SSL.Error([]),
            SSL.Error(),
            SSL.Error(None),
            SSL.Error([()]),
            OSError("x"),
        ):
            assert type(describe_tls_failure(failed(error))) is Lost
        ours = NotPaired()
        assert describe_tls_failure(failed(ours)) is ours
