"""The columnar replica of a store in a cluster: tables in DuckDB beside the rows, and answers to requests over them.

A request (kvproto's BatchRequest) names regions that this store may read at the request's timestamp T: everything that
commits at or below T there is applied. It becomes one DuckDB query:

    locks of the ranges   one below T is sent back, and the client settles it
    what is missing       of the ranges is read from the rows into DuckDB, at T (`held` says what is wrong by then)
    a DuckDB snapshot     and the keys whose rows there are not those at T, which are looked up in the row store
    the query             WITH scan AS (rows of the ranges, those keys hidden, their rows added) and the request's steps

Regions play no part beneath that: ranges of keys are covered or not, however regions split, merge and move. What goes
away or is replaced (a peer, a snapshot, a bulk load) is not covered any more, and is built when it is asked for again.
DuckDB's file holds nothing across a restart.

What the replica does not answer, a value that cannot be computed too, the client asks of the rows.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from coprocessor.arrow import arrow_schema
from coprocessor.codec.keys import RECORD_PREFIX_LEN, is_record_key, record_prefix, record_range, table_id_of
from coprocessor.columnar.coverage import KeyRange, joined
from coprocessor.columnar.files import UNSYNCED
from coprocessor.columnar.held import PENDING_LAID_MAX, HeldTable, NotHeld, take_snapshot
from coprocessor.columnar.stored import StoredTable
from coprocessor.columnar.whole import WholeQuery, decode_whole
from coprocessor.dag.codec import decode_dag
from coprocessor.dag.plan import Dag, ScanColumn, TableScan
from coprocessor.dag.run import QUOTA_BYTES, as_schema
from coprocessor.dag.sql import print_steps
from coprocessor.duck import DuckEngine, is_one_select, query_errors
from coprocessor.duck_expr import is_decimal_overflow, translate_error
from coprocessor.endpoint import PAGE_BYTES_MAX, TP_DAG, Chunks, Warnings
from coprocessor.env import Env
from coprocessor.errors import CodecError, CoprocessorError
from coprocessor.written import written_keys
from kvstore.client.cluster.push_columnar import TP_WHOLE
from kvstore.proto import tipb_pb2
from kvstore.proto.coprocessor_pb2 import BatchRequest, BatchResponse
from kvstore.raftstore.api import RegionStore
from kvstore.server.access import first_user_key
from kvstore.server.region_reader import RegionReader
from kvstore.server.snapshot import Isolation

if TYPE_CHECKING:
    import duckdb

DIRECTORY = "columnar"
FILE = "store.duckdb"
RANGES_MAX = 256
"""A request over more separate ranges is answered by rows: each is a condition of the query."""
ANSWER_BYTES_MAX = 256 << 20
"""All parts of one answer together; the rows of larger ones are read in pages."""
PENDING_DUE = 8192
"""With so many pending keys a table is brought up to date though nobody reads it."""
logger = logging.getLogger("sqlfront.columnar")
_UNCHECKED = Isolation(ignore_locks=True)

ReaderAt = Callable[[int], RegionReader]


@dataclass(frozen=True, slots=True)
class _Transaction:
    """See `coprocessor.duck.Snapshot`."""

    connection: duckdb.DuckDBPyConnection


class StoreReplica:
    """The tables of one store. The store's loop tells it of writes (`kvstore.raftstore.api.WriteObserver`)."""

    def __init__(self, engine: DuckEngine, directory: str | None) -> None:
        """Begins empty; `directory` is where its file is, None keeps all in memory. The engine is its own, and closed
        with it. Raises DuckDB's errors, OSError."""
        self._engine = engine
        self._store: RegionStore | None = None
        self._mutex = threading.Lock()
        """Guards which tables there are."""
        self._tables: dict[bytes, HeldTable] = {}
        self._versions = 0
        self.on_due: Callable[[], None] = lambda: None
        """Called on the store's loop when `catch_up` has something to do."""
        self._root = engine.take()
        self._root.execute(UNSYNCED)  # it is made anew when the process starts
        self._root.execute(f"ATTACH '{_new_file(directory)}' AS replica")
        self._root.execute("CREATE TABLE replica.main.format (version INTEGER)")
        # Texts of queries come from SQL servers: none of them reads or writes a file.
        self._root.execute("SET enable_external_access = false")

    def begin(self, store: RegionStore) -> None:
        """Follows a store's writes from now on."""
        assert self._store is None, "a replica is of one store"
        self._store = store
        store.observe_writes(self)

    @property
    def tables(self) -> list[HeldTable]:
        return list(self._tables.values())

    # What the store's loop tells

    def on_written(self, records: Sequence[bytes]) -> None:
        tables = self._tables
        if not tables:
            return
        told: dict[bytes, list[tuple[bytes, int]]] = {}
        for commit_ts, key in written_keys(records, lambda key: key[:RECORD_PREFIX_LEN] in tables):
            told.setdefault(key[:RECORD_PREFIX_LEN], []).append((key, commit_ts))
        for prefix, keys in told.items():
            if tables[prefix].note(keys) >= PENDING_DUE:
                self.on_due()

    def on_range_changed(self, start: bytes, end: bytes) -> None:
        low, high = first_user_key(start), first_user_key(end)
        for table in self._tables.values():
            first, last = record_range(table.stored.table_id)
            first, last = max(first, low), min(last, high) if end else last
            if first < last:
                table.lose(first, last)

    # Answering

    def answer(self, request: BatchRequest, ranges: Sequence[KeyRange], reader_at: ReaderAt) -> list[BatchResponse]:
        """The parts of the answer, at least one; see `kvstore.server.api.ReplicaHandler`. On any thread.

        Raises MetLock, and what the reader does.
        """
        try:
            reader = reader_at(request.start_ts)
            if request.tp == TP_WHOLE:
                return self._answer_whole(decode_whole(request.data), joined(ranges), reader)
            if request.tp != TP_DAG:
                raise NotHeld(f"a request of type {request.tp}")
            return self._answer(decode_dag(request.data), joined(ranges), reader)
        except (NotHeld, CoprocessorError) as error:
            # also of a value that cannot be computed: the rows tell what their reader is to be told
            return [BatchResponse(other_error=str(error) or type(error).__name__)]
        except query_errors() as error:
            return [BatchResponse(other_error=str(error))]

    def _answer(self, dag: Dag, ranges: list[KeyRange], reader: RegionReader) -> list[BatchResponse]:
        table_id = _table_of(ranges)
        if not isinstance(dag.scan, TableScan) or table_id is None:
            raise NotHeld("only the records of one table are here")
        if len(ranges) > RANGES_MAX:
            raise NotHeld(f"{len(ranges)} ranges; {RANGES_MAX} are answered")
        if dag.scan.repeats_columns:
            raise NotHeld("a column that is asked for twice")
        for wide in (False, True):
            warnings = Warnings()
            try:
                batches = self._run(table_id, dag, ranges, reader, warnings, wide=wide)
                return list(_parts(dag, batches, warnings))
            except query_errors() as error:
                if not is_decimal_overflow(error):
                    raise translate_error(error) from error
        raise NotHeld("decimals that DuckDB cannot hold")

    def _run(
        self,
        table_id: int,
        dag: Dag,
        ranges: list[KeyRange],
        reader: RegionReader,
        warnings: Warnings,
        *,
        wide: bool,
    ) -> list[pa.RecordBatch]:
        scan = dag.scan
        assert isinstance(scan, TableScan)
        not_null = [i for i, column in enumerate(scan.columns) if column.not_null]
        printed = print_steps(dag.types_at(0), dag.steps, not_null=not_null, desc=scan.desc, wide=wide)
        with self._read([(scan, ranges)], reader) as reading:
            sql = f"WITH scan AS ({reading.sql(0, scan.columns, dag.tz)}) {printed.sql}"
        env = Env(tz=dag.tz, warn=warnings.add)
        query = self._engine.query(
            sql, {}, reading.relations, printed.udfs, env, reading.transaction, quota=QUOTA_BYTES
        )
        query.start()
        return list(query.batches(streamed=False))

    def _answer_whole(self, query: WholeQuery, ranges: list[KeyRange], reader: RegionReader) -> list[BatchResponse]:
        """The rows as DuckDB has them, as Arrow streams."""
        scans = []
        for relation in query.relations.values():
            low, high = record_range(relation.scan.table_id)
            scans.append((relation.scan, [one for one in ranges if low <= one[0] and one[1] <= high]))
        if sum(len(own) for own in {scan.table_id: own for scan, own in scans}.values()) != len(ranges):
            raise NotHeld("ranges of other tables than are read")
        if any(len(own) > RANGES_MAX for _, own in scans):
            raise NotHeld(f"more than {RANGES_MAX} ranges of one table")
        with self._read(scans, reader) as reading:
            sources = {
                name: f"({reading.sql(at, one.scan.columns[: one.width], one.dag.tz)})"
                for at, (name, one) in enumerate(query.relations.items())
            }
            sql = query.sql(sources)
            if not is_one_select(sql):  # it comes from elsewhere
                raise NotHeld("a whole query is one SELECT")
        env = Env(tz=dt.UTC, warn=lambda code, message: None)
        running = self._engine.query(
            sql, query.params, reading.relations, {}, env, reading.transaction, quota=QUOTA_BYTES
        )
        running.start()
        return list(_whole_parts(running.batches(streamed=False)))

    @contextmanager
    def _read(self, scans: Sequence[tuple[TableScan, list[KeyRange]]], reader: RegionReader) -> Iterator[_Reading]:
        """All that scans read, at one state of the replica: the block prints the query. Raises NotHeld, MetLock."""
        # a lock first: a commit at or below the timestamp is then seen as a lock, or was told
        known = [[key for one in ranges for key in reader.check_locks(*one)] for _, ranges in scans]
        assert self._store is not None
        self._store.wait_told()
        for scan, _ in scans:
            self._held(scan.table_id, scan)  # in a form for all scans of it, which the last of them completes
        tables = [self._held(scan.table_id, scan) for scan, _ in scans]
        with ExitStack() as stack:
            for held in sorted(dict.fromkeys(tables), key=lambda one: one.stored.table_id):
                stack.enter_context(held.mutex)
            for held, (_, ranges) in zip(tables, scans, strict=True):
                if held.is_dropped:
                    raise NotHeld("the table takes another form")
                try:
                    held.cover(ranges, reader, lambda gap: [] if reader.is_stable else reader.newer(*gap))
                    if held.pending > PENDING_LAID_MAX:
                        held.bring_in(self._rows_at(reader.check))
                except (CodecError, pa.ArrowException, *query_errors()) as error:
                    self._forget(held)
                    raise NotHeld(f"the replica of table {held.stored.table_id} is built anew: {error}") from error
            laid = [
                sorted({*held.laid_keys(ranges, reader.ts), *locked})
                for held, (_, ranges), locked in zip(tables, scans, known, strict=True)
            ]
            transaction = _Transaction(take_snapshot(self._engine))
        try:
            reading = _Reading(transaction, [held.stored for held in tables], [ranges for _, ranges in scans])
            for at, (held, keys) in enumerate(zip(tables, laid, strict=True)):
                if keys:
                    reading.relations[f"gone{at}"] = pa.Table.from_batches([held.stored.keys(keys)])
                    come = held.rows_of(reader.batch_get(keys))
                    if come is not None:
                        reading.relations[f"come{at}"] = come
            yield reading
        except BaseException:
            self._engine.end(transaction.connection)
            raise

    def _held(self, table_id: int, scan: TableScan) -> HeldTable:
        """The table in a form that has the scan's columns; one that lacks some is replaced."""
        with self._mutex:
            self._drop_empty()
            prefix = record_prefix(table_id)
            old = self._tables.get(prefix)
            if old is not None and old.stored.has(scan):
                return old
            self._versions += 1
            wanted = scan if old is None else old.stored.with_columns_of(scan)
            made = HeldTable(StoredTable(table_id, wanted, self._versions), self._engine.take())
            self._tables = {**self._tables, prefix: made}
        if old is not None:
            with old.mutex:
                old.drop()
                self._engine.give_back(old.connection)
        return made

    def _forget(self, held: HeldTable) -> None:
        """Drops a table, with its mutex, that did not take rows in: it is made anew when it is asked for again."""
        logger.warning("columnar table %s is dropped, it did not take in what was written", held.stored.name)
        with self._mutex:
            self._tables = {prefix: table for prefix, table in self._tables.items() if table is not held}
        with suppress(*query_errors()):
            held.drop()
        self._engine.give_back(held.connection)

    def _drop_empty(self) -> None:
        """Drops the tables of which nothing is here any more; with `_mutex`."""
        for prefix, table in list(self._tables.items()):
            if table.is_abandoned and table.mutex.acquire(blocking=False):
                try:
                    self._tables = {p: t for p, t in self._tables.items() if p != prefix}
                    table.drop()
                    self._engine.give_back(table.connection)
                finally:
                    table.mutex.release()

    # Beside requests

    def catch_up(self) -> None:
        """Brings in what is pending where it is much. On any thread.

        What fails now fails for the next reader, who drops the table.
        """
        for table in self.tables:
            if table.pending < PENDING_DUE:
                continue
            with table.mutex, suppress(CodecError, pa.ArrowException, *query_errors()):
                if not table.is_dropped:
                    table.bring_in(self._rows_at(lambda: None))

    def _rows_at(self, check: Callable[[], None]) -> ReaderAt:
        assert self._store is not None
        engine = self._store.engine
        return lambda ts: RegionReader(engine, ts, _UNCHECKED, check)

    def close(self) -> None:
        """Closes DuckDB; nothing may be under way."""
        for table in self.tables:
            self._engine.give_back(table.connection)
        self._tables = {}
        self._engine.give_back(self._root)
        self._engine.close()


