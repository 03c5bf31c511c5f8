"""A placement driver of several members over the memory network, whose leader, faults and regions a test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from kvstore.proto import pdpb_pb2 as pdpb
from kvstore.proto.metapb_pb2 import Peer, Region, Store
from kvstore.rpc.api import Call, Code, Handlers, RpcError, methods_of
from kvstore.rpc.memory import MemoryNetwork, MemoryServer

METHODS = methods_of(pdpb.DESCRIPTOR, "PD")
CLUSTER = 77


class MockPd:
    """What the members share: timestamps, regions, stores, who leads."""

    def __init__(self, network: MemoryNetwork, members: int = 1) -> None:
        self.network = network
        self.addresses = [f"pd{n}:2379" for n in range(members)]
        self.leader: int | None = 0
        self.claims: dict[int, int] = {}
        """Members that name another leader than the true one."""
        self.hung: dict[int, None] = {}
        """Members that take calls and never answer, as a stopped process does."""
        self.refused: dict[str, None] = {}
        """Calls that are answered with PERMISSION_DENIED."""
        self.physical = 1000
        self.logical = 0
        self.follows_clock = False
        """Whether timestamps go on with the loop's time, or only when told to."""
        self.ts_requests = 0
        self.break_tso_after: int | None = None
        """Breaks the stream instead of the answer of this many requests from now on."""
        self.regions: dict[int, tuple[Region, Peer | None]] = {}
        self.stores: dict[int, Store] = {}
        self.heartbeats: list[pdpb.RegionHeartbeatRequest] = []
        self.orders: list[pdpb.RegionHeartbeatResponse] = []
        self.safe_point = 0
        self.services: dict[bytes, int] = {}
        """Safe points of services, which do not expire here."""
        self.calls: list[str] = []
        self.next_id = 1000
        self.servers: list[MemoryServer] = []

    async def start(self) -> None:
        for index, address in enumerate(self.addresses):
            server = self.network.server(address, self._handlers(index))
            await server.start()
            self.servers.append(server)

    def next_ts(self, count: int = 1) -> int:
        """Draws timestamps; returns the last."""
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        if self.follows_clock and now_ms > self.physical:
            self.physical, self.logical = now_ms, 0
        self.logical += count
        if self.logical >= 1 << 17:
            self.physical += 1
            self.logical = count
        return (self.physical << 18) + self.logical

    def ts(self) -> int:
        return self.next_ts()

    def pass_time(self, ms: int) -> None:
        self.physical += ms
        self.logical = 0

    def _handlers(self, index: int) -> Handlers:
        member = _Member(self, index)
        unary = {}
        for name, method in METHODS.items():
            if not method.client_streaming and hasattr(member, name):
                unary[method.path] = (method, member.guarded(name))
        streams = {METHODS[name].path: (METHODS[name], getattr(member, name)) for name in ("Tso", "RegionHeartbeat")}
        return Handlers(unary, streams)


