"""Random runs, and that they find what is broken on purpose."""

from __future__ import annotations

import asyncio

import pytest

from tests.raftstore.chaos import run_chaos
from tests.raftstore.cluster import SlowSyncer

SEEDS = range(1, 6)
PLANTED_SEEDS = range(1, 9)


@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(seed: int) -> None:
    done = run_chaos(seed, 8.0)
    assert done["writes"] > 100
    assert done["reads"] + done["replica_reads"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_chaos_for_longer(seed: int) -> None:
    run_chaos(seed, 25.0)


def caught(seconds: float = 15.0) -> bool:
    """Whether one of a few runs ends with an error."""
    for seed in PLANTED_SEEDS:
        try:
            run_chaos(seed, seconds)
        except (AssertionError, RuntimeError):
            return True
    return False


def test_an_acknowledgement_before_the_sync_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sync(self: SlowSyncer) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(SlowSyncer, "sync", sync)
    assert caught()
