"""Calls about regions, records and the store rather than about one transaction's keys."""

from __future__ import annotations

from contextlib import aclosing

from kvstore.codec import encode_bytes
from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_WRITE
from kvstore.errors import KeyIsLocked
from kvstore.mvcc.keys import data_key, user_key, version_ts
from kvstore.mvcc.point import decode_write
from kvstore.mvcc.reader import decode_lock
from kvstore.mvcc.record import Lock, Write, WriteType
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Region
from kvstore.raftstore.api import RegionStore
from kvstore.raftstore.keys import data_end, data_start
from kvstore.server.access import ResponseSize, clamp, deadline_of, grant
from kvstore.server.concurrency import ConcurrencyManager
from kvstore.server.errors import LOCK_OPS, Refused, key_error, wait_entry
from kvstore.server.limits import (
    GC_BATCH_KEYS,
    KEY_BYTES_MAX,
    MVCC_SEARCH_RECORDS_MAX,
    REGION_KEYS_SPLIT_MAX,
    RESUME_EVERY_KEYS,
    ServiceLimits,
)
from kvstore.server.lock_wait import Waits
from kvstore.server.reads import Reads
from kvstore.server.scheduler import Scheduler, breathe
from kvstore.txn.commands import Gc

SLOW_SCORE_BEST = 1
_DATA_FAMILIES = (CF_WRITE, CF_LOCK, CF_DEFAULT)
_OPS = {
    WriteType.PUT: pb.Op.Put,
    WriteType.DELETE: pb.Op.Del,
    WriteType.LOCK: pb.Op.Lock,
    WriteType.ROLLBACK: pb.Op.Rollback,
}


