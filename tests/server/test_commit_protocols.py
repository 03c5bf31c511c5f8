"""1PC, async commit, retries, assertions, and what others may ask of a transaction."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvstore.mvcc.keys import TS_MAX
from kvstore.proto import kvrpcpb_pb2 as pb
from tests.server.ends import NOW_MS, Node, everywhere, serving

Action, Op = pb.Action, pb.Op


async def one_pc(node: Node, start_ts: int, key: bytes = b"a", **options: Any) -> pb.PrewriteResponse:
    return await node.prewrite(start_ts, {key: b"v%d" % start_ts}, try_one_pc=True, **options)


def test_one_phase_commits_after_every_read() -> None:
    async def test(node: Node) -> None:
        await node.get(b"a", 500)
        response = await one_pc(node, 10)
        assert response.one_pc_commit_ts == 501
        assert (await node.get(b"a", 500)).not_found
        assert (await node.get(b"a", 501)).value == b"v10"
        again = await one_pc(node, 10, context=pb.Context(is_retry_request=True))
        assert again.one_pc_commit_ts == 501

    everywhere(test)


def test_reads_of_the_greatest_timestamp_raise_nothing() -> None:
    async def test(node: Node) -> None:
        await node.get(b"a", (1 << 64) - 1)
        assert (await one_pc(node, 10)).one_pc_commit_ts == 11
        far = (NOW_MS + 10 * 3_600_000) << 18
        assert "future" in (await node.get(b"a", far)).error.abort
        assert (await one_pc(node, 20)).one_pc_commit_ts == 21
        # the clock here is slow: the oracle knows
        node.directory.ts = far
        assert (await node.get(b"a", far)).value == b"v20"

    serving(test)


def test_over_max_commit_ts_it_becomes_two_phases() -> None:
    async def test(node: Node) -> None:
        await node.get(b"a", 500)
        response = await one_pc(node, 10, max_commit_ts=400)
        assert (response.min_commit_ts, response.one_pc_commit_ts) == (0, 0)
        assert (await node.get(b"a", 20)).error.locked.use_async_commit is False
        response = await node.prewrite(11, {b"b": b"1"}, use_async_commit=True, max_commit_ts=400)
        assert response.min_commit_ts == 0
        assert not (await node.get(b"b", 20)).error.locked.use_async_commit

    everywhere(test)


def test_async_commit_tells_the_least_commit_ts_again_and_again() -> None:
    async def test(node: Node) -> None:
        await node.get(b"a", 500)
        for _ in range(2):
            response = await node.prewrite(10, {b"a": b"1", b"b": b"2"}, use_async_commit=True, secondaries=[b"b"])
            assert response.min_commit_ts == 501
        assert (await node.get(b"a", 501)).error.locked.secondaries == [b"b"]
        assert (await node.get(b"a", 500)).not_found
        expired = (await node.commit(10, 400, b"a")).error.commit_ts_expired
        assert (expired.attempted_commit_ts, expired.min_commit_ts) == (400, 501)
        await node.commit(10, 501, b"a", b"b")
        response = await node.prewrite(10, {b"a": b"1", b"b": b"2"}, use_async_commit=True, secondaries=[b"b"])
        assert (response.min_commit_ts, list(response.errors)) == (501, [])

    everywhere(test)


def test_a_new_leader_refuses_until_it_has_a_timestamp() -> None:
    async def test(node: Node) -> None:
        node.directory.available.clear()
        node.store.set_leader(1, node.store.leaders[1])
        assert (await one_pc(node, 10)).region_error.HasField("max_timestamp_not_synced")
        assert not (await node.prewrite(10, {b"a": b"1"})).errors
        await node.commit(10, 11, b"a")
        node.directory.ts = 5000
        node.directory.available.set()
        await asyncio.sleep(0.01)
        assert (await one_pc(node, 20)).one_pc_commit_ts > 5000

    serving(test)


def test_the_secondaries_of_an_async_commit_say_whether_it_is_complete() -> None:
    async def ask(node: Node, start_ts: int, *keys: bytes) -> pb.CheckSecondaryLocksResponse:
        request = pb.CheckSecondaryLocksRequest(start_version=start_ts, keys=keys)
        response: pb.CheckSecondaryLocksResponse = await node.call("KvCheckSecondaryLocks", request)
        return response

    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1", b"b": b"2"}, use_async_commit=True, secondaries=[b"b"])
        assert [lock.key for lock in (await ask(node, 10, b"a", b"b")).locks] == [b"a", b"b"]
        rolled_back = await ask(node, 10, b"b", b"c")
        assert (list(rolled_back.locks), rolled_back.commit_ts) == ([], 0)
        late = await node.prewrite(10, {b"c": b"3"}, primary_lock=b"a", use_async_commit=True)
        assert late.errors[0].conflict.reason == pb.WriteConflict.Reason.SelfRolledBack
        await node.commit(10, 700, b"a")
        assert (await ask(node, 10, b"b", b"a")).commit_ts == 700
        await node.lock(30, b"d")
        assert list((await ask(node, 30, b"d")).locks) == []
        assert (await node.lock(31, b"d")).errors == []

    everywhere(test)


async def status(node: Node, key: bytes, lock_ts: int, **options: Any) -> pb.CheckTxnStatusResponse:
    request = pb.CheckTxnStatusRequest(primary_key=key, lock_ts=lock_ts, **options)
    response: pb.CheckTxnStatusResponse = await node.call("KvCheckTxnStatus", request)
    return response


def test_who_may_read_past_a_lock() -> None:
    """A reader above the min_commit_ts pushes that up; who reads the newest needs no push; a writer gets none."""

    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1"}, min_commit_ts=11)
        await node.prewrite(20, {b"z": b"1"})
        await node.lock(30, b"p")
        for key, lock_ts in ((b"a", 10), (b"z", 20), (b"p", 30)):
            writer = await status(node, key, lock_ts, current_ts=60)
            newest = await status(node, key, lock_ts, caller_start_ts=TS_MAX, current_ts=60)
            assert (writer.action, newest.action) == (Action.NoAction, Action.MinCommitTSPushed), key
        assert (await status(node, b"z", 20, caller_start_ts=50, current_ts=60)).action == Action.NoAction
        assert (await status(node, b"a", 10, caller_start_ts=50, current_ts=60)).lock_info.min_commit_ts == 60

    everywhere(test)


def test_the_status_of_a_transaction() -> None:
    late = 10_000 << 18

    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1", b"b": b"2"}, min_commit_ts=11)
        alive = await status(node, b"a", 10, caller_start_ts=50, current_ts=60)
        assert (alive.lock_ttl, alive.action, alive.lock_info.min_commit_ts) == (3000, Action.MinCommitTSPushed, 60)
        assert (await node.get(b"a", 55)).not_found
        asked_elsewhere = await status(node, b"b", 10, current_ts=60, verify_is_primary=True)
        assert asked_elsewhere.error.primary_mismatch.lock_info.primary_lock == b"a"
        expired = await status(node, b"a", 10, current_ts=late)
        assert (expired.action, expired.lock_ttl, expired.commit_version) == (Action.TTLExpireRollback, 0, 0)
        again = await status(node, b"a", 10, current_ts=late)
        assert (again.action, again.lock_ttl, again.commit_version) == (Action.NoAction, 0, 0)
        await node.put(100, 110, c="1")
        assert (await status(node, b"c", 100)).commit_version == 110
        missing = (await status(node, b"x", 7)).error.txn_not_found
        assert (missing.start_ts, missing.primary_key) == (7, b"x")
        gone = await status(node, b"x", 7, resolving_pessimistic_lock=True)
        assert gone.action == Action.LockNotExistDoNothing
        assert (await status(node, b"x", 7, rollback_if_not_exist=True)).action == Action.LockNotExistRollback
        await node.lock(20, b"p")
        held = await status(node, b"p", 20, current_ts=late, resolving_pessimistic_lock=True)
        assert held.action == Action.TTLExpirePessimisticRollback

    everywhere(test)


def test_an_async_commit_is_not_rolled_back_for_its_age_unless_forced() -> None:
    late = 10_000 << 18

    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1"}, use_async_commit=True)
        alive = await status(node, b"a", 10, current_ts=late)
        assert (alive.lock_ttl, alive.action, alive.lock_info.use_async_commit) == (3000, Action.NoAction, True)
        forced = await status(node, b"a", 10, current_ts=late, force_sync_commit=True)
        assert forced.action == Action.TTLExpireRollback

    everywhere(test)


def test_heartbeat_cleanup_and_rollback() -> None:
    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1"})
        beat = pb.TxnHeartBeatRequest(primary_lock=b"a", start_version=10, advise_lock_ttl=9000)
        assert (await node.call("KvTxnHeartBeat", beat)).lock_ttl == 9000
        beat.advise_lock_ttl = 100
        assert (await node.call("KvTxnHeartBeat", beat)).lock_ttl == 9000
        cleanup = pb.CleanupRequest(key=b"a", start_version=10, current_ts=1 << 18)
        assert (await node.call("KvCleanup", cleanup)).error.locked.lock_version == 10
        cleanup.current_ts = 0
        assert await node.call("KvCleanup", cleanup) == pb.CleanupResponse()
        assert (await node.call("KvTxnHeartBeat", beat)).error.txn_not_found.start_ts == 10
        await node.put(20, 30, b="1")
        cleanup = pb.CleanupRequest(key=b"b", start_version=20)
        assert (await node.call("KvCleanup", cleanup)).commit_version == 30
        rollback = await node.call("KvBatchRollback", pb.BatchRollbackRequest(start_version=20, keys=[b"b"]))
        assert "committed" in rollback.error.abort
        assert (await node.commit(20, 20, b"b")).error.abort

    everywhere(test)


@pytest.mark.parametrize("count", [3, 700])
def test_a_whole_region_is_resolved(count: int) -> None:
    async def test(node: Node) -> None:
        names = [b"k%04d" % at for at in range(count)]
        await node.prewrite(10, dict.fromkeys(names, b"v"), primary_lock=names[0])
        await node.prewrite(11, {b"other": b"1"})
        await node.prewrite(12, {b"third": b"1"})
        await node.call("KvResolveLock", pb.ResolveLockRequest(start_version=10, commit_version=20))
        scan = pb.ScanRequest(limit=2000, version=30)
        response = await node.call("KvScan", scan)
        assert sum(pair.value == b"v" for pair in response.pairs) == count
        infos = [pb.TxnInfo(txn=11, status=0), pb.TxnInfo(txn=12, status=25)]
        await node.call("KvResolveLock", pb.ResolveLockRequest(txn_infos=infos))
        assert (await node.get(b"other", 30)).not_found
        assert (await node.get(b"third", 30)).value == b"1"
        wrong = await node.call("KvResolveLock", pb.ResolveLockRequest(start_version=10, commit_version=9))
        assert wrong.error.abort

    everywhere(test)


def test_given_keys_are_resolved_and_locks_are_scanned() -> None:
    async def locks(node: Node, **options: Any) -> list[bytes]:
        response = await node.call("KvScanLock", pb.ScanLockRequest(**{"max_version": 100, **options}))
        return [lock.key for lock in response.locks]

    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1", b"b": b"2", b"c": b"3"})
        await node.prewrite(50, {b"d": b"1"})
        assert await locks(node) == [b"a", b"b", b"c", b"d"]
        assert await locks(node, max_version=49) == [b"a", b"b", b"c"]
        assert await locks(node, start_key=b"b", limit=1) == [b"b"]
        assert await locks(node, end_key=b"b") == [b"a"]
        await node.call("KvResolveLock", pb.ResolveLockRequest(start_version=10, commit_version=20, keys=[b"b"]))
        assert await locks(node) == [b"a", b"c", b"d"]
        physical = await node.call("PhysicalScanLock", pb.PhysicalScanLockRequest(max_ts=100), region=None)
        assert [lock.key for lock in physical.locks] == [b"a", b"c", b"d"]

    everywhere(test)


def test_inserts_checks_and_assertions() -> None:
    async def prewrite(node: Node, start_ts: int, mutation: pb.Mutation, **options: Any) -> pb.PrewriteResponse:
        request = pb.PrewriteRequest(mutations=[mutation], primary_lock=mutation.key, start_version=start_ts, **options)
        response: pb.PrewriteResponse = await node.call("KvPrewrite", request)
        return response

    async def test(node: Node) -> None:
        await node.put(10, 20, a="1")
        insert = await prewrite(node, 30, pb.Mutation(op=Op.Insert, key=b"a", value=b"2"))
        assert insert.errors[0].already_exist.key == b"a"
        check = pb.Mutation(op=Op.CheckNotExists, key=b"a")
        assert (await prewrite(node, 30, check)).errors[0].already_exist.key == b"a"
        check.key = b"n"
        assert not (await prewrite(node, 30, check)).errors
        assert (await node.get(b"n", 100)).not_found
        wrong = pb.Mutation(op=Op.Put, key=b"a", value=b"3", assertion=pb.Assertion.NotExist)
        (error,) = (await prewrite(node, 30, wrong, assertion_level=pb.AssertionLevel.Fast)).errors
        assert error.assertion_failed == pb.AssertionFailed(
            start_ts=30, key=b"a", assertion=pb.Assertion.NotExist, existing_start_ts=10, existing_commit_ts=20
        )
        # a pessimistic key is not read for the fast level
        for level, failed in ((pb.AssertionLevel.Fast, 0), (pb.AssertionLevel.Strict, 1)):
            wrong = pb.Mutation(op=Op.Put, key=b"q", value=b"3", assertion=pb.Assertion.Exist)
            response = await prewrite(node, 40 + level, wrong, assertion_level=level, for_update_ts=45)
            assert len(response.errors) == failed
        assert not (await prewrite(node, 50, pb.Mutation(op=Op.Put, key=b"r"), skip_constraint_check=True)).errors

    everywhere(test)


def test_prewrite_over_pessimistic_locks() -> None:
    async def prewrite(node: Node, start_ts: int, key: bytes, action: int, **options: Any) -> pb.PrewriteResponse:
        return await node.prewrite(start_ts, {key: b"v"}, for_update_ts=100, pessimistic_actions=[action], **options)

    async def test(node: Node) -> None:
        check = pb.PrewriteRequest.PessimisticAction.DO_PESSIMISTIC_CHECK
        skip = pb.PrewriteRequest.PessimisticAction.SKIP_PESSIMISTIC_CHECK
        constraint = pb.PrewriteRequest.PessimisticAction.DO_CONSTRAINT_CHECK
        await node.lock(10, b"a", for_update_ts=90)
        expected = [pb.PrewriteRequest.ForUpdateTSConstraint(index=0, expected_for_update_ts=91)]
        response = await prewrite(node, 10, b"a", check, for_update_ts_constraints=expected)
        assert "PessimisticLockNotFound" in response.errors[0].abort
        expected[0].expected_for_update_ts = 90
        assert not (await prewrite(node, 10, b"a", check, for_update_ts_constraints=expected)).errors
        await node.put(20, 30, b="1")
        assert "PessimisticLockNotFound" in (await prewrite(node, 15, b"b", check)).errors[0].abort
        assert not (await prewrite(node, 40, b"b", check)).errors  # made good: nobody wrote it since
        lazy = (await prewrite(node, 25, b"b", constraint)).errors[0]
        assert lazy.locked.key == b"b"
        await node.commit(40, 41, b"b")
        lazy = (await prewrite(node, 25, b"b", constraint)).errors[0]
        assert lazy.conflict.reason == pb.WriteConflict.Reason.LazyUniquenessCheck
        retry = pb.Context(is_retry_request=True)
        assert not (await prewrite(node, 40, b"b", skip, context=retry)).errors
        assert (await node.get(b"b", 200)).value == b"v"

    everywhere(test)


def test_a_part_of_a_prewrite_comes_with_the_actions_of_the_whole() -> None:
    """As client-rust sends it; an action too few would leave it open what to do."""

    async def test(node: Node) -> None:
        check = pb.PrewriteRequest.PessimisticAction.DO_PESSIMISTIC_CHECK
        await node.lock(10, b"a", for_update_ts=10)
        assert not (await node.prewrite(10, {b"a": b"v"}, for_update_ts=10, pessimistic_actions=[check] * 3)).errors
        pairs = {b"b": b"v", b"c": b"v"}
        response = await node.prewrite(20, pairs, for_update_ts=20, pessimistic_actions=[check])
        assert "1 actions for 2 mutations" in response.errors[0].abort

    everywhere(test)


def test_a_write_that_fails_leaves_no_lock_in_flight() -> None:
    async def test(node: Node) -> None:
        node.store.write_error = node_busy()
        assert (await one_pc(node, 10)).region_error.server_is_busy.reason == "slow"
        node.store.write_error = None
        assert (await node.get(b"a", 100)).not_found

    serving(test)


def node_busy() -> Exception:
    from kvstore.server.errors import busy

    return busy("slow")
