"""TypeChunk: rows as TiDB's own columns, both ways, over whole batches (TiKV `codec/chunk/column.rs`).

A chunk is its columns one after another, each
`u32le rows | u32le nulls | [validity bits, if there are nulls] | [(rows + 1) x i64le offsets, if they vary] | data`.
Arrow types are those of `arrow_type(inside=True)`; TIMESTAMPs are in the session's zone on both sides.

Caveat: zero dates and dates with a zero part have no Arrow value and become NULL.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coprocessor.arrow import arrow_schema, arrow_type, column_array, column_values
from coprocessor.codec import json_binary
from coprocessor.codec.datum import wire_kind
from coprocessor.codec.gather import little_u64, primitive, spread, validity, windows
from coprocessor.codec.temporal import NANOS_PER_MICRO, packed_to_days, packed_to_micros
from coprocessor.codec.vector_columns import key_numbers
from coprocessor.codec.vector_encode import member_numbers, wire_numbers
from coprocessor.dag.chunk_decimal import VALUE_BYTES, decode_decimals, encode_decimals
from coprocessor.errors import CodecError
from coprocessor.types import FieldType, Tp

_HEAD = struct.Struct("<II")
_U64 = np.dtype("<u8")
_MONTH_AT, _YEAR_AT = np.uint64(46), np.uint64(50)
_CLOCK = np.uint64((1 << 46) - (1 << 24))
"""Day, hour, minute and second lie where packed times have them."""
_MICROS, _MICROS_AT = np.uint64(0xFFFFF), np.uint64(4)
VALUE_BYTES_MIN = 4
_DATE_TAG = 0b1110

Bools = npt.NDArray[np.bool_]


def can_chunk(types: Sequence[FieldType]) -> bool:
    """Whether TiKV answers rows of these types in chunks (a SET makes it answer in datums)."""
    return all(type_.tp not in (Tp.SET, Tp.NULL) for type_ in types)


def encode_chunk(columns: Sequence[Any], types: Sequence[FieldType]) -> bytes:
    """Encodes the columns of one batch."""
    return b"".join([_encode_column(column, type_) for column, type_ in zip(columns, types, strict=True)])


def _encode_column(column: Any, type_: FieldType) -> bytes:
    nulls = column.null_count
    bits = b""
    if nulls:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        bits = np.packbits(valid, bitorder="little").tobytes()
    return b"".join((_HEAD.pack(len(column), nulls), bits, *_encode_data(column, type_)))


def _encode_data(column: Any, type_: FieldType) -> tuple[bytes, ...]:
    kind = wire_kind(type_)
    if kind in ("text", "bytes"):
        return _encode_strings(column)
    if kind == "float":
        return (pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False).tobytes(),)
    if kind == "decimal":
        return (encode_decimals(column, type_).tobytes(),)
    if kind == "json":
        texts = column_values(column, type_)
        return _encode_parts([b"" if v is None else json_binary.encode_text(v) for v in texts])
    if type_.tp == Tp.ENUM:
        return _encode_members(column, type_)
    numbers = wire_numbers(column, type_)
    if kind == "time":
        core = _core_times(numbers.view(_U64), type_)
        return (np.where(_valid(column), core, np.uint64(0)).tobytes(),)
    if type_.tp == Tp.BIT:
        width = -(-_bits(type_) // 8)
        matrix = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]
        return _encode_matrix(matrix, _valid(column))
    return (numbers.tobytes(),)


def _bits(type_: FieldType) -> int:
    return min(type_.flen, 64) if type_.flen > 0 else 1


def _valid(column: Any) -> Bools:
    valid: Bools = column.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _encode_strings(column: Any) -> tuple[bytes, ...]:
    if column.null_count:
        column = pc.fill_null(column, b"" if pa.types.is_binary(column.type) else "")
    if not len(column):
        return (bytes(8),)
    _, offset_buffer, data = column.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32)[column.offset : column.offset + len(column) + 1].astype("<i8")
    first, last = int(offsets[0]), int(offsets[-1])
    body = b"" if data is None else memoryview(data)[first:last].tobytes()
    return (offsets - first).tobytes(), body


def _encode_parts(parts: Sequence[bytes]) -> tuple[bytes, ...]:
    offsets = np.zeros(len(parts) + 1, "<i8")
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
    return offsets.tobytes(), b"".join(parts)


def _encode_matrix(matrix: npt.NDArray[np.uint8], valid: Bools) -> tuple[bytes, ...]:
    """Values of one length, NULLs of none."""
    offsets = np.zeros(len(matrix) + 1, "<i8")
    np.cumsum(valid * matrix.shape[1], out=offsets[1:])
    return offsets.tobytes(), matrix[valid].tobytes()


def _encode_members(column: Any, type_: FieldType) -> tuple[bytes, ...]:
    """ENUM: the number, and the name it stands for. Few are distinct: each is put together once."""
    coded = column.dictionary_encode()
    numbers = member_numbers(coded.dictionary, type_).tolist()
    names = coded.dictionary.to_pylist()
    whole = pa.array([n.to_bytes(8, "little") + name.encode() for n, name in zip(numbers, names, strict=True)],
                     pa.binary())  # fmt: skip
    return _encode_strings(whole.take(coded.indices))


def _core_times(packed: npt.NDArray[np.uint64], type_: FieldType) -> npt.NDArray[np.uint64]:
    """Packed times to TiDB's bit field, which has year and month apart, and the type in its last bits."""
    year, month = np.divmod(packed >> _MONTH_AT, np.uint64(13))
    fsp = max(type_.decimal, 0)
    tag = _DATE_TAG if type_.tp == Tp.DATE else fsp << 1 | (type_.tp == Tp.TIMESTAMP)
    micros = (packed & np.uint64(0xFFFFFF)) << _MICROS_AT
    out: npt.NDArray[np.uint64] = year << _YEAR_AT | month << _MONTH_AT | packed & _CLOCK | micros | np.uint64(tag)
    return out


