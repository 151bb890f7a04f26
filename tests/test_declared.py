"""An application's own commands: what can be declared, asked, answered, and reached."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from attrs import field, frozen
from twisted.internet.defer import Deferred

from lanxfer.commands.declared import Commands, command, commands_of
from lanxfer.commands.table import Call, Reply
from lanxfer.errors import (
    BadConfig,
    BadRequest,
    Cancelled,
    Exists,
    Forbidden,
    Internal,
    LanxferError,
    NotFound,
    UnknownCommand,
)
from lanxfer.exchange import Answer
from lanxfer.links import Link
from lanxfer.policy import Principal, Standing
from lanxfer.rights import Book, Right, Section
from lanxfer.storage.names import SafePath
from lanxfer.testing import Pair
from lanxfer.turns import Turns
from lanxfer.wire import limits


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@frozen
class Point:
    x: int
    y: float = 0.0


@frozen
class Add:
    n: int
    data: bytes = b""


@frozen
class Sum:
    total: int
    parts: list[int] = field(factory=list)


class Tools:
    """What the tests ask for."""

    def __init__(self) -> None:
        self.waiting: list[Deferred[Any]] = []
        self.seen: list[Any] = []

    @command("t.noop")
    def noop(self) -> None:
        pass

    def get_paths(self) -> str:
        return "no business of anybody's"

    @command("t.echo")
    def echo(self, data: bytes) -> bytes:
        return data

    @command("t.flags")
    def flags(self, call: Call) -> int:
        return call.flags + 4

    @command("t.who")
    def who(self, call: Call) -> str:
        return call.principal.label

    @command("t.add")
    def add(self, request: Add) -> Sum:
        return Sum(request.n + len(request.data), [request.n])

    @command("t.typed")
    async def typed(
        self,
        a: int,
        b: float,
        c: bool,
        points: list[Point],
        colour: Colour = Colour.RED,
        note: str | None = None,
    ) -> None:
        self.seen.append((a, b, c, points, colour, note))

    @command("t.wait")
    def wait(self) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred(lambda d: self.seen.append("cancelled"))
        self.waiting.append(waiting)
        return waiting

    @command("t.steps")
    async def steps(self, call: Call) -> str:
        call.tell({"step": 1})
        call.tell({"step": 2})
        return "done"

    @command("t.any")
    def any(self, what: str) -> Any:
        return {
            "none": None,
            "int": 7,
            "bytes": b"bytes",
            "str": "grüße",
            "pair": (9, b"pair"),
            "reply": Reply({"flags": 3}, body=b"reply"),
            "true": True,
            "list": ["x"],
            "negative": -1,
            "pairs": (1, 2),
        }[what]

    @command("t.fail")
    def fail(self, how: str) -> None:
        if how == "typed":
            raise NotFound("No such tune.")
        raise ValueError("secret")


def tools(**more: Any) -> tuple[Tools, Pair, Link]:
    made = Tools()
    pair = Pair(commands=made, **more)
    pair.pump()
    return made, pair, Link(pair.client)


class ReachTests:
    def test_six_lines(self) -> None:
        """A subclass with one marked method is a command more, and what it had before is there."""

        # covers: S2-01
        class More(Tools):
            @command("t.more")
            def more(self) -> str:
                return "more"

        pair = Pair(commands=More())
        link = Link(pair.client)
        assert pair.result(link.call("t.more")).body == b"more"
        assert pair.result(link.call("t.noop")).ok

    def test_override(self) -> None:
        """A method that overrides a command is that command; None in its place takes it away."""

        # covers: S2-01
        class Other(Tools):
            def echo(self, data: bytes) -> bytes:
                return data[::-1]

            noop = None  # type: ignore[assignment]

        pair = Pair(commands=Other())
        assert pair.result(Link(pair.client).call("t.echo", data=b"abc")).body == b"cba"
        with pytest.raises(UnknownCommand):
            pair.result(Link(pair.client).call("t.noop"))

    # covers: J16
    def test_large_bodies(self) -> None:
        """Large bodies may wait for something that comes behind them."""

        class Holding(Tools):
            @command("t.holds")
            def holds(self, data: bytes) -> Any:
                return self.wait()

        made = Holding()
        pair = Pair(commands=made)
        pair.server.take_turns(Turns(pair.clock))
        link = Link(pair.client)
        held = [link.call("t.holds", data=bytes(4 * limits.MIB)) for _ in range(3)]
        assert pair.result(link.call("t.noop")).ok
        assert len(made.waiting) == 3 and pair.server._weight == 12 * limits.MIB
        for each in made.waiting:
            each.callback(None)
        for answer in held:
            assert pair.result(answer).ok
        assert pair.server._weight == 0

    @pytest.mark.parametrize("name", ["get_paths", "t.get_paths", "t.zzz", "__init__", "t.waiting"])
    def test_only_marked(self, name: str) -> None:
        """What is not marked cannot be reached; the connection goes on."""
        # covers: S2-02 S2-13
        _, pair, link = tools()
        with pytest.raises((UnknownCommand, Forbidden, BadRequest)):
            pair.result(link.call(name))
        assert pair.result(link.call("t.noop")).ok

    def test_at_run_time(self) -> None:
        """A function can become a command while connections are open, and stop being one."""
        # covers: S2-01
        table = Commands(Tools())
        pair = Pair(commands=table)
        link = Link(pair.client)
        with pytest.raises(UnknownCommand):
            pair.result(link.call("t.late"))

        def late(n: int) -> int:
            return n + 1

        table.add("t.late", late)
        assert pair.result(link.call("t.late", {"n": 4})).flags == 5
        del table["t.late"]
        with pytest.raises(UnknownCommand):
            pair.result(link.call("t.late", {"n": 4}))

    def test_builtin_stays(self) -> None:
        """A command of an application's cannot take the place of one of lanxfer's."""
        with pytest.raises(BadConfig, match="dot"):
            Commands({"recv_file": lambda call, node: None})  # type: ignore[dict-item,return-value]

    def test_context(self) -> None:
        """A command can see who asks."""
        # covers: S2-03
        _, pair, link = tools(principal=Principal(Standing.USER, "user:anna", "anna"))
        assert pair.result(link.call("t.who")).body == b"anna"

    def test_nobody_answers(self) -> None:
        """A side without commands refuses what it is asked, and asks all the same."""
        # covers: S3-15
        pair = Pair()
        pair.client._table = {}
        pair.server._table = Commands(Tools())
        pair.pump()
        with pytest.raises(UnknownCommand):
            pair.result(Link(pair.server).call("t.noop"))
        assert pair.result(Link(pair.client).call("t.noop")).ok


class ArgumentTests:
    def test_typed(self) -> None:
        """Values arrive as what their annotations say, also those that no header can carry."""
        # covers: S3-31
        made, pair, link = tools()
        args = {"a": -5, "b": 2.5, "c": True, "points": [Point(1, -0.5)], "note": "é"}
        pair.result(link.call("t.typed", args))
        assert made.seen == [(-5, 2.5, True, [Point(1, -0.5)], Colour.RED, "é")]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"a": "x"},
            {"a": True},
            {"b": "1e"},
            {"c": 1},
            {"points": {}},
            {"points": [{"x": 1, "z": 2}]},
            {"points": [{}]},
            {"colour": "green"},
            {"note": 5},
            {"more": 1},
        ],
    )
    def test_refused(self, wrong: dict[str, Any]) -> None:
        """What does not fit an annotation is refused, before anything is called."""
        made, pair, link = tools()
        right = {"a": 1, "b": 1, "c": True, "points": []}
        with pytest.raises(BadRequest):
            pair.result(link.call("t.typed", {**right, **wrong}))
        assert made.seen == []

    def test_missing(self) -> None:
        """What is missing is named."""
        _, pair, link = tools()
        with pytest.raises(BadRequest, match="a, b, c, points"):
            pair.result(link.call("t.typed"))

    def test_no_bytes(self) -> None:
        """A command that takes no bytes is sent none."""
        _, pair, link = tools()
        with pytest.raises(BadRequest, match="no bytes"):
            pair.result(link.call("t.noop", data=b"x"))

    def test_same_class(self) -> None:
        """A request class at both ends is the arguments, its bytes are the body."""
        # covers: S3-31
        _, pair, link = tools()
        assert pair.result(link.call("t.add", Add(7, b"xy"))).args["args"] == {
            "total": 9,
            "parts": [7],
        }

    @pytest.mark.parametrize("size", [0, 1, 65536, 4 * 1024 * 1024])
    def test_payload(self, size: int) -> None:
        """Bytes come back as they went, whatever their number."""
        # covers: S3-07
        _, pair, link = tools()
        data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        assert pair.result(link.call("t.echo", data=data)).body == data

    def test_unsayable(self) -> None:
        """What no header can carry is refused here, and nothing is said."""
        _, pair, link = tools()
        with pytest.raises(BadRequest):
            pair.result(link.call("t.typed", {"a": object()}))
        assert pair.result(link.call("t.noop")).ok


class AnswerTests:
    @pytest.mark.parametrize(
        ("what", "flags", "body"),
        [
            ("none", 0, b""),
            ("int", 7, b""),
            ("bytes", 0, b"bytes"),
            ("str", 0, "grüße".encode()),
            ("pair", 9, b"pair"),
            ("reply", 3, b"reply"),
        ],
    )
    def test_kinds(self, what: str, flags: int, body: bytes) -> None:
        """What a handler gives is its answer, at once or later."""
        # covers: S3-13 S3-08
        made, pair, link = tools()
        answer: Answer = pair.result(link.call("t.any", {"what": what}))
        assert (answer.ok, answer.flags, answer.body) == (True, flags, body)
        later = link.call("t.wait")
        pair.pump()
        made.waiting[0].callback(made.any(what))
        answer = pair.result(later)
        assert (answer.ok, answer.flags, answer.body) == (True, flags, body)

    @pytest.mark.parametrize("what", ["true", "list", "negative", "pairs", "no such"])
    def test_no_answer(self, what: str, logged: list[str]) -> None:
        """Anything else is an internal error, and a line in the log."""
        # covers: S3-13
        _, pair, link = tools()
        with pytest.raises(Internal):
            pair.result(link.call("t.any", {"what": what}))
        assert "failed" in logged.pop()
        assert pair.result(link.call("t.noop")).ok

    def test_failures(self, logged: list[str]) -> None:
        """A typed error is told, with its text; any other is not."""
        # covers: S3-14 S3-33 S2-15
        _, pair, link = tools()
        with pytest.raises(NotFound, match="No such tune") as found:
            pair.result(link.call("t.fail", {"how": "typed"}))
        assert (found.value.code, isinstance(found.value, LanxferError)) == ("not-found", True)
        with pytest.raises(Internal) as hidden:
            pair.result(link.call("t.fail", {"how": "bug"}))
        assert "secret" not in hidden.value.reason
        assert "secret" in logged.pop()

    def test_submit(self, logged: list[str]) -> None:
        """Who wants no exception gets a refusal as an answer."""
        # covers: S3-08 S3-09
        _, pair, link = tools()
        answer = pair.result(link.submit("t.fail", {"how": "typed"}))
        assert (answer.ok, answer.error.code) == (False, "not-found")
        assert pair.result(link.submit("t.any", {"what": "int"})).flags == 7

    def test_flags(self) -> None:
        """A number of the application's goes each way."""
        # covers: S3-06
        _, pair, link = tools()
        assert pair.result(link.call("t.flags", flags=5)).flags == 9
        assert pair.result(link.call("t.flags")).flags == 4

    def test_interim(self) -> None:
        """Words come before the answer."""
        # covers: S2-10
        _, pair, link = tools()
        heard: list[Any] = []
        answer = pair.result(link.call("t.steps", on_event=heard.append))
        assert ([each["step"] for each in heard], answer.body) == ([1, 2], b"done")

    def test_decode(self) -> None:
        """What decodes an answer may fail, and only its own caller hears of it."""
        # covers: S3-12
        _, pair, link = tools()
        assert pair.result(link.call("t.echo", data=b"5", decode=int)) == 5
        with pytest.raises(ValueError, match="invalid literal"):
            pair.result(link.call("t.echo", data=b"x", decode=int))
        assert pair.result(link.call("t.noop")).ok


