"""Rows of the journal: what they say of a transfer or of many, and whether they are whole.

Each has a checksum of its own.  What it says is JSON: of a file of its own the fields of its
snapshot, of those that came together a list a field.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from lanxfer.transfers import Direction, Kind, Snapshot, State, Together


class Damaged(Exception):
    """Something that SQLite took for good is not what was written."""


def plain(text: str) -> str:
    """Text for a column: SQLite takes no lone surrogates, which names of files may have."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def sealed(*parts: Any) -> tuple[Any, ...]:
    """Columns of a row, the last part as JSON, and a checksum over them all."""
    return _summed((*parts[:-1], json.dumps(dict(parts[-1]))))


def _summed(columns: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*columns, zlib.crc32(repr(columns).encode()))


def opened(row: Sequence[Any]) -> dict[str, Any]:
    """The JSON of a row that is as it was written; else Damaged."""
    *columns, crc = row
    if zlib.crc32(repr(tuple(columns)).encode("utf-8", "backslashreplace")) != crc:
        raise Damaged
    content: dict[str, Any] = json.loads(columns[-1])
    return content


def row_of(ended: Snapshot | Together) -> tuple[Any, ...]:
    """Its id, its principal, the JSON that ``ended_in`` reads, and the checksum."""
    if isinstance(ended, Snapshot):
        return sealed(plain(ended.id), plain(ended.peer), _said(ended))
    columns = {name: list(getattr(ended, name)) for name in _COLUMNS}
    common = ended.common
    id = common.id + _THERE if common.already else common.id
    return sealed(plain(id), plain(common.peer), {**_said(common), **columns})


_THERE = "+"
"""Behind the id of a pack: the row of those that had been there before."""


def rows_with(id: str) -> tuple[str, str, str]:
    """The ids of the rows that may tell of that transfer: one that came with others has none."""
    pack = id.rpartition("-")[0]
    return plain(id), plain(pack), plain(pack + _THERE)


_COLUMNS = ("numbers", "paths", "sizes", "digests")


def _said(snapshot: Snapshot) -> dict[str, Any]:
    """What differs from the defaults, which a reader of the row puts in their place."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in snapshot._asdict().items()
        if name not in _DEFAULTS or value != _DEFAULTS[name]
    }


_DEFAULTS = Snapshot._field_defaults


def ended_in(row: Mapping[str, Any]) -> Snapshot | Together:
    """What the JSON of a row says; Damaged where that makes no sense."""
    # Fields that this version does not know are left out; those that row lacks have defaults.
    known = {name: row[name] for name in Snapshot._fields if name in row}
    try:
        known["direction"] = Direction(row["direction"])
        known["kind"] = Kind(row["kind"])
        known["state"] = State(row["state"])
        common = Snapshot(**known)
        if "paths" not in row:
            return common
        columns = [row[name] for name in _COLUMNS]
        if len(set(map(len, columns))) > 1:
            raise Damaged
        return Together(common, *columns)
    except (KeyError, ValueError, TypeError) as error:
        raise Damaged from error
