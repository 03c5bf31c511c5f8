"""Phase two: turn a lock into a commit record (`actions/commit.rs`)."""

from __future__ import annotations

from kvstore.errors import CommitTsExpired, LockNotFound
from kvstore.mvcc.reader import Committed, MvccReader
from kvstore.mvcc.record import Lock, LockType, Write, WriteType
from kvstore.txn.changes import Changes


def commit(changes: Changes, reader: MvccReader, key: bytes, start_ts: int, commit_ts: int) -> bool:
    """Commits one key; returns False when it was committed before.

    Raises LockNotFound when the transaction was rolled back or never prewritten here, CommitTsExpired.
    """
    lock = reader.load_lock(key)
    if lock is None or lock.start_ts != start_ts:
        return _check_committed(reader, key, start_ts)
    if commit_ts < lock.min_commit_ts:
        raise CommitTsExpired(key, start_ts, commit_ts, lock.min_commit_ts)
    if lock.type is LockType.PESSIMISTIC:
        # the client committed without prewriting this key: the lock protected it and goes as a lock record
        write_type = WriteType.LOCK
    else:
        write_type = WriteType(lock.type)
    changes.put_write(key, commit_ts, _record(lock, write_type, commit_ts))
    changes.unlock(key, lock)
    return True


def _record(lock: Lock, write_type: WriteType, commit_ts: int) -> Write:
    """The commit record; it carries on the mark of a rollback that overlaps its timestamp."""
    return Write(
        write_type,
        lock.start_ts,
        lock.short_value,
        overlapped_rollback=commit_ts in lock.rollback_ts,
        last_change=lock.last_change if write_type is WriteType.LOCK else None,
        txn_source=lock.txn_source,
    )


def _check_committed(reader: MvccReader, key: bytes, start_ts: int) -> bool:
    match reader.txn_record(key, start_ts):
        case Committed(write=write) if write.type is not WriteType.ROLLBACK:
            return False
    raise LockNotFound(f"transaction {start_ts} has no lock on key {key.hex()}", start_ts, key)
