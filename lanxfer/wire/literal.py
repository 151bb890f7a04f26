r"""The literal dialect: one Python dict literal a line (docs/protocol.rst, "The literal dialect").

``parse_literal`` is total: for any bytes it gives a dict or raises BadHeader or
HeaderTooLong, in time linear in the line.  It is a reader of its own and far
narrower than Python's, because Python's own parsers answer hostile lines with
five kinds of exception, and gigabytes.

What is read: one dict with text as keys; texts in either quote with the escapes
that ``repr`` writes (``\\ \' \" \n \r \t \xNN \uNNNN \UNNNNNNNN``); bytes;
decimal integers of at most 19 digits; finite floats as ``repr`` writes them;
``True``, ``False``, ``None``; lists, tuples and dicts; blanks and tabs between
all of these.  Nothing else: no other prefix, escape or number, no adjacent
texts, comments, names or calls, no key twice.

Control characters: LF ends a line and a CR before it is the caller's to cut off.
Inside a text tab, VT and FF may stand for themselves, as they do for ae peers,
and so may everything from U+0020 on, U+007F, U+0085 and U+2028 included: no line
of ours ends there, and ``format_literal`` writes all of them escaped.  Other
control characters are refused unless they come as an escape; an escape may name
any character, so what is read is data and not yet fit for a terminal or a path.

Dates: a value whose key contains ``_date`` or ``_time``, at any depth, is a tuple
or list of three to seven integers on the wire and a ``datetime`` here.  The
seventh is microseconds when we write; ae peers put the weekday there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from lanxfer.errors import BY_CODE, BadHeader, Foreign, HeaderTooLong, from_os
from lanxfer.wire import limits

VALUES_MAX = 512
"""Values in one request, keys not counted; what a line of nothing but brackets may cost."""

# No quantifier here can be retried at another length (they are possessive), so
# an unclosed text costs one look at each of its characters.
_RAW = r"\x00-\x08\x0a\x0d-\x1f\\"
_SHORT = r"[\\'\"nrt]|x[0-9a-fA-F]{2}"
_LONG = _SHORT + r"|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}"


def _quoted(escapes: str, beyond: str = "") -> str:
    one, two = (
        rf"{quote}[^{quote}{_RAW}{beyond}]*+(?:\\(?:{escapes})[^{quote}{_RAW}{beyond}]*+)*+{quote}"
        for quote in "'\""
    )
    return f"(?:{one}|{two})"


_EXPONENT = r"[eE][+-]?[0-9]{1,3}"
_TOKEN = re.compile(
    rf"(?P<text>{_quoted(_LONG)})"
    rf"|(?P<float>-?(?:0|[1-9][0-9]{{0,18}})(?:\.[0-9]{{1,20}}(?:{_EXPONENT})?|{_EXPONENT}))"
    r"|(?P<int>-?(?:0|[1-9][0-9]{0,18}))"
    r"|(?P<word>True|False|None)"
    r"|(?P<open>[\[({])"
    rf"|b(?P<bytes>{_quoted(_SHORT, beyond=chr(0x80) + '-' + chr(0x10FFFF))})"
)
_BLANKS = re.compile(r"[ \t]*+")
_ESCAPE = re.compile(r"\\(?:x..|u.{4}|U.{8}|.)")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"True": True, "False": False, "None": None}
_CLOSES = {"[": "]", "(": ")", "{": "}"}


def is_date_key(key: str) -> bool:
    """Whether ae peers take what is under this key for a date."""
    return "_date" in key or "_time" in key


def _unescape(match: re.Match[str]) -> str:
    kind, digits = match[0][1], match[0][2:]
    if not digits:
        return _LETTERS.get(kind, kind)
    number = int(digits, 16)
    if number > 0x10FFFF:
        raise BadHeader("The literal names a character that does not exist.")
    return chr(number)


class _Reader:
    """One pass over one line; the depth that is left bounds the recursion."""

    def __init__(self, text: str, values: int) -> None:
        self.text = text
        self.at = 0
        self.values = values

    def refuse(self, what: str) -> NoReturn:
        # The place, never the text: it may be a secret, or meant for a terminal.
        raise BadHeader(f"The literal is not well formed: {what} at character {self.at + 1}.")

    def skip(self) -> None:
        if self.text[self.at : self.at + 1] in (" ", "\t"):
            found = _BLANKS.match(self.text, self.at)
            assert found is not None  # it matches nothing, too
            self.at = found.end()

    def took(self, mark: str) -> bool:
        self.skip()
        if self.text.startswith(mark, self.at):
            self.at += 1
            return True
        return False

    def token(self) -> tuple[str, str]:
        self.skip()
        found = _TOKEN.match(self.text, self.at)
        if found is None or found.lastgroup is None:
            self.refuse("no value that is read here")
        self.at = found.end()
        return found.lastgroup, found[found.lastgroup]

    def value(self, depth: int) -> Any:
        self.values -= 1
        if self.values < 0:
            self.refuse("too many values")
        kind, text = self.token()
        match kind:
            case "text":
                return self.unquoted(text)
            case "int":
                return self.integer(text)
            case "float":
                number = float(text)
                if not math.isfinite(number):
                    self.refuse("a number without bounds")
                return number
            case "word":
                return _WORDS[text]
            case "bytes":
                return self.unquoted(text).encode("latin-1")
            case _:
                if depth == 0:
                    self.refuse("too deep a nesting")
                if text == "{":
                    return self.mapping(depth - 1)
                return self.sequence(_CLOSES[text], depth - 1)

    def unquoted(self, text: str) -> str:
        return _ESCAPE.sub(_unescape, text[1:-1]) if "\\" in text else text[1:-1]

    def integer(self, text: str) -> int:
        number = int(text)
        if abs(number) > limits.NUMBER_MAX:
            self.refuse("too large a number")
        return number

    def mapping(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.took("}"):
            return found
        while True:
            kind, text = self.token()
            if kind != "text":
                self.refuse("a key that is not a text")
            key = self.unquoted(text)
            if key in found:
                self.refuse("a key for the second time")
            if not self.took(":"):
                self.refuse("no colon")
            value = self.value(depth)
            found[key] = self.date(value) if is_date_key(key) else value
            if self.took("}"):
                return found
            if not self.took(","):
                self.refuse("neither a comma nor an end")

    def sequence(self, close: str, depth: int) -> list[Any] | tuple[Any, ...]:
        found: list[Any] = []
        ended = self.took(close)
        while not ended:
            found.append(self.value(depth))
            if ended := self.took(close):
                # Python's (1) is no tuple, and a lone comma makes one only of (1,).
                if close == ")" and len(found) == 1:
                    self.refuse("a bracket around a value")
            elif not self.took(","):
                self.refuse("neither a comma nor an end")
            elif close == ")" and len(found) == 1:
                ended = self.took(close)
        return tuple(found) if close == ")" else found

    def date(self, value: object) -> datetime:
        if (
            not isinstance(value, tuple | list)
            or not 3 <= len(value) <= 7
            or any(type(each) is not int for each in value)
        ):
            self.refuse("something else where a date is due")
        try:
            return datetime(*value)
        except (ValueError, OverflowError):
            self.refuse("a date that does not exist")


def parse_literal(
    line: bytes,
    *,
    limit: int = limits.HEADER_LITERAL,
    depth: int = limits.DEPTH,
    values: int = VALUES_MAX,
) -> dict[str, Any]:
    """What a line says, line end cut off; dates as ``datetime``.

    Raises HeaderTooLong beyond ``limit`` bytes, BadHeader for everything that is
    not in the grammar above, has more than ``values`` values or is nested in more
    than ``depth`` levels.  No refusal quotes the line.
    """
    if len(line) > limit:
        raise HeaderTooLong()
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        # ae peers drop such bytes, and so read another name than was sent.
        raise BadHeader("The literal is not UTF-8.") from None
    reader = _Reader(text, values)
    if not reader.took("{"):
        reader.refuse("no dict")
    found = reader.mapping(depth - 1)
    reader.skip()
    if reader.at != len(text):
        reader.refuse("something after the end")
    return found


def _plain(value: object, depth: int) -> object:
    """``value`` in nothing but built-in types whose ``repr`` is in the grammar."""
    if depth == 0:
        raise ValueError("nested too deeply for the literal dialect")
    if value is None or type(value) in (str, bool, bytes):
        return value
    if type(value) is int and abs(value) <= limits.NUMBER_MAX:
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return _plain_dict(value, depth - 1)
    if type(value) is list:
        return [_plain(each, depth - 1) for each in value]
    if type(value) is tuple:
        return tuple(_plain(each, depth - 1) for each in value)
    raise ValueError(f"the literal dialect cannot say a {type(value).__name__} there")


def _plain_dict(mapping: Mapping[Any, object], depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in mapping.items():
        if type(key) is not str:
            raise ValueError("the literal dialect has only texts as keys")
        if is_date_key(key):
            if not isinstance(value, datetime):
                raise ValueError(f"ae peers want a date under {key!r}")
            found[key] = (*value.timetuple()[:6], value.microsecond)
        else:
            found[key] = _plain(value, depth)
    return found


def format_literal(mapping: Mapping[str, Any]) -> bytes:
    """The line that says ``mapping``, LF included, exactly as Python's ``repr`` has it.

    Raises ValueError for what ae peers could not read: keys that are no texts,
    numbers that are too large or not finite, a date key over anything but a
    ``datetime``, other types, nesting without end.
    """
    text = repr(_plain_dict(mapping, limits.DEPTH + 4))
    return text.encode("utf-8") + b"\n"


# What stands under the key ``error``: what ae controllers look for, and what ae
# peers mean by it.

_FRAGMENTS = {
    "cancelled": "cancelled",
    "connection-lost": "empty chunk error",
    "short-body": "source chunk is empty before reaching the end of the file",
    "timeout": "timed out",
    "unreachable": "transfer_service.connect_and_request() exception",
}


def _fragment(code: str, have: object, request: Mapping[str, Any]) -> str:
    method, total = request.get("method_name"), request.get("total_bytes")
    match code, method:
        case "exists", _ if isinstance(have, int) and have == total:
            return "file already transferred"
        case "exists", _ if isinstance(have, int) and isinstance(total, int) and have > total:
            return f"file size err {have}>{total}"
        case "not-found", "cancel_request":
            return f"{request.get('rt_id_to_cancel')!r} not found/cancelled"
        case "not-found", "send_file":
            return "No such file or directory"
        case "unknown-command", str():
            return f"has no attribute {method[:64]!r}"
        case "bad-header", None:
            return "in parsing the request literal"
    return _FRAGMENTS.get(code, "")


def format_error(code: str, reason: str, have: object, request: Mapping[str, Any]) -> str:
    """The text that tells an ae peer what failed.

    It contains what ae controllers know such a failure by, and ends with our
    code, so that another lanxfer gets that back.  ``have`` is the length that is
    there already, where that is the reason.
    """
    fragment = _fragment(code, have, request)
    text = reason if fragment in reason else f"{fragment} - {reason}"
    return f"{text} [{code}]"


_CODE = re.compile(r" *\[([a-z-]{1,32})\]$")
_QUOTED = re.compile(r"(?:\breq=|\bkwargs=|\brequest )\{.*", re.DOTALL)
_ERRNO = re.compile(r"\[Errno ([0-9]{1,4})\]")
_MEANINGS = {
    "not found/cancelled": "not-found",
    "already transferred": "exists",
    "file size err": "exists",
    "file exists already": "exists",
    ") is a folder": "exists",
    "source chunk is empty": "short-body",
    "request cancellation": "cancelled",
    "called without file name/length": "bad-header",
    "has no attribute": "unknown-command",
    "connect_and_request() exception": "unreachable",
    "empty chunk error": "connection-lost",
    "timed out": "timeout",
}


def parse_error(text: str) -> tuple[str, str]:
    """(code of ``lanxfer.errors``, sentence for people) that such a text stands for.

    The code is that of ``Foreign`` where nothing is known of the text; the
    sentence is one printable line of at most 300 characters.
    """
    text = text.partition("+++")[0]  # ae servers say many things twice
    shown = "".join(each if each.isprintable() else " " for each in _CODE.sub("", text)[:300])
    if (ours := _CODE.search(text)) and ours[1] in BY_CODE:
        return ours[1], shown
    # Requests are quoted at the end of many texts; a file may be called "timed out".
    text = _QUOTED.sub("", text)
    for fragment, code in _MEANINGS.items():
        if fragment in text:
            return code, shown
    if number := _ERRNO.search(text):
        return from_os(OSError(int(number[1]), "")).code, shown
    return ("cancelled" if text.endswith("cancelled") else Foreign.code), shown
