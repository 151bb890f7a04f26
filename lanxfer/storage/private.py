"""Folders that are nobody else's."""

from __future__ import annotations

import os
from contextlib import suppress


def make_private(path: str) -> None:
    """Make a folder, and those above that are missing, for this user alone.

    ``os.makedirs`` would leave those above open to others.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(os.path.abspath(path))
    if above != path:
        make_private(above)
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
