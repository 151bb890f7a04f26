"""``python -m bench``: measure, print, and say whether the goals are reached."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from attrs import asdict

from bench import connections, floor, imports, pages, profiles, requests, warm, workloads
from bench.figures import Report, aligned
from bench.goals import COLUMNS, judge
from bench.options import Options, parse
from bench.place import Place, place
from bench.processes import BenchFailed

MISSED = 3
"""The exit code where a goal was not reached."""

_BUSY = 0.5
"""The load before the first run from which on figures are not to be trusted."""

MEASURES: dict[str, Callable[[Place, Options], Report]] = {
    **{name: partial(workloads.measure, name) for name in workloads.FILES},
    "warm": warm.measure,
    "requests": requests.measure,
    "idle": connections.idle,
    "growth": connections.growth,
    "floor": floor.measure,
    "imports": imports.measure,
}


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say; 0, or MISSED, or 1 where there is nothing to show."""
    options = parse(argv)
    reports: dict[str, Report] = {}
    before = os.getloadavg()[0]
    try:
        if options.profile:
            with place(options.directory) as there:
                print(profiles.show(there, options))
            return 0
        for name in options.only:
            durable = name in workloads.FILES and workloads.FILES[name].disk
            if durable and options.disk is None:
                print(f"{name}: left out, since no disk was named (--disk).\n")
                continue
            with place(options.disk if durable else options.directory, keep=durable) as there:
                reports[name] = MEASURES[name](there, options)
            print(reports[name].text(), end="\n\n", flush=True)
        goals = judge(reports)
        if goals:
            print("\n".join(aligned([COLUMNS, *(each.row() for each in goals)])), end="\n\n")
        conditions = _conditions(before, options)
        print(conditions)
        if options.write is not None:
            pages.write(Path(options.write), reports, goals, conditions)
    except (BenchFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        found = {name: each.plain() for name, each in reports.items()}
        print(json.dumps({**found, "goals": [{**asdict(g), "word": g.word} for g in goals]}))
    return 0 if all(goal.met for goal in goals) else MISSED


def _conditions(before: float, options: Options) -> str:
    """Of all that spoils figures, what a reader cannot see in them."""
    busy = "  Others were at work, so even ratios are rough." if before >= _BUSY else ""
    runs = f"Medians of {options.runs} runs" if options.runs > 1 else "One run"
    return (
        f"{runs}, {datetime.now(UTC):%Y-%m-%d}, Python"
        f" {platform.python_version()}, {os.cpu_count()} processors; load {before:.1f} before,"
        f" {os.getloadavg()[0]:.1f} after.{busy}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
