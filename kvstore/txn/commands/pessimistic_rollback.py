"""KVPessimisticRollback: give pessimistic locks up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import MvccReader
from kvstore.txn.actions.pessimistic_rollback import pessimistic_rollback
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class PessimisticRollback:
    rollback_keys: tuple[bytes, ...]
    start_ts: int
    for_update_ts: int

    def keys(self) -> Sequence[bytes]:
        return self.rollback_keys

    def run(self, reader: MvccReader, changes: Changes) -> int:
        return sum(
            pessimistic_rollback(changes, reader, key, self.start_ts, self.for_update_ts) for key in self.rollback_keys
        )
