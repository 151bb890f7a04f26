"""Getting to another device: its address, TLS, its key, and its first answer.

"Connected" is said when the other side answered hello: in TLS 1.3 a client
sees its handshake done before the server has looked at its key (catalogue
T03).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, cast

from attrs import field, frozen
from twisted.internet.endpoints import HostnameEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, DNSLookupError, TimeoutError, UserError
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from lanxfer.commands.table import Node, Table
from lanxfer.control import NO_ANSWER, NO_SERVICE
from lanxfer.conversation import HELLO_WAIT
from lanxfer.deferreds import own_cancel
from lanxfer.disk import Disk
from lanxfer.errors import (
    BadConfig,
    BadHeader,
    KeyChanged,
    LanxferError,
    Lost,
    NotFound,
    NotPaired,
    TimedOut,
    Unreachable,
)
from lanxfer.identity import Identity
from lanxfer.keys import format_key
from lanxfer.labels import changed_key, met_at
from lanxfer.peers import Peer, Peers, parse_address
from lanxfer.pipes import PipeProtocol, child_endpoint
from lanxfer.policy import LOCAL, Principal, Standing
from lanxfer.protocol import LanxferProtocol
from lanxfer.rates import Rates
from lanxfer.sessions import Session
from lanxfer.sessions.native import NativeSession
from lanxfer.sockets import tune
from lanxfer.tls import client_options, describe_tls_failure, peer_key, wrap_client
from lanxfer.wire import limits
from lanxfer.wire.native import VERSION
from lanxfer.wire.packets import Args

CONNECT_TIMEOUT = 10.0

FIRST_TRY = 3.0
"""Seconds of these before a device is looked for elsewhere; the others come after that."""

Through: TypeAlias = Callable[[str, int], IStreamClientEndpoint]
"""An endpoint for a host and a port: a proxy's, for example."""

