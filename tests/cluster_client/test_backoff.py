"""Pauses grow with jitter within their bounds, and all of them together end at the budget."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.client.cluster.backoff import NO_LEADER, PD, REGION_MISS, RPC, SERVER_BUSY, TXN_LOCK, Backoff, Jitter, Kind
from kvstore.client.cluster.errors import ClusterError, LocksUnresolved, PdUnavailable, RegionUnavailable
from kvstore.rpc.api import RpcError
from tests.sim.loop import run_simulated

KINDS = [RPC, PD, REGION_MISS, NO_LEADER, SERVER_BUSY, TXN_LOCK]


@given(seed=st.integers(0, 1000), kind=st.sampled_from(KINDS))
def test_pauses_double_up_to_the_cap(seed: int, kind: Kind) -> None:
    backoff = Backoff(1000, random.Random(seed))
    for attempt in range(40):
        full = min(kind.cap_ms, kind.base_ms * 2**attempt)
        pause = backoff.pause_ms(kind)
        if kind.jitter is Jitter.NONE:
            assert pause == full
        else:
            assert full / 2 <= pause <= full


@pytest.mark.parametrize(
    ("kind", "error"), [(RPC, RegionUnavailable), (PD, PdUnavailable), (PD, RpcError), (TXN_LOCK, LocksUnresolved)]
)
def test_the_budget_ends_them_with_the_last_causes(kind: Kind, error: type[Exception]) -> None:
    async def scenario() -> None:
        backoff = Backoff(3000, random.Random(1))
        backoff.maybe_executed = True
        began = asyncio.get_running_loop().time()

        async def wait_often() -> None:
            for n in range(1000):
                await backoff.wait(kind, f"trouble {n}")

        with pytest.raises(error, match=r"after 3000 ms.*trouble 7") as found:
            await wait_often()
        assert asyncio.get_running_loop().time() - began == pytest.approx(3)
        assert isinstance(found.value, ClusterError)
        assert found.value.maybe_executed

    run_simulated(scenario())


def test_a_pause_can_be_lengthened_and_cut() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(10_000, random.Random(1))
        await backoff.wait(SERVER_BUSY, "", at_least_ms=700)
        assert loop.time() == pytest.approx(0.7)
        await backoff.wait(TXN_LOCK, "", at_most_ms=3)
        assert loop.time() == pytest.approx(0.703)

    run_simulated(scenario())


def test_parts_go_on_where_the_whole_stands_and_give_back_what_they_used() -> None:
    async def scenario() -> None:
        whole = Backoff(10_000, random.Random(1))
        for _ in range(4):
            await whole.wait(REGION_MISS, "")
        parts = [whole.fork(), whole.fork()]
        assert [part.attempts(REGION_MISS) for part in parts] == [4, 4]
        await parts[0].wait(REGION_MISS, "")
        parts[1].maybe_executed = True
        whole.join(parts)
        assert whole.spent_ms == 2 + 4 + 8 + 16 + 32
        assert whole.maybe_executed

    run_simulated(scenario())
