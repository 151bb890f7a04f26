"""Who is asking, and which commands exist for them.

A connection has one principal.  What it may do is the set of commands in its
row of the table below, and what it may see is what ``mine`` lets through;
there is no third place where this is decided (security catalogue A01, A14,
J20, J21, L01, L02).
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from lanxfer.errors import Forbidden, LanxferError, NotPaired, UnknownCommand
from lanxfer.registry import Mine, everything
from lanxfer.transfers import Snapshot


class Standing(Enum):
    """What is known about a caller."""

    LOCAL = "local"  # the same user, through the control socket
    PEER = "peer"  # a pinned key
    GUEST = "guest"  # unknown, but the service was started with --open or --plain-from
    INVITED = "invited"  # knew the words of "lanxfer pair --once"; for one connection
    USER = "user"  # said a name and a password inside TLS
    VISITOR = "visitor"  # an unknown key, where the service was started with --auth
    LEGACY = "legacy"  # an ae peer, from an allowed network
    LEGACY_LOCAL = "legacy-local"  # an ae controller on this machine, with --legacy full
    TICKET = "ticket"  # whoever holds two ids that offer_slot made
    BROWSER = "browser"  # the page, signed in by a link that the owner keeps
    BROWSER_GUEST = "web-guest"  # the page, signed in by a link for somebody else
    NEWCOMER = "newcomer"  # unknown, while a pairing window is open or a token is set
    STRANGER = "stranger"

    # There is one of each; Enum's own is slow, and every request asks for it.
    __hash__ = object.__hash__


UNKNOWN = frozenset({Standing.NEWCOMER, Standing.VISITOR, Standing.STRANGER})
"""Who has ten seconds, short headers, and a place among the unknown."""


@frozen
class Principal:
    """Who is on the other end.

    ``name`` is the same for every connection of one principal
    (``peer:<key>``, ``legacy:<address>``, ``local`` …); ``label`` is what people
    read, chosen on this device.  ``secure`` says that key and bytes are
    protected by TLS, or never left the machine.
    """

    standing: Standing
    name: str
    label: str
    secure: bool = True
    source: str = field(default="", eq=False)

    @property
    def reach(self) -> frozenset[str]:
        """The commands of lanxfer's own that are there for it."""
        return REACH[self.standing]


LOCAL = Principal(Standing.LOCAL, "local", "this device")

_OFFER = frozenset({"hello", "ping", "recv_file", "recv_files", "recv_message"})
_OWN = frozenset({"pending_requests", "cancel_request", "pause", "resume", "watch", "history"})
_OWNER = frozenset(
    {
        *("send_file", "send_message", "send_paths", "status"),
        *("accept", "reject", "usage", "limit", "reload"),
    }
)
_PAIR = frozenset({"pair", "pair_prove", "pair_keep"})
_LOGIN = frozenset({"login"})
_CHECK = frozenset({"checkup"})
_FILES = frozenset(
    {
        *("list_files", "stat_file", "read_file", "prove_file"),
        *("make_folder", "move_file", "remove_file", "append_file"),
    }
)
"""What is in the folders that this device shares; the file of rights says how far."""
_PAGE = frozenset({"recv_slot", "recv_message"}) | _OWN

REACH: dict[Standing, frozenset[str]] = {
    Standing.LOCAL: _OFFER | _OWN | _OWNER | {"pair_open"},
    # One that is known here may have forgotten this device.
    Standing.PEER: _OFFER | _OWN | _LOGIN | _PAIR | _FILES | _CHECK,
    Standing.GUEST: _OFFER | _OWN | _LOGIN | _PAIR,
    Standing.INVITED: _OFFER | _OWN | _PAIR,
    Standing.USER: _OFFER | _OWN,
    Standing.VISITOR: frozenset({"hello"}) | _LOGIN | _PAIR,
    Standing.LEGACY: frozenset({"recv_file", "recv_message", "pending_requests", "cancel_request"}),
    Standing.LEGACY_LOCAL: frozenset(
        {
            "recv_file",
            "recv_message",
            "pending_requests",
            "cancel_request",
            "send_file",
            "send_message",
        }
    ),
    Standing.TICKET: frozenset({"recv_slot"}),
    Standing.BROWSER: _PAGE | {"accept", "reject", "list_files", "stat_file", "read_file"},
    Standing.BROWSER_GUEST: _PAGE,
    Standing.NEWCOMER: _PAIR | {"hello"},
    Standing.STRANGER: frozenset(),
}
"""Every command of lanxfer's own that a principal can reach."""

_APPLICATION = frozenset({Standing.LOCAL, Standing.PEER, Standing.USER})
"""Who reaches the commands an application added (names with a dot)."""


_LOG_IN = "That device does not know this one's key; log in with --user, or pair the two."


def refusal(principal: Principal, name: str, known: bool) -> LanxferError | None:
    """Why ``principal`` may not call ``name``; None if it may.

    ``known`` says whether there is such a command at all; a stranger learns
    nothing about that.
    """
    standing = principal.standing
    if known and "." in name and standing in _APPLICATION:
        return None
    if standing in UNKNOWN and name not in principal.reach:
        return NotPaired(_LOG_IN) if principal.standing is Standing.VISITOR else NotPaired()
    if not known:
        return UnknownCommand()
    if name in principal.reach:
        return None
    return Forbidden()


def mine(principal: Principal) -> Mine:
    """Which transfers are this principal's to see and to cancel."""
    if principal.standing in (Standing.LOCAL, Standing.LEGACY_LOCAL, Standing.BROWSER):
        return everything
    name = principal.name

    def own(snapshot: Snapshot) -> bool:
        return snapshot.peer == name

    return own
