"""The parts by themselves: latches, locks in flight, bounds that are no keys."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvstore.codec import encode_bytes
from kvstore.mvcc.reader import MetLock
from kvstore.mvcc.record import Lock, LockType
from kvstore.server.access import first_user_key
from kvstore.server.concurrency import ConcurrencyManager, TimestampTooNew
from kvstore.server.latches import Latches
from tests.sim.loop import run_simulated


@pytest.mark.parametrize("seed", range(40))
def test_no_two_holders_of_a_latch_and_nobody_waits_for_ever(seed: int) -> None:
    rng, latches, held = random.Random(seed), Latches(), set[bytes]()

    async def worker() -> None:
        for _ in range(20):
            keys = sorted(rng.sample([b"a", b"b", b"c", b"d"], rng.randint(1, 3)))
            try:
                async with asyncio.timeout(rng.choice([0.5, 5.0])):
                    await latches.acquire(keys)
            except TimeoutError:
                continue
            assert not held & set(keys)
            held.update(keys)
            await asyncio.sleep(rng.random())
            held.difference_update(keys)
            latches.release(keys)

    async def whole() -> None:
        await asyncio.gather(*(worker() for _ in range(6)))
        assert len(latches) == 0

    run_simulated(whole())


def test_latches_go_in_the_order_in_which_they_were_asked_for() -> None:
    async def whole() -> None:
        latches, order = Latches(), []

        async def take(name: int) -> None:
            await latches.acquire([b"k"])
            order.append(name)
            latches.release([b"k"])

        assert latches.try_acquire([b"k"])
        assert not latches.try_acquire([b"a", b"k"])
        assert latches.try_acquire([b"a"])
        tasks = [asyncio.ensure_future(take(name)) for name in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        latches.release([b"k"])
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [0, 1, 3, 4]

    run_simulated(whole())


def test_locks_in_flight_are_found_by_key_and_range() -> None:
    manager = ConcurrencyManager()
    locks = [(key, Lock(LockType.PUT, key, 10, 5, min_commit_ts=20)) for key in (b"d", b"b", b"f")]
    manager.add(locks)
    manager.check_key(b"b", 19)
    manager.check_key(b"c", 30)
    manager.check_range(b"b\0", b"d", 30)
    manager.check_range(b"", b"", 30, frozenset([10]))
    for start, end in ((b"", b""), (b"c", b"e"), (b"f", b"")):
        with pytest.raises(MetLock):
            manager.check_range(start, end, 30)
    manager.remove(locks[:2])
    manager.check_range(b"", b"f", 30)
    manager.remove(locks)
    manager.check_range(b"", b"", 30)


def test_an_older_mark_does_not_end_a_newer_one() -> None:
    manager = ConcurrencyManager()
    first = manager.mark_unsynced(1)
    manager.forget(1)
    second = manager.mark_unsynced(1)
    manager.mark_synced(1, first)
    assert not manager.is_synced(1)
    manager.mark_synced(1, second)
    assert manager.is_synced(1)


def test_timestamps_of_the_far_future_are_not_believed() -> None:
    manager = ConcurrencyManager(lambda: 1_000_000)
    manager.update_max_ts(1_000_000 << 18)
    with pytest.raises(TimestampTooNew):
        manager.update_max_ts(1 << 62)
    manager.sync_max_ts(1 << 62)
    manager.update_max_ts((1 << 62) + 1)
    assert manager.max_ts == (1 << 62) + 1


keys = st.binary(max_size=20) | st.lists(st.sampled_from([0, 1, 0xF7, 0xF8, 0xFE, 0xFF]), max_size=20).map(bytes)


@given(keys, keys)
def test_the_first_key_at_a_bound_is_the_first(bound: bytes, key: bytes) -> None:
    first = first_user_key(bound)
    assert encode_bytes(first) >= bound
    assert (encode_bytes(key) >= bound) == (key >= first)
