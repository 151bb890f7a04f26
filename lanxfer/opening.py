"""How a service starts: all that it has while it runs, opened in order, or closed again.

A process for hooks is made before the first thread, when both folders exist; from then
on the service may write nowhere else, where it is confined.
"""

from __future__ import annotations

import os
import time
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence, Set
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from lanxfer.admission import Admission, Legacy, networks, own_networks
from lanxfer.changing import keep_apart, opened_by, reserve_of, taking_of
from lanxfer.client import Client
from lanxfer.codes import load_token
from lanxfer.commands.dispatch import builtin
from lanxfer.commands.polled import Polled
from lanxfer.commands.table import Command, Tables
from lanxfer.connecting import Dialer
from lanxfer.cred import Logins
from lanxfer.delivery import new_registry
from lanxfer.descriptors import raise_limit
from lanxfer.discovery.announcing import Announcing
from lanxfer.disk import Disk
from lanxfer.errors import BadConfig
from lanxfer.factory import LanxferFactory
from lanxfer.hooks.events import parse_hooks
from lanxfer.hooks.hooks import Callback, Hooks
from lanxfer.identity import load_identity
from lanxfer.journal import Journal
from lanxfer.metrics.door import Metrics
from lanxfer.node import OnMessage, OnOffer, ServiceNode
from lanxfer.offers import Prompt
from lanxfer.outgoing import Outgoing
from lanxfer.pairing import Pairing
from lanxfer.peers import Peers
from lanxfer.policy import Principal
from lanxfer.registry import Registry
from lanxfer.revoking import Revoking
from lanxfer.rights.file import RightsFile
from lanxfer.running import Running, hosts_of
from lanxfer.sandbox import confine, writable
from lanxfer.settings import Settings
from lanxfer.sharing import Shared, close_shares, open_shares
from lanxfer.state import StateFolder
from lanxfer.storage import Store
from lanxfer.storage.local import LocalStore
from lanxfer.storage.shares import parse_share
from lanxfer.storage.volumes import SharedFolder
from lanxfer.tidying import Tidying
from lanxfer.tls import server_options
from lanxfer.transfers import Snapshot
from lanxfer.wire import limits

_log = Logger()


@frozen
class Application:
    """What a service is part of: what that wants to hear, and what it adds.

    ``client`` makes one for the peer that a job names; ``settings`` are those of now.
    """

    on_offer: OnOffer | None
    on_message: OnMessage | None
    callbacks: Mapping[str, Callback]
    on_prompt: Callable[[Prompt], object]
    on_login: Callable[[Principal], object]
    on_logout: Callable[[Principal], object]
    commands: MutableMapping[str, Command]
    shares: dict[str, Shared]
    subscribers: Sequence[Callable[[Registry], object]]
    client: Callable[[Mapping[str, Any]], Client]
    settings: Callable[[], Settings]
    status: Callable[[], dict[str, Any]]
    reload: Callable[[], Deferred[Mapping[str, Sequence[str]]]]


def open_running(reactor: Any, settings: Settings, application: Application) -> Running:
    """Everything but the doors.

    Raises BadState, BadConfig or WeakStorage, and then all is closed again.
    """
    keep_apart(settings)
    with ExitStack() as undo:
        running = _open(reactor, settings, application, undo)
        undo.pop_all()
    return running


