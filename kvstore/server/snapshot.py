"""Point and range reads at a timestamp, with the locks that stand in their way (TiKV's `mvcc/reader`).

Everything here runs without an await, under a grant of the region store.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_WRITE, Engine
from kvstore.errors import ConflictReason, Corruption, WriteConflict
from kvstore.mvcc.chunks import pairs_of
from kvstore.mvcc.keys import TS_MAX, data_key, data_range, ts_suffix, user_key, versioned
from kvstore.mvcc.point import NeedsDefault, newest_change, read_version
from kvstore.mvcc.reader import MetLock, decode_lock
from kvstore.mvcc.record import Lock, LockType
from kvstore.mvcc.scan import scan_chunks
from kvstore.proto.kvrpcpb_pb2 import Context, IsolationLevel
from kvstore.server.concurrency import ConcurrencyManager

Row = tuple[bytes, bytes] | MetLock
_NONE: frozenset[int] = frozenset()
LOCKS_TAKEN = 256


@dataclass(frozen=True, slots=True)
class Isolation:
    """How a read treats locks."""

    ignore_locks: bool = False
    check_newest: bool = False
    """A newer commit than the read's timestamp is a conflict (RCCheckTS)."""
    bypass: frozenset[int] = _NONE
    """Transactions the client knows to be rolled back, or to commit later: their locks are not there."""
    access: frozenset[int] = _NONE
    """Transactions the client knows to be committed before the read: their locks are values."""


_SNAPSHOT = Isolation()


def isolation_of(context: Context) -> Isolation:
    level = context.isolation_level
    if not (level or context.resolved_locks or context.committed_locks):
        return _SNAPSHOT
    return Isolation(
        ignore_locks=level == IsolationLevel.RC,
        check_newest=level == IsolationLevel.RCCheckTS,
        bypass=frozenset(context.resolved_locks),
        access=frozenset(context.committed_locks),
    )


class SnapshotReads:
    """Reads of one engine; keeps an iterator between point reads."""

    def __init__(self, engine: Engine, concurrency: ConcurrencyManager) -> None:
        self._engine = engine
        self._concurrency = concurrency
        self._cursor = engine.cursor(CF_WRITE)

    def release(self) -> None:
        """Drops the iterator, which pins files; the next read makes another."""
        self._cursor.release()

    def get(self, key: bytes, encoded: bytes, ts: int, isolation: Isolation) -> tuple[bytes, int] | None:
        """The value of `key` (data key `encoded`) at `ts` and its commit_ts (0: not known, of a lock).

        Raises MetLock, WriteConflict.
        """
        if not isolation.ignore_locks:
            self._concurrency.update_max_ts(ts)
            if self._concurrency.locks:
                self._concurrency.check_key(key, ts, isolation.bypass)
            record = self._engine.get(CF_LOCK, encoded)
            if record is not None:
                lock = decode_lock(record, encoded)
                if lock.start_ts in isolation.access:
                    if lock.type in (LockType.PUT, LockType.DELETE):
                        return self._of_lock(encoded, lock)
                elif lock.start_ts not in isolation.bypass and lock.blocks_read(key, ts):
                    raise MetLock(key, lock)
        cursor = self._cursor
        raw = cursor.raw
        if raw is None or cursor.seq != self._engine.write_seq:
            raw = cursor.refresh()
        if isolation.check_newest:
            self._check_newest(key, encoded, ts)
        try:
            value = read_version(raw, encoded, encoded + ts_suffix(ts), ts)
        except NeedsDefault as need:
            value = self.load(encoded, need.start_ts)
        if value is None:
            return None
        at = raw.key()
        assert at is not None
        return value, int.from_bytes(at[-8:], "big") ^ TS_MAX

    def load(self, encoded: bytes, start_ts: int) -> bytes:
        """A long value."""
        return load_default(self._engine, encoded, start_ts)

    def _of_lock(self, encoded: bytes, lock: Lock) -> tuple[bytes, int] | None:
        value = value_of_lock(self._engine, encoded, lock)
        return None if value is None else (value, 0)

    def _check_newest(self, key: bytes, encoded: bytes, ts: int) -> None:
        raw = self._cursor.raw
        assert raw is not None
        newest = newest_change(raw, encoded)
        if newest is not None and newest[0] > ts:
            raise WriteConflict(key, ts, newest[1].start_ts, newest[0], ConflictReason.RC_CHECK_TS)

    # -- ranges

    def scan(self, start: bytes, end: bytes, ts: int, isolation: Isolation, *, reverse: bool) -> Iterator[Row]:
        """Rows of start <= key < end in order, with a MetLock in place of a row that a lock may hide.

        Raises MetLock for a lock in flight. The caller runs it to its end, or closes it, before an await.
        """
        if not isolation.ignore_locks:
            self._concurrency.update_max_ts(ts)
            self._concurrency.check_range(start, end, ts, isolation.bypass)
        low, high = data_range(start, end)
        if low >= high:
            return
        rows = pairs_of(scan_chunks(self._engine, start, end, ts, self.load, _nothing, reverse=reverse))
        locks = iter(()) if isolation.ignore_locks else locks_in(self._engine, low, high, ts, isolation, reverse)
        for row in _merged(rows, locks, reverse):
            if not isinstance(row, LockedRow):
                if isolation.check_newest:
                    self._cursor.refresh()
                    self._check_newest(row[0], data_key(row[0]), ts)
                yield row
            elif row.lock.start_ts not in isolation.access:
                yield MetLock(row.key, row.lock)
            elif (found := self._of_lock(data_key(row.key), row.lock)) is not None:
                yield row.key, found[0]


