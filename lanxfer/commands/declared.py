"""An application's own commands: methods of a class, or functions, put into a table.

::

    class Sums:
        @command("sums.add")
        def add(self, n: int, data: bytes) -> int:
            return n + len(data)

    TransferService(reactor, settings, commands=Sums())

What is not marked cannot be reached, and a command can be reached under its name
only.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, MutableMapping
from typing import Any, Protocol, TypeVar

import attrs
from attrs import evolve, field, frozen

from lanxfer.commands.table import Call, Command, Node, Reply
from lanxfer.commands.values import Convert, build, converter, named, plain
from lanxfer.errors import (
    BadConfig,
    BadRequest,
    Exists,
    Forbidden,
    NotFound,
)
from lanxfer.policy import Principal, Standing
from lanxfer.storage.names import safe_path
from lanxfer.wire import limits

F = TypeVar("F", bound=Callable[..., Any])

Needs = Callable[[Principal], bool]


class Reader(Protocol):
    """A stream that comes in; a parameter annotated with it makes the command take one."""

    async def read(self, most: int = -1) -> bytes:
        """Some bytes, at most ``most``; b"" at the end."""

    async def read_exactly(self, size: int) -> bytes:
        """That many bytes; ShortBody where there are fewer."""

    async def read_line(self, most: int = ...) -> bytes:
        """A line with its LF."""

    async def read_all(self) -> bytes:
        """Everything, in memory."""

    def blocks(self, size: int) -> AsyncIterator[bytes]:
        """Blocks of ``size`` bytes; the last one may be shorter."""

    def lines(self) -> AsyncIterator[bytes]:
        """Lines with their LF."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Writer(Protocol):
    """A stream that goes out; a parameter annotated with it makes the command send one."""

    def write(self, data: bytes) -> Any:
        """Send ``data``; what it returns is to be awaited before more is written."""


@frozen
class Options:
    """What ``command`` was told of one command."""

    name: str
    needs: Needs | None = None
    path: str = ""
    must: str = ""
    perm: str = ""
    blocking: bool = False
    channel: int | None = None
    number: int | None = None


_MARK = "__lanxfer_command__"

_MUST: dict[str, tuple[str, ...]] = {
    "exist": ("file", "folder", "link", "other"),
    "file": ("file",),
    "folder": ("folder",),
}
_NEEDS = {
    "login": frozenset({Standing.USER, Standing.LOCAL}),
    "paired": frozenset({Standing.PEER, Standing.LOCAL}),
    "owner": frozenset({Standing.LOCAL}),
}


def command(
    name: str,
    *,
    needs: str | Needs | None = None,
    path: str = "",
    must: str = "",
    perm: str = "",
    blocking: bool = False,
    channel: int | None = None,
    number: int | None = None,
) -> Callable[[F], F]:
    """Mark a method, or a function, as the command ``name``, which has a dot in it.

    ``needs`` is "login", "paired", "owner", or a function of the principal; whoever does not
    meet it is Forbidden.  ``path`` names the argument that is a path below the inbox: it
    comes as a SafePath, all of the rights in ``perm`` ("r", "w", "rw") are
    needed there, and ``must`` says what has to be there: "exist", "file",
    "folder" or "miss".  With ``blocking`` it runs in a thread of a small
    pool.  ``channel`` is the only one on which it can be reached.  By ``number`` an asker
    that knows the class may name it, too (``Link.know``).
    """
    if perm.strip("rw") or (perm and not path) or (must and not path):
        raise BadConfig('perm is "r", "w" or "rw", and it and must are about a path.')
    if must and must != "miss" and must not in _MUST:
        raise BadConfig(f"must is exist, file, folder or miss, not {must!r}.")
    if isinstance(needs, str):
        if needs not in _NEEDS:
            raise BadConfig(f"needs is one of {', '.join(_NEEDS)}, not {needs!r}.")
        needs = _standing_in(_NEEDS[needs])
    options = Options(name, needs, path, must, perm, blocking, channel, number)

    def mark(function: F) -> F:
        setattr(function, _MARK, options)
        return function

    return mark


def _standing_in(standings: frozenset[Standing]) -> Needs:
    return lambda principal: principal.standing in standings