class _Member:
    """One member's answers, named as the service's methods."""

    def __init__(self, pd: MockPd, index: int) -> None:
        self.pd = pd
        self.index = index

    def guarded(self, name: str) -> Any:
        async def answer(request: Any, call: Call) -> Any:
            self.pd.calls.append(name)
            await self.hang()
            if name in self.pd.refused:
                raise RpcError(Code.PERMISSION_DENIED, f"{name} is not for you")
            if name != "GetMembers":
                self.check(request.header)
            result = await getattr(self, name)(request)
            if not result.header.error.type:
                result.header.cluster_id = CLUSTER
            return result

        return answer

    async def hang(self) -> None:
        if self.index in self.pd.hung:
            await asyncio.Event().wait()

    def check(self, header: pdpb.RequestHeader) -> None:
        if header.cluster_id != CLUSTER:
            raise RpcError(Code.FAILED_PRECONDITION, f"mismatch cluster id, need {CLUSTER} but got {header.cluster_id}")
        if self.pd.leader != self.index:
            raise RpcError(Code.UNAVAILABLE, "not leader")

    async def GetMembers(self, request: pdpb.GetMembersRequest) -> pdpb.GetMembersResponse:
        members = [
            pdpb.Member(name=f"pd{n}", member_id=n + 1, client_urls=[f"http://{address}"])
            for n, address in enumerate(self.pd.addresses)
        ]
        leader = self.pd.claims.get(self.index, self.pd.leader)
        response = pdpb.GetMembersResponse(header=pdpb.ResponseHeader(cluster_id=CLUSTER), members=members)
        if leader is not None:
            response.leader.CopyFrom(members[leader])
        return response

    async def Tso(self, requests: AsyncIterator[pdpb.TsoRequest], call: Call) -> AsyncIterator[pdpb.TsoResponse]:
        pd = self.pd
        async for request in requests:
            await self.hang()
            self.check(request.header)
            pd.ts_requests += 1
            last = pd.next_ts(request.count)
            if pd.break_tso_after is not None:
                pd.break_tso_after -= 1
                if pd.break_tso_after < 0:
                    pd.break_tso_after = None
                    raise RpcError(Code.UNAVAILABLE, "the stream breaks")
            stamp = pdpb.Timestamp(physical=last >> 18, logical=last & ((1 << 18) - 1))
            header = pdpb.ResponseHeader(cluster_id=CLUSTER)
            yield pdpb.TsoResponse(header=header, count=request.count, timestamp=stamp)

    async def RegionHeartbeat(
        self, requests: AsyncIterator[pdpb.RegionHeartbeatRequest], call: Call
    ) -> AsyncIterator[pdpb.RegionHeartbeatResponse]:
        async for request in requests:
            self.check(request.header)
            self.pd.heartbeats.append(request)
            while self.pd.orders:
                yield self.pd.orders.pop(0)

    async def GetRegion(self, request: pdpb.GetRegionRequest) -> pdpb.GetRegionResponse:
        for region, leader in self.pd.regions.values():
            if region.start_key <= request.region_key and (not region.end_key or request.region_key < region.end_key):
                return pdpb.GetRegionResponse(region=region, leader=leader)
        return pdpb.GetRegionResponse()

    async def GetRegionByID(self, request: pdpb.GetRegionByIDRequest) -> pdpb.GetRegionResponse:
        if request.region_id not in self.pd.regions:
            return pdpb.GetRegionResponse()
        region, leader = self.pd.regions[request.region_id]
        return pdpb.GetRegionResponse(region=region, leader=leader)

    async def ScanRegions(self, request: pdpb.ScanRegionsRequest) -> pdpb.ScanRegionsResponse:
        found = [
            pdpb.Region(region=region, leader=leader)
            for region, leader in sorted(self.pd.regions.values(), key=lambda item: item[0].start_key)
            if (not region.end_key or region.end_key > request.start_key)
            and (not request.end_key or region.start_key < request.end_key)
        ]
        return pdpb.ScanRegionsResponse(regions=found[: request.limit or None])

    async def GetStore(self, request: pdpb.GetStoreRequest) -> pdpb.GetStoreResponse:
        store = self.pd.stores.get(request.store_id)
        if store is None:
            error = pdpb.Error(type=pdpb.UNKNOWN, message=f"invalid store ID {request.store_id}, not found")
            return pdpb.GetStoreResponse(header=pdpb.ResponseHeader(cluster_id=CLUSTER, error=error))
        return pdpb.GetStoreResponse(store=store)

    async def GetAllStores(self, request: pdpb.GetAllStoresRequest) -> pdpb.GetAllStoresResponse:
        return pdpb.GetAllStoresResponse(stores=list(self.pd.stores.values()))

    async def IsBootstrapped(self, request: pdpb.IsBootstrappedRequest) -> pdpb.IsBootstrappedResponse:
        return pdpb.IsBootstrappedResponse(bootstrapped=bool(self.pd.regions))

    async def Bootstrap(self, request: pdpb.BootstrapRequest) -> pdpb.BootstrapResponse:
        if self.pd.regions:
            error = pdpb.Error(type=pdpb.ALREADY_BOOTSTRAPPED, message="cluster is already bootstrapped")
            return pdpb.BootstrapResponse(header=pdpb.ResponseHeader(cluster_id=CLUSTER, error=error))
        self.pd.stores[request.store.id] = request.store
        self.pd.regions[request.region.id] = (request.region, request.region.peers[0])
        return pdpb.BootstrapResponse()

    async def PutStore(self, request: pdpb.PutStoreRequest) -> pdpb.PutStoreResponse:
        self.pd.stores[request.store.id] = request.store
        return pdpb.PutStoreResponse()

    async def StoreHeartbeat(self, request: pdpb.StoreHeartbeatRequest) -> pdpb.StoreHeartbeatResponse:
        return pdpb.StoreHeartbeatResponse(cluster_version=str(request.stats.store_id))

    async def AllocID(self, request: pdpb.AllocIDRequest) -> pdpb.AllocIDResponse:
        self.pd.next_id += request.count
        return pdpb.AllocIDResponse(id=self.pd.next_id, count=request.count)

    async def AskBatchSplit(self, request: pdpb.AskBatchSplitRequest) -> pdpb.AskBatchSplitResponse:
        ids = []
        for _ in range(request.split_count):
            peers = list(range(self.pd.next_id + 2, self.pd.next_id + 2 + len(request.region.peers)))
            ids.append(pdpb.SplitID(new_region_id=self.pd.next_id + 1, new_peer_ids=peers))
            self.pd.next_id = peers[-1]
        return pdpb.AskBatchSplitResponse(ids=ids)

    async def ReportBatchSplit(self, request: pdpb.ReportBatchSplitRequest) -> pdpb.ReportBatchSplitResponse:
        for region in request.regions:
            self.pd.regions[region.id] = (region, region.peers[0])
        return pdpb.ReportBatchSplitResponse()

    async def GetGCSafePoint(self, request: pdpb.GetGCSafePointRequest) -> pdpb.GetGCSafePointResponse:
        return pdpb.GetGCSafePointResponse(safe_point=self.pd.safe_point)

    async def UpdateGCSafePoint(self, request: pdpb.UpdateGCSafePointRequest) -> pdpb.UpdateGCSafePointResponse:
        self.pd.safe_point = max(self.pd.safe_point, request.safe_point)
        return pdpb.UpdateGCSafePointResponse(new_safe_point=self.pd.safe_point)

    async def UpdateServiceGCSafePoint(
        self, request: pdpb.UpdateServiceGCSafePointRequest
    ) -> pdpb.UpdateServiceGCSafePointResponse:
        services = self.pd.services
        if request.TTL <= 0:
            services.pop(request.service_id, None)
        elif request.safe_point >= min(services.values(), default=0):
            services[request.service_id] = request.safe_point
        least = min(services.values(), default=0)
        return pdpb.UpdateServiceGCSafePointResponse(service_id=request.service_id, min_safe_point=least)