def _new_file(directory: str | None) -> str:
    """The name of a file that is not there yet, for SQL."""
    if directory is None:
        return ":memory:"
    os.makedirs(os.path.join(directory, DIRECTORY), exist_ok=True)
    file = os.path.join(directory, DIRECTORY, FILE)
    for left in (file, f"{file}.wal"):
        with suppress(FileNotFoundError):
            os.unlink(left)
    return file.replace("'", "''")


def _table_of(ranges: Sequence[KeyRange]) -> int | None:
    """The table that all ranges are records of; None when there is none."""
    if not ranges or not is_record_key(ranges[0][0]):
        return None
    table_id = table_id_of(ranges[0][0])
    low, high = record_range(table_id)
    return table_id if low <= ranges[0][0] and ranges[-1][1] <= high else None


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a query reads of the replica in one transaction: scans by their places, and the rows laid over them."""

    transaction: _Transaction
    stored: Sequence[StoredTable]
    ranges: Sequence[Sequence[KeyRange]]
    relations: dict[str, pa.Table] = field(default_factory=dict)

    def sql(self, at: int, columns: Sequence[ScanColumn], tz: dt.tzinfo) -> str:
        """A SELECT of a scan's columns, TIMESTAMPs in zone `tz`."""
        stored = self.stored[at]
        wanted = stored.select_list(columns, tz)
        sql = f"SELECT {wanted} FROM {stored.name} AS t WHERE ({stored.within_sql(self.ranges[at])})"
        if f"gone{at}" in self.relations:
            sql += f" AND NOT EXISTS (SELECT 1 FROM gone{at} AS g WHERE g._handle = t._handle)"
        if f"come{at}" in self.relations:
            sql += f" UNION ALL SELECT {wanted} FROM come{at}"
        return sql


