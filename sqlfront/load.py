"""Bulk load: `Connection.append` and IMPORT INTO. Arrow, frames, files or tuples into a table, past the transactions.

A load is a transaction of its own. Its rows come in chunks; each chunk is cast and encoded to record and index entries
in bulk (`coprocessor.codec.vector_encode`) and handed to the store as sorted runs: one for the records, one for each
index. `Ingest.finish` checks for duplicates and makes all runs visible at once; until then readers see the table as it
was and writers of it wait. Schema changes wait too: the load holds the catalog's mutex. Only one chunk is in memory at
a time.

A few rows are not worth an ingest: under `TRANSACTIONAL_ROWS_MAX` `append` inserts them by an ordinary statement.

In a cluster an empty table is loaded as another one that takes its place (`catalog.rewrite`). With a `Checkpoint` that
load can be resumed. Its job's record says what a later run must have the same, so that it encodes the same bytes: the
files, the settings, the table's form and new id, commit_ts, which is the clock of CURRENT_TIMESTAMP too, and the ids in
use before it, from which AUTO_INCREMENT values and hidden row ids are counted. The checkpoint's directory says which
ranges are in (`kvstore.client.cluster.progress`); without it they are all sent again, to the same end.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from coprocessor.errors import CoprocessorError
from coprocessor.types import Tp
from kvstore.client.api import LOGICAL_BITS
from kvstore.errors import KeyExists, LoadDiffers
from sqlfront.catalog.autoid import CountedIds, most_of
from sqlfront.errors import DatabaseError, Error, ProgrammingError, error, unsupported
from sqlfront.load_rows import LoadedRows, Parents, parents_held
from sqlfront.load_source import Chunk, Source, match_columns, open_source

if TYPE_CHECKING:
    import pyarrow as pa

    from coprocessor.codec.vector_encode import EncodedBatch
    from kvstore.client.api import Ingest, LoadReport
    from sqlfront.catalog.autoid import IdSource
    from sqlfront.catalog.jobs import Job
    from sqlfront.catalog.model import Column, Table
    from sqlfront.catalog.rewrite import Copy
    from sqlfront.database import Database
    from sqlfront.session import Session

TRANSACTIONAL_ROWS_MAX = 1000
DDL_WAIT_STEP_S = 0.05
ER_PRECHECK_FAILED = 8173

Progress = Callable[[int, int | None], None]


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
    return append_rows(database, session, name, lambda table: open_source(data, table), progress)


def append_rows(
    database: Database,
    session: Session,
    name: str,
    open_rows: Callable[[Table], Source],
    progress: Progress | None = None,
) -> int:
    """Loads what `open_rows` gives into the table `name` (or `database.name`) and returns the number of rows."""
    table = _table_of(database, session, name)
    source = open_rows(table)
    columns = match_columns(source.names, table)
    _check_defaults(table, columns, again=False)
    end_clean_transaction(session)
    session.cancel.clear()
    session.statement = f"append {name}"  # so that `interrupt` finds something to stop
    try:
        head, small = _read_ahead(source.chunks)
        if small or table.temporary:
            return _insert(session, table, columns, [*head, *source.chunks], progress)
        chunks = chain(head, source.chunks)
        del head
        return _ingest(database, session, name, source, chunks, progress)
    finally:
        session.statement = ""


def _ingest(
    database: Database, session: Session, name: str, source: Source, chunks: Iterator[Chunk], progress: Progress | None
) -> int:
    """Loads in bulk, with schema changes shut out."""
    with _schema_held(database, session), ExitStack() as stack:
        table = _table_of(database, session, name)  # as it is now that nobody changes it
        parents = stack.enter_context(parents_held(session, table))
        local, columns = database.local, match_columns(source.names, table)
        if table.parts:
            load = BulkLoad(database, session, table, columns, parents=parents)
            rows = load.run(_OneTransaction(database, session, table), chunks, source.total, progress)
            for part, added in zip(table.parts, load.part_rows, strict=True):
                database.statistics.note_changes(part.id, added)
        elif local is not None:
            load = BulkLoad(database, session, table, columns, parents=parents)
            ingest: Ingest = local.ingest(*_range_of(table), cancel=session.cancel)
            rows = load.run(ingest, chunks, source.total, progress)
        elif _is_empty(database, table):
            return _load_empty(database, session, table, columns, chunks, source.total, progress, parents=parents).rows
        else:
            load = BulkLoad(database, session, table, columns, parents=parents)
            rows = load.run(_OneTransaction(database, session, table), chunks, source.total, progress)
        database.statistics.note_changes(table.id, rows)
        return rows


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What makes a load resumable: a directory for its progress, and what has to be the same in all its runs."""

    directory: str
    identity: dict[str, Any]
    """JSON; see `load_files.Files.identity`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A load that is done. `job_id` is 0 where there is no job; `report` says what was sent in this run."""

    table_id: int
    rows: int
    job_id: int = 0
    report: LoadReport | None = None


