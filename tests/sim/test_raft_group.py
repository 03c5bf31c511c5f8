"""Registers replicated by one Raft group under all faults; and bugs planted in it, each caught."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.sim.nemesis import LANES, Lane, crash, isolate, partition, slow_all, slow_disk
from tests.sim.raft_group import Bug, RaftGroup
from tests.sim.run import Report, simulate
from tests.sim.workloads.registers import Registers

UNREST = (
    Lane((crash,), lasts_s=0.3, pause_s=0.6),
    Lane((slow_all, isolate, partition), lasts_s=3.0, pause_s=0.5),
    Lane((slow_disk,), lasts_s=2.0, pause_s=0.2),
)
"""Elections all the time, and links and disks so slow that nodes crash in the middle of whatever they do."""


def run(seed: int, bug: Bug | None = None, lanes: Sequence[Lane] = LANES, members: int = 3) -> Report:
    return simulate(seed, lambda world: RaftGroup(world, members, bug), [Registers()], 30, lanes, clients_each=4)


@pytest.mark.parametrize("seed", range(4))
def test_registers_are_linearizable(seed: int) -> None:
    report = run(seed, members=5 if seed % 3 == 2 else 3)
    assert not report.problems, report
    assert report.reports > 100


@pytest.mark.parametrize("seed", range(2))
def test_registers_are_linearizable_in_unrest(seed: int) -> None:
    report = run(seed, lanes=UNREST)
    assert not report.problems, report


def test_one_seed_is_one_run() -> None:
    assert run(3).trace == run(3).trace
    assert run(3).trace != run(4).trace


@pytest.mark.parametrize("bug", Bug)
def test_planted_bug_is_caught(bug: Bug) -> None:
    seeds = 40
    for seed in range(seeds):
        if run(seed, bug, UNREST).problems:
            return
    pytest.fail(f"{bug} was not caught in {seeds} seeds")
