"""Columns of handles out of many record keys at once: integer handles, and the datums of common handles.

Integers, times and doubles take nine bytes in a key, so a column behind such datums alone is at a fixed place. Behind a
string or a decimal the place differs from row to row: the handles are walked datum by datum, all rows in step. The end
of a string is found in rounds, one group of eight bytes and a marker each, over the rows that go on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np

from coprocessor.arrow import arrow_type, column_array
from coprocessor.codec.datum import (
    BYTES_FLAG,
    DECIMAL_FLAG,
    SIGN,
    decimal_shape,
    wire_kind,
)
from coprocessor.codec.decimals import bin_size
from coprocessor.codec.gather import Bytes, Ints, big_u64, spans, windows
from coprocessor.codec.row import NUMBER_DATUM_LEN, NUMBER_FLAGS, handle_splitter
from coprocessor.codec.temporal import vector_from_utc
from coprocessor.codec.vector_columns import column_reader, integers, key_numbers
from coprocessor.errors import CodecError
from coprocessor.schema import TableSchema
from coprocessor.types import FieldType, Tp

GROUP = 8
GROUP_AND_MARKER = 9
FULL = 0xFF
TOO_SHORT = "a key is shorter than its handle's columns"

_FLAGS = {**NUMBER_FLAGS, "decimal": DECIMAL_FLAG, "text": BYTES_FLAG, "bytes": BYTES_FLAG}


class _Unusual(Exception):
    """A datum that the column's type does not lead to expect: the handles are decoded one by one."""


class HandleDecoder:
    """Decodes the columns at `offsets`, all of which live in the key alone; TIMESTAMPs come in zone `tz`."""

    def __init__(self, schema: TableSchema, offsets: Sequence[int], tz: dt.tzinfo | None = None) -> None:
        self.schema = schema
        self.offsets = tuple(offsets)
        self.tz = tz
        place = {part.offset: i for i, part in enumerate(schema.common_handle)}
        self._parts = [place[o] for o in self.offsets] if schema.handle_offset < 0 else []
        count = max(self._parts, default=-1) + 1
        self._types: list[FieldType] = [schema.columns[p.offset].type for p in schema.common_handle[:count]]

    def decode(self, data: Bytes, starts: Ints, ends: Ints) -> list[Any]:
        """Returns the columns of the handles that begin at `starts` in `data` and end at `ends`."""
        if not len(starts):
            types = [self.schema.columns[offset].type for offset in self.offsets]
            return [column_array([], type_, inside=True) for type_ in types]
        if self.schema.handle_offset >= 0:
            type_ = self.schema.columns[self.schema.handle_offset].type
            bits = big_u64(data, starts) ^ np.uint64(SIGN)
            return [integers(type_, bits if type_.unsigned else bits.view(np.int64)) for _ in self.offsets]
        try:
            columns = self._walk(data, starts, ends)
        except _Unusual:
            return self._one_by_one(data, starts, ends)
        return [columns[part] for part in self._parts]

    def _walk(self, data: Bytes, starts: Ints, ends: Ints) -> dict[int, Any]:
        """Decodes the wanted datums by their part; begins to look at flags where places begin to differ."""
        wanted = frozenset(self._parts)
        columns: dict[int, Any] = {}
        at, fixed = starts, True
        for part, type_ in enumerate(self._types):
            kind = wire_kind(type_)
            number = kind in NUMBER_FLAGS
            fixed = fixed and number
            if not fixed:
                _expect(data, at, ends, _FLAGS.get(kind))
            if number:
                if part in wanted:
                    columns[part] = key_numbers(type_, big_u64(data, at + 1), self.tz)
                at = at + NUMBER_DATUM_LEN
                continue
            payload = at + 1
            if kind == "decimal":
                at = payload + _decimal_sizes(data, payload, type_)
                if part in wanted:
                    columns[part] = column_reader(type_, None)(data, payload, at)
                continue
            groups = string_groups(data, payload, ends)
            if part in wanted:
                columns[part] = string_column(data, payload, groups, arrow_type(type_, inside=True))
            at = payload + groups * GROUP_AND_MARKER
        if bool((at > ends).any()):
            raise CodecError(TOO_SHORT)
        return columns

    def _one_by_one(self, data: Bytes, starts: Ints, ends: Ints) -> list[Any]:
        split = handle_splitter(self.schema, self._parts)
        whole = data.tobytes()
        rows = [split(whole[a:b]) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
        out = []
        for slot, offset in enumerate(self.offsets):
            type_ = self.schema.columns[offset].type
            column = column_array([row[slot] for row in rows], type_, inside=True)
            out.append(vector_from_utc(column, self.tz) if type_.tp == Tp.TIMESTAMP else column)
        return out


def _expect(data: Bytes, at: Ints, ends: Ints, flag: int | None) -> None:
    if bool((at >= ends).any()):
        raise CodecError(TOO_SHORT)
    if flag is None or not bool((data[at] == flag).all()):
        raise _Unusual


def _decimal_sizes(data: Bytes, starts: Ints, type_: FieldType) -> Ints:
    """Sizes of the decimals at `starts`, precision and scale among them."""
    shapes = windows(data, starts, 2)
    if bool((shapes == np.array(decimal_shape(type_), np.uint8)).all()):
        return np.full(len(starts), 2 + bin_size(*decimal_shape(type_)), np.int64)
    distinct, places = np.unique(shapes, axis=0, return_inverse=True)
    sizes = np.array([2 + bin_size(int(prec), int(frac)) for prec, frac in distinct], np.int64)
    return sizes[places.reshape(-1)]


def string_groups(data: Bytes, starts: Ints, ends: Ints) -> Ints:
    """Counts the groups of the memcomparable string at each start."""
    groups = np.ones(len(starts), np.int64)
    marker = starts + GROUP
    rows = np.arange(len(starts))
    while True:
        if bool((marker >= ends[rows]).any()):
            raise CodecError("a string in a key is cut short")
        rows = rows[data[marker] == FULL]
        if not len(rows):
            return groups
        groups[rows] += 1
        marker = starts[rows] + groups[rows] * GROUP_AND_MARKER - 1


def string_column(data: Bytes, starts: Ints, groups: Ints, wanted: Any) -> Any:
    """Gathers memcomparable strings of the given numbers of groups into an Arrow array, markers taken out."""
    markers = data[starts + groups * GROUP_AND_MARKER - 1].astype(np.int64)
    if int(markers.min()) < FULL - GROUP:
        raise CodecError("a string in a key has a marker that does not exist")
    lengths = groups * GROUP - (FULL - markers)
    if int(groups.max()) == 1:
        return spans(data, starts, starts + lengths, wanted)
    first = np.cumsum(groups) - groups
    places = np.repeat(starts - first * GROUP_AND_MARKER, groups) + np.arange(int(groups.sum())) * GROUP_AND_MARKER
    joined = windows(data, places, GROUP).reshape(-1)
    return spans(joined, first * GROUP, first * GROUP + lengths, wanted)
