"""KvPrewrite, KvCommit, KvBatchRollback, KvCleanup, KvTxnHeartBeat, KvCheckTxnStatus, KvCheckSecondaryLocks,
KVPessimisticRollback, KvResolveLock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvstore.errors import AlreadyCommitted, Assertion
from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import Lock
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.server.access import check_sizes, deadline_of
from kvstore.server.concurrency import ConcurrencyManager
from kvstore.server.errors import Refused, lock_info, max_ts_not_synced
from kvstore.server.limits import ServiceLimits
from kvstore.server.reads import Reads
from kvstore.server.scheduler import Scheduler
from kvstore.txn.actions.check_txn_status import (
    StatusAlive,
    StatusCommitted,
    StatusLockGone,
    StatusQuery,
    StatusRolledBack,
    TxnStatus,
)
from kvstore.txn.actions.prewrite import AssertionLevel, Mutation, Op, PessimisticAction, PrewriteProperties
from kvstore.txn.changes import Changes
from kvstore.txn.commands import (
    AllLocked,
    CheckSecondaryLocks,
    CheckTxnStatus,
    Cleanup,
    Commit,
    HeartBeat,
    PessimisticRollback,
    Prewrite,
    PrewriteResult,
    ResolveLock,
    Rollback,
    SecondaryCommitted,
)

_OPS = {
    pb.Op.Put: Op.PUT,
    pb.Op.Del: Op.DELETE,
    pb.Op.Lock: Op.LOCK,
    pb.Op.Insert: Op.INSERT,
    pb.Op.CheckNotExists: Op.CHECK_NOT_EXISTS,
}
_ASSERTIONS = {
    pb.Assertion.Exist: Assertion.EXIST,
    pb.Assertion.NotExist: Assertion.NOT_EXIST,
}
_LEVELS = {pb.AssertionLevel.Fast: AssertionLevel.FAST, pb.AssertionLevel.Strict: AssertionLevel.STRICT}
_ACTIONS = {
    pb.PrewriteRequest.SKIP_PESSIMISTIC_CHECK: PessimisticAction.SKIP,
    pb.PrewriteRequest.DO_PESSIMISTIC_CHECK: PessimisticAction.DO_CHECK,
    pb.PrewriteRequest.DO_CONSTRAINT_CHECK: PessimisticAction.DO_CONSTRAINT_CHECK,
}


class GuardedPrewrite:
    """A prewrite whose async commit or 1PC is above all reads, and visible to readers while it is being written."""

    def __init__(self, concurrency: ConcurrencyManager, region_id: int, prewrite: Prewrite) -> None:
        self._concurrency = concurrency
        self._region_id = region_id
        self._prewrite = prewrite
        self._shown: tuple[tuple[bytes, Lock], ...] = ()

    def keys(self) -> Sequence[bytes]:
        return self._prewrite.keys()

    def run(self, reader: MvccReader, changes: Changes) -> PrewriteResult:
        concurrency, prewrite = self._concurrency, self._prewrite
        if prewrite.props.decides_commit_ts:
            if not concurrency.is_synced(self._region_id):
                raise max_ts_not_synced(self._region_id)
            prewrite = replace(prewrite, props=replace(prewrite.props, max_read_ts=concurrency.max_ts))
        result = prewrite.run(reader, changes)
        self._shown = result.locks
        concurrency.add(self._shown)
        return result

    def written(self) -> None:
        """The outcome is known, or nobody here will know it."""
        self._concurrency.remove(self._shown)


class Writes:
    """Commands that change records, but for those that wait for locks."""

    def __init__(
        self, scheduler: Scheduler, concurrency: ConcurrencyManager, reads: Reads, limits: ServiceLimits
    ) -> None:
        self._scheduler = scheduler
        self._concurrency = concurrency
        self._reads = reads
        self._limits = limits

    async def prewrite(self, request: pb.PrewriteRequest) -> pb.PrewriteResponse:
        context = request.context
        command = GuardedPrewrite(self._concurrency, context.region_id, prewrite_of(request))
        try:
            result = await self._scheduler.run(context, command, deadline_of(context, self._limits))
        finally:
            command.written()
        return pb.PrewriteResponse(min_commit_ts=result.min_commit_ts, one_pc_commit_ts=result.one_pc_commit_ts)

    async def commit(self, request: pb.CommitRequest) -> pb.CommitResponse:
        context = request.context
        if request.commit_version <= request.start_version:
            raise Refused(f"commit_ts {request.commit_version} is not after start_ts {request.start_version}")
        command = Commit(tuple(request.keys), request.start_version, request.commit_version)
        await self._scheduler.run(context, command, deadline_of(context, self._limits))
        return pb.CommitResponse(commit_version=request.commit_version)

    async def batch_rollback(self, request: pb.BatchRollbackRequest) -> pb.BatchRollbackResponse:
        self._concurrency.update_max_ts(request.start_version)
        command = Rollback(tuple(request.keys), request.start_version)
        await self._scheduler.run(request.context, command, deadline_of(request.context, self._limits))
        return pb.BatchRollbackResponse()

    async def cleanup(self, request: pb.CleanupRequest) -> pb.CleanupResponse:
        # no commit may come to lie on the rollback record
        self._concurrency.update_max_ts(request.start_version)
        command = Cleanup(request.key, request.start_version, request.current_ts)
        try:
            await self._scheduler.run(request.context, command, deadline_of(request.context, self._limits))
        except AlreadyCommitted as committed:
            return pb.CleanupResponse(commit_version=committed.commit_ts)
        return pb.CleanupResponse()

    async def pessimistic_rollback(self, request: pb.PessimisticRollbackRequest) -> pb.PessimisticRollbackResponse:
        """The given keys; without any, all of the transaction's in the region."""
        context, start_ts, for_update_ts = request.context, request.start_version, request.for_update_ts
        deadline = deadline_of(context, self._limits)
        if request.keys:
            command = PessimisticRollback(tuple(request.keys), start_ts, for_update_ts)
            await self._scheduler.run(context, command, deadline)
            return pb.PessimisticRollbackResponse()
        async for found in self._reads.region_locks(context, deadline):
            keys = tuple(key for key, lock in found if lock.start_ts == start_ts)
            if keys:
                await self._scheduler.run(context, PessimisticRollback(keys, start_ts, for_update_ts), deadline)
        return pb.PessimisticRollbackResponse()

    async def heart_beat(self, request: pb.TxnHeartBeatRequest) -> pb.TxnHeartBeatResponse:
        command = HeartBeat(request.primary_lock, request.start_version, request.advise_lock_ttl, request.min_commit_ts)
        ttl = await self._scheduler.run(request.context, command, deadline_of(request.context, self._limits))
        return pb.TxnHeartBeatResponse(lock_ttl=ttl)

    async def check_txn_status(self, request: pb.CheckTxnStatusRequest) -> pb.CheckTxnStatusResponse:
        query = StatusQuery(
            request.primary_key,
            request.lock_ts,
            request.caller_start_ts,
            request.current_ts,
            rollback_if_not_exist=request.rollback_if_not_exist,
            force_sync_commit=request.force_sync_commit,
            resolving_pessimistic_lock=request.resolving_pessimistic_lock,
            verify_is_primary=request.verify_is_primary,
        )
        for ts in (request.lock_ts, request.caller_start_ts, request.current_ts):
            self._concurrency.update_max_ts(ts)
        deadline = deadline_of(request.context, self._limits)
        status = await self._scheduler.run(request.context, CheckTxnStatus(query), deadline)
        return status_response(request.primary_key, status)

    async def check_secondary_locks(self, request: pb.CheckSecondaryLocksRequest) -> pb.CheckSecondaryLocksResponse:
        self._concurrency.update_max_ts(request.start_version)
        command = CheckSecondaryLocks(tuple(request.keys), request.start_version)
        status = await self._scheduler.run(request.context, command, deadline_of(request.context, self._limits))
        if isinstance(status, AllLocked):
            return pb.CheckSecondaryLocksResponse(locks=[lock_info(key, lock) for key, lock in status.locks])
        if isinstance(status, SecondaryCommitted):
            return pb.CheckSecondaryLocksResponse(commit_ts=status.commit_ts)
        return pb.CheckSecondaryLocksResponse()

    # -- resolve

    async def resolve_lock(self, request: pb.ResolveLockRequest) -> pb.ResolveLockResponse:
        """The given keys of a transaction, or all locks of it, or of several, in the region."""
        fates = {info.txn: info.status for info in request.txn_infos}
        if not fates:
            fates[request.start_version] = request.commit_version
        for start_ts, commit_ts in fates.items():
            if commit_ts and commit_ts <= start_ts:
                raise Refused(f"commit_ts {commit_ts} is not after start_ts {start_ts}")
        if request.keys:
            start_ts = request.start_version
            command = ResolveLock(tuple(request.keys), start_ts, fates.get(start_ts, request.commit_version))
            await self._scheduler.run(request.context, command, deadline_of(request.context, self._limits))
        else:
            await self._resolve_region(request.context, fates)
        return pb.ResolveLockResponse()

    async def _resolve_region(self, context: pb.Context, fates: dict[int, int]) -> None:
        deadline = deadline_of(context, self._limits)
        async for found in self._reads.region_locks(context, deadline):
            keys: dict[int, list[bytes]] = {}
            for key, lock in found:
                if lock.start_ts in fates:
                    keys.setdefault(lock.start_ts, []).append(key)
            for start_ts, locked in keys.items():
                await self._scheduler.run(context, ResolveLock(tuple(locked), start_ts, fates[start_ts]), deadline)


