"""The client API: connect to a device, send to it, ask it; every call returns a Deferred.

::

    client = await connect(reactor, "nas")
    receipt = await client.send_file("film.mkv", on_progress=print)
    await client.close()

A call fires on the receiver's word, fails with a ``lanxfer.errors``
LanxferError, and is cancelled with ``cancel()``: the other side is told, and
the Deferred fails with ``Cancelled``.  A connection that breaks is made again,
with growing pauses, as long as ``patience`` allows; what was under way goes on
from what the receiver holds.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from lanxfer import ae, offering, sending
from lanxfer.bottleneck import Bottleneck
from lanxfer.clear_sending import ClearBodies
from lanxfer.codes import Secret, code_secret, load_token, parse_code
from lanxfer.connecting import (
    CONNECT_TIMEOUT,
    Dialer,
    Login,
    Target,
    Through,
    dial_child,
    dial_local,
    find_target,
)
from lanxfer.deferreds import Shared, public
from lanxfer.discovery.finding import finder
from lanxfer.disk import Disk
from lanxfer.errors import (
    BadConfig,
    Cancelled,
    LanxferError,
    Lost,
    TlsRequired,
    TooLarge,
)
from lanxfer.exchange import Answer
from lanxfer.folders import Folders
from lanxfer.identity import load_identity
from lanxfer.introducing import Introduced, dial, introduce
from lanxfer.links import Link
from lanxfer.offering import Loaded
from lanxfer.packing import as_sent, goes_again
from lanxfer.peers import Peers
from lanxfer.protocol import LanxferProtocol
from lanxfer.rates import Rates, Speeds
from lanxfer.registry import Registry, Transfer, new_ids
from lanxfer.retrying import PATIENCE, UNKNOWN, Retrying
from lanxfer.revoking import Revoking
from lanxfer.sockets import socket_of
from lanxfer.stalls import Stalls
from lanxfer.state import StateFolder, default_state
from lanxfer.storage.sources import Entry, walk
from lanxfer.transfers import Conflict, Direction, Kind, Receipt
from lanxfer.trees import OnEntry, OnSent, Outcomes, Packs, Sent, send_tree
from lanxfer.wire import limits
from lanxfer.wire.native import parse_rows
from lanxfer.wire.packets import Args

_log = Logger()


def new_registry() -> Registry:
    """A registry on the machine's own clock."""

    def complain(error: Exception) -> None:
        _log.error("A listener failed: {reason}", event="listener_failed", reason=repr(error))

    return Registry(time.time, new_ids(), complain)


