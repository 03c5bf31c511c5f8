"""Coprocessor, CoprocessorStream, BatchCoprocessor: leave to read, and a reader for whoever evaluates the request.

    announce (a follower tells the leader) → grant → ranges in the region → max_ts, locks in flight
        → the handler reads and computes, on a thread → was the data there to the end? → answer

What a request computes is the handler's business; here it is a region's data that is read for long. Beneath such a
read the region may move away, or a snapshot may take its data's place: then the answer is thrown away.

A batch is answered region by region, unless the store has a columnar replica: then it is one request over all of them,
each with leave of its own, and those without it are named to be asked for anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from kvstore.client.cluster.key_ranges import behind_page
from kvstore.client.cluster.push_columnar import TP_WHOLE
from kvstore.codec import encode_bytes
from kvstore.errors import Cancelled
from kvstore.failpoint import fail_point_async
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import MetLock
from kvstore.proto.coprocessor_pb2 import BatchRequest, BatchResponse, RegionInfo, Request, Response
from kvstore.proto.kvrpcpb_pb2 import Context, LockInfo
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.raftstore.api import Grant, RegionError, RegionStore
from kvstore.raftstore.checks import region_not_found
from kvstore.server.access import deadline_of, first_user_key, grant
from kvstore.server.api import CoprocessorHandler, ReplicaHandler
from kvstore.server.concurrency import ConcurrencyManager
from kvstore.server.errors import LockedAtLeader, Refused, deadline_exceeded, key_not_in_region, lock_info
from kvstore.server.limits import STREAM_PAGE_BYTES, ServiceLimits
from kvstore.server.region_reader import RegionReader
from kvstore.server.replica import ReplicaReads
from kvstore.server.snapshot import isolation_of

BATCH_GRANT_S = 3.0
"""How long the regions of a batch are waited for."""
Answer = Callable[[Request], Awaitable[Response]]
"""Answers a request with its errors in the answer."""


@dataclass(slots=True, eq=False)
class _Reading:
    """A region's data that is being read."""

    region: Region
    cancelled: bool = False
    is_lost: bool = False
    """Whether some of the data went away meanwhile."""


