"""Pessimistic locks: what they return, who waits, who is woken, and when waiting ends."""

from __future__ import annotations

import asyncio

from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer
from kvstore.server.limits import ServiceLimits
from tests.server.ends import Node, everywhere, serving

FORCE = pb.PessimisticLockWakeUpMode.WakeUpModeForceLock
Result = pb.PessimisticLockKeyResultType


async def settle(turns: int = 20) -> None:
    """Lets everything run that can without time."""
    for _ in range(turns):
        await asyncio.sleep(0)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_values_and_existence() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1")
        found = await node.lock(30, b"a", b"b", return_values=True)
        assert (list(found.values), list(found.not_founds)) == ([b"1", b""], [False, True])
        found = await node.lock(30, b"a", b"b", check_existence=True)
        assert (list(found.values), list(found.not_founds)) == ([], [False, True])
        assert await node.lock(30, b"a", b"b") == pb.PessimisticLockResponse()
        await node.lock(31, b"c", return_values=True, lock_only_if_exists=True)
        assert not (await node.lock(32, b"c")).errors
        bad = await node.lock(33, b"d", lock_only_if_exists=True)
        assert bad.errors[0].abort
        conflict = (await node.lock(15, b"a")).errors[0]
        assert conflict.locked.lock_version == 30
        await node.unlock(30, b"a", b"b")
        conflict = (await node.lock(15, b"a")).errors[0].conflict
        assert (conflict.conflict_commit_ts, conflict.reason) == (20, pb.WriteConflict.Reason.PessimisticRetry)
        request = node.lock_request(40, b"a")
        request.mutations[0].assertion = pb.Assertion.NotExist
        assert (await node.call("KvPessimisticLock", request)).errors[0].already_exist.key == b"a"

    everywhere(test)


def test_without_waiting_the_lock_is_told() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a", lock_ttl=1234)
        (error,) = (await node.lock(11, b"a", wait_timeout=-1)).errors
        assert error.locked == pb.LockInfo(
            primary_lock=b"a",
            lock_version=10,
            key=b"a",
            lock_ttl=1234,
            lock_type=pb.Op.PessimisticLock,
            lock_for_update_ts=10,
        )

    everywhere(test)


def test_waiting_ends_after_its_time_with_the_lock() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        for timeout, expected in ((300, 0.3), (0, 1.0)):
            began = now()
            (error,) = (await node.lock(11, b"a", wait_timeout=timeout)).errors
            assert error.locked.lock_version == 10
            assert abs(now() - began - expected) < 0.01
        assert node.service.waits.count == 0

    everywhere(test)


def test_the_oldest_transaction_is_woken_first_and_each_in_turn() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        order: list[int] = []
        waiting = []
        for start_ts in (30, 20, 40):
            task = node.locking(start_ts, b"a")
            task.add_done_callback(lambda _, ts=start_ts: order.append(ts))
            waiting.append(task)
            await settle()
        await node.unlock(10, b"a")
        for owner in (20, 30, 40):
            await settle()
            assert order[-1] == owner
            await node.unlock(owner, b"a")
        assert order == [20, 30, 40]
        assert all(not task.result().errors for task in waiting)

    everywhere(test)


def test_after_a_commit_all_who_wait_learn_of_the_conflict() -> None:
    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1"})
        waiting = [node.locking(start_ts, b"a") for start_ts in (11, 12, 13)]
        await settle()
        await node.commit(10, 50, b"a")
        for task in waiting:
            (error,) = (await task).errors
            assert error.conflict.conflict_commit_ts == 50
        assert node.service.waits.count == 0

    everywhere(test)


def test_who_is_woken_and_fails_passes_the_turn_on() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        old, new = node.locking(11, b"a"), node.locking(12, b"a", for_update_ts=100)
        await settle()
        # the holder commits: the first fails, the second reads at a later timestamp and gets the lock
        await node.prewrite(10, {b"a": b"1"}, for_update_ts=10, pessimistic_actions=[1])
        await node.commit(10, 60, b"a")
        assert (await old).errors[0].HasField("conflict")
        assert not (await new).errors

    everywhere(test)


def test_a_lock_in_spite_of_the_conflict() -> None:
    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1"})
        first, second = node.locking(11, b"a", wake_up_mode=FORCE), node.locking(12, b"a", wake_up_mode=FORCE)
        await settle()
        await node.commit(10, 50, b"a")
        expected = pb.PessimisticLockKeyResult(
            type=Result.LockResultLockedWithConflict, value=b"1", existence=True, locked_with_conflict_ts=50
        )
        assert list((await first).results) == [expected]
        assert not second.done()
        assert list((await node.lock(11, b"a", wake_up_mode=FORCE)).results) == [expected]
        await node.unlock(11, b"a")
        assert (await second).results[0].locked_with_conflict_ts == 50
        failed = await node.lock(13, b"a", wake_up_mode=FORCE)
        assert failed.results[0].type == Result.LockResultFailed
        assert failed.errors[0].locked.lock_version == 12
        plain = await node.lock(14, b"z", wake_up_mode=FORCE, return_values=True)
        assert list(plain.results) == [pb.PessimisticLockKeyResult()]
        assert (await node.lock(15, b"x", b"y", wake_up_mode=FORCE)).errors[0].abort

    everywhere(test)