class Admin:
    """Splits, ranges, garbage, what lies under a key, and how the store is."""

    def __init__(
        self,
        store: RegionStore,
        scheduler: Scheduler,
        concurrency: ConcurrencyManager,
        reads: Reads,
        waits: Waits,
        limits: ServiceLimits,
    ) -> None:
        self._store = store
        self._scheduler = scheduler
        self._concurrency = concurrency
        self._reads = reads
        self._waits = waits
        self._limits = limits
        self._feedbacks = 0

    # -- regions

    async def split_region(self, request: pb.SplitRegionRequest) -> pb.SplitRegionResponse:
        """Splits at user keys of transactions, or with `is_raw_kv` at raw ones."""
        wanted = list(request.split_keys) or ([request.split_key] if request.split_key else [])
        if not wanted or not all(wanted):
            raise Refused("a split needs keys, none of them empty")
        if len(wanted) > REGION_KEYS_SPLIT_MAX or max(map(len, wanted)) > KEY_BYTES_MAX:
            raise Refused("too many split keys, or one too long")
        keys = sorted(set(wanted if request.is_raw_kv else map(encode_bytes, wanted)))
        regions = await self._store.split(request.context, keys)
        response = pb.SplitRegionResponse(regions=regions)
        if len(regions) == 2:
            response.left.CopyFrom(regions[0])
            response.right.CopyFrom(regions[1])
        return response

    async def read_index(self, request: pb.ReadIndexRequest) -> pb.ReadIndexResponse:
        """A follower is about to read at start_ts: later commits must be after it. Answers with a lock in its way."""
        self._concurrency.update_max_ts(request.start_ts)
        context = pb.Context()
        context.CopyFrom(request.context)
        context.replica_read = False
        # only a leader's word counts: it is this store's later commits that must be after the read
        await grant(self._store, context, deadline_of(context, self._limits))
        response = pb.ReadIndexResponse()
        try:
            for wanted in request.ranges:
                self._concurrency.check_range(wanted.start_key, wanted.end_key, request.start_ts)
        except KeyIsLocked as met:
            response.locked.CopyFrom(key_error(met).locked)
        response.read_index = await self._store.read_index(context)
        return response

    async def check_leader(self, request: pb.CheckLeaderRequest) -> pb.CheckLeaderResponse:
        """Which of the regions have, as far as is known here, the leader that says it is."""
        here = {region.id: region for region in self._store.regions()}
        confirmed: list[int] = []
        for info in request.regions:
            region, leader = here.get(info.region_id), self._store.leader_of(info.region_id)
            if region is None or leader is None or leader.id != info.peer_id:
                continue
            if region.region_epoch == info.region_epoch:
                confirmed.append(info.region_id)
        return pb.CheckLeaderResponse(regions=confirmed, ts=request.ts)

    async def store_safe_ts(self, request: pb.StoreSafeTSRequest) -> pb.StoreSafeTSResponse:
        """Stale reads are not served: no timestamp is safe."""
        return pb.StoreSafeTSResponse(safe_ts=0)

    # -- ranges

    async def delete_range(self, request: pb.DeleteRangeRequest) -> pb.DeleteRangeResponse:
        """Deletes all versions of a range of the region."""
        granted = await grant(self._store, request.context, deadline_of(request.context, self._limits))
        low, high = _encoded_range(request.start_key, request.end_key)
        low, high = clamp(granted.region, low, high, reverse=False)
        if not request.notify_only:
            for cf in _DATA_FAMILIES:
                await self._store.delete_range(request.context, cf, data_start(low), data_end(high))
            self._waits.wake_region(granted.region)
        return pb.DeleteRangeResponse()

    async def unsafe_destroy_range(self, request: pb.UnsafeDestroyRangeRequest) -> pb.UnsafeDestroyRangeResponse:
        """Deletes a range of this store's files, whatever region it is in: for dropped tables. Asked of every store."""
        low, high = _encoded_range(request.start_key, request.end_key)
        for cf in _DATA_FAMILIES:
            self._store.engine.delete_range(cf, data_start(low), data_end(high))
        return pb.UnsafeDestroyRangeResponse()

    async def gc(self, request: pb.GCRequest) -> pb.GCResponse:
        """Removes what no reader at or above the safe point sees, in the whole region."""
        await self.collect(request.context, request.safe_point)
        return pb.GCResponse()

    async def collect(self, context: pb.Context, safe_point: int) -> int:
        """Collects garbage of a region led here; returns how many records went. Raises RegionError."""
        removed = 0
        deadline = deadline_of(context, self._limits)
        low = b""
        while True:
            granted = await grant(self._store, context, deadline)
            keys, low = self._garbage(granted.region, low, safe_point)
            for at in range(0, len(keys), GC_BATCH_KEYS):
                removed += await self._scheduler.run(
                    context, Gc(tuple(keys[at : at + GC_BATCH_KEYS]), safe_point), deadline
                )
            if not low:
                return removed
            await breathe()

    def _garbage(self, region: Region, low: bytes, safe_point: int) -> tuple[list[bytes], bytes]:
        """Keys from data key `low` on that have something to collect, and where to go on (empty: done)."""
        flat = self._take(CF_WRITE, low or data_start(region.start_key), data_end(region.end_key))
        found: dict[bytes, None] = {}
        previous = low[:-9]  # the key before, whose newest version may have been the last one taken
        for record_key, record in zip(flat[::2], flat[1::2], strict=True):
            key = record_key[:-8]
            if version_ts(record_key) <= safe_point and (key == previous or record[:1] != b"P"):
                found[user_key(key)] = None
            previous = key
        last = flat[-2] + b"\0" if len(flat) == 2 * RESUME_EVERY_KEYS else b""
        return list(found), last

    # -- locks

    async def physical_scan_lock(self, request: pb.PhysicalScanLockRequest) -> pb.PhysicalScanLockResponse:
        """Locks in this store's files, whoever leads their regions."""
        response, size = pb.PhysicalScanLockResponse(), ResponseSize()
        for info in self._reads.locks(request.start_key, b"", request.max_ts, request.limit):
            size.add(len(info.key) + len(info.primary_lock))
            response.locks.append(info)
        return response

    async def lock_wait_info(self, request: pb.GetLockWaitInfoRequest) -> pb.GetLockWaitInfoResponse:
        response = pb.GetLockWaitInfoResponse()
        for waiter, waited_ms in self._waits.waiting():
            wait = waiter.wait
            entry = wait_entry(wait.waiter, wait.holder, wait.key, wait.tag)
            entry.wait_time = waited_ms
            response.entries.append(entry)
        return response

    # -- records

    async def mvcc_by_key(self, request: pb.MvccGetByKeyRequest) -> pb.MvccGetByKeyResponse:
        granted = await grant(self._store, request.context, deadline_of(request.context, self._limits))
        encoded = data_key(request.key)
        self._store.check_key(granted.region, encoded[1:])
        return pb.MvccGetByKeyResponse(info=self._records(encoded))

    async def mvcc_by_start_ts(self, request: pb.MvccGetByStartTsRequest) -> pb.MvccGetByStartTsResponse:
        """The first key of the region that has a record of the transaction."""
        context, start_ts = request.context, request.start_ts
        deadline = deadline_of(context, self._limits)
        granted = await grant(self._store, context, deadline)
        found = await self._locked_by(context, deadline, start_ts) or await self._written_by(granted.region, start_ts)
        if found is None:
            return pb.MvccGetByStartTsResponse()
        return pb.MvccGetByStartTsResponse(key=user_key(found), info=self._records(found))

    async def _locked_by(self, context: pb.Context, deadline: float, start_ts: int) -> bytes | None:
        """The first data key of the region that the transaction has locked."""
        looked_at = 0
        async with aclosing(self._reads.region_locks(context, deadline)) as batches:
            async for found in batches:
                for key, lock in found:
                    if lock.start_ts == start_ts:
                        return data_key(key)
                looked_at += len(found)
                if looked_at >= MVCC_SEARCH_RECORDS_MAX:
                    break
        return None

    async def _written_by(self, region: Region, start_ts: int) -> bytes | None:
        """The first data key of the region that has a commit or rollback record of the transaction."""
        low, high = data_start(region.start_key), data_end(region.end_key)
        for _ in range(0, MVCC_SEARCH_RECORDS_MAX, RESUME_EVERY_KEYS):
            flat = self._take(CF_WRITE, low, high)
            for key, record in zip(flat[::2], flat[1::2], strict=True):
                if decode_write(record, key).start_ts == start_ts:
                    return key[:-8]
            if len(flat) < 2 * RESUME_EVERY_KEYS:
                break
            low = flat[-2] + b"\0"
            await breathe()
        return None

    def _take(self, cf: str, low: bytes, high: bytes) -> list[bytes]:
        scanner = self._store.engine.scanner(cf, low, high)
        try:
            return scanner.take(RESUME_EVERY_KEYS)
        finally:
            scanner.release()

    def _records(self, encoded: bytes) -> pb.MvccInfo:
        """All that lies under a data key, newest first."""
        info, size = pb.MvccInfo(), ResponseSize()
        engine = self._store.engine
        record = engine.get(CF_LOCK, encoded)
        if record is not None:
            info.lock.CopyFrom(_mvcc_lock(decode_lock(record, encoded)))
        end = encoded + b"\xff" * 9
        for cf in (CF_WRITE, CF_DEFAULT):
            scanner = engine.scanner(cf, encoded + bytes(8), end)
            try:
                while flat := scanner.take(RESUME_EVERY_KEYS):
                    for key, value in zip(flat[::2], flat[1::2], strict=True):
                        if len(key) != len(encoded) + 8:
                            continue
                        size.add(len(value))
                        if cf == CF_WRITE:
                            info.writes.append(_mvcc_write(version_ts(key), decode_write(value, encoded)))
                        else:
                            info.values.add(start_ts=version_ts(key), value=value)
            finally:
                scanner.release()
        return info

    # -- health

    async def health_feedback(self, request: pb.GetHealthFeedbackRequest) -> pb.GetHealthFeedbackResponse:
        """The store measures no slowness of its own: it always says that it is fast."""
        self._feedbacks += 1
        feedback = pb.HealthFeedback(
            store_id=self._store.store_id, feedback_seq_no=self._feedbacks, slow_score=SLOW_SCORE_BEST
        )
        return pb.GetHealthFeedbackResponse(health_feedback=feedback)


