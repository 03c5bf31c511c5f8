"""ALTER TABLE that has to rewrite rows: a copy of the table under a new id, and a schema version that puts it in place.
What rewrites rows is a change of type, a new column that is computed for each of them, a column that becomes
AUTO_INCREMENT, DROP PRIMARY KEY where it is their key.

    announce      a job record with the new table id (so that opening after a crash destroys what was copied)
    close         the table's range is closed to writers; readers go on reading
    copy          rows of a snapshot, changed columns converted and new ones computed as an INSERT in strict mode would,
                  all indexes built; the CHECKs that name these columns are looked at
    put in place  one version: the table has the new id, the old ranges are dropped, the job record is gone

A load that can be resumed fills its table in the same way. When it fails its job is *paused*: the table is as it was
and open, what was filled stays under the new id, and `resumed` closes the table again and goes on. Dropping or
truncating the table, or replacing it, ends such a job.

Writers that waited find the old table id gone and are refused at commit (error 8028, autocommit runs again), as after
TRUNCATE. Whatever fails before the last version leaves the table as it was.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kvstore.errors import Cancelled, KeyExists, KvError
from sqlfront.catalog.alter import AlterPlan
from sqlfront.catalog.autoid import counter_of
from sqlfront.catalog.catalog import Catalog, SchemaChange, auto_id_database
from sqlfront.catalog.info import Action, State, TableInfo
from sqlfront.catalog.jobs import CANCELLING, ER_CANCELLED_DDL_JOB, PAUSED, ROLLED_BACK, RUNNING, Job, running_jobs
from sqlfront.catalog.meta import DDL_JOBS, MetaReader, auto_increment_field, row_id_field
from sqlfront.catalog.model import CLOSED, Column, Table
from sqlfront.catalog.table_builder import set_key_flags
from sqlfront.errors import DatabaseError, error, unsupported

if TYPE_CHECKING:
    from coprocessor.codec.vector import BatchDecoder
    from coprocessor.env import Env
    from kvstore.client.api import CancelToken, Ingest, PackedBatch

BATCH_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Terms:
    """How values are converted: the session's zone, what stops it, and what makes the environment that new columns are
    computed in."""

    tz: dt.tzinfo | None
    cancel: CancelToken | None
    env: Callable[[], Env]


def rewrite_table(catalog: Catalog, table: Table, plan: AlterPlan, terms: Terms) -> int:
    """Copies the table into its final form and puts that in place; returns the new table id."""
    from sqlfront.exec.validate import check_rows

    with replaced(catalog, table, plan.final, Action.MODIFY_COLUMN, terms.cancel) as copy:
        plan.rows, copy.last_id = _copy(catalog, table, copy.target, terms, plan.auto_increment or 1)
        if table.clustered and not copy.target.clustered:
            copy.last_row_id = plan.rows
        checks = _checks_of_changed(table, copy.target)
        check_rows(catalog.storage.snapshot(), copy.target, checks, terms.tz, terms.cancel)
    return copy.target.id


def _checks_of_changed(source: Table, target: Table) -> list[int]:
    """The CHECKs that may be false of a row by what its values were converted to."""
    before = {column.id: column.type for column in source.columns}
    changed = {column.name.lower() for column in target.columns if before.get(column.id) != column.type}
    return [c.id for c in target.checks if c.enforced and changed & {name.lower() for name in c.columns}]


@dataclass(slots=True)
class Copy:
    """A table that is filled to take the place of another."""

    job: Job
    target: Table
    keep: bool = False
    """Whether what is filled stays when the block fails, for `resumed`."""
    last_id: int = 0
    """The last AUTO_INCREMENT value, and hidden row id (`last_row_id`), that was given to rows of the copy."""
    last_row_id: int = 0


@contextmanager
def replaced(
    catalog: Catalog,
    table: Table,
    final: TableInfo,
    action: Action,
    cancel: CancelToken | None,
    load: dict[str, Any] | None = None,
) -> Iterator[Copy]:
    """Has the block fill a table of the form `final`, which gets a new id, and then puts that in the table's place.

    No writer of the table commits meanwhile. When the block fails all is as it was, unless it has asked to `keep` what
    is filled; `load` is what a later run needs to go on.
    """
    job = Job(0, int(action), table.db_id, table.id, table.db, table.name, catalog.query, catalog.server)
    job.load = load

    def announce(change: SchemaChange) -> None:
        job.id, job.copy_id = change.meta.new_id(), change.meta.new_id()
        job.schema_state = int(State.WRITE_REORG)
        if load is not None:
            load["form"] = _form(final, job.copy_id)
        change.go_on(job)
        change.describe(action, table.db_id, table.id)

    catalog.change(announce)
    _finalise(final, job.copy_id)
    with _filling(catalog, table, final, job, cancel) as copy:
        yield copy


def paused_load(catalog: Catalog, table: Table) -> Job | None:
    """The job of a load of this table that did not come to its end; one that was cancelled is undone instead."""
    for job in running_jobs(MetaReader(catalog.storage.snapshot())):
        if job.load is not None and job.table_id == table.id:
            if job.state != CANCELLING:
                return job
            roll_back_copy(catalog, job)
    return None


@contextmanager
def resumed(catalog: Catalog, table: Table, job: Job, cancel: CancelToken | None) -> Iterator[Copy]:
    """As `replaced`, for a load that did not come to its end; it is kept again when the block fails.

    Raises 8173 when the table has another form now, 8214 when the job is cancelled.
    """
    final = table.info.copy()
    final.extra.pop(CLOSED, None)
    assert job.load is not None
    if _form(final, job.copy_id) != job.load["form"]:
        raise error(
            8173,
            f"PreCheck failed: table '{table.name}' was altered since its load stopped; "
            f"ADMIN CANCEL DDL JOBS {job.id} ends that",
        )
    _finalise(final, job.copy_id)

    def go_on(change: SchemaChange) -> None:
        job.state, job.error, job.query, job.server = RUNNING, "", catalog.query, catalog.server
        change.go_on(job)
        change.describe(Action(job.action), table.db_id, table.id)

    catalog.change(go_on)
    with _filling(catalog, table, final, job, cancel, keep=True) as copy:
        yield copy


@contextmanager
def _filling(
    catalog: Catalog, table: Table, final: TableInfo, job: Job, cancel: CancelToken | None, *, keep: bool = False
) -> Iterator[Copy]:
    copy: Copy | None = None
    try:
        with catalog.closing(table, cancel):
            copy = Copy(job, catalog.table_of(final, catalog.schema.databases[table.db.lower()].info), keep)
            yield copy
            _put_in_place(catalog, table, final, copy)
    except BaseException as exc:
        job.error = str(exc)
        keep = keep if copy is None else copy.keep
        if not keep or _is_cancelled(exc):
            roll_back_copy(catalog, job)
        else:
            _keep(catalog, job)
        raise


def _is_cancelled(exc: BaseException) -> bool:
    return isinstance(exc, DatabaseError) and exc.code == ER_CANCELLED_DDL_JOB


def _keep(catalog: Catalog, job: Job) -> None:
    """Pauses a job, or undoes it when somebody has cancelled it meanwhile."""
    try:
        pause_copy(catalog, job)
    except KvError:
        pass  # of a store that is away: who finds the job without an owner pauses it
    except DatabaseError as exc:
        if _is_cancelled(exc):
            roll_back_copy(catalog, job)


def _form(info: TableInfo, new_id: int) -> dict[str, Any]:
    """What of a table decides the bytes of its rows, and which indexes it has."""
    final = info.copy()
    _finalise(final, new_id)
    for index in final.indexes:
        index.table = ""  # it may have another name by now
    form = final.to_json()
    return {tag: form[tag] for tag in ("id", "cols", "index_info", "pk_is_handle", "is_common_handle")}


def _range_of(table_id: int) -> tuple[bytes, bytes]:
    from coprocessor.codec.keys import table_range

    return table_range(table_id)


def _finalise(final: TableInfo, new_id: int) -> None:
    final.id = new_id
    for index in final.indexes:
        index.state = int(State.PUBLIC)
        index.complete_ts = 0
    set_key_flags(final)


def roll_back_copy(catalog: Catalog, job: Job) -> None:
    """Forgets a copy that was not finished, unless it is in place already."""
    if _is_over(catalog, job):
        return

    def apply(change: SchemaChange) -> None:
        change.end_job(job, ROLLED_BACK)
        change.describe(Action.MODIFY_COLUMN, job.db_id, job.table_id)
        change.drop_range(_range_of(job.copy_id))
        _reopen(change, job.table_id)

    catalog.change(apply)


def pause_copy(catalog: Catalog, job: Job) -> None:
    """Keeps what a load has filled, and lets writers of the table go on. Raises 8214 when the job is cancelled."""
    if _is_over(catalog, job):
        return

    def apply(change: SchemaChange) -> None:
        job.state = PAUSED
        change.go_on(job)
        change.describe(Action.MODIFY_COLUMN, job.db_id, job.table_id)
        _reopen(change, job.table_id)

    catalog.change(apply)


def _is_over(catalog: Catalog, job: Job) -> bool:
    """Whether the copy is in place, or was given up; the answer to the last step may have been lost."""
    record = MetaReader(catalog.storage.snapshot()).json_field(DDL_JOBS, job.id)
    return record is None or job.copy_id in catalog.schema.table_by_id


def _reopen(change: SchemaChange, table_id: int) -> None:
    """Lets writers of a table that was closed go on."""
    table = change.base.table_by_id.get(table_id)
    if table is not None and table.closed:
        info = table.info.copy()
        info.extra.pop(CLOSED)
        change.put_table(change.databases[table.db.lower()], info)


def _put_in_place(catalog: Catalog, table: Table, final: TableInfo, copy: Copy) -> None:
    """The last version of a copy: the table has the copy's id, the old ranges are dropped."""
    job = copy.job

    def apply(change: SchemaChange) -> None:
        counters = auto_id_database(table)
        for field in (auto_increment_field, row_id_field):
            # What filled the copy may have drawn more ids than the table ever had.
            last = change.meta.auto_id(counters, field(table.id))
            if field(final.id) == counter_of(copy.target):
                last = max(last, copy.last_id)
            if field is row_id_field:
                last = max(last, copy.last_row_id)
            if last > change.meta.auto_id(counters, field(final.id)):
                change.meta.set_auto_id(counters, field(final.id), last)
        change.end_job(job)
        database = change.databases[table.db.lower()]
        change.drop_table(database, change.base.table_by_id[table.id])
        change.describe(Action(job.action), database.id, final.id, table.id)
        final.complete_ts = change.meta.txn.start_ts
        change.put_table(change.databases[table.db.lower()], final)

    catalog.change(apply)


