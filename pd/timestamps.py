"""Timestamps of a leading placement driver: `pd.tso` with the clock, the saved window and the lease round it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvstore.failpoint import fail_point_async
from kvstore.histogram import Durations
from pd.errors import NotLeader, Refused, Undetermined
from pd.replica import Replica
from pd.state import TSO_BOUND, Change, number
from pd.tso import LOGICAL_BITS, LOGICAL_MAX, WINDOW_MS, Timeline

UPDATE_S = 0.5
"""How often the window is looked at."""
OVERFLOW_WAIT_S = 0.001
"""How long a full millisecond is waited for; then the physical part moves on, wherever the clock is."""
CATCH_UP_SPEED = 0.8
"""How fast timestamps go on, in seconds a second, while the wall clock is behind them."""
LEASE_WAIT_S = 0.5
LEASE_LOOK_S = 0.005


class Timestamps:
    """The timestamps of one leadership: they begin at the bound that the last one saved."""

    def __init__(self, replica: Replica, wall_ms: Callable[[], int]) -> None:
        self._replica = replica
        self._term = replica.term
        self._wall_ms = wall_ms
        self._timeline = Timeline.starting_at(replica.state.get_number(TSO_BOUND))
        self._saving = asyncio.Lock()
        self.durations = Durations(
            "pd_server_handle_tso_duration_seconds", "Requests for timestamps, from message to answer.", ""
        )
        self._loop = asyncio.get_running_loop()
        self._physical_ms = float(self._timeline.bound_ms)
        self._looked_at = self._loop.time()

    def _now_ms(self) -> int:
        """The wall clock; or, while that is behind what was given out, a clock that goes at `CATCH_UP_SPEED`.

        Were time to stand still, no lock would expire until a clock that was wrong by an hour has caught up.
        """
        now = self._loop.time()
        passed_ms = (now - self._looked_at) * 1000
        self._looked_at = now
        self._physical_ms = max(self._wall_ms(), self._physical_ms + passed_ms * CATCH_UP_SPEED)
        return int(self._physical_ms)

    async def get(self, count: int) -> int:
        """The largest of `count` new timestamps, which lie in one millisecond.

        Raises NotLeader when this member may not give any, Refused for an impossible count.
        """
        ts = self._take(count)
        while ts is None:
            await self._make_way(count)
            ts = self._take(count, over_full=True)
        return ts

    def _take(self, count: int, *, over_full: bool = False) -> int | None:
        """None when something has to be waited for; a full millisecond is one unless `over_full`. Raises Refused."""
        if not 0 < count <= LOGICAL_MAX:
            raise Refused(f"tso count should be positive and at most {LOGICAL_MAX}, got {count}")
        if not self._may_give():
            return None
        timeline = self._timeline
        now_ms = self._now_ms()
        ts = timeline.propose(now_ms, count)
        if not timeline.covered(ts):
            return None
        physical_ms = ts >> LOGICAL_BITS
        if not over_full and physical_ms > now_ms and physical_ms > timeline.last >> LOGICAL_BITS:
            return None
        timeline.give(ts)
        return ts

    async def _make_way(self, count: int) -> None:
        """Waits for what is missing, once: the lease, the next millisecond, a saved bound. Raises NotLeader."""
        if not self._may_give():
            await self._wait_for_lease()
            return
        ts = self._timeline.propose(self._now_ms(), count)
        if not self._timeline.covered(ts):
            await self._save(ts >> LOGICAL_BITS)
        else:
            await asyncio.sleep(OVERFLOW_WAIT_S)

    def _may_give(self) -> bool:
        return self._replica.term == self._term and self._replica.holds_lease()

    async def _wait_for_lease(self) -> None:
        """A lease that is late may come yet; raises NotLeader when it doesn't."""
        end = self._loop.time() + LEASE_WAIT_S
        while not self._may_give():
            if self._replica.term != self._term or self._loop.time() >= end:
                raise NotLeader
            await asyncio.sleep(LEASE_LOOK_S)

    async def _save(self, physical_ms: int) -> None:
        async with self._saving:
            if physical_ms >= self._timeline.bound_ms:
                bound = physical_ms + WINDOW_MS
                if await fail_point_async("pd::before_save_tso") is not None:
                    raise Undetermined("failpoint pd::before_save_tso")
                await self._replica.write([Change(TSO_BOUND, number(bound))])
                if await fail_point_async("pd::after_save_tso") is not None:
                    raise Undetermined("failpoint pd::after_save_tso")
                self._timeline.bound_ms = bound

    async def keep_ahead(self) -> None:
        """Saves the next window before the last is used up, for as long as this member leads."""
        while True:
            physical_ms = max(self._now_ms(), self._timeline.last >> LOGICAL_BITS)
            await self._save(physical_ms + WINDOW_MS // 2)
            await asyncio.sleep(UPDATE_S)
