"""What the stores of the mock cluster do with a request: the real transaction commands over one engine."""

from __future__ import annotations

import asyncio
from typing import Any

from kvstore.codec import decode_bytes
from kvstore.engine.api import Engine
from kvstore.errors import (
    AlreadyCommitted,
    CommitTsExpired,
    Deadlock,
    KeyExists,
    KeyIsLocked,
    KvError,
    PessimisticLockNotFound,
    PrimaryMismatch,
    TxnNotFound,
    WriteConflict,
)
from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import Lock, LockType, Write, WriteType
from kvstore.mvcc.scan import scan_chunks
from kvstore.proto import deadlock_pb2
from kvstore.proto import kvrpcpb_pb2 as kv
from kvstore.txn import commands
from kvstore.txn.actions.acquire_pessimistic_lock import LockProperties
from kvstore.txn.actions.check_txn_status import (
    StatusAlive,
    StatusCommitted,
    StatusLockGone,
    StatusQuery,
    StatusRolledBack,
)
from kvstore.txn.actions.prewrite import Mutation, Op, PessimisticAction, PrewriteProperties
from kvstore.txn.changes import Changes
from kvstore.txn.commands.check_secondary_locks import AllLocked, SecondaryCommitted
from kvstore.txn.deadlock import WaitForGraph
from tests.cluster_client.mock_pd import MockPd

TS_MAX = (1 << 64) - 1
OPS = {kv.Put: Op.PUT, kv.Del: Op.DELETE, kv.Lock: Op.LOCK, kv.Insert: Op.INSERT}
OPS[kv.CheckNotExists] = Op.CHECK_NOT_EXISTS
LOCK_OPS = {
    LockType.PUT: kv.Put,
    LockType.DELETE: kv.Del,
    LockType.LOCK: kv.Lock,
    LockType.PESSIMISTIC: kv.PessimisticLock,
}
DEFAULT_WAIT_MS = 1000


def keys_of(request: Any) -> list[bytes]:
    """The keys that must lie in the request's region."""
    names = {field.name for field in request.DESCRIPTOR.fields}
    keys = list(request.keys) if "keys" in names else []
    keys += [mutation.key for mutation in request.mutations] if "mutations" in names else []
    keys += [pair.key for pair in request.pairs] if "pairs" in names else []
    if "key" in names:
        keys.append(request.key)
    if "primary_key" in names and isinstance(request, kv.CheckTxnStatusRequest):
        keys.append(request.primary_key)
    if isinstance(request, kv.TxnHeartBeatRequest):
        keys.append(request.primary_lock)
    if "start_key" in names and not getattr(request, "reverse", False) and request.start_key:
        keys.append(request.start_key)
    return keys


