"""A range of keys walked region by region, ascending or descending: how much of it is left, and where it goes on."""

from __future__ import annotations

from kvstore.client.cluster.backoff import Backoff
from kvstore.client.cluster.regions import CachedRegion, RegionCache


class RangeWalk:
    """What is left of [start, end); an empty bound is none."""

    def __init__(self, regions: RegionCache, start: bytes, end: bytes, *, reverse: bool = False) -> None:
        self._regions = regions
        self._start = start
        self._end = end
        self._reverse = reverse
        self.done = bool(end) and start >= end

    async def front(self, backoff: Backoff) -> tuple[CachedRegion, bytes, bytes]:
        """The region at the front, and the part [low, high) of what is left that lies in it."""
        start, end = self._start, self._end
        if self._reverse:
            region = await self._regions.locate_before(backoff, end)
            return region, max(start, region.start), end
        region = await self._regions.locate(backoff, start)
        return region, start, region.end if region.end and (not end or region.end < end) else end

    def past_key(self, key: bytes) -> None:
        """Goes on behind a key."""
        if self._reverse:
            self._end = key
        else:
            self._start = key + b"\0"
        self.done = bool(self._end) and self._start >= self._end

    def past_region(self, region: CachedRegion) -> None:
        """Goes on behind a region."""
        if self._reverse:
            self.done = region.start <= self._start
            self._end = region.start
        else:
            self.done = not region.end or (bool(self._end) and region.end >= self._end)
            self._start = region.end
