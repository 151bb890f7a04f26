"""The service: everything together, under any Twisted application.

::

    service = TransferService(reactor, Settings(inbox="in"), on_message=show)
    service.setServiceParent(application)

It may be stopped and started again; each start opens the state folder and the
inbox anew.
"""

from __future__ import annotations

import os
import time
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.admission import Admission, Legacy, networks, own_networks
from lanxfer.awaiting import when
from lanxfer.changing import Changing, follow_all, keep_apart, opened_by, reserve_of, taking_of
from lanxfer.client import Client
from lanxfer.codes import load_token
from lanxfer.commands.declared import table_of
from lanxfer.commands.dispatch import builtin
from lanxfer.commands.polled import Polled
from lanxfer.commands.table import Tables
from lanxfer.connecting import Dialer, find_target
from lanxfer.cred import Logins
from lanxfer.deferreds import public
from lanxfer.descriptors import raise_limit
from lanxfer.discovery.announcing import Announcing
from lanxfer.disk import Disk
from lanxfer.errors import BadConfig, BadHeader, Forbidden, Stopping
from lanxfer.factory import LanxferFactory, for_owner
from lanxfer.hooks.events import FINISHED, RECEIVED, Event, parse_hooks
from lanxfer.hooks.hooks import Callback, Hooks
from lanxfer.identity import load_identity
from lanxfer.introducing import dial
from lanxfer.journal import Journal
from lanxfer.metrics.door import Metrics
from lanxfer.node import Incoming, Message, OnMessage, OnOffer, ServiceNode, Slot
from lanxfer.offers import Prompt
from lanxfer.outgoing import Outgoing
from lanxfer.pairing import Pairing, Window
from lanxfer.peers import Peers
from lanxfer.pipes import over_descriptors
from lanxfer.policy import Principal
from lanxfer.rates import Speeds
from lanxfer.registry import Listener, ListenerToMany, Registry, new_ids
from lanxfer.retrying import PATIENCE
from lanxfer.revoking import Revoking
from lanxfer.rights.file import RightsFile
from lanxfer.running import Running, warnings_of
from lanxfer.sandbox import confine, writable
from lanxfer.settings import Settings, default_inbox
from lanxfer.sharing import Shared, close_shares, open_shares
from lanxfer.state import StateFolder
from lanxfer.storage import Store
from lanxfer.storage.local import LocalStore
from lanxfer.storage.names import shown
from lanxfer.storage.shares import parse_share
from lanxfer.storage.volumes import SharedFolder
from lanxfer.tidying import Tidying
from lanxfer.tls import server_options
from lanxfer.transfers import Conflict, Snapshot, State
from lanxfer.version import VERSION
from lanxfer.wire import limits

__all__ = [
    "Event",
    "Incoming",
    "Message",
    "Prompt",
    "Settings",
    "Slot",
    "TransferService",
    "default_inbox",
]


OnReload = Callable[["TransferService"], Deferred[Mapping[str, Sequence[str]]]]


