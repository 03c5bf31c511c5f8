"""Taking a pessimistic lock before the write is known (`actions/acquire_pessimistic_lock.rs`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvstore.errors import KeyIsLocked, TxnNotFound, WriteConflict
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import Committed, MvccReader, OverlappedRollback
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


def acquire_pessimistic_lock(
    changes: Changes, reader: MvccReader, props: LockProperties, key: bytes, *, should_not_exist: bool
) -> bytes | None:
    """Locks one key and returns its newest value when asked for (an empty one stands for existence alone).

    Raises KeyIsLocked, WriteConflict when a commit is newer than for_update_ts, TxnNotFound after a rollback,
    KeyExists.
    """
    lock = reader.load_lock(key)
    if lock is not None:
        if lock.start_ts != props.start_ts:
            raise KeyIsLocked(key, lock.start_ts, lock.primary)
        if lock.type is not LockType.PESSIMISTIC:
            raise KeyIsLocked(key, lock.start_ts, lock.primary)
        if props.for_update_ts > lock.for_update_ts:
            changes.put_lock(key, replace(lock, for_update_ts=props.for_update_ts))
        return _value(reader, props, key)
    newest = reader.seek_write(key, TS_MAX)
    if newest is not None:
        _check_newest(reader, props, key, newest)
    if should_not_exist:
        check_data_constraint(reader, key, newest)
    value = _value(reader, props, key)
    if props.lock_only_if_exists and _newest_put(reader, key) is None:
        return None
    changes.put_lock(key, _new_lock(reader, props, key, newest))
    return value


def _check_newest(reader: MvccReader, props: LockProperties, key: bytes, newest: tuple[int, Write]) -> None:
    commit_ts, write = newest
    if commit_ts > props.for_update_ts:
        raise WriteConflict(key, props.start_ts, write.start_ts, commit_ts)
    if commit_ts >= props.start_ts:
        match reader.txn_record(key, props.start_ts):
            case OverlappedRollback() | Committed(write=Write(type=WriteType.ROLLBACK)):
                raise TxnNotFound(f"transaction {props.start_ts} was rolled back on key {key.hex()}")
            case Committed(commit_ts=own):
                raise WriteConflict(key, props.start_ts, props.start_ts, own)


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


def _new_lock(reader: MvccReader, props: LockProperties, key: bytes, newest: tuple[int, Write] | None) -> Lock:
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
    )
