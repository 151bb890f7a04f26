"""Offers that wait for somebody's yes.

One prompt is about one send of one principal: a file, or all that was offered
of a folder so far.  A yes is for what the prompt showed, and for what comes
later below the folders it showed; anything else is asked again (catalogue
P22).  One prompt of a principal is open at a time, few in all, and not many a minute;
what else is offered waits behind it, up to a limit (catalogue A01, L06, L07).

An offer lives as long as the call that made it: a cancel, or a connection that
breaks, takes it away, and it is never carried over to another start.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from lanxfer.allowance import Buckets
from lanxfer.errors import Expired, Forbidden, LanxferError, NotFound, RateLimited
from lanxfer.policy import Principal, Standing
from lanxfer.registry import Transfer
from lanxfer.rights import Rate
from lanxfer.transfers import Kind, Offer
from lanxfer.wire import limits

Key: TypeAlias = tuple[str, str]
"""A principal's name, and the group of a send (or the id of a file that has none)."""


REMEMBERED = 1000
"""Sends whose yes, and offers whose end, are remembered."""


@frozen(eq=False)
class Waiting:
    """One offer, with what is needed to decide it."""

    transfer: Transfer
    principal: Principal
    offer: Offer
    key: Key
    decided: Deferred[None]


@frozen
class Prompt:
    """What somebody is asked, for those who show it (``TransferService.on_prompt``).

    ``id`` answers it; ``what`` is the first name offered, with a "/" behind a
    folder's, ``files`` and ``size`` what was offered up to now.
    """

    id: str
    peer: str
    label: str
    what: str
    files: int
    size: int
    secure: bool


def top_of(offer: Offer) -> str:
    """The folder at the top of what is offered, with "/"; "" for a file that is in none."""
    top, slash, _ = offer.path.partition("/")
    return f"{top}/" if slash or offer.kind is Kind.FOLDER else ""


