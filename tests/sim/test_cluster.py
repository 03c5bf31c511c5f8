"""Whole clusters under all faults; and bugs planted in the production code, each caught.

Those of the Raft core and of the placement driver are planted in `test_raft_group` and `test_pd_group`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from kvstore.client.cluster.parts import Options
from kvstore.client.cluster.safe_point import SafePoint
from kvstore.mvcc.record import Lock
from kvstore.raftstore import apply
from kvstore.raftstore.rounds import Rounds
from kvstore.server.memory_locks import MemoryLocks
from kvstore.server.replica import ReplicaReads
from kvstore.server.scheduler import Scheduler
from tests.sim.cluster_client import Habits
from tests.sim.deployments import cluster
from tests.sim.nemesis import Lane, blackout, isolate, slow_all, slow_disk, split, transfer_leader
from tests.sim.placement_faults import collect_garbage
from tests.sim.run import Report, simulate
from tests.sim.store_cluster import Shape, StoreCluster
from tests.sim.variants import MOVES, UNREST
from tests.sim.workloads.bank import Bank
from tests.sim.workloads.registers import Registers
from tests.sim.world import World

SECONDS = 8.0
FAST_SEEDS, SLOW_SEEDS, SEEDS_A_TEST = 20, 300, 10

HUNT_SEEDS = 60
PROGRAM_ERRORS = ("TypeError", "ValueError", "AttributeError", "NameError")
RAW = Shape(stores=3, pds=1, raw=True)


def holds(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        report = cluster(seed, SECONDS)
        assert not report.problems, report


@pytest.mark.parametrize("first", range(0, FAST_SEEDS, SEEDS_A_TEST))
def test_cluster(first: int) -> None:
    holds(first)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1000 + SLOW_SEEDS, SEEDS_A_TEST))
def test_many_clusters(first: int) -> None:
    holds(first)


def test_one_seed_is_one_run() -> None:
    assert cluster(7, 5.0).trace == cluster(7, 5.0).trace


def registers(seed: int, lanes: Sequence[Lane] = UNREST, shape: Shape = RAW) -> Report:
    workload = Registers()
    return simulate(seed, lambda world: StoreCluster(world, shape, workload.splits), [workload], 20.0, lanes, 12)


BLACKOUTS = (
    Lane((blackout,), lasts_s=0.1, pause_s=1.0),
    Lane((slow_disk,), lasts_s=3.0, pause_s=0.1),
    Lane((slow_disk,), lasts_s=3.0, pause_s=0.1),
)


def reply_before_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Votes and acknowledgements leave before what they promise is durable."""
    collect = Rounds._collect

    def early(rounds: Rounds) -> Any:
        collected = collect(rounds)
        for peer, ready in collected[0]:
            rounds._send_all(peer, ready.persisted_messages)
        rounds._store.transport.flush()
        return collected

    monkeypatch.setattr(Rounds, "_collect", early)


def no_epoch_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that was proposed before a split is applied after it, outside of the region."""
    monkeypatch.setattr(apply, "check_version", lambda peer, command: None)


@pytest.mark.parametrize(
    ("plant", "lanes", "first"),
    [
        (reply_before_sync, BLACKOUTS, 8),
        (no_epoch_check, MOVES, 0),
    ],
)
def test_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], lanes: Sequence[Lane], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`first` only saves time: the first seed that met the bug when this was written."""
    plant(monkeypatch)
    for seed in range(first, first + HUNT_SEEDS):
        problems = registers(seed, lanes).problems
        if problems:
            # what is planted must not fail by itself: that would show nothing
            assert not any(name in str(problem) for problem in problems for name in PROGRAM_ERRORS), problems
            return
    pytest.fail(f"{plant.__name__} was not caught in {HUNT_SEEDS} seeds")


BANK_SECONDS = 15.0
FOLLOWERS = Shape(stores=3, pds=1, clients=Habits(follower_reads=True))
OLD_SNAPSHOTS = Shape(stores=3, pds=1, options=Options(recent_ms=0), clients=Habits(careless=0.4))
SLOW = (
    Lane((slow_all,), lasts_s=3.0, pause_s=0.5),
    Lane((split, transfer_leader), lasts_s=0.05, pause_s=0.5),
)
COLLECTING = (
    Lane((isolate, slow_all), lasts_s=3.0, pause_s=0.5),
    Lane((collect_garbage,), lasts_s=0.05, pause_s=0.2),
)


PLAIN = Shape(stores=3, pds=1)
LEADERS = (Lane((slow_all,), lasts_s=3.0, pause_s=0.2), Lane((transfer_leader,), lasts_s=0.02, pause_s=0.1))


async def nothing(*_: object) -> None:
    """In place of what is planted."""


def unannounced_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower reads and the leader does not know of it: it lets others commit below the read."""
    monkeypatch.setattr(ReplicaReads, "announce", nothing)


def safe_point_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is read though its versions may be gone."""
    monkeypatch.setattr(SafePoint, "check", nothing)


def locks_outlive_the_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that comes back finds its locks in memory as they were, whatever another has committed meanwhile."""
    of, take = MemoryLocks.of, MemoryLocks.take

    def of_any_term(memory: MemoryLocks, region_id: int, term: int) -> Mapping[bytes, Lock]:
        held = memory._regions.get(region_id)
        return of(memory, region_id, term if held is None else held.term)

    def take_in_any_term(memory: MemoryLocks, region_id: int, term: int, *args: Any) -> bool:
        held = memory._regions.get(region_id)
        return take(memory, region_id, term if held is None else held.term, *args)

    monkeypatch.setattr(MemoryLocks, "of", of_any_term)
    monkeypatch.setattr(MemoryLocks, "take", take_in_any_term)
    monkeypatch.setattr(MemoryLocks, "on_role", lambda *_, **__: None)
    monkeypatch.setattr(Scheduler, "hand_over", nothing)


@pytest.mark.parametrize(
    ("plant", "shape", "lanes", "first"),
    [
        (unannounced_reads, FOLLOWERS, SLOW, 0),
        (safe_point_ignored, OLD_SNAPSHOTS, COLLECTING, 0),
        (locks_outlive_the_lead, PLAIN, LEADERS, 19),
    ],
)
def test_planted_bug_breaks_the_bank(
    plant: Callable[[pytest.MonkeyPatch], None],
    shape: Shape,
    lanes: Sequence[Lane],
    first: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`first` only saves time, as above."""
    plant(monkeypatch)
    for seed in range(first, first + HUNT_SEEDS):
        bank = Bank()

        def deploy(world: World, splits: Sequence[bytes] = bank.splits) -> StoreCluster:
            return StoreCluster(world, shape, splits)

        if simulate(seed, deploy, [bank], BANK_SECONDS, lanes, 8).problems:
            assert any(anomaly.kind.startswith("wrong") for anomaly in bank.check())
            return
    pytest.fail(f"{plant.__name__} was not caught in {HUNT_SEEDS} seeds")