@frozen(eq=False)
class Declared:
    """A command with what its signature says; a ``Command`` of the table.

    ``values`` are its arguments by name with what makes them of a header; the
    others are the names of the parameters that get the body, the streams, the call.
    """

    options: Options
    function: Callable[..., Any]
    values: Mapping[str, Convert]
    wanted: frozenset[str]
    request: tuple[str, type] | None = None
    body: str = ""
    call: str = ""
    reader: str = ""
    writer: str = ""
    result: Any = None
    instant: bool = field(init=False)
    """Whether it may have its answer as soon as it is called."""

    @instant.default
    def _instant(self) -> bool:
        return not self.options.blocking and not self.options.must

    def __call__(self, call: Call, node: Node) -> Coroutine[Any, Any, Reply]:
        return self._run(call, node)

    async def _run(self, call: Call, node: Node) -> Reply:
        options = self.options
        given = self.arguments(call, node)
        if options.must:
            await self._look(given[options.path], call, node)
        if options.blocking:
            found = await call.shield(node.in_pool(self.function, **given))
        else:
            found = self.function(**given)
        return await self.finish(found, call)

    def now(self, call: Call, node: Node) -> Reply | Coroutine[Any, Any, Reply]:
        """The answer, or what will have it."""
        found = self.function(**self.arguments(call, node))
        if hasattr(found, "__await__"):
            return self.finish(found, call)
        return reply_of(found)

    async def finish(self, found: Any, call: Call) -> Reply:
        """Wait for what the function gave, unless the asker gives it up before."""
        while hasattr(found, "__await__"):
            found = await call.shield(found)
        return reply_of(found)

    def arguments(self, call: Call, node: Node) -> dict[str, Any]:
        """What the function is to be called with; raises why it is not called at all."""
        options, args = self.options, call.args
        if options.needs is not None and not options.needs(call.principal):
            raise Forbidden()
        if options.channel is not None and args.get("channel", 0) != options.channel:
            raise Forbidden("That command is on another channel.")
        values = args.get("args", _NONE)
        if type(values) is not dict:
            raise BadRequest('"args" is an object.')
        given = named(values, self.values, self.wanted) if values or self.wanted else {}
        if options.path:
            path = given[options.path] = safe_path(given[options.path])
            if options.perm and not node.may(call.principal, options.perm, path):
                raise Forbidden()
        if self.body:
            given[self.body] = call.data or b""
        elif call.data:
            raise BadRequest("That command takes no bytes.")
        if self.request is not None:
            name, kind = self.request
            given = {name: build(kind, given)}
        if self.call:
            given[self.call] = call
        if self.reader:
            given[self.reader] = call.stream_in()
        if self.writer:
            given[self.writer] = call.stream_out()
        return given

    async def _look(self, path: Any, call: Call, node: Node) -> None:
        facts = await call.shield(node.in_thread(node.store.look, path))
        must = self.options.must
        if must == "miss":
            if facts is not None:
                raise Exists()
        elif facts is None:
            raise NotFound()
        elif facts.kind not in _MUST[must]:
            raise BadRequest(f"That is no {must}.")


_NONE: dict[str, Any] = {}
_OK = Reply()


def reply_of(found: Any) -> Reply:
    """The answer that a handler's result stands for."""
    if found is None:
        return _OK
    kind = type(found)
    if kind is bytes:
        return Reply(body=found)
    if kind is str:
        return Reply(body=found.encode("utf-8"))
    if kind is int and 0 <= found <= limits.NUMBER_MAX:
        return Reply({"flags": found})
    if kind is Reply:
        return found  # type: ignore[no-any-return]
    if kind is tuple and len(found) == 2 and type(found[0]) is int and type(found[1]) is bytes:
        return evolve(reply_of(found[0]), body=found[1])
    if attrs.has(kind):
        return Reply({"args": plain(found)})
    raise TypeError(f"a {kind.__name__} is no answer")


def declare(function: Callable[..., Any], options: Options) -> Declared:
    """A command from a function's signature; BadConfig for what a command cannot be."""
    check_name(options.name)
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError as error:
        raise BadConfig(f"An annotation of {options.name} cannot be found: {error}.") from None
    special: dict[str, str] = {}
    values: dict[str, Convert] = {}
    wanted: set[str] = set()
    request: tuple[str, type] | None = None
    for parameter in signature.parameters.values():
        name, kind = parameter.name, parameter.annotation
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BadConfig(f"{options.name} has to name its arguments.")
        if parameter.kind is parameter.POSITIONAL_ONLY or kind is parameter.empty:
            raise BadConfig(f"The argument {name} of {options.name} needs an annotation.")
        if kind in _SPECIAL:
            if _SPECIAL[kind] in special:
                raise BadConfig(f"{options.name} has two arguments of one kind: {name}.")
            special[_SPECIAL[kind]] = name
        elif isinstance(kind, type) and attrs.has(kind):
            request = name, kind
        else:
            values[name] = converter(kind)
            if parameter.default is parameter.empty:
                wanted.add(name)
    if request is not None:
        if values or "body" in special:
            raise BadConfig(f"{options.name} takes one object, or single arguments; not both.")
        values, wanted = _fields(request[1], special)
    if options.path and (request is not None or options.path not in values):
        raise BadConfig(f"{options.name} has no argument {options.path}.")
    if options.blocking and special.keys() & {"reader", "writer"}:
        raise BadConfig(f"{options.name} streams, so it cannot be blocking.")
    result = signature.return_annotation
    result = None if result is signature.empty else result
    return Declared(options, function, values, frozenset(wanted), request, **special, result=result)


