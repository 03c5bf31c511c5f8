"""Locks in the way: those of dead clients in every mode, those of living ones, pessimistic locks, deadlocks."""

from __future__ import annotations

import asyncio
import gc

import pytest

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.errors import LocksUnresolved
from kvstore.client.cluster.parts import Options
from kvstore.errors import CommitRejected, Deadlock, KeyExists, LockNowait, LockWaitTimeout, WriteConflict
from tests.cluster_client.mock import MockCluster
from tests.cluster_client.test_transactions import locks
from tests.cluster_client.world import ASYNC, TWO_PHASES, connect, put_all, read, read_all, with_cluster

DEAD_MS = 60_000


async def die_in_commit(cluster: MockCluster, options: Options, at: str, skip: int, keys: dict[bytes, bytes]) -> None:
    """A client that is cut off for ever at one of the requests of its commit."""
    transport = cluster.network.transport("dying")
    client = await connect(cluster, options, transport=transport)
    cluster.fault(at, skip=skip, before=transport.crash, lose_request=True)
    txn = await client.begin(pessimistic=False)
    for key, value in keys.items():
        txn.put(key, value)
    await asyncio.gather(txn.commit(), return_exceptions=True)
    await client.close()
    cluster.faults.clear()


@pytest.mark.parametrize(
    ("options", "at", "skip", "survives"),
    [
        (TWO_PHASES, "Prewrite", 1, False),
        (TWO_PHASES, "Commit", 0, False),
        (TWO_PHASES, "Commit", 1, True),
        (ASYNC, "Prewrite", 1, False),
        (ASYNC, "Prewrite", 2, False),
        (ASYNC, "Commit", 0, True),
        (ASYNC, "Commit", 1, True),
    ],
)
@pytest.mark.parametrize("reads", ["get", "batch_get", "scan", "write"])
def test_what_a_dead_client_left_is_settled_by_who_meets_it(
    options: Options, at: str, skip: int, survives: bool, reads: str
) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g", b"m")
        old = {b"a": b"old", b"h": b"old", b"t": b"old"}
        new = {b"a": b"new", b"h": b"new", b"t": b"new"}
        await put_all(client, old)
        await die_in_commit(cluster, options, at, skip, new)
        assert locks(cluster)
        cluster.pd.pass_time(DEAD_MS)
        expected = new if survives else old
        snapshot = client.snapshot(await client.now_ts())
        if reads == "get":
            assert {key: await snapshot.get(key) for key in old} == expected
        elif reads == "batch_get":
            assert await snapshot.batch_get(old) == expected
        elif reads == "scan":
            assert {key: value async for key, value in snapshot.scan(b"", b"")} == expected
        else:
            await put_all(client, dict.fromkeys(old, b"over"))
            expected = dict.fromkeys(old, b"over")
        await client.drain()
        assert await read_all(client) == expected
        # a snapshot that knows a transaction's fate goes past its other locks; a fresh one settles the lock it meets
        for key in old:
            await read(client, key)
        await client.drain()
        assert locks(cluster) == []

    with_cluster(scenario, options=TWO_PHASES)


def test_a_reader_goes_past_a_living_writer_by_pushing_its_commit_up() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"old", b"b": b"old"})
        cluster.fault("Commit", delay_s=2)
        writing = asyncio.ensure_future(put_all(client, {b"a": b"new", b"b": b"new"}))
        await asyncio.sleep(1)
        assert locks(cluster) == [b"a", b"b"]
        ts = await client.now_ts()
        began = asyncio.get_running_loop().time()
        assert await client.snapshot(ts).get(b"a") == b"old"
        assert await client.snapshot(ts).batch_get([b"a", b"b"]) == {b"a": b"old", b"b": b"old"}
        assert [pair async for pair in client.snapshot(ts).scan(b"", b"")] == [(b"a", b"old"), (b"b", b"old")]
        assert asyncio.get_running_loop().time() - began < 0.5
        commit_ts = await writing
        assert commit_ts > ts
        assert await client.snapshot(ts).get(b"a") == b"old"

    with_cluster(scenario, options=TWO_PHASES)


