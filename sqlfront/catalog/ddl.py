"""Databases and whole tables: CREATE, DROP, TRUNCATE, RENAME. Each is one schema version (ALTER TABLE is in
`alter.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlfront.catalog import meta as keys
from sqlfront.catalog.catalog import INFORMATION_SCHEMA, SchemaChange, auto_id_database
from sqlfront.catalog.charsets import check_charset
from sqlfront.catalog.definition import (
    AlterDatabase,
    CreateDatabase,
    CreateTable,
    DropDatabase,
    DropTable,
    RenameTables,
    TableName,
    TruncateTable,
)
from sqlfront.catalog.info import Action, DBInfo, TableInfo
from sqlfront.catalog.model import SYSTEM_DATABASE, Database, Schema, Table
from sqlfront.catalog.partitions import forget_ids
from sqlfront.catalog.table_builder import build_table, check_name
from sqlfront.errors import error, near_match

if TYPE_CHECKING:
    from sqlfront.catalog.catalog import Catalog

Note = Callable[[int, str], None]
"""Takes the notes (code, message) of IF EXISTS and IF NOT EXISTS."""

_READ_ONLY = frozenset({INFORMATION_SCHEMA, "performance_schema", "metrics_schema"})


def _refuse_virtual(name: str, position: int) -> None:
    if name.lower() in _READ_ONLY:
        message = f"Access denied for user to database '{name}'"
        raise error(1044, message, position=position, sqlstate="42000")


def resolve(schema: Schema, current_db: str, name: TableName) -> Database:
    """The database that a table's name is in (1046 when there is none to be in)."""
    if not name.db and not current_db:
        raise error(1046, "No database selected", position=name.position)
    db = name.db or current_db
    _refuse_virtual(db, name.position)
    return schema.need_database(db, position=name.position)


def create_database(catalog: Catalog, spec: CreateDatabase, note: Note) -> bool:
    """Creates a database; False when it was there already and that is fine."""
    check_name(spec.name, 1102, "database", spec.position)
    charset, collate = check_charset(spec.options.charset, spec.options.collate, position=spec.position)
    with catalog.ddl_mutex:
        if catalog.schema.database(spec.name) is not None:
            message = f"Can't create database '{spec.name}'; database exists"
            if spec.if_not_exists:
                note(1007, message)
                return False
            raise error(1007, message, position=spec.position)

        def apply(change: SchemaChange) -> None:
            info = DBInfo(id=change.meta.new_id(), name=spec.name, charset=charset, collate=collate)
            change.describe(Action.CREATE_SCHEMA, info.id)
            change.put_database(info)

        catalog.change(apply)
        return True


def alter_database(catalog: Catalog, spec: AlterDatabase, current_db: str) -> None:
    """Sets the defaults of new tables; the only ones there are leave the database as it was."""
    name = spec.name or current_db
    if not name:
        raise error(1046, "No database selected", position=spec.position)
    _refuse_virtual(name, spec.position)
    with catalog.ddl_mutex:
        info = catalog.schema.need_database(name, position=spec.position).info
        old = info.charset, info.collate
        new = check_charset(spec.options.charset, spec.options.collate, old, position=spec.position)
        if new == old:
            return

        def apply(change: SchemaChange) -> None:
            change.describe(Action.MODIFY_SCHEMA_CHARSET, info.id)
            change.put_database(replace(info, charset=new[0], collate=new[1]))

        catalog.change(apply)


def drop_database(catalog: Catalog, spec: DropDatabase, note: Note) -> int:
    """Drops a database with its tables; returns how many tables there were."""
    _refuse_virtual(spec.name, spec.position)
    with catalog.ddl_mutex:
        database = catalog.schema.database(spec.name)
        if database is None:
            hint = near_match(spec.name, [d.name for d in catalog.schema.databases.values()])
            message = f"Can't drop database '{spec.name}'; database doesn't exist"
            if spec.if_exists:
                note(1008, message)
                return 0
            raise error(1008, message + hint, position=spec.position)
        if spec.name.lower() == SYSTEM_DATABASE:
            raise error(3552, "Access to system schema 'mysql' is rejected.", position=spec.position)
        for table in database.tables.values():
            if table.view is None:
                catalog.schema.check_writable(table, position=spec.position)

        def apply(change: SchemaChange) -> None:
            change.describe(Action.DROP_SCHEMA, database.id)
            change.drop_database(database)

        catalog.change(apply)
        return len(database.tables)


def create_table(
    catalog: Catalog, spec: CreateTable, current_db: str, tz: dt.tzinfo | None, note: Note
) -> Table | None:
    """Creates a table and returns it; None when it was there already and that is fine."""
    with catalog.ddl_mutex:
        database = resolve(catalog.schema, current_db, spec.table)
        if database.table(spec.table.name) is not None:
            message = f"Table '{spec.table.name}' already exists"
            if spec.if_not_exists:
                note(1050, message)
                return None
            raise error(1050, message, position=spec.table.position)
        info = _copied(catalog, spec, current_db) if spec.like else build_table(spec, database.info, tz)
        made: list[Table] = []

        def apply(change: SchemaChange) -> None:
            info.id = change.meta.new_id()
            change.describe(Action.CREATE_TABLE, database.id, info.id)
            if info.auto_inc_id > 1:
                last = info.auto_inc_id - 1
                change.meta.set_auto_id(database.id, keys.auto_increment_field(info.id), last)
            made.append(change.put_table(database, info))

        catalog.change(apply)
        return made[0]


