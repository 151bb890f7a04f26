"""How many files and connections this process may have open at once (catalogue R04)."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource

RESERVE = 256
"""Kept for files, the history and the control socket; a quarter where the limit is small."""

UNLIMITED = 1_000_000


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; the limit that holds then."""
    if sys.platform == "win32":
        return UNLIMITED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (OSError, ValueError):  # macOS has a lower one of its own
            pass
    return min(soft, UNLIMITED) if soft != resource.RLIM_INFINITY else UNLIMITED


def connections_most(limit: int) -> int:
    """How many connections may be open where ``limit`` files may."""
    return max(limit - min(RESERVE, limit // 4 + 24), 8)
