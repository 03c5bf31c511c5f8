"""Statistics: row counts kept as rows change, and what ANALYZE TABLE finds out about columns and indexes.

`Statistics` answers the planner (it is its `Estimator`): from histograms where a table was analysed, else with TiDB's
pseudo estimates over the counted rows. Counts are changed in memory at every commit and written in the background
`FLUSH_INTERVAL_S` after the first change, and on close, so after a crash they are a few seconds old; they are estimates
and nothing more. Stored under `m` as JSON, field = table id: what ANALYZE found in one hash, the small counts in
another.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from kvstore.errors import KvError, StoreError, WriteConflict
from sqlfront.catalog.histogram import (
    PSEUDO_BETWEEN,
    PSEUDO_EQUAL,
    PSEUDO_NULL,
    PSEUDO_RANGE,
    PSEUDO_ROWS,
    ColumnStats,
    key_of,
)
from sqlfront.catalog.meta import ROW_COUNTS, STATS, Meta, MetaReader
from sqlfront.catalog.model import TEMPORARY_ID_MIN
from sqlfront.errors import ER_UNKNOWN_ERROR, NotSupportedError, error
from sqlfront.result import Result, ResultColumn, rows_result
from sqlfront.threads import OS_THREADS, Event, Joinable, Threads

if TYPE_CHECKING:
    import pyarrow as pa

    from kvstore.client.api import Reader, Storage
    from sqlfront.catalog.model import Table
    from sqlfront.parse import AnalyzeTable
    from sqlfront.session import Session

FORMAT_VERSION = 1
STATS_VERSION = b"StatsVersion"
"""Grows when statistics are written."""
FLUSH_INTERVAL_S = 5.0
"""How long changed row counts wait before they are written."""
WRITES_MAX = 10
"""How often changes are written before a conflict with other servers is an error."""


@dataclass(slots=True)
class TableStats:
    """Statistics of one table. `row_count` follows the changes; the rest is as of the last ANALYZE.

    `indexes` maps an index id to the distinct counts of its leading columns: one, two, ... of them.
    """

    table_id: int
    row_count: int = 0
    analyzed_rows: int | None = None
    analyzed_ts: int = 0
    columns: dict[int, ColumnStats] = field(default_factory=dict)
    indexes: dict[int, list[float]] = field(default_factory=dict)
    modified: int = 0

    def column(self, column_id: int) -> ColumnStats | None:
        return self.columns.get(column_id)

    def index_distinct(self, index_id: int, columns: int) -> float | None:
        """The number of distinct values of an index's first `columns` columns, None when it is not known."""
        found = self.indexes.get(index_id)
        return found[columns - 1] if found is not None and 0 < columns <= len(found) else None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT_VERSION,
            "rows": self.row_count,
            "analyzed_rows": self.analyzed_rows,
            "analyzed_ts": self.analyzed_ts,
            "modified": self.modified,
            "columns": [c.to_json() for c in self.columns.values()],
            "indexes": {str(k): v for k, v in self.indexes.items()},
        }

    @classmethod
    def from_json(cls, table_id: int, data: dict[str, Any]) -> TableStats:
        if data.get("format") != FORMAT_VERSION:
            return cls(table_id, data.get("rows", 0))
        columns = [ColumnStats.from_json(c) for c in data["columns"]]
        return cls(
            table_id,
            data["rows"],
            data["analyzed_rows"],
            data["analyzed_ts"],
            {c.column_id: c for c in columns},
            {int(k): v for k, v in data["indexes"].items()},
            data["modified"],
        )


@dataclass(slots=True)
class _Counted:
    """Rows added and changed ones; `whole`: what there is, whatever was known before."""

    rows: int = 0
    modified: int = 0
    whole: bool = False

    def over(self, rows: int, modified: int) -> tuple[int, int]:
        if self.whole:
            return self.rows, self.modified
        return max(rows + self.rows, 0), modified + self.modified

    def then(self, later: _Counted | None) -> _Counted:
        """Both, one after the other."""
        if later is None or later.whole:
            return later or self
        return _Counted(self.rows + later.rows, self.modified + later.modified, self.whole)


