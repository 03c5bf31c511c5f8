"""Bulk load: `Connection.append`. Arrow, frames, Parquet files or tuples into a table, past the transaction layer.

A load is a transaction of its own. Its rows come in chunks; each chunk is cast and encoded to record and index entries
in bulk (`coprocessor.codec.vector_encode`) and handed to the store as sorted runs: one for the records, one for each
index. `Ingest.finish` checks for duplicates and makes all runs visible at once; until then readers see the table as it
was and writers of it wait. Schema changes wait too: the load holds the catalog's mutex. Only one chunk is in memory at
a time.

A few rows are not worth an ingest: under `TRANSACTIONAL_ROWS_MAX` they are inserted by an ordinary statement.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from coprocessor.types import Tp
from kvstore.errors import KeyExists
from sqlfront.errors import DatabaseError, InterfaceError, ProgrammingError, error, near_match, unsupported

if TYPE_CHECKING:
    import pyarrow as pa

    from kvstore.client.api import Ingest
    from sqlfront.catalog.model import Column, Table
    from sqlfront.database import Database
    from sqlfront.session import Session

CHUNK_ROWS = 131_072
TRANSACTIONAL_ROWS_MAX = 1000
DDL_WAIT_STEP_S = 0.05

Progress = Callable[[int, int | None], None]


def to_arrow_table(data: object) -> pa.Table:
    """Returns an Arrow table of whatever speaks Arrow, or of a pandas frame or a dict of columns."""
    from coprocessor.arrow import as_table

    try:
        return as_table(data)
    except TypeError as exc:
        raise InterfaceError(str(exc)) from exc


@dataclass(slots=True)
class Chunk:
    """Some rows by column: Arrow arrays, or lists of Python values. `first_row` counts from 1."""

    columns: Sequence[Any]
    rows: int
    first_row: int

    def values(self, at: int) -> list[Any]:
        """One column as Python values."""
        column = self.columns[at]
        if isinstance(column, list):
            return column
        values: list[Any] = column.to_pylist()
        return values


@dataclass(slots=True)
class Source:
    """Rows to be loaded: the columns' names, the number of rows if it is known, and the chunks."""

    names: list[str]
    total: int | None
    chunks: Iterator[Chunk]


def open_source(data: object, table: Table) -> Source:
    """Opens what `append` was given. Raises InterfaceError for what holds no rows."""
    if isinstance(data, str | os.PathLike):
        return _parquet(os.fspath(data), table)
    import pyarrow as pa

    if isinstance(data, pa.RecordBatchReader):
        return _arrow(data.schema, data, None)
    if _is_rows(data):
        assert isinstance(data, Iterable)
        return _tuples(data, table)
    stream = getattr(type(data), "__arrow_c_stream__", None)
    if stream is not None and not isinstance(data, pa.Table) and not _is_pandas(data):
        reader = pa.RecordBatchReader.from_stream(data)
        total = len(data) if hasattr(type(data), "__len__") else None  # type: ignore[arg-type]
        return _arrow(reader.schema, reader, total)
    found = to_arrow_table(data)
    return _arrow(found.schema, found.to_batches(max_chunksize=CHUNK_ROWS), found.num_rows)


def _is_pandas(data: object) -> bool:
    return type(data).__module__.partition(".")[0] == "pandas"


def _is_rows(data: object) -> bool:
    if isinstance(data, list | tuple):
        return True
    speaks_arrow = hasattr(type(data), "__arrow_c_stream__") or hasattr(type(data), "__arrow_c_array__")
    return isinstance(data, Iterator) and not speaks_arrow


def _parquet(path: str, table: Table) -> Source:
    import pyarrow.parquet as pq

    if not os.path.isfile(path):
        raise InterfaceError(f"no such file: {path!r}; append takes the path of a Parquet file")
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except (OSError, ValueError) as exc:
        raise InterfaceError(f"{path!r} cannot be read as Parquet: {exc}") from exc
    _match(file.schema_arrow.names, table)
    return _arrow(file.schema_arrow, file.iter_batches(batch_size=CHUNK_ROWS), file.metadata.num_rows)


def _arrow(schema: pa.Schema, batches: Iterable[pa.RecordBatch], total: int | None) -> Source:
    return Source(list(schema.names), total, _arrow_chunks(schema, batches))


