"""Work on many keys: grouped by region, one call a region in parallel, grouped anew where regions have changed.

Parts that run beside each other all run to their end before the first failure is raised: whoever cleans up afterwards
knows that nothing is still on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from kvstore.client.cluster.backoff import Backoff
from kvstore.client.cluster.regions import CachedRegion, RegionCache
from kvstore.client.cluster.sender import RegionChanged

PARALLEL_MAX = 64
"""Calls of one request under way at the same time."""

T = TypeVar("T")
PerRegion = Callable[[Backoff, CachedRegion, list[bytes]], Awaitable[None]]


async def gather_all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Runs everything, PARALLEL_MAX at a time; raises the first failure of a lot when all of the lot has ended."""
    if len(work) == 1:
        return [await work[0]]
    done: list[T] = []
    try:
        for at in range(0, len(work), PARALLEL_MAX):
            for result in await asyncio.gather(*work[at : at + PARALLEL_MAX], return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result
                done.append(result)
    except BaseException:
        # also when cancelled: what was not begun is closed, or it would be reported as never awaited
        for one in work:
            one.close()
        raise
    return done


async def by_region(regions: RegionCache, backoff: Backoff, keys: Iterable[bytes], call: PerRegion) -> None:
    """Awaits `call(backoff, region, keys)` for every region; where it raises RegionChanged keys are grouped anew."""
    groups = await regions.group(backoff, keys)

    async def one(part: Backoff, region: CachedRegion, mine: list[bytes]) -> None:
        try:
            await call(part, region, mine)
        except RegionChanged:
            await by_region(regions, part, mine, call)

    if len(groups) == 1:
        await one(backoff, *groups[0])
        return
    parts = [backoff.fork() for _ in groups]
    try:
        await gather_all([one(part, region, mine) for part, (region, mine) in zip(parts, groups, strict=True)])
    finally:
        backoff.join(parts)


def cut(items: Iterable[T], size_of: Callable[[T], int], bytes_max: int) -> list[list[T]]:
    """The items in order, in lists of about `bytes_max` bytes."""
    batches: list[list[T]] = []
    size = bytes_max
    for item in items:
        if size >= bytes_max:
            batches.append([])
            size = 0
        batches[-1].append(item)
        size += size_of(item)
    return batches