Find: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Addresses at which the device with a key is said to be; none of them proves anything."""


@frozen
class Target:
    """Where to connect, and whom to find there.

    ``key`` is the pinned key that has to be shown; None where the address was
    given and any key that is pinned here will do.  ``plain`` speaks the native
    dialect without TLS, ``legacy`` the literal one.  With ``once`` the key was
    proved a moment ago and is pinned nowhere.
    """

    name: str
    addresses: tuple[str, ...]
    key: str | None = None
    plain: bool = False
    legacy: bool = False
    once: bool = False


def find_target(
    peers: Peers, text: str, *, plain: bool = False, legacy: bool = False, finds: bool = False
) -> Target:
    """What a user means by PEER: a name, the beginning of a key, or HOST[:PORT].

    A known device without an address is NotFound, unless it ``finds`` some.
    """
    try:
        peer = peers.find(text)
    except NotFound:
        parse_address(text)
        return Target(text, (text,), plain=plain, legacy=legacy)
    if not peer.addresses and not (finds and peer.key):
        raise _no_address(peer.name)
    if peer.key and (plain or legacy):
        raise KeyChanged(f"{peer.name} is known by its key and is never spoken to in plain text.")
    return Target(peer.name, peer.addresses, peer.key or None, plain, legacy or peer.legacy)


def _no_address(name: str) -> NotFound:
    return NotFound(f"No address is known for {name}; say HOST, or add one to the peer.")


def check_newcomer(
    peers: Peers, own_key: str, target: Target, address: str, key: str, name: str | None
) -> None:
    """Whether the device that shows ``key`` at ``address`` may be paired with.

    KeyChanged where the device that was asked for, the one called ``name``, or
    the one last met at that address has another key; in the last case a new
    ``name`` says that another device is meant.  BadConfig for this device itself.
    """
    if key == own_key:
        raise BadConfig(f"{address} is this device itself.")
    known = [each for each in peers.all() if each.name == name]
    if target.key is not None:
        known.append(peers.by_key(target.key) or _named(target))
    before = met_at(peers, address)
    if before is not None and name is None:
        known.append(before)
    for each in known:
        if each.key != key:
            raise changed_key(each, address, key)


def _named(target: Target) -> Peer:
    return Peer(target.name, target.key or "", target.addresses)


@frozen
class Login:
    """A user of the other device, and the password; shown nowhere."""

    user: str
    password: str = field(repr=False)


@frozen
class Dialer:
    """Makes connections to other devices in the name of this one.

    ``node`` and ``table`` answer what the other side asks; without them it can
    ask for nothing.  ``login`` is said on each connection that carries TLS;
    ``live`` are the connections that are open, and no faster than ``rates``.
    ``through`` makes the endpoint for a host and a port where that is to be another
    than plain TCP, within ``connect_timeout`` seconds.  ``find`` is asked where a known
    device may be when it is at none of its addresses.
    """

    reactor: Any
    disk: Disk
    peers: Peers
    identity: Identity
    device: str
    node: Node | None = None
    table: Table | None = None
    login: Login | None = None
    live: set[LanxferProtocol] = field(factory=set, eq=False, repr=False)
    rates: Rates | None = None
    connect_timeout: float = CONNECT_TIMEOUT
    through: Through | None = None
    find: Find | None = None

    async def dial(self, target: Target) -> LanxferProtocol:
        """A connection whose other side has said hello; the addresses are tried in turn.

        Raises Unreachable where none answers, KeyChanged or NotPaired where the
        wrong one does, or what it refused us with.
        """
        connection, address = await self._reach(target, self._expect)
        try:
            return await self._greet(connection, target, address)
        except BaseException:
            connection.abort(Lost())
            raise

    async def meet(self, target: Target, name: str | None) -> tuple[LanxferProtocol, str]:
        """A connection for pairing, to whatever key is shown there, and its address.

        Raises Unreachable, or what ``check_newcomer`` does.
        """

        def anybody(target: Target, address: str, key: str) -> Principal:
            check_newcomer(self.peers, self.identity.key, target, address, key, name)
            return Principal(Standing.STRANGER, f"newcomer:{key}", target.name)

        return await self._reach(target, anybody)

    async def _reach(
        self, target: Target, expect: Callable[[Target, str, str], Principal]
    ) -> tuple[LanxferProtocol, str]:
        error: LanxferError = _no_address(target.name)
        whole = self.connect_timeout
        first = min(FIRST_TRY, whole) if self._finds(target) else whole
        slow = []
        for address in target.addresses:
            began = self.reactor.seconds()
            try:
                return await self._open(target, address, expect, first), address
            except Unreachable as unreachable:
                error = unreachable
                if self.reactor.seconds() - began >= first:
                    slow.append(address)
            except KeyChanged as changed:
                error = changed
                break
        for address in await self._found(target):
            # What was only heard of is no reason for an alarm, wherever it leads.
            with suppress(LanxferError):
                return await self._open(target, address, expect, whole), address
        for address in slow if first < whole else ():
            with suppress(Unreachable):
                return await self._open(target, address, expect, whole - first), address
        raise error

    def _finds(self, target: Target) -> bool:
        return self.find is not None and target.key is not None and not target.plain

    async def _found(self, target: Target) -> list[str]:
        """Where else the device may be; another one may have its address by now."""
        if self.find is None or target.key is None or target.plain:
            return []
        found = await self.find(target.key)
        return [each for each in found if each not in target.addresses]

    async def _open(
        self,
        target: Target,
        address: str,
        expect: Callable[[Target, str, str], Principal],
        timeout: float,
    ) -> LanxferProtocol:
        host, port = parse_address(address)
        endpoint = self._endpoint(host, port, timeout)
        factory: Any = _Once(lambda: self._protocol(target, address, expect))
        if not target.plain:
            factory = wrap_client(client_options(self.identity), factory, self.reactor)
        return await connect_over(endpoint, factory, _where(target, address))

    def _endpoint(self, host: str, port: int, timeout: float) -> IStreamClientEndpoint:
        if self.through is not None:
            return self.through(host, port)
        return endpoint_of(self.reactor, host, port, timeout)

    def _protocol(
        self, target: Target, address: str, expect: Callable[[Target, str, str], Principal]
    ) -> LanxferProtocol:
        def identify(transport: Any) -> Principal:
            if target.plain:
                return Principal(Standing.STRANGER, f"plain:{address}", address, secure=False)
            key = peer_key(transport)
            if key is None:
                raise NotPaired("The other side showed no key.")
            return expect(target, address, key)

        return self.make(NativeSession(known=True), identify, secure=not target.plain)

    async def dial_legacy(self, target: Target) -> LanxferProtocol:
        """A plain connection to an ae device, good for one request."""
        error: LanxferError = _no_address(target.name)
        for address in target.addresses:
            host, port = parse_address(address)
            endpoint = self._endpoint(host, port, self.connect_timeout)
            who = Principal(Standing.STRANGER, f"legacy:{host}", target.name, secure=False)

            def make(host: str = host, port: int = port, who: Principal = who) -> LanxferProtocol:
                from lanxfer.sessions.literal import LiteralSession  # only where it is asked for

                session = LiteralSession(server=False, remote_ip=host, port=port)
                return self.make(session, lambda wire: _introduce(session, wire, who), False)

            try:
                return await connect_over(endpoint, _Once(make), _where(target, address))
            except Unreachable as unreachable:
                error = unreachable
        raise error

    def make(
        self, session: Session, identify: Callable[[Any], Principal], secure: bool
    ) -> LanxferProtocol:
        """The client's end of a connection."""
        made = LanxferProtocol(
            session,
            cast(Node, self.node),
            self.disk,
            self.table or {},
            self.reactor,
            identify,
            secure=secure,
            on_ready=self.live.add,
            on_gone=self.live.discard,
            why_lost=_why_lost if secure else _why_lost_plain,
        )
        if self.rates is not None:
            made.keep_to(self.rates)
        return made

    def _expect(self, target: Target, address: str, key: str) -> Principal:
        peer = self.peers.by_key(key)
        if target.key is not None and key != target.key:
            raise changed_key(_named(target), address, key)
        if target.once:
            return Principal(Standing.STRANGER, f"once:{key}", target.name)
        if peer is None:
            before = met_at(self.peers, address)
            if before is not None:
                raise changed_key(before, address, key)
            raise NotPaired(
                f'The device at {address} is not known here. Type "lanxfer pair" there and'
                f' "lanxfer pair {address}" here; or, if its own "lanxfer key show" prints'
                f" {format_key(key)}, let it in with: lanxfer peer add NAME {key}@{address}"
            )
        return Principal(Standing.PEER, f"peer:{key}", peer.name)

    async def _greet(
        self, connection: LanxferProtocol, target: Target, address: str
    ) -> LanxferProtocol:
        await greet(connection, self.device)
        if self.login is not None:
            said = {"user": self.login.user, "password": self.login.password}
            _heed(connection, (await connection.ask("login", said).answered()).args)
        principal = connection.principal
        if principal is not None and principal.standing is Standing.PEER:
            key = principal.name.removeprefix("peer:")
            await self.disk.run(self.peers.remember_address, key, address)
        return connection


