"""The placement driver's client: finds the leader among the members, follows it, and asks again within a budget.

Any member answers GetMembers; everything else goes to the leader that it names. Implements the store's `Placement`
(kvstore/raftstore/api.py) and what a cluster's client needs: timestamps, lookups of regions and stores, safe points.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Any

from kvstore.client.cluster.background import shared
from kvstore.client.cluster.backoff import PD, PD_BUDGET_MS, Backoff
from kvstore.client.cluster.errors import ClusterMismatch, PdRefused
from kvstore.client.cluster.heartbeats import RegionHeartbeats
from kvstore.client.cluster.tso import Timestamps
from kvstore.errors import PdError
from kvstore.proto import pdpb_pb2 as pdpb
from kvstore.proto import pdraft_pb2 as pdraft
from kvstore.proto.metapb_pb2 import Cluster, Peer, Region, Store
from kvstore.rpc.api import Channel, Code, Method, RpcError, Stream, Transport, methods_of

METHODS = methods_of(pdpb.DESCRIPTOR, "PD")
ADMIN_METHODS = methods_of(pdraft.DESCRIPTOR, "PdAdmin")
"""Of our own placement drivers alone."""
CALL_TIMEOUT_S = 3.0
MEMBERS_TIMEOUT_S = 1.0
SCAN_REGIONS_MAX = 1024
"""Regions asked for in one ScanRegions."""

Located = tuple[Region, Peer | None]
"""A region and its leader, None when nobody knows one."""

_FINAL_CODES = frozenset(
    {Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.UNIMPLEMENTED, Code.NOT_FOUND}
)
_RETRY_MESSAGES = ("not leader", "no leader", "not started", "is not serving")


def address_of(url: str) -> str:
    """host:port of a member's client URL."""
    return url.rpartition("://")[2].rstrip("/")


def _leader_of(response: Any) -> Peer | None:
    return response.leader if response.leader.id else None


