"""TypeDefault read column by column: all chunks of an answer are stepped through together.

Where a datum ends is only known when it is read, so one chunk has to be read in order; but our answers have a
chunk for every 64 rows, and step k reads datum k of all of them at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coprocessor.arrow import arrow_schema, arrow_type
from coprocessor.codec import json_binary
from coprocessor.codec.datum import (
    COMPACT_BYTES_FLAG,
    DECIMAL_FLAG,
    DURATION_FLAG,
    FLOAT_FLAG,
    INT_FLAG,
    JSON_FLAG,
    NIL_FLAG,
    SIGN,
    UINT_FLAG,
    UVARINT_FLAG,
    VARINT_FLAG,
    wire_kind,
)
from coprocessor.codec.decimals import PRECISION_MAX, SCALE_MAX, bin_size
from coprocessor.codec.gather import Bytes, Ints, big_u64, spread
from coprocessor.codec.vector_columns import column_reader, key_numbers
from coprocessor.dag.datum_rows import DAMAGE
from coprocessor.errors import CodecError
from coprocessor.types import FieldType, Tp

_ONE, _SIGN = np.uint64(1), np.uint64(SIGN)
_VARINT_BYTES_MAX = 10
_FIXED = (INT_FLAG, UINT_FLAG, FLOAT_FLAG, DURATION_FLAG)
_FLAGS_OF = {
    "int": (VARINT_FLAG, INT_FLAG), "uint": (UVARINT_FLAG, UINT_FLAG), "time": (UVARINT_FLAG, UINT_FLAG),
    "float": (FLOAT_FLAG,), "decimal": (DECIMAL_FLAG,), "text": (COMPACT_BYTES_FLAG,), "bytes": (COMPACT_BYTES_FLAG,),
    "json": (JSON_FLAG,), "duration": (DURATION_FLAG, VARINT_FLAG),
}  # fmt: skip


class Unusual(Exception):
    """A datum in another form than its type has: the rows are to be read one by one."""


@dataclass(slots=True)
class _Read:
    """What the steps read of one column: the chunk of each datum, its flag, and its number or the span it takes."""

    chunks: list[Ints] = field(default_factory=list)
    flags: list[Bytes] = field(default_factory=list)
    numbers: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    ends: list[Ints] = field(default_factory=list)


def decode_chunks(chunks: Sequence[bytes], types: Sequence[FieldType], names: Sequence[str], tz: dt.tzinfo) -> Any:
    """Decodes the rows of all chunks to one record batch. Raises Unusual, or CodecError for damaged chunks."""
    data = np.frombuffer(b"".join(chunks), np.uint8)
    stops = np.cumsum(np.fromiter(map(len, chunks), np.int64, len(chunks)))
    at = stops - np.fromiter(map(len, chunks), np.int64, len(chunks))
    reads = [_Read() for _ in types]
    alive = np.flatnonzero(at < stops)
    while len(alive):
        for read, type_ in zip(reads, types, strict=True):
            at[alive] = _step(data, at[alive], stops[alive], type_, alive, read)
        alive = alive[at[alive] < stops[alive]]
    columns = [_column(data, read, type_, tz) for read, type_ in zip(reads, types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=arrow_schema(names, types, inside=True))


def _step(data: Bytes, at: Ints, stops: Ints, type_: FieldType, chunk: Ints, read: _Read) -> Ints:
    """Reads one datum of a column in every chunk; returns where each ends."""
    if bool((at >= stops).any()):
        raise CodecError("a row of datums that ends too early")
    flags = data[at]
    numbers = np.zeros(len(at), np.uint64)
    ends = at + 1
    wanted = _FLAGS_OF[wire_kind(type_)]
    for flag in np.unique(flags).tolist():
        if flag == NIL_FLAG:
            continue
        if flag not in wanted:
            raise Unusual
        rows = np.flatnonzero(flags == flag)
        numbers[rows], ends[rows] = _payload(data, at[rows] + 1, flag)
    if bool((ends > stops).any()):
        raise CodecError("a datum that leaves its chunk")
    read.chunks.append(chunk)
    read.flags.append(flags)
    read.numbers.append(numbers)
    read.ends.append(ends)
    return ends


def _payload(data: Bytes, at: Ints, flag: int) -> tuple[npt.NDArray[np.uint64], Ints]:
    """The numbers of datums, or where their bytes begin, and where they end."""
    if flag in _FIXED:
        return big_u64(data, at), at + 8
    if flag == DECIMAL_FLAG:
        return at.astype(np.uint64), at + _decimal_sizes(data, at)
    if flag == JSON_FLAG:
        raw = data.tobytes()
        try:
            sizes = [json_binary.encoded_size(raw, p) for p in at.tolist()]
        except DAMAGE as error:
            raise CodecError(f"a damaged JSON value: {error}") from None
        return at.astype(np.uint64), at + np.array(sizes, np.int64)
    numbers, ends = _varints(data, at)
    if flag == UVARINT_FLAG:
        return numbers, ends
    signed = numbers >> _ONE ^ (np.uint64(0) - (numbers & _ONE))
    if flag == VARINT_FLAG:
        return signed, ends
    lengths = signed.view(np.int64)
    if bool((lengths < 0).any()) or bool((lengths > len(data)).any()):
        raise CodecError("a string of a length that makes no sense")
    return ends.astype(np.uint64), ends + lengths


def _varints(data: Bytes, at: Ints) -> tuple[npt.NDArray[np.uint64], Ints]:
    numbers = np.zeros(len(at), np.uint64)
    ends = at.copy()
    rows = np.arange(len(at))
    for i in range(_VARINT_BYTES_MAX):
        if bool((ends[rows] >= len(data)).any()):
            raise CodecError("a number that leaves its chunk")
        byte = data[ends[rows]].astype(np.uint64)
        numbers[rows] |= (byte & np.uint64(127)) << np.uint64(7 * i)
        ends[rows] += 1
        rows = rows[byte >= 128]
        if not len(rows):
            return numbers, ends
    raise CodecError("a number of more than ten bytes")


def _decimal_sizes(data: Bytes, at: Ints) -> Ints:
    if bool((at + 2 > len(data)).any()):
        raise CodecError("a decimal that leaves its chunk")
    shapes = data[at].astype(np.int64) << 8 | data[at + 1]
    sizes = np.empty(len(at), np.int64)
    for shape in np.unique(shapes).tolist():
        prec, frac = shape >> 8, shape & 0xFF
        if not 0 < prec <= PRECISION_MAX or frac > min(SCALE_MAX, prec):
            raise CodecError(f"no such decimal: DECIMAL({prec},{frac})")
        sizes[shapes == shape] = 2 + bin_size(prec, frac)
    return sizes


def _column(data: Bytes, read: _Read, type_: FieldType, tz: dt.tzinfo) -> Any:
    wanted = arrow_type(type_, inside=True)
    if not read.chunks:
        return pa.nulls(0, wanted)
    # a step's datums are of the same row in every chunk: chunk by chunk is the order of the rows
    order = np.argsort(np.concatenate(read.chunks), kind="stable")
    flags = np.concatenate(read.flags)[order]
    valid = flags != NIL_FLAG
    numbers, ends = np.concatenate(read.numbers)[order][valid], np.concatenate(read.ends)[order][valid]
    return spread(_values(data, numbers, ends, flags[valid], type_, tz), valid)


def _values(
    data: Bytes, numbers: npt.NDArray[np.uint64], ends: Ints, flags: Bytes, type_: FieldType, tz: dt.tzinfo
) -> Any:
    kind = wire_kind(type_)
    if not len(numbers):
        return pa.nulls(0, arrow_type(type_, inside=True))
    if kind in ("text", "bytes", "decimal", "json"):
        try:
            values = column_reader(type_, tz)(data, numbers.astype(np.int64), ends)
            values.validate(full=True)
        except (pa.ArrowInvalid, *DAMAGE) as error:
            raise CodecError(f"a damaged column of datums: {error}") from None
        return values
    if kind in ("int", "duration"):
        # as a key has them: the sign bit flipped
        numbers = np.where(flags == VARINT_FLAG, numbers ^ _SIGN, numbers)
    if kind == "uint" and type_.tp == Tp.ENUM and int(numbers.max()) > len(type_.elems):
        raise CodecError("an ENUM value beyond the members")
    return key_numbers(type_, numbers, tz)
