"""Whether an offer is taken, where it goes, and who is asked about it.

The order is from cheap to dear: what the file of rights says, then what this
principal has had already, then the application, then whoever sits at this
device (docs/permissions.rst).  Nothing is written, and no thread is used,
before all of them said yes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, time
from typing import Any, Protocol

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from lanxfer.allowance import Allowances
from lanxfer.commands.table import Accepted, Call
from lanxfer.deferreds import as_deferred
from lanxfer.disk import Disk
from lanxfer.errors import (
    BadConfig,
    BadName,
    BadState,
    Expired,
    Forbidden,
    LanxferError,
    TooLarge,
    for_now,
)
from lanxfer.offers import Offers
from lanxfer.policy import Principal, Standing
from lanxfer.registry import Transfer
from lanxfer.rights import NO_TERMS, Answer, Right, Terms
from lanxfer.storage import Store
from lanxfer.storage.names import SafePath, from_ae, part_key, quoted, safe_path, safe_paths
from lanxfer.transfers import Conflict, Kind, Offer
from lanxfer.wire import limits


@frozen
class Incoming:
    """An offer as an application sees it in ``on_offer``.

    ``peer`` is the principal, ``label`` what people call it.  ``path`` is as the
    peer wrote it: a wish, not a path on this disk.  ``asks`` says that without
    the application somebody would be asked.
    """

    id: str
    peer: str
    label: str
    kind: Kind
    path: str
    size: int
    secure: bool
    asks: bool = False


OnOffer = Callable[[Incoming], Any]


@frozen
class Taking:
    """What this device takes, as far as its owner said when it was started."""

    links: bool = False
    dotfiles: bool = False
    conflict: Conflict | None = None
    legacy_folder: str = ""
    shares: tuple[str, ...] = ()


class Says(Protocol):
    """A ``Book``, or the file of one."""

    def of(self, principal: Principal) -> Terms: ...


def _local_time() -> time:
    return datetime.now().time()


@define(eq=False)
class Deciding:
    """See the module; ``now`` is the time of the day here.

    ``complaint`` is what is wrong with the file of rights, "" where nothing was
    when it was needed last.
    """

    clock: Any
    disk: Disk
    store: Store
    taking: Taking
    rights: Says
    allowances: Allowances
    offers: Offers
    on_offer: OnOffer | None = None
    now: Callable[[], time] = _local_time
    complaint: str = ""
    _log = Logger()

    def terms(self, principal: Principal) -> Terms:
        """What holds for it now.

        Forbidden while the file of rights makes no sense or cannot be read: the owner reads why
        in the log and in ``lanxfer status``, and nobody else learns of it.
        """
        if principal.standing in (Standing.LOCAL, Standing.TICKET):
            return NO_TERMS
        try:
            found = self.rights.of(principal)
        except (BadConfig, BadState) as error:
            if error.reason != self.complaint:
                self.complaint = error.reason
                self._log.error(
                    "Nothing is taken: {reason}", event="nothing_taken", reason=error.reason
                )
            unreadable = Forbidden("The rules of that device cannot be read just now.")
            raise for_now(unreadable) from None
        self.complaint = ""
        return found

    def inline(self, principal: Principal) -> int:
        """Bytes of a file that may travel with its request."""
        asks = self.terms(principal).offers is Answer.ASK
        return 0 if asks else limits.INLINE_MAX

    def pack(self, principal: Principal) -> int:
        """Bytes of files that may travel together; 0 where each is asked about by itself."""
        return 0 if self.on_offer is not None or not self.inline(principal) else limits.PACK_MAX

    def admit(
        self, principal: Principal, offers: Sequence[Offer], group: str, id: str
    ) -> list[SafePath | LanxferError]:
        """Where each thing in a pack goes, or why nowhere; nobody is asked.

        Their policy is what ``conflict`` says.  Raises where none of them may be here.  What
        is accepted counts until the registry told of its end, of which ``id`` is the pack's.
        """
        if not self.pack(principal):
            raise TooLarge("Nothing travels with its request before somebody accepted it.")
        terms, name = self.terms(principal), principal.name
        answers = self._places(principal, terms, offers)
        taken = _good(answers)
        if terms.offers is Answer.DENY or terms.hours or terms.largest is not None:
            for at in taken:
                try:
                    self._check_terms(terms, offers[at])
                except LanxferError as error:
                    answers[at] = error
            taken = _good(answers)
        most, refusal = self.allowances.offered_together(name, group, terms, len(taken))
        if refusal is not None:
            for at in taken[most:]:
                answers[at] = refusal
        if terms.counts:
            for at in [each for each in taken[:most] if offers[each].kind is Kind.FILE]:
                try:
                    self.allowances.claim(name, f"{id}-{at}", offers[at].size, terms)
                except LanxferError as error:
                    answers[at] = error
        return answers

    def _places(
        self, principal: Principal, terms: Terms, offers: Sequence[Offer]
    ) -> list[SafePath | LanxferError]:
        """``placing`` for many."""
        legacy = principal.standing in (Standing.LEGACY, Standing.LEGACY_LOCAL)
        if not (legacy or terms.rules or terms.folder):
            return [*safe_paths([offer.path for offer in offers], dotfiles=self._hidden(principal))]
        place = self.placing(principal, terms)
        answers: list[SafePath | LanxferError] = []
        for offer in offers:
            try:
                answers.append(place(offer))
            except LanxferError as error:
                answers.append(error)
        return answers

    def _hidden(self, principal: Principal) -> bool:
        """Whether names that begin with a dot are taken from this one."""
        return self.taking.dotfiles or principal.standing is Standing.TICKET

    def conflict(self, asked: Conflict | None) -> Conflict | None:
        """What happens where a name is taken: what the owner said, else what the sender did."""
        ours = self.taking.conflict
        return asked if ours is None or asked is Conflict.SERIES else ours

    def placing(self, principal: Principal, terms: Terms) -> Callable[[Offer], SafePath]:
        """What says where in the inbox something goes.

        It raises BadName where that is nowhere, Forbidden where not for this one.
        """
        legacy = principal.standing in (Standing.LEGACY, Standing.LEGACY_LOCAL)
        hidden = self._hidden(principal)
        folder = terms.folder or (self.taking.legacy_folder if legacy else "")

        def place(offer: Offer) -> SafePath:
            path = from_ae(offer.path) if legacy else safe_path(offer.path, dotfiles=hidden)
            if terms.rules:
                _check_rules(terms, path, offer)
            return safe_path(f"{folder}/{path}", dotfiles=True) if folder else path

        return place

    async def consent(self, call: Call, offer: Offer, transfer: Transfer) -> Accepted:
        """What is to be done; raises what the offer is refused with."""
        principal = call.principal
        if offer.kind is Kind.LINK and not self.taking.links:
            raise BadName("Symbolic links are not taken here.")
        conflict = self.conflict(offer.conflict)
        if conflict is not offer.conflict:
            offer = offer._replace(conflict=conflict)
        terms = self.terms(principal)
        if offer.kind is Kind.MESSAGE:
            self._check_message(terms)
            await self._application(call, terms, offer, transfer)
            return Accepted(offer, None)
        path = self.placing(principal, terms)(offer)
        if principal.standing is not Standing.TICKET:
            if call.data and terms.offers is Answer.ASK and principal.standing is Standing.GUEST:
                raise TooLarge("Nothing travels with its request before somebody accepted it.")
            self._check(principal, terms, offer, transfer.snapshot.group, transfer.id)
            if not await self._application(call, terms, offer, transfer):
                await self._owner(call, terms, offer, transfer)
        return Accepted(offer, path)

    def check_amount(self, call: Call, offer: Offer, transfer: Transfer) -> None:
        """Raise what keeps a file from being put into a shared folder; nobody is asked."""
        principal = call.principal
        group, id = transfer.snapshot.group, transfer.id
        self._check(principal, self.terms(principal), offer, group, id)

    def _check_message(self, terms: Terms) -> None:
        if terms.messages is Answer.DENY:
            raise Forbidden("That device takes no messages from this one.")
        self._check_hours(terms)

    def _check_hours(self, terms: Terms) -> None:
        if terms.hours is not None and self.now() not in terms.hours:
            late = f"That device takes things at {terms.hours} only, by its own clock."
            raise for_now(Forbidden(late))

    def _check(self, principal: Principal, terms: Terms, offer: Offer, group: str, id: str) -> None:
        self._check_terms(terms, offer)
        self.allowances.offered(principal.name, group, terms)
        if offer.kind is Kind.FILE:
            self.allowances.claim(principal.name, id, offer.size, terms)

    def _check_terms(self, terms: Terms, offer: Offer) -> None:
        if terms.offers is Answer.DENY:
            raise Forbidden("That device takes no files from this one.")
        self._check_hours(terms)
        if terms.largest is not None and offer.size > terms.largest:
            raise TooLarge(f"That device takes files of at most {terms.largest} bytes.")

    async def _application(
        self, call: Call, terms: Terms, offer: Offer, transfer: Transfer
    ) -> bool:
        """Whether the application said yes; Forbidden where it said no."""
        if self.on_offer is None:
            return False
        principal = call.principal
        incoming = Incoming(
            transfer.id,
            principal.name,
            principal.label,
            offer.kind,
            offer.path,
            offer.size,
            principal.secure,
            terms.offers is Answer.ASK and offer.kind is not Kind.MESSAGE,
        )

        def wait() -> None:
            transfer.wait()
            call.tell(WAITING)

        return await asked(self.clock, self.on_offer, incoming, wait) is not None

    async def _owner(self, call: Call, terms: Terms, offer: Offer, transfer: Transfer) -> None:
        """Ask whoever sits here, where that is to be done and was not done before."""
        if terms.offers is not Answer.ASK:
            return
        principal, group = call.principal, transfer.snapshot.group
        if self.offers.granted(principal, offer, group):
            return
        if offer.kind is Kind.FILE:
            # There is a part of a file only after a yes, so one that broke off goes on.
            key = part_key(principal.name, offer.path, offer.size, offer.mtime_ns)
            if await self.disk.run(self.store.holds, key):
                return
        call.tell(WAITING)
        await self.offers.ask(principal, offer, transfer, group)


def _good(answers: Sequence[SafePath | LanxferError]) -> list[int]:
    return [at for at, each in enumerate(answers) if isinstance(each, SafePath)]


def _check_rules(terms: Terms, path: SafePath, offer: Offer) -> None:
    if not terms.may(Right.WRITE, path):
        raise Forbidden(f"That device takes nothing from this one at {quoted(str(path))}.")
    if offer.conflict is Conflict.OVERWRITE and not terms.may(Right.DELETE, path):
        raise Forbidden(f"Nothing may be replaced at {quoted(str(path))}.")


WAITING = {"waiting": True}
"""What a sender is told while somebody is asked (docs/protocol.rst, "Waiting for a yes")."""


async def asked(
    clock: Any,
    ask: Callable[[Any], Any],
    about: object,
    wait: Callable[[], object] = lambda: None,
) -> Any:
    """What ``ask`` says, now or when its Deferred fires; False is Forbidden, silence Expired.

    ``wait`` is called where it takes its time.
    """
    answer = ask(about)
    if isinstance(answer, Awaitable):
        waiting: Deferred[Any] = as_deferred(answer)
        late = clock.callLater(limits.OFFER_LIFETIME, _give_up, waiting)
        try:
            if not waiting.called:
                wait()
            answer = await waiting
        except CancelledError:
            raise Expired("Nobody answered the offer in time.") from None
        finally:
            if late.active():
                late.cancel()
    if answer is False:
        raise Forbidden("The owner of that device declined.")
    return answer


def _give_up(waiting: Deferred[Any]) -> None:
    if not waiting.called:
        waiting.cancel()
