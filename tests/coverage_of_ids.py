"""``python -m tests.coverage_of_ids [--seed S1]…``: which ids have a test, and which have none.

The ids are in ``tests/ids.txt``; tests, and the commands of ``chaos`` and ``bench``, name
those they are about ("# covers: S1-01"); a row of docs/seeds.rst that begins with
"not needed:" says why there is none.  Exit code 1 where something is missing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IDS = ROOT / "tests" / "ids.txt"
PAGE = ROOT / "docs" / "seeds.rst"

_ID = re.compile(r"(?<![\w-])S[0-9]-[0-9]{2}(?![\w-])")
_RANGE = re.compile(r"(S[0-9])-([0-9]{2})(?: to ([0-9]{2}))?")
_CLAIM = re.compile(r"#\s*covers:(.*)")


def all_ids(text: str) -> dict[str, str]:
    """Every id with the words that are said of it, in order."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {id: words for id, _, words in (line.partition(" ") for line in lines)}


def claims(source: str) -> set[str]:
    """The ids that a source says it covers."""
    return {id for line in _CLAIM.findall(source) for id in _ID.findall(line)}


def sources() -> Iterator[Path]:
    """Every file in which something can be covered."""
    yield from sorted((ROOT / "tests").rglob("test_*.py"))
    yield from sorted([*(ROOT / "chaos").glob("*.py"), *(ROOT / "bench").glob("*.py")])


def covered() -> dict[str, list[str]]:
    """The ids, each with the names of the files that cover it."""
    found: dict[str, list[str]] = {}
    for path in sources():
        for id in claims(path.read_text()):
            found.setdefault(id, []).append(path.stem)
    return found


def rows(text: str) -> Iterator[tuple[set[str], str]]:
    """The rows of the page's tables: their ids ("S1-03 to 06" is four), and what is said of them.

    A row goes on in lines that begin with blanks.
    """
    ids, said = set[str](), ""
    for line in text.splitlines():
        begins = _RANGE.match(line)
        if begins is None and line.startswith("  ") and ids:
            said += f" {line.strip()}"
            continue
        if ids:
            yield ids, said.strip()
        ids, said = set(), ""
        if begins is not None:
            cell, _, said = line.partition("  ")
            for seed, first, last in _RANGE.findall(cell):
                ids |= {f"{seed}-{n:02}" for n in range(int(first), int(last or first) + 1)}
    if ids:
        yield ids, said.strip()


def not_needed(text: str) -> dict[str, str]:
    """The ids that the page says need no counterpart, each with the reason."""
    found: dict[str, str] = {}
    for ids, said in rows(text):
        if said.startswith("not needed:"):
            found.update(dict.fromkeys(ids, said.removeprefix("not needed:").strip()))
    return found


def report(
    ids: Mapping[str, str], tests: Mapping[str, list[str]], without: Mapping[str, str]
) -> tuple[list[str], int]:
    """What there is to print, and how many ids are missing."""
    lines, missing = [], 0
    for seed in dict.fromkeys(id[:2] for id in ids):
        mine = [id for id in ids if id.startswith(seed)]
        lacks = [id for id in mine if id not in tests and id not in without]
        missing += len(lacks)
        spared = [id for id in mine if id in without and id not in tests]
        lines.append(
            f"{seed}: {len(mine) - len(lacks) - len(spared)} covered,"
            f" {len(spared)} not needed, {len(lacks)} missing, of {len(mine)}"
        )
        lines += [f"  {id} not needed: {without[id]}" for id in spared]
        lines += [f"  {id} missing: {ids[id]}" for id in lacks]
    return lines, missing


def main(argv: list[str]) -> int:
    """Print it; 1 where something is missing."""
    parser = argparse.ArgumentParser("python -m tests.coverage_of_ids")
    parser.add_argument("--seed", action="append", metavar="S1", help="only this one, and others")
    parser.add_argument("--list", action="store_true", help="the tests of each id, too")
    options = parser.parse_args(argv)
    tests = covered()
    ids = all_ids(IDS.read_text())
    if options.seed:
        ids = {id: words for id, words in ids.items() if id[:2] in options.seed}
    if options.list:
        for id, words in ids.items():
            print(f"{id} {words}: {' '.join(sorted(set(tests.get(id, ()))))}")
    lines, missing = report(ids, tests, not_needed(PAGE.read_text()))
    print("\n".join(lines))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
