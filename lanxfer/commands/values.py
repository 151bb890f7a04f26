"""Arguments and results of an application's commands, between Python and a header line.

A header carries texts, numbers from 0 on, flags, lists and dicts; other numbers go
as texts.  The annotation on the receiving side says what to make of them, and
what does not fit it is BadRequest.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin

import attrs

from lanxfer.errors import BadConfig, BadRequest
from lanxfer.transfers import Entry, Offer, Receipt, Stored, Usage
from lanxfer.wire import limits

_INTEGER = re.compile(r"-?[0-9]{1,400}")
_FLOAT = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:e[+-]?[0-9]{1,3})?|-?inf|nan")

Convert = Callable[[Any], Any]


_NAMED = (Entry, Offer, Receipt, Stored, Usage)
"""Tuples of ours whose places have names, which are what others know them by."""


def plain(value: Any) -> Any:
    """``value`` as a header can carry it; BadRequest where none can."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is int:
        return value if 0 <= value <= limits.NUMBER_MAX else str(value)
    if kind is float:
        return repr(value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, _NAMED):
        return plain(value._asdict())
    if attrs.has(kind):
        return {each.name: plain(getattr(value, each.name)) for each in attrs.fields(kind)}
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise BadRequest("The keys of an argument are texts.")
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [plain(each) for each in value]
    raise BadRequest(f"A {kind.__name__} is nothing that can be an argument.")


def _refuse(what: str) -> BadRequest:
    return BadRequest(f"An argument is not {what}.")


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    raise _refuse("a whole number")


def _real(value: Any) -> float:
    if type(value) is int or (isinstance(value, str) and _FLOAT.fullmatch(value)):
        return float(value)
    raise _refuse("a number")


def _exact(kind: type, what: str) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not kind:
            raise _refuse(what)
        return value

    return convert


_SIMPLE: dict[Any, Convert] = {
    int: _whole,
    float: _real,
    str: _exact(str, "a text"),
    bool: _exact(bool, "true or false"),
    type(None): _exact(type(None), "null"),
    dict: _exact(dict, "an object"),
    list: _exact(list, "a list"),
    Any: lambda value: value,
}


@cache
def converter(annotation: Any) -> Convert:
    """What makes a value of that annotation out of what came in a header.

    BadConfig, when the command is declared, for annotations that it cannot be of.
    """
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _either([converter(each) for each in inner])
    if origin in (list, Sequence, tuple) and (len(inner) == 1 or inner[1:] == (Ellipsis,)):
        return _all(converter(inner[0]), tuple if origin is tuple else list)
    if origin in (dict, Mapping) and inner[0] is str:
        each = converter(inner[1])
        of_dict = _exact(dict, "an object")
        return lambda value: {key: each(found) for key, found in of_dict(value).items()}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _member(annotation)
    if isinstance(annotation, type) and attrs.has(annotation):
        return structure(annotation)
    raise BadConfig(f"No header carries a {annotation!r}; annotate it otherwise.")


def _either(choices: list[Convert]) -> Convert:
    def convert(value: Any) -> Any:
        for each in choices:
            try:
                return each(value)
            except BadRequest:
                continue
        raise _refuse("of a type that is taken there")

    return convert


def _all(each: Convert, kind: Callable[[Any], Any]) -> Convert:
    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise _refuse("a list")
        return kind([each(found) for found in value])

    return convert


def _member(kind: type[Enum]) -> Convert:
    def convert(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise _refuse(f"one of {', '.join(str(each.value) for each in kind)}") from None

    return convert


def structure(kind: type) -> Convert:
    """What makes an attrs object out of a dict of its fields."""
    hints = typing.get_type_hints(kind)
    fields = {each.name: converter(hints[each.name]) for each in attrs.fields(kind)}
    wanted = frozenset(each.name for each in attrs.fields(kind) if each.default is attrs.NOTHING)

    def convert(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _refuse("an object")
        return build(kind, named(value, fields, wanted))

    return convert


def named(
    values: Mapping[str, Any], known: Mapping[str, Convert], wanted: frozenset[str]
) -> dict[str, Any]:
    """Each value by its own converter; BadRequest for one that is missing, or too many."""
    found = {}
    for key, value in values.items():
        convert = known.get(key)
        if convert is None:
            raise BadRequest("There is an argument that the command does not know.")
        found[key] = convert(value)
    missing = wanted - found.keys()
    if missing:
        raise BadRequest(f"The command needs: {', '.join(sorted(missing))}.")
    return found


def build(kind: type, fields: Mapping[str, Any]) -> Any:
    """The object itself; what its own validators refuse is BadRequest."""
    inits = {each.alias: fields[each.name] for each in attrs.fields(kind) if each.name in fields}
    try:
        return kind(**inits)
    except (TypeError, ValueError):
        raise BadRequest() from None
