"""The grammar of the native dialect: what a line may be, and that nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lanxfer.errors import BadHeader, LanxferError, UnknownCommand
from lanxfer.wire import limits, native
from lanxfer.wire.dialects import VERBS
from lanxfer.wire.native import (
    REASON_MAX,
    Fields,
    format_packet,
    format_rows,
    parse_object,
    parse_packet,
    parse_rows,
)
from lanxfer.wire.packets import (
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
    Window,
)

DIGEST = "ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"
OTHER = "af" * 32

IDS = st.one_of(st.integers(1, 5), st.integers(1, limits.NUMBER_MAX))
NUMBERS = st.one_of(st.integers(0, 20), st.integers(0, limits.NUMBER_MAX))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CODES = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}(\.[a-z][a-z0-9_]{0,8}){0,3}", fullmatch=True)
DIGESTS = st.sampled_from([DIGEST, OTHER])
LEAVES = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none())
BRANCHES = st.one_of(
    LEAVES, st.lists(LEAVES, max_size=3), st.dictionaries(TEXTS, LEAVES, max_size=3)
)
VALUES = st.one_of(
    BRANCHES, st.lists(BRANCHES, max_size=2), st.dictionaries(TEXTS, BRANCHES, max_size=2)
)
RESERVED = VERBS | {"body", "name", "code", "reason", "retry", "have"}
ARGS = st.dictionaries(TEXTS.filter(lambda key: key not in RESERVED), VALUES, max_size=4)


def made(kind: Callable[..., Packet], *fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Packets of a kind, the fields that are not given as they are by default."""
    return st.tuples(*fields).map(lambda some: kind(*some))


PACKETS: st.SearchStrategy[Packet] = st.one_of(
    made(Do, IDS, NAMES, ARGS, st.integers(0, limits.ANSWER_BODY_MAX)),
    made(Ok, IDS, ARGS, st.integers(0, limits.ANSWER_BODY_MAX)),
    made(Failed, st.one_of(st.just(0), IDS), CODES, TEXTS, st.booleans(), ARGS),
    made(Go, IDS, NUMBERS, st.lists(st.tuples(NUMBERS, DIGESTS), max_size=4).map(tuple), ARGS),
    made(Window, IDS, st.integers(1, limits.NUMBER_MAX)),
    made(Part, IDS, NUMBERS, st.integers(1, limits.PART_MAX)),
    made(End, IDS, NUMBERS, DIGESTS),
    made(Cancel, IDS, TEXTS, CODES),
    made(Event, IDS, ARGS),
    made(Bye, st.booleans()),
)
"""Every packet the native dialect can carry."""


def refused(line: bytes) -> LanxferError:
    with pytest.raises((BadHeader, UnknownCommand)) as caught:
        parse_packet(line)
    return caught.value


class DocumentTests:
    @pytest.mark.parametrize(
        ("line", "packet"),
        [
            (
                b'{"do": 2, "name": "recv_file", "path": "notes/a.txt", "size": 5, "body": 5}',
                Do(2, "recv_file", {"path": "notes/a.txt", "size": 5}, 5),
            ),
            (b'{"ok": 5, "size": 12}', Ok(5, {"size": 12})),
            (
                b'{"error": 4, "code": "cancelled", "reason": "no longer", "retry": false}',
                Failed(4, "cancelled", "no longer"),
            ),
            (b'{"error": 0, "code": "bad-header"}', Failed(0, "bad-header")),
            (
                b'{"go": 4, "window": 8388608, "have": [], "transfer": "5f1c09aa"}',
                Go(4, 8388608, (), {"transfer": "5f1c09aa"}),
            ),
            (
                f'{{"go": 2, "window": 1, "have": [[9, "{OTHER}"], [3, "{DIGEST}"]]}}'.encode(),
                Go(2, 1, ((9, OTHER), (3, DIGEST))),
            ),
            (b'{"window": 4, "bytes": 4194304}', Window(4, 4194304)),
            (b'{"part": 4, "offset": 0, "body": 524288}', Part(4, 0, 524288)),
            (f'{{"end": 4, "size": 7, "blake3": "{DIGEST}"}}'.encode(), End(4, 7, DIGEST)),
            (b'{"cancel": 7, "code": "cancelled", "reason": ""}', Cancel(7)),
            (b'{"cancel": 7}', Cancel(7)),
            (b'{"event": 7, "transfer": {"done": 1}}', Event(7, {"transfer": {"done": 1}})),
            (b'{"bye": "requests"}', Bye(all=False)),
            (b'{"bye": "all"}', Bye(all=True)),
            (b'{"do":1,"name":"ping","later":[1,{"x":null}]}', None),
        ],
    )
    def test_examples(self, line: bytes, packet: Packet | None) -> None:
        """The lines of the document mean what it says."""
        found = parse_packet(line)
        assert found == (packet or Do(1, "ping", {"later": [1, {"x": None}]}))

    def test_unknown_fields_are_kept(self) -> None:
        """A later version may add fields anywhere, even to packets that are only numbers."""
        assert parse_packet(b'{"window": 4, "bytes": 1, "why": "x"}') == Window(4, 1)
        assert parse_packet(b'{"bye": "all", "until": 5}') == Bye(all=True)


