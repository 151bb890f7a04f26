"""One connection's conversation, without I/O.

A session reads header lines into packets and writes packets as bytes, and
refuses whatever does not fit where the conversation stands.  The three
dialects are three sessions with the same face; the protocol on floor 4 cannot
tell them apart.

How the protocol uses one::

    packet = session.receive(line)      # then packet.body raw bytes belong to it
    data = session.send(packet)         # then packet.body raw bytes must follow
    packet = session.implied()          # what the dialect says without a line

``implied`` is asked after each ``receive`` and ``send`` and after each body
that is complete, until it gives None.  The literal and the ticket dialect
announce bodies and their ends that way; the native one never does.
"""

from __future__ import annotations

from typing import Protocol

from lanxfer.wire.packets import Args, Do, Drop, Failed, Packet


class Session(Protocol):
    """What the protocol needs of a dialect."""

    @property
    def line_limit(self) -> int:
        """Bytes of the next header line."""

    finished: bool
    """Nothing more will be said; what still arrives is dropped unread."""

    implies: bool
    """``implied`` may give something; where not, nobody has to ask."""

    half_close: bool
    """This side has said all it will; the other side may wait for the end of the stream."""

    def ask(self, name: str, args: Args, body: int = 0) -> Do:
        """The request packet with the next id, to be given to ``send``."""

    def receive(self, line: bytes) -> Packet | Drop | None:
        """What a line means; None where it is to be ignored (its body still counts: none).

        Raises a LanxferError for what is not allowed here; the connection ends
        if ``finished`` is true then.
        """

    def implied(self) -> Packet | None:
        """The packet that the dialect says silently now, if there is one."""

    def send(self, packet: Packet) -> bytes:
        """The bytes to write, without the packet's body; b"" where the dialect says nothing.

        Raises ValueError where this side may not say that now: a bug here, not there.
        """

    def lost(self) -> Failed | None:
        """What the end of the stream means to our open request; None: the connection broke."""

    def complaint(self, error: Exception) -> bytes:
        """The last line for an error that belongs to no exchange."""
