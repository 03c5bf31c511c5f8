"""information_schema: virtual tables, computed from the current schema and the server's state when they are read.

`table(name)` gives a table's columns and a function from a session to its rows. Names and columns are MySQL 8's, upper
case; a column of ours that would always be NULL there is here as well. TIFLASH_REPLICA is TiDB's, with STATE, POSITION,
PENDING and REASON behind TiDB's columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coprocessor.types import BIGINT, BLOB_TPS, DATETIME, DOUBLE, STRING_TPS, TEXT, UBIGINT, FieldType, Tp, varchar
from sqlfront.catalog.charsets import CHARSETS, COLLATIONS
from sqlfront.catalog.column_types import data_type, type_text
from sqlfront.catalog.describe import (
    all_keys,
    default_text,
    extra_text,
    key_letters,
    partition_method,
    partition_values,
)
from sqlfront.catalog.infoschema_empty import empty_tables
from sqlfront.catalog.model import Column, Database, Index, Table
from sqlfront.catalog.partitions import definitions
from sqlfront.catalog.replica_status import ReplicaStatus
from sqlfront.catalog.views import check_option_of, definer_of, security_of
from sqlfront.errors import DatabaseError

if TYPE_CHECKING:
    from sqlfront.session import Session

Rows = list[tuple[Any, ...]]
CATALOG = "def"
ENGINES = (("InnoDB", "DEFAULT", "Supports transactions and row-level locking", "YES", "NO", "YES"),)
PRIVILEGES = "select,insert,update,references"

_NAME = varchar(64)
_SHORT = varchar(32)


@dataclass(frozen=True, slots=True)
class VirtualTable:
    """A computed table."""

    name: str
    columns: tuple[tuple[str, FieldType], ...]
    rows: Callable[[Session], Rows]


def table(name: str) -> VirtualTable | None:
    """The virtual table of that name, in any case."""
    return _TABLES.get(name.upper())


def names() -> list[str]:
    return sorted(_TABLES)


def _databases(session: Session) -> list[Database]:
    schema = session.database.catalog.schema
    return sorted(schema.databases.values(), key=lambda d: d.name.lower())


def _tables(session: Session) -> Iterator[Table]:
    for database in _databases(session):
        yield from sorted(database.tables.values(), key=lambda t: t.name.lower())


def _schemata(session: Session) -> Rows:
    return [(CATALOG, d.name, d.info.charset, d.info.collate, None, "NO") for d in _databases(session)]


def row_count(session: Session, table: Table) -> int:
    stats = session.database.statistics.table(table.id)
    return 0 if stats is None else stats.row_count


def average_row_length(session: Session, table: Table) -> int:
    stats = session.database.statistics.table(table.id)
    if stats is None or not stats.columns:
        return 0
    return int(sum(c.average_width for c in stats.columns.values()))


def next_auto_increment(session: Session, table: Table) -> int | None:
    return session.database.autoids.next_value(table) if table.auto_increment is not None else None


def _table_rows(session: Session) -> Rows:
    out: Rows = []
    for table in _tables(session):
        if table.view is not None:
            out.append((CATALOG, table.db, table.name, table.kind, *[None] * (len(_TABLE_COLUMNS) - 5), "VIEW"))
            continue
        rows, width = row_count(session, table), average_row_length(session, table)
        out.append(
            (
                CATALOG,
                table.db,
                table.name,
                table.kind,
                "InnoDB",
                10,
                "Dynamic",
                rows,
                width,
                rows * width,
                0,
                0,
                0,
                next_auto_increment(session, table),
                None,
                None,
                None,
                table.info.collate,
                None,
                "",
                table.comment,
            )
        )
    for name in names():
        out.append(
            (
                CATALOG,
                "information_schema",
                name,
                "SYSTEM VIEW",
                None,
                10,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                None,
                "",
                "",
            )
        )
    return out


def _numeric(ft: FieldType) -> tuple[int | None, int | None]:
    if ft.tp in _PRECISION:
        precision = _PRECISION[ft.tp] + (ft.unsigned and ft.tp == Tp.LONGLONG)
        return precision, 0
    if ft.tp == Tp.NEWDECIMAL or (ft.is_real and ft.decimal >= 0):
        return ft.flen, max(ft.decimal, 0)
    if ft.tp == Tp.BIT:
        return ft.flen, None
    return {Tp.FLOAT: 12, Tp.DOUBLE: 22}.get(ft.tp), None


_PRECISION = {Tp.TINY: 3, Tp.SHORT: 5, Tp.INT24: 7, Tp.LONG: 10, Tp.LONGLONG: 19}


def _lengths(ft: FieldType) -> tuple[int | None, int | None]:
    """Character and octet length of text and binary types."""
    if ft.tp not in STRING_TPS and ft.tp not in (Tp.ENUM, Tp.SET):
        return None, None
    if ft.is_binary or ft.tp in BLOB_TPS:
        return ft.flen, ft.flen
    return ft.flen, ft.flen * 4


def _column_row(session: Session, table: Table, column: Column) -> tuple[Any, ...]:
    ft = column.type
    precision, scale = _numeric(ft)
    characters, octets = _lengths(ft)
    text = ft.is_text or ft.tp in (Tp.ENUM, Tp.SET)
    fsp = max(ft.decimal, 0) if ft.tp in (Tp.DATETIME, Tp.TIMESTAMP, Tp.DURATION) else None
    return (
        CATALOG,
        table.db,
        table.name,
        column.name,
        column.offset + 1,
        default_text(column, session.variables.zone),
        "NO" if column.not_null else "YES",
        data_type(ft),
        characters,
        octets,
        precision,
        scale,
        fsp,
        ft.charset if text else None,
        ft.collate if text else None,
        type_text(ft, zerofill=column.zerofill),
        key_letters(table, column),
        extra_text(column),
        PRIVILEGES,
        column.comment,
        column.generated or "",
        None,
    )


def _columns_of(session: Session, table: Table) -> Sequence[Column]:
    """The columns of a table or view; none, and a warning, for a view that cannot be bound."""
    try:
        return session.columns_of(table)
    except DatabaseError as exc:
        session.warn(exc.code, exc.message)
        return ()


def _view_rows(session: Session) -> Rows:
    out: Rows = []
    for table in _tables(session):
        view = table.view
        if view is not None:
            user, host = definer_of(view)
            out.append((CATALOG, table.db, table.name, view.select, check_option_of(view), "NO", f"{user}@{host}",
                        security_of(view), table.info.charset, table.info.collate))  # fmt: skip
    return out


def _virtual_column_row(table: VirtualTable, offset: int) -> tuple[Any, ...]:
    name, ft = table.columns[offset]
    precision, scale = _numeric(ft)
    characters, octets = _lengths(ft)
    charset, collate = (ft.charset, ft.collate) if ft.is_text else (None, None)
    return (
        CATALOG,
        "information_schema",
        table.name,
        name,
        offset + 1,
        None,
        "YES",
        data_type(ft),
        characters,
        octets,
        precision,
        scale,
        None,
        charset,
        collate,
        type_text(ft),
        "",
        "",
        "select",
        "",
        "",
        None,
    )


def _column_rows(session: Session) -> Rows:
    out = [_column_row(session, table, column) for table in _tables(session) for column in _columns_of(session, table)]
    for virtual in _TABLES.values():
        out.extend(_virtual_column_row(virtual, i) for i in range(len(virtual.columns)))
    return out


def index_rows(session: Session, table: Table) -> Iterator[tuple[Index, int, Column, int | None, int]]:
    """(key, place in it from 1, column, prefix length, distinct count so far) of every key's columns."""
    statistics = session.database.statistics
    for key in all_keys(table):
        for at, part in enumerate(key.columns):
            distinct = statistics.index_distinct(table, key.id, at + 1)
            whole = key.unique and at + 1 == len(key.columns)
            if distinct is None:
                distinct = row_count(session, table) if whole else 0
            prefix = part.prefix if part.prefix >= 0 else None
            yield key, at + 1, table.columns[part.offset], prefix, int(distinct)


