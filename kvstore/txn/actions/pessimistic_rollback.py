"""Giving up a pessimistic lock, which leaves no record (`commands/pessimistic_rollback.rs`)."""

from __future__ import annotations

from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import LockType
from kvstore.txn.changes import Changes


def pessimistic_rollback(changes: Changes, reader: MvccReader, key: bytes, start_ts: int, for_update_ts: int) -> bool:
    """Takes the lock away if it is this transaction's and not of a later statement; returns whether it did."""
    lock = reader.load_lock(key)
    if lock is None or lock.type is not LockType.PESSIMISTIC or lock.start_ts != start_ts:
        return False
    if lock.for_update_ts > for_update_ts:
        return False
    changes.unlock(key, lock)
    return True