def _whole_parts(batches: Iterable[pa.RecordBatch]) -> Iterator[BatchResponse]:
    """The rows as SelectResponses of one Arrow stream each; one without where there are none. Raises NotHeld."""
    size = 0
    for whole in batches:
        for batch in _sliced(whole):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            data = sink.getvalue().to_pybytes()
            size += len(data)
            if size > ANSWER_BYTES_MAX:
                raise NotHeld(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
            yield _whole_part([data])
    if not size:
        yield _whole_part([])


def _whole_part(chunks: Sequence[bytes]) -> BatchResponse:
    response = tipb_pb2.SelectResponse(encode_type=tipb_pb2.TypeArrow)
    for data in chunks:
        response.chunks.add(rows_data=data)
    return BatchResponse(data=response.SerializeToString())


def _parts(dag: Dag, batches: Sequence[pa.RecordBatch], warnings: Warnings) -> Iterator[BatchResponse]:
    """The rows as so many SelectResponses; the warnings are in the first. Raises NotHeld when it gets too large."""
    schema = arrow_schema([f"c{i}" for i in range(len(dag.types))], dag.types, inside=True)
    size = 0
    chunks = Chunks(dag)
    for code, message in warnings.first:
        chunks.response.warnings.add(code=code, msg=message)
    chunks.response.warning_count = warnings.count
    for batch in (small for whole in batches for small in _sliced(as_schema(whole, schema))):
        chunks.add(batch)
        if chunks.size >= PAGE_BYTES_MAX:
            size += chunks.size
            if size > ANSWER_BYTES_MAX:
                raise NotHeld(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
            yield BatchResponse(data=chunks.response.SerializeToString())
            chunks = Chunks(dag)
    yield BatchResponse(data=chunks.response.SerializeToString())


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces that fit into an answer."""
    rows = max(1, batch.num_rows // (batch.nbytes // PAGE_BYTES_MAX + 1))
    for at in range(0, batch.num_rows, rows):
        yield batch.slice(at, rows)
