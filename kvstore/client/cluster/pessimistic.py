"""The pessimistic locks of one transaction: taken before the write is known, waited for at the store.

The first key locked becomes the transaction's primary; its lock is kept alive by heartbeats. A call that fails gives
back what it took, so that a statement can be tried again with a later for_update_ts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import POINT_BUDGET_MS, Backoff
from kvstore.client.cluster.fan_out import by_region, cut
from kvstore.client.cluster.keep_alive import MANAGED_TTL_MS, KeepAlive
from kvstore.client.cluster.key_errors import error_of, lock_of
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.regions import CachedRegion
from kvstore.errors import KvError, LockNowait, LockWaitTimeout
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb
from kvstore.rpc.api import RpcError

LOCK_BATCH_BYTES_MAX = 32 << 10
"""Keys locked by one request."""
WAIT_SLICE_MS = 1000
"""How long one request may wait at a store; then it is asked what the lock is about, and waited again."""
RETRY_PAUSE_S = 0.01
"""Before a store that did not wait is asked again."""
NOWAIT = -1
"""On the wire: do not wait (0 is the store's default)."""


@dataclass(slots=True)
class _Call:
    """One `lock` on its way."""

    for_update_ts: int
    wait_ms: int
    began: float
    values: dict[bytes, bytes | None] | None
    absent: Collection[bytes]

    def left_ms(self) -> float:
        return self.wait_ms - (asyncio.get_running_loop().time() - self.began) * 1000


class PessimisticLocks:
    """What a transaction has locked."""

    def __init__(self, parts: Parts, start_ts: int, keep_alive: KeepAlive) -> None:
        self._parts = parts
        self._start_ts = start_ts
        self._keep_alive = keep_alive
        self.primary: bytes | None = None
        self.for_update_ts = 0
        """The greatest of all calls."""
        self.held: dict[bytes, bool] = {}
        """Locked keys, and whether each had a value when it was locked."""
        self.stray: dict[bytes, None] = {}
        """Keys that a failed call may have left locked."""

    async def lock(
        self,
        keys: Sequence[bytes],
        *,
        for_update_ts: int,
        wait_ms: int,
        skip_locked: bool = False,
        values: dict[bytes, bytes | None] | None = None,
        absent: Collection[bytes] = (),
    ) -> list[bytes]:
        """Locks keys; returns those that are locked now. See `kvstore.client.api.Transaction.lock_keys`.

        Into `values` go the newest values of the keys newly locked, as of the lock. A key of `absent` that has a value
        raises KeyExists.
        """
        wanted = list(dict.fromkeys(keys))
        new = sorted(key for key in wanted if key not in self.held)
        if not skip_locked:
            await self._lock_all(new, for_update_ts, wait_ms, values, absent)
            return wanted
        for key in new:
            try:
                await self._lock_all([key], for_update_ts, 0, values, absent)
            except LockNowait:
                continue
        return [key for key in wanted if key in self.held]

    async def release(self) -> None:
        """Gives all locks back; what cannot be reached is left to expire."""
        self._keep_alive.stop()
        keys = list(self.held)
        self.held.clear()
        await self.release_stray(keys)

    async def release_stray(self, more: Sequence[bytes] = ()) -> None:
        """Gives back what failed calls may have left locked, and `more`; a commit takes care of the keys held."""
        keys = [*more, *(key for key in self.stray if key not in self.held)]
        self.stray.clear()
        await self._give_back(list(dict.fromkeys(keys)), self.for_update_ts)

    async def _lock_all(
        self,
        keys: list[bytes],
        for_update_ts: int,
        wait_ms: int,
        values: dict[bytes, bytes | None] | None,
        absent: Collection[bytes],
    ) -> None:
        if not keys:
            return
        call = _Call(for_update_ts, wait_ms, asyncio.get_running_loop().time(), values, absent)
        self.for_update_ts = max(self.for_update_ts, for_update_ts)
        backoff = self._parts.backoff(POINT_BUDGET_MS + wait_ms)
        first = self.primary is None
        if first:
            self.primary = keys[0]
        for key in keys:
            self.stray[key] = None
        try:
            if first:
                # alone and before the others: whoever meets these asks the primary
                await self._lock_some(backoff, keys[:1], call)
                self._keep_alive.start(keys[0], MANAGED_TTL_MS)
            if rest := keys[1:] if first else keys:
                await self._lock_some(backoff, rest, call)
        except asyncio.CancelledError:
            # the keys stay noted as stray until the transaction ends
            self._undo(keys, first)
            raise
        except KvError:
            self._undo(keys, first)
            if await self._give_back(keys, for_update_ts):
                for key in keys:
                    self.stray.pop(key, None)
            raise
        for key in keys:
            self.stray.pop(key, None)

    def _undo(self, keys: Sequence[bytes], first: bool) -> None:
        for key in keys:
            self.held.pop(key, None)
        if first:
            self.primary = None
            self._keep_alive.stop()

    async def _lock_some(self, backoff: Backoff, keys: Sequence[bytes], call: _Call) -> None:
        async def lock(part: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
            for batch in cut([key for key in mine if key not in self.held], len, LOCK_BATCH_BYTES_MAX):
                await self._lock_batch(part, region, batch, call)

        await by_region(self._parts.regions, backoff, keys, lock)

    async def _lock_batch(self, backoff: Backoff, region: CachedRegion, keys: list[bytes], call: _Call) -> None:
        """Locks keys of one region, waiting for locks of others as long as the call may. Raises RegionChanged."""
        request = self._request(keys, call)
        while True:
            left_ms = call.left_ms()
            request.wait_timeout = NOWAIT if left_ms <= 0 else max(1, min(WAIT_SLICE_MS, int(left_ms)))
            request.lock_ttl = self._keep_alive.elapsed_ms + MANAGED_TTL_MS
            answer = await self._parts.sender.send(backoff, commands.PESSIMISTIC_LOCK, request, region)
            if answer.errors:
                await self._wait(backoff, answer.errors, call)
            elif len(answer.not_founds) < len(keys) and not request.return_values:
                # a store that does not know `check_existence`; to lock what is locked already does no harm
                self._parts.existence_by_value = request.return_values = True
            else:
                self._locked(keys, answer, call)
                return

    def _request(self, keys: list[bytes], call: _Call) -> kvrpcpb.PessimisticLockRequest:
        assert self.primary is not None
        request = kvrpcpb.PessimisticLockRequest(
            primary_lock=self.primary,
            start_version=self._start_ts,
            for_update_ts=call.for_update_ts,
            min_commit_ts=call.for_update_ts + 1,
            is_first_lock=keys == [self.primary] and not self.held,
            return_values=call.values is not None or self._parts.existence_by_value,
            check_existence=True,
        )
        for key in keys:
            mutation = request.mutations.add(op=kvrpcpb.PessimisticLock, key=key)
            if key in call.absent:
                mutation.assertion = kvrpcpb.NotExist
        return request

    def _locked(self, keys: list[bytes], answer: kvrpcpb.PessimisticLockResponse, call: _Call) -> None:
        for at, key in enumerate(keys):
            missing = answer.not_founds[at] if answer.not_founds else not answer.values[at]
            self.held[key] = not missing
            if call.values is not None:
                call.values[key] = None if missing else answer.values[at]

    async def _wait(self, backoff: Backoff, errors: Sequence[kvrpcpb.KeyError], call: _Call) -> None:
        """Settles the locks in the way; raises when one is alive and there is no time left, or for another error."""
        locks: list[kvrpcpb.LockInfo] = []
        for error in errors:
            lock = lock_of(error)
            if lock is None:
                raise error_of(error, self._start_ts)
            locks.append(lock)
        resolved = await self._parts.resolver.resolve(backoff, 0, locks, for_read=False)
        if not resolved.wait_ms:
            return
        if call.wait_ms == 0:
            raise LockNowait(locks[0].key)
        if call.left_ms() <= 0:
            raise LockWaitTimeout(locks[0].key, call.wait_ms)
        await asyncio.sleep(min(RETRY_PAUSE_S, call.left_ms() / 1000))

    async def _give_back(self, keys: Sequence[bytes], for_update_ts: int) -> bool:
        """Whether the locks on `keys` are gone for sure."""

        async def give_back(part: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
            request = kvrpcpb.PessimisticRollbackRequest(
                start_version=self._start_ts, for_update_ts=for_update_ts, keys=mine
            )
            answer = await self._parts.sender.send(part, commands.PESSIMISTIC_ROLLBACK, request, region)
            for error in answer.errors:
                raise error_of(error, self._start_ts)

        if not keys:
            return True
        try:
            await by_region(self._parts.regions, self._parts.backoff(POINT_BUDGET_MS), keys, give_back)
        except (KvError, RpcError):
            return False
        return True
