"""Definitions of temporary tables: CREATE TEMPORARY TABLE, and DROP, TRUNCATE and ALTER of what it has made.

A name means the session's temporary table where there is one, else the stored one. These tables have no part in the
catalog: no schema version, no job, no other session. ALTER TABLE makes the table anew and copies its rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from kvstore.errors import KeyExists
from sqlfront.catalog import definition as d
from sqlfront.catalog.alter import AlterPlan, Emptiness, plan_alter
from sqlfront.catalog.constraint_rules import Around
from sqlfront.catalog.ddl import new_record, resolve
from sqlfront.catalog.info import State
from sqlfront.catalog.model import make_table
from sqlfront.catalog.repartition import PartitionAction
from sqlfront.catalog.table_builder import check_name, set_key_flags
from sqlfront.catalog.temporary import TemporaryTables
from sqlfront.errors import ER_NONUNIQ_TABLE, error, unsupported
from sqlfront.exec.create_select import info_text, rows_source
from sqlfront.exec.ddl import (
    bind_added_checks,
    bind_new_columns,
    check_changed_defaults,
    check_new_table,
    execute_definition,
)
from sqlfront.exec.dml import MISSING, insert_of
from sqlfront.exec.temporary_rows import LayeredStorage, LayeredTransaction, TemporaryRows
from sqlfront.result import Result, Row
from sqlfront.translate import translate

if TYPE_CHECKING:
    from sqlfront.catalog.info import DBInfo, TableInfo
    from sqlfront.catalog.model import Table
    from sqlfront.session import Session

ER_BAD_TABLE = 1051
ER_CANNOT_ADD_FOREIGN = 1215
ER_INVALID_USE_OF_NULL = 1138
ER_OPT_ON_TEMPORARY_TABLE = 8006
ER_PARTITION_NO_TEMPORARY = 1562
ER_TABLE_EXISTS = 1050
_COPY = "copy\0"
"""What a table is called while it gets the rows of another; no statement can say it."""


def execute_temporary(session: Session, spec: d.Definition, params: Sequence[object]) -> Result | None:
    """Executes a definition that concerns temporary tables alone; None for any other, less what it says of them."""
    match spec:
        case d.CreateTable(temporary=True):
            return _create(session, spec, params)
        case d.DropTable():
            return _drop(session, spec)
        case d.TruncateTable():
            table = _find(session, spec.table)
            return None if table is None else _truncate(session, table)
        case d.AlterTable():
            table = _find(session, spec.table)
            return None if table is None else _alter(session, table, spec)
    return None


def _begin(session: Session) -> tuple[TemporaryTables, TemporaryRows]:
    """The session's temporary tables and their rows; from the first call on it has a place for some."""
    if session.temporary is None or session.temporary_rows is None:
        rows = session.temporary_rows = TemporaryRows()
        session.temporary = TemporaryTables()
        session.storage = LayeredStorage(session.database.storage, rows)
        if session.get_latest == session.database.storage.get_latest:
            session.get_latest = session.storage.get_latest
        if session.txn is not None:
            session.txn = LayeredTransaction(session.txn, rows)
    return session.temporary, session.temporary_rows


def forget(session: Session, table: Table) -> None:
    """Drops a temporary table with its rows."""
    tables, rows = _begin(session)
    tables.remove(table)
    rows.remove(table)
    session._deltas.pop(table.id, None)
    session._forget_plans()
    session.database.forget_temporary(table)


def _find(session: Session, name: d.TableName) -> Table | None:
    db = name.db or session.current_db
    return None if session.temporary is None else session.temporary.find(db, name.name)


def _put(session: Session, info: TableInfo, db: DBInfo, name: str = "") -> Table:
    """Makes an empty table of a record, which gets an id."""
    tables, rows = _begin(session)
    info.id = session.database.new_temporary_id()
    table = tables.put(info, db, name)
    rows.add(table, lambda: session.variables.tmp_table_max_size)
    session.database.note_temporary(table)
    session._forget_plans()
    return table


