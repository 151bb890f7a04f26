"""``python -m bench``: measure, print, and say whether the goals are reached."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence

from bench import large, profiles, small, warm
from bench.figures import Report
from bench.options import Options, parse
from bench.place import Place, place
from bench.processes import BenchFailed

MISSED = 3
"""The exit code where a goal was not reached."""

MEASURES: dict[str, Callable[[Place, Options], Report]] = {
    "large": large.measure,
    "small": small.measure,
    "warm": warm.measure,
}


def main(argv: Sequence[str]) -> int:
    """Do what the arguments say; 0, or MISSED, or 1 where there is nothing to show."""
    options = parse(argv)
    reports: dict[str, Report] = {}
    before = os.getloadavg()[0]
    try:
        with place(options.directory) as there:
            if options.profile:
                print(profiles.show(there, options))
                return 0
            for name in options.only:
                reports[name] = MEASURES[name](there, options)
                print(reports[name].text(), end="\n\n", flush=True)
    except (BenchFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    # Of all that spoils figures, the one thing a reader cannot see in them.
    print(f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} processors")
    if options.json:
        print(json.dumps({name: each.plain() for name, each in reports.items()}))
    goals = [goal for each in reports.values() for goal in each.goals]
    return 0 if all(goal.met for goal in goals) else MISSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
