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
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from lanxfer import ae, sending
from lanxfer.calls import Answer
from lanxfer.connecting import Dialer, Login, Target, dial_local, find_target
from lanxfer.disk import Disk
from lanxfer.errors import (
    Busy,
    Cancelled,
    DigestMismatch,
    LanxferError,
    Lost,
    Overloaded,
    RateLimited,
    ShortBody,
    SourceChanged,
    Stopping,
    TimedOut,
    TlsRequired,
    TooLarge,
    Unreachable,
)
from lanxfer.identity import load_identity
from lanxfer.peers import Peers
from lanxfer.protocol import LanxferProtocol
from lanxfer.registry import Registry, Transfer
from lanxfer.sending import Loaded
from lanxfer.state import StateFolder, default_state
from lanxfer.storage.sources import Entry, walk
from lanxfer.transfers import Conflict, Direction, Kind, Receipt, Snapshot, State
from lanxfer.trees import Sent, send_tree
from lanxfer.wire import limits
from lanxfer.wire.native import parse_rows
from lanxfer.wire.packets import Args

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds without any progress after which a broken connection is given up."""

_AGAIN = (Lost, TimedOut, ShortBody, Stopping, Busy, Overloaded, RateLimited, Unreachable)
_AGAIN_ONCE = (SourceChanged, DigestMismatch)

_log = Logger()


def public(work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """A coroutine as a Deferred whose cancellation shows as ``Cancelled``."""

    async def run() -> T:
        try:
            return await work
        except CancelledError:
            raise Cancelled() from None

    return Deferred.fromCoroutine(run())


def new_registry() -> Registry:
    """A registry on the machine's own clock."""

    def complain(error: Exception) -> None:
        _log.error("A listener failed: {error!r}", error=error)

    return Registry(time.time, lambda: secrets.token_hex(4), complain)


