"""One table's codec: rows to records and index entries, back again, and the key ranges that access paths read.

The SQL layer holds one `TableCodec` per table version; everything that can be decided from the schema is decided when
it is made. A handle is an int (integer primary key or hidden row id; an unsigned one in either of its 64-bit readings)
or the bytes of the encoded datums (common handle). Values of TIMESTAMP columns are naive UTC on the way in (`utc_row`
converts); decoders take the zone they come out in.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coprocessor.codec import keys
from coprocessor.codec.computed import computed_of
from coprocessor.codec.datum import NIL, SIGN, U64_MASK, decode_key_datum, key_encoder, wire_kind
from coprocessor.codec.index_row import (
    IndexDecoder,
    RecordKeyOf,
    compile_index_decoder,
    compile_record_key,
    handle_of_entry,
)
from coprocessor.codec.index_write import EntriesFn, RestoredFn, compile_entries, restored_row
from coprocessor.codec.keys import Handle
from coprocessor.codec.restored import entry_offsets, restored_data
from coprocessor.codec.row import (
    CellPatcherFn,
    RowPatcherFn,
    RowsDecoderFn,
    compile_decoder,
    compile_encoder,
    compile_patcher,
    compile_rows_decoder,
    handle_splitter,
    key_only_offsets,
    stored_offsets,
)
from coprocessor.codec.temporal import to_utc
from coprocessor.errors import CodecError
from coprocessor.schema import IndexColumn, IndexSchema, TableSchema
from coprocessor.types import STRING_TPS, FieldType, Tp
from kvstore.client.api import Chunk

Row = tuple[Any, ...]
KeyRange = tuple[bytes, bytes]
Decoder = Callable[[Any, bytes], Row]

EMPTY_RANGE: KeyRange = (b"", b"")
PATCHERS_MAX = 256
"""So many sets of columns that UPDATEs change are kept compiled."""

_I64 = struct.Struct(">Q")
_INT_BOUNDS = (-(1 << 63), (1 << 63) - 1)
_UINT_BOUNDS = (0, (1 << 64) - 1)
_NOT_NULL = b"\x01"


class _KeyColumn:
    """One column of an index or common handle: where its value is and how it is encoded."""

    __slots__ = ("bounds", "encode", "offset", "prefix", "type")

    def __init__(self, schema: TableSchema, column: IndexColumn) -> None:
        self.offset = column.offset
        self.prefix = column.prefix
        self.type: FieldType = schema.columns[column.offset].type
        self.encode = key_encoder(self.type, column.prefix)
        kind = wire_kind(self.type)
        numeric = kind in ("int", "uint") and self.type.tp not in (Tp.ENUM, Tp.SET)
        self.bounds = (_INT_BOUNDS if kind == "int" else _UINT_BOUNDS) if numeric else None


Values = Sequence[Any] | Mapping[int, Any]
"""Of a row, by the columns' offsets."""


