"""Bulk loads while regions split, merge and move and stores crash."""

from __future__ import annotations

import pytest

from kvstore.raftstore.imports import Imports
from tests.sim.deployments import bulk_load
from tests.sim.run import Report

SECONDS = 5.0


def holds(seeds: range) -> None:
    for seed in seeds:
        report = bulk_load(seed, SECONDS)
        assert not report.problems, report


def test_loads() -> None:
    holds(range(3))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 300, 10))
def test_many_loads(first: int) -> None:
    holds(range(first, first + 10))


def test_one_seed_is_one_run() -> None:
    first: Report = bulk_load(3, 2.0)
    assert first.trace == bulk_load(3, 2.0).trace


@pytest.mark.slow
def test_files_that_go_before_their_apply_state_is_durable_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_at_once(imports: Imports) -> list[str]:
        names, imports._done = imports._done, []
        for name in names:
            imports._forget(name)
            imports._store.engine.staged.remove(name)
        return []

    monkeypatch.setattr(Imports, "take_done", drop_at_once)
    assert any("missing" in str(bulk_load(seed, SECONDS)) for seed in range(400, 440))
