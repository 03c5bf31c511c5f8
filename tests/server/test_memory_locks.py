"""Pessimistic locks that stay in the leader's memory: what is not written, and what becomes of them."""

from __future__ import annotations

import asyncio

import pytest

from kvstore.engine.api import CF_LOCK
from kvstore.mvcc.keys import data_key
from kvstore.mvcc.record import Lock, LockType
from kvstore.proto import errorpb_pb2
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.raftstore.api import RegionError
from kvstore.server.limits import ServiceLimits
from kvstore.server.memory_locks import LOCK_BYTES, PAUSE_S, REGION_BYTES_MAX, MemoryLocks
from tests.server.ends import Node, serving

CHECK = pb.PrewriteRequest.DO_PESSIMISTIC_CHECK
ELSEWHERE = Peer(id=99, store_id=9)


def stored(node: Node, key: bytes) -> LockType | None:
    """The type of the lock in the engine."""
    record = node.store.engine.get(CF_LOCK, data_key(key))
    return None if record is None else Lock.decode(record).type


def in_memory(node: Node) -> list[bytes]:
    memory = node.service.memory_locks
    return sorted(key for held in memory._regions.values() for key in held.locks)


async def scanned(node: Node, region: int = 1, **fields: int) -> list[tuple[bytes, int]]:
    request = pb.ScanLockRequest(**{"max_version": 1000, "limit": 100, **fields})
    response = await node.call("KvScanLock", request, region=region)
    return [(info.key, info.lock_version) for info in response.locks]


async def lead_elsewhere(node: Node) -> None:
    leader = node.store.leaders[1]
    node.store.set_leader(1, ELSEWHERE)
    node.store.set_leader(1, leader)


def test_a_lock_is_not_written_and_its_prewrite_writes_no_deletion() -> None:
    async def test(node: Node) -> None:
        before = node.store.applied
        assert not (await node.lock(10, b"a", b"b")).errors
        assert not (await node.lock(10, b"a", for_update_ts=15)).errors
        assert (await node.lock(20, b"b")).errors[0].locked.lock_version == 10
        await node.unlock(10, b"b")
        assert not (await node.lock(20, b"b")).errors
        beat = pb.TxnHeartBeatRequest(primary_lock=b"a", start_version=10, advise_lock_ttl=9000)
        assert (await node.call("KvTxnHeartBeat", beat)).lock_ttl == 9000
        assert (await node.lock(30, b"a")).errors[0].locked.lock_ttl == 9000
        assert node.store.applied == before
        assert stored(node, b"a") is None

        written: list[tuple[str, bytes, bytes | None]] = []
        write = node.store.write

        async def noting(context: pb.Context, entries: list[tuple[str, bytes, bytes | None]], *, term: int = 0) -> int:
            written.extend(entries)
            return await write(context, entries, term=term)

        node.store.write = noting  # type: ignore[method-assign,assignment]
        done = await node.prewrite(10, {b"a": b"1"}, for_update_ts=15, pessimistic_actions=[CHECK], try_one_pc=True)
        assert done.one_pc_commit_ts
        assert [entry for entry in written if entry[0] == CF_LOCK] == []
        assert in_memory(node) == [b"b"]
        await node.prewrite(20, {b"b": b"1"}, for_update_ts=20, pessimistic_actions=[CHECK])
        assert in_memory(node) == []
        assert stored(node, b"b") is LockType.PUT
        assert node.service.memory_locks.bytes == 0

    serving(test)


def test_locks_in_memory_are_found_by_scans_and_settled_with_the_others() -> None:
    async def test(node: Node) -> None:
        await node.prewrite(10, {b"b": b"1"})
        await node.lock(11, b"c", b"a")
        await node.lock(12, b"d")
        assert await scanned(node) == [(b"a", 11), (b"b", 10), (b"c", 11), (b"d", 12)]
        assert await scanned(node, limit=2) == [(b"a", 11), (b"b", 10)]
        assert await scanned(node, max_version=11) == [(b"a", 11), (b"b", 10), (b"c", 11)]
        # all of a transaction's in the region, by either call
        await node.call("KVPessimisticRollback", pb.PessimisticRollbackRequest(start_version=11, for_update_ts=11))
        assert await scanned(node) == [(b"b", 10), (b"d", 12)]
        await node.call("KvResolveLock", pb.ResolveLockRequest(start_version=12))
        assert await scanned(node) == [(b"b", 10)]
        # a lock that is over its time
        await node.lock(13, b"e", lock_ttl=1)
        query = pb.CheckTxnStatusRequest(
            primary_key=b"e", lock_ts=13, caller_start_ts=20, current_ts=1 << 30, resolving_pessimistic_lock=True
        )
        assert (await node.call("KvCheckTxnStatus", query)).action == pb.Action.TTLExpirePessimisticRollback
        assert in_memory(node) == []

    serving(test)


def test_a_new_term_has_no_locks_and_the_prewrite_goes_by_what_was_committed() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a", b"b")
        await lead_elsewhere(node)
        assert await scanned(node) == []
        assert node.service.memory_locks.bytes == 0
        await node.put(20, 30, b="other")
        found = await node.prewrite(10, {b"a": b"1"}, for_update_ts=10, pessimistic_actions=[CHECK])
        assert not found.errors
        found = await node.prewrite(10, {b"b": b"1"}, for_update_ts=10, pessimistic_actions=[CHECK])
        assert found.errors[0].HasField("txn_lock_not_found") or "gone" in found.errors[0].abort, found

    serving(test)