class TableCodec:
    """Encodes, decodes and addresses the rows and index entries of one table. Safe to share between threads."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.table_id = schema.table_id
        self.record_prefix = keys.record_prefix(schema.table_id)
        self.record_range: KeyRange = keys.all_records(schema.table_id)
        self.is_common_handle = schema.handle_offset < 0 and bool(schema.common_handle)
        self.is_hidden_handle = schema.handle_offset < 0 and not schema.common_handle
        offsets = [part.offset for part in schema.common_handle] if schema.handle_offset < 0 else [schema.handle_offset]
        self.handle_offsets = frozenset(offsets)
        """The columns that make the handle; none of a hidden one."""
        self.encode_row: Callable[[Sequence[Any]], bytes] = compile_encoder(schema)
        self._patchers: dict[frozenset[int], tuple[RowPatcherFn, frozenset[int]]] = {}
        self.computed = computed_of(schema)
        self.index_entries: EntriesFn = self._entries_fn()
        """(values, handle) -> (index, key, value, distinct) of every index; a distinct key must not be there yet."""
        self.key_only_offsets = key_only_offsets(schema)
        self._handle_columns = tuple(_KeyColumn(schema, part) for part in schema.common_handle)
        self._index_columns = {
            index.id: tuple(_KeyColumn(schema, column) for column in index.columns) for index in schema.indexes
        }
        self._index_prefix = {index.id: keys.index_prefix(schema.table_id, index.id) for index in schema.indexes}
        self._entry_offsets: dict[int, frozenset[int]] = {}
        self._restores: dict[int, RestoredFn | None] = {}
        self._split_handle = handle_splitter(schema, range(len(schema.common_handle)))
        self._timestamps = tuple(i for i, column in enumerate(schema.columns) if column.type.tp == Tp.TIMESTAMP)
        self._decode_all = compile_decoder(schema)
        self._index_decoders: dict[tuple[IndexSchema, tuple[int, ...], dt.tzinfo | None], IndexDecoder] = {}
        self._decoders: dict[tuple[tuple[int, ...], dt.tzinfo | None], Decoder] = {}

    # Handles and records

    def handle_of(self, values: Sequence[Any]) -> Handle:
        """Returns the handle that a row's values imply; a table with a hidden row id has none in its values."""
        if self.schema.handle_offset >= 0:
            handle = values[self.schema.handle_offset]
            if handle is None:
                raise CodecError(f"row of table '{self.schema.name}' without a primary key value")
            return int(handle)
        if not self._handle_columns:
            raise CodecError(f"table '{self.schema.name}' has hidden row ids: its handles are not in its values")
        return self.common_handle([values[column.offset] for column in self._handle_columns])

    def common_handle(self, parts: Sequence[Any]) -> bytes:
        """Returns the common handle of primary key values (one per key column, in key order)."""
        return keys.pad_common_handle(
            b"".join([column.encode(v) for column, v in zip(self._handle_columns, parts, strict=True)])
        )

    def record_key(self, handle: Handle) -> bytes:
        if isinstance(handle, bytes):
            return self.record_prefix + handle
        return self.record_prefix + _I64.pack((handle + SIGN) & U64_MASK)

    def handle_of_key(self, key: bytes) -> Handle:
        """Returns the handle of a record key of this table."""
        if not key.startswith(self.record_prefix):
            raise CodecError(f"not a record key of table {self.table_id}: {key.hex()}")
        return keys.handle_of_record_key(key, common=self.is_common_handle)

    def encode_record(self, values: Sequence[Any], handle: Handle | None = None) -> tuple[bytes, bytes]:
        """Encodes a row to (record key, row value); `handle` is needed when the table's row ids are hidden."""
        if handle is None:
            handle = self.handle_of(values)
        return self.record_key(handle), self.encode_row(values)

    def utc_row(self, values: Sequence[Any], tz: dt.tzinfo | None) -> Sequence[Any]:
        """Converts the TIMESTAMPs of a row from naive time in `tz` to naive UTC."""
        if not self._timestamps or tz is None or tz is dt.UTC:
            return values
        row = list(values)
        for i in self._timestamps:
            if row[i] is not None:
                row[i] = to_utc(row[i], tz)
        return row

    def decode(self, handle_or_key: Handle, value: bytes) -> Row:
        """Decodes a record, given by handle or key, to all columns; TIMESTAMPs in UTC."""
        if isinstance(handle_or_key, bytes) and handle_or_key.startswith(self.record_prefix):
            handle_or_key = keys.handle_of_record_key(handle_or_key, common=self.is_common_handle)
        return self._decode_all(handle_or_key, value)

    def decoder(self, offsets: Sequence[int] | None = None, tz: dt.tzinfo | None = None) -> Decoder:
        """Returns the compiled decoder (handle, row value) -> values at `offsets` (None: all), TIMESTAMPs in `tz`."""
        wanted = tuple(range(len(self.schema.columns)) if offsets is None else offsets)
        zone = tz if self._timestamps else None
        found = self._decoders.get((wanted, zone))
        if found is None:
            found = self._decoders[wanted, zone] = compile_decoder(self.schema, wanted, zone)
        return found

    def patcher(self, changed: frozenset[int]) -> tuple[RowPatcherFn, frozenset[int]]:
        """Returns the encoder of rows in which only the columns at `changed` may differ from (the row as it was), and
        the ids of those columns."""
        found = self._patchers.get(changed)
        if found is None:
            if len(self._patchers) >= PATCHERS_MAX:
                self._patchers.clear()
            patch = compile_patcher(self.schema, changed, self.encode_row)
            found = self._patchers[changed] = patch, self._stored_ids(changed)
        return found

    def cell_patcher(self, changed: frozenset[int]) -> tuple[CellPatcherFn, frozenset[int]]:
        """Like `patcher`, for whoever knows the values at `changed` alone: the encoder gives None for a row that it
        cannot make of them and the row as it was."""
        return compile_patcher(self.schema, changed, lambda values: None), self._stored_ids(changed)

    def _stored_ids(self, offsets: frozenset[int]) -> frozenset[int]:
        return frozenset(self.schema.columns[at].id for at in stored_offsets(self.schema) if at in offsets)

    def key_decoder(self, offsets: Sequence[int] | None = None, tz: dt.tzinfo | None = None) -> Decoder:
        """Like `decoder`, from (record key, row value) as scans yield them; the key must be one of this table's."""
        decode = self.decoder(offsets, tz)
        if self.is_common_handle:
            return lambda key, value: decode(key[keys.RECORD_PREFIX_LEN :], value)
        unpack = _I64.unpack_from
        return lambda key, value: decode(unpack(key, keys.RECORD_PREFIX_LEN)[0] - SIGN, value)

    def chunk_decoder(self, offsets: Sequence[int], tz: dt.tzinfo | None = None) -> Callable[[Chunk], list[Row]]:
        """Returns the decoder of chunks of this table's records to the values at `offsets`."""
        zone = tz if self._timestamps else None
        compiled: dict[int, tuple[RowsDecoderFn, bool]] = {}

        def decode(chunk: Chunk) -> list[Row]:
            found = compiled.get(chunk.skip)
            if found is None:
                found = compiled[chunk.skip] = compile_rows_decoder(self.schema, offsets, zone, chunk.skip)
            rows, needs_keys = found
            return rows(chunk.values, chunk.keys() if needs_keys else None)

        return decode

    # Index entries

    def _entries_fn(self) -> EntriesFn:
        entries, computed = compile_entries(self.schema), self.computed
        return entries if computed is None else lambda values, handle: entries(computed.row(values), handle)

    def index_key_value(
        self, index: IndexSchema, values: Values, handle: Handle, *, handle_in_key: bool = False
    ) -> tuple[bytes, bytes, bool]:
        """Returns the key and value of the row's entry in `index`, and whether the key alone must be unique.

        `handle_in_key` gives a unique index's entry the form that those of NULLs have, in which several rows can share
        the values. Of a table that computes columns the values are the whole row.
        """
        if self.computed is not None and (virtual := self.computed.of_index(index)):
            assert not isinstance(values, Mapping)
            values = self.computed.row(values, virtual)
        parts = [column.encode(values[column.offset]) for column in self._columns_of(index)]
        key = self._prefix_of(index) + b"".join(parts)
        distinct = index.unique and NIL not in parts and not handle_in_key
        if not distinct:
            key += keys.handle_suffix(handle)
        value = keys.index_value(handle, distinct=distinct)
        restore = self._restore_of(index)
        return key, value if restore is None else keys.add_restored(value, restore(values)), distinct

    def entry_offsets(self, index: IndexSchema) -> frozenset[int]:
        """Returns the offsets of the stored columns on whose values an entry depends besides its handle."""
        found = self._entry_offsets.get(index.id)
        if found is None:
            found = entry_offsets(self.schema, index)
            if self.computed is not None:
                virtual = self.computed.of_index(index)
                found = (found - virtual).union(*(self.computed.needs[offset] for offset in virtual))
            self._entry_offsets[index.id] = found
        return found

    def unique_key(self, index: IndexSchema, parts: Sequence[Any]) -> bytes | None:
        """Returns the key of a unique index's only possible entry with these column values; None if one is NULL."""
        if None in parts:
            return None
        columns = self._columns_of(index)
        return self._prefix_of(index) + b"".join([c.encode(v) for c, v in zip(columns, parts, strict=True)])

    def handle_from_index(self, index: IndexSchema, key: bytes, value: bytes) -> Handle:
        """Returns the handle that an index entry points to."""
        return handle_of_entry(index, key, value, common=self.is_common_handle)

    def index_decoder(self, index: IndexSchema, offsets: Sequence[int], tz: dt.tzinfo | None = None) -> IndexDecoder:
        """Returns the compiled decoder (index key, index value) -> values at `offsets`, all among `index_covers`.

        -1 stands for the handle. TIMESTAMPs come in `tz`.
        """
        wanted = (index, tuple(offsets), tz if self._timestamps else None)
        found = self._index_decoders.get(wanted)
        if found is None:
            found = self._index_decoders[wanted] = compile_index_decoder(self.schema, *wanted)
        return found

    def index_record_key(self, index: IndexSchema) -> RecordKeyOf:
        """Returns the compiled function (index key, index value) -> key of the record that the entry points to."""
        return compile_record_key(self.schema, index)

    def index_values(self, index: IndexSchema, key: bytes) -> Row:
        """Decodes the column values of an index key; strings come as their sort keys decode (see `index_covers`)."""
        pos, out = keys.INDEX_PREFIX_LEN, []
        for column in self._columns_of(index):
            value, pos = decode_key_datum(column.type, key, pos)
            out.append(value)
        return tuple(out)

    def index_covers(self, index: IndexSchema) -> frozenset[int]:
        """Returns the offsets of the columns that index entries tell exactly: of the index and of the handle."""
        from coprocessor.codec.collation import needs_restored_data

        exact = {c.offset for c in self._columns_of(index) if c.prefix < 0 and not needs_restored_data(c.type)}
        return frozenset(exact) | self.key_only_offsets

    def _columns_of(self, index: IndexSchema) -> tuple[_KeyColumn, ...]:
        columns = self._index_columns.get(index.id)
        if columns is None:
            # An index being built may not be in this schema version yet.
            columns = self._index_columns[index.id] = tuple(_KeyColumn(self.schema, c) for c in index.columns)
        return columns

    def _restore_of(self, index: IndexSchema) -> RestoredFn | None:
        if index.id not in self._restores:
            restored = restored_data(self.schema, index)
            self._restores[index.id] = None if restored is None else restored_row(restored)
        return self._restores[index.id]

    def _prefix_of(self, index: IndexSchema) -> bytes:
        prefix = self._index_prefix.get(index.id)
        if prefix is None:
            prefix = self._index_prefix[index.id] = keys.index_prefix(self.table_id, index.id)
        return prefix

    # Ranges

    def records_at_most(self, start: bytes, end: bytes) -> int | None:
        """How many records there can be between two keys; None when these do not tell."""
        prefix, size = self.record_prefix, len(self.record_prefix) + _I64.size
        told = not self.is_common_handle and len(start) == len(end) == size
        if not (told and start.startswith(prefix) and end.startswith(prefix)):
            return None
        return int.from_bytes(end[-8:], "big") - int.from_bytes(start[-8:], "big")

    def handle_range(
        self, low: int | None = None, high: int | None = None, low_open: bool = False, high_open: bool = False
    ) -> list[KeyRange]:
        """Returns the record key ranges of integer handles between two bounds (None: unbounded), in order of value.

        There are two ranges when unsigned handles cross 2**63, since their larger half lies before the smaller in the
        store; none when the bounds leave nothing.
        """
        least, most = _UINT_BOUNDS if self.schema.unsigned_handle else _INT_BOUNDS
        first = least if low is None else max(least, low + low_open)
        last = most if high is None else min(most, high - high_open)
        if first > last:
            return []
        if self.schema.unsigned_handle and first < SIGN <= last:
            return [self._handle_span(first, SIGN - 1), self._handle_span(SIGN, last)]
        return [self._handle_span(first, last)]

    def _handle_span(self, first: int, last: int) -> KeyRange:
        return self.record_key(first), keys.prefix_next(self.record_key(last))

    def common_handle_range(
        self,
        prefix_values: Sequence[Any] = (),
        low: Any = None,
        high: Any = None,
        low_open: bool = False,
        high_open: bool = False,
    ) -> KeyRange:
        """Like `index_range`, over the records of a table with a common handle."""
        bounds = (low, high, low_open, high_open)
        return _column_range(self.record_prefix, self._handle_columns, prefix_values, *bounds, not_null=False)

    def index_range(
        self,
        index: IndexSchema,
        prefix_values: Sequence[Any] = (),
        low: Any = None,
        high: Any = None,
        low_open: bool = False,
        high_open: bool = False,
        *,
        not_null: bool = False,
    ) -> KeyRange:
        """Returns the half-open key range of the index entries with `prefix_values` in the leading columns (None is
        NULL) and the next column between `low` and `high` (None: unbounded).

        NULLs of that column are inside only when neither bound is given and `not_null` is not set. On a column that is
        indexed by a prefix the range may hold more than asked, never less: check the row again. `(start, end)` with
        start >= end is empty.
        """
        bounds = (low, high, low_open, high_open)
        return _column_range(self._prefix_of(index), self._columns_of(index), prefix_values, *bounds, not_null=not_null)


