"""The file of rights: its text, what it comes to, and changing a line of it."""

from __future__ import annotations

from datetime import time
from itertools import count
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lanxfer.errors import BadConfig
from lanxfer.policy import LOCAL, Principal, Standing
from lanxfer.rights import ALL, NO_TERMS, Answer, Book, Hours, Rate, Right, Terms
from lanxfer.rights.file import FILE, LOOK_EVERY, RightsFile, change_rights, parse_rights
from lanxfer.rights.words import (
    KEYS,
    format_size,
    format_value,
    format_words,
    parse_path,
    parse_size,
    parse_value,
    parse_words,
    rows_of,
)
from lanxfer.state import StateFolder
from lanxfer.storage.names import safe_path
from lanxfer.wire import limits

TEXT = """\
# who may do what

[everyone]
largest = 4 GiB

[peers]
new-offers = 60/min

[peer laptop]
# asks first
offers = ask
quota = 50 GiB
folder = from-laptop
/photos = write
/photos/private = none

[user anna]
hours = 08:00-22:00
/ = all
"""


def who(standing: Standing, label: str = "laptop", secure: bool = True) -> Principal:
    return Principal(standing, f"{standing.value}:x", label, secure)


def terms(text: str, principal: Principal | None = None) -> Terms:
    return Book(parse_rights(text)).of(principal or who(Standing.PEER))


class TreeTests:
    @pytest.mark.parametrize(
        ("path", "may"),
        [
            ("photos", True),
            ("photos/a.jpg", True),
            ("photos/2024/a.jpg", True),
            ("photos/private", False),
            ("photos/private/a.jpg", False),
            ("photos/Private/a.jpg", False),
            ("PHOTOS/pRIVATE/deep/a.jpg", False),
            ("photos/private2/a.jpg", True),
            ("photo", False),
            ("other/photos/a.jpg", False),
            ("a.jpg", False),
        ],
    )
    def test_nearest_rule_wins(self, path: str, may: bool) -> None:
        """The nearest rule above a name is the one that counts; where none is, nothing may be."""
        # covers: S2-53, A14
        assert terms(TEXT).may(Right.WRITE, safe_path(path)) is may

    def test_no_rule(self) -> None:
        """Where nobody wrote a rule, everything may be done."""
        assert all(Terms().may(right, safe_path("a/b")) for right in Right)

    @pytest.mark.parametrize("right", Right)
    def test_other_rights(self, right: Right) -> None:
        """A rule gives what it names and nothing else."""
        found = terms("[everyone]\n/a = write list\n/b = all\n/c = none\n")
        assert found.may(right, safe_path("a/x")) is (right in (Right.WRITE, Right.LIST))
        assert found.may(right, safe_path("b/x"))
        assert not found.may(right, safe_path("c/x"))

    @given(
        st.dictionaries(
            st.lists(st.sampled_from("abc"), max_size=3).map(tuple), st.booleans(), min_size=1
        ),
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
    )
    def test_as_a_walk_upwards(self, rules: dict[tuple[str, ...], bool], parts: list[str]) -> None:
        """It is what walking up from the name to the first rule would find."""
        given_to = {path: ALL if yes else frozenset[Right]() for path, yes in rules.items()}
        above = [tuple(parts[:end]) for end in range(len(parts), -1, -1)]
        expected = next((rules[each] for each in above if each in rules), False)
        assert Terms(rules=given_to).may(Right.WRITE, safe_path("/".join(parts))) is expected

    def test_own_rule_before_the_group(self) -> None:
        """For one path, what is said of a principal itself goes before what is said of all."""
        text = "[everyone]\n/a = all\n/b = all\n[peer laptop]\n/A = none\n"
        found = terms(text)
        assert not found.may(Right.WRITE, safe_path("a/x"))
        assert found.may(Right.WRITE, safe_path("b/x"))