def test_a_reader_waits_for_a_living_async_commit() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g")
        cluster.fault("Prewrite", delay_s=1, when=lambda request: request.mutations[0].key == b"h")
        writing = asyncio.ensure_future(put_all(client, {b"a": b"1", b"h": b"1"}))
        await asyncio.sleep(0.5)
        found = await read(client, b"a")
        assert found is None or found == b"1"
        await writing
        assert await read_all(client) == {b"a": b"1", b"h": b"1"}

    with_cluster(scenario, options=ASYNC)


def test_pessimistic_locks_wait_and_see_the_newest_value() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g")
        await put_all(client, {b"a": b"1", b"h": b"1"})
        first = await client.begin()
        second = await client.begin()
        values: dict[bytes, bytes | None] = {}
        ts = await client.now_ts()
        assert await first.lock_keys([b"h", b"a", b"n"], for_update_ts=ts, wait_ms=0, values=values) == [
            b"h",
            b"a",
            b"n",
        ]
        assert values == {b"a": b"1", b"h": b"1", b"n": None}
        with pytest.raises(LockNowait):
            await second.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        began = asyncio.get_running_loop().time()
        with pytest.raises(LockWaitTimeout):
            await second.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=2500)
        assert 2.4 < asyncio.get_running_loop().time() - began < 4
        waiting = asyncio.ensure_future(second.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=20_000))
        await asyncio.sleep(3)
        assert not waiting.done()
        first.put(b"a", b"2")
        await first.commit()
        with pytest.raises(WriteConflict):
            await waiting
        assert locks(cluster) == []
        await second.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0, values=values)
        assert values[b"a"] == b"2"
        second.put(b"a", b"3")
        second.put(b"z", b"3")
        await second.commit()
        await client.drain()
        assert await read_all(client) == {b"a": b"3", b"h": b"1", b"z": b"3"}
        assert locks(cluster) == []

    with_cluster(scenario)


@pytest.mark.parametrize("tells_existence", [True, False])
def test_a_lock_tells_whether_its_key_exists(tells_existence: bool) -> None:
    """Also on a store that tells it only with the value, which it is then asked for."""

    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.txn.tells_existence = tells_existence
        cluster.split(b"g")
        await put_all(client, {b"a": b"1", b"h": b"1"})
        txn = await client.begin()
        await txn.lock_keys([b"a", b"b", b"h", b"n"], for_update_ts=await client.now_ts(), wait_ms=0)
        assert txn._locks.held == {b"a": True, b"b": False, b"h": True, b"n": False}
        txn.insert(b"a", b"2")
        with pytest.raises(KeyExists):
            await txn.commit()

    with_cluster(scenario)


@pytest.mark.parametrize("tells_existence", [True, False])
def test_locks_bring_the_newest_values(tells_existence: bool) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.txn.tells_existence = tells_existence
        cluster.split(b"g")
        await put_all(client, {b"a": b"1", b"h": b"1", b"i": b"1"})
        txn = await client.begin()
        txn.put(b"h", b"own")
        txn.delete(b"i")
        found = await txn.lock_and_get([b"n", b"h", b"a", b"i"], wait_ms=0)
        assert list(found.items()) == [(b"h", b"own"), (b"a", b"1")]
        assert locks(cluster) == [b"a", b"h", b"i", b"n"]
        # what is held already is read
        assert await txn.lock_and_get([b"a", b"b"], wait_ms=0) == {b"a": b"1"}
        await txn.rollback()

        behind = await client.begin()
        await put_all(client, {b"a": b"2"})
        with pytest.raises(WriteConflict):
            await behind.lock_and_get([b"a"], wait_ms=0)
        assert locks(cluster) == []
        assert await behind.lock_and_get([b"a"], wait_ms=0) == {b"a": b"2"}
        assert await behind.lock_and_get([b"a"], wait_ms=0) == {b"a": b"2"}
        assert await behind.get(b"a") == b"1"
        behind.put(b"a", b"3")
        await behind.commit()

        optimistic = await client.begin(pessimistic=False)
        assert await optimistic.lock_and_get([b"a", b"b"], wait_ms=0) == {b"a": b"3"}
        assert locks(cluster) == []
        await put_all(client, {b"a": b"4"})
        optimistic.put(b"z", b"1")
        with pytest.raises(WriteConflict):
            await optimistic.commit()

    with_cluster(scenario)


