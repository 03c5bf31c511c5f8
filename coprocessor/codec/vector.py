"""The vectorised decoder: packed key-value pairs to Arrow columns, whole batches at a time.

Rows with equal headers have their columns at the same places, so a batch is split into groups by header (nearly always
one), a group's end offsets are one matrix, and every column is a gather at `value start + end of the column before`:

- integers of 1, 2, 4 or 8 bytes: eight bytes are read at each and what is too much is shifted out;
- decimals up to 18 digits: the big-endian word, sign folded by an exclusive or, digits by shift and mask, to int128;
- dates and times: packed u64, the date part through a table of months;
- strings: Arrow's take over the batch's own value buffer (`gather.spans`);
- handle columns: at a fixed place of the key where the datums before have fixed width, else value by value.

Only wanted columns are touched. Groups are decoded each for itself, put together and brought back into key order.
Types are those of `arrow.arrow_type(inside=True)`; a stored zero date, which no Arrow value stands for, reads as NULL.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coprocessor.arrow import arrow_schema, arrow_type, column_array
from coprocessor.codec.datum import SIGN, decimal_shape, value_decoder, wire_kind
from coprocessor.codec.decimals import bin_size, decode_vector, decode_vector_wide, word_layout
from coprocessor.codec.gather import Bytes, Ints, big_u64, compact_ints, compact_uints, primitive, spans, windows
from coprocessor.codec.keys import RECORD_PREFIX_LEN
from coprocessor.codec.row import (
    FIXED_HEADER,
    FLAG_BIG,
    VERSION,
    RowLayout,
    default_of,
    handle_splitter,
    key_only_offsets,
    parse_header,
)
from coprocessor.codec.temporal import NANOS_PER_MICRO, packed_to_days, packed_to_micros, vector_from_utc
from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, TableSchema
from coprocessor.types import FieldType, Tp
from kvstore.client.api import PackedBatch

ColumnReader = Callable[[Bytes, Ints, Ints], Any]

_SIGN_U64 = np.uint64(SIGN)
_WORD = 8
_HASH_PRIME = np.uint64(0x9E3779B97F4A7C15)


class BatchDecoder:
    """Decodes packed batches of one table to record batches of the columns at `offsets`; TIMESTAMPs in zone `tz`."""

    def __init__(self, schema: TableSchema, offsets: Sequence[int] | None = None, tz: dt.tzinfo | None = None) -> None:
        self.schema = schema
        self.offsets = tuple(range(len(schema.columns)) if offsets is None else offsets)
        self.tz = tz
        columns = [schema.columns[offset] for offset in self.offsets]
        self.arrow_schema = arrow_schema([c.name for c in columns], [c.type for c in columns], inside=True)
        self._key_only = key_only_offsets(schema)
        self._readers = [column_reader(column.type, tz) for column in columns]
        self._needs_rows = any(offset not in self._key_only for offset in self.offsets)
        self._layouts: dict[bytes, RowLayout] = {}

    def decode(self, batch: PackedBatch) -> pa.RecordBatch:
        """Decodes one batch, rows in its order. Raises CodecError when a value is no row."""
        if not self.offsets:
            return pa.RecordBatch.from_struct_array(pa.array([{}] * batch.count, pa.struct([])))
        arrays: list[Any] = [None] * len(self.offsets)
        if self._needs_rows and batch.count:
            for slot, array in self._stored_columns(batch):
                arrays[slot] = array
        for slot, offset in enumerate(self.offsets):
            if offset in self._key_only:
                arrays[slot] = self._handle_column(batch, offset)
            elif arrays[slot] is None:
                arrays[slot] = pa.nulls(batch.count, self.arrow_schema.field(slot).type)
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow_schema)

    def _stored_columns(self, batch: PackedBatch) -> list[tuple[int, Any]]:
        slots = [slot for slot, offset in enumerate(self.offsets) if offset not in self._key_only]
        groups = header_groups(batch.values, batch.value_starts, batch.value_ends)
        if len(groups) == 1:
            header, _ = groups[0]
            arrays = self._group_columns(batch.values, batch.value_starts, batch.value_ends, header, slots)
            return list(zip(slots, arrays, strict=True))
        parts = [
            self._group_columns(batch.values, batch.value_starts[rows], batch.value_ends[rows], header, slots)
            for header, rows in groups
        ]
        order = np.empty(batch.count, np.int64)
        order[np.concatenate([rows for _, rows in groups])] = np.arange(batch.count)
        back = pa.array(order)
        return [(slot, pa.concat_arrays([p[i] for p in parts]).take(back)) for i, slot in enumerate(slots)]

    def _group_columns(self, values: Bytes, starts: Ints, ends: Ints, header: bytes, slots: Sequence[int]) -> list[Any]:
        """Decodes the columns at `slots` of rows that all have `header`."""
        layout = self._layouts.get(header)
        if layout is None:
            layout = self._layouts[header] = parse_header(header)
        position = {column_id: i for i, column_id in enumerate(layout.not_null)}
        wanted = [self.schema.columns[self.offsets[slot]] for slot in slots]
        last = max((position[c.id] for c in wanted if c.id in position), default=-1)
        bounds = _column_bounds(values, starts, ends, layout, last + 1)
        out = []
        for slot, column in zip(slots, wanted, strict=True):
            i = position.get(column.id)
            if i is not None:
                out.append(self._readers[slot](values, bounds[i], bounds[i + 1]))
            else:
                out.append(_absent(column, self.tz, len(starts), is_null=column.id in layout.null))
        return out

    def _handle_column(self, batch: PackedBatch, offset: int) -> Any:
        type_ = self.schema.columns[offset].type
        starts = batch.key_starts + RECORD_PREFIX_LEN
        if offset == self.schema.handle_offset:
            bits = big_u64(batch.keys, starts) ^ _SIGN_U64
            return _integers(type_, bits if type_.unsigned else bits.view(np.int64))
        part = next(i for i, p in enumerate(self.schema.common_handle) if p.offset == offset)
        types = [self.schema.columns[p.offset].type for p in self.schema.common_handle[: part + 1]]
        if all(wire_kind(t) in ("int", "uint", "time", "duration", "float") for t in types):
            return _key_numbers(type_, big_u64(batch.keys, starts + (part * 9 + 1)), self.tz)
        split = handle_splitter(self.schema, part + 1)
        data = batch.keys.tobytes()
        places = zip(starts.tolist(), batch.key_ends.tolist(), strict=True)
        values = [split(data[start:end])[part] for start, end in places]
        column = column_array(values, type_, inside=True)
        return vector_from_utc(column, self.tz) if type_.tp == Tp.TIMESTAMP else column


def decode_handles(batch: PackedBatch) -> Ints:
    """Decodes the integer handles of a batch of records."""
    bits = big_u64(batch.keys, batch.key_starts + RECORD_PREFIX_LEN) ^ _SIGN_U64
    return bits.view(np.int64)


# Headers


def header_groups(values: Bytes, starts: Ints, ends: Ints) -> list[tuple[bytes, Ints]]:
    """Splits rows into groups of equal header: [(header, ascending row numbers)]. One group holds all as `arange`."""
    first = _header_at(values, int(starts[0]))
    if int((ends - starts).min()) >= len(first):
        matrix = windows(values, starts, len(first))
        if bool((matrix == np.frombuffer(first, np.uint8)).all()):
            return [(first, np.arange(len(starts)))]
    return _split_by_header(values, starts, ends)


def _header_at(values: Bytes, start: int) -> bytes:
    head = values[start : start + FIXED_HEADER].tobytes()
    if len(head) < FIXED_HEADER or head[0] != VERSION:
        raise CodecError(f"not a row of version 2: {head.hex()}")
    ids = int.from_bytes(head[2:4], "little") + int.from_bytes(head[4:6], "little")
    return values[start : start + FIXED_HEADER + ids * (4 if head[1] & FLAG_BIG else 1)].tobytes()


def _split_by_header(values: Bytes, starts: Ints, ends: Ints) -> list[tuple[bytes, Ints]]:
    """Groups by a hash of the header's words, checked byte by byte afterwards."""
    if int((ends - starts).min()) < FIXED_HEADER:
        raise CodecError("a row is shorter than its fixed header")
    fixed = windows(values, starts, FIXED_HEADER)
    if not bool((fixed[:, 0] == VERSION).all()):
        raise CodecError("a value is not a row of version 2")
    counts = fixed[:, 2:6].copy().view("<u2").astype(np.int64)
    lengths = FIXED_HEADER + counts.sum(axis=1) * np.where(fixed[:, 1] & FLAG_BIG, 4, 1)
    if bool((lengths > ends - starts).any()):
        raise CodecError("a row is shorter than its header")
    hashed = np.zeros(len(starts), np.uint64)
    for at in range(0, int(lengths.max()), _WORD):
        inside = np.clip(lengths - at, 0, _WORD)
        word = np.where(inside > 0, compact_uints(values, starts + at, np.maximum(inside, 1)), np.uint64(0))
        hashed = (hashed ^ word) * _HASH_PRIME
        hashed ^= hashed >> np.uint64(29)
    order = np.argsort(hashed, kind="stable")
    cuts = np.flatnonzero(np.diff(hashed[order])) + 1
    groups: list[tuple[bytes, Ints]] = []
    for rows in np.split(order, cuts):
        groups += _verified(values, starts, lengths, rows)
    return groups