class RoundTripTests:
    @given(PACKETS)
    @settings(max_examples=200)
    def test_any_packet(self, packet: Packet) -> None:
        """Whatever is written is read as the same packet, and is one line of ASCII."""
        line = format_packet(packet)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert parse_packet(line[:-1]) == packet

    @given(st.lists(st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4))
    @settings(max_examples=50)
    def test_rows(self, rows: list[dict[str, Any]]) -> None:
        """The rows of an answer come back as they went."""
        assert parse_rows(format_rows(rows)) == rows

    @pytest.mark.parametrize(
        "args",
        [
            {"size": -1},
            {"size": 2**63},
            {"rate": 1.5},
            {"data": b"x"},
            {"when": 1j},
            {"path": "\udc80"},
            {"\ud800": 1},
            {1: "x"},
            {"deep": [[[[[[[[1]]]]]]]]},
            {"body": 5},
            {"do": 2},
            {"window": 2},
            {"name": "other"},
            {"long": "x" * limits.HEADER_KNOWN},
        ],
        ids=repr,
    )
    def test_nothing_unreadable_is_written(self, args: dict[Any, Any]) -> None:
        """What the other side would end the connection for is refused on this side."""
        with pytest.raises(ValueError):
            format_packet(Do(1, "ping", args))

    @pytest.mark.parametrize("row", [{"size": -1}, {"rate": 0.5}, {"path": "\udc80"}])
    def test_no_unreadable_rows(self, row: dict[str, Any]) -> None:
        """The same goes for the rows of an answer."""
        with pytest.raises(ValueError):
            format_rows([row])

    @pytest.mark.parametrize(
        "packet", [Do(1, "Bad Name"), Cancel(1, "", "Bad Code"), Failed(1, "")]
    )
    def test_no_unreadable_words(self, packet: Packet) -> None:
        """Names and codes that no parser takes are not written either."""
        with pytest.raises(ValueError):
            format_packet(packet)

    @pytest.mark.parametrize("reason", ["x" * 5000, "caf\udce9", "\N{SNOWMAN}" * 1025, "a\nb\x1b["])
    def test_any_reason(self, reason: str) -> None:
        """A reason always arrives, shortened and mended where it must be."""
        for packet in (Failed(3, "io-error", reason), Cancel(3, reason)):
            found = parse_packet(format_packet(packet)[:-1])
            assert isinstance(found, Failed | Cancel)
            assert found.reason == reason.replace("\udce9", "\ufffd")[:REASON_MAX]


