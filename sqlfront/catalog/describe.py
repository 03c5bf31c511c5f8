"""How MySQL words a schema: column attributes, key letters, SHOW CREATE TABLE. Shared by SHOW and
information_schema.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coprocessor.types import BLOB_TPS, FieldType, Tp
from sqlfront.catalog.column_types import quote_text, type_text
from sqlfront.catalog.constraints import check_text
from sqlfront.catalog.info import Flag
from sqlfront.catalog.model import NOW_TEXT, PRIMARY, Column, Index, Table
from sqlfront.catalog.partitions import HASHED, definitions, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coprocessor.schema import IndexColumn


def quote_name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def now_text(fsp: int) -> str:
    return f"{NOW_TEXT}({fsp})" if fsp > 0 else NOW_TEXT


def default_text(column: Column, zone: dt.tzinfo | None) -> str | None:
    """The default as SHOW COLUMNS has it: None for none and for NULL."""
    default = column.default
    if default.kind == "now":
        return now_text(column.type.decimal)
    if default.kind == "expr":
        return default.text
    if default.kind == "none" or default.value is None:
        return None
    return constant_text(default.local(zone), column.type)


def constant_text(value: object, ft: FieldType) -> str:
    from coprocessor.convert import to_text

    if ft.tp == Tp.BIT and isinstance(value, int):
        return f"b'{value:b}'"
    if isinstance(value, bytes):
        return f"0x{value.hex().upper()}" if _needs_hex(value) else value.decode()
    return to_text(value, ft)


def _needs_hex(value: bytes) -> bool:
    try:
        return not value.decode().isprintable()
    except UnicodeDecodeError:
        return True


def extra_text(column: Column) -> str:
    """The Extra column: auto_increment, VIRTUAL and STORED GENERATED, DEFAULT_GENERATED, on update."""
    if column.generated is not None:
        return "STORED GENERATED" if column.stored else "VIRTUAL GENERATED"
    if column.auto_increment:
        return "auto_increment"
    words = ["DEFAULT_GENERATED"] if column.default.kind in ("now", "expr") else []
    if column.on_update_now:
        words.append("on update " + now_text(column.type.decimal))
    return " ".join(words)


def key_letters(table: Table, column: Column) -> str:
    """PRI, UNI, MUL or nothing."""
    unread = (part.offset for key in table.unread if key.primary for part in key.columns)
    if column.offset in table.primary_key or column.offset in unread:
        return "PRI"
    if table.view is not None:
        return ""
    if column.offset in _primary_like(table):
        return "PRI"
    info = next(c for c in table.info.columns if c.id == column.id)
    if info.has(Flag.UNIQUE_KEY):
        return "UNI"
    return "MUL" if info.has(Flag.MULTIPLE_KEY) else ""


def _primary_like(table: Table) -> frozenset[int]:
    """The columns of the first unique key without NULLs, of a table that has no primary key."""
    if table.primary_key or any(key.primary for key in (*table.indexes, *table.unread)):
        return frozenset()
    for index in table.indexes:
        columns = [table.columns[part.offset] for part in index.columns]
        if index.unique and all(c.not_null and not c.hidden for c in columns):
            return frozenset(c.offset for c in columns)
    return frozenset()


def all_keys(table: Table) -> list[Index]:
    """Every key in SHOW INDEX's order: the primary key first, clustered or not, then unique ones, then the rest."""
    from coprocessor.schema import IndexColumn

    keys = [*table.indexes, *table.unread]
    if table.clustered:
        parts = table.common_handle or tuple(IndexColumn(o) for o in table.primary_key)
        keys.append(Index(0, PRIMARY, parts, unique=True, primary=True))
    return sorted(keys, key=lambda k: (not k.primary, not k.unique))


def column_text(column: Column, zone: dt.tzinfo | None, usual: str = "") -> str:
    """One column of SHOW CREATE TABLE; `usual` is the collation that needs no word."""
    ft = column.type
    words = [quote_name(column.name), type_text(ft, zerofill=column.zerofill)]
    if (ft.is_text or ft.elems) and ft.tp != Tp.JSON and ft.collate not in ("", usual):
        words.append(f"COLLATE {ft.collate}")
    if column.generated is not None:
        words.append(f"GENERATED ALWAYS AS ({column.generated}) {'STORED' if column.stored else 'VIRTUAL'}")
    if column.not_null:
        words.append("NOT NULL")
    elif ft.tp == Tp.TIMESTAMP:
        words.append("NULL")
    if column.auto_increment:
        words.append("AUTO_INCREMENT")
    elif column.default.kind != "none" and column.generated is None:
        shown = _default_clause(column, zone)
        if shown:
            words.append("DEFAULT " + shown)
    if column.on_update_now:
        words.append("ON UPDATE " + now_text(ft.decimal))
    if column.comment:
        words.append("COMMENT " + quote_text(column.comment))
    return " ".join(words)