def load_into_empty(
    database: Database,
    session: Session,
    db: str,
    name: str,
    open_rows: Callable[[Table], Source],
    checkpoint: Checkpoint | None,
) -> Loaded:
    """Loads rows into a table that has to be empty (8173); the caller has ended the session's transaction.

    `open_rows` is called when nobody changes the table any more. With a `checkpoint` (in a cluster) a load that fails
    once rows were sent is kept, and goes on when it is run again.
    """
    with _schema_held(database, session), ExitStack() as stack:
        table = _find_table(database, session, db, name)
        if table.temporary:
            raise unsupported("IMPORT INTO a temporary table")
        parents = stack.enter_context(parents_held(session, table))
        if table.parts:
            raise unsupported("IMPORT INTO a partitioned table")
        _refuse_rows(database, table)
        source = open_rows(table)
        columns = match_columns(source.names, table)
        _check_defaults(table, columns, again=checkpoint is not None)
        local = database.local
        if local is None:
            return _load_empty(
                database, session, table, columns, source.chunks, source.total, None, checkpoint, parents
            )
        if checkpoint is not None:
            raise unsupported("checkpoint in an embedded database, where a load that fails leaves nothing")
        load = BulkLoad(database, session, table, columns, parents=parents)
        ingest = local.ingest(*_range_of(table), cancel=session.cancel)
        try:
            _refuse_rows(database, table)  # now that writers wait
        except BaseException:
            ingest.abort()
            raise
        rows = load.run(ingest, source.chunks, source.total, None)
        database.statistics.note_changes(table.id, rows)
        return Loaded(table.id, rows)


@contextmanager
def _schema_held(database: Database, session: Session) -> Iterator[None]:
    """Shuts schema changes out for the block."""
    catalog = database.catalog
    while not catalog.ddl_mutex.acquire(timeout=DDL_WAIT_STEP_S):
        session.check_cancelled()
    try:
        catalog.query = session.statement
        yield
    finally:
        catalog.ddl_mutex.release()


def precheck_failed(why: str) -> DatabaseError:
    return error(ER_PRECHECK_FAILED, f"PreCheck failed: {why}")


def _refuse_rows(database: Database, table: Table) -> None:
    if not _is_empty(database, table):
        raise precheck_failed("target table is not empty")


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
    checkpoint: Checkpoint | None = None,
    parents: Parents | None = None,
) -> Loaded:
    """Loads a table of several servers that is empty: another one in its place, whose rows appear with it."""
    with _in_its_place(database, session, table, checkpoint) as copy, _progress_of(copy) as directory:
        if not _is_empty(database, table):
            raise error(1105, f"table '{table.name}' is not empty any more: try again")
        target, known = copy.target, copy.job.load
        last = database.autoids.last(table) if known is None else known["last_ids"]
        ids = CountedIds(last[0], last[1], most_of(target))
        ingest = database.storage.load(
            *_range_of(target),
            commit_ts=0 if known is None else known["commit_ts"],
            cancel=session.cancel,
            directory=directory,
        )
        given = match_columns([c.name for c in columns], target)
        load = BulkLoad(database, session, target, given, ids, ingest, parents)
        if known is not None:
            load.keeping(copy)
        rows = load.run(ingest, chunks, total, progress)
        ids.store(database.autoids, target)
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
    database.autoids.forget(table.id)
    database.statistics.forget(table.id)
    database.statistics.set_rows(target.id, rows)
    return Loaded(target.id, rows, copy.job.id, load.report)


def _in_its_place(
    database: Database, session: Session, table: Table, checkpoint: Checkpoint | None
) -> AbstractContextManager[Copy]:
    """What takes the place of an empty table: a new one, or that of a load under this checkpoint that stopped.

    Raises 8173 when another load of the table has stopped half way.
    """
    from sqlfront.catalog.info import Action
    from sqlfront.catalog.rewrite import paused_load, replaced, resumed

    catalog, cancel = database.catalog, session.cancel
    if checkpoint is None:
        return replaced(catalog, table, table.info.copy(), Action.TRUNCATE_TABLE, cancel)
    job = paused_load(catalog, table)
    if job is None:
        known = {
            "checkpoint": checkpoint.directory,
            "identity": checkpoint.identity,
            "commit_ts": database.storage.now_ts(),
            "last_ids": database.autoids.last(table),
        }
        return replaced(catalog, table, table.info.copy(), Action.TRUNCATE_TABLE, cancel, known)
    _check_same(job, checkpoint)
    return resumed(catalog, table, job, cancel)


