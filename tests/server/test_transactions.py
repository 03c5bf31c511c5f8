"""Prewrite, commit, rollback and reads over the wire, with the errors a client is told."""

from __future__ import annotations

from kvstore.proto import kvrpcpb_pb2 as pb
from tests.server.ends import Node, everywhere


def test_what_is_committed_is_read_at_its_timestamp() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1", b="2" * 300)
        assert (await node.get(b"a", 19)).not_found
        assert (await node.get(b"a", 20)).value == b"1"
        assert (await node.get(b"b", 21)).value == b"2" * 300
        request = pb.GetRequest(key=b"a", version=30, need_commit_ts=True)
        assert (await node.call("KvGet", request)).commit_ts == 20

    everywhere(test)


def test_a_lock_is_told_whole() -> None:
    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1", b"b": b"2"}, txn_size=7)
        locked = (await node.get(b"b", 11)).error.locked
        assert locked == pb.LockInfo(
            primary_lock=b"a", lock_version=10, key=b"b", lock_ttl=3000, txn_size=7, lock_type=pb.Op.Put
        )
        assert (await node.get(b"b", 9)).not_found
        assert (await node.get(b"b", 11, isolation_level=pb.IsolationLevel.RC)).not_found
        assert (await node.get(b"b", 11, resolved_locks=[10])).not_found
        assert (await node.get(b"b", 11, committed_locks=[10])).value == b"2"

    everywhere(test)


def test_a_newer_commit_is_a_conflict_that_may_be_retried() -> None:
    async def test(node: Node) -> None:
        await node.put(10, 20, a="1")
        (error,) = (await node.prewrite(15, {b"a": b"2"})).errors
        assert error.conflict == pb.WriteConflict(
            start_ts=15,
            conflict_ts=10,
            key=b"a",
            primary=b"a",
            conflict_commit_ts=20,
            reason=pb.WriteConflict.Reason.Optimistic,
        )
        assert error.retryable

    everywhere(test)


def test_all_locks_met_are_told_and_nothing_is_written() -> None:
    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1", b"c": b"1"})
        errors = (await node.prewrite(12, {b"a": b"2", b"b": b"2", b"c": b"2"})).errors
        assert [error.locked.key for error in errors] == [b"a", b"c"]
        assert (await node.get(b"b", 20)).not_found

    everywhere(test)


def test_commit_of_what_was_rolled_back_or_never_prewritten() -> None:
    async def test(node: Node) -> None:
        await node.prewrite(10, {b"a": b"1"})
        assert not (
            await node.call("KvBatchRollback", pb.BatchRollbackRequest(start_version=10, keys=[b"a"]))
        ).HasField("error")
        error = (await node.commit(10, 20, b"a")).error
        assert error.txn_lock_not_found.key == b"a"
        assert error.retryable
        late = (await node.prewrite(10, {b"a": b"1"})).errors[0]
        assert late.conflict.reason == pb.WriteConflict.Reason.SelfRolledBack

    everywhere(test)


def test_raw_put_and_get() -> None:
    async def test(node: Node) -> None:
        assert await node.call("RawPut", pb.RawPutRequest(key=b"k", value=b"v")) == pb.RawPutResponse()
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"k"))).value == b"v"
        assert (await node.call("RawGet", pb.RawGetRequest(key=b"x"))).not_found

    everywhere(test)
