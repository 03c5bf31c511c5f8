"""The client against the real placement driver and stores: nothing here is scripted."""

from __future__ import annotations

import asyncio
import random

import pytest

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.parts import Options
from kvstore.errors import Deadlock, KeyExists, LockNowait, WriteConflict
from kvstore.rpc.memory import Kind
from tests.cluster_client.real import RealCluster, with_real_cluster
from tests.cluster_client.test_chaos import KEYS, History, check, reader, worker
from tests.cluster_client.world import ASYNC, TWO_PHASES, put_all, read, read_all

MODES = pytest.mark.parametrize("options", [Options(), ASYNC, TWO_PHASES], ids=["1pc", "async", "2pc"])


@MODES
def test_reads_and_writes_over_split_regions(options: Options) -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        pairs = {b"k%04d" % n: b"v%d" % n * (1 + n % 90) for n in range(600)}
        await put_all(client, pairs)
        assert await read_all(client) == pairs
        ids = await client.split([b"k0200", b"k0400"])
        assert len(set(ids)) == 2
        assert await read_all(client) == pairs
        more = {b"k0001": b"a", b"k0300": b"b", b"k0599": b"c", b"z": b"d" * 5000}
        commit_ts = await put_all(client, more)
        assert await read_all(client) == {**pairs, **more}
        before = client.snapshot(commit_ts - 1)
        assert await before.batch_get(more) == {key: pairs[key] for key in more if key in pairs}
        found = [pair async for pair in client.snapshot(commit_ts).scan(b"k0100", b"k0500", reverse=True)]
        assert found == sorted(((k, {**pairs, **more}[k]) for k in pairs if b"k0100" <= k < b"k0500"), reverse=True)

    with_real_cluster(scenario, options=options)


def test_timestamps_of_the_real_oracle_grow_for_many_callers() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        async def caller() -> list[int]:
            return [await client.now_ts() for _ in range(100)]

        drawn = await asyncio.gather(*(caller() for _ in range(64)))
        assert all(one == sorted(set(one)) for one in drawn)
        assert len({ts for one in drawn for ts in one}) == 6400

    with_real_cluster(scenario, stores=1, pds=3)


def test_pessimistic_locks_conflicts_and_deadlocks() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1", b"h": b"1"})
        await client.split([b"g"])
        first, second = await client.begin(), await client.begin()
        values: dict[bytes, bytes | None] = {}
        await first.lock_keys([b"a", b"n"], for_update_ts=await client.now_ts(), wait_ms=0, values=values)
        assert values == {b"a": b"1", b"n": None}
        with pytest.raises(LockNowait):
            await second.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        await second.lock_keys([b"h"], for_update_ts=await client.now_ts(), wait_ms=0)
        waiting = asyncio.ensure_future(first.lock_keys([b"h"], for_update_ts=await client.now_ts(), wait_ms=9000))
        await asyncio.sleep(0.2)
        with pytest.raises(Deadlock):
            await second.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=9000)
        await second.rollback()
        assert await waiting == [b"h"]
        first.put(b"a", b"2")
        first.put(b"x", b"2")
        await first.commit()
        assert await read_all(client) == {b"a": b"2", b"h": b"1", b"x": b"2"}
        late = await client.begin(pessimistic=False)
        late.put(b"a", b"3")
        await put_all(client, {b"a": b"4"})
        with pytest.raises(WriteConflict):
            await late.commit()
        txn = await client.begin()
        txn.insert(b"a", b"5")
        with pytest.raises(KeyExists):
            await txn.commit()

    with_real_cluster(scenario)


@MODES
def test_the_banks_total_stays_while_regions_split(options: Options) -> None:
    accounts = [b"acc%02d" % n for n in range(20)]

    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, dict.fromkeys(accounts, b"100"))
        over = asyncio.Event()

        async def transfers(seed: int) -> int:
            rng = random.Random(seed)
            done = 0
            mine = await cluster.client(options, seed)
            while not over.is_set():
                txn = await mine.begin(pessimistic=seed % 2 == 0)
                source, target = rng.sample(accounts, 2)
                try:
                    if txn.pessimistic:
                        ts = await mine.now_ts()
                        values: dict[bytes, bytes | None] = {}
                        await txn.lock_keys([source, target], for_update_ts=ts, wait_ms=3000, values=values)
                    else:
                        values = dict(await txn.batch_get([source, target]))
                    amount = rng.randrange(1, 10)
                    txn.put(source, b"%d" % (int(values[source] or b"") - amount))
                    txn.put(target, b"%d" % (int(values[target] or b"") + amount))
                    await txn.commit()
                    done += 1
                except (WriteConflict, Deadlock):
                    await txn.rollback()
                await asyncio.sleep(rng.random() * 0.3)
            await mine.close()
            return done

        workers = [asyncio.ensure_future(transfers(seed)) for seed in range(1, 5)]
        for turn in range(8):
            await asyncio.sleep(0.5)
            if turn % 3 == 0:
                await client.split([accounts[turn]])
            found = await read_all(client)
            assert sum(int(value) for value in found.values()) == 2000
        over.set()
        assert sum(await asyncio.gather(*workers)) > 40
        assert sum(int(value) for value in (await read_all(client)).values()) == 2000

    with_real_cluster(scenario, options=options)


