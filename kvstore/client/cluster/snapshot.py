"""Reads at one timestamp: point gets, batches by region in parallel, scans across regions in key order.

Locks in the way are settled or gone past (see `resolver`); what is known of their transactions is sent along with the
next request, so that a lock costs its reader one round. One snapshot may be used by several coroutines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any

from kvstore.client.api import ReadFrom
from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import POINT_BUDGET_MS, SCAN_BUDGET_MS, TXN_LOCK, Backoff
from kvstore.client.cluster.fan_out import by_region
from kvstore.client.cluster.key_errors import error_of, lock_of
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.range_walk import RangeWalk
from kvstore.client.cluster.regions import CachedRegion
from kvstore.client.cluster.sender import RegionChanged
from kvstore.client.write_buffer import Pair
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb

FIRST_BATCH = 256
"""Rows in the first answer of a scan, which is often the only one wanted."""
BATCH_GET_KEYS_MAX = 5120
"""Keys of one region in one request."""
KNOWN_LOCKS_MAX = 1024
"""Transactions whose fate a snapshot keeps for its next requests."""
CACHED_KEYS_MAX = 65536


class Snapshot:
    """The store as it was at `ts`. Raises ClusterError, PdError, and SnapshotTooOld below the safe point."""

    def __init__(self, parts: Parts, ts: int, *, read: ReadFrom = ReadFrom.LEADER, cached: bool = False) -> None:
        self._parts = parts
        self._ts = ts
        self._read = read
        self._cache: dict[bytes, bytes | None] | None = {} if cached else None
        self._ignore: dict[int, None] = {}
        self._access: dict[int, None] = {}

    @property
    def ts(self) -> int:
        return self._ts

    async def get(self, key: bytes) -> bytes | None:
        """The value visible at `ts`, None if there is none."""
        if self._cache is not None and key in self._cache:
            return self._cache[key]
        parts = self._parts
        request = kvrpcpb.GetRequest(key=key, version=self._ts)
        backoff = Backoff(POINT_BUDGET_MS, parts.rng)
        while True:
            if self._ignore or self._access:
                self.tell_known(request.context)
            answer = await parts.sender.send_to_key(backoff, commands.GET, request, key, read=self._read)
            if not answer.HasField("error"):
                if not parts.safe_point.is_recent(self._ts):
                    await parts.safe_point.check(self._ts)
                value = None if answer.not_found else answer.value
                self._keep(key, value)
                return value
            await self.go_past(backoff, [answer.error])

    async def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The visible values of those keys that have one, in the order of the keys asked for."""
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, bytes | None] = {}
        cache = self._cache
        if cache is not None:
            found = {key: cache[key] for key in wanted if key in cache}
        missing = [key for key in wanted if key not in found]
        if missing:
            backoff = self._parts.backoff(POINT_BUDGET_MS)

            async def fetch(part: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
                for at in range(0, len(mine), BATCH_GET_KEYS_MAX):
                    await self._batch_get(part, region, mine[at : at + BATCH_GET_KEYS_MAX], found)

            await by_region(self._parts.regions, backoff, missing, fetch)
            await self.check_age()
            for key in missing:
                self._keep(key, found.get(key))
        return {key: value for key in wanted if (value := found.get(key)) is not None}

    async def _batch_get(
        self, backoff: Backoff, region: CachedRegion, keys: list[bytes], found: dict[bytes, bytes | None]
    ) -> None:
        """Fetches keys of one region into `found`; those that are locked again, once their locks are settled."""
        request = kvrpcpb.BatchGetRequest(keys=keys, version=self._ts)
        while True:
            self.tell_known(request.context)
            answer = await self._parts.sender.send(backoff, commands.BATCH_GET, request, region, read=self._read)
            errors = [answer.error] if answer.HasField("error") else []
            locked: list[bytes] = []
            for pair in answer.pairs:
                if not pair.HasField("error"):
                    found[pair.key] = pair.value
                    continue
                if not answer.HasField("error"):
                    errors.append(pair.error)
                lock = lock_of(pair.error)
                locked.append(pair.key or (lock.key if lock is not None else b""))
            if not errors:
                return
            await self.go_past(backoff, errors)
            if not answer.HasField("error"):
                # the others were answered; a whole answer that failed is asked for again whole
                del request.keys[:]
                request.keys.extend(locked)

    async def scan(
        self,
        start: bytes,
        end: bytes,
        *,
        limit: int | None = None,
        reverse: bool = False,
        key_only: bool = False,
    ) -> AsyncIterator[Pair]:
        """Visible pairs with start <= key < end (empty: no bound), ascending or descending, at most `limit`."""
        batches = self.scan_batches(start, end, limit=limit, reverse=reverse, key_only=key_only)
        try:
            async for batch in batches:
                for pair in batch:
                    yield pair
        finally:
            await batches.aclose()

    async def scan_batches(
        self,
        start: bytes,
        end: bytes,
        *,
        limit: int | None = None,
        reverse: bool = False,
        key_only: bool = False,
    ) -> AsyncGenerator[list[Pair], None]:
        """The same in batches, small ones first; the next is fetched while the caller works on one."""
        scanner = _Scanner(self, start, end, limit, reverse, key_only)
        loop = asyncio.get_running_loop()
        ahead: asyncio.Task[list[Pair] | None] | None = None
        try:
            batch = await scanner.next()
            while batch is not None:
                if not scanner.done:
                    ahead = loop.create_task(scanner.next())
                if batch:
                    yield batch
                if ahead is None:
                    return
                batch = await ahead
                ahead = None
        finally:
            if ahead is not None:
                ahead.cancel()
                await asyncio.gather(ahead, return_exceptions=True)

    async def check_age(self) -> None:
        """After a read: raises SnapshotTooOld when versions may have been missing."""
        safe_point = self._parts.safe_point
        if not safe_point.is_recent(self._ts):
            await safe_point.check(self._ts)

    def _keep(self, key: bytes, value: bytes | None) -> None:
        cache = self._cache
        if cache is not None and len(cache) < CACHED_KEYS_MAX:
            cache[key] = value

    def tell_known(self, context: kvrpcpb.Context) -> None:
        """Puts what is known of transactions into a request."""
        if self._ignore or self._access:
            del context.resolved_locks[:]
            context.resolved_locks.extend(self._ignore)
            del context.committed_locks[:]
            context.committed_locks.extend(self._access)

    async def go_past(self, backoff: Backoff, errors: Sequence[kvrpcpb.KeyError]) -> None:
        """Settles the locks in the way, and waits while one's transaction is alive and may yet commit below `ts`."""
        locks: list[kvrpcpb.LockInfo] = []
        for error in errors:
            lock = lock_of(error)
            if lock is None:
                raise error_of(error, self._ts)
            locks.append(lock)
        known = all(lock.lock_version in self._ignore or lock.lock_version in self._access for lock in locks)
        resolved = await self._parts.resolver.resolve(backoff, self._ts, locks, for_read=True)
        for known_ids, more in ((self._ignore, resolved.ignore), (self._access, resolved.access)):
            for start_ts in more:
                known_ids[start_ts] = None
            while len(known_ids) > KNOWN_LOCKS_MAX:
                del known_ids[next(iter(known_ids))]
        if resolved.wait_ms or known:
            # a store that does not go past what it was told of needs the locks to be gone
            cause = f"key {locks[0].key.hex()} is locked by {locks[0].lock_version}"
            await backoff.wait(TXN_LOCK, cause, at_most_ms=resolved.wait_ms or None)


class _Scanner:
    """The position of one scan."""

    def __init__(
        self, snapshot: Snapshot, start: bytes, end: bytes, limit: int | None, reverse: bool, key_only: bool
    ) -> None:
        self._snapshot = snapshot
        self._walk = RangeWalk(snapshot._parts.regions, start, end, reverse=reverse)
        self._left = limit
        self._reverse = reverse
        self._key_only = key_only
        self._rows = FIRST_BATCH
        self.done = self._walk.done or limit == 0

    async def next(self) -> list[Pair] | None:
        """The next rows (perhaps none, at a region's end), None when the scan is over."""
        if self.done:
            return None
        backoff = self._snapshot._parts.backoff(SCAN_BUDGET_MS)
        while True:
            region, low, high = await self._walk.front(backoff)
            limit = self._rows if self._left is None else min(self._rows, self._left)
            try:
                pairs = await self._fetch(backoff, region, low, high, limit)
            except RegionChanged:
                continue
            if pairs is not None:
                self._advance(region, pairs, limit)
                return pairs

    async def _fetch(
        self, backoff: Backoff, region: CachedRegion, low: bytes, high: bytes, limit: int
    ) -> list[Pair] | None:
        """One answer of a region; None when locks were in the way, which are settled by now."""
        snapshot = self._snapshot
        first, last = (high, low) if self._reverse else (low, high)
        request = kvrpcpb.ScanRequest(
            start_key=first,
            end_key=last,
            limit=limit,
            version=snapshot._ts,
            key_only=self._key_only,
            reverse=self._reverse,
        )
        snapshot.tell_known(request.context)
        answer: Any = await snapshot._parts.sender.send(backoff, commands.SCAN, request, region, read=snapshot._read)
        errors = [answer.error] if answer.HasField("error") else []
        errors = errors or [pair.error for pair in answer.pairs if pair.HasField("error")]
        if errors:
            await snapshot.go_past(backoff, errors)
            return None
        await snapshot.check_age()
        return [(pair.key, pair.value) for pair in answer.pairs]

    def _advance(self, region: CachedRegion, pairs: list[Pair], limit: int) -> None:
        if self._left is not None:
            self._left -= len(pairs)
            if not self._left:
                self.done = True
                return
        self._rows = min(self._rows * 4, self._snapshot._parts.options.scan_batch)
        if len(pairs) >= limit:
            # the region may have more
            self._walk.past_key(pairs[-1][0])
        else:
            self._walk.past_region(region)
        self.done = self._walk.done
