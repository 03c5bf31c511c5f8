"""Carrying out ALTER TABLE while others read and write the table.

Without new indexes or new NOT NULLs the change is one schema version; what rewrites rows is in `rewrite.py`. Otherwise,
after F1 ("Online, Asynchronous Schema Change in F1", VLDB 2013):

    version n+1   the new indexes are write-only, the columns refuse NULL, a job record says so (one transaction)
    version n+2   write-reorg: this commit comes after every commit made under the schema before n+1
    backfill      rows of a snapshot after n+2 are indexed in batches, and looked through for NULLs
    version n+3   the final record; indexes are public; the job record is gone

Transactions that wrote the table under n are refused at commit by their revision, so whoever writes after n+1
maintains the new indexes; the backfill only has to add what was there before. A failure (a duplicate, a NULL, an
interrupt) removes the new indexes again in one more version, as does opening the directory when a job record is found.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from coprocessor.env import Env
from coprocessor.errors import CoprocessorError
from kvstore.errors import CommitRejected
from sqlfront.catalog.alter import AlterPlan, Emptiness, Note, plan_alter
from sqlfront.catalog.autoid import counter_of
from sqlfront.catalog.backfill import IndexBuild, check_not_null
from sqlfront.catalog.catalog import Catalog, SchemaChange
from sqlfront.catalog.conversion import Terms
from sqlfront.catalog.ddl import around, rename_in, rename_in_children, resolve, touch_parents
from sqlfront.catalog.definition import (
    AddCheck,
    AddColumn,
    AddForeignKey,
    AddKey,
    AddPartitions,
    AlterAction,
    AlterCheck,
    AlterTable,
    ChangeColumn,
    ClearPartitions,
    CoalescePartitions,
    DropColumn,
    DropConstraint,
    DropKey,
    PartitionTable,
    ReorganizePartitions,
    SetReplica,
    TableName,
)
from sqlfront.catalog.info import Action, ColumnInfo, Flag, State, TableInfo
from sqlfront.catalog.jobs import CANCELLING, PAUSED, ROLLED_BACK, Job, running_jobs
from sqlfront.catalog.meta import DDL_JOBS, MetaReader
from sqlfront.catalog.model import Schema, Table
from sqlfront.catalog.rewrite import pause_copy, raise_counter, rewrite_table, roll_back_copy
from sqlfront.catalog.table_builder import set_key_flags
from sqlfront.errors import DatabaseError, error, unsupported

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken

_ACTIONS: dict[type, Action] = {
    AddColumn: Action.ADD_COLUMN,
    DropColumn: Action.DROP_COLUMN,
    ChangeColumn: Action.MODIFY_COLUMN,
    AddKey: Action.ADD_INDEX,
    DropKey: Action.DROP_INDEX,
    SetReplica: Action.SET_TIFLASH_REPLICA,
    AddPartitions: Action.ADD_TABLE_PARTITION,
    ClearPartitions: Action.DROP_TABLE_PARTITION,
    ReorganizePartitions: Action.REORGANIZE_PARTITION,
    CoalescePartitions: Action.REORGANIZE_PARTITION,
    AddCheck: Action.ADD_CHECK_CONSTRAINT,
    AlterCheck: Action.ALTER_CHECK_CONSTRAINT,
    AddForeignKey: Action.ADD_FOREIGN_KEY,
}


def alter_table(
    catalog: Catalog,
    spec: AlterTable,
    current_db: str,
    tz: dt.tzinfo | None,
    note: Note,
    cancel: CancelToken | None = None,
    env: Callable[[], Env] = Env,
) -> tuple[Table, AlterPlan]:
    """Changes a table; returns it as it is afterwards, and what was done. `env` makes what the expressions of rows that
    are written anew read of the session."""
    with catalog.ddl_mutex:
        database = resolve(catalog.schema, current_db, spec.table)
        table = catalog.schema.need_table(database.name, spec.table.name, position=spec.table.position)
        catalog.schema.check_writable(table, position=spec.table.position)
        if table.system and any(isinstance(a, SetReplica) for a in spec.actions):
            message = "Unsupported ALTER TiFlash settings for system table and memory table"
            raise error(8200, message, position=spec.table.position)
        rows = Emptiness(lambda: _has_rows(catalog, table))
        now, known = dt.datetime.now(dt.UTC), around(catalog, table.db, table.name)
        plan = plan_alter(table.info, spec.actions, tz, now, rows, note, catalog.columnar_servers, known)
        kinds = {_action_of(a) for a in spec.actions}
        action = kinds.pop() if len(kinds) == 1 else Action.MULTI_SCHEMA_CHANGE
        if plan.rewrite and (plan.new_checks or plan.new_keys):
            raise unsupported("what rewrites rows together with adding constraints")
        if plan.rewrite:
            rewritten = rewrite_table(catalog, table, plan, action, Terms(tz, cancel, env()))
            plan.replaced = [old.id for old in (table, *table.parts) if old.id not in catalog.schema.table_by_id]
            return catalog.schema.table_by_id[rewritten], plan
        if plan.asks_of_rows or (plan.dropped_indexes and catalog.hides_first):
            _check_rename(catalog.schema, plan, table, current_db)
            _run(catalog, _new_job(catalog, table, plan, action, current_db), plan, cancel, tz)
        elif plan.changed or plan.rename is not None:
            _finish(catalog, table, plan, action, None, current_db)
        # When another server has carried the job out, yet others may have replaced the table since.
        return catalog.schema.table_by_id.get(table.id, table), plan


def _action_of(action: AlterAction) -> Action:
    if isinstance(action, DropConstraint):
        return Action.DROP_CHECK_CONSTRAINT if action.kind == "check" else Action.DROP_FOREIGN_KEY
    if isinstance(action, PartitionTable):
        return Action.REMOVE_PARTITIONING if action.by is None else Action.ALTER_TABLE_PARTITIONING
    return _ACTIONS.get(type(action), Action.MODIFY_TABLE_COMMENT)


def _has_rows(catalog: Catalog, table: Table) -> bool:
    reader = catalog.storage.snapshot()
    return any(next(reader.scan(*part.codec.record_range), None) is not None for part in table.physical)


def _check_rename(schema: Schema, plan: AlterPlan, table: Table, current_db: str) -> None:
    """Finds out early that a rename at the end could not be done."""
    if plan.rename is None:
        return
    target = resolve(schema, current_db, plan.rename)
    taken = target.table(plan.rename.name)
    if taken is not None and taken.id != table.id:
        raise error(1050, f"Table '{plan.rename.name}' already exists", position=plan.rename.position)


def _new_job(catalog: Catalog, table: Table, plan: AlterPlan, action: Action, current_db: str) -> Job:
    known = table.info.max_col_id
    return Job(
        id=0,
        action=int(action),
        db_id=table.db_id,
        table_id=table.id,
        db=table.db,
        table=table.name,
        query=catalog.query,
        server=catalog.server,
        indexes=plan.new_indexes,
        hidden=plan.dropped_indexes if catalog.hides_first else [],
        not_null=plan.not_null,
        checks=plan.new_checks,
        keys=plan.new_keys,
        enforced=[c.id for c in table.info.constraint_info if c.id in plan.new_checks],
        columns=[c.id for c in plan.final.columns if c.id > known],
        dropped=plan.dropped_indexes,
        final=plan.final.to_json(),
        rename=None if plan.rename is None else [plan.rename.db or "", plan.rename.name],
        current_db=current_db,
        renamed=plan.renamed,
        auto_increment=plan.auto_increment,
        priority=catalog.priority,
    )


def _plan_of(job: Job) -> AlterPlan:
    """The plan that a job's record was made of."""
    assert job.final is not None
    plan = AlterPlan(TableInfo.from_json(job.final), job.indexes, job.not_null, job.dropped, changed=True)
    plan.auto_increment = job.auto_increment
    plan.new_checks, plan.new_keys, plan.renamed = job.checks, job.keys, job.renamed
    if job.rename is not None:
        db, name = job.rename
        plan.rename = TableName(db, name)
    return plan


