"""The lock resolver: finds out what became of a transaction whose lock is in the way, and settles its locks.

A transaction's fate is kept at its primary key; KvCheckTxnStatus asks it there, and rolls the transaction back when its
time to live is over. An async commit (its primary lock lists the secondaries) counts as committed once all its keys are
locked: KvCheckSecondaryLocks looks, and rolls back what it finds missing. (client-go's `txnlock/lock_resolver.go`.)

A read need not wait until locks are gone: it goes past those of transactions that committed above it, were rolled
back, or had their min_commit_ts pushed (`ignore`), and reads through those that committed below it (`access`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

from kvstore.client.api import LOGICAL_BITS, TS_MAX
from kvstore.client.cluster import commands
from kvstore.client.cluster.background import Background
from kvstore.client.cluster.backoff import POINT_BUDGET_MS, TXN_NOT_FOUND, Backoff
from kvstore.client.cluster.errors import RefusedRequest
from kvstore.client.cluster.fan_out import by_region
from kvstore.client.cluster.key_errors import error_of, lock_of
from kvstore.client.cluster.pd_client import PdClient
from kvstore.client.cluster.regions import CachedRegion, RegionCache
from kvstore.client.cluster.sender import RegionSender
from kvstore.errors import PrimaryMismatch
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb

STATUSES_MAX = 2048
"""Fates of transactions that are remembered."""
BIG_TXN_KEYS = 16
"""From so many keys of a transaction in a region on, all its locks there are settled at once."""


@dataclass(frozen=True, slots=True)
class TxnStatus:
    """What is known of a transaction: alive while `ttl_ms` > 0, else committed at `commit_ts`, or (0) rolled back."""

    ttl_ms: int
    commit_ts: int
    action: int
    primary_lock: kvrpcpb.LockInfo | None = None

    @property
    def is_final(self) -> bool:
        """Whether it is the transaction's fate, and not only that a pessimistic primary is gone for now."""
        if self.ttl_ms:
            return False
        return self.commit_ts > 0 or self.action not in (
            kvrpcpb.LockNotExistDoNothing,
            kvrpcpb.TTLExpirePessimisticRollback,
        )


@dataclass(frozen=True, slots=True)
class Resolved:
    """`wait_ms` > 0: somebody is alive for about so long yet. The others are ids for the context of a read."""

    wait_ms: int
    ignore: tuple[int, ...]
    access: tuple[int, ...]


class _NotAsyncCommit(Exception):
    """A secondary of an async commit holds an ordinary lock: the transaction fell back to two phases."""


def physical_ms(ts: int) -> int:
    return ts >> LOGICAL_BITS


def remaining_ms(lock_ts: int, ttl_ms: int, current_ts: int) -> int:
    """How long a lock has yet to live at `current_ts`, 0 when its time is over."""
    return max(0, physical_ms(lock_ts) + ttl_ms - physical_ms(current_ts))