@contextmanager
def _progress_of(copy: Copy) -> Iterator[str | None]:
    """The directory of the load's progress, if it can be resumed; it goes when the block fails and nothing is kept.

    It is named after the load's timestamp, so that what is left of another load is never taken for its own.
    """
    known = copy.job.load
    if known is None:
        yield None
        return
    directory = os.path.join(known["checkpoint"], str(known["commit_ts"]))
    try:
        yield directory
    except BaseException:
        if not copy.keep:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _check_same(job: Job, checkpoint: Checkpoint) -> None:
    """Raises 8173 when a job's load is not the one that is to go on."""
    assert job.load is not None
    ends = f"ADMIN CANCEL DDL JOBS {job.id} ends that"
    if job.load["checkpoint"] != checkpoint.directory:
        raise precheck_failed(
            f"a load of this table stopped half way, under the checkpoint '{job.load['checkpoint']}'; {ends}"
        )
    known = job.load["identity"]
    changed = [name for name, value in checkpoint.identity.items() if known.get(name) != value]
    if changed:
        raise precheck_failed(
            f"the load under the checkpoint '{checkpoint.directory}' was another one "
            f"(its {', '.join(changed)} differed); {ends}"
        )


class _OneTransaction:
    """A load into a table of several servers that has rows, or into partitions: they can only be added by a
    transaction."""

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
    return _find_table(database, session, db if dot else session.current_db, table_name)


def _find_table(database: Database, session: Session, db: str, table_name: str) -> Table:
    if not db:
        raise error(1046, "No database selected")
    schema = session.seen(database.catalog.schema)
    table = schema.need_table(db, table_name)
    if schema.need_database(db).virtual:
        raise error(1044, f"Access denied: '{db}' holds computed tables")
    schema.check_writable(table)
    return table


def _check_defaults(table: Table, given: Sequence[Column], *, again: bool) -> None:
    """Refuses at once what a column without values would fail with; `again` is for a load that may be run twice."""
    for column in table.columns:
        if column in given or column.auto_increment or column.generated is not None:
            continue
        if column.default.kind == "expr" and again:
            raise unsupported(
                f"a load with a checkpoint without column '{column.name}', whose default is an expression"
            )
        if column.default.kind == "none":
            raise error(1364, f"Field '{column.name}' doesn't have a default value")