def _statistics_rows(session: Session) -> Rows:
    out: Rows = []
    for table in _tables(session):
        for key, seq, column, prefix, distinct in index_rows(session, table):
            nullable = "" if column.not_null else "YES"
            out.append(
                (
                    CATALOG,
                    table.db,
                    table.name,
                    0 if key.unique else 1,
                    table.db,
                    key.name,
                    seq,
                    None if column.hidden else column.name,
                    "A",
                    distinct,
                    prefix,
                    None,
                    nullable,
                    "BTREE",
                    "",
                    key.comment,
                    "YES",
                    column.generated if column.hidden else None,
                )
            )
    return out


def _key_column_rows(session: Session) -> Rows:
    out: Rows = []
    for table in _tables(session):
        for key in all_keys(table):
            if not key.unique:
                continue
            for at, part in enumerate(key.columns):
                if table.columns[part.offset].hidden:
                    continue  # an expression is no column
                name = table.columns[part.offset].name
                out.append(
                    (CATALOG, table.db, key.name, CATALOG, table.db, table.name, name, at + 1, None, None, None, None)
                )
        for foreign in table.foreign_keys:
            for at, (name, ref_name) in enumerate(zip(foreign.columns, foreign.parent_columns, strict=True), 1):
                parent = (foreign.parent_db, foreign.parent, ref_name)
                out.append((CATALOG, table.db, foreign.name, CATALOG, table.db, table.name, name, at, at, *parent))
    return out