def endpoint_of(
    reactor: Any, host: str, port: int, timeout: float = CONNECT_TIMEOUT
) -> IStreamClientEndpoint:
    """Plain TCP to a name or an address."""
    if "%" in host:
        # A HostnameEndpoint forgets on which interface a link-local address is.
        return TCP6ClientEndpoint(reactor, host, port, timeout)
    return HostnameEndpoint(reactor, host, port, timeout)


def _introduce(session: Any, transport: Any, who: Principal) -> Principal:
    """Tell an ae device our address and its own, as it expects."""
    session.local_ip = transport.getHost().host
    session.remote_ip = transport.getPeer().host
    return who


async def greet(connection: LanxferProtocol, device: str) -> dict[str, Any]:
    """Say hello; what the other side is and takes."""
    hello = {"speaks": [VERSION], "device": device}
    answer = await connection.ask("hello", hello).answered()
    if answer.args.get("speaks") != VERSION:
        connection.abort(BadHeader())
        raise BadHeader("The other side speaks another version than it was asked for.")
    _heed(connection, answer.args)
    connection.hello = dict(answer.args)
    return dict(answer.args)


def _heed(connection: LanxferProtocol, answer: Args) -> None:
    """Take to heart what the other side takes."""
    found = answer.get("limits")
    connection.peer_limits = found if isinstance(found, dict) else {}


