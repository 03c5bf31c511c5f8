"""Reads at a follower: the leader hears of them first, and its commits come after."""

from __future__ import annotations

from typing import Any

from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.rpc.memory import MemoryNetwork
from tests.server.ends import FakeDirectory, Node, make_node
from tests.server.region_store import TestStore
from tests.sim.loop import run_simulated


async def leader_and_follower() -> tuple[Node, Node]:
    """Two stores with region 1 over one engine, as if replication took no time."""
    network, directory = MemoryNetwork(), FakeDirectory()
    first = TestStore(store_id=1)
    second = TestStore(first.engine, store_id=2)
    second.add(1, b"", b"", leads=False)
    second.leaders[1] = first.leaders[1]
    second.has_lease = False
    options: dict[str, Any] = {"network": network, "directory": directory}
    return await make_node(store_id=1, store=first, **options), await make_node(store_id=2, store=second, **options)


async def read_at(follower: Node, key: bytes, ts: int) -> pb.GetResponse:
    return await follower.get(key, ts, replica_read=True)


def test_a_commit_at_the_leader_comes_after_what_a_follower_has_read() -> None:
    async def whole() -> None:
        leader, follower = await leader_and_follower()
        await leader.put(10, 20, a="1")
        assert (await read_at(follower, b"a", 700)).value == b"1"
        scan = pb.ScanRequest(limit=9, version=800, context=pb.Context(replica_read=True))
        assert [pair.value for pair in (await follower.call("KvScan", scan)).pairs] == [b"1"]
        batch = pb.BatchGetRequest(keys=[b"a"], version=900, context=pb.Context(replica_read=True))
        assert [pair.value for pair in (await follower.call("KvBatchGet", batch)).pairs] == [b"1"]
        assert (await leader.prewrite(30, {b"a": b"2"}, try_one_pc=True)).one_pc_commit_ts == 901
        assert (await read_at(follower, b"a", 900)).value == b"1"
        assert (await read_at(follower, b"a", 901)).value == b"2"

    run_simulated(whole())


def test_a_lock_in_flight_at_the_leader_is_told_to_the_follower_s_reader() -> None:
    async def whole() -> None:
        leader, follower = await leader_and_follower()
        leader.store.write_delay_s = 1.0
        mutation = pb.Mutation(key=b"a", value=b"1")
        request = pb.PrewriteRequest(
            mutations=[mutation], primary_lock=b"a", start_version=10, lock_ttl=5, try_one_pc=True
        )
        writing = leader.start("KvPrewrite", request)
        assert (await read_at(follower, b"b", 100)).not_found
        assert (await read_at(follower, b"a", 100)).error.locked.lock_version == 10
        assert (await read_at(follower, b"a", 9)).not_found
        assert not (await writing).errors

    run_simulated(whole())


def test_without_a_leader_to_tell_there_is_no_read() -> None:
    async def whole() -> None:
        leader, follower = await leader_and_follower()
        follower.store.leaders[1] = None
        assert (await read_at(follower, b"a", 100)).region_error.HasField("not_leader")
        follower.store.leaders[1] = leader.store.leaders[1]
        await leader.server.stop(0)
        assert (await read_at(follower, b"a", 100)).region_error.HasField("not_leader")

    run_simulated(whole())


def test_only_a_leader_s_word_counts() -> None:
    async def whole() -> None:
        _, follower = await leader_and_follower()
        request = pb.ReadIndexRequest(start_ts=10, context=pb.Context(replica_read=True))
        assert (await follower.call("ReadIndex", request)).region_error.HasField("not_leader")

    run_simulated(whole())
