"""The least that Python does for a small file, without a network, a history or a word about it.

What a sender and a receiver cannot do without: looking, opening, reading and digesting;
reading a line about it, digesting once more, writing it where nobody looks, dressing it,
giving it its name.  lanxfer's own figures are to be held against these.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from blake3 import blake3

from bench.figures import Report
from bench.options import Options
from bench.place import Place

_TOGETHER = 250
"""Files of a request."""


def measure(place: Place, options: Options) -> Report:
    """Microseconds a file of 4 KiB, on either side."""
    report = Report(
        f"floor: the least for a file of 4 KiB in Python ({options.files:,} files)",
        ("side", "µs a file", "least", "most"),
    )
    source = place.tree(options.files)
    took: dict[str, list[float]] = {"sender": [], "receiver": []}
    for _ in range(options.runs):
        with place.run() as run:
            began = time.perf_counter()
            files = _send(source)
            sent = time.perf_counter()
            _receive(files, run.inbox)
            took["sender"].append(sent - began)
            took["receiver"].append(time.perf_counter() - sent)
    place.remove(source)
    for side, seconds in took.items():
        each = [second / options.files * 1e6 for second in seconds]
        shown = (f"{value:.1f}" for value in (median(each), min(each), max(each)))
        report.rows.append((side, *shown))
    return report


def _send(source: Path) -> list[tuple[str, bytes]]:
    """A line about each file, and its bytes."""
    found = []
    for folder in sorted(os.scandir(source), key=lambda each: each.name):
        for entry in os.scandir(folder):
            entry.stat(follow_symlinks=False)
            fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            before = os.fstat(fd)
            data = os.read(fd, before.st_size + 1)
            assert os.fstat(fd).st_mtime_ns == before.st_mtime_ns
            os.close(fd)
            path, digest = f"{folder.name}/{entry.name}", blake3(data).hexdigest()
            found.append((f'["{path}", {len(data)}, {before.st_mtime_ns}, "{digest}"]', data))
    return found


def _receive(files: Sequence[tuple[str, bytes]], inbox: Path) -> None:
    """Store them, each complete before it has its name."""
    staging = inbox / "staging"
    staging.mkdir()
    stage = os.open(staging, os.O_RDONLY)
    for at in range(0, len(files), _TOGETHER):
        pack = files[at : at + _TOGETHER]
        rows = json.loads(f"[{','.join(row for row, _ in pack)}]")
        for number, ((_path, size, mtime, digest), (_, data)) in enumerate(
            zip(rows, pack, strict=True)
        ):
            assert len(data) == size and blake3(data).hexdigest() == digest
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            fd = os.open(f"{number}.part", flags, 0o600, dir_fd=stage)
            os.write(fd, data)
            os.fchmod(fd, 0o644)
            os.utime(fd, ns=(mtime, mtime))
            os.close(fd)
        folders: dict[str, int] = {}
        for number, (path, *_) in enumerate(rows):
            folder, _, name = path.rpartition("/")
            if folder not in folders:
                (inbox / folder).mkdir(exist_ok=True)
                folders[folder] = os.open(inbox / folder, os.O_RDONLY)
            part = f"{number}.part"
            os.link(part, name, src_dir_fd=stage, dst_dir_fd=folders[folder])
            os.unlink(part, dir_fd=stage)
        for fd in folders.values():
            os.close(fd)
    os.close(stage)
