"""Raw access: keys and values without versions or transactions, in regions of plain keys.

All calls but `compare_and_swap` may be repeated by the client when an answer is lost; each is atomic for one key,
batches only within a region.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import POINT_BUDGET_MS, SCAN_BUDGET_MS, Backoff
from kvstore.client.cluster.errors import ClusterError, RefusedRequest, UndeterminedResult
from kvstore.client.cluster.fan_out import by_region, cut
from kvstore.client.cluster.range_walk import RangeWalk
from kvstore.client.cluster.regions import CachedRegion
from kvstore.client.cluster.sender import RegionChanged, RegionSender
from kvstore.client.cluster.splitting import split_regions
from kvstore.client.write_buffer import Pair
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb

RAW_BATCH_BYTES_MAX = 64 << 10
"""Keys and values in one request."""
RAW_SCAN_ROWS = 1024
"""Rows in one answer; TiKV allows 10,240."""


class RawClient:
    """See the module. Raises ClusterError, PdError."""

    def __init__(self, sender: RegionSender, rng: random.Random, cf: str = "") -> None:
        self.sender = sender
        self._rng = rng
        self._cf = cf

    def with_cf(self, cf: str) -> RawClient:
        """The same in another column family."""
        return RawClient(self.sender, self._rng, cf)

    async def get(self, key: bytes) -> bytes | None:
        answer = await self._one(commands.RAW_GET, kvrpcpb.RawGetRequest(key=key, cf=self._cf), key)
        return None if answer.not_found else bytes(answer.value)

    async def put(self, key: bytes, value: bytes, *, ttl_s: int = 0) -> None:
        """`ttl_s` 0 lives for ever."""
        await self._one(commands.RAW_PUT, kvrpcpb.RawPutRequest(key=key, value=value, cf=self._cf, ttl=ttl_s), key)

    async def delete(self, key: bytes) -> None:
        await self._one(commands.RAW_DELETE, kvrpcpb.RawDeleteRequest(key=key, cf=self._cf), key)

    async def ttl(self, key: bytes) -> int | None:
        """Seconds the key has yet to live, 0 for ever, None when it is not there."""
        answer = await self._one(commands.RAW_GET_KEY_TTL, kvrpcpb.RawGetKeyTTLRequest(key=key, cf=self._cf), key)
        return None if answer.not_found else int(answer.ttl)

    async def compare_and_swap(
        self, key: bytes, expected: bytes | None, value: bytes, *, ttl_s: int = 0
    ) -> tuple[bool, bytes | None]:
        """Writes `value` if the key holds `expected` (None: nothing); returns whether it did, and what was there.

        Raises UndeterminedResult when an answer was lost: asking again could find the own write and call it a failure.
        """
        request = kvrpcpb.RawCASRequest(key=key, value=value, cf=self._cf, ttl=ttl_s)
        if expected is None:
            request.previous_not_exist = True
        else:
            request.previous_value = expected
        backoff = Backoff(POINT_BUDGET_MS, self._rng)
        try:
            answer = await self.sender.send_to_key(backoff, commands.RAW_COMPARE_AND_SWAP, request, key)
        except ClusterError as error:
            if backoff.maybe_executed:
                raise UndeterminedResult(f"compare-and-swap of key {key.hex()}: {error}") from error
            raise
        _check(answer)
        if backoff.maybe_executed and not answer.succeed:
            raise UndeterminedResult(f"compare-and-swap of key {key.hex()}: the answer of an attempt was lost")
        return answer.succeed, None if answer.previous_not_exist else answer.previous_value

    async def split(self, keys: Sequence[bytes]) -> list[int]:
        """Splits regions at the raw keys; returns the ids of the regions that now begin there."""
        return await split_regions(self.sender, Backoff(SCAN_BUDGET_MS, self._rng), keys, raw=True)

    async def batch_get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that have one."""
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, bytes] = {}

        async def fetch(backoff: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
            request = kvrpcpb.RawBatchGetRequest(keys=mine, cf=self._cf)
            answer = await self.sender.send(backoff, commands.RAW_BATCH_GET, request, region)
            for pair in answer.pairs:
                if pair.HasField("error"):
                    raise RefusedRequest(str(pair.error))
                found[pair.key] = pair.value

        await by_region(self.sender.regions, Backoff(POINT_BUDGET_MS, self._rng), wanted, fetch)
        return {key: found[key] for key in wanted if key in found}

    async def batch_put(self, pairs: Mapping[bytes, bytes], *, ttl_s: int = 0) -> None:
        async def put(backoff: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
            for batch in cut(mine, lambda key: len(key) + len(pairs[key]), RAW_BATCH_BYTES_MAX):
                request = kvrpcpb.RawBatchPutRequest(
                    pairs=[kvrpcpb.KvPair(key=key, value=pairs[key]) for key in batch], cf=self._cf
                )
                if ttl_s:
                    request.ttls.append(ttl_s)
                _check(await self.sender.send(backoff, commands.RAW_BATCH_PUT, request, region))

        await by_region(self.sender.regions, Backoff(POINT_BUDGET_MS, self._rng), pairs, put)

    async def batch_delete(self, keys: Iterable[bytes]) -> None:
        async def delete(backoff: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
            for batch in cut(mine, len, RAW_BATCH_BYTES_MAX):
                request = kvrpcpb.RawBatchDeleteRequest(keys=batch, cf=self._cf)
                _check(await self.sender.send(backoff, commands.RAW_BATCH_DELETE, request, region))

        wanted = list(dict.fromkeys(keys))
        await by_region(self.sender.regions, Backoff(POINT_BUDGET_MS, self._rng), wanted, delete)

    async def scan(
        self, start: bytes, end: bytes, *, limit: int | None = None, reverse: bool = False, key_only: bool = False
    ) -> AsyncIterator[Pair]:
        """Pairs with start <= key < end (empty: no bound), ascending or descending, at most `limit`."""
        walk = RangeWalk(self.sender.regions, start, end, reverse=reverse)
        while not walk.done and (limit is None or limit > 0):
            rows = RAW_SCAN_ROWS if limit is None else min(limit, RAW_SCAN_ROWS)
            region, pairs = await self._scan_some(walk, rows, reverse, key_only)
            for pair in pairs:
                yield pair
            if limit is not None:
                limit -= len(pairs)
            if len(pairs) >= rows:
                # the region may have more
                walk.past_key(pairs[-1][0])
            else:
                walk.past_region(region)

    async def _scan_some(
        self, walk: RangeWalk, rows: int, reverse: bool, key_only: bool
    ) -> tuple[CachedRegion, list[Pair]]:
        """One answer of the region at the front."""
        backoff = Backoff(SCAN_BUDGET_MS, self._rng)
        while True:
            region, low, high = await walk.front(backoff)
            first, last = (high, low) if reverse else (low, high)
            request = kvrpcpb.RawScanRequest(
                start_key=first, end_key=last, limit=rows, key_only=key_only, cf=self._cf, reverse=reverse
            )
            try:
                answer = await self.sender.send(backoff, commands.RAW_SCAN, request, region)
            except RegionChanged:
                continue
            return region, [(pair.key, pair.value) for pair in answer.kvs]

    async def delete_range(self, start: bytes, end: bytes) -> None:
        """Deletes the keys in [start, end) (empty end: no bound), region by region."""
        walk = RangeWalk(self.sender.regions, start, end)
        while not walk.done:
            backoff = Backoff(SCAN_BUDGET_MS, self._rng)
            region, low, high = await walk.front(backoff)
            request = kvrpcpb.RawDeleteRangeRequest(start_key=low, end_key=high, cf=self._cf)
            try:
                _check(await self.sender.send(backoff, commands.RAW_DELETE_RANGE, request, region))
            except RegionChanged:
                continue
            walk.past_region(region)

    async def _one(self, command: commands.Command, request: Any, key: bytes) -> Any:
        answer = await self.sender.send_to_key(Backoff(POINT_BUDGET_MS, self._rng), command, request, key)
        _check(answer)
        return answer


def _check(answer: Any) -> None:
    if answer.error:
        raise RefusedRequest(answer.error)
