"""Bulk loads while regions split, merge and move and stores crash."""

from __future__ import annotations

import pytest

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
@pytest.mark.parametrize("first", range(100, 130, 10))
def test_many_loads(first: int) -> None:
    holds(range(first, first + 10))


def test_one_seed_is_one_run() -> None:
    first: Report = bulk_load(3, 2.0)
    assert first.trace == bulk_load(3, 2.0).trace