class LayerTests:
    def test_all_of_them(self) -> None:
        """Own lines go before the group's, those before everyone's, those before the defaults."""
        found = terms(TEXT)
        assert (found.offers, found.quota, found.folder) == (Answer.ASK, 50 << 30, "from-laptop")
        assert (found.largest, found.new_offers) == (4 << 30, Rate(1.0, 60))
        assert found.commands == Rate(limits.COMMANDS_RATE, limits.COMMANDS_BURST)
        other = terms(TEXT, who(Standing.PEER, "phone"))
        assert (other.offers, other.quota, other.largest) == (Answer.ACCEPT, None, 4 << 30)
        anna = terms(TEXT, who(Standing.USER, "anna"))
        assert anna.hours == Hours(time(8), time(22))
        assert anna.new_offers is None

    def test_names_are_of_one_kind(self) -> None:
        """A user called like a peer has nothing of the peer's."""  # covers: A13
        assert terms(TEXT, who(Standing.USER, "laptop")).offers is Answer.ACCEPT
        assert terms(TEXT, who(Standing.GUEST, "laptop")).quota is None

    @pytest.mark.parametrize(
        ("text", "offers"),
        [
            ("", Answer.ASK),
            ("[everyone]\noffers = accept\n", Answer.ASK),
            ("[guests]\noffers = accept\n", Answer.ACCEPT),
            ("[guests]\noffers = deny\n", Answer.DENY),
        ],
    )
    def test_guests_are_asked_about(self, text: str, offers: Answer) -> None:
        """What a device offers that is not known waits for a yes, unless guests are let in."""
        # covers: A01
        assert terms(text, who(Standing.GUEST)).offers is offers
        assert terms("", who(Standing.GUEST, secure=False)).offers is Answer.ACCEPT

    @pytest.mark.parametrize("standing", Standing)
    def test_everybody_has_terms(self, standing: Standing) -> None:
        """There are terms for every kind of principal; only the device's own user is free."""
        found = terms("[everyone]\nlargest = 1\n", who(standing))
        free = standing in (Standing.LOCAL, Standing.TICKET)
        assert (found == NO_TERMS) is free
        assert found.largest == (None if free else 1)
        assert Book().of(LOCAL) == NO_TERMS

    def test_by_heading(self) -> None:
        """What holds for a heading is what holds for whom it names."""
        book = Book(parse_rights(TEXT))
        assert book.terms("peer laptop") == book.of(who(Standing.PEER))
        assert book.terms("user anna") == book.of(who(Standing.USER, "anna"))
        assert book.terms("guests").offers is Answer.ASK
        assert book.terms("everyone").largest == 4 << 30

    def test_rows_say_the_same(self) -> None:
        """Shown as lines of the file and read again, they are the same terms."""
        found = terms(TEXT)
        rows = "".join(f"{key} = {value}\n" for key, value in rows_of(found))
        assert terms(f"[peer laptop]\n{rows}") == found


