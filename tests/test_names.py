"""Names of peers, and names made from them."""

from __future__ import annotations

import json
import os

import pytest
from attrs.exceptions import FrozenInstanceError
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lanxfer.errors import BadName
from lanxfer.storage.names import (
    SafePath,
    from_ae,
    link_target,
    part_key,
    renamed,
    safe_path,
    safe_paths,
    series_name,
    shown,
)
from lanxfer.wire import limits

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u180e\u00ad\U000e0041\U000e0001\u2028\u2029"

pieces = st.text(
    st.one_of(
        st.sampled_from("ab.~ /\\:{}\x00\x1b\x9b\u202e\u200b\ud800e\u0301\u00b9\uff0f\uff0e"),
        st.characters(),
    ),
    max_size=12,
)
paths = st.one_of(
    pieces,
    st.lists(
        st.one_of(
            pieces, st.sampled_from(["..", ".", "", "con", "COM1.x", ".lanxfer", "a", "b.c"])
        ),
        max_size=6,
    ).map("/".join),
)


def refused(text: str, *, dotfiles: bool = True) -> str:
    with pytest.raises(BadName) as caught:
        safe_path(text, dotfiles=dotfiles)
    (found,) = safe_paths([text], dotfiles=dotfiles)
    assert isinstance(found, BadName) and found.reason == caught.value.reason
    return caught.value.reason


