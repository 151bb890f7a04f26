"""How fast the disk below a folder writes, durably: by writing to it for a moment."""

from __future__ import annotations

import os
import tempfile
import time

SIZE = 32 * 1024 * 1024
_CHUNK = 1024 * 1024


def write_speed(folder: str, size: int = SIZE) -> float:
    """Bytes a second, the sync included; OSError.  Nothing is left, and no name is ever seen."""
    chunk = os.urandom(_CHUNK)
    with tempfile.TemporaryFile(dir=folder, prefix=".lanxfer-") as file:
        began = time.monotonic()
        for _ in range(max(1, size // _CHUNK)):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        return size / max(time.monotonic() - began, 1e-6)