class TotalTests:
    @given(st.binary(max_size=200))
    @settings(max_examples=200)
    def test_any_bytes(self, line: bytes) -> None:
        """Any bytes are a packet or a typed refusal."""
        try:
            packet = parse_packet(line)
        except (BadHeader, UnknownCommand):
            return
        assert packet.body >= 0

    @given(st.data())
    @settings(max_examples=200)
    def test_almost_a_packet(self, data: st.DataObject) -> None:
        """A packet with a byte changed, left out or put in is a packet or a typed refusal."""
        line = bytearray(format_packet(data.draw(PACKETS))[:-1])
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(line)))
            line[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
        try:
            packet = parse_packet(bytes(line))
        except (BadHeader, UnknownCommand):
            return
        assert format_packet(packet)

    @given(VALUES)
    @settings(max_examples=100)
    def test_any_json(self, value: object) -> None:
        """Any JSON in any field of any verb is a packet or a typed refusal."""
        # covers: H05
        for verb in sorted(VERBS):
            for field in ("body", "size", "name", "have", "window", "offset", "retry", verb):
                try:
                    parse_packet(json.dumps({verb: 1, "name": "ping", field: value}).encode())
                except (BadHeader, UnknownCommand):
                    continue


class LineTests:
    @pytest.mark.parametrize(
        "byte",
        [b"\0", b"\r", b"\n", b"\t", b"\v", b"\f", b"\x1b", b"\x7f", b"\x85", b"\xe2\x80\xa8"],
    )
    @pytest.mark.parametrize("where", [b'%b{"do": 1}', b'{"do": 1%b}', b'{"do": 1, "name": "p%b"}'])
    def test_only_printable(self, byte: bytes, where: bytes) -> None:
        """No control byte and no other line end is anything but an error, wherever it stands."""
        # covers: H03, H14
        refused(where % byte)

    @pytest.mark.parametrize(
        "line",
        [
            b'{"do": 1, "name": "ping", "x": "\xff"}',
            b'{"do": 1, "name": "ping", "x": "\xc0\xaf"}',
            b'{"do": 1, "name": "ping", "x": "\xed\xa0\x80"}',
            b'{"do": 1, "name": "ping", "x": "caf\xe9"}',
            b'{"do": 1, "name": "ping", "x": "caf\xc3\xa9"}',
            b'\xef\xbb\xbf{"do": 1, "name": "ping"}',
            '{"do": 1, "name": "ping"}'.encode("utf-16"),
            '{"do": 1, "name": "ping"}'.encode("utf-16-be"),
        ],
    )
    def test_only_ascii(self, line: bytes) -> None:
        """Other bytes than ASCII are refused before anything decodes them."""
        # covers: H04, J05
        assert isinstance(refused(line), BadHeader)

    @pytest.mark.parametrize("text", ["\\ud800", "\\udfff x", "\\ude00\\ud83d", "a\\udc80"])
    @pytest.mark.parametrize("line", ['{"do": 1, "name": "ping", "x": "%s"}', '{"do": 1, "%s": 1}'])
    def test_half_characters(self, text: str, line: str) -> None:
        """Half a surrogate pair never gets as far as a file name."""
        # covers: H04, J05
        assert isinstance(refused((line % text).encode()), BadHeader)

    def test_whole_characters(self) -> None:
        """A whole pair is one character, and NUL is a character like others here."""
        # covers: J05
        packet = parse_packet(b'{"do": 1, "name": "ping", "x": "\\ud83d\\ude00\\u0000"}')
        assert packet == Do(1, "ping", {"x": "\N{GRINNING FACE}\0"})

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"{}",
            b"[]",
            b"1",
            b'"do"',
            b"null",
            b"{",
            b'{"do"',
            b'{"do": 1',
            b'{"do": 1,}',
            b'{"do": 1} {"do": 2}',
            b'{"do": 1}x',
            b"{'do': 1}",
            b"GET / HTTP/1.1",
            b"{do: 1}",
            b' {"do": 1, "name": "ping"}',
            b'{"do": 1, "name": "ping"} ',
            b'{"do": 1, "name": "ping"}//',
        ],
    )
    def test_one_object(self, line: bytes) -> None:
        """A line is one JSON object and nothing else, not even blanks."""
        # covers: H05, H08
        refused(line)

    @pytest.mark.parametrize(
        "line",
        [
            b'{"do": 1, "do": 1, "name": "ping"}',
            b'{"do": 1, "name": "ping", "size": 1, "size": 1}',
            b'{"do": 1, "name": "ping", "x": {"a": 1, "a": 2}}',
            b'{"do": 1, "name": "ping", "\\u0078": 1, "x": 1}',
        ],
    )
    def test_no_key_twice(self, line: bytes) -> None:
        """A key that comes twice is an error at any depth, in any spelling, never last-wins."""
        # covers: H05, J05
        assert "twice" in refused(line).reason


