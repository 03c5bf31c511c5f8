"""SHOW and DESCRIBE: their result columns as MySQL 8 names them, their rows from the catalog and the session."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from coprocessor.types import BIGINT, DATETIME, TEXT, FieldType, varchar
from sqlfront.catalog import infoschema
from sqlfront.catalog.catalog import INFORMATION_SCHEMA
from sqlfront.catalog.charsets import BINARY, CHARSETS, COLLATIONS, TEXT_DEFAULT
from sqlfront.catalog.column_types import type_text
from sqlfront.catalog.describe import create_table_text, default_text, extra_text, key_letters, quote_name
from sqlfront.catalog.infoschema import VirtualTable
from sqlfront.catalog.model import Database, Table
from sqlfront.catalog.views import create_view_text, not_a_view
from sqlfront.errors import error, near_match, unsupported
from sqlfront.parse import Describe, Show
from sqlfront.result import Result, ResultColumn, rows_result

if TYPE_CHECKING:
    from sqlfront.session import Session

Rows = list[tuple[Any, ...]]
Columns = tuple[tuple[str, FieldType], ...]
Where = Callable[["Session", Columns, Rows, Any], Rows]
"""Filters rows by a WHERE expression over the result's columns."""

_NAME = varchar(64)


def execute_show(session: Session, statement: Show, where: Where | None = None) -> Result:
    """Executes SHOW; `where` evaluates its WHERE clause, without it a WHERE is refused."""
    reader = _READERS.get(statement.what)
    if reader is None:
        if statement.what.startswith("GRANTS"):
            reader = _grants
        else:
            raise unsupported(f"SHOW {statement.what}")
    columns, rows = reader(session, statement)
    if statement.like is not None:
        matches = like_matcher(statement.like)
        rows = [row for row in rows if matches(str(row[0]))]
    if statement.where is not None:
        if where is None:
            raise unsupported(f"SHOW {statement.what} ... WHERE")
        rows = where(session, columns, rows, statement.where)
    if statement.limit is not None:
        first, count = statement.limit
        rows = rows[first : first + count]
    return _result(columns, rows)


def execute_describe(session: Session, statement: Describe) -> Result:
    """Executes DESCRIBE table [column or pattern]."""
    show = Show("COLUMNS", table=statement.table)
    columns, rows = _columns(session, show)
    if statement.column is not None:
        matches = like_matcher(statement.column)
        rows = [row for row in rows if matches(row[0])]
    return _result(columns, rows)


def _result(columns: Columns, rows: Rows) -> Result:
    return rows_result(tuple(ResultColumn(n, t) for n, t in columns), rows)


