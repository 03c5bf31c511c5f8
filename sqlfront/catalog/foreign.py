"""What a stored table may carry that this code does not do: why such a table is only read here, or not even that.

A TiDB server and this code share the records of the schema (`info.py`), and TiDB's hold more: partitions, foreign keys,
expression indexes, collations with weights of their own. A writer who does not know of these breaks what others rely
on, and a reader may give wrong rows. Both are decided from the record alone, so that the answer is the same on every
server. A property that is not known here counts as one that writers have to know.

The reasons complete the sentences "table t is read only here: it …" and "table t cannot be read here: it …".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from coprocessor.types import STRING_TPS, Tp
from sqlfront.catalog import partitions
from sqlfront.catalog.constraints import is_enforced
from sqlfront.catalog.info import State
from sqlfront.errors import DatabaseError

if TYPE_CHECKING:
    from sqlfront.catalog.info import ColumnInfo, IndexInfo, TableInfo

PADDING_BIN = frozenset({"", "binary", "utf8mb4_bin", "utf8_bin", "utf8mb3_bin", "ascii_bin", "latin1_bin"})
"""Collations whose keys are the bytes of the text, but for trailing spaces."""
HASHED_AS_HERE = PADDING_BIN | {"utf8mb4_0900_bin"}
"""Collations under which KEY hashes text here as TiDB does: not what has weights."""
KEYED_AS_HERE = HASHED_AS_HERE | {
    *("utf8mb4_general_ci", "utf8mb4_unicode_ci", "utf8mb4_0900_ai_ci", "utf8_general_ci", "utf8_unicode_ci")
}
"""Collations whose keys are made here as TiDB makes them; the others have other weights, or encodings, in keys."""
IS_VIEW = "is a view"
"""The reason that a view has no rows of its own; whether it can be read as a query, `reason_against_view` says."""
_TPS = frozenset(int(tp) for tp in Tp)
_BACKFILL_NONE = 0
_HARMLESS_OF_TABLE = frozenset(
    {"auto_inc_id_extra", "affinity", "engine_attribute", "storage_class_tier", "sqlfront_closed"}
)
"""Tags of a table that no reader and no writer of rows has to look at; the last one is ours."""
_HARMLESS_OF_INDEX = frozenset({"global_index_version", "affect_column"})
_TEMPORARY = {1: "global", 2: "local"}
_MODES = {1: "being imported into", 2: "being restored"}


def reason_against_reading(info: TableInfo) -> str | None:
    """Returns why reading the table's records would give wrong rows, None when it does not."""
    return next(_against_reading(info), None)


def reason_against_writing(info: TableInfo) -> str | None:
    """Returns why rows of the table must not be changed here, None when they may."""
    return reason_against_reading(info) or next(_against_writing(info), None)


def reason_against_view(info: TableInfo) -> str | None:
    """Returns why the query of a view must not be run here, None when it may."""
    assert info.view is not None
    if info.state != State.PUBLIC:
        return "is being created or dropped"
    return next(_unknown("the view", info.view.extra, frozenset()), None)


def is_keyed_as_here(info: TableInfo, index: IndexInfo) -> bool:
    """Whether the index has one entry for each row, with a key that is made here as TiDB makes it."""
    return next(_against_index(info, index), None) is None


# Reading


def _against_reading(info: TableInfo) -> Iterator[str]:
    if info.view is not None:
        yield IS_VIEW
    if info.sequence:
        yield "is a sequence"
    if info.state != State.PUBLIC:
        yield "is being created or dropped"
    if reason := partitions.reason_against(info):
        yield reason
    if info.temp_table_type:
        yield f"is a {_TEMPORARY.get(info.temp_table_type, '')} temporary table".replace("  ", " ")
    if info.is_columnar:
        yield "has no rows in the row store"
    if mode := info.extra.get("mode"):
        yield f"is {_MODES.get(mode, f'in mode {mode}')}"
    for column in info.columns:
        if column.state == State.PUBLIC and not column.hidden:
            yield from _column_against_reading(column)
    yield from _handle_against_reading(info)
    yield from _partition_keys_against_reading(info)


def _column_against_reading(column: ColumnInfo) -> Iterator[str]:
    name = f"column '{column.name}'"
    if column.type.tp not in _TPS or column.type.array:
        yield f"has {name} of a type that is not known here ({column.type.tp})"
    if column.type.charset != column.type.charset.lower() or column.type.collate != column.type.collate.lower():
        yield f"has {name} whose character set was stored before TiDB 2.1.9"
    if column.type.elems_is_binary_lit and any(column.type.elems_is_binary_lit):
        yield f"has {name} with members that are binary literals"
    if column.version == 0 and column.type.tp == Tp.TIMESTAMP and column.origin_default:
        yield f"has {name} whose default is in an unknown time zone"


def _handle_against_reading(info: TableInfo) -> Iterator[str]:
    """A clustered key is in the records' keys, which point reads make."""
    if not info.is_common_handle:
        return
    if info.common_handle_version == 0:
        yield "has a clustered key of the form before TiDB 5.0"
    for index in info.indexes:
        if index.primary:
            yield from _against_index(info, index)


