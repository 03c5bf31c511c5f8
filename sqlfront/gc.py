"""Garbage collection of a cluster: a run every `tidb_gc_run_interval`, by whichever of its SQL servers begins it.

The last run's time is a record under the `m` keys. A server that finds it old enough replaces it and so has the run to
itself. A run: the safe point is now less `tidb_gc_life_time`, but below what any server reads at and below what
services keep (index builds, readers of Spark); all locks up to it are settled; the placement driver is told, and stores
drop older versions in their own time; key ranges of dropped objects that nobody can read any more are destroyed. A run
may die anywhere: the next one does it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvstore.client.api import LOGICAL_BITS
from kvstore.errors import KvError, TxnError
from sqlfront.catalog.meta import MetaReader, string_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvstore.client.api import SharedStorage
    from sqlfront.catalog.lease import ServerRecord
    from sqlfront.catalog.shared import SharedCatalog
    from sqlfront.threads import Joinable, Threads

LAST_RUN = b"GCLastRun"
POLL_S = 10.0


class GcWorker:
    """Runs on a thread of each server. `interval_ms()` is between two runs of the cluster."""

    def __init__(
        self, storage: SharedStorage, catalog: SharedCatalog, interval_ms: Callable[[], int], threads: Threads
    ) -> None:
        self._storage = storage
        self._catalog = catalog
        self._interval_ms = interval_ms
        self._threads = threads
        self._stopping = threads.event()
        self._thread: Joinable | None = None
        self.error: KvError | None = None
        """Why the last run ended early."""

    def start(self) -> None:
        self._thread = self._threads.start("sqlfront-gc", self._run)

    def close(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                if self._begins():
                    self.collect()
                    self.error = None
            except KvError as exc:
                self.error = exc  # in the next round, here or elsewhere

    def collect(self, safe_point: int | None = None) -> dict[str, int]:
        """One run up to `safe_point` (default: the life time ago); returns what it did."""
        now = self._storage.now_ts()
        wanted = max((now >> LOGICAL_BITS) - self._storage.gc_life_ms, 0) << LOGICAL_BITS
        if safe_point is not None:
            wanted = min(safe_point, now)
        oldest = [record.oldest for record in self._servers() if record.oldest]
        own = self._storage.oldest_ts()
        wanted = min([wanted, *oldest, *([own] if own else [])])
        counters = self._storage.gc(wanted)
        counters["dropped_ranges"] = self._catalog.collect_ranges(counters["safe_point"])
        self._catalog.forget_dead_statistics()
        return counters

    def _servers(self) -> list[ServerRecord]:
        """The records of servers that may still read."""
        meta = MetaReader(self._storage.snapshot())
        return [r for r in self._catalog.lease.servers(meta).values() if r.until >= meta.reader.ts]

    def _begins(self) -> bool:
        """Whether a run is due, and this server's; what it notes keeps the others away for an interval."""
        txn = self._storage.begin(pessimistic=False)
        try:
            now_ms = txn.start_ts >> LOGICAL_BITS
            if now_ms - int(txn.get(string_key(LAST_RUN)) or 0) < self._interval_ms():
                return False
            txn.put(string_key(LAST_RUN), b"%d" % now_ms)
            txn.commit()
            return True
        except TxnError:
            return False  # another server was first
        finally:
            txn.rollback()
