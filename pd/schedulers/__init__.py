"""Schedulers: from the view of the cluster and a source of randomness to operators that make it more even.

They are added, removed and paused at run time; which there are is part of the replicated state.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pd.hot import HotRegions
from pd.operators import Operator
from pd.schedulers.balance_leader import balance_leader
from pd.schedulers.balance_region import balance_region
from pd.schedulers.hot_region import balance_hot_regions
from pd.schedulers.leaders import evict_leader, grant_leader, shuffle_leader, shuffle_region
from pd.view import View


@dataclass(frozen=True, slots=True)
class SchedulerSpec:
    """One scheduler; those for stores are one each, named after the store."""

    kind: str
    store_id: int = 0
    paused_until_ms: int = 0

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.store_id}" if self.store_id else self.kind

    def is_paused(self, now_ms: int) -> bool:
        return now_ms < self.paused_until_ms


Scheduler = Callable[[View, random.Random, SchedulerSpec, HotRegions], Sequence[Operator]]

KINDS: dict[str, Scheduler] = {
    "balance-leader": lambda view, rng, spec, hot: balance_leader(view, rng),
    "balance-region": lambda view, rng, spec, hot: balance_region(view, rng),
    "hot-region": lambda view, rng, spec, hot: balance_hot_regions(view, rng, hot),
    "evict-leader": lambda view, rng, spec, hot: evict_leader(view, rng, spec.store_id),
    "grant-leader": lambda view, rng, spec, hot: grant_leader(view, rng, spec.store_id),
    "shuffle-leader": lambda view, rng, spec, hot: shuffle_leader(view, rng),
    "shuffle-region": lambda view, rng, spec, hot: shuffle_region(view, rng),
}
OF_STORES = ("evict-leader", "grant-leader")
DEFAULTS = ("balance-leader", "balance-region", "hot-region")
"""What a new cluster has."""


def check_spec(spec: SchedulerSpec) -> None:
    """Raises ValueError for a scheduler that can't be."""
    if spec.kind not in KINDS:
        raise ValueError(f"no scheduler {spec.kind!r}; there are {', '.join(KINDS)}")
    if (spec.kind in OF_STORES) != bool(spec.store_id):
        raise ValueError(f"scheduler {spec.kind!r} {'needs a' if spec.kind in OF_STORES else 'takes no'} store")


class SchedulerSet:
    """The schedulers that there are, by name."""

    def __init__(self, specs: Iterable[SchedulerSpec]) -> None:
        self.specs = {spec.name: spec for spec in specs}

    def add(self, spec: SchedulerSpec) -> None:
        self.specs[spec.name] = spec

    def remove(self, name: str) -> None:
        self.specs.pop(name, None)

    def no_leader_stores(self, now_ms: int) -> frozenset[int]:
        """Stores whose leaders are being evicted: nobody else may bring leaders there."""
        return frozenset(
            spec.store_id for spec in self.specs.values() if spec.kind == "evict-leader" and not spec.is_paused(now_ms)
        )

    def run(self, view: View, rng: random.Random, hot: HotRegions) -> Sequence[Operator]:
        """What all that are not paused want, in the order of their names."""
        wanted: list[Operator] = []
        for _, spec in sorted(self.specs.items()):
            if not spec.is_paused(view.now_ms):
                wanted += KINDS[spec.kind](view, rng, spec, hot)
        return wanted
