"""The one family of errors, compared with what the protocol document promises."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer import errors
from lanxfer.errors import (
    BY_CODE,
    BadName,
    Busy,
    DiskFailed,
    DiskFull,
    Exists,
    Exit,
    Foreign,
    LanxferError,
    NotFound,
    Overloaded,
    QuotaExceeded,
    TooLarge,
    from_os,
    from_wire,
)

DOCUMENT = (Path(__file__).parent.parent / "docs" / "protocol.rst").read_text()

ROW = re.compile(r"^``([a-z-]+)``\s+(yes|no)\s+(\S.*)$", re.MULTILINE)

DOCUMENTED = {
    code: (retry == "yes", "the connection ends" in meaning)
    for code, retry, meaning in ROW.findall(DOCUMENT.partition("\nErrors\n")[2])
}

LOCAL = {
    "unreachable",
    "connection-lost",
    "unconfirmed",
    "key-changed",
    "bad-state",
    "bad-config",
    "weak-storage",
    "as-root",
}
"""What only this side can know; the document of the wire has no word for it."""

FAMILY = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, LanxferError)
]


class TableTests:
    def test_document_was_read(self) -> None:
        """The table of the document has the codes that everybody knows."""
        assert len(DOCUMENTED) == 32
        assert {"bad-header", "internal", "cancelled"} <= set(DOCUMENTED)

    def test_same_codes(self) -> None:
        """Every documented code has a class, and every class that may be said is documented."""
        assert set(BY_CODE) - LOCAL == set(DOCUMENTED)

    @pytest.mark.parametrize("code", sorted(DOCUMENTED))
    def test_same_meaning(self, code: str) -> None:
        """Class and document agree on whether to try again and whether the connection ends."""
        found = BY_CODE[code]
        assert (found.retry, found.closes) == DOCUMENTED[code]

    def test_one_class_a_code(self) -> None:
        """No two classes share a code, but for the root of the family and what a bug is called."""
        codes = [each.code for each in FAMILY if each is not LanxferError]
        assert len(set(codes)) == len(codes)
        assert LanxferError.code == errors.Internal.code

    @pytest.mark.parametrize("error", FAMILY, ids=lambda each: each.__name__)
    def test_fit_for_people(self, error: type[LanxferError]) -> None:
        """Every class has a sentence to show, a code for the wire and an exit code."""
        made = error()
        assert str(made) == made.reason
        assert re.fullmatch(r"[A-Z].*[.?!]|[A-Z][^.]*; .*", made.reason)
        assert "\n" not in made.reason
        assert re.fullmatch(r"[a-z][a-z-]{0,31}", made.code)
        assert isinstance(made.exit, Exit)
        assert made.exit is not Exit.OK


class FromWireTests:
    @pytest.mark.parametrize("code", sorted(BY_CODE))
    def test_known(self, code: str) -> None:
        """A code comes back as its class, with the reason and the details that were given."""
        error = from_wire(code, "because", have=5, offset=7)
        assert type(error) is BY_CODE[code]
        assert (error.reason, error.details) == ("because", {"have": 5, "offset": 7})
        assert type(from_wire(code)).__doc__ != ""
        assert from_wire(code).reason

    @given(st.text(max_size=40), st.text(max_size=80))
    @settings(max_examples=100)
    def test_any_code(self, code: str, reason: str) -> None:
        """Whatever code comes, there is an error for it that keeps what was said."""
        error = from_wire(code, reason)
        assert isinstance(error, LanxferError)
        assert reason in error.reason
        assert type(error) is BY_CODE.get(code, Foreign)

    def test_unknown(self) -> None:
        """A code of a later version keeps its name, and helps nobody to try again."""
        error = from_wire("moon-phase", "Not tonight.")
        assert isinstance(error, Foreign)
        assert error.reason == "Not tonight. [moon-phase]"
        assert not error.retry


class FromOsTests:
    @pytest.mark.parametrize(
        ("number", "found"),
        [
            (errno.ENOSPC, DiskFull),
            (errno.EDQUOT, QuotaExceeded),
            (errno.EFBIG, TooLarge),
            (errno.EEXIST, Exists),
            (errno.ENOENT, NotFound),
            (errno.ENAMETOOLONG, BadName),
            (errno.ELOOP, BadName),
            (errno.EMFILE, Overloaded),
            (errno.EROFS, DiskFailed),
            (errno.EACCES, DiskFailed),
            (errno.EIO, DiskFailed),
        ],
    )
    def test_typed(self, number: int, found: type[LanxferError]) -> None:
        """What the operating system says has a class, and never tells a path."""
        # covers: R02
        error = from_os(OSError(number, os.strerror(number), "/home/me/secret.txt"))
        assert type(error) is found
        assert "secret" not in error.reason
        assert error.reason

    @given(st.one_of(st.none(), st.integers(-5, 200)))
    @settings(max_examples=100)
    def test_total(self, number: int | None) -> None:
        """Every OSError has a class, those without a number too."""
        error = OSError() if number is None else OSError(number, "why", "/a/path")
        assert isinstance(from_os(error), LanxferError)
        assert "/a/path" not in from_os(error).reason

    def test_distinct(self) -> None:
        """A read-only file system, missing rights and a broken disk read differently."""
        # covers: R02
        numbers = (errno.EROFS, errno.EACCES, errno.EIO)
        reasons = {from_os(OSError(each, os.strerror(each))).reason for each in numbers}
        assert len(reasons) == 3


class ErrorTests:
    def test_details_may_have_any_name(self) -> None:
        """A detail may be called like an argument of ours."""
        error = LanxferError("why", reason="detail", self="too")
        assert error.reason == "why"
        assert error.details == {"reason": "detail", "self": "too"}

    def test_own_sentence(self) -> None:
        """Without a reason an error says the sentence of its class."""
        assert Busy().reason == "The same transfer is already under way."
        assert Busy("").reason == Busy().reason
