"""Stores as nodes of a cluster, with our client: replication, splits, follower reads, leaders that go."""

from __future__ import annotations

import asyncio

from kvstore.client.api import ReadFrom
from kvstore.errors import Deadlock, KvError
from tests.server.simulated import Simulated, simulated


async def put(cluster: Simulated, pessimistic: bool = False, **pairs: str) -> int:
    txn = await cluster.client.begin(pessimistic=pessimistic)
    for key, value in pairs.items():
        txn.put(key.encode(), value.encode())
    return await txn.commit()


async def read(cluster: Simulated, source: ReadFrom = ReadFrom.LEADER) -> dict[bytes, bytes]:
    snapshot = cluster.client.snapshot(await cluster.client.now_ts(), read=source)
    return dict([pair async for pair in snapshot.scan(b"", b"")])


def test_one_store_serves_transactions_and_raw_access() -> None:
    async def test(cluster: Simulated) -> None:
        await put(cluster, a="1", b="2")
        await put(cluster, pessimistic=True, b="3")
        assert await read(cluster) == {b"a": b"1", b"b": b"3"}
        await cluster.client.raw.put(b"r", b"v")
        assert await cluster.client.raw.get(b"r") == b"v"

    simulated(test, stores=1)


def test_three_stores_replicate_and_regions_split() -> None:
    async def test(cluster: Simulated) -> None:
        await put(cluster, **{f"k{at:02}": "v" for at in range(40)})
        await cluster.client.split([b"k10", b"k20", b"k30"])
        commit_ts = await put(cluster, k05="1", k15="2", k25="3")
        assert commit_ts > 0
        rows = await read(cluster)
        assert len(rows) == 40
        assert [rows[b"k05"], rows[b"k15"], rows[b"k25"]] == [b"1", b"2", b"3"]
        for store in cluster.stores:
            assert store.node.store is not None
            assert len(store.node.store.regions()) == 4

    simulated(test)


def test_followers_serve_reads_at_a_timestamp() -> None:
    async def test(cluster: Simulated) -> None:
        for round_number in range(5):
            await put(cluster, a=str(round_number), b=str(round_number))
            rows = await read(cluster, ReadFrom.FOLLOWER)
            assert rows == {b"a": str(round_number).encode(), b"b": str(round_number).encode()}

    simulated(test)


def test_transfers_between_accounts_keep_the_total_while_a_store_stops() -> None:
    accounts = 8

    async def transfer(cluster: Simulated, worker: int, done: list[int]) -> None:
        rng, loop = cluster.rng, asyncio.get_running_loop()
        until = loop.time() + 24
        while loop.time() < until:
            await asyncio.sleep(rng.random())
            source, target = rng.sample(range(accounts), 2)
            txn = await cluster.client.begin(pessimistic=worker % 2 == 0)
            try:
                keys = [b"acc%d" % source, b"acc%d" % target]
                ts = txn.start_ts
                if worker % 2 == 0:
                    ts = await cluster.client.now_ts()
                    await txn.lock_keys(keys, for_update_ts=ts, wait_ms=3000)
                reader = txn.at(ts)
                have = int(await reader.get(keys[0]) or b"0")
                other = int(await reader.get(keys[1]) or b"0")
                txn.put(keys[0], b"%d" % (have - 1))
                txn.put(keys[1], b"%d" % (other + 1))
                await txn.commit()
                done.append(worker)
            except KvError:
                await txn.rollback()

    async def test(cluster: Simulated) -> None:
        await put(cluster, **{f"acc{at}": "100" for at in range(accounts)})
        await cluster.client.split([b"acc3", b"acc6"])
        done: list[int] = []
        workers = [asyncio.ensure_future(transfer(cluster, worker, done)) for worker in range(6)]
        await asyncio.sleep(3)
        victim = cluster.stores.pop(0)
        await victim.node.stop(0)
        await victim.placement.close()
        await asyncio.sleep(8)
        done.clear()
        await asyncio.gather(*workers)
        rows = await read(cluster)
        assert sum(map(int, rows.values())) == 100 * accounts
        assert set(done) == set(range(6))

    simulated(test)


def test_garbage_goes_below_the_safe_point() -> None:
    async def test(cluster: Simulated) -> None:
        for at in range(5):
            await put(cluster, a=str(at))
        await cluster.client.gc(await cluster.client.now_ts())
        await asyncio.sleep(30)
        for store in cluster.stores:
            assert store.node.store is not None
            flat = store.engine.scanner("write", b"z", b"{").take(100)
            assert len(flat) == 2
        assert await read(cluster) == {b"a": b"4"}

    simulated(test)


def test_a_circle_of_waits_is_broken_wherever_the_keys_are() -> None:
    async def cross(cluster: Simulated, keys: list[bytes]) -> str:
        txn = await cluster.client.begin(pessimistic=True)
        try:
            for key in keys:
                ts = await cluster.client.now_ts()
                await txn.lock_keys([key], for_update_ts=ts, wait_ms=20_000)
                await asyncio.sleep(0.5)
            txn.put(keys[0], b"1")
            await txn.commit()
        except Deadlock:
            await txn.rollback()
            return "deadlock"
        return "committed"

    async def test(cluster: Simulated) -> None:
        await put(cluster, a="0", z="0")
        await cluster.client.split([b"m"])
        found = await asyncio.gather(cross(cluster, [b"a", b"z"]), cross(cluster, [b"z", b"a"]))
        assert sorted(found) == ["committed", "deadlock"]

    simulated(test)