def _is_temporary(table_id: int) -> bool:
    """Whether what is known of a table is kept in memory alone."""
    return table_id >= TEMPORARY_ID_MIN


class Statistics:
    """The statistics of all tables of one storage, and of temporary ones. Any thread may use it."""

    def __init__(self, storage: Storage, threads: Threads = OS_THREADS) -> None:
        self._storage = storage
        self._threads = threads
        self._mutex = threading.Lock()
        self._write_mutex = threads.mutex()
        self._counts: dict[int, _Counted] = {}
        """What was counted here since it was written last."""
        self._analyzed: set[int] = set()
        self._gone: set[int] = set()
        self._changed = threads.event()
        self._stopping = threads.event()
        self._flusher: Joinable | None = None
        self._tables: dict[int, TableStats] = {}
        self.reload()

    def reload(self) -> None:
        """Takes in what is stored, with what was counted here since; another server may have written it."""
        reader = MetaReader(self._storage.snapshot())
        tables = {
            table_id: TableStats.from_json(table_id, data) for table_id, data in reader.json_fields(STATS).items()
        }
        for table_id, counts in reader.json_fields(ROW_COUNTS).items():
            stats = tables.setdefault(table_id, TableStats(table_id))
            stats.row_count, stats.modified = counts["rows"], counts["modified"]
        with self._mutex:
            for table_id, counted in self._counts.items():
                stats = tables.setdefault(table_id, TableStats(table_id))
                stats.row_count, stats.modified = counted.over(stats.row_count, stats.modified)
            for table_id in self._analyzed & self._tables.keys() | set(filter(_is_temporary, self._tables)):
                tables[table_id] = self._tables[table_id]
            for table_id in self._gone:
                tables.pop(table_id, None)
            self._tables = tables

    def table(self, table_id: int) -> TableStats | None:
        """What is known of a table; None when it was neither analysed nor changed since it was made."""
        return self._tables.get(table_id)

    def note_changes(self, table_id: int, delta: int, modified: int = 0) -> None:
        """Counts rows that a commit added (or removed, below 0); `modified` counts changed ones."""
        with self._mutex:
            stats = self._tables.get(table_id)
            if stats is None:
                stats = self._tables[table_id] = TableStats(table_id)
            modified = modified or abs(delta)
            stats.row_count = max(stats.row_count + delta, 0)
            stats.modified += modified
            if _is_temporary(table_id):
                return
            counted = self._counts.get(table_id)
            if counted is None:
                counted = self._counts[table_id] = _Counted()
            counted.rows += delta
            counted.modified += modified
        if not self._changed.is_set():
            self._flush_later()

    def set_rows(self, table_id: int, rows: int) -> None:
        """Sets a row count that was counted."""
        with self._mutex:
            self._tables.setdefault(table_id, TableStats(table_id)).row_count = rows
            if _is_temporary(table_id):
                return
            self._counts[table_id] = _Counted(rows, 0, whole=True)
        self._flush_later()

    def put(self, stats: TableStats) -> None:
        """Takes and stores the result of an ANALYZE."""
        with self._mutex:
            self._tables[stats.table_id] = stats
            if _is_temporary(stats.table_id):
                return
            self._counts[stats.table_id] = _Counted(stats.row_count, stats.modified, whole=True)
            self._analyzed.add(stats.table_id)
        self.flush()

    def forget(self, table_id: int) -> None:
        """Drops what is known of a table that is gone."""
        with self._mutex:
            known = self._tables.pop(table_id, None)
            if _is_temporary(table_id):
                return
            if known is not None:
                self._gone.add(table_id)
            self._counts.pop(table_id, None)
            self._analyzed.discard(table_id)
        self._flush_later()

    def flush(self) -> int:
        """Writes what changed since the last time; returns how many tables."""
        with self._write_mutex:
            self._changed.clear()
            with self._mutex:
                counts, analyzed, gone = self._counts, self._analyzed, self._gone
                self._counts, self._analyzed, self._gone = {}, set(), set()
                records = {i: self._tables[i].to_json() for i in analyzed}
            if not counts and not records and not gone:
                return 0
            try:
                self._write_over_others(counts, records, gone)
            except BaseException:
                with self._mutex:
                    for table_id in counts.keys() & self._tables.keys():
                        self._counts[table_id] = counts[table_id].then(self._counts.get(table_id))
                    self._analyzed |= analyzed & self._tables.keys()
                    self._gone |= gone
                raise
            return len(counts.keys() | analyzed | gone)

    def _write_over_others(
        self, counts: dict[int, _Counted], records: dict[int, dict[str, Any]], gone: set[int]
    ) -> None:
        """Writes once more where another server wrote at the same time: who closes has no later time."""
        for _ in range(WRITES_MAX - 1):
            with contextlib.suppress(WriteConflict):
                return self._write(counts, records, gone)
        return self._write(counts, records, gone)

    def _write(self, counts: dict[int, _Counted], records: dict[int, dict[str, Any]], gone: set[int]) -> None:
        txn = self._storage.begin(pessimistic=False)
        try:
            meta = Meta(txn)
            for table_id, counted in counts.items():
                stored = {} if counted.whole else meta.json_field(ROW_COUNTS, table_id) or {}
                rows, modified = counted.over(stored.get("rows", 0), stored.get("modified", 0))
                meta.put_json(ROW_COUNTS, table_id, {"rows": rows, "modified": modified})
            for table_id, record in records.items():
                meta.put_json(STATS, table_id, record)
            for table_id in gone:
                meta.delete_json(ROW_COUNTS, table_id)
                meta.delete_json(STATS, table_id)
            meta.increment(STATS_VERSION)
            txn.commit()
        finally:
            txn.rollback()

    def _flush_later(self) -> None:
        """Has the background thread write within `FLUSH_INTERVAL_S`; the first call starts it."""
        self._changed.set()
        if self._flusher is not None:
            return
        with self._mutex:
            if self._flusher is None and not self._stopping.is_set():
                ends = (self._changed, self._stopping)
                weakref.finalize(self, _stop, *ends)
                reference = weakref.ref(self)
                self._flusher = self._threads.start("sqlfront-statistics", lambda: _keep_flushed(reference, *ends))

    def close(self) -> None:
        """Stops the background thread and writes what is not written yet."""
        _stop(self._changed, self._stopping)
        if self._flusher is not None:
            self._flusher.join()
        self.flush()

    # Estimates

    def rows(self, table: Table) -> float:
        """The number of rows: counted, else TiDB's pseudo 10,000."""
        stats = self._tables.get(table.id)
        return float(PSEUDO_ROWS if stats is None else stats.row_count)

    def equal(self, table: Table, offset: int, value: object = None, known: bool = False) -> float:
        """The fraction of rows with column = value."""
        found = self._column(table, offset)
        if found is None:
            return self._pseudo_equal(table, offset)
        if not known:
            return found.equal_unknown()
        return found.equal(key_of(value, table.columns[offset].type))

    def in_list(self, table: Table, offset: int, values: list[object]) -> float:
        return min(sum(self.equal(table, offset, v, known=True) for v in values), 1.0)

    def between(self, table: Table, offset: int, low: object = None, high: object = None, known: bool = True) -> float:
        """The fraction of rows with low <= column <= high; None is unbounded."""
        found = self._column(table, offset)
        ft = table.columns[offset].type
        if found is None or not known:
            share = PSEUDO_BETWEEN if low is not None and high is not None else PSEUDO_RANGE
            return share if low is not None or high is not None else 1.0
        return found.between(key_of(low, ft), key_of(high, ft))

    def null(self, table: Table, offset: int) -> float:
        """The fraction of rows with NULL in the column."""
        if table.columns[offset].not_null:
            return 0.0
        found = self._column(table, offset)
        return PSEUDO_NULL if found is None else found.null_fraction

    def distinct(self, table: Table, offset: int) -> float:
        """The number of distinct values of a column."""
        found = self._column(table, offset)
        return 1 / max(self._pseudo_equal(table, offset), 1e-12) if found is None else max(found.distinct, 1.0)

    def index_distinct(self, table: Table, index_id: int, columns: int) -> float | None:
        stats = self._tables.get(table.id)
        return None if stats is None else stats.index_distinct(index_id, columns)

    def _column(self, table: Table, offset: int) -> ColumnStats | None:
        stats = self._tables.get(table.id)
        if stats is None or not stats.analyzed_rows:
            return None
        return stats.columns.get(table.columns[offset].id)

    def _pseudo_equal(self, table: Table, offset: int) -> float:
        """One row for a column that is unique, else one in a thousand."""
        rows = max(self.rows(table), 1.0)
        alone = table.primary_key == (offset,) or any(
            i.unique and len(i.columns) == 1 and i.columns[0].offset == offset for i in table.indexes
        )
        return 1 / rows if alone else max(PSEUDO_EQUAL, 1 / rows)


