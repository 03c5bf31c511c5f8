"""One table from errors to what a client is told (TiKV's `src/storage/errors.rs`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvstore import errors as kv
from kvstore.mvcc.reader import MetLock
from kvstore.mvcc.record import Lock, LockType
from kvstore.proto import deadlock_pb2, errorpb_pb2, kvrpcpb_pb2
from kvstore.proto.metapb_pb2 import Peer
from kvstore.raftstore.api import RegionError
from kvstore.server.hashing import key_hash
from kvstore.txn.actions.check_txn_status import OtherPrimary
from kvstore.txn.commands import ManyLocked


class Refused(Exception):
    """A request that cannot be right: too large, of another API version, inverted ranges. Never worth a retry."""


class LockedAtLeader(kv.KeyIsLocked):
    """The leader has a lock in flight in the way of a follower's read."""

    def __init__(self, info: kvrpcpb_pb2.LockInfo) -> None:
        super().__init__(info.key, info.lock_version, info.primary_lock)
        self.info = info


LOCK_OPS = {
    LockType.PUT: kvrpcpb_pb2.Op.Put,
    LockType.DELETE: kvrpcpb_pb2.Op.Del,
    LockType.LOCK: kvrpcpb_pb2.Op.Lock,
    LockType.PESSIMISTIC: kvrpcpb_pb2.Op.PessimisticLock,
    LockType.SHARED: kvrpcpb_pb2.Op.SharedLock,
}


def lock_info(key: bytes, lock: Lock) -> kvrpcpb_pb2.LockInfo:
    """What a client needs to resolve a lock."""
    return kvrpcpb_pb2.LockInfo(
        primary_lock=lock.primary,
        lock_version=lock.start_ts,
        key=key,
        lock_ttl=lock.ttl,
        txn_size=lock.txn_size,
        lock_type=LOCK_OPS[lock.type],
        lock_for_update_ts=lock.for_update_ts,
        use_async_commit=lock.use_async_commit,
        min_commit_ts=lock.min_commit_ts,
        secondaries=lock.secondaries or (),
    )


def wait_entry(waiter: int, holder: int, key: bytes, tag: bytes = b"") -> deadlock_pb2.WaitForEntry:
    return deadlock_pb2.WaitForEntry(
        txn=waiter, wait_for_txn=holder, key_hash=key_hash(key), key=key, resource_group_tag=tag
    )


def wait_chain(circle: kv.Deadlock) -> tuple[list[deadlock_pb2.WaitForEntry], bytes]:
    """The chain as it is on the wire, where the requester's own wait, which closes it, comes last; and the key of the
    wait before that."""
    own, *path = circle.wait_chain
    tags = (*circle.tags[1:], circle.tags[0])
    entries = [wait_entry(*wait, tag) for wait, tag in zip((*path, own), tags, strict=True)]
    return entries, path[-1][2] if path else own[2]


def key_error(error: Exception) -> kvrpcpb_pb2.KeyError:
    """The KeyError of an outcome; what has no member of its own is `abort`."""
    for kind, build in _TABLE:
        if isinstance(error, kind):
            return build(error)
    return kvrpcpb_pb2.KeyError(abort=f"{type(error).__name__}: {error}")


def key_errors(error: Exception) -> list[kvrpcpb_pb2.KeyError]:
    """All KeyErrors of a request with several keys."""
    if isinstance(error, ManyLocked):
        return [key_error(met) for met in error.met]
    return [key_error(error)]