def _copied(catalog: Catalog, spec: CreateTable, current_db: str) -> TableInfo:
    """The record of CREATE TABLE ... LIKE: columns and indexes of the other table, none of its ids or rows."""
    assert spec.like is not None
    check_name(spec.table.name, 1103, "table", spec.table.position)
    database = resolve(catalog.schema, current_db, spec.like)
    source = catalog.schema.need_table(database.name, spec.like.name, position=spec.like.position)
    catalog.schema.check_writable(source, position=spec.like.position)
    info = source.info.copy()
    info.name = spec.table.name
    info.indexes = [i for i in info.indexes if i.state == 5]
    for index in info.indexes:
        index.table = info.name
        index.complete_ts = 0
    forget_ids(info)
    info.complete_ts = 0
    info.auto_inc_id = info.old_schema_id = 0
    return info


def drop_tables(catalog: Catalog, spec: DropTable, current_db: str, note: Note) -> None:
    """Drops all tables or, when one is missing (1051), none."""
    with catalog.ddl_mutex:
        schema = catalog.schema
        found: dict[int, tuple[Database, Table]] = {}
        missing: list[str] = []
        for name in spec.tables:
            if not name.db and not current_db:
                raise error(1046, "No database selected", position=name.position)
            db = name.db or current_db
            _refuse_virtual(db, name.position)
            database = schema.database(db)
            table = None if database is None else database.table(name.name)
            if database is None or table is None or table.view is not None:
                missing.append(f"{db}.{name.name}")
            else:
                schema.check_writable(table, position=name.position)
                found[table.id] = (database, table)
        if missing:
            message = f"Unknown table '{','.join(missing)}'"
            if not spec.if_exists:
                tables = [t for d in schema.databases.values() for t in d.tables.values() if t.view is None]
                names = [f"{t.db}.{t.name}" for t in tables]
                raise error(1051, message + near_match(missing[0], names), position=spec.tables[0].position)
            note(1051, message)
        if not found:
            return

        def apply(change: SchemaChange) -> None:
            for database, table in found.values():
                change.describe(Action.DROP_TABLE, database.id, table.id)
                change.drop_table(database, table)

        catalog.change(apply)


def truncate_table(catalog: Catalog, spec: TruncateTable, current_db: str) -> tuple[Table, Table]:
    """Gives the table a new id, and with it empty key ranges; returns the table before and after."""
    with catalog.ddl_mutex:
        database = resolve(catalog.schema, current_db, spec.table)
        table = catalog.schema.need_relation(database.name, spec.table.name, position=spec.table.position)
        if table.view is not None:
            message = f"Table '{table.db}.{table.name}' doesn't exist; it is a view"
            raise error(1146, message, position=spec.table.position)
        catalog.schema.check_writable(table, position=spec.table.position)
        made: list[Table] = []

        def apply(change: SchemaChange) -> None:
            info = table.info.copy()
            change.drop_table(database, table)
            info.id = change.meta.new_id()
            info.auto_inc_id = info.old_schema_id = 0
            info.complete_ts = change.meta.txn.start_ts
            for index in info.indexes:
                index.complete_ts = 0
            forget_ids(info)
            change.describe(Action.TRUNCATE_TABLE, database.id, info.id, table.id)
            made.append(change.put_table(database, info))

        catalog.change(apply)
        return table, made[0]


def rename_tables(catalog: Catalog, spec: RenameTables, current_db: str) -> None:
    """Renames in order, all or nothing; a name may be free by an earlier pair of the same statement."""
    with catalog.ddl_mutex:

        def apply(change: SchemaChange) -> None:
            for old, new in spec.pairs:
                now = Schema(change.version, change.databases)
                rename_in(change, now, old, new, current_db)

        catalog.change(apply)


def rename_in(change: SchemaChange, schema: Schema, old: TableName, new: TableName, current_db: str) -> None:
    """Renames one table within a schema change."""
    source = resolve(schema, current_db, old)
    target = resolve(schema, current_db, new)
    table = schema.need_relation(source.name, old.name, position=old.position)
    if table.view is None:
        schema.check_writable(table, position=old.position)
    check_name(new.name, 1103, "table", new.position)
    taken = target.table(new.name)
    if taken is not None and taken.id != table.id:
        raise error(1050, f"Table '{new.name}' already exists", position=new.position)
    info = table.info.copy()
    info.name = new.name
    for index in info.indexes:
        index.table = new.name
    if source.id != target.id:
        if not info.old_schema_id:
            info.old_schema_id = auto_id_database(table)
        change.drop_table(source, table, keep_data=True)
        if info.old_schema_id == target.id:
            info.old_schema_id = 0
    change.describe(Action.RENAME_TABLE, target.id, info.id, 0, source.id)
    change.put_table(change.databases[target.name.lower()], info)
