"""Garbage collection of a cluster: one of its SQL servers, the leader, moves the safe point.

The leader holds a record with a deadline, as the owner of schema changes does. A run: the safe point is now less
`tidb_gc_life_time`, but below what any server reads at and below what services keep (backups, index builds, readers of
Spark); all locks up to it are settled; the placement driver is told, and stores drop older versions in their own time;
key ranges of dropped objects that nobody can read any more are destroyed. A run may die anywhere: the next one does it
again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

from kvstore.client.api import LOGICAL_BITS
from kvstore.errors import KvError, TxnError
from sqlfront.catalog.meta import MetaReader, string_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlfront.catalog.lease import ServerRecord
    from sqlfront.catalog.shared import SharedCatalog, SharedStorage
    from sqlfront.threads import Joinable, Threads

LEADER = b"GCLeader"
POLL_S = 10.0
LEADER_MS = 60_000


class Collects(Protocol):
    """What the collection asks of a storage beside the seam."""

    gc_life_ms: int

    def oldest_ts(self) -> int: ...
    def gc(self, safe_point: int | None = None) -> dict[str, int]:
        """Settles old locks and moves the safe point, at most to where services keep it; gives it back."""


class GcWorker:
    """Runs on a thread of each server; only the leader's does anything. `interval_ms()` is between two runs."""

    def __init__(
        self,
        storage: SharedStorage,
        collects: Collects,
        catalog: SharedCatalog,
        interval_ms: Callable[[], int],
        threads: Threads,
    ) -> None:
        self._storage = storage
        self._collects = collects
        self._catalog = catalog
        self._interval_ms = interval_ms
        self._last_ms = 0
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
                now_ms = self._storage.now_ts() >> LOGICAL_BITS
                if now_ms - self._last_ms >= self._interval_ms() and self._lead(now_ms):
                    self._last_ms = now_ms
                    self.collect()
                    self.error = None
            except KvError as exc:
                self.error = exc  # in the next round, here or elsewhere

    def collect(self, safe_point: int | None = None) -> dict[str, int]:
        """One run up to `safe_point` (default: the life time ago); returns what it did."""
        now = self._storage.now_ts()
        wanted = max((now >> LOGICAL_BITS) - self._collects.gc_life_ms, 0) << LOGICAL_BITS
        if safe_point is not None:
            wanted = min(safe_point, now)
        oldest = [record.oldest for record in self._servers() if record.oldest]
        own = self._collects.oldest_ts()
        wanted = min([wanted, *oldest, *([own] if own else [])])
        counters = self._collects.gc(wanted)
        counters["dropped_ranges"] = self._catalog.collect_ranges(counters["safe_point"])
        self._catalog.forget_dead_statistics()
        return counters

    def _servers(self) -> list[ServerRecord]:
        """The records of servers that may still read."""
        meta = MetaReader(self._storage.snapshot())
        return [r for r in self._catalog.lease.servers(meta).values() if r.until >= meta.reader.ts]

    def _lead(self, now_ms: int) -> bool:
        """Whether this server is the leader for this run: takes the place of one whose time is over."""
        server = self._catalog.lease.server_id
        txn = self._storage.begin(pessimistic=False)
        try:
            held = txn.get(string_key(LEADER))
            record = {} if held is None else json.loads(held)
            if record.get("until_ms", 0) > now_ms and record.get("server") != server:
                return False
            if record.get("server") == server or now_ms - record.get("last_ms", 0) >= self._interval_ms():
                until = now_ms + max(LEADER_MS, self._interval_ms() + LEADER_MS)
                value = {"server": server, "until_ms": until, "last_ms": now_ms, "where": self._catalog.server}
                txn.put(string_key(LEADER), json.dumps(value).encode())
                txn.commit()
                return True
            return False
        except TxnError:
            return False
        finally:
            txn.rollback()
