"""Request and answer on a connection that is already there."""

from __future__ import annotations

from bench.figures import Report
from bench.options import Options
from bench.pairs import Pair, Sample, Speech
from bench.place import Place

SETTLE = 50
"""The first answers, which are not counted: caches fill, modules load."""


def measure(place: Place, options: Options) -> Report:
    """One after the other, each waiting for its answer."""
    report = Report(
        f"warm: ping, {options.pings} times {options.runs}",
        ("", "p50 ms", "p99 ms", "of bare"),
    )
    samples: dict[str, list[Sample]] = {each.value: [] for each in Speech}
    for number in range(options.runs):
        options.tell(f"warm, run {number + 1} of {options.runs}")
        for name, taken in samples.items():
            taken.append(_one(place, Speech(name), options.pings))
    bare = _quantile(samples[Speech.BARE.value], 0.5)
    for name, taken in samples.items():
        half, late = _quantile(taken, 0.5), _quantile(taken, 0.99)
        row = (name, f"{half * 1000:.3f}", f"{late * 1000:.3f}", f"{half / bare:.1f}")
        report.rows.append(row)
    report.samples = samples
    return report


def _quantile(taken: list[Sample], share: float) -> float:
    each = sorted(seconds for sample in taken for seconds in sample.each[SETTLE:])
    return each[min(len(each) - 1, int(len(each) * share))]


def _one(place: Place, speech: Speech, pings: int) -> Sample:
    with place.run() as run, Pair(speech, run) as pair:
        return pair.ask("ping", pings + SETTLE)
