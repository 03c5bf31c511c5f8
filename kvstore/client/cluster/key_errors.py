"""What a store says of a key, as our errors."""

from __future__ import annotations

from kvstore.client.cluster.errors import RefusedRequest, TxnAborted
from kvstore.errors import (
    Assertion,
    AssertionFailed,
    CommitTsExpired,
    ConflictReason,
    Deadlock,
    KeyExists,
    KvError,
    LockNotFound,
    PrimaryMismatch,
    TxnNotFound,
    WriteConflict,
)
from kvstore.proto.kvrpcpb_pb2 import KeyError as KeyErrorMessage
from kvstore.proto.kvrpcpb_pb2 import LockInfo


def lock_of(error: KeyErrorMessage) -> LockInfo | None:
    """The lock that is in the way, if that is what the error says."""
    return error.locked if error.HasField("locked") else None


def error_of(error: KeyErrorMessage, start_ts: int) -> KvError:
    """The error for anything but a lock."""
    for field, _ in error.ListFields():
        match field.name:
            case "conflict":
                found = error.conflict
                reason = ConflictReason(found.reason)
                return WriteConflict(
                    found.key, start_ts, found.conflict_ts, found.conflict_commit_ts, reason, found.primary
                )
            case "already_exist":
                return KeyExists(error.already_exist.key)
            case "deadlock":
                return _deadlock(error, start_ts)
            case "commit_ts_expired":
                late = error.commit_ts_expired
                return CommitTsExpired(late.key, late.start_ts, late.attempted_commit_ts, late.min_commit_ts)
            case "txn_not_found":
                return TxnNotFound(f"transaction {start_ts} left nothing at its primary", start_ts)
            case "txn_lock_not_found":
                key = error.txn_lock_not_found.key
                return LockNotFound(f"transaction {start_ts} has no lock on key {key.hex()}", start_ts, key)
            case "assertion_failed":
                failed = error.assertion_failed
                return AssertionFailed(
                    failed.key,
                    start_ts,
                    Assertion(failed.assertion),
                    failed.existing_start_ts,
                    failed.existing_commit_ts,
                )
            case "primary_mismatch":
                return PrimaryMismatch(f"the primary's lock is another's: {error.primary_mismatch.lock_info.key.hex()}")
            case "commit_ts_too_large":
                return RefusedRequest(f"commit_ts {error.commit_ts_too_large.commit_ts} is over max_commit_ts")
    message = error.retryable or error.abort
    if message:
        return TxnAborted(message)
    return RefusedRequest(f"the store refuses a key: {error}")


def _deadlock(error: KeyErrorMessage, start_ts: int) -> Deadlock:
    chain = tuple((entry.txn, entry.wait_for_txn, entry.key) for entry in error.deadlock.wait_chain)
    return Deadlock(error.deadlock.lock_key, start_ts, chain)