class MockTxn:
    """Executes requests one at a time; locks of others are told to the client, or waited for."""

    def __init__(self, engine: Engine, pd: MockPd) -> None:
        self.engine = engine
        self.pd = pd
        self.max_read_ts = 0
        self.graph = WaitForGraph()
        self.raw: dict[bytes, bytes] = {}
        self.no_async_commit = False
        """Answers async commits and 1PC as a store that has to fall back does."""
        self.tells_existence = True
        """Else it answers pessimistic locks as a store without `check_existence`: a key exists that has a value."""

    async def run(self, request: Any, response: Any, bounds: tuple[bytes, bytes]) -> Any:
        name = str(request.DESCRIPTOR.name).removesuffix("Request")
        if name.startswith("Raw"):
            return getattr(self, name)(request, response)
        if isinstance(request, kv.PessimisticLockRequest):
            return await self.pessimistic_lock(request)
        try:
            return getattr(self, name)(request, bounds)
        except KvError as error:
            if "errors" in response.DESCRIPTOR.fields_by_name:
                return response(errors=[self.key_error(error)])
            return response(error=self.key_error(error))

    def execute(self, command: commands.Command[Any]) -> Any:
        changes = Changes()
        with MvccReader(self.engine) as reader:
            result = command.run(reader, changes)
        self.engine.write(changes.batch(self.engine))
        return result

    def load_lock(self, key: bytes) -> Lock | None:
        with MvccReader(self.engine) as reader:
            return reader.load_lock(key)

    def lock_info(self, key: bytes, lock: Lock) -> kv.LockInfo:
        return kv.LockInfo(
            primary_lock=lock.primary,
            lock_version=lock.start_ts,
            key=key,
            lock_ttl=lock.ttl,
            txn_size=lock.txn_size,
            lock_type=LOCK_OPS[lock.type],
            lock_for_update_ts=lock.for_update_ts,
            use_async_commit=lock.use_async_commit,
            min_commit_ts=lock.min_commit_ts,
            secondaries=lock.secondaries or (),
        )

    def key_error(self, error: KvError) -> kv.KeyError:
        match error:
            case KeyIsLocked():
                lock = self.load_lock(error.key)
                assert lock is not None
                return kv.KeyError(locked=self.lock_info(error.key, lock))
            case WriteConflict():
                return kv.KeyError(
                    retryable="write conflict",
                    conflict=kv.WriteConflict(
                        start_ts=error.start_ts,
                        conflict_ts=error.conflict_start_ts,
                        key=error.key,
                        conflict_commit_ts=error.conflict_commit_ts,
                    ),
                )
            case KeyExists():
                return kv.KeyError(already_exist=kv.AlreadyExist(key=error.key))
            case Deadlock():
                chain = [
                    deadlock_pb2.WaitForEntry(txn=waiter, wait_for_txn=holder, key=key)
                    for waiter, holder, key in error.wait_chain
                ]
                return kv.KeyError(deadlock=kv.Deadlock(lock_ts=error.start_ts, lock_key=error.key, wait_chain=chain))
            case CommitTsExpired():
                late = kv.CommitTsExpired(
                    start_ts=error.start_ts,
                    attempted_commit_ts=error.commit_ts,
                    key=error.key,
                    min_commit_ts=error.min_commit_ts,
                )
                return kv.KeyError(commit_ts_expired=late)
            case PessimisticLockNotFound():
                return kv.KeyError(retryable=str(error))
            case TxnNotFound():
                return kv.KeyError(txn_not_found=kv.TxnNotFound())
            case PrimaryMismatch():
                return kv.KeyError(primary_mismatch=kv.PrimaryMismatch())
            case AlreadyCommitted():
                return kv.KeyError(abort=str(error))
        raise error

    def read(self, key: bytes, ts: int, context: kv.Context) -> kv.KvPair | None:
        if ts != TS_MAX:
            self.max_read_ts = max(self.max_read_ts, ts)
        with MvccReader(self.engine) as reader:
            lock = reader.load_lock(key)
            if lock is not None and lock.start_ts in context.committed_locks and lock.type is not LockType.PESSIMISTIC:
                if lock.type is LockType.PUT:
                    write = Write(WriteType.PUT, lock.start_ts, lock.short_value)
                    return kv.KvPair(key=key, value=reader.load_value(key, write))
                if lock.type is LockType.DELETE:
                    return None
            try:
                bypass = frozenset((*context.resolved_locks, *context.committed_locks))
                value = reader.get(key, ts, bypass)
            except KeyIsLocked as error:
                return kv.KvPair(key=key, error=self.key_error(error))
            return None if value is None else kv.KvPair(key=key, value=value)

    def Get(self, request: kv.GetRequest, _: object) -> kv.GetResponse:
        pair = self.read(request.key, request.version, request.context)
        if pair is None:
            return kv.GetResponse(not_found=True)
        if pair.HasField("error"):
            return kv.GetResponse(error=pair.error)
        return kv.GetResponse(value=pair.value)

    def BatchGet(self, request: kv.BatchGetRequest, _: object) -> kv.BatchGetResponse:
        found = [self.read(key, request.version, request.context) for key in request.keys]
        return kv.BatchGetResponse(pairs=[pair for pair in found if pair is not None])

    def Scan(self, request: kv.ScanRequest, bounds: tuple[bytes, bytes]) -> kv.ScanResponse:
        low, high = (decode_bytes(bound)[0] if bound else b"" for bound in bounds)
        start, end = (request.end_key, request.start_key) if request.reverse else (request.start_key, request.end_key)
        start = max(start, low)
        if high and (not end or high < end):
            end = high
        keys: dict[bytes, None] = {}
        with MvccReader(self.engine) as reader:
            for key, lock in reader.scan_locks(request.version, start):
                if (not end or key < end) and lock.type is not LockType.PESSIMISTIC:
                    keys[key] = None

            def load(key: bytes, start_ts: int) -> bytes:
                value = self.engine.get("default", key + (start_ts ^ TS_MAX).to_bytes(8, "big"))
                assert value is not None
                return value

            for chunk in scan_chunks(self.engine, start, end, request.version, load, lambda: None):
                keys.update((key, None) for key, _ in chunk.pairs())
        pairs: list[kv.KvPair] = []
        for key in sorted(keys, reverse=request.reverse):
            pair = self.read(key, request.version, request.context)
            if pair is not None:
                if request.key_only:
                    pair.value = b""
                pairs.append(pair)
            if len(pairs) == request.limit:
                break
        self.max_read_ts = max(self.max_read_ts, request.version)
        return kv.ScanResponse(pairs=pairs)

    def Prewrite(self, request: kv.PrewriteRequest, _: object) -> kv.PrewriteResponse:
        calculated = (request.use_async_commit or request.try_one_pc) and not self.no_async_commit
        props = PrewriteProperties(
            request.start_version,
            request.primary_lock,
            request.lock_ttl,
            txn_size=request.txn_size,
            for_update_ts=request.for_update_ts,
            min_commit_ts=request.min_commit_ts,
            max_read_ts=self.max_read_ts,
            secondaries=tuple(request.secondaries) if request.use_async_commit and calculated else None,
            one_pc=request.try_one_pc and calculated,
            max_commit_ts=request.max_commit_ts,
            is_retry=request.context.is_retry_request,
        )
        mutations = tuple(
            Mutation(OPS[m.op], m.key, m.value if m.op in (kv.Put, kv.Insert) else None) for m in request.mutations
        )
        actions = tuple(PessimisticAction(action) for action in request.pessimistic_actions)
        result = self.execute(commands.Prewrite(props, mutations, actions))
        return kv.PrewriteResponse(min_commit_ts=result.min_commit_ts, one_pc_commit_ts=result.one_pc_commit_ts)

    def Commit(self, request: kv.CommitRequest, _: object) -> kv.CommitResponse:
        self.execute(commands.Commit(tuple(request.keys), request.start_version, request.commit_version))
        return kv.CommitResponse(commit_version=request.commit_version)

    def BatchRollback(self, request: kv.BatchRollbackRequest, _: object) -> kv.BatchRollbackResponse:
        self.execute(commands.Rollback(tuple(request.keys), request.start_version))
        return kv.BatchRollbackResponse()

    def PessimisticRollback(self, request: kv.PessimisticRollbackRequest, _: object) -> kv.PessimisticRollbackResponse:
        keys = tuple(request.keys)
        self.execute(commands.PessimisticRollback(keys, request.start_version, request.for_update_ts))
        return kv.PessimisticRollbackResponse()

    def TxnHeartBeat(self, request: kv.TxnHeartBeatRequest, _: object) -> kv.TxnHeartBeatResponse:
        beat = commands.HeartBeat(request.primary_lock, request.start_version, request.advise_lock_ttl)
        return kv.TxnHeartBeatResponse(lock_ttl=self.execute(beat))

    def CheckTxnStatus(self, request: kv.CheckTxnStatusRequest, _: object) -> kv.CheckTxnStatusResponse:
        query = StatusQuery(
            request.primary_key,
            request.lock_ts,
            request.caller_start_ts,
            request.current_ts,
            rollback_if_not_exist=request.rollback_if_not_exist,
            force_sync_commit=request.force_sync_commit,
            resolving_pessimistic_lock=request.resolving_pessimistic_lock,
        )
        match self.execute(commands.CheckTxnStatus(query)):
            case StatusAlive(lock=lock, pushed=pushed):
                return kv.CheckTxnStatusResponse(
                    lock_ttl=lock.ttl,
                    action=kv.MinCommitTSPushed if pushed else kv.NoAction,
                    lock_info=self.lock_info(request.primary_key, lock),
                )
            case StatusCommitted(commit_ts=commit_ts):
                return kv.CheckTxnStatusResponse(commit_version=commit_ts)
            case StatusRolledBack(by_this=by_this):
                return kv.CheckTxnStatusResponse(action=kv.TTLExpireRollback if by_this else kv.NoAction)
            case StatusLockGone():
                return kv.CheckTxnStatusResponse(action=kv.LockNotExistDoNothing)
        raise AssertionError("not a status")

    def CheckSecondaryLocks(self, request: kv.CheckSecondaryLocksRequest, _: object) -> kv.CheckSecondaryLocksResponse:
        match self.execute(commands.CheckSecondaryLocks(tuple(request.keys), request.start_version)):
            case AllLocked(locks=locks):
                return kv.CheckSecondaryLocksResponse(locks=[self.lock_info(key, lock) for key, lock in locks])
            case SecondaryCommitted(commit_ts=commit_ts):
                return kv.CheckSecondaryLocksResponse(commit_ts=commit_ts)
        return kv.CheckSecondaryLocksResponse()

    def ResolveLock(self, request: kv.ResolveLockRequest, bounds: tuple[bytes, bytes]) -> kv.ResolveLockResponse:
        fates = {info.txn: info.status for info in request.txn_infos} or {request.start_version: request.commit_version}
        low, high = (decode_bytes(bound)[0] if bound else b"" for bound in bounds)
        with MvccReader(self.engine) as reader:
            locks = [(key, lock) for key, lock in reader.scan_locks(TS_MAX, low) if not high or key < high]
        for key, lock in locks:
            if lock.start_ts in fates and (not request.keys or key in request.keys):
                self.execute(commands.ResolveLock((key,), lock.start_ts, fates[lock.start_ts]))
        return kv.ResolveLockResponse()

    def ScanLock(self, request: kv.ScanLockRequest, bounds: tuple[bytes, bytes]) -> kv.ScanLockResponse:
        low, high = (decode_bytes(bound)[0] if bound else b"" for bound in bounds)
        with MvccReader(self.engine) as reader:
            locks = reader.scan_locks(request.max_version, max(low, request.start_key))
        found = [self.lock_info(key, lock) for key, lock in locks if not high or key < high]
        return kv.ScanLockResponse(locks=found[: request.limit or None])

    async def pessimistic_lock(self, request: kv.PessimisticLockRequest) -> kv.PessimisticLockResponse:
        """Waits by looking again, as long as it may."""
        loop = asyncio.get_running_loop()
        wait_ms = request.wait_timeout or DEFAULT_WAIT_MS
        deadline = loop.time() + min(wait_ms, DEFAULT_WAIT_MS) / 1000
        props = LockProperties(
            request.start_version,
            request.primary_lock,
            request.lock_ttl,
            request.for_update_ts,
            min_commit_ts=request.min_commit_ts,
            need_value=request.return_values,
            need_existence=request.check_existence and self.tells_existence,
            lock_only_if_exists=request.lock_only_if_exists,
        )
        keys = tuple(mutation.key for mutation in request.mutations)
        absent = frozenset(m.key for m in request.mutations if m.assertion == kv.NotExist)
        while True:
            try:
                found = self.execute(commands.AcquirePessimisticLock(props, keys, absent))
                break
            except KeyIsLocked as error:
                if request.wait_timeout < 0 or loop.time() >= deadline:
                    return kv.PessimisticLockResponse(errors=[self.key_error(error)])
                try:
                    self.graph.wait(request.start_version, error.lock_start_ts, error.key)
                except Deadlock as deadlock:
                    return kv.PessimisticLockResponse(errors=[self.key_error(deadlock)])
                try:
                    await asyncio.sleep(0.01)
                finally:
                    self.graph.stop_waiting(request.start_version, error.lock_start_ts)
            except KvError as error:
                return kv.PessimisticLockResponse(errors=[self.key_error(error)])
        answer = kv.PessimisticLockResponse()
        if request.return_values:
            answer.values.extend(one.value or b"" for one in found)
        if self.tells_existence and (request.return_values or request.check_existence):
            answer.not_founds.extend(one.value is None for one in found)
        return answer

    def RawGet(self, request: Any, response: Any) -> Any:
        value = self.raw.get(request.key)
        return response(not_found=True) if value is None else response(value=value)

    def RawBatchGet(self, request: Any, response: Any) -> Any:
        found = [(key, self.raw[key]) for key in request.keys if key in self.raw]
        return response(pairs=[kv.KvPair(key=key, value=value) for key, value in found])

    def RawPut(self, request: Any, response: Any) -> Any:
        self.raw[request.key] = request.value
        return response()

    def RawBatchPut(self, request: Any, response: Any) -> Any:
        self.raw.update((pair.key, pair.value) for pair in request.pairs)
        return response()

    def RawDelete(self, request: Any, response: Any) -> Any:
        self.raw.pop(request.key, None)
        return response()

    def RawBatchDelete(self, request: Any, response: Any) -> Any:
        for key in request.keys:
            self.raw.pop(key, None)
        return response()

    def RawScan(self, request: Any, response: Any) -> Any:
        low, high = (request.end_key, request.start_key) if request.reverse else (request.start_key, request.end_key)
        keys = [key for key in self.raw if low <= key and (not high or key < high)]
        keys = sorted(keys, reverse=request.reverse)[: request.limit]
        pairs = [kv.KvPair(key=key, value=b"" if request.key_only else self.raw[key]) for key in keys]
        return response(kvs=pairs)

    def RawDeleteRange(self, request: Any, response: Any) -> Any:
        for key in [key for key in self.raw if request.start_key <= key < request.end_key]:
            del self.raw[key]
        return response()

    def RawGetKeyTTL(self, request: Any, response: Any) -> Any:
        return response(not_found=request.key not in self.raw)

    def RawCAS(self, request: Any, response: Any) -> Any:
        value = self.raw.get(request.key)
        expected = None if request.previous_not_exist else request.previous_value
        if value == expected:
            self.raw[request.key] = request.value
        return response(succeed=value == expected, previous_not_exist=value is None, previous_value=value or b"")
