"""The service of one placement driver, called over the in-memory transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from kvstore.proto import etcdserverpb_pb2 as etcd
from kvstore.proto import keyspacepb_pb2
from kvstore.proto import meta_storagepb_pb2 as registry
from kvstore.proto import pdpb_pb2 as pb
from kvstore.proto import pdraft_pb2 as admin
from kvstore.proto.metapb_pb2 import Region, Store, StoreState
from kvstore.rpc.api import Code, RpcError
from kvstore.rpc.memory import MemoryNetwork
from pd import state as keys
from pd.config import ScheduleConfig
from pd.server import ADMIN_METHODS, ETCD_CLUSTER_METHODS, ETCD_METHODS, KEYSPACE_METHODS, PD_METHODS, REGISTRY_METHODS
from pd.service.etcd import NO_BOUND, SAVED_SAFE_POINT
from tests.pd.cluster_of_pds import Client, Machine, heartbeat, machines, region, store
from tests.sim.loop import run_simulated

Test = Callable[[Client, Machine], Awaitable[None]]


def with_pd(test: Test) -> Callable[[], None]:
    """Runs the test with a started placement driver, in virtual time."""

    async def run() -> None:
        network = MemoryNetwork()
        (machine,) = machines(network)
        await machine.start()
        client = Client(network, ["pd1:2379"])
        await client.find_leader()
        await test(client, machine)
        await machine.stop()

    def wrapped() -> None:
        run_simulated(run())

    wrapped.__name__ = test.__name__
    wrapped.__doc__ = test.__doc__
    return wrapped


@with_pd
async def test_members_and_cluster_id(client: Client, machine: Machine) -> None:
    channel = client.transport.channel("pd1:2379")
    reply = await channel.unary(PD_METHODS["GetMembers"], pb.GetMembersRequest(), timeout_s=1.0)
    assert reply.header.cluster_id == client.cluster_id != 0
    assert [member.name for member in reply.members] == ["pd1"]
    assert list(reply.leader.client_urls) == ["http://pd1:2379"]
    client.cluster_id += 1
    with pytest.raises(RpcError, match=r"mismatch cluster id, need .* but got") as caught:
        await client.call("AllocID", pb.AllocIDRequest())
    assert caught.value.code == Code.FAILED_PRECONDITION


@with_pd
async def test_cluster_id_and_state_outlive_a_restart(client: Client, machine: Machine) -> None:
    await client.bootstrap(stores=2)
    first_ids = [(await client.call("AllocID", pb.AllocIDRequest())).id for _ in range(3)]
    before, cluster_id = await client.timestamp(), client.cluster_id
    await client.call("UpdateGCSafePoint", pb.UpdateGCSafePointRequest(safe_point=77))
    await machine.stop()
    machine.clock_skew_ms = -3_600_000
    await machine.start()
    await client.find_leader()
    assert client.cluster_id == cluster_id
    assert await client.timestamp() > before
    assert (await client.call("AllocID", pb.AllocIDRequest())).id > max(first_ids)
    assert [s.id for s in (await client.call("GetAllStores", pb.GetAllStoresRequest())).stores] == [1, 2]
    assert (await client.call("GetRegion", pb.GetRegionRequest(region_key=b"k"))).region.id == 2
    assert (await client.call("GetGCSafePoint", pb.GetGCSafePointRequest())).safe_point == 77


@with_pd
async def test_time_does_not_stand_still_while_the_clock_is_behind(client: Client, machine: Machine) -> None:
    async def drawn_ms() -> int:
        return await client.timestamp() >> 18

    before = await drawn_ms()
    machine.clock_skew_ms = -60_000
    await asyncio.sleep(20)
    assert 15_000 <= await drawn_ms() - before <= 17_000
    await asyncio.sleep(300)
    assert abs(await drawn_ms() - machine.wall_ms()) <= 2


@with_pd
async def test_bootstrap_once(client: Client, machine: Machine) -> None:
    early = await client.call_raw("GetStore", pb.GetStoreRequest(store_id=1))
    assert early.header.error.type == pb.ErrorType.NOT_BOOTSTRAPPED
    wrong = await client.call_raw(
        "Bootstrap", pb.BootstrapRequest(store=store(1), region=region(2, b"a", peers=[(3, 1)]))
    )
    assert "must have an id and hold all keys" in wrong.header.error.message
    assert not (await client.call("IsBootstrapped", pb.IsBootstrappedRequest())).bootstrapped
    request = pb.BootstrapRequest(store=store(1), region=region(2, peers=[(3, 1)]))
    replies = await asyncio.gather(client.call_raw("Bootstrap", request), client.call_raw("Bootstrap", request))
    assert [reply.header.error.type for reply in replies] == [0, pb.ErrorType.ALREADY_BOOTSTRAPPED]
    assert (await client.call("IsBootstrapped", pb.IsBootstrappedRequest())).bootstrapped


@with_pd
async def test_timestamps_are_unique_over_concurrent_streams(client: Client, machine: Machine) -> None:
    header = pb.RequestHeader(cluster_id=client.cluster_id)
    batches: list[tuple[int, int]] = []

    async def caller(count: int) -> None:
        stream, last = client.stream("Tso"), 0
        for _ in range(50):
            await stream.send(pb.TsoRequest(header=header, count=count))
            reply = await stream.receive()
            largest = (reply.timestamp.physical << 18) + reply.timestamp.logical
            assert reply.count == count
            assert reply.timestamp.logical >= count - 1
            assert largest - count + 1 > last
            batches.append((largest - count + 1, largest))
            last = largest
        stream.cancel()

    await asyncio.gather(*(caller(count) for count in range(1, 65)))
    batches.sort()
    assert all(one[1] < two[0] for one, two in pairwise(batches))


@with_pd
async def test_a_full_millisecond_is_waited_for(client: Client, machine: Machine) -> None:
    started = asyncio.get_running_loop().time()
    stamps = [await client.timestamp(count=200_000) for _ in range(6)]
    assert len({stamp >> 18 for stamp in stamps}) == 6
    assert asyncio.get_running_loop().time() - started >= 0.005
    with pytest.raises(RpcError, match="tso count should be positive"):
        await client.timestamp(count=0)
    with pytest.raises(RpcError, match="tso count should be positive"):
        await client.timestamp(count=1 << 20)


@with_pd
async def test_stores_are_checked(client: Client, machine: Machine) -> None:
    await client.bootstrap(stores=2)
    other = store(3)
    other.address = "store1:20160"
    reply = await client.call_raw("PutStore", pb.PutStoreRequest(store=other))
    assert "already registered by store 1" in reply.header.error.message
    old = store(3)
    old.version = "6.1.0"
    reply = await client.call_raw("PutStore", pb.PutStoreRequest(store=old))
    assert reply.header.error.type == pb.ErrorType.INCOMPATIBLE_VERSION
    reply = await client.call_raw("GetStore", pb.GetStoreRequest(store_id=9))
    assert "not found" in reply.header.error.message
    await client.call("PutStore", pb.PutStoreRequest(store=store(2, zone="z1")))
    found = (await client.call("GetStore", pb.GetStoreRequest(store_id=2))).store
    assert [(label.key, label.value) for label in found.labels] == [("zone", "z1")]
    reply = await client.call("StoreHeartbeat", pb.StoreHeartbeatRequest(stats=pb.StoreStats(store_id=2, capacity=5)))
    assert reply.cluster_version == "8.5.0"
    assert (await client.call("GetStore", pb.GetStoreRequest(store_id=2))).stats.capacity == 5


@with_pd
async def test_regions_by_key_and_in_order(client: Client, machine: Machine) -> None:
    await client.bootstrap()
    stream = client.stream("RegionHeartbeat")
    for told in (
        region(2, b"m", b"", peers=[(3, 1)], version=2),
        region(4, b"", b"g", peers=[(5, 1)], version=2),
        region(6, b"g", b"m", peers=[(7, 1)], version=2),
        region(8, b"a", b"b", peers=[(9, 1)], version=1),
    ):
        await stream.send(heartbeat(told, cluster_id=client.cluster_id))
    await asyncio.sleep(0.01)
    by_key = [(await client.call("GetRegion", pb.GetRegionRequest(region_key=k))).region.id for k in (b"", b"g", b"z")]
    assert by_key == [4, 6, 2]
    assert (await client.call("GetPrevRegion", pb.GetRegionRequest(region_key=b"h"))).region.id == 4
    assert not (await client.call("GetPrevRegion", pb.GetRegionRequest(region_key=b"a"))).HasField("region")
    by_id = await client.call("GetRegionByID", pb.GetRegionByIDRequest(region_id=6))
    assert (by_id.region.id, by_id.leader.id) == (6, 7)
    scanned = await client.call("ScanRegions", pb.ScanRegionsRequest(start_key=b"b", end_key=b"n", limit=2))
    assert [r.region.id for r in scanned.regions] == [4, 6]
    ranges = [pb.KeyRange(start_key=b"a", end_key=b"h"), pb.KeyRange(start_key=b"i", end_key=b"z")]
    batch = await client.call("BatchScanRegions", pb.BatchScanRegionsRequest(ranges=ranges, contain_all_key_range=True))
    assert [r.region.id for r in batch.regions] == [4, 6, 2]
    queries = client.stream("QueryRegion")
    header = pb.RequestHeader(cluster_id=client.cluster_id)
    await queries.send(pb.QueryRegionRequest(header=header, keys=[b"a", b"h"], prev_keys=[b"h", b"a"], ids=[2, 99]))
    answer = await queries.receive()
    assert (list(answer.key_id_map), list(answer.prev_key_id_map)) == ([4, 6], [4, 0])
    assert sorted(answer.regions_by_id) == [2, 4, 6]
    for open_stream in (queries, stream):
        open_stream.cancel()


@with_pd
async def test_split_ids(client: Client, machine: Machine) -> None:
    await client.bootstrap()
    told = region(2, peers=[(3, 1)])
    reply = await client.call("AskBatchSplit", pb.AskBatchSplitRequest(region=told, split_count=2))
    ids = [i for split in reply.ids for i in (split.new_region_id, *split.new_peer_ids)]
    assert len(set(ids)) == 4
    assert not (await client.call_raw("AskBatchSplit", pb.AskBatchSplitRequest(region=told))).ids
    halves = [region(ids[0], b"", b"m", peers=[(ids[1], 1)]), region(2, b"m", b"", peers=[(3, 1)])]
    await client.call("ReportBatchSplit", pb.ReportBatchSplitRequest(regions=halves))
    told.region_epoch.version = 0
    stale = await client.call_raw("AskBatchSplit", pb.AskBatchSplitRequest(region=told, split_count=1))
    assert "invalid region epoch" in stale.header.error.message


@with_pd
async def test_a_split_leaves_no_gap_until_the_new_regions_tell(client: Client, machine: Machine) -> None:
    await client.bootstrap()
    stream = client.stream("RegionHeartbeat")

    async def told(*regions: Region) -> None:
        for one in regions:
            await stream.send(heartbeat(one, cluster_id=client.cluster_id))
        await asyncio.sleep(0.01)

    async def found() -> list[tuple[int, int]]:
        replies = [await client.call("GetRegion", pb.GetRegionRequest(region_key=key)) for key in (b"a", b"h", b"x")]
        return [(reply.region.id, reply.leader.id) for reply in replies]

    await told(region(2, peers=[(3, 1)]))
    parent = region(2, b"m", b"", peers=[(3, 1)], version=3)
    made = [region(4, b"", b"g", peers=[(5, 1)], version=3), region(6, b"g", b"m", peers=[(7, 1)], version=3), parent]
    await client.call("ReportBatchSplit", pb.ReportBatchSplitRequest(regions=made))
    assert await found() == [(4, 5), (6, 7), (2, 3)]
    # told late, it changes nothing
    await told(region(4, b"", b"m", peers=[(5, 1)], version=4))
    await client.call("ReportBatchSplit", pb.ReportBatchSplitRequest(regions=made))
    assert await found() == [(4, 5), (4, 5), (2, 3)]
    # the parent's heartbeat may come first
    await told(region(2, b"t", b"", peers=[(3, 1)], version=4))
    half = [region(8, b"m", b"t", peers=[(9, 1)], version=4), region(2, b"t", b"", peers=[(3, 1)], version=4)]
    await client.call("ReportBatchSplit", pb.ReportBatchSplitRequest(regions=half))
    assert (await client.call("GetRegion", pb.GetRegionRequest(region_key=b"n"))).leader.id == 9
    stream.cancel()


@with_pd
async def test_gc_safe_points(client: Client, machine: Machine) -> None:
    await client.bootstrap()

    async def service(name: bytes, ttl: int, point: int) -> tuple[bytes, int]:
        request = pb.UpdateServiceGCSafePointRequest(service_id=name, TTL=ttl, safe_point=point)
        reply = await client.call("UpdateServiceGCSafePoint", request)
        return reply.service_id, reply.min_safe_point

    assert await service(b"gc_worker", 1 << 40, 50) == (b"gc_worker", 50)
    assert await service(b"backup", 10, 60) == (b"gc_worker", 50)
    assert await service(b"gc_worker", 1 << 40, 90) == (b"backup", 60)
    assert await service(b"late", 10, 55) == (b"backup", 60)
    advance = await client.call("AdvanceTxnSafePoint", pb.AdvanceTxnSafePointRequest(target=80))
    assert (advance.new_txn_safe_point, "backup" in advance.blocker_description) == (60, True)
    assert (await client.call("AdvanceGCSafePoint", pb.AdvanceGCSafePointRequest(target=60))).new_gc_safe_point == 60
    refused = await client.call_raw("AdvanceGCSafePoint", pb.AdvanceGCSafePointRequest(target=61))
    assert "exceeds the txn safe point" in refused.header.error.message
    state = (await client.call("GetGCState", pb.GetGCStateRequest())).gc_state
    assert (state.txn_safe_point, state.gc_safe_point) == (60, 60)
    assert [(b.barrier_id, b.barrier_ts) for b in state.gc_barriers] == [("backup", 60)]
    await asyncio.sleep(11)
    assert await service(b"other", 0, 0) == (b"gc_worker", 90)
    assert (await client.call("UpdateGCSafePoint", pb.UpdateGCSafePointRequest(safe_point=10))).new_safe_point == 60
    assert (await client.call("UpdateGCSafePoint", pb.UpdateGCSafePointRequest(safe_point=99))).new_safe_point == 99


@with_pd
async def test_what_clients_look_up_in_etcd(client: Client, machine: Machine) -> None:
    async def found(key: bytes, **more: Any) -> list[tuple[bytes, bytes]]:
        reply = await client.call_raw(ETCD_METHODS["Range"], etcd.RangeRequest(key=key, **more))
        assert reply.header.revision > 0
        assert reply.count == (len(reply.kvs) or bool(more.get("count_only")))
        return [(one.key, one.value) for one in reply.kvs]

    await client.bootstrap()
    assert await found(SAVED_SAFE_POINT) == []
    await client.call("AdvanceTxnSafePoint", pb.AdvanceTxnSafePointRequest(target=4321))
    whole = [(SAVED_SAFE_POINT, b"4321")]
    assert await found(SAVED_SAFE_POINT) == whole
    assert await found(SAVED_SAFE_POINT, keys_only=True) == [(SAVED_SAFE_POINT, b"")]
    assert await found(SAVED_SAFE_POINT, count_only=True) == []
    assert await found(b"/tidb/", range_end=b"/tidb0") == await found(b"\0", range_end=NO_BOUND) == whole
    assert await found(b"/tidb/", range_end=SAVED_SAFE_POINT) == await found(b"/other") == []
    members = await client.call_raw(ETCD_CLUSTER_METHODS["MemberList"], etcd.MemberListRequest())
    assert [(one.name, list(one.clientURLs)) for one in members.members] == [("pd1", ["http://pd1:2379"])]
    client.cluster_id = 0
    services = await client.call(REGISTRY_METHODS["Get"], registry.GetRequest(key=b"/ms/"))
    assert not services.kvs


@with_pd
async def test_keyspace_and_global_config(client: Client, machine: Machine) -> None:
    request = keyspacepb_pb2.LoadKeyspaceRequest(name="DEFAULT")
    reply = await client.call(KEYSPACE_METHODS["LoadKeyspace"], request)
    assert (reply.keyspace.id, reply.keyspace.name) == (0, "DEFAULT")
    items = [pb.GlobalConfigItem(name="a", value="1"), pb.GlobalConfigItem(name="b", payload=b"2")]
    await client.call_raw("StoreGlobalConfig", pb.StoreGlobalConfigRequest(config_path="/x", changes=items))
    loaded = await client.call_raw("LoadGlobalConfig", pb.LoadGlobalConfigRequest(config_path="/x"))
    assert [(item.name, item.payload) for item in loaded.items] == [("a", b"1"), ("b", b"2")]
    one = await client.call_raw("LoadGlobalConfig", pb.LoadGlobalConfigRequest(config_path="/x", names=["c"]))
    assert one.items[0].error.type == pb.ErrorType.GLOBAL_CONFIG_NOT_FOUND


@with_pd
async def test_tombstones_are_refused(client: Client, machine: Machine) -> None:
    await client.bootstrap(stores=2)
    assert machine.node is not None
    lead = machine.node.leadership
    assert lead is not None
    buried = store(2)
    buried.state = StoreState.Tombstone
    await lead.save_store(buried)
    for method, request in (
        ("PutStore", pb.PutStoreRequest(store=store(2))),
        ("StoreHeartbeat", pb.StoreHeartbeatRequest(stats=pb.StoreStats(store_id=2))),
    ):
        assert (await client.call_raw(method, request)).header.error.type == pb.ErrorType.STORE_TOMBSTONE
    living = pb.GetAllStoresRequest(exclude_tombstone_stores=True)
    assert [s.id for s in (await client.call("GetAllStores", living)).stores] == [1]


@with_pd
async def test_of_changes_made_at_once_none_is_lost(client: Client, machine: Machine) -> None:
    await client.bootstrap(stores=2)
    offline = admin.PdSetStoreStateRequest(store_id=2, state=StoreState.Offline)
    await asyncio.gather(
        client.call(ADMIN_METHODS["SetStoreState"], offline),
        client.call("PutStore", pb.PutStoreRequest(store=store(2))),
    )
    assert (await client.call("GetStore", pb.GetStoreRequest(store_id=2))).store.state == StoreState.Offline
    twins = [Store(id=store_id, address="one:20160", version="8.5.0") for store_id in (3, 4)]
    replies = await asyncio.gather(*(client.call_raw("PutStore", pb.PutStoreRequest(store=twin)) for twin in twins))
    assert [reply.header.error.type for reply in replies] == [0, pb.ErrorType.DUPLICATED_ENTRY]
    rules = [admin.PdRule(group="g", id=rule_id, count=1) for rule_id in "ab"]
    await asyncio.gather(
        *(client.call(ADMIN_METHODS["SetRules"], admin.PdSetRulesRequest(rules=[rule])) for rule in rules)
    )
    listed = await client.call(ADMIN_METHODS["ListRules"], admin.PdAdminRequest())
    assert [rule.id for rule in listed.rules] == ["a", "b"]
    items = [admin.PdConfigItem(name=name, value="7") for name in ("max_replicas", "patrol_batch")]
    await asyncio.gather(
        *(client.call(ADMIN_METHODS["SetConfig"], admin.PdSetConfigRequest(items=[item])) for item in items)
    )
    config = await client.call(ADMIN_METHODS["GetConfig"], admin.PdAdminRequest())
    assert [item.name for item in config.items if item.value == "7"] == ["max_replicas", "patrol_batch"]


@with_pd
async def test_a_change_is_made_whole_though_its_caller_does_not_wait(client: Client, machine: Machine) -> None:
    await client.bootstrap(stores=2)
    request = admin.PdSetStoreStateRequest(store_id=2, state=StoreState.Offline)
    request.header.cluster_id = client.cluster_id
    channel = client.transport.channel(client.address)
    with pytest.raises(RpcError) as caught:
        await channel.unary(ADMIN_METHODS["SetStoreState"], request, timeout_s=0.0005)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    await asyncio.sleep(0.1)
    assert machine.node is not None
    stored = machine.node.replica.state.get(keys.store_key(2))
    assert stored is not None
    assert Store.FromString(stored).state == StoreState.Offline
    assert (await client.call("GetStore", pb.GetStoreRequest(store_id=2))).store.state == StoreState.Offline


def test_a_new_leader_merges_nothing_before_the_split_interval_has_passed() -> None:
    """It knows of no splits before it led."""

    async def run() -> None:
        network = MemoryNetwork()
        schedule = ScheduleConfig(max_replicas=1, split_merge_interval_s=60)
        (machine,) = machines(network, schedule=schedule)
        client = Client(network, ["pd1:2379"])
        halves = [region(2, b"", b"m", peers=[(3, 1)], version=2), region(4, b"m", b"", peers=[(5, 1)], version=2)]

        async def beat(seconds: int) -> None:
            stream = client.stream("RegionHeartbeat")
            for _ in range(seconds // 10):
                await client.call("StoreHeartbeat", pb.StoreHeartbeatRequest(stats=pb.StoreStats(store_id=1)))
                for half in halves:
                    await stream.send(heartbeat(half, cluster_id=client.cluster_id, size_mib=1))
                await asyncio.sleep(10)
            stream.cancel()

        await machine.start()
        await client.find_leader()
        await client.bootstrap()
        await beat(50)
        await machine.stop()
        await machine.start()
        await client.find_leader()
        for seconds, merging in ((50, False), (20, True)):
            await beat(seconds)
            assert machine.node is not None
            assert machine.node.leadership is not None
            running = machine.node.leadership.controller.running.values()
            assert any(operator.description == "merge-region" for operator in running) == merging
        await machine.stop()

    run_simulated(run())
