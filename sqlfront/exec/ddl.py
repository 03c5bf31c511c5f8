"""Executing data definition statements: read, carried out through the catalog, and what hangs on it brought along.

DDL ends the session's open transaction (it commits implicitly, as in MySQL); making and dropping temporary tables does
not, if the statement says TEMPORARY.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, assert_never

from coprocessor.env import Env
from sqlfront.bind.constraints import checked_addition, checked_definition
from sqlfront.bind.ddl import read_ddl
from sqlfront.bind.defaults import check_defaults
from sqlfront.bind.generated import check_definition
from sqlfront.bind.partitions import check_action, check_partitions
from sqlfront.catalog import ddl
from sqlfront.catalog import definition as d
from sqlfront.catalog.online import alter_table
from sqlfront.catalog.repartition import PartitionAction
from sqlfront.catalog.views import drop_views
from sqlfront.errors import ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, error
from sqlfront.exec.context import StatementContext
from sqlfront.exec.views import define_view
from sqlfront.parse import Ddl, RenameTable
from sqlfront.result import Result
from sqlfront.session import READ_ONLY

if TYPE_CHECKING:
    from sqlfront.catalog.catalog import Catalog
    from sqlfront.catalog.model import Table
    from sqlfront.session import Session


def execute_ddl(
    session: Session, statement: Ddl | RenameTable, text: str | None = None, params: Sequence[object] = ()
) -> Result:
    """Executes CREATE, ALTER, DROP, TRUNCATE or RENAME. `text` is the statement's source, for positions in errors;
    `params` are those of CREATE TABLE ... SELECT.
    """
    from sqlfront.exec.temporary import execute_temporary

    spec = read_ddl(statement, text)
    if not (isinstance(spec, d.CreateTable | d.DropTable) and spec.temporary):
        session.commit()
    elif session.read_only:
        raise error(ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, READ_ONLY)
    done = execute_temporary(session, spec, params)
    if done is not None:
        return done
    catalog, statistics = session.catalog, session.database.statistics
    before = catalog.schema.table_by_id
    if isinstance(spec, d.CreateTable) and spec.query:
        from sqlfront.exec.create_select import create_from_query

        result = create_from_query(session, spec, params)
    else:
        result = execute_definition(session, spec)
    for table_id, table in catalog.schema.table_by_id.items():
        if table_id not in before and table.view is None and statistics.table(table_id) is None:
            statistics.set_rows(table_id, 0)
    return result


def execute_definition(session: Session, spec: d.Definition) -> Result:
    """Executes what a data definition statement asks for; IF [NOT] EXISTS leaves its notes in `session.warnings`."""
    catalog = session.database.catalog
    with catalog.ddl_mutex:
        catalog.query = session.statement
        catalog.priority = str(session.variables.get("tidb_ddl_reorg_priority"))
        catalog.key_checks = bool(session.variables.get("foreign_key_checks"))
        return _execute(session, catalog, spec)


def _execute(session: Session, catalog: Catalog, spec: d.Definition) -> Result:
    current_db = session.current_db
    zone = session.variables.zone
    affected = 0

    match spec:
        case d.CreateDatabase():
            affected = int(ddl.create_database(catalog, spec, session.note))
        case d.AlterDatabase():
            ddl.alter_database(catalog, spec, current_db)
        case d.DropDatabase():
            dropped = catalog.schema.database(spec.name)
            affected = ddl.drop_database(catalog, spec, session.note)
            if dropped is not None:
                for table in dropped.tables.values():
                    for part in (table, *table.parts):
                        _forget(session, part.id)
                if dropped.name.lower() == current_db.lower():
                    session.current_db = ""
        case d.CreateTable():
            check_new_table(spec)
            if spec.partition is not None:
                check_partitions(spec, spec.partition, Env(tz=zone))
            ddl.create_table(catalog, spec, current_db, zone, session.note, session.seen)
        case d.DropTable():
            before = catalog.schema
            ddl.drop_tables(catalog, spec, current_db, session.note)
            after = catalog.schema.table_by_id
            for table_id, table in before.table_by_id.items():
                if table_id not in after:
                    _forget(session, table.id)
        case d.TruncateTable():
            old, _ = ddl.truncate_table(catalog, spec, current_db)
            for part in (old, *old.parts):
                _forget(session, part.id)
        case d.RenameTables():
            ddl.rename_tables(catalog, spec, current_db)
        case d.CreateView():
            define_view(session, catalog, spec)
        case d.DropView():
            drop_views(catalog, spec, current_db, session.note)
        case d.AlterTable():
            _check_new_defaults(catalog, spec, current_db)
            _check_new_columns(catalog, spec, current_db)
            _check_new_checks(catalog, spec, current_db)
            _check_new_partitions(session, spec)
            _give_ids_back(session, catalog, spec)
            env = partial(Env, context=StatementContext(session), tz=zone, writing=True)
            table, plan = alter_table(catalog, spec, current_db, zone, session.note, session.cancel, env)
            if plan.auto_increment is not None and table.auto_increment is not None:
                session.database.autoids.allocator(table).reset(plan.auto_increment)
            for old_id in plan.replaced:
                _forget(session, old_id)
            for part_id, rows in plan.rows_of_parts.items():
                session.database.statistics.set_rows(part_id, rows)
            for part_id in plan.cleared:
                _forget(session, part_id)
            if plan.cleared:
                statistics = session.database.statistics
                known = [found for part in table.parts if (found := statistics.table(part.id)) is not None]
                statistics.set_rows(table.id, sum(found.row_count for found in known))
            for part in table.physical if plan.replica else ():
                session.database.columnar.switched(part)
            if plan.rows is not None:
                session.database.statistics.set_rows(table.id, plan.rows)
        case _:
            assert_never(spec)
    return Result(affected_rows=affected, warnings=list(session.warnings))


def check_new_table(spec: d.CreateTable) -> None:
    """Binds the generated columns, the defaults and the CHECKs of a new table."""
    check_definition(spec.columns)
    check_defaults(spec.columns)
    spec.checks = checked_definition(spec)


def _check_new_defaults(catalog: Catalog, spec: d.AlterTable, current_db: str) -> None:
    if any(isinstance(action, d.AddColumn | d.ChangeColumn | d.SetDefault) for action in spec.actions):
        table = catalog.schema.need_table(spec.table.db or current_db, spec.table.name, position=spec.table.position)
        check_changed_defaults(table, spec)


def check_changed_defaults(table: Table, spec: d.AlterTable) -> None:
    """Binds the expressions that columns get as DEFAULT by ALTER TABLE."""
    changed = [action for action in spec.actions if isinstance(action, d.SetDefault)]
    check_defaults(_new_columns(spec), [(c.name, c.type) for c in table.visible], changed)


def _check_new_columns(catalog: Catalog, spec: d.AlterTable, current_db: str) -> None:
    """Binds generated columns among those that ALTER TABLE adds or changes."""
    if any(column.generated is not None for column in _new_columns(spec)):
        table = catalog.schema.need_table(spec.table.db or current_db, spec.table.name, position=spec.table.position)
        bind_new_columns(table, spec)


def bind_new_columns(table: Table, spec: d.AlterTable) -> None:
    """Binds the generated columns that ALTER TABLE adds or changes, over the columns that there are then."""
    gone = {action.old.lower() for action in spec.actions if isinstance(action, d.ChangeColumn)}
    check_definition(_new_columns(spec), [(c.name, c.type) for c in table.visible if c.name.lower() not in gone])


def _check_new_checks(catalog: Catalog, spec: d.AlterTable, current_db: str) -> None:
    if _added_checks(spec):
        table = catalog.schema.need_table(spec.table.db or current_db, spec.table.name, position=spec.table.position)
        bind_added_checks(table, spec)


def bind_added_checks(table: Table, spec: d.AlterTable) -> None:
    """Binds the CHECKs that ALTER TABLE adds, those behind new columns among them, and gives them names."""
    written = _added_checks(spec)
    if written:
        found = checked_addition(table, written, _new_columns(spec))
        others = [action for action in spec.actions if not isinstance(action, d.AddCheck)]
        spec.actions = [*others, *map(d.AddCheck, found)]


def _new_columns(spec: d.AlterTable) -> list[d.ColumnSpec]:
    return [action.column for action in spec.actions if isinstance(action, d.AddColumn | d.ChangeColumn)]


def _added_checks(spec: d.AlterTable) -> list[d.CheckSpec]:
    written = [check for column in _new_columns(spec) for check in column.checks]
    return written + [action.check for action in spec.actions if isinstance(action, d.AddCheck)]


def _check_new_partitions(session: Session, spec: d.AlterTable) -> None:
    """Computes the constants of partitions that ALTER TABLE asks for."""
    for action in spec.actions:
        if isinstance(action, PartitionAction):
            db = spec.table.db or session.current_db
            table = session.database.catalog.schema.need_table(db, spec.table.name, position=spec.table.position)
            check_action(table, action, Env(tz=session.variables.zone))


def _give_ids_back(session: Session, catalog: Catalog, spec: d.AlterTable) -> None:
    """Leaves no gap in the AUTO_INCREMENT values of a table that gets another id."""
    database = catalog.schema.database(spec.table.db or session.current_db)
    table = None if database is None else database.table(spec.table.name)
    if table is not None:
        session.database.autoids.give_back(table.id)


def _forget(session: Session, table_id: int) -> None:
    """Drops what is kept in memory of a table that is gone."""
    session.database.autoids.forget(table_id)
    session.database.statistics.forget(table_id)