class NumberTests:
    @pytest.mark.parametrize(
        "number",
        [
            "-1",
            "-0",
            "+7",
            "007",
            "1_000",
            "0x10",
            "1e3",
            "1e999",
            "1.0",
            "NaN",
            "Infinity",
            "-Infinity",
            "9" * 20,
            "9" * 5000,
            "9223372036854775808",
            "",
            "\\u0031",
            '"1"',
            "true",
            "[1]",
        ],
    )
    @pytest.mark.parametrize(
        "line",
        [
            '{"do": %s, "name": "ping"}',
            '{"part": 1, "offset": %s, "body": 5}',
            '{"part": 1, "offset": 5, "body": %s}',
            '{"window": 1, "bytes": %s}',
            '{"go": 1, "window": %s}',
            '{"error": %s, "code": "internal"}',
        ],
    )
    def test_only_decimal(self, line: str, number: str) -> None:
        """A number is 0 or begins with 1 to 9, has digits only, and is below 2**63."""
        # covers: H06, J05, J08
        assert isinstance(refused((line % number).encode()), BadHeader)

    @pytest.mark.parametrize("number", ["-1", "1.5", "9223372036854775808", "1e2"])
    def test_in_any_field(self, number: str) -> None:
        """That holds for fields nobody knows as well."""
        # covers: J05
        refused(f'{{"do": 1, "name": "ping", "later": [{number}]}}'.encode())

    @pytest.mark.parametrize("number", [0, 7, 10**18, limits.NUMBER_MAX])
    def test_good(self, number: int) -> None:
        """From 0 to 2**63 - 1 every number is one."""
        # covers: S01
        assert parse_packet(f'{{"go": 1, "window": {number}}}'.encode()) == Go(1, number)

    @pytest.mark.parametrize(
        "line",
        [
            '{"do": %s, "name": "ping"}',
            '{"ok": %s}',
            '{"go": %s, "window": 1}',
            '{"window": %s, "bytes": 1}',
            '{"part": %s, "offset": 0, "body": 1}',
            '{"end": %s, "size": 0, "blake3": "$"}',
            '{"cancel": %s}',
            '{"event": %s}',
        ],
    )
    def test_exchanges_count_from_one(self, line: str) -> None:
        """0 stands for the connection, and only an error may be about it."""
        # covers: J08
        line = line.replace("$", DIGEST)
        assert parse_packet((line % "1").encode())
        refused((line % "0").encode())
        assert parse_packet(b'{"error": 0, "code": "internal"}')


class DepthTests:
    def test_eight_levels(self) -> None:
        """Eight levels of objects and lists, the header's own the first, are as deep as it goes."""
        assert parse_packet(b'{"do": 1, "name": "ping", "x": %b}' % (b"[" * 7 + b"1" + b"]" * 7))
        for inner in (b"[]", b"{}", b'{"a": 1}', b"[1]"):
            refused(b'{"do": 1, "name": "ping", "x": %b}' % (b"[" * 7 + inner + b"]" * 7))

    @pytest.mark.parametrize("depth", [9, 1000, 30_000])
    @pytest.mark.parametrize(("left", "right"), [(b"[", b"]"), (b'{"a":', b"}")])
    def test_deep(self, depth: int, left: bytes, right: bytes) -> None:
        """Any nesting, closed or not, is a plain refusal."""
        # covers: J05
        refused(b'{"do": 1, "x": %b}' % (left * depth + b"1" + right * depth))
        refused(b'{"do": 1, "x": %b}' % (left * depth))


