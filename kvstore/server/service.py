"""Service tikvpb.Tikv over a region store: the parts put together, and the calls as handlers.

BatchCommands ─┐
unary calls ───┴► Endpoint.now ──► answered in the same step: reads under the leader's lease
                  Endpoint.later ─► Reads │ Writes │ PessimisticLocks │ Raw │ Admin
                                             └► Scheduler: latches ► grant ► command ► RegionStore.write
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from kvstore.errors import PdError
from kvstore.failpoint import fail_point_async
from kvstore.proto import coprocessor_pb2, tikvpb_pb2
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.proto.metapb_pb2 import Peer, Region
from kvstore.raftstore.api import RegionStore
from kvstore.rpc.api import Call, Code, Handlers, RpcError, StreamHandler, Transport, UnaryHandler, methods_of
from kvstore.server.admin import Admin
from kvstore.server.api import CoprocessorHandler, Directory, ReplicaHandler
from kvstore.server.batch import BatchCommands
from kvstore.server.concurrency import ConcurrencyManager, TimestampTooNew
from kvstore.server.coprocess import Coprocess
from kvstore.server.deadlock import DeadlockDetector
from kvstore.server.endpoints import KNOWN_ERRORS, Endpoint, Failures
from kvstore.server.errors import Refused, busy
from kvstore.server.expiry import ExpiryWorker
from kvstore.server.limits import ServiceLimits
from kvstore.server.lock_wait import Waits
from kvstore.server.memory_locks import MemoryLocks
from kvstore.server.pessimistic import PessimisticLocks
from kvstore.server.raw import ExpiringValues, PlainValues, Raw
from kvstore.server.reads import Reads
from kvstore.server.regions import Regions
from kvstore.server.replica import ReplicaReads
from kvstore.server.scheduler import Scheduler
from kvstore.server.writes import Writes

METHODS = methods_of(tikvpb_pb2.DESCRIPTOR, "Tikv")
MAX_TS_RETRY_S = 0.1
_log = logging.getLogger(__name__)


class Service:
    """The calls of one store."""

    def __init__(
        self,
        store: RegionStore,
        *,
        now_ms: Callable[[], int],
        transport: Transport | None = None,
        directory: Directory | None = None,
        limits: ServiceLimits | None = None,
        raw_ttl: bool = False,
        cluster_id: int = 0,
        coprocessor: CoprocessorHandler | None = None,
        replica: ReplicaHandler | None = None,
    ) -> None:
        self.limits = limits or ServiceLimits()
        self._store = store
        self._directory = directory
        self._txn_allowed = not raw_ttl
        self._cluster_id = cluster_id
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self.in_flight = 0
        self.refused_busy = 0
        self.counts: dict[str, int] = {}
        """Requests by call, since the start."""
        self._bytes = 0
        self._failures = Failures(store.store_id)
        self.concurrency = ConcurrencyManager(now_ms)
        self.detector = DeadlockDetector(store, transport, directory)
        self.waits = Waits(self.detector)
        self.detector.on_circle = self.waits.fail
        self.memory_locks = MemoryLocks(self.limits.memory_lock_bytes_max)
        store.observe(self.memory_locks)
        self.scheduler = Scheduler(store, self.memory_locks)
        store.before_leaving(self.scheduler.hand_over)
        self.scheduler.on_released = self.waits.released
        replicas = ReplicaReads(store, transport, directory)
        self.reads = Reads(store, self.concurrency, self.memory_locks, replicas, self.limits)
        self.coprocess = Coprocess(store, self.concurrency, replicas, coprocessor, self.limits, replica)
        self._writes = Writes(self.scheduler, self.concurrency, self.reads, self.limits)
        self._locks = PessimisticLocks(self.scheduler, self.waits, self.limits)
        self.regions = Regions(store)
        values = ExpiringValues(now_ms) if raw_ttl else PlainValues()
        self._raw = Raw(store, self.regions, self.scheduler, values, self.limits)
        self.expiry = ExpiryWorker(store.engine, values) if raw_ttl else None
        self.admin = Admin(store, self.scheduler, self.concurrency, self.reads, self.waits, self.limits)
        self._leaders = _Leaders(self)
        store.observe(self._leaders)
        for region in store.regions():
            leader = store.leader_of(region.id)
            if leader is not None and leader.store_id == store.store_id:
                self._leaders.on_role(region, leader, is_leader=True, term=0)
        self.endpoints = {endpoint.name: endpoint for endpoint in self._endpoints()}
        self.counts.update(dict.fromkeys(self.endpoints, 0))
        self._batch = BatchCommands(store, self._raw, self.endpoints, self)

    # -- the table

    def _endpoints(self) -> list[Endpoint]:
        return [*self._txn_endpoints(), *self._raw_endpoints(), *self._admin_endpoints()]

    def _txn_endpoints(self) -> list[Endpoint]:
        reads, writes = self.reads, self._writes
        return [
            self._read("KvGet", pb.GetResponse, reads.get, reads.get_now),
            self._read("KvBatchGet", pb.BatchGetResponse, reads.batch_get, reads.batch_get_now),
            self._read("KvScan", pb.ScanResponse, reads.scan, reads.scan_now),
            self._write("KvPrewrite", pb.PrewriteResponse, writes.prewrite),
            self._write("KvCommit", pb.CommitResponse, writes.commit),
            self._write("KvPessimisticLock", pb.PessimisticLockResponse, self._locks.lock),
            self._write("KVPessimisticRollback", pb.PessimisticRollbackResponse, writes.pessimistic_rollback),
            self._write("KvTxnHeartBeat", pb.TxnHeartBeatResponse, writes.heart_beat),
            self._write("KvCheckTxnStatus", pb.CheckTxnStatusResponse, writes.check_txn_status),
            self._write("KvCheckSecondaryLocks", pb.CheckSecondaryLocksResponse, writes.check_secondary_locks),
            self._write("KvCleanup", pb.CleanupResponse, writes.cleanup),
            self._write("KvBatchRollback", pb.BatchRollbackResponse, writes.batch_rollback),
            self._write("KvScanLock", pb.ScanLockResponse, reads.scan_lock),
            self._write("KvResolveLock", pb.ResolveLockResponse, writes.resolve_lock),
        ]

    def _read(
        self, name: str, response: type[Any], later: Callable[[Any], Any], now: Callable[[Any], Any] | None
    ) -> Endpoint:
        return Endpoint(name, response, later, now if self._txn_allowed else _refuse_txn, detached=False, is_txn=True)

    def _write(self, name: str, response: type[Any], later: Callable[[Any], Any]) -> Endpoint:
        return Endpoint(name, response, later, None if self._txn_allowed else _refuse_txn, is_txn=True)

    def _raw_endpoints(self) -> list[Endpoint]:
        raw = self._raw
        return [
            Endpoint("RawGet", pb.RawGetResponse, raw.get, raw.get_now, detached=False),
            Endpoint("RawBatchGet", pb.RawBatchGetResponse, raw.batch_get),
            Endpoint("RawPut", pb.RawPutResponse, raw.put, detached=False),
            Endpoint("RawBatchPut", pb.RawBatchPutResponse, raw.batch_put),
            Endpoint("RawDelete", pb.RawDeleteResponse, raw.delete, detached=False),
            Endpoint("RawBatchDelete", pb.RawBatchDeleteResponse, raw.batch_delete),
            Endpoint("RawScan", pb.RawScanResponse, raw.scan),
            Endpoint("RawBatchScan", pb.RawBatchScanResponse, raw.batch_scan),
            Endpoint("RawDeleteRange", pb.RawDeleteRangeResponse, raw.delete_range),
            Endpoint("RawGetKeyTTL", pb.RawGetKeyTTLResponse, raw.ttl),
            Endpoint("RawCompareAndSwap", pb.RawCASResponse, raw.compare_and_swap),
        ]

    def _admin_endpoints(self) -> list[Endpoint]:
        admin = self.admin
        return [
            Endpoint("KvGC", pb.GCResponse, admin.gc),
            Endpoint("KvDeleteRange", pb.DeleteRangeResponse, admin.delete_range),
            Endpoint("UnsafeDestroyRange", pb.UnsafeDestroyRangeResponse, admin.unsafe_destroy_range),
            Endpoint("PhysicalScanLock", pb.PhysicalScanLockResponse, admin.physical_scan_lock),
            Endpoint("SplitRegion", pb.SplitRegionResponse, admin.split_region),
            Endpoint("ReadIndex", pb.ReadIndexResponse, admin.read_index),
            Endpoint("MvccGetByKey", pb.MvccGetByKeyResponse, admin.mvcc_by_key),
            Endpoint("MvccGetByStartTs", pb.MvccGetByStartTsResponse, admin.mvcc_by_start_ts),
            Endpoint("GetLockWaitInfo", pb.GetLockWaitInfoResponse, admin.lock_wait_info),
            Endpoint("GetHealthFeedback", pb.GetHealthFeedbackResponse, admin.health_feedback),
            Endpoint("CheckLeader", pb.CheckLeaderResponse, admin.check_leader, has_context=False),
            Endpoint("GetStoreSafeTS", pb.StoreSafeTSResponse, admin.store_safe_ts, has_context=False),
            self._read("Coprocessor", coprocessor_pb2.Response, self.coprocess.answer, None),
        ]

    def handlers(self) -> Handlers:
        """What a server answers for this service and for the deadlock detector."""
        own = self.detector.handlers()
        unary = {METHODS[name].path: (METHODS[name], self._unary(point)) for name, point in self.endpoints.items()}
        streams: dict[str, StreamHandler] = {
            "BatchCommands": self._batch.handle,
            "CoprocessorStream": self._coprocess_stream,
            "BatchCoprocessor": self._coprocess_batch,
        }
        return Handlers(
            unary={**unary, **own.unary},
            streams={**{METHODS[name].path: (METHODS[name], run) for name, run in streams.items()}, **own.streams},
        )

    def _unary(self, endpoint: Endpoint) -> UnaryHandler:
        async def handle(request: Any, call: Call) -> Any:
            response = self.answer_now(endpoint, request)
            if response is not None:
                return response
            if not endpoint.detached:
                return await self.answer_later(endpoint, request)
            return await asyncio.shield(self.spawn(self.answer_later(endpoint, request)))

        return handle

    # -- answering

    def answer_now(self, endpoint: Endpoint, request: Any) -> Any | None:
        """The answer if it takes no waiting. Raises RpcError for a request to another cluster."""
        self.counts[endpoint.name] += 1
        now = endpoint.now
        try:
            if endpoint.has_context:
                context = request.context
                if context.api_version or context.cluster_id:
                    self._check_context(endpoint, context)
            return None if now is None else now(request)
        except TimestampTooNew:
            return None
        except KNOWN_ERRORS as error:
            return self._failures.response(endpoint.response, error)

    def _check_context(self, endpoint: Endpoint, context: pb.Context) -> None:
        """Raises RpcError, Refused for transactions of another API version (raw calls look themselves)."""
        cluster_id = context.cluster_id
        if cluster_id and self._cluster_id and cluster_id != self._cluster_id:
            raise RpcError(
                Code.INVALID_ARGUMENT,
                "the cluster id of the request does not match with the TiKV cluster. "
                f"request cluster id: {cluster_id}, tikv cluster id: {self._cluster_id}",
            )
        if endpoint.is_txn and context.api_version != pb.APIVersion.V1:
            raise Refused(f"API version {context.api_version} is not this store's")

    async def answer_later(self, endpoint: Endpoint, request: Any) -> Any:
        """The answer, whatever it takes; errors are in it."""
        size = request.ByteSize()
        limits = self.limits
        if self.in_flight >= limits.requests_max or self._bytes + size > limits.memory_bytes_max:
            self.refused_busy += 1
            full = busy("too many requests are in flight", limits.busy_backoff_ms)
            return self._failures.response(endpoint.response, full)
        self.in_flight += 1
        self._bytes += size
        try:
            return await self._later(endpoint, request)
        except KNOWN_ERRORS as error:
            return self._failures.response(endpoint.response, error)
        finally:
            self.in_flight -= 1
            self._bytes -= size

    async def _later(self, endpoint: Endpoint, request: Any) -> Any:
        """Runs the call; if a timestamp seemed to be of the future, again after asking the oracle the time."""
        try:
            return await endpoint.later(request)
        except TimestampTooNew:
            if self._directory is None:
                raise
        try:
            self.concurrency.sync_max_ts(await self._directory.get_ts())
        except (RpcError, PdError) as error:
            raise busy(f"the oracle does not answer: {error}", self.limits.busy_backoff_ms) from error
        return await endpoint.later(request)

    def failure(self, response: type[Any], error: Exception) -> Any:
        return self._failures.response(response, error)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs work that no caller's leaving ends."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # a caller, if there is one, is told; a bug must not be lost in any case
            _log.error("a task of the service failed", exc_info=error)

    async def _coprocess_stream(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async for request in requests:
            async for response in self.coprocess.stream(request, self._answer_coprocessor):
                yield response

    async def _coprocess_batch(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
        async for request in requests:
            async for response in self.coprocess.batch(request, self._answer_coprocessor):
                yield response

    async def _answer_coprocessor(self, request: coprocessor_pb2.Request) -> coprocessor_pb2.Response:
        """A part of a stream, under the limits of a call of its own; errors are in the answer."""
        endpoint = self.endpoints["Coprocessor"]
        now = self.answer_now(endpoint, request)
        response: coprocessor_pb2.Response = now if now is not None else await self.answer_later(endpoint, request)
        return response

    # -- roles

    async def sync_max_ts(self, region_id: int, mark: int) -> None:
        """Learns a timestamp that is above all reads its predecessor served, then lets the region commit by itself."""
        while True:
            await fail_point_async("max_ts::before_sync")
            try:
                ts = await self._directory.get_ts() if self._directory is not None else 0
            except (RpcError, PdError) as error:
                _log.debug("max timestamp of region %d: %s", region_id, error)
                await asyncio.sleep(MAX_TS_RETRY_S)
                continue
            self.concurrency.sync_max_ts(ts)
            self.concurrency.mark_synced(region_id, mark)
            return

    # -- life

    def start(self) -> None:
        """Begins what runs in the background."""
        self.spawn(self.detector.run())
        if self.expiry is not None:
            self.spawn(self.expiry.run())

    def release_idle(self) -> None:
        """Drops iterators that pin files and memory; for a store that has had nothing to do for a while."""
        self.reads.release_idle()
        self.scheduler.release_idle()

    async def close(self) -> None:
        """Ends the tasks; the region store is closed first, so that none waits for a write."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Leaders:
    """Watches which regions are led here, for timestamps and waits."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._led: set[int] = set()
        self._bounds: dict[int, tuple[bytes, bytes]] = {}

    def on_role(self, region: Region, peer: Peer, *, is_leader: bool, term: int) -> None:
        concurrency = self._service.concurrency
        self._bounds[region.id] = (region.start_key, region.end_key)
        if not is_leader:
            self._led.discard(region.id)
            concurrency.forget(region.id)
            self._service.waits.wake_region(region)
            return
        self._led.add(region.id)
        self._unsync(region.id)

    def on_region(self, region: Region) -> None:
        """A region that grew (by a merge) has keys that another store may have served."""
        before = self._bounds.get(region.id)
        self._bounds[region.id] = (region.start_key, region.end_key)
        if before is None or region.id not in self._led:
            return
        grew_right = before[1] and (not region.end_key or region.end_key > before[1])
        if region.start_key < before[0] or grew_right:
            self._unsync(region.id)

    def on_destroyed(self, region: Region) -> None:
        self._led.discard(region.id)
        self._bounds.pop(region.id, None)
        self._service.concurrency.forget(region.id)
        self._service.waits.wake_region(region)

    def on_replaced(self, region: Region) -> None:
        """Only a follower takes a snapshot; that it has other bounds is told next."""

    def on_applied(self, region: Region, entries_bytes: int) -> None:
        """Writes change no roles."""

    def _unsync(self, region_id: int) -> None:
        mark = self._service.concurrency.mark_unsynced(region_id)
        self._service.spawn(self._service.sync_max_ts(region_id, mark))


def _refuse_txn(request: Any) -> Any:
    raise Refused("this store holds expiring raw values; it takes no transactions")