def _column_range(
    start: bytes,
    columns: Sequence[_KeyColumn],
    prefix_values: Sequence[Any],
    low: Any,
    high: Any,
    low_open: bool,
    high_open: bool,
    *,
    not_null: bool,
) -> KeyRange:
    for column, value in zip(columns, prefix_values, strict=False):
        if column.bounds and value is not None and not column.bounds[0] <= value <= column.bounds[1]:
            return EMPTY_RANGE
        start += column.encode(value)
    if low is None and high is None and not not_null:
        return keys.prefix_range(start)
    column = columns[len(prefix_values)]
    if column.bounds:
        least, most = column.bounds
        if (low is not None and low > most) or (high is not None and high < least):
            return EMPTY_RANGE
        low, low_open = (low, low_open) if low is None or low >= least else (None, False)
        high, high_open = (high, high_open) if high is None or high <= most else (None, False)
    if column.prefix >= 0 and column.type.tp in STRING_TPS:
        # A cut value stands for all values that begin with it, so an open bound must let it in.
        low_open = False
        high_open = high_open and high is not None and len(high) <= column.prefix
    first = start + _NOT_NULL if low is None else start + column.encode(low)
    if low is not None and low_open:
        first = keys.prefix_next(first)
    if high is None:
        return first, keys.prefix_next(start)
    last = start + column.encode(high)
    return first, last if high_open else keys.prefix_next(last)
