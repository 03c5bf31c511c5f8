"""How a table lies in DuckDB: its columns by their ids, and the columns by which a row is found again.

A row is deleted by its key columns: those of the primary key where the record's key gives their exact values back, else
a hidden `_handle` (the hidden row id, or the bytes of the common handle). Values are as `arrow_type(inside=True)` has
them, TIMESTAMPs in UTC.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from coprocessor.arrow import duckdb_type
from coprocessor.codec.key_column import KeyColumn
from coprocessor.codec.keys import RECORD_PREFIX_LEN
from coprocessor.codec.vector import BatchDecoder, decode_handles
from coprocessor.codec.vector_keys import HandleDecoder
from coprocessor.duck import RELATION
from coprocessor.schema import HANDLE_OFFSET, ColumnSchema
from coprocessor.table import TableCodec
from coprocessor.types import STRING_TPS, Tp
from kvstore.client.api import PackedBatch, Parts
from kvstore.mvcc.packed import pack_pairs

HANDLE = "_handle"
INTEGERS = frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"})
"""DuckDB's types whose values can stand in a statement as they are."""
NAME_PATTERN = "^t[0-9]+_[0-9]+$"
PATCHES_MAX = 64
"""Decoders of so many sets of columns are kept."""
_READ_WHOLE = ("VARCHAR", "BLOB")
"""DuckDB's types of whose values it reads 2,048 to update one of them: 0.1 to 0.4 ms."""


def blob(data: bytes) -> str:
    """Bytes as a literal of DuckDB."""
    return "'" + "".join(f"\\x{byte:02X}" for byte in data) + "'::BLOB"


def table_name(table_id: int, copy: int) -> str:
    """The name of a table in DuckDB; each time it is laid out anew it is another copy."""
    return f"t{table_id}_{copy}"


def column_name(column: ColumnSchema) -> str:
    return f"c{column.id}"


