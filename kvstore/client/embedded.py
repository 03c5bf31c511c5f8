"""The embedded store: the storage seam over one engine in this process. Its one door is `EmbeddedStore.open`.

It writes the same records a cluster would, with three short cuts: pessimistic locks live in memory (`locks`), a
commit writes its Write records at once, with no lock records on disk (TiKV's 1PC), and waiting commits share a sync
(`group_commit`).
The life of a commit and the visibility rule are told in docs/transactions.md.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import chain
from typing import Any

from kvstore.client.api import (
    GC_LIFE_MS,
    CancelToken,
    CommitCheck,
    CommitObserver,
    Ingest,
    Oracle,
    PackedBatch,
    PushDown,
    ReadFrom,
    WindowStore,
)
from kvstore.client.changes import ChangeLog
from kvstore.client.commit import Committer
from kvstore.client.hot_ranges import HotRanges
from kvstore.client.ingest import open_ingest
from kvstore.client.locks import LockTable, Owner
from kvstore.client.ranges import RangeLocks
from kvstore.client.snapshot import Snapshot
from kvstore.client.transaction import EmbeddedTransaction
from kvstore.client.upkeep import Upkeep
from kvstore.engine.api import CF_DEFAULT, CF_LOCK, CF_META, CF_WRITE, Cursor, Engine
from kvstore.errors import Corruption, SnapshotTooOld, StoreClosed, StoreError, TxnTooLarge
from kvstore.mvcc.chunks import Chunk
from kvstore.mvcc.keys import NEWEST, TS_MAX, data_key, data_range, ts_suffix, versioned
from kvstore.mvcc.point import NeedsDefault, read_version
from kvstore.mvcc.scan import scan_chunks

TXN_BYTES_MAX = 256 << 20
"""Largest sum of key and value bytes in one transaction's buffer."""
READ_RETRIES_MAX = 16
"""How often a point read starts over because the version it met was replaced and collected meanwhile."""
WINDOW_KEY = b"oracle_window_ms"