@define(eq=False)
class Offers:
    """See the module; ``clock`` is the reactor's, ``on_prompt`` hears of each prompt that opens."""

    clock: Any
    on_prompt: Callable[[Prompt], object] = lambda prompt: None
    _waiting: dict[str, Waiting] = field(factory=dict)
    _open: dict[Key, None] = field(factory=dict)
    _granted: OrderedDict[Key, frozenset[str]] = field(factory=OrderedDict)
    _over: OrderedDict[str, None] = field(factory=OrderedDict)
    _prompted: Buckets = field(init=False)
    _later: IDelayedCall | None = None
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._prompted = Buckets(self.clock.seconds)

    def __len__(self) -> int:
        return len(self._waiting)

    def granted(self, principal: Principal, offer: Offer, group: str) -> bool:
        """Whether a yes to a folder of the same send covers this."""
        tops = self._granted.get((principal.name, group), frozenset())
        return bool(group) and top_of(offer) in tops

    async def ask(self, principal: Principal, offer: Offer, transfer: Transfer, group: str) -> None:
        """Wait for a yes; one that was given to the folder while this came here counts, too.

        Raises Forbidden for a no, Expired when nobody answered, RateLimited
        where too many wait already.  Cancelling it takes the offer away.
        """
        if self.granted(principal, offer, group):
            return
        key = (principal.name, group or transfer.id)
        self._check_room(principal, key)
        waiting = Waiting(transfer, principal, offer, key, Deferred())
        guest = principal.standing is Standing.GUEST
        lifetime = limits.GUEST_OFFER_LIFETIME if guest else limits.OFFER_LIFETIME
        late = self.clock.callLater(lifetime, self._expire, waiting)
        self._waiting[transfer.id] = waiting
        self._show()
        try:
            await waiting.decided
        finally:
            if late.active():
                late.cancel()
            self._forget(waiting)

    def answer(self, id: str, yes: bool, reason: str = "") -> list[str]:
        """Decide the prompt that offer ``id`` belongs to; the ids of all that it was about.

        Expired for one that waited too long, NotFound for one that does not
        wait (any more).
        """
        found = self._waiting.get(id)
        if found is None and id in self._over:
            raise Expired("That offer was not answered in time.")
        if found is None:
            raise NotFound('No such offer waits for a yes; "lanxfer pending" shows what does.')
        together = [each for each in self._waiting.values() if each.key == found.key]
        if yes:
            tops = {top_of(each.offer) for each in together} - {""}
            before = self._granted.pop(found.key, frozenset())
            self._granted[found.key] = before | tops
            if len(self._granted) > REMEMBERED:
                self._granted.popitem(last=False)
        error = None if yes else Forbidden(reason or "The owner of that device declined.")
        for each in together:
            _decide(each, error)
        return [each.transfer.id for each in together]

    def close(self, error: LanxferError) -> None:
        """Nobody will answer any more."""
        for each in list(self._waiting.values()):
            _decide(each, error)

    def prompts(self) -> list[Prompt]:
        """What is asked just now, oldest first."""
        return [self._prompt(key) for key in self._open]

    # How.

    def _check_room(self, principal: Principal, key: Key) -> None:
        mine = [each for each in self._waiting.values() if each.principal.name == principal.name]
        if len(mine) >= limits.WAITING_PER_PRINCIPAL:
            raise RateLimited("Too many offers wait for a yes already.")
        if principal.standing is not Standing.GUEST or any(each.key == key for each in mine):
            return
        # Keys cost a guest nothing, so it is its address that may ask one thing at a time.
        guests = [
            each for each in self._waiting.values() if each.principal.standing is Standing.GUEST
        ]
        if any(_source(each.principal) == _source(principal) for each in guests):
            raise RateLimited("Another offer from that address waits for a yes already.")
        if len({each.key for each in guests}) >= limits.GUEST_PROMPTS_MAX:
            raise RateLimited("Too many unknown devices wait for a yes already.")

    def _show(self) -> None:
        """Open what prompts may be open, oldest offer first."""
        asked = {name for name, _ in self._open}
        for each in list(self._waiting.values()):
            who = each.principal
            if each.key in self._open:
                each.transfer.wait()
            elif who.name in asked or len(self._open) >= limits.PROMPTS_MAX:
                continue
            elif self._prompted.take(_source(who), "prompt", _rate()):
                self._open[each.key] = None
                asked.add(who.name)
                each.transfer.wait()
                self._tell(self._prompt(each.key))
            elif self._later is None:
                self._later = self.clock.callLater(1 / max(limits.PROMPTS_RATE, 1e-6), self._again)

    def _again(self) -> None:
        self._later = None
        self._show()

    def _tell(self, prompt: Prompt) -> None:
        try:
            self.on_prompt(prompt)
        except Exception:
            self._log.failure(
                "on_prompt failed", event="listener_failed"
            )  # nobody's offer ends with it

    def _prompt(self, key: Key) -> Prompt:
        together = [each for each in self._waiting.values() if each.key == key]
        first = together[0]
        return Prompt(
            first.transfer.id,
            first.principal.name,
            first.principal.label,
            top_of(first.offer) or first.offer.path,
            sum(each.offer.kind is not Kind.FOLDER for each in together),
            sum(each.offer.size for each in together),
            first.principal.secure,
        )

    def _expire(self, waiting: Waiting) -> None:
        self._over[waiting.transfer.id] = None
        if len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
        _decide(waiting, Expired("Nobody accepted the offer in time."))

    def _forget(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting.transfer.id, None)
        if not any(each.key == waiting.key for each in self._waiting.values()):
            self._open.pop(waiting.key, None)
            self._show()
        if not self._waiting and self._later is not None:
            self._later.cancel()
            self._later = None


def _source(principal: Principal) -> str:
    """Who asks too much, if anybody does: a device, or the address of those that are not known."""
    return principal.source if principal.standing is Standing.GUEST else principal.name


def _decide(waiting: Waiting, error: LanxferError | None) -> None:
    if waiting.decided.called:
        return
    if error is None:
        waiting.decided.callback(None)
    else:
        waiting.decided.errback(error)


def _rate() -> Rate:
    return Rate(limits.PROMPTS_RATE, limits.PROMPTS_BURST)
