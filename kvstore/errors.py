"""Errors of the key-value store.

KvError
├── StoreError              the directory or the engine: not the caller's statement
│   ├── DirectoryInUse      another process owns the directory (`owner_pid`)
│   ├── NotOurDirectory     the directory holds something else
│   ├── FormatTooNew        written by a newer version
│   ├── Corruption          a file is damaged
│   ├── DiskFull            no room left; nothing of the batch was applied
│   └── StoreClosed
├── TxnError                deterministic outcomes of one transaction: nothing of it was applied
│   ├── WriteConflict       a newer commit on a key (optimistic, or newer than for_update_ts); retry the transaction
│   ├── KeyExists           an insert found a live row
│   ├── LockWaitTimeout     waited as long as it was allowed
│   ├── LockNowait          NOWAIT found a lock
│   ├── Deadlock            this transaction is the victim; roll back and retry
│   ├── KeyIsLocked         met a lock of another transaction that has to be resolved first
│   ├── TxnNotFound         commit of a transaction that was rolled back or never prewritten
│   │   ├── LockNotFound    commit of a key that has no lock of the transaction
│   │   └── PessimisticLockNotFound   prewrite of a key whose pessimistic lock is gone
│   ├── AssertionFailed     what the client asserted of a key is not so: its view of the data is wrong
│   ├── LockTypeMismatch    the transaction's own lock on the key is of another kind than the request needs
│   ├── AlreadyCommitted    rollback of a transaction that was committed (`commit_ts`)
│   ├── CommitTsExpired     commit_ts is below the lock's min_commit_ts; draw a new one
│   ├── PrimaryMismatch     the lock names another primary
│   ├── TxnTooLarge         over the named limit
│   ├── SnapshotTooOld      the read timestamp is below the GC safe point
│   ├── CommitRejected      a commit check (schema version) refused
│   └── ReadOnlyTxn
├── PdError                 the placement driver refused (`type`: pdpb.ErrorType); asking again is no help
├── NoColumnarRules         the placement driver takes no rules for columnar replicas: it is not ours
├── LoadDiffers             a bulk load does not go on with the rows that the directory of its progress is of
├── PushFailed              a pushed-down request met a value that cannot be computed, or is not one the store knows
└── Cancelled               interrupted by the user while it waited

kvstore/client/cluster/errors.py adds those of a cluster's client.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class KvError(Exception):
    """Root of the key-value store's errors."""


class StoreError(KvError):
    """The directory or the engine failed; retrying the statement does not help."""


class DirectoryInUse(StoreError):
    """Another process holds the directory."""

    def __init__(self, path: str, owner_pid: int | None) -> None:
        self.path = path
        self.owner_pid = owner_pid
        who = f"process {owner_pid}" if owner_pid else "another process"
        super().__init__(f"database {path!r} is in use by {who}; one process owns a directory at a time")


class NotOurDirectory(StoreError):
    """The path holds something that is not a sqlfront database; nothing was changed."""


class FormatTooNew(StoreError):
    """The directory was written by a newer version."""


class Corruption(StoreError):
    """A file of the store is damaged."""


class DiskFull(StoreError):
    """No room left on the device."""


class StoreClosed(StoreError):
    """The store was closed."""


class TxnError(KvError):
    """A deterministic outcome of one transaction; nothing of it was applied."""


class ConflictReason(IntEnum):
    """Which check found a conflict; the numbers are those of kvproto."""

    UNKNOWN = 0
    OPTIMISTIC = 1
    PESSIMISTIC_RETRY = 2
    SELF_ROLLED_BACK = 3
    RC_CHECK_TS = 4
    LAZY_UNIQUENESS_CHECK = 5
    NOT_LOCKED_KEY_CONFLICT = 6


class WriteConflict(TxnError):
    """A commit newer than the transaction's timestamp is on `key`."""

    def __init__(
        self,
        key: bytes,
        start_ts: int,
        conflict_start_ts: int,
        conflict_commit_ts: int,
        reason: ConflictReason = ConflictReason.UNKNOWN,
        primary: bytes = b"",
    ) -> None:
        self.key = key
        self.start_ts = start_ts
        self.conflict_start_ts = conflict_start_ts
        self.conflict_commit_ts = conflict_commit_ts
        self.reason = reason
        self.primary = primary
        super().__init__(
            f"write conflict: start_ts={start_ts} key={key.hex()} conflict_start_ts={conflict_start_ts} "
            f"conflict_commit_ts={conflict_commit_ts}"
        )


class KeyExists(TxnError):
    """An insert found a live value under `key`; `value` is what was to be put there, as far as it is known."""

    def __init__(self, key: bytes, value: bytes = b"") -> None:
        self.key = key
        self.value = value
        super().__init__(f"key exists: {key.hex()}")