def test_before_a_split_locks_are_written() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a", b"m", b"z")
        await node.prewrite(5, {b"c": b"1"})
        await node.call("SplitRegion", pb.SplitRegionRequest(split_keys=[b"k"]))
        assert in_memory(node) == []
        assert stored(node, b"a") is stored(node, b"z") is LockType.PESSIMISTIC
        assert await scanned(node) == [(b"a", 10), (b"c", 5)]
        assert await scanned(node, region=2) == [(b"m", 10), (b"z", 10)]
        # for a while the region's new locks are written too, and one that is in the engine is renewed there
        await node.lock(11, b"b")
        assert stored(node, b"b") is LockType.PESSIMISTIC
        await asyncio.sleep(PAUSE_S)
        await node.lock(10, b"a", for_update_ts=20)
        await node.lock(12, b"d")
        assert in_memory(node) == [b"d"]
        done = await node.prewrite(10, {b"a": b"1"}, for_update_ts=20, pessimistic_actions=[CHECK], try_one_pc=True)
        assert done.one_pc_commit_ts
        assert stored(node, b"a") is None

    serving(test)


def test_a_lock_that_is_being_replaced_is_not_handed_over() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a", b"b")
        node.store.write_delay_s = 1
        writing = asyncio.ensure_future(
            node.prewrite(10, {b"a": b"1"}, for_update_ts=10, pessimistic_actions=[CHECK], try_one_pc=True)
        )
        await asyncio.sleep(0.5)
        (leaving,) = node.store.leaving
        region = node.store.regions()[0]
        await leaving(region, region.peers[0])
        assert (await writing).one_pc_commit_ts
        assert stored(node, b"a") is None
        assert stored(node, b"b") is LockType.PESSIMISTIC

    serving(test)


def test_a_handover_that_cannot_be_written_ends() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        node.store.write_error = RegionError(errorpb_pb2.Error(server_is_busy=errorpb_pb2.ServerIsBusy()))
        (leaving,) = node.store.leaving
        region = node.store.regions()[0]
        await leaving(region, region.peers[0])
        node.store.set_leader(1, ELSEWHERE)
        await leaving(region, region.peers[0])
        assert stored(node, b"a") is None
        assert in_memory(node) == []

    serving(test)


@pytest.mark.parametrize("undetermined", [False, True])
def test_a_failed_write_leaves_the_lock_unless_nobody_knows(undetermined: bool) -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        error = errorpb_pb2.Error()
        (error.undetermined_result if undetermined else error.server_is_busy).SetInParent()
        node.store.write_error = RegionError(error)
        done = await node.prewrite(10, {b"a": b"1"}, for_update_ts=10, pessimistic_actions=[CHECK])
        assert done.HasField("region_error")
        assert in_memory(node) == ([] if undetermined else [b"a"])

    serving(test)


def test_without_room_locks_are_written() -> None:
    async def test(node: Node) -> None:
        await node.lock(10, b"a")
        await node.lock(10, b"b")
        assert in_memory(node) == [b"a"]
        assert stored(node, b"b") is LockType.PESSIMISTIC
        memory = node.service.memory_locks
        assert (memory.taken, memory.refused) == (1, 1)
        await node.unlock(10, b"a", b"b")
        assert await scanned(node) == []

    serving(test, limits=ServiceLimits(memory_lock_bytes_max=LOCK_BYTES + 4))

    async def off(node: Node) -> None:
        await node.lock(10, b"a")
        assert stored(node, b"a") is LockType.PESSIMISTIC

    serving(off, limits=ServiceLimits(memory_lock_bytes_max=0))


def test_bounds_terms_and_sizes() -> None:
    region = Region(id=7)
    memory = MemoryLocks(1 << 30)
    locks = {key: Lock(LockType.PESSIMISTIC, key, 10, 3000) for key in (b"a", b"k", b"z")}
    assert memory.take(7, 6, locks, 0.0)
    assert memory.bytes == 3 * (2 + LOCK_BYTES)
    region.start_key, region.end_key = data_key(b"b")[1:], data_key(b"k")[1:]
    memory.on_region(region)
    assert len(memory) == 0
    # what left does not come back
    region.start_key = region.end_key = b""
    memory.on_region(region)
    assert memory.of(7, 6) == {}
    assert memory.take(7, 6, locks, 0.0)
    region.end_key = data_key(b"k")[1:]
    memory.on_region(region)
    assert list(memory.of(7, 6)) == [b"a"]
    assert memory.of(7, 7) == {}
    assert memory.of(7, 6) == {}
    assert memory.bytes == 0
    assert memory.take(7, 8, locks, 0.0)
    memory.on_replaced(region)
    assert (len(memory), memory.bytes) == (0, 0)
    long = {b"p" * 8000 + b"%d" % at: Lock(LockType.PESSIMISTIC, b"p" * 8000, 10, 3000) for at in range(40)}
    assert sum(len(key) + len(lock.primary) for key, lock in long.items()) > REGION_BYTES_MAX
    assert not memory.take(7, 8, long, 0.0)
    assert memory.pause(7, 0.0) == []
    assert not memory.take(7, 8, locks, PAUSE_S - 1)
    assert memory.take(7, 8, locks, PAUSE_S + 1)
    memory.on_destroyed(region)
    assert (len(memory), memory.bytes) == (0, 0)
