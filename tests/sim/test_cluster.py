"""Whole clusters under all faults; and bugs planted in the production code, each caught.

Those of the Raft core and of the placement driver are planted in `test_raft_group` and `test_pd_group`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kvstore.raftstore import apply
from kvstore.raftstore.rounds import Rounds
from tests.sim.deployments import cluster
from tests.sim.nemesis import Lane
from tests.sim.run import Report, simulate
from tests.sim.store_cluster import Shape, StoreCluster
from tests.sim.variants import MOVES, UNREST
from tests.sim.workloads.registers import Registers

SECONDS = 8.0
FAST_SEEDS, SLOW_SEEDS, SEEDS_A_TEST = 100, 1000, 10

HUNT_SEEDS = 60
RAW = Shape(stores=3, pds=1, raw=True)


def holds(first: int, seconds: float) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        report = cluster(seed, seconds)
        assert not report.problems, report


@pytest.mark.parametrize("first", range(0, FAST_SEEDS, SEEDS_A_TEST))
def test_cluster(first: int) -> None:
    holds(first, SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1000 + SLOW_SEEDS, SEEDS_A_TEST))
def test_many_clusters(first: int) -> None:
    holds(first, SECONDS)


def test_one_seed_is_one_run() -> None:
    assert cluster(7, 5.0).trace == cluster(7, 5.0).trace


def registers(seed: int, lanes: Sequence[Lane] = UNREST, shape: Shape = RAW) -> Report:
    workload = Registers()
    return simulate(seed, lambda world: StoreCluster(world, shape, workload.splits), [workload], 20.0, lanes, 12)


def reply_before_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes and acknowledgements leave before what they promise is durable."""
    collect = Rounds._collect

    def early(rounds: Rounds) -> Any:
        readies, waiting, must_sync = collect(rounds)
        for peer, ready in readies:
            rounds._send_all(peer, ready.persisted_messages)
        rounds._store.transport.flush()
        return readies, waiting, must_sync

    monkeypatch.setattr(Rounds, "_collect", early)


def no_epoch_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that was proposed before a split is applied after it, outside of the region."""
    monkeypatch.setattr(apply, "check_version", lambda peer, command: None)


@pytest.mark.parametrize(
    ("plant", "lanes", "first"),
    [
        (reply_before_sync, UNREST, 0),
        (no_epoch_check, MOVES, 0),
    ],
)
def test_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], lanes: Sequence[Lane], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`first` only saves time: the first seed that met the bug when this was written."""
    plant(monkeypatch)
    for seed in range(first, first + HUNT_SEEDS):
        if registers(seed, lanes).problems:
            return
    pytest.fail(f"{plant.__name__} was not caught in {HUNT_SEEDS} seeds")
