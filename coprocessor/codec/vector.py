"""The vectorised decoder: packed key-value pairs to Arrow columns, whole batches at a time.

Rows with equal headers have their columns at the same places, so a batch is split into groups by header (nearly always
one), a group's end offsets are one matrix, and every column is a gather at `value start + end of the column before`:

- integers of 1, 2, 4 or 8 bytes: eight bytes are read at each and what is too much is shifted out;
- decimals up to 18 digits: the big-endian word, sign folded by an exclusive or, digits by shift and mask, to int128;
- dates and times: packed u64, the date part through a table of months;
- strings: Arrow's take over the batch's own value buffer (`gather.spans`);
- columns of the handle: out of the key (`vector_keys`).

Only wanted columns are touched. Groups are decoded each for itself, put together and brought back into key order; where
NULLs make many small groups, each column is gathered from the rows of all of them.
Types are those of `arrow.arrow_type(inside=True)`; a stored zero date, which no Arrow value stands for, reads as NULL.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from coprocessor.arrow import arrow_schema, arrow_type, column_array
from coprocessor.codec.datum import SIGN
from coprocessor.codec.gather import Bytes, Ints, big_u64, compact_uints, windows
from coprocessor.codec.keys import RECORD_PREFIX_LEN
from coprocessor.codec.row import (
    FIXED_HEADER,
    FLAG_BIG,
    VERSION,
    RowLayout,
    default_of,
    key_only_offsets,
    parse_header,
)
from coprocessor.codec.row_v1 import version_2_of
from coprocessor.codec.vector_columns import column_reader
from coprocessor.codec.vector_keys import HandleDecoder
from coprocessor.errors import CodecError
from coprocessor.schema import ColumnSchema, TableSchema
from kvstore.client.api import PackedBatch

GROUP_ROWS_MIN = 64
"""Rows that a group has on average; where they are fewer, its dozen numpy calls a column cost more than its bytes."""
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
        key_only = key_only_offsets(schema)
        self.handle_slots = tuple(slot for slot, offset in enumerate(self.offsets) if offset in key_only)
        """Which of the wanted columns live in the key, and which (`stored_slots`) in the row."""
        self.stored_slots = tuple(slot for slot, offset in enumerate(self.offsets) if offset not in key_only)
        self._handles = HandleDecoder(schema, [self.offsets[slot] for slot in self.handle_slots], tz)
        self._readers = [column_reader(column.type, tz) for column in columns]
        self._layouts: dict[bytes, RowLayout] = {}

    def decode(self, batch: PackedBatch) -> pa.RecordBatch:
        """Decodes one batch, rows in its order. Raises CodecError when a value is no row."""
        if not self.offsets:
            return empty_columns(batch.count)
        handles = self.handle_columns(batch.keys, batch.key_starts + RECORD_PREFIX_LEN, batch.key_ends)
        stored = self.stored_columns(batch.values, batch.value_starts, batch.value_ends)
        return self.assembled(handles, stored)

    def assembled(self, handles: Sequence[Any], stored: Sequence[Any]) -> pa.RecordBatch:
        """Puts the columns of `handle_columns` and `stored_columns` in the order of `offsets`."""
        arrays = dict(zip((*self.handle_slots, *self.stored_slots), (*handles, *stored), strict=True))
        return pa.RecordBatch.from_arrays([arrays[i] for i in range(len(self.offsets))], schema=self.arrow_schema)

    def handle_columns(self, keys: Bytes, starts: Ints, ends: Ints) -> list[Any]:
        """Decodes the columns at `handle_slots` from handles, record keys without their prefix."""
        return self._handles.decode(keys, starts, ends) if self.handle_slots else []

    def stored_columns(self, values: Bytes, starts: Ints, ends: Ints) -> list[Any]:
        """Decodes the columns at `stored_slots` from rows."""
        slots = self.stored_slots
        if not slots:
            return []
        if not len(starts):
            return [pa.nulls(0, self.arrow_schema.field(slot).type) for slot in slots]
        header = _common_header(values, starts, ends)
        if header is not None:
            return self._group_columns(values, starts, ends, header, slots)
        values, starts, ends = _in_version_2(values, starts, ends)
        groups = header_groups(values, starts, ends)
        if len(starts) < len(groups) * GROUP_ROWS_MIN and not any(self._layout(header).big for header, _ in groups):
            return self._mixed_columns(values, starts, ends, groups, slots)
        parts = [self._group_columns(values, starts[rows], ends[rows], header, slots) for header, rows in groups]
        order = np.empty(len(starts), np.int64)
        order[np.concatenate([rows for _, rows in groups])] = np.arange(len(starts))
        back = pa.array(order)
        return [pa.concat_arrays([part[i] for part in parts]).take(back) for i in range(len(slots))]

    def _layout(self, header: bytes) -> RowLayout:
        layout = self._layouts.get(header)
        if layout is None:
            layout = self._layouts[header] = parse_header(header)
        return layout

    def _mixed_columns(
        self, values: Bytes, starts: Ints, ends: Ints, groups: Sequence[tuple[bytes, Ints]], slots: Sequence[int]
    ) -> list[Any]:
        """Decodes the columns at `slots` of rows of many headers, none of them big: a table of the headers tells for
        each column where its offset is, so that all rows that have it are one gather.
        """
        of_row = np.empty(len(starts), np.int64)
        for number, (_, rows) in enumerate(groups):
            of_row[rows] = number
        layouts = [self._layout(header) for header, _ in groups]
        headers = starts + np.array([layout.header_len for layout in layouts])[of_row]
        bases = starts + np.array([layout.values_start for layout in layouts])[of_row]
        places = [{column_id: i for i, column_id in enumerate(layout.not_null)} for layout in layouts]
        out = []
        for slot in slots:
            column = self.schema.columns[self.offsets[slot]]
            place = np.array([found.get(column.id, -1) for found in places])[of_row]
            rows = np.flatnonzero(place >= 0)
            base, at = bases[rows], headers[rows] + 2 * place[rows]
            stops = base + _offsets(values, at)
            if bool((stops > ends[rows]).any()):
                raise CodecError("a row is shorter than its offsets say")
            array = self._readers[slot](values, base + np.where(place[rows] > 0, _offsets(values, at - 2), 0), stops)
            old = np.array([column.id not in found and column.id not in layout.null
                            for found, layout in zip(places, layouts, strict=True)])  # fmt: skip
            is_old = old[of_row]
            index = np.cumsum(place >= 0) - 1
            if is_old.any():
                index[is_old] = len(array)
                array = pa.concat_arrays([array, absent(column, self.tz, 1, is_null=False)])
            out.append(array.take(pa.array(index, mask=(place < 0) & ~is_old)))
        return out

    def _group_columns(self, values: Bytes, starts: Ints, ends: Ints, header: bytes, slots: Sequence[int]) -> list[Any]:
        """Decodes the columns at `slots` of rows that all have `header`."""
        layout = self._layout(header)
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
                out.append(absent(column, self.tz, len(starts), is_null=column.id in layout.null))
        return out


def empty_columns(count: int) -> pa.RecordBatch:
    """Returns a record batch of no columns and `count` rows."""
    return pa.RecordBatch.from_struct_array(pa.Array.from_buffers(pa.struct([]), count, [None]))


def decode_handles(batch: PackedBatch) -> Ints:
    """Decodes the integer handles of a batch of records."""
    bits = big_u64(batch.keys, batch.key_starts + RECORD_PREFIX_LEN) ^ _SIGN_U64
    return bits.view(np.int64)


def _in_version_2(values: Bytes, starts: Ints, ends: Ints) -> tuple[Bytes, Ints, Ints]:
    """The same rows; those of version 1 are rewritten behind the others."""
    old = np.flatnonzero((ends > starts) & (values[np.minimum(starts, len(values) - 1)] != VERSION))
    if not len(old):
        return values, starts, ends
    rewritten = [version_2_of(values[a:b].tobytes()) for a, b in zip(starts[old], ends[old], strict=True)]
    lengths = np.fromiter(map(len, rewritten), np.int64, len(rewritten))
    starts, ends = starts.copy(), ends.copy()
    ends[old] = len(values) + np.cumsum(lengths)
    starts[old] = ends[old] - lengths
    return np.concatenate([values, np.frombuffer(b"".join(rewritten), np.uint8)]), starts, ends


# Headers


def header_groups(values: Bytes, starts: Ints, ends: Ints) -> list[tuple[bytes, Ints]]:
    """Splits rows into groups of equal header: [(header, ascending row numbers)]. One group holds all as `arange`."""
    header = _common_header(values, starts, ends)
    if header is not None:
        return [(header, np.arange(len(starts)))]
    return _split_by_header(values, starts, ends)


def _common_header(values: Bytes, starts: Ints, ends: Ints) -> bytes | None:
    """The header that all rows have; None where they differ, or are of another version."""
    at = int(starts[0])
    if at >= len(values) or values[at] != VERSION:
        return None
    first = _header_at(values, at)
    if int((ends - starts).min()) < len(first):
        return None
    matrix = windows(values, starts, len(first))
    return first if bool((matrix == np.frombuffer(first, np.uint8)).all()) else None


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


def _offsets(values: Bytes, at: Ints) -> Ints:
    """The end offsets of two bytes that stand at `at`."""
    return windows(values, at, 2).view("<u2").reshape(-1).astype(np.int64)


def absent(column: ColumnSchema, tz: dt.tzinfo | None, count: int, *, is_null: bool) -> Any:
    """`count` values of rows that do not have the column: NULL, or what rows hold from before it was added."""
    wanted = arrow_type(column.type, inside=True)
    if is_null or column.default is None:
        return pa.nulls(count, wanted)
    return pa.repeat(column_array([default_of(column, tz)], column.type, inside=True)[0], count)
