"""From a table's definition to its stored record: every rule that MySQL has for columns, defaults and keys.

Pure: nothing here reads or changes the catalog. CREATE TABLE uses all of it, ALTER TABLE the parts.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any

from coprocessor.types import BLOB_TPS, INTEGER_TPS, STRING_TPS, FieldType, Tp
from sqlfront.catalog.charsets import TEXT_DEFAULT, check_charset
from sqlfront.catalog.column_types import type_info
from sqlfront.catalog.definition import ColumnSpec, CreateTable, DefaultSpec, KeySpec, TypeSpec
from sqlfront.catalog.info import (
    COMMON_HANDLE_VERSION,
    ColumnInfo,
    DBInfo,
    Flag,
    IndexColumnInfo,
    IndexInfo,
    State,
    TableInfo,
)
from sqlfront.catalog.model import NOW_TEXT, PRIMARY, field_type
from sqlfront.catalog.partitions import check_keys, check_names, definitions, kind_of, partition_record
from sqlfront.errors import DatabaseError, error, near_match, unsupported

NAME_LENGTH_MAX = 64
COLUMNS_MAX = 1017
INDEXES_MAX = 64
KEY_PARTS_MAX = 16
KEY_BYTES_MAX = 3072
COLUMN_COMMENT_MAX = 1024
TABLE_COMMENT_MAX = 2048


def check_name(name: str, code: int, what: str, position: int = -1) -> None:
    """Raises 1059 for a name that is too long, `code` for one that cannot be."""
    if len(name) > NAME_LENGTH_MAX:
        raise error(1059, f"Identifier name '{name}' is too long", position=position)
    if not name or name.endswith(" ") or "\0" in name:
        raise error(code, f"Incorrect {what} name '{name}'", position=position)


def build_table(spec: CreateTable, db: DBInfo, tz: dt.tzinfo | None) -> TableInfo:
    """Returns the stored record of a new table, without its id."""
    position = spec.table.position
    check_name(spec.table.name, 1103, "table", position)
    options = spec.options
    default = check_charset(options.charset, options.collate, (db.charset, db.collate), position=position)
    check_comment(options.comment or "", TABLE_COMMENT_MAX, 1628, f"table '{spec.table.name}'")
    info = TableInfo(name=spec.table.name, charset=default[0], collate=default[1], comment=options.comment or "")
    if not spec.columns:
        raise error(1113, "A table must have at least 1 column", position=position)
    for column in spec.columns:
        add_column(info, build_column(column, tz, default), column.position)
    for column, made in zip(spec.columns, info.columns, strict=True):
        check_dependences(info, made, -1 if column.generated is None else column.generated.position)
    check_default_columns(info)
    keys = [key for column in spec.columns for key in column_keys(column)] + spec.keys
    primary = [key for key in keys if key.kind == "primary"]
    if len(primary) > 1:
        raise error(1068, "Multiple primary key defined", position=primary[1].position)
    for key in primary:
        _add_primary(info, key, spec.columns)
    for key in keys:
        if key.kind != "primary":
            info.indexes.append(build_index(info, key))
    check_auto_increment(info, position)
    set_key_flags(info)
    info.auto_inc_id = options.auto_increment or 0
    if spec.partition is not None:
        info.partition = partition_record(spec.partition)
        check_names([known["name"]["O"] for known in definitions(info)], spec.partition.position)
        check_keys(info, partition_columns(info), spec.partition.position)
    return info


def partition_columns(info: TableInfo) -> list[str]:
    """The columns, in lower case, that decide on a row's partition."""
    found = info.partition["columns"]
    return [name["L"] for name in found] if found else columns_in(info.partition["expr"])


