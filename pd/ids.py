"""Cluster-wide ids: a range is saved ahead, so that no id comes twice over restarts and changes of the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pd.replica import Replica
from pd.state import IDS_BOUND, Change, number

RANGE = 1000
"""Ids that one write reserves."""
COUNT_MAX = 100_000
"""Ids that one request may take."""


class Ids:
    """The ids of one leadership; ids start at 1."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._last = self._bound = replica.state.get_number(IDS_BOUND)
        self._lock = asyncio.Lock()

    async def ensure(self, count: int) -> None:
        """Makes the next `count` takes possible at once."""
        async with self._lock:
            if self._bound - self._last < count:
                bound = self._bound + max(RANGE, count)
                await self._replica.write([Change(IDS_BOUND, number(bound))])
                self._bound = bound

    def left(self) -> int:
        return self._bound - self._last

    def take(self) -> int:
        """The next id; only after `ensure`."""
        assert self._last < self._bound, (self._last, self._bound)
        self._last += 1
        return self._last

    async def allocate(self, count: int) -> Sequence[int]:
        """`count` ids in a row. Raises NotLeader, Undetermined."""
        while self.left() < count:
            await self.ensure(count)
        return [self.take() for _ in range(count)]