def _verified(values: Bytes, starts: Ints, lengths: Ints, rows: Ints) -> list[tuple[bytes, Ints]]:
    """Rows of one hash: one group unless two headers collide."""
    groups = []
    while len(rows):
        header = _header_at(values, int(starts[rows[0]]))
        same = lengths[rows] == len(header)
        same &= (windows(values, starts[rows], len(header)) == np.frombuffer(header, np.uint8)).all(axis=1)
        groups.append((header, rows[same]))
        rows = rows[~same]
    return groups


def _column_bounds(values: Bytes, starts: Ints, ends: Ints, layout: RowLayout, count: int) -> list[Ints]:
    """Absolute bounds of the first `count` columns: column i lies between bounds[i] and bounds[i + 1]."""
    base = starts + layout.values_start
    bounds = [base]
    if count:
        width = 4 if layout.big else 2
        matrix = windows(values, starts + layout.header_len, count * width)
        offsets = matrix.view("<u4" if layout.big else "<u2")
        bounds += [base + offsets[:, i] for i in range(count)]
        if bool((bounds[-1] > ends).any()):
            raise CodecError("a row is shorter than its offsets say")
    return bounds


# Columns


def _absent(column: ColumnSchema, tz: dt.tzinfo | None, count: int, *, is_null: bool) -> Any:
    wanted = arrow_type(column.type, inside=True)
    if is_null or column.default is None:
        return pa.nulls(count, wanted)
    return pa.repeat(column_array([default_of(column, tz)], column.type, inside=True)[0], count)


