"""Record-level reads for transaction actions: locks, write records and what became of a transaction on a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvstore.codec import CodecError
from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_WRITE, Cursor, Engine
from kvstore.engine.failure import check_status
from kvstore.errors import Corruption, KeyIsLocked
from kvstore.mvcc.keys import DATA_END, DATA_PREFIX, TS_MAX, data_key, ts_suffix, user_key, versioned
from kvstore.mvcc.point import decode_write
from kvstore.mvcc.record import Lock, Write, WriteType


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction's record on a key: a commit, or its rollback (`write.type`)."""

    commit_ts: int
    write: Write


@dataclass(frozen=True, slots=True)
class OverlappedRollback:
    """The transaction was rolled back; the mark is on another transaction's commit at the same timestamp."""

    commit_ts: int


@dataclass(frozen=True, slots=True)
class NoRecord:
    """Nothing of the transaction; `overlapped` is another transaction's commit whose commit_ts is its start_ts."""

    overlapped: Write | None


TxnRecord = Committed | OverlappedRollback | NoRecord


class MetLock(KeyIsLocked):
    """A lock that has to be resolved first, with all that it holds."""

    def __init__(self, key: bytes, lock: Lock) -> None:
        super().__init__(key, lock.start_ts, lock.primary)
        self.lock = lock


class MvccReader:
    """Reads the three families at one state of the engine; for one command, or for the next after `refresh`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock, self._write = engine.view((CF_LOCK, CF_WRITE))
        self.in_memory: Mapping[bytes, Lock] = {}
        """Locks of user keys that are in no engine; `load_lock` has them first, `scan_locks` has not."""

    def close(self) -> None:
        self._lock.release()
        self._write.release()

    def __enter__(self) -> MvccReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> MvccReader:
        """Moves to the engine's present state; only where nothing else writes meanwhile are both families at one."""
        seq = self._engine.write_seq
        for cursor in (self._lock, self._write):
            if cursor.seq != seq or cursor.raw is None:
                cursor.refresh()
        return self

    def _at(self, cursor: Cursor, key: bytes) -> tuple[bytes, bytes] | None:
        raw = cursor.raw if cursor.raw is not None else cursor.refresh()
        raw.seek(key)
        found = raw.key()
        if found is None:
            check_status(raw)
            return None
        value = raw.value()
        assert value is not None
        return found, value

    def load_lock(self, key: bytes) -> Lock | None:
        """The lock on user key `key`."""
        lock = self.in_memory.get(key)
        if lock is not None:
            return lock
        encoded = data_key(key)
        # A seek goes through all locks that were deleted behind the key, and of those there are very many. What is
        # there now is what this reader's state has when no write has begun since.
        record = self._engine.get(CF_LOCK, encoded)
        if self._engine.write_begun != self._lock.seq:
            found = self._at(self._lock, encoded)
            record = None if found is None or found[0] != encoded else found[1]
        return None if record is None else decode_lock(record, encoded)

    def scan_locks(
        self, max_ts: int, start: bytes = b"", limit: int | None = None, end: bytes = DATA_END
    ) -> list[tuple[bytes, Lock]]:
        """Locks of transactions up to `max_ts`, from user key `start` on and below data key `end`, in key order."""
        found: list[tuple[bytes, Lock]] = []
        entry = self._at(self._lock, data_key(start) if start else DATA_PREFIX)
        raw = self._lock.raw
        assert raw is not None
        while entry is not None and entry[0] < end and (limit is None or len(found) < limit):
            lock = decode_lock(entry[1], entry[0])
            if lock.start_ts <= max_ts:
                found.append((user_key(entry[0]), lock))
            raw.next()
            key, value = raw.key(), raw.value()
            entry = None if key is None or value is None else (key, value)
        return found

    def seek_write(self, key: bytes, ts: int) -> tuple[int, Write] | None:
        """The newest write record of `key` at or below `ts`."""
        encoded = data_key(key)
        found = self._at(self._write, encoded + ts_suffix(ts))
        if found is None or found[0][:-8] != encoded:
            return None
        return int.from_bytes(found[0][-8:], "big") ^ TS_MAX, decode_write(found[1], encoded)

    def newest_data(self, key: bytes, ts: int) -> tuple[int, Write] | None:
        """The newest put or delete of `key` at or below `ts`."""
        while (found := self.seek_write(key, ts)) is not None:
            if found[1].type in (WriteType.PUT, WriteType.DELETE):
                return found
            if found[0] == 0:
                return None
            ts = found[0] - 1
        return None

    def load_value(self, key: bytes, write: Write) -> bytes:
        """The value of a put record."""
        if write.short_value is not None:
            return write.short_value
        value = self._engine.get(CF_DEFAULT, versioned(data_key(key), write.start_ts))
        if value is None:
            raise Corruption(f"value of key {key.hex()} written at {write.start_ts} is missing")
        return value

    def get(self, key: bytes, ts: int, bypass: frozenset[int] = frozenset()) -> bytes | None:
        """The value at `ts`; raises KeyIsLocked when a lock may hide a commit at or below it."""
        lock = self.load_lock(key)
        if lock is not None and lock.start_ts not in bypass and lock.blocks_read(key, ts):
            raise MetLock(key, lock)
        found = self.newest_data(key, ts)
        if found is None or found[1].type is WriteType.DELETE:
            return None
        fence = found[1].gc_fence
        if fence and fence <= ts:
            return None
        return self.load_value(key, found[1])

    def txn_record(self, key: bytes, start_ts: int) -> TxnRecord:
        """What the transaction that began at `start_ts` left on `key`."""
        ts = TS_MAX
        overlapped: Write | None = None
        while (found := self.seek_write(key, ts)) is not None:
            commit_ts, write = found
            if commit_ts < start_ts:
                break
            if write.start_ts == start_ts:
                return Committed(commit_ts, write)
            if commit_ts == start_ts:
                if write.overlapped_rollback:
                    return OverlappedRollback(commit_ts)
                overlapped = write
                break
            ts = commit_ts - 1
        return NoRecord(overlapped)


def decode_lock(record: bytes, what: bytes) -> Lock:
    """Decodes a lock record; a damaged one is Corruption of the store."""
    try:
        return Lock.decode(record)
    except CodecError as error:
        raise Corruption(f"lock record of {what.hex()} is damaged: {error}") from error
