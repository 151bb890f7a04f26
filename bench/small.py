"""Many small files over one connection, beside ``cp -r`` of the same tree."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bench.figures import COSTS, Goal, Report, costs, middle
from bench.options import Options
from bench.pairs import Pair, Sample, Speech
from bench.place import SMALL, Place, check_same

COPY, PLAIN, TLS = "cp -r", "lanxfer plain", "lanxfer TLS"

RATE = 1500
"""Files a second that are wanted in clear, each of them verified and durable."""


def measure(place: Place, options: Options) -> Report:
    """All three, in turns."""
    tree = place.tree(options.files)
    report = Report(
        f"small: {options.files} files of {SMALL} bytes, median of {options.runs}",
        ("", "files/s", "of cp", *COSTS),
    )
    copies: list[float] = []
    samples: dict[str, list[Sample]] = {PLAIN: [], TLS: []}
    for number in range(options.runs):
        options.tell(f"small, run {number + 1} of {options.runs}")
        copies.append(_copy(place, tree))
        for name, taken in samples.items():
            taken.append(_one(place, tree, Speech(name)))
    copies.sort()
    copied = options.files / copies[len(copies) // 2]
    report.rows.append((COPY, f"{copied:.0f}", "1.00", *[""] * len(COSTS)))
    for name, taken in samples.items():
        rate = options.files / middle(taken, "seconds")
        report.rows.append((name, f"{rate:.0f}", f"{rate / copied:.2f}", *costs(taken)))
        if name == PLAIN:
            report.goals.append(Goal("plain files/s", rate, RATE))
    report.samples = samples
    return report


def _copy(place: Place, tree: Path) -> float:
    with place.run() as run:
        began = time.perf_counter()
        subprocess.run(["cp", "-r", str(tree), str(run.inbox)], check=True)
        return time.perf_counter() - began


def _one(place: Place, tree: Path, speech: Speech) -> Sample:
    with place.run() as run:
        with Pair(speech, run) as pair:
            sample = pair.ask("tree", tree)
        check_same(tree, run.inbox / tree.name)
    return sample
