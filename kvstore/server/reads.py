"""KvGet, KvBatchGet, KvScan, KvScanLock."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from itertools import islice

from kvstore.codec import encode_bytes
from kvstore.failpoint import fail_point_async
from kvstore.mvcc.keys import DATA_END, TS_MAX, data_key
from kvstore.mvcc.reader import MetLock, MvccReader
from kvstore.mvcc.record import Lock
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.raftstore.api import Grant, RegionStore
from kvstore.raftstore.keys import data_end
from kvstore.server.access import ResponseSize, check_count, clamp, deadline_of, first_user_key, grant, grant_now
from kvstore.server.concurrency import ConcurrencyManager
from kvstore.server.errors import Refused, key_error, lock_info
from kvstore.server.limits import RESOLVE_BATCH_LOCKS, SCAN_ROWS_MAX, ServiceLimits
from kvstore.server.memory_locks import MemoryLocks
from kvstore.server.replica import ReplicaReads
from kvstore.server.scheduler import breathe
from kvstore.server.snapshot import SnapshotReads, isolation_of


class Reads:
    """Transactional reads. A `_now` method answers at once, or returns None: then the other one has to."""

    def __init__(
        self,
        store: RegionStore,
        concurrency: ConcurrencyManager,
        memory: MemoryLocks,
        replicas: ReplicaReads,
        limits: ServiceLimits,
    ) -> None:
        self._store = store
        self._concurrency = concurrency
        self._memory = memory
        self._replicas = replicas
        self._limits = limits
        self.snapshot = SnapshotReads(store.engine, concurrency)
        self._reader = MvccReader(store.engine)

    def release_idle(self) -> None:
        """Drops iterators, which pin files and memory."""
        self.snapshot.release()
        self._reader.close()

    async def _grant(self, context: pb.Context, ts: int, ranges: list[tuple[bytes, bytes]]) -> Grant:
        if context.replica_read:
            await self._replicas.announce(context, ts, ranges)
        return await grant(self._store, context, deadline_of(context, self._limits))

    # -- get

    def get_now(self, request: pb.GetRequest) -> pb.GetResponse | None:
        granted = grant_now(self._store, request.context)
        return None if granted is None else self._get(request, granted)

    async def get(self, request: pb.GetRequest) -> pb.GetResponse:
        key = request.key
        return self._get(request, await self._grant(request.context, request.version, [(key, key + b"\0")]))

    def _get(self, request: pb.GetRequest, granted: Grant) -> pb.GetResponse:
        key = request.key
        encoded = data_key(key)
        self._store.check_key(granted.region, encoded[1:])
        found = self.snapshot.get(key, encoded, request.version, isolation_of(request.context))
        if found is None:
            self._store.note_read(granted.region.id, 1, 0)
            return pb.GetResponse(not_found=True)
        self._store.note_read(granted.region.id, 1, len(key) + len(found[0]))
        if request.need_commit_ts:
            return pb.GetResponse(value=found[0], commit_ts=found[1])
        return pb.GetResponse(value=found[0])

    # -- batch get

    def batch_get_now(self, request: pb.BatchGetRequest) -> pb.BatchGetResponse | None:
        granted = grant_now(self._store, request.context)
        return None if granted is None else self._batch_get(request, granted)

    async def batch_get(self, request: pb.BatchGetRequest) -> pb.BatchGetResponse:
        ranges = [(key, key + b"\0") for key in request.keys]
        return self._batch_get(request, await self._grant(request.context, request.version, ranges))

    def _batch_get(self, request: pb.BatchGetRequest, granted: Grant) -> pb.BatchGetResponse:
        """Keys without a value are left out; a locked one is a pair with an error."""
        check_count(request.keys)
        isolation, ts = isolation_of(request.context), request.version
        response, size = pb.BatchGetResponse(), ResponseSize()
        encoded = [data_key(key) for key in request.keys]
        for data in encoded:
            self._store.check_key(granted.region, data[1:])
        for key, data in zip(request.keys, encoded, strict=True):
            try:
                found = self.snapshot.get(key, data, ts, isolation)
            except MetLock as met:
                response.pairs.add(error=key_error(met), key=key)
                continue
            if found is not None:
                size.add(len(key) + len(found[0]))
                commit_ts = found[1] if request.need_commit_ts else 0
                response.pairs.add(key=key, value=found[0], commit_ts=commit_ts)
        self._store.note_read(granted.region.id, len(encoded), size.bytes)
        return response

    # -- scan

    def scan_now(self, request: pb.ScanRequest) -> pb.ScanResponse | None:
        granted = grant_now(self._store, request.context)
        return None if granted is None else self._scan(request, granted)

    async def scan(self, request: pb.ScanRequest) -> pb.ScanResponse:
        low, high = _ordered(request.start_key, request.end_key, request.reverse)
        return self._scan(request, await self._grant(request.context, request.version, [(low, high)]))

    def _scan(self, request: pb.ScanRequest, granted: Grant) -> pb.ScanResponse:
        """A row that a lock may hide is a pair with an error; a lock in flight fails the scan (error, first pair)."""
        reverse, key_only = request.reverse, request.key_only
        low, high = clamped_user_range(granted, request.start_key, request.end_key, reverse)
        response, size = pb.ScanResponse(), ResponseSize()
        rows = self.snapshot.scan(low, high, request.version, isolation_of(request.context), reverse=reverse)
        step = max(request.sample_step, 1)
        try:
            for row in islice(rows, 0, min(request.limit * step, sys.maxsize), step):
                if isinstance(row, MetLock):
                    response.pairs.add(error=key_error(row))
                    continue
                key, value = row
                size.add(len(key) if key_only else len(key) + len(value))
                response.pairs.add(key=key, value=b"" if key_only else value)
        except MetLock as met:
            error = key_error(met)
            return pb.ScanResponse(pairs=[pb.KvPair(error=error)], error=error)
        finally:
            rows.close()  # type: ignore[attr-defined]
        self._store.note_read(granted.region.id, len(response.pairs), size.bytes)
        return response

    # -- locks

    async def scan_lock(self, request: pb.ScanLockRequest) -> pb.ScanLockResponse:
        """Locks of transactions up to max_version: for garbage collection, which must find all of them."""
        granted = await grant(self._store, request.context, deadline_of(request.context, self._limits))
        low, high = clamped_user_range(granted, request.start_key, request.end_key, reverse=False)
        self._concurrency.update_max_ts(request.max_version)
        self._concurrency.check_range(low, high, request.max_version)
        locks = self._locks(granted, low, high, request.max_version, request.limit)
        response, size = pb.ScanLockResponse(), ResponseSize()
        for info in locks:
            size.add(len(info.key) + len(info.primary_lock))
            response.locks.append(info)
        return response

    def _locks(self, granted: Grant, low: bytes, high: bytes, max_ts: int, limit: int) -> list[pb.LockInfo]:
        """The locks in the engine and in memory."""
        found = self.locks(low, high, max_ts, limit)
        more = self._memory.between(granted.region.id, granted.term, low, high, max_ts)
        if not more:
            return found
        found += [lock_info(key, lock) for key, lock in more]
        return sorted(found, key=lambda info: info.key)[: limit or None]

    def locks(self, low: bytes, high: bytes, max_ts: int, limit: int) -> list[pb.LockInfo]:
        """The locks in the engine of low <= key < high; a limit of 0 is what an answer holds."""
        end = data_key(high) if high else DATA_END
        found = self._reader.refresh().scan_locks(max_ts, low, min(limit or SCAN_ROWS_MAX + 1, SCAN_ROWS_MAX + 1), end)
        return [lock_info(key, lock) for key, lock in found]

    async def region_locks(
        self, context: pb.Context, deadline: float
    ) -> AsyncGenerator[list[tuple[bytes, Lock]], None]:
        """The locks of the whole region, in batches; others have the loop in between. Raises RegionError."""
        low: bytes | None = None
        while True:
            granted = await grant(self._store, context, deadline)
            if low is None and (in_memory := self._memory.of(granted.region.id, granted.term)):
                yield list(in_memory.items())
                granted = await grant(self._store, context, deadline)
            region = granted.region
            start = first_user_key(region.start_key) if low is None else low
            found = self._reader.refresh().scan_locks(TS_MAX, start, RESOLVE_BATCH_LOCKS, data_end(region.end_key))
            yield found
            if len(found) < RESOLVE_BATCH_LOCKS:
                return
            low = found[-1][0] + b"\0"
            await fail_point_async("resolve_lock::next_batch")
            await breathe()


def _ordered(start: bytes, end: bytes, reverse: bool) -> tuple[bytes, bytes]:
    """A reverse scan names its upper bound first."""
    return (end, start) if reverse else (start, end)


def clamped_user_range(granted: Grant, start: bytes, end: bytes, reverse: bool) -> tuple[bytes, bytes]:
    """The user keys of a scan's range that are in the region. Raises RegionError, Refused for an inverted range."""
    low, high = _ordered(start, end, reverse)
    if high and low > high:
        raise Refused(f"the range is inverted: {low.hex()} is above {high.hex()}")
    encoded_low = encode_bytes(low) if low else b""
    encoded_high = encode_bytes(high) if high else b""
    clamped_low, clamped_high = clamp(granted.region, encoded_low, encoded_high, reverse=reverse)
    if (clamped_low, clamped_high) == (encoded_low, encoded_high):
        return low, high
    # a bound of the region need not be the encoding of a key
    return first_user_key(clamped_low), first_user_key(clamped_high)