def test_skip_locked_returns_the_free_keys() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        first = await client.begin()
        second = await client.begin()
        await first.lock_keys([b"b"], for_update_ts=await client.now_ts(), wait_ms=0)
        ts = await client.now_ts()
        assert await second.lock_keys([b"c", b"b", b"a"], for_update_ts=ts, wait_ms=0, skip_locked=True) == [b"c", b"a"]
        await second.rollback()
        await first.rollback()
        assert locks(cluster) == []

    with_cluster(scenario)


def test_a_failed_lock_call_gives_back_what_it_took_and_keeps_what_was_held() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g", b"m")
        other = await client.begin()
        await other.lock_keys([b"t"], for_update_ts=await client.now_ts(), wait_ms=0)
        txn = await client.begin()
        with pytest.raises(LockNowait):
            await txn.lock_keys([b"a", b"h", b"t"], for_update_ts=await client.now_ts(), wait_ms=0)
        assert locks(cluster) == [b"t"]
        await txn.lock_keys([b"b"], for_update_ts=await client.now_ts(), wait_ms=0)
        with pytest.raises(LockNowait):
            await txn.lock_keys([b"a", b"b", b"h", b"t"], for_update_ts=await client.now_ts(), wait_ms=0)
        assert locks(cluster) == [b"b", b"t"]
        await txn.rollback()
        await other.rollback()
        assert locks(cluster) == []

    with_cluster(scenario)


def test_a_deadlock_has_a_victim_and_the_other_goes_on() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g")
        first = await client.begin()
        second = await client.begin()
        await first.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        await second.lock_keys([b"h"], for_update_ts=await client.now_ts(), wait_ms=0)
        waiting = asyncio.ensure_future(first.lock_keys([b"h"], for_update_ts=await client.now_ts(), wait_ms=10_000))
        await asyncio.sleep(0.1)
        with pytest.raises(Deadlock) as found:
            await second.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=10_000)
        assert {edge[0] for edge in found.value.wait_chain} == {first.start_ts, second.start_ts}
        await second.rollback()
        assert await waiting == [b"h"]
        first.put(b"h", b"1")
        await first.commit()
        assert await read(client, b"h") == b"1"

    with_cluster(scenario)


def test_heartbeats_keep_a_long_transaction_alive_and_its_end_frees_it() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        txn = await client.begin()
        await txn.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        other = await client.begin()
        for _ in range(9):
            await asyncio.sleep(10)
            cluster.pd.pass_time(10_000)
            with pytest.raises(LockNowait):
                await other.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        assert len(cluster.sent("TxnHeartBeat")) >= 8
        txn.put(b"a", b"1")
        await txn.commit()
        beats = len(cluster.sent("TxnHeartBeat"))
        await asyncio.sleep(60)
        assert len(cluster.sent("TxnHeartBeat")) == beats
        assert await read(client, b"a") == b"1"

    with_cluster(scenario)


def test_heartbeats_go_on_after_the_placement_driver_refused_a_lookup() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.pd.follows_clock = True
        txn = await client.begin()
        await txn.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        client.regions.clear()
        cluster.pd.refused["GetRegion"] = None
        await asyncio.sleep(12)
        assert cluster.sent("TxnHeartBeat") == []
        cluster.pd.refused.clear()
        await asyncio.sleep(60)
        other = await client.begin()
        with pytest.raises(LockNowait):
            await other.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        await txn.rollback()
        assert not locks(cluster)

    with_cluster(scenario)


@pytest.mark.parametrize("refused", [False, True], ids=["committed", "refused"])
def test_what_a_cancelled_lock_call_may_have_locked_is_given_back_by_the_commit(refused: bool) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        def refuse(commit_ts: int) -> None:
            if refused:
                raise CommitRejected("schema changed")

        txn = await client.begin()
        await txn.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        cluster.fault("PessimisticLock", lose_answer=True, delay_s=3)
        locking = asyncio.create_task(txn.lock_keys([b"z"], for_update_ts=await client.now_ts(), wait_ms=0))
        await asyncio.sleep(4)
        locking.cancel()
        await asyncio.gather(locking, return_exceptions=True)
        txn.put(b"a", b"1")
        await asyncio.gather(txn.commit(refuse), return_exceptions=True)
        await client.drain()
        assert locks(cluster) == []
        assert await read_all(client) == ({} if refused else {b"a": b"1"})

    with_cluster(scenario)


