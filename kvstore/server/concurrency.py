"""What reads and prewrites in flight must know of each other (TiKV's `components/concurrency_manager`).

An async commit or 1PC chooses its own commit timestamp: after every read that did not see it. So reads raise `max_ts`,
prewrites choose above it, and while their records are on the way through the log, their locks stand here, where reads
look before they look into the engine. All of it happens between two awaits of one loop.

A new leader does not know what its predecessor served. Until it has asked for a timestamp, which is above all reads so
far, its regions refuse such commits (`unsynced`).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable

from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import MetLock
from kvstore.mvcc.record import Lock
from kvstore.server.errors import Refused

TS_DRIFT_MAX_MS = 3_600_000
"""A read further in the future than this is refused: it would drive the commit timestamps there."""
_NO_BYPASS: frozenset[int] = frozenset()


class TimestampTooNew(Refused):
    """A timestamp no oracle can have given yet."""


class ConcurrencyManager:
    """`max_ts`, and the locks of async commits and 1PC that are being written, by user key."""

    def __init__(self, now_ms: Callable[[], int] | None = None) -> None:
        self.max_ts = 0
        self._now_ms = now_ms
        self._limit = 0
        self.locks: dict[bytes, Lock] = {}
        self._keys: list[bytes] = []
        self._unsynced: dict[int, int] = {}
        self._marks = 0

    # -- max_ts

    def update_max_ts(self, ts: int) -> None:
        """Notes a read at `ts`; the greatest timestamp is none. Raises TimestampTooNew."""
        if ts <= self.max_ts or ts == TS_MAX:
            return
        if ts > self._limit and self._now_ms is not None:
            self._limit = max(self._limit, (self._now_ms() + TS_DRIFT_MAX_MS) << 18)
            if ts > self._limit:
                raise TimestampTooNew(f"timestamp {ts} is more than {TS_DRIFT_MAX_MS} ms in the future")
        self.max_ts = ts

    def sync_max_ts(self, ts: int) -> None:
        """Notes a timestamp that the oracle gave; it knows better than the clock here what is the future."""
        self.max_ts = max(self.max_ts, ts)
        self._limit = max(self._limit, ts + (TS_DRIFT_MAX_MS << 18))

    def mark_unsynced(self, region_id: int) -> int:
        """The region may have been read elsewhere; returns the mark that `mark_synced` takes back."""
        self._marks += 1
        self._unsynced[region_id] = self._marks
        return self._marks

    def mark_synced(self, region_id: int, mark: int) -> None:
        """A timestamp from after the mark was set is in `max_ts`; a newer mark stays."""
        if self._unsynced.get(region_id) == mark:
            del self._unsynced[region_id]

    def forget(self, region_id: int) -> None:
        """The region is not led here any more."""
        self._unsynced.pop(region_id, None)

    def is_synced(self, region_id: int) -> bool:
        return region_id not in self._unsynced

    # -- locks in flight

    def add(self, locks: Iterable[tuple[bytes, Lock]]) -> None:
        """Shows locks to readers; their keys are latched by who adds them."""
        for key, lock in locks:
            if key not in self.locks:
                insort(self._keys, key)
            self.locks[key] = lock

    def remove(self, locks: Iterable[tuple[bytes, Lock]]) -> None:
        """The locks are in the engine, or will never be."""
        for key, _ in locks:
            if self.locks.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def check_key(self, key: bytes, ts: int, bypass: frozenset[int] = _NO_BYPASS) -> None:
        """Raises MetLock when a lock in flight may hide a commit from a read of `key` at `ts`."""
        lock = self.locks.get(key)
        if lock is not None and lock.start_ts not in bypass and lock.blocks_read(key, ts):
            raise MetLock(key, lock)

    def check_range(self, start: bytes, end: bytes, ts: int, bypass: frozenset[int] = _NO_BYPASS) -> None:
        """The same for start <= key < end; an empty `end` is no bound."""
        if not self.locks:
            return
        keys = self._keys
        for at in range(bisect_left(keys, start), len(keys)):
            if end and keys[at] >= end:
                return
            self.check_key(keys[at], ts, bypass)