class TransferService(Service):
    """Receives files and messages, sends them on request, and answers for both.

    ``on_offer`` is called with an ``Incoming`` before anything is taken; it may
    return a Deferred; False, or a LanxferError it raises, refuses.  ``on_message``
    is called with a ``Message``, which is answered when what it returns has
    fired.  Where ``on_offer`` returns None, or is None, the file of rights
    decides; what it lets wait for a yes is told to ``on_prompt`` as a ``Prompt``
    and decided by ``answer``.  ``on_received`` is called with an ``Event`` for each file,
    folder and link that is on the disk, ``on_finished`` for every transfer that is over;
    nothing that comes of it changes a transfer (docs/hooks.rst).
    ``commands`` is an object with methods that are marked as commands, or a table of them;
    more may be added to ``commands`` of the service while it runs.
    ``on_reload`` is called with the service when its owner wants settings to be read again
    (``lanxfer config reload``): it calls ``change``, and gives what ``reload`` fires with.
    ``on_login`` is told of every user that logs in, ``on_logout`` when that connection is
    over, however it ended.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings | None = None,
        *,
        on_offer: OnOffer | None = None,
        on_message: OnMessage | None = None,
        on_received: Callback | None = None,
        on_finished: Callback | None = None,
        on_prompt: Callable[[Prompt], object] = lambda prompt: None,
        commands: Any = None,
        on_login: Callable[[Principal], object] = lambda principal: None,
        on_logout: Callable[[Principal], object] = lambda principal: None,
        on_reload: OnReload | None = None,
    ) -> None:
        self.reactor = reactor
        self.settings = settings or Settings()
        self._on_offer = on_offer
        self._on_message = on_message
        calls = {RECEIVED: on_received, FINISHED: on_finished}
        self._callbacks = {name: each for name, each in calls.items() if each is not None}
        self._on_prompt = on_prompt
        self.commands = table_of(commands)
        self._on_login = on_login
        self._on_logout = on_logout
        self._on_reload = on_reload
        self._one_change = DeferredLock()
        self._now: Running | None = None
        self._waiting: list[Deferred[list[str]]] = []
        self._listening: list[str] | None = None
        self._failed: Failure | None = None
        self._subscribers: list[Callable[[Registry], object]] = []
        self._shares: dict[str, Shared] = {}

    # Starting.

    def startService(self) -> None:
        """Open state and inbox and listen.

        Raises BadState (also where a port is taken), BadConfig or WeakStorage;
        everything is closed again then.  An endpoint that takes its time shows
        in ``when_listening``.
        """
        self._failed = self._listening = None
        running = self._open()
        self._now = running
        follow_all(running, self.settings)
        self._hear_hooks()
        super().startService()
        opening = public(running.listen(self.settings))
        opening.addCallbacks(self._opened, self._unopened)
        if self._failed is not None:
            self.stopService()
            raise self._failed.value

    def _open(self) -> Running:
        settings = self.settings
        keep_apart(settings)
        folder = StateFolder(settings.state)
        folder.lock()
        undo: list[Callable[[], object]] = [folder.unlock]
        before = limits.change(limits.parse(settings.limits))
        undo.append(lambda: limits.change(before))
        try:
            identity = load_identity(folder)
            peers = Peers(folder)
            token = None if settings.token_file is None else load_token(settings.token_file)
            rights = RightsFile(folder)
            rights.book()  # what makes no sense in it is said now, not to a sender
            journal = Journal(folder.file("history.db"))
            undo.append(journal.close)
            store = LocalStore(
                settings.inbox,
                receipts=journal,
                reserve_bytes=settings.reserve_bytes,
                reserve_share=settings.reserve_share,
                dotfiles=True,
                weak=settings.weak_storage,
            )
            undo.append(store.close)
            shares = open_shares(
                settings.shares,
                settings.inbox,
                settings.state,
                store,
                reserve_of(settings),
                settings.dotfiles,
            )
            undo.append(lambda: close_shares(shares, store))
            if twice := shares.keys() & self._shares.keys():
                raise BadConfig(f"There are two shares of the name {min(twice)!r}.")
            disk, reading = Disk(self.reactor), Disk(self.reactor)
            workers = Disk(self.reactor, settings.workers)
            pairing = Pairing(
                identity.key, settings.device, peers, self.reactor, reading.run, token
            )
            admission = self._admission(peers, pairing, settings)
            used = journal.usage()
            hooks = Hooks(
                self.reactor,
                parse_hooks(settings.hook),
                self._callbacks,
                partial(_label, peers),
                lambda snapshot: _path(self.settings, snapshot),
            )
            undo.append(hooks.stop)
            # Before the first thread, and when both folders exist.
            hooks.start()
            unconfined = self._confine()
            store.tidy(limits.PART_LIFETIME)
            journal.prune()
        except BaseException:
            for each in reversed(undo):
                each()
            raise
        disk.start()
        reading.start()
        workers.start()
        registry = Registry(time.time, new_ids(), self._complain)
        for subscribe in self._subscribers:
            subscribe(registry)
        polled = Polled(time.time)
        outgoing = Outgoing(self.reactor, reading, journal, self._client, self.log, registry.new_id)
        node = ServiceNode(
            device=settings.device,
            registry=registry,
            store=store,
            journal=journal,
            disk=disk,
            clock=self.reactor,
            taking=taking_of(settings),
            polled=polled,
            sender=outgoing.send,
            about=self.status,
            handed=outgoing.send_paths,
            reloading=self.reload,
            on_offer=self._on_offer,
            on_message=self._on_message,
            pairs=pairing,
            on_prompt=self._prompted,
            rights=rights,
            used=used,
            speeds=settings.speeds,
            shares=ChainMap(cast(dict[str, Shared], shares), self._shares),
            workers=workers,
        )
        table = Tables(dict(builtin()), self.commands)  # looked up when asked: more may be added
        factory = LanxferFactory(
            node,
            disk,
            table,
            admission,
            server_options(identity),
            self.reactor,
            settings.buf_len,
            raise_limit(),
            settings.checkers,
            settings.accept_clear_body,
        )
        factory.on_login = partial(self._heard, self._on_login)
        factory.on_logout = partial(self._heard, self._on_logout)
        node.logins = Logins(factory.portal, self.reactor, bool(settings.checkers))
        announcing = Announcing(
            self.reactor,
            folder,
            peers,
            identity.key,
            lambda: [] if self._now is None else self._now.hosts(),
            lambda: pairing.showing,
        )
        dialer = Dialer(
            self.reactor,
            reading,
            peers,
            identity,
            settings.device,
            node,
            table,
            rates=node.rates,
            find=announcing.find,
        )
        page = None
        try:
            if settings.web:
                page = _open_page()(settings, node, folder, table, factory.portal)
                table.maps.insert(1, page.commands())
            metrics = Metrics(settings, node, factory, dialer, outgoing)
            table.maps.insert(1, metrics.commands())
        except BaseException:
            for pool in (disk, reading, workers):
                pool.stop()
            for each in reversed(undo):
                each()
            raise
        revoking = Revoking(self.reactor, peers, lambda: [*factory.connections, *dialer.live])
        return Running(
            self.reactor,
            folder,
            store,
            journal,
            disk,
            reading,
            node,
            factory,
            dialer,
            outgoing,
            registry,
            identity.key,
            unconfined,
            Tidying(self.reactor, disk, store, journal, self.log, also=_tidied(node, shares)),
            pairing,
            revoking,
            announcing,
            hooks,
            token,
            before,
            shares,
            opened_by(settings.shares, shares),
            metrics,
            page,
        )

    def _confine(self) -> str:
        """Why the process may write elsewhere, too; "" if it may not."""
        settings = self.settings
        if not settings.sandbox:
            return "it was not asked for"
        named = filter(None, map(parse_share, settings.shares))
        shared = [each.folder for each in named if each.writable and not each.remote]
        folders = [settings.inbox, settings.state, *shared, *settings.also_writable]
        return confine(writable(folders, settings.also_removable))

    def _admission(self, peers: Peers, pairing: Pairing, settings: Settings) -> Admission:
        legacy_from = networks(settings.legacy_from)
        if settings.legacy is not Legacy.OFF and not legacy_from:
            legacy_from = own_networks()
        return Admission(
            peers,
            open=settings.open,
            plain_from=networks(settings.plain_from),
            legacy=settings.legacy,
            legacy_from=legacy_from,
            tickets_plain=settings.tickets_plain,
            pairing=pairing,
            users=bool(settings.checkers),
        )

    def _opened(self, addresses: list[str]) -> None:
        self._listening = addresses
        self.log.info(
            "lanxfer listens on {addresses}", event="listening", addresses=", ".join(addresses)
        )
        for line in self.warnings():
            self.log.warn("{reason}", event="warning", reason=line)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(addresses)

    def _unopened(self, why: Failure) -> None:
        self._failed = why
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(why)

    def when_listening(self) -> Deferred[list[str]]:
        """Fires with the addresses; fails with what kept the service from listening."""
        told: Deferred[list[str]] = Deferred()
        if self._listening is not None:
            told.callback(self._listening)
        elif self._failed is not None:
            told.errback(self._failed)
        else:
            self._waiting.append(told)
        return told

    def warnings(self) -> list[str]:
        """What the owner should know about how this service was started."""
        return warnings_of(self.settings, self._now)

    # Stopping.

    def stopService(self) -> Deferred[None]:
        """Stop listening, let transfers finish for ``drain`` seconds, then give them up.

        Fires when all is closed; unfinished files are kept for a resume.
        """
        super().stopService()
        running, self._now = self._now, None
        self._listening = None
        return succeed(None) if running is None else public(running.stop(self.settings.drain))

    # What applications ask of it.

    def when(self, id: str, *states: State) -> Deferred[Snapshot]:
        """Fire when a transfer is in one of these states; see ``lanxfer.awaiting.when``."""
        return when(self.registry, id, *states)

    def share(self, name: str, folder: Shared) -> None:
        """Share a folder of any kind under ``name``, which is its own, too; also while running.

        ``folder`` may be a function that is given the ``Principal`` and gives the folder that is
        theirs, or raises NotFound or Forbidden; it is asked for every request, and must not
        block.  Who made a folder closes it after the service has stopped.  docs/stores.rst.
        """
        known = set(self._shares) | set(self._now.shares if self._now is not None else ())
        if name.casefold() in {each.casefold() for each in known}:
            raise BadConfig(f"There are two shares of the name {name!r}.")
        self._shares[name] = folder

    @property
    def registry(self) -> Registry:
        """The transfers of the running service."""
        return self._running().registry

    @property
    def key(self) -> str:
        """This device's own key id, as ``lanxfer key show`` prints it."""
        return self._running().key

    def subscribe(self, listener: Listener) -> None:
        """Hear of every change of every transfer, over restarts too."""
        self._follow(lambda registry: registry.subscribe(listener))

    def subscribe_many(self, listener: ListenerToMany) -> None:
        """As ``subscribe``, for whoever is quicker with what happened at the same moment."""
        self._follow(lambda registry: registry.subscribe_many(listener))

    def _follow(self, subscribe: Callable[[Registry], object]) -> None:
        self._subscribers.append(subscribe)
        if self._now is not None:
            subscribe(self._now.registry)

    def offer_slot(
        self,
        path: str | None = None,
        size: int | None = None,
        expires: float = limits.TICKET_LIFETIME,
        *,
        most: int | None = None,
        not_before: float = 0.0,
        peer: str | None = None,
        keep: bool = False,
        owner: str = "",
        conflict: Conflict | None = None,
    ) -> Slot:
        """Two unguessable ids that open one upload to ``path`` below the inbox, once.

        Without a path the file gets a name of its own.  ``size`` in bytes where it is
        known, or ``most`` of them; good for ``expires`` seconds, and not in the first
        ``not_before``; only from ``peer``, an address or a network.  With ``keep`` an
        upload that broke off may be gone on with by the same ids; else nothing is left
        of it.  ``owner`` is a principal's name: the upload is then one of its transfers,
        to be seen and cancelled by it.  BadName for a path that cannot be, BadConfig for
        a ``peer`` that is none.
        """
        return self._running().node.offer_slot(
            path,
            size,
            expires,
            most=most,
            not_before=not_before,
            peer=peer,
            keep=keep,
            owner=owner,
            conflict=conflict,
        )

    def web_link(self, label: str = "browser", guest: bool = False) -> dict[str, Any]:
        """A new link to the page, good once: ``links``, one for each of its addresses.

        For the owner, or for a ``guest`` (docs/web.rst).  BadConfig where there is no page.
        """
        page = self._running().page
        if page is None:
            raise BadConfig("There is no page; start the service with --web.")
        found: dict[str, Any] = page.link(label, guest)
        return found

    def open_pairing(self, once: bool = False, name: str | None = None) -> Window:
        """Let one unknown device in that is told ``Window.code``, within two minutes.

        See ``lanxfer.pairing.Window`` for how it ends; BadConfig for a ``name`` that
        is taken.
        """
        return self._running().pairing.open(once, name)

    def prompts(self) -> list[Prompt]:
        """What waits for a yes just now and may be shown, oldest first."""
        return self._running().node.offers.prompts()

    def answer(self, id: str, yes: bool, reason: str = "") -> list[str]:
        """Say yes or no to an offer that waits; ``reason`` is for its sender.

        Gives the ids of all that was decided with it: a yes to a folder is for
        all that is sent in it.  Raises NotFound for what does not wait, Expired
        for what waited too long.
        """
        return self._running().node.answer(id, yes, reason)

    def send(self, args: Mapping[str, Any]) -> Deferred[Mapping[str, Any]]:
        """Send as the ``send_file`` and ``send_message`` commands do (docs/protocol.rst)."""
        running = self._running()
        return public(running.outgoing.run(args))

    def serve_descriptors(self, stdin: int = 0, stdout: int = 1) -> Deferred[None]:
        """Answer at two descriptors, whose other end is then this service's owner.

        Fires when that has ended; the descriptors stay open.
        """
        connection = for_owner(self._running().factory)
        over_descriptors(connection, stdin, stdout, self.reactor)
        return connection.when_gone()

    def limit(self, **changes: int | None) -> Speeds:
        """Change speed limits from now on, by the names that ``Settings`` has for them.

        In bytes a second, None for none; gives all of them as they are then.
        """
        return self._running().node.rates.change(**changes)

    def change(self, **changes: Any) -> Deferred[tuple[str, ...]]:
        """Change settings while running, by the names that ``Settings`` has for them.

        Fires with the names of those that need a new start and were left as they are.
        Fails with BadConfig or BadState where one of them makes no sense; nothing is changed
        then.  Nothing that is under way is ended.  docs/configuration.rst says which can.
        """
        return self._one_change.run(lambda: public(self._change(changes)))

    async def _change(self, changes: Mapping[str, Any]) -> tuple[str, ...]:
        running = self._running()
        changing = Changing(
            running,
            partial(self._admission, running.dialer.peers, running.pairing),
            self._hear_hooks,
            lambda: running.tidying.also(_tidied(running.node, running.opened)),
        )
        self.settings, left = await changing.change(self.settings, changes, self._shares)
        return left

    def reload(self) -> Deferred[Mapping[str, Sequence[str]]]:
        """Have what the application gave as ``on_reload`` read the settings again.

        Fires with the keys of those that ``changed``, and of those that need a
        ``restart``; fails with BadConfig where there is nothing to be read, and else as
        ``change`` does.
        """
        if self._on_reload is None:
            return fail(BadConfig("This service has no configuration file."))
        return self._on_reload(self)

    def status(self) -> dict[str, Any]:
        """About the running service, as plain values."""
        running, settings = self._running(), self.settings
        return {
            "version": VERSION,
            "device": settings.device,
            "key": running.key,
            "listening": self._listening or [],
            "inbox": os.path.abspath(settings.inbox),
            "state": os.path.abspath(settings.state),
            "free": running.store.free(),
            "pending": len(running.registry),
            "waiting": len(running.node.offers.prompts()),
            "connections": len(running.factory.connections),
            "web": [] if running.page is None else running.page.urls(),
            "metrics": running.metrics.url(),
            "discovery": "on" if running.announcing.on else running.announcing.complaint or "off",
            "sandbox": f"off: {running.unconfined}" if running.unconfined else "on",
            "warnings": self.warnings(),
        }

    # Odds and ends.

    def _running(self) -> Running:
        if self._now is None:
            raise Stopping("The service is not running.")
        return self._now

    def _client(self, args: Mapping[str, Any]) -> Client:
        running = self._running()
        peer = args.get("peer")
        if not isinstance(peer, str):
            raise BadHeader('The request needs a text "peer".')
        legacy, plain = args.get("legacy") is True, args.get("plain") is True
        # An ae controller waits for its answer, and tries again by itself.
        request = args.get("request")
        patience = args.get("patience", PATIENCE if request is None else 0.0)
        target = find_target(running.dialer.peers, peer, plain=plain, legacy=legacy, finds=True)
        if target.legacy and args.get("native"):
            raise Forbidden("That is an ae device.")
        return Client(
            self.reactor,
            target,
            lambda: dial(running.dialer, target, running.token),
            running.reading,
            dialer=running.dialer,
            registry=running.registry,
            patience=patience,
            request=request or "",
        )

    def _hooked(self, hooks: Hooks) -> OnMessage:
        """The application's own ``on_message``, and hooks that hear of what is kept then."""

        def came(message: Message) -> Any:
            hooks.text_came(message.id, message.text)
            return None if self._on_message is None else self._on_message(message)

        return came

    def _hear_hooks(self) -> None:
        """Have them hear of everything, where they did not before."""
        running = self._running()
        if running.hooks.any and running.node.on_message is self._on_message:
            running.registry.subscribe(running.hooks.hear)
            running.node.on_message = self._hooked(running.hooks)

    def _prompted(self, prompt: Prompt) -> None:
        self.log.info(
            "{peer_name} offers {path} and waits for a yes: lanxfer accept {transfer}",
            event="offer_waits",
            peer_name=shown(prompt.label),
            path=shown(prompt.what),
            transfer=prompt.id,
        )
        self._on_prompt(prompt)

    def _heard(self, tell: Callable[[Principal], object], who: Principal) -> None:
        try:
            tell(who)
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        self.log.error("A listener failed: {reason}", event="listener_failed", reason=repr(error))