def test_a_dropped_transaction_is_not_kept_alive() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.pd.follows_clock = True

        async def forget_it() -> None:
            txn = await client.begin()
            await txn.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)

        await forget_it()
        gc.collect()
        other = await client.begin()
        began = asyncio.get_running_loop().time()
        await other.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=60_000)
        assert asyncio.get_running_loop().time() - began < 25
        # open when the client closes
        assert cluster.sent("TxnHeartBeat") == []

    with_cluster(scenario)


@pytest.mark.parametrize("options", [Options(), ASYNC, TWO_PHASES], ids=["1pc", "async", "2pc"])
def test_a_commit_refused_before_it_began_gives_its_pessimistic_locks_back(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        def refuse(commit_ts: int) -> None:
            raise CommitRejected("schema changed")

        txn = await client.begin()
        await txn.lock_keys([b"a", b"b"], for_update_ts=await client.now_ts(), wait_ms=0)
        txn.put(b"a", b"1")
        with pytest.raises(CommitRejected):
            await txn.commit(refuse)
        await client.drain()
        assert locks(cluster) == []
        assert await read_all(client) == {}

    with_cluster(scenario, options=options)


def test_a_dead_clients_pessimistic_lock_expires() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g")
        dead = await connect(cluster)
        txn = await dead.begin()
        await txn.lock_keys([b"a", b"h"], for_update_ts=await client.now_ts(), wait_ms=0)
        txn._keep_alive.stop()
        await dead.close()
        assert await read_all(client) == {}
        other = await client.begin()
        with pytest.raises(LockNowait):
            await other.lock_keys([b"h"], for_update_ts=await client.now_ts(), wait_ms=0)
        cluster.pd.pass_time(DEAD_MS)
        await other.lock_keys([b"h"], for_update_ts=await client.now_ts(), wait_ms=0)
        await put_all(client, {b"a": b"1"})
        other.put(b"h", b"2")
        await other.commit()
        await client.drain()
        assert await read_all(client) == {b"a": b"1", b"h": b"2"}
        assert locks(cluster) == []

    with_cluster(scenario)


def test_a_pessimistic_insert_is_checked_when_it_is_locked_and_when_it_is_not() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        txn = await client.begin()
        await txn.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        txn.insert(b"a", b"2")
        with pytest.raises(KeyExists):
            await txn.commit()
        await client.drain()
        assert locks(cluster) == []
        txn = await client.begin()
        await put_all(client, {b"late": b"1"})
        txn.insert(b"late", b"2")
        with pytest.raises(KeyExists):
            await txn.commit()
        txn = await client.begin()
        txn.insert(b"new", b"2")
        await put_all(client, {b"new": b"1"})
        other = await client.begin(pessimistic=False)
        other.delete(b"new")
        await other.commit()
        await txn.commit()
        assert await read(client, b"new") == b"2"

    with_cluster(scenario)


def test_gc_settles_old_locks_and_moves_the_safe_point() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g", b"m")
        await put_all(client, {b"a": b"old", b"t": b"old"})
        await die_in_commit(cluster, ASYNC, "Commit", 0, {b"a": b"new", b"t": b"new"})
        alive = await client.begin()
        await alive.lock_keys([b"x"], for_update_ts=await client.now_ts(), wait_ms=0)
        safe_point = await client.now_ts()
        with pytest.raises(LocksUnresolved):
            await client.gc(safe_point)
        assert cluster.pd.safe_point == 0
        await alive.rollback()
        cluster.pd.pass_time(DEAD_MS)
        assert await client.gc(safe_point) == safe_point
        assert locks(cluster) == []
        assert await read_all(client) == {b"a": b"new", b"t": b"new"}

    with_cluster(scenario)
