"""Planted bugs: each still fits into the code, and one is really found."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.mutants import MUTANTS, ROOT, Mutant, caught, exists


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_fits(mutant: Mutant) -> None:
    """What is to be replaced stands there, once."""
    assert (ROOT / mutant.file).read_text().count(mutant.before) == 1
    assert mutant.before != mutant.after
    assert exists(mutant.by)
    if mutant.by[0] == "pytest":
        assert Path(ROOT / mutant.by[1]).exists()


def test_caught() -> None:
    """A part that stays locked is noticed."""
    (mutant,) = [each for each in MUTANTS if each.name == "a part stays locked"]
    assert caught(mutant)


def test_not_caught() -> None:
    """A change that changes nothing is not, or the command would find anything."""
    harmless = Mutant("a comment", "lanxfer/version.py", '"""', "'''", ("fuzz", "--count", "500"))
    text = (ROOT / harmless.file).read_text()
    first = text.index('"""')
    line = text[first : text.index("\n", first) + 1]
    assert not caught(Mutant("the same", harmless.file, line, line, harmless.by))