class Client(Folders):
    """One other device, or the service of this one; made by ``connect`` and ``local``.

    ``registry`` holds what this client sends, and tells its subscribers;
    ``request`` is the id an ae controller gave to that.
    """

    def __init__(
        self,
        reactor: Any,
        target: Target | None,
        dial: Callable[[], Coroutine[Any, Any, LanxferProtocol]],
        disk: Disk,
        *,
        dialer: Dialer | None = None,
        registry: Registry | None = None,
        patience: float = PATIENCE,
        request: str = "",
        on_close: Callable[[], object] = lambda: None,
        clear: ClearBodies | None = None,
    ) -> None:
        self.registry = new_registry() if registry is None else registry
        self._reactor = reactor
        self._target = target
        self._dial = dial
        self._dialer = dialer
        self._disk = disk
        self._request = request
        self._on_close = on_close
        self._clear = clear
        self._connection: LanxferProtocol | None = None
        self._dialing = Shared(self._redial)
        self._closed = False
        self._retrying = Retrying(reactor, patience, lambda: self._closed)

    @property
    def peer(self) -> str:
        """The principal on the other end, as far as it is known."""
        connection = self._connection
        if connection is not None and connection.principal is not None:
            return connection.principal.name
        return self._target.name if self._target is not None else "local"

    @property
    def hello(self) -> Args:
        """What the other side said of itself: ``device``, ``speaks``, ``limits``, ``features``."""
        return {} if self._connection is None else self._connection.hello

    # What can be asked of it.

    def send_file(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        conflict: Conflict | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Deferred[Receipt]:
        """Send one file, under its own name or ``name`` (with ``/`` for folders).

        ``on_progress`` is called with bytes sent and bytes in all, at most ten
        times a second and once at the end.
        """
        return public(self._send_file(os.fspath(path), name, conflict, on_progress))

    def send_paths(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        conflict: Conflict | None = None,
        links: bool = False,
        on_entry: OnEntry | None = None,
        on_sent: OnSent | None = None,
    ) -> Deferred[Sent]:
        """Send files and folders with all that is in them.

        Fires with what arrived and what did not; one file that is refused does
        not keep the others back.  ``on_entry`` hears of each as it is decided; where there is
        ``on_sent``, that hears of those below a folder that arrived together and as they were,
        many at a time.
        """
        entries = walk([os.fspath(each) for each in paths], links=links)
        return self.send_entries(entries, conflict=conflict, on_entry=on_entry, on_sent=on_sent)

    def send_entries(
        self,
        entries: Iterable[Entry],
        *,
        conflict: Conflict | None = None,
        on_entry: OnEntry | None = None,
        on_sent: OnSent | None = None,
    ) -> Deferred[Sent]:
        """``send_paths`` for who has chosen the files and their names already.

        An entry that is ``shared`` goes below a shared folder instead of into the inbox.
        """

        async def run() -> Sent:
            packs = None
            if self._target is None or not self._target.legacy:
                # Where there is none yet each file finds out by itself, and has its patience.
                with suppress(LanxferError):
                    await self._connected()
                packs = Packs(
                    self._deliver_pack, self._most_together, self._reactor.seconds, self._folders
                )
            how = packs, self._disk, iter(entries), self._open, conflict, on_entry, on_sent
            return await send_tree(self._deliver, *how)

        return public(run())

    def send_message(self, text: str) -> Deferred[Receipt]:
        """Send a text of at most 64 KiB of UTF-8; fires when the other side has kept it."""
        return public(self._send_message(text))

    def call(
        self,
        name: str,
        args: Args | None = None,
        data: bytes = b"",
        on_event: Callable[[Args], None] | None = None,
    ) -> Deferred[Answer]:
        """Ask anything; an application's own commands, too.  Not repeated after a break."""

        async def run() -> Answer:
            connection = await self._connected()
            return await connection.ask(name, args or {}, data, on_event).answered()

        return public(run())

    def link(self) -> Deferred[Link]:
        """The connection as it is now, for an application's own commands (``lanxfer.links``)."""

        async def run() -> Link:
            return Link(await self._connected())

        return public(run())

    def rows(self, name: str, args: Args | None = None) -> Deferred[list[dict[str, Any]]]:
        """Ask something whose answer is a list (``pending_requests``, ``history``)."""

        async def run() -> list[dict[str, Any]]:
            return parse_rows((await self.call(name, args)).body)

        return public(run())

    def limit(self, **changes: int | None) -> Speeds:
        """Be no faster from now on than ``rate_in`` or ``rate_out``, in bytes a second.

        None takes a limit away; gives what holds then.
        """
        rates = None if self._dialer is None else self._dialer.rates
        return Speeds() if rates is None else rates.change(**changes)

    def close(self, timeout: float = 10.0) -> Deferred[None]:
        """Let what is under way finish, for at most ``timeout`` seconds, and close.

        Closing twice is fine.
        """

        async def run() -> None:
            closed, self._closed = self._closed, True
            connection = self._connection
            try:
                if connection is not None:
                    await connection.leave(timeout)
            finally:
                if not closed:
                    self._on_close()

        return public(run())

    def drop(self) -> None:
        """Break the connection at once; what the other side has of unfinished files stays there."""
        closed, self._closed = self._closed, True
        if self._connection is not None:
            self._connection.abort(Lost())
        if not closed:
            self._on_close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        """Let what is under way finish; after an error, do not."""
        await self.close(*(() if kind is None else (0.0,)))

    # How.

    async def connected(self) -> LanxferProtocol:
        """The connection, made if there is none."""
        return await self._connected()

    def bottleneck(self) -> Bottleneck:
        """What keeps what is sent from being faster, if it is looked at now and again."""
        return Bottleneck(self._reactor.seconds, self._wire)

    def _wire(self) -> socket.socket | None:
        """The socket that bytes go out by; None where a limit of this side's slows them down."""
        connection = self._connection
        if connection is None or connection.deaf or connection.slowest_out is not None:
            return None
        return socket_of(connection.aside or connection.transport)

    async def _connected(self) -> LanxferProtocol:
        connection = self._connection
        if connection is not None and not connection.deaf:
            return connection
        if self._closed:
            raise Lost("This client was closed.")
        return await self._dialing.get()

    async def _redial(self) -> LanxferProtocol:
        self._connection = await self._dial()
        if self._clear is not None:
            self._clear.look(self._connection)
        self._retrying.hopeless = False
        return self._connection

    @property
    def _secure(self) -> bool:
        return self._target is None or not (self._target.plain or self._target.legacy)

    def _open(self, entry: Entry, group: str) -> Transfer:
        return self.registry.open(
            Direction.OUT,
            entry.kind,
            self.peer,
            entry.path,
            entry.size,
            request=self._request,
            group=group,
            secure=self._secure,
        )

    async def _send_file(
        self,
        path: str,
        name: str | None,
        conflict: Conflict | None,
        on_progress: Callable[[int, int], None] | None,
        shared: bool = False,
    ) -> Receipt:
        entry = await self._disk.run(offering.single, path, name)
        loaded = await self._disk.run(offering.load, entry._replace(shared=shared))
        transfer = self._open(loaded.entry, "")
        unsubscribe = self.registry.follow(transfer, on_progress)
        try:
            return await self._deliver(loaded, transfer, conflict)
        finally:
            unsubscribe()

    async def _deliver(
        self, loaded: Loaded, transfer: Transfer, conflict: Conflict | None
    ) -> Receipt:
        """Send one entry, again where that can help, and retire its transfer."""

        entry = loaded.entry
        provable = entry.kind is Kind.FILE and entry.size > 0

        async def attempt(unsure: bool) -> Receipt:
            if self._target is not None and self._target.legacy and self._dialer is not None:
                if transfer.given_up is not None:
                    raise transfer.given_up
                series = conflict is Conflict.SERIES
                return await ae.send_file(self._dialer, self._target, entry, transfer, series)
            connection = await self._connected()
            if transfer.given_up is not None:  # cancelled while that took its time
                if not (unsure and provable):
                    raise transfer.given_up
                return await sending.withdraw(connection, self._disk, loaded, transfer, conflict)
            return await sending.send(
                connection, self._disk, loaded, transfer, conflict, self._clear
            )

        return await self._retrying.persist(attempt, transfer, unsure=loaded.unsure)

    def _most_together(self) -> int:
        """As ``sending.most_together``, of the connection there is, or was."""
        return 0 if self._connection is None else sending.most_together(self._connection)

    def _folders(self) -> bool:
        return self._connection is not None and self._connection.peer_has("folders")

    async def _deliver_pack(
        self, pack: Sequence[Loaded], conflict: Conflict | None, group: str
    ) -> Outcomes:
        """Send files together.

        Where nobody knows what became of them they are ``unsure`` from then on.
        """
        started = self.registry.clock()
        try:
            connection = await self._connected()
            most = sending.most_together(connection)
            if not most or sum(loaded.size for loaded in pack) > most:
                return dict.fromkeys(range(len(pack)))  # it is another one, or slower by now
            odd = await sending.send_pack(connection, pack, conflict, group, self._disk.units)
        except Cancelled as cancelled:
            odd = dict.fromkeys(range(len(pack)), cancelled)
        except LanxferError as error:
            for loaded in pack:
                loaded.unsure = loaded.unsure or isinstance(error, UNKNOWN)
            return dict.fromkeys(range(len(pack)))
        outcomes = {at: None if goes_again(end) else end for at, end in odd.items()}
        over = [at for at in range(len(pack)) if outcomes.get(at, True) is not None]
        self.registry.passed(
            Direction.OUT,
            self.peer,
            [pack[at].entry for at in over],
            [odd.get(at) or as_sent(pack[at]) for at in over],
            [number for number, at in enumerate(over) if at in odd or pack[at].folder],
            started=started,
            request=self._request,
            group=group,
            secure=self._secure,
        )
        return outcomes

    async def _send_message(self, text: str) -> Receipt:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > limits.MESSAGE_MAX:
            raise TooLarge(f"A message has at most {limits.MESSAGE_MAX} bytes; send it as a file.")
        transfer = self._open(Entry(Kind.MESSAGE, text[:200], "", size, None), "")

        async def attempt(unsure: bool) -> Receipt:
            if self._target is not None and self._target.legacy and self._dialer is not None:
                return await ae.send_message(self._dialer, self._target, text, transfer)
            return await sending.send_message(await self._connected(), text, transfer)

        # Not repeated after a break: a message has no digest, and nobody wants it twice.
        return await self._retrying.persist(attempt, transfer, once=True)


def connect(
    reactor: Any,
    peer: str,
    *,
    state: str | None = None,
    plain: bool = False,
    legacy: bool = False,
    device: str | None = None,
    registry: Registry | None = None,
    patience: float = PATIENCE,
    token_file: str | None = None,
    target: Target | None = None,
    login: tuple[str, str] | None = None,
    rate_in: int | None = None,
    rate_out: int | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    progress_timeout: float | None = None,
    through: Through | None = None,
    clear_body: bool = False,
    on_clear: Callable[[str], object] = lambda sentence: None,
) -> Deferred[Client]:
    """Connect to a device: a name or key prefix known here, or HOST[:PORT].

    Fires when the other side has answered; fails with Unreachable, NotPaired,
    KeyChanged, NotFound or BadState.  ``state`` is the folder with this device's
    key and its known peers (default: ``LANXFER_STATE``, or the user's own).
    ``plain`` speaks without TLS to a service started with ``--plain-from``,
    ``legacy`` to an ae device, which is first met when something is sent.
    ``token_file`` holds the secret that a device not known yet is paired by;
    ``target`` is where ``pair`` found one, instead of what ``peer`` says.
    ``login`` is the name of a user there with the password: what is sent is sent
    as that user, or the call fails with AuthFailed, RateLimited or Forbidden.
    ``rate_in`` and ``rate_out`` are in bytes a second; see ``Client.limit``.
    ``connect_timeout`` is in seconds, for each address; a transfer that has not moved
    for ``progress_timeout`` of them fails with TimedOut, and nothing else suffers.
    ``through`` makes the endpoint for a host and a port, such as that of a proxy.
    With ``clear_body`` the bytes of large files go where everyone on the wire can read
    them, if the other side takes that (docs/security.rst); ``on_clear`` is given sentences about
    whether they do, for whoever wants to know.
    """

    async def run() -> Client:
        if login is not None and (plain or legacy):
            raise TlsRequired("A password is only said inside TLS.")
        folder = StateFolder(state or default_state())
        peers = Peers(folder)
        there = target or find_target(
            peers, peer, plain=plain, legacy=legacy, finds=through is None
        )
        if clear_body and (there.plain or there.legacy):
            raise BadConfig("In plain text everything goes in clear, and nothing guards it.")
        token = None if token_file is None else load_token(token_file)
        identity = load_identity(folder)
        disk = Disk(reactor)
        disk.start()
        dialer = Dialer(
            reactor,
            disk,
            peers,
            identity,
            device or socket.gethostname(),
            login=None if login is None else Login(*login),
            rates=Rates(reactor, Speeds(rate_in, rate_out)),
            connect_timeout=connect_timeout,
            through=through,
            find=finder(reactor, folder) if through is None else None,
        )
        revoking = Revoking(reactor, peers, lambda: list(dialer.live))
        clear = None
        if clear_body:
            clear = ClearBodies(reactor, there.name, on_clear, possible=through is None)

        def close() -> None:
            revoking.stop()
            disk.stop()
            if stalls is not None:
                stalls.stop()

        client = Client(
            reactor,
            there,
            lambda: dial(dialer, there, token),
            disk,
            dialer=dialer,
            registry=registry,
            patience=patience,
            on_close=close,
            clear=clear,
        )
        stalls = None
        if progress_timeout is not None:
            stalls = Stalls(reactor, client.registry, progress_timeout)
        try:
            if not there.legacy:
                await client.connected()
        except BaseException:
            if stalls is not None:
                stalls.stop()
            disk.stop()
            raise
        revoking.start()
        return client

    return public(run())


def pair(
    reactor: Any,
    peer: str,
    words: str | Secret,
    *,
    state: str | None = None,
    name: str | None = None,
    once: bool = False,
    device: str | None = None,
) -> Deferred[Introduced]:
    """Get to know the device at ``peer`` by the words it shows, or by a token.

    Fires when both sides keep the other's key on their disk, under ``name`` or
    what the other device calls itself.  ``once`` takes words that are good for
    one connection, too, which ``connect(..., target=found.target)`` makes.  Fails
    with AuthFailed, NotPaired, KeyChanged or Unreachable; BadConfig for words that
    cannot be a code.
    """

    async def run() -> Introduced:
        folder = StateFolder(state or default_state())
        peers = Peers(folder)
        secret = words if isinstance(words, Secret) else code_secret(parse_code(words))
        target = find_target(peers, peer)
        identity = load_identity(folder)
        disk = Disk(reactor)
        disk.start()
        dialer = Dialer(reactor, disk, peers, identity, device or socket.gethostname())
        try:
            return await introduce(dialer, target, secret, name, once)
        finally:
            disk.stop()

    return public(run())


def local(reactor: Any, *, state: str | None = None) -> Deferred[Client]:
    """Connect to the service of this user on this machine, through its control socket.

    Fails with Unreachable where none runs with that state folder.
    """

    async def run() -> Client:
        folder = StateFolder(state or default_state())
        disk = Disk(reactor)
        disk.start()
        client = Client(
            reactor,
            None,
            lambda: dial_local(reactor, disk, folder.socket_path, "lanxfer"),
            disk,
            on_close=disk.stop,
        )
        try:
            await client.connected()
        except BaseException:
            disk.stop()
            raise
        return client

    return public(run())


def child(
    reactor: Any,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    device: str | None = None,
) -> Deferred[Client]:
    """Start a program and ask the service it speaks for: ``["ssh", "nas", "lanxfer", "serve",
    "--stdio"]``.

    This side is its owner there, as on the control socket.  ``env`` None is this process's
    own.  Fails with Lost where the program ends at once; what it says about that is in the log.
    """

    async def run() -> Client:
        disk = Disk(reactor)
        disk.start()
        name = device or socket.gethostname()
        client = Client(
            reactor,
            None,
            lambda: dial_child(reactor, disk, argv, env, name),
            disk,
            on_close=disk.stop,
        )
        try:
            await client.connected()
        except BaseException:
            disk.stop()
            raise
        return client

    return public(run())


def send_file(
    reactor: Any, path: str | os.PathLike[str], peer: str, **options: Any
) -> Deferred[Receipt]:
    """Connect, send one file, close; ``options`` as for ``connect``."""

    async def run() -> Receipt:
        client = await connect(reactor, peer, **options)
        try:
            return await client.send_file(path)
        finally:
            await client.close()

    return public(run())


def send_message(reactor: Any, text: str, peer: str, **options: Any) -> Deferred[Receipt]:
    """Connect, send one text, close; ``options`` as for ``connect``."""

    async def run() -> Receipt:
        client = await connect(reactor, peer, **options)
        try:
            return await client.send_message(text)
        finally:
            await client.close()

    return public(run())
