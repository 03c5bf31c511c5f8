"""One detector for all stores: circles that no store sees by itself."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvstore.proto import deadlock_pb2
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer
from kvstore.rpc.api import Code, RpcError, methods_of
from kvstore.rpc.memory import MemoryNetwork
from kvstore.server.deadlock import RECONNECT_S, REFRESH_S
from kvstore.txn.deadlock import WaitForGraph
from tests.server.ends import FakeDirectory, Node, make_node
from tests.server.region_store import TestStore
from tests.sim.loop import run_simulated

METHODS = methods_of(deadlock_pb2.DESCRIPTOR, "Deadlock")


async def two_stores() -> tuple[Node, Node]:
    """Store 1 leads the first region, store 2 the rest."""
    network, directory = MemoryNetwork(), FakeDirectory()
    first, second = TestStore(store_id=1), TestStore(store_id=2)
    first.add(1, b"", b"m")
    second.add(1, b"", b"m", leads=False)
    second.add(2, b"m", b"")
    directory.first_leader = first.leaders[1]
    options: dict[str, Any] = {"network": network, "directory": directory}
    return (
        await make_node(store_id=1, store=first, **options),
        await make_node(store_id=2, store=second, **options),
    )


def locking(node: Node, region: int, start_ts: int, key: bytes) -> asyncio.Task[Any]:
    request = node.lock_request(start_ts, key, wait_timeout=60_000)
    request.context.resource_group_tag = b"%d wants %b" % (start_ts, key)
    return node.start("KvPessimisticLock", request, region=region)


async def circle_of_two(left: Node, right: Node, first_ts: int, second_ts: int) -> tuple[Any, asyncio.Task[Any]]:
    """Locks a and z crosswise: 1 waits on the right, then 2 on the left. Returns whose lock failed, and the other."""
    assert not (await locking(left, 1, first_ts, b"a")).errors
    assert not (await locking(right, 2, second_ts, b"z")).errors
    far = locking(right, 2, first_ts, b"z")
    await asyncio.sleep(2 * RECONNECT_S)
    near = locking(left, 1, second_ts, b"a")
    done, _ = await asyncio.wait([near, far], return_when=asyncio.FIRST_COMPLETED)
    (failed,) = done
    return failed.result().errors[0], far if failed is near else near


def test_a_circle_across_stores_is_found_where_the_detector_is() -> None:
    async def whole() -> None:
        left, right = await two_stores()
        error, other = await circle_of_two(left, right, 10, 20)
        chain = [(edge.txn, edge.wait_for_txn, edge.key) for edge in error.deadlock.wait_chain]
        assert chain == [(10, 20, b"z"), (20, 10, b"a")]
        assert [edge.resource_group_tag for edge in error.deadlock.wait_chain] == [b"10 wants z", b"20 wants a"]
        await right.call(
            "KVPessimisticRollback",
            pb.PessimisticRollbackRequest(start_version=20, for_update_ts=99, keys=[b"z"]),
            region=2,
        )
        assert not (await other).errors

    run_simulated(whole())


def test_a_circle_that_is_closed_on_another_store_fails_the_lock_there() -> None:
    async def whole() -> None:
        left, right = await two_stores()
        assert not (await locking(left, 1, 10, b"a")).errors
        assert not (await locking(right, 2, 20, b"z")).errors
        near = locking(left, 1, 20, b"a")
        await asyncio.sleep(1)
        (error,) = (await locking(right, 2, 10, b"z")).errors
        chain = [(edge.txn, edge.wait_for_txn, edge.key) for edge in error.deadlock.wait_chain]
        assert chain == [(20, 10, b"a"), (10, 20, b"z")]
        assert [edge.resource_group_tag for edge in error.deadlock.wait_chain] == [b"20 wants a", b"10 wants z"]
        assert (error.deadlock.lock_ts, error.deadlock.lock_key) == (20, b"z")
        assert not near.done()
        assert len(right.service.detector._waits) == 0

    run_simulated(whole())


def test_a_new_detector_is_told_of_the_waits_there_are() -> None:
    async def whole() -> None:
        left, right = await two_stores()
        left.store.add(3, b"c", b"d")
        assert not (await locking(left, 3, 10, b"c")).errors
        assert not (await locking(right, 2, 20, b"z")).errors
        near = locking(left, 3, 20, b"c")
        await asyncio.sleep(1)
        moved = Peer(id=12, store_id=2)
        left.directory.first_leader = moved
        left.store.set_leader(1, moved)
        right.store.set_leader(1, moved)
        assert right.service.detector.is_leader
        assert not left.service.detector.is_leader
        await asyncio.sleep(REFRESH_S + 1)
        (error,) = (await locking(right, 2, 10, b"z")).errors
        assert [(edge.txn, edge.wait_for_txn) for edge in error.deadlock.wait_chain] == [(20, 10), (10, 20)]
        assert not near.done()

    run_simulated(whole())


def test_who_does_not_detect_says_so() -> None:
    async def whole() -> None:
        left, right = await two_stores()
        stream = right.network.transport("client").channel(right.address).stream(METHODS["Detect"])
        await stream.send(deadlock_pb2.DeadlockRequest())
        with pytest.raises(RpcError) as refused:
            await stream.receive()
        assert refused.value.code is Code.FAILED_PRECONDITION
        channel = left.network.transport("client").channel(left.address)
        entries = await channel.unary(METHODS["GetWaitForEntries"], deadlock_pb2.WaitForEntriesRequest(), 5.0)
        assert not entries.entries

    run_simulated(whole())


def test_waits_whose_end_nobody_told_expire() -> None:
    graph = WaitForGraph()
    graph.wait(1, 2, b"a", 0.0)
    graph.wait(2, 3, b"b", 50.0)
    graph.expire(40.0)
    assert graph.edges() == [(2, 3, b"b", b"")]
    graph.wait(2, 3, b"c", 60.0)
    graph.stop_waiting(2, 3, b"b")
    assert graph.edges() == [(2, 3, b"c", b"")]
