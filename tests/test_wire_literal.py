"""The literal dialect's lines: what is read, what is refused, what is written."""

from __future__ import annotations

import ast
import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lanxfer.errors import BY_CODE, BadHeader, HeaderTooLong, LanxferError
from lanxfer.wire import limits
from lanxfer.wire.literal import (
    VALUES_MAX,
    format_error,
    format_literal,
    is_date_key,
    parse_error,
    parse_literal,
)

# Values that survive the journey as they are, and keys that make no date of them.
KEYS = st.text(max_size=8).filter(lambda key: not is_date_key(key))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-limits.NUMBER_MAX, limits.NUMBER_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(), max_size=12),
    st.binary(max_size=12),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=8,
)


def levels(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(levels, value.values()), default=0)
    if isinstance(value, list | tuple):
        return 1 + max(map(levels, value), default=0)
    return 0


PIECES = [
    "{", "}", "[", "]", "(", ")", ",", ":", "'", '"', "\\", "\\x", "\\u", "\\N{DASH}", "_", ".",
    "-", "+", "e", "0", "7", "12", "1_0", "0x1", "1e999", "True", "None", "b", "r", "f", "u",
    "set()", "...", "#", " ", "\t", "\x0c", "\x0b", "\x85", "\u2028", "\r", "é", "'k'", "{'k': ",
    "1}", "'a_date'", "(2024, 2, 29)",
]  # fmt: skip

MAPPINGS = st.dictionaries(KEYS, VALUES, max_size=4).filter(lambda m: levels(m) <= limits.DEPTH)


def as_python_reads(line: bytes) -> Any:
    """The oracle, for lines without dates."""
    return ast.literal_eval(line.decode("utf-8").strip(" \t"))


def dates_to_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: dates_to_tuples(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(dates_to_tuples(each) for each in value)
    return (*value.timetuple()[:6], value.microsecond) if isinstance(value, datetime) else value


class RoundTripTests:
    @settings(max_examples=150, deadline=None)
    @given(MAPPINGS)
    def test_written_as_repr_and_read_back(self, mapping: dict[str, Any]) -> None:
        """A dict is written exactly as Python's repr, and reading gives it back."""
        line = format_literal(mapping)
        assert line == repr(mapping).encode("utf-8") + b"\n"
        assert line.count(b"\n") == 1
        found = parse_literal(line[:-1])
        assert found == mapping
        assert repr(found) == repr(mapping)  # types as well, and the order of keys
        assert as_python_reads(line[:-1]) == found

    @settings(max_examples=50, deadline=None)
    @given(st.datetimes(), st.lists(st.sampled_from(["a_date", "my_timer", "_times"]), max_size=2))
    def test_dates(self, moment: datetime, keys: list[str]) -> None:
        """Dates keep their microseconds, at any depth."""
        mapping: dict[str, Any] = {key: moment for key in keys}
        mapping["z"] = [{"q": ({"c_dates": moment},)}]
        assert parse_literal(format_literal(mapping)[:-1]) == mapping

    def test_awkward_texts(self) -> None:
        """Quotes, backslashes, separators and surrogates come out in Python's canonical form."""
        mapping = {"a": "it's", "b": 'say "it\'s"', "c": "\x85\u2028\xad\ud800é☃\x00\x7f\\"}
        assert (
            format_literal(mapping)
            == (
                "{'a': \"it's\", 'b': 'say \"it\\'s\"', "
                "'c': '\\x85\\u2028\\xad\\ud800é☃\\x00\\x7f\\\\'}\n"
            ).encode()
        )


class TotalTests:
    """Whatever comes in, a dict or a typed error comes out."""

    # covers: J01 J02 J04 H04

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=60))
    @example(b"{'a': " * 9)
    @example(b"{'\\U00110000': 1}")
    def test_any_bytes(self, line: bytes) -> None:
        """Arbitrary bytes give a dict or a LanxferError."""
        try:
            assert isinstance(parse_literal(line), dict)
        except LanxferError as error:
            assert isinstance(error, BadHeader | HeaderTooLong)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
    def test_what_is_accepted_python_reads_alike(self, text: str) -> None:
        """Of lines made of likely pieces those that are read mean the same to Python."""
        line = ("{'k': " + text + "}").encode("utf-8")
        try:
            found = parse_literal(line)
        except LanxferError:
            return
        if "_date" not in text:
            assert repr(as_python_reads(line)) == repr(found)

    @settings(max_examples=100, deadline=None)
    @given(MAPPINGS, st.integers(0, 300), st.binary(min_size=1, max_size=3))
    def test_cut_and_garbled(self, mapping: dict[str, Any], at: int, garbage: bytes) -> None:
        """A line cut short is refused, one with garbage in it is refused or read as by Python."""
        line = format_literal(mapping)[:-1]
        with pytest.raises(BadHeader):
            parse_literal(line[: min(at, len(line) - 1)])
        with pytest.raises(BadHeader):
            parse_literal(line + b"}" + garbage)
        garbled = line[:at] + garbage + line[at:]
        try:
            found = parse_literal(garbled)
        except LanxferError:
            return
        if b"_date" not in garbled and b"_time" not in garbled:
            assert repr(as_python_reads(garbled)) == repr(found)

    def test_every_truncation(self) -> None:
        """Every beginning of a request is refused."""
        line = (
            b"{'method_name': 'recv_file', 'file_path': \"M\xc3\xbcller's \\u2603.txt\", 'n': -12,"
            b" 'server_address': ('127.0.0.83', 36969), 'x': [b'\\x00', 1.5, None], 'd_date':"
            b" (2024, 2, 29, 23, 59, 58, 5)}"
        )
        assert len(parse_literal(line)) == 6
        for at in range(len(line)):
            with pytest.raises(BadHeader):
                parse_literal(line[:at])


