"""One measurement and how it is taken: the rate of a round on one or more threads, the median of the rounds."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Operation = Callable[[], None]


@dataclass(slots=True)
class Measurement:
    """The runs of one piece of work on one engine. `unit` is `per_s` (more is better) or `ms` or `MiB` (less is)."""

    work: str
    engine: str
    threads: int
    scale: float
    unit: str
    values: list[float] = field(default_factory=list)
    notes: dict[str, float | str] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    def as_json(self) -> dict[str, object]:
        """Returns the object `--json` writes: the median as `value`, the number of runs, each run in `values`."""
        return {
            "work": self.work,
            "engine": self.engine,
            "threads": self.threads,
            "scale": self.scale,
            "value": round(self.value, 4),
            "unit": self.unit,
            "runs": len(self.values),
            "values": [round(value, 4) for value in self.values],
            **self.notes,
        }


def times_as_fast(ours: Measurement, peer: Measurement) -> float:
    """Returns how many times as fast ours is: above 1 we are faster, whatever the unit."""
    return ours.value / peer.value if ours.unit == "per_s" else peer.value / ours.value


def percentile(values: Sequence[float], percent: int) -> float:
    """Returns the smallest value that at least `percent` per cent of the values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def rate(operations: Sequence[Operation], seconds: float) -> float:
    """Runs each operation over and over on a thread of its own and returns the operations a second of all together."""
    if len(operations) == 1:
        return _repeat(operations[0], seconds)
    barrier = threading.Barrier(len(operations))
    rates = [0.0] * len(operations)
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            barrier.wait()
            rates[index] = _repeat(operations[index], seconds)
        except BaseException as failure:  # noqa: BLE001 - handed to the caller's thread
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(operations))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(rates)


def _repeat(operation: Operation, seconds: float) -> float:
    clock = time.perf_counter
    start = clock()
    deadline = start + seconds
    done = 0
    while (now := clock()) < deadline:
        operation()
        done += 1
    return done / (max(now, clock()) - start)
