"""The client of a cluster: connects to a placement driver and hands out snapshots, transactions and raw access."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from types import TracebackType

from kvstore.client.api import ReadFrom
from kvstore.client.cluster import commands
from kvstore.client.cluster.background import Background
from kvstore.client.cluster.backoff import POINT_BUDGET_MS, SCAN_BUDGET_MS, Backoff
from kvstore.client.cluster.bulk import BulkLoad, LoadOptions
from kvstore.client.cluster.errors import LocksUnresolved
from kvstore.client.cluster.fan_out import gather_all
from kvstore.client.cluster.key_errors import error_of
from kvstore.client.cluster.parts import Options, Parts
from kvstore.client.cluster.pd_client import PdClient
from kvstore.client.cluster.range_walk import RangeWalk
from kvstore.client.cluster.raw import RawClient
from kvstore.client.cluster.regions import CachedRegion, KeyCodec, RawKeys, RegionCache, TxnKeys
from kvstore.client.cluster.resolver import LockResolver
from kvstore.client.cluster.safe_point import SafePoint
from kvstore.client.cluster.sender import RegionChanged, RegionSender
from kvstore.client.cluster.snapshot import Snapshot
from kvstore.client.cluster.splitting import split_regions
from kvstore.client.cluster.stores import is_replica_engine
from kvstore.client.cluster.transaction import ClusterTransaction
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb
from kvstore.rpc.api import Code, RpcError, Transport

GC_LOCKS_MAX = 256
"""Locks looked at in one request of the garbage collection."""
DESTROY_TIMEOUT_S = 60.0
GC_WORKER = "gc_worker"
"""The service that stands for garbage collection itself among those that hold safe points."""
FOREVER_S = (1 << 63) - 1


class Cluster:
    """One client, for one event loop. `transport` stays the caller's, who closes it after the client."""

    def __init__(
        self,
        pd: PdClient,
        transport: Transport,
        rng: random.Random,
        *,
        options: Options | None = None,
        batch_commands: bool = True,
    ) -> None:
        self.pd = pd
        clock = asyncio.get_running_loop().time

        def sender_for(codec: KeyCodec) -> RegionSender:
            return RegionSender(RegionCache(pd, codec, rng, clock), transport, batch=batch_commands)

        sender = sender_for(TxnKeys())
        background = Background()
        resolver = LockResolver(pd, sender.regions, sender, rng, background)
        options = options or Options()
        safe_point = SafePoint(pd, options.recent_ms)
        self._parts = Parts(pd, sender.regions, sender, resolver, background, safe_point, rng, options)
        self._raw_sender = sender_for(RawKeys())
        self.raw = RawClient(self._raw_sender, rng)

    @classmethod
    async def connect(
        cls,
        addresses: Sequence[str],
        *,
        transport: Transport,
        rng: random.Random,
        cluster_id: int = 0,
        options: Options | None = None,
        batch_commands: bool = True,
    ) -> Cluster:
        """Finds the placement driver's leader. Raises PdUnavailable, ClusterMismatch."""
        pd = await PdClient.connect(transport, addresses, rng=rng, cluster_id=cluster_id)
        return cls(pd, transport, rng, options=options, batch_commands=batch_commands)

    async def __aenter__(self) -> Cluster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finishes what goes on in the background (commits of secondaries above all) and ends the connections."""
        await self._parts.background.close()
        await self._parts.sender.close()
        await self._raw_sender.close()
        await self.pd.close()

    @property
    def regions(self) -> RegionCache:
        """The cache of transactional regions."""
        return self._parts.regions

    @property
    def parts(self) -> Parts:
        """What one needs to send requests of one's own, e.g. to a coprocessor."""
        return self._parts

    async def now_ts(self) -> int:
        """A fresh timestamp, greater than every one handed out before."""
        return await self.pd.get_ts()

    async def begin(self, *, pessimistic: bool = True, start_ts: int | None = None) -> ClusterTransaction:
        """Starts a transaction. With `start_ts` (a past timestamp) it is read-only."""
        ts = start_ts if start_ts is not None else await self.pd.get_ts()
        snapshot = Snapshot(self._parts, ts)
        return ClusterTransaction(self._parts, snapshot, pessimistic=pessimistic, read_only=start_ts is not None)

    def snapshot(self, ts: int, *, read: ReadFrom = ReadFrom.LEADER, cached: bool = False) -> Snapshot:
        """A reader at `ts`; `cached` keeps what it has read."""
        return Snapshot(self._parts, ts, read=read, cached=cached)

    async def drain(self) -> None:
        """Waits until nothing goes on in the background."""
        await self._parts.background.drain()

    async def split(self, keys: Sequence[bytes]) -> list[int]:
        """Splits regions at the transactional keys; returns the ids of the regions that now begin there."""
        return await split_regions(self._parts.sender, self._parts.backoff(SCAN_BUDGET_MS), keys, raw=False)

    async def bulk_load(
        self,
        start: bytes,
        end: bytes,
        *,
        commit_ts: int = 0,
        directory: str | None = None,
        options: LoadOptions | None = None,
    ) -> BulkLoad:
        """Begins (or, with the `directory` of one that failed, resumes) a bulk load into [start, end); see `bulk`."""
        return await BulkLoad.open(self._parts, start, end, commit_ts=commit_ts, directory=directory, options=options)

    async def gc(self, safe_point: int) -> int:
        """Settles all locks of transactions up to `safe_point`, then lets versions below it be removed.

        What a service holds with a safe point of its own stays (TiDB's `pkg/store/gcworker`). Returns the safe point
        that holds now. Raises LocksUnresolved when a transaction that old is still alive.
        """
        least = await self.pd.update_service_safe_point(GC_WORKER, FOREVER_S, safe_point)
        safe_point = min(safe_point, least)
        await self._settle_locks_below(safe_point)
        return await self.pd.update_gc_safe_point(safe_point)

    async def destroy_range(self, start: bytes, end: bytes) -> None:
        """Drops every version of every key in [start, end) on all stores, at once and beyond recall."""
        request = kvrpcpb.UnsafeDestroyRangeRequest(start_key=start, end_key=end)

        async def destroy(address: str) -> None:
            answer = await self._parts.sender.send_to_store(
                commands.UNSAFE_DESTROY_RANGE, request, address, DESTROY_TIMEOUT_S
            )
            if answer.error:
                raise RpcError(Code.INTERNAL, answer.error)

        stores = [store for store in await self.pd.get_all_stores() if not is_replica_engine(store)]
        await gather_all([destroy(store.address) for store in stores])

    async def _settle_locks_below(self, safe_point: int) -> None:
        walk = RangeWalk(self._parts.regions, b"", b"")
        while not walk.done:
            backoff = self._parts.backoff(SCAN_BUDGET_MS)
            region, low, _ = await walk.front(backoff)
            try:
                last = await self._settle_some(backoff, region, low, safe_point)
            except RegionChanged:
                continue
            if last is not None:
                walk.past_key(last)
            else:
                walk.past_region(region)

    async def _settle_some(self, backoff: Backoff, region: CachedRegion, key: bytes, safe_point: int) -> bytes | None:
        """Settles locks of a region from `key` on; returns the last key when there may be more."""
        parts = self._parts
        request = kvrpcpb.ScanLockRequest(max_version=safe_point, start_key=key, limit=GC_LOCKS_MAX, end_key=region.end)
        answer = await parts.sender.send(backoff, commands.SCAN_LOCK, request, region)
        if answer.HasField("error"):
            raise error_of(answer.error, safe_point)
        if not answer.locks:
            return None
        current_ts = await self.pd.get_ts()
        fates: dict[int, int] = {}
        for lock in answer.locks:
            if lock.lock_version not in fates:
                fate = await parts.resolver.fate(parts.backoff(POINT_BUDGET_MS), lock, current_ts)
                if fate is None:
                    raise LocksUnresolved(f"transaction {lock.lock_version} at or below {safe_point} is still alive")
                fates[lock.lock_version] = fate
        await parts.resolver.settle_txns(backoff, region, list(fates.items()))
        return answer.locks[-1].key if len(answer.locks) >= GC_LOCKS_MAX else None