class AcceptedTests:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("()", ()),
            ("(1,)", (1,)),
            ("(1 , 2)", (1, 2)),
            ("[]", []),
            ("{}", {}),
            ("[[], ({},)]", [[], ({},)]),
            ("-0", 0),
            ("9223372036854775807", 2**63 - 1),
            ("-1.5e-07", -1.5e-07),
            ("1e+16", 1e16),
            ("5e-324", 5e-324),
            ("0.00012345678901234567", 0.00012345678901234567),
            (r"'\x41\u00e9\U0001F600\'\"\\\n\r\t'", "Aé😀'\"\\\n\r\t"),
            (r"'\ud83d\ude00'", "\ud83d\ude00"),
            ("'a\tb\x0bc\x0cd\x7f\x85\u2028\xad'", "a\tb\x0bc\x0cd\x7f\x85\u2028\xad"),
            (r"b'\x00\xff\'a'", b"\x00\xff'a"),
            ('b"it\'s"', b"it's"),
        ],
    )
    def test_values(self, text: str, value: object) -> None:
        """The values of the grammar are read."""
        found = parse_literal(f"{{'k': {text}}}".encode())["k"]
        assert found == value
        assert type(found) is type(value)

    def test_blanks_and_double_quotes(self) -> None:
        """JSON-like text and blanks between tokens are fine."""
        line = b' \t{ "method_name" :\t"x" , "n":1 }\t '
        assert parse_literal(line) == {"method_name": "x", "n": 1}

    def test_eight_levels(self) -> None:
        """Eight levels are read, the ninth is refused."""
        assert parse_literal(b"{'k': " + b"[" * 7 + b"]" * 7 + b"}")
        with pytest.raises(BadHeader, match="nesting"):
            parse_literal(b"{'k': " + b"[" * 8 + b"]" * 8 + b"}")

    def test_limits(self) -> None:
        """Length and number of values are bounded, and whoever asked may widen that."""
        # covers: J03 H05
        line = b"{'k': '" + b"a" * (limits.HEADER_LITERAL - 9) + b"'}"
        assert len(line) == limits.HEADER_LITERAL
        assert parse_literal(line)
        with pytest.raises(HeaderTooLong):
            parse_literal(line + b" ")
        assert parse_literal(line + b" ", limit=limits.HEADER_LITERAL + 1)
        many = b"{'k': [" + b"1," * (VALUES_MAX - 1) + b"1]}"
        with pytest.raises(BadHeader, match="too many values"):
            parse_literal(many)
        assert len(parse_literal(many, values=VALUES_MAX + 1)["k"]) == VALUES_MAX