class LockResolver:
    """Settles locks; shared by all readers and writers of a client."""

    def __init__(
        self, pd: PdClient, regions: RegionCache, sender: RegionSender, rng: Random, background: Background
    ) -> None:
        self._pd = pd
        self._later = background
        self._regions = regions
        self._sender = sender
        self._rng = rng
        self._statuses: OrderedDict[int, TxnStatus] = OrderedDict()

    async def resolve(
        self, backoff: Backoff, caller_start_ts: int, locks: Sequence[kvrpcpb.LockInfo], *, for_read: bool
    ) -> Resolved:
        """Settles the locks whose transactions are over. `caller_start_ts` is the read timestamp, 0 for a writer."""
        current_ts = await self._pd.get_ts()
        waits: list[int] = []
        ignore: dict[int, None] = {}
        access: dict[int, None] = {}
        small: dict[int, tuple[TxnStatus, list[bytes]]] = {}
        cleaned: dict[tuple[int, int], None] = {}
        for lock in locks:
            status = await self._settle(backoff, lock, caller_start_ts, current_ts, small, cleaned, for_read)
            if status.ttl_ms and not (for_read and status.action == kvrpcpb.MinCommitTSPushed):
                # at least 1: a lock whose time has just ended is asked about again, not waited for
                waits.append(max(1, remaining_ms(lock.lock_version, status.ttl_ms, current_ts)))
            elif status.commit_ts and status.commit_ts <= caller_start_ts:
                access[lock.lock_version] = None
            else:
                ignore[lock.lock_version] = None
        for start_ts, (status, keys) in small.items():
            settle = partial(self.settle_keys, start_ts=start_ts, commit_ts=status.commit_ts, keys=keys)
            await self._now_or_later(for_read, backoff, settle)
        return Resolved(min(waits, default=0), tuple(ignore), tuple(access))

    async def _status_of(
        self, backoff: Backoff, lock: kvrpcpb.LockInfo, caller_start_ts: int, current_ts: int
    ) -> TxnStatus:
        """Asks the primary; a transaction that left nothing there is rolled back once the lock's time is over."""
        if lock.lock_ttl == 0:
            # the store asks for it to be settled whatever time it has left
            current_ts = TS_MAX
        expired = current_ts == TS_MAX or not remaining_ms(lock.lock_version, lock.lock_ttl, current_ts)
        rollback_if_not_exist = False
        while True:
            status = await self.check_txn_status(
                backoff,
                lock.primary_lock,
                lock.lock_version,
                caller_start_ts=caller_start_ts,
                current_ts=current_ts,
                rollback_if_not_exist=rollback_if_not_exist,
                pessimistic=lock.lock_type == kvrpcpb.PessimisticLock,
            )
            if status is not None:
                return status
            if expired:
                rollback_if_not_exist = True
                continue
            if lock.lock_type == kvrpcpb.PessimisticLock:
                return TxnStatus(lock.lock_ttl, 0, kvrpcpb.NoAction)
            # a secondary was prewritten before its primary: the primary may be on its way
            await backoff.wait(TXN_NOT_FOUND, f"transaction {lock.lock_version} is not at its primary yet")
            current_ts = await self._pd.get_ts()
            expired = not remaining_ms(lock.lock_version, lock.lock_ttl, current_ts)

    async def check_txn_status(
        self,
        backoff: Backoff,
        primary: bytes,
        start_ts: int,
        *,
        caller_start_ts: int,
        current_ts: int,
        rollback_if_not_exist: bool,
        force_sync_commit: bool = False,
        pessimistic: bool = False,
    ) -> TxnStatus | None:
        """One question to the primary, None when it knows nothing and was not to roll back. Raises PrimaryMismatch."""
        known = self._statuses.get(start_ts)
        if known is not None:
            return known
        request = kvrpcpb.CheckTxnStatusRequest(
            primary_key=primary,
            lock_ts=start_ts,
            caller_start_ts=caller_start_ts,
            current_ts=current_ts,
            rollback_if_not_exist=rollback_if_not_exist,
            force_sync_commit=force_sync_commit,
            resolving_pessimistic_lock=pessimistic,
            verify_is_primary=True,
        )
        answer = await self._sender.send_to_key(backoff, commands.CHECK_TXN_STATUS, request, primary)
        if answer.HasField("error"):
            if answer.error.HasField("txn_not_found"):
                return None
            raise error_of(answer.error, start_ts)
        primary_lock = answer.lock_info if answer.HasField("lock_info") else None
        status = TxnStatus(answer.lock_ttl, answer.commit_version, answer.action, primary_lock)
        self._remember(start_ts, status)
        return status

    def _remember(self, start_ts: int, status: TxnStatus) -> None:
        if status.is_final:
            self._statuses[start_ts] = status
            if len(self._statuses) > STATUSES_MAX:
                self._statuses.popitem(last=False)

    async def _settle(
        self,
        backoff: Backoff,
        lock: kvrpcpb.LockInfo,
        caller_start_ts: int,
        current_ts: int,
        small: dict[int, tuple[TxnStatus, list[bytes]]],
        cleaned: dict[tuple[int, int], None],
        for_read: bool,
    ) -> TxnStatus:
        """Settles one lock if its transaction is over; those of small transactions are collected in `small`."""
        start_ts = lock.lock_version
        pessimistic = lock.lock_type == kvrpcpb.PessimisticLock
        try:
            status = await self._status_of(backoff, lock, caller_start_ts, current_ts)
        except PrimaryMismatch:
            if not pessimistic:
                raise
            status = TxnStatus(0, 0, kvrpcpb.NoAction)
        primary = status.primary_lock
        if status.ttl_ms:
            if primary is None or not primary.use_async_commit:
                return status
            if lock.lock_ttl and remaining_ms(start_ts, status.ttl_ms, current_ts):
                return status
            return await self._recover_async_commit(backoff, lock, primary, for_read)
        if pessimistic:
            await self._give_up_pessimistic(backoff, lock)
        elif lock.txn_size < BIG_TXN_KEYS:
            small.setdefault(start_ts, (status, []))[1].append(lock.key)
        else:
            region = await self._regions.locate(backoff, lock.key)
            if (start_ts, region.id) not in cleaned:
                cleaned[start_ts, region.id] = None
                await self._now_or_later(
                    for_read, backoff, lambda b: self.settle_region(b, start_ts, status.commit_ts, lock.key)
                )
        return status

    async def _recover_async_commit(
        self,
        backoff: Backoff,
        lock: kvrpcpb.LockInfo,
        primary: kvrpcpb.LockInfo,
        for_read: bool,
    ) -> TxnStatus:
        """Decides an async commit whose owner is gone, and settles all its locks."""
        start_ts = lock.lock_version
        status, keys = await self.decide_async_commit(backoff, start_ts, lock.primary_lock, primary)
        keys = [*keys, lock.key, lock.primary_lock]
        settle = partial(self.settle_keys, start_ts=start_ts, commit_ts=status.commit_ts, keys=dict.fromkeys(keys))
        await self._now_or_later(for_read, backoff, settle)
        return status

    async def decide_async_commit(
        self, backoff: Backoff, start_ts: int, primary: bytes, primary_lock: kvrpcpb.LockInfo
    ) -> tuple[TxnStatus, list[bytes]]:
        """Settles the fate of an async commit; returns it and those secondaries that are known to be locked still."""
        try:
            return await self._check_secondaries(backoff, start_ts, primary_lock)
        except _NotAsyncCommit:
            # it fell back to two phases: the primary alone decides
            status = await self.check_txn_status(
                backoff,
                primary,
                start_ts,
                caller_start_ts=0,
                current_ts=TS_MAX,
                rollback_if_not_exist=True,
                force_sync_commit=True,
            )
            assert status is not None, "the primary was to be rolled back"
            return status, []

    async def _check_secondaries(
        self, backoff: Backoff, start_ts: int, primary: kvrpcpb.LockInfo
    ) -> tuple[TxnStatus, list[bytes]]:
        """Looks at all secondaries, which rolls back the missing ones."""
        commit_ts = primary.min_commit_ts
        locked: list[bytes] = []
        settled: list[int] = []

        async def check(part: Backoff, region: CachedRegion, keys: list[bytes]) -> None:
            nonlocal commit_ts
            request = kvrpcpb.CheckSecondaryLocksRequest(keys=keys, start_version=start_ts)
            answer = await self._sender.send(part, commands.CHECK_SECONDARY_LOCKS, request, region)
            if answer.HasField("error"):
                raise error_of(answer.error, start_ts)
            if len(answer.locks) < len(keys):
                settled.append(answer.commit_ts)
                return
            for found in answer.locks:
                if not found.use_async_commit:
                    raise _NotAsyncCommit
                commit_ts = max(commit_ts, found.min_commit_ts)
                locked.append(found.key)

        if primary.secondaries:
            await by_region(self._regions, backoff, primary.secondaries, check)
        if settled:
            # somebody settled it before, or a missing secondary was rolled back just now
            if len(set(settled)) > 1:
                raise RefusedRequest(f"transaction {start_ts} is committed at several timestamps: {settled}")
            commit_ts = settled[0]
        status = TxnStatus(0, commit_ts, kvrpcpb.NoAction)
        self._remember(start_ts, status)
        return status, locked

    async def settle_keys(self, backoff: Backoff, start_ts: int, commit_ts: int, keys: Iterable[bytes]) -> None:
        """Commits (or, at 0, rolls back) the locks of a transaction on these keys."""

        async def settle(part: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
            request = kvrpcpb.ResolveLockRequest(start_version=start_ts, commit_version=commit_ts, keys=mine)
            answer = await self._sender.send(part, commands.RESOLVE_LOCK, request, region)
            if answer.HasField("error"):
                raise error_of(answer.error, start_ts)

        await by_region(self._regions, backoff, keys, settle)

    async def settle_region(self, backoff: Backoff, start_ts: int, commit_ts: int, key: bytes) -> None:
        """Commits (or, at 0, rolls back) all locks of a transaction in the region of `key`."""
        request = kvrpcpb.ResolveLockRequest(start_version=start_ts, commit_version=commit_ts)
        answer = await self._sender.send_to_key(backoff, commands.RESOLVE_LOCK, request, key)
        if answer.HasField("error"):
            raise error_of(answer.error, start_ts)

    async def settle_txns(self, backoff: Backoff, region: CachedRegion, fates: Sequence[tuple[int, int]]) -> None:
        """Settles all locks of transactions, (start_ts, commit_ts) each, in one region. Raises RegionChanged."""
        infos = [kvrpcpb.TxnInfo(txn=start_ts, status=commit_ts) for start_ts, commit_ts in fates]
        answer = await self._sender.send(
            backoff, commands.RESOLVE_LOCK, kvrpcpb.ResolveLockRequest(txn_infos=infos), region
        )
        if answer.HasField("error"):
            raise error_of(answer.error, 0)

    async def fate(self, backoff: Backoff, lock: kvrpcpb.LockInfo, current_ts: int) -> int | None:
        """The commit_ts (0: rolled back) of the lock's transaction, None while it is alive; settles the primary."""
        try:
            status = await self._status_of(backoff, lock, 0, current_ts)
        except PrimaryMismatch:
            if lock.lock_type != kvrpcpb.PessimisticLock:
                raise
            return 0
        primary = status.primary_lock
        if status.ttl_ms and primary is not None and primary.use_async_commit:
            if remaining_ms(lock.lock_version, status.ttl_ms, current_ts):
                return None
            status = await self._recover_async_commit(backoff, lock, primary, False)
        return None if status.ttl_ms else status.commit_ts

    async def _give_up_pessimistic(self, backoff: Backoff, lock: kvrpcpb.LockInfo) -> None:
        for_update_ts = lock.lock_for_update_ts or TS_MAX
        request = kvrpcpb.PessimisticRollbackRequest(
            start_version=lock.lock_version, for_update_ts=for_update_ts, keys=[lock.key]
        )
        answer = await self._sender.send_to_key(backoff, commands.PESSIMISTIC_ROLLBACK, request, lock.key)
        for error in answer.errors:
            if lock_of(error) is None:
                raise error_of(error, lock.lock_version)

    async def _now_or_later(
        self, later: bool, backoff: Backoff, work: Callable[[Backoff], Coroutine[Any, Any, None]]
    ) -> None:
        """Runs `work(backoff)`, in the background when the caller need not wait for it and there is room."""
        if later and self._later.has_room:
            # if it fails, the next one who meets the lock settles it
            self._later.spawn(work(Backoff(POINT_BUDGET_MS, self._rng)))
        else:
            await work(backoff)