def add_column(info: TableInfo, column: ColumnInfo, position: int = -1) -> None:
    """Appends a column, with the next id and offset."""
    if info.column(column.name) is not None:
        raise error(1060, f"Duplicate column name '{column.name}'", position=position)
    if len(info.columns) >= COLUMNS_MAX:
        raise error(1117, f"Too many columns (max = {COLUMNS_MAX})", position=position)
    info.max_col_id += 1
    column.id, column.offset = info.max_col_id, len(info.columns)
    info.columns.append(column)


def check_comment(comment: str, most: int, code: int, what: str) -> None:
    if len(comment) > most:
        raise error(code, f"Comment for {what} is too long (max = {most})")


def column_keys(column: ColumnSpec) -> list[KeySpec]:
    """The keys that a column's own attributes ask for."""
    from sqlfront.catalog.definition import KeyPart

    part = (KeyPart(column.name, position=column.position),)
    keys = []
    if column.primary:
        keys.append(KeySpec("primary", PRIMARY, part, clustered=column.clustered, position=column.position))
    if column.unique or column.type.name == "SERIAL":
        keys.append(KeySpec("unique", "", part, position=column.position))
    return keys


def build_column(spec: ColumnSpec, tz: dt.tzinfo | None, table_default: tuple[str, str] = TEXT_DEFAULT) -> ColumnInfo:
    """Returns the stored record of a column, without id and offset; the default is a charset and a collation."""
    check_name(spec.name, 1166, "column", spec.position)
    check_comment(spec.comment, COLUMN_COMMENT_MAX, 1629, f"field '{spec.name}'")
    if spec.type.name == "SERIAL":
        big = TypeSpec("BIGINT", unsigned=True, position=spec.type.position)
        spec = replace(spec, type=big, not_null=True, auto_increment=True)
    info = ColumnInfo(name=spec.name, comment=spec.comment, type=type_info(spec.type, spec.name, table_default))
    ft = field_type(info.type)
    info.set_flag(Flag.NOT_NULL, bool(spec.not_null) or spec.auto_increment)
    if spec.auto_increment:
        if ft.tp not in INTEGER_TPS:
            raise error(1063, f"Incorrect column specifier for column '{spec.name}'", position=spec.position)
        if spec.not_null is False:
            raise error(1171, f"AUTO_INCREMENT column '{spec.name}' must be NOT NULL", position=spec.position)
        info.set_flag(Flag.AUTO_INCREMENT, on=True)
    if spec.on_update is not None:
        if ft.tp not in (Tp.DATETIME, Tp.TIMESTAMP) or spec.on_update != ft.decimal:
            raise error(1294, f"Invalid ON UPDATE clause for '{spec.name}' column", position=spec.position)
        info.set_flag(Flag.ON_UPDATE_NOW, on=True)
    if spec.generated is None:
        set_default(info, spec.default, tz)
        return info
    given = {"DEFAULT": spec.default, "AUTO_INCREMENT": spec.auto_increment or None, "ON UPDATE": spec.on_update}
    for word, value in given.items():
        if value is not None:
            raise error(1221, f"Incorrect usage of {word} and generated column", position=spec.position)
    info.generated_expr_string, info.generated_stored = spec.generated.text, spec.generated.stored
    info.dependences = {name: {} for name in columns_in(spec.generated.text)}
    return info


def columns_in(text: str) -> list[str]:
    """The columns that an expression names, in lower case."""
    from sqlfront.parse import columns_named, parse_expression

    return sorted({node.name.lower() for node in columns_named(parse_expression(text))})


def check_dependences(info: TableInfo, generated: ColumnInfo, position: int = -1) -> None:
    """A generated column is computed from columns that are there (1054), of generated ones from those before it (3107),
    and not from the AUTO_INCREMENT column (3109)."""
    for name in generated.dependences or ():
        column = info.column(name)
        if column is None:
            hint = near_match(name, [c.name for c in info.columns])
            message = f"Unknown column '{name}' in 'generated column function'{hint}"
            raise error(1054, message, position=position)
        if column.generated_expr_string and info.columns.index(column) >= info.columns.index(generated):
            message = "Generated column can refer only to generated columns defined prior to it."
            raise error(3107, message, position=position)
        if column.has(Flag.AUTO_INCREMENT):
            raise _of_numbers(generated, position)


