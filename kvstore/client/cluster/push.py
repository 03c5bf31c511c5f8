"""Push-down requests: a request over any ranges, as one request a region, their answers as they come or in key order.

Every region that is asked is a *lane*: at most one of its answers is on its way or waits to be read, so that whoever
reads slowly stops the stores, and a request holds no more answers than it has lanes. A lane goes on behind each page,
settles what locks it, and where regions have changed it cuts what is left of its ranges at the present bounds.

Answers that a store says it would give again are kept, and sent along as a version: where nothing was written since,
the store says so and sends nothing. (client-go's and TiDB's `pkg/store/copr`.)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from kvstore.client.api import PushAnswer, PushRequest
from kvstore.client.cluster import commands
from kvstore.client.cluster.backoff import SCAN_BUDGET_MS, Backoff
from kvstore.client.cluster.columnar import ColumnarStores
from kvstore.client.cluster.errors import RefusedRequest
from kvstore.client.cluster.key_ranges import KeyRange, behind_page, cut_front
from kvstore.client.cluster.parts import Parts
from kvstore.client.cluster.push_columnar import ColumnarPush, WholePush, check_answer
from kvstore.client.cluster.regions import CachedRegion
from kvstore.client.cluster.sender import RegionChanged
from kvstore.client.cluster.snapshot import Snapshot
from kvstore.client.cluster.stores import features_of
from kvstore.errors import PushFailed
from kvstore.proto import coprocessor_pb2
from kvstore.proto import kvrpcpb_pb2 as kvrpcpb

TP_DAG = 103
CONCURRENCY = 15
"""Regions asked at a time (TiDB's `tidb_distsql_scan_concurrency`)."""
PAGE_BYTES = 16 << 20
"""Bytes of an answer; more come in pages."""
CALL_TIMEOUT_S = 60.0
"""How long a store may take over one page before another peer is tried."""
CACHE_BYTES_MAX = 256 << 20
CACHED_ANSWER_BYTES_MAX = 32 << 20
LABELS_TTL_S = 10.0
"""For so long what the placement driver said of the stores' labels is taken for true."""


@dataclass(frozen=True, slots=True)
class RegionPart:
    """The part of a request's ranges that lies in one region, and the store whose peer is taken for its leader."""

    region_id: int
    store_id: int
    ranges: list[KeyRange]


class Push:
    """Sends push-down requests; one for a client, for any number of coroutines."""

    def __init__(self, parts: Parts, *, cache_bytes: int = CACHE_BYTES_MAX) -> None:
        self._parts = parts
        self._cache = _Cache(cache_bytes)
        self._columnar = ColumnarStores(parts.pd, parts.rng)
        self._arrow = False
        self._asked_at = -LABELS_TTL_S

    def arrow_at_hand(self, now: float) -> bool | None:
        """What `arrow` gives without asking at this time of the loop, None when somebody has to be asked."""
        return self._arrow if now - self._asked_at < LABELS_TTL_S else None

    async def arrow(self) -> bool:
        """Whether every store says that it answers in Arrow. Raises PdUnavailable, PdError."""
        now = asyncio.get_running_loop().time()
        if self.arrow_at_hand(now) is None:
            self._arrow = features_of(await self._parts.pd.get_all_stores()).answers_arrow
            self._asked_at = now
        return self._arrow

    async def run(self, request: PushRequest) -> AsyncGenerator[PushAnswer, None]:
        """Yields the answers of all regions, each key's rows in exactly one. See `kvstore.client.api.PushDown`.

        Raises PushFailed, ClusterError, PdError, SnapshotTooOld. Closing the generator ends what is under way.
        """
        snapshot = Snapshot(self._parts, request.ts)
        backoff = self._parts.backoff(SCAN_BUDGET_MS)
        ranges = request.ranges
        if request.columnar:
            asked = ColumnarPush(self._parts, self._columnar, request, snapshot)
            async with aclosing(asked.run()) as answers:
                async for answer in answers:
                    yield answer
            ranges = asked.left
        waiting = deque(await self.split(backoff, ranges))
        if request.desc:
            waiting.reverse()
        lanes: list[_Lane] = []
        try:
            while waiting or lanes:
                while waiting and len(lanes) < (request.concurrency or CONCURRENCY):
                    lanes.append(_Lane(self._parts, self._cache, request, snapshot, waiting.popleft()))
                lane = await _next(lanes, ordered=request.keep_order)
                by_rows = await lane.task
                lanes.remove(lane)
                if lane.left:
                    # an ordered request stays with the lane; else all have their turn
                    lanes.insert(0 if request.keep_order else len(lanes), lane)
                    lane.start()
                if by_rows is not None:
                    yield by_rows
        finally:
            for lane in lanes:
                lane.task.cancel()
            await asyncio.gather(*(lane.task for lane in lanes), return_exceptions=True)

    async def whole(self, request: PushRequest) -> list[PushAnswer] | None:
        """The answer of one columnar store to a whole query. See `kvstore.client.api.PushDown.run_whole`."""
        return await WholePush(self._parts, self._columnar, request, Snapshot(self._parts, request.ts)).run()

    async def split(self, backoff: Backoff, ranges: Sequence[KeyRange]) -> list[list[KeyRange]]:
        """The ranges cut at the bounds of regions, in key order: those of one region together."""
        return [part.ranges for part in await self._by_region(backoff, ranges)]

    async def by_region(self, ranges: Sequence[KeyRange]) -> list[RegionPart]:
        """The ranges cut at the bounds of regions, in key order. Raises ClusterError, PdError."""
        return await self._by_region(self._parts.backoff(SCAN_BUDGET_MS), ranges)

    async def _by_region(self, backoff: Backoff, ranges: Sequence[KeyRange]) -> list[RegionPart]:
        regions = self._parts.regions
        parts: list[RegionPart] = []
        left = [(start, end) for start, end in ranges if not end or start < end]
        while left:
            region = await regions.front(backoff, left[0][0], left[-1][1])
            here, left = cut_front(left, region.start, region.end, desc=False)
            parts.append(RegionPart(region.id, region.leader.store_id, here))
        return parts


async def _next(lanes: Sequence[_Lane], *, ordered: bool) -> _Lane:
    """The lane whose answer is to be read next: the first, or one that has one."""
    if ordered:
        return lanes[0]
    while True:
        for lane in lanes:
            if lane.task.done():
                return lane
        await asyncio.wait([lane.task for lane in lanes], return_when=asyncio.FIRST_COMPLETED)


class _Lane:
    """What is left of a request's ranges in one region, or in what became of it; asks for the front of it."""

    def __init__(
        self,
        parts: Parts,
        cache: _Cache,
        request: PushRequest,
        snapshot: Snapshot,
        ranges: list[KeyRange],
    ) -> None:
        self._parts = parts
        self._cache = cache
        self._request = request
        self._snapshot = snapshot
        self.left = ranges
        self.task: asyncio.Task[PushAnswer | None]
        self.start()

    def start(self) -> None:
        """Asks for the next answer: `task` gives it, None when nothing was left."""
        self.task = asyncio.get_running_loop().create_task(self._next_answer())

    async def _next_answer(self) -> PushAnswer | None:
        begun = asyncio.get_running_loop().time()
        backoff = self._parts.backoff(SCAN_BUDGET_MS)
        while self.left:
            region, here, behind = await self._front(backoff)
            message = self._message(here)
            key = (region.id, self._request.data, tuple(here), self._request.page_rows)
            cached = self._cache.get(key, self._request.ts)
            if cached is not None:
                message.cache_if_match_version = cached.version
            self._snapshot.tell_known(message.context)
            try:
                response: coprocessor_pb2.Response = await self._parts.sender.send(
                    backoff, commands.COPROCESSOR, message, region, timeout_s=CALL_TIMEOUT_S, read=self._request.read
                )
            except RegionChanged:
                continue
            if response.HasField("locked"):
                await self._snapshot.go_past(backoff, [kvrpcpb.KeyError(locked=response.locked)])
                continue
            if response.other_error:
                raise PushFailed(0, response.other_error)
            await self._snapshot.check_age()
            if response.is_cache_hit:
                if cached is None:
                    raise RefusedRequest("the store says that an answer is known that nobody has")
                given = cached
            else:
                given = _given(self._request.ts, response)
                check_answer(given.data)
                if response.can_be_cached:
                    self._cache.keep(key, given)
            more = behind_page(here, given.scanned, desc=self._request.desc) if given.scanned is not None else []
            self.left = behind + more if self._request.desc else more + behind
            seconds = asyncio.get_running_loop().time() - begun
            store = self._parts.regions.addresses.get(region.leader.store_id, "")
            wire_bytes = 0 if response.is_cache_hit else response.ByteSize()
            return PushAnswer(given.data, region.id, store, wire_bytes, seconds)
        return None

    async def _front(self, backoff: Backoff) -> tuple[CachedRegion, list[KeyRange], list[KeyRange]]:
        """The region at the front of what is left, the part in it, and the rest."""
        regions = self._parts.regions
        if self._request.desc:
            region = await regions.locate_before(backoff, self.left[-1][1])
        else:
            region = await regions.locate(backoff, self.left[0][0])
        here, behind = cut_front(self.left, region.start, region.end, desc=self._request.desc)
        return region, here, behind

    def _message(self, ranges: Sequence[KeyRange]) -> coprocessor_pb2.Request:
        request = self._request
        return coprocessor_pb2.Request(
            tp=TP_DAG,
            data=request.data,
            start_ts=request.ts,
            ranges=[coprocessor_pb2.KeyRange(start=start, end=end) for start, end in ranges],
            is_cache_enabled=True,
            paging_size=request.page_rows,
            paging_size_bytes=PAGE_BYTES,
        )


@dataclass(frozen=True, slots=True)
class _Given:
    """An answer as it was given at `ts`; `version` is the data's, `scanned` the page's part of the ranges."""

    ts: int
    version: int
    data: bytes
    scanned: KeyRange | None


def _given(ts: int, response: coprocessor_pb2.Response) -> _Given:
    scanned = (response.range.start, response.range.end) if response.HasField("range") else None
    return _Given(ts, response.cache_last_version, response.data, scanned)


_Key = tuple[int, bytes, tuple[KeyRange, ...], int]
"""Region, request, ranges, rows of a page."""


class _Cache:
    """Answers that may be given again, the latest used kept, up to so many bytes."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[_Key, _Given] = OrderedDict()

    def get(self, key: _Key, ts: int) -> _Given | None:
        """The answer to the same request, unless it was given at a later timestamp than `ts`."""
        found = self._kept.get(key)
        if found is None or found.ts > ts:
            return None
        self._kept.move_to_end(key)
        return found

    def keep(self, key: _Key, given: _Given) -> None:
        size = _size(key, given)
        if size > min(CACHED_ANSWER_BYTES_MAX, self._bytes_max):
            return
        before = self._kept.pop(key, None)
        if before is not None:
            self._bytes -= _size(key, before)
        self._kept[key] = given
        self._bytes += size
        while self._bytes > self._bytes_max:
            self._bytes -= _size(*self._kept.popitem(last=False))


def _size(key: _Key, given: _Given) -> int:
    return len(given.data) + len(key[1]) + sum(len(start) + len(end) for start, end in key[2])
