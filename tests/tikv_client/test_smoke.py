"""The calls that everybody makes, against one placement driver and one store in this process: a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.server.cluster import OneStore, one_store

tikv = pytest.importorskip("tikv_client.asynchronous")


def against(test: Callable[[OneStore], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with one_store() as cluster:
            await test(cluster)

    asyncio.run(asyncio.wait_for(whole(), 60))


async def raw_client(cluster: OneStore) -> Any:
    return await tikv.RawClient.connect([cluster.pd_address])


async def txn_client(cluster: OneStore) -> Any:
    return await tikv.TransactionClient.connect([cluster.pd_address])


def test_raw() -> None:
    async def test(cluster: OneStore) -> None:
        client = await raw_client(cluster)
        await client.put(b"k1", b"v1")
        assert await client.get(b"k1") == b"v1"
        assert await client.get(b"none") is None
        await client.batch_put({b"k2": b"v2", b"k3": b"v3"})
        got = await client.batch_get([b"k1", b"k2", b"k3", b"x"])
        assert dict(got) == {b"k1": b"v1", b"k2": b"v2", b"k3": b"v3"}
        assert [pair[0] for pair in await client.scan(b"k1", end=b"k4", limit=10)] == [b"k1", b"k2", b"k3"]
        await client.delete(b"k2")
        assert [pair[0] for pair in await client.scan(b"k1", end=b"k4", limit=10)] == [b"k1", b"k3"]
        await client.delete_range(b"k1", end=b"k4")
        assert await client.scan(b"k1", end=b"k4", limit=10) == []

    against(test)


@pytest.mark.parametrize("pessimistic", [False, True])
def test_transactions(pessimistic: bool) -> None:
    async def test(cluster: OneStore) -> None:
        client = await txn_client(cluster)
        txn = await client.begin(pessimistic=pessimistic)
        for at in range(20):
            await txn.put(b"k%02d" % at, b"v%d" % at)
        await txn.commit()
        snapshot = client.snapshot(await client.current_timestamp(), pessimistic=False)
        assert await snapshot.get(b"k03") == b"v3"
        scanned = [pair[0] async for pair in _rows(snapshot.scan(b"k05", end=b"k10", limit=100))]
        assert scanned == [b"k05", b"k06", b"k07", b"k08", b"k09"]
        txn = await client.begin(pessimistic=pessimistic)
        await txn.delete(b"k03")
        await txn.rollback()
        txn = await client.begin(pessimistic=pessimistic)
        assert await txn.get(b"k03") == b"v3"
        await txn.delete(b"k03")
        await txn.commit()
        snapshot = client.snapshot(await client.current_timestamp(), pessimistic=False)
        assert await snapshot.get(b"k03") is None

    against(test)


async def _rows(pairs: Any) -> Any:
    for pair in await pairs:
        yield pair