class TextTests:
    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("largest = 4 GiB", "heading"),
            ("[everyone]\n\noffers", "line 3"),
            ("[everyone]\noffers = maybe", '\'offers\' is "ask", "accept" or "deny"'),
            ("[everyone]\nmessages = ask", '"accept" or "deny"'),
            ("[everyone]\nlargest = -1", "line 2"),
            ("[everyone]\nlargest = 1 parsec", "is a size"),
            ("[everyone]\nlargest = 1 \u212a", "is a size"),
            ("[everyone]\nfiles = 1.5", "is a number"),
            ("[everyone]\nfiles = ٣", "is a number"),
            ("[everyone]\nhours = 08:00", "time of the day"),
            ("[everyone]\nhours = 25:00-26:00", "time of the day"),
            ("[everyone]\ncommands = 0/s", "is a rate"),
            ("[everyone]\ncommands = 20/day", "is a rate"),
            ("[everyone]\nfolder = ../x", "folder below the inbox"),
            ("[everyone]\nfolder = .lanxfer-staging", "folder below the inbox"),
            ("[everyone]\noffers = any", "line 2"),
            ("[everyone]\nnonsense = 1", "no setting 'nonsense'"),
            ("[everyone]\noffers = ask\noffers = deny", "line 3: 'offers' is there twice"),
            ("[everyone]\n/a = write\n/A/ = none", "two rules"),
            ("[everyone]\n/../x = write", "no path"),
            ("[everyone]\n/a = fly", "read, write, list, delete"),
            ("[everyone]\n/a =", "read, write, list, delete"),
            ("[everyone\noffers = ask", 'ends with "]"'),
            ("[nobody]", "A heading is"),
            ("[peer]", "A heading is"),
            ("[peers laptop]", "A heading is"),
            ("[peer a\x1bb]", "A heading is"),
            ("[everyone]\n" + "\n" * 10_001, "more than 10000 lines"),
        ],
    )
    def test_bad(self, line: str, says: str) -> None:
        """What makes no sense is a sentence that says what would, with the number of the line."""
        with pytest.raises(BadConfig) as caught:
            parse_rights(line)
        assert says in caught.value.reason
        assert caught.value.reason.startswith("line ") or "10000" in says

    @given(st.text(max_size=200) | st.lists(st.sampled_from(TEXT.split("\n"))).map("\n".join))
    @example("[peer \ud800]\n")
    def test_anything(self, text: str) -> None:
        """Whatever is in the file, it is understood, or refused with a sentence."""
        try:
            sections = parse_rights(text)
        except BadConfig as error:
            assert error.reason.isprintable()
        else:
            book = Book(sections)
            assert isinstance(book.of(who(Standing.PEER)), Terms)

    @given(st.integers(0, 2**60))
    def test_sizes(self, size: int) -> None:
        """A size is read as it was written."""
        assert parse_size(format_size(size)) == size

    @pytest.mark.parametrize(
        ("text", "size"),
        [("0", 0), ("1500", 1500), ("1k", 1024), ("2 MB", 2 << 20), ("1.5GiB", 3 << 29)],
    )
    def test_sizes_by_hand(self, text: str, size: int) -> None:
        """Sizes are written as people write them."""
        assert parse_size(text) == size

    @given(st.frozensets(st.sampled_from(list(Right))))
    def test_words(self, rights: frozenset[Right]) -> None:
        """Rights are read as they were written."""
        assert parse_words(format_words(rights)) == rights

    @pytest.mark.parametrize("key", KEYS)
    def test_values(self, key: str) -> None:
        """Every setting has a default that can be written down and read again."""
        value = getattr(Terms(), key.replace("-", "_"))
        assert parse_value(key, format_value(key, value)) == value

    @given(st.integers(1, 10**6), st.sampled_from(["s", "min", "h"]), st.integers(1, 10**6))
    def test_rates(self, count: int, unit: str, burst: int) -> None:
        """A rate that is written and read again is the same."""
        first = parse_value("commands", f"{count}/{unit} burst {burst}")
        again = parse_value("commands", format_value("commands", first))
        assert again.burst == burst
        assert again.per_second == pytest.approx(first.per_second)

    @pytest.mark.parametrize(
        ("hours", "inside", "outside"),
        [
            ("08:00-22:00", ["08:00", "21:59"], ["07:59", "22:00", "00:00"]),
            ("22:00-06:00", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "21:59"]),
        ],
    )
    def test_hours(self, hours: str, inside: list[str], outside: list[str]) -> None:
        """Hours begin at the first time and end before the second, over midnight too."""
        found = parse_value("hours", hours)
        assert all(time.fromisoformat(each) in found for each in inside)
        assert not any(time.fromisoformat(each) in found for each in outside)


class ChangeTests:
    def test_in_place(self) -> None:
        """One line changes, and every other one, comments too, stays as it was."""
        changed = change_rights(TEXT, "peer laptop", "quota", "1 GiB")
        assert changed == TEXT.replace("quota = 50 GiB", "quota = 1 GiB")

    def test_rule_by_its_path(self) -> None:
        """A rule is found by its path, however that is spelled."""
        changed = change_rights(TEXT, "peer laptop", "/PHOTOS/private/", "all")
        assert changed == TEXT.replace("/photos/private = none", "/PHOTOS/private/ = all")

    def test_new_line(self) -> None:
        """A new line goes under its heading."""
        changed = change_rights(TEXT, "peers", "offers", "ask")
        assert changed == TEXT.replace("60/min\n", "60/min\noffers = ask\n")

    def test_new_heading(self) -> None:
        """A new heading goes to the end."""
        assert change_rights(TEXT, "user bob", "offers", "deny") == (
            f"{TEXT}\n[user bob]\noffers = deny\n"
        )
        assert change_rights("", "guests", "offers", "deny") == "[guests]\noffers = deny\n"

    def test_removed(self) -> None:
        """A line that is taken out leaves no gap, and one that is not there is no error."""
        assert change_rights(TEXT, "everyone", "largest", None) == TEXT.replace(
            "largest = 4 GiB\n", ""
        )
        assert change_rights(TEXT, "everyone", "files", None) == TEXT
        assert change_rights(TEXT, "user bob", "files", None) == TEXT

    @pytest.mark.parametrize(
        ("section", "key", "value"),
        [
            ("nobody", "offers", "ask"),
            ("everyone", "offers", "perhaps"),
            ("everyone", "offer", "ask"),
            ("everyone", "/a", "write\n[guests]\noffers = accept"),
            ("everyone", "offers = deny\n#", "ask"),
        ],
    )
    def test_nonsense(self, section: str, key: str, value: str) -> None:
        """What makes no sense is not written; nor is more than one line."""
        with pytest.raises(BadConfig):
            change_rights(TEXT, section, key, value)

    @given(
        st.sampled_from(["everyone", "guests", "peer laptop", "user new"]),
        st.sampled_from(["offers", "quota", "/photos", "/x y"]),
        st.booleans(),
    )
    def test_is_read_back(self, section: str, key: str, there: bool) -> None:
        """What was set is what is read, and nothing else changed."""
        value = {"offers": "deny", "quota": "7 B"}.get(key, "read list")
        changed = parse_rights(change_rights(TEXT, section, key, value if there else None))
        before = parse_rights(TEXT)
        for name in before:
            if name != section:
                assert changed[name] == before[name]
        found = changed.get(section)
        if key.startswith("/"):
            rule = None if found is None else found.rules.get(parse_path(key))
            assert rule == (parse_words(value) if there else None)
        else:
            setting = None if found is None else found.settings.get(key)
            assert setting == (parse_value(key, value) if there else None)