_SPECIAL: dict[Any, str] = {Call: "call", Reader: "reader", Writer: "writer", bytes: "body"}


def _fields(kind: type, special: dict[str, str]) -> tuple[dict[str, Convert], set[str]]:
    """The arguments that an attrs class stands for; its field of bytes is the body."""
    attrs.resolve_types(kind)
    values: dict[str, Convert] = {}
    wanted: set[str] = set()
    for each in attrs.fields(kind):
        if each.type is bytes:
            if "body" in special:
                raise BadConfig(f"{kind.__name__} has two fields of bytes.")
            special["body"] = each.name
            continue
        values[each.name] = converter(each.type)
        if each.default is attrs.NOTHING:
            wanted.add(each.name)
    return values, wanted


def check_name(name: str) -> None:
    """BadConfig for what cannot be the name of an application's command."""
    if "." not in name:
        raise BadConfig(f"The name of a command of your own has a dot: {name!r}.")


def options_of(function: Any) -> Options | None:
    """What ``command`` was told of a function, if it is marked."""
    found = getattr(function, _MARK, None)
    return found if isinstance(found, Options) else None


def numbers_of(kind: type) -> dict[int, str]:
    """The names of a class's commands by their numbers; BadConfig where one stands for two."""
    found: dict[int, str] = {}
    for _, each in marked(kind):
        if each.number is None:
            continue
        if found.setdefault(each.number, each.name) != each.name:
            raise BadConfig(f"{kind.__name__} has two commands with the number {each.number}.")
    return found


def marked(kind: type) -> Iterator[tuple[str, Options]]:
    """The marked methods of a class, by attribute; an override need not be marked again."""
    found: dict[str, Options] = {}
    for each in reversed(kind.__mro__):
        for attribute, value in vars(each).items():
            options = options_of(value)
            if options is not None:
                found[attribute] = options
    for attribute, options in found.items():
        if callable(getattr(kind, attribute, None)):  # None in a subclass takes it away
            yield attribute, options


class Commands(MutableMapping[str, Command]):
    """A table of an application's commands, to which more may be added while it is in use.

    Made from objects with marked methods, marked functions, and other tables.
    """

    def __init__(self, *objects: Any) -> None:
        self._table: dict[str, Command] = {}
        for each in objects:
            if isinstance(each, Mapping):
                self.update(each)
            else:
                self.update(commands_of(each))

    def add(self, name: str, function: Callable[..., Any], **options: Any) -> None:
        """Have ``function`` answer ``name``; options as those of ``command``. BadConfig."""
        mark = command(name, **options)
        holder = lambda: None  # noqa: E731  # the function itself may be anybody's and stays as it is
        found = getattr(mark(holder), _MARK)
        self[name] = declare(function, found)

    def __setitem__(self, name: str, function: Command) -> None:
        check_name(name)
        if name in self._table:
            raise BadConfig(f"There is a command {name} already.")
        self._table[name] = function

    def __getitem__(self, name: str) -> Command:
        return self._table[name]

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __delitem__(self, name: str) -> None:
        del self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def commands_of(found: Any) -> dict[str, Command]:
    """The commands that the marked methods of an object, or a marked function, are."""
    options = options_of(found)
    if options is not None:
        return {options.name: declare(found, options)}
    made: dict[str, Command] = {}
    for attribute, each in marked(type(found)):
        if each.name in made:
            raise BadConfig(f"There are two commands {each.name}.")
        made[each.name] = declare(getattr(found, attribute), each)
    if not made:
        raise BadConfig(f"A {type(found).__name__} has no method that is marked as a command.")
    return made


def table_of(found: Any) -> MutableMapping[str, Command]:
    """What an application gave as its commands: a table of them, or an object that has some."""
    if found is None:
        return Commands()
    return found if isinstance(found, Commands) else Commands(found)
