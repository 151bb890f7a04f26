"""This device as its commands see it: registry, store, journal, and what the owner decides.

The ``Node`` of ``lanxfer.commands.table``, built by the service for one start.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from attrs import asdict, define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.admission import networks
from lanxfer.allowance import Allowances, usage_rows
from lanxfer.commands.polled import Polled
from lanxfer.commands.table import Accepted, Call
from lanxfer.cred import Logins
from lanxfer.deciding import Deciding, Incoming, OnOffer, Says, Taking, asked
from lanxfer.deferreds import settled
from lanxfer.disk import Disk, SmallFiles
from lanxfer.errors import (
    BadConfig,
    Expired,
    Forbidden,
    LanxferError,
    NotFound,
    NotPaired,
    UnknownCommand,
)
from lanxfer.journal import Journal
from lanxfer.offering import at_once
from lanxfer.offers import Offers, Prompt
from lanxfer.pairing import NO_WINDOW, Pairing
from lanxfer.places import Places
from lanxfer.policy import Principal, Standing
from lanxfer.rates import Rates, Speeds
from lanxfer.registry import Registry, Transfer
from lanxfer.rights import Book, Right
from lanxfer.sharing import Shared, Sharing
from lanxfer.slots import Slot
from lanxfer.space import Space
from lanxfer.storage import Small, Store
from lanxfer.storage.names import SafePath, safe_path
from lanxfer.storage.sources import confined
from lanxfer.storage.volumes import SharedFolder
from lanxfer.stores import Stores, StoreThreads
from lanxfer.transfers import (
    Conflict,
    Direction,
    Kind,
    Offer,
    Snapshot,
    State,
    Stored,
    Together,
    Usage,
)
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

__all__ = ["Incoming", "Message", "OnMessage", "OnOffer", "ServiceNode", "Slot", "Taking"]

T = TypeVar("T")

RECORD_AFTER = 1.0
"""Seconds for which history gathers before it is written."""

RECORD_MOST = 2000
"""Transfers that wait for that at most, a kilobyte each; ..."""
TOGETHER = 4
"""... of those that came together so many count as one."""

_RIGHTS = {"r": Right.READ, "w": Right.WRITE}


@frozen
class Message:
    """A text that came."""

    id: str
    peer: str
    label: str
    text: str
    secure: bool


def _message_came(snapshot: Snapshot) -> bool:
    came = snapshot.kind is Kind.MESSAGE and snapshot.direction is Direction.IN
    return came and snapshot.state is State.DONE


async def _no_file() -> Mapping[str, Any]:
    raise BadConfig("That service has no configuration file.")


async def _nothing_queued(id: str) -> bool:
    return False


_NO_SLOT = Slot("", "0" * 36, "", None)

OnMessage = Callable[[Message], Any]


@define(eq=False)
class ServiceNode:
    """See the module; ``sender``, ``handed`` and ``about`` are the service's own doing."""

    device: str
    registry: Registry
    store: Store
    journal: Journal
    disk: Disk
    clock: Any
    taking: Taking
    polled: Polled
    sender: Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
    about: Callable[[], Mapping[str, Any]]
    on_offer: OnOffer | None = None
    on_message: OnMessage | None = None
    on_told: Callable[[Message], object] | None = None
    """Hears of each message when its owner has it; the page shows them, too."""
    reloading: Callable[[], Awaitable[Mapping[str, Any]]] = _no_file
    unqueued: Callable[[str], Awaitable[bool]] = _nothing_queued
    handed: Callable[[Call], Awaitable[Mapping[str, Any]]] | None = None
    rights: Says = field(factory=Book)
    logins: Logins | None = None
    on_prompt: Callable[[Prompt], object] = lambda prompt: None
    used: Mapping[str, Usage] = field(factory=dict)
    record_after: float = RECORD_AFTER
    allowances: Allowances = field(init=False)
    offers: Offers = field(init=False)
    space: Space = field(init=False)
    rates: Rates = field(init=False)
    speeds: Speeds = field(factory=Speeds)
    deciding: Deciding = field(init=False)
    shares: Mapping[str, Shared] = field(factory=dict)
    sharing: Sharing = field(init=False)
    slots: dict[str, tuple[Slot, IDelayedCall]] = field(factory=dict)
    pairs: Pairing | None = None
    stores: Stores = field(init=False)
    workers: Disk | None = None
    """Threads for an application's commands that block."""
    _small: dict[Store, SmallFiles] = field(factory=dict)
    _finished: list[Snapshot | Together] = field(factory=list)
    _waiting: int = 0
    _recording: Deferred[None] | None = None
    _record_later: IDelayedCall | None = None
    _ended: bool = False
    _receiving: Places = field(
        factory=lambda: Places(limits.RECEIVES_MAX, limits.RECEIVES_PER_PEER)
    )
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        seconds = self.clock.seconds
        self.allowances = Allowances(seconds, dict(self.used))
        self.offers = Offers(self.clock, self.on_prompt)
        self.rates = Rates(self.clock, self.speeds, self._speeds_of)
        self.space = Space(self.disk, self.store, seconds)
        self.deciding = Deciding(
            self.clock,
            self.disk,
            self.store,
            self.taking,
            self.rights,
            self.allowances,
            self.offers,
            self.on_offer,
        )
        self.sharing = Sharing(self.deciding, self.shares)
        self.stores = Stores(self.clock)
        self.registry.subscribe_many(self._note)

    # For commands.

    def in_thread(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        return self.disk.run(function, *args)

    def in_order(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        run = self.disk.run_in_order if self.store.quick else self.disk.run
        return run(function, *args)

    def in_store(
        self,
        place: Store | SharedFolder,
        function: Callable[..., T],
        *args: Any,
        undo: Callable[[T], object] | None = None,
    ) -> Deferred[T]:
        return self._threads(place).run(function, *args, undo=undo)

    def _threads(self, place: Store | SharedFolder) -> Disk | StoreThreads:
        return self.disk if place.volume is None else self.stores.of(place.volume)

    def in_pool(self, function: Callable[..., T], **given: Any) -> Deferred[T]:
        pool = self.disk if self.workers is None else self.workers
        return pool.run(partial(function, **given))

    def may(self, principal: Principal, perm: str, path: SafePath) -> bool:
        terms = self.deciding.terms(principal)
        return all(terms.may(_RIGHTS[each], path) for each in perm)

    def store_small(self, small: Small, store: Store) -> Deferred[Stored]:
        if store not in self._small:
            self._small[store] = SmallFiles(self._threads(store), store)
        return self._small[store].put(small)

    def receiving(self, principal: Principal) -> Deferred[None]:
        return self._receiving.acquire(principal.name)

    def received(self, principal: Principal) -> None:
        self._receiving.release(principal.name)

    def enter(self, principal: Principal, name: str) -> None:
        self.allowances.enter(principal.name, name, self.deciding.terms(principal))

    def leave(self, principal: Principal, name: str) -> None:
        self.allowances.leave(principal.name, name)

    def inline(self, principal: Principal) -> int:
        return self._in_a_second(principal, self.deciding.inline(principal))

    def pack(self, principal: Principal) -> int:
        return min(self.deciding.pack(principal), at_once(self.rates.slowest_in(principal)))

    def _in_a_second(self, principal: Principal, most: int) -> int:
        """Of what travels with a request: behind a minute of it, a ping would wait as long."""
        slowest = self.rates.slowest_in(principal)
        return most if slowest is None else min(most, slowest)

    def admit(
        self, principal: Principal, offers: Sequence[Offer], group: str, id: str
    ) -> list[SafePath | LanxferError]:
        return self.deciding.admit(principal, offers, group, id)

    def conflict(self, asked: Conflict | None) -> Conflict | None:
        return self.deciding.conflict(asked)

    def consent(self, call: Call, offer: Offer, transfer: Transfer) -> Awaitable[Accepted]:
        return self.deciding.consent(call, offer, transfer)

    def reserve(self, transfer: Transfer | None, size: int) -> Awaitable[None] | None:
        return self.space.reserve(transfer, size)

    def answer(self, id: str, yes: bool, reason: str = "") -> list[str]:
        return self.offers.answer(id, yes, reason)

    def login(self, before: Principal, user: str, password: str) -> Awaitable[Principal]:
        if self.logins is None:
            raise Forbidden("Nobody can log in there.")
        return self.logins.login(before, user, password)

    async def usage(self, forget: str | None) -> list[dict[str, int | str]]:
        if forget is not None:
            await self.recorded()  # or what still waits to be written would count again
            self.allowances.forget(forget)
            await self.disk.run_reserved(self.journal.forget_usage, forget)
        return usage_rows(self.allowances.used)

    async def message(self, principal: Principal, text: str, transfer: Transfer) -> None:
        message = Message(transfer.id, principal.name, principal.label, text, principal.secure)
        if self.on_message is not None:
            await asked(self.clock, self.on_message, message)
        if self.on_told is not None:
            self.on_told(message)
        # The record is what keeps the text; lists show only its beginning.
        now = self.registry.clock()
        kept = transfer.snapshot._replace(path=text, state=State.DONE, changed=now)
        # With what ended before it and was not written yet, or it would stand before that.
        before = self._take_finished()
        try:
            await self.disk.run_reserved(self.journal.record, [*before, kept])
        except LanxferError as error:
            if before:
                self._unrecorded(Failure(error))
            raise

    async def send(self, call: Call) -> Mapping[str, Any]:
        args = call.args
        shares = self.taking.shares
        if call.principal.standing is Standing.LEGACY_LOCAL and "path" in args and shares:
            # Not to be kept for later: what it may send is decided now.
            path = await self.disk.run(confined, args["path"], shares)
            args = {**args, "path": path, "wait": True}
        return await self.sender(args)

    def send_paths(self, call: Call) -> Awaitable[Mapping[str, Any]]:
        if self.handed is None:
            raise UnknownCommand()
        return self.handed(call)

    async def history(self, limit: int, before: str, peer: str | None) -> list[Snapshot]:
        await self.recorded()
        return await self.disk.run_reserved(self.journal.history, limit, before or None, peer)

    def status(self) -> Mapping[str, Any]:
        return self.about()

    def reload(self) -> Awaitable[Mapping[str, Any]]:
        return self.reloading()

    def unqueue(self, id: str) -> Awaitable[bool]:
        return self.unqueued(id)

    def places(self, most: int, share: int) -> None:
        """How many may receive at a time, and of one principal; who does goes on."""
        self._receiving.change(most, share)

    # Speed.

    def limit(self, changes: Mapping[str, int | None]) -> Mapping[str, int | None]:
        return asdict(self.rates.change(**changes))

    def _speeds_of(self, principal: Principal) -> Speeds:
        try:
            said = self.deciding.terms(principal)
        except Forbidden:  # nothing is taken then anyway, and what is under way goes on
            return Speeds()
        return Speeds(said.rate_in, said.rate_out, said.rate_in_each, said.rate_out_each)

    # Pairing.

    @property
    def pairing(self) -> Pairing:
        if self.pairs is None:
            raise NotPaired(NO_WINDOW)
        return self.pairs

    def open_pairing(
        self, once: bool, name: str | None, tell: Callable[[Args], object]
    ) -> Awaitable[Mapping[str, Any]]:
        return self.pairing.watch(self.pairing.open(once, name), tell)

    # Tickets.

    def offer_slot(
        self,
        path: str | None,
        size: int | None,
        expires: float,
        *,
        most: int | None = None,
        not_before: float = 0.0,
        peer: str | None = None,
        keep: bool = False,
        owner: str = "",
        conflict: Conflict | None = None,
    ) -> Slot:
        """A new slot; see ``TransferService.offer_slot``."""
        session, file = str(uuid.uuid4()), str(uuid.uuid4())
        path = uuid.UUID(file).hex if path is None else path
        safe_path(path, dotfiles=True)
        now = self.clock.seconds()
        slot = Slot(
            session,
            file,
            path,
            size,
            most=most,
            keep=keep,
            since=now + not_before,
            networks=networks([] if peer is None else [peer]),
            owner=owner,
            conflict=conflict,
            until=now + expires,
            withdraw=self._withdraw,
        )
        self._open_slot(slot)
        return slot

    def _open_slot(self, slot: Slot) -> None:
        left = max(0.0, slot.until - self.clock.seconds())
        late = self.clock.callLater(left, self._expire_slot, slot.session)
        self.slots[slot.session] = (slot, late)

    def _expire_slot(self, session: str) -> None:
        found = self.slots.pop(session, None)
        if found is not None:
            found[0].failed(Expired("Nobody used the ticket in time."))

    def _withdraw(self, slot: Slot) -> None:
        found = self.slots.pop(slot.session, None)
        if found is not None:
            found[1].cancel()
        elif slot.transfer:
            with suppress(NotFound):
                self.registry.cancel(slot.transfer)

    def redeem(self, session: str, file: str, size: int, source: str = "") -> Slot:
        """Use up a ticket; Forbidden, in the same words, whatever is wrong with it."""
        # An id that does not exist is compared as well, and takes as long (catalogue A10).
        slot, late = self.slots.get(session, (_NO_SLOT, None))
        right = hmac.compare_digest(slot.file, file)
        if late is None or not right or not slot.opens_for(size, source, self.clock.seconds()):
            raise Forbidden("That ticket is not good (any more).")
        del self.slots[session]
        late.cancel()
        return slot

    def broke_off(self, slot: Slot, error: LanxferError) -> None:
        """The upload did not come to its end: it may be gone on with, where that was asked for."""
        if slot.keep and error.retry and not slot.done.called:
            self._open_slot(slot)
        else:
            slot.failed(error)

    # The journal.

    def _note(self, snapshots: Sequence[Snapshot]) -> None:
        if self._ended:
            return
        self.allowances.follow(snapshots)
        self.space.follow(snapshots)
        if isinstance(snapshots, Together):
            self._finished.append(snapshots)
            self._waiting += max(1, len(snapshots) // TOGETHER)
        else:
            over = [each for each in snapshots if each.state.finished]
            # A message is recorded in full before it is answered.
            self._finished += [each for each in over if not _message_came(each)]
            self._waiting += len(over)
        self._record_in_time()

    def _record_in_time(self) -> None:
        """What comes by the thousand is written by the thousand."""
        if self._recording is not None or not self._finished:
            return
        if not self.record_after or self._waiting >= RECORD_MOST:
            self._record()
        elif self._record_later is None:
            self._record_later = self.clock.callLater(self.record_after, self._due)

    def _due(self) -> None:
        self._record_later = None
        if self._recording is None and self._finished:
            self._record()

    def _record(self) -> None:
        if self._record_later is not None:
            self._record_later.cancel()
            self._record_later = None
        batch = self._take_finished()
        self._recording = self.disk.run_reserved(self.journal.record, batch)
        self._recording.addErrback(self._unrecorded)
        self._recording.addCallback(self._recorded)

    def _recorded(self, _: object) -> None:
        self._recording = None
        self._record_in_time()

    def _take_finished(self) -> list[Snapshot | Together]:
        taken, self._finished, self._waiting = self._finished, [], 0
        return taken

    def _unrecorded(self, why: Failure) -> None:
        self._log.error(
            "The history could not be written: {reason}",
            event="history_failed",
            reason=str(why.value),
        )

    async def recorded(self) -> None:
        """Wait until the journal knows of everything that is finished."""
        while self._finished or self._recording is not None:
            if self._recording is None:
                self._record()
            else:
                await settled(self._recording)

    async def end(self) -> None:
        """The last that is ``recorded``; the journal may be closed then.

        What ends after that was given up with the service, and its sender knows as much.
        """
        await self.recorded()
        self._ended = True