def check_numbered_apart(info: TableInfo) -> None:
    """The same of a column that has become AUTO_INCREMENT."""
    numbered = {column.name.lower() for column in info.columns if column.has(Flag.AUTO_INCREMENT)}
    for generated in info.columns:
        if numbered.intersection(generated.dependences or ()):
            raise _of_numbers(generated, -1)


def _of_numbers(generated: ColumnInfo, position: int) -> DatabaseError:
    message = f"Generated column '{generated.name}' cannot refer to auto-increment column."
    return error(3109, message, position=position)


def check_default_columns(info: TableInfo) -> None:
    """An expression as DEFAULT reads columns that are there (1054), of those that are computed the ones before its own
    (3767), and not the AUTO_INCREMENT column (3768)."""
    for place, column in enumerate(info.columns):
        for name in columns_in_default(column):
            found = info.column(name)
            if found is None:
                hint = near_match(name, [c.name for c in info.columns])
                raise error(1054, f"Unknown column '{name}' in 'default value expression'{hint}")
            what = f"Default value expression of column '{column.name}' cannot refer to"
            if found.has(Flag.AUTO_INCREMENT):
                raise error(3768, f"{what} an auto-increment column.")
            if (found.default_is_expr or found.generated_expr_string) and info.columns.index(found) >= place:
                raise error(
                    3767,
                    f"{what} a column defined after it if that column is a generated column or has an expression as "
                    "default value.",
                )


def columns_in_default(column: ColumnInfo) -> list[str]:
    """The columns that a column's DEFAULT reads, in lower case."""
    return columns_in(str(column.default)) if column.default_is_expr else []


def check_no_defaults(info: TableInfo, column: ColumnInfo, position: int = -1) -> None:
    """Raises 3766 when the DEFAULT of another column reads one that is to go or to be called otherwise."""
    low = column.name.lower()
    if any(low in columns_in_default(other) for other in info.columns if other is not column):
        message = f"Column '{column.name}' has a default value expression dependency and cannot be dropped or renamed."
        raise error(3766, message, position=position, sqlstate="HY000")


def check_no_dependents(info: TableInfo, column: ColumnInfo, position: int = -1) -> None:
    """Raises 3108 when generated columns are computed from a column that is to go or to be called otherwise."""
    low = column.name.lower()
    dependents = [other for other in info.columns if low in (other.dependences or ())]
    if any(other.hidden for other in dependents):
        message = f"Column '{column.name}' has a functional index dependency and cannot be dropped or renamed."
        raise error(3837, message, position=position, sqlstate="HY000")
    if dependents:
        raise error(3108, f"Column '{column.name}' has a generated column dependency.", position=position)
    if kind_of(info) is not None and low in partition_columns(info):
        message = f"Column '{column.name}' has a partitioning function dependency and cannot be dropped or renamed"
        raise error(3855, message, position=position)


