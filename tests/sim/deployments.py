"""What `python -m tests.sim` can simulate, by name: a function from seed and virtual seconds to a report."""

from __future__ import annotations

import random
from collections.abc import Callable

from kvstore.client.cluster.parts import Options
from tests.sim.nemesis import LANES
from tests.sim.pd_group import PdGroup
from tests.sim.raft_group import RaftGroup
from tests.sim.run import Report, simulate
from tests.sim.sql_run import simulate_sql
from tests.sim.store_cluster import Shape, StoreCluster
from tests.sim.variants import unusual
from tests.sim.workloads.api import Workload
from tests.sim.workloads.append import ListAppend
from tests.sim.workloads.bank import Bank
from tests.sim.workloads.loads import Loads
from tests.sim.workloads.long_fork import LongFork
from tests.sim.workloads.registers import Registers
from tests.sim.workloads.sets import Set
from tests.sim.workloads.timestamps import Timestamps


def raft_group(seed: int, seconds: float) -> Report:
    """Registers over one Raft group of three or five members."""
    members = 5 if seed % 3 == 2 else 3
    return simulate(seed, lambda world: RaftGroup(world, members), [Registers()], seconds, clients_each=4)


def pd_group(seed: int, seconds: float) -> Report:
    """Timestamps and ids from three placement drivers."""
    return simulate(seed, PdGroup, [Timestamps()], seconds, clients_each=5)


def cluster(seed: int, seconds: float) -> Report:
    """Stores, placement drivers and clients; the seed also draws what runs on them, and how clients commit."""
    rng = random.Random(seed ^ 0x5EED)
    raw = rng.random() < 0.25
    transactional: list[Workload] = [Bank(), ListAppend(), Set(), LongFork(), Registers(raw=False)]
    workloads = [Registers()] if raw else rng.sample(transactional, 2)
    options = Options(one_pc=rng.random() < 0.5, async_commit=rng.random() < 0.5)
    shape = Shape(stores=rng.choice((3, 4, 4, 5)), pds=rng.choice((1, 3, 3)), raw=raw, options=options)
    lanes = LANES
    if rng.random() < 0.7:
        shape, lanes = unusual(rng, shape)
    splits = [key for workload in workloads for key in workload.splits]
    return simulate(seed, lambda world: StoreCluster(world, shape, splits), workloads, seconds, lanes)


def bulk_load(seed: int, seconds: float) -> Report:
    """Bulk loads beside transfers, on stores whose regions change."""
    rng = random.Random(seed ^ 0x10AD)
    shape, lanes = unusual(rng, Shape(stores=rng.choice((3, 4)), pds=rng.choice((1, 3))))
    workloads: list[Workload] = [Loads(), Bank()]
    splits = [key for workload in workloads for key in workload.splits]
    return simulate(seed, lambda world: StoreCluster(world, shape, splits), workloads, seconds, lanes, clients_each=2)


def sql(seed: int, seconds: float) -> Report:
    """SQL servers whose schema changes beside writers."""
    return simulate_sql(seed, seconds)


DEPLOYMENTS: dict[str, Callable[[int, float], Report]] = {
    "cluster": cluster,
    "bulk-load": bulk_load,
    "raft-group": raft_group,
    "pd-group": pd_group,
    "sql": sql,
}
"""The first is the default."""
