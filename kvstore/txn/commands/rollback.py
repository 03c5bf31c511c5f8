"""KvBatchRollback and KvCleanup: undo keys of one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import MvccReader
from kvstore.txn.actions.cleanup import cleanup
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class Rollback:
    """Rolls the keys back at once, whatever time their locks have left."""

    rollback_keys: tuple[bytes, ...]
    start_ts: int

    def keys(self) -> Sequence[bytes]:
        return self.rollback_keys

    def run(self, reader: MvccReader, changes: Changes) -> int:
        return sum(cleanup(changes, reader, key, self.start_ts, 0, protected=False) for key in self.rollback_keys)


@dataclass(frozen=True, slots=True)
class Cleanup:
    """Rolls the primary back if its time is over at `current_ts` (0: in any case), for good."""

    key: bytes
    start_ts: int
    current_ts: int

    def keys(self) -> Sequence[bytes]:
        return (self.key,)

    def run(self, reader: MvccReader, changes: Changes) -> bool:
        return cleanup(changes, reader, self.key, self.start_ts, self.current_ts, protected=True)
