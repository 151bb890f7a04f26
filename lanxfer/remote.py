"""The other side's commands as methods, made from the class that declares them there.

::

    class Sums:
        @command("sums.add")
        def add(self, n: int, data: bytes) -> int: ...

    sums = remote(link, Sums)
    n = await sums.add(7, b"abc")

    add = remote(link, Sums.add)      # the same, with the types that Sums.add has
    n = await add(7, b"abc")

Arguments are checked here as Python would, and there as the annotations say.  A
parameter that is the ``Call``, a ``Reader`` or a ``Writer`` is not given: it is made there.  A
command that streams gives a ``Stream``.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args, get_origin, overload

import attrs
from twisted.internet.defer import Deferred

from lanxfer.commands.declared import Declared, declare, marked, options_of
from lanxfer.commands.table import Call, Reply
from lanxfer.commands.values import structure
from lanxfer.errors import BadConfig
from lanxfer.exchange import Answer
from lanxfer.links import Link, Stream

P = ParamSpec("P")
R = TypeVar("R")

Result = Callable[[Answer], Any]


class Remote:
    """The commands of one class, by their names in it; each call is a Deferred, or a Stream."""

    def __init__(self, link: Link, kind: type) -> None:
        self._link = link
        self._asks: dict[str, Callable[..., Any]] = {}
        for attribute, _ in marked(kind):
            self._asks[attribute] = _ask(link, getattr(kind, attribute))
        if not self._asks:
            raise BadConfig(f"A {kind.__name__} has no method that is marked as a command.")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            return self.__dict__["_asks"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"no command is called {name}") from None

    def __dir__(self) -> list[str]:
        return sorted(self._asks)


@overload
def remote(  # type: ignore[overload-overlap]  # a class can be called, too
    link: Link, what: type
) -> Remote: ...
@overload
def remote(
    link: Link, what: Callable[Concatenate[Any, Call, P], Coroutine[Any, Any, R]]
) -> Callable[P, Deferred[R]]: ...
@overload
def remote(
    link: Link, what: Callable[Concatenate[Any, Call, P], Deferred[R]]
) -> Callable[P, Deferred[R]]: ...
@overload
def remote(
    link: Link, what: Callable[Concatenate[Any, Call, P], R]
) -> Callable[P, Deferred[R]]: ...
@overload
def remote(
    link: Link, what: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]
) -> Callable[P, Deferred[R]]: ...
@overload
def remote(
    link: Link, what: Callable[Concatenate[Any, P], Deferred[R]]
) -> Callable[P, Deferred[R]]: ...
@overload
def remote(link: Link, what: Callable[Concatenate[Any, P], R]) -> Callable[P, Deferred[R]]: ...
def remote(link: Link, what: Any) -> Any:
    """What asks ``link`` for the commands of a class, or for the one that a method of it is.

    Raises BadConfig for what is no command.  The result is what the method says it
    returns: None, int, bytes, str, (int, bytes), an attrs class; else the Answer.
    """
    return Remote(link, what) if isinstance(what, type) else _ask(link, what)


def _ask(link: Link, function: Callable[..., Any]) -> Callable[..., Any]:
    options = options_of(function)
    if options is None:
        raise BadConfig(f"{getattr(function, '__name__', function)!r} is not marked as a command.")
    parameters = list(inspect.signature(function).parameters.values())
    # A method that is taken from its class: what is not annotated is self.
    if parameters and parameters[0].annotation is inspect.Parameter.empty:
        function = partial(function, None)
    declared = declare(function, options)
    given = _signature(function, declared)
    result = result_of(declared.result)
    streams = bool(declared.reader or declared.writer)

    def ask(*args: Any, **named: Any) -> Deferred[Any] | Stream:
        values = dict(given.bind(*args, **named).arguments)
        data = values.pop(declared.body, b"") if declared.body and declared.request is None else b""
        said = values.pop(declared.request[0]) if declared.request is not None else values
        if streams:
            return link.stream(
                options.name,
                said,
                data,
                writes=bool(declared.reader),
                reads=bool(declared.writer),
            )
        channel = options.channel or 0
        return link.call(options.name, said, data, channel=channel).addCallback(result)

    ask.__name__ = getattr(options, "name", "ask")
    ask.__signature__ = given  # type: ignore[attr-defined]  # what help() shows
    return ask


def _signature(function: Callable[..., Any], declared: Declared) -> inspect.Signature:
    """The function's own, without what is made on the other side."""
    whole = inspect.signature(function)
    made = {declared.call, declared.reader, declared.writer}
    return whole.replace(
        parameters=[each for each in whole.parameters.values() if each.name not in made]
    )


def result_of(annotation: Any) -> Result:
    """What makes of an Answer the value that a method with that annotation returned."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if (
        origin is not None
        and isinstance(origin, type)
        and issubclass(origin, (Deferred, Awaitable))
    ):
        return result_of(inner[-1])
    if annotation is None or annotation is type(None):
        return lambda answer: None
    if annotation is int:
        return lambda answer: answer.flags
    if annotation is bytes:
        return lambda answer: answer.body
    if annotation is str:
        return lambda answer: answer.body.decode("utf-8")
    if origin is tuple and inner == (int, bytes):
        return lambda answer: (answer.flags, answer.body)
    if isinstance(annotation, type) and attrs.has(annotation) and annotation is not Reply:
        build = structure(annotation)
        return lambda answer: build(answer.args.get("args"))
    return lambda answer: answer
