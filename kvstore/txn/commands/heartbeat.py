"""KvTxnHeartBeat: a running transaction prolongs its primary lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvstore.errors import TxnNotFound
from kvstore.mvcc.reader import MvccReader
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class HeartBeat:
    primary: bytes
    start_ts: int
    ttl: int
    min_commit_ts: int = 0

    def keys(self) -> Sequence[bytes]:
        return (self.primary,)

    def run(self, reader: MvccReader, changes: Changes) -> int:
        """Returns the lock's time to live, which never shrinks."""
        lock = reader.load_lock(self.primary)
        if lock is None or lock.start_ts != self.start_ts:
            raise TxnNotFound(
                f"transaction {self.start_ts} has no lock on its primary {self.primary.hex()}",
                self.start_ts,
                self.primary,
            )
        ttl, min_commit_ts = max(self.ttl, lock.ttl), max(self.min_commit_ts, lock.min_commit_ts)
        if (ttl, min_commit_ts) != (lock.ttl, lock.min_commit_ts):
            changes.put_lock(self.primary, replace(lock, ttl=ttl, min_commit_ts=min_commit_ts))
        return ttl