def _copy(catalog: Catalog, source: Table, target: Table, terms: Terms, first_id: int) -> tuple[int, int]:
    """Writes all rows of `source`, which nobody writes, as rows of `target`; a new AUTO_INCREMENT column begins with
    `first_id`. Returns how many there are, and the greatest value of a column that becomes AUTO_INCREMENT."""
    convert = _Conversion(source, target, terms, first_id)
    ingest = catalog.storage.load(*_range_of(target.id), cancel=terms.cancel)
    rows = 0
    try:
        reader = catalog.storage.snapshot()
        for packed in reader.scan_packed(*source.codec.record_range, batch_rows=BATCH_ROWS):
            if terms.cancel is not None and terms.cancel.is_set():
                raise Cancelled
            if packed.count:
                convert.add(packed, ingest, rows + 1)
                rows += packed.count
        ingest.finish()
    except KeyExists as exc:
        ingest.abort()
        from sqlfront.translate import translate

        raise translate(exc, {target.id: target}.get) from exc
    except BaseException:
        ingest.abort()
        raise
    return rows, convert.last_id


class _Conversion:
    """From packed records of one table to the records and index entries of another that has the same columns, and
    more."""

    def __init__(self, source: Table, target: Table, terms: Terms, first_id: int) -> None:
        from coprocessor.codec.vector import BatchDecoder
        from coprocessor.codec.vector_encode import BatchEncoder

        self._target = target
        self._tz = terms.tz
        places = {column.id: column.offset for column in source.columns}
        types = {column.id: column.type for column in source.columns}
        added = [column for column in target.columns if column.id not in places]
        computed = frozenset(c.offset for c in added if _is_computed(c))
        # New columns that are the same in all rows are read like others that the rows do not have.
        same = [column for column in added if column.offset not in computed]
        places |= {column.id: len(source.columns) + i for i, column in enumerate(same)}
        read = replace(
            source.schema, columns=(*source.schema.columns, *(target.schema.columns[c.offset] for c in same))
        )
        offsets = {c.offset: places[c.id] for c in target.columns if c.offset not in computed}
        self._changed = {c.offset for c in target.columns if types.get(c.id, c.type) != c.type}
        # What stays is read in UTC, as it is stored; what changes in the session's zone, as a person reads it.
        stays = [offset for offset in offsets if offset not in self._changed]
        self._plain = (stays, BatchDecoder(read, [offsets[o] for o in stays]))
        moved = sorted(self._changed)
        self._moved = (moved, BatchDecoder(read, [offsets[o] for o in moved], terms.tz))
        shown = BatchDecoder(read, list(offsets.values()), terms.tz)
        self._computed = _NewValues(target, computed, list(offsets), shown, terms, first_id) if computed else None
        self._hidden = source.codec.is_hidden_handle
        self._numbers = target.codec.is_hidden_handle and not self._hidden
        becomes = target.auto_increment if source.auto_increment is None else None
        self._counted = -1 if becomes is None else becomes.offset
        self.last_id = 0
        """The greatest value so far of a column that becomes AUTO_INCREMENT."""
        self._encoder = BatchEncoder(target.codec, terms.tz)

    def add(self, packed: PackedBatch, ingest: Ingest, first_row: int) -> None:
        """Adds the rows of a batch as sorted runs."""
        import numpy as np

        from coprocessor.codec.columns import cast_column
        from coprocessor.codec.vector import decode_handles
        from coprocessor.codec.vector_encode import sort_run

        columns: list[Any] = [None] * len(self._target.columns)
        for offsets, decoder in (self._plain, self._moved):
            for offset, column in zip(offsets, decoder.decode(packed).columns, strict=True):
                columns[offset] = column
        if self._computed is not None:
            for offset, column in self._computed.arrays(packed, first_row).items():
                columns[offset] = column
        for offset, schema in enumerate(self._target.schema.columns):
            if offset in self._changed:
                columns[offset] = cast_column(columns[offset], schema, self._tz, first_row=first_row)
            if schema.not_null and columns[offset].null_count:
                raise error(1138, "Invalid use of NULL value")
        if self._counted >= 0:
            self._count(columns[self._counted])
        handles = decode_handles(packed) if self._hidden else None
        if self._numbers:
            handles = np.arange(first_row, first_row + packed.count, dtype=np.int64)
        encoded = self._encoder.encode_columns(columns, packed.count, handles)
        ingest.add_run(*sort_run(encoded.keys, encoded.values))
        for run in encoded.indexes:
            ingest.add_run(*sort_run(run.keys, run.values))

    def _count(self, column: Any) -> None:
        import pyarrow.compute as pc

        if pc.any(pc.equal(column, 0)).as_py():
            raise unsupported("AUTO_INCREMENT of a column that has a 0, for which MySQL puts the next number")
        self.last_id = max(self.last_id, pc.max(column).as_py())


