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
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred

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
from lanxfer.deferreds import public
from lanxfer.delivery import Dialing
from lanxfer.discovery.finding import finder
from lanxfer.disk import Disk
from lanxfer.errors import (
    BadConfig,
    LanxferError,
    Lost,
    TlsRequired,
)
from lanxfer.folders import Folders
from lanxfer.identity import load_identity
from lanxfer.introducing import Introduced, dial, introduce
from lanxfer.links import Link
from lanxfer.peers import Peers
from lanxfer.rates import Rates, Speeds
from lanxfer.registry import Registry
from lanxfer.retrying import PATIENCE
from lanxfer.revoking import Revoking
from lanxfer.sockets import socket_of
from lanxfer.stalls import Stalls
from lanxfer.state import StateFolder, default_state
from lanxfer.storage.sources import Entry, walk
from lanxfer.transfers import Conflict, Receipt
from lanxfer.trees import OnEntry, OnSent, Packs, Sent, send_tree
from lanxfer.wire.native import parse_rows
from lanxfer.wire.packets import Args


class Client(Folders):
    """One other device, or the service of this one; made by ``connect`` and ``local``.

    ``registry`` holds what this client sends, and tells its subscribers.
    """

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
            if not self._legacy:
                # Where there is none yet each file finds out by itself, and has its patience.
                with suppress(LanxferError):
                    await self.connected()
                packs = Packs(
                    self._deliver_pack,
                    self._most_together,
                    self._reactor.seconds,
                    self._takes_folders,
                )
            how = packs, self._disk, iter(entries), self._open, conflict, on_entry, on_sent
            return await send_tree(self._deliver, *how)

        return public(run())

    def send_message(self, text: str) -> Deferred[Receipt]:
        """Send a text of at most 64 KiB of UTF-8; fires when the other side has kept it."""
        return public(self._send_message(text))

    def link(self) -> Deferred[Link]:
        """The connection as it is now, for an application's own commands (``lanxfer.links``)."""

        async def run() -> Link:
            return Link(await self.connected())

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

    def bottleneck(self) -> Bottleneck:
        """What keeps what is sent from being faster, if it is looked at now and again."""
        return Bottleneck(self._reactor.seconds, self._wire)

    def _wire(self) -> socket.socket | None:
        """The socket that bytes go out by; None where a limit of this side's slows them down."""
        connection = self._connection
        if connection is None or connection.deaf or connection.slowest_out is not None:
            return None
        return socket_of(connection.aside or connection.transport)


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

    def dial(disk: Disk) -> Dialing:
        folder = StateFolder(state or default_state())
        return dial_local(reactor, disk, folder.socket_path, "lanxfer")

    return public(_owning(reactor, dial))


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

    def dial(disk: Disk) -> Dialing:
        return dial_child(reactor, disk, argv, env, device or socket.gethostname())

    return public(_owning(reactor, dial))


async def _owning(reactor: Any, dial: Callable[[Disk], Dialing]) -> Client:
    """A client of a service of which this side is the owner."""
    disk = Disk(reactor)
    disk.start()
    client = Client(reactor, None, lambda: dial(disk), disk, on_close=disk.stop)
    try:
        await client.connected()
    except BaseException:
        disk.stop()
        raise
    return client


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