class Client:
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
    ) -> None:
        self.registry = new_registry() if registry is None else registry
        self._reactor = reactor
        self._target = target
        self._dial = dial
        self._dialer = dialer
        self._disk = disk
        self._patience = patience
        self._request = request
        self._on_close = on_close
        self._connection: LanxferProtocol | None = None
        self._dialing: list[Deferred[LanxferProtocol]] | None = None
        self._closed = False
        self._hopeless = False

    @property
    def peer(self) -> str:
        """The principal on the other end, as far as it is known."""
        connection = self._connection
        if connection is not None and connection.principal is not None:
            return connection.principal.name
        return self._target.name if self._target is not None else "local"

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
        on_entry: Callable[[Entry, Receipt | LanxferError], None] | None = None,
    ) -> Deferred[Sent]:
        """Send files and folders with all that is in them.

        Fires with what arrived and what did not; one file that is refused does
        not keep the others back.  ``on_entry`` hears of each as it is decided.
        """
        entries = walk([os.fspath(each) for each in paths], links=links)
        return public(send_tree(self._deliver, self._disk, entries, self._open, conflict, on_entry))

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

    def rows(self, name: str, args: Args | None = None) -> Deferred[list[dict[str, Any]]]:
        """Ask something whose answer is a list (``pending_requests``, ``history``)."""

        async def run() -> list[dict[str, Any]]:
            return parse_rows((await self.call(name, args)).body)

        return public(run())

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

    # How.

    async def connected(self) -> LanxferProtocol:
        """The connection, made if there is none."""
        return await self._connected()

    async def _connected(self) -> LanxferProtocol:
        connection = self._connection
        if connection is not None and not connection.deaf:
            return connection
        if self._closed:
            raise Lost("This client was closed.")
        if self._dialing is not None:
            waiting: Deferred[LanxferProtocol] = Deferred()
            self._dialing.append(waiting)
            return await waiting
        self._dialing = []
        try:
            connection = self._connection = await self._dial()
        except BaseException as error:
            waiters, self._dialing = self._dialing, None
            cause = error if isinstance(error, LanxferError) else Lost()
            for each in waiters:
                if not each.called:
                    each.errback(cause)
            raise
        self._hopeless = False
        waiters, self._dialing = self._dialing, None
        for each in waiters:
            if not each.called:
                each.callback(connection)
        return connection

    def _open(self, entry: Entry, group: str) -> Transfer:
        secure = self._target is None or not (self._target.plain or self._target.legacy)
        return self.registry.open(
            Direction.OUT,
            entry.kind,
            self.peer,
            entry.path,
            entry.size,
            request=self._request,
            group=group,
            secure=secure,
        )

    async def _send_file(
        self,
        path: str,
        name: str | None,
        conflict: Conflict | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> Receipt:
        entry = await self._disk.run(sending.single, path, name)
        loaded = await self._disk.run(sending.load, entry)
        transfer = self._open(loaded.entry, "")
        unsubscribe = _follow(self.registry, transfer, on_progress)
        try:
            return await self._deliver(loaded, transfer, conflict)
        finally:
            unsubscribe()

    async def _deliver(
        self, loaded: Loaded, transfer: Transfer, conflict: Conflict | None
    ) -> Receipt:
        """Send one entry, again where that can help, and retire its transfer."""

        async def attempt() -> Receipt:
            if self._target is not None and self._target.legacy and self._dialer is not None:
                series = conflict is Conflict.SERIES
                return await ae.send_file(
                    self._dialer, self._target, loaded.entry, transfer, series
                )
            connection = await self._connected()
            if transfer.state.finished:  # cancelled by its id while that took its time
                raise Cancelled()
            return await sending.send(connection, self._disk, loaded, transfer, conflict)

        return await self._persist(attempt, transfer)

    async def _send_message(self, text: str) -> Receipt:
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > limits.MESSAGE_MAX:
            raise TooLarge(f"A message has at most {limits.MESSAGE_MAX} bytes; send it as a file.")
        transfer = self._open(Entry(Kind.MESSAGE, text[:200], "", size, None), "")

        async def attempt() -> Receipt:
            if self._target is not None and self._target.legacy and self._dialer is not None:
                return await ae.send_message(self._dialer, self._target, text, transfer)
            return await sending.send_message(await self._connected(), text, transfer)

        # Not repeated after a break: a message has no digest, and nobody wants it twice.
        return await self._persist(attempt, transfer, once=True)

    async def _persist(
        self,
        attempt: Callable[[], Coroutine[Any, Any, Receipt]],
        transfer: Transfer,
        once: bool = False,
    ) -> Receipt:
        delay, tries, done = 0.25, 0, 0
        since = self._reactor.seconds()
        while True:
            try:
                receipt = await attempt()
            except CancelledError:
                transfer.retire(State.CANCELLED, error=Cancelled())
                raise
            except LanxferError as error:
                tries += 1
                if transfer.snapshot.done > done:
                    done, delay, since = transfer.snapshot.done, 0.25, self._reactor.seconds()
                waited = self._reactor.seconds() - since
                patient = isinstance(error, _AGAIN) and waited + delay < self._patience
                if isinstance(error, (Lost, Unreachable)):
                    # What one file of many has waited for in vain, the others need not.
                    self._hopeless = self._hopeless or not patient
                    patient = patient and not self._hopeless
                patient = patient or (isinstance(error, _AGAIN_ONCE) and tries < 3)
                if once or self._closed or not patient:
                    transfer.retire(_outcome(error), error=error)
                    raise
            except BaseException:
                transfer.retire(State.FAILED, error=LanxferError())
                raise
            else:
                transfer.retire(State.DONE, stored=sending.as_stored(receipt))
                return receipt
            await self._pause(delay, transfer)
            delay = min(delay * 2, 8.0)

    async def _pause(self, delay: float, transfer: Transfer) -> None:
        """Wait before the next try; a cancel ends the waiting."""
        transfer.again()
        waiting: Deferred[None] = deferLater(self._reactor, delay, lambda: None)
        given_up: list[LanxferError] = []

        def cancel(error: LanxferError) -> None:
            given_up.append(error)
            waiting.cancel()

        transfer.on_cancel = cancel
        try:
            await waiting
        except CancelledError:
            error = given_up[0] if given_up else Cancelled()
            transfer.retire(State.CANCELLED, error=error)
            raise error from None


def _outcome(error: LanxferError) -> State:
    if isinstance(error, Cancelled):
        return State.CANCELLED
    return State.INTERRUPTED if error.retry else State.FAILED


def _follow(
    registry: Registry, transfer: Transfer, told: Callable[[int, int], None] | None
) -> Callable[[], None]:
    if told is None:
        return lambda: None

    def listen(snapshot: Snapshot) -> None:
        if snapshot.id == transfer.id:
            told(snapshot.done, snapshot.size)

    return registry.subscribe(listen)


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
    login: tuple[str, str] | None = None,
) -> Deferred[Client]:
    """Connect to a device: a name or key prefix known here, or HOST[:PORT].

    Fires when the other side has answered; fails with Unreachable, NotPaired,
    KeyChanged, NotFound or BadState.  ``state`` is the folder with this device's
    key and its known peers (default: ``LANXFER_STATE``, or the user's own).
    ``plain`` speaks without TLS to a service started with ``--plain-from``,
    ``legacy`` to an ae device, which is first met when something is sent.
    ``login`` is the name of a user there with the password: what is sent is sent
    as that user, or the call fails with AuthFailed, RateLimited or Forbidden.
    """

    async def run() -> Client:
        if login is not None and (plain or legacy):
            raise TlsRequired("A password is only said inside TLS.")
        folder = StateFolder(state or default_state())
        peers = Peers(folder)
        target = find_target(peers, peer, plain=plain, legacy=legacy)
        disk = Disk(reactor)
        disk.start()
        dialer = Dialer(
            reactor,
            disk,
            peers,
            load_identity(folder),
            device or socket.gethostname(),
            login=None if login is None else Login(*login),
        )
        client = Client(
            reactor,
            target,
            lambda: dialer.dial(target),
            disk,
            dialer=dialer,
            registry=registry,
            patience=patience,
            on_close=disk.stop,
        )
        try:
            if not target.legacy:
                await client.connected()
        except BaseException:
            disk.stop()
            raise
        return client

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