class Coprocess:
    """Answers requests of the coprocessor by a handler; without one they are refused."""

    def __init__(
        self,
        store: RegionStore,
        concurrency: ConcurrencyManager,
        replicas: ReplicaReads,
        handler: CoprocessorHandler | None,
        limits: ServiceLimits,
        replica: ReplicaHandler | None = None,
    ) -> None:
        self._store = store
        self._concurrency = concurrency
        self._replicas = replicas
        self._handler = None if handler is None else handler.begin(store)
        self._limits = limits
        self._readings: dict[_Reading, None] = {}
        self._replica = replica
        if handler is not None or replica is not None:
            store.observe(_Losses(self._readings))
        if replica is not None:
            replica.begin(store)

    async def answer(self, request: Request) -> Response:
        """One request's answer. Raises RegionError, Refused, StoreError."""
        handler = self._handler
        if handler is None:
            raise Refused("this store has no coprocessor")
        if request.start_ts in (0, TS_MAX):
            raise Refused(f"a coprocessor request reads at a timestamp, not at {request.start_ts}")
        context = request.context
        deadline = deadline_of(context, self._limits)
        try:
            granted = await self._grant(context, request, deadline)
        except MetLock as met:
            return Response(locked=lock_info(met.key, met.lock))
        except LockedAtLeader as met:
            return Response(locked=met.info)
        reading = _Reading(granted.region)
        region = granted.region
        bounds = first_user_key(region.start_key), first_user_key(region.end_key)
        check = _checked(reading, deadline)
        reader = RegionReader(self._store.engine, request.start_ts, isolation_of(context), check, bounds)
        self._readings[reading] = None
        try:
            await fail_point_async("coprocessor::before_evaluation")
            response = await handler.handle(request, reader, granted.applied_index)
            await fail_point_async("coprocessor::before_answer")
        finally:
            # also when the caller has left: the thread stops at its next step
            reading.cancelled = True
            del self._readings[reading]
        if reading.is_lost:
            raise region_not_found(granted.region.id)
        self._store.note_read(granted.region.id, reader.keys, reader.bytes)
        return response

    async def _grant(self, context: Context, request: Request, deadline: float) -> Grant:
        """Leave to read the ranges at the request's timestamp: from now on nothing commits at or below it unseen."""
        ts = request.start_ts
        if context.replica_read:
            await self._replicas.announce(context, ts, [(wanted.start, wanted.end) for wanted in request.ranges])
        granted = await grant(self._store, context, deadline)
        check_ranges(granted.region, request)
        isolation = isolation_of(context)
        if not isolation.ignore_locks:
            self._concurrency.update_max_ts(ts)
            if self._concurrency.locks:
                for wanted in request.ranges:
                    self._concurrency.check_range(wanted.start, wanted.end, ts, isolation.bypass)
        return granted

    async def stream(self, request: Request, answer: Answer) -> AsyncIterator[Response]:
        """The answers to a request page by page, until nothing is left or one is an error."""
        page = Request()
        page.CopyFrom(request)
        if not page.paging_size and not page.paging_size_bytes:
            page.paging_size_bytes = STREAM_PAGE_BYTES
        while True:
            response = await answer(page)
            yield response
            if not response.HasField("range"):
                return
            ranges = [(wanted.start, wanted.end) for wanted in page.ranges]
            scanned = (response.range.start, response.range.end)
            left = behind_page(ranges, scanned, desc=scanned[0] != ranges[0][0])
            if not left:
                return
            del page.ranges[:]
            for start, end in left:
                page.ranges.add(start=start, end=end)

    async def batch(self, request: BatchRequest, answer: Answer) -> AsyncIterator[BatchResponse]:
        """The answers of several regions of this store, one after the other; those that have to be asked anew last."""
        if self._replica is not None:
            for whole in await self._of_replica(self._replica, request):
                yield whole
            return
        retry: list[Region] = []
        for wanted in request.regions:
            part = Request(tp=request.tp, data=request.data, start_ts=request.start_ts, ranges=wanted.ranges)
            part.context.CopyFrom(request.context)
            part.context.region_id = wanted.region_id
            part.context.region_epoch.CopyFrom(wanted.region_epoch)
            part.context.peer.CopyFrom(self._peer_of(wanted.region_id))
            async for response in self.stream(part, answer):
                if response.HasField("region_error"):
                    retry.append(Region(id=wanted.region_id, region_epoch=wanted.region_epoch))
                elif response.HasField("locked"):
                    lock = response.locked
                    yield BatchResponse(other_error=f"key {lock.key.hex()} is locked by {lock.lock_version}")
                    return
                elif response.other_error:
                    yield BatchResponse(other_error=response.other_error)
                    return
                else:
                    yield BatchResponse(data=response.data)
        if retry:
            yield BatchResponse(retry_regions=retry)

    async def _of_replica(self, replica: ReplicaHandler, request: BatchRequest) -> list[BatchResponse]:
        """The replica's answer over the regions that may be read here now, and the others last."""
        regions = [*request.regions, *(region for table in request.table_regions for region in table.regions)]
        if request.start_ts in (0, TS_MAX) or not regions:
            return [BatchResponse(other_error=f"a batch of {len(regions)} regions at {request.start_ts}")]
        deadline = deadline_of(request.context, self._limits)
        # the evaluation may take long, but not to catch up with the log: somebody else has the region
        soon = min(deadline, asyncio.get_running_loop().time() + BATCH_GRANT_S)
        readings: list[_Reading] = []
        asked = await asyncio.gather(*(self._grant_part(request, wanted, soon, readings) for wanted in regions))
        try:
            locked = next((found for found in asked if isinstance(found, LockInfo)), None)
            if locked is not None:
                return [BatchResponse(locked=locked)]
            granted = [wanted for wanted, found in zip(regions, asked, strict=True) if found is None]
            retry = [found for found in asked if isinstance(found, Region)]
            if not granted or (retry and request.tp == TP_WHOLE):
                return [BatchResponse(retry_regions=retry)]
            check = _all_checked(readings, deadline)
            isolation = isolation_of(request.context)
            ranges = sorted((part.start, part.end) for wanted in granted for part in wanted.ranges)

            def reader_at(ts: int) -> RegionReader:
                return RegionReader(self._store.engine, ts, isolation, check)

            await fail_point_async("coprocessor::before_batch")
            answers = await replica.handle_batch(request, ranges, reader_at)
        except MetLock as met:
            return [BatchResponse(locked=lock_info(met.key, met.lock))]
        except RegionError:
            answers = []
        finally:
            for reading in readings:
                reading.cancelled = True
                self._readings.pop(reading, None)
        if not answers or any(reading.is_lost for reading in readings):
            retry = [Region(id=wanted.region_id, region_epoch=wanted.region_epoch) for wanted in regions]
            return [BatchResponse(retry_regions=retry)]
        return [*answers, BatchResponse(retry_regions=retry)] if retry else answers

    async def _grant_part(
        self, request: BatchRequest, wanted: RegionInfo, deadline: float, readings: list[_Reading]
    ) -> Region | LockInfo | None:
        """Leave to read a region of a batch: None, and its reading is noted; else the region to ask anew, or a lock."""
        part = Request(start_ts=request.start_ts, ranges=wanted.ranges)
        part.context.CopyFrom(request.context)
        part.context.region_id = wanted.region_id
        part.context.region_epoch.CopyFrom(wanted.region_epoch)
        part.context.peer.CopyFrom(self._peer_of(wanted.region_id))
        part.context.replica_read = True
        try:
            granted = await self._grant(part.context, part, deadline)
        except MetLock as met:
            return lock_info(met.key, met.lock)
        except LockedAtLeader as met:
            return met.info
        except RegionError:
            return Region(id=wanted.region_id, region_epoch=wanted.region_epoch)
        reading = _Reading(granted.region)
        self._readings[reading] = None
        readings.append(reading)
        return None

    def _peer_of(self, region_id: int) -> Peer:
        """This store's peer of a region; of none that it has, nobody's."""
        store_id = self._store.store_id
        for region in self._store.regions():
            if region.id == region_id:
                return next((peer for peer in region.peers if peer.store_id == store_id), Peer(store_id=store_id))
        return Peer(store_id=store_id)