class RefusedTests:
    # covers: H03 H04 H06 J01 J02 J04

    @pytest.mark.parametrize(
        "text",
        [
            "True()", "set()", "{1}", "{1, 2}", "...", "3+4j", "4j", "x", "true", "null", "nan",
            "inf", "__import__('os')", "'a' 'b'", "'a''b'", "r'a'", "f'a'", "u'a'", "B'a'", "rb'a'",
            "b'é'", r"'\N{DASH}'", r"'\a'", r"'\0'", r"'\101'", r"'\xg0'", r"'\u12'",
            r"'\U00110000'", r"b'\u0041'", "0x10", "0b1", "0o7", "007", "1_000", "+7", "--1", "- 1",
            "~1", "1 000", "9223372036854775808", "-9223372036854775808", "1" * 20, "1" * 4000,
            "0x" + "1" * 4000, "1e999", "-1e999", "1.", ".5", "1.5.5", "1e", "1e5000", "(1)", "(,)",
            "(1, 2,)", "[1,]", "[,]", "[1 2]", "[1", "(1]", "[1)", "'a", "'a\"", "'\\", "",
            "1 # one", "1, 2", "", "lambda: 1", "1 if 1 else 1", "[x for x in y]", "*[1]", "a.b",
            "{'a': 1, **{}}",
        ],
    )  # fmt: skip
    def test_values(self, text: str) -> None:
        """What is not in the grammar is refused, also where Python would read it."""
        with pytest.raises(BadHeader):
            parse_literal(f"{{'k': {text}}}".encode())

    @pytest.mark.parametrize(
        "text",
        [
            "", " ", "{", "}", "{}}", "{}{}", "{} {}", "{} # x", "[1, 2]", "5", "'recv_message'",
            "()", "{'a'}", "{'a': 1,}", "{,}", "{'a' 1}", "{'a': 1 'b': 2}", "{'a':: 1}", "{1: 2}",
            "{b'a': 1}", "{None: 1}", "{('a',): 1}", "{'a': 1, 'a': 2}", "{'a': 1, \"\\x61\": 2}",
            "{'k': {'a': 1, 'a': 1}}", "{'a': 1}\r", "{'a': 1}\n", "\n{'a': 1}", "{'a':\n1}",
            "\ufeff{'a': 1}", "{'a':\xa01}", "{'a':\x0c1}", "{'a':\u20281}", "GET / HTTP/1.1",
            "dict(a=1)",
        ],
    )  # fmt: skip
    def test_lines(self, text: str) -> None:
        """One dict with text keys, each of them once, is all that a line may be."""
        with pytest.raises(BadHeader):
            parse_literal(text.encode())

    @pytest.mark.parametrize("byte", [*range(9), 10, 13, *range(14, 32)])
    def test_raw_control_characters(self, byte: int) -> None:
        """No control character but tab, VT and FF may stand for itself in a text."""
        with pytest.raises(BadHeader):
            parse_literal(b"{'k': 'a%cb'}" % byte)
        with pytest.raises(BadHeader):
            parse_literal(b"{'k': b'a%cb'}" % byte)
        assert parse_literal(b"{'k': '\\x%02x'}" % byte) == {"k": chr(byte)}

    @pytest.mark.parametrize("raw", [b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xe9"])
    def test_not_utf8(self, raw: bytes) -> None:
        """Bytes that are no UTF-8 are refused rather than dropped."""
        with pytest.raises(BadHeader, match="UTF-8"):
            parse_literal(b"{'k': '" + raw + b"'}")

    def test_reasons_keep_the_line_to_themselves(self) -> None:
        """A refusal tells the place and does not quote."""
        with pytest.raises(BadHeader) as caught:
            parse_literal(b"{'pass\x1b': 'secret'}")
        assert "secret" not in caught.value.reason
        assert "\x1b" not in caught.value.reason
        assert "character 2" in caught.value.reason


class DateTests:
    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("(2024, 2, 29)", datetime(2024, 2, 29)),
            ("[2024, 2, 29, 23, 59, 58, 123456]", datetime(2024, 2, 29, 23, 59, 58, 123456)),
            ("(2024, 3, 1, 1, 2)", datetime(2024, 3, 1, 1, 2)),
        ],
    )
    @pytest.mark.parametrize("key", ["a_date", "my_timer", "mod_timestamp", "_time"])
    def test_read(self, key: str, text: str, moment: datetime) -> None:
        """Three to seven integers under a date key are a date."""
        assert parse_literal(f"{{'{key}': {text}}}".encode()) == {key: moment}

    def test_other_keys(self) -> None:
        """``time`` and ``date_x`` are keys like others."""
        found = parse_literal(b"{'time': 6, 'date_x': (1, 2, 3)}")
        assert found == {"time": 6, "date_x": (1, 2, 3)}

    @pytest.mark.parametrize(
        "text",
        [
            "'2024-02-29'", "1700000000", "None", "()", "(2024, 2)", "(2024, 2, 29, 0, 0, 0, 0, 0)",
            "(2024, 2, 30)", "(2024, 13, 1)", "(0, 1, 1)", "(2024, 2, 1.0)", "(2024, True, 1)",
            "(9223372036854775807, 1, 1)", "(2024, 1, 1, 0, 0, 0, 1000000)", "{}", "[[2024, 1, 1]]",
        ],
    )  # fmt: skip
    def test_refused(self, text: str) -> None:
        """Anything else under such a key is refused, however deep it stands."""
        for line in (f"{{'a_date': {text}}}", f"{{'k': [{{'a_time': {text}}}]}}"):
            with pytest.raises(BadHeader):
                parse_literal(line.encode())

    def test_written(self) -> None:
        """A date is written as seven numbers, the last one microseconds."""
        mapping = {"z": ({"a_date": datetime(2024, 2, 29, 1, 2, 3, 456)},)}
        assert format_literal(mapping) == b"{'z': ({'a_date': (2024, 2, 29, 1, 2, 3, 456)},)}\n"


