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
from typing import TYPE_CHECKING, Any

from sqlfront.catalog.alter import AlterPlan, Emptiness, Note, plan_alter
from sqlfront.catalog.backfill import check_not_null
from sqlfront.catalog.catalog import Catalog, SchemaChange
from sqlfront.catalog.ddl import rename_in, resolve
from sqlfront.catalog.definition import (
    AddColumn,
    AddKey,
    AlterTable,
    ChangeColumn,
    DropColumn,
    DropKey,
    SetReplica,
    TableName,
)
from sqlfront.catalog.info import Action, ColumnInfo, Flag, State, TableInfo
from sqlfront.catalog.meta import DDL_JOBS, MetaReader
from sqlfront.catalog.model import Database, Schema, Table
from sqlfront.catalog.rewrite import Terms, rewrite_table, roll_back_copy
from sqlfront.catalog.table_builder import set_key_flags
from sqlfront.errors import error

if TYPE_CHECKING:
    from kvstore.client.api import CancelToken

_ACTIONS: dict[type, Action] = {
    AddColumn: Action.ADD_COLUMN,
    DropColumn: Action.DROP_COLUMN,
    ChangeColumn: Action.MODIFY_COLUMN,
    AddKey: Action.ADD_INDEX,
    DropKey: Action.DROP_INDEX,
    SetReplica: Action.SET_TIFLASH_REPLICA,
}


def alter_table(
    catalog: Catalog,
    spec: AlterTable,
    current_db: str,
    tz: dt.tzinfo | None,
    note: Note,
    cancel: CancelToken | None = None,
) -> tuple[Table, AlterPlan]:
    """Changes a table; returns it as it is afterwards, and what was done."""
    with catalog.ddl_mutex:
        database = resolve(catalog.schema, current_db, spec.table)
        table = catalog.schema.need_table(database.name, spec.table.name, position=spec.table.position)
        if table.system and any(isinstance(a, SetReplica) for a in spec.actions):
            message = "Unsupported ALTER TiFlash settings for system table and memory table"
            raise error(8200, message, position=spec.table.position)
        rows = Emptiness(lambda: _has_rows(catalog, table))
        plan = plan_alter(table.info, spec.actions, tz, dt.datetime.now(dt.UTC), rows, note)
        kinds = {_ACTIONS.get(type(a), Action.MODIFY_TABLE_COMMENT) for a in spec.actions}
        action = kinds.pop() if len(kinds) == 1 else Action.MULTI_SCHEMA_CHANGE
        job = 0
        if plan.rewrite:
            plan.replaced_id = table.id
            new_id = rewrite_table(catalog, database, table, plan, Terms(tz, cancel))
            return catalog.schema.table_by_id[new_id], plan
        if plan.new_indexes or plan.not_null:
            _check_rename(catalog.schema, plan, table, current_db)
            job = _reorganise(catalog, database, table, plan, action, cancel)
        if job or plan.changed or plan.rename is not None:
            _finish(catalog, database, table, plan, action, job, current_db)
        after = catalog.schema.table_by_id[table.id]
        return after, plan


def _has_rows(catalog: Catalog, table: Table) -> bool:
    return next(catalog.storage.snapshot().scan(*table.codec.record_range), None) is not None


def _check_rename(schema: Schema, plan: AlterPlan, table: Table, current_db: str) -> None:
    """Finds out early that a rename at the end could not be done."""
    if plan.rename is None:
        return
    target = resolve(schema, current_db, plan.rename)
    taken = target.table(plan.rename.name)
    if taken is not None and taken.id != table.id:
        raise error(1050, f"Table '{plan.rename.name}' already exists", position=plan.rename.position)


def _finish(
    catalog: Catalog,
    database: Database,
    table: Table,
    plan: AlterPlan,
    action: Action,
    job: int,
    current_db: str,
) -> None:
    """The last version: the final record, dropped indexes gone, and the new name."""

    def apply(change: SchemaChange) -> None:
        from coprocessor.codec.keys import index_key_range

        final = plan.final
        for index in final.indexes:
            if index.id in plan.new_indexes:
                index.state = int(State.PUBLIC)
                index.complete_ts = change.meta.txn.start_ts
        set_key_flags(final)
        for index_id in plan.dropped_indexes:
            change.drop_range(index_key_range(table.id, index_id))
        if job:
            change.meta.delete_json(DDL_JOBS, job)
        final.revision = change.base.table_by_id[table.id].revision
        writers = _writers_see(table.info, final, plan)
        change.describe(action, database.id, table.id)
        change.put_table(change.databases[database.name.lower()], final, writers=writers)
        if plan.rename is not None:
            old = TableName(database.name, table.name)
            rename_in(change, Schema(change.version, change.databases), old, plan.rename, current_db)

    catalog.change(apply)


