"""What a segment of the cache holds: the keys of its rows and those columns that were asked for, decoded.

Rows are never changed: an edit makes new ones. Only `columns` and `values` move, under the cache's mutex: a column is
added when first asked for, and what the budget has no room for is taken away.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coprocessor.codec.gather import Bytes
from coprocessor.codec.key_column import KeyColumn
from coprocessor.codec.vector import BatchDecoder
from coprocessor.scan import DirtyRow, Edits
from coprocessor.schema import ColumnSchema, TableSchema
from coprocessor.table import TableCodec
from coprocessor.types import FieldType, Tp
from kvstore.client.api import PackedBatch
from kvstore.mvcc.packed import pack_pairs

LAG_CHANGES_MAX = 4096
"""Columns that are behind by more changed keys are given up."""

ColumnKey = tuple[int, FieldType, dt.tzinfo | None]


class PackedValues(NamedTuple):
    """The undecoded values of some consecutive rows."""

    data: Bytes
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]

    @property
    def nbytes(self) -> int:
        return int(self.data.nbytes + self.starts.nbytes + self.ends.nbytes)


@dataclass(slots=True, eq=False, frozen=True)
class Lag:
    """Columns that edits passed by because no scan wanted them then: they are of older rows, with these `keys`, and
    `changes` tells every key that was edited since.
    """

    keys: KeyColumn
    columns: dict[ColumnKey, Any]
    changes: dict[bytes, bytes | None]

    @property
    def nbytes(self) -> int:
        changes = sum(len(key) + len(value or b"") for key, value in self.changes.items())
        return self.keys.nbytes + _array_bytes(self.columns) + changes


@dataclass(slots=True, eq=False)
class SegmentRows:
    """Consecutive rows of a table; `values`, where they were kept, are for columns that nobody asked for yet."""

    keys: KeyColumn
    columns: dict[ColumnKey, Any]
    values: tuple[PackedValues, ...] | None = None
    lag: Lag | None = None

    def copy(self) -> SegmentRows:
        """The same rows, with columns of their own."""
        return SegmentRows(self.keys, dict(self.columns), None, self.lag)

    @property
    def value_bytes(self) -> int:
        return sum(piece.nbytes for piece in self.values or ())

    @property
    def nbytes(self) -> int:
        lag = 0 if self.lag is None else self.lag.nbytes
        return self.keys.nbytes + _array_bytes(self.columns) + self.value_bytes + lag


def _array_bytes(columns: dict[ColumnKey, Any]) -> int:
    return sum(int(column.get_total_buffer_size()) for column in columns.values())


def column_key(column: ColumnSchema, tz: dt.tzinfo | None) -> ColumnKey:
    """What a decoded column is found by: a TIMESTAMP looks different in every zone."""
    return column.id, column.type, tz if column.type.tp == Tp.TIMESTAMP else None


def column_keys(schema: TableSchema, offsets: Iterable[int], tz: dt.tzinfo | None) -> list[ColumnKey]:
    return [column_key(schema.columns[offset], tz) for offset in offsets]


class RowsBuilder:
    """Makes runs of at least `rows_min` rows (the last may be shorter) out of a packed scan, decoding as it goes.

    Only one batch of packed rows is alive at a time, but for those that `keep_bytes` has room for.
    """

    def __init__(self, codec: TableCodec, decoder: BatchDecoder, rows_min: int, keep_bytes: int) -> None:
        self._prefix = codec.record_prefix
        self._decoder = decoder
        self._names = column_keys(codec.schema, decoder.offsets, decoder.tz)
        self._rows_min = rows_min
        # A scan that needs no values says nothing about later ones that do.
        self._room = keep_bytes if decoder.stored_slots else 0
        self._clear()

    def _clear(self) -> None:
        self._count = 0
        self._keys: list[KeyColumn] = []
        self._stored: list[list[Any]] = []
        self._values: list[PackedValues] | None = []

    def build(self, batches: Iterable[PackedBatch]) -> Iterator[SegmentRows]:
        for batch in batches:
            if not batch.count:
                continue
            self._add(batch)
            if self._count >= self._rows_min:
                yield self._take()
        if self._count:
            yield self._take()

    def _add(self, batch: PackedBatch) -> None:
        self._count += batch.count
        self._keys.append(KeyColumn.of(self._prefix, batch))
        self._stored.append(self._decoder.stored_columns(batch.values, batch.value_starts, batch.value_ends))
        self._room -= batch.values.nbytes
        if self._room < 0:
            self._values = None
        elif self._values is not None:
            starts, ends = batch.value_starts.astype(np.int32), batch.value_ends.astype(np.int32)
            self._values.append(PackedValues(batch.values, starts, ends))

    def _take(self) -> SegmentRows:
        keys = KeyColumn.joined(self._prefix, self._keys)
        stored = [concat_columns(parts) for parts in zip(*self._stored, strict=True)]
        columns = self._decoder.assembled(self._decoder.handle_columns(*keys.handles()), stored).columns
        values = None if self._values is None else tuple(self._values)
        rows = SegmentRows(keys, dict(zip(self._names, columns, strict=True)), values)
        self._clear()
        return rows


def decode_more(
    rows: SegmentRows, values: Sequence[PackedValues] | None, decoder: BatchDecoder, rescan: Callable[[], Iterable[Any]]
) -> list[Any]:
    """Decodes further columns of `rows`: those of the handle from its keys, stored ones from `values`, or a scan of the
    same rows.
    """
    stored: list[Any] = []
    if decoder.stored_slots:
        if values is not None:
            parts = [decoder.stored_columns(v.data, v.starts.astype(np.int64), v.ends.astype(np.int64)) for v in values]
        else:
            parts = [decoder.stored_columns(b.values, b.value_starts, b.value_ends) for b in rescan() if b.count]
        none = np.empty(0, np.int64)
        parts = parts or [decoder.stored_columns(np.empty(0, np.uint8), none, none)]
        stored = [concat_columns(pieces) for pieces in zip(*parts, strict=True)]
    columns: list[Any] = decoder.assembled(decoder.handle_columns(*rows.keys.handles()), stored).columns
    return columns


def edited(
    rows: SegmentRows, schema: TableSchema, changes: Sequence[DirtyRow], wanted: Collection[ColumnKey]
) -> SegmentRows:
    """Returns the rows after `changes` (ascending keys, None deletes), at least the columns of `wanted` up to date.

    A copy of every column for one changed row is what an edit costs; so the others are left behind and catch up, all at
    once, when one of them is asked for.
    """
    edits = Edits(rows.keys, changes)
    current, lag = rows.columns, rows.lag
    if lag is not None:
        lag = Lag(lag.keys, lag.columns, {**lag.changes, **dict(changes)})
    else:
        idle = {name: column for name, column in current.items() if name not in wanted}
        current = {name: column for name, column in current.items() if name in wanted}
        lag = Lag(rows.keys, idle, dict(changes)) if idle else None
    if lag is not None and len(lag.changes) > LAG_CHANGES_MAX:
        lag = None
    out = SegmentRows(edits.keys(rows.keys), _spliced(current, edits, schema), None, lag)
    if lag is not None and any(name in lag.columns for name in wanted):
        out.columns |= caught_up(lag, schema)
        out.lag = None
    return out


def caught_up(lag: Lag, schema: TableSchema) -> dict[ColumnKey, Any]:
    """Returns the columns that lag, brought up to date."""
    return _spliced(lag.columns, Edits(lag.keys, sorted(lag.changes.items())), schema)


def _spliced(columns: dict[ColumnKey, Any], edits: Edits, schema: TableSchema) -> dict[ColumnKey, Any]:
    """Applies edits to columns; those that the schema does not have any more are left out."""
    packed = pack_pairs(edits.added, 0)
    place = {column.id: i for i, column in enumerate(schema.columns)}
    by_zone: dict[dt.tzinfo | None, list[ColumnKey]] = {}
    for name in columns:
        if name[0] in place and schema.columns[place[name[0]]].type == name[1]:
            by_zone.setdefault(name[2], []).append(name)
    out = {}
    for zone, names in by_zone.items():
        added = BatchDecoder(schema, [place[name[0]] for name in names], zone).decode(packed)
        for name, new in zip(names, added.columns, strict=True):
            out[name] = edits.splice(columns[name], new)
    return out


def concat_columns(parts: Sequence[Any]) -> Any:
    return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
