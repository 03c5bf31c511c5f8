"""Phase one: check for conflicts and put a lock that holds the intended change (`actions/prewrite.rs`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kvstore.errors import KeyIsLocked, PessimisticLockNotFound, WriteConflict
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import Committed, MvccReader, OverlappedRollback
from kvstore.mvcc.record import SHORT_VALUE_MAX, Lock, LockType, Write, WriteType
from kvstore.txn.actions.check_data_constraint import check_data_constraint
from kvstore.txn.changes import Changes


class Op(Enum):
    """What a mutation does to its key."""

    PUT = "put"
    DELETE = "delete"
    LOCK = "lock"
    INSERT = "insert"
    CHECK_NOT_EXISTS = "check_not_exists"


@dataclass(frozen=True, slots=True)
class Mutation:
    op: Op
    key: bytes
    value: bytes | None = None


class PessimisticAction(Enum):
    """How a key of a pessimistic transaction is checked."""

    SKIP = 0
    """Not locked before, needs no check: another key's lock protects it."""
    DO_CHECK = 1
    """Must hold the pessimistic lock."""
    DO_CONSTRAINT_CHECK = 2
    """Not locked before, checked as an optimistic key."""


@dataclass(frozen=True, slots=True)
class PrewriteProperties:
    """What all keys of one prewrite share."""

    start_ts: int
    primary: bytes
    ttl: int
    txn_size: int = 0
    for_update_ts: int = 0
    min_commit_ts: int = 0
    max_read_ts: int = 0
    """The newest timestamp anybody has read at: an async commit or 1PC commits after it."""
    secondaries: tuple[bytes, ...] | None = None
    one_pc: bool = False

    @property
    def is_pessimistic(self) -> bool:
        return self.for_update_ts > 0


def prewrite(
    changes: Changes,
    reader: MvccReader,
    props: PrewriteProperties,
    mutation: Mutation,
    action: PessimisticAction = PessimisticAction.SKIP,
) -> Lock | None:
    """Prewrites one key and returns its new lock; None when nothing had to be locked (a check, or it was done before).

    Raises KeyIsLocked, WriteConflict, KeyExists, PessimisticLockNotFound. With `one_pc` the lock is returned, not
    stored.
    """
    key = mutation.key
    lock = reader.load_lock(key)
    if lock is not None and not _passes_own_lock(props, key, lock, action):
        return None
    if lock is None and props.is_pessimistic and action is PessimisticAction.DO_CHECK:
        _amend_missing_lock(reader, props, key)
    skip_conflicts = props.is_pessimistic and action is not PessimisticAction.DO_CONSTRAINT_CHECK
    if not skip_conflicts:
        newest = check_for_newer(reader, props, key)
        if mutation.op in (Op.INSERT, Op.CHECK_NOT_EXISTS):
            check_data_constraint(reader, key, newest)
    if mutation.op is Op.CHECK_NOT_EXISTS:
        return None
    return _write_lock(changes, props, mutation, lock)


def _passes_own_lock(props: PrewriteProperties, key: bytes, lock: Lock, action: PessimisticAction) -> bool:
    """Whether the prewrite goes on over this lock; False when the key was prewritten before."""
    if lock.start_ts != props.start_ts:
        if action is PessimisticAction.DO_CHECK:
            raise PessimisticLockNotFound(f"pessimistic lock of {props.start_ts} on key {key.hex()} is gone")
        raise KeyIsLocked(key, lock.start_ts, lock.primary)
    return lock.type is LockType.PESSIMISTIC


def _amend_missing_lock(reader: MvccReader, props: PrewriteProperties, key: bytes) -> None:
    """A lost pessimistic lock is made good when nobody wrote the key since the transaction began."""
    newest = reader.seek_write(key, TS_MAX)
    if newest is not None and newest[0] >= props.start_ts:
        raise PessimisticLockNotFound(f"pessimistic lock of {props.start_ts} on key {key.hex()} is gone")


def check_for_newer(reader: MvccReader, props: PrewriteProperties, key: bytes) -> tuple[int, Write] | None:
    """Raises WriteConflict for a commit after start_ts or a rollback of this transaction; returns the newest record."""
    newest = reader.seek_write(key, TS_MAX)
    if newest is None:
        return None
    commit_ts, write = newest
    if commit_ts > props.start_ts and write.type is not WriteType.ROLLBACK:
        raise WriteConflict(key, props.start_ts, write.start_ts, commit_ts)
    match reader.txn_record(key, props.start_ts):
        case OverlappedRollback() | Committed(write=Write(type=WriteType.ROLLBACK)):
            raise WriteConflict(key, props.start_ts, props.start_ts, props.start_ts)
        case Committed():
            return newest
    older = reader.newest_data(key, commit_ts)
    if older is not None and older[0] > props.start_ts:
        raise WriteConflict(key, props.start_ts, older[1].start_ts, older[0])
    return newest


_LOCK_TYPES = {Op.PUT: LockType.PUT, Op.INSERT: LockType.PUT, Op.DELETE: LockType.DELETE, Op.LOCK: LockType.LOCK}


def _write_lock(changes: Changes, props: PrewriteProperties, mutation: Mutation, old: Lock | None) -> Lock:
    value = mutation.value
    is_primary = mutation.key == props.primary
    min_commit_ts = max(props.min_commit_ts, old.min_commit_ts if old is not None else 0)
    if props.secondaries is not None or props.one_pc:
        min_commit_ts = max(min_commit_ts, props.start_ts + 1, props.for_update_ts + 1, props.max_read_ts + 1)
    lock = Lock(
        _LOCK_TYPES[mutation.op],
        props.primary,
        props.start_ts,
        max(props.ttl, old.ttl if old is not None else 0),
        short_value=value if value is not None and len(value) <= SHORT_VALUE_MAX else None,
        for_update_ts=props.for_update_ts,
        txn_size=props.txn_size,
        min_commit_ts=min_commit_ts,
        secondaries=(props.secondaries if is_primary else ()) if props.secondaries is not None else None,
    )
    if value is not None and len(value) > SHORT_VALUE_MAX:
        changes.put_value(mutation.key, props.start_ts, value)
    if not props.one_pc:
        changes.put_lock(mutation.key, lock)
    elif old is not None:
        changes.unlock(mutation.key, old)
    return lock


def commit_one_pc(changes: Changes, key: bytes, lock: Lock, commit_ts: int) -> None:
    """Writes the commit record for a lock that a one-phase prewrite returned."""
    if lock.type is LockType.LOCK:
        changes.put_write(key, commit_ts, Write(WriteType.LOCK, lock.start_ts))
    else:
        changes.put_write(key, commit_ts, Write(WriteType(lock.type), lock.start_ts, lock.short_value))
