"""One run of one contender, and the middle of several."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from attrs import field, frozen


@frozen
class Sample:
    """One run, in seconds and bytes.

    ``seconds`` is what the workload counts: the sender's process from start to
    end, or, where a connection stands already, the client's own watch.
    """

    seconds: float
    client_cpu: float = 0.0
    server_cpu: float = 0.0
    client_peak: int = 0
    server_peak: int = 0
    each: list[float] = field(factory=list)


def middle(samples: Sequence[Sample], name: str = "seconds") -> float:
    """The median of one figure of several runs."""
    found: float = median(getattr(each, name) for each in samples)
    return found


def quantile(samples: Sequence[Sample], share: float) -> float:
    """What so many of all single figures stay below."""
    each = sorted(seconds for sample in samples for seconds in sample.each)
    return each[min(len(each) - 1, int(len(each) * share))]
