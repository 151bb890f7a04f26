"""File systems that a command mounts for itself, where nobody else sees them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

PRIVATE = (("unshare", "-m"), ("unshare", "-rm"))
"""Ways to a name space of one's own, for root and for everybody."""


def run_inside(name: str, args: Sequence[str], *, root: bool = False) -> None:
    """Run ``python -m chaos NAME --inside`` where it may mount, and end as it does.

    Says "skipped" and returns where that is not possible; ``root`` says that a
    name space of a user's own is not enough.
    """
    for private in PRIVATE[:1] if root else PRIVATE:
        if _may_mount(private):
            command = [*private, sys.executable, "-m", "chaos", name, "--inside", *args]
            sys.exit(subprocess.run(command).returncode)
    where = "" if root else ", not even in a name space"
    print(f"skipped: this user may not mount a file system here{where}.")


def _may_mount(private: tuple[str, ...]) -> bool:
    with suppress(OSError), TemporaryDirectory() as where:
        tried = [*private, *_mounting("tmpfs", "size=4k", "lanxfer-chaos", Path(where))]
        return subprocess.run(tried, capture_output=True).returncode == 0
    return False


def mount(kind: str, options: str, device: str, where: Path) -> None:
    """Mount it; CalledProcessError if that is not possible."""
    subprocess.run(_mounting(kind, options, device, where), check=True, capture_output=True)


def _mounting(kind: str, options: str, device: str, where: Path) -> list[str]:
    return ["mount", "-t", kind, "-o", options, device, str(where)]


def unmount(where: Path) -> None:
    """Take it away, if it is there."""
    subprocess.run(["umount", str(where)], check=False, capture_output=True)
