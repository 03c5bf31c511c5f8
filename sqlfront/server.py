"""One SQL server among several: a database that shares its storage, and what its servers do for each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sqlfront.catalog.meta import Meta, MetaReader
from sqlfront.catalog.stats import STATS_VERSION
from sqlfront.columnar_cluster import ClusterReplicas
from sqlfront.database import Database
from sqlfront.gc import GcWorker
from sqlfront.threads import OS_THREADS, Threads
from sqlfront.variables import Value, duration_ms

if TYPE_CHECKING:
    from kvstore.client.cluster.storage import ClusterStorage
    from sqlfront.catalog.model import Schema
    from sqlfront.catalog.shared import SharedCatalog

GLOBALS = b"GlobalVariables"
GLOBALS_VERSION = b"GlobalVariablesVersion"
NEVER_MS = 1 << 62


class Server(Database):
    """Global variables are stored, and follow those of the other servers; one server collects garbage for all."""

    def __init__(self, storage: ClusterStorage, catalog: SharedCatalog, threads: Threads = OS_THREADS) -> None:
        super().__init__(None, storage, catalog, None, threads)
        self.columnar = ClusterReplicas(catalog, storage)
        self._gc = GcWorker(storage, catalog, self._gc_interval_ms, threads)
        self.duties.append(self._gc)
        catalog.listeners.append(self._forget_gone)
        self.globals.on_set = self._store_global
        catalog.lease.watch(GLOBALS_VERSION, self._take_globals)
        self._take_globals()
        catalog.lease.watch(STATS_VERSION, self.statistics.reload)
        self._gc.start()

    def collect_garbage(self) -> dict[str, int]:
        return self._gc.collect()

    def _gc_interval_ms(self) -> int:
        if not self.globals.get("tidb_gc_enable"):
            return NEVER_MS
        return duration_ms(str(self.globals.get("tidb_gc_run_interval")))

    def _forget_gone(self, before: Schema, after: Schema) -> None:
        """Drops what is kept in memory of tables that are gone."""
        for table_id in before.table_by_id.keys() - after.table_by_id.keys():
            self.autoids.forget(table_id)
            self.statistics.forget(table_id)

    def _store_global(self, name: str, value: Value) -> None:
        """Makes a global value the one of all servers."""
        txn = self.storage.begin(pessimistic=False)
        try:
            meta = Meta(txn)
            meta.set_field(GLOBALS, name.encode(), json.dumps(value).encode())
            meta.increment(GLOBALS_VERSION)
            txn.commit()
        finally:
            txn.rollback()

    def _take_globals(self) -> None:
        """Takes in what other servers have set."""
        meta = MetaReader(self.storage.snapshot())
        self.globals.take({name.decode(): json.loads(value) for name, value in meta.hash_fields(GLOBALS)})