def _stop(changed: Event, stopping: Event) -> None:
    stopping.set()
    changed.set()


def _keep_flushed(ref: weakref.ref[Statistics], changed: Event, stopping: Event) -> None:
    """The background thread: writes changed counts now and then, until the statistics or the store are closed."""
    while True:
        changed.wait()
        if stopping.wait(FLUSH_INTERVAL_S):
            return
        statistics = ref()
        if statistics is None:
            return
        try:
            statistics.flush()
        except StoreError:
            return  # closed, or stopped by a failed write: nothing can be written any more
        except KvError:
            changed.set()  # in the next round: a conflict, or a cluster that does not answer now
        del statistics


Ask: TypeAlias = "Callable[[Table, Reader], Iterator[pa.RecordBatch] | None]"


def _read_here(table: Table, reader: Reader) -> None:
    """Nobody gives a table's columns in bulk: they are read by the reader."""


def execute_analyze(session: Session, statement: AnalyzeTable, ask: Ask = _read_here) -> Result:
    """ANALYZE TABLE: reads the tables at one snapshot and stores what it finds. Gives MySQL's four columns back.

    `ask` gives a table's columns as of a reader where the store gives them in bulk, else None.
    """
    from coprocessor.types import varchar
    from sqlfront.catalog.analyze import analyze

    database = session.database
    rows: list[tuple[object, ...]] = []
    schema = session.seen(database.catalog.schema)
    tables = []
    for name in statement.tables:
        db = name.db or session.current_db
        if not db:
            raise error(1046, "No database selected")
        position = name.this.meta.get("start", -1)
        table = schema.need_relation(db, name.name, position=position)
        if table.view is not None:
            message = f"analyze view {table.name} is not supported now"
            raise NotSupportedError(message, ER_UNKNOWN_ERROR, "HY000", position)
        tables.append(table)
    for table in tables:
        reader = session.storage.snapshot()
        asked = _read_here if table.temporary else ask
        found = [analyze(reader, part, session.cancel, asked(part, reader)) for part in table.physical]
        for stats in found:
            database.statistics.put(stats)
        if table.parts:
            database.statistics.set_rows(table.id, sum(stats.row_count for stats in found))
        rows.append((f"{table.db}.{table.name}", "analyze", "status", "OK"))
    names = ("Table", "Op", "Msg_type", "Msg_text")
    return rows_result(tuple(ResultColumn(n, varchar(128)) for n in names), rows)
