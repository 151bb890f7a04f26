"""Another name for what a store of fsspec's has, whatever characters are in it."""

from __future__ import annotations

import re
from typing import Any

from lanxfer.storage.volumes import stir

_PATTERN = re.compile(r"[*?[]")


def move(fs: Any, old: str, new: str, folder: bool = False) -> None:
    """Give a file or a whole folder another name; raises what ``fs`` does.

    fsspec's own ``mv`` takes an old name with ``[``, ``*`` or ``?`` in it for a pattern, and moves
    all that fits; such a one is copied name by name, and removed when all of it is there.
    """
    if not _PATTERN.search(old) or not _copies(fs):
        fs.mv(old, new, **({"recursive": True} if folder else {}))
    elif folder:
        _move_folder(fs, fs._strip_protocol(old), new)
    else:
        fs.cp_file(old, new)
        fs.rm_file(old)


def _copies(fs: Any) -> bool:
    """Whether it has a way to copy one file; one that has not has a ``mv`` of its own."""
    from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

    return getattr(fs.cp_file, "__func__", None) is not AbstractFileSystem.cp_file


def _move_folder(fs: Any, old: str, new: str) -> None:
    found = fs.find(old, withdirs=True, detail=True)
    folders = sorted({old, *(name for name, row in found.items() if row["type"] == "directory")})
    files = [name for name in found if name not in folders]
    for name in folders:
        fs.makedirs(new + name[len(old) :], exist_ok=True)
    for name in files:
        fs.cp_file(name, new + name[len(old) :])
        stir()
    for name in files:
        fs.rm_file(name)
        stir()
    for name in reversed(folders):
        fs.rmdir(name)
