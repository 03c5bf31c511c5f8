"""The columnar replica of a database: when it starts, which tables are to have one, and how a table stands.

DuckDB and the replica's thread are started when something wants them: a plan that would read a table there, a bulk
load, or a number of commits. Until then commits to tables that have a replica only add to the change log.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from sqlfront.catalog.replica_status import ReplicaStatus

if TYPE_CHECKING:
    from coprocessor.columnar.replica import Replica
    from coprocessor.columnar.view import View
    from coprocessor.columnar.worker import Worker
    from coprocessor.table import TableCodec
    from kvstore.client.api import LocalStorage, Parts
    from sqlfront.catalog.model import Table
    from sqlfront.database import Database

BUILD_ROWS_MIN = 10_000
"""A table of so many rows is built without being asked for."""
START_COMMITS = 4096
"""After so many commits the replica is started, so that the change log does not grow for ever."""


class Replicas(Protocol):
    """What sessions ask of the columnar replicas, wherever they are."""

    @property
    def problem(self) -> str | None:
        """Why no table can be read at present."""

    def view(self, tables: Sequence[Table], ts: int | None) -> View | None:
        """A view of the tables at `ts` (None: now), None when they have to be read by rows."""

    def ensure(self, table: Table, timeout_s: float, check: Callable[[], None]) -> bool:
        """Waits until the table can be read here; False when it can't be built or takes too long.

        What `check`, called now and then, raises ends the wait.
        """

    def switched(self, table: Table) -> None:
        """SET TIFLASH REPLICA was said of a table."""

    def failed(self, error: Exception) -> bool:
        """A query that read the replica failed: whether the file is damaged, and was put aside."""

    def status(self, table: Table) -> ReplicaStatus | None:
        """How the replica of a table stands; None when there is none."""

    def refusal(self, table: Table) -> str:
        """Why a table is not read from its replica though it was asked for."""

    def close(self) -> None: ...


class NoReplicas:
    """There are none."""

    problem: str | None = None

    def view(self, tables: Sequence[Table], ts: int | None) -> View | None:
        return None

    def ensure(self, table: Table, timeout_s: float, check: Callable[[], None]) -> bool:
        return False

    def switched(self, table: Table) -> None:
        pass

    def failed(self, error: Exception) -> bool:
        return False

    def status(self, table: Table) -> ReplicaStatus | None:
        return None

    def refusal(self, table: Table) -> str:
        return f"the columnar replica of {table.db}.{table.name} is not read: no store of this cluster has one"

    def close(self) -> None:
        pass


class Columnar:
    """Starts the replica of one database, and speaks for it."""

    def __init__(self, database: Database, storage: LocalStorage) -> None:
        self._database = database
        self._storage = storage
        self._mutex = threading.Lock()
        self._replica: Replica | None = None
        self._worker: Worker | None = None
        self._starting = False
        self._closed = False
        self._commits = 0
        storage.observe(self)

    # What the store reports, before the replica listens itself

    def on_commit(
        self, commit_ts: int, writes: Sequence[tuple[bytes, bytes | None]], patches: Mapping[bytes, Parts]
    ) -> None:
        if self._replica is None:
            self._commits += 1
            if self._commits >= START_COMMITS:
                self._commits = 0
                self._start_soon()

    def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
        if self._replica is None:
            self._start_soon()
        else:
            self._replica.wake.set()

    def _start_soon(self) -> None:
        if self._starting or self._closed or not self._any_wanted():
            return
        self._starting = True
        threading.Thread(target=self.start, name="sqlfront-columnar-start", daemon=True).start()

    def _any_wanted(self) -> bool:
        return bool(self._storage.changes.followed) or next(iter(self.wanted()), None) is not None

    def start(self) -> Replica | None:
        """The replica, started when it was not; None when the database is closing."""
        replica = self._replica
        if replica is not None:
            return replica
        from coprocessor.columnar.replica import Replica
        from coprocessor.columnar.worker import Worker

        with self._mutex:
            if self._closed:
                return None
            if self._replica is None:
                database = self._database
                self._replica = Replica(self._storage, database.duck, database.path, self)
                self._worker = Worker(self._replica)
                self._worker.start()
                # a database that nobody closes: DuckDB must not be asked while the interpreter ends
                atexit.register(self._worker.stop)
            return self._replica

    # The catalog, as the replica sees it

    def find(self, table_id: int) -> TableCodec | None:
        table = self._database.catalog.schema.table_by_id.get(table_id)
        return table.codec if table is not None and table.columnar and not table.parts else None

    def wanted(self) -> Iterable[int]:
        statistics = self._database.statistics
        for table_id, table in list(self._database.catalog.schema.table_by_id.items()):
            if not table.columnar or table.parts:
                continue
            asked = table.info.tiflash_replica is not None
            if asked or (statistics.table(table_id) is not None and statistics.rows(table) >= BUILD_ROWS_MIN):
                yield table_id

    # What sessions ask

    def view(self, tables: Sequence[Table], ts: int | None) -> View | None:
        """A view of the tables at `ts` (None: now), None when they have to be read by rows."""
        replica = self.start()
        return None if replica is None else replica.view([table.codec for table in tables], ts)

    def ensure(self, table: Table, timeout_s: float, check: Callable[[], None]) -> bool:
        """Waits until the table can be read here; False when it can't be built or takes too long.

        What `check`, called now and then, raises ends the wait.
        """
        self.start()
        return self._worker is not None and self._worker.wait_built(table.codec, timeout_s, check)

    def switched(self, table: Table) -> None:
        """SET TIFLASH REPLICA was said of a table."""
        if not table.columnar and self._replica is not None:
            found = self._replica.find(table.codec)
            if found is not None:
                self._replica.forget(found)
        elif table.columnar:
            replica = self.start()
            if replica is not None:
                replica.demand(table.id)

    def failed(self, error: Exception) -> bool:
        """A query that read the replica failed: whether the file is damaged, and was put aside."""
        from coprocessor.duck import is_damage

        if self._replica is None or not is_damage(error):
            return False
        self._replica.failed(error)
        return True

    def status(self, table: Table) -> ReplicaStatus | None:
        """How the replica of a table stands; None when there is none."""
        replica = self.start() if self._storage.changes.followed else self._replica
        if replica is None:
            return None
        if replica.problem is not None:
            return ReplicaStatus(False, 0.0, "stopped", 0, 0, replica.problem)
        refused = replica.refusal(table.id)
        if refused is not None:
            return ReplicaStatus(False, 0.0, "refused", 0, 0, refused)
        found = replica.find(table.codec)
        if found is None:
            return None
        rows = max(1.0, self._database.statistics.rows(table))
        ready = found.status.value == "ready"
        progress = 1.0 if ready else min(0.99, found.rows / rows)
        return ReplicaStatus(ready, progress, found.status.value, found.applied_ts, len(found.pending), found.reason)

    def refusal(self, table: Table) -> str:
        """Why a table is not read from its replica though it was asked for."""
        status = self.status(table)
        why = "it is not there yet" if status is None else status.reason or f"it is {status.state}"
        if not table.columnar:
            why = "ALTER TABLE ... SET TIFLASH REPLICA 0 took it away"
        return f"the columnar replica of {table.db}.{table.name} is not read: {why}"

    @property
    def problem(self) -> str | None:
        """Why no table can be read at present."""
        return None if self._replica is None else self._replica.problem

    def close(self) -> None:
        with self._mutex:
            self._closed = True
        if self._worker is not None:
            atexit.unregister(self._worker.stop)
            self._worker.stop()
        if self._replica is not None:
            self._replica.close()
