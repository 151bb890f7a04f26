"""Manifests and outcomes of many small files in one request."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lanxfer.errors import BadHeader, Exists
from lanxfer.transfers import Conflict, Kind, Offer
from lanxfer.wire import limits
from lanxfer.wire.native import format_rows
from lanxfer.wire.packs import (
    format_manifest,
    format_outcome,
    parse_manifest,
    parse_outcomes,
)

DIGEST = "ab" * 32
PATHS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
OFFERS = st.builds(
    lambda *some: Offer(*some),
    PATHS,
    st.integers(0, 1000),
    st.just(Kind.FILE),
    st.none() | st.integers(0, limits.NUMBER_MAX),
    st.just(DIGEST),
    st.booleans(),
)
FOLDERS = PATHS.map(lambda path: Offer(path, 0, Kind.FOLDER))


def line(**changes: Any) -> bytes:
    """One good line with something else in it."""
    values: dict[str, Any] = {
        "path": '"a"', "size": "1", "mtime": "null", "digest": f'"{DIGEST}"', "flag": "false"
    }  # fmt: skip
    values.update(changes)
    return f"[{', '.join(values.values())}]\n".encode()


class ManifestTests:
    @given(st.lists(OFFERS | FOLDERS, min_size=1, max_size=20))
    def test_round_trip(self, offers: list[Offer]) -> None:
        """What is written is read, one ASCII line a file or folder."""
        data = format_manifest(each[:6] for each in offers)
        assert data.isascii() and data.count(b"\n") == len(offers)
        assert parse_manifest(data, len(offers)) == offers
        rows = [
            [o.path, o.size, o.mtime_ns, o.digest, o.executable][: 5 if o.digest else 1]
            for o in offers
        ]
        assert data.decode() == "".join(f"{json.dumps(row)}\n" for row in rows)

    def test_conflict(self) -> None:
        """The policy of all is that of each."""
        (offer,) = parse_manifest(line(), 1, Conflict.REFUSE)
        assert offer.conflict is Conflict.REFUSE

    def test_half_a_character(self) -> None:
        """A name that is no text is not written."""
        with pytest.raises(ValueError):
            format_manifest([Offer("\ud800", 0, digest=DIGEST)[:6]])

    # covers: H01 H03 H04
    @given(st.binary(max_size=200), st.integers(1, 3))
    @example(b"[" * 100_000 + b"\n", 1)
    @example(b"9" * 100_000 + b"\n", 1)
    @example(b'["a",1,null,"x",false],["a"\n', 1)
    def test_total(self, data: bytes, files: int) -> None:
        """Whatever comes is a manifest or a bad header."""
        with suppress(BadHeader):
            parse_manifest(data, files)

    # covers: H03 H06 R07
    @pytest.mark.parametrize(
        "bad",
        [
            line(path="1"),
            line(path="null"),
            line(size="-1"),
            line(size="1.0"),
            line(size="true"),
            line(size=str(limits.PACK_MAX + 1)),
            line(mtime="-1"),
            line(mtime=str(2**63)),
            line(mtime="NaN"),
            line(digest=f'"{DIGEST[:-1]}"'),
            line(digest=f'"{DIGEST.upper()}"'),
            line(digest="null"),
            line(flag="0"),
            line(flag="false, 1"),
            line(path='["a"]'),
            b'{"path": "a"}\n',
            line()[:-1],
            line() + b"x",
            line() + b"\n",
            line(path='"\xe4"'),
            b"\n",
            b"",
        ],
    )
    def test_refused(self, bad: bytes) -> None:
        """Each line is path, size, time, digest and a flag, and ends."""
        with pytest.raises(BadHeader):
            parse_manifest(bad, 1)
        with pytest.raises(BadHeader):
            parse_manifest(line() + b'["folder"]\n' + bad, 3)

    def test_number_of_lines(self) -> None:
        """Neither fewer nor more, also where two rows hide in a line."""
        with pytest.raises(BadHeader):
            parse_manifest(line(), 2)
        with pytest.raises(BadHeader):
            parse_manifest(line()[:-1] + b", " + line(), 1)

    # covers: R06
    def test_too_much(self) -> None:
        """All bodies together have a bound of their own."""
        most = 4
        whole = line(size=str(limits.PACK_MAX // most)) * most
        assert len(parse_manifest(whole, most)) == most
        with pytest.raises(BadHeader):
            parse_manifest(whole + line(), most + 1)


class OutcomeTests:
    def test_round_trip(self) -> None:
        """Only what is not plain has a row."""
        said: list[Any] = [{}, {"stored": "a (2)"}, {"already": True}, Exists("so")]
        rows = [format_outcome(at, each) for at, each in enumerate(said) if each]
        found = parse_outcomes(rows, 4, 3)
        assert list(found) == [1, 2, 3]
        assert (found[1], found[2]) == (said[1], said[2])
        assert type(found[3]) is Exists and found[3].reason == "so"

    # covers: I1
    @pytest.mark.parametrize("outcomes", [0, 2, None, True, "1"])
    def test_not_all_said(self, outcomes: object) -> None:
        """Where rows are missing nothing is taken for good."""
        with pytest.raises(BadHeader):
            parse_outcomes([{"at": 0, "error": "exists"}], 4, outcomes)

    def test_all_fit(self) -> None:
        """A word about each file fits into one answer, whatever they say."""
        worst = Exists("\U0001f600" * 5000)
        rows = [format_outcome(at, worst) for at in range(limits.PACK_FILES)]
        assert len(format_rows([row for row in rows if row])) <= limits.ANSWER_BODY_MAX

    @pytest.mark.parametrize("row", [{"at": 4}, {"at": -1}, {}, {"at": 0, "error": 1}])
    def test_refused(self, row: dict[str, Any]) -> None:
        """A row is about one of the files."""
        with pytest.raises(BadHeader):
            parse_outcomes([row], 4, 1)

    def test_twice(self) -> None:
        """A file has one outcome."""
        with pytest.raises(BadHeader):
            parse_outcomes([{"at": 1}, {"at": 1}], 4, 2)