class _Losses:
    """Watches what happens to the data that is being read."""

    def __init__(self, readings: dict[_Reading, None]) -> None:
        self._readings = readings

    def on_role(self, region: Region, peer: Peer, *, is_leader: bool, term: int) -> None:
        """A read that was granted stays right: what another leader commits is above it."""

    def on_region(self, region: Region) -> None:
        """A split or merge moves no data."""

    def on_destroyed(self, region: Region) -> None:
        self._lose(region)

    def on_replaced(self, region: Region) -> None:
        self._lose(region)

    def on_applied(self, region: Region, entries_bytes: int) -> None:
        """Reads are at a timestamp."""

    def _lose(self, region: Region) -> None:
        for reading in self._readings:
            read = reading.region
            if (not region.end_key or read.start_key < region.end_key) and (
                not read.end_key or region.start_key < read.end_key
            ):
                reading.is_lost = True


def _checked(reading: _Reading, deadline: float) -> Callable[[], None]:
    """The check of a reader that it is worth going on, for its thread."""
    now = asyncio.get_running_loop().time

    def check() -> None:
        if reading.cancelled:
            raise Cancelled("the caller of the request has left")
        if reading.is_lost:
            raise region_not_found(reading.region.id)
        if now() > deadline:
            raise deadline_exceeded()

    return check


def _all_checked(readings: list[_Reading], deadline: float) -> Callable[[], None]:
    """The check of a reader over the data of several regions."""
    checks = [_checked(reading, deadline) for reading in readings]

    def check() -> None:
        for one in checks:
            one()

    return check


def check_ranges(region: Region, request: Request) -> None:
    """Raises RegionError (key_not_in_region) unless all ranges are inside the region."""
    if not request.ranges:
        return
    low = min(wanted.start for wanted in request.ranges)
    encoded = encode_bytes(low) if low else b""
    if encoded < region.start_key:
        raise key_not_in_region(encoded, region.id, region.start_key, region.end_key)
    if region.end_key:
        ends = [wanted.end for wanted in request.ranges]
        high = b"" if b"" in ends else max(ends)
        if not high or encode_bytes(high) > region.end_key:
            raise key_not_in_region(high and encode_bytes(high), region.id, region.start_key, region.end_key)