def _locked(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(locked=lock_info(error.key, error.lock))


def _conflict(error: Any) -> kvrpcpb_pb2.KeyError:
    conflict = kvrpcpb_pb2.WriteConflict(
        start_ts=error.start_ts,
        conflict_ts=error.conflict_start_ts,
        key=error.key,
        primary=error.primary,
        conflict_commit_ts=error.conflict_commit_ts,
        reason=int(error.reason),  # type: ignore[arg-type]
    )
    # clients from before `conflict` read `retryable`
    return kvrpcpb_pb2.KeyError(conflict=conflict, retryable=str(error))


def _deadlock(error: Any) -> kvrpcpb_pb2.KeyError:
    chain, deadlock_key = wait_chain(error)
    return kvrpcpb_pb2.KeyError(
        deadlock=kvrpcpb_pb2.Deadlock(
            lock_ts=chain[-1].wait_for_txn,
            lock_key=error.key,
            deadlock_key_hash=key_hash(deadlock_key),
            wait_chain=chain,
            deadlock_key=deadlock_key,
        )
    )


def _expired(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(
        commit_ts_expired=kvrpcpb_pb2.CommitTsExpired(
            start_ts=error.start_ts,
            attempted_commit_ts=error.commit_ts,
            key=error.key,
            min_commit_ts=error.min_commit_ts,
        )
    )


def _assertion(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(
        assertion_failed=kvrpcpb_pb2.AssertionFailed(
            start_ts=error.start_ts,
            key=error.key,
            assertion=error.assertion.value,
            existing_start_ts=error.existing_start_ts,
            existing_commit_ts=error.existing_commit_ts,
        )
    )


def _lock_not_found(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(retryable=str(error), txn_lock_not_found=kvrpcpb_pb2.TxnLockNotFound(key=error.key))


def _txn_not_found(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(txn_not_found=kvrpcpb_pb2.TxnNotFound(start_ts=error.start_ts, primary_key=error.key))


def _primary(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(
        primary_mismatch=kvrpcpb_pb2.PrimaryMismatch(lock_info=lock_info(error.key, error.lock))
    )


def _exists(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(already_exist=kvrpcpb_pb2.AlreadyExist(key=error.key))


def _abort(error: Any) -> kvrpcpb_pb2.KeyError:
    return kvrpcpb_pb2.KeyError(abort=f"{type(error).__name__}: {error}")


_TABLE: tuple[tuple[type[Exception], Callable[[Any], kvrpcpb_pb2.KeyError]], ...] = (
    (MetLock, _locked),
    (LockedAtLeader, lambda error: kvrpcpb_pb2.KeyError(locked=error.info)),
    (kv.WriteConflict, _conflict),
    (kv.KeyExists, _exists),
    (kv.Deadlock, _deadlock),
    (kv.CommitTsExpired, _expired),
    (kv.AssertionFailed, _assertion),
    (kv.LockNotFound, _lock_not_found),
    (kv.PessimisticLockNotFound, _abort),
    (kv.TxnNotFound, _txn_not_found),
    (OtherPrimary, _primary),
)
"""Subclasses before their classes."""


def store_error(error: kv.StoreError, store_id: int) -> RegionError:
    """What the engine's failure is to a client: the store's trouble, which another may not have."""
    if isinstance(error, kv.DiskFull):
        full = errorpb_pb2.DiskFull(store_id=[store_id], reason=str(error))
        return RegionError(errorpb_pb2.Error(message=str(error), disk_full=full))
    if isinstance(error, kv.StoreClosed):
        return RegionError(errorpb_pb2.Error(message="the store is closing"))
    return RegionError(errorpb_pb2.Error(message=f"the store failed: {error}"))


def busy(reason: str, backoff_ms: int = 0) -> RegionError:
    """The store cannot take the request now."""
    return RegionError(
        errorpb_pb2.Error(message=reason, server_is_busy=errorpb_pb2.ServerIsBusy(reason=reason, backoff_ms=backoff_ms))
    )


def deadline_exceeded() -> RegionError:
    """The request was not begun in the time it allowed itself."""
    return busy("deadline is exceeded")


def max_ts_not_synced(region_id: int) -> RegionError:
    """A leader that does not know yet up to where its predecessor served reads."""
    return RegionError(
        errorpb_pb2.Error(
            message=f"max timestamp of region {region_id} is not synced",
            max_timestamp_not_synced=errorpb_pb2.MaxTimestampNotSynced(),
        )
    )


def data_is_not_ready(region_id: int, peer_id: int) -> RegionError:
    """A stale read of what this replica cannot vouch for."""
    return RegionError(
        errorpb_pb2.Error(
            message=f"data of region {region_id} is not ready for a stale read",
            data_is_not_ready=errorpb_pb2.DataIsNotReady(region_id=region_id, peer_id=peer_id, safe_ts=0),
        )
    )


def not_leader(region_id: int, leader: Peer | None) -> RegionError:
    return RegionError(
        errorpb_pb2.Error(
            message=f"peer of region {region_id} is not its leader",
            not_leader=errorpb_pb2.NotLeader(region_id=region_id, leader=leader),
        )
    )


def key_not_in_region(key: bytes, region_id: int, start: bytes, end: bytes) -> RegionError:
    return RegionError(
        errorpb_pb2.Error(
            message=f"key {key.hex()} is not in region {region_id}",
            key_not_in_region=errorpb_pb2.KeyNotInRegion(key=key, region_id=region_id, start_key=start, end_key=end),
        )
    )
