"""LOCK and UNLOCK TABLES, FLUSH, and the tables of results that CHECK, OPTIMIZE and REPAIR TABLE give.

Locks are TiDB's default: none is taken, a warning says so. All of them end the open transaction first, as in MySQL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

from coprocessor.types import TEXT, varchar
from sqlfront.errors import ER_NO_SUCH_TABLE, ER_NOT_SUPPORTED_YET, DatabaseError, error
from sqlfront.exec.check import ER_DATA_INCONSISTENT, check_table
from sqlfront.parse import AnalyzeTable, DropMissing, Flush, LockTables, MaintainTables, UnlockTables
from sqlfront.result import Result, ResultColumn, rows_result

if TYPE_CHECKING:
    from sqlglot import exp

    from sqlfront.catalog.model import Table
    from sqlfront.session import Session

Analyze = Callable[["Session", AnalyzeTable], Result]
Message = tuple[str, str]

ER_WRONG_OBJECT = 1347
_COLUMNS = (
    ResultColumn("Table", varchar(128)),
    ResultColumn("Op", varchar(10)),
    ResultColumn("Msg_type", varchar(10)),
    ResultColumn("Msg_text", TEXT),
)
_OPTIMIZE_NOTE = "Table does not support optimize, doing analyze instead"
_REPAIR_NOTE = "The storage engine for the table doesn't support repair"


def execute_maintenance(
    session: Session, statement: LockTables | UnlockTables | Flush | MaintainTables, analyze: Analyze
) -> Result:
    """Runs one of the statements; `analyze` is what OPTIMIZE does to a table."""
    session.commit()
    match statement:
        case LockTables():
            for name in statement.locked:
                _table(session, name, or_view=True)
            _warn_of_locks(session, "LOCK TABLES")
        case UnlockTables():
            _warn_of_locks(session, "UNLOCK TABLES")
        case Flush():
            for name in statement.tables:
                _table(session, name, or_view=True)
        case MaintainTables():
            rows = [
                (f"{name.db or session.current_db}.{name.name}", statement.verb, kind, text)
                for name in statement.tables
                for kind, text in _maintained(session, statement.verb, name, analyze)
            ]
            return rows_result(_COLUMNS, rows)
        case _:
            assert_never(statement)
    return Result()


def drop_missing(session: Session, statement: DropMissing) -> Result:
    """Says that what is to be dropped is not there: an error, or a note for IF EXISTS."""
    session.commit()
    name = statement.name
    full = f"{name.db or session.current_db}.{name.name}"
    code, message = {
        "TRIGGER": (1360, "Trigger does not exist"),
        "EVENT": (1539, f"Unknown event '{name.name}'"),
    }.get(statement.kind, (1305, f"{statement.kind} {full} does not exist"))
    if not statement.if_exists:
        raise error(code, message, position=name.this.meta.get("start", -1))
    session.note(code, message)
    return Result()


def _warn_of_locks(session: Session, what: str) -> None:
    session.warn(
        ER_NOT_SUPPORTED_YET,
        f"{what} is not supported. To enable this experimental feature, set 'enable-table-lock' in the configuration"
        " file.",
    )


def _table(session: Session, name: exp.Table, *, or_view: bool = False) -> Table:
    db = name.db or session.current_db
    if not db:
        raise error(1046, "No database selected")
    schema = session.seen(session.catalog.schema)
    need = schema.need_relation if or_view else schema.need_table
    return need(db, name.name, position=name.this.meta.get("start", -1))


def _maintained(session: Session, verb: str, name: exp.Table, analyze: Analyze) -> list[Message]:
    """What is said of one table; one that is not there is no error of the statement."""
    try:
        table = _table(session, name, or_view=verb == "check")
    except DatabaseError as exc:
        if exc.code not in (ER_NO_SUCH_TABLE, ER_WRONG_OBJECT):
            raise
        return [("Error", exc.message), ("status", "Operation failed")]
    if verb == "repair":
        return [("note", _REPAIR_NOTE)]
    if verb == "optimize":
        analyze(session, AnalyzeTable([name]))
        return [("note", _OPTIMIZE_NOTE), ("status", "OK")]
    if table.view is not None:
        return _checked_view(session, table)
    try:
        reader = session.layered(session.catalog.snapshot(session.catalog.schema))
        for part in table.physical:
            check_table(reader, part, None, session.cancel)
    except DatabaseError as exc:
        if exc.code != ER_DATA_INCONSISTENT:
            raise
        return [("error", exc.message), ("error", "Corrupt")]
    return [("status", "OK")]


def _checked_view(session: Session, view: Table) -> list[Message]:
    """What CHECK TABLE says of a view: whether its query can be read."""
    from sqlfront.exec.views import view_columns

    try:
        view_columns(session, view)
    except DatabaseError as exc:
        return [("Error", exc.message), ("error", "Corrupt")]
    return [("status", "OK")]
