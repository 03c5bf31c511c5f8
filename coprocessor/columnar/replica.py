"""The replica of one database: tables in DuckDB that stand at a timestamp, and views of them for queries.

A *view* at T is a DuckDB transaction in which every table of a query has exactly the rows that a reader at T sees. To
give one, under the mutex:

    draw T if the reader has none, wait for the commits at or below T, apply what is pending at or below T
    where a table stands above T already (somebody read later): the keys changed since are laid over it, with their
        values at T out of the row store
    begin a DuckDB transaction and touch the file: DuckDB's snapshot is taken with the first touch

After that the mutex is free: DuckDB keeps the snapshot still while others apply. Commits never wait for any of this;
they append to lists.

Changes are applied as one DELETE by key and one INSERT a table, both over Arrow, with the positions in the same DuckDB
transaction. Versions of the past are not copied: the row store keeps them above the safe point anyway, and of them a
reader of the past needs only those whose rows changed since.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from coprocessor.codec.keys import RECORD_PREFIX_LEN
from coprocessor.codec.vector import absent
from coprocessor.columnar.files import Built, attach, detach, set_aside
from coprocessor.columnar.key_index import Choice
from coprocessor.columnar.layout import NAME_PATTERN, Layout, table_name
from coprocessor.columnar.table import Batch, Entry, ReplicaTable, Status
from coprocessor.columnar.view import Overlay, View
from coprocessor.duck import RELATION, DuckEngine, Script, file_errors, is_damage, query_errors, run_over
from coprocessor.errors import Unsupported
from coprocessor.schema import ColumnSchema
from coprocessor.table import TableCodec
from kvstore.client.api import LocalStorage, Parts
from kvstore.errors import Corruption
from kvstore.mvcc.packed import pack_pairs

if TYPE_CHECKING:
    import duckdb

CATCH_UP_KEYS_MAX = 2_000_000
"""A table that more keys of the log concern is built anew."""
SAVE_S = 1.0
SAVE_KEYS = 65_536
"""When the rows were ahead of the positions in the file for so long, or by so many keys, an apply brings those up."""

logger = logging.getLogger("sqlfront.columnar")


class Catalogue(Protocol):
    """What the replica asks of the catalog."""

    def find(self, table_id: int) -> TableCodec | None:
        """The newest form of a table that is to have a replica; None when it is gone, or its replica is off."""

    def wanted(self) -> Iterable[int]:
        """The tables that are to be built without being asked for."""


class Replica:
    """All columnar tables of one storage. Any thread may use it; `worker.Worker` drives it in the background."""

    def __init__(self, storage: LocalStorage, duck: DuckEngine, path: str | None, catalogue: Catalogue) -> None:
        self.storage = storage
        self.duck = duck
        self.path = path
        self.catalogue = catalogue
        self.mutex = threading.RLock()
        self.wake = threading.Event()
        """Set when the background has something to do."""
        self.demanded: set[int] = set()
        """Tables that a query would have read here."""
        self._refused: dict[int, tuple[TableCodec, str]] = {}
        """Tables that DuckDB cannot hold, in this form, and why."""
        self._giving_way: duckdb.DuckDBPyConnection | None = None
        self._giving_way_mutex = threading.Lock()
        self.last_applied = 0.0
        """When a change was applied, on the monotonic clock."""
        self._ahead, self._saved = 0, 0.0
        """About so many keys were applied since positions were saved, and when that was, on the monotonic clock."""
        self.problem: str | None = None
        """Why nothing can be read at present."""
        self._tables: dict[bytes, ReplicaTable] = {}
        self.writer: duckdb.DuckDBPyConnection | None = None
        storage.observe(self)
        self.open()

    # What the store reports

    def on_commit(
        self, commit_ts: int, writes: Sequence[tuple[bytes, bytes | None]], patches: Mapping[bytes, Parts]
    ) -> None:
        if self._giving_way is not None:
            self.hold_way(interrupt=True)
        tables = self._tables
        for key, value in writes:
            table = tables.get(key[:RECORD_PREFIX_LEN])
            if table is not None:
                table.note(commit_ts, key, value, patches.get(key))

    def give_way(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Has the next commit interrupt what the connection runs, until `hold_way`."""
        self._giving_way = connection

    def hold_way(self, *, interrupt: bool = False) -> bool:
        """Ends that; returns whether nobody has interrupted it."""
        with self._giving_way_mutex:  # the connection is another's afterwards
            connection, self._giving_way = self._giving_way, None
            if connection is not None and interrupt:
                connection.interrupt()
            return connection is not None

    def on_ingest(self, commit_ts: int, start: bytes, end: bytes) -> None:
        """A bulk load changed the range: the tables in it are read anew."""
        with self.mutex:  # no position is on its way to the file
            for table in self._tables.values():
                if table.lies_in(start, end):
                    table.status = Status.BUILDING
                    table.generation += 1
        self.wake.set()

    # Opening

    def open(self) -> None:
        """Opens the file, and brings what it has up to date from the change log. Notes the problem when it can't."""
        with self.mutex:
            try:
                if self.writer is None:
                    self.writer = self.duck.take()
                self._resume(attach(self.writer, self.path))
                self.problem = None
            except file_errors() as error:
                self.stop(error)

    def reopen(self) -> None:
        """Tries again after a problem."""
        with self.mutex:
            self._detach()
            self.open()

    def _detach(self, *, durably: bool = False) -> None:
        if self.writer is not None:
            with suppress(*query_errors()):
                self.writer.rollback()
            with suppress(*file_errors()):  # not durable: built anew if the machine stops
                if durably:
                    detach(self.writer, self.path)
                else:
                    self.writer.execute("DETACH replica")

    def _resume(self, built: Sequence[Built]) -> None:
        assert self.writer is not None
        changes = self.storage.changes
        tables: dict[bytes, ReplicaTable] = {}
        for found in built:
            table = self._known(found)
            prefix = None if table is None else table.layout.codec.record_prefix
            if table is not None and prefix in changes.followed and changes.has(found.change_ts):
                tables[table.layout.codec.record_prefix] = table
                ((table.rows,),) = self.writer.execute(f"SELECT count(*) FROM {table.layout.name}").fetchall()
            else:
                self._forget_built(found.table_id, found.copy)
        self._drop_unknown({table_name(found.table_id, found.copy) for found in built})
        changes.follow(tables)
        self._tables = tables  # from here on commits are told
        if tables:
            try:
                self._catch_up(list(tables.values()))
            except Corruption as error:
                logger.warning("the change log cannot be read, all columnar tables are built anew: %s", error)
                for table in tables.values():
                    table.status = Status.BUILDING
                changes.trim(self.storage.now_ts())

    def _known(self, found: Built) -> ReplicaTable | None:
        codec = self.catalogue.find(found.table_id)
        if codec is None:
            return None
        try:
            layout = Layout(codec, found.copy)
        except Unsupported:
            return None
        if layout.signature() != found.signature:
            return None
        table = ReplicaTable(layout)
        table.status = Status.READY
        table.applied_ts = found.applied_ts
        table.max_key = found.max_key
        table.padded = set(found.padded)
        table.key_index = found.key_index
        return table

    def _drop_unknown(self, built: set[str]) -> None:
        """Drops what a build left that did not come to its end."""
        assert self.writer is not None
        names = self.writer.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'replica' AND regexp_matches(table_name, $1)",
            [NAME_PATTERN],
        ).fetchall()
        for (name,) in names:
            if name not in built:
                self.writer.execute(f"DROP TABLE replica.main.{name}")

    def _forget_built(self, table_id: int, copy: int) -> None:
        assert self.writer is not None
        self.writer.execute("DELETE FROM replica.main.tables WHERE table_id = $1", [table_id])
        self.writer.execute(f"DROP TABLE IF EXISTS replica.main.{table_name(table_id, copy)}")

    def _catch_up(self, tables: Sequence[ReplicaTable]) -> None:
        """Makes pending what the log has above the tables' positions, with the values of now."""
        ts = self.storage.now_ts()
        self.storage.wait_until(ts)
        seen: dict[bytes, int] = {}
        by_prefix = {table.layout.codec.record_prefix: table for table in tables}
        for change in self.storage.changes.read(min(table.applied_ts for table in tables)):
            if change.commit_ts > ts or len(seen) > CATCH_UP_KEYS_MAX:
                break
            for table in tables:
                if change.loaded and change.commit_ts > table.applied_ts and table.lies_in(*change.loaded):
                    table.status = Status.BUILDING
            for key in change.keys:
                followed = by_prefix.get(key[:RECORD_PREFIX_LEN])
                if followed is not None and change.commit_ts > followed.applied_ts:
                    seen[key] = change.commit_ts
        if len(seen) > CATCH_UP_KEYS_MAX:
            for table in tables:
                table.status = Status.BUILDING
            return
        values = self.storage.snapshot(ts).batch_get(sorted(seen))
        pending: dict[bytes, list[Entry]] = {prefix: [] for prefix in by_prefix}
        for key, commit_ts in sorted(seen.items(), key=lambda item: item[1]):
            pending[key[:RECORD_PREFIX_LEN]].append((commit_ts, key, values.get(key), None))
        for prefix, table in by_prefix.items():
            table.drop_until(ts)
            table.pending[:0] = pending[prefix]
            table.history_from = ts
            # the file may have them already, and none above
            table.max_key = max(table.max_key, max((key for _, key, _, _ in pending[prefix]), default=b""))

    def stop(self, error: Exception) -> None:
        """Serves nothing until `reopen`: the row path does meanwhile, and the change log remembers what is missed."""
        with self.mutex:
            self.problem = f"{type(error).__name__}: {error}"
            logger.warning("the columnar replica has stopped, the row store serves: %s", self.problem)
            self._tables = {}

    def set_aside(self, error: Exception) -> None:
        """The file is damaged: puts it away and begins anew."""
        with self.mutex:
            self._detach()
            if self.path is not None:
                set_aside(self.path, str(error))
            self._tables = {}
            self.open()
            self.wake.set()

    # State

    @property
    def tables(self) -> list[ReplicaTable]:
        return list(self._tables.values())

    def find(self, codec: TableCodec) -> ReplicaTable | None:
        return self._tables.get(codec.record_prefix)

    def add(self, table: ReplicaTable) -> None:
        """Follows a table that is to be built: commits whose timestamp is drawn after the call are told."""
        with self.mutex:
            self._tables = {**self._tables, table.layout.codec.record_prefix: table}
            self.storage.changes.follow(self._tables)

    def forget(self, table: ReplicaTable) -> None:
        """The table is gone, or is to have no replica any more."""
        with self.mutex:
            self._tables = {p: t for p, t in self._tables.items() if t is not table}
            self.storage.changes.follow(self._tables)
            if self.problem is None:
                self._forget_built(table.table_id, table.layout.copy)

    def refuse(self, codec: TableCodec, error: Unsupported) -> None:
        """Notes that DuckDB cannot hold a table, as it is defined now."""
        self._refused[codec.table_id] = (codec, str(error))

    def refusal(self, table_id: int) -> str | None:
        """Why DuckDB cannot hold a table, None when it can or that is not known yet."""
        found = self._refused.get(table_id)
        return found[1] if found is not None and found[0] is self.catalogue.find(table_id) else None

    def prepare(self, codec: TableCodec) -> None:
        """Gives a table the columns of its newest definition, or finds that it has to be built."""
        with self.mutex:
            self._readable([codec])

    # Views

    def view(self, codecs: Sequence[TableCodec], ts: int | None) -> View | None:
        """Returns a view at `ts` (None: now) of those of the tables that can be read, None when there is none.

        Raises what waiting for commits raises.
        """
        with self.mutex:
            tables = self._readable(codecs)
            if not tables or self.writer is None:
                return None
            if ts is None:
                ts = self.storage.now_ts()
            self.storage.wait_until(ts)
            # a load that is visible at ts has been told by now
            tables = [table for table in tables if table.status is Status.READY and ts >= table.history_from]
            behind = [table for table in tables if table.applied_ts <= ts]
            if not self._advance(behind, ts):
                return None
            overlays: dict[int, Overlay] = {}
            for table in [table for table in tables if table.applied_ts > ts]:
                keys = table.changed_since(ts)
                if keys is None:
                    tables.remove(table)
                else:
                    overlays[table.table_id] = Overlay(table.layout, dict.fromkeys(keys))
            if not tables:
                return None
            connection = self.duck.take()
            try:
                connection.execute("BEGIN TRANSACTION; SELECT 1 FROM replica.main.format LIMIT 0")
            except BaseException:
                self.duck.end(connection)
                raise
            padded = {table.table_id: frozenset(table.padded) for table in tables}
        try:
            if overlays:
                reader = self.storage.snapshot(ts)
                for overlay in overlays.values():
                    overlay.lay(reader.batch_get(overlay.values))
        except BaseException:
            self.duck.end(connection)
            raise
        layouts = {table.table_id: table.layout for table in tables}
        return View(self.duck, connection, ts, layouts, overlays, padded)

    def _readable(self, codecs: Sequence[TableCodec]) -> list[ReplicaTable]:
        """The tables that have every column of these definitions."""
        if self.problem is not None:
            return []
        out: list[ReplicaTable] = []
        for codec in codecs:
            table = self._tables.get(codec.record_prefix)
            if table is None or table.status is not Status.READY:
                self.demand(codec.table_id)
                continue
            if not self._is_current(table):
                continue
            types = table.layout.types
            if codec is table.layout.codec or all(types.get(c) == t for c, t in Layout(codec).types.items()):
                out.append(table)
        return out

    def demand(self, table_id: int) -> None:
        """Asks the background for a table."""
        if table_id not in self.demanded and self.refusal(table_id) is None:
            self.demanded.add(table_id)
            self.wake.set()

    # Applying

    def apply_all(self) -> int:
        """Applies everything that is pending now; returns the timestamp up to which it is."""
        with self.mutex:
            ts = self.storage.now_ts()
            self.storage.wait_until(ts)
            ready = [table for table in self._tables.values() if table.status is Status.READY]
            self._advance([table for table in ready if self._is_current(table)], ts)
            return ts

    def _advance(self, tables: Sequence[ReplicaTable], ts: int) -> bool:
        """Brings the tables to `ts`; False when that failed, and then the replica has stopped."""
        batches = [(table, table.take(ts)) for table in tables]
        work = [(table, batch) for table, batch in batches if batch.entries]
        if work:
            try:
                self._apply(work, ts)
            except query_errors() as error:
                self.failed(error)
                return False
        for table, batch in batches:
            table.applied(ts, batch)
        return True

    def failed(self, error: Exception) -> None:
        """Damage is built anew; anything else may pass."""
        if is_damage(error):
            self.set_aside(error)
        else:
            self.stop(error)

    def _apply(self, work: Sequence[tuple[ReplicaTable, Batch]], ts: int) -> None:
        connection = self.writer
        assert connection is not None
        script = Script()
        ahead = self._ahead > SAVE_KEYS or time.monotonic() - self._saved > SAVE_S
        saved = self._unsaved() if ahead else []
        for table in saved:  # as they stand before this batch
            script.add(table.position_sql())
        padded = {table.table_id: table.padded for table, _ in work}
        for table, batch in work:
            layout = table.layout
            patched = batch.patched
            others = [(key, value) for key, value in batch.newest.items() if key not in patched]
            gone = [key for key, _ in others if key <= table.max_key]
            come = sorted((key, value) for key, value in others if value is not None)
            if patched:
                changed = sorted((key, value) for key in patched if (value := batch.newest[key]) is not None)
                patches = layout.patches(pack_pairs(changed, 0), batch.columns)
                if patches is not None:
                    script.add(table.update_sql(patches), patches)
            if gone:
                keys = layout.keys(gone)
                sql = table.delete_sql(keys)
                script.add(sql, keys if RELATION in sql else None)
            if come:
                rows = layout.rows(pack_pairs(come, 0))
                padded[table.table_id] = table.padded | layout.padded(rows, table.padded)
                script.add(layout.insert_sql(), pa.Table.from_batches([rows]))
        script.run_whole(connection)
        self.last_applied = time.monotonic()
        self._note_saved(saved)
        self._ahead += sum(len(batch.newest) for _, batch in work)
        for table, _ in work:
            table.padded = padded[table.table_id]

    def save(self) -> None:
        """Notes in the file where the tables stand: until then what was applied is applied again after a crash."""
        with self.mutex:
            tables = self._unsaved()
            if not tables or self.writer is None:
                return
            script = Script()
            for table in tables:
                script.add(table.position_sql())
            try:
                script.run_whole(self.writer)
            except query_errors() as error:
                self.failed(error)
                return
            self._note_saved(tables)

    def _unsaved(self) -> list[ReplicaTable]:
        return [table for table in self._tables.values() if table.unsaved and table.status is Status.READY]

    def _note_saved(self, tables: Sequence[ReplicaTable]) -> None:
        if tables:
            self._saved, self._ahead = time.monotonic(), 0
            for table in tables:
                table.unsaved = False

    # Definitions

    def _is_current(self, table: ReplicaTable) -> bool:
        """Whether the table has the columns of its newest definition, now at the latest."""
        newest = self.catalogue.find(table.table_id)
        return newest is not None and (newest is table.layout.codec or self._follow_definition(table, newest))

    def _follow_definition(self, table: ReplicaTable, newest: TableCodec) -> bool:
        """Gives the table in DuckDB the columns of the newest definition; False when it has to be built anew."""
        try:
            layout = Layout(newest, table.layout.copy)
        except Unsupported as error:
            self.refuse(newest, error)
            self.forget(table)
            return False
        old = table.layout
        kept = old.types.keys() & layout.types.keys()
        same_key = (old.handle_type, old.key_names) == (layout.handle_type, layout.key_names)
        if not same_key or any(old.types[c] != layout.types[c] for c in kept):
            table.status = Status.BUILDING
            table.generation += 1
            self.wake.set()
            return False
        if old.signature() != layout.signature():
            columns = {column.id: column for column in newest.schema.columns}
            key_index = table.key_index.without()
            try:
                self._alter(
                    layout,
                    {c: columns[c] for c in layout.types.keys() - kept},
                    old.types.keys() - kept,
                    key_index,
                )
            except query_errors() as error:
                self.failed(error)
                return False
            table.key_index = key_index
        table.layout = layout
        return True

    def _alter(
        self, layout: Layout, added: Mapping[int, ColumnSchema], dropped: Iterable[int], key_index: Choice
    ) -> None:
        """Adds and drops columns, and the index, on which nothing may depend then."""
        connection = self.writer
        assert connection is not None
        connection.begin()
        try:
            connection.execute(f"DROP INDEX IF EXISTS replica.main.{layout.index_name}")
            for column_id in dropped:
                connection.execute(f"ALTER TABLE {layout.name} DROP COLUMN c{column_id}")
            for column_id, column in added.items():
                connection.execute(
                    f"ALTER TABLE {layout.name} ADD COLUMN c{column_id} {layout.types[column_id]}"
                    f"{_default_clause(connection, layout, column)}"
                )
            connection.execute(
                "UPDATE replica.main.tables SET signature = $1, key_index = $2 WHERE table_id = $3",
                [layout.signature(), key_index.to_json(), layout.codec.table_id],
            )
            connection.commit()
        except BaseException:
            connection.rollback()
            raise

    def close(self) -> None:
        with self.mutex:
            self.save()
            self._tables = {}
            self._detach(durably=True)
            if self.writer is not None:
                self.duck.give_back(self.writer)
                self.writer = None


def _default_clause(connection: duckdb.DuckDBPyConnection, layout: Layout, column: ColumnSchema) -> str:
    """What rows get that are there already; DuckDB takes no parameters here, so the value goes as its own text."""
    if column.default is None:
        return ""
    type_ = layout.types[column.id]
    value = pa.table({"v": absent(column, None, 1, is_null=False)})
    sql = f"SELECT CAST(CAST(v AS {type_}) AS VARCHAR) FROM {RELATION}"
    ((text,),) = run_over(connection, sql, value).fetchall()
    quoted = str(text).replace("'", "''")
    return f" DEFAULT CAST('{quoted}' AS {type_})"
