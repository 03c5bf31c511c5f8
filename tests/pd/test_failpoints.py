"""Placement drivers that fail at one moment: timestamps never go back, ids never come twice, orders come again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kvstore import failpoint
from kvstore.proto import pdpb_pb2 as pb
from kvstore.rpc.api import Code, RpcError
from pd.tso import WINDOW_MS
from tests.pd.cluster_of_pds import heartbeat, region
from tests.pd.test_failover import Group, simulate


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    failpoint.clear()


@pytest.mark.parametrize("point", ["pd::before_save_tso", "pd::after_save_tso"])
def test_timestamps_do_not_go_back_when_their_bound_cannot_be_saved(point: str) -> None:
    async def test(group: Group) -> None:
        last = await group.client.timestamp()
        failpoint.configure(point, "return")
        group.leader().clock_skew_ms = 2 * WINDOW_MS
        with pytest.raises(RpcError) as caught:
            await group.client.timestamp()
        assert caught.value.code == Code.UNAVAILABLE
        leader = group.leader()
        leader.clock_skew_ms = -60_000
        await leader.stop()
        failpoint.clear()
        await group.client.find_leader()
        for _ in range(3):
            ts = await group.client.timestamp()
            assert ts > last
            last = ts

    simulate(test)


def test_a_write_that_is_not_proposed_is_refused_and_changes_nothing() -> None:
    async def test(group: Group) -> None:
        await group.client.bootstrap()
        failpoint.configure("pd::before_propose", "return")
        with pytest.raises(RpcError, match="not leader"):
            await group.client.call("AllocID", pb.AllocIDRequest(count=5000))
        failpoint.clear()
        first = (await group.client.call("AllocID", pb.AllocIDRequest())).id
        assert (await group.client.call("AllocID", pb.AllocIDRequest())).id > first > 100

    simulate(test)


def test_who_is_slow_to_take_the_lead_serves_nobody_before() -> None:
    async def test(group: Group) -> None:
        last = await group.client.timestamp()
        failpoint.configure("pd::before_lead", "sleep(1500)")
        await group.leader().stop()
        while not any(machine.node is not None and machine.node.replica.term for machine in group.machines):
            await asyncio.sleep(0.05)
        leader = group.leader()
        assert leader.node is not None
        assert leader.node.leadership is None
        group.client.address = leader.config.me().address
        with pytest.raises(RpcError, match="not leader"):
            await group.client.timestamp()
        await group.client.find_leader()
        assert await group.client.timestamp() > last

    simulate(test)


def test_an_order_that_is_lost_comes_again_and_a_lost_heartbeat_changes_nothing() -> None:
    async def test(group: Group) -> None:
        client = group.client
        await client.bootstrap(stores=2)
        meta = region(2, peers=[(3, 1)])
        told = heartbeat(meta, cluster_id=client.cluster_id)
        failpoint.configure("pd::dispatch_operator", "return")
        stream = client.stream("RegionHeartbeat")
        await stream.send(told)
        order = asyncio.ensure_future(stream.receive())
        await asyncio.sleep(8)
        assert not order.done()
        failpoint.configure("pd::region_heartbeat", "return")
        changed = heartbeat(region(2, peers=[(3, 1)], version=9), cluster_id=client.cluster_id)
        await stream.send(changed)
        await asyncio.sleep(1)
        known = await client.call("GetRegionByID", pb.GetRegionByIDRequest(region_id=2))
        assert known.region.region_epoch.version == 1
        failpoint.remove("pd::dispatch_operator")
        assert (await order).change_peer_v2.changes or (await order).HasField("change_peer")
        stream.cancel()

    simulate(test)
