"""Rolling back one key, and leaving a record that keeps a late prewrite out (`actions/cleanup.rs`)."""

from __future__ import annotations

from dataclasses import replace

from kvstore.errors import AlreadyCommitted
from kvstore.mvcc.reader import Committed, MetLock, MvccReader, NoRecord, OverlappedRollback
from kvstore.mvcc.record import Lock, LockType, Write, WriteType
from kvstore.txn.changes import Changes


def cleanup(
    changes: Changes, reader: MvccReader, key: bytes, start_ts: int, current_ts: int, *, protected: bool
) -> bool:
    """Rolls one key back; returns False when it was rolled back before.

    With `current_ts` > 0 a lock whose time to live is not over raises KeyIsLocked. Raises AlreadyCommitted.
    """
    lock = reader.load_lock(key)
    if lock is not None and lock.start_ts == start_ts:
        if current_ts and not is_expired(lock, current_ts):
            raise MetLock(key, lock)
        rollback_lock(changes, reader, key, lock, protected=protected or key == lock.primary)
        return True
    return rollback_missing(changes, reader, key, start_ts, lock, protected=protected)


def is_expired(lock: Lock, current_ts: int) -> bool:
    """Whether the lock's time to live (milliseconds from start_ts) is over at `current_ts`."""
    return (lock.start_ts >> 18) + lock.ttl < current_ts >> 18


def rollback_lock(changes: Changes, reader: MvccReader, key: bytes, lock: Lock, *, protected: bool) -> None:
    """Takes the transaction's own lock away and leaves a rollback record."""
    if lock.type is LockType.PUT and lock.short_value is None:
        changes.delete_value(key, lock.start_ts)
    overlapped: Write | None = None
    match reader.txn_record(key, lock.start_ts):
        case NoRecord(overlapped=found):
            overlapped = found
        case Committed(commit_ts=commit_ts, write=write) if write.type is not WriteType.ROLLBACK:
            # prewritten again after its commit: only the lock is left over
            raise AlreadyCommitted(key, lock.start_ts, commit_ts)
    put_rollback(changes, key, lock.start_ts, overlapped, protected=protected)
    changes.unlock(key, lock)


def rollback_missing(
    changes: Changes, reader: MvccReader, key: bytes, start_ts: int, other: Lock | None, *, protected: bool
) -> bool:
    """Rolls back where the transaction has no lock; `other` is another transaction's lock on the key."""
    match reader.txn_record(key, start_ts):
        case OverlappedRollback():
            return False
        case Committed(commit_ts=commit_ts, write=write):
            if write.type is WriteType.ROLLBACK:
                return False
            raise AlreadyCommitted(key, start_ts, commit_ts)
        case NoRecord(overlapped=overlapped):
            if other is not None and overlapped is None and other.type is not LockType.PESSIMISTIC:
                remember_in_lock(changes, key, other, start_ts)
            put_rollback(changes, key, start_ts, overlapped, protected=protected)
            return True


def remember_in_lock(changes: Changes, key: bytes, other: Lock, start_ts: int) -> None:
    """Notes the rollback in another's lock, whose commit may come to lie on the same timestamp."""
    if start_ts > other.start_ts and start_ts not in other.rollback_ts:
        changes.put_lock(key, replace(other, rollback_ts=(*other.rollback_ts, start_ts)))


def put_rollback(changes: Changes, key: bytes, start_ts: int, overlapped: Write | None, *, protected: bool) -> None:
    """Writes the rollback record, or marks another transaction's commit that lies at the same timestamp."""
    if overlapped is None:
        changes.put_write(key, start_ts, Write.rollback(start_ts, protected=protected))
    elif protected:
        changes.put_write(key, start_ts, replace(overlapped, overlapped_rollback=True))
