"""Background upkeep of the embedded store: garbage collection of old versions, idle iterators, orphaned locks.

The safe point is the oldest timestamp that may still be read: now less `life_ms`, but never past the start of a live
transaction. A bare snapshot is not registered; it is good for `life_ms` from its timestamp and raises SnapshotTooOld
after.
The background run visits only keys that were overwritten or deleted long enough ago; `gc()` by hand, and the first run
after too many such keys, go over everything.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

from kvstore.client.api import LOGICAL_BITS
from kvstore.engine.api import CF_META
from kvstore.errors import StoreError
from kvstore.mvcc.gc import GcCounts, collect_keys, collect_range
from kvstore.mvcc.keys import DATA_END, DATA_PREFIX, data_key

if TYPE_CHECKING:
    from kvstore.client.embedded import EmbeddedStore

"""How long old versions stay readable; TiDB's tidb_gc_life_time."""
GC_INTERVAL_MS = 60_000
"""How often the background run looks for versions to remove."""
TICK_S = 5.0
"""How often idle iterators and orphaned locks are looked after."""
OVERWRITTEN_KEYS_MAX = 1_000_000
"""More keys than this are not remembered; the next run goes over everything instead."""
SAFE_POINT_KEY = b"gc_safe_point"


class Upkeep:
    """Runs garbage collection and the small housekeeping of one store."""

    def __init__(self, store: EmbeddedStore, life_ms: int) -> None:
        self._store: weakref.ref[EmbeddedStore] = weakref.ref(store)
        self._engine = store.engine
        self.life_ms = life_ms
        self._mutex = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._generations: deque[tuple[int, set[bytes]]] = deque()
        self._remembered = 0
        self._everything = False
        self._runs = 0
        self._totals = GcCounts()
        self.error: StoreError | None = None

    def load_safe_point(self) -> int:
        """The safe point persisted by the last run, 0 if there was none."""
        saved = self._engine.get(CF_META, SAFE_POINT_KEY)
        return int(saved) if saved is not None else 0

    def start(self) -> None:
        thread = threading.Thread(target=_run, args=(self._store, self._stop), name="sqlfront-upkeep", daemon=True)
        self._thread = thread
        thread.start()

    def close(self) -> None:
        """Stops the thread and waits for the step it is in."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def stats(self) -> dict[str, int]:
        return {"gc_runs": self._runs, **{f"gc_{name}": count for name, count in self._totals.as_dict().items()}}

    def _live_store(self) -> EmbeddedStore:
        store = self._store()
        if store is None:
            raise StoreError("the store is gone")
        return store

    def advance(self, wanted: int | None) -> int:
        """Moves the safe point to `wanted` (default: now less the life time), but never past a live transaction."""
        store = self._live_store()
        now = store.now_ts()
        if wanted is None:
            wanted = max(0, now - (self.life_ms << LOGICAL_BITS))
        target = min((wanted, now, *list(store.active.values())))
        before = store.safe_point
        if target <= before:
            return before
        store.safe_point = target
        # moved first, looked at second: a transaction that began meanwhile has either seen the new point or is seen
        # here
        target = max(before, store.ranges.cap_safe_point(min((target, *list(store.active.values())))))
        store.safe_point = target
        batch = self._engine.batch()
        batch.put(SAFE_POINT_KEY, str(target).encode(), self._engine.handle(CF_META))
        self._engine.write(batch)
        if store.synchronous:
            self._engine.sync()
        with store.committer.mutex:
            store.ranges.prune(target)
            if not store.ranges.windows and store.committer.stopped is None:
                store.special_reads = False
        return target

    def gc(self, safe_point: int | None) -> dict[str, int]:
        """One run over everything; returns what it did."""
        with self._mutex:
            target = self.advance(safe_point)
            counts = collect_range(self._engine, DATA_PREFIX, DATA_END, target, self._stop.is_set)
            self._note(counts)
            return {"safe_point": target, **counts.as_dict()}

    def _note(self, counts: GcCounts) -> None:
        self._runs += 1
        self._totals = self._totals.plus(counts)

    def _close_generation(self, store: EmbeddedStore) -> None:
        overwritten, store.committer.overwritten = store.committer.overwritten, set()
        if not overwritten:
            return
        self._remembered += len(overwritten)
        if self._remembered > OVERWRITTEN_KEYS_MAX:
            self._everything = True
            self._generations.clear()
            self._remembered = 0
        else:
            self._generations.append((store.now_ts(), overwritten))

    def background_gc(self) -> None:
        """Collects what was overwritten before the safe point."""
        store = self._live_store()
        with self._mutex:
            self._close_generation(store)
            if not self._generations and not self._everything:
                return
            target = self.advance(None)
            if self._everything:
                self._everything = False
                self._note(collect_range(self._engine, DATA_PREFIX, DATA_END, target, self._stop.is_set))
                return
            while self._generations and self._generations[0][0] <= target and not self._stop.is_set():
                _, keys = self._generations.popleft()
                self._remembered -= len(keys)
                encoded = sorted(data_key(key) for key in keys)
                self._note(collect_keys(self._engine, encoded, target, self._stop.is_set))


def _run(reference: weakref.ref[EmbeddedStore], stop: threading.Event) -> None:
    """The upkeep thread; holds the store only while it works, so that an unclosed store can be freed."""
    waited_ms = 0.0
    seq = -1
    while not stop.wait(TICK_S):
        store = reference()
        if store is None:
            return
        waited_ms += TICK_S * 1000
        try:
            store.adopt_orphans()
            store.release_idle_cursors(seq)
            seq = store.engine.write_seq
            if waited_ms >= min(GC_INTERVAL_MS, max(1000, store.gc_life_ms)):
                waited_ms = 0.0
                store.upkeep.background_gc()
        except StoreError as error:
            # shown by stats; a store that has stopped or was closed says so to its users itself
            store.upkeep.error = error
            if store.committer.stopped is not None:
                return
        del store
