"""Clusters and faults out of the ordinary, drawn from a seed: each trait is there or not, whatever the others are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from tests.sim.cluster_client import Habits
from tests.sim.nemesis import (
    LANES,
    Lane,
    bad_weather,
    change_peers,
    crash,
    isolate,
    merge,
    partition,
    slow_all,
    slow_disk,
    split,
    transfer_leader,
)
from tests.sim.placement_faults import collect_garbage, decommission, outage, rules
from tests.sim.store_cluster import Shape

UNREST = (
    Lane((crash,), lasts_s=0.3, pause_s=0.8),
    Lane((slow_all, isolate, partition), lasts_s=3.0, pause_s=0.5),
    Lane((slow_disk,), lasts_s=2.0, pause_s=0.2),
    Lane((split, merge, transfer_leader), lasts_s=0.1, pause_s=0.5),
)
MOVES = (
    Lane((split, merge), lasts_s=0.02, pause_s=0.1),
    Lane((slow_all,), lasts_s=30.0, pause_s=0.01),
    Lane((transfer_leader,), lasts_s=0.05, pause_s=0.3),
    Lane((isolate, partition), lasts_s=1.0, pause_s=0.5),
)
"""Regions change all the time under writes that take long."""
SHUFFLE = (
    Lane((split, merge, change_peers, change_peers), lasts_s=0.02, pause_s=0.2),
    Lane((bad_weather, isolate), lasts_s=3.0, pause_s=1.0),
    Lane((crash,), lasts_s=1.0, pause_s=5.0),
    Lane((transfer_leader,), lasts_s=0.05, pause_s=1.0),
)
"""Replicas move all the time."""


def unusual(rng: random.Random, shape: Shape) -> tuple[Shape, Sequence[Lane]]:
    """A variant of the shape, and what happens to it."""
    lanes = [*rng.choice((LANES, LANES, UNREST, MOVES, SHUFFLE))]
    store, schedule, options, habits = shape.store, shape.schedule, shape.options, Habits()
    if rng.random() < 0.3:
        shape = replace(shape, stores=shape.stores + 1)
    if rng.random() < 0.3:
        store = replace(store, hibernate_ticks=rng.choice((5, 15, 30)))
    if rng.random() < 0.3:  # whoever lags gets a snapshot
        store = replace(store, log_gc_s=0.3, log_gc_entries=4, log_gc_entries_max=12)
    if rng.random() < 0.3:
        schedule = replace(schedule, split_merge_interval_s=1, patrol_interval_ms=100)
    if rng.random() < 0.3:
        schedule = replace(schedule, tolerant_size_ratio=0.0, leader_tolerance=0.0)
    if rng.random() < 0.3:
        shape = replace(shape, zones=rng.choice((2, 3)))
        schedule = replace(schedule, location_labels="zone,host")
        lanes.append(Lane((rules,), lasts_s=8.0, pause_s=3.0))
    if rng.random() < 0.3 and shape.stores > 3:
        lanes.append(Lane((decommission,), lasts_s=10.0, pause_s=4.0))
    if rng.random() < 0.3 and shape.stores > 3:
        schedule = replace(schedule, max_store_down_time_s=6)
        lanes.append(Lane((outage,), lasts_s=12.0, pause_s=6.0))
    if rng.random() < 0.3 and not shape.raw:
        options = replace(options, recent_ms=0)
        habits = replace(habits, careless=0.2)
        lanes.append(Lane((collect_garbage,), lasts_s=0.1, pause_s=1.0))
    if rng.random() < 0.3:
        habits = replace(habits, dies=0.02)
    if rng.random() < 0.4:
        habits = replace(habits, follower_reads=True)
    if rng.random() < 0.2:
        shape = replace(shape, clocks_wrong_ms=rng.choice((500, 60_000)))
    return replace(shape, store=store, schedule=schedule, options=options, clients=habits), tuple(lanes)