def _integers(type_: FieldType, numbers: npt.NDArray[Any]) -> Any:
    wanted = arrow_type(type_, inside=True)
    return primitive(wanted, numbers.astype(wanted.to_pandas_dtype(), copy=False))


def _times(type_: FieldType, packed: npt.NDArray[np.uint64], tz: dt.tzinfo | None) -> Any:
    if type_.tp == Tp.DATE:
        days = packed_to_days(packed)
        return primitive(pa.date32(), days, days != -(1 << 31))
    micros, wrong = packed_to_micros(packed)
    column = primitive(pa.timestamp("us"), micros, ~wrong)
    return vector_from_utc(column, tz) if type_.tp == Tp.TIMESTAMP else column


def _members(type_: FieldType, numbers: npt.NDArray[np.uint64]) -> Any:
    """ENUM and SET: each distinct number is spelled once."""
    distinct, places = np.unique(numbers, return_inverse=True)
    spell = value_decoder(type_)
    names = [spell(int(n).to_bytes(8, "little")) for n in distinct]
    return pa.array(names, pa.string()).take(pa.array(places.reshape(-1)))


def _floats(type_: FieldType, bits: npt.NDArray[np.uint64]) -> Any:
    """Comparable doubles back to doubles."""
    values = np.where(bits & _SIGN_U64, bits ^ _SIGN_U64, ~bits).view(np.float64)
    if type_.tp == Tp.FLOAT:
        return primitive(pa.float32(), values.astype(np.float32))
    return primitive(pa.float64(), values)


