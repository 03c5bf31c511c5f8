"""TypeDefault: rows one after another, each column a flagged datum; written over whole batches, read row by row.

Arrow types are those of `arrow_type(inside=True)`. A TIMESTAMP is in UTC there, and in the session's zone here.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coprocessor.arrow import column_values, rows_to_batch
from coprocessor.codec.datum import (
    COMPACT_BYTES_FLAG,
    DECIMAL_FLAG,
    DURATION_FLAG,
    FLOAT_FLAG,
    JSON_FLAG,
    SIGN,
    UVARINT_FLAG,
    VARINT_FLAG,
    decimal_shape,
    decode_datum,
    value_encoder,
    wire_kind,
)
from coprocessor.codec.gather import Bytes, Ints
from coprocessor.codec.temporal import vector_to_utc
from coprocessor.codec.vector_encode import comparable_floats, decimal_matrix, string_spans, wire_numbers
from coprocessor.errors import CodecError, CoprocessorError
from coprocessor.types import FieldType, Tp

ROWS_PER_CHUNK = 64
"""As TiDB's own mock store has them; a TiKV puts a batch of up to 1,024 rows into one."""
_SEVEN = np.uint64(7)
_VARINT_BYTES_MAX = 10

DAMAGE = (IndexError, ValueError, ArithmeticError, struct.error)
"""What decoders raise over bytes that are cut short or make no sense."""

Piece = tuple[Bytes, Ints, Ints]
"""Bytes, and where in them each row's begin and how many they are."""


def encode_rows(columns: Sequence[Any], types: Sequence[FieldType], tz: dt.tzinfo) -> Iterator[bytes]:
    """Yields the rows of a batch, ROWS_PER_CHUNK a chunk."""
    if not columns or not len(columns[0]):
        return
    count = len(columns[0])
    pieces = [piece for c, type_ in zip(columns, types, strict=True) for piece in _datums(c, type_, tz)]
    total = np.zeros(count, np.int64)
    for _, _, lengths in pieces:
        total += lengths
    stops = np.cumsum(total)
    place = stops - total
    out = np.empty(int(stops[-1]), np.uint8)
    starts = place.copy()
    for data, at, lengths in pieces:
        _scatter(out, place, data, at, lengths)
        place = place + lengths
    body = out.tobytes()
    for first in range(0, count, ROWS_PER_CHUNK):
        last = min(first + ROWS_PER_CHUNK, count) - 1
        yield body[int(starts[first]) : int(stops[last])]


def _scatter(out: Bytes, places: Ints, data: Bytes, starts: Ints, lengths: Ints) -> None:
    """Copies a span a row."""
    total = int(lengths.sum())
    before = np.cumsum(lengths) - lengths
    step = np.arange(total)
    out[np.repeat(places - before, lengths) + step] = data[np.repeat(starts - before, lengths) + step]


def _datums(column: Any, type_: FieldType, tz: dt.tzinfo) -> list[Piece]:
    """The datums of a column: one piece, or flag and length, and what follows."""
    kind = wire_kind(type_)
    null = column.is_null().to_numpy(zero_copy_only=False)
    if kind in ("text", "bytes"):
        data, starts, lengths = string_spans(column)
        lengths = np.where(null, 0, lengths)
        head, head_lengths = _varints(lengths.view(np.uint64) << np.uint64(1), COMPACT_BYTES_FLAG)
        return [_rows(head, head_lengths, null), (data, starts, lengths)]
    if kind == "json" or (kind == "decimal" and decimal_shape(type_)[0] > 18):
        return [_encoded(column, type_, JSON_FLAG if kind == "json" else DECIMAL_FLAG, null)]
    if kind == "decimal":
        return [_flagged(decimal_matrix(column, *decimal_shape(type_)), DECIMAL_FLAG, null)]
    if kind == "float":
        return [_flagged(comparable_floats(column), FLOAT_FLAG, null)]
    if type_.tp == Tp.TIMESTAMP:
        column = vector_to_utc(column, tz)
    numbers = wire_numbers(column, type_)
    if kind == "duration":
        bits = numbers.view(np.uint64) ^ np.uint64(SIGN)
        return [_flagged(bits.astype(">u8").view(np.uint8).reshape(-1, 8), DURATION_FLAG, null)]
    if kind == "int":
        signed = numbers.view(np.int64)
        zigzag = (signed << 1 ^ signed >> 63).view(np.uint64)
        return [_rows(*_varints(zigzag, VARINT_FLAG), null)]
    return [_rows(*_varints(numbers.view(np.uint64), UVARINT_FLAG), null)]


def _varints(numbers: npt.NDArray[np.uint64], flag: int) -> tuple[Bytes, Ints]:
    """A matrix of flags and uvarints, and their lengths."""
    matrix = np.zeros((len(numbers), 1 + _VARINT_BYTES_MAX), np.uint8)
    matrix[:, 0] = flag
    lengths = np.full(len(numbers), 2, np.int64)
    rest = numbers
    for i in range(1, 1 + _VARINT_BYTES_MAX):
        more = rest >= 128
        matrix[:, i] = rest & np.uint64(127) | np.where(more, np.uint64(128), np.uint64(0))
        if not more.any():
            break
        lengths += more
        rest = rest >> _SEVEN
    return matrix, lengths


def _flagged(payload: Bytes, flag: int, null: npt.NDArray[np.bool_]) -> Piece:
    matrix = np.empty((len(payload), 1 + payload.shape[1]), np.uint8)
    matrix[:, 0] = flag
    matrix[:, 1:] = payload
    return _rows(matrix, np.full(len(matrix), matrix.shape[1], np.int64), null)


def _rows(matrix: Bytes, lengths: Ints, null: npt.NDArray[np.bool_]) -> Piece:
    """A piece of a matrix with one row a value; a NULL is the byte 0 alone."""
    matrix[null, 0] = 0
    starts = np.arange(len(matrix), dtype=np.int64) * matrix.shape[1]
    return np.ascontiguousarray(matrix).reshape(-1), starts, np.where(null, 1, lengths)


def _encoded(column: Any, type_: FieldType, flag: int, null: npt.NDArray[np.bool_]) -> Piece:
    """For what has no vector form: value by value."""
    encode, head = value_encoder(type_), bytes((flag,))
    parts = [b"\0" if v is None else head + encode(v) for v in column_values(column, type_)]
    lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    return np.frombuffer(b"".join(parts), np.uint8), np.cumsum(lengths) - lengths, lengths


def decode_rows(data: bytes, types: Sequence[FieldType], tz: dt.tzinfo) -> list[tuple[Any, ...]]:
    """Decodes the rows of one chunk to Python values. Raises CodecError where they are none of these types."""
    rows = []
    at = 0
    try:
        while at < len(data):
            row = []
            for type_ in types:
                value, at = decode_datum(type_, data, at, tz)
                row.append(value)
            rows.append(tuple(row))
            if not types:
                break
    except CoprocessorError:
        raise
    except DAMAGE as error:
        raise CodecError(f"a damaged row of datums at {at}: {error}") from None
    return rows


def decode_batch(data: bytes, types: Sequence[FieldType], names: Sequence[str], tz: dt.tzinfo) -> pa.RecordBatch:
    """Decodes the rows of one chunk to a record batch. Raises CodecError where they are none of these types."""
    try:
        return rows_to_batch(decode_rows(data, types, tz), names, types, inside=True)
    except (pa.ArrowException, TypeError, *DAMAGE) as error:
        raise CodecError(f"rows of datums of other types: {error}") from None
