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

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from kvstore.errors import Cancelled, KeyExists, KvError
from sqlfront.catalog.alter import AlterPlan
from sqlfront.catalog.autoid import counter_of
from sqlfront.catalog.catalog import Catalog, SchemaChange, auto_id_database
from sqlfront.catalog.conversion import Conversion, Terms
from sqlfront.catalog.info import Action, State, TableInfo
from sqlfront.catalog.jobs import CANCELLING, ER_CANCELLED_DDL_JOB, PAUSED, ROLLED_BACK, RUNNING, Job, running_jobs
from sqlfront.catalog.meta import DDL_JOBS, Meta, MetaReader, auto_increment_field, row_id_field
from sqlfront.catalog.model import CLOSED, Table
from sqlfront.catalog.partitions import definitions, forget_ids
from sqlfront.catalog.table_builder import set_key_flags
from sqlfront.errors import DatabaseError, error

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken

BATCH_ROWS = 65_536


def rewrite_table(catalog: Catalog, table: Table, plan: AlterPlan, action: Action, terms: Terms) -> int:
    """Copies the table, or the partitions that the plan moves, into the final form and puts that in place; returns the
    table's id, which is another one unless only partitions moved."""
    from sqlfront.exec.validate import check_rows

    stays = plan.moved is not None
    if not stays:
        forget_ids(plan.final)
    with replaced(catalog, table, plan.final, action, terms.cancel, stays=stays) as copy:
        conversion = Conversion(table, copy.target, terms, plan.auto_increment or 1)
        counts = _copy(catalog, copy.job, _moving(table, plan.moved), conversion, copy.target, terms)
        copy.last_id, copy.last_row_id = conversion.last_id, conversion.last_row_id
        plan.rows_of_parts = counts if copy.target.parts else {}
        plan.rows = None if stays else sum(counts.values())
        checks = _checks_of_changed(table, copy.target)
        check_rows(catalog.storage.snapshot(), copy.target, checks, terms.tz, terms.cancel)
    return copy.target.id


def raise_counter(catalog: Catalog, table: Table, field: bytes, last: int) -> None:
    """Has a counter of the table go on behind a value."""
    if not last:
        return
    txn = catalog.storage.begin(pessimistic=False)
    try:
        meta, db_id = Meta(txn), auto_id_database(table)
        meta.set_auto_id(db_id, field, max(meta.auto_id(db_id, field), last))
        txn.commit()
    finally:
        txn.rollback()


def _moving(table: Table, moved: Collection[int] | None) -> list[Table]:
    """What holds the rows that are copied."""
    return [part for part in table.physical if moved is None or part.id in moved]


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
    *,
    stays: bool = False,
) -> Iterator[Copy]:
    """Has the block fill a table of the form `final`, which gets a new id, and then puts that in the table's place.

    No writer of the table commits meanwhile. When the block fails all is as it was, unless it has asked to `keep` what
    is filled; `load` is what a later run needs to go on. Partitions of `final` that have no id get one; a table that
    `stays` keeps its own, and the partitions that have one.
    """
    job = Job(0, int(action), table.db_id, table.id, table.db, table.name, catalog.query, catalog.server)
    job.load = load

    def announce(change: SchemaChange) -> None:
        job.id = change.meta.new_id()
        new = [change.meta.new_id() for _ in range((not stays) + sum(not one["id"] for one in definitions(final)))]
        job.copy_id, job.copies = new[0], len(new)
        assert list(job.copied) == new, new
        job.schema_state = int(State.WRITE_REORG)
        if load is not None:
            load["form"] = _form(final, job.copy_id)
        change.go_on(job)
        change.describe(action, table.db_id, table.id)

    catalog.change(announce)
    _finalise(final, job.copy_id, stays=stays)
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


def _finalise(final: TableInfo, new_id: int, *, stays: bool = False) -> None:
    """Gives the table, unless it `stays`, and its new partitions ids from `new_id` on."""
    ids = count(new_id)
    if not stays:
        final.id = next(ids)
    for one in definitions(final):
        one["id"] = one["id"] or next(ids)
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
        change.drop_range(job.copy_range())
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
        from coprocessor.codec.keys import table_range

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
        if final.id == table.id:
            kept = {one["id"] for one in definitions(final)}
            for part in table.physical:
                if part.id not in kept:
                    change.drop_range(table_range(part.id))
        else:
            change.drop_table(database, change.base.table_by_id[table.id])
        change.describe(Action(job.action), database.id, final.id, table.id)
        final.complete_ts = change.meta.txn.start_ts
        change.put_table(change.databases[table.db.lower()], final)

    catalog.change(apply)


def _copy(
    catalog: Catalog, job: Job, sources: Sequence[Table], convert: Conversion, target: Table, terms: Terms
) -> dict[int, int]:
    """Writes all rows of the `sources`, which nobody writes, as rows of `target`; returns how many of them each of its
    new partitions got, or the table, by their ids."""
    ingest = catalog.storage.load(*job.copy_range(), cancel=terms.cancel)
    rows = 0
    try:
        reader = catalog.storage.snapshot()
        for source in sources:
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

        raise translate(exc, {part.id: part for part in target.physical}.get) from exc
    except BaseException:
        ingest.abort()
        raise
    return {part_id: rows for part_id, rows in convert.counts.items() if part_id in job.copied}
