"""What is kept of a job beside its files: its lock, and what became of its last run."""

from __future__ import annotations

import hashlib


def lock_name(name: str) -> str:
    """A name for the lock of a job that any file system takes."""
    plain = all(each.isalnum() or each in "._-" for each in name)
    return name if plain and len(name) < 100 else hashlib.sha256(name.encode()).hexdigest()[:32]


def record_name(job_id: str) -> str:
    """The name of the file that keeps what became of the last run."""
    return f"{lock_name(job_id)}.last.json"
