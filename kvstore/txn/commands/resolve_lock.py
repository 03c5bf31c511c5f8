"""KvResolveLock: settle locks whose transaction's fate is known; and all locks of a store nobody else can own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.engine.api import Engine
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import Committed, MvccReader
from kvstore.mvcc.record import Lock, LockType, WriteType
from kvstore.txn.actions.check_txn_status import StatusCommitted, StatusQuery, check_txn_status
from kvstore.txn.actions.cleanup import cleanup
from kvstore.txn.actions.commit import commit
from kvstore.txn.changes import Changes

RESOLVE_BATCH = 256
"""Locks settled in one write."""


@dataclass(frozen=True, slots=True)
class ResolveLock:
    """Commits (commit_ts > 0) or rolls back the given keys of a transaction."""

    resolve_keys: tuple[bytes, ...]
    start_ts: int
    commit_ts: int

    def keys(self) -> Sequence[bytes]:
        return self.resolve_keys

    def run(self, reader: MvccReader, changes: Changes) -> int:
        resolved = 0
        for key in self.resolve_keys:
            lock = reader.load_lock(key)
            if lock is not None and lock.start_ts == self.start_ts:
                _settle(changes, reader, key, lock, self.commit_ts)
                resolved += 1
        return resolved


def _settle(changes: Changes, reader: MvccReader, key: bytes, lock: Lock, commit_ts: int) -> None:
    if lock.type is LockType.PESSIMISTIC:
        changes.unlock(key, lock)
    elif commit_ts:
        commit(changes, reader, key, lock.start_ts, commit_ts)
    else:
        cleanup(changes, reader, key, lock.start_ts, 0, protected=False)


def resolve_all_locks(engine: Engine) -> int:
    """Settles every lock of a store whose owners are all gone; returns how many there were.

    The primary tells each transaction's fate; an async commit is decided by whether all its secondaries were locked.
    """
    fates: dict[int, int] = {}
    resolved = 0
    start = b""
    while True:
        with MvccReader(engine) as reader:
            locks = reader.scan_locks(TS_MAX, start, RESOLVE_BATCH)
        if not locks:
            break
        for key, lock in locks:
            if lock.start_ts not in fates:
                fates[lock.start_ts] = _fate(engine, lock)
            changes = Changes()
            with MvccReader(engine) as reader:
                current = reader.load_lock(key)
                if current is not None and current.start_ts == lock.start_ts:
                    _settle(changes, reader, key, current, fates[lock.start_ts])
            engine.write(changes.batch(engine))
            resolved += 1
        start = locks[-1][0] + b"\0"
    engine.sync()
    return resolved


def _fate(engine: Engine, lock: Lock) -> int:
    """The commit_ts of the lock's transaction, 0 when it is rolled back; settles the primary."""
    if lock.type is LockType.PESSIMISTIC:
        return 0
    with MvccReader(engine) as reader:
        primary = reader.load_lock(lock.primary)
        if primary is not None and primary.start_ts == lock.start_ts and primary.secondaries is not None:
            return _async_fate(reader, primary)
        changes = Changes()
        query = StatusQuery(lock.primary, lock.start_ts, TS_MAX, TS_MAX, force_sync_commit=True)
        status = check_txn_status(changes, reader, query)
    engine.write(changes.batch(engine))
    return status.commit_ts if isinstance(status, StatusCommitted) else 0


def _async_fate(reader: MvccReader, primary: Lock) -> int:
    """An async commit counts as committed, at the greatest min_commit_ts, once all its keys are locked."""
    commit_ts = primary.min_commit_ts
    for key in primary.secondaries or ():
        lock = reader.load_lock(key)
        if lock is not None and lock.start_ts == primary.start_ts:
            commit_ts = max(commit_ts, lock.min_commit_ts)
            continue
        match reader.txn_record(key, primary.start_ts):
            case Committed(commit_ts=found, write=write) if write.type is not WriteType.ROLLBACK:
                return found
        return 0
    return commit_ts
