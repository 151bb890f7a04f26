"""Request and answer on a connection that is already there."""

from __future__ import annotations

from attrs import evolve

from bench.figures import Bar, Report
from bench.options import Options
from bench.pairs import Pair, Speech
from bench.place import Place
from bench.samples import Sample, quantile

SETTLE = 50
"""The first answers, which are not counted: caches fill, modules load."""


def measure(place: Place, options: Options) -> Report:
    """One after the other, each waiting for its answer."""
    report = Report(
        f"warm: request and answer, {options.pings} times {options.runs}",
        ("", "p50 µs", "p99 µs", "× p50 of bare"),
        unit="µs (shorter is better)",
    )
    samples: dict[str, list[Sample]] = {each.value: [] for each in Speech}
    for number in range(options.runs):
        options.tell(f"warm, run {number + 1} of {options.runs}")
        for name, taken in samples.items():
            taken.append(_one(place, Speech(name), options.pings))
    bare = quantile(samples[Speech.BARE.value], 0.5)
    for name, taken in samples.items():
        half, late = (quantile(taken, share) for share in (0.5, 0.99))
        report.rows.append((name, f"{half * 1e6:.0f}", f"{late * 1e6:.0f}", f"{half / bare:.2f}"))
        report.bars.append(Bar(name, half * 1e6, ours=name.startswith("lanxfer")))
    report.samples = samples
    return report


def _one(place: Place, speech: Speech, pings: int) -> Sample:
    with place.run() as run, Pair(speech, run) as pair:
        sample = pair.ask("ping", pings + SETTLE)
        return evolve(sample, each=sample.each[SETTLE:])
