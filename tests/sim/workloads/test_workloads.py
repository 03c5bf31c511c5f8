"""Every workload on a correct store finds nothing, and on a broken one its bug."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.sim.checkers import Anomaly
from tests.sim.history import Outcome
from tests.sim.loop import run_simulated
from tests.sim.workloads.api import Workload, run
from tests.sim.workloads.append import ListAppend
from tests.sim.workloads.bank import Bank
from tests.sim.workloads.fake import Bug, FakeClient, FakeStore
from tests.sim.workloads.long_fork import LongFork
from tests.sim.workloads.registers import Registers
from tests.sim.workloads.sets import Set
from tests.sim.workloads.timestamps import Timestamps

WORKLOADS: dict[str, Callable[[], Registers | Bank | ListAppend | Set | LongFork | Timestamps]] = {
    "raw": Registers,
    "txn": lambda: Registers(raw=False),
    "bank": Bank,
    "append": ListAppend,
    "set": Set,
    "fork": LongFork,
    "timestamps": Timestamps,
}


def simulate(workload: Workload, seed: int, bug: Bug | None = None, seconds: float = 20) -> list[Anomaly]:
    rng = random.Random(seed)
    store = FakeStore(rng, bug)
    clients = [FakeClient(f"c{number}", store) for number in range(5)]
    return run_simulated(run(workload, clients, rng, seconds))


@pytest.mark.parametrize("name", WORKLOADS)
def test_correct_store_shows_nothing(name: str) -> None:
    for seed in range(5):
        workload = WORKLOADS[name]()
        assert simulate(workload, seed) == []
        counts = {outcome: workload.history.count(outcome) for outcome in Outcome}
        assert counts[Outcome.FAILED] > 0
        assert counts[Outcome.UNKNOWN] > 0 or name == "timestamps"
        assert counts[Outcome.OK] > 100


@pytest.mark.parametrize(
    ("name", "bug", "kinds"),
    [
        ("raw", Bug.STALE_READ, {"not linearizable"}),
        ("raw", Bug.DOUBLE_WRITE, {"not linearizable"}),
        ("raw", Bug.CAS_RACE, {"not linearizable"}),
        ("txn", Bug.STALE_READ, {"not linearizable"}),
        ("txn", Bug.LOST_UPDATE, {"not linearizable"}),
        ("txn", Bug.LOST_WRITE, {"not linearizable"}),
        ("bank", Bug.LOST_UPDATE, {"wrong total"}),
        ("bank", Bug.TORN_COMMIT, {"wrong total"}),
        ("bank", Bug.FAILED_WRITE, {"wrong total"}),
        ("append", Bug.LOST_UPDATE, {"incompatible order"}),
        ("append", Bug.STALE_READ, {"missing", "G-single"}),
        ("append", Bug.FAILED_WRITE, {"G1a"}),
        ("append", Bug.LOST_WRITE, {"missing"}),
        ("append", Bug.TORN_COMMIT, {"G-single", "incompatible order"}),
        ("append", Bug.FORK, {"incompatible order"}),
        ("set", Bug.LOST_WRITE, {"lost"}),
        ("set", Bug.STALE_READ, {"stale read"}),
        ("fork", Bug.FORK, {"long fork"}),
        ("fork", Bug.STALE_READ, {"stale read"}),
        ("timestamps", Bug.TIME_GOES_BACK, {"back"}),
    ],
)
def test_broken_store_is_caught(name: str, bug: Bug, kinds: set[str]) -> None:
    for seed in range(3):
        found = {anomaly.kind for anomaly in simulate(WORKLOADS[name](), seed, bug, seconds=40)}
        assert kinds & found


def test_one_seed_is_one_history() -> None:
    def trace(seed: int) -> list[str]:
        workload = ListAppend()
        simulate(workload, seed)
        return [str(event) for event in workload.history.events]

    assert trace(5) == trace(5)
    assert trace(5) != trace(6)