def _default_clause(column: Column, zone: dt.tzinfo | None) -> str:
    ft = column.type
    text = default_text(column, zone)
    if text is None:
        return "" if ft.tp in BLOB_TPS or column.not_null else "NULL"
    if column.default.kind == "expr":
        return f"({text})"
    if column.default.kind == "now" or ft.tp == Tp.BIT:
        return text
    value = column.default.value
    if isinstance(value, bytes) and _needs_hex(value):
        return text
    return quote_text(text)


def _parts_text(table: Table, parts: Iterable[IndexColumn]) -> str:
    shown = []
    for part in parts:
        length = f"({part.prefix})" if part.prefix >= 0 else ""
        column = table.columns[part.offset]
        shown.append(f"({column.generated})" if column.hidden else quote_name(column.name) + length)
    return "(" + ",".join(shown) + ")"


def key_text(table: Table, key: Index) -> str:
    """One key of SHOW CREATE TABLE."""
    parts = _parts_text(table, key.columns)
    comment = f" COMMENT {quote_text(key.comment)}" if key.comment else ""
    if key.primary:
        word = "CLUSTERED" if table.clustered else "NONCLUSTERED"
        return f"PRIMARY KEY {parts}{comment} /*T![clustered_index] {word} */"
    return f"{'UNIQUE KEY' if key.unique else 'KEY'} {quote_name(key.name)} {parts}{comment}"


def create_table_text(table: Table, zone: dt.tzinfo | None, next_id: int = 0) -> str:
    """The statement that makes the table again; `next_id` is printed as AUTO_INCREMENT when above 1."""
    lines = [column_text(c, zone, table.info.collate) for c in table.visible]
    lines += [key_text(table, k) for k in _creation_order(table)]
    lines += [key.definition(table.db) for key in table.foreign_keys]
    lines += [check_text(check) for check in table.checks]
    body = ",\n  ".join(lines)
    options = ["ENGINE=InnoDB"]
    if table.auto_increment is not None and next_id > 1:
        options.append(f"AUTO_INCREMENT={next_id}")
    options += [f"DEFAULT CHARSET={table.info.charset}", f"COLLATE={table.info.collate}"]
    if table.comment:
        options.append(f"COMMENT={quote_text(table.comment)}")
    kind = "TEMPORARY TABLE" if table.temporary else "TABLE"
    text = f"CREATE {kind} {quote_name(table.name)} (\n  {body}\n) {' '.join(options)}"
    return text if not table.parts else f"{text}\n{partitions_text(table)}"


def partition_method(table: Table) -> tuple[str, str]:
    """How a partitioned table is cut: RANGE, LIST (or their forms with COLUMNS), HASH or KEY, and what by."""
    record = table.info.partition
    kind = (kind_of(table.info) or "").upper()
    columns = record["columns"]
    if columns:
        return kind if kind == "KEY" else f"{kind} COLUMNS", ",".join(quote_name(name["O"]) for name in columns)
    return kind, record["expr"]


def partition_values(definition: Mapping[str, Any]) -> str:
    """The bound of a RANGE, or the values of a LIST; nothing for a HASH or a KEY."""
    if definition["less_than"]:
        return ",".join(definition["less_than"])
    rows = definition["in_values"] or ()
    return ",".join(row[0] if len(row) == 1 else f"({','.join(row)})" for row in rows)


def partitions_text(table: Table) -> str:
    """PARTITION BY of SHOW CREATE TABLE."""
    method, expr = partition_method(table)
    hashed = kind_of(table.info) in HASHED
    head = f"PARTITION BY {method} ({'' if table.info.partition.get('is_empty_columns') else expr})"
    found = definitions(table.info)
    if hashed and all(d["name"]["O"] == f"p{i}" for i, d in enumerate(found)):
        return f"{head} PARTITIONS {len(found)}"
    lines = []
    for one in found:
        words = f" VALUES {'LESS THAN' if one['less_than'] else 'IN'} ({partition_values(one)})"
        comment = f" COMMENT {quote_text(one['comment'])}" if one.get("comment") else ""
        lines.append(f"PARTITION {quote_name(one['name']['O'])}{'' if hashed else words}{comment}")
    return f"{head}\n({(',' + chr(10) + ' ').join(lines)})"


def _creation_order(table: Table) -> list[Index]:
    keys = all_keys(table)
    place = {index.id: i for i, index in enumerate(table.info.indexes)}
    return sorted(keys, key=lambda k: (not k.primary, place.get(k.id, -1)))
