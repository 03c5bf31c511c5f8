"""Columnar replicas in a cluster: stores hold them, the placement driver's rules put them there.

What SET TIFLASH REPLICA says of a table is in its definition. Whichever server takes a definition in tells the
placement driver of it: the one that changed it at once, the others after it to the same end. A server that starts
tells what was missed. Queries ask the stores themselves (kvstore/client/cluster/push_columnar.py): there are no views.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from kvstore.errors import KvError
from kvstore.rpc.api import RpcError
from sqlfront.catalog.replica_status import ReplicaStatus

if TYPE_CHECKING:
    from coprocessor.columnar.view import View
    from kvstore.client.cluster.storage import ClusterStorage
    from sqlfront.catalog.catalog import Catalog
    from sqlfront.catalog.model import Schema, Table

RETRY_S = 1.0
SWITCH_WAIT_S = 10.0
"""For so long SET TIFLASH REPLICA waits for the placement driver to know of it; later it is told beside."""
STATUS_TTL_S = 0.5
ENSURE_POLL_S = 0.1
_ERRORS = (KvError, RpcError)

logger = logging.getLogger("sqlfront.columnar")

_Wanted = dict[int, tuple[bytes, bytes, int]]
"""By table id the range of the records, and how many replicas (0: none)."""


class ClusterReplicas:
    """See `sqlfront.columnar.Replicas`. Ends with `close`."""

    problem: str | None = None

    def __init__(self, catalog: Catalog, storage: ClusterStorage) -> None:
        self._catalog = catalog
        self._storage = storage
        self._condition = threading.Condition()
        self._finds: list[Callable[[], _Wanted]] = []
        """What is to be told, in order; the first until it was."""
        self._closed = False
        self._progress: dict[int, tuple[float, float]] = {}
        """By table id when it was asked for, on the monotonic clock, and the answer."""
        self._thread: threading.Thread | None = None
        catalog.listeners.append(self._changed)
        if any(_wanted(catalog.schema)):
            self._tell(self._missed)

    # Rules

    def _changed(self, before: Schema, after: Schema) -> None:
        """Notes what the placement driver is to be told of a change of the schema."""
        old, new = dict(_wanted(before)), dict(_wanted(after))
        untold = {table_id: wanted for table_id, wanted in new.items() if old.get(table_id) != wanted}
        untold |= {table_id: (start, end, 0) for table_id, (start, end, _) in old.items() if table_id not in new}
        if untold:
            self._tell(lambda: untold)

    def _missed(self) -> _Wanted:
        """What the rules lack of the definitions."""
        placed = self._storage.columnar_placed()
        return {i: wanted for i, wanted in _wanted(self._catalog.schema) if placed.get(i) != wanted[2]}

    def _tell(self, find: Callable[[], _Wanted]) -> None:
        with self._condition:
            if self._closed:
                return
            self._finds.append(find)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sqlfront-replica-rules", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._closed or self._finds)
                if self._closed:
                    return
                find = self._finds[0]
            try:
                wanted = find()
                if wanted:
                    self._storage.place_columnar(wanted)
            except _ERRORS as error:
                logger.warning("the placement driver was not told of columnar replicas, trying again: %s", error)
                with self._condition:
                    if self._condition.wait_for(lambda: self._closed, RETRY_S):
                        return
                continue
            with self._condition:
                self._finds.pop(0)
                self._condition.notify_all()

    # What sessions ask

    def view(self, tables: Sequence[Table], ts: int | None) -> View | None:
        return None

    def ensure(self, table: Table, timeout_s: float, check: Callable[[], None]) -> bool:
        until = time.monotonic() + timeout_s
        while table.columnar and time.monotonic() < until:
            status = self.status(table)
            if status is not None and status.available:
                return True
            check()
            time.sleep(ENSURE_POLL_S)
        return False

    def switched(self, table: Table) -> None:
        """Waits until the placement driver knows."""
        with self._condition:
            self._progress.pop(table.id, None)
            self._condition.wait_for(lambda: self._closed or not self._finds, SWITCH_WAIT_S)

    def failed(self, error: Exception) -> bool:
        return False

    def status(self, table: Table) -> ReplicaStatus | None:
        if not table.columnar or table.info.tiflash_replica is None:
            return None
        try:
            progress = self._progress_of(table, table.info.tiflash_replica.count)
        except _ERRORS as error:
            return ReplicaStatus(False, 0.0, "unknown", 0, 0, str(error))
        ready = progress >= 1.0
        return ReplicaStatus(ready, progress, "ready" if ready else "placing", 0, 0)

    def _progress_of(self, table: Table, count: int) -> float:
        now = time.monotonic()
        known = self._progress.get(table.id)
        if known is not None and now - known[0] < STATUS_TTL_S:
            return known[1]
        progress = self._storage.columnar_progress(*table.codec.record_range, count)
        self._progress[table.id] = (now, progress)
        return progress

    def refusal(self, table: Table) -> str:
        status = self.status(table)
        why = "ALTER TABLE ... SET TIFLASH REPLICA was not said of it" if status is None else f"it is {status.state}"
        return f"the columnar replica of {table.db}.{table.name} is not read: {why}"

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        if self._thread is not None:
            self._thread.join()


def _wanted(schema: Schema) -> Iterator[tuple[int, tuple[bytes, bytes, int]]]:
    for table_id, table in schema.table_by_id.items():
        if table.columnar and not table.parts and table.info.tiflash_replica is not None:
            yield table_id, (*table.codec.record_range, table.info.tiflash_replica.count)
