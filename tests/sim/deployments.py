"""What `python -m tests.sim` can simulate, by name: a function from seed and virtual seconds to a report."""

from __future__ import annotations

from collections.abc import Callable

from tests.sim.pd_group import PdGroup
from tests.sim.raft_group import RaftGroup
from tests.sim.run import Report, simulate
from tests.sim.workloads.registers import Registers
from tests.sim.workloads.timestamps import Timestamps


def raft_group(seed: int, seconds: float) -> Report:
    """Registers over one Raft group of three or five members."""
    members = 5 if seed % 3 == 2 else 3
    return simulate(seed, lambda world: RaftGroup(world, members), [Registers()], seconds, clients_each=4)


def pd_group(seed: int, seconds: float) -> Report:
    """Timestamps and ids from three placement drivers."""
    return simulate(seed, PdGroup, [Timestamps()], seconds, clients_each=5)


DEPLOYMENTS: dict[str, Callable[[int, float], Report]] = {"raft-group": raft_group, "pd-group": pd_group}
"""The first is the default."""