def _open_page() -> Callable[..., Any]:
    try:
        from lanxfer.web.door import open_page
    except ImportError as error:
        raise BadConfig(
            f'The page needs the extra "web": pip install "lanxfer[web]" ({error.name} is missing).'
        ) from None
    return open_page


def _label(peers: Peers, principal: str) -> str:
    """What the other end of a transfer is called here."""
    kind, _, key = principal.partition(":")
    known = peers.by_key(key) if kind == "peer" else None
    return principal if known is None else known.name


def _path(settings: Settings, snapshot: Snapshot) -> str:
    """Where in the inbox something is; "" for what was put into a shared folder."""
    top = snapshot.stored.partition("/")[0]
    if any(share.name == top for share in filter(None, map(parse_share, settings.shares))):
        return ""
    return os.path.join(os.path.abspath(settings.inbox), *snapshot.stored.split("/"))


def _tidied(
    node: ServiceNode, shares: Mapping[str, SharedFolder]
) -> list[Callable[[], Deferred[int]]]:
    """What tidies the stores of the shares; that of the inbox is tidied anyway."""

    def tidy(store: Store) -> Deferred[int]:
        return node.in_store(store, store.tidy, limits.PART_LIFETIME)

    stores = [each.store for each in shares.values() if each.store is not None]
    return [partial(tidy, each) for each in stores if each is not node.store]