def set_default(info: ColumnInfo, default: DefaultSpec | None, tz: dt.tzinfo | None) -> None:
    """Sets a column's default from its written form; 1067 or 1101 when it cannot be one."""
    ft = field_type(info.type)
    info.default, info.default_bit, info.default_is_expr = None, None, False
    info.set_flag(Flag.NO_DEFAULT, on=False)
    if default is None:
        info.set_flag(Flag.NO_DEFAULT, info.has(Flag.NOT_NULL) and not info.has(Flag.AUTO_INCREMENT))
        return
    if info.has(Flag.AUTO_INCREMENT):
        raise invalid_default(info.name, default.position)
    if default.kind == "now":
        if ft.tp not in (Tp.DATETIME, Tp.TIMESTAMP) or default.value != ft.decimal:
            if not default.text:
                raise invalid_default(info.name, default.position)
            info.default, info.default_is_expr = default.text, True
            return
        info.default = NOW_TEXT + (f"({ft.decimal})" if ft.decimal else "")
        return
    unplain = ft.tp in BLOB_TPS or ft.tp == Tp.JSON
    if default.kind == "expr" or (default.text and unplain):
        info.default, info.default_is_expr = default.text, True
        return
    if default.value is None:
        if info.has(Flag.NOT_NULL):
            raise invalid_default(info.name, default.position)
        return
    if unplain:
        message = f"BLOB, TEXT, GEOMETRY or JSON column '{info.name}' can't have a default value"
        raise error(1101, message, position=default.position)
    if ft.tp == Tp.ENUM and str(default.value).isdigit() and default.value not in ft.elems:
        raise invalid_default(info.name, default.position)  # the number of a member is no member
    value = store_constant(default.value, ft, info.name, tz, default.position)
    info.default, info.default_bit = constant_text(value, ft)


def invalid_default(column: str, position: int = -1) -> DatabaseError:
    return error(1067, f"Invalid default value for '{column}'", position=position)


def store_constant(value: Any, ft: FieldType, column: str, tz: dt.tzinfo | None, position: int = -1) -> Any:
    """Converts a literal to the column's Python value (TIMESTAMP in UTC), in strict mode; 1067 when it does not fit."""
    from coprocessor.codec.temporal import to_utc
    from coprocessor.errors import EvalError
    from coprocessor.schema import ColumnSchema
    from coprocessor.values import cast_for_column

    if isinstance(value, bytes) and (ft.is_integer or ft.is_decimal or ft.is_real):
        value = int.from_bytes(value, "big")
    if isinstance(value, bytes) and ft.is_text:
        value = value.decode("utf-8", "replace")
    try:
        stored = cast_for_column(value, ColumnSchema(0, column, ft), tz=tz)
    except EvalError as exc:
        raise invalid_default(column, position) from exc
    if stored is None:
        raise invalid_default(column, position)
    return to_utc(stored, tz) if ft.tp == Tp.TIMESTAMP else stored