class SafePathTests:
    def test_plain(self) -> None:
        """A plain path keeps its components and knows its name and its parent."""
        path = safe_path("photos/2024/sea view.jpeg")
        assert path.parts == ("photos", "2024", "sea view.jpeg")
        assert path.name == "sea view.jpeg"
        assert path.parent == ("photos", "2024")
        assert str(path) == "photos/2024/sea view.jpeg"

    # covers: P01
    @pytest.mark.parametrize(
        "text",
        [
            "../x",
            "a/../../x",
            "..",
            ".",
            "",
            "/etc/x",
            "//x",
            "a//b",
            "a/./b",
            "a/",
            "/",
            "a/..",
            "./a",
            "a/b/../c",
        ],
    )
    def test_refuses_what_climbs_or_is_not_plain(self, text: str) -> None:
        """Paths that climb, are absolute or have empty components are refused, not repaired."""
        refused(text)

    # covers: P02
    @pytest.mark.parametrize(
        "text",
        ["C:\\x", "C:x", "\\\\srv\\share\\x", "..\\..\\x", "a\\b", "x.txt:stream", "a/b:c", "\\"],
    )
    def test_refuses_other_systems_paths(self, text: str) -> None:
        """Backslashes and colons are refused everywhere, since files travel on."""
        refused(text)

    # covers: P03, P04
    @pytest.mark.parametrize(
        "character",
        ["\x00", "\n", "\r", "\t", "\x1b", "\x9b", "\x7f", "\x85", "\x01", *BIDI, *INVISIBLE],
        ids=ascii,
    )
    @pytest.mark.parametrize("template", ["{}", "a{}b", "{}a", "a{}", "ok/a{}b.txt"])
    def test_refuses_characters_that_act_or_hide(self, character: str, template: str) -> None:
        """Control, direction and invisible characters are refused, and never echoed as they are."""
        reason = refused(template.replace("{}", character))
        assert reason.isprintable()

    # covers: P05
    @pytest.mark.parametrize(
        "text",
        [
            "CON",
            "con",
            "nul.txt",
            "COM1",
            "COM¹",
            "LPT².log",
            "aux .txt",
            "Prn",
            "aux.tar.gz",
            "CONIN$",
            "com0",
            "a.",
            "a ",
            "a. ",
            ".",
            "...",
            "a/nul/b",
            "NUL  ",
            "a./b",
        ],
    )
    def test_refuses_what_windows_means_otherwise(self, text: str) -> None:
        """Names of devices and names that Windows would shorten are refused."""
        refused(text)

    @pytest.mark.parametrize(
        "text",
        [
            "console",
            "com",
            "com10",
            "comma.txt",
            "nullable",
            "aux1",
            "x.con",
            "communication.txt",
            "LPTX",
            "a.b c",
        ],
    )
    def test_takes_what_only_resembles_a_device(self, text: str) -> None:
        """A name that merely begins like a device is fine."""
        assert str(safe_path(text)) == text

    @pytest.mark.parametrize(
        "text",
        ["$(id)", "a;b", "-rf", "<img src=x>.txt", "%s{}", "a'b\"c", "*?|", "\u2764\ufe0f.png"],
    )
    def test_takes_what_is_only_odd(self, text: str) -> None:
        """Names that frighten a shell or a page are data here."""
        assert str(safe_path(text)) == text

    # covers: P06
    def test_lengths(self) -> None:
        """255 bytes, 2048 bytes and 32 levels are taken, one more is not."""
        assert safe_path("a" * 255).name == "a" * 255
        assert safe_path("\u00e9" * 127 + "a").name
        refused("a" * 256)
        refused("\u00e9" * 128)
        assert len(safe_path("/".join(["a"] * 32)).parts) == 32
        refused("/".join(["a"] * 33))
        long = "/".join(["a" * 204] * 10)
        assert len(long) == 2049
        refused(long)
        assert str(safe_path(long[1:])) == long[1:]
        refused("a" * 10_000_000)

    # covers: P07
    def test_normal_form(self) -> None:
        """Both spellings of an accent are one name, and full-width characters stay themselves."""
        composed = "caf\u00e9"
        assert safe_path("cafe\u0301") == safe_path(composed)
        assert str(safe_path("cafe\u0301")) == composed
        for text in ("\uff0e\uff0e\uff0fx", "a\u2215b", "\uff0e\uff0e", "\uff43on"):
            assert safe_path(text).parts == (text,)

    def test_nothing_else_than_the_normal_form(self) -> None:
        """A path in another form cannot exist, so two spellings cannot be two files here."""
        with pytest.raises(BadName):
            SafePath(("cafe\u0301",))
        assert str(safe_path("x\u0340")) == "x\u0300"

    # covers: P09
    @pytest.mark.parametrize(
        "text",
        [
            ".bashrc",
            ".ssh/authorized_keys",
            "a/.b/c",
            "autorun.inf",
            "Desktop.INI",
            "a/AutoRun.inf",
        ],
    )
    def test_hidden_files_are_a_choice(self, text: str) -> None:
        """Dot files and files that desktops obey are taken only where that was chosen."""
        refused(text, dotfiles=False)
        assert str(safe_path(text, dotfiles=True)) == text
        assert safe_path(text, dotfiles=True).hidden

    # covers: P09
    @pytest.mark.parametrize(
        "text", [".lanxfer-staging", ".lanxfer", ".LANXFER-x", "a/.Lanxfer/b", ".lanxfer-staging/x"]
    )
    def test_own_names_are_reserved(self, text: str) -> None:
        """What belongs to lanxfer is out of reach in any setting."""
        refused(text, dotfiles=True)
        refused(text, dotfiles=False)

    # covers: J05
    def test_refuses_lone_surrogates(self) -> None:
        """A lone surrogate is refused before the file system sees it."""
        refused("a\ud800b")
        refused("\udcff")

    def test_no_way_round(self) -> None:
        """A path cannot be made or changed past the rules."""
        for parts in ((), ("..",), ("a", ""), ("a/b",), (".lanxfer-staging",), ("a",) * 33):
            with pytest.raises(BadName):
                SafePath(parts)
        path = safe_path("a")
        with pytest.raises(FrozenInstanceError):
            path.parts = ("..",)  # type: ignore[misc]

    # covers: P01, P03, P07
    @given(paths)
    @settings(max_examples=200, deadline=None)
    def test_whatever_is_taken_stays_inside(self, text: str) -> None:
        """Any text is refused in a printable sentence or is a path that stays below a root."""
        try:
            path = safe_path(text, dotfiles=True)
        except BadName as error:
            assert error.reason.isprintable()
            return
        root = "/srv/inbox"
        joined = os.path.normpath(f"{root}/{path}")
        assert joined == f"{root}/{path}"
        assert joined.startswith(root + "/")
        assert safe_path(str(path), dotfiles=True) == path
        assert all(len(os.fsencode(part)) <= 255 for part in path.parts)