class FieldTests:
    @pytest.mark.parametrize(
        ("line", "field"),
        [
            ('{"do": 1}', "name"),
            ('{"do": 1, "name": 5}', "name"),
            ('{"do": 1, "name": "Ping"}', "name"),
            ('{"do": 1, "name": "../x"}', "name"),
            ('{"do": 1, "name": "a.b.c.d.e"}', "name"),
            ('{"do": 1, "name": ""}', "name"),
            ('{"do": 1, "name": "ping", "body": "5"}', "body"),
            ('{"do": 1, "name": "ping", "body": 4194305}', "body"),
            ('{"part": 1, "offset": 0}', "body"),
            ('{"part": 1, "offset": 0, "body": 0}', "body"),
            ('{"part": 1, "offset": 0, "body": 16777217}', "body"),
            ('{"part": 1, "body": 5}', "offset"),
            ('{"go": 1}', "window"),
            ('{"go": 1, "window": 1, "have": {}}', "have"),
            ('{"go": 1, "window": 1, "have": [[1]]}', "have"),
            ('{"go": 1, "window": 1, "have": [[true, "$"]]}', "have"),
            ('{"go": 1, "window": 1, "have": [[1, "^"]]}', "have"),
            ('{"go": 1, "window": 1, "have": [[1, "$0"]]}', "have"),
            ('{"window": 1}', "bytes"),
            ('{"window": 1, "bytes": 0}', "bytes"),
            ('{"end": 1, "size": 5, "blake3": "md5"}', "blake3"),
            ('{"take": 1}', "bytes"),
            ('{"event": 1, "body": 16777217}', "body"),
            ('{"end": 1, "blake3": "$"}', "size"),
            ('{"end": 1, "size": 5, "blake3": "^"}', "blake3"),
            ('{"end": 1, "size": 5, "blake3": "abc"}', "blake3"),
            ('{"end": 1, "size": 5, "blake3": "md5:abc"}', "blake3"),
            ('{"error": 1}', "code"),
            ('{"error": 1, "code": "Not A Code"}', "code"),
            ('{"error": 1, "code": "x", "reason": 5}', "reason"),
            ('{"error": 1, "code": "x", "retry": 1}', "retry"),
            ('{"cancel": 1, "code": "../x"}', "code"),
            ('{"bye": 1}', "bye"),
            ('{"bye": "now"}', "bye"),
        ],
    )
    def test_refused_by_name(self, line: str, field: str) -> None:
        """A field that is missing or wrong is named, and its value never echoed."""
        # covers: H05, H12, S05, J02
        line = line.replace("$", DIGEST).replace("^", DIGEST.upper())
        error = refused(line.encode())
        assert isinstance(error, BadHeader)
        assert f'"{field}"' in error.reason
        assert not any(value in error.reason for value in ("../x", "Not A Code", "md5", "4194305"))

    @pytest.mark.parametrize(
        "line",
        [
            '{"go": 1, "window": 1, "body": %s}',
            '{"window": 1, "bytes": 1, "body": %s}',
            '{"end": 1, "size": 0, "blake3": "x", "body": %s}',
            '{"cancel": 1, "body": %s}',
            '{"take": 1, "bytes": 1, "body": %s}',
            '{"error": 1, "code": "internal", "body": %s}',
            '{"bye": "all", "body": %s}',
        ],
    )
    @pytest.mark.parametrize("body", ["0", "5", "1000000000", "null"])
    def test_no_body(self, line: str, body: str) -> None:
        """A body on a packet that has none is refused before a byte of it is read."""
        # covers: J14
        assert "no body" in refused((line % body).encode()).reason

    def test_many_fields(self) -> None:
        """Ten thousand keys cost one pass and are refused by nothing but the length of the line."""
        # covers: H05
        line = json.dumps({"do": 1, "name": "ping", **{f"k{n}": n for n in range(10_000)}})
        packet = parse_packet(line.encode())
        assert isinstance(packet, Do)
        assert len(packet.args) == 10_000

    def test_have_is_bounded(self) -> None:
        """A list of a million offsets is refused by its length."""
        # covers: J12
        entries = [[n, DIGEST] for n in range(limits.HAVE_MAX + 1)]
        refused(json.dumps({"go": 1, "window": 1, "have": entries}).encode())
        assert parse_packet(json.dumps({"go": 1, "window": 1, "have": entries[1:]}).encode())


class VerbTests:
    @pytest.mark.parametrize(
        "line",
        [
            b'{"name": "ping", "do": 1}',
            b'{"Do": 1, "name": "ping"}',
            b'{"method_name": "recv_file"}',
            b'{"": 1}',
        ],
    )
    def test_first_key(self, line: bytes) -> None:
        """The first key is the verb, or there is no such command."""
        # covers: H07, J23
        assert isinstance(refused(line), UnknownCommand)

    @pytest.mark.parametrize("verb", sorted(VERBS))
    @pytest.mark.parametrize("other", sorted(VERBS))
    def test_one_verb(self, verb: str, other: str) -> None:
        """Two verbs are an error, unless one is a field's name as well: a window, a take."""
        # covers: J23
        if other == verb or (verb, other) in {("go", "window"), ("do", "take")}:
            return
        value = '"all"' if verb == "bye" else "1"
        line = f'{{"{verb}": {value}, "name": "ping", "code": "internal", "{other}": 1}}'
        assert isinstance(refused(line.encode()), BadHeader)


class RowsTests:
    @pytest.mark.parametrize(
        "body", [b"1\n", b"[]\n", b'{"a": 1.5}\n', b"{}x\n", b'{"a": "\xc3\xa9"}', b'{"a": -1}\n']
    )
    def test_refused(self, body: bytes) -> None:
        """A row is as strict as a header."""
        with pytest.raises(BadHeader):
            parse_rows(body)

    @given(st.binary(max_size=60))
    @settings(max_examples=100)
    def test_total(self, body: bytes) -> None:
        """Any body is rows or a typed refusal."""
        try:
            rows = parse_rows(body)
        except BadHeader:
            return
        assert all(isinstance(row, dict) for row in rows)


