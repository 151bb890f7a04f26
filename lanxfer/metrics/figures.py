"""The figures as families of samples, and their text: OpenMetrics 1.0, or Prometheus's older one.

Names and labels are promised in docs/operations.rst.  No label tells of anybody: neither a
device, a key, an address nor a file is named, and every label has few values, whatever
others send.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from itertools import accumulate

from attrs import frozen
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest as older
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from lanxfer.metrics.counts import SECONDS, Counts
from lanxfer.policy import Standing
from lanxfer.transfers import Direction, Kind, Snapshot, State
from lanxfer.version import VERSION

TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""What Prometheus's older format calls itself."""

_KINDS = [each for each in Kind if each is not Kind.JOB]
_ENDS = [each for each in State if each.finished]
_UNDER_WAY = [each for each in State if not each.finished]


@frozen
class Now:
    """How it is at the moment of asking; ``free`` is None where the disk does not say."""

    since: float
    pending: list[Snapshot]
    refused: Mapping[str, int]
    connections: Mapping[Standing, int]
    unidentified: int
    dialed: int
    queued: int
    offers: int
    free: int | None


def families(counts: Counts, now: Now) -> Iterator[Metric]:
    """Everything about the service itself."""
    build = {"version": VERSION, "python_version": platform.python_version()}
    yield InfoMetricFamily("lanxfer_build", "What runs.", value=build)
    start = "lanxfer_start_time_seconds"
    yield _gauge(start, "When the service started, since the epoch.", now.since, "seconds")
    yield from _transfers(counts, now)
    yield from _callers(now)
    yield _gauge("lanxfer_queued_sends", "Sends that wait for their device.", now.queued)
    yield _gauge("lanxfer_waiting_offers", "Offers that wait for a yes.", now.offers)
    if now.free is not None:
        text = "Bytes that may still be written to the inbox's disk, the reserve taken off."
        yield _gauge("lanxfer_inbox_free_bytes", text, now.free, "bytes")


def _gauge(name: str, text: str, value: float, unit: str = "") -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value, unit=unit)


def _transfers(counts: Counts, now: Now) -> Iterator[Metric]:
    ended = CounterMetricFamily(
        "lanxfer_transfers",
        "Files, folders, links and messages whose transfer ended.",
        labels=("direction", "kind", "outcome"),
    )
    for way in Direction:
        for kind in _KINDS:
            for end in _ENDS:
                labels = (way.value, kind.value, end.value)
                ended.add_metric(labels, counts.ended[way, kind, end])
    yield ended
    failed = CounterMetricFamily(
        "lanxfer_transfer_errors",
        "Transfers that did not arrive, by the code of what was wrong.",
        labels=("direction", "code"),
    )
    for (way, code), number in sorted(counts.failed.items(), key=lambda each: each[0][1]):
        failed.add_metric((way.value, code), number)
    yield failed
    moved = CounterMetricFamily(
        "lanxfer_transferred_bytes",
        "Content of files and messages that was moved, what is under way included.",
        labels=("direction",),
        unit="bytes",
    )
    for way, number in counts.moved(now.pending).items():
        moved.add_metric((way.value,), number)
    yield moved
    stored = "Files that were written to the inbox or a share."
    yield CounterMetricFamily("lanxfer_stored_files", stored, value=counts.stored)
    took = HistogramMetricFamily(
        "lanxfer_transfer_duration_seconds",
        "From the offer to the receiver's word that a file is on its disk.",
        labels=("direction",),
        unit="seconds",
    )
    bounds = [*map(str, SECONDS), "+Inf"]
    for way, spread in counts.took.items():
        buckets = list(zip(bounds, accumulate(spread.classes), strict=True))
        took.add_metric((way.value,), buckets, spread.total)
    yield took
    active = GaugeMetricFamily(
        "lanxfer_active_transfers",
        "Transfers under way.",
        labels=("direction", "state"),
    )
    for way in Direction:
        for state in _UNDER_WAY:
            these = [each for each in now.pending if (each.direction, each.state) == (way, state)]
            active.add_metric((way.value, state.value), len(these))
    yield active
    jobs = CounterMetricFamily("lanxfer_job_runs", "Runs of jobs that ended.", labels=("outcome",))
    for end in _ENDS:
        jobs.add_metric((end.value,), counts.jobs[end])
    yield jobs


def _callers(now: Now) -> Iterator[Metric]:
    refused = CounterMetricFamily(
        "lanxfer_refused_connections",
        "Callers that were sent away, by the code they were told.",
        labels=("code",),
    )
    for code, number in sorted(now.refused.items()):
        refused.add_metric((code,), number)
    yield refused
    connections = GaugeMetricFamily(
        "lanxfer_connections",
        "Connections whose caller is known, by what it is here.",
        labels=("standing",),
    )
    for standing in Standing:
        connections.add_metric((standing.value,), now.connections.get(standing, 0))
    yield connections
    unidentified = "Callers that have not said yet who they are."
    yield _gauge("lanxfer_unidentified_connections", unidentified, now.unidentified)
    dialed = "Connections this device made to others."
    yield _gauge("lanxfer_dialed_connections", dialed, now.dialed)


class _Families(Collector):
    def __init__(self, found: Iterator[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        return self._found


def exposition(counts: Counts, now: Now, classic: bool = False) -> bytes:
    """All of it as text, with what the system says of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families(counts, now)))
    ProcessCollector(registry=registry)
    return older(registry) if classic else generate_latest(registry)


__all__ = ["OPENMETRICS", "TEXT", "Now", "exposition", "families"]
