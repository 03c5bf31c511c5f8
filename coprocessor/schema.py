"""How a table lies in the store: the part of the catalog that codecs and scans need.

The catalog (sqlfront) makes these from TableInfo; nothing here knows names beyond what messages need.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from coprocessor.expr import Expr
from coprocessor.types import FieldType

HANDLE_OFFSET = -1
"""Stands for the hidden row id among a scan's offsets."""


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """One column. `default` is the value of rows written before the column was added (Python value or None)."""

    id: int
    name: str
    type: FieldType
    not_null: bool = False
    default: object = None
    stored: bool = True
    """False for a virtual generated column: rows do not have it, and it reads as NULL."""
    computed: Expr | None = None
    """What such a column's value is, over columns whose ids are offsets, where an index has it."""


@dataclass(frozen=True, slots=True)
class IndexColumn:
    """A column of an index: `offset` into the table's columns; `prefix` its length in characters, -1 for whole."""

    offset: int
    prefix: int = -1


@dataclass(frozen=True, slots=True)
class IndexSchema:
    """One secondary index."""

    id: int
    name: str
    columns: tuple[IndexColumn, ...]
    unique: bool


@dataclass(frozen=True, slots=True)
class TableSchema:
    """One table (or partition: `table_id` is then the physical id).

    Handle: `handle_offset` >= 0 is the offset of the integer primary key column (pk_is_handle); else `common_handle`,
    when not empty, are the offsets of a clustered composite or non-integer primary key; else it is a hidden row id.
    `unsigned_handle` tells that the integer handle column is unsigned (its bits are stored as the signed twin).
    """

    table_id: int
    name: str
    columns: tuple[ColumnSchema, ...]
    handle_offset: int = -1
    common_handle: tuple[IndexColumn, ...] = ()
    indexes: tuple[IndexSchema, ...] = field(default=())

    @property
    def unsigned_handle(self) -> bool:
        return self.handle_offset >= 0 and self.columns[self.handle_offset].type.unsigned
