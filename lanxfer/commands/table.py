"""What a command is: a name, and a coroutine from a call to a reply.

A command gets the ``Call`` it answers and the ``Node`` it runs on, both known
here only by their faces.  It may ``await`` what they hand out and nothing
else, so it needs no reactor; what it returns is the answer, and a LanxferError
it raises is the refusal.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from attrs import field, frozen

from lanxfer.commands.polled import Polled
from lanxfer.errors import LanxferError
from lanxfer.pake import Channel
from lanxfer.policy import Principal
from lanxfer.registry import Registry, Transfer
from lanxfer.rights import Right
from lanxfer.storage import Part, Small, Store
from lanxfer.storage.names import SafePath
from lanxfer.storage.volumes import SharedFolder
from lanxfer.transfers import Conflict, Offer, Snapshot, Stored
from lanxfer.wire.packets import Args

T = TypeVar("T")


@frozen
class Reply:
    """A good answer; ``rows`` where the answer is a list, ``body`` where it is bytes."""

    args: Args = field(factory=dict)
    rows: Sequence[Args] | None = None
    body: bytes = b""


@frozen
class Accepted:
    """An offer to go by, and where in the inbox it goes; a message goes nowhere."""

    offer: Offer
    path: SafePath | None


class Opened(Protocol):
    """The upload that a ticket opened; see ``lanxfer.slots.Slot``."""

    session: str
    path: str
    owner: str
    keep: bool
    conflict: Conflict | None
    transfer: str
    held: int
    crc: int

    def stored(self, stored: Stored) -> None: ...


class Pairing(Protocol):
    """The answering side of pairing; see ``lanxfer.pairing.Pairing``."""

    async def begin(
        self, channel: Channel, kind: str, share: str, device: str
    ) -> tuple[str, bool]: ...

    async def prove(self, channel: Channel, proof: str) -> str: ...

    async def keep(self, channel: Channel) -> None: ...


class Call(Protocol):
    """One request that waits for its answer."""

    name: str
    principal: Principal
    args: Args
    proves: bool
    """Whether this dialect can prove a resume with digests."""

    @property
    def data(self) -> bytes | None:
        """The body, where it travelled with the request."""

    @property
    def body_size(self) -> int:
        """Bytes of it; 0 where there is none."""

    def pieces(self, at: int, sizes: Sequence[int]) -> list[list[memoryview]]:
        """Parts of it that follow one another, as they lie in memory, from ``at`` on.

        Without a copy; good until the call is answered.
        """

    @property
    def takes_clear(self) -> bool:
        """Whether bodies may come in clear (docs/protocol.rst, "A body in clear")."""

    def began(self, transfer: Transfer) -> None:
        """Let the transfer's cancel and pause reach this call."""

    def channel(self) -> Channel | None:
        """What TLS proved of the connection; None without TLS."""

    def become(self, principal: Principal) -> None:
        """The other side has proved to be somebody else; Overloaded where they are here too often.

        What it asked before goes on in its former name.
        """

    def check(self) -> None:
        """Raise what this call was stopped with, if it was stopped."""

    def shield(self, waiting: Awaitable[T]) -> Awaitable[T]:
        """Wait for something outside, but no longer than this call lives."""

    async def begin(self, have: Sequence[tuple[int, str]], args: Args) -> int:
        """Tell the sender to go, and wait for the offset it chose."""

    async def pour(self, part: Part, transfer: Transfer) -> str | None:
        """Write the body into ``part`` until its end; the digest that was announced.

        Raises ShortBody, or what the call was stopped with; the part is then
        idle and still open.
        """

    def tell(self, args: Args) -> bool:
        """Send an event; False, and it is dropped, where the other side does not keep up."""

    crc: int
    """CRC-32 of the body that was poured, for dialects that answer with it, after what it was."""

    got: int
    """Bytes of that body."""

    @property
    def flags(self) -> int:
        """The number that came with an application's request; 0 where none did."""

    @property
    def link(self) -> Any:
        """The connection it came on, to ask the other side back (``lanxfer.links.Link``)."""

    def stream_in(self) -> Any:
        """The stream that comes with it (``Reader``); BadRequest where none does."""

    def stream_out(self) -> Any:
        """The stream that goes back (``Writer``); BadRequest where none is wanted."""

    async def stopped(self) -> None:
        """Wait until the asker gives up; raises what it gave up with."""

    def stop(self, error: LanxferError) -> None:
        """End this call with ``error`` at the next point where that loses nothing."""


class Sharing(Protocol):
    """The folders that this device shares; see ``lanxfer.sharing.Sharing``."""

    def visible(self, principal: Principal) -> Sequence[SharedFolder]:
        """Those whose contents that principal may list."""

    def find(
        self, principal: Principal, path: str, *rights: Right, below: bool = False
    ) -> tuple[SharedFolder, SafePath | None]:
        """The share that ``path`` begins with, and the path in it; NotFound or Forbidden.

        With ``below`` the rights have to hold for all that is below it, too.
        """

    def take(self, call: Call, offer: Offer, transfer: Transfer) -> tuple[SharedFolder, SafePath]:
        """Where a file that is put there goes; raises what it is refused with."""