def _constraint_rows(session: Session) -> Rows:
    out: Rows = []
    for table in _tables(session):
        found = [(key.name, "PRIMARY KEY" if key.primary else "UNIQUE", "YES") for key in all_keys(table) if key.unique]
        found += [(key.name, "FOREIGN KEY", "YES") for key in table.foreign_keys]
        found += [(check.name, "CHECK", "YES" if check.enforced else "NO") for check in table.checks]
        out.extend((CATALOG, table.db, name, table.db, table.name, kind, enforced) for name, kind, enforced in found)
    return out


def _referential_rows(session: Session) -> Rows:
    schema, out = session.database.catalog.schema, []
    for table in _tables(session):
        for key in table.foreign_keys:
            parent = schema.table(key.parent_db, key.parent)
            unique = None if parent is None else _unique_key(parent, key.parent_columns)
            rules = (key.on_update.rule, key.on_delete.rule)
            parts = (CATALOG, key.parent_db, unique, "NONE", *rules, table.name, key.parent)
            out.append((CATALOG, table.db, key.name, *parts))
    return out


def _unique_key(table: Table, columns: Sequence[str]) -> str | None:
    """The name of the key that says that there is one row with values of these columns."""
    wanted = [name.lower() for name in columns]
    for key in all_keys(table):
        if key.unique and [table.columns[part.offset].name.lower() for part in key.columns] == wanted:
            return key.name
    return None


def _check_rows(session: Session) -> Rows:
    return [(CATALOG, t.db, check.name, f"({check.text})") for t in _tables(session) for check in t.checks]


def process_rows(session: Session) -> Rows:
    """Id, user, host, database, command, seconds, state and statement of every session."""
    return [
        (s.id, "root", "localhost", s.current_db or None, "Query" if s is session else "Sleep", 0, "", None)
        for s in sorted(session.database.sessions.values(), key=lambda s: s.id)
    ]