class WrittenTests:
    @pytest.mark.parametrize(
        "value",
        [float("nan"), float("inf"), {1, 2}, 3j, ..., object(), 2**63, datetime(2024, 1, 1), {1: 2}]
    )  # fmt: skip
    def test_refused(self, value: object) -> None:
        """What an ae peer could not read is never written."""
        with pytest.raises(ValueError):
            format_literal({"k": [value]})

    @pytest.mark.parametrize("value", ["x", None, 5, (2024, 1, 1)])
    def test_date_keys_need_dates(self, value: object) -> None:
        """A value that would make a peer close is never written under a date key."""
        with pytest.raises(ValueError):
            format_literal({"a_date": value})

    def test_a_cycle_ends(self) -> None:
        """A list that contains itself is a ValueError."""
        loop: list[object] = []
        loop.append(loop)
        with pytest.raises(ValueError):
            format_literal({"k": loop})


class TimeTests:
    # covers: J01 J03 J04

    @pytest.mark.parametrize(
        "unit",
        [
            b"[", b"(", b"{", b"{'k':", b"-", b"+1", b"1+", b"'", b"\\", b"\\'", b"\\x4", b"'a'",
            b"1", b" ", b"\t", b",", b"1,", b"1.", b"e1", b"0x1", b"b'", b"b'\\x00", b"()", b"(),",
            b"'a':1,", b"\xc3\xa9",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize(
        "before", [b"", b"{'k':", b"{'k': '", b"{'k': b'", b"{'k': [", b"{'k': 1."]
    )
    def test_linear(self, before: bytes, unit: bytes) -> None:
        """No repetition costs more than its length: thirty times the limit, well under a second."""
        size = 30 * limits.HEADER_LITERAL
        line = (before + unit * (size // len(unit)))[:size]
        started = time.perf_counter()
        with pytest.raises(BadHeader):
            parse_literal(line, limit=size, values=size)
        assert time.perf_counter() - started < 1.0


REQUEST = {"method_name": "recv_file", "total_bytes": 1000}


class ErrorTextTests:
    @pytest.mark.parametrize("code", sorted(BY_CODE))
    def test_code_comes_back(self, code: str) -> None:
        """A lanxfer peer gets the code and the sentence that were meant."""
        error = BY_CODE[code]()
        text = format_error(code, error.reason, None, REQUEST)
        found, shown = parse_error(text)
        assert found == code
        assert shown.endswith(error.reason[:100])

    @pytest.mark.parametrize(
        ("code", "have", "said", "fragment"),
        [
            ("exists", 1000, REQUEST, "already transferred"),
            ("exists", 1500, REQUEST, "size err 1500>1000"),
            ("short-body", None, REQUEST,
             "source chunk is empty before reaching the end of the file"),
            ("cancelled", None, REQUEST, "cancelled"),
            ("not-found", None, {"method_name": "cancel_request", "rt_id_to_cancel": "zz"},
             "'zz' not found/cancelled"),
            ("not-found", None, {"method_name": "send_file"}, "No such file or directory"),
            ("unknown-command", None, {"method_name": "nope"}, "has no attribute 'nope'"),
            ("bad-header", None, {}, "in parsing the request literal"),
            ("timeout", None, {"method_name": "send_message"}, "timed out"),
        ],
    )  # fmt: skip
    def test_fragments(
        self, code: str, have: int | None, said: dict[str, Any], fragment: str
    ) -> None:
        """Controllers find the words they know."""
        assert fragment in format_error(code, "Because.", have, said)

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("TransferServiceApp.recv_file(): file already transferred+++X", "exists"),
            ("TransferServiceApp.recv_file(): file size err 1500>1000", "exists"),
            ("destination file exists already (pass True to the overwrite parameter to overwrite)",
             "exists"),
            ("TransferServiceApp.recv_file() destination 'file' (/a/b) is a folder", "exists"),
            ("source chunk is empty before reaching the end of the file", "short-body"),
            ("progress function request cancellation; cancel_reason='x'", "cancelled"),
            ("'rt1' from client ('127.0.0.1', 5) cancelled", "cancelled"),
            ("'rt1' from client ('127.0.0.1', 5) not found/cancelled", "not-found"),
            ("[Errno 28] No space left on device", "disk-full"),
            ("[Errno 13] Permission denied: '/x'", "io-error"),
            ("[Errno 2] No such file or directory: '/x'", "not-found"),
            ("X.response_to_request() exception ''message'' req={'file_path': 'timed out'}",
             "unknown-reason"),
            ("transfer_service.connect_and_request() exception timed out processing received"
             " request {'file_path': 'x'}", "unreachable"),
            ("something new", "unknown-reason"),
            ("I claim [no-such-code]", "unknown-reason"),
            ("", "unknown-reason"),
        ],
    )  # fmt: skip
    def test_what_ae_peers_say(self, text: str, code: str) -> None:
        """The texts of ae peers are sorted into the family."""
        assert parse_error(text)[0] == code

    def test_shown(self) -> None:
        """What a person reads of it is short and printable."""
        _, shown = parse_error("a\x1b[2Jb\n" + "c" * 1000 + "+++again")
        assert shown.startswith("a [2Jb c")
        assert len(shown) == 300
        assert shown.isprintable()
        assert parse_error("file already transferred+++again") == (
            "exists",
            "file already transferred",
        )


def recorded_lines() -> list[tuple[str, str]]:
    """Every whole line that a real ae server said, by vector."""
    found = []
    for path in sorted((Path(__file__).parent / "vectors" / "ae").glob("*.json")):
        vector = json.loads(path.read_text("utf-8"))
        for event in vector["events"]:
            text = event.get("text", "")
            for name, each in vector["variables"].items():
                text = text.replace("${" + name + "}", str(each["example"]))
            if event["from"] == "server" and text.endswith("\n"):
                found.append((vector["case"], text))
    return found


class RecordedTests:
    @pytest.mark.parametrize(("case", "text"), recorded_lines())
    def test_canonical(self, case: str, text: str) -> None:
        """A line that a real ae server said is read, and written again to the byte."""
        line = text.encode("utf-8")
        assert format_literal(parse_literal(line[:-1], limit=limits.HEADER_KNOWN)) == line