def _open(reactor: Any, settings: Settings, application: Application, undo: ExitStack) -> Running:
    folder = StateFolder(settings.state)
    folder.lock()
    undo.callback(folder.unlock)
    before = limits.change(limits.parse(settings.limits))
    undo.callback(limits.change, before)
    identity = load_identity(folder)
    peers = Peers(folder)
    token = None if settings.token_file is None else load_token(settings.token_file)
    rights = RightsFile(folder)
    rights.book()  # what makes no sense in it is said now, not to a sender
    journal = Journal(folder.file("history.db"))
    undo.callback(journal.close)
    store, shares = _open_stores(settings, journal, application.shares.keys(), undo)
    disk, reading = Disk(reactor), Disk(reactor)
    workers = Disk(reactor, settings.workers)
    pairing = Pairing(identity.key, settings.device, peers, reactor, reading.run, token)
    admission = admission_of(settings, peers, pairing)
    used = journal.usage()
    hooks = Hooks(
        reactor,
        parse_hooks(settings.hook),
        application.callbacks,
        partial(label_of, peers),
        lambda snapshot: path_of(application.settings(), snapshot),
    )
    undo.callback(hooks.stop)
    hooks.start()
    unconfined = _confine(settings)
    store.tidy(limits.PART_LIFETIME)
    journal.prune()
    for pool in (disk, reading, workers):
        pool.start()
        undo.callback(pool.stop)
    registry = new_registry()
    for subscribe in application.subscribers:
        subscribe(registry)
    outgoing = Outgoing(reactor, reading, journal, application.client, _log, registry.new_id)
    node = ServiceNode(
        device=settings.device,
        registry=registry,
        store=store,
        journal=journal,
        disk=disk,
        clock=reactor,
        taking=taking_of(settings),
        polled=Polled(time.time),
        sender=outgoing.send,
        about=application.status,
        handed=outgoing.send_paths,
        reloading=application.reload,
        unqueued=outgoing.cancel,
        on_offer=application.on_offer,
        on_message=application.on_message,
        pairs=pairing,
        on_prompt=application.on_prompt,
        rights=rights,
        used=used,
        speeds=settings.speeds,
        shares=ChainMap(cast(dict[str, Shared], shares), application.shares),
        workers=workers,
    )
    table = Tables(dict(builtin()), application.commands)  # asked each time: more may be added
    factory = LanxferFactory(
        node,
        disk,
        table,
        admission,
        server_options(identity),
        reactor,
        settings.buf_len,
        raise_limit(),
        settings.checkers,
        settings.accept_clear_body,
    )
    factory.on_login, factory.on_logout = application.on_login, application.on_logout
    node.logins = Logins(factory.portal, reactor, bool(settings.checkers))
    ports: list[IListeningPort] = []
    announcing = Announcing(
        reactor, folder, peers, identity.key, partial(hosts_of, ports), lambda: pairing.showing
    )
    dialer = Dialer(
        reactor,
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
    if settings.web:
        page = _open_page()(settings, node, folder, table, factory.portal)
        table.maps.insert(1, page.commands())
    metrics = Metrics(settings, node, factory, dialer, outgoing)
    table.maps.insert(1, metrics.commands())
    return Running(
        reactor,
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
        Tidying(reactor, disk, store, journal, _log, also=tidied(node, shares)),
        pairing,
        Revoking(reactor, peers, lambda: [*factory.connections, *dialer.live]),
        announcing,
        hooks,
        token,
        before,
        shares,
        opened_by(settings.shares, shares),
        metrics,
        page,
        ports=ports,
    )


def _open_stores(
    settings: Settings, journal: Journal, taken: Set[str], undo: ExitStack
) -> tuple[LocalStore, dict[str, SharedFolder]]:
    """The inbox, and what is shared; ``taken`` are names of shares that there are already."""
    store = LocalStore(
        settings.inbox,
        receipts=journal,
        reserve_bytes=settings.reserve_bytes,
        reserve_share=settings.reserve_share,
        dotfiles=True,
        weak=settings.weak_storage,
    )
    undo.callback(store.close)
    shares = open_shares(
        settings.shares,
        settings.inbox,
        settings.state,
        store,
        reserve_of(settings),
        settings.dotfiles,
    )
    undo.callback(close_shares, shares, store)
    if twice := shares.keys() & taken:
        raise BadConfig(f"There are two shares of the name {min(twice)!r}.")
    return store, shares


def _confine(settings: Settings) -> str:
    """Why the process may write elsewhere, too; "" if it may not."""
    if not settings.sandbox:
        return "it was not asked for"
    named = filter(None, map(parse_share, settings.shares))
    shared = [each.folder for each in named if each.writable and not each.remote]
    folders = [settings.inbox, settings.state, *shared, *settings.also_writable]
    return confine(writable(folders, settings.also_removable))


def _open_page() -> Callable[..., Any]:
    try:
        from lanxfer.web.door import open_page
    except ImportError as error:
        raise BadConfig(
            f'The page needs the extra "web": pip install "lanxfer[web]" ({error.name} is missing).'
        ) from None
    return open_page


def admission_of(settings: Settings, peers: Peers, pairing: Pairing) -> Admission:
    """Who is let in."""
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


def label_of(peers: Peers, principal: str) -> str:
    """What the other end of a transfer is called here."""
    kind, _, key = principal.partition(":")
    known = peers.by_key(key) if kind == "peer" else None
    return principal if known is None else known.name


def path_of(settings: Settings, snapshot: Snapshot) -> str:
    """Where in the inbox something is; "" for what was put into a shared folder."""
    top = snapshot.stored.partition("/")[0]
    if any(share.name == top for share in filter(None, map(parse_share, settings.shares))):
        return ""
    return os.path.join(os.path.abspath(settings.inbox), *snapshot.stored.split("/"))


def tidied(
    node: ServiceNode, shares: Mapping[str, SharedFolder]
) -> list[Callable[[], Deferred[int]]]:
    """What tidies the stores of the shares; that of the inbox is tidied anyway."""

    def tidy(store: Store) -> Deferred[int]:
        return node.in_store(store, store.tidy, limits.PART_LIFETIME)

    stores = [each.store for each in shares.values() if each.store is not None]
    return [partial(tidy, each) for each in stores if each is not node.store]