@contextmanager
def _filling(session: Session, table: Table) -> Iterator[None]:
    """Drops a table that the block could not fill."""
    try:
        yield
    except KeyExists as exc:
        told = translate(exc, session.database.find_table)  # while the table is there to be named
        forget(session, table)
        raise told from exc
    except BaseException:
        forget(session, table)
        raise


# CREATE


def _create(session: Session, spec: d.CreateTable, params: Sequence[object]) -> Result:
    catalog, zone, current_db = session.catalog, session.variables.zone, session.current_db
    database = resolve(catalog.schema, current_db, spec.table)
    if spec.like is not None and _same(session, spec.like, spec.table):
        raise error(ER_NONUNIQ_TABLE, f"Not unique table/alias: '{spec.like.name}'", position=spec.like.position)
    if _find(session, spec.table) is not None:
        message = f"Table '{spec.table.name}' already exists"
        if not spec.if_not_exists:
            raise error(ER_TABLE_EXISTS, message, position=spec.table.position)
        session.note(ER_TABLE_EXISTS, message)
        return Result()
    if spec.partition is not None:
        _refuse_partitions(spec.partition.position)
    if spec.foreign_keys:
        _refuse_foreign_keys(spec.foreign_keys[0].position)
    source = rows_source(session, spec, params) if spec.query else None
    check_new_table(spec)
    info = new_record(session.seen(catalog.schema), spec, database.info, current_db, zone)
    if info.partition:
        _refuse_partitions(spec.table.position)
    info.tiflash_replica = None
    table = _put(session, info, database.info)
    if source is None:
        return Result()
    with _filling(session, table):
        taken = source.fill(table, spec.duplicates)
    return Result(affected_rows=taken, info=info_text(session, source.count, taken))


def _same(session: Session, a: d.TableName, b: d.TableName) -> bool:
    db = session.current_db
    return ((a.db or db).lower(), a.name.lower()) == ((b.db or db).lower(), b.name.lower())


def _refuse_partitions(position: int) -> NoReturn:
    message = "Cannot create temporary table with partitions"
    raise error(ER_PARTITION_NO_TEMPORARY, message, position=position, sqlstate="HY000")


def _refuse_foreign_keys(position: int) -> NoReturn:
    message = "Cannot add foreign key constraint"
    raise error(ER_CANNOT_ADD_FOREIGN, message, position=position, sqlstate="HY000")


# DROP, TRUNCATE


def _drop(session: Session, spec: d.DropTable) -> Result | None:
    """Drops the temporary ones among the tables, once the others are known to be there and dropped."""
    found = {id(name): table for name in spec.tables if (table := _find(session, name)) is not None}
    rest = [name for name in spec.tables if id(name) not in found]
    if not found and not spec.temporary:
        return None
    if spec.temporary and rest:
        full = [f"{name.db or session.current_db}.{name.name}" for name in rest]
        if not spec.if_exists:
            raise error(ER_BAD_TABLE, f"Unknown table '{','.join(full)}'", position=rest[0].position)
        for name in full:
            session.note(ER_BAD_TABLE, f"Unknown table '{name}'")
    elif rest:
        execute_definition(session, d.DropTable(rest, spec.if_exists))
    for table in dict.fromkeys(found.values()):
        forget(session, table)
    return Result()


def _truncate(session: Session, table: Table) -> Result:
    assert session.temporary is not None
    info, db = table.info.copy(), session.temporary.database_of(table)
    forget(session, table)
    info.auto_inc_id = 0
    _put(session, info, db)
    return Result()


# ALTER


