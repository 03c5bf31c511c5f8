"""The local timestamp oracle: physical milliseconds << 18 | logical, strictly increasing, also over restarts and
clock jumps.

It persists a bound ahead of the clock before it gives out a timestamp below it (PD's saved window). After a crash it
goes on from the bound, after a clean close from where it stopped; a clock that stands or goes back only uses up
logical numbers, and when a millisecond's are used up the physical part moves on by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from kvstore.client.api import LOGICAL_BITS, WindowStore

WINDOW_MS = 3000
"""How far ahead of the given timestamps the bound is saved."""


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class LocalOracle:
    """Timestamps for one process; safe to call from any thread."""

    def __init__(self, window: WindowStore, clock: Callable[[], int] = wall_clock_ms) -> None:
        self._window = window
        self._clock = clock
        self._mutex = threading.Lock()
        self._closed = False
        self._bound_ms = window.load()
        self._last = self._bound_ms << LOGICAL_BITS
        """The last timestamp given out, or one that no earlier one can exceed."""

    def get_ts(self, count: int = 1) -> int:
        with self._mutex:
            ts = self._clock() << LOGICAL_BITS
            if ts <= self._last:
                ts = self._last + 1
            ts += count - 1
            if ts >> LOGICAL_BITS >= self._bound_ms:
                self._extend(ts >> LOGICAL_BITS)
            self._last = ts
            return ts

    def _extend(self, physical_ms: int) -> None:
        bound = physical_ms + WINDOW_MS
        self._window.save(bound)
        self._bound_ms = bound

    def close(self) -> None:
        """Gives the unused part of the window back, so that the next start need not run ahead of the clock."""
        with self._mutex:
            if not self._closed:
                self._closed = True
                used = (self._last >> LOGICAL_BITS) + 1
                if used < self._bound_ms:
                    self._window.save(used)
                    self._bound_ms = used
