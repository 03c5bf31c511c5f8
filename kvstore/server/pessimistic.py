"""KvPessimisticLock: lock keys of a statement, and wait for locks of others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvstore.errors import KvError
from kvstore.mvcc.reader import MetLock, MvccReader
from kvstore.proto import kvrpcpb_pb2 as pb
from kvstore.server.access import check_sizes, deadline_of
from kvstore.server.errors import Refused, key_errors
from kvstore.server.limits import ServiceLimits
from kvstore.server.lock_wait import Waiter, Waits
from kvstore.server.scheduler import Scheduler
from kvstore.txn.actions.acquire_pessimistic_lock import LockedKey, LockProperties
from kvstore.txn.changes import Changes
from kvstore.txn.commands import AcquirePessimisticLock

WAIT_MAX_MS = 3_600_000


class Queued(Exception):
    """The request met a lock and waits for it now."""

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter
        super().__init__(f"waits for key {waiter.met.key.hex()}")


class LockOrQueue:
    """The command, which queues in the same step in which it meets a lock: no release can fall between."""

    def __init__(self, command: AcquirePessimisticLock, context: pb.Context, waits: Waits | None) -> None:
        self._command = command
        self._context = context
        self._waits = waits

    @property
    def may_leave_free(self) -> bool:
        """Whether a key may have no lock although the request went well."""
        return self._command.props.lock_only_if_exists

    def keys(self) -> Sequence[bytes]:
        return self._command.keys()

    def run(self, reader: MvccReader, changes: Changes) -> list[LockedKey]:
        try:
            return self._command.run(reader, changes)
        except MetLock as met:
            if self._waits is None:
                raise
            changes.clear()
            start_ts = self._command.props.start_ts
            waiter = self._waits.enqueue(start_ts, met, self._context.resource_group_tag)
            raise Queued(waiter) from None


class PessimisticLocks:
    """Runs lock requests until they have their locks, an error, or no time left."""

    def __init__(self, scheduler: Scheduler, waits: Waits, limits: ServiceLimits) -> None:
        self._scheduler = scheduler
        self._waits = waits
        self._limits = limits

    async def lock(self, request: pb.PessimisticLockRequest) -> pb.PessimisticLockResponse:
        command = command_of(request)
        force = request.wake_up_mode == pb.PessimisticLockWakeUpMode.WakeUpModeForceLock
        try:
            locked = await self._lock(request.context, command, self._wait_ms(request.wait_timeout))
        except _Failed as failed:
            results = [pb.PessimisticLockKeyResult(type=pb.PessimisticLockKeyResultType.LockResultFailed)]
            return pb.PessimisticLockResponse(errors=key_errors(failed.error), results=results if force else [])
        if force:
            return pb.PessimisticLockResponse(results=[_result(found, command.props) for found in locked])
        response = pb.PessimisticLockResponse()
        if request.return_values or request.check_existence:
            response.not_founds.extend(found.value is None for found in locked)
        if request.return_values:
            response.values.extend(found.value or b"" for found in locked)
        return response

    def _wait_ms(self, wait_timeout: int) -> int:
        """0 stands for the store's default, a negative one for not waiting."""
        return self._limits.lock_wait_default_ms if wait_timeout == 0 else max(wait_timeout, 0)

    async def _lock(self, context: pb.Context, command: AcquirePessimisticLock, wait_ms: int) -> list[LockedKey]:
        """Raises _Failed for outcomes that are the transaction's, RegionError."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(wait_ms, WAIT_MAX_MS) / 1000
        woken_at: bytes | None = None
        while True:
            waits = self._waits if loop.time() < until and self._waits.count < self._limits.lock_waiters_max else None
            try:
                locked = await self._run(context, LockOrQueue(command, context, waits), woken_at)
            except Queued as queued:
                woken_at = queued.waiter.met.key
                try:
                    woken = await self._waits.until_woken(queued.waiter, until)
                except KvError as error:
                    raise _Failed(error) from None
                if not woken:
                    raise _Failed(queued.waiter.met) from None
                continue
            except KvError as error:
                raise _Failed(error) from None
            props = command.props
            for key in command.lock_keys:
                self._waits.taken(key, props.primary, props.start_ts, props.ttl)
            return locked

    async def _run(self, context: pb.Context, command: LockOrQueue, woken_at: bytes | None) -> list[LockedKey]:
        """Runs it once. Who was woken at a key and does not lock it now passes the turn on."""
        if woken_at is None:
            return await self._scheduler.run(context, command, deadline_of(context, self._limits))
        passes_on = True
        try:
            locked = await self._scheduler.run(context, command, deadline_of(context, self._limits))
            passes_on = command.may_leave_free
        except Queued as queued:
            passes_on = queued.waiter.met.key != woken_at
            raise
        finally:
            if passes_on:
                self._waits.wake(woken_at)
        return locked


class _Failed(Exception):
    def __init__(self, error: KvError) -> None:
        self.error = error
        super().__init__(str(error))


def command_of(request: pb.PessimisticLockRequest) -> AcquirePessimisticLock:
    """The command of a request. Raises Refused for one that makes no sense."""
    keys = tuple(mutation.key for mutation in request.mutations)
    if not keys:
        raise Refused("a lock request needs keys")
    check_sizes(keys)
    if any(mutation.op != pb.Op.PessimisticLock for mutation in request.mutations):
        raise Refused("a lock request has mutations that are no pessimistic locks")
    force = request.wake_up_mode == pb.PessimisticLockWakeUpMode.WakeUpModeForceLock
    if force and len(keys) > 1:
        raise Refused("locks in spite of conflicts are taken one by one")
    if request.lock_only_if_exists and not request.return_values:
        raise Refused("lock_only_if_exists needs return_values")
    props = LockProperties(
        request.start_version,
        request.primary_lock,
        request.lock_ttl,
        max(request.for_update_ts, request.start_version),
        min_commit_ts=request.min_commit_ts,
        need_value=request.return_values,
        need_existence=request.check_existence,
        lock_only_if_exists=request.lock_only_if_exists,
        allow_conflict=force,
    )
    absent = [m.key for m in request.mutations if m.assertion == pb.Assertion.NotExist]
    return AcquirePessimisticLock(props, keys, frozenset(absent))


def _result(found: LockedKey, props: LockProperties) -> pb.PessimisticLockKeyResult:
    if found.conflict_ts:
        return pb.PessimisticLockKeyResult(
            type=pb.PessimisticLockKeyResultType.LockResultLockedWithConflict,
            value=found.value or b"",
            existence=found.value is not None,
            locked_with_conflict_ts=found.conflict_ts,
        )
    if not (props.need_value or props.need_existence):
        return pb.PessimisticLockKeyResult()
    return pb.PessimisticLockKeyResult(value=found.value or b"", existence=found.value is not None)
