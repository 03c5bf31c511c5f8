"""The background of the replica: tables are built, commits applied, the log and DuckDB's file kept short.

A build reads the row store at a timestamp T, in batches, into a new DuckDB table, while commits above T become pending;
then the table is put in place with its position, in one DuckDB transaction. A bulk load in between makes it start over.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from coprocessor.columnar.files import log_bytes
from coprocessor.columnar.key_index import OPEN, Choice, create_index
from coprocessor.columnar.layout import Layout
from coprocessor.columnar.replica import Replica
from coprocessor.columnar.table import ReplicaTable, Status
from coprocessor.duck import query_errors, run_over
from coprocessor.errors import Unsupported
from coprocessor.table import TableCodec
from kvstore.errors import StoreClosed, StoreError
from kvstore.mvcc.packed import pack_pairs

TICK_S = 0.25
APPLY_ROWS = 8192
"""So many pending changes of a table are applied without a query that wants them."""
APPLY_AGE_TICKS = 8
"""Fewer are applied after so many ticks."""
BATCH_ROWS = 65_536
INSERT_ROWS = 8 * 65_536
CHECKPOINT_BYTES = 64 << 20
"""So much in DuckDB's log is brought into its file: until then scans are slower, and so is opening it."""
CHECKPOINT_IDLE_BYTES = 1 << 20
IDLE_S = 1.0
DEAD_ROWS_MIN = 1000
DEAD_SHARE_IDLE = 0.001
DEAD_SHARE_MAX = 0.05
"""A table with so many deleted rows, of all, is laid out anew, when nobody writes or in any case."""
LAID_OUT_PER_S = 500_000
"""About so many rows: nobody must have written for as long as it takes, lest each pause be taken for the end."""
TIDY_S = 30.0
RETRY_S = 15.0

if TYPE_CHECKING:
    import duckdb

logger = logging.getLogger("sqlfront.columnar")