@dataclass(frozen=True, slots=True)
class LockedRow:
    """A row that its lock hides, or (of a transaction known to be committed) is."""

    key: bytes
    lock: Lock


def load_default(engine: Engine, encoded: bytes, start_ts: int) -> bytes:
    """A long value, of a data key."""
    value = engine.get(CF_DEFAULT, versioned(encoded, start_ts))
    if value is None:
        raise Corruption(f"value of {encoded.hex()} written at {start_ts} is missing")
    return value


def value_of_lock(engine: Engine, encoded: bytes, lock: Lock) -> bytes | None:
    """What the lock on a data key writes; None when it deletes."""
    if lock.type is LockType.DELETE:
        return None
    return lock.short_value if lock.short_value is not None else load_default(engine, encoded, lock.start_ts)


def locks_in(
    engine: Engine, low: bytes, high: bytes, ts: int, isolation: Isolation, reverse: bool
) -> Iterator[LockedRow]:
    """The locks between two data keys that hide rows from the reader, or are values to it."""
    scanner = engine.scanner(CF_LOCK, low, high, reverse=reverse)
    try:
        while flat := scanner.take(LOCKS_TAKEN):
            for encoded, record in zip(flat[::2], flat[1::2], strict=True):
                lock, key = decode_lock(record, encoded), user_key(encoded)
                if lock.start_ts in isolation.access:
                    if lock.type in (LockType.PUT, LockType.DELETE):
                        yield LockedRow(key, lock)
                elif lock.start_ts not in isolation.bypass and lock.blocks_read(key, ts):
                    yield LockedRow(key, lock)
            if len(flat) < 2 * LOCKS_TAKEN:
                return
    finally:
        scanner.release()


def _merged(
    rows: Iterator[tuple[bytes, bytes]], locks: Iterator[LockedRow], reverse: bool
) -> Iterator[tuple[bytes, bytes] | LockedRow]:
    """Rows and locks in one order; a lock takes the place of its row."""
    lock = next(locks, None)
    if lock is None:
        yield from rows
        return
    for row in rows:
        while lock is not None and (lock.key > row[0] if reverse else lock.key < row[0]):
            yield lock
            lock = next(locks, None)
        if lock is not None and lock.key == row[0]:
            yield lock
            lock = next(locks, None)
        else:
            yield row
    while lock is not None:
        yield lock
        lock = next(locks, None)


def _nothing() -> None:
    """Versions cannot go away during a scan that runs without an await."""
