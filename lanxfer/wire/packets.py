"""The packets of every dialect, as values.

A packet is one header line and ``body`` raw bytes after it.  Which dialect
wrote the line does not show here: the literal and the ticket dialect are read
into, and written from, the same values (docs/protocol.rst, "Packets").

Nobody changes the fields of one.  What a session gives cannot be changed; who makes one
leaves the mapping alone from then on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from lanxfer.errors import LanxferError

Args: TypeAlias = Mapping[str, Any]


_NONE: Args = MappingProxyType({})


class Do(NamedTuple):
    """A request: ``name`` is to be done with ``args``."""

    id: int
    name: str
    args: Args = _NONE
    body: int = 0


class Ok(NamedTuple):
    """The one good answer to a request; nothing follows it.

    ``rows`` is for answers that are lists.  The native dialect writes them as
    the body, so that of a packet being sent ``body`` and ``rows`` exclude one
    another; of a packet received only ``body`` is known.
    """

    id: int
    args: Args = _NONE
    body: int = 0
    rows: tuple[Args, ...] | None = None


class Failed(NamedTuple):
    """The one bad answer: a code of ``lanxfer.errors`` and a reason for people."""

    id: int
    code: str
    reason: str = ""
    retry: bool = False
    args: Args = _NONE
    body: int = 0


class Go(NamedTuple):
    """The receiver of a file takes it.

    ``window`` is the credit in bytes; ``have`` what it holds already, as
    (offset, BLAKE3 of everything before that offset), largest first.  In the
    literal dialect there is one entry, without a digest.
    """

    id: int
    window: int
    have: tuple[tuple[int, str], ...] = ()
    args: Args = _NONE
    body: int = 0


class Window(NamedTuple):
    """More credit, in bytes."""

    id: int
    bytes: int
    body: int = 0


class Part(NamedTuple):
    """``body`` bytes of the file that begin at ``offset``."""

    id: int
    offset: int
    body: int


class End(NamedTuple):
    """All parts were sent; ``digest`` is None for streams, and in dialects that have none."""

    id: int
    size: int
    digest: str | None
    body: int = 0


class Cancel(NamedTuple):
    """The asker gives the exchange up; the answer is still to come."""

    id: int
    reason: str = ""
    code: str = "cancelled"
    body: int = 0


class Event(NamedTuple):
    """Something to tell before the answer; with a body, bytes of a stream."""

    id: int
    args: Args = _NONE
    body: int = 0


class Take(NamedTuple):
    """More credit for the bodies of events, in bytes, said by the asker."""

    id: int
    bytes: int
    body: int = 0


class Bye(NamedTuple):
    """No more requests from this side; with ``all``, nothing more whatever."""

    all: bool
    body: int = 0


class Drop(NamedTuple):
    """Not on any wire: what a session makes of a packet that came too late or too wrong.

    The ``body`` bytes behind it are to be read and dropped; where there is an
    ``error`` it is the end of exchange ``id``.
    """

    id: int
    error: LanxferError | None
    body: int


Packet: TypeAlias = Do | Ok | Failed | Go | Window | Part | End | Cancel | Event | Take | Bye