class CancelTests:
    def test_one_answer(self) -> None:
        """A cancelled command is told so, and gives exactly one answer."""
        # covers: S2-09 S3-34
        made, pair, link = tools()
        waiting = link.call("t.wait")
        pair.pump()
        lines: list[bytes] = []
        link.trace(lambda way, line: lines.append(line) if way == "<" else None)
        waiting.cancel()
        with pytest.raises(Cancelled):
            pair.result(waiting)
        assert made.seen == ["cancelled"]
        assert len(lines) == 1
        assert b'"cancelled"' in lines[0]

    def test_late_answer(self) -> None:
        """An answer that crosses the cancel changes nothing for what comes next."""
        # covers: S3-34
        made, pair, link = tools()
        waiting = link.call("t.wait")
        pair.pump()
        made.waiting[0].callback(None)
        waiting.cancel()
        waiting.addErrback(lambda why: why.trap(Cancelled))
        pair.pump()
        for _ in range(100):
            assert pair.result(link.call("t.noop")).ok

    def test_order(self) -> None:
        """Whatever is done first is answered first."""
        # covers: S2-12 S3-03 S2-08
        made, pair, link = tools()
        slow, fast = link.call("t.wait"), link.call("t.noop")
        assert pair.result(fast).ok
        assert not slow.called
        made.waiting[0].callback("late")
        assert pair.result(slow).body == b"late"


