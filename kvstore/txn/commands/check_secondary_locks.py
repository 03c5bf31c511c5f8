"""KvCheckSecondaryLocks: ask the secondaries of an async commit whether it is complete
(`commands/check_secondary_locks.rs`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import Committed, MvccReader, NoRecord, OverlappedRollback
from kvstore.mvcc.record import Lock, LockType, WriteType
from kvstore.txn.actions.cleanup import put_rollback, remember_in_lock
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class AllLocked:
    locks: tuple[tuple[bytes, Lock], ...]


@dataclass(frozen=True, slots=True)
class SecondaryCommitted:
    commit_ts: int


@dataclass(frozen=True, slots=True)
class SecondaryRolledBack:
    """A key has no lock of the transaction, and from now on it can get none."""


SecondaryStatus = AllLocked | SecondaryCommitted | SecondaryRolledBack


@dataclass(frozen=True, slots=True)
class CheckSecondaryLocks:
    check_keys: tuple[bytes, ...]
    start_ts: int

    def keys(self) -> Sequence[bytes]:
        return self.check_keys

    def run(self, reader: MvccReader, changes: Changes) -> SecondaryStatus:
        """The first key that is not locked decides."""
        locks: list[tuple[bytes, Lock]] = []
        for key in self.check_keys:
            lock = reader.load_lock(key)
            if lock is not None and lock.start_ts == self.start_ts:
                if lock.type is not LockType.PESSIMISTIC:
                    locks.append((key, lock))
                    continue
                changes.unlock(key, lock)
                lock = None
            return self._unlocked(reader, changes, key, lock)
        return AllLocked(tuple(locks))

    def _unlocked(self, reader: MvccReader, changes: Changes, key: bytes, other: Lock | None) -> SecondaryStatus:
        match reader.txn_record(key, self.start_ts):
            case Committed(commit_ts=commit_ts, write=write):
                return SecondaryRolledBack() if write.type is WriteType.ROLLBACK else SecondaryCommitted(commit_ts)
            case OverlappedRollback():
                return SecondaryRolledBack()
            case NoRecord(overlapped=overlapped):
                if other is not None and other.type is not LockType.PESSIMISTIC:
                    remember_in_lock(changes, key, other, self.start_ts)
                put_rollback(changes, key, self.start_ts, overlapped, protected=True)
                return SecondaryRolledBack()