class Layout:
    """The form of one table. Raises Unsupported when DuckDB cannot hold a column."""

    def __init__(self, codec: TableCodec, copy: int = 0) -> None:
        schema = codec.schema
        self.codec = codec
        self.copy = copy
        self.name = f"replica.main.{table_name(schema.table_id, copy)}"
        self.index_name = f"i{schema.table_id}_{copy}"
        self.types = {column.id: duckdb_type(column.type) for column in schema.columns}
        self._decoder = BatchDecoder(schema)
        if schema.handle_offset >= 0:
            key_offsets: tuple[int, ...] = (schema.handle_offset,)
        else:
            key_offsets = tuple(part.offset for part in schema.common_handle)
        self.handle_type = ""
        if not key_offsets:
            self.handle_type = "BIGINT"
        elif not codec.key_only_offsets.issuperset(key_offsets):
            self.handle_type = "BLOB"
        self._handles = None if self.handle_type else HandleDecoder(schema, key_offsets)
        self.key_names = [HANDLE] if self.handle_type else [column_name(schema.columns[o]) for o in key_offsets]
        key_types = [self.handle_type] if self.handle_type else [self.types[schema.columns[o].id] for o in key_offsets]
        self.integer_keys = [name for name, type_ in zip(self.key_names, key_types, strict=True) if type_ in INTEGERS]
        """The key columns that an index can be over."""
        self.updatable = frozenset(c for c, type_ in self.types.items() if not type_.startswith(_READ_WHOLE))
        """Ids of the columns whose values can be updated where they lie."""
        self._patches: dict[Parts, BatchDecoder] = {}
        self.names = [column_name(column) for column in schema.columns]
        if self.handle_type:
            self.names.append(HANDLE)
        self._text = [
            (column.id, i)
            for i, column in enumerate(schema.columns)
            if column.type.tp in STRING_TPS and column.type.is_text and column.type.tp != Tp.STRING
        ]

    def signature(self) -> str:
        """What the table in DuckDB was made for, as text."""
        return json.dumps([sorted(self.types.items()), self.handle_type, self.key_names])

    @property
    def order(self) -> str:
        """The key columns, by which a table is laid out."""
        return ", ".join(self.key_names)

    def create_sql(self) -> str:
        columns = [f"c{column_id} {type_}" for column_id, type_ in self.types.items()]
        if self.handle_type:
            columns.append(f"{HANDLE} {self.handle_type}")
        return f"CREATE TABLE {self.name} ({', '.join(columns)})"

    def insert_sql(self) -> str:
        """Adds the rows of the relation that the statement is run over."""
        names = ", ".join(self.names)
        return f"INSERT INTO {self.name} ({names}) SELECT {names} FROM {RELATION}"

    def delete_sql(self, same_key: str | None = None) -> str:
        """Deletes the rows whose keys are in the relation that the statement is run over; `same_key` is a quicker way
        to say so of rows t and g."""
        return f"DELETE FROM {self.name} AS t USING {RELATION} AS g WHERE {same_key or self.same_key('t', 'g')}"

    def update_sql(self, names: Sequence[str], same_key: str | None = None) -> str:
        """Updates rows from the relation that the statement is run over, which has their keys and other columns."""
        values = ", ".join(f"{name} = g.{name}" for name in names if name not in self.key_names)
        same = same_key or self.same_key("t", "g")
        return f"UPDATE {self.name} AS t SET {values} FROM {RELATION} AS g WHERE {same}"

    def same_key(self, left: str, right: str) -> str:
        return " AND ".join(f"{left}.{name} = {right}.{name}" for name in self.key_names)

    def rows(self, packed: PackedBatch) -> pa.RecordBatch:
        """The records of a batch as rows of the table in DuckDB."""
        arrays = list(self._decoder.decode(packed).columns)
        if self.handle_type:
            arrays.append(self._handle_column(packed))
        return pa.RecordBatch.from_arrays(arrays, names=self.names)

    def patches(self, packed: PackedBatch, ids: Parts) -> pa.RecordBatch | None:
        """The key columns of the records of a batch and the columns of these ids; None if that is the keys alone."""
        schema = self.codec.schema
        offsets = [o for o, c in enumerate(schema.columns) if c.id in ids and column_name(c) not in self.key_names]
        if not offsets:
            return None
        decoder = self._patches.get(ids)
        if decoder is None:
            if len(self._patches) >= PATCHES_MAX:
                self._patches.clear()
            decoder = self._patches[ids] = BatchDecoder(schema, offsets)
        keys = self._key_columns(packed)
        names = [column_name(schema.columns[offset]) for offset in offsets]
        return pa.RecordBatch.from_arrays(
            [*keys.columns, *decoder.decode(packed).columns], names=[*self.key_names, *names]
        )

    def keys(self, keys: Sequence[bytes]) -> pa.RecordBatch:
        """The key columns of records."""
        return self._key_columns(pack_pairs([(key, b"") for key in keys], 0))

    def _key_columns(self, packed: PackedBatch) -> pa.RecordBatch:
        if self._handles is None:
            return pa.RecordBatch.from_arrays([self._handle_column(packed)], names=self.key_names)
        starts = packed.key_starts + RECORD_PREFIX_LEN
        return pa.RecordBatch.from_arrays(
            self._handles.decode(packed.keys, starts, packed.key_ends), names=self.key_names
        )

    def _handle_column(self, packed: PackedBatch) -> Any:
        if self.handle_type == "BIGINT":
            return pa.array(decode_handles(packed))
        return KeyColumn.of(self.codec.record_prefix, packed).array.cast(pa.binary())

    def padded(self, batch: pa.RecordBatch, known: set[int]) -> set[int]:
        """The ids of text columns with a value that ends in a space, `known` ones not looked at again."""
        return {
            column_id
            for column_id, i in self._text
            if column_id not in known and pc.any(pc.ends_with(batch.column(i), " ")).as_py()
        }


def select_list(codec: TableCodec, offsets: Sequence[int], tz: dt.tzinfo | None) -> list[str]:
    """The columns at `offsets` as DuckDB expressions, TIMESTAMPs brought to zone `tz`."""
    out = []
    for offset in offsets:
        if offset == HANDLE_OFFSET:
            out.append(HANDLE)
            continue
        column = codec.schema.columns[offset]
        name = column_name(column)
        out.append(local_time(name, tz) if column.type.tp == Tp.TIMESTAMP else name)
    return out


def local_time(name: str, tz: dt.tzinfo | None) -> str:
    """A TIMESTAMP column as DuckDB's expression in zone `tz`; None leaves it in UTC."""
    if tz is None:
        return name
    if isinstance(tz, ZoneInfo):
        if tz.key in ("UTC", "Etc/UTC"):
            return name
        quoted = str(tz.key).replace("'", "''")
        return f"timezone('{quoted}', {name}::TIMESTAMPTZ)"
    offset = tz.utcoffset(None)
    assert offset is not None, tz
    seconds = int(offset.total_seconds())
    return f"({name} + INTERVAL ({seconds}) SECOND)" if seconds else name
