"""The other side's commands as methods of what is made from their class."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import frozen
from twisted.internet.defer import Deferred, succeed

from lanxfer.commands.declared import Reader, Writer, command
from lanxfer.commands.table import Call, Reply
from lanxfer.errors import BadConfig, BadRequest, Forbidden
from lanxfer.exchange import Answer
from lanxfer.links import Link, Stream
from lanxfer.remote import remote
from lanxfer.testing import Pair

ROOT = Path(__file__).resolve().parent.parent


@frozen
class Add:
    n: int
    data: bytes = b""


@frozen
class Sum:
    total: int
    parts: list[int]


class Sums:
    def __init__(self) -> None:
        self.seen: list[object] = []

    @command("sums.noop", number=1)
    def noop(self) -> None:
        self.seen.append("noop")

    @command("sums.add", number=7)
    def add(self, n: int, data: bytes = b"") -> int:
        return n + len(data)

    @command("sums.typed")
    def typed(self, request: Add) -> Sum:
        return Sum(request.n + len(request.data), [request.n, len(request.data)])

    @command("sums.who")
    async def who(self, call: Call, greeting: str = "hello") -> str:
        return f"{greeting} {call.principal.label}"

    @command("sums.later")
    def later(self) -> Deferred[bytes]:
        return succeed(b"later")

    @command("sums.both")
    def both(self) -> tuple[int, bytes]:
        return 5, b"five"

    @command("sums.reply")
    def reply(self) -> Reply:
        return Reply({"flags": 3}, body=b"reply")

    @command("sums.private", channel=5)
    def private(self) -> None:
        self.seen.append("private")

    @command("sums.refuse")
    def refuse(self) -> None:
        raise Forbidden("not you")

    @command("sums.count")
    async def count(self, out: Writer, most: int) -> None:
        for n in range(most):
            await out.write(n.to_bytes(8, "big"))

    @command("sums.total")
    async def total(self, into: Reader, start: int) -> int:
        return start + sum([int(line) async for line in into.lines()])

    def hidden(self) -> None:
        raise AssertionError("nobody can reach this")


def sums() -> tuple[Sums, Pair, Link]:
    made = Sums()
    pair = Pair(commands=made)
    pair.pump()
    return made, pair, Link(pair.client)


class ClassTests:
    def test_results(self) -> None:
        """Each method gives what it says it returns."""
        # covers: S3-31 S3-32
        made, pair, link = sums()
        there = remote(link, Sums)
        assert pair.result(there.noop()) is None
        assert pair.result(there.add(7, b"abc")) == 10
        assert pair.result(there.add(n=7)) == 7
        assert pair.result(there.typed(Add(7, b"xy"))) == Sum(9, [7, 2])
        assert pair.result(there.who(greeting="grüß")).startswith("grüß ")
        assert pair.result(there.later()) == b"later"
        assert pair.result(there.both()) == (5, b"five")
        answer = pair.result(there.reply())
        assert isinstance(answer, Answer) and (answer.flags, answer.body) == (3, b"reply")
        pair.result(there.private())
        assert made.seen == ["noop", "private"]

    def test_refused(self) -> None:
        """A refusal is raised as what it is, with the other side's words."""
        # covers: S3-33
        _, pair, link = sums()
        with pytest.raises(Forbidden, match="not you"):
            pair.result(remote(link, Sums).refuse())

    def test_streams(self) -> None:
        """A command that streams gives the stream."""
        _, pair, link = sums()
        there = remote(link, Sums)
        out = there.count(3)
        assert isinstance(out, Stream)
        assert pair.result(out.read_all()) == b"".join(n.to_bytes(8, "big") for n in range(3))
        into = there.total(start=1)
        into.write(b"2\n3\n")
        into.finish()
        assert pair.result(into.answered()).flags == 6

    def test_arguments(self) -> None:
        """What the method would not take is a TypeError here, and nothing is said."""
        _, _, link = sums()
        there = remote(link, Sums)
        asked = link.stats.asked
        for wrong in ((), (1, b"", 2)):
            with pytest.raises(TypeError):
                there.add(*wrong)
        with pytest.raises(TypeError):
            there.who(call=None)
        assert link.stats.asked == asked
        assert list(inspect.signature(there.who).parameters) == ["greeting"]

    def test_only_commands(self) -> None:
        """What is not marked is not there, and a class without commands has none to give."""
        _, _, link = sums()
        there = remote(link, Sums)
        with pytest.raises(AttributeError):
            _ = there.hidden
        assert "add" in dir(there) and "hidden" not in dir(there)
        with pytest.raises(BadConfig):
            remote(link, Add)
        with pytest.raises(BadConfig):
            remote(link, Sums.hidden)


