"""Databases and whole tables: CREATE, DROP, TRUNCATE, RENAME. Each is one schema version (ALTER TABLE is in
`alter.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlfront.catalog import meta as keys
from sqlfront.catalog.catalog import INFORMATION_SCHEMA, SchemaChange, auto_id_database
from sqlfront.catalog.charsets import check_charset
from sqlfront.catalog.constraint_rules import (
    Around,
    add_check,
    add_foreign_key,
    check_actions,
    check_parent,
    rename_parent_columns,
)
from sqlfront.catalog.constraints import foreign_keys_of, is_enforced
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
from sqlfront.catalog.info import Action, DBInfo, FKInfo, TableInfo
from sqlfront.catalog.model import SYSTEM_DATABASE, Database, Schema, Table
from sqlfront.catalog.partitions import forget_ids
from sqlfront.catalog.table_builder import build_table, check_name, set_key_flags
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
        _refuse_orphans(catalog, {table.id for table in database.tables.values()}, database.tables.values())

        def apply(change: SchemaChange) -> None:
            change.describe(Action.DROP_SCHEMA, database.id)
            change.drop_database(database)

        catalog.change(apply)
        return len(database.tables)


def create_table(
    catalog: Catalog,
    spec: CreateTable,
    current_db: str,
    tz: dt.tzinfo | None,
    note: Note,
    seen: Callable[[Schema], Schema] = lambda schema: schema,
) -> Table | None:
    """Creates a table and returns it; None when it was there already and that is fine.

    `seen` is the schema in which LIKE finds the other table: as the session sees it.
    """
    with catalog.ddl_mutex:
        database = resolve(catalog.schema, current_db, spec.table)
        if database.table(spec.table.name) is not None:
            message = f"Table '{spec.table.name}' already exists"
            if spec.if_not_exists:
                note(1050, message)
                return None
            raise error(1050, message, position=spec.table.position)
        info = new_record(seen(catalog.schema), spec, database.info, current_db, tz)
        _add_keys(catalog, info, database, spec)
        made: list[Table] = []

        def apply(change: SchemaChange) -> None:
            info.id = change.meta.new_id()
            change.describe(Action.CREATE_TABLE, database.id, info.id)
            if info.auto_inc_id > 1:
                last = info.auto_inc_id - 1
                change.meta.set_auto_id(database.id, keys.auto_increment_field(info.id), last)
            made.append(change.put_table(database, info))
            touch_parents(change, database.name, info, info.fk_info)

        catalog.change(apply)
        return made[0]


def new_record(schema: Schema, spec: CreateTable, database: DBInfo, current_db: str, tz: dt.tzinfo | None) -> TableInfo:
    """The record of a new table, without an id and without foreign keys; `schema` is where LIKE finds the other."""
    info = _copied(schema, spec, current_db) if spec.like else build_table(spec, database, tz)
    for check in spec.checks:
        add_check(info, check)
    return info


def around(catalog: Catalog, db: str, table: str) -> Around:
    """What there is around a table for the rules of foreign keys."""
    schema = catalog.schema

    def find(other_db: str, name: str) -> TableInfo | None:
        found = schema.table(other_db, name)
        return None if found is None or found.unreadable is not None or found.info.view else found.info

    referrers = [(child.db, child.name, key) for child, key in schema.referring(db, table)]
    return Around(db, find, referrers, catalog.key_checks)


def _add_keys(catalog: Catalog, info: TableInfo, database: Database, spec: CreateTable) -> None:
    """Adds the foreign keys of a new table, and looks at those that point to it already."""
    known = around(catalog, database.name, info.name)
    for wanted in spec.foreign_keys:
        index = add_foreign_key(info, wanted, known, [other.name for other in spec.foreign_keys])[1]
        if index is not None:
            info.indexes.append(index)
    check_actions(info)
    set_key_flags(info)
    _fit_referrers(catalog.schema, info, database.name, spec.table)


def _fit_referrers(schema: Schema, info: TableInfo, db: str, name: TableName) -> None:
    """Raises what keeps a table from having a name that foreign keys point to already, with nothing there."""
    for child, key in schema.referring(db, name.name):
        record = next(known.copy() for known in child.info.fk_info if known.id == key.id)
        check_parent(child.info, record, info, name.position)


def touch_parents(change: SchemaChange, db: str, info: TableInfo, keys: Sequence[FKInfo]) -> None:
    """Tells the writers of the tables that new foreign keys of `info` point to: they have to look at its rows now."""
    schema = Schema(change.version, change.databases)
    for name in dict.fromkeys((key.ref_schema.lower() or db.lower(), key.ref_table.lower()) for key in keys):
        parent = schema.table(*name)
        if parent is not None and parent.id != info.id:
            change.describe(Action.MODIFY_TABLE_COMMENT, parent.db_id, parent.id)
            change.put_table(change.databases[name[0]], parent.info.copy())


def rename_in_children(
    change: SchemaChange, old: tuple[str, str], new: tuple[str, str], columns: Mapping[str, str], skip: int = 0
) -> None:
    """Has the foreign keys that point to a table, once (database, name) `old`, name it and its `columns` as they are
    called now; `skip` is the id of a table that has been put right already."""
    for child, _ in dict.fromkeys(Schema(change.version, change.databases).referring(*old)):
        if child.id == skip:
            continue
        info = change.databases[child.db.lower()].tables[child.name.lower()].info.copy()
        for key, record in zip(foreign_keys_of(info, child.db), filter(is_enforced, info.fk_info), strict=True):
            if key.points_to(*old):
                record.ref_schema, record.ref_table = new
                rename_parent_columns(record, columns)
        change.describe(Action.MODIFY_TABLE_COMMENT, child.db_id, child.id)
        change.put_table(change.databases[child.db.lower()], info)


def _refuse_orphans(catalog: Catalog, gone: Collection[int], tables: Iterable[Table]) -> None:
    """Raises 3730 when a table that is to go is referred to by one that stays."""
    for table in tables if catalog.key_checks else ():
        for child, key in catalog.schema.referring(table.db, table.name):
            if child.id not in gone:
                message = (
                    f"Cannot drop table '{table.name}' referenced by a foreign key constraint '{key.name}' on table "
                    f"'{child.name}'."
                )
                raise error(3730, message)


def _copied(schema: Schema, spec: CreateTable, current_db: str) -> TableInfo:
    """The record of CREATE TABLE ... LIKE: columns and indexes of the other table, none of its ids or rows."""
    assert spec.like is not None
    check_name(spec.table.name, 1103, "table", spec.table.position)
    database = resolve(schema, current_db, spec.like)
    source = schema.need_table(database.name, spec.like.name, position=spec.like.position)
    schema.check_writable(source, position=spec.like.position)
    info = source.info.copy()
    info.name = spec.table.name
    info.indexes = [i for i in info.indexes if i.state == 5]
    for index in info.indexes:
        index.table = info.name
        index.complete_ts = 0
    forget_ids(info)
    info.complete_ts = 0
    info.auto_inc_id = info.old_schema_id = 0
    info.fk_info, info.max_fk_id = [], 0
    _copy_checks(info, source)
    return info


def _copy_checks(info: TableInfo, source: Table) -> None:
    """CHECKs come along, under names that belong to the new table where they were chosen for the old one."""
    prefix = f"{source.name}_chk_".lower()
    for check in info.constraint_info:
        check.table = info.name
        if check.name.lower().startswith(prefix) and check.name[len(prefix) :].isdigit():
            check.name = f"{info.name}_chk_{check.name[len(prefix) :]}"


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
        _refuse_orphans(catalog, found.keys(), [table for _, table in found.values()])

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
        for child, key in catalog.schema.referring(table.db, table.name) if catalog.key_checks else ():
            if child.id != table.id:
                message = (
                    f"Cannot truncate a table referenced in a foreign key constraint ({key.told(child.db, child.name)})"
                )
                raise error(1701, message, position=spec.table.position)
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
    if taken is None:
        _fit_referrers(schema, table.info, target.name, new)
    info = table.info.copy()
    info.name = new.name
    for index in info.indexes:
        index.table = new.name
    for check in info.constraint_info:
        check.table = new.name
    if source.id != target.id:
        if not info.old_schema_id:
            info.old_schema_id = auto_id_database(table)
        change.drop_table(source, table, keep_data=True)
        if info.old_schema_id == target.id:
            info.old_schema_id = 0
    change.describe(Action.RENAME_TABLE, target.id, info.id, 0, source.id)
    change.put_table(change.databases[target.name.lower()], info)
    rename_in_children(change, (source.name, table.name), (target.name, new.name), {})