def _alter(session: Session, table: Table, spec: d.AlterTable) -> Result:
    """Makes the table anew as the actions say, with its rows."""
    assert session.temporary is not None
    for action in spec.actions:
        match action:
            case _ if isinstance(action, PartitionAction):
                _refuse_partitions(action.position)
            case d.AddForeignKey():
                _refuse_foreign_keys(action.key.position)
            case d.SetReplica():
                message = "`set TiFlash replica` is unsupported on temporary tables."
                raise error(ER_OPT_ON_TEMPORARY_TABLE, message, position=action.position)
    _bind_added(table, spec)
    zone, now = session.variables.zone, dt.datetime.now(dt.UTC)
    stored = session.storage.snapshot()
    rows = Emptiness(lambda: next(stored.scan(*table.codec.record_range), None) is not None)
    around = Around(table.db, lambda db, name: None)
    plan = plan_alter(table.info, spec.actions, zone, now, rows, session.note, lambda: 0, around)
    if plan.final.clustered != table.info.clustered:
        raise unsupported("dropping the primary key of a temporary table that is clustered by it")
    if plan.changed or plan.rename is not None or plan.rewrite or plan.asks_of_rows:
        table = _remade(session, table, plan)
    if plan.auto_increment is not None and table.auto_increment is not None:
        session.database.autoids.allocator(table).reset(plan.auto_increment)
    return Result(warnings=list(session.warnings))


def _bind_added(table: Table, spec: d.AlterTable) -> None:
    """Binds the expressions of what is added."""
    check_changed_defaults(table, spec)
    bind_new_columns(table, spec)
    bind_added_checks(table, spec)


def _remade(session: Session, old: Table, plan: AlterPlan) -> Table:
    """Puts a table of the plan's record in the place of another, with its rows."""
    tables, autoids = session.temporary, session.database.autoids
    assert tables is not None
    db, final = tables.database_of(old), plan.final
    if plan.rename is not None:
        db = _renamed(session, old, final, plan.rename)
    for index in final.indexes:
        index.state = int(State.PUBLIC)
    for check in final.constraint_info:
        check.state = int(State.PUBLIC)
    set_key_flags(final)
    rows = _rows_of(session, old, plan)
    table = _put(session, final, db, _COPY)
    stored = [column for column in table.columns if column.generated is None]
    variables = session.variables
    zero = variables.no_auto_value_on_zero
    with _filling(session, table):
        change = insert_of(session, table, _COPY, [c.name for c in stored], [c.type for c in stored])
        variables.no_auto_value_on_zero = True  # the rows have their numbers
        try:
            change.run_rows(session, rows)
        finally:
            variables.no_auto_value_on_zero = zero
    if old.auto_increment is not None and table.auto_increment is not None:
        autoids.allocator(table).reset(autoids.next_value(old))
    forget(session, old)
    tables.settle(table)
    session._forget_plans()
    return table


def _renamed(session: Session, old: Table, final: TableInfo, name: d.TableName) -> DBInfo:
    """Gives a record its new name; returns the database that it is in."""
    database = resolve(session.catalog.schema, session.current_db, name)
    check_name(name.name, 1103, "table", name.position)
    taken = _find(session, name)
    if taken is not None and taken is not old:
        raise error(ER_TABLE_EXISTS, f"Table '{name.name}' already exists", position=name.position)
    final.name = name.name
    for index in final.indexes:
        index.table = name.name
    for check in final.constraint_info:
        check.table = name.name
    return database.info


def _rows_of(session: Session, old: Table, plan: AlterPlan) -> Callable[[], Iterator[Row]]:
    """What the rows of a table have in the stored columns of its next record, in the types that they have now."""
    assert session.temporary is not None
    before = {column.id: column.type for column in old.info.columns}
    shape = plan.final.copy()
    shape.id = old.id
    for column in shape.columns:
        column.type = before.get(column.id, column.type)
    read = make_table(shape, session.temporary.database_of(old))
    offsets = tuple(column.offset for column in read.columns if column.generated is None)
    computed = [
        place for place, o in enumerate(offsets)
        if read.columns[o].id not in before and read.columns[o].default.kind == "expr"
    ]  # fmt: skip
    decode = read.codec.key_decoder(offsets, session.variables.zone)
    not_null = [place for place, offset in enumerate(offsets) if read.columns[offset].id in plan.not_null]

    def rows() -> Iterator[Row]:
        for key, value in session.storage.snapshot().scan(*old.codec.record_range):
            row = decode(key, value)
            if any(row[place] is None for place in not_null):
                raise error(ER_INVALID_USE_OF_NULL, "Invalid use of NULL value", sqlstate="22004")
            if computed:
                row = tuple([MISSING if place in computed else value for place, value in enumerate(row)])
            yield row

    return rows