def like_matcher(pattern: str) -> Callable[[str], bool]:
    """A LIKE pattern as a function; case does not matter, as for names."""
    out, i = "", 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\" and i + 1 < len(pattern):
            i += 1
            out += re.escape(pattern[i])
        else:
            out += {"%": ".*", "_": "."}.get(char, re.escape(char))
        i += 1
    compiled = re.compile(out, re.IGNORECASE | re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


def _text(*names: str) -> Columns:
    return tuple((n, _NAME) for n in names)


def _current(session: Session, show: Show) -> Database:
    name = show.database or session.current_db
    if not name:
        raise error(1046, "No database selected")
    return session.database.catalog.schema.need_database(name)


def _resolve(session: Session, show: Show, *, stored: bool = False) -> Table | VirtualTable:
    """What a name means to the session, or (`stored`) to all of them."""
    assert show.table is not None
    name = show.table.name
    position = show.table.this.meta.get("start", -1)
    db = show.table.db or session.current_db
    if not db:
        raise error(1046, "No database selected", position=position)
    if db.lower() == INFORMATION_SCHEMA:
        found = infoschema.table(name)
        if found is None:
            hint = near_match(name, infoschema.names())
            raise error(1109, f"Unknown table '{name}' in information_schema{hint}", position=position)
        return found
    schema = session.database.catalog.schema
    return (schema if stored else session.seen(schema)).need_relation(db, name, position=position)


def _shown_databases(session: Session, show: Show) -> tuple[Columns, Rows]:
    names = sorted((d.name for d in session.database.catalog.schema.databases.values()), key=str.lower)
    return _text("Database"), [(n,) for n in names]


def _tables(session: Session, show: Show) -> tuple[Columns, Rows]:
    database = _current(session, show)
    column = f"Tables_in_{database.name}"
    if database.virtual:
        rows: Rows = [(n, "SYSTEM VIEW") for n in infoschema.names()]
    else:
        rows = [(t.name, t.kind) for t in sorted(database.tables.values(), key=lambda t: t.name.lower())]
    if show.full:
        return _text(column, "Table_type"), rows
    return _text(column), [row[:1] for row in rows]


def _columns(session: Session, show: Show) -> tuple[Columns, Rows]:
    table = _resolve(session, show)
    columns: Columns = (("Field", _NAME), ("Type", TEXT), ("Null", varchar(3)), ("Key", varchar(3)), ("Default", TEXT))
    columns = (*columns, ("Extra", varchar(256)))
    rows: Rows
    if isinstance(table, VirtualTable):
        rows = [(n, type_text(ft), "YES", "", None, "") for n, ft in table.columns]
        collations = [ft.collate or None for _, ft in table.columns]
        comments = [""] * len(rows)
    else:
        zone = session.variables.zone
        rows = []
        shown_columns = session.columns_of(table)
        for column in shown_columns:
            shown = type_text(column.type, zerofill=column.zerofill)
            nullable = "NO" if column.not_null else "YES"
            key = key_letters(table, column)
            rows.append((column.name, shown, nullable, key, default_text(column, zone), extra_text(column)))
        collations = [c.type.collate if c.type.is_text or c.type.elems else None for c in shown_columns]
        comments = [c.comment for c in shown_columns]
    if not show.full:
        return columns, rows
    columns = (*columns[:2], ("Collation", _NAME), *columns[2:], ("Privileges", varchar(154)), ("Comment", TEXT))
    full = zip(rows, collations, comments, strict=True)
    return columns, [(*r[:2], c, *r[2:], infoschema.PRIVILEGES, comment) for r, c, comment in full]


_INDEX_COLUMNS: Columns = (
    ("Table", _NAME),
    ("Non_unique", BIGINT),
    ("Key_name", _NAME),
    ("Seq_in_index", BIGINT),
    ("Column_name", _NAME),
    ("Collation", varchar(1)),
    ("Cardinality", BIGINT),
    ("Sub_part", BIGINT),
    ("Packed", varchar(10)),
    ("Null", varchar(3)),
    ("Index_type", varchar(16)),
    ("Comment", varchar(8)),
    ("Index_comment", TEXT),
    ("Visible", varchar(3)),
    ("Expression", TEXT),
)


def _indexes(session: Session, show: Show) -> tuple[Columns, Rows]:
    table = _resolve(session, show)
    if isinstance(table, VirtualTable):
        return _INDEX_COLUMNS, []
    rows: Rows = []
    for key, seq, column, prefix, distinct in infoschema.index_rows(session, table):
        rows.append(
            (
                table.name,
                0 if key.unique else 1,
                key.name,
                seq,
                None if column.hidden else column.name,
                "A",
                distinct,
                prefix,
                None,
                "" if column.not_null else "YES",
                "BTREE",
                "",
                key.comment,
                "YES",
                column.generated if column.hidden else None,
            )
        )
    return _INDEX_COLUMNS, rows


def _create_table(session: Session, show: Show) -> tuple[Columns, Rows]:
    table = _resolve(session, show)
    if isinstance(table, VirtualTable):
        raise unsupported("SHOW CREATE TABLE of a virtual table")
    if table.view is not None:
        return _create_view(session, show)
    next_id = infoschema.next_auto_increment(session, table) or 0
    text = create_table_text(table, session.variables.zone, next_id)
    return (("Table", _NAME), ("Create Table", TEXT)), [(table.name, text)]


def _create_view(session: Session, show: Show) -> tuple[Columns, Rows]:
    view = _resolve(session, show, stored=True)
    if isinstance(view, VirtualTable) or view.view is None:
        raise not_a_view(view.name if isinstance(view, VirtualTable) else f"{view.db}.{view.name}")
    columns = (("View", _NAME), ("Create View", TEXT), *_text("character_set_client", "collation_connection"))
    return columns, [(view.name, create_view_text(view), view.info.charset, view.info.collate)]


def _create_database(session: Session, show: Show) -> tuple[Columns, Rows]:
    database = _current(session, show)
    info = database.info
    charset = f"DEFAULT CHARACTER SET {info.charset}"
    if (info.charset, info.collate) not in (BINARY, TEXT_DEFAULT):
        charset += f" COLLATE {info.collate}"
    text = f"CREATE DATABASE {quote_name(database.name)} /*!40100 {charset} */"
    return (("Database", _NAME), ("Create Database", TEXT)), [(database.name, text)]


def _variables(session: Session, show: Show) -> tuple[Columns, Rows]:
    rows: Rows = list(session.variables.all("global" if show.glob else "session"))
    return (("Variable_name", _NAME), ("Value", varchar(1024))), sorted(rows)


def _status(session: Session, show: Show) -> tuple[Columns, Rows]:
    rows: Rows = [("Threads_connected", str(len(session.database.sessions))), ("Ssl_cipher", "")]
    for name, value in _flatten("Store", session.database.storage.stats()):
        rows.append((name, value))
    return (("Variable_name", _NAME), ("Value", varchar(1024))), sorted(rows)


def _flatten(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flatten(f"{prefix}_{key}", inner)]
    return [(prefix, str(value))]


_WARNING_COLUMNS: Columns = (("Level", varchar(7)), ("Code", BIGINT), ("Message", varchar(512)))


def _warnings(session: Session, show: Show) -> tuple[Columns, Rows]:
    return _WARNING_COLUMNS, [tuple(w) for w in session.warnings]


def _errors(session: Session, show: Show) -> tuple[Columns, Rows]:
    return _WARNING_COLUMNS, [tuple(w) for w in session.warnings if w[0] == "Error"]


def _count(level: str) -> Callable[[Session, Show], tuple[Columns, Rows]]:
    """COUNT(*) of WARNINGS, which all kinds of them are, or of ERRORS."""

    def count(session: Session, show: Show) -> tuple[Columns, Rows]:
        found = [w for w in session.warnings if not level or w[0] == level]
        return ((f"@@session.{'error' if level else 'warning'}_count", BIGINT),), [(len(found),)]

    return count


def _processlist(session: Session, show: Show) -> tuple[Columns, Rows]:
    columns: Columns = (("Id", BIGINT), *_text("User", "Host", "db", "Command"), ("Time", BIGINT), ("State", _NAME))
    return (*columns, ("Info", TEXT)), infoschema.process_rows(session)


def _table_status(session: Session, show: Show) -> tuple[Columns, Rows]:
    database = _current(session, show)
    numbers = ("Rows", "Avg_row_length", "Data_length", "Max_data_length", "Index_length", "Data_free")
    columns: Columns = (
        *_text("Name", "Engine"),
        ("Version", BIGINT),
        ("Row_format", varchar(10)),
        *((n, BIGINT) for n in (*numbers, "Auto_increment")),
        *((n, DATETIME) for n in ("Create_time", "Update_time", "Check_time")),
        ("Collation", _NAME),
        ("Checksum", BIGINT),
        ("Create_options", varchar(256)),
        ("Comment", TEXT),
    )
    rows: Rows = []
    for table in sorted(database.tables.values(), key=lambda t: t.name.lower()):
        if table.view is not None:
            rows.append((table.name, *[None] * (len(columns) - 2), "VIEW"))
            continue
        count, width = infoschema.row_count(session, table), infoschema.average_row_length(session, table)
        next_id = infoschema.next_auto_increment(session, table)
        rows.append(
            (
                table.name,
                "InnoDB",
                10,
                "Dynamic",
                count,
                width,
                count * width,
                0,
                0,
                0,
                next_id,
                None,
                None,
                None,
                table.info.collate,
                None,
                "",
                table.comment,
            )
        )
    return columns, rows


def _engines(session: Session, show: Show) -> tuple[Columns, Rows]:
    return _text("Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"), list(infoschema.ENGINES)


def _collations(session: Session, show: Show) -> tuple[Columns, Rows]:
    columns: Columns = (*_text("Collation", "Charset"), ("Id", BIGINT), ("Default", varchar(3)))
    columns = (*columns, ("Compiled", varchar(3)), ("Sortlen", BIGINT), ("Pad_attribute", varchar(9)))
    return columns, [c.row for c in COLLATIONS]


def _charsets(session: Session, show: Show) -> tuple[Columns, Rows]:
    columns: Columns = (("Charset", _NAME), ("Description", varchar(2048)), ("Default collation", _NAME))
    rows = [(name, description, collation, width) for name, collation, description, width in CHARSETS]
    return (*columns, ("Maxlen", BIGINT)), rows


def _grants(session: Session, show: Show) -> tuple[Columns, Rows]:
    return (("Grants for root@localhost", varchar(1024)),), [("GRANT ALL PRIVILEGES ON *.* TO 'root'@'localhost'",)]


def _empty(columns: Sequence[str]) -> Callable[[Session, Show], tuple[Columns, Rows]]:
    return lambda session, show: (_text(*columns), [])


def _stats_meta(session: Session, show: Show) -> tuple[Columns, Rows]:
    columns: Columns = (*_text("Db_name", "Table_name"), ("Modify_count", BIGINT), ("Row_count", BIGINT))
    rows: Rows = []
    for table in session.database.catalog.schema.table_by_id.values():
        stats = session.database.statistics.table(table.id)
        if stats is not None and not table.partition:
            rows.append((table.db, table.name, stats.modified, stats.row_count))
    return columns, sorted(rows)


_READERS: dict[str, Callable[[Session, Show], tuple[Columns, Rows]]] = {
    "DATABASES": _shown_databases,
    "SCHEMAS": _shown_databases,
    "TABLES": _tables,
    "COLUMNS": _columns,
    "FIELDS": _columns,
    "INDEX": _indexes,
    "INDEXES": _indexes,
    "KEYS": _indexes,
    "CREATE TABLE": _create_table,
    "CREATE VIEW": _create_view,
    "CREATE DATABASE": _create_database,
    "CREATE SCHEMA": _create_database,
    "VARIABLES": _variables,
    "STATUS": _status,
    "WARNINGS": _warnings,
    "ERRORS": _errors,
    "PROCESSLIST": _processlist,
    "TABLE STATUS": _table_status,
    "ENGINES": _engines,
    "STORAGE ENGINES": _engines,
    "COLLATION": _collations,
    "CHARACTER SET": _charsets,
    "CHARSET": _charsets,
    "STATS_META": _stats_meta,
    "TRIGGERS": _empty(("Trigger", "Event", "Table", "Statement", "Timing")),
    "EVENTS": _empty(("Db", "Name", "Definer")),
    "PROCEDURE STATUS": _empty(("Db", "Name", "Type", "Definer")),
    "FUNCTION STATUS": _empty(("Db", "Name", "Type", "Definer")),
    "PLUGINS": _empty(("Name", "Status", "Type", "Library", "License")),
    "PROFILES": _empty(("Query_ID", "Duration", "Query")),
    "OPEN TABLES": _empty(("Database", "Table", "In_use", "Name_locked")),
    "MASTER STATUS": _empty(("File", "Position", "Binlog_Do_DB", "Binlog_Ignore_DB", "Executed_Gtid_Set")),
    "SLAVE STATUS": _empty(("Slave_IO_State", "Master_Host", "Master_User", "Master_Port")),
    "REPLICA STATUS": _empty(("Replica_IO_State", "Source_Host", "Source_User", "Source_Port")),
    "COUNT(*) WARNINGS": _count(""),
    "COUNT(*) ERRORS": _count("Error"),
}
