"""KvCommit: phase two for keys of one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import MvccReader
from kvstore.txn.actions.commit import commit
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class Commit:
    commit_keys: tuple[bytes, ...]
    start_ts: int
    commit_ts: int

    def keys(self) -> Sequence[bytes]:
        return self.commit_keys

    def run(self, reader: MvccReader, changes: Changes) -> int:
        """Returns how many keys were committed now (the others were before)."""
        if self.commit_ts <= self.start_ts:
            raise ValueError(f"commit_ts {self.commit_ts} is not after start_ts {self.start_ts}")
        return sum(commit(changes, reader, key, self.start_ts, self.commit_ts) for key in self.commit_keys)