class FromAeTests:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("x.txt", "x.txt"),
            ("/home/me/x.txt", "x.txt"),
            ("~/x.txt", "x.txt"),
            ("~other/y/x.txt", "x.txt"),
            ("a/b/c.txt", "c.txt"),
            ("x.txt/", "x.txt"),
            ("{doc}/x.txt", "Documents/x.txt"),
            ("{documents}/sub/x.txt", "Documents/x.txt"),
            ("{music}/x.mp3", "Music/x.mp3"),
            ("{pictures}/x.png", "Pictures/x.png"),
            ("{videos}/x.mkv", "Videos/x.mkv"),
            ("{downloads}/x.txt", "x.txt"),
            ("{cwd}/x.txt", "x.txt"),
            ("{home}/x.txt", "x.txt"),
            ("{nobody}/x.txt", "x.txt"),
            ("a/{doc}/x.txt", "x.txt"),
            ("{{doc}}/x.txt", "x.txt"),
            ("{doc}x.txt", "{doc}x.txt"),
            ("{0.__class__}/x.txt", "x.txt"),
            ("{doc.__class__}", "{doc.__class__}"),
            ("{doc!r}/{doc!s}.txt", "{doc!s}.txt"),
            ("a{{b}}.txt", "a{b}.txt"),
            ("a{b.txt", "a{b.txt"),
            ("C:\\Users\\me\\x.txt", "x.txt"),
            ("{doc}\\x.txt", "Documents/x.txt"),
            ("./x.txt", "x.txt"),
        ],
    )
    # covers: J22
    def test_only_the_name_counts(self, text: str, expected: str) -> None:
        """Folders fall away, but for the few placeholders at the start; nothing is formatted."""
        assert str(from_ae(text)) == expected

    # covers: J22, P01
    @pytest.mark.parametrize(
        "text",
        [
            "../x",
            "{doc}/../x",
            "a/../x",
            "x/..",
            "..",
            "..\\x",
            "{doc}/..",
            "{doc}",
            "{documents}/",
            "~",
            "/",
            "",
            "a/.",
            "x/.bashrc",
            "x/con",
            ".lanxfer-staging",
            "a\x00b",
            "{doc}/.lanxfer",
            "{downloads}/",
            "x/{doc:>99}.txt",
            "C:x",
        ],
    )
    def test_refuses(self, text: str) -> None:
        """Climbing, folders and bad names are refused, also behind a placeholder."""
        with pytest.raises(BadName):
            from_ae(text)

    @given(paths)
    @settings(max_examples=150, deadline=None)
    def test_at_most_one_folder_of_ours(self, text: str) -> None:
        """Whatever comes, the file lies in the root or in one of four folders."""
        try:
            path = from_ae(text, dotfiles=True)
        except BadName:
            return
        assert path.parent in {(), ("Documents",), ("Music",), ("Pictures",), ("Videos",)}


class ManyTests:
    # covers: P01 P17
    @given(
        st.lists(paths, max_size=6),
        st.lists(st.sampled_from(["a/b", "a/c d", ".a/b", "A/.b", "", "a/x" * 40, "e\u0301/a"])),
        st.booleans(),
    )
    @settings(max_examples=200, deadline=None)
    def test_as_one_by_one(self, some: list[str], more: list[str], dotfiles: bool) -> None:
        """Many are what each of them is."""
        texts = [*some, *more, *(f"{each}/x" for each in [*some, *more])]
        for text, found in zip(texts, safe_paths(texts, dotfiles=dotfiles), strict=True):
            if isinstance(found, BadName):
                with pytest.raises(BadName) as caught:
                    safe_path(text, dotfiles=dotfiles)
                assert caught.value.reason == found.reason
            else:
                path = safe_path(text, dotfiles=dotfiles)
                assert (found, str(found), found.hidden) == (path, str(path), path.hidden)

    def test_depth(self) -> None:
        """A folder as deep as is allowed has nothing in it, however ordinary its name."""
        deepest = "/".join("a" * limits.DEPTH_MAX)
        path, error = safe_paths([deepest, f"{deepest}/b"])
        assert str(path) == deepest and isinstance(error, BadName)


class LinkTargetTests:
    @pytest.mark.parametrize(
        ("path", "target", "expected"),
        [
            ("l", "x", "x"),
            ("a/l", "x/y", "x/y"),
            ("a/l", "../x", "../x"),
            ("a/b/l", "../../x", "../../x"),
            ("a/l", "..", ".."),
            ("l", "./x//y/", "x/y"),
            ("l", ".", "."),
            ("l", "cafe\u0301", "caf\u00e9"),
        ],
    )
    def test_inside(self, path: str, target: str, expected: str) -> None:
        """A relative target that stays inside is kept, in plain form."""
        assert link_target(safe_path(path), target) == expected

    # covers: P19
    @pytest.mark.parametrize(
        ("path", "target"),
        [
            ("l", "../x"),
            ("a/l", "../../x"),
            ("a/l", "b/../../../x"),
            ("a/b/l", "c/../x"),
            ("l", "/etc/passwd"),
            ("l", ""),
            ("l", ".lanxfer-staging/x"),
            ("a/l", "../.lanxfer-staging"),
            ("l", ".bashrc"),
            ("l", "a\\b"),
            ("l", "a\x00b"),
            ("l", "a\ud800"),
            ("l", "a" * 100_000),
        ],
    )
    def test_outside(self, path: str, target: str) -> None:
        """A target that leaves, might leave through another link, or is no name, is refused."""
        with pytest.raises(BadName):
            link_target(safe_path(path), target)