def _partition_rows(session: Session) -> Rows:
    """A row for each partition; one for a table that has none."""
    out: Rows = []
    for table in _tables(session):
        if table.view is not None:
            continue
        method, expr = partition_method(table) if table.parts else (None, None)
        found: list[dict[str, Any] | None] = [*definitions(table.info)] or [None]
        for place, (part, known) in enumerate(zip(table.physical, found, strict=True), 1):
            names: tuple[Any, ...] = (None, None, None, None, method, None, expr, None, None)
            if known is not None:
                names = (part.partition, None, place, None, method, None, expr, None, partition_values(known) or None)
            comment = "" if known is None else known.get("comment", "")
            rows = row_count(session, part)
            length = average_row_length(session, part)
            out.append((CATALOG, table.db, table.name, *names, rows, length, rows * length, 0, 0, 0, None, None, None,
                        None, comment, None, None, None if known is None else part.id))  # fmt: skip
    return out


_NO_REPLICA = ReplicaStatus(available=False, progress=0.0, state="none", position=0, pending=0)


def _replica_rows(session: Session) -> Rows:
    """Every table that should have a columnar replica, whether it is there or not."""
    out: Rows = []
    for table in _tables(session):
        if not table.columnar:
            continue
        wanted = table.info.tiflash_replica
        count, labels = (1, None) if wanted is None else (wanted.count, wanted.location_labels)
        status = session.database.replica_status(table) or _NO_REPLICA
        out.append(
            (
                table.db,
                table.name,
                table.id,
                count,
                ",".join(labels or ()),
                int(status.available),
                status.progress,
                status.state,
                status.position,
                status.pending,
                status.reason,
            )
        )
    return out


def _variable_rows(session: Session) -> Rows:
    return list(session.variables.all("session"))


def _global_variable_rows(session: Session) -> Rows:
    return list(session.variables.all("global"))


def _no_rows(session: Session) -> Rows:
    return []


def _text(*columns: str) -> tuple[tuple[str, FieldType], ...]:
    return tuple((c, _NAME) for c in columns)


def _fixed(rows: Sequence[tuple[Any, ...]]) -> Callable[[Session], Rows]:
    return lambda session: list(rows)


