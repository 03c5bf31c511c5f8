"""What became of a transaction, asked at its primary key (`actions/check_txn_status.rs`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvstore.errors import PrimaryMismatch, TxnNotFound
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import Committed, MvccReader, NoRecord, OverlappedRollback
from kvstore.mvcc.record import Lock, LockType, WriteType
from kvstore.txn.actions.cleanup import is_expired, put_rollback, rollback_lock
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class StatusCommitted:
    commit_ts: int


@dataclass(frozen=True, slots=True)
class StatusRolledBack:
    """Was rolled back before, or just now (`by_this`): its time to live was over (`expired`), or it had left nothing
    here."""

    by_this: bool
    expired: bool = False


@dataclass(frozen=True, slots=True)
class StatusAlive:
    """Still running; `pushed` when its min_commit_ts was moved past the caller, who need not wait to read."""

    lock: Lock
    pushed: bool


@dataclass(frozen=True, slots=True)
class StatusLockGone:
    """No pessimistic primary lock: taken away now as it has `expired`, or not found; nothing else is known."""

    expired: bool = False


TxnStatus = StatusCommitted | StatusRolledBack | StatusAlive | StatusLockGone


@dataclass(frozen=True, slots=True)
class StatusQuery:
    primary: bytes
    start_ts: int
    caller_start_ts: int
    current_ts: int
    rollback_if_not_exist: bool = True
    force_sync_commit: bool = False
    resolving_pessimistic_lock: bool = False
    verify_is_primary: bool = True


class OtherPrimary(PrimaryMismatch):
    """The lock on the key that was asked, which names another primary."""

    def __init__(self, key: bytes, lock: Lock) -> None:
        self.key = key
        self.lock = lock
        super().__init__(f"lock on {key.hex()} names {lock.primary.hex()} as its primary")


def check_txn_status(changes: Changes, reader: MvccReader, query: StatusQuery) -> TxnStatus:
    """Looks at the primary; rolls the transaction back when its time is over. Raises TxnNotFound, PrimaryMismatch."""
    lock = reader.load_lock(query.primary)
    if lock is not None and lock.start_ts == query.start_ts:
        return _locked(changes, reader, query, lock)
    return _unlocked(changes, reader, query)


def _locked(changes: Changes, reader: MvccReader, query: StatusQuery, lock: Lock) -> TxnStatus:
    key = query.primary
    if query.verify_is_primary and lock.primary != key:
        raise OtherPrimary(key, lock)
    if lock.use_async_commit and not query.force_sync_commit:
        # the outcome may already be decided by the secondaries; they have to be asked
        return StatusAlive(lock, pushed=False)
    if is_expired(lock, query.current_ts):
        if lock.type is LockType.PESSIMISTIC and query.resolving_pessimistic_lock:
            changes.unlock(key, lock)
            return StatusLockGone(expired=True)
        rollback_lock(changes, reader, key, lock, protected=True)
        return StatusRolledBack(by_this=True, expired=True)
    if lock.use_async_commit:
        return StatusAlive(lock, pushed=False)
    if query.caller_start_ts == TS_MAX:
        # it reads what is newest now, and this is not committed yet
        return StatusAlive(lock, pushed=True)
    if lock.type is LockType.PESSIMISTIC or not lock.min_commit_ts or not query.caller_start_ts:
        return StatusAlive(lock, pushed=False)
    if query.caller_start_ts >= lock.min_commit_ts:
        lock = replace(lock, min_commit_ts=max(query.caller_start_ts + 1, query.current_ts))
        changes.put_lock(key, lock)
    return StatusAlive(lock, pushed=True)


def _unlocked(changes: Changes, reader: MvccReader, query: StatusQuery) -> TxnStatus:
    match reader.txn_record(query.primary, query.start_ts):
        case Committed(commit_ts=commit_ts, write=write):
            if write.type is WriteType.ROLLBACK:
                return StatusRolledBack(by_this=False)
            return StatusCommitted(commit_ts)
        case OverlappedRollback():
            return StatusRolledBack(by_this=False)
        case NoRecord(overlapped=overlapped):
            if query.resolving_pessimistic_lock:
                return StatusLockGone()
            if not query.rollback_if_not_exist:
                raise TxnNotFound(
                    f"transaction {query.start_ts} left nothing on its primary {query.primary.hex()}",
                    query.start_ts,
                    query.primary,
                )
            put_rollback(changes, query.primary, query.start_ts, overlapped, protected=True)
            return StatusRolledBack(by_this=True)
