"""The placement driver's client: who leads, timestamps in batches, heartbeats and orders."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from kvstore.client.cluster.errors import ClusterMismatch, PdUnavailable
from kvstore.client.cluster.pd_client import PdClient
from kvstore.errors import PdError
from kvstore.proto import pdpb_pb2 as pdpb
from kvstore.proto.metapb_pb2 import Peer, Region, RegionEpoch, Store
from kvstore.raftstore.api import Placement
from kvstore.rpc.memory import MemoryNetwork
from tests.cluster_client.mock_pd import CLUSTER, MockPd
from tests.sim.loop import run_simulated as run

Scenario = Callable[[MockPd, PdClient], Awaitable[None]]


def with_pd(scenario: Scenario, members: int = 3) -> None:
    """Runs a scenario against `members` members, the first leading."""

    async def main() -> None:
        network = MemoryNetwork()
        pd = MockPd(network, members)
        await pd.start()
        client = await PdClient.connect(network.transport("client"), pd.addresses, rng=random.Random(1))
        try:
            await scenario(pd, client)
        finally:
            await client.close()

    run(main())


def region(region_id: int = 2, start: bytes = b"", end: bytes = b"") -> Region:
    epoch = RegionEpoch(conf_ver=1, version=1)
    return Region(id=region_id, start_key=start, end_key=end, region_epoch=epoch, peers=[Peer(id=3, store_id=1)])


def test_it_is_what_a_store_asks_of_the_placement_driver() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        placement: Placement = client
        assert not await placement.is_bootstrapped()
        await placement.bootstrap(Store(id=1, address="s1"), region())
        with pytest.raises(PdError, match="already bootstrapped") as refused:
            await placement.bootstrap(Store(id=1, address="s1"), region())
        assert refused.value.type == pdpb.ALREADY_BOOTSTRAPPED
        await placement.put_store(Store(id=4, address="s4"))
        assert (await placement.get_store(4)).address == "s4"
        assert await placement.alloc_id() == 1001
        assert await placement.alloc_id() == 1002
        (split,) = await placement.ask_batch_split(region(), 1)
        assert (split.new_region_id, list(split.new_peer_ids)) == (1003, [1004])
        await placement.report_batch_split([region(2, b"", b"m"), region(1003, b"m")])
        found = await placement.get_region_by_id(1003)
        assert found is not None
        assert (found[0].start_key, found[1]) == (b"m", Peer(id=3, store_id=1))
        assert await placement.get_region_by_id(9) is None
        assert (await placement.store_heartbeat(pdpb.StoreStats(store_id=4))).cluster_version == "4"
        assert await placement.gc_safe_point() == 0
        assert await client.update_gc_safe_point(50) == 50
        assert await client.update_gc_safe_point(40) == 50
        assert await placement.gc_safe_point() == 50

    with_pd(scenario)


def test_regions_are_found_by_key_and_range() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        assert await client.get_region(b"a") is None
        pd.regions = {1: (region(1, b"", b"g"), Peer(id=1, store_id=1)), 2: (region(2, b"g", b""), None)}
        found = await client.get_region(b"g")
        assert found is not None
        assert (found[0].id, found[1]) == (2, None)
        assert [item.id for item, _ in await client.scan_regions(b"f", b"")] == [1, 2]
        assert [item.id for item, _ in await client.scan_regions(b"g", b"z")] == [2]
        assert [item.id for item, _ in await client.scan_regions(b"a", b"g")] == [1]

    with_pd(scenario)


def test_the_leader_is_followed_when_it_moves_and_when_its_member_dies() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        assert client.leader == "pd0:2379"
        pd.leader = 2
        assert await client.alloc_id() == 1001
        assert client.leader == "pd2:2379"
        await pd.servers[2].stop(0)
        pd.leader = 1
        assert await client.alloc_id() == 1002
        assert client.leader == "pd1:2379"

    with_pd(scenario)


def test_a_member_that_still_believes_in_the_old_leader_is_outvoted_by_one_that_names_another() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        pd.leader = 2
        pd.claims = {0: 0}
        assert await client.alloc_id() == 1001
        assert client.leader == "pd2:2379"

    with_pd(scenario)


def test_without_a_leader_it_gives_up_when_the_budget_is_spent() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        pd.leader = None
        began = asyncio.get_running_loop().time()
        with pytest.raises(PdUnavailable, match="gave up"):
            await client.alloc_id()
        with pytest.raises(PdUnavailable, match="not leader"):
            await client.get_ts()
        assert 15 < asyncio.get_running_loop().time() - began < 60
        pd.leader = 1
        assert await client.get_ts() > 0

    with_pd(scenario)


def test_a_leader_that_hangs_is_left_for_the_one_that_the_others_name() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        last = await client.get_ts()
        loop = asyncio.get_running_loop()
        for hung, leader in ((0, 1), (1, 2)):
            pd.hung = {hung: None}
            pd.leader = leader
            began = loop.time()
            stamps = await asyncio.gather(*(client.get_ts() for _ in range(10)))
            assert stamps == sorted(stamps)
            assert stamps[0] > last
            last = stamps[-1]
            assert await client.alloc_id() > 0
            assert loop.time() - began < 5
            assert client.leader == f"pd{leader}:2379"

    with_pd(scenario)


def test_another_cluster_is_refused() -> None:
    async def main() -> None:
        network = MemoryNetwork()
        pd = MockPd(network)
        await pd.start()
        with pytest.raises(ClusterMismatch, match=f"cluster {CLUSTER}, not 5"):
            await PdClient.connect(network.transport("c"), ["http://pd0:2379"], rng=random.Random(1), cluster_id=5)

    run(main())


def test_waiting_callers_share_requests_and_get_timestamps_in_the_order_they_asked() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        first = await asyncio.gather(*(client.get_ts() for _ in range(64)))
        assert first == sorted(set(first))
        assert pd.ts_requests <= 2

        async def caller() -> list[int]:
            return [await client.get_ts() for _ in range(50)]

        drawn = await asyncio.gather(*(caller() for _ in range(64)))
        assert all(one == sorted(set(one)) for one in drawn)
        everything = [ts for one in drawn for ts in one] + first
        assert len(set(everything)) == 64 * 51
        assert pd.ts_requests < 64 * 51 / 16

    with_pd(scenario)


def test_timestamps_only_grow_over_broken_streams_and_new_leaders() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        drawn: list[int] = []

        async def caller() -> None:
            for _ in range(40):
                before = max(drawn, default=0)
                ts = await client.get_ts()
                assert ts > before
                drawn.append(ts)

        async def trouble() -> None:
            for turn in range(12):
                pd.break_tso_after = turn % 3
                await client.get_ts()
                pd.leader = turn % 3
                await asyncio.sleep(0.01)

        await asyncio.gather(*(caller() for _ in range(8)), trouble())
        assert len(set(drawn)) == 8 * 40

    with_pd(scenario)


def test_a_timestamp_that_goes_back_is_an_error_and_not_handed_out() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        await client.get_ts()
        pd.physical -= 1
        with pytest.raises(PdError, match="is not after"):
            await client.get_ts()

    with_pd(scenario)


def test_a_cancelled_caller_takes_no_other_callers_timestamp() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        tasks = [asyncio.ensure_future(client.get_ts()) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        assert len({done[0], done[2], done[3]}) == 3

    with_pd(scenario)


def test_who_waits_for_a_timestamp_is_told_when_the_client_is_closed() -> None:
    """Those whose request is under way, too."""

    async def scenario(pd: MockPd, client: PdClient) -> None:
        await client.get_ts()
        pd.hung = {0: None}
        under_way = asyncio.ensure_future(client.get_ts())
        await asyncio.sleep(1)
        behind = asyncio.ensure_future(client.get_ts())
        await asyncio.sleep(0)
        await client.close()
        for waiting in (under_way, behind):
            with pytest.raises(PdUnavailable):
                await asyncio.wait_for(waiting, 1)

    with_pd(scenario)


def test_the_newest_heartbeat_of_a_region_goes_out_and_orders_come_back_also_after_a_break() -> None:
    async def scenario(pd: MockPd, client: PdClient) -> None:
        pd.orders = [pdpb.RegionHeartbeatResponse(region_id=2)]
        client.region_heartbeat(pdpb.RegionHeartbeatRequest(region=region(2), term=5))
        client.region_heartbeat(pdpb.RegionHeartbeatRequest(region=region(2), term=6))
        assert (await client.next_order()).region_id == 2
        assert [beat.term for beat in pd.heartbeats] == [6]
        pd.leader = 1
        pd.orders = [pdpb.RegionHeartbeatResponse(region_id=9)]
        order = asyncio.ensure_future(client.next_order())
        for term in range(7, 20):
            client.region_heartbeat(pdpb.RegionHeartbeatRequest(region=region(2), term=term))
            await asyncio.sleep(1)
        assert (await order).region_id == 9
        assert pd.heartbeats[-1].term == 19
        assert all(beat.header.cluster_id == CLUSTER for beat in pd.heartbeats)

    with_pd(scenario)
