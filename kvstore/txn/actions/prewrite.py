"""Phase one: check for conflicts and put a lock that holds the intended change (`actions/prewrite.rs`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kvstore.errors import Assertion, AssertionFailed, ConflictReason, PessimisticLockNotFound, WriteConflict
from kvstore.mvcc.keys import TS_MAX
from kvstore.mvcc.reader import Committed, MetLock, MvccReader, OverlappedRollback
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
    assertion: Assertion = Assertion.NONE
    expected_for_update_ts: int | None = None
    """The pessimistic lock must have been taken at this for_update_ts."""


class AssertionLevel(Enum):
    """Which assertions are checked: none, those that cost no further read, all."""

    OFF = 0
    FAST = 1
    STRICT = 2


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
    max_commit_ts: int = 0
    """An async commit or 1PC that would have to commit after it becomes an ordinary prewrite; 0 is no bound."""
    secondaries: tuple[bytes, ...] | None = None
    one_pc: bool = False
    skip_constraint_check: bool = False
    assertion_level: AssertionLevel = AssertionLevel.OFF
    is_retry: bool = False
    """The client has sent this before and knows no answer."""
    txn_source: int = 0

    @property
    def is_pessimistic(self) -> bool:
        return self.for_update_ts > 0

    @property
    def decides_commit_ts(self) -> bool:
        """Whether the prewrite itself settles at which timestamp the transaction commits."""
        return self.one_pc or self.secondaries is not None


class NotInOnePhase(Exception):
    """The request cannot be an async commit or 1PC; as an ordinary prewrite it can."""


class CommittedBefore(Exception):
    """The transaction was committed at `commit_ts`: this is a request that came again."""

    def __init__(self, commit_ts: int) -> None:
        self.commit_ts = commit_ts
        super().__init__(f"committed at {commit_ts}")


def prewrite(
    changes: Changes,
    reader: MvccReader,
    props: PrewriteProperties,
    mutation: Mutation,
    action: PessimisticAction = PessimisticAction.SKIP,
) -> Lock | None:
    """Prewrites one key and returns its lock, also one from before; None when nothing had to be locked (a check).

    Raises MetLock, WriteConflict, KeyExists, PessimisticLockNotFound, AssertionFailed; NotInOnePhase and
    CommittedBefore are for the command. With `one_pc` the lock is returned, not stored.
    """
    try:
        return _prewrite(changes, reader, props, mutation, action)
    except (WriteConflict, PessimisticLockNotFound):
        _check_committed_before(reader, props, mutation.key)
        raise


def _check_committed_before(reader: MvccReader, props: PrewriteProperties, key: bytes) -> None:
    match reader.txn_record(key, props.start_ts):
        case Committed(commit_ts=commit_ts, write=write) if write.type is not WriteType.ROLLBACK:
            raise CommittedBefore(commit_ts)


def _prewrite(
    changes: Changes, reader: MvccReader, props: PrewriteProperties, mutation: Mutation, action: PessimisticAction
) -> Lock | None:
    key = mutation.key
    lock = reader.load_lock(key)
    if lock is not None and not _passes_own_lock(props, mutation, lock, action):
        if props.one_pc or (props.secondaries is not None and not lock.use_async_commit):
            raise NotInOnePhase
        return lock
    if lock is None and props.is_pessimistic:
        _check_missing_lock(reader, props, key, action)
    newest: tuple[int, Write] | None = None
    checked = _is_checked(props, action)
    if checked:
        newest = check_for_newer(reader, props, key, lazily=props.is_pessimistic)
        if mutation.op in (Op.INSERT, Op.CHECK_NOT_EXISTS):
            check_data_constraint(reader, key, newest)
    _check_assertion(reader, props, mutation, checked=checked)
    if mutation.op is Op.CHECK_NOT_EXISTS:
        return None
    unguarded = lock is None and props.is_pessimistic and not checked
    return _write_lock(changes, props, mutation, lock, above=_newest_commit(reader, props, key) if unguarded else 0)


def _newest_commit(reader: MvccReader, props: PrewriteProperties, key: bytes) -> int:
    """The timestamp of a commit after start_ts, 0 without one. What is written over it unchecked must not lie below."""
    newest = reader.seek_write(key, TS_MAX)
    return newest[0] if newest is not None and newest[0] > props.start_ts else 0


def _is_checked(props: PrewriteProperties, action: PessimisticAction) -> bool:
    """Whether newer commits are looked for."""
    if props.is_pessimistic:
        return action is PessimisticAction.DO_CONSTRAINT_CHECK
    return not props.skip_constraint_check


def _passes_own_lock(props: PrewriteProperties, mutation: Mutation, lock: Lock, action: PessimisticAction) -> bool:
    """Whether the prewrite goes on over this lock; False when the key was prewritten before."""
    key = mutation.key
    if lock.start_ts != props.start_ts:
        if action is PessimisticAction.DO_CHECK:
            raise PessimisticLockNotFound(f"pessimistic lock of {props.start_ts} on key {key.hex()} is gone")
        raise MetLock(key, lock)
    if lock.type is not LockType.PESSIMISTIC:
        return False
    expected = mutation.expected_for_update_ts
    if expected is not None and lock.for_update_ts != expected:
        raise PessimisticLockNotFound(
            f"pessimistic lock of {props.start_ts} on key {key.hex()} was taken at {lock.for_update_ts}, not {expected}"
        )
    return True


def _check_missing_lock(reader: MvccReader, props: PrewriteProperties, key: bytes, action: PessimisticAction) -> None:
    """A lost pessimistic lock is made good when nobody wrote the key since the transaction began."""
    if action is PessimisticAction.DO_CHECK:
        newest = reader.seek_write(key, TS_MAX)
        if newest is not None and newest[0] >= props.start_ts:
            raise PessimisticLockNotFound(f"pessimistic lock of {props.start_ts} on key {key.hex()} is gone")
    elif action is PessimisticAction.SKIP and props.is_retry:
        # nothing else keeps a late copy of the request from locking a key that is committed or rolled back
        match reader.txn_record(key, props.start_ts):
            case OverlappedRollback() | Committed(write=Write(type=WriteType.ROLLBACK)):
                raise PessimisticLockNotFound(f"transaction {props.start_ts} was rolled back on key {key.hex()}")
            case Committed(commit_ts=commit_ts):
                raise CommittedBefore(commit_ts)


def check_for_newer(
    reader: MvccReader, props: PrewriteProperties, key: bytes, *, lazily: bool = False
) -> tuple[int, Write] | None:
    """Raises WriteConflict for a commit after start_ts or a rollback of this transaction; returns the newest record."""
    newest = reader.seek_write(key, TS_MAX)
    if newest is None:
        return None
    commit_ts, write = newest
    if commit_ts < props.start_ts:
        # nothing of this transaction can be here: its rollback lies at start_ts, its commit above
        return newest
    reason = ConflictReason.LAZY_UNIQUENESS_CHECK if lazily else ConflictReason.OPTIMISTIC
    if commit_ts > props.start_ts and write.type is not WriteType.ROLLBACK:
        raise WriteConflict(key, props.start_ts, write.start_ts, commit_ts, reason, props.primary)
    match reader.txn_record(key, props.start_ts):
        case OverlappedRollback() | Committed(write=Write(type=WriteType.ROLLBACK)):
            own = props.start_ts
            raise WriteConflict(key, own, own, own, ConflictReason.SELF_ROLLED_BACK, props.primary)
        case Committed():
            return newest
    older = reader.newest_data(key, commit_ts)
    if older is not None and older[0] > props.start_ts:
        raise WriteConflict(key, props.start_ts, older[1].start_ts, older[0], reason, props.primary)
    return newest


def _check_assertion(reader: MvccReader, props: PrewriteProperties, mutation: Mutation, *, checked: bool) -> None:
    if mutation.assertion is Assertion.NONE or props.assertion_level is AssertionLevel.OFF:
        return
    if props.assertion_level is AssertionLevel.FAST and not checked:
        return
    newest = reader.newest_data(mutation.key, TS_MAX)
    exists = newest is not None and newest[1].type is WriteType.PUT
    if exists == (mutation.assertion is Assertion.EXIST):
        return
    commit_ts, start_ts = (newest[0], newest[1].start_ts) if newest is not None else (0, 0)
    raise AssertionFailed(mutation.key, props.start_ts, mutation.assertion, start_ts, commit_ts)


_LOCK_TYPES = {Op.PUT: LockType.PUT, Op.INSERT: LockType.PUT, Op.DELETE: LockType.DELETE, Op.LOCK: LockType.LOCK}


def _write_lock(
    changes: Changes, props: PrewriteProperties, mutation: Mutation, old: Lock | None, *, above: int
) -> Lock:
    """Locks the key; the commit has to come after `above`."""
    value = mutation.value
    is_primary = mutation.key == props.primary
    min_commit_ts = max(props.min_commit_ts, old.min_commit_ts if old is not None else 0, above + 1 if above else 0)
    if props.decides_commit_ts:
        min_commit_ts = max(min_commit_ts, props.start_ts + 1, props.for_update_ts + 1, props.max_read_ts + 1)
        if 0 < props.max_commit_ts < min_commit_ts or min_commit_ts >= TS_MAX:
            raise NotInOnePhase
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
        txn_source=props.txn_source,
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
        changes.put_write(key, commit_ts, Write(WriteType.LOCK, lock.start_ts, txn_source=lock.txn_source))
    else:
        write = Write(WriteType(lock.type), lock.start_ts, lock.short_value, txn_source=lock.txn_source)
        changes.put_write(key, commit_ts, write)
