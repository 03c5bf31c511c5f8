"""The write buffer that actions fill: record changes of one command, applied atomically."""

from __future__ import annotations

from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_WRITE, Batch, Engine
from kvstore.mvcc.keys import data_key, versioned
from kvstore.mvcc.record import Lock, Write


class Changes:
    """Changes to lock, write and default records by user key, in the order they were made."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, bytes, bytes | None]] = []
        self.locked: dict[bytes, Lock] = {}
        """The locks that are put."""
        self.released: list[tuple[bytes, int]] = []
        """Keys whose lock goes with these changes, and whose it was: their waiters can be woken."""

    def clear(self) -> None:
        """Forgets all changes."""
        self.entries.clear()
        self.locked.clear()
        self.released.clear()

    def put_lock(self, key: bytes, lock: Lock) -> None:
        self.entries.append((CF_LOCK, data_key(key), lock.encode()))
        self.locked[key] = lock

    def unlock(self, key: bytes, lock: Lock) -> None:
        self.entries.append((CF_LOCK, data_key(key), None))
        self.released.append((key, lock.start_ts))

    def put_write(self, key: bytes, commit_ts: int, write: Write) -> None:
        self.entries.append((CF_WRITE, versioned(data_key(key), commit_ts), write.encode()))

    def delete_write(self, key: bytes, commit_ts: int) -> None:
        self.entries.append((CF_WRITE, versioned(data_key(key), commit_ts), None))

    def put_value(self, key: bytes, start_ts: int, value: bytes) -> None:
        self.entries.append((CF_DEFAULT, versioned(data_key(key), start_ts), value))

    def delete_value(self, key: bytes, start_ts: int) -> None:
        self.entries.append((CF_DEFAULT, versioned(data_key(key), start_ts), None))

    def batch(self, engine: Engine) -> Batch:
        """The changes as a batch of the engine."""
        batch = engine.batch()
        for cf, key, value in self.entries:
            if value is None:
                batch.delete(key, engine.handle(cf))
            else:
                batch.put(key, value, engine.handle(cf))
        return batch
