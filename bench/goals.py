"""What is wanted of lanxfer, and whether it is so.

A ratio is how many times as fast lanxfer is as the peer, by the medians of
one series; the others are bounds that stay above what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from bench.figures import Report
from bench.place import MIB
from bench.samples import Sample, middle, quantile

CLEAR, TLS = "lanxfer", "lanxfer TLS"
HANDED = {CLEAR: "lanxfer, service here", TLS: "lanxfer TLS, service here"}
"""The same where the sending device has a service, which does the work of the command."""


@frozen
class Goal:
    """``must`` be reached, and ``reach`` be tried; ``bound``: at most, instead of at least."""

    name: str
    found: float
    must: float
    reach: float | None = None
    bound: bool = False

    def _holds(self, wanted: float) -> bool:
        return self.found <= wanted if self.bound else self.found >= wanted

    @property
    def met(self) -> bool:
        return self._holds(self.must)

    @property
    def word(self) -> str:
        if not self.met:
            return "MISSED"
        return "reached" if self.reach is None or self._holds(self.reach) else "must reached"

    def row(self) -> tuple[str, ...]:
        sign = "≤" if self.bound else "≥"
        reach = "" if self.reach is None else f"{sign} {self.reach:g}"
        return (self.name, f"{self.found:.3g}", f"{sign} {self.must:g}", reach, self.word)


COLUMNS = ("goal", "found", "must", "reach", "")

_RATIOS = (
    # workload, ours, peer, must, reach
    ("large", CLEAR, "rsync daemon", 1.2, None),
    ("large", CLEAR, "vsftpd", 0.85, 1.0),
    ("large", TLS, "scp", 1.4, None),
    ("large", TLS, "nginx PUT TLS", 0.75, 1.0),
    ("small", CLEAR, "rsync daemon", 0.9, 1.5),
    ("small", TLS, "rsync over ssh", 1.8, 3.0),
    ("durable", CLEAR, "rsync daemon --fsync", 3.0, 10.0),
    ("mixed", CLEAR, "rsync daemon", 0.9, 1.2),
    ("mixed", TLS, "rsync over ssh", 1.5, 2.0),
    ("senders", CLEAR, "nginx PUT", 0.9, 1.2),
)

COLD = (
    ("cold", TLS, "scp", 0.9, 0.5),
    ("cold", HANDED[TLS], "scp", 0.9, 0.5),
)
"""Here the share of the peer's time counts."""
REQUESTS = {"sequential": 8_000.0, "pipelined": 50_000.0}
"""A second, on one connection."""
WARM_US = (250.0, 150.0)
PEAK_MIB = (80.0, 60.0)

_MOVING = ("large", "small", "durable", "mixed", "senders", "resume")
"""Where memory counts: many connections at once take theirs each, and have figures of their own."""


def judge(reports: Mapping[str, Report]) -> list[Goal]:
    """Every goal for which both figures were measured."""
    return list(_judge({name: each.samples for name, each in reports.items()}))


def _judge(found: Mapping[str, Mapping[str, list[Sample]]]) -> Iterator[Goal]:
    for workload, way, peer, must, reach in _RATIOS:
        for ours in (way, HANDED[way]):
            both = _both(found, workload, ours, peer)
            if both:
                yield Goal(f"{workload}: {ours} × {peer}", both[1] / both[0], must, reach)
    for workload, ours, peer, must, reach in COLD:
        both = _both(found, workload, ours, peer)
        if both:
            share = both[0] / both[1]
            yield Goal(f"{workload}: {ours}, × time of {peer}", share, must, reach, bound=True)
    for ours in (CLEAR, TLS):
        samples = found.get("warm", {}).get(ours)
        if samples:
            half = quantile(samples, 0.5) * 1e6
            yield Goal(f"warm: {ours} p50, µs", half, *WARM_US, bound=True)
    for how, must in REQUESTS.items():
        samples = found.get("requests", {}).get(f"{CLEAR}, {how}")
        if samples:
            yield Goal(f"requests: {how} a second", 1 / middle(samples), must)
    peaks = [
        max(each.client_peak, each.server_peak) / MIB
        for workload in _MOVING
        for name, samples in found.get(workload, {}).items()
        if name.startswith("lanxfer")
        for each in samples
    ]
    if peaks:
        yield Goal("peak memory, MiB", max(peaks), *PEAK_MIB, bound=True)


def _both(
    found: Mapping[str, Mapping[str, list[Sample]]], workload: str, ours: str, peer: str
) -> tuple[float, float] | None:
    samples = found.get(workload, {})
    if ours not in samples or peer not in samples:
        return None
    return middle(samples[ours]), middle(samples[peer])
