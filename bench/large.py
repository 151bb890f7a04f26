"""One large file: Twisted alone, lanxfer plain, over TLS, and the second half of a broken one."""

from __future__ import annotations

from pathlib import Path

from bench.figures import COSTS, Goal, Report, costs, middle, most
from bench.options import Options
from bench.pairs import Pair, Sample, Speech
from bench.place import MIB, Place, check_same
from bench.processes import BenchFailed

BARE, PLAIN, TLS, RESUME = "bare Twisted", "lanxfer plain", "lanxfer TLS", "resume plain"

SHARE = 0.6
"""How much of the bare pair's speed lanxfer is to have, with digest, sync and rename."""
MEMORY = 80
"""MiB that no side may reach, whatever the size of the file."""


def measure(place: Place, options: Options) -> Report:
    """All four, in turns."""
    source = place.large(options.size)
    report = Report(
        f"large: one file of {options.size} MiB, median of {options.runs}",
        ("", "MiB/s", "of bare", *COSTS, "resumed at"),
    )
    samples: dict[str, list[Sample]] = {BARE: [], PLAIN: [], TLS: [], RESUME: []}
    for number in range(options.runs):
        for name, taken in samples.items():
            options.tell(f"large, run {number + 1} of {options.runs}: {name}")
            taken.append(_one(place, source, name))
    source.unlink()
    rates = {name: _rate(options.size, taken) for name, taken in samples.items()}
    for name, taken in samples.items():
        resumed = middle(taken, "resumed_from") / (options.size * MIB)
        share = f"{rates[name] / rates[BARE]:.2f}"
        at = f"{resumed:.0%}" if name == RESUME else ""
        report.rows.append((name, f"{rates[name]:.0f}", share, *costs(taken), at))
    report.goals.append(Goal("plain of bare", rates[PLAIN] / rates[BARE], SHARE))
    ours = [each for name, taken in samples.items() if name != BARE for each in taken]
    report.goals.append(Goal("peak MiB", most(ours), MEMORY, at_most=True))
    report.samples = samples
    return report


def _rate(size: int, taken: list[Sample]) -> float:
    """MiB a second; of a resumed file only what was still to be sent counts."""
    rest = size - middle(taken, "resumed_from") / MIB
    return rest / middle(taken, "seconds")


def _one(place: Place, source: Path, name: str) -> Sample:
    speech = {BARE: Speech.BARE, TLS: Speech.TLS}.get(name, Speech.PLAIN)
    with place.run() as run:
        with Pair(speech, run) as pair:
            if name == RESUME:
                pair.ask("half", source)
            sample = pair.ask("put" if speech is Speech.BARE else "file", source)
            received = pair.received if speech is Speech.BARE else run.inbox / source.name
        check_same(source, received)
        if name == RESUME and not sample.resumed_from:
            raise BenchFailed("The broken transfer was begun anew.")
    return sample
