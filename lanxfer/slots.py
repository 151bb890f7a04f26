"""What a ticket opens: one upload of one file (docs/tickets.rst)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from attrs import define, field
from twisted.internet.defer import Deferred

from lanxfer.admission import Network, bare
from lanxfer.errors import Cancelled, LanxferError
from lanxfer.transfers import Conflict, Stored


@define(eq=False)
class Slot:
    """One upload that two unguessable ids open, once (docs/protocol.rst, "The ticket dialect").

    ``done`` fires with the Stored file; it fails with Expired, or with what went
    wrong with the one upload.  Cancelling it makes the ticket worthless, or gives
    up the upload that is under way; it fails with Cancelled then.

    ``size`` is what has to be sent, ``most`` what may be, in bytes, None for any;
    ``since`` is the moment, on the service's clock, from which the ticket is good,
    ``networks`` where its bearer has to be, empty for anywhere.  ``owner`` is the
    principal whose the transfer is; "" for the bearer.  With ``keep`` an upload that
    breaks off may be gone on with, and ``held`` bytes of it are here.  ``transfer``
    is the id under which the registry has the upload, "" before it began.
    """

    session: str
    file: str
    path: str
    size: int | None
    most: int | None = None
    keep: bool = False
    since: float = 0.0
    networks: tuple[Network, ...] = ()
    owner: str = ""
    conflict: Conflict | None = None
    until: float = 0.0
    transfer: str = ""
    held: int = 0
    crc: int = 0
    """Of what is held."""
    withdraw: Callable[[Slot], None] = lambda slot: None
    done: Deferred[Stored] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.done = Deferred(self._cancel)

    @property
    def line(self) -> bytes:
        """What an uploading client sends first, for a slot whose size is known."""
        return f"{self.session} {self.file} {self.size}\n".encode("ascii")

    def opens_for(self, size: int, source: str, now: float) -> bool:
        """Whether a file of that size may come from there now."""
        fits = self.size in (None, size) and (self.most is None or size <= self.most)
        return fits and now >= self.since and self._from_here(source)

    def _from_here(self, source: str) -> bool:
        if not self.networks:
            return True
        try:
            ip = ip_address(bare(source))
        except ValueError:
            return False
        return any(ip.version == each.version and ip in each for each in self.networks)

    def stored(self, stored: Stored) -> None:
        """The file is here."""
        if not self.done.called:
            self.done.callback(stored)

    def failed(self, error: LanxferError) -> None:
        """There will be no file."""
        if not self.done.called:
            self.done.errback(error)

    def _cancel(self, done: Deferred[Stored]) -> None:
        done.errback(Cancelled())
        self.withdraw(self)