class FileTests:
    @pytest.fixture
    def state(self, tmp_path: Path) -> StateFolder:
        return StateFolder(str(tmp_path / "state"))

    def test_none(self, state: StateFolder) -> None:
        """Without a file everything is as usual."""
        assert RightsFile(state).of(who(Standing.PEER)) == Terms()

    def test_seen_at_once(self, state: StateFolder) -> None:
        """What one process writes another one sees at its next question."""
        moments = count()
        ours, theirs = RightsFile(state, lambda: next(moments)), RightsFile(state)
        assert ours.of(who(Standing.PEER)).offers is Answer.ACCEPT
        theirs.change("peer laptop", {"offers": "ask", "/": "write"})
        assert ours.of(who(Standing.PEER)).offers is Answer.ASK
        theirs.change("peer laptop", {"offers": None})
        assert ours.of(who(Standing.PEER)).offers is Answer.ACCEPT

    def test_looked_at_now_and_then(self, state: StateFolder) -> None:
        """Many questions in a moment are one look at the disk."""
        now = [0.0]
        rights = RightsFile(state, lambda: now[0])
        assert rights.of(who(Standing.PEER)).offers is Answer.ACCEPT
        RightsFile(state).change("peers", {"offers": "ask"})
        now[0] += LOOK_EVERY / 2
        assert rights.of(who(Standing.PEER)).offers is Answer.ACCEPT
        now[0] += LOOK_EVERY
        assert rights.of(who(Standing.PEER)).offers is Answer.ASK

    def test_bad_file(self, state: StateFolder) -> None:
        """A file that makes no sense names itself and the line, and lets nobody in."""
        moments = count()
        rights = RightsFile(state, lambda: next(moments))
        rights.change("everyone", {"offers": "ask"})
        Path(rights.path).write_text("[everyone]\noffers = aks\n")
        for _ in range(2):
            with pytest.raises(BadConfig, match=r"rights, line 2: 'offers' is .*not 'aks'"):
                rights.of(who(Standing.PEER))
        with pytest.raises(BadConfig, match="line 2"):
            rights.change("everyone", {"offers": "ask"})
        assert Path(rights.path).read_text() == "[everyone]\noffers = aks\n"

    def test_no_text(self, state: StateFolder) -> None:
        """Bytes that are no UTF-8 are refused, with their line."""
        Path(state.file(FILE)).write_bytes(b"[everyone]\n# \xff\n")
        with pytest.raises(BadConfig, match="line 2: this is not UTF-8"):
            RightsFile(state).book()

    @given(st.integers(0, 10**6))
    def test_every_cut(self, at: int) -> None:
        """A file that was cut anywhere is read or refused, never guessed."""
        # covers: K06
        try:
            parse_rights(TEXT[: at % (len(TEXT) + 1)])
        except BadConfig as error:
            assert error.reason.startswith("line ")
