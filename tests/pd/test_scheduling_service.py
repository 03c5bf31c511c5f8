"""Scheduling through the service: heartbeats in, orders out, administration, over the in-memory transport."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from kvstore.proto import pdpb_pb2 as pb
from kvstore.proto import pdraft_pb2 as admin
from kvstore.proto.metapb_pb2 import Peer, PeerRole, Region, StoreLabel, StoreState
from kvstore.rpc.memory import MemoryNetwork
from pd.server import ADMIN_METHODS
from tests.pd.cluster_of_pds import Client, Machine, heartbeat, machines, region
from tests.pd.model import change_jointly, change_peer
from tests.sim.loop import run_simulated


class FakeStores:
    """Leaders of regions that do what they are ordered, and report every second."""

    def __init__(self, client: Client, stores: int) -> None:
        self.client = client
        self.regions: dict[int, Region] = {}
        self.leaders: dict[int, int] = {}
        self.orders: list[pb.RegionHeartbeatResponse] = []
        self.silent = 0
        """A store that sends no heartbeats of its own."""
        self._streams = {store_id: client.stream("RegionHeartbeat") for store_id in range(1, stores + 1)}
        self._tasks = [asyncio.ensure_future(self._take(stream)) for stream in self._streams.values()]
        self._tasks.append(asyncio.ensure_future(self._beat()))

    def lead(self, meta: Region) -> None:
        self.regions[meta.id], self.leaders[meta.id] = meta, meta.peers[0].store_id

    async def report(self, region_id: int) -> None:
        meta = self.regions[region_id]
        request = heartbeat(meta, cluster_id=self.client.cluster_id)
        request.leader.CopyFrom(next(p for p in meta.peers if p.store_id == self.leaders[region_id]))
        await self._streams[self.leaders[region_id]].send(request)

    async def _beat(self) -> None:
        while True:
            for store_id in self._streams:
                if store_id == self.silent:
                    continue
                request = pb.StoreHeartbeatRequest(stats=pb.StoreStats(store_id=store_id, capacity=10, available=10))
                await self.client.call("StoreHeartbeat", request)
            for region_id in list(self.regions):
                await self.report(region_id)
            await asyncio.sleep(1)

    async def _take(self, stream: Any) -> None:
        while (order := await stream.receive()) is not None:
            self.orders.append(order)
            meta = self.regions[order.region_id]
            if order.region_epoch != meta.region_epoch:
                continue
            if order.HasField("change_peer"):
                change_peer(meta, order.change_peer)
                meta.region_epoch.conf_ver += 1
            elif order.HasField("change_peer_v2"):
                change_jointly(meta, list(order.change_peer_v2.changes))
            elif order.HasField("transfer_leader"):
                self.leaders[meta.id] = order.transfer_leader.peer.store_id
            elif order.HasField("split_region"):
                self._split(meta, list(order.split_region.keys))
            else:
                raise AssertionError(f"not expected: {order}")
            await self.report(meta.id)

    def _split(self, meta: Region, keys: list[bytes]) -> None:
        bounds = [meta.start_key, *keys, meta.end_key]
        meta.region_epoch.version += len(keys)
        meta.start_key = keys[-1]
        for number, (start, end) in enumerate(pairwise(bounds[:-1])):
            peers = [Peer(id=7000 + 10 * number + i, store_id=p.store_id) for i, p in enumerate(meta.peers)]
            new = Region(id=5000 + number, start_key=start, end_key=end, region_epoch=meta.region_epoch, peers=peers)
            self.lead(new)

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for stream in self._streams.values():
            stream.cancel()


def scheduled(stores: int) -> Callable[[Callable[[Client, FakeStores, Machine], Awaitable[None]]], Callable[[], None]]:
    def decorate(test: Callable[[Client, FakeStores, Machine], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            network = MemoryNetwork()
            (machine,) = machines(network)
            await machine.start()
            client = Client(network, ["pd1:2379"])
            await client.find_leader()
            await client.bootstrap(stores=stores)
            fake = FakeStores(client, stores)
            fake.lead(region(2, peers=[(3, 1)]))
            await test(client, fake, machine)
            fake.stop()
            await machine.stop()

        def wrapped() -> None:
            run_simulated(run())

        wrapped.__name__ = test.__name__
        return wrapped

    return decorate


async def call(client: Client, method: str, request: object) -> object:
    return await client.call(ADMIN_METHODS[method], request)


@scheduled(3)
async def test_a_region_gets_its_replicas(client: Client, fake: FakeStores, machine: Machine) -> None:
    await asyncio.sleep(10)
    assert sorted(p.store_id for p in fake.regions[2].peers) == [1, 2, 3]
    assert all(p.role == PeerRole.Voter for p in fake.regions[2].peers)
    told = await client.call("GetRegion", pb.GetRegionRequest(region_key=b"x"))
    assert told.region == fake.regions[2]
    status = await client.call("GetOperator", pb.GetOperatorRequest(region_id=2))
    assert (status.status, status.desc) == (pb.OperatorStatus.SUCCESS, b"add-rule-peer")
    await machine.stop()
    await machine.start()
    await client.find_leader()
    assert (await client.call("GetRegion", pb.GetRegionRequest(region_key=b"x"))).region == fake.regions[2]


@scheduled(3)
async def test_operators_by_hand(client: Client, fake: FakeStores, machine: Machine) -> None:
    await asyncio.sleep(10)
    request = admin.PdAddOperatorRequest(region_id=2, transfer_leader=admin.PdTransferLeader(store_id=3))
    await call(client, "AddOperator", request)
    await asyncio.sleep(0.01)
    assert fake.leaders[2] == 3
    nowhere = admin.PdAddOperatorRequest(region_id=2, transfer_leader=admin.PdTransferLeader(store_id=9))
    reply = await client.call_raw(ADMIN_METHODS["AddOperator"], nowhere)
    assert "no voter on store 9" in reply.header.error.message
    split = admin.PdSplit(policy=pb.CheckPolicy.USEKEY, keys=[b"m"])
    await call(client, "AddOperator", admin.PdAddOperatorRequest(region_id=2, split=split))
    await asyncio.sleep(2)
    found = await client.call("ScanRegions", pb.ScanRegionsRequest())
    assert [(r.region.start_key, r.region.end_key) for r in found.regions] == [(b"", b"m"), (b"m", b"")]
    listed = await client.call(ADMIN_METHODS["ListOperators"], admin.PdAdminRequest())
    names = [op.description for op in listed.operators]
    assert {"admin-transfer-leader", "admin-split"} <= set(names)


@scheduled(3)
async def test_split_at_keys_and_scatter(client: Client, fake: FakeStores, machine: Machine) -> None:
    await asyncio.sleep(10)
    request = pb.SplitAndScatterRegionsRequest(split_keys=[b"g", b"p"], group="g", retry_limit=3)
    reply = await client.call("SplitAndScatterRegions", request)
    assert (reply.split_finished_percentage, len(reply.regions_id)) == (100, 2)
    await asyncio.sleep(3)
    assert len({fake.leaders[region_id] for region_id in reply.regions_id}) == 2
    missing = await client.call_raw("ScatterRegion", pb.ScatterRegionRequest(region_id=999))
    assert missing.header.error.type == pb.ErrorType.REGION_NOT_FOUND


async def healths(client: Client) -> dict[int, str]:
    stores = await client.call(ADMIN_METHODS["ListStores"], admin.PdAdminRequest())
    return {item.store.id: item.state_name for item in stores.stores}


@scheduled(4)
async def test_no_store_is_down_because_the_clock_jumps(client: Client, fake: FakeStores, machine: Machine) -> None:
    await asyncio.sleep(10)
    machine.clock_skew_ms += 7_200_000
    assert set((await healths(client)).values()) == {"Up"}
    orders = len(fake.orders)
    await asyncio.sleep(10)
    assert len(fake.orders) == orders
    machine.clock_skew_ms -= 9_000_000
    fake.silent = 4
    await asyncio.sleep(25)
    assert await healths(client) == {1: "Up", 2: "Up", 3: "Up", 4: "Disconnected"}


@scheduled(4)
async def test_a_store_is_taken_out(client: Client, fake: FakeStores, machine: Machine) -> None:
    await asyncio.sleep(10)
    held = sorted(p.store_id for p in fake.regions[2].peers)
    gone = held[0]
    await call(client, "SetStoreState", admin.PdSetStoreStateRequest(store_id=gone, state=StoreState.Offline))
    early = admin.PdSetStoreStateRequest(store_id=gone, state=StoreState.Tombstone)
    reply = await client.call_raw(ADMIN_METHODS["SetStoreState"], early)
    assert "still has 1 regions" in reply.header.error.message
    while await state_of(client, gone) == "Offline":
        await asyncio.sleep(0.5)
        assert asyncio.get_running_loop().time() < 60
    assert gone not in [p.store_id for p in fake.regions[2].peers]
    assert len(fake.regions[2].peers) == 3
    assert await state_of(client, gone) == "Tombstone"
    fake.stop()
    await call(client, "SetStoreState", early)
    beat = await client.call_raw("StoreHeartbeat", pb.StoreHeartbeatRequest(stats=pb.StoreStats(store_id=gone)))
    assert beat.header.error.type == pb.ErrorType.STORE_TOMBSTONE


@scheduled(4)
async def test_a_new_leader_buries_nobody_before_it_was_told_of_all_regions(
    client: Client, fake: FakeStores, machine: Machine
) -> None:
    """What it reads of the regions may be older than a peer that was added."""
    await asyncio.sleep(10)
    empty = next(i for i in range(1, 5) if i not in [p.store_id for p in fake.regions[2].peers])
    fake.stop()
    await call(client, "SetStoreState", admin.PdSetStoreStateRequest(store_id=empty, state=StoreState.Offline))
    await machine.stop()
    await machine.start()
    await client.find_leader()
    await asyncio.sleep(30)
    assert await state_of(client, empty) == "Offline"
    await call(client, "SetStoreState", admin.PdSetStoreStateRequest(store_id=empty, state=StoreState.Up))
    again = FakeStores(client, 4)
    again.lead(fake.regions[2])
    again.leaders[2] = fake.leaders[2]
    await asyncio.sleep(15)
    assert await state_of(client, empty) == "Up"
    await call(client, "SetStoreState", admin.PdSetStoreStateRequest(store_id=empty, state=StoreState.Offline))
    again.stop()
    await asyncio.sleep(15)
    assert await state_of(client, empty) == "Tombstone"


@scheduled(4)
async def test_intervals_can_be_changed_while_it_runs(client: Client, fake: FakeStores, machine: Machine) -> None:
    await asyncio.sleep(10)
    for name in ("schedule-interval-ms", "patrol-interval-ms"):
        item = admin.PdConfigItem(name=name, value="3600000")
        await call(client, "SetConfig", admin.PdSetConfigRequest(items=[item]))
    await asyncio.sleep(2)
    gone = next(p.store_id for p in fake.regions[2].peers if p.store_id != fake.leaders[2])
    await call(client, "SetStoreState", admin.PdSetStoreStateRequest(store_id=gone, state=StoreState.Offline))
    await asyncio.sleep(300)
    assert gone in [p.store_id for p in fake.regions[2].peers]
    item = admin.PdConfigItem(name="patrol-interval-ms", value="0")
    await call(client, "SetConfig", admin.PdSetConfigRequest(items=[item]))
    await asyncio.sleep(5)
    assert gone not in [p.store_id for p in fake.regions[2].peers]
    fake.stop()


async def state_of(client: Client, store_id: int) -> str:
    """What the placement driver says of a store."""
    stores = await client.call(ADMIN_METHODS["ListStores"], admin.PdAdminRequest())
    return {item.store.id: str(item.state_name) for item in stores.stores}[store_id]


@scheduled(1)
async def test_settings_outlive_a_restart(client: Client, fake: FakeStores, machine: Machine) -> None:
    fake.stop()
    await call(client, "RemoveScheduler", admin.PdPauseSchedulerRequest(name="hot-region"))
    await call(client, "AddScheduler", admin.PdSchedulerRequest(kind="evict-leader", store_id=1))
    await call(client, "PauseScheduler", admin.PdPauseSchedulerRequest(name="balance-leader", seconds=60))
    item = admin.PdConfigItem(name="max-replicas", value="5")
    await call(client, "SetConfig", admin.PdSetConfigRequest(items=[item]))
    rule = admin.PdRule(
        group="g",
        id="a",
        count=2,
        role=admin.PdRuleRole.FOLLOWER,
        constraints=[admin.PdLabelConstraint(key="zone", op=admin.PdLabelOp.NOT_IN, values=["z"])],
        start_key=b"a",
        end_key=b"b",
        location_labels=["zone"],
    )
    await call(client, "SetRules", admin.PdSetRulesRequest(rules=[rule]))
    labels = [StoreLabel(key="zone", value="q")]
    await call(client, "SetStoreLabels", admin.PdStoreLabelsRequest(store_id=1, labels=labels))
    weight = admin.PdStoreWeightRequest(store_id=1, leader_weight=2, region_weight=0.5)
    await call(client, "SetStoreWeight", weight)
    await machine.stop()
    await machine.start()
    await client.find_leader()
    empty = admin.PdAdminRequest()
    schedulers = (await client.call(ADMIN_METHODS["ListSchedulers"], empty)).schedulers
    assert [s.name for s in schedulers] == ["balance-leader", "balance-region", "evict-leader-1"]
    assert [s.paused_until_ms > 0 for s in schedulers] == [True, False, False]
    assert ("max_replicas", "5") in [
        (i.name, i.value) for i in (await client.call(ADMIN_METHODS["GetConfig"], empty)).items
    ]
    assert list((await client.call(ADMIN_METHODS["ListRules"], empty)).rules) == [rule]
    (status,) = (await client.call(ADMIN_METHODS["ListStores"], empty)).stores
    assert (status.leader_weight, status.region_weight) == (2, 0.5)
    assert [(label.key, label.value) for label in status.store.labels] == [("zone", "q")]


@pytest.mark.parametrize(
    ("method", "request_", "message"),
    [
        ("AddScheduler", admin.PdSchedulerRequest(kind="nonsense"), "no scheduler"),
        ("AddScheduler", admin.PdSchedulerRequest(kind="evict-leader"), "needs a store"),
        ("AddScheduler", admin.PdSchedulerRequest(kind="balance-leader"), "exists already"),
        ("RemoveScheduler", admin.PdPauseSchedulerRequest(name="x"), "no scheduler"),
        ("SetConfig", admin.PdSetConfigRequest(items=[admin.PdConfigItem(name="x", value="1")]), "no config item"),
        (
            "SetConfig",
            admin.PdSetConfigRequest(items=[admin.PdConfigItem(name="max_replicas", value="many")]),
            "is not a number",
        ),
        ("SetRules", admin.PdSetRulesRequest(rules=[admin.PdRule(id="a", count=1)]), "needs a group"),
        ("RemoveOperator", admin.PdRegionRequest(region_id=2), "no operator works"),
        ("AddOperator", admin.PdAddOperatorRequest(region_id=2), "no operator is given"),
        ("SetStoreState", admin.PdSetStoreStateRequest(store_id=1, state=StoreState.Offline), "the last one"),
        ("TransferMemberLeader", admin.PdTransferMemberRequest(), "no other member"),
    ],
)
def test_nonsense_is_refused(method: str, request_: object, message: str) -> None:
    @scheduled(1)
    async def refused(client: Client, fake: FakeStores, machine: Machine) -> None:
        await asyncio.sleep(0.5)
        reply = await client.call_raw(ADMIN_METHODS[method], request_)
        assert message in reply.header.error.message

    refused()