def test_raw_access() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        pairs = {b"k%03d" % n: b"v%d" % n for n in range(200)}
        await client.raw.batch_put(pairs)
        assert [pair async for pair in client.raw.scan(b"", b"")] == sorted(pairs.items())
        assert [pair async for pair in client.raw.scan(b"k010", b"k020", reverse=True, limit=3)] == [
            (b"k%03d" % n, b"v%d" % n) for n in (19, 18, 17)
        ]
        assert await client.raw.batch_get([b"k001", b"none"]) == {b"k001": b"v1"}
        await client.raw.delete_range(b"k100", b"k150")
        await client.raw.delete(b"k000")
        assert await client.raw.get(b"k000") is None
        assert await client.raw.compare_and_swap(b"c", None, b"1") == (True, None)
        assert await client.raw.compare_and_swap(b"c", b"2", b"3") == (False, b"1")
        assert len([pair async for pair in client.raw.scan(b"", b"")]) == 150

    with_real_cluster(scenario)


def test_gc_leaves_what_a_service_holds() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        held = await client.now_ts()
        await client.pd.update_service_safe_point("a reader", 600, held)
        await put_all(client, {b"a": b"2"})
        assert await client.gc(await client.now_ts()) == held
        assert await client.snapshot(held).get(b"a") == b"1"
        await client.pd.update_service_safe_point("a reader", 0, held)
        now = await client.now_ts()
        assert await client.gc(now) == now

    with_real_cluster(scenario)


def test_gc_moves_the_safe_point_and_old_locks_are_settled() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        dead = await cluster.client(seed=5)
        txn = await dead.begin()
        await txn.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        txn._keep_alive.stop()
        await dead.close()
        await asyncio.sleep(30)
        ts = await client.now_ts()
        assert await client.gc(ts) == ts
        other = await client.begin()
        await other.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        await other.rollback()
        assert await read(client, b"a") == b"1"

    with_real_cluster(scenario)


def test_writes_go_on_after_the_leaders_store_stops() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"0"})
        await three_peers(client, b"a")
        region = client.regions.find(b"a")
        assert region is not None
        (node,) = [
            node for node in cluster.nodes if node.store is not None and node.store.store_id == region.leader.store_id
        ]
        cluster.nodes.remove(node)
        await node.stop(0)
        loop = asyncio.get_running_loop()
        stopped = loop.time()
        await put_all(client, {b"a": b"1", b"z": b"1"})
        # an election timeout is 1.5 to 3 s
        assert loop.time() - stopped < 6
        assert await read_all(client) == {b"a": b"1", b"z": b"1"}

    with_real_cluster(scenario)


def test_timestamps_and_lookups_go_on_after_the_placement_drivers_leader_stops() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        last = 0
        for _ in range(2):
            leader = next(machine for machine in cluster.pds if machine.config.me().address == client.pd.leader)
            if len(cluster.pds) > 2:
                cluster.pds.remove(leader)
                await leader.stop()
            for _ in range(20):
                ts = await client.now_ts()
                assert ts > last
                last = ts
            client.regions.clear()
            assert await read_all(client) == {b"a": b"1"}

    with_real_cluster(scenario, pds=3)


async def three_peers(client: Cluster, key: bytes) -> None:
    """Waits until the region has a peer on every store."""
    for _ in range(600):
        found = await client.pd.get_region(client.regions.codec.encode(key))
        if found is not None and len(found[0].peers) == 3 and not any(peer.role for peer in found[0].peers):
            client.regions.clear()
            await read(client, key)
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the region never got three peers")


class Lossy:
    """Links that are slow by chance and lose one message in a hundred; off until it is switched on."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(f"links {seed}")
        self.on = False

    def delays(self, source: str, target: str, kind: Kind) -> tuple[float, ...]:
        if self.on and self.rng.random() < 0.01:
            return ()
        return (self.rng.random() * 0.005,)

    def reachable(self, source: str, target: str) -> bool:
        return True


@MODES
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_what_commit_said_is_true_over_lossy_links(options: Options, seed: int) -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await three_peers(client, b"a")
        await client.split([b"g", b"m"])
        links = Lossy(seed)
        cluster.network.faults = links
        links.on = True
        history = History()

        async def work(number: int) -> None:
            transport = cluster.network.transport(f"client{number}")
            mine = await cluster.client(options, seed * 100 + number, transport)
            await worker(mine, transport, number, random.Random(f"{seed}/{number}"), history)

        reading = asyncio.ensure_future(reader(client, history))
        await asyncio.gather(*(work(number) for number in range(1, 6)))
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        links.on = False
        await asyncio.sleep(60)
        check(history, await read_all(client))
        for ts, found in history.seen:
            assert await client.snapshot(ts).batch_get(KEYS) == found, f"snapshot {ts}"
        assert len(history.committed) > 10

    with_real_cluster(scenario, options=options, seed=seed)