def _table_of(catalog: Catalog, job: Job) -> Table:
    """The table of a job. Raises CommitRejected when it is gone: this server stood still, and others went on."""
    table = catalog.schema.table_by_id.get(job.table_id)
    if table is None:
        raise CommitRejected(f"another server has changed the table of job {job.id} (table id {job.table_id})")
    return table


def _run(
    catalog: Catalog, job: Job, plan: AlterPlan, cancel: CancelToken | None, tz: dt.tzinfo | None = dt.UTC
) -> None:
    """Carries a job out, from the beginning or from where its record says that it is."""
    with catalog.building(job) as build:
        if not job.id:
            _announce(catalog, job, plan)
        try:
            _build(catalog, build, job, plan, cancel)
            _prove(catalog, job, cancel, tz)
            _finish(catalog, _table_of(catalog, job), plan, Action(job.action), job, job.current_db)
        except BaseException as exc:
            if isinstance(exc, Exception) and catalog.was_finished(job):
                return
            job.error = str(exc)
            roll_back(catalog, job)
            raise


def _announce(catalog: Catalog, job: Job, plan: AlterPlan) -> None:
    """The first version: writers maintain the new indexes and refuse NULLs, readers leave what is dropped."""

    def apply(change: SchemaChange) -> None:
        job.id = change.meta.new_id()
        change.go_on(job)
        table = change.base.table_by_id[job.table_id]
        change.describe(Action(job.action), job.db_id, job.table_id)
        info = _intermediate(table.info, plan, job.hidden)
        change.put_table(change.databases[table.db.lower()], info, writers=plan.asks_of_rows)
        touch_parents(change, table.db, info, [key for key in info.fk_info if key.id in job.keys])

    catalog.change(apply)