class Node(Protocol):
    """This device, as far as commands may reach it."""

    device: str
    registry: Registry
    store: Store
    polled: Polled

    @property
    def sharing(self) -> Sharing:
        """What of this device's disk others may reach."""

    @property
    def pairing(self) -> Pairing:
        """Where unknown devices may try; raises NotPaired where none ever may."""

    def open_pairing(
        self, once: bool, name: str | None, tell: Callable[[Args], object]
    ) -> Awaitable[Args]:
        """Open a window, ``tell`` its words, wait for its end."""

    def in_order(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """``in_thread`` for many small steps in the store: one such at a time where it is quick."""

    def in_thread(self, function: Callable[..., T], *args: Any) -> Awaitable[T]:
        """Run something that blocks in a disk thread; OSErrors come back typed."""

    def in_store(
        self,
        place: Store | SharedFolder,
        function: Callable[..., T],
        *args: Any,
        undo: Callable[[T], object] | None = None,
    ) -> Awaitable[T]:
        """``in_thread``, in a thread of that place's own where it is not on a disk of this device.

        Fails with StoreStalled, too; ``undo`` gets what comes after that all the same.
        """

    def in_pool(self, function: Callable[..., T], **given: Any) -> Awaitable[T]:
        """Run something of an application's that blocks, in a pool of a few threads for that."""

    def may(self, principal: Principal, perm: str, path: SafePath) -> bool:
        """Whether a principal has all of the rights ``perm`` (``r``, ``w``, ``rw``) at a path."""

    def store_small(self, small: Small, store: Store) -> Awaitable[Stored]:
        """Store one small file together with others that are for that store just now."""

    def enter(self, principal: Principal, name: str) -> None:
        """One more request of a principal; raises where that is too many, or too soon."""

    def leave(self, principal: Principal, name: str) -> None:
        """That request is over."""

    def inline(self, principal: Principal) -> int:
        """Bytes of a file that may travel with its request; 0 where somebody is asked first."""

    def pack(self, principal: Principal) -> int:
        """Bytes of files that may travel together with one request; 0 where none may."""

    def admit(
        self, principal: Principal, offers: Sequence[Offer], group: str, id: str
    ) -> Sequence[SafePath | LanxferError]:
        """Where each of many files goes about which nobody is asked; raises for all of them."""

    def conflict(self, asked: Conflict | None) -> Conflict | None:
        """The policy that holds here for a sender that asked for this one."""

    def consent(self, call: Call, offer: Offer, transfer: Transfer) -> Awaitable[Accepted]:
        """Ask rights, application and owner; what is to be done, or why nothing (raises)."""

    def reserve(self, transfer: Transfer | None, size: int) -> Awaitable[None] | None:
        """Keep so many bytes of the disk for a transfer until it is over; DiskFull.

        Without a transfer, for what is written at once.

        None where that is known at once: there are many small files.
        """

    def answer(self, id: str, yes: bool, reason: str = "") -> Sequence[str]:
        """Say yes or no to an offer that waits; the ids that were decided with it."""

    def login(self, before: Principal, user: str, password: str) -> Awaitable[Principal]:
        """Who that is; raises one refusal for all that can be wrong."""

    def usage(self, forget: str | None) -> Awaitable[Sequence[Args]]:
        """What was received from whom; with ``forget``, after counting that one anew."""

    def message(self, principal: Principal, text: str, transfer: Transfer) -> Awaitable[None]:
        """Hand a text to the owner; kept when this fires."""

    def receiving(self, principal: Principal) -> Awaitable[None]:
        """Wait for a place among those that receive; ``received`` gives it back."""

    def received(self, principal: Principal) -> None:
        """The place that ``receiving`` gave is free."""

    def send(self, call: Call) -> Awaitable[Args]:
        """Send a file or a text of this device to another one, as the call's args say."""

    def send_paths(self, call: Call) -> Awaitable[Args]:
        """Send what a command of the owner's named, and tell it what becomes of that."""

    def history(self, limit: int, before: str, peer: str | None) -> Awaitable[list[Snapshot]]:
        """Finished transfers, newest first."""

    def redeem(self, session: str, file: str, size: int, source: str = "") -> Opened:
        """Use up a ticket; Forbidden, whatever is wrong with it."""

    def broke_off(self, slot: Any, error: LanxferError) -> None:
        """The upload that a ticket opened came to no good end."""

    def limit(self, changes: Mapping[str, int | None]) -> Mapping[str, int | None]:
        """Change speed limits by name, in bytes a second; all of them as they are then."""

    def status(self) -> Mapping[str, Any]:
        """About this service, for its owner."""

    def unqueue(self, id: str) -> Awaitable[bool]:
        """Give up a send that waits for its device; whether there was one of that id."""

    def reload(self) -> Awaitable[Mapping[str, Any]]:
        """Read the configuration file again; which settings changed, and which have to wait."""


Command: TypeAlias = Callable[[Any, Any], Coroutine[Any, Any, Reply]]
Table: TypeAlias = Mapping[str, Command]


class Tables(ChainMap[str, Command]):
    """Tables of commands one behind the other; a command is looked up when it is asked for."""

    def __contains__(self, name: object) -> bool:
        for each in self.maps:  # noqa: SIM110  # a third of the time any() takes
            if name in each:
                return True
        return False

    def __getitem__(self, name: str) -> Command:
        for each in self.maps:
            if name in each:
                return each[name]
        raise KeyError(name)


_COMMANDS: dict[str, Command] = {}


def command(name: str) -> Callable[[Command], Command]:
    """Put a coroutine function into the table that all dialects share."""

    def register(function: Command) -> Command:
        if name in _COMMANDS:
            raise ValueError(f"there is a command {name} already")
        _COMMANDS[name] = function
        return function

    return register


def commands() -> Table:
    """The table, complete once ``lanxfer.commands`` was imported."""
    return _COMMANDS