class ConditionTests:
    class Guarded:
        @command("g.login", needs="login")
        def login(self) -> None:
            pass

        @command("g.own", needs=lambda principal: principal.label == "anna")
        def own(self) -> None:
            pass

        @command("g.file", path="name", must="file")
        def file(self, name: SafePath | str) -> str:
            assert isinstance(name, SafePath)
            return str(name)

        @command("g.make", path="name", must="miss")
        def make(self, name: str) -> None:
            pass

        @command("g.change", path="name", perm="rw")
        def change(self, name: str) -> None:
            pass

    def ask(self, pair: Pair, command: str, **args: Any) -> Answer:
        answer: Answer = pair.result(Link(pair.client).call(command, args))
        return answer

    @pytest.mark.parametrize("standing", [Standing.PEER, Standing.USER])
    def test_needs(self, standing: Standing) -> None:
        """Who does not meet a condition is refused before the command is called."""
        # covers: S2-05
        pair = Pair(commands=self.Guarded(), principal=Principal(standing, "x", "anna"))
        assert self.ask(pair, "g.own").ok
        if standing is Standing.USER:
            assert self.ask(pair, "g.login").ok
        else:
            with pytest.raises(Forbidden):
                self.ask(pair, "g.login")

    def test_path(self) -> None:
        """What has to be there, or not to be, is looked for."""
        # covers: S2-06
        pair = Pair(commands=self.Guarded())
        pair.result(
            pair.client.ask("recv_file", {"path": "d", "size": 0, "kind": "folder"}).answered()
        )
        pair.result(pair.send("f", b"data"))
        assert self.ask(pair, "g.file", name="f").body == b"f"
        with pytest.raises(NotFound):
            self.ask(pair, "g.file", name="missing")
        with pytest.raises(BadRequest):
            self.ask(pair, "g.file", name="d")
        with pytest.raises(Exists):
            self.ask(pair, "g.make", name="f")
        assert self.ask(pair, "g.make", name="new").ok

    def test_perm(self) -> None:
        """All of the rights that are listed are needed."""
        # covers: S2-07
        some = {("a",): frozenset({Right.READ}), ("b",): frozenset({Right.READ, Right.WRITE})}
        book = Book({"everyone": Section({"commands": None}, some)})
        pair = Pair(commands=self.Guarded(), rights=book)
        with pytest.raises(Forbidden):
            self.ask(pair, "g.change", name="a/x")
        assert self.ask(pair, "g.change", name="b/x").ok
        with pytest.raises(LanxferError, match=r"\.\."):
            self.ask(pair, "g.change", name="b/../a/x")


class DeclareTests:
    def test_refused(self) -> None:
        """What cannot be a command is said when it is declared."""

        def untyped(x) -> None: ...  # type: ignore[no-untyped-def]

        def odd(x: set[int]) -> None: ...

        def many(*x: int) -> None: ...

        def two(a: bytes, b: bytes) -> None: ...

        for function in (untyped, odd, many, two):
            with pytest.raises(BadConfig):
                Commands().add("t.x", function)
        for options in ({"perm": "x"}, {"must": "file"}, {"needs": "luck"}):
            with pytest.raises(BadConfig):
                command("t.x", **options)  # type: ignore[arg-type]
        with pytest.raises(BadConfig, match="no method"):
            commands_of(object())
        with pytest.raises(BadConfig, match="already"):
            Commands(Tools(), Tools())
