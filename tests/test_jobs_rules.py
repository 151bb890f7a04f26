"""Which files a job is about, and what they are called on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanxfer.jobs.config.rules import Rules, Temp, parse_temp

PATHS = st.lists(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1).filter(
        lambda name: name not in (".", "..")
    ),
    min_size=1,
    max_size=4,
).map("/".join)


class RulesTests:
    # covers: S4-45
    @pytest.mark.parametrize(
        ("pattern", "path", "gitignore", "old"),
        [
            ("*", "a.txt", True, True),
            ("*", "sub/a.txt", True, True),
            ("*.txt", "a.txt", True, True),
            ("*.txt", "a.txt.gz", False, False),
            ("*.txt", "sub/deep/a.txt", True, True),
            ("/*.txt", "a.txt", True, True),
            ("/*.txt", "sub/a.txt", False, True),  # what did not anchor
            ("sub/*.txt", "sub/a.txt", True, True),
            ("sub/*.txt", "sub/deep/a.txt", False, True),  # what crossed
            ("sub/*.txt", "other/sub/a.txt", False, True),
            ("sub/**/*.txt", "sub/a.txt", True, False),
            ("sub/**/*.txt", "sub/deep/er/a.txt", True, True),
            ("**/b/*.txt", "a/b/c.txt", True, True),
            ("a?.txt", "ab.txt", True, True),
            ("a?.txt", "a.txt", False, False),
            ("[ab].txt", "b.txt", True, True),
            ("[!ab].txt", "b.txt", False, False),
            ("A.TXT", "a.txt", False, False),
            ("report", "report", True, True),
            ("report", "reports", False, False),
            ("b.txt", "sub/b.txt", True, True),
        ],
    )
    def test_patterns(self, pattern: str, path: str, gitignore: bool, old: bool) -> None:
        """A pattern means what gitignore says, and in older files what it always meant."""
        rules = Rules(files=(pattern,), ignore=(), recursive=True)
        assert rules.matcher().takes(path) is gitignore
        older = Rules(files=(pattern,), ignore=(), recursive=True, match="fnmatch")
        assert older.matcher().takes(path) is old

    def test_ignored(self) -> None:
        """Hidden files and folders are left out by themselves; what was taken back is not."""
        plain = Rules(recursive=True).matcher()
        assert not plain.takes(".hidden")
        assert not plain.takes("sub/.hidden")
        assert not plain.enters(".git")
        assert plain.enters("sub")
        own = Rules(ignore=("*.bak", "cache/", "!keep.bak"), recursive=True).matcher()
        assert own.takes(".hidden")
        assert not own.takes("a.bak")
        assert own.takes("keep.bak")
        assert not own.enters("cache")
        assert not Rules(recursive=False).matcher().enters("sub")


class TempTests:
    # covers: S4-48
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("dot", "sub/.a.txt.77"),
            ("DOT", "sub/.a.txt.77"),
            ("ext:.part", "sub/a.txt.77.part"),
            ("ext:part", "sub/a.txt.77.part"),
            ("dir:incoming", "incoming/sub%2Fa.txt.77"),
        ],
    )
    def test_names(self, text: str, name: str) -> None:
        """The three ways there always were, each with what tells one run from another."""
        assert parse_temp(text).name("sub/a.txt", "77") == name

    @pytest.mark.parametrize(
        "text", ["", "no", "ext", "ext:", "ext:.", "dir:", "dir:../x", "dot:x"]
    )
    def test_nonsense(self, text: str) -> None:
        """There is no way to have no other name at all."""
        with pytest.raises(ValueError, match="dot"):
            parse_temp(text)

    @given(PATHS, PATHS, st.sampled_from(["dot", "ext:.x", "dir:in"]))
    def test_never_shared(self, one: str, other: str, text: str) -> None:
        """Different files have different names on the way, and none has its final one."""
        temp = parse_temp(text)
        assert temp.name(one, "77") != one
        assert one == other or temp.name(one, "77") != temp.name(other, "77")

    @given(st.text(min_size=60, max_size=255), st.sampled_from(["dot", "ext:.x", "dir:in"]))
    def test_short_enough(self, name: str, text: str) -> None:
        """Whatever a file is called, the name on the way fits into a folder."""
        name = name.replace("/", "x").replace("\0", "x")
        made = parse_temp(text).name(name.encode(errors="replace").decode(), "0123abcd")
        assert len(made.rpartition("/")[2].encode()) <= 255

    def test_default(self) -> None:
        """Where nothing is said, it is a dot."""
        assert Temp().name("x", "r").startswith(".")
