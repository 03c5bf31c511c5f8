"""Whether a snapshot still has all its versions: reads below the garbage collection's safe point are refused.

Stores do not check. A reader asks after it has read: what it read is whole if the safe point had not passed it by then.
Snapshots of the last minute (`Options.recent_ms`) are not asked for, as nobody collects that close to the present.
"""

from __future__ import annotations

import asyncio

from kvstore.client.api import LOGICAL_BITS
from kvstore.client.cluster.background import shared
from kvstore.client.cluster.pd_client import PdClient
from kvstore.errors import SnapshotTooOld


class SafePoint:
    """The safe point, asked for when it matters; who waits together shares a question."""

    def __init__(self, pd: PdClient, recent_ms: int) -> None:
        self._pd = pd
        self._recent_ms = recent_ms
        self._value = 0
        self._asking: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    def is_recent(self, ts: int) -> bool:
        """Whether `ts` is so close to the present that it need not be checked."""
        now_ms = self._pd.about_now_ms()
        return now_ms > 0 and (ts >> LOGICAL_BITS) >= now_ms - self._recent_ms and ts >= self._value

    async def check(self, ts: int) -> None:
        """Raises SnapshotTooOld when the safe point, as it is after the call began, is above `ts`."""
        if self._asking is None or self._asking.done():
            asking = self._asking = shared(self._pd.gc_safe_point())
        else:
            # the one under way may have been answered before the caller read
            if self._next is None or self._next.done():
                self._next = shared(self._ask_after(self._asking))
            asking = self._next
        self._value = max(self._value, await asyncio.shield(asking))
        if ts < self._value:
            raise SnapshotTooOld(ts, self._value)

    async def _ask_after(self, earlier: asyncio.Task[int]) -> int:
        await asyncio.gather(earlier, return_exceptions=True)
        self._asking, self._next = self._next, None
        return await self._pd.gc_safe_point()