def prewrite_of(request: pb.PrewriteRequest) -> Prewrite:
    """The command of a request. Raises Refused for one that makes no sense."""
    mutations = [_mutation(mutation) for mutation in request.mutations]
    if not mutations:
        raise Refused("a prewrite needs mutations")
    check_sizes(mutation.key for mutation in mutations)
    if len({mutation.key for mutation in mutations}) != len(mutations):
        raise Refused("a prewrite has two mutations of one key")
    for constraint in request.for_update_ts_constraints:
        if constraint.index >= len(mutations):
            raise Refused(f"a constraint is on mutation {constraint.index} of {len(mutations)}")
        mutations[constraint.index] = replace(
            mutations[constraint.index], expected_for_update_ts=constraint.expected_for_update_ts
        )
    actions: tuple[PessimisticAction, ...] = ()
    if request.for_update_ts and request.pessimistic_actions:
        if len(request.pessimistic_actions) < len(mutations):
            raise Refused(f"{len(request.pessimistic_actions)} actions for {len(mutations)} mutations")
        # client-rust cuts a prewrite by regions and sends each part the actions of the whole; TiKV takes the first ones
        told = request.pessimistic_actions[: len(mutations)]
        actions = tuple(_ACTIONS.get(action, PessimisticAction.DO_CHECK) for action in told)
    props = PrewriteProperties(
        request.start_version,
        request.primary_lock,
        request.lock_ttl,
        txn_size=request.txn_size,
        for_update_ts=request.for_update_ts,
        min_commit_ts=request.min_commit_ts,
        max_commit_ts=request.max_commit_ts,
        secondaries=tuple(request.secondaries) if request.use_async_commit else None,
        one_pc=request.try_one_pc,
        skip_constraint_check=request.skip_constraint_check,
        assertion_level=_LEVELS.get(request.assertion_level, AssertionLevel.OFF),
        is_retry=request.context.is_retry_request,
        txn_source=request.context.txn_source,
    )
    return Prewrite(props, tuple(mutations), actions)


