"""Schema changes beside writers on several SQL servers under faults; and bugs planted in the production code.

Those that need a moment which seeds rarely find are planted in `tests/cluster_sql/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kvstore.client.api import CommitCheck
from sqlfront.catalog import online
from sqlfront.catalog.lease import SchemaLease, ServerRecord, Switch
from sqlfront.catalog.shared import SharedCatalog
from tests.sim.nemesis import Lane, slow_all
from tests.sim.sql_cluster import stall, stall_owner
from tests.sim.sql_run import SERVERS_ONLY, simulate_sql

SECONDS = 12.0
FAST_SEEDS, SLOW_SEEDS, SEEDS_A_TEST = 4, 20, 5
STANDSTILL = (
    Lane((stall, stall_owner), lasts_s=2.0, pause_s=2.0),
    Lane((slow_all,), lasts_s=8.0, pause_s=1.0),
)
"""Servers stand still while a call is under way."""
HUNT_SEEDS = 80
HUNT_SECONDS = 20.0


@pytest.mark.parametrize("seed", range(FAST_SEEDS))
def test_sql_servers(seed: int) -> None:
    report = simulate_sql(seed, SECONDS)
    assert not report.problems, report


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1000 + SLOW_SEEDS, SEEDS_A_TEST))
def test_many_sql_servers(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        report = simulate_sql(seed, 3 * SECONDS)
        assert not report.problems, report


def test_one_seed_is_one_run() -> None:
    assert simulate_sql(7, 4.0).trace == simulate_sql(7, 4.0).trace


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers answer a switch and go on writing."""
    hold = SchemaLease._hold

    def held(self: SchemaLease, switch: Switch, *, is_mine: bool = False) -> None:
        if is_mine:
            hold(self, switch, is_mine=True)

    monkeypatch.setattr(SchemaLease, "_hold", held)


def early_lift(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server does not wait for the switch that it has answered."""
    lift = SchemaLease._lift

    def early(self: SchemaLease, version: int, ts: int, *, is_gone: bool = False) -> None:
        lift(self, version, 1 << 62, is_gone=is_gone)

    monkeypatch.setattr(SchemaLease, "_lift", early)
    look = SchemaLease._look

    def looked(self: SchemaLease) -> None:
        look(self)
        if not self._depth:
            self._lift(0, 0)

    monkeypatch.setattr(SchemaLease, "_look", looked)


def blind_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stood still renews its lease by the version that it knew."""

    def rejoin(self: SchemaLease, record: ServerRecord) -> bool:
        self._write({self._key: record.dumps()})
        return True

    monkeypatch.setattr(SchemaLease, "_rejoin", rejoin)


def jobs_left_lying(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new owner changes tables that a dead one's job is not done with."""
    monkeypatch.setattr(SharedCatalog, "_finish_jobs", lambda self: None)

    def go_on(self: SharedCatalog) -> None:
        if self.ddl_mutex.acquire(timeout=0):
            try:
                online.go_on_with_unfinished(self)
            finally:
                self.ddl_mutex.release()

    monkeypatch.setattr(SharedCatalog, "_go_on", go_on)


def no_commit_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit is not held against the lease and the revisions of its tables."""

    def committed(self: SharedCatalog, used: Any, commit: Callable[[CommitCheck], Any]) -> Any:
        return commit(lambda ts: None)

    monkeypatch.setattr(SharedCatalog, "commit_with", committed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "lanes", "first"),
    [
        (no_fence, SERVERS_ONLY, 0),
        (early_lift, SERVERS_ONLY, 0),
        (blind_renewal, STANDSTILL, 38),
        (jobs_left_lying, SERVERS_ONLY, 17),
        (no_commit_check, SERVERS_ONLY, 0),
    ],
)
def test_planted_bug_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None], lanes: Sequence[Lane], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`first` only saves time: the first seed that met the bug when this was written."""
    plant(monkeypatch)
    for seed in range(first, first + HUNT_SEEDS):
        if simulate_sql(seed, HUNT_SECONDS, lanes).problems:
            return
    pytest.fail(f"{plant.__name__} was not caught in {HUNT_SEEDS} seeds")
