"""The words, what people type of them, and tokens."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.codes import (
    TOKEN_MAX,
    TOKEN_MIN,
    WORDS,
    Secret,
    code_secret,
    load_token,
    new_code,
    parse_code,
    words,
)
from lanxfer.errors import BadConfig

ALL = sorted(words())
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def slips(word: str) -> set[str]:
    """Every word that one slip of a finger makes of this one."""
    cuts = [(word[:at], word[at:]) for at in range(len(word) + 1)]
    lost = {a + b[1:] for a, b in cuts if b}
    swapped = {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    wrong = {a + letter + b[1:] for a, b in cuts if b for letter in LETTERS}
    more = {a + letter + b for a, b in cuts for letter in LETTERS}
    return (lost | swapped | wrong | more) - {word}


class WordTests:
    def test_enough(self) -> None:
        """Three words are at least the 24 bits that the design asks for; they are 30."""
        # covers: F20
        assert len(ALL) == 1024
        count = len(ALL) * (len(ALL) - 1) * (len(ALL) - 2)
        assert count > 2**29.9

    def test_plain(self) -> None:
        """Every word can be typed anywhere, and none is the beginning of another."""
        assert all(4 <= len(each) <= 8 and set(each) <= set(LETTERS) for each in ALL)
        assert not any(b.startswith(a) for a, b in combinations(ALL, 2))

    def test_no_slip_makes_another_word(self) -> None:
        """One wrong, missing, added or swapped letter is found before it costs the guess."""
        assert {each for word in ALL for each in slips(word)} & set(ALL) == set()


class CodeTests:
    def test_new(self) -> None:
        """A code is three different words, and another one every time."""
        codes = [new_code() for _ in range(200)]
        assert len(set(codes)) == 200
        for code in codes:
            assert len(set(code.split("-"))) == WORDS
            assert parse_code(code) == code

    @given(
        st.lists(st.sampled_from(ALL), min_size=3, max_size=3),
        st.sampled_from([" ", "-", "  ", ", ", "\t", ".", "_", " - "]),
        st.sampled_from([str.upper, str.lower, str.title]),
    )
    def test_as_people_type(self, chosen: list[str], between: str, how: object) -> None:
        """Case, and what is between the words, do not matter."""
        typed = f" {how(between.join(chosen))} \n"  # type: ignore[operator]
        assert parse_code(typed) == "-".join(chosen)

    @given(st.text(max_size=200))
    def test_any_text(self, text: str) -> None:
        """Whatever is typed is a code in its one form, or a sentence."""
        try:
            found = parse_code(text)
        except BadConfig as error:
            assert error.reason and len(error.reason) < 200
        else:
            assert found.split("-") == [each for each in found.split("-") if each in words()]
            assert parse_code(found) == found

    @pytest.mark.parametrize("text", ["", "maple", "maple orbit", "maple orbit tundra tundra"])
    def test_count(self, text: str) -> None:
        """A code has three words, and the sentence says how many there are."""
        with pytest.raises(BadConfig, match=f"this has {len(text.split())}"):
            parse_code(text)

    def test_slip(self) -> None:
        """The word that was probably meant is named."""
        with pytest.raises(BadConfig, match=r"'mapel'.*'maple'"):
            parse_code("mapel orbit tundra")

    def test_not_shown(self) -> None:
        """A secret does not show itself in a log or a traceback."""
        # covers: A11
        assert "maple" not in repr(code_secret("maple-orbit-tundra"))


def token(folder: Path, data: bytes, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


class TokenTests:
    def test_line_end(self, tmp_path: Path) -> None:
        """The line end of the file is no part of the token."""
        value = b"x" * TOKEN_MIN
        assert load_token(token(tmp_path, value + b"\n")) == Secret("token", value)

    @pytest.mark.parametrize(
        "data", [b"", b"\n", b"short", b"x" * (TOKEN_MIN - 1) + b"\n\n", b"x" * (TOKEN_MAX + 1)]
    )
    def test_length(self, tmp_path: Path, data: bytes) -> None:
        """A token that could be guessed is refused, and the sentence says how to make one."""
        with pytest.raises(BadConfig, match="openssl rand"):
            load_token(token(tmp_path, data))

    @pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
    def test_modes(self, tmp_path: Path, mode: int) -> None:
        """A token that others can read is refused."""
        # covers: A11
        with pytest.raises(BadConfig, match="chmod 600"):
            load_token(token(tmp_path, b"x" * TOKEN_MIN, mode))

    def test_not_there(self, tmp_path: Path) -> None:
        """No file, a folder or a pipe instead of one: a sentence, and no waiting."""
        for name in ("none", "folder", "pipe", "nul\0"):
            path = tmp_path / name
            if name == "folder":
                path.mkdir(mode=0o700)
            if name == "pipe":
                os.mkfifo(path, 0o600)
            with pytest.raises(BadConfig):
                load_token(str(path))
