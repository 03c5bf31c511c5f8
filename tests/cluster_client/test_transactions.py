"""Commits in all modes, and what is known when answers are lost."""

from __future__ import annotations

import asyncio

import pytest

from kvstore.client.cluster.cluster import Cluster
from kvstore.client.cluster.errors import RaftEntryTooLarge, RegionUnavailable, UndeterminedResult
from kvstore.client.cluster.parts import Options
from kvstore.errors import CommitRejected, KeyExists, LockWaitTimeout, TxnNotFound, TxnTooLarge, WriteConflict
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import MvccReader
from kvstore.proto import errorpb_pb2 as errorpb
from kvstore.txn import commands
from kvstore.txn.actions.acquire_pessimistic_lock import LockProperties
from tests.cluster_client.mock import MockCluster
from tests.cluster_client.world import ASYNC, TWO_PHASES, connect, put_all, read, read_all, with_cluster

MODES = pytest.mark.parametrize("options", [Options(), ASYNC, TWO_PHASES], ids=["1pc", "async", "2pc"])
SPREAD = {b"a": b"1", b"h": b"2", b"t": b"3"}


def locks(cluster: MockCluster) -> list[bytes]:
    with MvccReader(cluster.engine) as reader:
        return [key for key, _ in reader.scan_locks(TS_MAX)]