def _is_computed(column: Column) -> bool:
    """Whether rows that are there get values of their own for a new column."""
    return column.auto_increment or column.default.kind == "expr" or (column.generated is not None and column.stored)


class _NewValues:
    """What new columns, at `computed`, are in rows that are there; `decoder` reads their others, at `given`."""

    def __init__(
        self,
        target: Table,
        computed: frozenset[int],
        given: Sequence[int],
        decoder: BatchDecoder,
        terms: Terms,
        first_id: int,
    ) -> None:
        from sqlfront.exec.filler import ColumnFiller

        self._target = target
        self._given = given
        self._decoder = decoder
        self._terms = terms
        self._env = terms.env()
        self._filler = ColumnFiller(target, terms.tz or dt.UTC, strict=True)
        self._computed = sorted(computed)
        self._defaults = [o for o in self._computed if target.columns[o].default.kind == "expr"]
        numbered = target.auto_increment
        self._numbered = -1 if numbered is None or numbered.offset not in computed else numbered.offset
        self._first_id = first_id

    def arrays(self, packed: PackedBatch, first_row: int) -> dict[int, Any]:
        """The columns by their offsets, as they are stored."""
        from coprocessor.arrow import column_array, column_values
        from coprocessor.codec.columns import cast_column

        schemas, width = self._target.schema.columns, len(self._target.columns)
        # without a zone TIMESTAMPs stay as they are: in the session's, as expressions have them
        values = [
            column_values(cast_column(array, schemas[offset], None, first_row=first_row), schemas[offset].type)
            for offset, array in zip(self._given, self._decoder.decode(packed).columns, strict=True)
        ]
        made: dict[int, list[Any]] = {offset: [] for offset in self._computed}
        for number in range(packed.count):
            row: list[Any] = [None] * width
            for offset, column in zip(self._given, values, strict=True):
                row[offset] = column[number]
            self._complete(row, first_row + number)
            for offset, out in made.items():
                out.append(row[offset])
        return {
            offset: cast_column(column_array(out, schemas[offset].type, inside=True), schemas[offset], self._terms.tz)
            for offset, out in made.items()
        }

    def _complete(self, row: list[Any], number: int) -> None:
        filler, env = self._filler, self._env
        if self._numbered >= 0:
            row[self._numbered] = filler.cast(self._numbered, self._first_id + number - 1, number)
        for offset in self._defaults:
            row[offset] = filler.default(offset, env, row)
        if filler.generated is not None:
            filler.generated.complete(row, filler, env, number)
