"""Histograms of seconds that cost less than half a microsecond an observation, for code that runs on one loop.

Prometheus' own take a lock and four times as long. Declared in a `metrics.py` or where the counts are kept, registered
with the process' registry or yielded by a collector.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Row = list[float]
"""The counts of one label by bucket, the last without a bound, and after them the sum."""


def exponential_buckets(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Upper bounds of a histogram: start, start × factor, and so on, as Prometheus' libraries have it."""
    return tuple(start * factor**n for n in range(count))


REQUESTS = exponential_buckets(5e-5, 2, 22)
"""From 50 µs to two minutes."""
MINUTES = exponential_buckets(0.1, 2, 18)
"""From 0.1 s to four hours."""


class Durations(Collector):
    """A histogram of seconds, by one label or, with an empty `label`, without."""

    def __init__(self, name: str, documentation: str, label: str = "type", bounds: Sequence[float] = REQUESTS) -> None:
        self._name = name
        self._documentation = documentation
        self._label = label
        self._bounds = bounds
        self._rows: dict[str, Row] = {}
        self._only = self.row("") if not label else []

    def row(self, label: str) -> Row:
        """Where observations of a label go; to be looked up once."""
        row = self._rows.get(label)
        if row is None:
            row = self._rows[label] = [0] * (len(self._bounds) + 1) + [0.0]
        return row

    def observe(self, row: Row, seconds: float) -> None:
        row[bisect_left(self._bounds, seconds)] += 1
        row[-1] += seconds

    def add(self, seconds: float) -> None:
        """An observation of a histogram without a label."""
        self.observe(self._only, seconds)

    def collect(self) -> Iterable[Metric]:
        labels = (self._label,) if self._label else ()
        family = HistogramMetricFamily(self._name, self._documentation, labels=labels)
        names = [*map(repr, self._bounds), "+Inf"]
        for label, row in sorted(self._rows.items()):
            buckets = list(zip(names, accumulate(row[:-1]), strict=True))
            family.add_metric((label,) if labels else (), buckets, row[-1])
        yield family