def _build(catalog: Catalog, build: IndexBuild, job: Job, plan: AlterPlan, cancel: CancelToken | None) -> None:
    """Fills the new indexes and proves the NOT NULLs."""
    if not plan.asks_of_rows:
        return
    table = _table_of(catalog, job)
    if job.schema_state != State.WRITE_REORG:
        table = _set_reorg(catalog, job)
    if job.not_null:
        check_not_null(catalog.storage, table, job.not_null, cancel)
    for index in table.building:
        if index.id in job.indexes:
            rows = sum(build.fill(part, index, cancel) for part in table.physical)
            job.rows = max(job.rows, rows)
            plan.rows = rows if build.untouched else None


def _prove(catalog: Catalog, job: Job, cancel: CancelToken | None, tz: dt.tzinfo | None) -> None:
    """Looks at the rows that are there for new CHECKs and foreign keys, which writers keep to already."""
    from sqlfront.exec.validate import check_rows, check_rows_refer

    if job.checks or job.keys:
        schema = catalog.schema
        table, reader = _table_of(catalog, job), catalog.storage.snapshot()
        check_rows(reader, table, job.checks, tz, cancel)
        check_rows_refer(reader, schema, table, job.keys, cancel)


def _finish(catalog: Catalog, table: Table, plan: AlterPlan, action: Action, job: Job | None, current_db: str) -> None:
    """The last version: the final record, dropped indexes gone, and the new name."""

    def apply(change: SchemaChange) -> None:
        from coprocessor.codec.keys import index_key_range, table_range

        final = plan.final
        for index in final.indexes:
            if index.id in plan.new_indexes:
                index.state = int(State.PUBLIC)
                index.complete_ts = change.meta.txn.start_ts
        set_key_flags(final)
        for part in table.physical:
            for index_id in plan.dropped_indexes:
                change.drop_range(index_key_range(part.id, index_id))
        if plan.cleared:
            # a snapshot from before has no place any more where the rows are
            final.complete_ts = change.meta.txn.start_ts
            for part_id in plan.cleared:
                change.drop_range(table_range(part_id))
        for check in final.constraint_info:
            check.state = int(State.PUBLIC)
        for key in final.fk_info:
            key.state = int(State.PUBLIC)
        if job is not None:
            change.end_job(job)
        final.revision = change.base.table_by_id[table.id].revision
        writers = _writers_see(table.info, final, plan)
        change.describe(action, table.db_id, table.id)
        change.put_table(change.databases[table.db.lower()], final, writers=writers)
        before = {key.id for key in table.info.fk_info}
        touch_parents(change, table.db, final, [key for key in final.fk_info if key.id not in before])
        if plan.renamed:
            here = (table.db, table.name)
            rename_in_children(change, here, here, plan.renamed, skip=table.id)
        if plan.rename is not None:
            old = TableName(table.db, table.name)
            rename_in(change, Schema(change.version, change.databases), old, plan.rename, current_db)

    catalog.change(apply)


def _writers_see(base: TableInfo, final: TableInfo, plan: AlterPlan) -> bool:
    """Whether the last version changes what writers do beyond what the first one already told them."""
    if plan.replica:
        return False
    if not plan.asks_of_rows:
        return True
    if _constraints(base) != _constraints(final):
        return True
    return bool(plan.dropped_indexes) or [_layout(c) for c in base.columns] != [_layout(c) for c in final.columns]


def _constraints(info: TableInfo) -> list[list[dict[str, Any]]]:
    """What the CHECKs and the foreign keys of a table say, whatever their state."""
    both = sorted(info.constraint_info, key=lambda c: c.id), sorted(info.fk_info, key=lambda key: key.id)
    return [[c.to_json() | {"state": 0} for c in found] for found in both]


def _layout(column: ColumnInfo) -> tuple[Any, ...]:
    return column.id, column.name, column.default, column.type.tp, column.type.flen, column.type.elems