def test_a_transfer_of_leadership_ends_the_waits() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        await node.lock(10, b"z")
        waiting, moved = node.locking(11, b"a"), node.locking(12, b"z")
        await settle()
        # a split gives the wait for z to another region
        await node.call("SplitRegion", pb.SplitRegionRequest(split_keys=[b"m"]))
        node.store.set_leader(1, Peer(id=99, store_id=9))
        assert (await waiting).region_error.not_leader.leader.id == 99
        assert not moved.done()
        node.store.set_leader(2, Peer(id=99, store_id=9))
        assert (await moved).HasField("region_error")

    serving(test)


def test_the_table_of_waits_is_told_and_bounded() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        waiting = node.locking(11, b"a")
        await asyncio.sleep(0.25)
        info = await node.call("GetLockWaitInfo", pb.GetLockWaitInfoRequest())
        (entry,) = info.entries
        assert (entry.txn, entry.wait_for_txn, entry.key, entry.wait_time) == (11, 10, b"a", 250)
        assert (await node.lock(12, b"a", wait_timeout=1000)).errors[0].locked.lock_version == 10
        assert now() == 0.25  # the queue is full: it did not wait
        await node.unlock(10, b"a")
        assert not (await waiting).errors

    everywhere(test, limits=ServiceLimits(lock_waiters_max=1))


def test_a_circle_of_two_fails_who_closes_it() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        await node.lock(20, b"b")
        first = node.locking(10, b"b")
        await settle()
        (error,) = (await node.locking(20, b"a")).errors
        chain = [(edge.txn, edge.wait_for_txn, edge.key) for edge in error.deadlock.wait_chain]
        assert chain == [(10, 20, b"b"), (20, 10, b"a")]
        assert (error.deadlock.lock_ts, error.deadlock.lock_key) == (10, b"a")
        assert error.deadlock.deadlock_key == b"b"
        assert error.deadlock.deadlock_key_hash == error.deadlock.wait_chain[0].key_hash
        await node.unlock(20, b"b")
        assert not (await first).errors

    everywhere(test)


def test_a_circle_of_three_through_a_lock_that_changed_hands() -> None:
    async def test(node: Node) -> None:
        for start_ts, key in ((10, b"a"), (20, b"b"), (30, b"c")):
            await node.lock(start_ts, key)
        node.locking(20, b"a")
        third = node.locking(30, b"a")
        await settle()
        await node.unlock(10, b"a")  # 20 has it now, and 30 waits for 20
        await settle()
        waiting = node.locking(20, b"c")  # 20 -> 30 -> 20
        (error,) = (await waiting).errors
        chain = [(edge.txn, edge.wait_for_txn) for edge in error.deadlock.wait_chain]
        assert chain == [(30, 20), (20, 30)]
        node.locking(10, b"b")
        await settle()
        await node.lock(40, b"d")
        node.locking(40, b"c")
        await settle()
        (error,) = (await node.locking(20, b"d")).errors
        assert [(edge.txn, edge.wait_for_txn) for edge in error.deadlock.wait_chain] == [(40, 30), (30, 20), (20, 40)]
        assert not third.done()

    everywhere(test)


def test_a_caller_that_goes_away_leaves_the_key_latched_until_it_is_written() -> None:
    async def test(node: Node) -> None:
        node.store.write_delay_s = 1.0
        lost = node.start(
            "KvPrewrite",
            pb.PrewriteRequest(mutations=[pb.Mutation(key=b"a", value=b"1")], primary_lock=b"a", start_version=10),
        )
        await settle()
        lost.cancel()
        assert (await node.prewrite(11, {b"a": b"2"})).errors[0].locked.lock_version == 10

    serving(test)


def test_a_deadline_passes_before_the_work_begins() -> None:
    async def test(node: Node) -> None:
        node.store.write_delay_s = 1.0
        first = node.start(
            "KvPrewrite",
            pb.PrewriteRequest(mutations=[pb.Mutation(key=b"a", value=b"1")], primary_lock=b"a", start_version=10),
        )
        await settle()
        hasty = pb.Context(max_execution_duration_ms=500)
        response = await node.prewrite(11, {b"a": b"2"}, context=hasty)
        assert response.region_error.server_is_busy.reason == "deadline is exceeded"
        assert not (await first).errors

    serving(test)
