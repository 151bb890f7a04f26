"""The security catalogue in docs/security.rst, held against the tests that claim to cover it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from lanxfer.policy import REACH, Principal, Standing, refusal
from lanxfer.wire import limits

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "security.rst"

SIZES = {
    **{"I": 11, "H": 14, "J": 25, "P": 24, "S": 11, "B": 11, "C": 12, "R": 14, "K": 12},
    **{"A": 14, "T": 9, "L": 9, "W": 11, "D": 7, "F": 24},
}
"""How many rows each letter has; all of them are numbered from 1."""

NOT_HERE = "not here:"

_BORDER = re.compile(r"=+(?: =+)+")
_ID = re.compile(r"[A-Z][0-9]{1,2}")
_CLAIMED = re.compile(r"#\s*covers:(.*)")
_CLAIM = re.compile(r"(?<![\w-])[A-Z][0-9]{1,2}(?![\w-])")

UNITS = {
    **{"B": 1, "KiB": limits.KIB, "MiB": limits.MIB, "GiB": 1024 * limits.MIB},
    **{"s": 1, "min": 60, "h": 3600, "days": 86400, "%": 0.01, "": 1},
}


@frozen
class Row:
    """One id: what it is about, and the modules that cover it or why none does."""

    id: str
    about: str
    modules: tuple[str, ...]
    reason: str


def tables(text: str) -> Iterator[list[list[str]]]:
    """The simple tables of a reStructuredText page: rows of cells, the heads left out."""
    lines = iter(text.splitlines())
    for line in lines:
        if not _BORDER.fullmatch(line):
            continue
        starts = [0, *(found.end() for found in re.finditer("=+ ", line))]
        borders, rows = 1, list[list[str]]()
        for line in lines:
            if _BORDER.fullmatch(line):
                borders += 1
                if borders == 2:
                    rows = []
                    continue
                break
            if not line:
                break  # a table without a head is over
            ends = [*starts[1:], None]
            cells = [line[at:end].strip() for at, end in zip(starts, ends, strict=True)]
            if cells[0]:
                rows.append(cells)
            else:
                rows[-1] = [f"{a} {b}".strip() for a, b in zip(rows[-1], cells, strict=True)]
        yield rows


def catalogue(text: str) -> list[Row]:
    """Every row of the tables that begin with an id."""
    found = []
    for table in tables(text):
        if not table or not _ID.fullmatch(table[0][0]):
            continue
        for id, about, how in table:
            here = not how.startswith(NOT_HERE)
            modules = tuple(how.split()) if here else ()
            found.append(Row(id, about, modules, "" if here else how.removeprefix(NOT_HERE)))
    return found


def path_of(module: str) -> Path:
    """``door`` is a test, ``chaos.kill`` a command."""
    head, dot, name = module.partition(".")
    return ROOT / head / f"{name}.py" if dot else ROOT / "tests" / f"test_{module}.py"


def claims(source: str) -> set[str]:
    """The ids that the tests in a source say they cover."""
    return {id for line in _CLAIMED.findall(source) for id in _CLAIM.findall(line)}


ROWS = catalogue(DOCUMENT.read_text())
TESTS = {path: path.read_text() for path in sorted((ROOT / "tests").glob("test_*.py"))}


def kept(row: Row, module: str) -> bool:
    """Whether that module says that it covers the row; figures are what commands print."""
    source = path_of(module).read_text()
    if module.startswith("chaos."):
        named = row.id[0] in "FI" or re.search(rf"\b{row.id}\b", source) is not None
        return named and re.search(r"^def command\(", source, re.MULTILINE) is not None
    return row.id in claims(source)


class TableTests:
    def test_every_id_once(self) -> None:
        """Every id of the catalogue has one row, in order, and there are no others."""
        expected = [
            f"{letter}{number}" if letter in "IF" else f"{letter}{number:02}"
            for letter, count in SIZES.items()
            for number in range(1, count + 1)
        ]
        found = [row.id for row in ROWS]
        assert sorted(found) == sorted(expected)
        assert found == sorted(found, key=lambda id: (list(SIZES).index(id[0]), int(id[1:])))

    def test_every_row_says_how(self) -> None:
        """A row says in words what it is about, and names modules or gives a reason."""
        assert [row.id for row in ROWS if len(row.about) < 8] == []
        assert [row.id for row in ROWS if not row.modules and len(row.reason) < 15] == []

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
    def test_tested(self, row: Row) -> None:
        """Each module a row names is there and names the row."""
        for module in row.modules:
            assert path_of(module).exists(), f"there is no {path_of(module).name}"
            assert kept(row, module), f"{module} does not name {row.id}"

    @pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
    def test_claims(self, path: Path) -> None:
        """No test says it covers what is not in the tables, or what they call not tested."""
        tested = {row.id for row in ROWS if row.modules}
        assert claims(TESTS[path]) - tested == set()

    def test_claims_are_read(self) -> None:
        """Ids are found beside each other, and only in comments of that form."""
        mark = "covers" + ":"  # in pieces, or this would be a claim
        assert claims(f"x = 1  # {mark} A01, B02 C03") == {"A01", "B02", "C03"}
        assert claims(f"# {mark} S1-17 I9\n# A02\n{mark} A03") == {"I9"}


class LimitsTests:
    """The table of limits and lanxfer/wire/limits.py say the same."""

    @staticmethod
    def rows() -> list[list[str]]:
        found = [
            table
            for table in tables(DOCUMENT.read_text())
            if table and re.fullmatch("[A-Z_]{4,}", table[0][-1].split()[0])
        ]
        assert len(found) == 1
        return found[0]

    @staticmethod
    def number(text: str) -> float:
        if text == "2**63 - 1":
            return 2**63 - 1
        found = re.fullmatch(r"([0-9.]+) ?(?:(/)min|([A-Za-z%]*))", text)
        assert found is not None, f"{text!r} is no amount"
        return float(found[1]) * (1 / 60 if found[2] else UNITS[found[3]])

    def test_values(self) -> None:
        """Every amount is that of its constant."""
        for _, amounts, constants in self.rows():
            texts, names = re.split(" / |, ", amounts), constants.split()
            assert len(texts) == len(names), amounts
            for text, name in zip(texts, names, strict=True):
                assert getattr(limits, name) == pytest.approx(self.number(text)), name

    def test_complete(self) -> None:
        """Every constant is in the table, once."""
        named = [name for *_, constants in self.rows() for name in constants.split()]
        assert len(named) == len(set(named))
        constants = {name for name in vars(limits) if name.isupper()} - {"KIB", "MIB", "SETTABLE"}
        assert set(named) == constants


class ReachTests:
    def test_table(self) -> None:
        """The page says of every standing what it reaches."""
        # covers: A14, L04
        found = {table[0][0]: table for table in tables(DOCUMENT.read_text()) if table}
        words = {word: set(names.split()) for word, names in found["offering"]}
        said = {standing: names.split() for standing, _, names in found["local"]}
        assert set(said) == {each.value for each in Standing}
        for standing in Standing:
            names = said[standing.value]
            commands = set().union(*(words.get(each, {each}) for each in names))
            commands -= words["applications"] | {"nothing"}
            assert commands == REACH[standing], standing
            own = refusal(Principal(standing, "x", "x"), "myapp.thumbnail", known=True)
            assert ("applications" in names) is (own is None), standing

    def test_nothing_is_fetched(self) -> None:
        """Only the commands of shared folders give files, and none changes settings or runs."""
        # covers: L04, L05, L08
        reached = {name for names in REACH.values() for name in names}
        owner = {"send_file", "send_message"}
        shared = {"read_file", "remove_file"}
        for standing, names in REACH.items():
            fetches = names & shared
            assert standing is Standing.PEER or not fetches or standing is Standing.BROWSER
            assert standing is Standing.PEER or "remove_file" not in fetches
        words = {
            *("get", "fetch", "pull", "read", "download", "open", "config", "set", "write"),
            *("run", "exec", "extract", "unpack", "preview", "delete", "remove", "show"),
        }
        assert [each for each in reached - owner - shared if each.split("_")[0] in words] == []