class LockWaitTimeout(TxnError):
    """Waited for a lock as long as allowed."""

    def __init__(self, key: bytes, waited_ms: int) -> None:
        self.key = key
        self.waited_ms = waited_ms
        super().__init__(f"lock wait timeout after {waited_ms} ms on key {key.hex()}")


class LockNowait(TxnError):
    """NOWAIT was asked for and the key is locked."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        super().__init__(f"key {key.hex()} is locked and NOWAIT is set")


class Deadlock(TxnError):
    """This transaction was chosen as the victim; `wait_chain` holds (waiting start_ts, holder start_ts, key).

    `tags` are what the waiting clients say of themselves, as many as the chain has parts; a client is
    told none.
    """

    def __init__(
        self,
        key: bytes,
        start_ts: int,
        wait_chain: tuple[tuple[int, int, bytes], ...],
        tags: tuple[bytes, ...] = (),
    ) -> None:
        self.key = key
        self.start_ts = start_ts
        self.wait_chain = wait_chain
        self.tags = tags
        super().__init__(f"deadlock: transaction {start_ts} is the victim, waiting for key {key.hex()}")


class KeyIsLocked(TxnError):
    """Met a lock of another transaction; `lock_start_ts` and `primary` tell whom to ask."""

    def __init__(self, key: bytes, lock_start_ts: int, primary: bytes) -> None:
        self.key = key
        self.lock_start_ts = lock_start_ts
        self.primary = primary
        super().__init__(f"key {key.hex()} is locked by transaction {lock_start_ts}")


class TxnNotFound(TxnError):
    """The transaction has no lock (or pessimistic lock) where it must have one."""

    def __init__(self, message: str, start_ts: int = 0, key: bytes = b"") -> None:
        self.start_ts = start_ts
        self.key = key
        super().__init__(message)


class LockNotFound(TxnNotFound):
    """A key that is to be committed has no lock of the transaction, and no commit of it either."""


class PessimisticLockNotFound(TxnNotFound):
    """The pessimistic lock that a prewrite builds on is gone."""


class Assertion(Enum):
    """What a client says of a key's present value."""

    NONE = 0
    EXIST = 1
    NOT_EXIST = 2


class AssertionFailed(TxnError):
    """The key has a value where it was asserted not to, or the other way; zeros when there is none."""

    def __init__(
        self, key: bytes, start_ts: int, assertion: Assertion, existing_start_ts: int, existing_commit_ts: int
    ) -> None:
        self.key = key
        self.start_ts = start_ts
        self.assertion = assertion
        self.existing_start_ts = existing_start_ts
        self.existing_commit_ts = existing_commit_ts
        super().__init__(f"assertion {assertion.name} of transaction {start_ts} failed on key {key.hex()}")


class LockTypeMismatch(TxnError):
    """The transaction's own lock on the key is of another kind than the request needs."""


class AlreadyCommitted(TxnError):
    """A rollback came to a transaction that was committed."""

    def __init__(self, key: bytes, start_ts: int, commit_ts: int) -> None:
        self.key = key
        self.start_ts = start_ts
        self.commit_ts = commit_ts
        super().__init__(f"transaction {start_ts} was committed at {commit_ts} on key {key.hex()}")


class CommitTsExpired(TxnError):
    """The lock was read past `commit_ts`; the commit needs one of at least `min_commit_ts`."""

    def __init__(self, key: bytes, start_ts: int, commit_ts: int, min_commit_ts: int) -> None:
        self.key = key
        self.start_ts = start_ts
        self.commit_ts = commit_ts
        self.min_commit_ts = min_commit_ts
        super().__init__(f"commit_ts {commit_ts} of transaction {start_ts} is below {min_commit_ts}")


class PrimaryMismatch(TxnError):
    """The lock found where the primary should be names another primary."""


class TxnTooLarge(TxnError):
    """The transaction is over the named limit."""


class SnapshotTooOld(TxnError):
    """The read timestamp is below the GC safe point."""

    def __init__(self, ts: int, safe_point: int) -> None:
        self.ts = ts
        self.safe_point = safe_point
        super().__init__(f"snapshot {ts} is older than the GC safe point {safe_point}")


class CommitRejected(TxnError):
    """A check run inside the commit refused it (for example: the schema changed)."""


class ReadOnlyTxn(TxnError):
    """A write was asked of a read-only transaction."""


class PdError(KvError):
    """The placement driver refused; `type` is a `pdpb.ErrorType`, nothing was changed."""

    def __init__(self, type: int, message: str) -> None:
        self.type = type
        self.message = message
        super().__init__(f"placement driver refused ({type}): {message}")


class NoColumnarRules(KvError):
    """The placement driver takes no rules by RPC."""


class PushFailed(KvError):
    """The evaluation of a pushed-down request failed: `code` is MySQL's, 0 when the store refused the request."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        super().__init__(message)


class LoadDiffers(KvError, ValueError):
    """A bulk load does not go on with the range, timestamp and rows that the directory of its progress is of."""


class Cancelled(KvError):
    """Interrupted while waiting."""
