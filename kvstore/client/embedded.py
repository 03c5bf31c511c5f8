"""The embedded store: the storage seam over one engine in this process. Its one door is `EmbeddedStore.open`.

It writes the same records a cluster would, with three short cuts: pessimistic locks live in memory (`locks`), a commit writes
its Write records at once, with no lock records on disk (TiKV's 1PC), and waiting commits share a sync (`group_commit`).
The life of a commit and the visibility rule are told in docs/transactions.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kvstore.client.api import CommitObserver, Oracle, PackedBatch, WindowStore
from kvstore.client.group_commit import GroupCommit
from kvstore.client.locks import LockTable
from kvstore.client.snapshot import Snapshot
from kvstore.client.transaction import EmbeddedTransaction, WriteBuffer
from kvstore.codec import encode_uvarint
from kvstore.engine.api import CF_DEFAULT, CF_META, CF_WRITE, Cursor, Engine
from kvstore.engine.memory import MemoryEngine
from kvstore.errors import Corruption, KeyExists, LockNowait, SnapshotTooOld, StoreClosed, StoreError, WriteConflict
from kvstore.mvcc.keys import AFTER_OLDEST, NEWEST, TS_MAX, data_key, ts_suffix, versioned
from kvstore.mvcc.point import NeedsDefault, newest_change, newest_record, read_version
from kvstore.mvcc.record import SHORT_VALUE_MAX
from kvstore.mvcc.scan import scan

TXN_BYTES_MAX = 256 << 20
"""Largest sum of key and value bytes in one transaction's buffer."""
READ_RETRIES_MAX = 16
"""How often a point read starts over because GC took the value of a version that was replaced meanwhile."""
WINDOW_KEY = b"oracle_window_ms"


class _Slot(threading.local):
    """A thread's reusable cursor."""

    cursor: Cursor | None = None


class _MetaWindow(WindowStore):
    """Keeps the oracle's bound in the meta family."""

    def __init__(self, engine: Engine, *, synchronous: bool) -> None:
        self._engine = engine
        self._synchronous = synchronous

    def load(self) -> int:
        saved = self._engine.get(CF_META, WINDOW_KEY)
        return int(saved) if saved is not None else 0

    def save(self, bound_ms: int) -> None:
        batch = self._engine.batch()
        batch.put(WINDOW_KEY, str(bound_ms).encode(), self._engine.handle(CF_META))
        self._engine.write(batch)
        if self._synchronous:
            self._engine.sync()


