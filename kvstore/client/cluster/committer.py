"""The commit of one transaction: prewrite every key, then commit the primary, then the rest (Percolator).

one phase      all keys are in one batch of one region: the prewrite commits
async commit   few keys: committed once all are prewritten, at the greatest min_commit_ts the stores answered; the
               commit records follow in the background
two phases     commit_ts is drawn after the prewrites; the transaction is committed when its primary is

The first two are asked for and the store may decline (its answer then has no timestamp): two phases follow. Sizes and
fall-backs are client-go's (`2pc.go`, `prewrite.go`, `commit.go`).

What is known when an answer was lost: a prewrite in two phases decides nothing, so its failure is a failure. Where the
lost call may have committed (the primary's commit, a prewrite in the other modes) the primary is asked, which settles
the outcome for good; UndeterminedResult is raised if nobody can be asked.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.client.api import LOGICAL_BITS, TS_MAX, CancelToken, CommitCheck
from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import POINT_BUDGET_MS, TXN_LOCK, Backoff
from kvstore.client.cluster.errors import ClusterError, TxnAborted, UndeterminedResult
from kvstore.client.cluster.fan_out import by_region, cut, gather_all
from kvstore.client.cluster.keep_alive import KeepAlive
from kvstore.client.cluster.key_errors import error_of, lock_of
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.regions import CachedRegion
from kvstore.client.cluster.resolver import physical_ms
from kvstore.client.cluster.sender import RegionChanged
from kvstore.errors import Cancelled, CommitRejected, KvError, LockWaitTimeout, PdError, TxnError, WriteConflict
from kvstore.failpoint import fail_point_async
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb
from kvstore.rpc.api import RpcError

BATCH_BYTES_MAX = 32 << 10
"""Keys and values in one prewrite; keys in one commit."""
ASYNC_COMMIT_KEYS_MAX = 256
ASYNC_COMMIT_BYTES_MAX = 4096
"""Keys of an async commit, which its primary lock lists."""
COMMIT_WINDOW_MS = 2000
"""How much later than its beginning an async commit or 1PC may be timestamped; else it takes two phases."""
TTL_MS = 3000
TTL_MS_MAX = 20_000
TTL_FACTOR_MS = 6000
"""A transaction's locks live for this times the square root of its MiB, within the two bounds."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """What a transaction does to one key; `action` is how a pessimistic transaction's key is checked."""

    op: kvrpcpb.Op
    key: bytes
    value: bytes = b""
    action: kvrpcpb.PrewriteRequest.PessimisticAction = kvrpcpb.PrewriteRequest.SKIP_PESSIMISTIC_CHECK

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value)


class Committer:
    """Commits or rolls back `mutations` (ascending keys), of which `primary` is one."""

    def __init__(
        self,
        parts: Parts,
        start_ts: int,
        mutations: Sequence[Mutation],
        primary: bytes,
        keep_alive: KeepAlive,
        *,
        for_update_ts: int,
        lock_wait_ms: int,
        cancel: CancelToken | None,
        may_be_early: bool,
    ) -> None:
        """`for_update_ts` is 0 for an optimistic transaction.

        Without `may_be_early` commit_ts is drawn when all keys are locked, also where a store could choose it.
        """
        self._parts = parts
        self._start_ts = start_ts
        self._mutations = {mutation.key: mutation for mutation in mutations}
        self._primary = primary
        self._keep_alive = keep_alive
        self._for_update_ts = for_update_ts
        self._lock_wait_ms = lock_wait_ms
        self._cancel = cancel
        self._may_be_early = may_be_early
        self._began = asyncio.get_running_loop().time()
        self._bytes = sum(mutation.size for mutation in mutations)
        self._keys_bytes = sum(len(mutation.key) for mutation in mutations)
        self._one_pc = False
        self._async = False
        self._least_commit_ts = 0
        self._max_commit_ts = 0
        self._early = False
        """Whether a prewrite may commit the transaction."""
        self._lost = False
        self._one_pc_commit_ts = 0
        self._ttl_ms = max(TTL_MS, min(TTL_MS_MAX, int(TTL_FACTOR_MS * math.sqrt(self._bytes / (1 << 20)))))

    async def commit(self, check: CommitCheck | None) -> int:
        """Returns commit_ts. Raises TxnError or ClusterError (not applied), or UndeterminedResult."""
        try:
            await self._choose_mode()
            if check is not None and self._early:
                check(self._max_commit_ts)
        except BaseException:
            if self._for_update_ts:
                # its pessimistic locks
                self._parts.background.spawn(self.rollback())
            raise
        try:
            await self._prewrite_all()
        except asyncio.CancelledError:
            self._parts.background.spawn(self.rollback())
            raise
        except (KvError, RpcError) as error:
            if not (self._lost and self._early):
                self._parts.background.spawn(self.rollback())
                raise
            return await self._decide(error)
        finally:
            if self._one_pc_commit_ts:
                self._keep_alive.stop()
        await fail_point_async("client::after_prewrite")
        if self._one_pc_commit_ts:
            return self._one_pc_commit_ts
        if not self._locks(self._primary):
            # nothing but checks, which passed
            return self._start_ts
        # from here on the outcome is settled whether the caller waits or not
        finish = asyncio.get_running_loop().create_task(self._finish(check))
        self._parts.background.spawn(_wait_for(finish))
        return await asyncio.shield(finish)

    async def rollback(self) -> None:
        """Takes all locks back, and leaves records that keep late prewrites out."""
        self._keep_alive.stop()

        async def roll(backoff: Backoff, region: CachedRegion, keys: list[bytes]) -> None:
            for batch in cut(keys, len, BATCH_BYTES_MAX):
                request = kvrpcpb.BatchRollbackRequest(start_version=self._start_ts, keys=batch)
                answer = await self._parts.sender.send(backoff, commands.BATCH_ROLLBACK, request, region)
                if answer.HasField("error"):
                    raise error_of(answer.error, self._start_ts)

        await by_region(self._parts.regions, self._parts.backoff(POINT_BUDGET_MS), self._mutations, roll)

    async def _choose_mode(self) -> None:
        options = self._parts.options
        if not self._locks(self._primary):
            return
        self._async = (
            self._may_be_early
            and options.async_commit
            and len(self._mutations) <= ASYNC_COMMIT_KEYS_MAX
            and self._keys_bytes <= ASYNC_COMMIT_BYTES_MAX
        )
        self._one_pc = self._may_be_early and options.one_pc and self._bytes < BATCH_BYTES_MAX
        self._early = self._async or self._one_pc
        if self._early:
            # later than every timestamp drawn before the commit began: whoever saw it begin reads what it wrote
            now = await self._parts.pd.get_ts()
            self._least_commit_ts = now + 1
            self._max_commit_ts = (physical_ms(now) + COMMIT_WINDOW_MS) << LOGICAL_BITS

    async def _prewrite_all(self) -> None:
        backoff = self._parts.backoff(POINT_BUDGET_MS + self._lock_wait_ms)
        groups = await self._parts.regions.group(backoff, self._mutations)
        batches = [
            (region, batch, len(keys))
            for region, keys in groups
            for batch in cut(keys, lambda key: self._mutations[key].size, BATCH_BYTES_MAX)
        ]
        if len(batches) > 1:
            self._one_pc = False
        if not self._one_pc and self._locks(self._primary):
            self._keep_alive.start(self._primary, self._ttl_ms)
        await gather_all(
            [self._prewrite(backoff.fork(), region, batch, in_region) for region, batch, in_region in batches]
        )

    async def _prewrite(self, backoff: Backoff, region: CachedRegion, keys: list[bytes], txn_size: int) -> None:
        """Prewrites one batch, over the locks of others as they get settled; grouped anew where regions changed."""
        request = self._prewrite_request(keys, txn_size)
        while True:
            request.lock_ttl = self._keep_alive.elapsed_ms + self._ttl_ms
            request.try_one_pc = self._one_pc
            try:
                answer = await self._parts.sender.send(backoff, commands.PREWRITE, request, region)
            except RegionChanged:
                await self._prewrite_again(backoff, keys)
                return
            except ClusterError:
                self._lost = self._lost or backoff.maybe_executed
                raise
            if not answer.errors:
                self._prewritten(answer)
                return
            # an error now says nothing of an attempt before, which may have been committed and followed by others
            self._lost = self._lost or backoff.maybe_executed
            await self._settle_locks(backoff, answer.errors)

    async def _prewrite_again(self, backoff: Backoff, keys: list[bytes]) -> None:
        groups = await self._parts.regions.group(backoff, keys)
        self._lost = self._lost or backoff.maybe_executed
        if len(groups) > 1:
            if self._one_pc and backoff.maybe_executed and await self._was_committed(backoff):
                return
            self._one_pc = False
            self._keep_alive.start(self._primary, self._ttl_ms)
        parts = [backoff.fork() for _ in groups]
        for part in parts:
            part.maybe_executed = backoff.maybe_executed
        # how many keys the region holds by now is not known: its locks are settled by region
        await gather_all(
            [
                self._prewrite(part, region, mine, (1 << 64) - 1)
                for part, (region, mine) in zip(parts, groups, strict=True)
            ]
        )

    async def _was_committed(self, backoff: Backoff) -> bool:
        """Whether a one-phase commit whose answer was lost went through; nothing is changed by asking."""
        status = await self._parts.resolver.check_txn_status(
            backoff, self._primary, self._start_ts, caller_start_ts=0, current_ts=0, rollback_if_not_exist=False
        )
        if status is None or not status.commit_ts:
            return False
        self._one_pc_commit_ts = status.commit_ts
        return True

    def _prewrite_request(self, keys: list[bytes], txn_size: int) -> kvrpcpb.PrewriteRequest:
        mutations = [self._mutations[key] for key in keys]
        request = kvrpcpb.PrewriteRequest(
            mutations=[kvrpcpb.Mutation(op=one.op, key=one.key, value=one.value) for one in mutations],
            primary_lock=self._primary,
            start_version=self._start_ts,
            txn_size=txn_size,
            for_update_ts=self._for_update_ts,
            min_commit_ts=max(self._least_commit_ts, self._start_ts + 1, self._for_update_ts + 1),
            use_async_commit=self._async,
            max_commit_ts=self._max_commit_ts,
        )
        if self._for_update_ts:
            request.pessimistic_actions.extend(one.action for one in mutations)
        if self._async and self._primary in keys:
            request.secondaries.extend(key for key in self._mutations if key != self._primary and self._locks(key))
        return request

    def _locks(self, key: bytes) -> bool:
        """Whether a prewrite leaves a lock on the key: a mere check does not."""
        return self._mutations[key].op != kvrpcpb.CheckNotExists

    def _prewritten(self, answer: kvrpcpb.PrewriteResponse) -> None:
        if answer.one_pc_commit_ts:
            self._one_pc_commit_ts = answer.one_pc_commit_ts
        elif self._one_pc:
            # declined: the locks are there
            self._one_pc = False
            self._keep_alive.start(self._primary, self._ttl_ms)
        if self._async:
            if answer.min_commit_ts:
                self._least_commit_ts = max(self._least_commit_ts, answer.min_commit_ts)
            else:
                self._async = False

    async def _settle_locks(self, backoff: Backoff, errors: Sequence[kvrpcpb.KeyError]) -> None:
        """Settles the locks of others; raises any other error."""
        locks: list[kvrpcpb.LockInfo] = []
        for error in errors:
            lock = lock_of(error)
            if lock is None:
                raise self._prewrite_error(error)
            if lock.lock_version > self._start_ts and not self._for_update_ts:
                # its commit, if it comes, lies after our start: certain to be a conflict
                raise WriteConflict(lock.key, self._start_ts, lock.lock_version, 0)
            locks.append(lock)
        resolved = await self._parts.resolver.resolve(backoff, 0, locks, for_read=False)
        if resolved.wait_ms:
            if self._cancel is not None and self._cancel.is_set():
                raise Cancelled
            waited_ms = (asyncio.get_running_loop().time() - self._began) * 1000
            if waited_ms >= self._lock_wait_ms:
                raise LockWaitTimeout(locks[0].key, self._lock_wait_ms)
            cause = f"key {locks[0].key.hex()} is locked by {locks[0].lock_version}"
            await backoff.wait(TXN_LOCK, cause, at_most_ms=min(resolved.wait_ms, self._lock_wait_ms - waited_ms))

    def _prewrite_error(self, error: kvrpcpb.KeyError) -> Exception:
        found = error_of(error, self._start_ts)
        if isinstance(found, WriteConflict) and found.conflict_start_ts == self._start_ts:
            # our own record: rolled back by others, or committed by a call whose answer was lost
            self._lost = True
            return TxnAborted(f"transaction {self._start_ts} was ended by others")
        return found

    async def _finish(self, check: CommitCheck | None) -> int:
        """Past the prewrites: commits in whichever way they allow."""
        try:
            if self._async:
                await self._parts.background.run(self._commit_rest(self._least_commit_ts, list(self._mutations)))
                return self._least_commit_ts
            return await self._commit_primary(check)
        finally:
            self._keep_alive.stop()

    async def _commit_primary(self, check: CommitCheck | None) -> int:
        commit_ts = await self._draw_commit_ts(check)
        await fail_point_async("client::before_commit_primary")
        backoff = self._parts.backoff(POINT_BUDGET_MS)
        try:
            commit_ts, done = await self._commit_at_primary(backoff, commit_ts, check)
        except CommitRejected:
            raise
        except (ClusterError, PdError) as error:
            if backoff.maybe_executed:
                return await self._decide(error)
            self._parts.background.spawn(self.rollback())
            raise
        except TxnError as error:
            self._parts.background.spawn(self.rollback())
            raise TxnAborted(f"transaction {self._start_ts} was rolled back by others") from error
        rest = [key for key in self._mutations if key not in done and self._locks(key)]
        if rest:
            await self._parts.background.run(self._commit_rest(commit_ts, rest))
        return commit_ts

    async def _draw_commit_ts(self, check: CommitCheck | None) -> int:
        try:
            commit_ts = await self._parts.pd.get_ts()
            if check is not None:
                check(commit_ts)
        except BaseException:
            # nothing is committed: undone, whatever went wrong
            self._parts.background.spawn(self.rollback())
            raise
        return commit_ts

    async def _commit_at_primary(
        self, backoff: Backoff, commit_ts: int, check: CommitCheck | None
    ) -> tuple[int, frozenset[bytes]]:
        """Commits the primary and the keys of its batch; returns them and commit_ts, which may have had to move."""
        while True:
            region = await self._parts.regions.locate(backoff, self._primary)
            keys = [key for key in self._mutations if region.contains(key) and self._locks(key)]
            batch = cut([self._primary, *(key for key in keys if key != self._primary)], len, BATCH_BYTES_MAX)[0]
            request = kvrpcpb.CommitRequest(start_version=self._start_ts, keys=batch, commit_version=commit_ts)
            try:
                answer = await self._parts.sender.send(backoff, commands.COMMIT, request, region)
            except RegionChanged:
                continue
            # an answer settles what became of the calls before it
            backoff.maybe_executed = False
            if not answer.HasField("error"):
                return commit_ts, frozenset(batch)
            if not answer.error.HasField("commit_ts_expired"):
                raise error_of(answer.error, self._start_ts)
            commit_ts = await self._draw_commit_ts(check)

    async def _commit_rest(self, commit_ts: int, keys: Sequence[bytes]) -> None:
        if await fail_point_async("client::before_commit_secondaries") is not None:
            return  # left to whoever meets their locks

        async def commit(backoff: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
            for batch in cut(mine, len, BATCH_BYTES_MAX):
                request = kvrpcpb.CommitRequest(start_version=self._start_ts, keys=batch, commit_version=commit_ts)
                request.use_async_commit = self._async
                answer = await self._parts.sender.send(backoff, commands.COMMIT, request, region)
                if answer.HasField("error"):
                    raise error_of(answer.error, self._start_ts)

        keys = [key for key in keys if self._locks(key)]
        await by_region(self._parts.regions, self._parts.backoff(POINT_BUDGET_MS), keys, commit)

    async def _decide(self, cause: Exception) -> int:
        """Finds out, and thereby settles, what became of a commit whose answer was lost; raises `cause` if nothing."""
        backoff = self._parts.backoff(POINT_BUDGET_MS)
        resolver = self._parts.resolver
        self._keep_alive.stop()
        try:
            status = await resolver.check_txn_status(
                backoff,
                self._primary,
                self._start_ts,
                caller_start_ts=0,
                current_ts=TS_MAX,
                rollback_if_not_exist=True,
            )
            assert status is not None
            if status.ttl_ms and status.primary_lock is not None and status.primary_lock.use_async_commit:
                status, _ = await resolver.decide_async_commit(
                    backoff, self._start_ts, self._primary, status.primary_lock
                )
        except ClusterError as error:
            raise UndeterminedResult(f"the outcome of transaction {self._start_ts} is unknown: {error}") from cause
        if status.ttl_ms:
            raise UndeterminedResult(f"transaction {self._start_ts} is still open at its primary") from cause
        if not status.commit_ts:
            self._parts.background.spawn(self.rollback())
            raise cause
        self._parts.background.spawn(self._commit_rest(status.commit_ts, list(self._mutations)))
        return status.commit_ts


async def _wait_for(task: asyncio.Task[int]) -> None:
    """Holds a commit in the background until it is through; its error is the caller's."""
    await asyncio.gather(task, return_exceptions=True)