def end_clean_transaction(session: Session) -> None:
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

    def __init__(
        self,
        database: Database,
        session: Session,
        table: Table,
        given: Sequence[Column],
        ids: IdSource | None = None,
        ingest: Ingest | None = None,
        parents: Parents | None = None,
    ) -> None:
        """`ids` None: drawn from the table's counters. With an `ingest` its commit_ts is the clock of defaults."""
        from coprocessor.codec.vector_encode import BatchEncoder

        self._database = database
        self._session = session
        self._ids: IdSource = ids or database.autoids
        self._copy: Copy | None = None
        self.report: LoadReport | None = None
        """What was sent, when `run` has come to its end in a cluster."""
        self._table = table
        self._zone = session.variables.zone
        self._rows = LoadedRows(session, table, self._zone, parents, given)
        self._sources = {column.offset: i for i, column in enumerate(given)}
        self._encoder = BatchEncoder(table.write_codec, self._zone)
        self._parts = [BatchEncoder(part.write_codec, self._zone) for part in table.parts]
        self.part_rows = [0] * len(table.parts)
        """How many rows went into each partition."""
        now = dt.datetime.now(self._zone) if ingest is None else _time_of(ingest.commit_ts, self._zone)
        self._now = now.replace(tzinfo=None)

    def keeping(self, copy: Copy) -> None:
        """Has what is loaded into `copy` kept when the load fails from when rows are sent on."""
        self._copy = copy

    def run(self, ingest: Ingest, chunks: Iterable[Chunk], total: int | None, progress: Progress | None) -> int:
        """Adds all rows to `ingest` and finishes it; returns how many."""
        done = 0
        try:
            for chunk in chunks:
                self._check()
                for keys, values in self._runs(chunk):
                    ingest.add_run(keys, values)
                done += chunk.rows
                if progress is not None:
                    progress(done, total)
            self._check()
            self._finish(ingest)
        except KeyExists as exc:
            ingest.abort()
            raise self._duplicate(exc) from exc
        except BaseException:
            ingest.abort()
            raise
        return done

    def _check(self) -> None:
        """Raises 1317 when the statement was interrupted, 8214 when its job was cancelled."""
        self._session.check_cancelled()
        if self._copy is not None:
            self._copy.job.check(self._database.storage)

    def _finish(self, ingest: Ingest) -> None:
        copy = self._copy
        if copy is None:
            self.report = ingest.finish()
            return
        kept, copy.keep = copy.keep, True
        try:
            self.report = ingest.finish()
        except KeyExists:  # found before anything is sent
            copy.keep = kept
            raise
        except LoadDiffers as exc:
            raise precheck_failed("the rows are not those of the load that stopped half way") from exc

    def _runs(self, chunk: Chunk) -> Iterator[tuple[Sequence[bytes], Sequence[bytes]]]:
        """Yields the sorted runs of one chunk: its records, then each index."""
        from coprocessor.codec.vector_encode import sort_run

        try:
            found = self._encode(chunk)
        except (DatabaseError, CoprocessorError) as exc:
            if not chunk.file:
                raise
            raise _in_file(exc, chunk.file) from exc
        for encoded in found:
            yield sort_run(encoded.keys, encoded.values)
            for run in encoded.indexes:
                yield sort_run(run.keys, run.values)

    def _encode(self, chunk: Chunk) -> list[EncodedBatch]:
        """The chunk's rows; those of each partition for themselves."""
        import pyarrow as pa

        arrays = [self._array(column, chunk) for column in self._table.columns]
        self._rows.examine(arrays, chunk.first_row)
        if chunk.file:
            self._check_nulls(arrays, chunk)
        batch = pa.RecordBatch.from_arrays(arrays, names=[str(i) for i in range(len(arrays))])
        handles = self._handles(chunk.rows)
        if not self._parts:
            return [self._encoder.encode(batch, handles, first_row=chunk.first_row)]
        out = []
        for number, places in self._rows.spread(arrays, chunk.first_row).items():
            self.part_rows[number] += len(places)
            own = None if handles is None else handles[places]
            out.append(self._parts[number].encode(batch.take(pa.array(places)), own, first_row=chunk.first_row))
        return out

    def _check_nulls(self, arrays: Sequence[pa.Array], chunk: Chunk) -> None:
        """Raises 1048 with the row of the first NULL where there must be none."""
        import pyarrow.compute as pc

        for column, array in zip(self._table.columns, arrays, strict=True):
            if array.null_count and column.stored and (column.not_null or column.offset in self._table.primary_key):
                row = chunk.first_row + pc.index(array.is_null(), True).as_py()
                raise error(1048, f"Column '{column.name}' cannot be null at row {row}")

    def _handles(self, rows: int) -> Any:
        """Row ids for a table that hides them."""
        import numpy as np

        if self._table.clustered:
            return None
        first = self._ids.allocate_row_ids(self._table, rows)
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
        if column.default.kind == "expr":
            from sqlfront.exec.context import environment
            from sqlfront.exec.filler import ColumnFiller

            if column.offset in self._rows.late:
                return pa.nulls(rows, arrow_type(column.type, inside=True))  # they come when the rest is there
            filler, env = (
                ColumnFiller(self._table, self._zone, strict=True),
                environment(self._session, (), writing=True),
            )
            return column_array([filler.default(column.offset, env) for _ in range(rows)], column.type, inside=True)
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
        highest = pc.max(array).as_py()
        if highest is not None:
            self._ids.rebase(self._table, int(highest))
        count = int(pc.sum(missing).as_py() or 0)
        if not count:
            return array
        first = self._ids.allocate(self._table, count)
        ids = pa.array(np.arange(first, first + count, dtype=np.uint64)).cast(arrow_type(column.type, inside=True))
        return pc.replace_with_mask(array, missing, ids)

    def _duplicate(self, exc: KeyExists) -> DatabaseError:
        from sqlfront.translate import translate

        find = {self._table.id: self._table}.get
        found = translate(exc, find)
        assert isinstance(found, DatabaseError)
        return found


def _in_file(exc: DatabaseError | CoprocessorError, file: str) -> Error:
    """An error about the values of a file, with its name."""
    from sqlfront.translate import translate

    found = translate(exc)
    if not isinstance(found, DatabaseError):
        return found
    return type(found)(f"{found.message.removesuffix('.')} of file '{file}'", found.code, found.sqlstate)


def _time_of(ts: int, zone: dt.tzinfo) -> dt.datetime:
    return dt.datetime.fromtimestamp((ts >> LOGICAL_BITS) / 1000, zone)


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
