"""Limits that an operator changes, and those that nobody does."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from devices import Devices, in_reactor

from lanxfer.errors import BadConfig
from lanxfer.service import Settings
from lanxfer.wire import limits

SOURCES = Path(limits.__file__).parent.parent


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The numbers are a whole process's, so they are put back."""
    before = {name: getattr(limits, name) for name in limits.SETTABLE}
    yield
    limits.change(before)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("strangers-max=64", "STRANGERS_MAX", 64),
        ("STRANGERS_MAX=0", "STRANGERS_MAX", 0),
        ("header-timeout=2.5", "HEADER_TIMEOUT", 2.5),
        ("header-timeout=3", "HEADER_TIMEOUT", 3.0),
    ],
)
def test_parse(text: str, name: str, value: float) -> None:
    """The names are those of the page, in either spelling."""
    found = limits.parse([text])
    assert found == {name: value}
    assert type(found[name]) is type(getattr(limits, name))


@pytest.mark.parametrize(
    "text",
    [
        *("part-max=1", "window=1", "parse=1", "=", "", "strangers-max", "strangers-max="),
        *("strangers-max=-1", "strangers-max=1.5", "strangers-max=many"),
        *(
            "header-timeout=-1",
            "header-timeout=nan",
            "header-timeout=inf",
            f"part-lifetime={2**70}",
        ),
    ],
)
def test_no_limit(text: str) -> None:
    """What is no limit, or no number for it, is said in a sentence when the settings are made."""
    with pytest.raises(BadConfig, match=r"\.$"):
        Settings(limits=(text,))


def test_change() -> None:
    """What is changed can be changed back."""
    before = limits.change({"STRANGERS_MAX": 7, "RATE_LEAST": 9})
    assert (limits.STRANGERS_MAX, limits.RATE_LEAST) == (7, 9)
    limits.change(before)
    assert (limits.STRANGERS_MAX, limits.RATE_LEAST) == (128, 1024)
    assert math.isfinite(sum(before.values()))


def early(tree: ast.AST) -> Iterator[str]:
    """The constants of ``limits`` that are read when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for default in (*node.args.defaults, *node.args.kw_defaults, *node.decorator_list):
                if default is not None:
                    yield from early(ast.Module([ast.Expr(default)], []))
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "limits":
            yield node.attr
        else:
            yield from early(node)


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda each: each.stem)
def test_looked_up_when_needed(path: Path) -> None:
    """No module keeps such a number from when it was imported: a change would be lost on it."""
    assert limits.SETTABLE.isdisjoint(early(ast.parse(path.read_text())))


def test_early() -> None:
    """What is read too early is found wherever it stands."""
    source = """
A = limits.A
def f(b=limits.B, *, c: int = limits.C + 1): return limits.X
class D:
    d: int = limits.D
    e = field(factory=lambda: limits.Y)
    async def m(self, e=(limits.E,)): limits.Z
"""
    assert sorted(early(ast.parse(source))) == ["A", "B", "C", "D", "E"]


@in_reactor
async def test_service(tmp_path: Path) -> None:
    """A service has its limits while it runs."""
    devices = Devices(tmp_path)
    nas = await devices.start("nas", limits=("strangers-max=9", "unfinished-files=3"))
    assert limits.STRANGERS_MAX == 9
    assert nas.settings.limits[0] == "strangers-max=9"
    await nas.stopService()
    assert limits.STRANGERS_MAX == 128
