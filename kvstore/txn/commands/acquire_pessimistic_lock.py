"""KvPessimisticLock: lock keys of one statement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.mvcc.reader import MvccReader
from kvstore.txn.actions.acquire_pessimistic_lock import LockedKey, LockProperties, acquire_pessimistic_lock
from kvstore.txn.changes import Changes


@dataclass(frozen=True, slots=True)
class AcquirePessimisticLock:
    props: LockProperties
    lock_keys: tuple[bytes, ...]
    should_not_exist: frozenset[bytes] = frozenset()

    def keys(self) -> Sequence[bytes]:
        return self.lock_keys

    def run(self, reader: MvccReader, changes: Changes) -> list[LockedKey]:
        """Returns what was found, in the order of the keys."""
        return [
            acquire_pessimistic_lock(changes, reader, self.props, key, should_not_exist=key in self.should_not_exist)
            for key in self.lock_keys
        ]
