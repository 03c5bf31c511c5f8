"""Bulk loads against the real services: rows of many regions, what is refused, what a failure leaves, and resuming."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from kvstore.client.cluster.bulk import BulkLoad, LoadOptions
from kvstore.client.cluster.cluster import Cluster
from kvstore.engine.api import CF_DEFAULT, CF_WRITE
from kvstore.errors import KeyExists, TxnNotFound
from kvstore.mvcc.keys import data_range
from tests.cluster_client.real import RealCluster, with_real_cluster
from tests.cluster_client.test_real_services import three_peers
from tests.cluster_client.world import CutOff, put_all, read_all

SMALL = LoadOptions(memory_bytes=20_000, region_bytes=30_000, parallel=3)
START, END = b"t1", b"t2"


def sample(count: int, seed: int = 1) -> dict[bytes, bytes]:
    rng = random.Random(seed)
    return {b"t1%06d" % n: rng.randbytes(rng.choice((3, 40, 254, 255, 256, 900))) for n in range(count)}


def runs_of(rows: dict[bytes, bytes], count: int, seed: int = 1) -> list[list[tuple[bytes, bytes]]]:
    rng = random.Random(seed)
    runs: list[list[tuple[bytes, bytes]]] = [[] for _ in range(count)]
    for row in rows.items():
        rng.choice(runs).append(row)
    return [sorted(run) for run in runs]


def add(load: BulkLoad, runs: list[list[tuple[bytes, bytes]]]) -> None:
    for run in runs:
        load.add_run([key for key, _ in run], [value for _, value in run])


async def replicas(cluster: RealCluster) -> list[list[bytes]]:
    """What each store holds of the range, in both families."""
    low, high = data_range(START, END)
    held = []
    for node in cluster.nodes:
        assert node.store is not None
        flat = []
        for cf in (CF_WRITE, CF_DEFAULT):
            scanner = node.store.engine.scanner(cf, low, high)
            flat += scanner.take(1 << 30)
            scanner.release()
        held.append(flat)
    return held


def waiting_files(cluster: RealCluster) -> int:
    return sum(node.store.imports.count for node in cluster.nodes if node.store is not None)


@pytest.mark.parametrize("count", [0, 1, 700])
def test_rows_of_interleaving_runs_are_on_every_replica_once(count: int) -> None:
    rows = sample(count)

    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1", b"z": b"2"})
        await three_peers(client, b"a")
        async with await client.bulk_load(START, END, options=SMALL) as load:
            add(load, runs_of(rows, 7))
            before = await client.now_ts()
            assert load.commit_ts < before
            report = await load.finish(check_empty=True)
        assert (report.rows, report.loaded_rows) == (count, count)
        assert report.ingests >= count // 150
        assert await read_all(client) == {b"a": b"1", **rows, b"z": b"2"}
        below = client.snapshot(load.commit_ts - 1)
        assert [key async for key, _ in below.scan(START, END)] == []
        await asyncio.sleep(2)
        held = await replicas(cluster)
        assert held[0] == held[1] == held[2]
        assert not waiting_files(cluster)
        # later transactions find the rows as if others had written them
        changed = dict.fromkeys(list(rows)[:3], b"new")
        await put_all(client, changed)
        assert await read_all(client) == {b"a": b"1", **rows, **changed, b"z": b"2"}

    with_real_cluster(scenario)


def test_a_key_that_is_there_twice_ends_the_load_with_nothing_loaded() -> None:
    rows = sample(300)

    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        load = await client.bulk_load(START, END, options=SMALL)
        add(load, [*runs_of(rows, 3), [(b"t1000123", b"again")]])
        with pytest.raises(KeyExists) as raised:
            await load.finish()
        assert raised.value.key == b"t1000123"
        assert await read_all(client) == {}
        with pytest.raises(TxnNotFound):
            await load.finish()
        with pytest.raises(TxnNotFound):
            load.add_run([b"t11"], [b""])

    with_real_cluster(scenario, stores=1)


def test_what_runs_may_not_be() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        load = await client.bulk_load(START, END)
        with pytest.raises(ValueError, match="ascend"):
            load.add_run([b"t13", b"t12"], [b"", b""])
        with pytest.raises(KeyExists):
            load.add_run([b"t12", b"t12"], [b"", b""])
        with pytest.raises(ValueError, match="range"):
            load.add_run([b"t2"], [b""])
        with pytest.raises(ValueError, match="values"):
            load.add_run([b"t12"], [])
        with pytest.raises(ValueError, match="empty"):
            await client.bulk_load(END, START)
        load.abort()
        load.abort()

    with_real_cluster(scenario, stores=1)


def test_a_range_that_must_be_empty() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await put_all(client, {b"t15": b"old"})
        load = await client.bulk_load(START, END)
        load.add_run([b"t14", b"t15"], [b"new", b"new"])
        with pytest.raises(KeyExists) as raised:
            await load.finish(check_empty=True)
        assert raised.value.key == b"t15"
        load = await client.bulk_load(START, END)
        load.add_run([b"t14", b"t15"], [b"new", b"new"])
        await load.finish()
        assert await read_all(client) == {b"t14": b"new", b"t15": b"new"}

    with_real_cluster(scenario, stores=1)


def test_a_cancelled_load_is_resumed_where_it_was(tmp_path: Path) -> None:
    rows = sample(800)

    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await three_peers(client, b"a")
        options = LoadOptions(memory_bytes=50_000, region_bytes=20_000, parallel=1)
        load = await client.bulk_load(START, END, directory=str(tmp_path), options=options)
        add(load, runs_of(rows, 4))
        running = asyncio.ensure_future(load.finish())
        while len((tmp_path / "progress.jsonl").read_text().splitlines() if any(tmp_path.iterdir()) else []) < 4:
            assert not running.done()
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        some = await read_all(client)
        assert 0 < len(some) < len(rows)
        with pytest.raises(ValueError, match="another load"):
            await client.bulk_load(START, END + b"x", directory=str(tmp_path), options=options)
        other = await client.bulk_load(START, END, directory=str(tmp_path), options=options)
        other.add_run([b"t11"], [b""])
        with pytest.raises(ValueError, match="another load"):
            await other.finish()
        again = await client.bulk_load(START, END, directory=str(tmp_path), options=options)
        assert again.commit_ts == load.commit_ts
        add(again, runs_of(rows, 9, seed=2))
        report = await again.finish(check_empty=True)
        assert 0 < report.loaded_rows < report.rows == len(rows)
        assert await read_all(client) == rows
        # once more there is nothing to do
        third = await client.bulk_load(START, END, directory=str(tmp_path), options=options)
        add(third, [sorted(rows.items())])
        assert (await third.finish()).loaded_rows == 0

    with_real_cluster(scenario)


def test_what_a_failure_leaves_goes_with_the_range() -> None:
    rows = sample(500)

    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await three_peers(client, b"a")
        load = await client.bulk_load(START, END, options=SMALL)
        add(load, runs_of(rows, 4))
        running = asyncio.ensure_future(load.finish())
        while not await read_all(client):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.destroy_range(START, END)
        assert await read_all(client) == {}

    with_real_cluster(scenario)


@pytest.mark.parametrize("seed", range(3))
def test_regions_that_split_and_leaders_that_move_under_a_load(seed: int) -> None:
    rows = sample(1200, seed)

    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await three_peers(client, b"a")
        rng = random.Random(seed)
        load = await client.bulk_load(START, END, options=SMALL)
        add(load, runs_of(rows, 6, seed))
        running = asyncio.ensure_future(load.finish())
        keys = sorted(rows)
        other = await cluster.client(seed=99)
        for _ in range(15):
            await asyncio.sleep(rng.random() * 0.05)
            await other.split([rng.choice(keys)])
        report = await running
        assert report.rows == len(rows)
        assert await read_all(client) == rows
        await asyncio.sleep(3)
        held = await replicas(cluster)
        assert held[0] == held[1] == held[2]
        assert len(held[0]) == 2 * (len(rows) + sum(len(value) > 255 for value in rows.values()))
        await asyncio.sleep(15)
        assert not waiting_files(cluster)  # the files of refused attempts went with their epochs
        await other.close()

    with_real_cluster(scenario, seed=seed)


def test_a_store_that_is_away_holds_the_load_up_until_it_is_back() -> None:
    rows = sample(200)

    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await three_peers(client, b"a")
        away = CutOff("store2")
        cluster.network.faults = away
        load = await client.bulk_load(START, END, options=SMALL)
        add(load, runs_of(rows, 2))
        running = asyncio.ensure_future(load.finish())
        await asyncio.sleep(20)
        assert not running.done()
        away.on = False
        await running
        assert await read_all(client) == rows

    with_real_cluster(scenario)


def test_a_store_whose_file_is_gone_stops() -> None:
    async def scenario(cluster: RealCluster, client: Cluster) -> None:
        await three_peers(client, b"a")
        region = await client.regions.locate(client.parts.backoff(1000), b"t11")
        follower = next(n for n in cluster.nodes if n.store and n.store.store_id != region.leader.store_id)
        assert follower.store is not None
        load = await client.bulk_load(START, END)
        load.add_run([b"t11"], [b"1"])
        follower.store.imports.keep = lambda metas: None  # type: ignore[method-assign]
        await load.finish()
        error = await asyncio.wait_for(follower.failed(), 30)
        assert "missing" in str(error)

    with_real_cluster(scenario)
