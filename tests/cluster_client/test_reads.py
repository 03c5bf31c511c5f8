"""Snapshots: scans across regions in order while they split, limits, merges of own writes, caches; raw access."""

from __future__ import annotations

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.errors import UndeterminedResult
from kvstore.client.cluster.parts import Options
from kvstore.errors import SnapshotTooOld
from tests.cluster_client.mock import MockCluster
from tests.cluster_client.world import put_all, read_all, with_cluster
from tests.sim.loop import SimLoop

MANY = {b"k%05d" % n: b"v%d" % n for n in range(3000)}


async def collect(pairs: object) -> list[tuple[bytes, bytes]]:
    return [pair async for pair in pairs]  # type: ignore[attr-defined]


@pytest.mark.parametrize("reverse", [False, True])
def test_scans_are_in_order_over_regions_and_bounds(reverse: bool) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, MANY)
        cluster.split(b"k00500", b"k00501", b"k01777", b"x")
        snapshot = client.snapshot(await client.now_ts())
        ordered = sorted(MANY.items(), reverse=reverse)
        for start, end in (
            (b"", b""),
            (b"k00499", b"k00502"),
            (b"k00500", b""),
            (b"", b"k00501"),
            (b"k1", b"k1"),
            (b"z", b"a"),
        ):
            expected = [(k, v) for k, v in ordered if start <= k and (not end or k < end)]
            assert await collect(snapshot.scan(start, end, reverse=reverse)) == expected
        for limit in (0, 1, 64, 65, 777):
            assert await collect(snapshot.scan(b"", b"", reverse=reverse, limit=limit)) == ordered[:limit]
        keys = await collect(snapshot.scan(b"", b"k00010", reverse=reverse, key_only=True))
        assert keys == [(k, b"") for k, _ in ordered if k < b"k00010"]

    with_cluster(scenario, options=Options(scan_batch=200))


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_goes_on_while_regions_split_and_leaders_move(reverse: bool) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, MANY)
        found: list[tuple[bytes, bytes]] = []
        at = 0
        async for batch in client.snapshot(await client.now_ts()).scan_batches(b"", b"", reverse=reverse):
            found += batch
            at += 137
            cluster.split(b"k%05d" % (at % 3000), b"k%05d" % (3000 - at % 3000), tell=at % 2 == 0)
            cluster.move_leader(b"k%05d" % (at % 3000), 1 + at % 3, tell=at % 3 == 0)
        assert found == sorted(MANY.items(), reverse=reverse)
        assert len(cluster.regions) > 20

    with_cluster(scenario, options=Options(scan_batch=100))


def test_an_abandoned_scan_leaves_no_request_behind() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, MANY)
        scan = client.snapshot(await client.now_ts()).scan_batches(b"", b"")
        async for _ in scan:
            break
        before = len(asyncio.all_tasks())
        await scan.aclose()
        await asyncio.sleep(1)
        assert len(asyncio.all_tasks()) <= before

    with_cluster(scenario)


def test_a_cached_snapshot_asks_once() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1", b"b": b"2"})
        snapshot = client.snapshot(await client.now_ts(), cached=True)
        cluster.log.clear()
        for _ in range(3):
            assert await snapshot.batch_get([b"b", b"none", b"a", b"b"]) == {b"b": b"2", b"a": b"1"}
            assert await snapshot.get(b"a") == b"1"
            assert await snapshot.get(b"none") is None
        assert len(cluster.log) == 1

    with_cluster(scenario)


def test_a_snapshot_below_the_safe_point_is_refused_and_a_recent_one_costs_no_question() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        old = client.snapshot(await put_all(client, {b"a": b"1", b"b": b"2"}))
        cluster.pd.calls.clear()
        assert await old.get(b"a") == b"1"
        assert "GetGCSafePoint" not in cluster.pd.calls
        # time passes for a client that draws no timestamps, too
        await asyncio.sleep(120)
        cluster.pd.pass_time(120_000)
        assert await old.get(b"a") == b"1"
        assert cluster.pd.calls.count("GetGCSafePoint") == 1
        now = await client.now_ts()
        assert await asyncio.gather(*(old.get(b"a") for _ in range(40))) == [b"1"] * 40
        assert 2 <= cluster.pd.calls.count("GetGCSafePoint") <= 5
        assert await collect(old.scan(b"", b"")) == [(b"a", b"1"), (b"b", b"2")]
        await client.gc(now)
        for read in (old.get(b"a"), old.batch_get([b"a"]), collect(old.scan(b"", b""))):
            with pytest.raises(SnapshotTooOld):
                await read
        assert await client.snapshot(now).get(b"a") == b"1"
        assert await client.snapshot((1 << 64) - 1).get(b"a") == b"1"

    with_cluster(scenario)


def test_how_young_a_snapshot_is_read_unasked_can_be_set() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        old = client.snapshot(await put_all(client, {b"a": b"1"}))
        await asyncio.sleep(2)
        cluster.pd.pass_time(2_000)
        await client.gc(await client.now_ts())
        with pytest.raises(SnapshotTooOld):
            await old.get(b"a")

    with_cluster(scenario, options=Options(recent_ms=1_000))