def _key_numbers(type_: FieldType, bits: npt.NDArray[np.uint64], tz: dt.tzinfo | None) -> Any:
    """A datum of eight payload bytes in a key."""
    kind = wire_kind(type_)
    if kind == "float":
        return _floats(type_, bits)
    if kind == "time":
        return _times(type_, bits, tz)
    if kind == "duration":
        return primitive(pa.int64(), (bits ^ _SIGN_U64).view(np.int64) // NANOS_PER_MICRO)
    if type_.tp in (Tp.ENUM, Tp.SET):
        return _members(type_, bits)
    return _integers(type_, bits if kind == "uint" else (bits ^ _SIGN_U64).view(np.int64))


def column_reader(type_: FieldType, tz: dt.tzinfo | None) -> ColumnReader:
    """Returns the reader of a stored column: (values, starts, ends) -> Arrow array."""
    kind = wire_kind(type_)
    if kind in ("text", "bytes"):
        wanted = arrow_type(type_, inside=True)
        return lambda data, starts, ends: spans(data, starts, ends, wanted)
    if kind == "int":
        return lambda data, starts, ends: _integers(type_, compact_ints(data, starts, ends - starts))
    if kind == "uint" and type_.tp in (Tp.ENUM, Tp.SET):
        return lambda data, starts, ends: _members(type_, compact_uints(data, starts, ends - starts))
    if kind == "uint":
        return lambda data, starts, ends: _integers(type_, compact_uints(data, starts, ends - starts))
    if kind == "time":
        return lambda data, starts, ends: _times(type_, compact_uints(data, starts, ends - starts), tz)
    if kind == "duration":
        return lambda data, starts, ends: primitive(
            pa.int64(), compact_ints(data, starts, ends - starts) // NANOS_PER_MICRO
        )
    if kind == "float":
        return lambda data, starts, ends: _floats(type_, big_u64(data, starts))
    if kind == "decimal":
        return _decimal_reader(type_)
    return _row_by_row(type_, tz)


def _row_by_row(type_: FieldType, tz: dt.tzinfo | None) -> ColumnReader:
    """For what has no vector form: JSON, and decimals of unusual shape."""
    decode = value_decoder(type_, tz)

    def read(data: Bytes, starts: Ints, ends: Ints) -> Any:
        places = zip(starts.tolist(), ends.tolist(), strict=True)
        return column_array([decode(data[a:b].tobytes()) for a, b in places], type_, inside=True)

    return read


def _decimal_reader(type_: FieldType) -> ColumnReader:
    prec, frac = decimal_shape(type_)
    if prec > 38:
        return _row_by_row(type_, None)
    size = bin_size(prec, frac)
    wanted = arrow_type(type_, inside=True)
    head = np.array([prec, frac], np.uint8).view("<u2")[0]
    slow = _row_by_row(type_, None)

    def read(data: Bytes, starts: Ints, ends: Ints) -> Any:
        if not len(starts):
            return pa.array([], wanted)
        shapes = windows(data, starts, 2).view("<u2")
        if not bool((ends - starts == size + 2).all()) or not bool((shapes == head).all()):
            return slow(data, starts, ends)
        if prec > 18:
            return primitive(wanted, decode_vector_wide(windows(data, starts + 2, size), prec, frac))
        if size <= _WORD:
            unscaled = _decimal_words(big_u64(data, starts + 2), prec, frac)
        else:
            unscaled = decode_vector(windows(data, starts + 2, size), prec, frac)
        wide = np.empty((len(unscaled), 2), np.int64)
        wide[:, 0] = unscaled
        wide[:, 1] = unscaled >> 63
        return primitive(wanted, wide)

    return read


def _decimal_words(bits: npt.NDArray[np.uint64], prec: int, frac: int) -> Ints:
    """Unscaled int64 of decimals whose `bin` fits the high end of a 64-bit word."""
    signed = bits.view(np.int64)
    # All ones where the top bit is clear: negative.
    sign = ~(signed >> 63)
    folded = (signed ^ sign) & ((1 << 63) - 1)
    total = np.zeros(len(bits), np.int64)
    shift = 64
    for width, digits in word_layout(prec, frac):
        shift -= 8 * width
        word = (folded >> shift) & ((1 << 8 * width) - 1)
        total = total * 10**digits + word
    return (total ^ sign) - sign
