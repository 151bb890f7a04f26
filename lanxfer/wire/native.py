"""The native dialect: one JSON object a line (docs/protocol.rst, "Packets").

``parse_packet`` is total: for any bytes it gives a packet or raises BadHeader,
in time linear in the line.  Numbers are integers; a number is checked as text
before Python makes an int of it, because Python accepts more than the grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Never

from lanxfer.errors import BadHeader, UnknownCommand
from lanxfer.wire import limits
from lanxfer.wire.packets import (
    Args,
    Bye,
    Cancel,
    Do,
    End,
    Event,
    Failed,
    Go,
    Ok,
    Packet,
    Part,
    Take,
    Window,
)

_PRINTABLE = re.compile(rb"[\x20-\x7e]*")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_COMMAND = re.compile(r"[a-z][a-z0-9_]{0,31}(?:\.[a-z][a-z0-9_]{0,31}){0,3}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_HALF = re.compile("[\ud800-\udfff]")

VERSION = "lanxfer/1"

REASON_MAX = 1024
"""Characters of a reason."""


def is_whole(text: str) -> bool:
    """Whether no character is only half there (a lone surrogate), so that it can be encoded."""
    return text.isascii() or not _HALF.search(text)


def _integer(text: str) -> int:
    found = int(text) if _NUMBER.fullmatch(text) else -1
    if not 0 <= found <= limits.NUMBER_MAX:
        raise BadHeader("A number in the header is negative, or too large.")
    return found


def _no_float(text: str) -> Never:
    raise BadHeader("A number in the header is not a plain decimal integer.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadHeader("A field of the header is given twice.")
    return found


# An own decoder object: json.loads with hooks builds one a call.
_decode = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_no_float,
    parse_constant=_no_float,
).decode
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


def _check(value: object, room: int) -> None:
    """Refuse what JSON allows and a packet does not; ``room`` bounds the recursion."""
    if isinstance(value, str):
        if not is_whole(value):
            raise BadHeader("The header contains half a character (a lone surrogate).")
    elif isinstance(value, (dict, list)):
        if not room:
            raise BadHeader("The header is nested too deeply.")
        for each in value:
            _check(each, room - 1)
            if isinstance(value, dict):
                _check(value[each], room - 1)


def parse_object(text: str) -> dict[str, Any]:
    """One strict JSON object: unique keys, integers only, eight levels, no half characters."""
    # JSON would allow blanks around it.
    if not (text.startswith("{") and text.endswith("}")):
        raise BadHeader("The header is not one JSON object.")
    try:
        found = _decode(text)
    except (ValueError, RecursionError):
        raise BadHeader("The header is not one JSON object.") from None
    if not isinstance(found, dict):
        raise BadHeader("The header is not one JSON object.")
    # Half a character can only be written as an escape, and what is deep has many brackets.
    if "\\" in text or text.count("{") + text.count("[") > limits.DEPTH or not text.isascii():
        _check(found, limits.DEPTH)
    return found


class Fields:
    """Typed access to the fields of a header; every refusal names the field, never its value."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._left = dict(found)

    def take_number(self, name: str, *, most: int = limits.NUMBER_MAX, least: int = 0) -> int:
        value = self._left.pop(name, None)
        if type(value) is not int or not least <= value <= most:
            raise BadHeader(f'The header needs a number "{name}" from {least} to {most}.')
        return value

    def maybe_number(self, name: str, *, most: int = limits.NUMBER_MAX) -> int | None:
        return None if self._left.get(name) is None else self.take_number(name, most=most)

    def take_text(self, name: str, *, most: int = limits.HEADER_KNOWN) -> str:
        value = self._left.pop(name, None)
        if not isinstance(value, str) or len(value) > most:
            raise BadHeader(f'The header needs a text "{name}" of at most {most} characters.')
        return value

    def maybe_text(self, name: str, *, most: int = limits.HEADER_KNOWN) -> str | None:
        return None if self._left.get(name) is None else self.take_text(name, most=most)

    def take_flag(self, name: str) -> bool:
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise BadHeader(f'"{name}" in the header is true or false.')
        return value

    def maybe_digest(self, name: str) -> str | None:
        value = self.maybe_text(name, most=64)
        if value is not None and not _DIGEST.fullmatch(value):
            raise BadHeader(f'"{name}" in the header is not a BLAKE3 digest in lower-case hex.')
        return value

    def take_list(self, name: str, *, most: int) -> list[Any]:
        value = self._left.pop(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise BadHeader(f'"{name}" in the header is a list of at most {most} entries.')
        return value

    def rest(self) -> Args:
        return MappingProxyType(self._left)


def _id(fields: Fields, verb: str, least: int = 1) -> int:
    return fields.take_number(verb, least=least)


def _body(fields: Fields, most: int) -> int:
    return fields.maybe_number("body", most=most) or 0


def _parse_do(fields: Fields) -> Packet:
    id = _id(fields, "do")
    name = fields.take_text("name", most=128)
    if not _is_command(name):
        raise BadHeader('"name" in the header is not the name of a command.')
    body = _body(fields, limits.ANSWER_BODY_MAX)
    return Do(id, name, fields.rest(), body)


def _parse_ok(fields: Fields) -> Packet:
    id = _id(fields, "ok")
    body = _body(fields, limits.ANSWER_BODY_MAX)
    return Ok(id, fields.rest(), body)


def _parse_error(fields: Fields) -> Packet:
    id = _id(fields, "error", least=0)
    code = fields.take_text("code", most=32)
    if not _CODE.fullmatch(code):
        raise BadHeader('"code" in the header is not an error code.')
    reason = fields.maybe_text("reason", most=REASON_MAX) or ""
    retry = fields.take_flag("retry")
    return Failed(id, code, reason, retry, fields.rest())


def _parse_go(fields: Fields) -> Packet:
    id = _id(fields, "go")
    window = fields.take_number("window")
    have = []
    for each in fields.take_list("have", most=limits.HAVE_MAX):
        match each:
            case [int(offset), str(digest)] if (
                type(offset) is int and offset >= 0 and _DIGEST.fullmatch(digest)
            ):
                have.append((offset, digest))
            case _:
                raise BadHeader('An entry of "have" is not an offset and a digest.')
    return Go(id, window, tuple(have), fields.rest())


def _parse_window(fields: Fields) -> Packet:
    return Window(_id(fields, "window"), fields.take_number("bytes", least=1))


def _parse_part(fields: Fields) -> Packet:
    id = _id(fields, "part")
    offset = fields.take_number("offset")
    return Part(id, offset, fields.take_number("body", least=1, most=limits.PART_MAX))


def _parse_end(fields: Fields) -> Packet:
    id = _id(fields, "end")
    size = fields.take_number("size")
    return End(id, size, fields.maybe_digest("blake3"))


def _parse_cancel(fields: Fields) -> Packet:
    id = _id(fields, "cancel")
    code = fields.maybe_text("code", most=32) or "cancelled"
    if not _CODE.fullmatch(code):
        raise BadHeader('"code" in the header is not an error code.')
    return Cancel(id, fields.maybe_text("reason", most=REASON_MAX) or "", code)


def _parse_event(fields: Fields) -> Packet:
    id = _id(fields, "event")
    body = _body(fields, limits.PART_MAX)
    return Event(id, fields.rest(), body)


def _parse_take(fields: Fields) -> Packet:
    return Take(_id(fields, "take"), fields.take_number("bytes", least=1))


def _parse_bye(fields: Fields) -> Packet:
    match fields.take_text("bye", most=8):
        case "requests":
            return Bye(all=False)
        case "all":
            return Bye(all=True)
        case _:
            raise BadHeader('"bye" in the header is "requests" or "all".')


_PARSERS: dict[str, Callable[[Fields], Packet]] = {
    "do": _parse_do,
    "ok": _parse_ok,
    "error": _parse_error,
    "go": _parse_go,
    "window": _parse_window,
    "part": _parse_part,
    "end": _parse_end,
    "cancel": _parse_cancel,
    "event": _parse_event,
    "take": _parse_take,
    "bye": _parse_bye,
}
_VERBS = frozenset(_PARSERS)
_WITH_BODY = {"do", "ok", "part", "event"}
_FIELDS = {("go", "window"), ("do", "take")}  # verbs that are a field's name as well

_PLAIN = re.compile(
    rb'\{"(?:do": ([1-9][0-9]{0,17}), "name": "([a-z0-9_.]{1,127})"|ok": ([1-9][0-9]{0,17}))'
    rb'(?:, "flags": (0|[1-9][0-9]{0,17}))?(?:, "channel": (0|[1-9][0-9]{0,17}))?'
    rb'(?:, "body": ([1-9][0-9]{0,6}))?\}'
)
"""What most small requests and answers look like, to the letter; what is only like it is JSON."""
_PLAIN_PART = re.compile(
    rb'\{"part": ([1-9][0-9]{0,17}), "offset": (0|[1-9][0-9]{0,17}), "body": ([1-9][0-9]{0,8})\}'
)
"""The same of parts of files, one a mebibyte."""


@lru_cache(256)
def _is_command(name: str) -> bool:
    return _COMMAND.fullmatch(name) is not None


def _command_name(name: str) -> str:
    if not _is_command(name):
        raise ValueError(f"{name!r} is no name of a command")
    return name


def _plain(line: bytes) -> Packet | None:
    """The packet of a line that ``_PLAIN`` or ``_PLAIN_PART`` takes in.

    It is the same that ``parse_packet`` makes of it.
    """
    if line.startswith(b'{"part"'):
        return _plain_part(line)
    found = _PLAIN.fullmatch(line)
    if found is None:
        return None
    do, name, ok, flags, channel, body = found.groups()
    size = int(body) if body else 0
    if size > limits.ANSWER_BODY_MAX:
        return None
    given: dict[str, Any] = {}
    if flags is not None:
        given["flags"] = int(flags)
    if channel is not None:
        given["channel"] = int(channel)
    args: Args = MappingProxyType(given)  # nobody else has it: no copy
    if ok is not None:
        return Ok(int(ok), args, size)
    command = name.decode("ascii")
    return Do(int(do), command, args, size) if _is_command(command) else None


def _plain_part(line: bytes) -> Part | None:
    found = _PLAIN_PART.fullmatch(line)
    if found is None:
        return None
    id, offset, body = map(int, found.groups())
    return Part(id, offset, body) if body <= limits.PART_MAX else None


def parse_packet(line: bytes) -> Packet:
    """What a header line (without its line end) says.

    Raises BadHeader for whatever is not in the grammar, UnknownCommand where
    the first key is no verb.
    """
    plain = _plain(line)
    if plain is not None:
        return plain
    if not _PRINTABLE.fullmatch(line):
        raise BadHeader("The header contains a byte that is not printable ASCII.")
    found = parse_object(line.decode("ascii"))
    verb = next(iter(found), "")
    parser = _PARSERS.get(verb)
    if parser is None:
        raise UnknownCommand("The first key of the header is not a verb.")
    if verb not in _WITH_BODY and "body" in found:
        raise BadHeader(f'A "{verb}" has no body.')
    if any(other != verb and (verb, other) not in _FIELDS for other in _VERBS & found.keys()):
        raise BadHeader("The header has two verbs.")
    return parser(Fields(found))


def _reason(text: str) -> str:
    """A reason that the other side can read, whatever name it quotes."""
    return _HALF.sub("\ufffd", text)[:REASON_MAX]


def _fit(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{text!r} is nothing that a packet can carry there")
    return text


def _sayable(value: object, room: int) -> bool:
    """Whether ``parse_packet`` on the other side will take that value."""
    if isinstance(value, str):
        return is_whole(value)
    if isinstance(value, int):
        return 0 <= value <= limits.NUMBER_MAX
    if isinstance(value, dict):
        if not room:
            return False
        for key, each in value.items():
            if not (isinstance(key, str) and is_whole(key) and _sayable(each, room - 1)):
                return False
        return True
    if isinstance(value, (list, tuple)):
        return room > 0 and all(_sayable(each, room - 1) for each in value)
    return value is None


def _line(head: dict[str, Any]) -> bytes:
    if not _sayable(head, limits.DEPTH):
        raise ValueError("a packet has texts, numbers from 0 to 2**63 - 1, flags, lists and dicts")
    return _encode(head).encode("ascii") + b"\n"


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= limits.NUMBER_MAX:
        raise ValueError("a packet's numbers are from 0 to 2**63 - 1")
    return value


def _plain_line(packet: Do | Ok) -> bytes | None:
    """The line of a small request or answer, as ``_PLAIN`` takes it in; None for any other."""
    args = packet.args
    more = ""
    if args:
        left = len(args)
        for key in ("flags", "channel"):
            if key in args:
                value = args[key]
                if type(value) is not int:
                    return None
                more += f', "{key}": {_number(value)}'
                left -= 1
        if left:
            return None
    if packet.body:
        more += f', "body": {_number(packet.body)}'
    if type(packet) is Ok:
        return f'{{"ok": {_number(packet.id)}{more}}}\n'.encode("ascii")
    name = _command_name(packet.name)  # type: ignore[union-attr]  # a Do
    return f'{{"do": {_number(packet.id)}, "name": "{name}"{more}}}\n'.encode("ascii")


def format_packet(packet: Packet) -> bytes:
    """The header line of a packet, line end included; never more than one line.

    Whatever it gives, ``parse_packet`` reads.  Raises ValueError where that cannot
    be: fields that are a packet's own, numbers and values that no line can carry.
    """
    if isinstance(packet, (Do, Ok)):
        line = _plain_line(packet)
        if line is not None:
            return line
    head: dict[str, Any]
    args: Args = {}
    match packet:
        case Do():
            args = packet.args
            head = {"do": packet.id, "name": _command_name(packet.name)}
        case Ok():
            args = packet.args
            head = {"ok": packet.id}
        case Failed():
            args = packet.args
            head = {
                "error": packet.id,
                "code": _fit(_CODE, packet.code),
                "reason": _reason(packet.reason),
                "retry": packet.retry,
            }
        case Go():
            args = packet.args
            have = [list(each) for each in packet.have]
            head = {"go": packet.id, "window": packet.window, "have": have}
        case Window():
            head = {"window": packet.id, "bytes": packet.bytes}
        case Part():
            head = {"part": packet.id, "offset": packet.offset}
        case End():
            head = {"end": packet.id, "size": packet.size}
            if packet.digest is not None:
                head["blake3"] = packet.digest
        case Cancel():
            head = {
                "cancel": packet.id,
                "code": _fit(_CODE, packet.code),
                "reason": _reason(packet.reason),
            }
        case Event():
            args = packet.args
            head = {"event": packet.id}
        case Take():
            head = {"take": packet.id, "bytes": packet.bytes}
        case Bye():
            head = {"bye": "all" if packet.all else "requests"}
    if args:
        taken = (_PARSERS.keys() | head.keys() | {"body"}) & args.keys()
        if taken and not (taken == {"take"} and "do" in head):
            raise ValueError("a field of the packet's own is among its arguments")
        head.update(args)
    if packet.body:
        head["body"] = packet.body
    line = _line(head)
    if len(line) > limits.HEADER_KNOWN:
        raise ValueError("more than one line can carry")
    return line


def format_rows(rows: Iterable[Args]) -> bytes:
    """The body of an answer that is a list: one JSON object a line; ValueError as above."""
    return b"".join(_line(dict(row)) for row in rows)


def parse_rows(body: bytes) -> list[dict[str, Any]]:
    """The rows of such a body; BadHeader if one of them is no JSON object."""
    if not body.isascii():
        raise BadHeader("The rows of an answer are not ASCII.")
    return [parse_object(line) for line in body.decode("ascii").split("\n") if line]
