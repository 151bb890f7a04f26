"""This device as its commands see it: registry, store, journal, and what the owner decides.

The ``Node`` of ``lanxfer.commands.table``, built by the service for one start.
"""

from __future__ import annotations

import hmac
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from lanxfer.allowance import Allowances, usage_rows
from lanxfer.calls import settled
from lanxfer.commands.polled import Polled
from lanxfer.commands.table import Accepted, Call
from lanxfer.cred import Logins
from lanxfer.deciding import Deciding, Incoming, OnOffer, Says, Taking, asked
from lanxfer.disk import Disk, SmallFiles
from lanxfer.errors import Expired, Forbidden, LanxferError, NotPaired
from lanxfer.journal import Journal
from lanxfer.offers import Offers, Prompt
from lanxfer.pairing import NO_WINDOW, Pairing
from lanxfer.places import Places
from lanxfer.policy import Principal, Standing
from lanxfer.registry import Registry, Transfer
from lanxfer.rights import Book
from lanxfer.space import Space
from lanxfer.storage import Small, Store
from lanxfer.storage.names import safe_path
from lanxfer.storage.sources import check_within
from lanxfer.transfers import Direction, Kind, Offer, Snapshot, State, Stored, Usage
from lanxfer.wire import limits
from lanxfer.wire.packets import Args

__all__ = ["Incoming", "Message", "OnMessage", "OnOffer", "ServiceNode", "Slot", "Taking"]

T = TypeVar("T")

RECORD_AFTER = 1.0
"""Seconds for which history gathers before it is written."""


@frozen
class Message:
    """A text that came."""

    id: str
    peer: str
    label: str
    text: str
    secure: bool


