"""Removing versions that no reader at or above the safe point can see.

Of each key the newest put or delete at or below the safe point decides what such readers see; everything older goes,
and it goes itself when it is a delete. A delete goes last: while older versions are there it hides them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from kvstore.engine.api import CF_DEFAULT, CF_WRITE, Batch, Engine
from kvstore.engine.failure import check_status
from kvstore.mvcc.keys import ts_suffix, versioned
from kvstore.mvcc.point import decode_write
from kvstore.mvcc.record import WriteType

CHUNK_PAIRS = 16384
BATCH_KEYS_MAX = 4096

_PUT, _DELETE = ord("P"), ord("D")


@dataclass(frozen=True, slots=True)
class GcCounts:
    """What a run did."""

    records: int = 0
    removed: int = 0
    values_removed: int = 0

    def plus(self, other: GcCounts) -> GcCounts:
        return GcCounts(
            self.records + other.records, self.removed + other.removed, self.values_removed + other.values_removed
        )

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class _Collector:
    """Feeds on (key, record) pairs in key order and removes the superfluous ones in batches."""

    def __init__(self, engine: Engine, safe_point: int) -> None:
        self._engine = engine
        self._suffix = ts_suffix(safe_point)
        self._batch: Batch | None = None
        self._batched = 0
        self._prefix = b""
        self._decided = False
        self._tombstone: bytes | None = None
        self.records = 0
        self.removed = 0
        self.values_removed = 0

    def feed(self, flat: list[bytes]) -> None:
        suffix = self._suffix
        self.records += len(flat) // 2
        for at in range(0, len(flat), 2):
            key = flat[at]
            prefix = key[:-8]
            if prefix != self._prefix:
                self._end_key()
                self._prefix = prefix
                self._decided = False
            if key[-8:] < suffix:
                continue
            record = flat[at + 1]
            if self._decided:
                self._remove(key, record)
            elif record[0] == _PUT:
                self._decided = True
            elif record[0] == _DELETE:
                self._decided = True
                self._tombstone = key
            else:
                self._remove(key, record)

    def _remove(self, key: bytes, record: bytes) -> None:
        batch = self._batch
        if batch is None:
            batch = self._batch = self._engine.batch()
        batch.delete(key, self._engine.handle(CF_WRITE))
        self._batched += 1
        self.removed += 1
        if record[0] == _PUT:
            write = decode_write(record, key)
            if write.type is WriteType.PUT and write.short_value is None:
                batch.delete(versioned(key[:-8], write.start_ts), self._engine.handle(CF_DEFAULT))
                self.values_removed += 1

    def _end_key(self) -> None:
        if self._tombstone is not None:
            self._remove(self._tombstone, b"D")
            self._tombstone = None
        if self._batched >= BATCH_KEYS_MAX:
            self.write()

    def finish_key(self) -> None:
        """No more records of the present key will come."""
        self._end_key()
        self._prefix = b""
        self._decided = False

    def write(self) -> None:
        """Applies what was gathered; a tombstone still held back stays held back."""
        if self._batch is not None:
            self._engine.write(self._batch)
            self._batch = None
            self._batched = 0

    def counts(self) -> GcCounts:
        return GcCounts(self.records, self.removed, self.values_removed)


def collect_range(engine: Engine, low: bytes, high: bytes, safe_point: int, stopped: Callable[[], bool]) -> GcCounts:
    """Goes over the data keys in [low, high) of the write family."""
    collector = _Collector(engine, safe_point)
    scanner = engine.scanner(CF_WRITE, low, high)
    try:
        while not stopped():
            flat = scanner.take(CHUNK_PAIRS)
            collector.feed(flat)
            collector.write()
            if len(flat) < 2 * CHUNK_PAIRS:
                collector.finish_key()
                collector.write()
                break
    finally:
        scanner.release()
    return collector.counts()


def collect_keys(engine: Engine, data_keys: Sequence[bytes], safe_point: int, stopped: Callable[[], bool]) -> GcCounts:
    """Goes over the versions of the given data keys."""
    collector = _Collector(engine, safe_point)
    cursor = engine.cursor(CF_WRITE)
    try:
        for key in data_keys:
            if stopped():
                break
            raw = cursor.raw
            if raw is None:
                raw = cursor.refresh()
            raw.seek(key + bytes(8))
            while (at := raw.key()) is not None and at[:-8] == key:
                record = raw.value()
                assert record is not None
                collector.feed([at, record])
                raw.next()
            if at is None:
                check_status(raw)
            collector.finish_key()
        collector.write()
    finally:
        cursor.release()
    return collector.counts()