class MethodTests:
    def test_types(self, tmp_path: Path) -> None:
        """One method keeps its types: what does not fit is found before it runs."""
        pytest.importorskip("mypy")
        program = tmp_path / "typed.py"
        program.write_text(TYPED)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", str(program)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=240,
        )
        errors = [line for line in done.stdout.splitlines() if "typed.py" in line]
        assert len(errors) == 2, done.stdout
        assert 'expected "int"' in errors[0] and "typed.py:20:" in errors[0]
        assert "typed.py:21:" in errors[1]

    def test_call(self) -> None:
        """It asks as the class's own does."""
        _, pair, link = sums()
        assert pair.result(remote(link, Sums.add)(7, b"abc")) == 10
        assert pair.result(remote(link, Sums.typed)(Add(1))) == Sum(1, [1, 0])
        assert pair.result(remote(link, Sums.who)("hi")).startswith("hi ")


TYPED = """
from lanxfer.commands.declared import command
from lanxfer.commands.table import Call
from lanxfer.links import Link
from lanxfer.remote import remote

class Sums:
    @command("sums.add")
    def add(self, n: int, data: bytes = b"") -> int:
        return n + len(data)

    @command("sums.who")
    async def who(self, call: Call, greeting: str) -> str:
        return greeting

async def main(link: Link) -> None:
    n: int = await remote(link, Sums.add)(7, b"abc")
    who: str = await remote(link, Sums.who)("hi")
    remote(link, Sums).add(7)
    await remote(link, Sums.add)("7")
    wrong: str = await remote(link, Sums.add)(7)
"""


class NumberTests:
    def test_number(self) -> None:
        """A command is asked for by its number, once that is known."""
        # covers: S3-05
        made, pair, link = sums()
        with pytest.raises(BadRequest, match="number 7"):
            pair.result(link.call(7, {"n": 1}))
        link.know(Sums)
        assert pair.result(link.call(7, {"n": 1}, b"ab")).flags == 3
        assert pair.result(Link(pair.client).submit(1)).ok
        assert pair.result(link.channel(3)(7, {"n": 2})).flags == 2
        assert made.seen == ["noop"]

    def test_only_names_travel(self) -> None:
        """The number is this side's word for it: the line carries the name."""
        # covers: S3-05
        _, pair, link = sums()
        link.know(Sums)
        seen: list[bytes] = []
        link.trace(lambda way, line: seen.append(line) if way == ">" else None)
        pair.result(link.call(7, {"n": 1}))
        assert b'"name": "sums.add"' in seen[-1]

    def test_twice(self) -> None:
        """A number stands for one command only, in one class and over all that are known."""

        class Two:
            @command("two.a", number=7)
            def a(self) -> None: ...

            @command("two.b", number=7)
            def b(self) -> None: ...

        class Other:
            @command("other.a", number=7)
            def a(self) -> None: ...

        _, _, link = sums()
        with pytest.raises(BadConfig, match="number 7"):
            link.know(Two)
        link.know(Sums, Sums)
        with pytest.raises(BadConfig, match="7"):
            link.know(Other)
