"""Removing the versions of one key that no reader at or above the safe point sees (`actions/gc.rs`)."""

from __future__ import annotations

from kvstore.mvcc.reader import MvccReader
from kvstore.mvcc.record import Write, WriteType
from kvstore.txn.changes import Changes


def gc(changes: Changes, reader: MvccReader, key: bytes, safe_point: int) -> int:
    """Returns how many records of `key` go; a delete goes with what it hides, in one batch."""
    ts = safe_point
    decided = False
    removed = 0
    while (found := reader.seek_write(key, ts)) is not None:
        commit_ts, write = found
        if decided or write.type is not WriteType.PUT:
            _remove(changes, key, commit_ts, write)
            removed += 1
        decided = decided or write.type in (WriteType.PUT, WriteType.DELETE)
        if commit_ts == 0:
            break
        ts = commit_ts - 1
    return removed


def _remove(changes: Changes, key: bytes, commit_ts: int, write: Write) -> None:
    changes.delete_write(key, commit_ts)
    if write.type is WriteType.PUT and write.short_value is None:
        changes.delete_value(key, write.start_ts)