def _encoded_range(start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Raises Refused for an inverted range; an empty `end` is no bound."""
    if end and start > end:
        raise Refused(f"the range is inverted: {start.hex()} is above {end.hex()}")
    return encode_bytes(start) if start else b"", encode_bytes(end) if end else b""


def _mvcc_lock(lock: Lock) -> pb.MvccLock:
    change = lock.last_change
    return pb.MvccLock(
        type=LOCK_OPS[lock.type],
        start_ts=lock.start_ts,
        primary=lock.primary,
        short_value=lock.short_value or b"",
        ttl=lock.ttl,
        for_update_ts=lock.for_update_ts,
        txn_size=lock.txn_size,
        use_async_commit=lock.use_async_commit,
        secondaries=lock.secondaries or (),
        rollback_ts=lock.rollback_ts,
        last_change_ts=change.ts if change else 0,
        versions_to_last_change=change.versions if change else 0,
    )


def _mvcc_write(commit_ts: int, write: Write) -> pb.MvccWrite:
    change = write.last_change
    return pb.MvccWrite(
        type=_OPS[write.type],
        start_ts=write.start_ts,
        commit_ts=commit_ts,
        short_value=write.short_value or b"",
        has_overlapped_rollback=write.overlapped_rollback,
        has_gc_fence=write.gc_fence is not None,
        gc_fence=write.gc_fence or 0,
        last_change_ts=change.ts if change else 0,
        versions_to_last_change=change.versions if change else 0,
    )