class _Slot(threading.local):
    """A thread's reusable cursor over the write family."""

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
    """Implements `api.LocalStorage` over one engine."""

    push_down: PushDown | None = None

    def __init__(
        self,
        engine: Engine,
        oracle: Oracle,
        *,
        synchronous: bool = True,
        txn_bytes_max: int = TXN_BYTES_MAX,
        gc_life_ms: int = GC_LIFE_MS,
    ) -> None:
        self.engine = engine
        self.oracle = oracle
        self.txn_bytes_max = txn_bytes_max
        self.lock_table = LockTable()
        self.ranges = RangeLocks(self.lock_table)
        self.committer = Committer(engine, oracle, self.ranges, self.cursor, synchronous=synchronous)
        self.committing = self.committer.committing
        self.active: dict[int, int] = {}
        """start_ts of every live transaction, by identity: garbage collection stays below them."""
        self.special_reads = False
        """Whether reads have to look for closed ranges, or the store has stopped."""
        self._slot = _Slot()
        self._cursors: weakref.WeakSet[Any] = weakref.WeakSet()
        self._orphans: deque[bytes] = deque()
        self._closed: StoreError | None = None
        self._close_mutex = threading.Lock()
        self.hot_ranges = HotRanges(self)
        self.observe(self.hot_ranges)
        self.upkeep = Upkeep(self, gc_life_ms)
        self.safe_point = self.upkeep.load_safe_point()
        if not engine.is_empty(CF_LOCK):
            # left by a cluster: nobody else can own those transactions any more
            from kvstore.txn.commands import resolve_all_locks

            resolve_all_locks(engine)
        self.upkeep.start()
        _watch_fork(self)

    @classmethod
    def open(
        cls,
        path: str | None,
        oracle_factory: Callable[[WindowStore], Oracle],
        *,
        synchronous: bool = True,
        txn_bytes_max: int = TXN_BYTES_MAX,
        gc_life_ms: int = GC_LIFE_MS,
    ) -> EmbeddedStore:
        """Opens the directory at `path`, made when missing; None is a store in memory.

        Raises DirectoryInUse, NotOurDirectory, FormatTooNew, Corruption, DiskFull.
        """
        engine: Engine
        if path is None:
            from kvstore.engine.memory import MemoryEngine

            engine = MemoryEngine()
            synchronous = False
        else:
            from kvstore.engine.rocks import RocksEngine

            engine = RocksEngine(path)
        try:
            oracle = oracle_factory(_MetaWindow(engine, synchronous=synchronous))
            return cls(engine, oracle, synchronous=synchronous, txn_bytes_max=txn_bytes_max, gc_life_ms=gc_life_ms)
        except BaseException:
            engine.close()
            raise

    # -- starting

    def now_ts(self) -> int:
        return self.oracle.get_ts()

    def begin(self, *, pessimistic: bool = True, start_ts: int | None = None) -> EmbeddedTransaction:
        if self._closed is not None:
            raise self._closed
        if self._orphans:
            self.adopt_orphans()
        read_only = start_ts is not None
        while True:
            ts = self.oracle.get_ts() if start_ts is None else start_ts
            txn = EmbeddedTransaction(self, ts, pessimistic=pessimistic, read_only=read_only)
            self.active[id(txn)] = ts
            # registered first and looked at second, as garbage collection moves the safe point first and looks second
            if ts >= self.safe_point:
                return txn
            txn.rollback()
            if read_only:
                raise SnapshotTooOld(ts, self.safe_point)

    def write(
        self,
        writes: dict[bytes, bytes | None],
        inserts: Collection[bytes],
        *,
        wait_ms: int,
        cancel: CancelToken | None = None,
        check: CommitCheck | None = None,
    ) -> int:
        if self._orphans:
            self.adopt_orphans()
        if sum(map(len, filter(None, writes.values()))) > self.txn_bytes_max:
            raise TxnTooLarge(f"transaction is over {self.txn_bytes_max} bytes")
        return self.committer.commit_alone(writes, inserts, (wait_ms, cancel), check)

    def snapshot(self, ts: int | None = None, *, read: ReadFrom = ReadFrom.LEADER) -> Snapshot:
        if self._closed is not None:
            raise self._closed
        return Snapshot(self, self.oracle.get_ts() if ts is None else ts)

    # -- reading

    def cursor(self) -> Cursor:
        """The calling thread's reusable cursor over the write family."""
        cursor = self._slot.cursor
        if cursor is None:
            if self._closed is not None:
                raise self._closed
            cursor = self._slot.cursor = self.engine.cursor(CF_WRITE)
            self._cursors.add(cursor)
        return cursor

    def get_latest(self, key: bytes, *, read: ReadFrom = ReadFrom.LEADER) -> bytes | None:
        if self.special_reads:
            self.check_running()
            if self.ranges.active:
                return self.snapshot().get(key)
            # loads that are over hide their records from older snapshots alone
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
            # what was seen may belong to a commit that is not durable yet: then it is still registered
            if self.committing:
                unsettled = next((commit for commit in list(self.committing) if commit.touches(key, None)), None)
                if unsettled is not None:
                    unsettled.wait_finished()
                    continue
            if self.special_reads and self.ranges.active:
                break
            return value
        return self.snapshot().get(key)

    def may_hide(self, ts: int) -> bool:
        """Whether some load may hide records from a new snapshot at `ts`; refused when the store has stopped."""
        self.check_running()
        return self.ranges.may_hide(ts)

    def is_special(self, ts: int) -> bool:
        """Whether some load hides records from a reader at `ts` now.

        One that is over hides its records from snapshots older than its end, and concerns no others.
        """
        self.check_running()
        return any(window.hides_from(ts) for window in self.ranges.windows)

    def get_special(self, snapshot: Snapshot, key: bytes) -> bytes | None:
        """A point read while closed ranges exist; refused when the store has stopped."""
        self.check_running()
        ts = self.ranges.effective_ts(key, snapshot.ts)
        encoded = data_key(key)
        raw = self.cursor().refresh()
        try:
            value = read_version(raw, encoded, encoded + ts_suffix(ts), ts)
        except NeedsDefault as need:
            value = self.load_default(snapshot, encoded, need.start_ts)
        snapshot.check_age()
        return value

    def load_default(self, snapshot: Snapshot, encoded: bytes, start_ts: int) -> bytes:
        """The long value of a version the snapshot sees; its absence is damage, or the snapshot is too old."""
        value = self.engine.get(CF_DEFAULT, versioned(encoded, start_ts))
        if value is None:
            snapshot.check_age()
            raise Corruption(f"value of {encoded.hex()} written at {start_ts} is missing")
        return value

    def scan_range(self, snapshot: Snapshot, start: bytes, end: bytes, reverse: bool) -> Iterator[Chunk]:
        """Row-wise scan for a snapshot whose pending commits have been waited for."""

        def load(encoded: bytes, start_ts: int) -> bytes:
            return self.load_default(snapshot, encoded, start_ts)

        if not snapshot.special:
            return scan_chunks(self.engine, start, end, snapshot.ts, load, snapshot.check_age, reverse=reverse)
        self.check_running()
        pieces = self.ranges.segments(start, end, snapshot.ts)
        if reverse:
            pieces.reverse()
        return chain.from_iterable(
            scan_chunks(self.engine, low, high, ts, load, snapshot.check_age, reverse=reverse)
            for low, high, ts in pieces
        )

    def scan_range_packed(self, snapshot: Snapshot, start: bytes, end: bytes, batch_rows: int) -> Iterator[PackedBatch]:
        """Packed scan for a snapshot whose pending commits have been waited for."""
        from kvstore.mvcc.packed import scan_packed

        def load(encoded: bytes, start_ts: int) -> bytes:
            return self.load_default(snapshot, encoded, start_ts)

        pieces = [(start, end, snapshot.ts)]
        if snapshot.special:
            self.check_running()
            pieces = self.ranges.segments(start, end, snapshot.ts)
        return chain.from_iterable(
            scan_packed(self.engine, low, high, ts, load, snapshot.check_age, batch_rows) for low, high, ts in pieces
        )

    # -- transactions that end

    def forget(self, txn: EmbeddedTransaction) -> None:
        """The transaction is over and needs no versions any more."""
        self.active.pop(id(txn), None)

    def orphan(self, locks: Sequence[bytes], owner: Owner, identity: int) -> None:
        """A transaction was dropped without an end. Runs in a finalizer, so it takes no mutex: upkeep wakes the
        waiters."""
        self.active.pop(identity, None)
        owners = self.lock_table.owners
        for key in locks:
            if owners.get(key) is owner:
                del owners[key]
        self._orphans.extend(locks)

    def adopt_orphans(self) -> None:
        """Hands the locks of dropped transactions to whoever waits for them."""
        while self._orphans:
            try:
                key = self._orphans.popleft()
            except IndexError:  # another thread took the last one
                return
            self.lock_table.hand_over(key)

    # -- maintenance

    def observe(self, observer: CommitObserver) -> None:
        self.committer.observers = (*self.committer.observers, observer)

    @property
    def changes(self) -> ChangeLog:
        return self.committer.changes

    def wait_until(self, ts: int) -> None:
        self.check_running()
        self.committer.wait_until(ts)

    def ingest(self, start: bytes, end: bytes, *, cancel: CancelToken | None = None) -> Ingest:
        self.check_running()
        return open_ingest(self, start, end, cancel)

    def load(
        self,
        start: bytes,
        end: bytes,
        *,
        commit_ts: int = 0,
        cancel: CancelToken | None = None,
        directory: str | None = None,
    ) -> Ingest:
        if commit_ts or directory is not None:
            raise ValueError("loads of this store are as new as their end, and leave nothing when they fail")
        return self.ingest(start, end, cancel=cancel)

    def sees_loads(self, ts: int, start: bytes, end: bytes) -> bool:
        return not any(
            window.overlaps(start, end) and (window.visible_from is None or ts < window.visible_from)
            for window in self.ranges.windows
        )

    def destroy_range(self, start: bytes, end: bytes) -> None:
        self.check_running()
        low, high = data_range(start, end)
        batch = self.engine.batch()
        for cf in (CF_WRITE, CF_LOCK, CF_DEFAULT):
            batch.delete_range(low, high, self.engine.handle(cf))
        with self.committer.mutex:
            self.engine.write(batch)
        self.committer.settle()
        ts = self.now_ts()
        for observer in self.committer.observers:
            observer.on_ingest(ts, start, end)

    def gc(self, safe_point: int | None = None) -> dict[str, int]:
        self.check_running()
        return self.upkeep.gc(safe_point)

    @property
    def gc_life_ms(self) -> int:
        return self.upkeep.life_ms

    @gc_life_ms.setter
    def gc_life_ms(self, value: int) -> None:
        if value < 0:
            raise ValueError(f"gc_life_ms must not be negative: {value}")
        self.upkeep.life_ms = value

    @property
    def synchronous(self) -> bool:
        return self.committer.synchronous

    @synchronous.setter
    def synchronous(self, value: bool) -> None:
        self.committer.synchronous = value and self.engine.path is not None

    def backup(self, path: str) -> None:
        self.check_running()
        if os.path.exists(path):
            raise StoreError(f"backup to {path!r}: it already exists")
        with self.committer.mutex:
            self.engine.checkpoint(path)

    def stats(self) -> dict[str, Any]:
        self.check_running()
        return {
            **self.committer.stats(),
            "active_transactions": len(self.active),
            "closed_ranges": len(self.ranges.active),
            **self.upkeep.stats(),
            "engine": self.engine.stats(),
        }

    def release_idle_cursors(self, seq: int) -> None:
        """Drops iterators that have not moved since the engine was at `seq`: they pin memory and files."""
        for cursor in list(self._cursors):
            if cursor.seq < seq:
                cursor.release()

    def check_running(self) -> None:
        """Raises when the store is closed, has stopped, or belongs to the parent process."""
        if self._closed is not None:
            raise self._closed
        if self.committer.stopped is not None:
            raise self.committer.stopped

    def stop(self, error: StoreError) -> None:
        """Refuses everything from now on with `error`."""
        self._closed = error
        self.committer.stopped = error
        self.special_reads = True

    def close(self) -> None:
        with self._close_mutex:
            if self._closed is not None:
                return
            failed = self.committer.stopped is not None
            self.stop(StoreClosed("the store is closed"))
        self.upkeep.close()
        try:
            self.oracle.close()
        except StoreError:
            if not failed:  # else writers were told, and the oracle only keeps a bound higher than it need be
                raise
        finally:
            self.engine.close()


def _watch_fork(store: EmbeddedStore) -> None:
    """Makes the child's copy of the store refuse to work: RocksDB does not survive a fork."""
    reference = weakref.ref(store)

    def in_child() -> None:
        inherited = reference()
        if inherited is not None and inherited._closed is None:
            error = StoreError("the database was opened before fork; open it again in the child process")
            inherited.stop(error)
            inherited.engine.disown(error)

    os.register_at_fork(after_in_child=in_child)