def _mutation(mutation: pb.Mutation) -> Mutation:
    op = _OPS.get(mutation.op)
    if op is None:
        raise Refused(f"mutation {mutation.op} cannot be prewritten")
    value = mutation.value if op in (Op.PUT, Op.INSERT) else None
    return Mutation(op, mutation.key, value, _ASSERTIONS.get(mutation.assertion, Assertion.NONE))


def status_response(primary: bytes, status: TxnStatus) -> pb.CheckTxnStatusResponse:
    match status:
        case StatusCommitted(commit_ts=commit_ts):
            return pb.CheckTxnStatusResponse(commit_version=commit_ts)
        case StatusRolledBack(by_this=False):
            return pb.CheckTxnStatusResponse()
        case StatusRolledBack(expired=expired):
            action = pb.Action.TTLExpireRollback if expired else pb.Action.LockNotExistRollback
            return pb.CheckTxnStatusResponse(action=action)
        case StatusLockGone(expired=expired):
            gone = pb.Action.TTLExpirePessimisticRollback if expired else pb.Action.LockNotExistDoNothing
            return pb.CheckTxnStatusResponse(action=gone)
        case StatusAlive(lock=lock, pushed=pushed):
            return pb.CheckTxnStatusResponse(
                lock_ttl=lock.ttl,
                lock_info=lock_info(primary, lock),
                action=pb.Action.MinCommitTSPushed if pushed else pb.Action.NoAction,
            )
