"""Latches for one event loop: commands that touch the same keys run one after another, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence


class Latches:
    """Exclusive per-key latches, taken in key order, so that commands cannot wait for each other in a circle."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[asyncio.Future[None]] | None] = {}
        """A key that is held, and who waits for it."""

    def try_acquire(self, keys: Sequence[bytes]) -> bool:
        """Takes all of the (distinct) keys at once if they are free."""
        queues = self._queues
        for key in keys:
            if key in queues:
                return False
        for key in keys:
            queues[key] = None
        return True

    async def acquire(self, keys: Sequence[bytes]) -> None:
        """Takes the (distinct, sorted) keys one by one; a cancelled wait gives back what it had."""
        taken = 0
        try:
            for key in keys:
                await self._take(key)
                taken += 1
        except asyncio.CancelledError:
            self.release(keys[:taken])
            raise

    async def _take(self, key: bytes) -> None:
        queues = self._queues
        if key not in queues:
            queues[key] = None
            return
        queue = queues[key]
        if queue is None:
            queue = queues[key] = deque()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(key)
            elif turn in queue:  # else whoever gave the key up has met it already
                queue.remove(turn)
            raise

    def release(self, keys: Sequence[bytes]) -> None:
        """Gives the keys up; each goes to the first that waits for it."""
        for key in keys:
            self._pass_on(key)

    def _pass_on(self, key: bytes) -> None:
        queue = self._queues[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._queues[key]

    def __len__(self) -> int:
        return len(self._queues)