_COLUMN_COLUMNS = (
    *_text("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "COLUMN_NAME"),
    ("ORDINAL_POSITION", BIGINT),
    ("COLUMN_DEFAULT", TEXT),
    ("IS_NULLABLE", varchar(3)),
    ("DATA_TYPE", _NAME),
    ("CHARACTER_MAXIMUM_LENGTH", BIGINT),
    ("CHARACTER_OCTET_LENGTH", BIGINT),
    ("NUMERIC_PRECISION", BIGINT),
    ("NUMERIC_SCALE", BIGINT),
    ("DATETIME_PRECISION", BIGINT),
    *_text("CHARACTER_SET_NAME", "COLLATION_NAME"),
    ("COLUMN_TYPE", TEXT),
    ("COLUMN_KEY", varchar(3)),
    ("EXTRA", varchar(256)),
    ("PRIVILEGES", varchar(154)),
    ("COLUMN_COMMENT", TEXT),
    ("GENERATION_EXPRESSION", TEXT),
    ("SRS_ID", BIGINT),
)
_TABLE_COLUMNS = (
    *_text("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "TABLE_TYPE", "ENGINE"),
    ("VERSION", BIGINT),
    ("ROW_FORMAT", varchar(10)),
    *((c, BIGINT) for c in ("TABLE_ROWS", "AVG_ROW_LENGTH", "DATA_LENGTH", "MAX_DATA_LENGTH", "INDEX_LENGTH")),
    ("DATA_FREE", BIGINT),
    ("AUTO_INCREMENT", BIGINT),
    *((c, DATETIME) for c in ("CREATE_TIME", "UPDATE_TIME", "CHECK_TIME")),
    ("TABLE_COLLATION", _NAME),
    ("CHECKSUM", BIGINT),
    ("CREATE_OPTIONS", varchar(256)),
    ("TABLE_COMMENT", TEXT),
)
_STATISTICS_COLUMNS = (
    *_text("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME"),
    ("NON_UNIQUE", BIGINT),
    *_text("INDEX_SCHEMA", "INDEX_NAME"),
    ("SEQ_IN_INDEX", BIGINT),
    ("COLUMN_NAME", _NAME),
    ("COLLATION", varchar(1)),
    ("CARDINALITY", BIGINT),
    ("SUB_PART", BIGINT),
    ("PACKED", varchar(10)),
    ("NULLABLE", varchar(3)),
    ("INDEX_TYPE", varchar(16)),
    ("COMMENT", varchar(8)),
    ("INDEX_COMMENT", TEXT),
    ("IS_VISIBLE", varchar(3)),
    ("EXPRESSION", TEXT),
)
_KEY_COLUMN_COLUMNS = (
    *_text("CONSTRAINT_CATALOG", "CONSTRAINT_SCHEMA", "CONSTRAINT_NAME", "TABLE_CATALOG", "TABLE_SCHEMA"),
    *_text("TABLE_NAME", "COLUMN_NAME"),
    ("ORDINAL_POSITION", BIGINT),
    ("POSITION_IN_UNIQUE_CONSTRAINT", BIGINT),
    *_text("REFERENCED_TABLE_SCHEMA", "REFERENCED_TABLE_NAME", "REFERENCED_COLUMN_NAME"),
)
_COLLATION_COLUMNS = (
    *_text("COLLATION_NAME", "CHARACTER_SET_NAME"),
    ("ID", BIGINT),
    ("IS_DEFAULT", varchar(3)),
    ("IS_COMPILED", varchar(3)),
    ("SORTLEN", BIGINT),
    ("PAD_ATTRIBUTE", varchar(9)),
)
_PROCESS_COLUMNS = (
    ("ID", BIGINT),
    *_text("USER", "HOST", "DB", "COMMAND"),
    ("TIME", BIGINT),
    ("STATE", _NAME),
    ("INFO", TEXT),
)
_CONSTRAINT_COLUMNS = (
    *_text("CONSTRAINT_CATALOG", "CONSTRAINT_SCHEMA", "CONSTRAINT_NAME"),
    *_text("TABLE_SCHEMA", "TABLE_NAME", "CONSTRAINT_TYPE"),
    ("ENFORCED", varchar(3)),
)
_SCHEMATA_COLUMNS = _text(
    "CATALOG_NAME", "SCHEMA_NAME", "DEFAULT_CHARACTER_SET_NAME", "DEFAULT_COLLATION_NAME", "SQL_PATH",
    "DEFAULT_ENCRYPTION",
)  # fmt: skip
_CHARSET_COLUMNS = (*_text("CHARACTER_SET_NAME", "DEFAULT_COLLATE_NAME", "DESCRIPTION"), ("MAXLEN", BIGINT))
_REPLICA_COLUMNS = (
    *_text("TABLE_SCHEMA", "TABLE_NAME"),
    ("TABLE_ID", BIGINT),
    ("REPLICA_COUNT", BIGINT),
    ("LOCATION_LABELS", _NAME),
    ("AVAILABLE", BIGINT),
    ("PROGRESS", DOUBLE),
    ("STATE", _NAME),
    ("POSITION", UBIGINT),
    ("PENDING", BIGINT),
    ("REASON", TEXT),
)
_VARIABLE_COLUMNS = (("VARIABLE_NAME", _NAME), ("VARIABLE_VALUE", varchar(1024)))
_REFERENTIAL_COLUMNS = _text(
    "CONSTRAINT_CATALOG", "CONSTRAINT_SCHEMA", "CONSTRAINT_NAME", "UNIQUE_CONSTRAINT_CATALOG",
    "UNIQUE_CONSTRAINT_SCHEMA", "UNIQUE_CONSTRAINT_NAME", "MATCH_OPTION", "UPDATE_RULE", "DELETE_RULE", "TABLE_NAME",
    "REFERENCED_TABLE_NAME",
)  # fmt: skip
_CHECK_COLUMNS = (*_text("CONSTRAINT_CATALOG", "CONSTRAINT_SCHEMA", "CONSTRAINT_NAME"), ("CHECK_CLAUSE", TEXT))
_VIEW_COLUMNS = (
    *_text("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME"),
    ("VIEW_DEFINITION", TEXT),
    *_text("CHECK_OPTION", "IS_UPDATABLE"),
    ("DEFINER", varchar(288)),
    *_text("SECURITY_TYPE", "CHARACTER_SET_CLIENT", "COLLATION_CONNECTION"),
)

_PARTITION_COLUMNS = (
    *_text("TABLE_CATALOG", "TABLE_SCHEMA", "TABLE_NAME", "PARTITION_NAME", "SUBPARTITION_NAME"),
    ("PARTITION_ORDINAL_POSITION", BIGINT),
    ("SUBPARTITION_ORDINAL_POSITION", BIGINT),
    *_text("PARTITION_METHOD", "SUBPARTITION_METHOD", "PARTITION_EXPRESSION", "SUBPARTITION_EXPRESSION"),
    ("PARTITION_DESCRIPTION", TEXT),
    *((name, BIGINT) for name in ("TABLE_ROWS", "AVG_ROW_LENGTH", "DATA_LENGTH", "MAX_DATA_LENGTH", "INDEX_LENGTH")),
    ("DATA_FREE", BIGINT),
    *((name, DATETIME) for name in ("CREATE_TIME", "UPDATE_TIME", "CHECK_TIME")),
    ("CHECKSUM", BIGINT),
    *_text("PARTITION_COMMENT", "NODEGROUP", "TABLESPACE_NAME"),
    ("TIDB_PARTITION_ID", BIGINT),
)

_TABLES = {
    t.name: t
    for t in (
        VirtualTable("SCHEMATA", _SCHEMATA_COLUMNS, _schemata),
        VirtualTable("TABLES", _TABLE_COLUMNS, _table_rows),
        VirtualTable("COLUMNS", _COLUMN_COLUMNS, _column_rows),
        VirtualTable("STATISTICS", _STATISTICS_COLUMNS, _statistics_rows),
        VirtualTable("KEY_COLUMN_USAGE", _KEY_COLUMN_COLUMNS, _key_column_rows),
        VirtualTable("TABLE_CONSTRAINTS", _CONSTRAINT_COLUMNS, _constraint_rows),
        VirtualTable("REFERENTIAL_CONSTRAINTS", _REFERENTIAL_COLUMNS, _referential_rows),
        VirtualTable("CHECK_CONSTRAINTS", _CHECK_COLUMNS, _check_rows),
        VirtualTable("VIEWS", _VIEW_COLUMNS, _view_rows),
        VirtualTable("PARTITIONS", _PARTITION_COLUMNS, _partition_rows),
        VirtualTable("CHARACTER_SETS", _CHARSET_COLUMNS, _fixed(CHARSETS)),
        VirtualTable("COLLATIONS", _COLLATION_COLUMNS, _fixed([c.row for c in COLLATIONS])),
        VirtualTable(
            "COLLATION_CHARACTER_SET_APPLICABILITY",
            _text("COLLATION_NAME", "CHARACTER_SET_NAME"),
            _fixed([c.row[:2] for c in COLLATIONS]),
        ),
        VirtualTable(
            "ENGINES",
            _text("ENGINE", "SUPPORT", "COMMENT", "TRANSACTIONS", "XA", "SAVEPOINTS"),
            _fixed(ENGINES),
        ),
        VirtualTable("PROCESSLIST", _PROCESS_COLUMNS, process_rows),
        VirtualTable("TIFLASH_REPLICA", _REPLICA_COLUMNS, _replica_rows),
        VirtualTable("SESSION_VARIABLES", _VARIABLE_COLUMNS, _variable_rows),
        VirtualTable("GLOBAL_VARIABLES", _VARIABLE_COLUMNS, _global_variable_rows),
        *(VirtualTable(name, columns, _no_rows) for name, columns in empty_tables().items()),
    )
}
