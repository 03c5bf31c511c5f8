"""KvGC of given keys below a safe point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import MvccReader
from kvstore.txn.actions.gc import gc
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class Gc:
    gc_keys: tuple[bytes, ...]
    safe_point: int

    def keys(self) -> Sequence[bytes]:
        return self.gc_keys

    def run(self, reader: MvccReader, changes: Changes) -> int:
        """Returns how many records were removed."""
        return sum(gc(changes, reader, key, self.safe_point) for key in self.gc_keys)