class EmbeddedStore:
    """Implements `api.Storage` over one engine."""

    def __init__(
        self, engine: Engine, oracle: Oracle, *, synchronous: bool = True, txn_bytes_max: int = TXN_BYTES_MAX
    ) -> None:
        self.engine = engine
        self.oracle = oracle
        self.synchronous = synchronous
        self.txn_bytes_max = txn_bytes_max
        self.lock_table = LockTable()
        self.committing: dict[EmbeddedTransaction, None] = {}
        self.safe_point = 0
        self.special_reads = False
        """Whether a point read may meet more than plain records: an ingest window or a lock record on disk."""
        self._slot = _Slot()
        self._commit_mutex = threading.Lock()
        self._last_commit_ts = 0
        self._group: GroupCommit[EmbeddedTransaction] = GroupCommit(engine.sync, self._finish, self._abandon)
        self._observers: tuple[CommitObserver, ...] = ()
        self._active: dict[int, int] = {}
        self._failed: BaseException | None = None
        self._closed = False
        self._commits = 0
        self._conflicts = 0

    @classmethod
    def open(
        cls,
        path: str | None,
        oracle_factory: Callable[[WindowStore], Oracle],
        *,
        synchronous: bool = True,
        txn_bytes_max: int = TXN_BYTES_MAX,
    ) -> EmbeddedStore:
        """Opens the directory at `path`, made when missing; None is a store in memory.

        Raises DirectoryInUse, NotOurDirectory, FormatTooNew, Corruption, DiskFull.
        """
        engine: Engine
        if path is None:
            engine = MemoryEngine()
            synchronous = False
        else:
            from kvstore.engine.rocks import RocksEngine

            engine = RocksEngine(path)
        try:
            oracle = oracle_factory(_MetaWindow(engine, synchronous=synchronous))
            return cls(engine, oracle, synchronous=synchronous, txn_bytes_max=txn_bytes_max)
        except BaseException:
            engine.close()
            raise

    # -- reading

    def now_ts(self) -> int:
        return self.oracle.get_ts()

    def begin(self, *, pessimistic: bool = True, start_ts: int | None = None) -> EmbeddedTransaction:
        if self._closed:
            raise StoreClosed("the store is closed")
        read_only = start_ts is not None
        if start_ts is None:
            start_ts = self.oracle.get_ts()
        elif start_ts < self.safe_point:
            raise SnapshotTooOld(start_ts, self.safe_point)
        txn = EmbeddedTransaction(self, start_ts, pessimistic=pessimistic, read_only=read_only)
        self._active[id(txn)] = start_ts
        return txn

    def snapshot(self, ts: int | None = None) -> Snapshot:
        return Snapshot(self, self.oracle.get_ts() if ts is None else ts)

    def cursor(self) -> Cursor:
        """The calling thread's reusable cursor over the write family."""
        cursor = self._slot.cursor
        if cursor is None:
            cursor = self._slot.cursor = self.engine.cursor(CF_WRITE)
        return cursor

    def get_latest(self, key: bytes) -> bytes | None:
        encoded = data_key(key)
        for _ in range(READ_RETRIES_MAX):
            cursor = self._slot.cursor or self.cursor()
            raw = cursor.raw
            if raw is None or cursor.seq != self.engine.write_seq:
                raw = cursor.refresh()
            try:
                value = read_version(raw, encoded, encoded + NEWEST, TS_MAX)
            except NeedsDefault as need:
                value = self.engine.get(CF_DEFAULT, versioned(encoded, need.start_ts))
                if value is None:
                    continue
            # what was seen may be a commit that is not durable yet: it is still registered then
            if self.committing:
                unsettled = [commit for commit in list(self.committing) if commit.touches(key, None)]
                if unsettled:
                    unsettled[0].wait_finished()
                    if self._failed is not None:
                        raise self._failure()
                    continue
            return value
        return self.snapshot().get(key)

    def load_default(self, encoded: bytes, start_ts: int) -> bytes:
        """The long value of a version; its absence is damage."""
        value = self.engine.get(CF_DEFAULT, versioned(encoded, start_ts))
        if value is None:
            raise Corruption(f"value of {encoded.hex()} written at {start_ts} is missing")
        return value

    def read_special(self, key: bytes, ts: int, seq: int) -> bytes | None:
        raise NotImplementedError

    def scan_range(self, snapshot: Snapshot, start: bytes, end: bytes, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        return scan(self.engine, start, end, snapshot.ts, self.load_default, reverse=reverse)

    def scan_range_packed(
        self, snapshot: Snapshot, start: bytes, end: bytes, batch_rows: int
    ) -> Iterator[PackedBatch]:
        from kvstore.mvcc.packed import scan_packed

        return scan_packed(self.engine, start, end, snapshot.ts, self.load_default, batch_rows)

    # -- locking

    def lock_key(self, txn: EmbeddedTransaction, key: bytes, wait_ms: int, skip_locked: bool) -> bool:
        """Takes the pessimistic lock on one key; returns False when it is taken and `skip_locked`."""
        try:
            self.lock_table.acquire(txn, key, 0 if skip_locked else wait_ms, txn.cancel)
        except LockNowait:
            if skip_locked:
                return False
            raise
        return True

    def check_locked(self, keys: Sequence[bytes], start_ts: int, for_update_ts: int) -> None:
        """Raises WriteConflict when a key just locked has a commit newer than `for_update_ts`."""
        if self._last_commit_ts <= for_update_ts:
            return
        for key in keys:
            self._check_newer(key, data_key(key), start_ts, for_update_ts)

    def _fresh_raw(self) -> Any:
        cursor = self.cursor()
        if cursor.raw is None or cursor.seq != self.engine.write_seq:
            return cursor.refresh()
        return cursor.raw

    def _check_newer(self, key: bytes, encoded: bytes, start_ts: int, limit_ts: int) -> None:
        record = newest_record(self._fresh_raw(), encoded)
        if record is not None and record[0] > limit_ts:
            change = newest_change(self._fresh_raw(), encoded)
            if change is not None and change[0] > limit_ts:
                self._conflicts += 1
                raise WriteConflict(key, start_ts, change[1].start_ts, change[0])

    # -- committing

    def _failure(self) -> StoreError:
        return StoreError(f"the store stopped after a failed write and has to be reopened: {self._failed}")

    def commit(
        self, txn: EmbeddedTransaction, buffer: WriteBuffer, marked: set[bytes], check: Callable[[], None] | None
    ) -> int:
        """Commits the buffer of `txn`; returns when it is durable and visible."""
        if self._failed is not None:
            raise self._failure()
        taken = self._lock_for_commit(txn, buffer.writes, marked)
        try:
            encoded = [(data_key(key), value) for key, value in buffer.writes.items()]
            self._check_constraints(txn, buffer, marked, encoded)
            return self._write(txn, encoded, check)
        finally:
            self.lock_table.release(taken)

    def _lock_for_commit(
        self, txn: EmbeddedTransaction, writes: dict[bytes, bytes | None], marked: set[bytes]
    ) -> list[bytes]:
        """Takes the locks that are not held yet. Gives them all back before it waits, so commits cannot deadlock."""
        owners = self.lock_table.owners
        held = txn.locks
        while True:
            taken: list[bytes] = []
            blocked: bytes | None = None
            for key in (*writes, *marked) if marked else writes:
                if key in held:
                    continue
                owner = owners.setdefault(key, txn)
                if owner is not txn:
                    blocked = key
                    break
                taken.append(key)
            if blocked is None:
                return taken
            self.lock_table.release(taken)
            self.lock_table.acquire(txn, blocked, txn.lock_wait_ms, txn.cancel)
            held.add(blocked)

    def _check_constraints(
        self, txn: EmbeddedTransaction, buffer: WriteBuffer, marked: set[bytes], encoded: list[tuple[bytes, Any]]
    ) -> None:
        inserts = buffer.inserts
        start_ts = txn.start_ts
        if not txn.pessimistic and self._last_commit_ts > start_ts:
            for key, (data, _) in zip(buffer.writes, encoded, strict=True):
                self._check_newer(key, data, start_ts, start_ts)
            for key in marked - buffer.writes.keys():
                self._check_newer(key, data_key(key), start_ts, start_ts)
        if inserts:
            for key, (data, _) in zip(buffer.writes, encoded, strict=True):
                if key in inserts:
                    self._check_absent(key, data)

    def _check_absent(self, key: bytes, encoded: bytes) -> None:
        raw = self._fresh_raw()
        try:
            value = read_version(raw, encoded, encoded + NEWEST, TS_MAX)
        except NeedsDefault as need:
            value = self.load_default(encoded, need.start_ts)
        if value is not None:
            raise KeyExists(key, value)

    def _write(
        self,
        txn: EmbeddedTransaction,
        encoded: list[tuple[bytes, bytes | None]],
        check: Callable[[], None] | None,
    ) -> int:
        engine = self.engine
        start = encode_uvarint(txn.start_ts)
        put_head, delete_record = b"P" + start + b"v", b"D" + start
        batch = engine.batch()
        put = batch.put
        write_cf = engine.handle(CF_WRITE)
        try:
            with self._commit_mutex:
                if self._failed is not None:
                    raise self._failure()
                self.committing[txn] = None
                commit_ts = self.oracle.get_ts()
                if check is not None:
                    check()
                txn.commit_ts = commit_ts
                suffix = ts_suffix(commit_ts)
                for key, value in encoded:
                    if value is None:
                        put(key + suffix, delete_record, write_cf)
                    elif len(value) <= SHORT_VALUE_MAX:
                        put(key + suffix, put_head + bytes((len(value),)) + value, write_cf)
                    else:
                        put(versioned(key, txn.start_ts), value, engine.handle(CF_DEFAULT))
                        put(key + suffix, b"P" + start, write_cf)
                engine.write(batch)
                self._last_commit_ts = commit_ts
                place = self._group.add(txn) if self.synchronous else None
        except BaseException:
            self.committing.pop(txn, None)
            txn.finish()
            raise
        if place is None:
            self._finish(txn)
        else:
            self._group.wait(place)
        return commit_ts

    def _finish(self, txn: EmbeddedTransaction) -> None:
        """Makes a durable commit visible."""
        self._commits += 1
        self.committing.pop(txn, None)
        txn.finish()

    def _abandon(self, txn: EmbeddedTransaction, error: BaseException) -> None:
        """The sync failed: whether the commit survives is unknown, so the store stops taking writes."""
        self._failed = error
        self.committing.pop(txn, None)
        txn.finish()

    def forget(self, txn: EmbeddedTransaction) -> None:
        """The transaction is over and needs no versions any more."""
        self._active.pop(id(txn), None)

    def orphan(self, locks: set[bytes], identity: int) -> None:
        """A transaction was dropped without an end."""
        self.lock_table.release(locks)
        self._active.pop(identity, None)

    def observe(self, observer: CommitObserver) -> None:
        self._observers = (*self._observers, observer)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.oracle.close()
        finally:
            self.engine.close()


__all__ = ["AFTER_OLDEST", "EmbeddedStore"]