# Reading


class _Cursor:
    """Reads a chunk from its beginning."""

    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.at = 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise CodecError(f"a chunk of {len(self.data)} bytes ends inside a column at {self.at}")
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece


def decode_chunk(data: bytes, types: Sequence[FieldType], names: Sequence[str]) -> pa.RecordBatch:
    """Decodes a chunk. Raises CodecError where it is none of these types."""
    cursor = _Cursor(data)
    arrays = [_decode_column(cursor, type_) for type_ in types]
    if cursor.at != len(data):
        raise CodecError(f"{len(data) - cursor.at} bytes behind a chunk's last column")
    if len({len(array) for array in arrays}) > 1:
        raise CodecError("a chunk with columns of different lengths")
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(names, types, inside=True))


def _decode_column(cursor: _Cursor, type_: FieldType) -> Any:
    count, nulls = _HEAD.unpack(cursor.take(_HEAD.size))
    if count * VALUE_BYTES_MIN > len(cursor.data):
        raise CodecError(f"a chunk of {len(cursor.data)} bytes cannot hold {count} values")
    valid = np.ones(count, np.bool_)
    if nulls:
        bits = np.frombuffer(cursor.take(-(-count // 8)), np.uint8)
        valid = np.unpackbits(bits, count=count, bitorder="little").astype(np.bool_)
    kind = wire_kind(type_)
    if kind in ("text", "bytes", "json") or type_.tp in (Tp.ENUM, Tp.BIT):
        return _decode_var(cursor, count, valid, type_)
    width = VALUE_BYTES if kind == "decimal" else 4 if type_.tp == Tp.FLOAT else 8
    raw = cursor.take(count * width)
    if kind == "decimal":
        return decode_decimals(np.frombuffer(raw, np.uint8).reshape(-1, width), type_, valid)
    return _fixed(raw, valid, type_, kind)


def _fixed(raw: memoryview, valid: Bools, type_: FieldType, kind: str) -> Any:
    wanted = arrow_type(type_, inside=True)
    if kind == "float":
        return primitive(wanted, np.frombuffer(raw, "<f4" if type_.tp == Tp.FLOAT else "<f8"), valid)
    if kind == "time":
        return _decode_times(np.frombuffer(raw, _U64), valid, type_)
    numbers = np.frombuffer(raw, "<u8" if kind == "uint" else "<i8")
    if kind == "duration":
        return primitive(wanted, numbers // NANOS_PER_MICRO, valid)
    return primitive(wanted, numbers.astype(wanted.to_pandas_dtype()), valid)


def _decode_times(core: npt.NDArray[np.uint64], valid: Bools, type_: FieldType) -> Any:
    months = (core >> _YEAR_AT) * np.uint64(13) + (core >> _MONTH_AT & np.uint64(15))
    packed = months << _MONTH_AT | core & _CLOCK | core >> _MICROS_AT & _MICROS
    if type_.tp == Tp.DATE:
        days = packed_to_days(packed)
        return primitive(pa.date32(), days, valid & (days != -(1 << 31)))
    micros, wrong = packed_to_micros(packed)
    return primitive(pa.timestamp("us"), micros, valid & ~wrong)


def _decode_var(cursor: _Cursor, count: int, valid: Bools, type_: FieldType) -> Any:
    offsets = np.frombuffer(cursor.take((count + 1) * 8), "<i8")
    if int(offsets[0]) != 0 or bool((np.diff(offsets) < 0).any()):
        raise CodecError("a chunk with offsets that do not ascend")
    body = cursor.take(int(offsets[-1]))
    if type_.tp in (Tp.ENUM, Tp.BIT):
        return _decode_numbered(offsets, body, valid, type_)
    if type_.tp != Tp.JSON:
        return _strings(offsets, body, valid, type_)
    known: dict[bytes, Any] = {}
    values = []
    for first, last, there in zip(offsets[:-1].tolist(), offsets[1:].tolist(), valid.tolist(), strict=True):
        piece = bytes(body[first:last])
        if there and piece not in known:
            known[piece] = json_binary.decode_text(piece)
        values.append(known[piece] if there else None)
    return column_array(values, type_, inside=True)


def _decode_numbered(offsets: npt.NDArray[np.int64], body: memoryview, valid: Bools, type_: FieldType) -> Any:
    """ENUM by its number, whatever name follows it, and BIT: a big-endian number of one length."""
    data = np.frombuffer(body, np.uint8)
    starts, lengths = offsets[:-1][valid], np.diff(offsets)[valid]
    if type_.tp == Tp.ENUM:
        if bool((lengths < 8).any()):
            raise CodecError("a chunk with an ENUM value of less than eight bytes")
        numbers = little_u64(data, starts)
        if len(numbers) and int(numbers.max()) > len(type_.elems):
            raise CodecError(f"ENUM value {int(numbers.max())} of {len(type_.elems)} members")
    else:
        width = -(-_bits(type_) // 8)
        if bool((lengths != width).any()):
            raise CodecError(f"a chunk with a BIT value that has not {width} bytes")
        matrix = np.zeros((len(starts), 8), np.uint8)
        matrix[:, 8 - width :] = windows(data, starts, width)
        numbers = matrix.view(">u8").reshape(-1).astype(np.uint64)
    if not len(numbers):
        return pa.nulls(len(valid), arrow_type(type_, inside=True))
    return spread(key_numbers(type_, numbers, None), valid)


def _strings(offsets: npt.NDArray[np.int64], body: memoryview, valid: Bools, type_: FieldType) -> Any:
    large, small = (pa.large_binary(), pa.binary()) if type_.is_binary else (pa.large_string(), pa.string())
    buffers = [validity(valid), pa.py_buffer(offsets.tobytes()), pa.py_buffer(bytes(body))]
    array = pa.Array.from_buffers(large, len(valid), buffers)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise CodecError(f"a chunk with text that is none: {error}") from None
    return array.cast(small)
