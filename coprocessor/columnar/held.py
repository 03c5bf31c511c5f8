"""What a columnar store has of one table: rows in DuckDB, the ranges they cover, and the keys they may be wrong for.

    apply ── keys of commits ──> `pending` ── many: their newest rows into DuckDB ──> `changed`
    a reader at T: DuckDB's rows, with the keys that are pending or were changed above T laid over from the row store

Commits are applied in the order of the log and not of their timestamps, so no single timestamp says how far the table
is. What holds instead: a key of a covered range that is not pending has in DuckDB its newest row as of some `upto`, and
every version that was told is at or below it. A reader at T >= `upto` sees that row; one below looks it up.

The row of a key is read at `upto`, the greatest commit timestamp that was told. A commit below it that is told later
makes its key pending again, and until then the row is either without it, which no reader that waited for that commit
sees, or with it, which is what readers at or above `upto` see; the others look it up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa

from coprocessor.columnar.coverage import Coverage, KeyRange, is_within
from coprocessor.columnar.stored import StoredTable
from coprocessor.duck import DuckEngine, query_errors
from kvstore.mvcc.packed import pack_pairs

if TYPE_CHECKING:
    import duckdb

    from kvstore.client.api import Reader

PENDING_LAID_MAX = 1000
"""So many pending keys are looked up by each reader; more are brought into DuckDB first."""
PENDING_MAX = 2_000_000
"""A table with more is built anew: nobody has read it for long."""
LAID_KEYS_MAX = 50_000
"""A reader for whom more keys are to be looked up reads the rows."""
CHANGED_MAX = 1_000_000
"""So many changed keys are remembered for readers of the past."""
BATCH_ROWS = 65_536
INSERT_ROWS = 8 * BATCH_ROWS


class NotHeld(Exception):
    """The replica does not answer, and why: the rows are to be read."""


class RangeLost(NotHeld):
    """What was being built has gone or changed beneath it."""


class HeldTable:
    """One table in one form. The store's loop calls `note` and `lose`; everything else holds `mutex`."""

    def __init__(self, stored: StoredTable, connection: duckdb.DuckDBPyConnection) -> None:
        """`connection` is the writer's, used under `mutex`. Raises DuckDB's errors."""
        self.stored = stored
        self.mutex = threading.Lock()
        self.connection = connection
        self._notes = threading.Lock()
        """Guards what follows, for a few steps at a time."""
        self._coverage = Coverage()
        self._building: KeyRange | None = None
        self._is_lost = False
        self._pending: dict[bytes, None] = {}
        self._told_ts = 0
        self._changed: list[tuple[int, Sequence[bytes]]] = []
        self._changed_keys = 0
        self._history_from = 0
        self._had_rows = False
        self.is_dropped = False
        connection.execute(stored.create_sql())

    # What the store's loop tells

    def note(self, keys: Iterable[tuple[bytes, int]]) -> int:
        """Takes in record keys that were written, with their commit timestamps; returns how many are pending."""
        with self._notes:
            building = self._building
            for key, commit_ts in keys:
                if self._coverage.holds(key) or (building is not None and building[0] <= key < building[1]):
                    self._pending[key] = None
                    self._told_ts = max(self._told_ts, commit_ts)
            if len(self._pending) > PENDING_MAX:
                self._coverage.clear()
                self._pending.clear()
                self._is_lost = True
            return len(self._pending)

    def lose(self, start: bytes, end: bytes) -> None:
        """What is in a range is not what it was."""
        with self._notes:
            self._coverage.cut(start, end)
            building = self._building
            if building is not None and building[0] < end and start < building[1]:
                self._is_lost = True

    @property
    def is_abandoned(self) -> bool:
        """Whether there were rows, and none are covered any more."""
        with self._notes:
            return self._had_rows and not self._coverage and self._building is None

    # Building

    def cover(
        self, ranges: Sequence[KeyRange], reader: Reader, newer: Callable[[KeyRange], list[tuple[bytes, int]]]
    ) -> None:
        """Builds what is missing of the ranges from the rows that `reader` sees.

        `newer` gives the keys of a range with commits above the reader's timestamp, and these. Raises what the reader
        does, RangeLost, and DuckDB's errors.
        """
        with self._notes:
            gaps = self._coverage.gaps(ranges)
        for gap in gaps:
            self._build(gap, reader, newer)

    def _build(self, gap: KeyRange, reader: Reader, newer: Callable[[KeyRange], list[tuple[bytes, int]]]) -> None:
        start, end = gap
        with self._notes:
            self._building, self._is_lost = gap, False
        try:
            # what an earlier cover of the range has left
            self.connection.execute(f"DELETE FROM {self.stored.name} WHERE {self.stored.within_sql([gap])}")
            gathered: list[pa.RecordBatch] = []
            for packed in reader.scan_packed(start, end, batch_rows=BATCH_ROWS):
                if packed.count:
                    gathered.append(self.stored.rows(packed))
                if sum(batch.num_rows for batch in gathered) >= INSERT_ROWS:
                    self._insert(gathered)
                    gathered = []
            self._insert(gathered)
            above = newer(gap)
            with self._notes:
                if self._is_lost:
                    raise RangeLost("a range went away while it was built")
                self._coverage.add(start, end, reader.ts)
                self._had_rows = True
                for key, commit_ts in above:
                    self._pending[key] = None
                    self._told_ts = max(self._told_ts, commit_ts)
                self._told_ts = max(self._told_ts, reader.ts)
        finally:
            with self._notes:
                self._building = None

    def _insert(self, batches: Sequence[pa.RecordBatch]) -> None:
        if batches:
            self._with_relation("come", pa.Table.from_batches(batches), self._insert_sql)

    @property
    def _insert_sql(self) -> str:
        names = ", ".join(self.stored.names)
        return f"INSERT INTO {self.stored.name} ({names}) SELECT {names} FROM come"

    def _with_relation(self, name: str, relation: pa.Table, sql: str) -> None:
        self.connection.register(name, relation)
        try:
            self.connection.execute(sql)
        finally:
            self.connection.unregister(name)

    # Bringing pending keys in

    @property
    def pending(self) -> int:
        return len(self._pending)

    def bring_in(self, rows_at: Callable[[int], Reader]) -> None:
        """Makes DuckDB's rows of the pending keys the newest ones. Raises DuckDB's errors, and what the reader does."""
        with self._notes:
            taken, self._pending = self._pending, {}
            upto = self._told_ts
            keys = sorted(key for key in taken if self._coverage.holds(key))
        if not keys:
            return
        try:
            values = rows_at(upto).batch_get(keys)
            rows = self._rows(values)
            self.connection.begin()
            try:
                gone = pa.Table.from_batches([self.stored.keys(keys)])
                name = self.stored.name
                self._with_relation(
                    "gone", gone, f"DELETE FROM {name} AS t USING gone AS g WHERE t._handle = g._handle"
                )
                self._insert(rows)
                self.connection.commit()
            except BaseException:
                with suppress(*query_errors()):
                    self.connection.rollback()
                raise
        except BaseException:
            with self._notes:
                self._pending.update(taken)
            raise
        self._changed.append((upto, keys))
        self._changed_keys += len(keys)
        while self._changed_keys > CHANGED_MAX:
            self._history_from, forgotten = self._changed.pop(0)
            self._changed_keys -= len(forgotten)

    def _rows(self, values: dict[bytes, bytes]) -> list[pa.RecordBatch]:
        return [self.stored.rows(pack_pairs(sorted(values.items()), 0))] if values else []

    # Reading

    def laid_keys(self, ranges: Sequence[KeyRange], ts: int) -> list[bytes]:
        """The keys, ascending, whose rows a reader of the ranges at `ts` has to look up. Raises NotHeld."""
        with self._notes:
            if self._coverage.gaps(ranges):
                raise RangeLost("a range went away")
            oldest = max(self._coverage.readable_from(ranges), self._history_from)
            if ts < oldest:
                raise NotHeld(f"a read at {ts}: the replica reaches back to {oldest}")
            keys = set(self._pending)
        for upto, changed in self._changed:
            if upto > ts:
                keys.update(changed)
        keys = {key for key in keys if is_within(ranges, key)}
        if len(keys) > LAID_KEYS_MAX:
            raise NotHeld(f"{len(keys)} rows have changed since {ts}")
        return sorted(keys)

    def rows_of(self, values: dict[bytes, bytes]) -> pa.Table | None:
        """Records as a relation; None when there are none."""
        batches = self._rows(values)
        return pa.Table.from_batches(batches) if batches else None

    def drop(self) -> None:
        """Takes the table out of DuckDB; readers that have begun keep it."""
        self.is_dropped = True
        with self._notes:
            self._coverage.clear()
            self._pending.clear()
        self.connection.execute(f"DROP TABLE IF EXISTS {self.stored.name}")


def take_snapshot(engine: DuckEngine) -> duckdb.DuckDBPyConnection:
    """A connection in a transaction that sees the tables as they are now. Raises DuckDB's errors."""
    connection = engine.take()
    try:
        connection.begin()
        connection.execute("SELECT 1 FROM replica.main.format LIMIT 0").fetchall()
    except BaseException:
        engine.end(connection)
        raise
    return connection
