"""Patterns that peer text is held against: written here, and none that takes for ever."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

PACKAGE = Path(__file__).parent.parent / "lanxfer"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FUNCTIONS = {
    *("compile", "match", "fullmatch", "search", "sub", "subn"),
    *("split", "findall", "finditer"),
}
MANY = 1000
"""A repetition of fewer than that is harmless."""


def made_later(source: str) -> Iterator[str]:
    """Patterns that are made while the program runs, and not of one text in the source."""
    tree = ast.parse(source)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, functions)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "re":
            yield ast.unparse(node)  # under other names they would not be seen here
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) == "re"
            and node.func.attr in FUNCTIONS
            and id(node) in inside
            and not isinstance(node.args[0], ast.Constant)
        ):
            yield ast.unparse(node)


def repeats(tree: Any, inside: bool = False) -> bool:
    """Whether something without end is repeated without end, which is what runs away."""
    for operation, arguments in tree:
        if operation in (constants.MAX_REPEAT, constants.MIN_REPEAT):
            _, most, what = arguments
            endless = most is constants.MAXREPEAT or most >= MANY
            if (endless and inside) or repeats(what, inside or endless):
                return True
        elif operation is constants.SUBPATTERN:
            if repeats(arguments[-1], inside):
                return True
        elif operation is constants.BRANCH:
            if any(repeats(each, inside) for each in arguments[1]):
                return True
        elif operation in (constants.ASSERT, constants.ASSERT_NOT) and repeats(
            arguments[1], inside
        ):
            return True
    return False


def runs_away(pattern: str | bytes) -> bool:
    return repeats(parser.parse(pattern))


class PatternTests:
    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_written_here(self, path: Path) -> None:
        """No pattern is made of anything that came from outside: all are there at the start."""
        # covers: R12
        assert list(made_later(path.read_text())) == []

    @pytest.mark.parametrize(
        ("source", "count"),
        [
            ("def f(x): return re.match(x, 'a')", 1),
            ("def f(x): return re.compile(f'{x}')", 1),
            ("from re import match", 1),
            ("a = lambda rule: re.search(rule, text)", 1),
            ("A = re.compile(B + C)\ndef f(x): return A.match(x) or re.match('a', x)", 0),
        ],
    )
    def test_finds_later(self, source: str, count: int) -> None:
        """A pattern made of a variable is found, wherever it hides."""
        assert len(list(made_later(source))) == count

    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
    def test_none_runs_away(self, path: Path) -> None:
        """No compiled pattern of a module repeats a repetition."""
        # covers: R12
        if "re.compile" not in path.read_text():
            return
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        module: Any = __import__(name.removesuffix(".__init__"), fromlist=["*"])
        found = [each for each in vars(module).values() if isinstance(each, re.Pattern)]
        assert [each.pattern for each in found if runs_away(each.pattern)] == []

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("(a+)+", True),
            ("(?:a*b?)*", True),
            (b"(?:x|y+)*", True),
            ("a+b+", False),
            ("(ab){3}c*", False),
            ("(?:a{1,5})+", False),
            ("[a-z]+(?=x*)", False),
        ],
    )
    def test_finds(self, pattern: str | bytes, found: bool) -> None:
        """A pattern that runs away is known by its form."""
        assert runs_away(pattern) is found
