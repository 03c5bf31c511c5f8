"""Taking a pessimistic lock before the write is known (`actions/acquire_pessimistic_lock.rs`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvstore.errors import ConflictReason, LockTypeMismatch, PessimisticLockNotFound, WriteConflict
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import Committed, MetLock, MvccReader, OverlappedRollback
from kvstore.mvcc.record import LastChange, Lock, LockType, Write, WriteType
from kvstore.txn.actions.check_data_constraint import check_data_constraint
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class LockProperties:
    """What all keys of one request share."""

    start_ts: int
    primary: bytes
    ttl: int
    for_update_ts: int
    min_commit_ts: int = 0
    need_value: bool = False
    need_existence: bool = False
    lock_only_if_exists: bool = False
    allow_conflict: bool = False
    """Lock a key that has a commit newer than for_update_ts all the same, and say so."""


@dataclass(frozen=True, slots=True)
class LockedKey:
    """A key that was locked: its newest value when asked for (an empty one stands for existence alone)."""

    value: bytes | None
    conflict_ts: int = 0
    """The newer commit that the lock was taken in spite of (with `allow_conflict`), 0 if there was none."""


def acquire_pessimistic_lock(
    changes: Changes, reader: MvccReader, props: LockProperties, key: bytes, *, should_not_exist: bool
) -> LockedKey:
    """Locks one key. With `lock_only_if_exists` a key without a value stays free.

    Raises MetLock, WriteConflict when a commit is newer than for_update_ts, PessimisticLockNotFound after a rollback,
    KeyExists, LockTypeMismatch on a key that the transaction has prewritten.
    """
    lock = reader.load_lock(key)
    if lock is not None:
        return _again(changes, reader, props, key, lock)
    newest = reader.seek_write(key, TS_MAX)
    conflict_ts = _check_newest(reader, props, key, newest) if newest is not None else 0
    if should_not_exist:
        check_data_constraint(reader, key, newest)
    if conflict_ts:
        props = replace(props, for_update_ts=conflict_ts, need_value=True)
    value = _value(reader, props, key)
    if props.lock_only_if_exists and _newest_put(reader, key) is None:
        return LockedKey(None, conflict_ts)
    changes.put_lock(key, _new_lock(props, newest, with_conflict=conflict_ts > 0))
    return LockedKey(value, conflict_ts)


def _again(changes: Changes, reader: MvccReader, props: LockProperties, key: bytes, lock: Lock) -> LockedKey:
    """Meets a lock: the transaction's own is renewed, another's raises."""
    if lock.start_ts != props.start_ts:
        raise MetLock(key, lock)
    if lock.type is not LockType.PESSIMISTIC:
        raise LockTypeMismatch(f"key {key.hex()} is prewritten by transaction {lock.start_ts} already")
    if props.allow_conflict and props.for_update_ts < lock.for_update_ts:
        # the answer that said so was lost
        return LockedKey(_value(reader, replace(props, need_value=True), key), lock.for_update_ts)
    if props.for_update_ts > lock.for_update_ts:
        changes.put_lock(key, replace(lock, for_update_ts=props.for_update_ts, locked_with_conflict=False))
    return LockedKey(_value(reader, props, key))


def _check_newest(reader: MvccReader, props: LockProperties, key: bytes, newest: tuple[int, Write]) -> int:
    """Returns the commit_ts of a conflict that is allowed, else 0."""
    commit_ts, write = newest
    conflict_ts = 0
    if commit_ts > props.for_update_ts:
        if not props.allow_conflict:
            raise WriteConflict(
                key, props.start_ts, write.start_ts, commit_ts, ConflictReason.PESSIMISTIC_RETRY, props.primary
            )
        conflict_ts = commit_ts
    if commit_ts >= props.start_ts:
        match reader.txn_record(key, props.start_ts):
            case OverlappedRollback() | Committed(write=Write(type=WriteType.ROLLBACK)):
                raise PessimisticLockNotFound(
                    f"transaction {props.start_ts} was rolled back on key {key.hex()}", props.start_ts, key
                )
            case Committed(commit_ts=own):
                raise WriteConflict(
                    key, props.start_ts, props.start_ts, own, ConflictReason.PESSIMISTIC_RETRY, props.primary
                )
    return conflict_ts


def _newest_put(reader: MvccReader, key: bytes) -> tuple[int, Write] | None:
    found = reader.newest_data(key, TS_MAX)
    return found if found is not None and found[1].type is WriteType.PUT else None


def _value(reader: MvccReader, props: LockProperties, key: bytes) -> bytes | None:
    if not (props.need_value or props.need_existence):
        return None
    found = _newest_put(reader, key)
    if found is None:
        return None
    return reader.load_value(key, found[1]) if props.need_value else b""


def _new_lock(props: LockProperties, newest: tuple[int, Write] | None, *, with_conflict: bool) -> Lock:
    last_change: LastChange | None = None
    if newest is not None and newest[1].type in (WriteType.PUT, WriteType.DELETE):
        last_change = LastChange(newest[0], 1)
    return Lock(
        LockType.PESSIMISTIC,
        props.primary,
        props.start_ts,
        props.ttl,
        for_update_ts=props.for_update_ts,
        min_commit_ts=props.min_commit_ts,
        last_change=last_change,
        locked_with_conflict=with_conflict,
    )