def _writers_see(base: TableInfo, final: TableInfo, plan: AlterPlan) -> bool:
    """Whether the last version changes what writers do beyond what the first one already told them."""
    if plan.replica:
        return False
    if not plan.new_indexes and not plan.not_null:
        return True
    return bool(plan.dropped_indexes) or [_layout(c) for c in base.columns] != [_layout(c) for c in final.columns]


def _layout(column: ColumnInfo) -> tuple[Any, ...]:
    return column.id, column.name, column.default, column.type.tp, column.type.flen, column.type.elems


def _reorganise(
    catalog: Catalog, database: Database, table: Table, plan: AlterPlan, action: Action, cancel: CancelToken | None
) -> int:
    """Publishes the new indexes for writers, fills them and proves the NOT NULLs; returns the job's id."""
    job = 0

    def announce(change: SchemaChange) -> None:
        nonlocal job
        job = change.meta.new_id()
        record = {
            "db_id": database.id,
            "table_id": table.id,
            "indexes": plan.new_indexes,
            "not_null": plan.not_null,
            "columns": [c.id for c in plan.final.columns if c.id > table.info.max_col_id],
        }
        change.meta.put_json(DDL_JOBS, job, record)
        change.describe(action, database.id, table.id)
        change.put_table(change.databases[database.name.lower()], _intermediate(table.info, plan))

    with catalog.building(table.id, plan.new_indexes) as build:
        catalog.change(announce)
        try:
            reorg = _set_reorg(catalog, database, table, plan, action)
            if plan.not_null:
                check_not_null(catalog.storage, reorg, plan.not_null, cancel)
            for index in reorg.building:
                if index.id in plan.new_indexes:
                    rows = build.fill(reorg, index, cancel)
                    plan.rows = rows if build.untouched else None
        except BaseException:
            roll_back(catalog, job)
            raise
    return job


def _intermediate(base: TableInfo, plan: AlterPlan) -> TableInfo:
    """The record that writers go by until the end: as before, with new columns last and new indexes write-only."""
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
    for index in final.indexes:
        if index.id in plan.new_indexes:
            new_index = index.copy()
            new_index.state = int(State.WRITE_ONLY)
            for part in new_index.columns:
                place = by_id[final.columns[part.offset].id]
                part.name, part.offset = place.name, place.offset
            info.indexes.append(new_index)
    return info


def _set_reorg(catalog: Catalog, database: Database, table: Table, plan: AlterPlan, action: Action) -> Table:
    """Moves the new indexes on to write-reorg; its commit is the barrier behind which no old writer commits."""

    def apply(change: SchemaChange) -> None:
        info = change.base.table_by_id[table.id].info.copy()
        for index in info.indexes:
            if index.id in plan.new_indexes:
                index.state = int(State.WRITE_REORG)
        change.describe(action, database.id, table.id)
        change.put_table(change.databases[database.name.lower()], info, writers=False)

    return catalog.change(apply).table_by_id[table.id]


def roll_back(catalog: Catalog, job: int) -> None:
    """Undoes a job's half of a change: its indexes, new columns and NOT NULLs go."""
    record = MetaReader(catalog.storage.snapshot()).json_fields(DDL_JOBS).get(job)
    if record is None:
        return

    if "copy_id" in record:
        roll_back_copy(catalog, job, record["db_id"], record["table_id"], record["copy_id"])
        return

    def apply(change: SchemaChange) -> None:
        from coprocessor.codec.keys import index_key_range

        change.meta.delete_json(DDL_JOBS, job)
        table = change.base.table_by_id.get(record["table_id"])
        change.describe(Action.DROP_INDEX, record["db_id"], record["table_id"])
        if table is None:
            return
        info = table.info.copy()
        info.indexes = [i for i in info.indexes if i.id not in record["indexes"]]
        info.columns = [c for c in info.columns if c.id not in record["columns"]]
        for column in info.columns:
            if column.id in record["not_null"]:
                column.set_flag(Flag.NOT_NULL | Flag.NO_DEFAULT | Flag.PRI_KEY, on=False)
        set_key_flags(info)
        for index_id in record["indexes"]:
            change.drop_range(index_key_range(table.id, index_id))
        change.put_table(change.databases[table.db.lower()], info)

    catalog.change(apply)


def roll_back_unfinished(catalog: Catalog) -> int:
    """After a crash: undoes every job that was under way; returns how many there were."""
    jobs = list(MetaReader(catalog.storage.snapshot()).json_fields(DDL_JOBS))
    for job in jobs:
        roll_back(catalog, job)
    return len(jobs)