def test_nobody_may_be_left_to_hear_that_the_safe_point_is_unknown() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        old = client.snapshot(await put_all(client, {b"a": b"1"}))
        await asyncio.sleep(1)
        cluster.pd.pass_time(1_000)
        cluster.pd.hung[0] = None
        reading = asyncio.ensure_future(old.get(b"a"))
        while "GetGCSafePoint" not in cluster.pd.calls:
            await asyncio.sleep(0.001)
        reading.cancel()
        await asyncio.sleep(60)
        cluster.pd.hung.clear()
        assert await old.get(b"a") == b"1"
        del reading
        gc.collect()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        assert not loop.failures

    with_cluster(scenario, options=Options(recent_ms=0))


KEYS = st.binary(min_size=1, max_size=2)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.binary(max_size=3)),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("mark")),
        st.tuples(st.just("undo")),
        st.tuples(st.just("scan"), KEYS, st.one_of(st.just(b""), KEYS), st.booleans(), st.integers(0, 9)),
        st.tuples(st.just("get"), KEYS),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(
    below=st.dictionaries(KEYS, st.binary(max_size=3), max_size=20),
    splits=st.lists(KEYS, max_size=4),
    operations=OPERATIONS,
)
def test_own_writes_over_a_snapshot_are_as_in_a_dict(
    below: dict[bytes, bytes], splits: list[bytes], operations: list[tuple[object, ...]]
) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, below or {b"x": b""})
        cluster.split(*splits)
        twin: dict[bytes, bytes] = dict(below or {b"x": b""})
        marks: list[tuple[int, dict[bytes, bytes]]] = []
        txn = await client.begin(pessimistic=False)
        for operation in operations:
            match operation:
                case ("put", bytes(key), bytes(value)):
                    txn.put(key, value)
                    twin[key] = value
                case ("delete", bytes(key)):
                    txn.delete(key)
                    twin.pop(key, None)
                case ("mark",):
                    marks.append((txn.mark(), dict(twin)))
                case ("undo",) if marks:
                    mark, twin = marks.pop()
                    txn.undo_to(mark)
                case ("get", bytes(key)):
                    assert await txn.get(key) == twin.get(key)
                case ("scan", bytes(start), bytes(end), bool(reverse), int(limit)):
                    wanted = [
                        (k, twin[k]) for k in sorted(twin, reverse=reverse) if start <= k and (not end or k < end)
                    ]
                    assert await collect(txn.scan(start, end, reverse=reverse)) == wanted
                    assert await collect(txn.scan(start, end, reverse=reverse, limit=limit)) == wanted[:limit]
        assert await txn.batch_get(sorted(twin)) == twin
        await txn.commit()
        await client.drain()
        assert await read_all(client) == twin

    with_cluster(scenario, options=Options(scan_batch=3))


def test_raw_access_over_regions() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        raw = client.raw
        await raw.put(b"a", b"1")
        cluster.split(b"k00500", b"k02000", tell=False)
        await raw.batch_put(MANY)
        assert await raw.get(b"k00500") == b"v500"
        assert await raw.get(b"none") is None
        assert await raw.batch_get([b"k02999", b"none", b"a"]) == {b"k02999": b"v2999", b"a": b"1"}
        everything = sorted({**MANY, b"a": b"1"}.items())
        assert await collect(raw.scan(b"", b"")) == everything
        assert await collect(raw.scan(b"", b"", reverse=True)) == everything[::-1]
        assert await collect(raw.scan(b"k00490", b"k00510", limit=15)) == everything[491:506]
        assert await collect(raw.scan(b"k00490", b"k00510", limit=15, reverse=True)) == everything[510:495:-1]
        await raw.delete_range(b"k00100", b"k02500")
        await raw.batch_delete([b"k00000", b"k02999"])
        await raw.delete(b"a")
        left = [k for k, _ in await collect(raw.scan(b"", b"", key_only=True))]
        assert left == [b"k%05d" % n for n in (*range(1, 100), *range(2500, 2999))]
        assert await raw.ttl(b"k00001") == 0
        assert await raw.ttl(b"a") is None
        assert await raw.compare_and_swap(b"c", None, b"1") == (True, None)
        assert await raw.compare_and_swap(b"c", b"0", b"2") == (False, b"1")
        assert await raw.compare_and_swap(b"c", b"1", b"2") == (True, b"1")

    with_cluster(scenario, txn_keys=False)


def test_a_compare_and_swap_whose_answer_was_lost_is_undetermined_unless_it_succeeds() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.fault("RawCAS", lose_answer=True)
        with pytest.raises(UndeterminedResult):
            await client.raw.compare_and_swap(b"c", None, b"1")
        cluster.fault("RawCAS", lose_request=True)
        assert await client.raw.compare_and_swap(b"c", b"1", b"2") == (True, b"1")

    with_cluster(scenario, txn_keys=False)


def test_split_makes_regions_begin_at_the_keys() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        ids = await client.split([b"m", b"g", b"m"])
        assert [cluster.region_of(key).id for key in (b"g", b"m")] == ids
        assert await client.split([b"m"]) == ids[1:]
        assert len(cluster.regions) == 3

    with_cluster(scenario)


def test_a_store_without_batch_commands_is_called_one_by_one() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, MANY)
        assert await read_all(client) == MANY
        assert cluster.messages == 0

    with_cluster(scenario, batch_commands=False)


def test_calls_made_together_share_messages() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        snapshot = client.snapshot(await client.now_ts())
        cluster.messages = 0
        assert await asyncio.gather(*(snapshot.get(b"a") for _ in range(200))) == [b"1"] * 200
        assert cluster.messages <= 3

    with_cluster(scenario)