class FieldsTests:
    @given(VALUES)
    @settings(max_examples=100)
    def test_total(self, value: object) -> None:
        """Every way to take a field gives its type or a typed refusal that does not echo it."""
        for take in (
            lambda fields: fields.take_number("x"),
            lambda fields: fields.maybe_number("x"),
            lambda fields: fields.take_text("x", most=3),
            lambda fields: fields.maybe_text("x", most=3),
            lambda fields: fields.take_flag("x"),
            lambda fields: fields.maybe_digest("x"),
            lambda fields: fields.take_list("x", most=2),
        ):
            try:
                found = take(Fields({"x": value}))
            except BadHeader as error:
                assert '"x"' in error.reason
            else:
                assert found is None or found == value

    def test_rest(self) -> None:
        """What was not taken is what is left."""
        fields = Fields({"a": 1, "b": 2})
        assert fields.take_number("a") == 1
        assert dict(fields.rest()) == {"b": 2}

    def test_parse_object(self) -> None:
        """An object may be empty, but has to be one."""
        assert parse_object("{}") == {}
        with pytest.raises(BadHeader):
            parse_object("5")


NEAR_NUMBERS = st.one_of(
    NUMBERS.map(str), st.sampled_from(["00", "01", "-1", "1.0", "1e3", "", "true", str(2**63)])
)
NEAR_FIELDS = st.lists(
    st.tuples(st.sampled_from(["flags", "channel", "body", "size", "name"]), NEAR_NUMBERS),
    max_size=4,
)
BLANKS = st.sampled_from([" ", "", "  "])


@given(
    st.sampled_from(["do", "ok"]),
    NEAR_NUMBERS,
    st.one_of(NAMES, st.sampled_from(["A", "a..b", "a" * 70, "a\\u0062", ""])),
    NEAR_FIELDS,
    BLANKS,
)
def test_plain_lines(
    verb: str, id: str, name: str, fields: list[tuple[str, str]], blank: str
) -> None:
    """The short way through small requests and answers comes to where the long one does."""
    start = f'"{verb}":{blank}{id}' + (f', "name": "{name}"' if verb == "do" else "")
    line = "{" + ", ".join([start, *(f'"{key}": {value}' for key, value in fields)]) + "}"
    _both_ways(line)


@given(NEAR_NUMBERS, NEAR_NUMBERS, NEAR_NUMBERS, NEAR_FIELDS, BLANKS)
@example("1", "0", str(limits.PART_MAX), [], " ")
@example("1", "0", str(limits.PART_MAX + 1), [], " ")
def test_plain_parts(
    id: str, offset: str, body: str, fields: list[tuple[str, str]], blank: str
) -> None:
    """So does that through the headers of parts."""
    start = f'"part": {id},{blank}"offset": {offset}, "body": {body}'
    _both_ways("{" + ", ".join([start, *(f'"{key}": {value}' for key, value in fields)]) + "}")


def _both_ways(line: str) -> None:
    outcomes = []
    for short in (native._plain, lambda line: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "_plain", short)
            try:
                outcomes.append(repr(parse_packet(line.encode("ascii"))))
            except LanxferError as error:
                outcomes.append(f"{error.code}: {error}")
    assert outcomes[0] == outcomes[1]


@given(
    st.one_of(made(Do, IDS, NAMES, ARGS, NUMBERS), made(Ok, IDS, ARGS, NUMBERS)),
    st.dictionaries(st.sampled_from(["flags", "channel"]), st.one_of(NUMBERS, st.booleans())),
)
def test_plain_lines_written(packet: Do | Ok, more: dict[str, Any]) -> None:
    """They are written as any other line is."""
    packet = packet._replace(args={**more, **packet.args})
    written = []
    for short in (native._plain_line, lambda packet: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "_plain_line", short)
            written.append(format_packet(packet))
    # Which of the keys after the verb comes first says nothing.
    short_line, long_line = written
    assert json.loads(short_line) == json.loads(long_line)
    assert sorted(short_line) == sorted(long_line)
    assert next(iter(json.loads(short_line))) == next(iter(json.loads(long_line)))