class PartKeyTests:
    # covers: P06
    def test_form(self) -> None:
        """A key has 32 hex digits whatever it is made of."""
        for path in ("a", "x" * 255, "\ud800", "\n", "../.."):
            key = part_key("peer:abc", path, 2**63 - 1, None)
            assert len(key) == 32
            assert set(key) <= set("0123456789abcdef")

    def test_every_field_counts(self) -> None:
        """Other fields give other keys, also where their texts run together."""
        keys = {
            part_key("peer:a", "bc", 1, 2),
            part_key("peer:ab", "c", 1, 2),
            part_key("peer:a", "bc", 12, None),
            part_key("peer:a", "bc", 1, None),
            part_key("peer:a", "bc", 1, 0),
            part_key('peer:a", "b', "c", 1, 2),
            part_key("peer:a", 'b", "c', 1, 2),
        }
        assert len(keys) == 7
        assert part_key("peer:a", "bc", 1, 2) == part_key("peer:a", "bc", 1, 2)

    @given(st.text(), st.text(), st.integers(0, 2**63), st.none() | st.integers())
    def test_stays(self, principal: str, path: str, size: int, mtime_ns: int | None) -> None:
        """What another version of lanxfer left is found again: keys are a promise."""
        what = json.dumps([principal, path, size, mtime_ns]).encode("ascii")
        whose = blake3(principal.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        assert part_key(principal, path, size, mtime_ns) == whose + blake3(what).hexdigest()[:24]

    def test_stays_the_same(self) -> None:
        """The key of a transfer does not depend on the version: parts outlive it."""
        assert part_key("peer:a", "b", 1, 2) == "3ae9759170681d31748f55cad6739cb2"


class RenamedTests:
    @pytest.mark.parametrize(
        ("name", "second", "first_of_series"),
        [
            ("a.txt", "a (2).txt", "a 01.txt"),
            ("a.tar.gz", "a.tar (2).gz", "a.tar 01.gz"),
            (".hidden", ".hidden (2)", ".hidden 01"),
            ("plain", "plain (2)", "plain 01"),
            ("a b", "a b (2)", "a b 01"),
        ],
    )
    def test_before_the_extension(self, name: str, second: str, first_of_series: str) -> None:
        """The number goes before the extension; a leading dot starts none."""
        assert renamed(name, 2) == second
        assert series_name(name, 1) == first_of_series

    def test_three_digits(self) -> None:
        """A series grows beyond two digits."""
        assert series_name("a.b", 99) == "a 99.b"
        assert series_name("a.b", 100) == "a 100.b"

    # covers: P06
    @given(
        pieces.filter(bool),
        st.integers(1, 300),
        st.sampled_from(["", ".txt", ".tar.gz", "." + "e" * 250, "\u20ac" * 80]),
        st.integers(2, 10**12),
    )
    @settings(max_examples=200, deadline=None)
    def test_stays_a_good_name(self, start: str, times: int, end: str, number: int) -> None:
        """A name made from a good one is a good one, however long it was."""
        try:
            name = safe_path((start * times)[:250] + end, dotfiles=True).name
        except BadName:
            return
        for made in (renamed(name, number), series_name(name, number)):
            assert safe_path(made, dotfiles=True).parts == (made,)
            assert made != name

    def test_long_names_stay_apart(self) -> None:
        """Two numbers make two names, also where there is no room for them."""
        for name in ("a" * 255, "\u00e9" * 127, "x." + "e" * 253):
            assert len({renamed(name, number) for number in range(2, 50)}) == 48


class ShownTests:
    def test_plain(self) -> None:
        """Printable text stays as it is."""
        assert shown("caf\u00e9 \u65e5\u672c.txt") == "caf\u00e9 \u65e5\u672c.txt"

    # covers: P03, H14, R07
    def test_escapes(self) -> None:
        """What does not print is spelled out."""
        assert shown("\x1b[2J\n\x00") == r"\x1b[2J\x0a\x00"
        assert shown("a\u202eb\u200b") == r"a\u202eb\u200b"
        assert shown("\ud800\U000e0041") == r"\ud800\U000e0041"
        assert shown("a\\b") == r"a\\b"

    # covers: R07
    @given(st.text(st.characters(exclude_categories=()), max_size=300), st.integers(10, 150))
    @settings(max_examples=150, deadline=None)
    def test_one_printable_line(self, text: str, limit: int) -> None:
        """Any text is one printable line of bounded length."""
        line = shown(text, limit)
        assert line.isprintable()
        assert len(line) <= limit
        line.encode()

    def test_cut(self) -> None:
        """What is too long ends in an ellipsis, never inside an escape."""
        assert shown("a" * 20, 10) == "a" * 9 + "\u2026"
        assert shown("a" * 10, 10) == "a" * 10
        assert shown("aaaa\x1b\x1b", 10) == "aaaa\\x1b\u2026"
        assert shown("x" * 10**7, 10) == "x" * 9 + "\u2026"