def _partition_keys_against_reading(info: TableInfo) -> Iterator[str]:
    """Rows are looked for, and put, where KEY's hash says; it is made here of some columns as TiDB makes it."""
    if partitions.kind_of(info) != "key":
        return
    names = [name["L"] for name in info.partition["columns"] or ()]
    if not names:
        yield "is partitioned by KEY of columns that its record does not name"
    for column in info.columns:
        if column.name.lower() in names:
            if column.type.tp not in partitions.KEY_TPS:
                yield f"is partitioned by KEY over column '{column.name}', whose type is not hashed here"
            if column.type.collate not in HASHED_AS_HERE:
                yield f"is partitioned by KEY over column '{column.name}' of collation {column.type.collate}"


# Writing


def _against_writing(info: TableInfo) -> Iterator[str]:
    if info.partition and any(map(is_enforced, info.fk_info)):
        yield "has partitions and foreign keys"
    for key in info.fk_info:
        yield from _unknown(f"foreign key '{key.name}'", key.extra, frozenset())
    for check in info.constraint_info:
        yield from _unknown(f"constraint '{check.name}'", check.extra, frozenset())
    if info.auto_random_bits:
        yield "has an AUTO_RANDOM key"
    if info.cache_table_status:
        yield "is a cached table"
    if info.lock and info.lock.get("Sessions"):
        yield "is locked by LOCK TABLES"
    if info.exchange_partition_info:
        yield "takes part in an exchange of partitions"
    yield from _unknown("the table", info.extra, _HARMLESS_OF_TABLE | {"mode"})
    for column in info.columns:
        yield from _column_against_writing(info, column)
    for index in info.indexes:
        yield from _against_index(info, index)
        if index.backfill_state != _BACKFILL_NONE:
            yield f"has index '{index.name}' that is being built beside it"


def _column_against_writing(info: TableInfo, column: ColumnInfo) -> Iterator[str]:
    name = f"column '{column.name}'"
    if column.state != State.PUBLIC:
        yield f"has {name} that is being added or dropped"
    if column.change_state_info or column.extra.get("changing_type"):
        yield f"has {name} whose type is being changed"
    if column.hidden and not (column.generated_expr_string and _is_computed_here(info, column)):
        yield "has an index over an expression that is not computed here"
    if column.version == 0 and column.type.tp == Tp.TIMESTAMP and column.default:
        yield f"has {name} whose default is in an unknown time zone"
    yield from _unknown(name, column.extra, frozenset({"changing_type"}))


def is_shown(index: IndexInfo) -> bool:
    """Whether a definition says all of the index, though its keys may not be made here as TiDB makes them."""
    more = any(value for key, value in index.extra.items() if key not in _HARMLESS_OF_INDEX)
    return not (index.mv_index or index.is_global or index.vector_index or more)


def _against_index(info: TableInfo, index: IndexInfo) -> Iterator[str]:
    name = f"index '{index.name}'"
    if index.mv_index:
        yield f"has the multi-valued {name}"
    if index.is_global:
        yield f"has the global {name}"
    if index.vector_index or index.extra.get("inverted_index") or index.extra.get("full_text_index"):
        yield f"has the columnar {name}"
    if index.extra.get("condition_expr_string"):
        yield f"has the partial {name}"
    known = frozenset({"inverted_index", "full_text_index", "condition_expr_string"})
    yield from _unknown(name, index.extra, _HARMLESS_OF_INDEX | known)
    columns = _columns_of(info, index)
    virtual = [c for c in columns if c.hidden or (c.generated_expr_string and not c.generated_stored)]
    for column in virtual:
        if not _is_computed_here(info, column):
            what = "an expression" if column.hidden else "a virtual generated column"
            yield f"has {name} over {what} that is not computed here"
    if any(column.state != State.PUBLIC for column in columns):
        yield f"has {name} over a column that is being added or dropped"
    if any(part.extra.get("using_changing_type") for part in index.columns):
        yield f"has {name} over a column whose type is being changed"
    for column in columns:
        if column.type.tp in STRING_TPS and column.type.collate not in KEYED_AS_HERE:
            yield f"has {name} over column '{column.name}' of collation {column.type.collate}"


def _is_computed_here(info: TableInfo, column: ColumnInfo) -> bool:
    """Whether a virtual column's values are known here, and the same in all time zones."""
    from sqlfront.bind.generated import varies_by_zone  # the expressions are text to the catalog

    try:
        return not column.type.array and not varies_by_zone(info, column)
    except DatabaseError:
        return False


def _columns_of(info: TableInfo, index: IndexInfo) -> list[ColumnInfo]:
    by_offset = {column.offset: column for column in info.columns}
    return [by_offset[part.offset] for part in index.columns]


def _unknown(where: str, extra: dict[str, Any], known: frozenset[str]) -> Iterator[str]:
    for tag, value in extra.items():
        if value and tag not in known:
            yield f"has a property that is not known here: '{tag}' of {where}"
