"""Small files of plain values that are replaced as a whole."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lanxfer.storage.private import make_private


def write_record(folder: str, name: str, row: Mapping[str, Any]) -> None:
    """Keep ``row`` under a name; a reader sees the old one or the new one."""
    make_private(folder)
    path = os.path.join(folder, name)
    part = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(part, "x", encoding="utf-8") as file:
            json.dump(dict(row), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise


def read_record(folder: str, name: str) -> dict[str, Any] | None:
    """What is kept under a name; None for nothing, or for what is no record."""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