class PdClient:
    """Speaks pdpb.PD. Every method raises PdUnavailable, PdRefused (both RpcErrors), PdError or ClusterMismatch."""

    def __init__(
        self, transport: Transport, addresses: Sequence[str], *, rng: random.Random, cluster_id: int = 0
    ) -> None:
        if not addresses:
            raise ValueError("no address of a placement driver")
        self._transport = transport
        self._seeds = tuple(address_of(address) for address in addresses)
        self._members: tuple[str, ...] = self._seeds
        self._rng = rng
        self._leader = ""
        self._cluster_id = cluster_id
        self._finding: asyncio.Task[None] | None = None
        self._tso = Timestamps(lambda: self._open("Tso"), self._leader_lost, rng)
        self._heartbeats = RegionHeartbeats(lambda: self._open("RegionHeartbeat"), self._leader_lost, rng)

    @classmethod
    async def connect(
        cls, transport: Transport, addresses: Sequence[str], *, rng: random.Random, cluster_id: int = 0
    ) -> PdClient:
        """A client that has found its leader. `cluster_id` 0 takes whichever cluster answers."""
        client = cls(transport, addresses, rng=rng, cluster_id=cluster_id)
        await client.find_leader()
        return client

    @property
    def cluster_id(self) -> int:
        """Known after the first answer."""
        return self._cluster_id

    @property
    def leader(self) -> str:
        """The leader's address, as far as known."""
        return self._leader

    async def close(self) -> None:
        await self._tso.close()
        await self._heartbeats.close()
        if self._finding is not None:
            self._finding.cancel()
            await asyncio.gather(self._finding, return_exceptions=True)

    async def find_leader(self) -> None:
        """Asks members until one names a leader. Raises PdUnavailable, ClusterMismatch."""
        backoff = Backoff(PD_BUDGET_MS, self._rng)
        while True:
            try:
                await self._refresh(self._leader)
                return
            except RpcError as error:
                await backoff.wait(PD, str(error))

    async def _leader_lost(self) -> None:
        """The leader does not answer: looks once who leads now; failing that, the old one is tried again."""
        with contextlib.suppress(RpcError):
            await self._refresh(self._leader)

    async def _refresh(self, failed: str) -> None:
        """Asks all members who leads; all who want to know at the same time share one round."""
        if self._finding is None or self._finding.done():
            self._finding = shared(self._ask_members(failed))
        await asyncio.shield(self._finding)

    async def _ask_members(self, failed: str) -> None:
        """Takes the first answer that names another leader than the one that failed, else one that names it again."""
        addresses = tuple(dict.fromkeys((*self._members, *self._seeds)))
        loop = asyncio.get_running_loop()
        asking = [loop.create_task(self._get_members(address)) for address in addresses]
        same: pdpb.GetMembersResponse | None = None
        last: RpcError = RpcError(Code.UNAVAILABLE, "no member of the placement driver answered")
        try:
            while asking:
                await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in asking if task.done()]:
                    asking.remove(task)
                    try:
                        answer = task.result()
                    except RpcError as error:
                        last = error
                        continue
                    if not answer.leader.client_urls:
                        last = RpcError(Code.UNAVAILABLE, "no leader")
                    elif address_of(answer.leader.client_urls[0]) != failed:
                        self._follow(answer)
                        return
                    else:
                        same = answer
        finally:
            for task in asking:
                # one that has failed meanwhile is looked at, or asyncio would log it
                if not task.cancel() and not task.cancelled():
                    task.exception()
        if same is None:
            raise last
        self._follow(same)

    async def _get_members(self, address: str) -> pdpb.GetMembersResponse:
        channel = self._transport.channel(address)
        answer: pdpb.GetMembersResponse = await channel.unary(
            METHODS["GetMembers"], pdpb.GetMembersRequest(), MEMBERS_TIMEOUT_S
        )
        return answer

    def _follow(self, answer: pdpb.GetMembersResponse) -> None:
        found = answer.header.cluster_id
        if self._cluster_id and found != self._cluster_id:
            raise ClusterMismatch(f"the placement driver is of cluster {found}, not {self._cluster_id}")
        self._cluster_id = found
        self._leader = address_of(answer.leader.client_urls[0])
        urls = [address_of(member.client_urls[0]) for member in answer.members if member.client_urls]
        self._members = tuple(dict.fromkeys((self._leader, *urls)))

    async def _leader_channel(self) -> Channel:
        if not self._leader:
            await self._refresh("")
        return self._transport.channel(self._leader)

    async def _open(self, name: str) -> tuple[Stream, pdpb.RequestHeader]:
        channel = await self._leader_channel()
        return channel.stream(METHODS[name]), self._header()

    def _header(self) -> pdpb.RequestHeader:
        return pdpb.RequestHeader(cluster_id=self._cluster_id)

    async def _call(self, name: str, request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """One question to the leader, asked again while there is none or it does not answer."""
        method = METHODS[name] if name in METHODS else ADMIN_METHODS[name]
        backoff = Backoff(PD_BUDGET_MS, self._rng)
        while True:
            try:
                return await self._attempt(method, request, timeout_s)
            except RpcError as error:
                if error.code in _FINAL_CODES:
                    raise PdRefused(error.code, error.message) from error
                if error.code is Code.FAILED_PRECONDITION:
                    raise ClusterMismatch(error.message) from error
                if error.code is Code.DEADLINE_EXCEEDED:
                    backoff.spent_ms += timeout_s * 1000
                await backoff.wait(PD, str(error))
            await self._leader_lost()

    async def _attempt(self, method: Method, request: Any, timeout_s: float) -> Any:
        channel = await self._leader_channel()
        request.header.CopyFrom(self._header())
        answer = await channel.unary(method, request, timeout_s)
        error = answer.header.error
        if error.type:
            if error.type == pdpb.UNKNOWN and any(text in error.message for text in _RETRY_MESSAGES):
                raise RpcError(Code.UNAVAILABLE, error.message)
            raise PdError(error.type, error.message)
        return answer

    async def get_ts(self) -> int:
        """A fresh timestamp, greater than every one handed out before."""
        return await self._tso.get()

    def about_now_ms(self) -> float:
        """About the physical part (milliseconds) of a timestamp drawn now, 0 if this client has drawn none yet."""
        return self._tso.about_now_ms()

    async def gc_safe_point(self) -> int:
        return int((await self._call("GetGCSafePoint", pdpb.GetGCSafePointRequest())).safe_point)

    async def update_gc_safe_point(self, safe_point: int) -> int:
        """Moves the safe point up; returns the one that holds now, which may be another's and greater."""
        answer = await self._call("UpdateGCSafePoint", pdpb.UpdateGCSafePointRequest(safe_point=safe_point))
        return int(answer.new_safe_point)

    async def update_service_safe_point(self, service: str, ttl_s: int, safe_point: int) -> int:
        """Holds the safe point at or below `safe_point` for a while; returns the least that any service holds."""
        request = pdpb.UpdateServiceGCSafePointRequest(service_id=service.encode(), TTL=ttl_s, safe_point=safe_point)
        return int((await self._call("UpdateServiceGCSafePoint", request)).min_safe_point)

    async def get_region(self, key: bytes) -> Located | None:
        """The region of an encoded key."""
        answer = await self._call("GetRegion", pdpb.GetRegionRequest(region_key=key))
        return (answer.region, _leader_of(answer)) if answer.region.id else None

    async def get_prev_region(self, key: bytes) -> Located | None:
        """The region before the one of an encoded key."""
        answer = await self._call("GetPrevRegion", pdpb.GetRegionRequest(region_key=key))
        return (answer.region, _leader_of(answer)) if answer.region.id else None

    async def get_region_by_id(self, region_id: int) -> Located | None:
        answer = await self._call("GetRegionByID", pdpb.GetRegionByIDRequest(region_id=region_id))
        return (answer.region, _leader_of(answer)) if answer.region.id else None

    async def scan_regions(self, start: bytes, end: bytes, limit: int = SCAN_REGIONS_MAX) -> list[Located]:
        """The regions that meet the encoded range [start, end), in key order; an empty end is no bound."""
        request = pdpb.ScanRegionsRequest(start_key=start, end_key=end, limit=limit)
        answer = await self._call("ScanRegions", request)
        if answer.regions:
            return [(item.region, _leader_of(item)) for item in answer.regions]
        leaders: list[Peer] = list(answer.leaders) or [Peer() for _ in answer.region_metas]
        return [
            (region, leader if leader.id else None) for region, leader in zip(answer.region_metas, leaders, strict=True)
        ]

    async def scan_peers(self, start: bytes, end: bytes) -> list[pdpb.Region]:
        """The regions that meet the encoded range [start, end) with the peers that lag behind or are down."""
        found: list[pdpb.Region] = []
        while True:
            request = pdpb.ScanRegionsRequest(start_key=start, end_key=end, limit=SCAN_REGIONS_MAX)
            regions = list((await self._call("ScanRegions", request)).regions)
            found += regions
            start = regions[-1].region.end_key if regions else b""
            if len(regions) < SCAN_REGIONS_MAX or not start:
                return found

    async def rules(self) -> list[pdraft.PdRule]:
        """The placement rules. PdRefused (UNIMPLEMENTED) where the placement driver is not ours."""
        return list((await self._call("ListRules", pdraft.PdAdminRequest())).rules)

    async def set_rules(self, rules: Sequence[pdraft.PdRule]) -> None:
        """Sets placement rules, all or none; one with count 0 is removed."""
        await self._call("SetRules", pdraft.PdSetRulesRequest(rules=rules))

    async def split_regions(self, keys: Sequence[bytes], retry_limit: int = 3) -> list[int]:
        """Splits at the encoded keys; returns the new regions' ids."""
        answer = await self._call("SplitRegions", pdpb.SplitRegionsRequest(split_keys=keys, retry_limit=retry_limit))
        return list(answer.regions_id)

    async def scatter_regions(self, region_ids: Sequence[int], group: str = "") -> int:
        """Asks for the regions to be spread over the stores; returns how many percent were ordered."""
        request = pdpb.ScatterRegionRequest(regions_id=region_ids, group=group)
        return int((await self._call("ScatterRegion", request)).finished_percentage)

    async def get_operator(self, region_id: int) -> pdpb.GetOperatorResponse:
        answer: pdpb.GetOperatorResponse = await self._call("GetOperator", pdpb.GetOperatorRequest(region_id=region_id))
        return answer

    async def get_store(self, store_id: int) -> Store:
        answer: pdpb.GetStoreResponse = await self._call("GetStore", pdpb.GetStoreRequest(store_id=store_id))
        return answer.store

    async def get_all_stores(self, *, exclude_tombstones: bool = True) -> list[Store]:
        request = pdpb.GetAllStoresRequest(exclude_tombstone_stores=exclude_tombstones)
        return list((await self._call("GetAllStores", request)).stores)

    async def get_cluster_config(self) -> Cluster:
        answer: pdpb.GetClusterConfigResponse = await self._call("GetClusterConfig", pdpb.GetClusterConfigRequest())
        return answer.cluster

    async def is_bootstrapped(self) -> bool:
        return bool((await self._call("IsBootstrapped", pdpb.IsBootstrappedRequest())).bootstrapped)

    async def bootstrap(self, store: Store, region: Region) -> None:
        """Makes the cluster of its first store and region. A PdError of ALREADY_BOOTSTRAPPED may answer a retry."""
        await self._call("Bootstrap", pdpb.BootstrapRequest(store=store, region=region))

    async def alloc_id(self) -> int:
        return int((await self._call("AllocID", pdpb.AllocIDRequest(count=1))).id)

    async def put_store(self, store: Store) -> None:
        await self._call("PutStore", pdpb.PutStoreRequest(store=store))

    async def store_heartbeat(self, stats: pdpb.StoreStats) -> pdpb.StoreHeartbeatResponse:
        answer: pdpb.StoreHeartbeatResponse = await self._call(
            "StoreHeartbeat", pdpb.StoreHeartbeatRequest(stats=stats)
        )
        return answer

    def region_heartbeat(self, request: pdpb.RegionHeartbeatRequest) -> None:
        """Queues a heartbeat on the stream; the newest of a region wins when the stream is slow."""
        self._heartbeats.send(request)

    async def next_order(self) -> pdpb.RegionHeartbeatResponse:
        """The next order to a region led here."""
        return await self._heartbeats.next_order()

    async def ask_batch_split(self, region: Region, count: int) -> Sequence[pdpb.SplitID]:
        """Ids for `count` new regions and their peers."""
        request = pdpb.AskBatchSplitRequest(region=region, split_count=count)
        return list((await self._call("AskBatchSplit", request)).ids)

    async def report_batch_split(self, regions: Sequence[Region]) -> None:
        await self._call("ReportBatchSplit", pdpb.ReportBatchSplitRequest(regions=regions))