@frozen
class Slot:
    """One upload that two unguessable ids open, once (docs/protocol.rst, "The ticket dialect").

    ``done`` fires with the Stored file; it fails with Expired, or with what went
    wrong with the one upload.
    """

    session: str
    file: str
    path: str
    size: int | None
    done: Deferred[Stored] = field(factory=Deferred, eq=False)

    @property
    def line(self) -> bytes:
        """What an uploading client sends first, for a slot whose size is known."""
        return f"{self.session} {self.file} {self.size}\n".encode("ascii")


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
    handed: Callable[[Call], Awaitable[Mapping[str, Any]]]
    on_offer: OnOffer | None = None
    on_message: OnMessage | None = None
    rights: Says = field(factory=Book)
    logins: Logins | None = None
    on_prompt: Callable[[Prompt], object] = lambda prompt: None
    used: Mapping[str, Usage] = field(factory=dict)
    record_after: float = RECORD_AFTER
    allowances: Allowances = field(init=False)
    offers: Offers = field(init=False)
    space: Space = field(init=False)
    deciding: Deciding = field(init=False)
    slots: dict[str, tuple[Slot, IDelayedCall]] = field(factory=dict)
    pairs: Pairing | None = None
    _small: SmallFiles = field(init=False)
    _finished: list[Snapshot] = field(factory=list)
    _recording: Deferred[None] | None = None
    _record_later: IDelayedCall | None = None
    _receiving: Places = field(
        factory=lambda: Places(limits.RECEIVES_MAX, limits.RECEIVES_PER_PEER)
    )
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        seconds = self.clock.seconds
        self._small = SmallFiles(self.disk, self.store)
        self.allowances = Allowances(seconds, dict(self.used))
        self.offers = Offers(self.clock, self.on_prompt)
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
        self.registry.subscribe(self._note)

    # For commands.

    def in_thread(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        return self.disk.run(function, *args)

    def store_small(self, small: Small) -> Deferred[Stored]:
        return self._small.put(small)

    def receiving(self, principal: Principal) -> Deferred[None]:
        return self._receiving.acquire(principal.name)

    def received(self, principal: Principal) -> None:
        self._receiving.release(principal.name)

    def enter(self, principal: Principal, name: str) -> None:
        self.allowances.enter(principal.name, name, self.deciding.terms(principal))

    def leave(self, principal: Principal, name: str) -> None:
        self.allowances.leave(principal.name, name)

    def inline(self, principal: Principal) -> int:
        return self.deciding.inline(principal)

    def pack(self, principal: Principal) -> int:
        return self.deciding.pack(principal)

    def admit(
        self, principal: Principal, offers: Sequence[Offer], group: str, ids: Sequence[str]
    ) -> list[Accepted | LanxferError]:
        return self.deciding.admit(principal, offers, group, ids)

    def store_many(self, files: Sequence[Small]) -> Deferred[list[Stored | LanxferError]]:
        return self.disk.run(self.store.put_many, files)

    def hold(self, size: int) -> Awaitable[None] | None:
        return self.space.hold(size)

    def consent(self, call: Call, offer: Offer, transfer: Transfer) -> Awaitable[Accepted]:
        return self.deciding.consent(call, offer, transfer)

    def reserve(self, transfer: Transfer, size: int) -> Awaitable[None] | None:
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
        if self.on_message is not None:
            message = Message(transfer.id, principal.name, principal.label, text, principal.secure)
            await asked(self.clock, self.on_message, message)
        # The record is what keeps the text; lists show only its beginning.
        kept = evolve(transfer.snapshot, path=text, state=State.DONE, changed=self.registry.clock())
        await self.disk.run_reserved(self.journal.record, [kept])

    async def send(self, call: Call) -> Mapping[str, Any]:
        args = call.args
        if call.principal.standing is Standing.LEGACY_LOCAL and "path" in args:
            await self.disk.run(check_within, args["path"], self.taking.shares)
        return await self.sender(args)

    def send_paths(self, call: Call) -> Awaitable[Mapping[str, Any]]:
        return self.handed(call)

    async def history(self, limit: int, before: str, peer: str | None) -> list[Snapshot]:
        await self.recorded()
        return await self.disk.run_reserved(self.journal.history, limit, before or None, peer)

    def status(self) -> Mapping[str, Any]:
        return self.about()

    # Pairing.

    @property
    def pairing(self) -> Pairing:
        if self.pairs is None:
            raise NotPaired(NO_WINDOW)
        return self.pairs

    def open_pairing(
        self, once: bool, name: str | None, tell: Callable[[Args], None]
    ) -> Awaitable[Mapping[str, Any]]:
        return self.pairing.watch(self.pairing.open(once, name), tell)

    # Tickets.

    def offer_slot(self, path: str, size: int | None, expires: float) -> Slot:
        """A new slot for one file at ``path`` below the inbox; good for ``expires`` seconds."""
        safe_path(path, dotfiles=True)
        slot = Slot(str(uuid.uuid4()), str(uuid.uuid4()), path, size)
        late = self.clock.callLater(expires, self._expire_slot, slot.session)
        self.slots[slot.session] = (slot, late)
        return slot

    def _expire_slot(self, session: str) -> None:
        found = self.slots.pop(session, None)
        if found is not None and not found[0].done.called:
            found[0].done.errback(Expired("Nobody used the ticket in time."))

    def redeem(self, session: str, file: str, size: int) -> Slot:
        """Use up a ticket; Forbidden, in the same words, whatever is wrong with it."""
        # An id that does not exist is compared as well, and takes as long (catalogue A10).
        slot, late = self.slots.get(session, (_NO_SLOT, None))
        right = hmac.compare_digest(slot.file, file)
        if late is None or not right or slot.size not in (None, size):
            raise Forbidden("That ticket is not good (any more).")
        del self.slots[session]
        late.cancel()
        return slot

    # The journal.

    def _note(self, snapshot: Snapshot) -> None:
        if not snapshot.state.finished:
            return
        self.allowances.follow(snapshot)
        self.space.follow(snapshot)
        done = snapshot.state is State.DONE
        if done and snapshot.kind is Kind.MESSAGE and snapshot.direction is Direction.IN:
            return  # recorded in full before it was answered
        self._finished.append(snapshot)
        if not self.record_after and self._recording is None:
            self._record()
        elif self._recording is None and self._record_later is None:
            # What comes by the thousand is written by the thousand.
            self._record_later = self.clock.callLater(self.record_after, self._record)

    def _record(self, _: object = None) -> None:
        self._record_later = None
        if not self._finished:
            self._recording = None
            return
        batch, self._finished = self._finished, []
        self._recording = self.disk.run_reserved(self.journal.record, batch)
        self._recording.addErrback(self._unrecorded)
        self._recording.addCallback(self._record)

    def _unrecorded(self, why: Failure) -> None:
        self._log.error("The history could not be written: {reason}", reason=str(why.value))

    async def recorded(self) -> None:
        """Wait until the journal knows of everything that is finished."""
        if self._record_later is not None:
            self._record_later.cancel()
            self._record()
        while self._recording is not None:
            await settled(self._recording)
