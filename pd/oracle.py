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

from kvstore.client.api import WindowStore
from pd.tso import LOGICAL_BITS, WINDOW_MS, Timeline


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
        self._timeline = Timeline.starting_at(window.load())

    def get_ts(self, count: int = 1) -> int:
        with self._mutex:
            if count == 1 and (ts := self._timeline.take(self._clock())):
                return ts
            ts = self._timeline.propose(self._clock(), count)
            if not self._timeline.covered(ts):
                self._save((ts >> LOGICAL_BITS) + WINDOW_MS)
            self._timeline.give(ts)
            return ts

    def _save(self, bound_ms: int) -> None:
        self._window.save(bound_ms)
        self._timeline.bound_ms = bound_ms

    def close(self) -> None:
        """Gives the unused part of the window back, so that the next start need not run ahead of the clock."""
        with self._mutex:
            if not self._closed:
                self._closed = True
                used = (self._timeline.last >> LOGICAL_BITS) + 1
                if used < self._timeline.bound_ms:
                    self._save(used)