async def dial_local(reactor: Any, disk: Disk, socket_path: str, device: str) -> LanxferProtocol:
    """The service of the same user on this machine, through its control socket."""
    endpoint = UNIXClientEndpoint(reactor, socket_path, 5)

    def make() -> LanxferProtocol:
        session = NativeSession(known=True)
        return LanxferProtocol(session, cast(Node, None), disk, {}, reactor, lambda _: LOCAL)

    try:
        connection = await connect_over(endpoint, _Once(make), "the service")
    except Unreachable:
        raise Unreachable(NO_SERVICE) from None
    late = reactor.callLater(HELLO_WAIT, connection.abort, TimedOut(NO_ANSWER))
    try:
        await greet(connection, device)
    except BaseException:
        connection.abort(Lost())
        raise
    finally:
        if late.active():
            late.cancel()
    return connection


async def dial_child(
    reactor: Any,
    disk: Disk,
    argv: Sequence[str],
    env: Mapping[str, str] | None,
    device: str,
) -> LanxferProtocol:
    """The service that a program speaks for on its standard input and output."""
    who = Principal(Standing.LOCAL, f"child:{argv[0] if argv else ''}", " ".join(argv))

    def make() -> LanxferProtocol:
        session = NativeSession(known=True)
        return PipeProtocol(session, cast(Node, None), disk, {}, reactor, lambda _: who)

    connection = await connect_over(child_endpoint(reactor, argv, env), _Once(make), who.label)
    try:
        await greet(connection, device)
    except BaseException:
        connection.abort(Lost())
        raise
    return connection


async def connect_over(
    endpoint: IStreamClientEndpoint, factory: Any, where: str
) -> LanxferProtocol:
    """What an endpoint leads to, once it is there; Unreachable where that is nothing."""
    try:
        made: Any = await own_cancel(endpoint.connect(factory))
    except DNSLookupError:
        raise Unreachable(
            f'{where} does not answer (no such name); "lanxfer peers" shows the devices that are'
            ' known here, "lanxfer pair" lets another one in, "lanxfer doctor" looks further.'
        ) from None
    except (ConnectError, TimeoutError, UserError, OSError) as error:
        raise Unreachable(f"{where} does not answer ({_cause(error)}).") from None
    connection: LanxferProtocol = getattr(made, "wrappedProtocol", made)
    tune(connection.transport)
    if made is not connection:
        await connection.when_begun(limits.HANDSHAKE_TIMEOUT)
    if connection.gone or connection.deaf:
        raise connection.lost_because or Unreachable()
    return connection


def _where(target: Target, address: str) -> str:
    return address if target.name == address else f"{target.name} at {address}"


def _cause(error: Exception) -> str:
    if isinstance(error, (TimeoutError, UserError)):
        return "no answer in time"
    text = re.sub(r"^(?:.*?: )?(?:\d+: )?", "", str(error))
    return text.rstrip(".").lower() or "refused"


def _why_lost(reason: Failure) -> LanxferError:
    return describe_tls_failure(reason)


def _why_lost_plain(reason: Failure) -> LanxferError:
    return Lost()


class _Once(Factory):
    """A factory for one connection."""

    noisy = False

    def __init__(self, make: Callable[[], LanxferProtocol]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> LanxferProtocol:
        return self._make()
