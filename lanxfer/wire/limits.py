"""How much of anything a peer may send (docs/protocol.rst, "Limits").

Numbers a peer could use against us are here, in one place.  Those in
``SETTABLE`` an operator may change, for a whole process; code looks them up when
it needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

KIB = 1024
MIB = 1024 * KIB

# Lines, in bytes without the line end.
HEADER_STRANGER = 4 * KIB
HEADER_KNOWN = 64 * KIB
HEADER_LITERAL = 8 * KIB
HEADER_TICKET = 128
MALFORMED_LINES = 3
LINES_PER_TURN = 64
"""Lines of one connection that are read before the others have their turn."""

# Numbers on the wire: 0 or [1-9][0-9]{0,18}, below 2**63.
NUMBER_MAX = 2**63 - 1
DEPTH = 8

# Packets.
OPEN_EXCHANGES = 256
CHANNEL_OPEN = 64
CHANNELS_OPEN = 192
"""Requests open on one channel but 0, and on all of those: there is always room on 0."""
CHANNEL_MAX = 255
QUEUED_MAX = 100_000
QUEUED_BYTES = 64 * MIB
"""Requests of this side that wait for their turn on one connection, and their bytes."""
PART_MAX = 16 * MIB
INLINE_MAX = 256 * KIB
"""The largest file that travels with its request."""
CLEAR_LEAST = 1 * MIB
"""Bytes below which a body in clear is not worth a connection of its own."""
PACK_MAX = 4 * MIB
"""Bytes of files that travel together with one request, ..."""
PACK_FILES = 1024
"""... how many of them, ..."""
MANIFEST_MAX = 1 * MIB
"""... and bytes of the lines that name them."""
ANSWER_BODY_MAX = 4 * MIB
REFUSED_MAX = 64 * KIB
"""The body of a request that was refused is read to its end and dropped; behind a larger one
the connection ends."""
MESSAGE_MAX = 64 * KIB
HAVE_MAX = 64
STRAY_PACKETS = 64
"""Answers to nothing that are ignored before the connection is given up."""

# Bytes in flight.
WINDOW = 8 * MIB
"""Credit a receiver grants one transfer."""
WINDOW_QUICK = 15 * MIB
"""The same while threads write what comes as fast as it does: it waits in no memory of ours."""
WINDOW_LEAST = 64 * KIB
"""The same where the receiver is kept slow; it grants more so often that nobody calls it dead."""
STREAM_WINDOW = 1 * MIB
"""The same for one stream of an application."""
STREAM_PART = 64 * KIB
"""Bytes of a stream that are written in one go: nothing else waits for more than that."""
UNWRITTEN_MAX = 16 * MIB
"""Bytes of one connection that wait for the disk before reading pauses."""
PACKS_MAX = 7 * MIB
"""Bytes of packs that wait for the disk, over all connections, before those with more than their
share of it are not read; one more of each may be there, which is then found to be too many."""
PACKS_PATIENCE = 10.0
"""Seconds for which that holds where none of a connection is stored: it has to be heard."""
REPLIES_MAX = 64 * KIB
UNIT = 1 * MIB
"""Bytes handed to a disk thread at a time; at least 256 KiB, see bench/."""
CHECKPOINT = 16 * MIB
"""Bytes a power cut may cost a transfer, and ..."""
CHECKPOINT_TIME = 2.0
"""... the seconds, whichever is less."""

# Seconds.
HEADER_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 10.0
BODY_IDLE_TIMEOUT = 60.0
RATE_OVER = 60.0
RATE_LEAST = 1 * KIB
"""Bytes a second, averaged over RATE_OVER, that a body brings and a receiver takes."""
SPEED_LEAST = 4 * KIB
"""Bytes a second to which an owner may slow a connection down; RATE_LEAST is not far."""
IDLE_TIMEOUT = 0.0
"""Seconds after which a known caller that says and waits for nothing is let go; 0: never."""
PING_AFTER = 30.0
"""Seconds of silence after which one who owes an answer is asked whether it lives."""
PING_TIMEOUT = 30.0
REPLIES_TIMEOUT = 30.0
ABORT_AFTER = 1.0
OFFER_LIFETIME = 300.0
GUEST_OFFER_LIFETIME = 60.0
TICKET_LIFETIME = 3600.0
CLEAR_TICKET_LIFETIME = 10.0
CLEAR_PATIENCE = 3.0
"""Seconds for the second connection of a body in clear to be there, and for its ``ok``."""
PAIR_WINDOW = 120.0
PAIR_EXCHANGE = 5.0
PAIR_REPLY = 0.25
"""After which the answers leave, however long the arithmetic took."""
PAIR_GRANT = 60.0
PAIR_TICK = 2.0
REVOKE_EVERY = 0.4
"""Between two looks whether a key was forgotten; its connections end within a second."""
LOGIN_PAUSE = 1.0
"""After this, and not before, a login is refused: the time it took to find out tells nothing."""

# Names, in bytes of UTF-8.
COMPONENT_MAX = 255
PATH_MAX = 2048
DEPTH_MAX = 32

# Connections.
STRANGERS_MAX = 128
STRANGERS_PER_SOURCE = 16
CONNECTIONS_PER_PEER = 32
RECEIVES_MAX = 64
RECEIVES_PER_PEER = 8
"""With 16, all of them together are a quarter slower: there is no memory for large units then."""

# One principal, unless its owner says otherwise (docs/permissions.rst).
TRANSFERS_PER_PRINCIPAL = 1000
REQUESTS_PER_PRINCIPAL = 256
COMMANDS_RATE = 20.0
COMMANDS_BURST = 50
SEND_ENTRIES = 100_000
UNTOLD_MAX = 10_000
"""Entries that wait for the command to read of them in whose place they were sent."""
LOGINS_BURST = 5
LOGINS_RATE = 1 / 30
"""Failed logins a second from one source."""

# Offers that wait for a yes.
PROMPTS_MAX = 8
GUEST_PROMPTS_MAX = 3
PROMPTS_BURST = 10
PROMPTS_RATE = 1 / 6
"""Prompts a second of one source: who takes an offer back and makes it again is no pest."""
WAITING_PER_PRINCIPAL = 256

# The page (docs/web.rst).
WEB_CONNECTIONS = 128
WEB_CONNECTIONS_PER_SOURCE = 32
"""A browser opens six."""
WEB_LINKS = 16
WEB_LINK_LIFETIME = 600.0
WEB_SESSIONS = 64
WEB_SESSION_LIFETIME = 7 * 24 * 3600.0
WEB_STREAMS = 6
"""Pages of one session that are kept up to date; the oldest gives way."""
WEB_BODY_MAX = 512 * KIB
"""Bytes of a request that is no file: a message of 64 KiB fits, however its JSON is spelled."""
WEB_CHECKED_MAX = 16 * MIB
"""Bytes of a part of a file that comes with a checksum, and so is held until it is complete."""
WEB_CHECKED_ALL = 64 * MIB
"""The same of all of them together."""
WEB_UPLOADS = 256
"""Uploads of one session that are begun and not finished."""
WEB_UPLOADS_OVER = 1000
"""Finished uploads of which it is still known how they ended."""
WEB_PATIENCE = 60.0
"""Seconds for which a place is kept for a browser that went away in the middle of a file."""
WEB_GET_LIFETIME = 600.0
WEB_GETS = 256
WEB_MESSAGES = 50
"""Messages that a page which is opened later still shows."""

# Storage.
BATCH_FILES = 64
PART_LIFETIME = 7 * 24 * 3600.0
UNFINISHED_FILES = 1000
UNFINISHED_BYTES = 50 * 1024 * MIB
"""What one principal may have left unfinished before it begins anything new."""
RESERVE_SHARE = 0.05
RESERVE_BYTES = 1024 * MIB
HISTORY_MAX = 10_000
STORE_PATIENCE = 60.0
"""Seconds without progress after which a question to a remote store is given up."""
STORE_WAITING = 256
"""Questions to one remote store that wait or are being answered."""

SETTABLE = frozenset(
    {
        *("HEADER_TIMEOUT", "HANDSHAKE_TIMEOUT", "BODY_IDLE_TIMEOUT", "REPLIES_TIMEOUT"),
        *("RATE_OVER", "RATE_LEAST", "PING_AFTER", "PING_TIMEOUT", "IDLE_TIMEOUT"),
        *("OFFER_LIFETIME", "GUEST_OFFER_LIFETIME", "PAIR_WINDOW"),
        *("STRANGERS_MAX", "STRANGERS_PER_SOURCE", "CONNECTIONS_PER_PEER"),
        *("RECEIVES_MAX", "RECEIVES_PER_PEER"),
        *("LOGINS_BURST", "LOGINS_RATE", "LOGIN_PAUSE"),
        *("PROMPTS_MAX", "GUEST_PROMPTS_MAX", "PROMPTS_BURST", "PROMPTS_RATE"),
        *("WAITING_PER_PRINCIPAL", "PART_LIFETIME", "UNFINISHED_FILES", "UNFINISHED_BYTES"),
        *("RESERVE_SHARE", "RESERVE_BYTES", "HISTORY_MAX"),
        *("WEB_LINK_LIFETIME", "WEB_SESSION_LIFETIME", "WEB_PATIENCE", "WEB_CONNECTIONS"),
        *("STORE_PATIENCE", "STORE_WAITING"),
    }
)
"""What is about how much somebody is trusted with, not about what the protocol means."""


def parse(texts: Iterable[str]) -> dict[str, float]:
    """Changes as ``strangers-max=64``; ValueError with a sentence for what is none."""
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        constant = name.strip().replace("-", "_").upper()
        if constant not in SETTABLE:
            known = ", ".join(sorted(each.replace("_", "-").lower() for each in SETTABLE))
            raise ValueError(f"There is no limit {name!r} to be set; there are {known}.")
        kind = type(globals()[constant])
        try:
            number = kind(value)
        except ValueError:
            number = -1
        if not 0 <= number <= NUMBER_MAX:
            whole = "a whole number" if kind is int else "a number"
            raise ValueError(f"The limit {name} is {whole} from 0 on, not {value!r}.")
        found[constant] = number
    return found


def change(values: Mapping[str, float]) -> dict[str, float]:
    """Have these numbers, by constant, hold in this process; gives those that held before."""
    before = {name: globals()[name] for name in values}
    globals().update(values)
    return before