def _arrow_chunks(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[Chunk]:
    """Yields chunks of at most CHUNK_ROWS rows, small batches put together."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    rows, first_row = 0, 1
    for batch in chain.from_iterable(_sliced(b) for b in batches):
        if held and rows + batch.num_rows > CHUNK_ROWS:
            yield _chunk(pa.Table.from_batches(held, schema), first_row)
            first_row += rows
            held, rows = [], 0
        held.append(batch)
        rows += batch.num_rows
    if rows:
        yield _chunk(pa.Table.from_batches(held, schema), first_row)


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, CHUNK_ROWS):
        yield batch.slice(start, CHUNK_ROWS)


def _chunk(rows: pa.Table, first_row: int) -> Chunk:
    import pyarrow as pa

    columns = []
    for column in rows.columns:
        whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        columns.append(pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole)
    return Chunk(columns, rows.num_rows, first_row)


def _tuples(data: Iterable[object], table: Table) -> Source:
    columns = [c for c in table.columns if c.generated is None]
    total = len(data) if isinstance(data, list | tuple) else None
    return Source([c.name for c in columns], total, _tuple_chunks(iter(data), len(columns)))


def _tuple_chunks(rows: Iterator[object], width: int) -> Iterator[Chunk]:
    first_row = 1
    while part := list(islice(rows, CHUNK_ROWS)):
        for number, row in enumerate(part, first_row):
            if not isinstance(row, list | tuple):
                raise InterfaceError(f"row {number} is a {type(row).__name__}; append takes tuples, Arrow or Parquet")
            if len(row) != width:
                raise error(1136, f"Column count doesn't match value count at row {number}")
        yield Chunk([list(column) for column in zip(*part, strict=True)], len(part), first_row)
        first_row += len(part)


def _match(names: Sequence[str], table: Table) -> list[Column]:
    """Returns the table's column of every name; 1054 for an unknown one, 1110 for one that is there twice."""
    found: list[Column] = []
    for name in names:
        column = table.column(name)
        if column is None:
            hint = near_match(name, [c.name for c in table.columns])
            raise error(1054, f"Unknown column '{name}' in 'field list'{hint}")
        if column in found:
            raise error(1110, f"Column '{name}' specified twice")
        if column.generated is not None:
            raise error(
                3105, f"The value specified for generated column '{name}' in table '{table.name}' is not allowed."
            )
        found.append(column)
    return found


def append(
    database: Database,
    session: Session,
    name: str,
    data: object,
    *,
    progress: Progress | None = None,
    on_duplicate: str = "error",
) -> int:
    """Loads `data` into the table `name` (or `database.name`) and returns the number of rows. See
    `Connection.append`.
    """
    if on_duplicate != "error":
        raise unsupported(f"append with on_duplicate={on_duplicate!r}")
    table = _table_of(database, session, name)
    source = open_source(data, table)
    columns = _match(source.names, table)
    _check_defaults(table, columns)
    _end_clean_transaction(session)
    session.cancel.clear()
    session.statement = f"append {name}"  # so that `interrupt` finds something to stop
    try:
        head, small = _read_ahead(source.chunks)
        if small:
            return _insert(session, table, columns, head, progress)
        chunks = chain(head, source.chunks)
        del head
        return _ingest(database, session, name, source, chunks, progress)
    finally:
        session.statement = ""


def _ingest(
    database: Database, session: Session, name: str, source: Source, chunks: Iterator[Chunk], progress: Progress | None
) -> int:
    """Loads in bulk, with schema changes shut out."""
    mutex = database.catalog.ddl_mutex
    while not mutex.acquire(timeout=DDL_WAIT_STEP_S):
        session.check_cancelled()
    try:
        table = _table_of(database, session, name)  # as it is now that nobody changes it
        local, columns = database.local, _match(source.names, table)
        if local is not None:
            load = BulkLoad(database, session, table, columns)
            ingest = local.ingest(*_range_of(table), cancel=session.cancel)
            rows = load.run(ingest, chunks, source.total, progress)
        elif _is_empty(database, table):
            return _load_empty(database, session, table, columns, chunks, source.total, progress)
        else:
            load = BulkLoad(database, session, table, columns)
            rows = load.run(_OneTransaction(database, session, table), chunks, source.total, progress)
        database.statistics.note_changes(table.id, rows)
        return rows
    finally:
        mutex.release()


def _range_of(table: Table) -> tuple[bytes, bytes]:
    from coprocessor.codec.keys import table_range

    return table_range(table.id)


def _is_empty(database: Database, table: Table) -> bool:
    return next(database.storage.snapshot().scan(*table.codec.record_range), None) is None


def _load_empty(
    database: Database,
    session: Session,
    table: Table,
    columns: list[Column],
    chunks: Iterator[Chunk],
    total: int | None,
    progress: Progress | None,
) -> int:
    """Loads a table of several servers that is empty: another one in its place, whose rows appear with it."""
    from sqlfront.catalog.info import Action
    from sqlfront.catalog.rewrite import replaced

    with replaced(database.catalog, table, table.info.copy(), Action.TRUNCATE_TABLE, session.cancel) as target:
        if not _is_empty(database, table):
            raise error(1105, f"table '{table.name}' is not empty any more: try again")
        load = BulkLoad(database, session, target, _match([c.name for c in columns], target))
        ingest = database.storage.load(*_range_of(target), cancel=session.cancel)
        rows = load.run(ingest, chunks, total, progress)
    database.autoids.forget(table.id)
    database.statistics.forget(table.id)
    database.statistics.set_rows(target.id, rows)
    return rows


class _OneTransaction:
    """A load into a table of several servers that has rows: they can only be added by a transaction."""

    def __init__(self, database: Database, session: Session, table: Table) -> None:
        self._catalog = database.catalog
        self._used = {table.id: table.revision}
        self._txn = database.storage.begin(pessimistic=False)
        self._txn.cancel = session.cancel

    @property
    def commit_ts(self) -> int:
        return 0

    def add_run(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        insert = self._txn.insert  # no two rows share an entry that is not unique, so that all may be asked to be new
        for key, value in zip(keys, values, strict=True):
            insert(key, value)

    def finish(self, *, check_duplicates: bool = True) -> None:
        self._catalog.commit_with(self._used, self._txn.commit)

    def abort(self) -> None:
        self._txn.rollback()


def _table_of(database: Database, session: Session, name: str) -> Table:
    db, dot, table_name = name.rpartition(".")
    if not dot:
        db = session.current_db
    if not db:
        raise error(1046, "No database selected")
    schema = database.catalog.schema
    table = schema.need_table(db, table_name)
    if schema.need_database(db).virtual:
        raise error(1044, f"Access denied: '{db}' holds computed tables")
    schema.check_writable(table)
    return table


def _check_defaults(table: Table, given: Sequence[Column]) -> None:
    """Refuses at once what a column without values would fail with."""
    for column in table.columns:
        if column in given or column.auto_increment:
            continue
        if column.generated is not None or column.default.kind == "expr":
            raise unsupported(f"append without column '{column.name}', whose value is an expression")
        if column.default.kind == "none":
            raise error(1364, f"Field '{column.name}' doesn't have a default value")


def _end_clean_transaction(session: Session) -> None:
    """A load ends an open transaction that changed nothing, as DDL does; one with changes is the user's to end."""
    if session.read_only or session.variables.read_only:
        raise error(1792, "Cannot execute statement in a READ ONLY transaction.")
    if session.txn is None:
        return
    if session.txn.is_dirty:
        raise ProgrammingError(
            "append is a transaction of its own: commit or roll back the open one first", 1179, "25000"
        )
    session.commit()


def _read_ahead(chunks: Iterator[Chunk]) -> tuple[list[Chunk], bool]:
    """Returns the first chunks and whether they are all there is and few enough for an ordinary statement."""
    head: list[Chunk] = []
    rows = 0
    for chunk in chunks:
        head.append(chunk)
        rows += chunk.rows
        if rows >= TRANSACTIONAL_ROWS_MAX:
            return head, False
    return head, True


def _insert(
    session: Session, table: Table, columns: Sequence[Column], chunks: Sequence[Chunk], progress: Progress | None
) -> int:
    """Loads a few rows by INSERT, in one transaction."""
    from sqlfront.parameters import check_rows

    rows = [row for chunk in chunks for row in zip(*(chunk.values(i) for i in range(len(columns))), strict=True)]
    if not rows:
        return 0
    names = ", ".join(_quoted(c.name) for c in columns)
    marks = ", ".join("?" * len(columns))
    sql = f"INSERT INTO {_quoted(table.db)}.{_quoted(table.name)} ({names}) VALUES ({marks})"
    try:
        session.execute_many(sql, check_rows(rows, lambda: session.variables.zone))
        session.commit()
    except BaseException:
        session.rollback()
        raise
    if progress is not None:
        progress(len(rows), len(rows))
    return len(rows)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


class BulkLoad:
    """One load of a table, under the catalog's mutex."""

    def __init__(self, database: Database, session: Session, table: Table, given: Sequence[Column]) -> None:
        from coprocessor.codec.vector_encode import BatchEncoder

        self._database = database
        self._session = session
        self._table = table
        self._zone = session.variables.zone
        self._sources = {column.offset: i for i, column in enumerate(given)}
        self._encoder = BatchEncoder(table.write_codec, self._zone)
        self._now = dt.datetime.now(self._zone).replace(tzinfo=None)

    def run(self, ingest: Ingest, chunks: Iterable[Chunk], total: int | None, progress: Progress | None) -> int:
        """Adds all rows to `ingest` and finishes it; returns how many."""
        done = 0
        try:
            for chunk in chunks:
                self._session.check_cancelled()
                for keys, values in self._runs(chunk):
                    ingest.add_run(keys, values)
                done += chunk.rows
                if progress is not None:
                    progress(done, total)
            self._session.check_cancelled()
            ingest.finish()
        except KeyExists as exc:
            ingest.abort()
            raise self._duplicate(exc) from exc
        except BaseException:
            ingest.abort()
            raise
        return done

    def _runs(self, chunk: Chunk) -> Iterator[tuple[Sequence[bytes], Sequence[bytes]]]:
        """Yields the sorted runs of one chunk: its records, then each index."""
        import pyarrow as pa

        from coprocessor.codec.vector_encode import sort_run

        arrays = [self._array(column, chunk) for column in self._table.columns]
        batch = pa.RecordBatch.from_arrays(arrays, names=[str(i) for i in range(len(arrays))])
        encoded = self._encoder.encode(batch, self._handles(chunk.rows), first_row=chunk.first_row)
        yield sort_run(encoded.keys, encoded.values)
        for run in encoded.indexes:
            yield sort_run(run.keys, run.values)

    def _handles(self, rows: int) -> Any:
        """Row ids for a table that hides them."""
        import numpy as np

        if self._table.clustered:
            return None
        first = self._database.autoids.allocate_row_ids(self._table, rows)
        return np.arange(first, first + rows, dtype=np.int64)

    def _array(self, column: Column, chunk: Chunk) -> pa.Array:
        """The column's values in a chunk: those given, its default, or ids that are drawn now."""
        at = self._sources.get(column.offset)
        if at is None:
            array = self._default(column, chunk.rows)
        else:
            given = chunk.columns[at]
            array = (
                self._from_python(column, given, chunk) if isinstance(given, list) else _exact_integers(column, given)
            )
        return self._with_ids(column, array, chunk) if column.auto_increment else array

    def _default(self, column: Column, rows: int) -> pa.Array:
        import pyarrow as pa

        from coprocessor.arrow import arrow_type, column_array

        if column.auto_increment or (column.default.kind == "const" and column.default.value is None):
            return pa.nulls(rows, arrow_type(column.type, inside=True))
        value = self._now_for(column) if column.default.kind == "now" else column.default.local(self._zone)
        return pa.repeat(column_array([value], column.type, inside=True)[0], rows)

    def _now_for(self, column: Column) -> dt.datetime | dt.date:
        if column.type.tp == Tp.DATE:
            return self._now.date()
        step = 10 ** (6 - max(column.type.decimal, 0))
        return self._now.replace(microsecond=self._now.microsecond // step * step)

    def _from_python(self, column: Column, values: list[Any], chunk: Chunk) -> pa.Array:
        from coprocessor.arrow import column_array
        from coprocessor.values import compile_caster
        from sqlfront.parameters import plain

        schema = self._encoder.codec.schema.columns[column.offset]
        cast = compile_caster(schema, strict=True, tz=self._zone)
        out = [cast(plain(v, column.name, lambda: self._zone), chunk.first_row + i) for i, v in enumerate(values)]
        return column_array(out, column.type, inside=True)

    def _with_ids(self, column: Column, array: pa.Array, chunk: Chunk) -> pa.Array:
        """Draws ids for NULLs (and zeros, unless NO_AUTO_VALUE_ON_ZERO) and moves the counter past the explicit
        ones.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from coprocessor.arrow import arrow_type
        from coprocessor.codec.columns import cast_column

        schema = self._encoder.codec.schema.columns[column.offset]
        array = cast_column(array, schema, self._zone, first_row=chunk.first_row)
        missing = pc.is_null(array)
        if not self._session.variables.no_auto_value_on_zero:
            missing = pc.or_kleene(missing, pc.fill_null(pc.equal(array, 0), False))
        autoids = self._database.autoids
        highest = pc.max(array).as_py()
        if highest is not None:
            autoids.rebase(self._table, int(highest))
        count = int(pc.sum(missing).as_py() or 0)
        if not count:
            return array
        first = autoids.allocate(self._table, count)
        ids = pa.array(np.arange(first, first + count, dtype=np.uint64)).cast(arrow_type(column.type, inside=True))
        return pc.replace_with_mask(array, missing, ids)

    def _duplicate(self, exc: KeyExists) -> DatabaseError:
        from sqlfront.translate import translate

        find = {self._table.id: self._table}.get
        found = translate(exc, find)
        assert isinstance(found, DatabaseError)
        return found


def _exact_integers(column: Column, array: pa.Array) -> pa.Array:
    """Floats that are whole numbers (a frame's integers with NULLs) as integers, so that they take the vectorised
    path.
    """
    import pyarrow as pa

    if not (column.type.is_integer and pa.types.is_floating(array.type)):
        return array
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid:
        return array
