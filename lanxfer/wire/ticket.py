"""The ticket dialect: ``<session> <file> <size>``, the bytes, one line back (docs/protocol.rst).

The two ids are all the permission there is, so they have one spelling: lower-case
canonical UUIDs.  What a UUID parser would take besides (braces, ``urn:uuid:``, upper
case, no hyphens) is refused, and everything wrong with a line has one sentence.
"""

from __future__ import annotations

import re

from attrs import frozen

from lanxfer.errors import BadHeader, HeaderTooLong
from lanxfer.wire import limits

ANSWER_MAX = 512
"""Bytes of an answer line."""

NOT_GOOD = "That ticket is not good here."
"""What a stranger hears, whatever is wrong with a ticket (catalogue J19)."""

_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NUMBER = rb"0|[1-9][0-9]{0,18}"
_TICKET = re.compile(rb"(%b) (%b) (%b)( resume)?" % (_UUID, _UUID, _NUMBER))
_HAVE = re.compile(rb"have (%b)" % _NUMBER)
_OK = re.compile(rb"ok (%b) ([0-9a-f]{8}) ([0-9a-f]{64})" % _NUMBER)
_ERROR = re.compile(rb"error ([a-z][a-z-]{0,31})(?: ([\x20-\x7e]*))?")

_HEX = frozenset(b"0123456789abcdef")
_SHAPE = 2 * (8 * "x" + 3 * "-xxxx" + "-" + 12 * "x" + " ")


@frozen
class Ticket:
    """The right to upload one file of ``size`` bytes, once.

    With ``resume`` the other side says first what it holds, and only the rest is sent.
    """

    session: str
    file: str
    size: int
    resume: bool = False


@frozen
class Received:
    """The answer to a good upload; ``crc32`` is eight hex digits, ``blake3`` 64."""

    size: int
    crc32: str
    blake3: str


@frozen
class Refused:
    """The answer to any other."""

    code: str
    reason: str = ""


def looks_like_ticket(first_bytes: bytes) -> bool | None:
    """Whether a connection that begins like this brings a ticket; None: too early to say."""
    for byte, shape in zip(first_bytes, _SHAPE, strict=False):
        if byte not in _HEX if shape == "x" else byte != ord(shape):
            return False
    if len(first_bytes) <= len(_SHAPE):
        return None
    return chr(first_bytes[len(_SHAPE)]) in "0123456789"


def parse_ticket(line: bytes) -> Ticket:
    """What a ticket line says, line end cut off; BadHeader or HeaderTooLong for all else."""
    if len(line) > limits.HEADER_TICKET:
        raise HeaderTooLong()
    found = _TICKET.fullmatch(line)
    if found is None or int(found[3]) > limits.NUMBER_MAX:
        raise BadHeader(NOT_GOOD)
    session, file = found[1].decode("ascii"), found[2].decode("ascii")
    return Ticket(session, file, int(found[3]), found[4] is not None)


def format_ticket(ticket: Ticket) -> bytes:
    """The line of a ticket, LF included; ValueError for ids that are no canonical UUIDs."""
    resume = " resume" if ticket.resume else ""
    line = f"{ticket.session} {ticket.file} {ticket.size}{resume}".encode()
    if not _TICKET.fullmatch(line):
        raise ValueError("a ticket has two canonical UUIDs and a size")
    return line + b"\n"


def parse_have(line: bytes) -> int | None:
    """The bytes that the other side holds already; None where the line says something else."""
    found = _HAVE.fullmatch(line)
    return None if found is None or int(found[1]) > limits.NUMBER_MAX else int(found[1])


def format_have(size: int) -> bytes:
    """The line that says how many bytes are here already, LF included."""
    return f"have {size}\n".encode("ascii")


def parse_answer(line: bytes) -> Received | Refused:
    """What the answer line says, line end cut off; BadHeader or HeaderTooLong for all else."""
    if len(line) > ANSWER_MAX:
        raise HeaderTooLong()
    if (good := _OK.fullmatch(line)) and int(good[1]) <= limits.NUMBER_MAX:
        return Received(int(good[1]), good[2].decode("ascii"), good[3].decode("ascii"))
    if bad := _ERROR.fullmatch(line):
        return Refused(bad[1].decode("ascii"), (bad[2] or b"").decode("ascii"))
    raise BadHeader("The answer to the ticket is neither ok nor error.")


def format_answer(answer: Received | Refused) -> bytes:
    """The answer line, LF included; a reason becomes one line of ASCII, cut if it is long."""
    if isinstance(answer, Received):
        line = f"ok {answer.size} {answer.crc32} {answer.blake3}".encode()
        if not _OK.fullmatch(line):
            raise ValueError("a good answer has a size, a CRC and a digest")
        return line + b"\n"
    plain = "".join(each if " " <= each <= "~" else "?" for each in answer.reason)
    line = f"error {answer.code} {plain}".rstrip().encode("ascii")[:ANSWER_MAX]
    return line + b"\n"