def _intermediate(base: TableInfo, plan: AlterPlan, hidden: Collection[int]) -> TableInfo:
    """The record that writers go by until the end: as before, with new columns last and new indexes write-only.

    `hidden` indexes are maintained, and not read any more.
    """
    info = base.copy()
    final = plan.final
    info.max_col_id, info.max_idx_id = final.max_col_id, final.max_idx_id
    ids = {c.id for c in info.columns}
    for column in final.columns:
        if column.id not in ids:
            new = column.copy()
            new.offset = len(info.columns)
            info.columns.append(new)
    by_id = {c.id: c for c in info.columns}
    for column_id in plan.not_null:
        by_id[column_id].set_flag(Flag.NOT_NULL, on=True)
    for check in final.constraint_info:
        if check.id in plan.new_checks:
            info.constraint_info = [c for c in info.constraint_info if c.id != check.id]
            info.constraint_info.append(check.copy())
            info.constraint_info[-1].state = int(State.WRITE_ONLY)
    for key in final.fk_info:
        if key.id in plan.new_keys:
            info.fk_info.append(key.copy())
            info.fk_info[-1].state = int(State.WRITE_ONLY)
    info.max_cst_id, info.max_fk_id = final.max_cst_id, final.max_fk_id
    for index in info.indexes:
        if index.id in hidden:
            index.state = int(State.WRITE_ONLY)
    for index in final.indexes:
        if index.id in plan.new_indexes:
            new_index = index.copy()
            new_index.state = int(State.WRITE_ONLY)
            for part in new_index.columns:
                place = by_id[final.columns[part.offset].id]
                part.name, part.offset = place.name, place.offset
            info.indexes.append(new_index)
    return info


def _set_reorg(catalog: Catalog, job: Job) -> Table:
    """Moves the new indexes on to write-reorg; its commit is the barrier behind which no old writer commits."""

    def apply(change: SchemaChange) -> None:
        table = change.base.table_by_id[job.table_id]
        info = table.info.copy()
        for index in info.indexes:
            if index.id in job.indexes:
                index.state = int(State.WRITE_REORG)
        job.schema_state = int(State.WRITE_REORG)
        change.go_on(job)
        change.describe(Action(job.action), job.db_id, job.table_id)
        change.put_table(change.databases[table.db.lower()], info, writers=False)

    return catalog.change(apply).table_by_id[job.table_id]


def roll_back(catalog: Catalog, job: Job) -> None:
    """Undoes a job's half of a change: its indexes, new columns and NOT NULLs go."""
    if MetaReader(catalog.storage.snapshot()).json_field(DDL_JOBS, job.id) is None:
        return
    if job.copy_id:
        roll_back_copy(catalog, job)
        return

    def apply(change: SchemaChange) -> None:
        from coprocessor.codec.keys import index_key_range

        change.end_job(job, ROLLED_BACK)
        change.describe(Action(job.action), job.db_id, job.table_id)
        table = change.base.table_by_id.get(job.table_id)
        if table is None:
            return
        info = table.info.copy()
        info.indexes = [i for i in info.indexes if i.id not in job.indexes]
        info.columns = [c for c in info.columns if c.id not in job.columns]
        info.constraint_info = [c for c in info.constraint_info if c.id not in job.checks or c.id in job.enforced]
        for check in info.constraint_info:
            if check.id in job.enforced:
                check.enforced, check.state = False, int(State.PUBLIC)
        info.fk_info = [key for key in info.fk_info if key.id not in job.keys]
        for index in info.indexes:
            if index.id in job.hidden:
                index.state = int(State.PUBLIC)
        for column in info.columns:
            if column.id in job.not_null:
                column.set_flag(Flag.NOT_NULL | Flag.NO_DEFAULT | Flag.PRI_KEY, on=False)
        set_key_flags(info)
        for part in table.physical:
            for index_id in job.indexes:
                change.drop_range(index_key_range(part.id, index_id))
        change.put_table(change.databases[table.db.lower()], info)

    catalog.change(apply)


def roll_back_unfinished(catalog: Catalog) -> int:
    """After a crash: undoes every job that was under way; returns how many there were."""
    jobs = running_jobs(MetaReader(catalog.storage.snapshot()))
    for job in jobs:
        roll_back(catalog, job)
    return len(jobs)


def go_on_with_unfinished(catalog: Catalog) -> int:
    """After the death of an owner, by the next one: finishes every job that was under way; returns how many.

    A copy of a table is undone instead, or paused when it is filled by a load that can be resumed: whoever began that
    runs it again. A job that cannot be finished is undone too, as it would have been.
    """
    jobs = running_jobs(MetaReader(catalog.storage.snapshot()))
    for job in jobs:
        if job.load is not None and job.state != CANCELLING:
            if job.state != PAUSED:
                pause_copy(catalog, job)
            continue
        if job.copy_id or job.state == CANCELLING:
            roll_back(catalog, job)
            continue
        with suppress(DatabaseError, CoprocessorError):
            _run(catalog, job, _plan_of(job), None)
            if job.auto_increment is not None:
                # what AUTO_INCREMENT = n in a statement whose server died asks for
                table = _table_of(catalog, job)
                raise_counter(catalog, table, counter_of(table), job.auto_increment - 1)
    return len(jobs)