@MODES
def test_a_commit_is_read_back_in_one_region_and_in_several(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1", b"b": b"2"})
        cluster.split(b"g", b"m")
        commit_ts = await put_all(client, {b"a": b"3", b"h": b"4", b"t": b"5" * 1000})
        assert await read_all(client) == {b"a": b"3", b"b": b"2", b"h": b"4", b"t": b"5" * 1000}
        assert await client.snapshot(commit_ts - 1).get(b"a") == b"1"
        assert await client.snapshot(commit_ts).get(b"a") == b"3"
        txn = await client.begin(pessimistic=False)
        txn.delete(b"a")
        await txn.commit()
        await client.drain()
        assert await read(client, b"a") is None
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


def test_each_mode_sends_what_it_is_named_for() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        assert not cluster.sent("Commit")
        assert [request.try_one_pc for request in cluster.sent("Prewrite")] == [True]
        cluster.split(b"m")
        cluster.log.clear()
        await put_all(client, {b"a": b"1", b"z": b"2"})
        prewrites = cluster.sent("Prewrite")
        assert [(one.try_one_pc, one.use_async_commit) for one in prewrites if one.mutations[0].key == b"z"] == [
            (False, True)
        ]
        primary = next(one for one in prewrites if one.mutations[0].key == b"a" and not one.try_one_pc)
        assert list(primary.secondaries) == [b"z"]

    with_cluster(scenario)


@MODES
def test_a_store_that_declines_gets_two_phases(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.txn.no_async_commit = True
        cluster.split(b"g")
        await put_all(client, SPREAD)
        await put_all(client, {b"a": b"9"})
        assert await read_all(client) == {**SPREAD, b"a": b"9"}
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


@MODES
def test_the_second_of_two_writers_of_a_key_conflicts_and_leaves_nothing(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g")
        first = await client.begin(pessimistic=False)
        second = await client.begin(pessimistic=False)
        first.put(b"a", b"1")
        second.put(b"a", b"2")
        second.put(b"h", b"2")
        await first.commit()
        with pytest.raises(WriteConflict):
            await second.commit()
        await client.drain()
        assert await read_all(client) == {b"a": b"1"}
        assert locks(cluster) == []
        with pytest.raises(TxnNotFound):
            second.put(b"x", b"")

    with_cluster(scenario, options=options)


@MODES
def test_a_pessimistic_write_without_a_lock_comes_after_what_was_committed_before_it(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        blind = await client.begin(pessimistic=True)
        blind.put(b"a", b"blind")
        other = await client.begin(pessimistic=False)
        other.put(b"a", b"other")
        committed = await other.commit()
        assert await blind.commit() > committed
        assert await read(client, b"a") == b"blind"

    with_cluster(scenario, options=options)


@MODES
def test_an_insert_of_a_live_key_is_refused(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"a": b"1"})
        for pessimistic in (True, False):
            txn = await client.begin(pessimistic=pessimistic)
            txn.insert(b"a", b"2")
            txn.put(b"b", b"2")
            with pytest.raises(KeyExists):
                await txn.commit()
            await client.drain()
        assert await read_all(client) == {b"a": b"1"}
        assert locks(cluster) == []
        txn = await client.begin()
        txn.insert(b"n", b"2")
        await txn.commit()
        assert await read(client, b"n") == b"2"

    with_cluster(scenario, options=options)


@MODES
@pytest.mark.parametrize("name", ["Prewrite", "Commit"])
@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("what", ["lose_request", "lose_answer"])
def test_lost_messages_are_made_good(options: Options, name: str, skip: int, what: str) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g", b"m")
        cluster.fault(name, skip=skip, **{what: True})
        await put_all(client, SPREAD)
        await put_all(client, {b"a": b"9"})
        assert await read_all(client) == {**SPREAD, b"a": b"9"}
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


@MODES
def test_a_split_and_a_moved_leader_in_the_middle_of_a_commit(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, {b"x": b""})
        cluster.fault("Prewrite", before=lambda: cluster.split(b"g", tell=False))
        cluster.fault("Commit", before=lambda: cluster.move_leader(b"a", 2))
        cluster.fault("Commit", skip=1, before=lambda: cluster.split(b"c", b"t", tell=False))
        await put_all(client, SPREAD)
        assert await read_all(client) == {**SPREAD, b"x": b""}
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


def test_a_commit_whose_answers_are_all_lost_is_decided_by_asking_the_primary() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g")
        # executed the first time, never answered
        cluster.fault("Commit", lose_answer=True)
        cluster.fault("Commit", lose_request=True, times=100)
        commit_ts = await put_all(client, {b"a": b"1", b"h": b"1"})
        cluster.faults.clear()
        assert await client.snapshot(commit_ts).get(b"a") == b"1"
        # never executed: rolled back for good, and the caller knows
        cluster.fault("Commit", lose_request=True, times=100)
        with pytest.raises(RegionUnavailable, match="gave up"):
            await put_all(client, {b"a": b"2", b"h": b"2"})
        cluster.faults.clear()
        await client.drain()
        assert await read_all(client) == {b"a": b"1", b"h": b"1"}
        assert locks(cluster) == []

    with_cluster(scenario, options=TWO_PHASES)


@MODES
def test_an_outcome_that_nobody_can_tell_is_undetermined(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        name = "Commit" if options is TWO_PHASES else "Prewrite"
        cluster.fault(name, lose_answer=True, times=1)
        cluster.fault(name, lose_request=True, times=1000)
        cluster.fault("CheckTxnStatus", lose_request=True, times=1000)
        with pytest.raises(UndeterminedResult):
            await put_all(client, {b"a": b"1"})
        cluster.faults.clear()
        other = await connect(cluster)
        cluster.pd.pass_time(600_000)
        assert await read(other, b"a") == b"1"
        await other.close()

    with_cluster(scenario, options=options)


@pytest.mark.parametrize("options", [Options(), ASYNC], ids=["1pc", "async"])
def test_lost_prewrites_of_early_commits_are_decided_by_asking(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.fault("Prewrite", lose_answer=True)
        cluster.fault("Prewrite", lose_request=True, times=1000)
        await put_all(client, {b"a": b"1", b"b": b"2"})
        cluster.faults.clear()
        assert await read_all(client) == {b"a": b"1", b"b": b"2"}
        cluster.fault("Prewrite", lose_request=True, times=1000)
        with pytest.raises(RegionUnavailable, match="gave up"):
            await put_all(client, {b"a": b"3"})
        cluster.faults.clear()
        assert await read_all(client) == {b"a": b"1", b"b": b"2"}
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


def test_a_repeated_prewrite_that_meets_a_later_lock_may_have_been_committed_before() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        def settle_and_lock() -> None:
            lock = cluster.txn.load_lock(b"a")
            assert lock is not None
            cluster.txn.execute(commands.ResolveLock((b"a",), lock.start_ts, lock.min_commit_ts))
            later = LockProperties(cluster.pd.ts(), b"a", 3000, cluster.pd.ts())
            cluster.txn.execute(commands.AcquirePessimisticLock(later, (b"a",)))

        cluster.fault("Prewrite", lose_answer=True, after=lambda: cluster.move_leader(b"a", 2))
        cluster.fault("Prewrite", before=settle_and_lock, when=lambda request: request.context.peer.store_id == 2)
        txn = await client.begin(pessimistic=False)
        txn.put(b"a", b"1")
        commit_ts = await txn.commit()
        assert await client.snapshot(commit_ts).get(b"a") == b"1"
        assert await client.snapshot(commit_ts - 1).get(b"a") is None

    with_cluster(scenario, options=ASYNC)


@MODES
def test_a_check_that_refuses_aborts_the_commit(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        def refuse(commit_ts: int) -> None:
            assert commit_ts > txn.start_ts
            raise CommitRejected("schema changed")

        txn = await client.begin(pessimistic=False)
        txn.put(b"a", b"1")
        with pytest.raises(CommitRejected):
            await txn.commit(refuse)
        await client.drain()
        assert await read_all(client) == {}
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


def test_a_commit_ts_below_what_a_reader_saw_is_drawn_anew() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        other = await connect(cluster)
        seen: list[bytes | None] = []

        def read_between() -> None:
            async def look() -> None:
                seen.append(await read(other, b"a"))

            tasks.append(asyncio.ensure_future(look()))

        tasks: list[asyncio.Future[None]] = []
        await put_all(client, {b"a": b"old"})
        cluster.fault("Commit", before=read_between, delay_s=1)
        await put_all(client, {b"a": b"new"})
        await asyncio.gather(*tasks)
        assert seen == [b"old"]
        assert len(cluster.sent("Commit")) >= 2
        assert await read(client, b"a") == b"new"
        await other.close()

    with_cluster(scenario, options=TWO_PHASES)


def test_a_large_transaction_goes_in_batches_and_is_settled_by_region() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"k0300", b"k0600")
        pairs = {b"k%04d" % n: b"v" * 400 for n in range(900)}
        cluster.fault("Commit", skip=1, lose_request=True, times=1000)
        txn = await client.begin(pessimistic=False)
        for key, value in pairs.items():
            txn.put(key, value)
        await txn.commit()
        prewrites = cluster.sent("Prewrite")
        assert len(prewrites) > 10
        assert max(request.ByteSize() for request in prewrites) < 64 << 10
        other = await connect(cluster)
        assert await read_all(other) == pairs
        assert len(cluster.sent("ResolveLock")) < 60
        await other.close()

    with_cluster(scenario, options=Options())


def test_limits_on_size_are_errors_at_once() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        txn = await client.begin(pessimistic=False)
        with pytest.raises(TxnTooLarge, match="an entry of"):
            txn.put(b"k", bytes(1001))
        for n in range(3):
            txn.put(b"k%d" % n, bytes(900))
        with pytest.raises(TxnTooLarge, match="transaction is over"):
            txn.put(b"k9", bytes(900))
        await txn.rollback()

    with_cluster(scenario, options=Options(entry_bytes_max=1000, txn_bytes_max=3000))


def test_a_write_too_large_for_the_log_is_not_tried_again() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        error = errorpb.Error(raft_entry_too_large=errorpb.RaftEntryTooLarge(region_id=1, entry_size=9))
        fault = cluster.fault("Prewrite", error=error, times=5)
        with pytest.raises(RaftEntryTooLarge):
            await put_all(client, {b"a": b"1"})
        assert fault.times == 4

    with_cluster(scenario)


@MODES
def test_an_insert_that_was_deleted_again_is_only_a_check(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        txn = await client.begin(pessimistic=False)
        txn.insert(b"a", b"1")
        txn.delete(b"a")
        assert await txn.commit() == txn.start_ts
        await put_all(client, {b"a": b"2"})
        txn = await client.begin(pessimistic=False)
        txn.insert(b"a", b"1")
        txn.delete(b"a")
        txn.put(b"b", b"1")
        with pytest.raises(KeyExists):
            await txn.commit()
        await client.drain()
        assert await read_all(client) == {b"a": b"2"}
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


@MODES
def test_a_commit_waits_for_a_living_lock_as_long_as_it_may(options: Options) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.pd.follows_clock = True
        holder = await client.begin()
        await holder.lock_keys([b"a"], for_update_ts=await client.now_ts(), wait_ms=0)
        txn = await client.begin(pessimistic=False)
        txn.lock_wait_ms = 3000
        txn.put(b"a", b"1")
        txn.put(b"b", b"1")
        began = asyncio.get_running_loop().time()
        with pytest.raises(LockWaitTimeout):
            await txn.commit()
        assert 2.9 < asyncio.get_running_loop().time() - began < 4.5
        txn = await client.begin(pessimistic=False)
        txn.put(b"a", b"2")
        waiting = asyncio.ensure_future(txn.commit())
        await asyncio.sleep(35)
        await holder.rollback()
        assert await waiting > txn.start_ts
        await client.drain()
        assert await read_all(client) == {b"a": b"2"}
        assert locks(cluster) == []

    with_cluster(scenario, options=options)


def test_a_cancelled_commit_leaves_nothing_half_done() -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        cluster.split(b"g")
        for name in ("Prewrite", "Commit"):
            cluster.fault(name, delay_s=1)
            task = asyncio.ensure_future(put_all(client, {b"a": name.encode(), b"h": name.encode()}))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await client.drain()
            assert locks(cluster) == []
            found = await read_all(client)
            assert found in ({}, {b"a": name.encode(), b"h": name.encode()})

    with_cluster(scenario, options=TWO_PHASES)


@MODES
@pytest.mark.parametrize("pessimistic", [False, True])
@pytest.mark.parametrize("writes", [False, True])
def test_a_witnessed_key_conflicts_with_an_optimistic_write(options: Options, pessimistic: bool, writes: bool) -> None:
    async def scenario(cluster: MockCluster, client: Cluster) -> None:
        await put_all(client, SPREAD)
        cluster.split(b"g")
        removal = await client.begin(pessimistic=False)
        removal.delete(b"a")
        witness = await client.begin(pessimistic=pessimistic)
        if pessimistic:
            await witness.lock_and_get([b"a", b"h"], wait_ms=0)
        witness.witness([b"a", b"h"])
        if writes:
            witness.put(b"t", b"9")
        assert await witness.commit() > removal.start_ts
        with pytest.raises(WriteConflict):
            await removal.commit()
        await client.drain()
        assert await read_all(client) == SPREAD | ({b"t": b"9"} if writes else {})
        assert locks(cluster) == []

    with_cluster(scenario, options=options)