class Worker(threading.Thread):
    """Drives one replica until `stop`."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(name="sqlfront-columnar", daemon=True)
        self._replica = replica
        self._stopping = threading.Event()
        self._ticks = 0
        self._tidied = time.monotonic()
        self._tried = 0.0
        self._built = threading.Condition()

    def run(self) -> None:
        replica = self._replica
        while not self._stopping.is_set():
            replica.wake.wait(TICK_S)
            replica.wake.clear()
            try:
                self._step()
            except StoreClosed:
                return
            except (StoreError, OSError) as error:
                replica.stop(error)
            except query_errors() as error:
                replica.stop(error)
            except Exception as error:
                logger.exception("the columnar replica's worker failed")
                replica.stop(error)

    def stop(self) -> None:
        """Ends the thread and waits for the step it is in."""
        self._stopping.set()
        self._replica.wake.set()
        with self._built:
            self._built.notify_all()
        if self.is_alive() and threading.current_thread() is not self:
            self.join()

    def wait_built(self, codec: TableCodec, timeout_s: float, check: Callable[[], None]) -> bool:
        """Waits until a table can be read; False when it can't be built or that takes too long.

        `check` is called now and then; what it raises ends the wait.
        """
        replica = self._replica
        until = time.monotonic() + timeout_s
        replica.prepare(codec)
        replica.demand(codec.table_id)
        with self._built:
            while not self._stopping.is_set():
                table = replica.find(codec)
                if table is not None and table.status is not Status.BUILDING:
                    return table.status is Status.READY
                if replica.refusal(codec.table_id) is not None or time.monotonic() > until:
                    return False
                if replica.problem is not None or replica.catalogue.find(codec.table_id) is None:
                    return False
                check()
                self._built.wait(0.05)
        return False

    def _step(self) -> None:
        replica = self._replica
        now = time.monotonic()
        if replica.problem is not None:
            if now - self._tried < RETRY_S:
                return
            self._tried = now
            replica.reopen()
            if replica.problem is not None:
                return
        self._drop_gone()
        self._build_missing()
        self._ticks += 1
        pending = max((len(table.pending) for table in replica.tables if table.status is Status.READY), default=0)
        if pending >= APPLY_ROWS or (pending and self._ticks >= APPLY_AGE_TICKS):
            replica.apply_all()
        if self._ticks >= APPLY_AGE_TICKS:
            self._ticks = 0
        waiting = log_bytes(replica.path)
        quiet_s = 0.0 if pending else time.monotonic() - replica.last_applied
        if quiet_s > IDLE_S:
            replica.save()
        if waiting > CHECKPOINT_BYTES or (quiet_s > IDLE_S and waiting > CHECKPOINT_IDLE_BYTES):
            self._checkpoint()
        for table in replica.tables:
            if self._is_worn(table, quiet_s):
                self.lay_out(table, gives_way=quiet_s > IDLE_S and not self._is_very_worn(table))
        if now - self._tidied >= TIDY_S:
            self._tidied = now
            self.tidy()

    def _checkpoint(self) -> None:
        """Brings DuckDB's log into its file; not now when a writer is in the way."""
        connection = self._replica.duck.take()
        try:
            with suppress(*query_errors()):
                connection.execute("CHECKPOINT replica")
        finally:
            self._replica.duck.give_back(connection)

    def _is_worn(self, table: ReplicaTable, quiet_s: float) -> bool:
        """Whether a table should be laid out anew: deleted rows make its scans slower, or it has no index yet.

        `quiet_s` is how long nothing was applied.
        """
        if table.status is not Status.READY:
            return False
        if table.wants_index:
            return True
        if table.dead < DEAD_ROWS_MIN:
            return False
        idle = quiet_s > max(IDLE_S, table.rows / LAID_OUT_PER_S)
        return self._is_very_worn(table) or (idle and table.dead > table.rows * DEAD_SHARE_IDLE)

    def _is_very_worn(self, table: ReplicaTable) -> bool:
        return table.dead > table.rows * DEAD_SHARE_MAX

    def lay_out(self, table: ReplicaTable, *, gives_way: bool = False) -> bool:
        """Writes the live rows of a table anew, in the order of its keys, while commits are applied to the old one.

        Those are then applied to the new one as well, and it takes the old one's place, in one DuckDB transaction.
        Returns whether it did; the table stays as it is when it was changed too much meanwhile, or at all if the work
        gives way to writers: it has the processors and the disk for seconds.
        """
        replica = self._replica
        connection = replica.duck.take()
        layout, generation = table.layout, table.generation
        laid = Layout(layout.codec, layout.copy + 1)
        if gives_way:
            replica.give_way(connection)
        try:
            with replica.mutex:
                ts = table.applied_ts
                connection.begin()
                connection.execute(f"SELECT 1 FROM {layout.name} LIMIT 0").fetchall()
            names = ", ".join(laid.names)
            ((rows,),) = connection.execute(
                f"CREATE TABLE {laid.name} AS SELECT {names} FROM {layout.name} ORDER BY {layout.order}"
            ).fetchall()
            connection.commit()
            key_index = create_index(connection, laid, rows)
            interrupted, gives_way = gives_way and not replica.hold_way(), False
            with replica.mutex:
                keys = None if interrupted else table.changed_since(ts)
                same = table.layout is layout and table.generation == generation and table.status is Status.READY
                if keys is None or not same or replica.find(layout.codec) is not table:
                    connection.execute(f"DROP TABLE {laid.name}")
                    return False
                self._take_over(connection, table, laid, keys, key_index)
                table.layout, table.key_index = laid, key_index
                table.dead, table.rows = len(keys), rows
            self._checkpoint()
            return True
        except query_errors() as error:
            gave_way = gives_way and not replica.hold_way()
            with suppress(*query_errors()):
                connection.rollback()
            with suppress(*query_errors()):
                connection.execute(f"DROP TABLE IF EXISTS {laid.name}")
            if not gave_way:
                logger.info("columnar table %s was not laid out anew: %s", layout.codec.schema.name, error)
                table.dead = 0  # not at once again
                table.key_index = Choice(table.key_index.index, False)
            return False
        finally:
            replica.hold_way()
            replica.duck.give_back(connection)

    def _take_over(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: ReplicaTable,
        laid: Layout,
        keys: list[bytes],
        key_index: Choice,
    ) -> None:
        """Applies to the table's new form what changed since it was begun, and puts it in place."""
        values = self._replica.storage.snapshot(table.applied_ts).batch_get(keys)
        connection.begin()
        if keys:
            run_over(connection, laid.delete_sql(), laid.keys(keys))
            run_over(connection, laid.insert_sql(), laid.rows(pack_pairs(sorted(values.items()), 0)))
        connection.execute(f"DROP TABLE {table.layout.name}")
        connection.execute(
            "UPDATE replica.main.tables SET copy = $1, key_index = $2 WHERE table_id = $3",
            [laid.copy, key_index.to_json(), table.table_id],
        )
        connection.commit()

    def tidy(self) -> None:
        """Shortens the change log, and forgets what no reader can ask for any more."""
        replica = self._replica
        with replica.mutex:
            ts = replica.apply_all()
            for table in replica.tables:
                if table.status is Status.REFUSED:  # what was in the way may have gone
                    table.status, table.reason = Status.BUILDING, None
            tables = [table for table in replica.tables if table.status is Status.READY]
            if not tables or len(tables) < len(replica.tables) or replica.writer is None:
                return
            replica.save()
            replica.storage.changes.mark(ts)
            replica.writer.execute(
                "UPDATE replica.main.tables SET applied_ts = greatest(applied_ts, $1), change_ts = $1", [ts]
            )
            replica.storage.changes.trim(ts)
            for table in tables:
                table.forget_history(replica.storage.safe_point)

    # Building

    def _drop_gone(self) -> None:
        replica = self._replica
        for table in replica.tables:
            if replica.catalogue.find(table.table_id) is None:
                replica.forget(table)

    def _build_missing(self) -> None:
        replica = self._replica
        for table_id in [*replica.demanded, *replica.catalogue.wanted()]:
            codec = replica.catalogue.find(table_id)
            if codec is not None and replica.find(codec) is None and replica.refusal(table_id) is None:
                try:
                    replica.add(ReplicaTable(Layout(codec)))
                except Unsupported as error:
                    replica.refuse(codec, error)
            replica.demanded.discard(table_id)
        for table in replica.tables:
            while (
                table.status is Status.BUILDING
                and replica.find(table.layout.codec) is table
                and not self._stopping.is_set()
            ):
                try:
                    if self._build(table):
                        break
                except query_errors() as error:
                    if replica.problem is not None or replica.find(table.layout.codec) is not table:
                        break  # stopped, or dropped under the build
                    logger.warning("columnar table %s cannot be built: %s", table.layout.codec.schema.name, error)
                    table.status, table.reason = Status.REFUSED, str(error)

    def _build(self, table: ReplicaTable) -> bool:
        """Builds a table; False when it has to start over."""
        replica = self._replica
        codec = replica.catalogue.find(table.table_id)
        if codec is None:
            return True
        generation = table.generation
        if not replica.storage.sees_loads(replica.storage.now_ts(), *codec.record_range):
            return True  # when the load is over
        old, table.layout = table.layout, Layout(codec, table.layout.copy + 1)
        layout = table.layout
        table.rows, table.key_index = 0, OPEN
        ts = replica.storage.now_ts()
        replica.storage.wait_until(ts)
        begun = time.monotonic()
        reader = replica.storage.begin(start_ts=ts)
        connection = replica.duck.take()
        padded: set[int] = set()
        max_key = b""
        try:
            with replica.mutex:
                connection.execute("DELETE FROM replica.main.tables WHERE table_id = $1", [table.table_id])
                connection.execute(f"DROP TABLE IF EXISTS {old.name}")
                connection.execute(layout.create_sql())
            gathered: list[pa.RecordBatch] = []
            for packed in reader.scan_packed(*codec.record_range, batch_rows=BATCH_ROWS):
                gone = self._stopping.is_set() or replica.find(codec) is not table
                if gone or table.generation != generation:
                    return gone
                if not packed.count:
                    continue
                batch = layout.rows(packed)
                padded |= layout.padded(batch, padded)
                max_key = packed.keys[packed.key_starts[-1] : packed.key_ends[-1]].tobytes()
                gathered.append(batch)
                table.rows += packed.count
                if sum(b.num_rows for b in gathered) >= INSERT_ROWS:
                    self._insert(connection, layout, gathered)
                    gathered = []
            if gathered:
                self._insert(connection, layout, gathered)
            key_index = create_index(connection, layout, table.rows)
            with replica.mutex:
                if table.generation != generation or replica.find(codec) is not table:
                    return False
                if not replica.storage.sees_loads(ts, *codec.record_range):
                    return True  # the position would stand behind a load that the rows do not have
                replica.storage.changes.mark(ts)
                connection.execute(
                    "INSERT INTO replica.main.tables VALUES ($1, $2, $2, $3, $4, $5, $6, $7)",
                    [
                        table.table_id,
                        ts,
                        layout.signature(),
                        max_key,
                        json.dumps(sorted(padded)),
                        layout.copy,
                        key_index.to_json(),
                    ],
                )
                table.restart(ts)
                table.key_index = key_index
                table.max_key, table.padded = max_key, padded
                table.status = Status.READY
        finally:
            reader.rollback()
            replica.duck.give_back(connection)
        took = time.monotonic() - begun
        logger.info("columnar table %s: %s rows in %.2f s", codec.schema.name, table.rows, took)
        with self._built:
            self._built.notify_all()
        return True

    def _insert(self, connection: duckdb.DuckDBPyConnection, layout: Layout, batches: list[pa.RecordBatch]) -> None:
        run_over(connection, layout.insert_sql(), pa.Table.from_batches(batches))