def constant_text(value: Any, ft: FieldType) -> tuple[str | None, str | None]:
    """The stored forms (`default`, `default_bit`) of a column's value."""
    from coprocessor.convert import to_text

    if value is None:
        return None, None
    if ft.tp == Tp.BIT:
        data = int(value).to_bytes((ft.flen + 7) // 8, "big")
        return data.decode("latin-1"), base64.b64encode(data).decode()
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape"), None
    return to_text(value, ft), None


# Keys


def add_hidden_columns(info: TableInfo, key: KeySpec) -> KeySpec:
    """Gives the table a hidden virtual column for every expression of an index; returns the key over these."""
    from sqlfront.bind.key_parts import hidden_column  # the expressions are text to the catalog

    parts = []
    for number, part in enumerate(key.parts):
        if part.expr:
            column = hidden_column(info, key.name, number, part.expr, part.position)
            add_column(info, column, part.position)
            part = replace(part, column=column.name, expr="")
        parts.append(part)
    return replace(key, parts=tuple(parts))


def hidden_columns(info: TableInfo, index: IndexInfo) -> list[ColumnInfo]:
    """The columns that stand for the expressions of an index, which no other has."""
    names = {part.name.lower() for part in index.columns}
    return [column for column in info.columns if column.hidden and column.name.lower() in names]


def key_columns(info: TableInfo, key: KeySpec, hidden: Container[str] = ()) -> list[IndexColumnInfo]:
    """Resolves and checks the columns of a key; `hidden` are the names that stand for its expressions."""
    if len(key.parts) > KEY_PARTS_MAX:
        raise error(1070, f"Too many key parts specified; max {KEY_PARTS_MAX} parts allowed", position=key.position)
    from sqlfront.bind.generated import varies_by_zone  # the expressions are text to the catalog

    columns: list[IndexColumnInfo] = []
    size = 0
    for part in key.parts:
        if part.expr:
            raise error(3756, "The primary key cannot be a functional index", position=part.position)
        column = info.column(part.column)
        if column is None or column.state != State.PUBLIC or (column.hidden and column.name not in hidden):
            hint = near_match(part.column, [c.name for c in info.columns if not c.hidden])
            message = f"Key column '{part.column}' doesn't exist in table{hint}"
            raise error(1072, message, position=part.position)
        if any(c.name.lower() == column.name.lower() for c in columns):
            raise error(1060, f"Duplicate column name '{column.name}'", position=part.position)
        if column.generated_expr_string and not column.generated_stored:
            if key.kind == "primary":
                message = "'Defining a virtual generated column as primary key' is not supported for generated columns."
                raise error(3106, message, position=part.position)
            if varies_by_zone(info, column):
                what = "an expression" if column.hidden else "a virtual generated column"
                what += " that depends on the time zone"
                what += "" if column.hidden else "; STORED ones can have it"
                raise unsupported(f"an index over {what}", position=part.position)
        length = _prefix_length(column, part.length, part.position)
        size += _key_bytes(field_type(column.type), length)
        columns.append(IndexColumnInfo(name=column.name, offset=column.offset, length=length))
    if size > KEY_BYTES_MAX:
        message = f"Specified key was too long; max key length is {KEY_BYTES_MAX} bytes"
        raise error(1071, message, position=key.position)
    return columns


def _prefix_length(column: ColumnInfo, length: int, position: int) -> int:
    ft = field_type(column.type)
    if ft.tp == Tp.JSON:
        message = f"JSON column '{column.name}' supports indexing only via generated columns on a specified JSON path."
        raise error(3152, message, position=position, sqlstate="42000")
    if length < 0:
        if ft.tp in BLOB_TPS:
            message = f"BLOB/TEXT column '{column.name}' used in key specification without a key length"
            raise error(1170, message, position=position)
        return -1
    if length == 0:
        raise error(1391, f"Key part '{column.name}' length cannot be 0", position=position, sqlstate="HY000")
    limit = ft.flen if ft.tp not in BLOB_TPS else length
    if ft.tp not in STRING_TPS or length > limit:
        message = (
            "Incorrect prefix key; the used key part isn't a string, the used length is longer than the key part, "
            "or the storage engine doesn't support unique prefix keys"
        )
        raise error(1089, message, position=position, sqlstate="HY000")
    return -1 if length == ft.flen and ft.tp not in BLOB_TPS else length


def _key_bytes(ft: FieldType, prefix: int) -> int:
    if ft.tp in STRING_TPS:
        return (prefix if prefix >= 0 else max(ft.flen, 0)) * (1 if ft.is_binary else 4)
    if ft.tp == Tp.NEWDECIMAL:
        return ft.flen // 2 + 2
    return 8


def _add_primary(info: TableInfo, key: KeySpec, specs: Sequence[ColumnSpec]) -> None:
    """Makes a new table's primary key: the integer handle, a common handle, or a unique index when NONCLUSTERED."""
    columns = key_columns(info, key)
    explicit_null = {s.name.lower() for s in specs if s.not_null is False}
    for part in columns:
        column = info.columns[part.offset]
        if column.name.lower() in explicit_null:
            message = "All parts of a PRIMARY KEY must be NOT NULL; if you need NULL in a key, use UNIQUE instead"
            raise error(1171, message, position=key.position)
        make_not_null(column, {s.name.lower(): s for s in specs}[column.name.lower()].default)
        column.set_flag(Flag.PRI_KEY, on=True)
    clustered = key.clustered is not False
    single = field_type(info.columns[columns[0].offset].type) if len(columns) == 1 else None
    if clustered and single is not None and single.tp in INTEGER_TPS:
        info.pk_is_handle = True
        return
    index = new_index(info, PRIMARY, columns, unique=True, comment=key.comment)
    index.primary = True
    if clustered:
        info.is_common_handle, info.common_handle_version = True, COMMON_HANDLE_VERSION
    info.indexes.append(index)


def make_not_null(column: ColumnInfo, default: DefaultSpec | None) -> None:
    """A column that a primary key makes NOT NULL; DEFAULT NULL then is no default it can have."""
    if default is not None and default.kind == "const" and default.value is None:
        raise invalid_default(column.name, default.position)
    column.set_flag(Flag.NOT_NULL, on=True)
    if column.default is None and column.default_bit is None and not column.has(Flag.AUTO_INCREMENT):
        column.set_flag(Flag.NO_DEFAULT, on=True)


def new_index(
    info: TableInfo, name: str, columns: list[IndexColumnInfo], *, unique: bool, comment: str = ""
) -> IndexInfo:
    info.max_idx_id += 1
    return IndexInfo(id=info.max_idx_id, name=name, table=info.name, columns=columns, unique=unique, comment=comment)


def build_index(info: TableInfo, key: KeySpec) -> IndexInfo:
    """Returns the stored record of a new secondary index of the table, public; it is not added yet, but the hidden
    columns that stand for its expressions are."""
    if len(info.indexes) >= INDEXES_MAX:
        raise error(1069, f"Too many keys specified; max {INDEXES_MAX} keys allowed", position=key.position)
    if not key.name:
        key = replace(key, name=_choose_name(info, key))
    check_comment(key.comment, COLUMN_COMMENT_MAX, 1688, f"index '{key.name}'")
    check_name(key.name, 1280, "index", key.position)
    if key.name.upper() == PRIMARY:
        raise error(1280, f"Incorrect index name '{key.name}'", position=key.position)
    if info.index(key.name) is not None:
        raise error(1061, f"Duplicate key name '{key.name}'", position=key.position)
    named = {part.column for part in key.parts}
    key = add_hidden_columns(info, key)
    columns = key_columns(info, key, {part.column for part in key.parts} - named)
    return new_index(info, key.name, columns, unique=key.kind == "unique", comment=key.comment)


def _choose_name(info: TableInfo, key: KeySpec) -> str:
    """A free name like that of the key's first column, or `expression_index`, as TiDB calls it."""
    column = info.column(key.parts[0].column)
    first = key.parts[0].column if column is None else column.name
    if any(part.expr for part in key.parts):
        first = "expression_index"
    name, number = first, 2
    while info.index(name) is not None or name.upper() == PRIMARY:
        name, number = f"{first}_{number}", number + 1
    return name


def check_auto_increment(info: TableInfo, position: int = -1) -> None:
    """There is one AUTO_INCREMENT column at most, and it leads a key (1075)."""
    automatic = [c for c in info.columns if c.has(Flag.AUTO_INCREMENT)]
    if not automatic:
        return
    leads = {i.columns[0].name.lower() for i in info.indexes}
    if info.pk_is_handle:
        leads |= {c.name.lower() for c in info.columns if c.has(Flag.PRI_KEY)}
    if len(automatic) > 1 or automatic[0].name.lower() not in leads:
        message = "Incorrect table definition; there can be only one auto column and it must be defined as a key"
        raise error(1075, message, position=position)


def set_key_flags(info: TableInfo) -> None:
    """Sets the columns' key flags (what SHOW COLUMNS prints under Key) from the indexes."""
    for column in info.columns:
        column.set_flag(Flag.UNIQUE_KEY | Flag.MULTIPLE_KEY, on=False)
    for index in info.indexes:
        if index.primary or index.state != State.PUBLIC or not index.columns:
            continue
        first = info.columns[index.columns[0].offset]
        alone = index.unique and len(index.columns) == 1
        first.set_flag(Flag.UNIQUE_KEY if alone else Flag.MULTIPLE_KEY, on=True)
